import { chooseBackend } from '../nvmm/registry.ts';
import { Exit, ExitOffset, State, VcpuConfSupport } from '../nvmm/constants.ts';
import { VcpuExit, VcpuState } from '../nvmm/layout.ts';
import type { Backend, Nvmm } from '../nvmm/nvmm.ts';
import { backends } from '../machine/backends.ts';
import { MachineError } from '../machine/errors.ts';
import { HIGH_RAM, PCI_HOLE } from '../machine/memory.ts';
import type { GuestSource } from '../machine/protocol.ts';
import type { TimedInput } from '../machine/timeline-input.ts';
import { codeLinear, codeSizeOf, disassemble, LONGEST_INSTRUCTION } from './disassembly.ts';
import type { MemoryDifference, RegisterDifference } from './lockstep-compare.ts';
import { compareMemory, compareStates, sameMemory, shortState } from './lockstep-compare.ts';
import { Departure, describeExit, Follower } from './lockstep-follower.ts';
import type { Entry } from './lockstep-journal.ts';
import { Leader } from './lockstep-leader.ts';
import { tolerate } from './lockstep-tolerances.ts';

/**
 * Lockstep: one guest on two backends, from the same state. The first, the leader, is a whole machine; what its
 * devices answer, the interrupts that it takes, and random words are written down with their places, and given to
 * the second, which has a vCPU and memory of its own and no device at all. Wherever the two differ, one of them is
 * wrong, and the first instruction after which they do says where.
 *
 * Backends that count instructions run in pieces: at the end of each one, every register and every byte of memory is
 * compared, and a difference is searched for in the piece, which both repeat from its beginning, by halves. Others
 * are stepped, with a look at the registers after each instruction, and at memory at the end of each piece.
 */

export interface LockstepConfig {
  a: Backend['name'];
  b: Backend['name'];
  guest: GuestSource;
  /** Bytes of RAM. */
  memory: number;
  seed: number;
  /** What the guest's real-time clock shows at power-on, in seconds since the epoch. */
  unixSeconds: number;
  inputs: TimedInput[];
  /** Ends after so many instructions. */
  instructions: number;
  /** Instructions in a piece. Absent: by the size of memory. */
  piece?: number;
}

/** For tests: what stands between us and a backend. */
export type Wrap = (nvmm: Nvmm, side: 'a' | 'b') => Nvmm;

export interface LockstepDifference {
  /** Instructions (or steps) that both had done alike before the one that differs. */
  at: number;
  /** The instruction: where it is, and what. */
  rip: string;
  instruction: string;
  /** What happened, where it is not only that registers or memory differ. */
  event?: string;
  registers: RegisterDifference[];
  memory: MemoryDifference[];
  /** General registers before the instruction, the same on both sides, and after it. */
  before: Record<string, string>;
  after: { a: Record<string, string>; b: Record<string, string> };
  /** The exits before it, oldest first. */
  exits: string[];
}

export interface LockstepResult {
  outcome: 'same' | 'different';
  mode: 'count' | 'step';
  /** Instructions (or steps) that were compared. */
  instructions: number;
  /** Why it ended. */
  ended: string;
  printed: string;
  /** How often something differed that may: by the reason. */
  tolerated: Record<string, number>;
  difference: LockstepDifference | null;
}

/** Exits that are kept for the report. */
const EXITS_KEPT = 16;
/** Instructions in a piece for each 16 MiB of memory, so that comparing takes no longer than running. */
const COUNTED_PIECE = 200_000;
const STEPPED_PIECE = 20_000;
const PIECE_MEMORY = 16 * 2 ** 20;

interface Checkpoint {
  at: number;
  state: Uint8Array;
  ram: Uint8Array;
  time: { count: number; skipped: number; offset: number };
}

export class Lockstep {
  private readonly config: LockstepConfig;
  private readonly wrap: Wrap;
  private readonly backendA: Backend;
  private readonly counts: boolean;
  private readonly piece: number;
  private readonly leader: Leader;
  private readonly follower: Follower;
  private checkpoint: Checkpoint | null = null;
  private readonly exits: string[] = [];
  private readonly tolerated: Record<string, number> = {};
  private difference: LockstepDifference | null = null;
  private compared = 0;

