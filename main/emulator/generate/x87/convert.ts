import { i32, i64, select, type I32, type I64, type Local } from '../../wasm/expression.ts';
import type { LibraryRoutine } from '../semantics.ts';
import {
  BIAS,
  INTEGER_BIT,
  type Parts,
  real,
  realZero,
  Rounding,
  type Routine,
  routine,
  Scratch,
  SIGN,
  SPECIAL,
  Status,
  ZERO128,
  ZERO64,
} from './format.ts';

/** Conversions from and to the formats of memory, and rounding to an integer. */

/** (s, bits): binary32 or binary64, exactly; signalling NaNs stay so. Raises DE for denormals. */
function fromFormat(fraction: number, exponentBits: number): LibraryRoutine {
  const bits = 1 + exponentBits + fraction;
  const special = 2 ** exponentBits - 1;
  const rebias = BIAS - (special >> 1);
  return routine(['i64'], 'v128', (r, f) => {
    const value = f.parameter('i64', 1);
    const sign = f.let(i32.and(i32.wrap(i64.shr_u(value, bits - 16)), SIGN));
    const exponent = f.let(i32.and(i32.wrap(i64.shr_u(value, fraction)), special));
    const significand = f.let(i64.shl(value, 63 - fraction));
    const whole = i64.or(significand, INTEGER_BIT);
    f.if(i32.lt_u(i32.sub(exponent, 1), special - 1), () => {
      f.return(real(whole, i32.or(sign, i32.add(exponent, rebias))));
    });
    f.if(exponent, () => f.return(real(whole, i32.or(sign, SPECIAL))));
    const magnitude = f.let(i64.and(significand, INTEGER_BIT - 1n));
    f.if(i64.eqz(magnitude), () => f.return(realZero(sign)));
    r.raise(Status.DE);
    const shift = f.let(i64.clz(magnitude));
    const biased = i32.sub(i32.const(rebias + 1), i32.wrap(shift));
    f.return(real(i64.shl(magnitude, shift), i32.or(sign, biased)));
  });
}

/** (s, value): a signed integer, exactly. */
const x87FromInteger = routine(['i64'], 'v128', (_r, f) => {
  const value = f.parameter('i64', 1);
  f.if(i64.eqz(value), () => f.return(ZERO128));
  const negative = f.let(i64.lt_s(value, 0));
  const magnitude = f.let(select(negative, i64.sub(ZERO64, value), value));
  const shift = f.let(i64.clz(magnitude));
  const exponent = i32.sub(i32.const(BIAS + 63), i32.wrap(shift));
  f.return(real(i64.shl(magnitude, shift), i32.or(i32.shl(negative, 15), exponent)));
});

/**
 * Rounds the magnitude of a finite number below 2^63 to an integer in `significand`, and raises PE and C1. The
 * exponent is left as it is.
 */
function toIntegral(r: Routine, { sign, exponent, significand }: Parts, rounding: I32): void {
  const f = r.f;
  const low = f.local('i64');
  f.set(low, ZERO64);
  r.shiftRightSticky(significand, low, i32.sub(i32.const(BIAS + 63), exponent));
  const odd = i32.wrap(i64.and(significand, 1));
  const nearest = i32.and(i64.lt_s(low, 0), i32.or(i64.ne(i64.shl(low, 1), 0), odd));
  const away = i32.eq(i32.add(rounding, i32.shr_u(sign, 15)), Rounding.UP);
  f.if(i64.ne(low, 0), () => {
    const up = f.let(select(rounding, away, nearest));
    r.raise(i32.or(i32.shl(up, 9), Status.PE));
    f.set(significand, i64.add(significand, i64.extend_u(up)));
  });
}

/**
 * (s, value, bits, rounding): a number as a signed integer of 16, 32 or 64 bits. The integer indefinite with IE
 * when it does not fit.
 */
const x87ToInteger = routine(['v128', 'i32', 'i32'], 'i64', (r, f) => {
  const number = r.parts(f.parameter('v128', 1));
  const bits = f.parameter('i32', 2);
  const { sign, exponent, significand } = number;
  const indefinite = f.let(i64.shl(i64.const(-1), i64.extend_u(i32.sub(bits, 1))));
  const invalid = (): void => {
    r.raiseOnly(Status.IE);
    f.return(indefinite);
  };
  // -2^63 itself is out of the reach of toIntegral, and is the indefinite anyway.
  f.if(i32.or(r.isUnsupported(number), i32.ge_s(exponent, BIAS + 63)), () => {
    const exact = i32.and(i64.eq(significand, INTEGER_BIT), i32.eq(exponent, BIAS + 63));
    f.if(i32.and(i32.and(exact, i32.ne(sign, 0)), i32.eq(bits, 64)), () => f.return(indefinite));
    invalid();
  });
  f.if(i64.eqz(significand), () => f.return(ZERO64));
  toIntegral(r, number, f.parameter('i32', 3));
  const limit = i64.add(i64.xor(indefinite, -1), i64.extend_u(i32.ne(sign, 0)));
  f.if(i64.gt_u(significand, limit), invalid);
  f.return(select(sign, i64.sub(ZERO64, significand), significand));
});

