import { i32, i64, select, type I32, type I64 } from '../../wasm/expression.ts';
import type { LibraryRoutine } from '../semantics.ts';
import { routine } from './soft-arithmetic.ts';
import {
  DOUBLE,
  infinity,
  Mxcsr,
  quietBit,
  Rounding,
  signMask,
  SINGLE,
  type Format,
  type SoftFloat,
} from './soft-float.ts';

/** The routines that convert between the formats and integers, and round to integers. */

/** widen (s, binary32): the same number as binary64. */
function widen(soft: SoftFloat, _format: Format, a: I64): void {
  const { f } = soft;
  const shift = DOUBLE.fraction - SINGLE.fraction;
  const x = soft.flushInput(SINGLE, a);
  const sign = f.let(i64.shl(i64.and(x, signMask(SINGLE)), 32));
  const magnitude = f.let(soft.magnitude(SINGLE, x));
  f.if(i64.ge_u(magnitude, infinity(SINGLE)), () => {
    soft.raiseIf(soft.isSignalling(SINGLE, x), Mxcsr.IE);
    const quiet = i64.shl(i64.extend_u(soft.isNaN(SINGLE, x)), DOUBLE.fraction - 1);
    const payload = i64.or(i64.shl(magnitude, shift), quiet);
    soft.finish(i64.or(sign, i64.or(payload, infinity(DOUBLE))));
  });
  f.if(i64.eqz(magnitude), () => soft.finish(sign));
  soft.raiseDenormal(SINGLE, x);
  const number = soft.unpack(SINGLE, x);
  const exponent = i64.extend_s(i32.add(number.exponent, DOUBLE.bias - SINGLE.bias - 1));
  const packed = i64.add(i64.shl(exponent, DOUBLE.fraction), i64.shr_u(number.significand, 10));
  soft.finish(i64.or(sign, packed));
}

/** narrow (s, binary64): the number rounded to binary32. */
function narrow(soft: SoftFloat, _format: Format, a: I64): void {
  const { f } = soft;
  const shift = DOUBLE.fraction - SINGLE.fraction;
  const x = soft.flushInput(DOUBLE, a);
  const sign = f.let(i64.shr_u(i64.and(x, signMask(DOUBLE)), 32));
  const magnitude = f.let(soft.magnitude(DOUBLE, x));
  f.if(i64.ge_u(magnitude, infinity(DOUBLE)), () => {
    const isNaN = f.let(soft.isNaN(DOUBLE, x));
    soft.raiseIf(soft.isSignalling(DOUBLE, x), Mxcsr.IE);
    const payload = i64.and(i64.shr_u(magnitude, shift), quietBit(SINGLE) - 1n);
    const quiet = select(isNaN, i64.or(payload, quietBit(SINGLE)), i64.const(0));
    soft.finish(i64.or(i64.or(sign, infinity(SINGLE)), quiet));
  });
  f.if(i64.eqz(magnitude), () => soft.finish(sign));
  soft.raiseDenormal(DOUBLE, x);
  const number = soft.unpack(DOUBLE, x);
  f.set(number.exponent, i32.sub(number.exponent, DOUBLE.bias - SINGLE.bias));
  soft.round(SINGLE, number);
}

/** fromInteger (s, signed 64-bit integer): the number rounded to the format. */
function fromInteger(soft: SoftFloat, format: Format, value: I64): void {
  const { f } = soft;
  f.if(i64.eqz(value), () => soft.finish(i64.const(0)));
  const number = {
    sign: f.local('i64'),
    exponent: f.local('i32'),
    significand: f.local('i64'),
  };
  f.set(number.sign, i64.shr_u(value, 63));
  f.set(number.significand, select(i64.lt_s(value, 0), i64.sub(i64.const(0), value), value));
  f.set(number.exponent, i32.const(format.bias + 62));
  // The least integer has the magnitude 2^63, which is one too many for bit 62.
  f.if(i64.lt_s(number.significand, 0), () => {
    f.set(number.significand, i64.const(1n << 62n));
    f.set(number.exponent, i32.const(format.bias + 63));
  });
  soft.normalize(number);
  soft.round(format, number);
}

/**
 * The integer part of a finite magnitude and its fraction as 64 bits below the point, of which the lowest is
 * sticky; and whether rounding takes the integer up. The exponent must be below 63.
 */