  /** Throws BackendUnavailableError or MachineError. */
  constructor(config: LockstepConfig, wrap: Wrap = (nvmm) => nvmm) {
    this.config = config;
    this.wrap = wrap;
    this.backendA = chooseBackend(backends, config.a);
    const backendB = chooseBackend(backends, config.b);
    this.counts = config.a === 'emulated' && config.b === 'emulated';
    const pieces = Math.max(1, config.memory / PIECE_MEMORY);
    this.piece = config.piece ?? Math.ceil(pieces * (this.counts ? COUNTED_PIECE : STEPPED_PIECE));
    const { counts } = this;
    this.leader = new Leader(this.backendA, (nvmm) => wrap(nvmm, 'a'), { ...config, counts });
    this.follower = this.newFollower(backendB, 'b');
    this.follower.joins = true;
    for (const side of [this.leader.nvmm, this.follower.nvmm]) {
      if (counts || (side.capability().vcpuConfSupport & VcpuConfSupport.DEBUG) !== 0) continue;
      throw new MachineError(
        'host',
        `The ${side.backend} backend can't step here: lockstep needs that, or two backends that count instructions.`,
      );
    }
    this.leader.nvmm.onExit = (at, { exit }) => {
      this.exits.push(`${at}: ${describeExit(exit)}`);
      if (this.exits.length > 4 * EXITS_KEPT) this.exits.splice(0, this.exits.length - EXITS_KEPT);
    };
  }

  private newFollower(backend: Backend, side: 'a' | 'b'): Follower {
    return new Follower(backend, (nvmm) => this.wrap(nvmm, side), {
      memory: this.config.memory,
      leaderStart: this.leader.start,
      counts: this.counts,
      configured: this.leader.nvmm.configured,
    });
  }

  /** Runs to a difference, the guest's end, or the number of instructions. */
  run(): LockstepResult {
    const { leader, config } = this;
    leader.drive(() => {
      if (this.counts) this.nextPiece();
      else this.stepAll();
    });
    const { difference, tolerated } = this;
    this.follower.close();
    leader.close();
    return {
      outcome: difference === null ? 'same' : 'different',
      mode: this.counts ? 'count' : 'step',
      instructions: this.compared,
      ended:
        difference !== null
          ? 'they differ'
          : (leader.ended ?? `${config.instructions} instructions were compared`),
      printed: leader.printed,
      tolerated,
      difference,
    };
  }

  /** The leader stands at the end of a piece: on with the next one. */
  private nextPiece(): void {
    const { leader, config } = this;
    if (this.checkpoint === null) this.begin();
    else if (!this.compare()) return leader.stop();
    if (leader.ended !== null || leader.position >= config.instructions) return leader.stop();
    leader.go(Math.min(config.instructions, leader.position + this.piece));
  }

  private stepAll(): void {
    const { leader, config } = this;
    this.begin();
    let same = true;
    while (same && leader.ended === null && leader.position < config.instructions) {
      same = this.stepTo(Math.min(config.instructions, leader.position + this.piece)) && this.compare();
    }
    leader.stop();
  }

  /** Both are where the leader is. */
  private begin(): void {
    this.keep();
    const { state, ram, time } = this.checkpoint!;
    this.follower.restart(state, ram, time);
  }

  private keep(): void {
    const { leader } = this;
    const { time } = leader;
    this.checkpoint = {
      at: leader.position,
      state: leader.state().slice(),
      ram: leader.ram.bytes.slice(),
      time: { count: time?.count ?? 0, skipped: time?.skipped ?? 0, offset: time?.offset ?? 0 },
    };
    leader.nvmm.entries = [];
    leader.words.length = 0;
    this.follower.words = leader.words;
    this.follower.wordsTaken = 0;
  }

  /** The end of a piece: false when there is a difference. */
  private compare(): boolean {
    const { leader, follower } = this;
    const end = leader.position;
    try {
      if (this.counts) {
        for (const entry of leader.nvmm.entries) follower.apply(entry);
        follower.runTo(end);
      }
    } catch (error) {
      if (!(error instanceof Departure)) throw error;
      this.search(Math.max(error.at, this.checkpoint!.at) + 1, error.message);
      return false;
    }
    const same =
      compareStates(leader.state(), follower.state(), this.ignored).length === 0 &&
      sameMemory(leader.ram.bytes, follower.ram.bytes);
    if (!same) {
      this.search(end, null);
      return false;
    }
    this.compared = end;
    this.keep();
    return true;
  }

