import type { VcpuState } from '../../nvmm/layout.ts';
import { Cr, Gpr, Limit, Msr, State } from '../../nvmm/constants.ts';
import type { MachineProcess } from '../../machine/machine-process.ts';
import type { Breakpoint, Stop } from '../../machine/debug.ts';
import { Errno, RemoteError } from './errors.ts';
import type { Architecture, Register } from './registers.ts';
import { architectureOf, linearPc, modeOf, readRegister, registersOf, valueOf } from './registers.ts';
import { hex, hexByte } from './packet.ts';
import type { DebugTarget } from '../target.ts';
import { pageWalk, type PageWalk } from '../page-walk.ts';
import { LinearMemory } from './memory.ts';

/** A VM's process as gdb needs it, beside its target: its state, and verbs that `monitor` and `kill` have. */
export type GdbMachine = Pick<MachineProcess, 'ask' | 'status' | 'onStatus' | 'powerButton' | 'powerOff'>;

/** Where going back has led; `begin`: nothing earlier is known. */
export interface Reversed {
  stop: Stop;
  begin?: true;
}

/** A machine that can go back: to the instruction before, and to the last breakpoint or watchpoint that was met. */
export interface Reverse {
  step(vcpu: number): Promise<Reversed>;
  goOn(): Promise<Reversed>;
}

/** The part of a DebugTarget that is used here. */
export type GdbTarget = Pick<
  DebugTarget,
  | 'vcpus'
  | 'readState'
  | 'writeState'
  | 'readPhysical'
  | 'writePhysical'
  | 'step'
  | 'pause'
  | 'resume'
  | 'add'
  | 'remove'
  | 'list'
> & { readonly reverse?: Reverse | undefined };

export interface StubOptions {
  /** Bytes of RAM. */
  memory: number;
  /** What gdb is told that the machine is; null: what the vCPU is when gdb asks. */
  architecture: Architecture | null;
  /** The guest's image is a 64-bit one: so is the debugger's, also before the guest has entered long mode. */
  guestIs64: boolean;
}

/** How a wait for the guest ended: it stopped, or there is no machine any more. */
export type Ended = { stop: Stop; begin?: true } | { state: 'off' | 'failed' };

/** gdb's signal numbers. */
export const Signal = { NONE: 0, INT: 2, TRAP: 5, SEGV: 11 } as const;

const EFER_LMA = 1n << 10n;
const CR0_PG = 1n << 31n;

/** One gdb's view of one machine: what it selected, inserted and was told. Knows nothing of packets' syntax. */
export class Stub {
  readonly target: GdbTarget;
  readonly machine: GdbMachine;
  readonly options: StubOptions;
  /** Sends text to gdb's console. gdb takes it while the guest runs, and in a monitor command. */
  readonly print: (text: string) => void;
  readonly vcpus: number;
  /** The vCPU of g, p, m and their like. */
  selected = 0;
  /** The vCPU of s and c; null is all. */
  resumed: number | null = null;
  /** Memory is addressed physically: QEMU's PhyMemMode. */
  physical = false;
  /** What gdb understands: from its qSupported. */
  readonly accepts = new Set<string>();
  /** What `monitor arch` asked for, or the command line. */
  forced: Architecture | null;
  /** What failed last, in words: older versions of gdb show a number alone. */
  lastError = '';
  /** What `monitor stop` made: the machine's numbers by ours. It goes with gdb. */
  readonly own = new Map<number, number>();
  /** Stops of `monitor stop` so far: numbers are not given again. */
  stops = 0;
  /** Documents that gdb reads piece by piece, as they were when it began. */
  readonly documents = { features: '', threads: '' };
  running = false;
  private described: Architecture | null = null;
  /** The mode of each vCPU that gdb was told about last, so that it is told once. */
  private readonly toldModes = new Map<number, string>();
  private lastStop: Stop | null = null;
  /** Breakpoints by gdb's name for them: `type,address,kind`. */
  private readonly inserted = new Map<string, { id: number; breakpoint: Breakpoint }>();
  private readonly states = new Map<number, VcpuState>();
  private readonly linear: LinearMemory;
  private interrupted = false;
  private closed = false;
  private readonly stopListening: () => void;
  private stopWaiting: () => void = () => undefined;

