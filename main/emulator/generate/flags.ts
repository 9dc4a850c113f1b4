import { Field } from '../state.ts';
import { i32, i64, type I32, type I64 } from '../wasm/expression.ts';
import { cut, extend } from './bits.ts';
import type { Emitter } from './emitter.ts';
import { SETTLE, Unsettled } from './unsettled.ts';

/** Bits of RFLAGS. */
export const Flag = {
  CF: 1,
  PF: 4,
  AF: 0x10,
  ZF: 0x40,
  SF: 0x80,
  TF: 0x100,
  IF: 0x200,
  DF: 0x400,
  OF: 0x800,
} as const;
/** CF, PF, AF, ZF, SF, OF. */
export const ARITHMETIC_FLAGS = 0x8d5;

/** What an operation that sets all six flags was: how they follow from its operands a, b and its result. */
export const FlagKind = {
  /** a + b */
  ADD: 1,
  /** a - b */
  SUBTRACT: 2,
  /** a + b + CF */
  ADD_CARRY: 3,
  /** a - b - CF */
  SUBTRACT_BORROW: 4,
  /** AND and the like: CF = OF = AF = 0. */
  LOGIC: 5,
  /** a + 1; CF, which stays, is b. */
  INCREMENT: 6,
  /** a - 1; CF, which stays, is b. */
  DECREMENT: 7,
  /** SF, ZF and PF of the result; CF is a, OF is b, AF is 0. */
  RESULT: 8,
  /** The signed product of a and b, which are sign-extended: CF = OF tell that it doesn't fit; AF is 0. */
  MULTIPLY: 9,
} as const;

/** Carries out of each bit of a + b (+ carry) = result. */
export function sumCarries(a: I64, b: I64, result: I64): I64 {
  return i64.or(i64.and(a, b), i64.and(i64.or(a, b), i64.xor(result, -1)));
}

/** Borrows out of each bit of a - b (- borrow) = result. */
export function differenceBorrows(a: I64, b: I64, result: I64): I64 {
  const notA = i64.xor(a, -1);
  return i64.or(i64.and(notA, b), i64.and(i64.or(notA, b), result));
}

function align(bits: number, carries: I64): I64 {
  return bits === 64 ? carries : i64.shl(carries, 64 - bits);
}

/** FLAG_CARRY of CF and OF, as 64-bit 0 or 1; both are bound values. */
function carryWord(carry: I64, overflow: I64): I64 {
  return i64.or(i64.shl(carry, 63), i64.shl(i64.xor(carry, overflow), 62));
}

/** CF (0 or 1) and OF of a step by one, of which CF is no part. */
function stepWord(c: Emitter, bits: number, carries: I64, carry: I64): I64 {
  const vector = c.f.let(align(bits, carries));
  return carryWord(carry, i64.shr_u(i64.xor(vector, i64.shl(vector, 1)), 63));
}

/** Whether a signed product has more than its low `bits`. */
export function productOverflows(c: Emitter, bits: number, a: I64, b: I64, product: I64): I32 {
  if (bits < 64) return i64.ne(extend(bits, product), product);
  return i64.ne(c.call('multiplyHighSigned', 'i64', a, b), i64.shr_s(product, 63));
}

/** CF and OF (0 or 1) of a rotation, from its result: OF as for a count of 1 (SDM vol. 2, ROL). */
export function rotationFlags(
  c: Emitter,
  left: boolean,
  bits: number,
  result: I64,
): { carry: I64; overflow: I64 } {
  const bit = (n: number): I64 => i64.and(i64.shr_u(result, n), 1);
  const carry = c.f.let(left ? bit(0) : bit(bits - 1));
  return { carry, overflow: c.f.let(i64.xor(left ? bit(bits - 1) : bit(bits - 2), carry)) };
}

