import { advance, writeRax } from '../../main/nvmm/assist.ts';
import { Exit, ExitOffset, Gpr, State, StateOffset } from '../../main/nvmm/constants.ts';
import { VcpuEvent, VcpuExit, VcpuState } from '../../main/nvmm/layout.ts';
import type { AssistCallbacks, IoAccess, Machine, MemAccess, Vcpu } from '../../main/nvmm/nvmm.ts';
import { Answer, IO, MEM, PAGE, VCPU } from './layouts.ts';
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

/** A vCPU on its thread. What the verbs on its state do depends on whose memory it is in. */
export abstract class LibVcpu implements Vcpu {
  readonly cpuid: number;
  readonly machid: number;
  /** Of struct nvmm_vcpu. */
  readonly address: number;
  abstract readonly state: VcpuState;
  abstract readonly event: VcpuEvent;
  abstract readonly exit: VcpuExit;
  callbacks: AssistCallbacks = {};
  /** What a callback threw; the C library can't pass it on. */
  thrown: { error: unknown } | null = null;
  protected readonly library: Library;
  protected readonly machineAddress: number;

  constructor(library: Library, machineAddress: number, machid: number, cpuid: number, address: number) {
    this.library = library;
    this.machineAddress = machineAddress;
    this.machid = machid;
    this.cpuid = cpuid;
    this.address = address;
  }

  /** The verbs, each with what the library says. */
  abstract setState(flags: number): number;
  abstract getState(flags: number): number;
  abstract inject(): number;
  abstract run(): number;
  /** Asks that a run comes back at this time of the host's monotonic clock, in ns, where that can be asked for. */
  abstract until(ns: number): void;
  /** The library has changed the state: in an assist, or a run, after which there is an exit to see. */
  abstract changed(exit: boolean): void;
  /** Finishes an IO exit without the library, where that is possible. */
  abstract answerIo(machine: Machine): boolean;
  /** Finishes a MEMORY exit without the assist, where that is possible; what the library says to it, or null. */
  abstract answerMem(machine: Machine): number | null;
  /** What the assist's callback was called for, from the structure at this address. */
  abstract takeIo(address: number): IoAccess;
  abstract takeMem(address: number): MemAccess;
  /** Gives back what the callback has read. */
  abstract giveIo(): void;
  abstract giveMem(): void;
}

/** An access before anybody has asked for one. */
function noAccess(vcpu: Vcpu, data: DataView): { io: IoAccess; mem: MemAccess } {
  const nobody = { machine: null as unknown as Machine, vcpu, data };
  return {
    io: { ...nobody, port: 0, in: false, size: 1 },
    mem: { ...nobody, gpa: 0, write: false, size: 1 },
  };
}

/** What a read gives when no device answers. */
function allOnes(data: DataView, bytes: number): void {
  for (let at = 0; at < bytes; at += 4) data.setInt32(at, -1, true);
}

function describeIo(access: IoAccess, io: DataView, at: number): void {
  access.port = io.getUint16(at + IO.PORT, true);
  access.in = io.getUint8(at + IO.IN) !== 0;
  access.size = io.getUint32(at + IO.LENGTH, true);
}

function describeMem(access: MemAccess, mem: DataView, at: number): void {
  access.gpa = mem.getUint32(at + MEM.GPA, true) + mem.getUint32(at + MEM.GPA + 4, true) * 2 ** 32;
  access.write = mem.getUint8(at + MEM.WRITE) !== 0;
  access.size = mem.getUint32(at + MEM.LENGTH, true);
}

/** Of an IO exit's address of the next instruction. */
const NPC = 24;

/** The page of the vCPU that this thread has told the library to run. */
let chosen: Int32Array | null = null;

/**
 * With our own library: state, event and exit are in memory of ours that the library works in, so that most verbs
 * need no call of C, and an exit none but that of the run.
 */
export class LentVcpu extends LibVcpu {
  readonly state: VcpuState;
  readonly event: VcpuEvent;
  readonly exit: VcpuExit;
  readonly pageAddress: number;
  /** The whole page. The upper halves of CACHED and COMMIT are zero. */
  private readonly words: Int32Array;
  private readonly view: DataView;
  private readonly lent: NonNullable<Library['call']['lent']>;
  private readonly access: { io: IoAccess; mem: MemAccess };

