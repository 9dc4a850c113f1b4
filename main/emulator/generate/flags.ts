import { Field } from '../state.ts';
import { i32, i64, type I32, type I64 } from '../wasm/expression.ts';
import { cut, extend, type Emitter } from './emitter.ts';

/**
 * The six arithmetic flags, kept so that no reader needs to know which operation set them (Field.FLAG_*):
 * the sign-extended result, the vector of carries out of each bit (left-aligned), and AF beside corrections.
 * Storing costs a few operations; each flag is read in two or three.
 */

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

function setResult(c: Emitter, bits: number, result: I64): void {
  c.setField64(Field.FLAG_RESULT, extend(bits, result));
}

function setAux(c: Emitter, a: I64, b: I64, result: I64): void {
  c.setField32(Field.FLAG_AUX, i32.and(i32.wrap(i64.xor(i64.xor(a, b), result)), 0x10));
}

function align(bits: number, carries: I64): I64 {
  return bits === 64 ? carries : i64.shl(carries, 64 - bits);
}

/** Carries out of each bit of a + b (+ carry) = result. */
function sumCarries(a: I64, b: I64, result: I64): I64 {
  return i64.or(i64.and(a, b), i64.and(i64.or(a, b), i64.xor(result, -1)));
}

/** Borrows out of each bit of a - b (- borrow) = result. */
function differenceBorrows(a: I64, b: I64, result: I64): I64 {
  const notA = i64.xor(a, -1);
  return i64.or(i64.and(notA, b), i64.and(i64.or(notA, b), result));
}

/** Flags of result = a + b or a + b + CF. The three are bound values; bits above the size do not matter. */
export function flagsAdd(c: Emitter, bits: number, a: I64, b: I64, result: I64): void {
  setResult(c, bits, result);
  c.setField64(Field.FLAG_CARRY, align(bits, sumCarries(a, b, result)));
  setAux(c, a, b, result);
}

/** Flags of result = a - b or a - b - CF. */
export function flagsSubtract(c: Emitter, bits: number, a: I64, b: I64, result: I64): void {
  setResult(c, bits, result);
  c.setField64(Field.FLAG_CARRY, align(bits, differenceBorrows(a, b, result)));
  setAux(c, a, b, result);
}

/** INC and DEC: like adding or subtracting 1, but CF stays. */
export function flagsStep(c: Emitter, bits: number, a: I64, result: I64, up: boolean): void {
  const carries = up ? sumCarries(a, i64.const(1), result) : differenceBorrows(a, i64.const(1), result);
  const vector = c.f.let(align(bits, carries));
  const overflow = i64.shr_u(i64.xor(vector, i64.shl(vector, 1)), 63);
  const old = c.f.let(c.field64(Field.FLAG_CARRY));
  const carry = c.f.let(i64.shr_u(old, 63));
  c.setField64(Field.FLAG_CARRY, i64.or(i64.shl(carry, 63), i64.shl(i64.xor(carry, overflow), 62)));
  setResult(c, bits, result);
  setAux(c, a, i64.const(1), result);
}

/** AND, OR, XOR, TEST: CF = OF = 0; AF is undefined and 0 here. */
export function flagsLogic(c: Emitter, bits: number, result: I64): void {
  setResult(c, bits, result);
  c.setField64(Field.FLAG_CARRY, i64.const(0));
  c.setField32(Field.FLAG_AUX, i32.const(0));
}

/** SF, ZF, PF of a result with CF and OF given as 0 or 1 (64-bit); AF = 0. */
export function flagsResult(c: Emitter, bits: number, result: I64, carry: I64, overflow: I64): void {
  setResult(c, bits, result);
  setCarryOverflow(c, carry, overflow);
  c.setField32(Field.FLAG_AUX, i32.const(0));
}

