import { Exit, Gpr, Msr, Prot, Seg, State, StateOffset, WalkProt } from './constants.ts';
import { NvmmError } from './errors.ts';
import type { VcpuState } from './layout.ts';
import type { AssistCallbacks, IoAccess, Machine, MemAccess, Nvmm, Vcpu } from './nvmm.ts';

/**
 * nvmm_assist_io in TypeScript, over any Nvmm: completes an IO exit through the io callback (libnvmm.3).
 * A guest's own mistake (a segment limit, a page that is not there) is EFAULT, as in the C library.
 */

/** Bytes that one REP string exit moves at most; the guest then executes the instruction again. libnvmm's number. */
const BATCH = 32;
const EFER_LMA = 1 << 10;
const RFLAGS_DF = 1 << 10;
const ATTRIB_P = 1 << 7;
const NEEDED = State.GPRS | State.SEGS | State.CRS | State.MSRS;

/** Scratch of one vCPU thread, so that an access allocates nothing. */
export class Assist {
  private readonly nvmm: Nvmm;
  /** All host addresses: the memory that the backend was opened with. */
  private readonly host: Uint8Array;
  private readonly data = new DataView(new ArrayBuffer(8));
  private readonly batch = new Uint8Array(BATCH);
  private readonly access: IoAccess;
  private readonly chunk: MemAccess;

  constructor(nvmm: Nvmm, host: Uint8Array) {
    this.nvmm = nvmm;
    this.host = host;
    const nobody = { machine: undefined as unknown as Machine, vcpu: undefined as unknown as Vcpu };
    this.access = { ...nobody, port: 0, in: false, size: 1, data: this.data };
    this.chunk = { ...nobody, gpa: 0, write: false, size: 1, data: new DataView(new ArrayBuffer(BATCH)) };
  }

  /** Completes the IO exit that is in `vcpu.exit`. Throws EINVAL for another exit, EFAULT for the guest's fault. */
  io(machine: Machine, vcpu: Vcpu, callbacks: AssistCallbacks): void {
    const { exit, state } = vcpu;
    if (exit.reason !== Exit.IO) {
      throw new NvmmError('nvmm_assist_io', 'EINVAL', `the last exit has reason ${exit.reason}, not IO`);
    }
    this.nvmm.getState(machine, vcpu, NEEDED);
    const size = exit.ioOperandSize;
    this.access.machine = machine;
    this.access.vcpu = vcpu;
    this.access.port = exit.ioPort;
    this.access.in = exit.ioIn;
    this.access.size = size;

    if (exit.ioStr) {
      this.string(machine, vcpu, callbacks);
    } else {
      if (!exit.ioIn) this.data.setUint32(0, state.gprLow(Gpr.RAX), true);
      this.call(callbacks);
      if (exit.ioIn) writeRax(state, size, this.data.getUint32(0, true));
      advance(vcpu);
    }
    this.nvmm.setState(machine, vcpu, State.GPRS);
  }

  private string(machine: Machine, vcpu: Vcpu, callbacks: AssistCallbacks): void {
    const { exit, state } = vcpu;
    const size = exit.ioOperandSize;
    const addressSize = exit.ioAddressSize;
    const count = exit.ioRep ? counter(state, addressSize) : 1;
    if (count === 0) {
      advance(vcpu);
      return;
    }
    const backwards = (state.gprLow(Gpr.RFLAGS) & RFLAGS_DF) !== 0;
    const pointer = exit.ioIn ? Gpr.RDI : Gpr.RSI;
    const { low, high } = this.linear(machine, vcpu, pointer, size);
    // The next page may not be there: then the elements up to it are done, and the fault is that of the next one.
    const here = Math.max(1, Math.floor((4096 - (low % 4096)) / size));
    const most = Math.min(count, Math.floor(BATCH / size), here);
    const elements = exit.ioRep && !backwards ? most : 1;
    const bytes = elements * size;
    if (elements > 1) this.linear(machine, vcpu, pointer, bytes);

    if (!exit.ioIn) this.copyGuest(machine, vcpu, low, high, bytes, false, callbacks);
    for (let at = 0; at < bytes; at += size) {
      if (!exit.ioIn) for (let i = 0; i < size; i++) this.data.setUint8(i, this.batch[at + i]);
      this.call(callbacks);
      if (exit.ioIn) for (let i = 0; i < size; i++) this.batch[at + i] = this.data.getUint8(i);
    }
    if (exit.ioIn) this.copyGuest(machine, vcpu, low, high, bytes, true, callbacks);

    addTo(state, pointer, addressSize, backwards ? -bytes : bytes);
    const left = exit.ioRep ? setCounter(state, addressSize, count - elements) : 0;
    if (left === 0) advance(vcpu);
  }