  /** What a step-by-step comparison leaves out: the counter of time, and windows that are the run loop's own. */
  private get ignored(): ReadonlySet<string> {
    return this.counts ? NOTHING : STEPPED;
  }

  /** Steps both; false when there is a difference. */
  private stepTo(until: number): boolean {
    const { leader, follower } = this;
    let before = leader.state();
    while (leader.position < until && leader.ended === null) {
      const at = leader.position;
      const from = leader.nvmm.entries.length;
      leader.step();
      const event = this.follow(from, before);
      if (event !== null) {
        this.report(at, before, event, leader.state(), follower);
        return false;
      }
      leader.steps++;
      const after = leader.state();
      const found = compareStates(after, follower.state(), this.ignored);
      if (found.length > 0) {
        if (!this.mayDiffer(found, before)) {
          if (this.catchesUp(before)) {
            before = leader.state();
            continue;
          }
          this.report(at, before, null, after, follower);
          return false;
        }
      }
      before = after;
    }
    return true;
  }

  /** Hardware does not stop after an instruction that loads the flags it is stepped by, but after the next one. */
  private loadsFlags(before: Uint8Array): boolean {
    return /^(iret|popf|sysret|sysexit)/.test(this.instructionAt(before));
  }

  private note(reason: string): void {
    this.tolerated[reason] = (this.tolerated[reason] ?? 0) + 1;
  }

  /** The follower does what the leader did in its last step; what it did otherwise, or null. */
  private follow(from: number, before: Uint8Array): string | null {
    const { leader, follower } = this;
    const { entries } = leader.nvmm;
    if (this.config.b === 'kvm' && this.loadsFlags(before) && entries.slice(from).every(isRun)) {
      // It would not stop after this instruction, but after the next one: it is given what comes of it.
      for (const entry of entries.slice(from)) entry.joined = 'done';
      this.note(GIVEN);
      this.feed(State.ALL & ~State.INTR);
      return null;
    }
    for (let i = from; i < entries.length; i++) {
      try {
        follower.apply(entries[i]);
      } catch (error) {
        if (!(error instanceof Departure)) throw error;
        if (this.config.a === 'kvm' && this.loadsFlags(before) && entries[i].kind === 'run') {
          // The leader has the exit of the next instruction; the follower was one behind.
          this.note(JOINED);
          entries.splice(i, 0, stepEntry(entries[i]));
          continue;
        }
        return this.mayDepart(before) ? null : error.message;
      }
    }
    return null;
  }

  /** The leader has done the next instruction as well: so does the follower. */
  private catchesUp(before: Uint8Array): boolean {
    const { leader, follower, config } = this;
    if (config.a !== 'kvm' || !this.loadsFlags(before)) return false;
    const { entries } = leader.nvmm;
    const extra = stepEntry(entries.at(-1)!);
    entries.push(extra);
    follower.apply(extra);
    this.note(JOINED);
    const found = compareStates(leader.state(), follower.state(), this.ignored);
    return found.length === 0 || this.mayDiffer(found, before);
  }

  /** Whether these may differ after the instruction; the follower then gets the leader's. */
  private mayDiffer(found: RegisterDifference[], before: Uint8Array): boolean {
    const verdict = tolerate(found, this.codeAt(before), before);
    if (verdict === null) return false;
    this.note(verdict);
    this.feed(verdict.startsWith('FPU') ? State.FPU : State.ALL & ~State.INTR);
    return true;
  }

  /** The follower gets the leader's registers, now and whenever this is repeated. */
  private feed(flags: number): void {
    const { leader, follower } = this;
    const state = leader.state();
    leader.nvmm.entries.push({ kind: 'set', flags, state, at: leader.position - 1, skipped: 0 });
    follower.put(flags, state);
  }

  /** An instruction that one backend answers itself and the other leaves to its VMM. */
  private mayDepart(before: Uint8Array): boolean {
    const text = this.instructionAt(before);
    if (!/^(rdmsr|wrmsr|cpuid)/.test(text)) return false;
    this.note(`${text}: answered by one backend, left to the VMM by the other`);
    this.feed(State.ALL & ~State.INTR);
    return true;
  }

