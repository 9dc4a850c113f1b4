import type { Callees } from '../generate/emitter.ts';
import { Field, Record, Slot } from '../state.ts';
import { i32, i64, type Expression, type I32, type I64, type Local } from '../wasm/expression.ts';
import type { FunctionBuilder, Label, Mark } from '../wasm/module.ts';
import { FlagVariables } from './lazy-flags.ts';
import { WayOut } from './ways-out.ts';
import { Windows } from './windows.ts';

const REGISTERS = 16;

/** A value of the vCPU's block that a variable stands for. */
interface Cached<T extends 'i32' | 'i64' = 'i32' | 'i64'> {
  readonly local: Local<T>;
  readonly load: () => Expression<T>;
}

/**
 * How a region keeps registers. KEPT: all that it uses are loaded at its start and put back on its ways out, which is best
 * in loops. WRITTEN: each block loads what it reads, and puts back what it writes before it may be left: most of the
 * kernel's code leaves a region after a dozen instructions, and then ways out need not put back all that others write.
 */
export const Registers = { KEPT: 0, WRITTEN: 1 } as const;

function asI64(local: Local<'i32' | 'i64'>): I64 {
  return local.type === 'i32' ? i64.extend_u(local as I32) : (local as I64);
}

/**
 * The function of a region: the variables that stand for the vCPU's registers while it runs, and the ways out,
 * each of which exists once.
 */
export class RegionFunction {
  readonly f: FunctionBuilder;
  readonly s: Local<'i32'>;
  readonly flags: FlagVariables;
  /** Instructions left, as of the start of the block that runs. */
  readonly budget: Local<'i32'>;
  /** For `leaving`: the record to go on with, or a Leave code. */
  readonly target: Local<'i32'>;
  /** For `leaving`: the head of the block whose window missed, CODE, or 0 as long as nobody writes it. */
  readonly head: Local<'i32'>;
  /** Whether floating-point results may be the host's (floats.ts), as far as this block has looked. */
  readonly fastFloats: Local<'i32'>;
  /** The head of the block that is being written. */
  blockHead = 0;
  /** Which member a jump through the table goes to. */
  readonly dispatch: Local<'i32'>;
  /** For `searching`: the address to go on at. */
  readonly rip: Local<'i64'>;
  /** For `searching`: the direct jump within the page that goes there, or 0. */
  readonly from: Local<'i32'>;
  /** Out to `target`; flags are left on the way. */
  leaving!: Label;
  /** Out to wherever `rip` leads; flags are left before. */
  searching!: Label;
  /** The same; flags are left on the way. */
  searchingUnsettled!: Label;

  private readonly callees: Callees;
  private readonly is64: boolean;
  private readonly keeps: boolean;
  /** In code of 32 and 16 bits i32: of what such code writes the upper half becomes 0 (32 bits) or stays (fewer). */
  private readonly registers: Cached[];
  private readonly codeBaseCache: Cached<'i64'>;
  private readonly tables: Map<number, Cached<'i32'>>;
  /** What was used in a variable, and registers that were changed: anywhere (KEPT). */
  private readonly used = new Set<Cached>();
  private readonly written = new Set<number>();
  /** What is in its variable here, and what of that the block has to load at its start (WRITTEN). */
  private readonly present = new Set<Cached>();
  private readonly loaded = new Set<Cached>();
  /** Registers whose values are newer in their variables, and whether the upper halves are (WRITTEN). */
  private readonly unwritten = new Map<number, boolean>();
  private blockStart: Mark | undefined;
  private blockDepth = 0;
  private readonly facts = new Set<string>();
  readonly windows: Windows;

  constructor(f: FunctionBuilder, callees: Callees, codeSize: number, registers: number) {
    this.f = f;
    this.callees = callees;
    this.is64 = codeSize === 64;
    this.keeps = registers === Registers.KEPT;
    this.s = f.parameter('i32', 0);
    const { s } = this;
    const slot = (index: number): Cached<'i64'> => ({
      local: f.local('i64'),
      load: () => i64.load(s, Field.SLOTS + 8 * index),
    });
    const half = (index: number): Cached<'i32'> => ({
      local: f.local('i32'),
      load: () => i32.load(s, Field.SLOTS + 8 * index),
    });
    this.registers = Array.from({ length: REGISTERS }, (_, index) => (this.is64 ? slot(index) : half(index)));
    this.codeBaseCache = slot(Slot.CODE_BASE);
    this.tables = new Map(
      [Field.TLB_READ, Field.TLB_WRITE].map((field) => [
        field,
        { local: f.local('i32'), load: () => i32.load(s, field) },
      ]),
    );
    this.flags = new FlagVariables(f);
    this.budget = f.local('i32');
    this.target = f.local('i32');
    this.head = f.local('i32');
    this.dispatch = f.local('i32');
    this.rip = f.local('i64');
    this.fastFloats = f.local('i32');
    this.from = f.local('i32');
    this.windows = new Windows(f, (writes) =>
      this.use(this.tables.get(writes ? Field.TLB_WRITE : Field.TLB_READ)!),
    );
    f.keepLocals();
  }

  // ---- Values in variables --------------------------------------------------------------------------------

  private use<T extends 'i32' | 'i64'>(cached: Cached<T>): Local<T> {
    this.used.add(cached);
    if (!this.present.has(cached)) {
      this.present.add(cached);
      this.loaded.add(cached);
    }
    return cached.local;
  }

  /** The value of a general register, which is bound until that changes. */
  register(index: number): I64 {
    return asI64(this.use(this.registers[index]));
  }