  private call(callbacks: AssistCallbacks): void {
    if (this.access.in) this.data.setUint32(0, 0xffff_ffff, true);
    callbacks.io?.(this.access);
  }

  /** The linear address of the string operand, with the checks that the mode asks for. */
  private linear(
    machine: Machine,
    vcpu: Vcpu,
    pointer: number,
    bytes: number,
  ): { low: number; high: number } {
    const { exit, state } = vcpu;
    const size = exit.ioAddressSize;
    const low = size === 2 ? state.gprLow(pointer) & 0xffff : state.gprLow(pointer);
    const high = size === 8 ? state.gprHigh(pointer) : 0;
    let seg = exit.ioSeg;
    if (seg < 0) seg = exit.ioIn ? Seg.ES : this.prefixSegment(machine, vcpu);
    if ((state.view.getUint32(StateOffset.MSRS + 8 * Msr.EFER, true) & EFER_LMA) !== 0) {
      return seg === Seg.FS || seg === Seg.GS ? addBase(state, seg, low, high) : { low, high };
    }
    if ((state.attrib(seg) & ATTRIB_P) === 0) {
      throw new NvmmError('nvmm_assist_io', 'EFAULT', `segment ${seg} is not present`);
    }
    if (low + bytes - 1 > state.limit(seg)) {
      throw new NvmmError(
        'nvmm_assist_io',
        'EFAULT',
        `offset 0x${low.toString(16)} is beyond segment ${seg}'s limit`,
      );
    }
    const sum = addBase(state, seg, low, 0);
    return { low: sum.low, high: 0 };
  }

  /** Hardware that does not tell the segment of OUTS: the last override among the first bytes at RIP, else DS. */
  private prefixSegment(machine: Machine, vcpu: Vcpu): number {
    const long = (vcpu.state.view.getUint32(StateOffset.MSRS + 8 * Msr.EFER, true) & EFER_LMA) !== 0;
    const { state } = vcpu;
    const code = long
      ? { low: state.gprLow(Gpr.RIP), high: state.gprHigh(Gpr.RIP) }
      : addBase(state, Seg.CS, state.gprLow(Gpr.RIP), 0);
    this.copyGuest(machine, vcpu, code.low, code.high, 5, false, {});
    let seg: number = Seg.DS;
    for (let i = 0; i < 5; i++) {
      const found = OVERRIDES.get(this.batch[i]);
      if (found !== undefined) seg = found;
      else if (!OTHER_PREFIXES.has(this.batch[i])) break;
    }
    return seg;
  }

  /** Moves `bytes` between the batch buffer and guest-virtual memory, page by page; what is no memory goes to mem. */
  private copyGuest(
    machine: Machine,
    vcpu: Vcpu,
    low: number,
    high: number,
    bytes: number,
    write: boolean,
    callbacks: AssistCallbacks,
  ): void {
    const need = write ? WalkProt.WRITE : WalkProt.READ;
    for (let at = 0; at < bytes;) {
      const atLow = (low + at) % 2 ** 32;
      const atHigh = low + at >= 2 ** 32 ? (high + 1) >>> 0 : high;
      const { gpa, prot } = this.nvmm.gvaToGpa(machine, vcpu, atLow, atHigh);
      if ((prot & need) === 0) {
        throw new NvmmError(
          'nvmm_assist_io',
          'EFAULT',
          `no permission for the page at 0x${atLow.toString(16)}`,
        );
      }
      const length = Math.min(bytes - at, 4096 - (gpa % 4096));
      this.copyPhysical(machine, vcpu, gpa, at, length, write, callbacks);
      at += length;
    }
  }