  constructor(library: Library, machineAddress: number, machid: number, cpuid: number, address: number) {
    super(library, machineAddress, machid, cpuid, address);
    this.lent = library.call.lent!;
    // Shared memory is never moved nor taken away while an object here refers to it.
    const memory = new SharedArrayBuffer(PAGE.SIZE + PAGE.ALIGNMENT);
    const start = library.addressOf(new Uint8Array(memory));
    const offset = -start & (PAGE.ALIGNMENT - 1);
    this.pageAddress = start + offset;
    this.words = new Int32Array(memory, offset, PAGE.SIZE / 4);
    this.view = new DataView(memory, offset, PAGE.SIZE);
    this.state = new VcpuState(new Uint8Array(memory, offset + PAGE.STATE, StateOffset.SIZE));
    this.event = new VcpuEvent(new Uint8Array(memory, offset + PAGE.EVENT, EVENT_SIZE));
    this.exit = new VcpuExit(new Uint8Array(memory, offset + PAGE.EXIT, ExitOffset.SIZE));
    this.access = noAccess(this, new DataView(memory, offset + PAGE.DATA, PAGE.DATA_SIZE));
  }

  setState(flags: number): number {
    this.words[PAGE.CACHED / 4] |= flags;
    this.words[PAGE.COMMIT / 4] |= flags;
    return 0;
  }

  getState(flags: number): number {
    if ((flags & ~this.words[PAGE.CACHED / 4]) === 0) return 0;
    return this.library.call.getState(this.machineAddress, this.address, flags);
  }

  inject(): number {
    this.words[PAGE.INJECT / 4] = 1;
    return 0;
  }

  run(): number {
    return this.callChosen(this.lent.run);
  }

  private callChosen(call: () => void): number {
    const { words } = this;
    if (chosen !== words) {
      this.lent.choose(this.machineAddress, this.address);
      chosen = words;
    }
    words[PAGE.RESULT / 4] = -1;
    call();
    return words[PAGE.RESULT / 4];
  }

  until(ns: number): void {
    this.view.setFloat64(PAGE.DEADLINE, ns, true);
  }

  changed(): void {}

  /** IN and OUT, where the library has found the next instruction; the string forms have memory to go through. */
  answerIo(machine: Machine): boolean {
    const { exit, state } = this;
    if (exit.reason !== Exit.IO || exit.ioStr || (this.words[PAGE.CACHED / 4] & State.GPRS) === 0) {
      return false;
    }
    // The next instruction is another one, and far jumps are none of these: the low half tells.
    if (exit.view.getUint32(NPC, true) === state.gprLow(Gpr.RIP)) return false;
    const { io } = this.access;
    const { data } = io;
    const size = exit.ioOperandSize;
    io.machine = machine;
    io.port = exit.ioPort;
    io.in = exit.ioIn;
    io.size = size;
    if (io.in) allOnes(data, 8);
    else {
      data.setUint32(0, state.gprLow(Gpr.RAX), true);
      data.setUint32(4, 0, true);
    }
    this.callbacks.io?.(io);
    if (exit.ioIn) writeRax(state, size, data.getUint32(0, true));
    advance(this);
    this.setState(State.GPRS);
    return true;
  }

  answerMem(machine: Machine): number | null {
    const { words } = this;
    let offer = words[PAGE.ANSWER / 4];
    while (offer === Answer.PART) {
      this.callMem(machine);
      words[PAGE.ANSWER / 4] = Answer.GIVEN;
      if (this.callChosen(this.lent.goOn) !== 0) return -1;
      offer = words[PAGE.ANSWER / 4];
      if (offer === 0) return 0;
    }
    if (offer !== Answer.OFFERED) return null;
    this.callMem(machine);
    // What the callback has set, it keeps; the rest is as the instruction leaves it.
    words[PAGE.CACHED / 4] &= words[PAGE.COMMIT / 4];
    words[PAGE.ANSWER / 4] = Answer.GIVEN;
    return 0;
  }

  private callMem(machine: Machine): void {
    const access = this.takeMem();
    access.machine = machine;
    this.callbacks.mem?.(access);
  }

  takeIo(): IoAccess {
    const { io } = this.access;
    describeIo(io, this.view, PAGE.ACCESS);
    if (io.in) allOnes(io.data, 8);
    return io;
  }

