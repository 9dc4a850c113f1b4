import type { Emitter } from '../generate/emitter.ts';
import {
  differenceBorrows,
  FlagKind,
  Flags,
  productOverflows,
  rotationFlags,
  storeFlags,
  sumCarries,
} from '../generate/flags.ts';
import {
  numberOf,
  numberOfRotation,
  OPERATION_MASK,
  SETTLE,
  Unsettled,
  type Rotation,
} from '../generate/unsettled.ts';
import { i32, i64, type I32, type I64, type Local } from '../wasm/expression.ts';
import type { FunctionBuilder } from '../wasm/module.ts';

/** What is known, while code is generated, of the operation that set the flags last. */
export interface KnownFlags {
  readonly kind: number;
  readonly bits: number;
  /** A rotation after it, which has set CF and OF. */
  readonly rotation?: Rotation | undefined;
  /** Only if the variable `which` says that there was such an operation; if it is 0, the block has the flags. */
  readonly perhaps?: boolean;
}
/** The flags are in the vCPU's block. */
export const STORED: KnownFlags = { kind: 0, bits: 64 };
const isStored = (known: KnownFlags | null): boolean =>
  known !== null && known.kind === 0 && known.rotation === undefined;

/** What is known where two ways meet; null: only the run knows. */
export function agreed(a: KnownFlags | null, b: KnownFlags | null): KnownFlags | null {
  if (a === null || b === null) return null;
  if (isStored(a)) return isStored(b) ? a : { ...b, perhaps: true };
  if (isStored(b)) return { ...a, perhaps: true };
  const same = a.kind === b.kind && a.bits === b.bits;
  const sameRotation = a.rotation?.left === b.rotation?.left && a.rotation?.bits === b.rotation?.bits;
  return same && sameRotation ? { ...a, perhaps: a.perhaps === true || b.perhaps === true } : null;
}

/**
 * The variables that stand for the flags: what set them (0: the block has them), its operands and result; and the
 * result of a rotation after it, which changes CF and OF alone.
 */
export class FlagVariables {
  readonly which: Local<'i32'>;
  readonly a: Local<'i64'>;
  readonly b: Local<'i64'>;
  readonly result: Local<'i64'>;
  readonly rotated: Local<'i64'>;
  /** What is known at the start of an instruction; null: only at run time. */
  known: KnownFlags | null = STORED;

  constructor(f: FunctionBuilder) {
    this.which = f.local('i32');
    this.a = f.local('i64');
    this.b = f.local('i64');
    this.result = f.local('i64');
    this.rotated = f.local('i64');
    this.f = f;
  }
  private readonly f: FunctionBuilder;

  /** Puts them where SETTLE takes them from, as far as they count; only the run knows. */
  handOver(s: I32): void {
    const { f } = this;
    f.if(this.which, () => {
      f.store32(s, this.which, Unsettled.WHICH);
      f.store64(s, this.a, Unsettled.A);
      f.store64(s, this.b, Unsettled.B);
      f.store64(s, this.result, Unsettled.RESULT);
      f.store64(s, this.rotated, Unsettled.ROTATED);
    });
  }
}

/**
 * Flags that are computed where they are read: an operation leaves its operands in variables, which costs
 * nothing in code that is compiled to static single assignment, and most are overwritten unread. The variable
 * `which` is always right, so any way out of the function can settle the flags; what is known at generation
 * time makes a comparison and the jump on it one operation.
 */
export class LazyFlags extends Flags {
  private readonly variables: FlagVariables;
  private readonly settleRoutine: () => void;
  /** Nesting at the start of the instruction: what is written deeper may not have been run. */
  private readonly depth: number;
  /** What was written deeper, good until a scope opens or closes. */
  private nested: { known: KnownFlags; scopes: number } | null = null;
  private nestedWrite = false;

  constructor(c: Emitter, variables: FlagVariables) {
    super(c);
    this.variables = variables;
    this.depth = c.f.nesting;
    this.settleRoutine = () => {
      variables.handOver(c.s);
      c.callVoid(SETTLE, c.s);
    };
  }

  /** What is known here of the flags; null when only the run knows. */
  current(): KnownFlags | null {
    if (this.nested?.scopes === this.c.f.scopes) return this.nested.known;
    return this.nestedWrite ? null : this.variables.known;
  }

  private nowKnown(known: KnownFlags): void {
    if (this.c.f.nesting === this.depth) {
      this.variables.known = known;
      this.nestedWrite = false;
      this.nested = null;
    } else {
      this.nestedWrite = true;
      this.nested = { known, scopes: this.c.f.scopes };
    }
  }

  /** After the instruction. */
  finish(): void {
    if (this.nestedWrite) this.variables.known = null;
  }

