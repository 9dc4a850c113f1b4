import { ExitOffset, State, StateOffset } from '../../main/nvmm/constants.ts';
import { VcpuEvent, VcpuExit, VcpuState } from '../../main/nvmm/layout.ts';
import type { AssistCallbacks, IoAccess, Machine, MemAccess, Vcpu } from '../../main/nvmm/nvmm.ts';
import { IO, MEM, VCPU } from './layouts.ts';
import type { Library } from './library.ts';

export class LibMachine implements Machine {
  readonly machid: number;
  /** Of struct nvmm_machine, which all threads share. */
  readonly address: number;

  constructor(machid: number, address: number) {
    this.machid = machid;
    this.address = address;
  }
}

const EVENT_SIZE = 16;

/** Which bytes of the state each part takes: flag, offset, length. */
const PARTS: readonly (readonly [number, number, number])[] = [
  [State.SEGS, StateOffset.SEGS, StateOffset.GPRS - StateOffset.SEGS],
  [State.GPRS, StateOffset.GPRS, StateOffset.CRS - StateOffset.GPRS],
  [State.CRS, StateOffset.CRS, StateOffset.DRS - StateOffset.CRS],
  [State.DRS, StateOffset.DRS, StateOffset.MSRS - StateOffset.DRS],
  [State.MSRS, StateOffset.MSRS, StateOffset.INTR - StateOffset.MSRS],
  [State.INTR, StateOffset.INTR, StateOffset.FPU - StateOffset.INTR],
  [State.FPU, StateOffset.FPU, StateOffset.SIZE - StateOffset.FPU],
];

/**
 * A vCPU on its thread: our copies of its state, event and exit, which are brought into line with the library's by
 * as few copies as the flags need.
 */
export class LibVcpu implements Vcpu {
  readonly cpuid: number;
  readonly machid: number;
  /** Of struct nvmm_vcpu. */
  readonly address: number;
  readonly state: VcpuState;
  readonly event: VcpuEvent;
  readonly exit: VcpuExit;
  callbacks: AssistCallbacks = {};
  /** What a callback threw; the C library can't pass it on. */
  thrown: { error: unknown } | null = null;
  /** Parts of `state` that are what the library has. */
  private fresh = 0;
  private readonly library: Library;
  private readonly stateAddress: number;
  private readonly eventAddress: number;
  private readonly exitAddress: number;
  private readonly parts: readonly { flag: number; bytes: Uint8Array; address: number }[];

  constructor(library: Library, machid: number, cpuid: number, address: number) {
    this.library = library;
    this.machid = machid;
    this.cpuid = cpuid;
    this.address = address;
    this.state = new VcpuState(new Uint8Array(StateOffset.SIZE));
    this.event = new VcpuEvent(new Uint8Array(EVENT_SIZE));
    this.exit = new VcpuExit(new Uint8Array(ExitOffset.SIZE));
    const struct = new Uint8Array(VCPU.SIZE);
    library.read(struct, address, library.layout.stop ? VCPU.SIZE : VCPU.SIZE - 8);
    const view = new DataView(struct.buffer);
    const pointer = (at: number): number => Number(view.getBigUint64(at, true));
    this.stateAddress = pointer(VCPU.STATE);
    this.eventAddress = pointer(VCPU.EVENT);
    this.exitAddress = pointer(VCPU.EXIT);
    this.parts = PARTS.map(([flag, offset, length]) => ({
      flag,
      bytes: this.state.bytes.subarray(offset, offset + length),
      address: this.stateAddress + offset,
    }));
  }

  missing(flags: number): number {
    return flags & ~this.fresh;
  }

  /** Copies parts from the library. */
  take(flags: number): void {
    if (flags === State.ALL) this.library.read(this.state.bytes, this.stateAddress, StateOffset.SIZE);
    else {
      for (const { flag, bytes, address } of this.parts) {
        if ((flags & flag) !== 0) this.library.read(bytes, address, bytes.length);
      }
    }
    this.fresh |= flags;
  }

  /** Copies parts to the library. */
  give(flags: number): void {
    if ((flags & State.ALL) === State.ALL) {
      this.library.write(this.stateAddress, this.state.bytes, StateOffset.SIZE);
    } else {
      for (const { flag, bytes, address } of this.parts) {
        if ((flags & flag) !== 0) this.library.write(address, bytes, bytes.length);
      }
    }
    this.fresh |= flags;
  }