  constructor(target: GdbTarget, machine: GdbMachine, options: StubOptions, print: (text: string) => void) {
    this.target = target;
    this.machine = machine;
    this.options = options;
    this.forced = options.architecture;
    this.vcpus = target.vcpus;
    this.linear = new LinearMemory(target);
    this.print = print;
    // Whoever changed the machine's state, what was read of it is old.
    this.stopListening = machine.onStatus(({ state }) => {
      this.forget();
      if (state === 'running') this.lastStop = null;
    });
  }

  /** Stops the machine if it runs, as gdb expects of what it connects to. Null: there is no machine to stop. */
  async halt(): Promise<Stop | null> {
    const state = await this.started();
    if (state === 'running') this.lastStop = await this.target.pause();
    else if (state !== 'paused' && state !== 'crashed') return null;
    this.lastStop ??= this.machine.status.stop ?? (await this.standing());
    // Who paused it is no news to a gdb that has just come.
    if (this.lastStop.reason === 'pause') this.lastStop = { ...this.lastStop, reason: 'step' };
    return this.lastStop;
  }

  /** The machine's state, once it is known whether it starts. */
  private async started(): Promise<string> {
    while (this.machine.status.state === 'starting') {
      await new Promise<void>((resolve) => {
        this.stopWaiting = this.machine.onStatus(() => {
          this.stopWaiting();
          resolve();
        });
      });
    }
    return this.machine.status.state;
  }

  /** A stop for a machine that stood already when nobody had said why. */
  private async standing(): Promise<Stop> {
    const reason = this.machine.status.state === 'crashed' ? 'triple-fault' : 'step';
    const { rip } = await this.state(0);
    return { vcpu: 0, reason, rip, message: this.machine.status.message ?? '' };
  }

  async state(vcpu = this.selected): Promise<VcpuState> {
    const known = this.states.get(vcpu);
    if (known !== undefined) return known;
    const state = await this.target.readState(vcpu);
    // A stop may have been followed by a resume while the answer was on its way.
    if (this.machine.status.state !== 'running') this.states.set(vcpu, state);
    return state;
  }

  /** What was read of a machine that has changed since. */
  private forget(): void {
    this.states.clear();
    this.linear.forget();
  }

  private async write(vcpu: number, area: number, state: VcpuState): Promise<void> {
    this.states.delete(vcpu);
    await this.target.writeState(vcpu, area, state);
  }

  /** The registers as gdb was told of them. Decides it for a gdb that didn't ask. */
  async registers(): Promise<readonly Register[]> {
    this.described ??= await this.decide();
    return registersOf(this.described);
  }

  /** What the target description is to say now. */
  async describe(): Promise<Architecture> {
    this.described = await this.decide();
    this.toldModes.set(this.selected, modeOf(await this.state()));
    return this.described;
  }

  private async decide(): Promise<Architecture> {
    if (this.forced !== null) return this.forced;
    const state = await this.state();
    // A kernel in long mode stays a 64-bit one while it runs a 32-bit program.
    const long = (state.msr(Msr.EFER) & EFER_LMA) !== 0n;
    return long || this.options.guestIs64 ? 'i386:x86-64' : architectureOf(state);
  }

  async readAll(): Promise<string> {
    const state = await this.state();
    return (await this.registers()).map((register) => hex(readRegister(register, state))).join('');
  }

  async readOne(number: number): Promise<string> {
    return hex(readRegister(await this.register(number), await this.state()));
  }

  private async register(number: number): Promise<Register> {
    const registers = await this.registers();
    const register = registers[number];
    if (register !== undefined) return register;
    throw new RemoteError(
      Errno.NOENT,
      `There is no register ${number}: the target description has ${registers.length}.`,
    );
  }

