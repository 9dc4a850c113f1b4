import { Exit, State, VcpuConf } from '../nvmm/constants.ts';
import { VcpuExit } from '../nvmm/layout.ts';
import type { Backend, CpuidConf, InstructionTime, Machine, Nvmm, TprConf, Vcpu } from '../nvmm/nvmm.ts';
import { exitName } from '../machine/exit-names.ts';
import { backendMemory, createMemory, GuestRam } from '../machine/memory.ts';
import type { Access, Entry } from './lockstep-journal.ts';
import { generalRegisters, isSignificant } from './lockstep-journal.ts';

/** The two did different things: at an exit, or in what an instruction gave to a device. */
export class Departure extends Error {
  readonly at: number;

  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

/** A run that comes back so often without getting anywhere never will. */
const FRUITLESS_RUNS = 10_000;

/** A vCPU with memory on some backend, and nothing else: all that comes to it comes out of a journal. */
export class Follower {
  readonly nvmm: Nvmm;
  readonly machine: Machine;
  readonly vcpu: Vcpu;
  readonly ram: GuestRam;
  /** Null: it is stepped. */
  readonly time: InstructionTime | null;
  /** It is the one that entries marked as joined are about. */
  joins = false;
  /** Words of randomness that were given to the leader, and how many of them this one has taken. */
  words: number[] = [];
  wordsTaken = 0;
  /** The exit that runTo came to at its very end, for the entry that is about it. */
  private pending = false;
  private expected: Access[] = [];
  private readonly start: number;
  private readonly leaderStart: number;

  constructor(
    backend: Backend,
    wrap: (nvmm: Nvmm) => Nvmm,
    options: { memory: number; leaderStart: number; counts: boolean; configured: readonly Configured[] },
  ) {
    const memory = createMemory(options.memory, backend.privateSize(1, options.memory));
    this.nvmm = wrap(backend.open(backendMemory(memory)));
    const { nvmm } = this;
    this.machine = nvmm.machineCreate();
    this.ram = new GuestRam(memory);
    this.ram.map(nvmm, this.machine);
    this.ram.attach(nvmm);
    this.start = memory.privateSize;
    this.leaderStart = options.leaderStart;
    this.vcpu = nvmm.vcpuCreate(this.machine, 0);
    this.time = options.counts
      ? nvmm.countInstructions!(this.machine, this.vcpu, () => this.words[this.wordsTaken++] ?? 0)
      : null;
    nvmm.vcpuConfigure(this.machine, this.vcpu, VcpuConf.CALLBACKS, {
      io: ({ port, in: input, size, data }) => this.answer(port, 0, !input, size, data),
      mem: ({ gpa, write, size, data }) => this.answer(gpa, 1, write, size, data),
    });
    for (const { op, conf } of options.configured) nvmm.vcpuConfigure(this.machine, this.vcpu, op, conf);
    if (!options.counts) {
      const conf = { step: true, breakpoints: [], watchpoints: [], exceptions: 0 };
      nvmm.vcpuConfigure(this.machine, this.vcpu, VcpuConf.DEBUG, conf);
    }
  }

  /** The whole state, as it is now. */
  state(): Uint8Array {
    this.nvmm.getState(this.machine, this.vcpu, State.ALL);
    return this.vcpu.state.bytes;
  }

  /** Begins anew, from a state, memory and time. */
  restart(
    state: Uint8Array,
    ram: Uint8Array,
    time: { count: number; skipped: number; offset: number },
  ): void {
    this.ram.bytes.set(ram);
    this.ram.rewritten();
    this.put(State.ALL, state);
    this.pending = false;
    this.wordsTaken = 0;
    this.time?.restore(time.count, time.skipped, time.offset);
  }

  /** Takes over parts of a state. */
  put(flags: number, state: Uint8Array): void {
    this.vcpu.state.bytes.set(state);
    this.nvmm.setState(this.machine, this.vcpu, flags);
  }

  /** Does what the journal says. Throws Departure where it comes out otherwise. */
  apply(entry: Entry): void {
    if (entry.joined === (this.joins ? 'done' : 'extra')) return;
    this.act(entry);
    const { registers, at } = entry;
    if (registers === undefined) return;
    this.nvmm.getState(this.machine, this.vcpu, State.GPRS);
    if (Buffer.compare(registers, generalRegisters(this.vcpu.state.bytes)) === 0) return;
    // RFLAGS.RF and what a processor leaves undefined are looked at after the instruction.
    if (this.time === null) return;
    const where = entry.kind === 'run' ? 'at the exit' : 'after the exit was answered';
    throw new Departure(at, `has other registers ${where}`);
  }