  /** Puts a register back; `whole`: with its upper half. */
  private put(index: number, whole: boolean): void {
    const { f, s } = this;
    const value = asI64(this.registers[index].local);
    f.storeBits(whole ? 64 : 32, s, value, Field.SLOTS + 8 * index);
  }
  private assign({ local }: Cached, value: I64): void {
    if (local.type === 'i32') this.f.set(local, i32.wrap(value));
    else this.f.set(local, value);
  }

  /** `bits`: how many of them are written; the value has all that the variable is to have. */
  setRegister(index: number, value: I64, bits = 64): void {
    const { f } = this;
    const whole = this.is64 || bits >= 32;
    const cached = this.registers[index];
    this.windows.changed(index);
    if (this.keeps) {
      this.written.add(index);
      this.use(cached);
      this.assign(cached, value);
      return;
    }
    if (f.nesting === this.blockDepth) {
      this.present.add(cached);
      this.assign(cached, value);
      this.unwritten.set(index, whole || this.unwritten.get(index) === true);
      return;
    }
    // What is only written on one way has its old value on the other. At once: a loop may be left before this place.
    this.use(cached);
    this.assign(cached, value);
    this.put(index, whole);
  }

  /** Before the block may be left: puts registers back that were written. On one way only, the other does so as well. */
  writeBack(): void {
    for (const [index, whole] of this.unwritten) this.put(index, whole);
    if (this.f.nesting === this.blockDepth) this.unwritten.clear();
  }

  get codeBase(): I64 {
    return this.use(this.codeBaseCache);
  }

  /** The address in Field.TLB_READ or TLB_WRITE, which holds as long as the privilege does. */
  table(field: number): I32 {
    return this.use(this.tables.get(field)!);
  }
  reloadTable(field: number): void {
    const cached = this.tables.get(field)!;
    this.f.set(this.use(cached), cached.load());
  }

  /**
   * At the start of a block, which may be a way in: nothing is in variables but what KEPT has loaded. `windows`: whether
   * accesses may share a look at the translation table.
   */
  beginBlock(head: number, windows: boolean): void {
    this.blockHead = head;
    this.facts.clear();
    this.windows.begin(windows);
    this.blockDepth = this.f.nesting;
    if (this.keeps) return;
    this.present.clear();
    this.loaded.clear();
    this.unwritten.clear();
    this.blockStart = this.f.mark();
  }

  /** Whether something that holds until the block ends was found before. */
  holds(what: string): boolean {
    return this.facts.has(what);
  }
  /** What was found in the middle of an instruction may not have been looked at. */
  nowHolds(what: string): void {
    if (this.f.nesting === this.blockDepth) this.facts.add(what);
  }
  forget(what: string): void {
    this.facts.delete(what);
  }

  endBlock(): void {
    this.windows.end();
    if (this.keeps) return;
    this.f.insert(this.blockStart!, () => this.loadAll(this.loaded));
  }

  // ---- The way in, and the ways out -----------------------------------------------------------------------

  /**
   * Writes the whole function around its body, which must not run off its end. `several`: there is more than one way
   * in, and the record that led here has the number of the one to take.
   */
  build(several: boolean, body: () => void): void {
    const { f, s } = this;
    // Outermost first: leaving a block comes to its way out, and running off that to the next one's.
    const ways: { take: (label: Label) => void; out: () => void }[] = [
      {
        take: (label) => (this.leaving = label),
        out: () => {
          this.flags.handOver(s);
          this.end(WayOut.LEAVE, this.target, this.head);
        },
      },
      {
        take: (label) => (this.searching = label),
        out: () => this.end(this.is64 ? WayOut.SEEK_64 : WayOut.SEEK, this.rip, this.from),
      },
      { take: (label) => (this.searchingUnsettled = label), out: () => this.flags.handOver(s) },
    ];
    const write = (n: number): void => {
      if (n === ways.length) {
        body();
        f.unreachable();
        return;
      }
      f.block((label) => {
        ways[n].take(label);
        write(n + 1);
      });
      ways[n].out();
    };
    write(0);
    f.prologue(() => {
      if (this.keeps) this.loadAll(this.used);
      f.set(this.budget, i32.load(s, Field.BUDGET));
      const led = f.parameter('i32', 1);
      if (several) f.set(this.dispatch, i32.load(led, Record.IMMEDIATE));
      if (this.keeps && !this.is64) this.requireEmptyHalves(led);
    });
    f.unreachable();
  }

  /**
   * A way out of a loop in 32-bit code does not know which registers were written before it: it puts all of them back whole.
   * So the upper halves, which only 64-bit code before it can have left there, have to be empty; else the block's handlers run.
   */
  private requireEmptyHalves(led: I32): void {
    const { f, s } = this;
    const halves = [...this.written].map((index) => i32.load(s, Field.SLOTS + 8 * index + 4));
    if (halves.length === 0) return;
    const any = halves.reduce((one, other) => i32.or(one, other));
    f.if(any, () => {
      const first = i32.add(led, Record.SIZE);
      f.returnCall(this.callees(WayOut.LEAVE), s, first, this.budget, i32.const(0));
    });
  }

  private end(way: string, where: I32 | I64, more: I32): void {
    const { f, s } = this;
    for (const index of this.written) this.put(index, true);
    f.returnCall(this.callees(way), s, where, this.budget, more);
  }

  private loadAll(values: Iterable<Cached>): void {
    for (const { local, load } of values) this.f.set(local, load());
  }

  /** Nonzero, with its sign, when somebody wants the run loop to look around or the budget is used up. */
  tired(): I32 {
    return i32.lt_s(i32.or(this.budget, i32.load(this.s, Field.PENDING)), 0);
  }
}