  async writeOne(number: number, bytes: Uint8Array): Promise<void> {
    const register = await this.register(number);
    if (bytes.length !== register.bits / 8) {
      const wanted = `${register.name} has ${register.bits / 8} bytes`;
      throw new RemoteError(Errno.INVAL, `${wanted}, and ${bytes.length} were given.`);
    }
    await this.writeRegisters([[register, bytes]]);
  }

  /** Writes all registers; those that are to stay as they are are not touched. */
  async writeAll(bytes: Uint8Array): Promise<void> {
    const registers = await this.registers();
    const size = registers.reduce((sum, { bits }) => sum + bits / 8, 0);
    if (bytes.length !== size) {
      throw new RemoteError(Errno.INVAL, `All registers have ${size} bytes, and ${bytes.length} were given.`);
    }
    let at = 0;
    await this.writeRegisters(
      registers.map((register) => [register, bytes.subarray(at, (at += register.bits / 8))]),
    );
  }

  private async writeRegisters(values: readonly (readonly [Register, Uint8Array])[]): Promise<void> {
    const state = await this.state();
    let areas = 0;
    for (const [register, bytes] of values) {
      const value = valueOf(bytes);
      if (value === register.read(state)) continue;
      const wrong = register.write(state, value);
      if (wrong !== undefined) {
        this.states.delete(this.selected);
        throw new RemoteError(Errno.INVAL, `${register.name} = 0x${value.toString(16)}: ${wrong}.`);
      }
      areas |= register.area;
    }
    if (areas !== 0) await this.write(this.selected, areas, state);
  }

  async setPc(vcpu: number, address: bigint): Promise<void> {
    const state = await this.state(vcpu);
    const name = (await this.registers()).find(({ name }) => name === 'rip' || name === 'eip')!;
    const wrong = name.write(state, address);
    if (wrong !== undefined) throw new RemoteError(Errno.INVAL, `0x${address.toString(16)}: ${wrong}.`);
    await this.write(vcpu, State.GPRS, state);
  }

  /** Memory as the selected vCPU sees it, or physical; shorter where the next byte can't be read. */
  async readMemory(address: bigint, length: number): Promise<Uint8Array> {
    if (this.physical) {
      if (address >= Limit.MAX_RAM) return new Uint8Array(0);
      return this.target.readPhysical(Number(address), length);
    }
    await this.checkReach(address);
    return this.linear.read(await this.state(), address, length);
  }

  /** An address of theirs in the page tables of the selected vCPU. */
  async walk(address: bigint): Promise<PageWalk> {
    return pageWalk(await this.state(), address, (gpa) => this.linear.word(gpa));
  }

  async writeMemory(address: bigint, bytes: Uint8Array): Promise<void> {
    if (!this.physical) {
      await this.checkReach(address);
      return this.linear.write(await this.state(), address, bytes);
    }
    this.linear.forget();
    if (address < Limit.MAX_RAM) return this.target.writePhysical(Number(address), bytes);
    throw new RemoteError(Errno.FAULT, `There is no RAM at 0x${address.toString(16)}.`);
  }

  /** Outside long mode a linear address has 32 bits: what is beyond isn't there, rather than somewhere else. */
  private async checkReach(address: bigint): Promise<void> {
    if (address <= 0xffff_ffffn) return;
    const state = await this.state();
    if ((state.msr(Msr.EFER) & EFER_LMA) !== 0n || (state.cr(Cr.CR0) & CR0_PG) === 0n) return;
    const mode = modeOf(state);
    throw new RemoteError(
      Errno.FAULT,
      `0x${address.toString(16)}: vCPU ${this.selected} is in ${mode} mode, where addresses have 32 bits.`,
    );
  }

  async insert(name: string, breakpoint: Breakpoint): Promise<void> {
    if (this.inserted.has(name)) return;
    const { id } = await this.target.add(breakpoint);
    this.inserted.set(name, { id, breakpoint });
  }

  async remove(name: string): Promise<void> {
    const known = this.inserted.get(name);
    if (known === undefined) return;
    this.inserted.delete(name);
    await this.target.remove(known.id);
  }