  override set(kind: number, bits: number, a: I64, b: I64, result: I64): void {
    const { f } = this.c;
    const { variables } = this;
    f.set(variables.which, i32.const(numberOf(kind, bits)));
    // Logic needs its result alone: the others keep what they have.
    if (kind !== FlagKind.LOGIC) {
      // Bound, for a source may be one of the variables.
      const [left, right] = [f.let(a), f.let(b)];
      f.set(variables.a, left);
      f.set(variables.b, right);
    }
    f.set(variables.result, result);
    this.nowKnown({ kind, bits });
  }

  /** Puts the flags into the vCPU's block, where everybody else looks for them. */
  settle(): void {
    const known = this.current();
    const { c, variables } = this;
    if (isStored(known)) return;
    if (known === null) c.f.if(variables.which, this.settleRoutine);
    else {
      const { kind, bits, rotation, perhaps } = known;
      const store = (): void => {
        if (kind !== 0) {
          storeFlags(c, kind, bits, variables.a, variables.b, variables.result);
          this.nothingUnsettled();
        }
        if (rotation === undefined) return;
        const { carry, overflow } = this.rotationOf(rotation);
        super.setCarryOverflow(carry, overflow);
      };
      if (perhaps) c.f.if(variables.which, store);
      else store();
    }
    c.f.set(variables.which, i32.const(0));
    this.nowKnown(STORED);
  }

  /**
   * On a way out of the function, after which other code goes on with the flags as they were before: leaves them where
   * SETTLE finds them. False: only the run knows what there is to leave (FlagVariables.handOver).
   */
  leaveUnsettled(): boolean {
    const known = this.current();
    const { c, variables } = this;
    if (isStored(known)) return true;
    if (known === null || known.perhaps || known.kind === 0) return false;
    const { kind, bits, rotation } = known;
    const number = numberOf(kind, bits) | (rotation === undefined ? 0 : numberOfRotation(rotation));
    c.setField32(Unsettled.WHICH, i32.const(number));
    if (kind !== FlagKind.LOGIC) {
      c.setField64(Unsettled.A, variables.a);
      c.setField64(Unsettled.B, variables.b);
    }
    c.setField64(Unsettled.RESULT, variables.result);
    if (rotation !== undefined) c.setField64(Unsettled.ROTATED, variables.rotated);
    return true;
  }

  override setRotation(left: boolean, bits: number, result: I64): void {
    const { f } = this.c;
    const { which, rotated } = this.variables;
    const rotation = { left, bits };
    const number = numberOfRotation(rotation);
    const known = this.current();
    // What it leaves as it is may be in the block, and is to be found there when there is but the rotation to settle.
    if (known === null || known.perhaps || known.kind === 0) this.settleStored();
    f.set(rotated, result);
    if (known === null || known.perhaps) {
      f.set(which, i32.or(i32.and(which, OPERATION_MASK), number));
      if (f.nesting === this.depth) this.variables.known = null;
      else this.nestedWrite = true;
      this.nested = null;
      return;
    }
    f.set(which, i32.const((known.kind === 0 ? 0 : numberOf(known.kind, known.bits)) | number));
    this.nowKnown({ ...known, rotation });
  }

  override setCarryOverflow(carry: I64, overflow: I64): void {
    this.settle();
    super.setCarryOverflow(carry, overflow);
  }

  override setWord(word: I32): void {
    super.setWord(word);
    this.c.f.set(this.variables.which, i32.const(0));
    this.nowKnown(STORED);
  }

  override word(): I32 {
    this.settle();
    return super.word();
  }

  override carry(): I64 {
    const known = this.current();
    if (known === null || known.perhaps) return this.carryAtRunTime();
    if (known.rotation !== undefined) return this.rotationOf(known.rotation).carry;
    if (known.kind === 0) return super.carry();
    return this.carryOf(known);
  }

  private rotationOf({ left, bits }: Rotation): { carry: I64; overflow: I64 } {
    return rotationFlags(this.c, left, bits, this.variables.rotated);
  }

  private carryOf(known: KnownFlags): I64 {
    const { b, a } = this.variables;
    if (known.kind === FlagKind.INCREMENT || known.kind === FlagKind.DECREMENT) return b;
    if (known.kind === FlagKind.RESULT) return a;
    return i64.extend_u(this.testOf(known, 1));
  }

  /** INC and DEC in a loop pass CF on: that case without settling. */
  private carryAtRunTime(): I64 {
    const { f } = this.c;
    const { which, b } = this.variables;
    const carry = f.local('i64');
    const operation = i32.shr_u(which, 2);
    const passes = i32.or(i32.eq(operation, FlagKind.INCREMENT), i32.eq(operation, FlagKind.DECREMENT));
    f.if(
      passes,
      () => f.set(carry, b),
      () => {
        f.if(which, this.settleRoutine);
        f.set(carry, super.carry());
      },
    );
    return carry;
  }