/** Stores what an operation did to the flags in the form that any reader understands: the fields FLAG_*. */
export function storeFlags(c: Emitter, kind: number, bits: number, a: I64, b: I64, result: I64): void {
  const one = i64.const(1);
  const auxiliary = (x: I64, y: I64): I32 => i32.and(i32.wrap(i64.xor(i64.xor(x, y), result)), Flag.AF);
  const none = i32.const(0);
  const store = (carry: I64, aux: I32): void => {
    c.setField64(Field.FLAG_CARRY, carry);
    c.setField64(Field.FLAG_RESULT, extend(bits, result));
    c.setField32(Field.FLAG_AUX, aux);
  };
  switch (kind) {
    case FlagKind.ADD:
    case FlagKind.ADD_CARRY:
      return store(align(bits, sumCarries(a, b, result)), auxiliary(a, b));
    case FlagKind.SUBTRACT:
    case FlagKind.SUBTRACT_BORROW:
      return store(align(bits, differenceBorrows(a, b, result)), auxiliary(a, b));
    case FlagKind.LOGIC:
      return store(i64.const(0), none);
    case FlagKind.INCREMENT:
      return store(stepWord(c, bits, sumCarries(a, one, result), b), auxiliary(a, one));
    case FlagKind.DECREMENT:
      return store(stepWord(c, bits, differenceBorrows(a, one, result), b), auxiliary(a, one));
    case FlagKind.RESULT:
      return store(carryWord(a, b), none);
    case FlagKind.MULTIPLY:
      return store(i64.shl(i64.extend_u(productOverflows(c, bits, a, b, result)), 63), none);
    default:
      throw new RangeError(`no operation ${kind} sets flags`);
  }
}

/**
 * The six arithmetic flags, kept so that no reader needs to know which operation set them (Field.FLAG_*):
 * the sign-extended result, the vector of carries out of each bit (left-aligned), and AF beside corrections.
 * Storing costs a few operations; each flag is read in two or three. Values that are given are bound; bits
 * above the operands' size do not matter.
 */
export class Flags {
  protected readonly c: Emitter;

  constructor(c: Emitter) {
    this.c = c;
  }

  /** Where flags were settled last: until a scope opens or closes nothing unsettles them. */
  private settledAt = -1;

  /** Before the fields FLAG_* are read, or written in part. */
  protected settleStored(): void {
    const { c } = this;
    const { f } = c;
    if (this.settledAt === f.scopes) return;
    f.if(c.field32(Unsettled.WHICH), () => c.callVoid(SETTLE, c.s));
    this.settledAt = f.scopes;
  }

  /** After all of them were written. */
  protected nothingUnsettled(): void {
    this.c.setField32(Unsettled.WHICH, i32.const(0));
  }

  /** All six, by what kind of operation set them (FlagKind). */
  set(kind: number, bits: number, a: I64, b: I64, result: I64): void {
    storeFlags(this.c, kind, bits, a, b, result);
    this.nothingUnsettled();
  }

  /** CF and OF alone, as 64-bit 0 or 1. */
  setCarryOverflow(carry: I64, overflow: I64): void {
    this.settleStored();
    this.c.setField64(Field.FLAG_CARRY, carryWord(carry, overflow));
  }

  /** CF and OF after a rotation, by its result (bound). */
  setRotation(left: boolean, bits: number, result: I64): void {
    const { carry, overflow } = rotationFlags(this.c, left, bits, result);
    this.setCarryOverflow(carry, overflow);
  }

  /** All six from a word in the form of RFLAGS; its other bits are ignored. */
  setWord(word: I32): void {
    const { c } = this;
    const bit = (shift: number): I32 => i32.and(i32.shr_u(word, shift), 1);
    c.setField64(Field.FLAG_RESULT, i64.extend_u(i32.xor(bit(6), 1)));
    // With RESULT 0 or 1, PF would be equal to ZF: the parity correction makes it what is wanted.
    const parity = i32.shl(i32.xor(bit(2), bit(6)), 8);
    c.setField32(Field.FLAG_AUX, i32.or(i32.or(i32.and(word, Flag.AF), parity), i32.shl(bit(7), 31)));
    c.setField64(Field.FLAG_CARRY, carryWord(i64.extend_u(bit(0)), i64.extend_u(bit(11))));
    this.nothingUnsettled();
  }

  /** CF as 0 or 1. */
  carry(): I64 {
    this.settleStored();
    return i64.shr_u(this.c.field64(Field.FLAG_CARRY), 63);
  }

  overflow(): I64 {
    this.settleStored();
    const vector = this.c.f.let(this.c.field64(Field.FLAG_CARRY));
    return i64.shr_u(i64.xor(vector, i64.shl(vector, 1)), 63);
  }

  /** Conditions by their code's upper three bits: O, B, E, BE, S, P, L, LE, as 0 or 1. */
  protected test(code: number): I32 {
    const { c } = this;
    this.settleStored();
    const carry = (): I32 => i64.lt_s(c.field64(Field.FLAG_CARRY), 0);
    const zero = (): I32 => i64.eqz(c.field64(Field.FLAG_RESULT));
    const overflow = (): I32 => i32.wrap(this.overflow());
    const sign = (): I32 =>
      i32.xor(
        i32.wrap(i64.shr_u(c.field64(Field.FLAG_RESULT), 63)),
        i32.shr_u(c.field32(Field.FLAG_AUX), 31),
      );
    switch (code) {
      case 0:
        return overflow();
      case 1:
        return carry();
      case 2:
        return zero();
      case 3:
        return i32.or(carry(), zero());
      case 4:
        return sign();
      case 5: {
        const low = i32.xor(i32.load(c.s, Field.FLAG_RESULT), i32.shr_u(c.field32(Field.FLAG_AUX), 8));
        return i32.and(i32.xor(i32.popcnt(i32.and(low, 0xff)), 1), 1);
      }
      case 6:
        return i32.xor(sign(), overflow());
      default:
        return i32.or(i32.xor(sign(), overflow()), zero());
    }
  }