  /** Takes out what gdb inserted. A machine that is gone has nothing inserted. */
  async removeAll(): Promise<void> {
    for (const name of [...this.inserted.keys()]) await this.remove(name).catch(() => undefined);
    for (const id of this.own.values()) await this.target.remove(id).catch(() => undefined);
    this.own.clear();
  }

  /** Whether gdb has a breakpoint at a linear address. */
  private breaksAt(address: bigint): boolean {
    return [...this.inserted.values()].some(
      ({ breakpoint }) => breakpoint.kind === 'execute' && breakpoint.address === address,
    );
  }

  /** Lets the guest run until something stops it. */
  async goOn(): Promise<Ended> {
    return this.run(async () => {
      const ended = this.nextEnd();
      if (this.machine.status.state !== 'running') await this.target.resume();
      return ended;
    });
  }

  /** One instruction of one vCPU; the others stand still meanwhile. */
  async step(vcpu: number): Promise<Ended> {
    return this.run(async () => ({ stop: await this.target.step(vcpu) }));
  }

  /** Steps as long as the vCPU stays in a range, nothing else stops it, and gdb waits. */
  async stepRange(vcpu: number, start: bigint, end: bigint): Promise<Ended> {
    return this.run(async () => {
      for (;;) {
        const stop = await this.target.step(vcpu);
        if (stop.reason !== 'step') return { stop };
        this.states.delete(vcpu);
        const at = linearPc(await this.state(vcpu));
        if (at < start || at >= end || this.interrupted || this.closed) return { stop };
        if (this.breaksAt(at)) return { stop: { ...stop, reason: 'breakpoint', rip: at } };
      }
    });
  }

  /** Back by one instruction of a vCPU, or to the last breakpoint that was met on the way here. */
  async back(vcpu: number | null): Promise<Ended> {
    const { reverse } = this.target;
    if (reverse === undefined) {
      throw new RemoteError(
        Errno.INVAL,
        'This machine keeps no history: it can go back when it is deterministic.',
      );
    }
    return this.run(async () => {
      if (vcpu !== null) return reverse.step(vcpu);
      const back = await reverse.goOn();
      if (back.begin === true || back.stop.reason !== 'watchpoint') return back;
      // gdb goes on unless the value is another one than it was: it wants to stand before the access.
      const { stop } = await reverse.step(back.stop.vcpu);
      return { stop: { ...back.stop, rip: stop.rip } };
    });
  }

  private async run(work: () => Promise<Ended>): Promise<Ended> {
    this.running = true;
    this.interrupted = false;
    this.forget();
    try {
      const ended = await work();
      if ('stop' in ended) {
        if (this.interrupted && ended.stop.reason === 'step') ended.stop = { ...ended.stop, reason: 'pause' };
        this.lastStop = ended.stop;
        this.selected = ended.stop.vcpu;
      }
      return ended;
    } finally {
      this.running = false;
      this.forget();
    }
  }

  /** The next stop or end that the machine's process tells of; never, once gdb has gone. */
  private nextEnd(): Promise<Ended> {
    return new Promise((resolve) => {
      const stop = (this.stopWaiting = this.machine.onStatus(({ state, stop: why, message }) => {
        if (state === 'off' || state === 'failed') resolve({ state });
        else if (state === 'paused' || state === 'crashed') {
          const reason = state === 'crashed' ? 'triple-fault' : 'pause';
          resolve({ stop: why ?? { vcpu: 0, reason, rip: 0n, message: message ?? '' } });
        } else return;
        stop();
      }));
    });
  }

  /** Ctrl-C. */
  interrupt(): void {
    if (!this.running || this.interrupted) return;
    this.interrupted = true;
    if (this.machine.status.state !== 'running') return;
    // Who stopped it first is told by the status that follows.
    this.target.pause().catch(() => undefined);
  }