  override overflow(): I64 {
    const known = this.current();
    if (known === null || known.perhaps) {
      this.settle();
      return super.overflow();
    }
    if (known.rotation !== undefined) return this.rotationOf(known.rotation).overflow;
    if (known.kind !== 0) return i64.extend_u(this.testOf(known, 0));
    this.settle();
    return super.overflow();
  }

  protected override test(code: number): I32 {
    const known = this.current();
    // After a rotation what it has not changed is read as before it.
    const rotated = known?.rotation !== undefined && ![2, 4, 5].includes(code);
    if (known !== null && known.kind !== 0 && !rotated) {
      if (!known.perhaps) return this.testOf(known, code);
      const { f } = this.c;
      const result = f.local('i32');
      f.if(
        this.variables.which,
        () => f.set(result, this.testOf(known, code)),
        () => {
          this.nested = { known: STORED, scopes: f.scopes };
          f.set(result, super.test(code));
        },
      );
      return result;
    }
    this.settle();
    return super.test(code);
  }

  private testOf({ kind, bits }: KnownFlags, code: number): I32 {
    const { c } = this;
    const { a, b, result } = this.variables;
    const compare = comparisons(bits);
    const negative = (value: I64): I32 => compare.lt_s(value, i64.const(0));
    const zero = (): I32 => compare.eq(result, i64.const(0));
    const sign = (): I32 => negative(result);
    const carry = (): I32 => {
      switch (kind) {
        case FlagKind.ADD:
          return compare.lt_u(result, a);
        case FlagKind.SUBTRACT:
          return compare.lt_u(a, b);
        case FlagKind.ADD_CARRY:
          return negative(sumCarries(a, b, result));
        case FlagKind.SUBTRACT_BORROW:
          return negative(differenceBorrows(a, b, result));
        case FlagKind.LOGIC:
          return i32.const(0);
        case FlagKind.RESULT:
          return i32.wrap(a);
        case FlagKind.MULTIPLY:
          return productOverflows(c, bits, a, b, result);
        default:
          return i32.wrap(b);
      }
    };
    const overflow = (): I32 => {
      switch (kind) {
        case FlagKind.ADD:
        case FlagKind.ADD_CARRY:
          return negative(i64.and(i64.xor(a, result), i64.xor(b, result)));
        case FlagKind.SUBTRACT:
        case FlagKind.SUBTRACT_BORROW:
          return negative(i64.and(i64.xor(a, b), i64.xor(a, result)));
        case FlagKind.LOGIC:
          return i32.const(0);
        case FlagKind.INCREMENT:
          return negative(i64.and(i64.xor(a, -1), result));
        case FlagKind.DECREMENT:
          return negative(i64.and(a, i64.xor(result, -1)));
        case FlagKind.RESULT:
          return i32.wrap(b);
        default:
          return productOverflows(c, bits, a, b, result);
      }
    };
    const subtraction = kind === FlagKind.SUBTRACT;
    switch (code) {
      case 0:
        return overflow();
      case 1:
        return carry();
      case 2:
        return subtraction ? compare.eq(a, b) : zero();
      case 3:
        if (subtraction) return compare.le_u(a, b);
        return kind === FlagKind.LOGIC ? zero() : i32.or(carry(), zero());
      case 4:
        return sign();
      case 5:
        return i32.and(i32.xor(i32.popcnt(i32.and(i32.wrap(result), 0xff)), 1), 1);
      case 6:
        if (subtraction) return compare.lt_s(a, b);
        return kind === FlagKind.LOGIC ? sign() : i32.xor(sign(), overflow());
      default:
        if (subtraction) return compare.le_s(a, b);
        if (kind === FlagKind.LOGIC) return compare.le_s(result, i64.const(0));
        return i32.or(i32.xor(sign(), overflow()), zero());
    }
  }
}

type Compare = (a: I64, b: I64) => I32;

/** Comparisons of the low `bits` of two values, whatever is above. */
function comparisons(bits: number): Record<'eq' | 'lt_u' | 'le_u' | 'lt_s' | 'le_s', Compare> {
  if (bits === 64) return i64;
  // Narrow values go to the top of 32 bits, where signs and carries are.
  const part = (value: I64): I32 =>
    bits === 32 ? i32.wrap(value) : i32.shl(i32.wrap(value), i32.const(32 - bits));
  const of =
    (operation: (a: I32, b: I32) => I32): Compare =>
    (a, b) =>
      operation(part(a), part(b));
  return {
    eq: of(i32.eq),
    lt_u: of(i32.lt_u),
    le_u: of(i32.le_u),
    lt_s: of(i32.lt_s),
    le_s: of(i32.le_s),
  };
}