  giveEvent(): void {
    this.library.write(this.eventAddress, this.event.bytes, EVENT_SIZE);
  }

  takeExit(): void {
    this.library.read(this.exit.bytes, this.exitAddress, ExitOffset.SIZE);
    this.fresh = 0;
  }

  /** The library has changed the state: a run, or an assist. */
  stale(): void {
    this.fresh = 0;
  }
}

/** Turns the C structures that the assists' callbacks get into accesses. One for each thread. */
export class CallbackBridge {
  private readonly library: Library;
  private readonly io = new DataView(new ArrayBuffer(IO.SIZE));
  private readonly mem = new DataView(new ArrayBuffer(MEM.SIZE));
  private readonly ioBytes = new Uint8Array(this.io.buffer);
  private readonly memBytes = new Uint8Array(this.mem.buffer);
  private readonly data = new Uint8Array(64);
  private readonly ioAccess: IoAccess;
  private readonly memAccess: MemAccess;
  /** Function pointers for struct nvmm_assist_callbacks. */
  readonly ioAddress: number;
  readonly memAddress: number;
  private machine: Machine | null = null;
  private vcpu: LibVcpu | null = null;

  constructor(library: Library) {
    this.library = library;
    const nobody = { machine: null as unknown as Machine, vcpu: null as unknown as Vcpu };
    const data = new DataView(this.data.buffer);
    this.ioAccess = { ...nobody, port: 0, in: false, size: 1, data };
    this.memAccess = { ...nobody, gpa: 0, write: false, size: 1, data };
    this.ioAddress = library.callback((address) => this.guard(() => this.onIo(address)));
    this.memAddress = library.callback((address) => this.guard(() => this.onMem(address)));
  }

  /** Runs an assist of this vCPU; what a callback throws comes out here. */
  during(machine: Machine, vcpu: LibVcpu, assist: () => number): number {
    const outer = { machine: this.machine, vcpu: this.vcpu };
    this.machine = machine;
    this.vcpu = vcpu;
    vcpu.thrown = null;
    vcpu.stale();
    const result = assist();
    vcpu.stale();
    this.machine = outer.machine;
    this.vcpu = outer.vcpu;
    const { thrown } = vcpu as { thrown: { error: unknown } | null };
    if (thrown !== null) throw thrown.error;
    return result;
  }

  private guard(work: () => void): void {
    // After the first throw the rest of the instruction gets zeroes.
    if (this.vcpu === null || this.vcpu.thrown !== null) return;
    try {
      work();
    } catch (error) {
      this.vcpu.thrown = { error };
    }
  }

  private onIo(address: number): void {
    const { io, ioAccess: access, library } = this;
    library.read(this.ioBytes, address, IO.SIZE);
    access.machine = this.machine!;
    access.vcpu = this.vcpu!;
    access.port = io.getUint16(IO.PORT, true);
    access.in = io.getUint8(IO.IN) !== 0;
    access.size = io.getUint32(IO.LENGTH, true);
    const data = Number(io.getBigUint64(IO.DATA, true));
    if (access.in) this.data.fill(0xff, 0, 8);
    else library.read(this.data, data, access.size);
    this.vcpu!.callbacks.io?.(access);
    if (access.in) library.write(data, this.data, access.size);
  }

  private onMem(address: number): void {
    const { mem, memAccess: access, library } = this;
    library.read(this.memBytes, address, MEM.SIZE);
    access.machine = this.machine!;
    access.vcpu = this.vcpu!;
    access.gpa = mem.getUint32(MEM.GPA, true) + mem.getUint32(MEM.GPA + 4, true) * 2 ** 32;
    access.write = mem.getUint8(MEM.WRITE) !== 0;
    access.size = mem.getUint32(MEM.LENGTH, true);
    const data = Number(mem.getBigUint64(MEM.DATA, true));
    if (access.write) library.read(this.data, data, access.size);
    else this.data.fill(0xff, 0, 16);
    this.vcpu!.callbacks.mem?.(access);
    if (!access.write) library.write(data, this.data, access.size);
  }
}