  private copyPhysical(
    machine: Machine,
    vcpu: Vcpu,
    gpa: number,
    at: number,
    length: number,
    write: boolean,
    callbacks: AssistCallbacks,
  ): void {
    const hva = this.hostAddress(machine, gpa, write ? Prot.WRITE : Prot.READ);
    const part = this.batch.subarray(at, at + length);
    if (hva !== null) {
      if (write) {
        this.host.set(part, hva);
        this.nvmm.hvaWritten(hva, length);
      } else {
        part.set(this.host.subarray(hva, hva + length));
      }
      return;
    }
    this.chunk.machine = machine;
    this.chunk.vcpu = vcpu;
    this.chunk.gpa = gpa;
    this.chunk.write = write;
    this.chunk.size = length;
    for (let i = 0; i < length; i++) this.chunk.data.setUint8(i, write ? part[i] : 0xff);
    callbacks.mem?.(this.chunk);
    if (!write) for (let i = 0; i < length; i++) part[i] = this.chunk.data.getUint8(i);
  }

  /** Null where no memory is mapped; EFAULT where the mapping forbids the access. */
  private hostAddress(machine: Machine, gpa: number, need: number): number | null {
    let found: { hva: number; prot: number };
    try {
      found = this.nvmm.gpaToHva(machine, gpa);
    } catch (error) {
      if (error instanceof NvmmError && error.errno === 'ENOENT') return null;
      throw error;
    }
    if ((found.prot & need) === 0) {
      throw new NvmmError(
        'nvmm_assist_io',
        'EFAULT',
        `the mapping at gpa 0x${gpa.toString(16)} forbids the access`,
      );
    }
    return found.hva;
  }
}

const OVERRIDES = new Map<number, number>([
  [0x26, Seg.ES],
  [0x2e, Seg.CS],
  [0x36, Seg.SS],
  [0x3e, Seg.DS],
  [0x64, Seg.FS],
  [0x65, Seg.GS],
]);
/** Operand size, address size, LOCK, REPNE, REP. */
const OTHER_PREFIXES = new Set([0x66, 0x67, 0xf0, 0xf2, 0xf3]);

/** The low `size` bytes of RAX; a 4-byte result zero-extends to 64 bits, as every 32-bit result does. */
export function writeRax(state: VcpuState, size: number, value: number): void {
  const at = StateOffset.GPRS + 8 * Gpr.RAX;
  if (size === 1) state.view.setUint8(at, value);
  else if (size === 2) state.view.setUint16(at, value, true);
  else state.setGprHalves(Gpr.RAX, value, 0);
}

/** RIP = npc of the exit, without a BigInt. */
export function advance(vcpu: Vcpu): void {
  const at = vcpu.exit.npcOffset();
  if (at === undefined) return;
  const { view } = vcpu.exit;
  vcpu.state.setGprHalves(Gpr.RIP, view.getUint32(at, true), view.getUint32(at + 4, true));
}

function addBase(state: VcpuState, seg: number, low: number, high: number): { low: number; high: number } {
  const at = StateOffset.SEGS + 16 * seg + 8;
  const sum = low + state.view.getUint32(at, true);
  const carry = sum >= 2 ** 32 ? 1 : 0;
  return { low: sum % 2 ** 32, high: (high + state.view.getUint32(at + 4, true) + carry) >>> 0 };
}

/** RCX as far as the address size reaches. A count beyond 2^53 loses low bits, and no guest counts that far. */
function counter(state: VcpuState, addressSize: number): number {
  const low = state.gprLow(Gpr.RCX);
  if (addressSize === 2) return low & 0xffff;
  return addressSize === 4 ? low : low + state.gprHigh(Gpr.RCX) * 2 ** 32;
}

function setCounter(state: VcpuState, addressSize: number, count: number): number {
  const at = StateOffset.GPRS + 8 * Gpr.RCX;
  if (addressSize === 2) state.view.setUint16(at, count, true);
  else if (addressSize === 4) state.setGprHalves(Gpr.RCX, count, 0);
  else state.setGprHalves(Gpr.RCX, count % 2 ** 32, Math.floor(count / 2 ** 32));
  return count;
}

/** Adds a small signed number to a register as far as the address size reaches; what is above 4 bytes is cleared. */
function addTo(state: VcpuState, gpr: number, addressSize: number, delta: number): void {
  const sum = state.gprLow(gpr) + delta;
  if (addressSize === 2) state.view.setUint16(StateOffset.GPRS + 8 * gpr, sum, true);
  else if (addressSize === 4) state.setGprHalves(gpr, sum >>> 0, 0);
  else state.setGprHalves(gpr, sum >>> 0, (state.gprHigh(gpr) + Math.floor(sum / 2 ** 32)) >>> 0);
}