  private act(entry: Entry): void {
    this.runTo(entry.at);
    if (this.time !== null) this.time.skipped = entry.skipped;
    const { nvmm, machine, vcpu } = this;
    switch (entry.kind) {
      case 'run':
        return this.runToExit(entry.at, new VcpuExit(entry.exit));
      case 'set':
        return this.put(entry.flags, entry.state);
      case 'inject':
        vcpu.event.bytes.set(entry.event);
        return nvmm.inject(machine, vcpu);
      case 'memory': {
        const hva = entry.hva - this.leaderStart + this.start;
        this.ram.host.set(entry.bytes, hva);
        return nvmm.hvaWritten(hva, entry.bytes.length);
      }
      case 'assist':
        this.expected = entry.accesses.flatMap((access) => bytewise(access, entry.what === 'io'));
        if (entry.what === 'io') nvmm.assistIo(machine, vcpu);
        else nvmm.assistMem(machine, vcpu);
        if (this.expected.length > 0) {
          const [{ write, address }] = this.expected;
          throw new Departure(entry.at, `did not ${verb(write)} 0x${address.toString(16)}, as the other did`);
        }
    }
  }

  /** Runs up to this count of instructions; nothing to do where every step is in the journal. */
  runTo(at: number): void {
    const { time } = this;
    if (time === null) return;
    for (let runs = 0; time.count < at; runs++) {
      time.limit = at;
      this.nvmm.run(this.machine, this.vcpu);
      const { reason } = this.vcpu.exit;
      if (isSignificant(reason, false)) {
        if (time.count < at) throw this.unexpected(time.count, 'ran on');
        this.pending = true;
        return;
      }
      if (runs === FRUITLESS_RUNS) throw new Departure(time.count, 'does not get on');
    }
  }

  private runToExit(at: number, wanted: VcpuExit): void {
    const { time, vcpu } = this;
    for (let runs = 0; !this.pending; runs++) {
      if (time !== null) time.limit = at + 1;
      this.nvmm.run(this.machine, vcpu);
      if (isSignificant(vcpu.exit.reason, time === null)) break;
      if (time !== null && time.count > at) {
        throw new Departure(at, `ran on, where the other had an exit: ${describeExit(wanted)}`);
      }
      if (runs === FRUITLESS_RUNS) throw new Departure(at, 'does not get on');
    }
    this.pending = false;
    if (time !== null && time.count !== at) throw this.unexpected(time.count, describeExit(wanted));
    if (describeExit(vcpu.exit) !== describeExit(wanted)) throw this.unexpected(at, describeExit(wanted));
  }

  private unexpected(at: number, other: string): Departure {
    return new Departure(at, `has the exit ${describeExit(this.vcpu.exit)}; the other: ${other}`);
  }

  /** An access of an assist: what the leader's devices answered, byte by byte; sizes are the backend's own. */
  private answer(address: number, stride: 0 | 1, write: boolean, size: number, data: DataView): void {
    for (let i = 0; i < size; i++) {
      const next = this.expected.shift();
      const at = address + stride * i;
      const where = `0x${at.toString(16)}`;
      if (next === undefined || next.write !== write || next.address !== at) {
        const other =
          next === undefined ? 'did no more' : `did ${verb(next.write)} 0x${next.address.toString(16)}`;
        throw new Departure(this.time?.count ?? -1, `did ${verb(write)} ${where}; the other ${other}`);
      }
      if (!write) data.setUint8(i, next.bytes[0]);
      else if (data.getUint8(i) !== next.bytes[0]) {
        const mine = data.getUint8(i).toString(16);
        const theirs = next.bytes[0].toString(16);
        throw new Departure(this.time?.count ?? -1, `wrote 0x${mine} to ${where}; the other 0x${theirs}`);
      }
    }
  }

  close(): void {
    this.nvmm.close();
  }
}

export interface Configured {
  op: number;
  conf: CpuidConf | TprConf;
}

const verb = (write: boolean): string => (write ? 'write' : 'read');

/** Accesses to memory are told apart by byte; those of a port all have its number. */
function bytewise({ address, write, bytes }: Access, isPort: boolean): Access[] {
  return Array.from(bytes, (byte, i) => ({
    address: isPort ? address : address + i,
    write,
    bytes: Uint8Array.of(byte),
  }));
}

/** What an exit is about, in words that are the same for exits that mean the same. */
export function describeExit(exit: VcpuExit): string {
  const name = exitName(exit.reason);
  switch (exit.reason) {
    case Exit.IO: {
      const direction = exit.ioIn ? 'in from' : 'out to';
      const kind = exit.ioStr ? (exit.ioRep ? ', repeated string' : ', string') : '';
      return `IO ${direction} port 0x${exit.ioPort.toString(16)}, ${exit.ioOperandSize} bytes${kind}`;
    }
    case Exit.MEMORY: {
      const access = exit.memProt === 2 ? 'write to' : exit.memProt === 4 ? 'fetch from' : 'read from';
      return `MEMORY ${access} 0x${exit.memGpa.toString(16)}`;
    }
    case Exit.WRMSR:
      return `WRMSR 0x${exit.msr.toString(16)} = 0x${exit.msrValue.toString(16)}`;
    case Exit.RDMSR:
      return `RDMSR 0x${exit.msr.toString(16)}`;
    default:
      return name;
  }
}