/** FRNDINT. */
const x87RoundToInteger = routine(['v128'], 'v128', (r, f) => {
  const value = f.parameter('v128', 1);
  const number = r.parts(value);
  const { sign, exponent, significand } = number;
  f.if(i32.eqz(r.isNormal(number)), () => {
    r.screen(number);
    f.if(i32.or(r.isInfinite(number), r.isZero(number)), () => f.return(value));
    r.raiseDenormal(number);
    // Small enough to be rounded like any other denormal.
    f.set(exponent, i32.const(1));
  });
  f.if(i32.ge_s(exponent, BIAS + 63), () => f.return(value));
  toIntegral(r, number, f.let(r.rounding(r.control())));
  f.if(i64.eqz(significand), () => f.return(realZero(sign)));
  const shift = f.let(i64.clz(significand));
  const biased = i32.sub(i32.const(BIAS + 63), i32.wrap(shift));
  f.return(real(i64.shl(significand, shift), i32.or(sign, biased)));
});

/** Decimal digits of a packed integer, and the bytes they take. */
const DIGITS = 18;
const LARGEST_DECIMAL = 10n ** 18n - 1n;

/** (s, low, high): 18 packed decimal digits and a sign. */
const x87FromDecimal = routine(['i64', 'i64'], 'v128', (r, f) => {
  const low = f.parameter('i64', 1);
  const high = f.parameter('i64', 2);
  const value = f.local('i64');
  const count = f.local('i32');
  const digits = (from: Local<'i64'>, places: number): void => {
    f.set(count, i32.const(places));
    f.loop((again) => {
      f.set(value, i64.add(i64.mul(value, 10), i64.shr_u(from, 60)));
      f.set(from, i64.shl(from, 4));
      f.set(count, i32.sub(count, 1));
      f.breakIf(again, count);
    });
  };
  const sign = f.let(i32.and(i32.wrap(high), SIGN));
  f.set(high, i64.shl(high, 56));
  digits(high, DIGITS - 16);
  digits(low, 16);
  f.if(i64.eqz(value), () => f.return(realZero(sign)));
  f.return(r.callReal('x87FromInteger', r.s, select(sign, i64.sub(ZERO64, value), value)));
});

/**
 * (s, value): the low 64 bits of a number as packed decimal; the upper 16 go to SECOND. With IE the packed
 * indefinite.
 */
const x87ToDecimal = routine(['v128'], 'i64', (r, f) => {
  const number = r.parts(f.parameter('v128', 1));
  const { sign, exponent, significand } = number;
  const finish = (low: I64, high: I32): void => {
    f.store32(r.s, high, Scratch.SECOND);
    f.return(low);
  };
  const invalid = (): void => {
    r.raiseOnly(Status.IE);
    finish(i64.const(0xc000000000000000n), i32.const(0xffff));
  };
  f.if(i32.or(r.isUnsupported(number), i32.ge_s(exponent, BIAS + 63)), invalid);
  f.if(i64.ne(significand, 0), () => toIntegral(r, number, f.let(r.rounding(r.control()))));
  f.if(i64.gt_u(significand, LARGEST_DECIMAL), invalid);
  const packed = f.local('i64');
  const count = f.local('i32');
  const take = (places: number): void => {
    f.set(packed, ZERO64);
    f.set(count, i32.const(places));
    f.loop((again) => {
      f.set(packed, i64.or(i64.shr_u(packed, 4), i64.shl(i64.rem_u(significand, 10), 60)));
      f.set(significand, i64.div_u(significand, 10));
      f.set(count, i32.sub(count, 1));
      f.breakIf(again, count);
    });
  };
  take(16);
  const low = f.let(packed);
  take(2);
  finish(low, i32.or(sign, i32.wrap(i64.shr_u(packed, 56))));
});

export const conversions = {
  x87FromSingle: fromFormat(23, 8),
  x87FromDouble: fromFormat(52, 11),
  x87FromInteger,
  x87ToInteger,
  x87RoundToInteger,
  x87FromDecimal,
  x87ToDecimal,
};