/** CF and OF alone, as 64-bit 0 or 1; both are bound values. */
export function setCarryOverflow(c: Emitter, carry: I64, overflow: I64): void {
  c.setField64(Field.FLAG_CARRY, i64.or(i64.shl(carry, 63), i64.shl(i64.xor(carry, overflow), 62)));
}

/** CF as 0 or 1. */
export function carryFlag(c: Emitter): I64 {
  return i64.shr_u(c.field64(Field.FLAG_CARRY), 63);
}

/** Sets CF (64-bit 0 or 1, bound) and keeps OF. */
export function setCarry(c: Emitter, carry: I64): void {
  setCarryOverflow(c, carry, c.f.let(overflowFlag(c)));
}

export function overflowFlag(c: Emitter): I64 {
  const vector = c.f.let(c.field64(Field.FLAG_CARRY));
  return i64.shr_u(i64.xor(vector, i64.shl(vector, 1)), 63);
}

const isCarry = (c: Emitter): I32 => i64.lt_s(c.field64(Field.FLAG_CARRY), 0);
const isZero = (c: Emitter): I32 => i64.eqz(c.field64(Field.FLAG_RESULT));
const isOverflow = (c: Emitter): I32 => i32.wrap(overflowFlag(c));
const isSign = (c: Emitter): I32 =>
  i32.xor(i32.wrap(i64.shr_u(c.field64(Field.FLAG_RESULT), 63)), i32.shr_u(c.field32(Field.FLAG_AUX), 31));
const isParity = (c: Emitter): I32 => {
  const low = i32.xor(i32.load(c.s, Field.FLAG_RESULT), i32.shr_u(c.field32(Field.FLAG_AUX), 8));
  return i32.and(i32.xor(i32.popcnt(i32.and(low, 0xff)), 1), 1);
};

/** Condition code 0-15 (SDM vol. 1, appendix B) as 0 or 1. */
export function condition(c: Emitter, code: number): I32 {
  const value = [
    () => isOverflow(c),
    () => isCarry(c),
    () => isZero(c),
    () => i32.or(isCarry(c), isZero(c)),
    () => isSign(c),
    () => isParity(c),
    () => i32.xor(isSign(c), isOverflow(c)),
    () => i32.or(i32.xor(isSign(c), isOverflow(c)), isZero(c)),
  ][code >> 1]();
  return code & 1 ? i32.eqz(value) : value;
}

/** All six flags in their places in RFLAGS. */
export function arithmeticFlags(c: Emitter): I32 {
  const bit = (value: I32, shift: number): I32 => i32.shl(value, shift);
  const af = i32.and(c.field32(Field.FLAG_AUX), Flag.AF);
  const low = i32.or(i32.or(isCarry(c), bit(isParity(c), 2)), af);
  return i32.or(i32.or(low, bit(isZero(c), 6)), i32.or(bit(isSign(c), 7), bit(isOverflow(c), 11)));
}

/** Sets all six from a word in the form of RFLAGS (bound; other bits are ignored). */
export function setArithmeticFlags(c: Emitter, word: I32): void {
  const bit = (shift: number): I32 => i32.and(i32.shr_u(word, shift), 1);
  c.setField64(Field.FLAG_RESULT, i64.extend_u(i32.xor(bit(6), 1)));
  // With RESULT 0 or 1, PF would be equal to ZF: the parity correction makes it what is wanted.
  const parity = i32.shl(i32.xor(bit(2), bit(6)), 8);
  c.setField32(Field.FLAG_AUX, i32.or(i32.or(i32.and(word, Flag.AF), parity), i32.shl(bit(7), 31)));
  setCarryOverflow(c, i64.extend_u(bit(0)), i64.extend_u(bit(11)));
}

/** ZF alone (a bound 0 or 1). */
export function setZero(c: Emitter, zero: I32): void {
  const others = i32.and(arithmeticFlags(c), ~Flag.ZF);
  setArithmeticFlags(c, c.f.let(i32.or(others, i32.shl(zero, 6))));
}

export { cut, extend };