function split(soft: SoftFloat, significand: I64, power: I32, sign: I64, mode: I32) {
  const { f } = soft;
  const whole = f.local('i64');
  const fraction = f.local('i64');
  const shift = f.let(i64.extend_s(i32.sub(i32.const(62), power)));
  f.set(whole, i64.const(0));
  f.if(
    i64.le_s(shift, 63),
    () => {
      f.set(whole, i64.shr_u(significand, shift));
      const below = i64.shl(significand, i64.sub(i64.const(64), shift));
      f.set(fraction, select(i64.eqz(shift), i64.const(0), below));
    },
    () => f.set(fraction, i64.extend_u(i64.ne(significand, 0))),
  );
  const half = 1n << 63n;
  const nearest = i32.or(i64.gt_u(fraction, half), i32.and(i64.eq(fraction, half), i32.wrap(whole)));
  const inexact = f.let(i64.ne(fraction, 0));
  // Away from zero: down for negative numbers, up for positive ones.
  const away = i32.and(i32.eq(i32.add(mode, i32.wrap(sign)), Rounding.UP), inexact);
  const up = f.let(i64.extend_u(i32.and(select(i32.eqz(mode), nearest, away), 1)));
  return { whole, inexact, up };
}

/** toInteger (s, number, mode): as a signed integer of `width` bits; what does not fit gives the least one. */
const toInteger =
  (width: 32 | 64) =>
  (soft: SoftFloat, format: Format, a: I64, wideMode: I64): void => {
    const { f } = soft;
    const mode = f.let(i32.wrap(wideMode));
    const indefinite = i64.const(1n << BigInt(width - 1));
    const outside = (): void => {
      soft.raise(Mxcsr.IE);
      soft.finish(indefinite);
    };
    const x = soft.flushInput(format, a);
    const number = soft.unpack(format, x);
    const power = f.let(i32.sub(number.exponent, format.bias));
    f.if(i32.ge_s(power, 63), () => {
      // -2^63 fits; it is equal to the indefinite integer.
      const least = i64.eq(x, signMask(format) | (BigInt(63 + format.bias) << BigInt(format.fraction)));
      if (width === 64) f.if(least, () => soft.finish(indefinite));
      outside();
    });
    const { whole, inexact, up } = split(soft, number.significand, power, number.sign, mode);
    const rounded = f.let(i64.add(whole, up));
    const limit = i64.add(number.sign, (1n << BigInt(width - 1)) - 1n);
    f.if(i64.gt_u(rounded, limit), outside);
    soft.raiseIf(inexact, Mxcsr.PE);
    const negated = select(i32.wrap(number.sign), i64.sub(i64.const(0), rounded), rounded);
    soft.finish(width === 64 ? negated : i64.and(negated, 0xffffffff));
  };

/** roundInteger (s, number, mode): to an integer in the format. Bit 3 of the mode: do not report PE. */
function roundInteger(soft: SoftFloat, format: Format, a: I64, wideMode: I64): void {
  const { f } = soft;
  const mode = f.let(i32.and(i32.wrap(wideMode), 3));
  soft.propagateNaN(format, a);
  const x = soft.flushInput(format, a);
  const number = soft.unpack(format, x);
  const power = f.let(i32.sub(number.exponent, format.bias));
  f.if(i32.or(i32.ge_s(power, format.fraction), i64.eqz(number.significand)), () => soft.finish(x));
  const { whole, inexact, up } = split(soft, number.significand, power, number.sign, mode);
  const reported = i64.eqz(i64.and(wideMode, 8));
  soft.raiseIf(i32.and(inexact, reported), Mxcsr.PE);
  f.set(number.significand, i64.add(whole, up));
  const sign = f.let(i64.and(x, signMask(format)));
  f.if(i64.eqz(number.significand), () => soft.finish(sign));
  // An integer below 2^53 (2^24) converts back exactly.
  const zeros = f.let(i64.clz(number.significand));
  const exponent = i64.sub(i64.const(format.bias + 62), zeros);
  const fraction = i64.shr_u(i64.shl(number.significand, zeros), 63 - format.fraction);
  soft.finish(i64.or(sign, i64.add(i64.shl(exponent, format.fraction), fraction)));
}

export const convertRoutines: Record<string, LibraryRoutine> = {
  widen: routine(SINGLE, 1, widen),
  narrow: routine(DOUBLE, 1, narrow),
  ...Object.fromEntries(
    [SINGLE, DOUBLE].flatMap((format) => [
      [`fromInteger${format.bits}`, routine(format, 1, fromInteger)],
      [`toInt32From${format.bits}`, routine(format, 2, toInteger(32))],
      [`toInt64From${format.bits}`, routine(format, 2, toInteger(64))],
      [`roundInteger${format.bits}`, routine(format, 2, roundInteger)],
    ]),
  ),
};