  takeMem(): MemAccess {
    const { mem } = this.access;
    describeMem(mem, this.view, PAGE.ACCESS);
    if (!mem.write) allOnes(mem.data, PAGE.DATA_SIZE);
    return mem;
  }

  giveIo(): void {}
  giveMem(): void {}
}

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

/** The most that a callback is called for at once. */
const MOST_DATA = 64;

/** With a system's library: copies of what it has, brought into line by as few copies as the flags need. */
export class CopiedVcpu extends LibVcpu {
  readonly state = new VcpuState(new Uint8Array(StateOffset.SIZE));
  readonly event = new VcpuEvent(new Uint8Array(EVENT_SIZE));
  readonly exit = new VcpuExit(new Uint8Array(ExitOffset.SIZE));
  /** Parts of `state` that are what the library has. */
  private fresh = 0;
  private readonly stateAddress: number;
  private readonly eventAddress: number;
  private readonly exitAddress: number;
  private readonly parts: readonly { flag: number; bytes: Uint8Array; address: number }[];
  private readonly struct = new DataView(new ArrayBuffer(MEM.SIZE));
  private readonly structBytes = new Uint8Array(this.struct.buffer);
  private readonly data = new Uint8Array(MOST_DATA);
  private readonly access = noAccess(this, new DataView(this.data.buffer));
  /** Where the library has the data of the access. */
  private dataAddress = 0;

  constructor(library: Library, machineAddress: number, machid: number, cpuid: number, address: number) {
    super(library, machineAddress, machid, cpuid, address);
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

  setState(flags: number): number {
    const { library } = this;
    if ((flags & State.ALL) === State.ALL) {
      library.write(this.stateAddress, this.state.bytes, StateOffset.SIZE);
    } else {
      for (const { flag, bytes, address } of this.parts) {
        if ((flags & flag) !== 0) library.write(address, bytes, bytes.length);
      }
    }
    this.fresh |= flags;
    return library.call.setState(this.machineAddress, this.address, flags);
  }

  getState(flags: number): number {
    const { library } = this;
    const missing = flags & ~this.fresh;
    if (missing === 0) return 0;
    const result = library.call.getState(this.machineAddress, this.address, missing);
    if (result !== 0) return result;
    if (missing === State.ALL) library.read(this.state.bytes, this.stateAddress, StateOffset.SIZE);
    else {
      for (const { flag, bytes, address } of this.parts) {
        if ((missing & flag) !== 0) library.read(bytes, address, bytes.length);
      }
    }
    this.fresh |= missing;
    return 0;
  }

  inject(): number {
    this.library.write(this.eventAddress, this.event.bytes, EVENT_SIZE);
    return this.library.call.inject(this.machineAddress, this.address);
  }

  run(): number {
    return this.library.call.run(this.machineAddress, this.address);
  }

  /** Time slices are the system's. */
  until(): void {}

  answerIo(): boolean {
    return false;
  }

  answerMem(): null {
    return null;
  }

  changed(exit: boolean): void {
    this.fresh = 0;
    if (exit) this.library.read(this.exit.bytes, this.exitAddress, ExitOffset.SIZE);
  }

  takeIo(address: number): IoAccess {
    const { io } = this.access;
    this.library.read(this.structBytes, address, IO.SIZE);
    describeIo(io, this.struct, 0);
    this.takeData(IO.DATA, io.in, io.size);
    return io;
  }

  takeMem(address: number): MemAccess {
    const { mem } = this.access;
    this.library.read(this.structBytes, address, MEM.SIZE);
    describeMem(mem, this.struct, 0);
    this.takeData(MEM.DATA, !mem.write, mem.size);
    return mem;
  }

  private takeData(pointer: number, read: boolean, size: number): void {
    this.dataAddress = Number(this.struct.getBigUint64(pointer, true));
    if (read) this.data.fill(0xff, 0, 16);
    else this.library.read(this.data, this.dataAddress, size);
  }

  giveIo(): void {
    const { io } = this.access;
    if (io.in) this.library.write(this.dataAddress, this.data, io.size);
  }

  giveMem(): void {
    const { mem } = this.access;
    if (!mem.write) this.library.write(this.dataAddress, this.data, mem.size);
  }
}