  // ---- Finding the instruction --------------------------------------------------------------------------

  /**
   * The first instruction of the piece after which the two differ: both do the piece again, on backends of their own,
   * up to its middle, and so on by halves. `end` is known to differ, and the piece's beginning not to.
   */
  private search(end: number, event: string | null): void {
    const sides = { a: this.newFollower(this.backendA, 'a'), b: this.follower };
    let same = this.checkpoint!.at;
    let different = end;
    let event2 = event;
    while (different - same > 1) {
      const middle = Math.floor((same + different) / 2);
      const found = this.differAt(sides, middle);
      if (found === null) same = middle;
      else {
        different = middle;
        event2 = found;
      }
    }
    this.differAt(sides, same);
    const before = sides.a.state().slice();
    const last = this.differAt(sides, different);
    this.compared = same;
    if (last === '') event2 = null;
    else if (last !== null) event2 = last;
    this.report(same, before, event2 === '' ? null : event2, sides.a.state(), sides.b, sides.a);
    sides.a.close();
  }

  /** Whether the two differ after so many instructions: null, or what happened, or '' when only their state does. */
  private differAt(sides: { a: Follower; b: Follower }, at: number): string | null {
    const { state, ram, time } = this.checkpoint!;
    const { entries } = this.leader.nvmm;
    const messages: string[] = [];
    for (const side of [sides.a, sides.b]) {
      side.words = this.leader.words;
      side.restart(state, ram, time);
      try {
        for (const entry of entries) if (entry.at < at) side.apply(entry);
        side.runTo(at);
      } catch (error) {
        if (!(error instanceof Departure)) throw error;
        messages.push(error.message);
      }
    }
    if (messages.length > 0) return messages[0];
    const same =
      compareStates(sides.a.state(), sides.b.state(), this.ignored).length === 0 &&
      sameMemory(sides.a.ram.bytes, sides.b.ram.bytes);
    return same ? null : '';
  }

  private report(
    at: number,
    before: Uint8Array,
    event: string | null,
    after: Uint8Array,
    b: Follower,
    a: { ram: Follower['ram'] } = this.leader,
  ): void {
    const stateB = b.state();
    const state = new VcpuState(before);
    this.difference = {
      at,
      rip: `0x${state.rip.toString(16)}`,
      instruction: this.instructionAt(before),
      ...(event === null ? {} : { event: `${this.config.b} ${event}` }),
      registers: compareStates(after, stateB, this.ignored),
      memory: compareMemory(a.ram.bytes, b.ram.bytes, gpaOf),
      before: shortState(before),
      after: { a: shortState(after), b: shortState(stateB) },
      exits: this.exits.filter((line) => Number.parseInt(line, 10) <= at).slice(-EXITS_KEPT),
    };
  }

  private instructionAt(state: Uint8Array): string {
    const view = new VcpuState(state.slice());
    const bytes = this.codeAt(state);
    const [found] = disassemble(bytes, codeSizeOf(view), view.rip, 1);
    return found?.text ?? '(not mapped)';
  }

  /** The bytes at RIP of a state that the leader had: as its memory is now. */
  private codeAt(state: Uint8Array): Uint8Array {
    const { leader } = this;
    const view = new VcpuState(state.slice());
    const linear = codeLinear(view, view.rip);
    return leader.readCode(linear, LONGEST_INSTRUCTION);
  }
}

const JOINED = 'instructions that load the flags: stepped together with the next';
const GIVEN = 'instructions that load the flags: done by the leader alone';
/** The leader may have set the task priority before the instruction: that is in the state that it gives. */
const isRun = ({ kind }: Entry): boolean => kind === 'run' || kind === 'set';

/** A step that only the follower does. */
const stepEntry = ({ at, skipped }: Entry): Entry => {
  const exit = new VcpuExit(new Uint8Array(ExitOffset.SIZE));
  exit.reason = Exit.DEBUG;
  return { kind: 'run', exit: exit.bytes, at, skipped, joined: 'extra' };
};

const NOTHING: ReadonlySet<string> = new Set();
const STEPPED: ReadonlySet<string> = new Set(['TSC', 'interrupt state']);

const gpaOf = (offset: number): number => (offset < PCI_HOLE ? offset : offset - PCI_HOLE + HIGH_RAM);