  /** Condition code 0-15 (SDM vol. 1, appendix B) as 0 or 1. */
  condition(code: number): I32 {
    const value = this.test(code >> 1);
    return code & 1 ? i32.eqz(value) : value;
  }

  /** All six in their places in RFLAGS. */
  word(): I32 {
    const bit = (code: number, shift: number): I32 => i32.shl(this.test(code), shift);
    const af = i32.and(this.c.field32(Field.FLAG_AUX), Flag.AF);
    const low = i32.or(i32.or(this.test(1), bit(5, 2)), af);
    return i32.or(i32.or(low, bit(2, 6)), i32.or(bit(4, 7), bit(0, 11)));
  }
}

// ---- What instructions say --------------------------------------------------------------------------------

/** Flags of result = a + b. The three are bound values; bits above the size do not matter. */
export function flagsAdd(c: Emitter, bits: number, a: I64, b: I64, result: I64): void {
  c.flags.set(FlagKind.ADD, bits, a, b, result);
}

/** Flags of result = a - b. */
export function flagsSubtract(c: Emitter, bits: number, a: I64, b: I64, result: I64): void {
  c.flags.set(FlagKind.SUBTRACT, bits, a, b, result);
}

/** Flags of result = a + b + CF. */
export function flagsAddCarry(c: Emitter, bits: number, a: I64, b: I64, result: I64): void {
  c.flags.set(FlagKind.ADD_CARRY, bits, a, b, result);
}

/** Flags of result = a - b - CF. */
export function flagsSubtractBorrow(c: Emitter, bits: number, a: I64, b: I64, result: I64): void {
  c.flags.set(FlagKind.SUBTRACT_BORROW, bits, a, b, result);
}

/** INC and DEC: like adding or subtracting 1, but CF stays. */
export function flagsStep(c: Emitter, bits: number, a: I64, result: I64, up: boolean): void {
  const carry = c.f.let(c.flags.carry());
  c.flags.set(up ? FlagKind.INCREMENT : FlagKind.DECREMENT, bits, a, carry, result);
}

/** AND, OR, XOR, TEST: CF = OF = 0; AF is undefined and 0 here. */
export function flagsLogic(c: Emitter, bits: number, result: I64): void {
  c.flags.set(FlagKind.LOGIC, bits, result, result, result);
}

/** SF, ZF, PF of a result with CF and OF given as 0 or 1 (64-bit); AF = 0. */
export function flagsResult(c: Emitter, bits: number, result: I64, carry: I64, overflow: I64): void {
  c.flags.set(FlagKind.RESULT, bits, carry, overflow, result);
}

/** CF and OF alone, as 64-bit 0 or 1; both are bound values. */
export function setCarryOverflow(c: Emitter, carry: I64, overflow: I64): void {
  c.flags.setCarryOverflow(carry, overflow);
}

/** CF as 0 or 1. */
export function carryFlag(c: Emitter): I64 {
  return c.flags.carry();
}

/** Sets CF (64-bit 0 or 1, bound) and keeps OF. */
export function setCarry(c: Emitter, carry: I64): void {
  c.flags.setCarryOverflow(carry, c.f.let(c.flags.overflow()));
}

/** Condition code 0-15 (SDM vol. 1, appendix B) as 0 or 1. */
export function condition(c: Emitter, code: number): I32 {
  return c.flags.condition(code);
}

/** All six flags in their places in RFLAGS. */
export function arithmeticFlags(c: Emitter): I32 {
  return c.flags.word();
}

/** Sets all six from a word in the form of RFLAGS (bound; other bits are ignored). */
export function setArithmeticFlags(c: Emitter, word: I32): void {
  c.flags.setWord(word);
}

/** ZF alone (a bound 0 or 1). */
export function setZero(c: Emitter, zero: I32): void {
  const others = i32.and(arithmeticFlags(c), ~Flag.ZF);
  setArithmeticFlags(c, c.f.let(i32.or(others, i32.shl(zero, 6))));
}

export { cut, extend };
