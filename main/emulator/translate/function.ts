import type { Callees } from '../generate/emitter.ts';
import { ENTER } from '../generate/handlers.ts';
import { Field, JUMP_CACHE_ENTRIES, Leave, Record, Slot } from '../state.ts';
import { i32, i64, type I32, type I64, type Local } from '../wasm/expression.ts';
import { call, type FunctionBuilder, type Label } from '../wasm/module.ts';
import { FlagVariables, SETTLE } from './lazy-flags.ts';

const REGISTERS = 16;

/** A value of the vCPU's block that is kept in a variable: loaded at the start if anything used it. */
class Cached<T extends 'i32' | 'i64'> {
  readonly local: Local<T>;
  used = false;
  constructor(f: FunctionBuilder, type: T) {
    this.local = f.local(type);
  }
}

/**
 * The function of a region: the variables that stand for the vCPU's registers while it runs, and the ways out,
 * each of which exists once and puts them back.
 */
export class RegionFunction {
  readonly f: FunctionBuilder;
  readonly s: Local<'i32'>;
  readonly flags: FlagVariables;
  /** Instructions left, as of the start of the block that runs. */
  readonly budget: Local<'i32'>;
  /** For `leaving`: the Leave code. */
  readonly code: Local<'i32'>;
  /** For `chaining` and `handingOver`: the record to go on with. */
  readonly target: Local<'i32'>;
  /** Which member a jump through the table goes to. */
  readonly dispatch: Local<'i32'>;
  /** For `searching`: the address to go on at. */
  readonly rip: Local<'i64'>;
  /** Out to the run loop: flags are settled there. */
  leaving!: Label;
  /** Out to the handler of an instruction; flags are settled there. */
  handingOver!: Label;
  /** Out to another record; flags are settled before. */
  chaining!: Label;
  /** Out to wherever `rip` leads; flags are settled before. */
  searching!: Label;

  private readonly callees: Callees;
  private readonly codeSize: number;
  private readonly registers: Cached<'i64'>[];
  private readonly written = new Set<number>();
  private readonly codeBaseCache: Cached<'i64'>;
  private readonly tables: Map<number, Cached<'i32'>>;

  constructor(f: FunctionBuilder, callees: Callees, codeSize: number) {
    this.f = f;
    this.callees = callees;
    this.codeSize = codeSize;
    this.s = f.parameter('i32', 0);
    this.registers = Array.from({ length: REGISTERS }, () => new Cached(f, 'i64'));
    this.codeBaseCache = new Cached(f, 'i64');
    this.tables = new Map([Field.TLB_READ, Field.TLB_WRITE].map((field) => [field, new Cached(f, 'i32')]));
    this.flags = new FlagVariables(f);
    this.budget = f.local('i32');
    this.code = f.local('i32');
    this.target = f.local('i32');
    this.dispatch = f.local('i32');
    this.rip = f.local('i64');
    f.keepLocals();
  }

  /** The variable of a general register. */
  register(index: number): Local<'i64'> {
    const cached = this.registers[index];
    cached.used = true;
    return cached.local;
  }

  setRegister(index: number, value: I64): void {
    this.written.add(index);
    this.f.set(this.register(index), value);
  }

  get codeBase(): I64 {
    this.codeBaseCache.used = true;
    return this.codeBaseCache.local;
  }

  /** The address in Field.TLB_READ or TLB_WRITE, which holds as long as the privilege does. */
  table(field: number): I32 {
    const cached = this.tables.get(field)!;
    cached.used = true;
    return cached.local;
  }
  reloadTable(field: number): void {
    this.f.set(this.tables.get(field)!.local, i32.load(this.s, field));
  }

  /**
   * Writes the whole function around its body, which must not run off its end. `several`: there is more than one way
   * in, and the record that led here has the number of the one to take.
   */
  build(several: boolean, body: () => void): void {
    const { f } = this;
    f.block((leaving) => {
      this.leaving = leaving;
      f.block((handingOver) => {
        this.handingOver = handingOver;
        f.block((chaining) => {
          this.chaining = chaining;
          f.block((searching) => {
            this.searching = searching;
            body();
            f.unreachable();
          });
          this.search();
        });
        this.goOn();
      });
      this.settle();
      this.goOn();
    });
    this.settle();
    this.store();
    f.return(this.code);
    f.prologue(() => {
      this.load();
      if (several) f.set(this.dispatch, i32.load(f.parameter('i32', 1), Record.IMMEDIATE));
    });
    f.unreachable();
  }

  private settle(): void {
    const { which, a, b, result, rotated } = this.flags;
    this.f.if(which, () => this.f.call(this.callees(SETTLE), this.s, which, a, b, result, rotated));
  }

  private goOn(): void {
    this.store();
    this.f.returnCall(this.callees(ENTER), this.s, this.target);
  }

  private load(): void {
    const { f, s } = this;
    this.registers.forEach(({ used, local }, index) => {
      if (used) f.set(local, i64.load(s, Field.SLOTS + 8 * index));
    });
    const { used, local } = this.codeBaseCache;
    if (used) f.set(local, i64.load(s, Field.SLOTS + 8 * Slot.CODE_BASE));
    for (const [field, table] of this.tables) if (table.used) f.set(table.local, i32.load(s, field));
    f.set(this.budget, i32.load(s, Field.BUDGET));
  }

  private store(): void {
    const { f, s } = this;
    for (const index of this.written) f.store64(s, this.registers[index].local, Field.SLOTS + 8 * index);
    const ran = i64.extend_s(i32.sub(i32.load(s, Field.BUDGET), this.budget));
    f.store64(s, i64.add(i64.load(s, Field.TRANSLATED), ran), Field.TRANSLATED);
    f.store32(s, this.budget, Field.BUDGET);
  }

  /** Finds the record for `rip` in the jump cache, or leaves for the run loop to find it. */
  private search(): void {
    const { f, s, rip } = this;
    const base = i64.load(s, Field.SLOTS + 8 * (Slot.SEGMENT_BASE + 1));
    const linear = f.let(this.codeSize === 64 ? rip : i64.and(i64.add(rip, base), 0xffffffff));
    const low = f.let(i32.wrap(linear));
    const hash = i32.and(i32.xor(low, i32.shr_u(low, 12)), JUMP_CACHE_ENTRIES - 1);
    const entry = f.let(i32.add(i32.load(s, Field.JUMP_CACHE), i32.shl(hash, 4)));
    f.if(
      i64.eq(i64.load(entry), i64.add(linear, i64.load(s, Field.JUMP_SALT))),
      () => {
        f.store64(s, i64.sub(rip, i64.and(linear, 4095)), Field.SLOTS + 8 * Slot.CODE_BASE);
        f.set(this.target, i32.load(entry, 8));
      },
      () => {
        f.store64(s, rip, Field.RIP);
        f.set(this.target, call(this.callees('find'), 'i32', s));
        f.if(i32.eqz(this.target), () => {
          f.set(this.code, i32.const(Leave.LOOKUP));
          f.break(this.leaving);
        });
      },
    );
  }

  /** Nonzero, with its sign, when somebody wants the run loop to look around or the budget is used up. */
  tired(): I32 {
    return i32.lt_s(i32.or(this.budget, i32.load(this.s, Field.PENDING)), 0);
  }
}