  /** How gdb is told of a stop: signal, thread, why, and the registers that it asks for first. */
  async stopReply(stop: Stop, begin = false): Promise<string> {
    const { vcpu } = stop;
    const why = begin ? ['replaylog:begin'] : this.why(stop);
    const fields = [`thread:${(vcpu + 1).toString(16)}`, ...why];
    return `T${hexByte(this.signal(stop))}${fields.join(';')};${await this.expedited(vcpu)}`;
  }

  /** Before the stop reply, while gdb still takes text: what it can't see from it. */
  async announce(stop: Stop): Promise<void> {
    const spoken = ['exit', 'port', 'msr', 'exception', 'triple-fault', 'halted'];
    if (spoken.includes(stop.reason) && stop.message !== '') {
      const own = [...this.own].find(([, id]) => id === stop.id);
      const words =
        own === undefined ? stop.message : stop.message.replace(/^Breakpoint \d+/, `Stop ${own[0]}`);
      this.print(`${words}\n`);
    }
    const state = await this.state(stop.vcpu);
    const mode = modeOf(state);
    const natural = architectureOf(state);
    const told = this.toldModes.get(stop.vcpu) === mode;
    if (told || natural === this.described || this.described === null) return;
    this.toldModes.set(stop.vcpu, mode);
    this.print(
      `vCPU ${stop.vcpu} is in ${mode} mode, and gdb shows it as ${this.described}. ` +
        `To change that: monitor arch ${natural}, then: unset tdesc filename\n`,
    );
  }

  private signal({ reason }: Stop): number {
    if (reason === 'triple-fault') return Signal.SEGV;
    if (reason === 'pause') return this.interrupted ? Signal.INT : Signal.NONE;
    return Signal.TRAP;
  }

  private why({ reason, id, rip, address }: Stop): string[] {
    if (reason === 'watchpoint') {
      const name = this.named(id);
      const word = { '2': 'watch', '3': 'rwatch', '4': 'awatch' }[name[0]] ?? 'watch';
      // An access may begin before what is watched: gdb knows its own address only.
      const watched = this.inserted.get(name)?.breakpoint;
      const from = watched?.kind === 'watch' ? watched.address : 0n;
      const at = address ?? from;
      return [`${word}:${(at < from ? from : at).toString(16)}`];
    }
    if (reason !== 'breakpoint') return [];
    const [type] = this.named(id, rip);
    const word = type === '1' ? 'hwbreak' : 'swbreak';
    return this.accepts.has(word) ? [`${word}:`] : [];
  }

  /** The type that gdb gave a breakpoint: the first character of its name. */
  private named(id: number | undefined, at?: bigint): string {
    for (const [name, { id: known, breakpoint }] of this.inserted) {
      if (known === id) return name;
      if (id === undefined && breakpoint.kind === 'execute' && breakpoint.address === at) return name;
    }
    return '';
  }

  /** Registers that every stop is followed by a question for. */
  private async expedited(vcpu: number): Promise<string> {
    const state = await this.state(vcpu);
    const registers = await this.registers();
    const wanted = ['rip', 'eip', 'rsp', 'esp', 'rbp', 'ebp'];
    return registers
      .map((register, number) =>
        wanted.includes(register.name) ? `${number.toString(16)}:${hex(readRegister(register, state))};` : '',
      )
      .join('');
  }

  /** What gdb shows beside a thread. */
  async threadInfo(vcpu: number): Promise<string> {
    const state = await this.state(vcpu);
    const rip = state.gpr(Gpr.RIP).toString(16);
    return `${modeOf(state)} mode, CPL ${state.cpl}, RIP 0x${rip}`;
  }

  /** Who asked for a breakpoint of the machine. */
  ownerOf(id: number): string {
    const own = [...this.own].find(([, known]) => known === id);
    if (own !== undefined) return `stop ${own[0]}`;
    return [...this.inserted.values()].some((one) => one.id === id) ? "gdb's" : "another's";
  }

  /** gdb has gone: its breakpoints go, and the machine stays as it is. */
  async close(): Promise<void> {
    this.closed = true;
    this.stopListening();
    this.stopWaiting();
    await this.removeAll();
  }
}
