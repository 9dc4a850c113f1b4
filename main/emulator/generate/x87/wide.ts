import { i32, i64, type I32, type I64, type Local, type V128 } from '../../wasm/expression.ts';
import { i64x2 } from '../../wasm/simd.ts';
import type { LibraryRoutine } from '../semantics.ts';
import { type Routine, routine, ZERO64 } from './format.ts';

/**
 * Arithmetic on 128-bit fractions, for the transcendental functions: twice the precision of their results leaves
 * these correctly rounded but for about one in 2^50.
 */

/** A pair of locals. As a normalised significand bit 127 is set. */
export interface Wide {
  readonly high: Local<'i64'>;
  readonly low: Local<'i64'>;
}

/** A sign (0 or 0x8000), an exponent with the bias of the format, and a normalised significand. */
export interface WideReal extends Wide {
  readonly sign: Local<'i32'>;
  readonly exponent: Local<'i32'>;
}

/** 1 as a fixed-point number with 127 bits after the point, as series have. */
export const ONE = 1n << 127n;

export const highOf = (value: bigint): I64 => i64.const(value >> 64n);
export const lowOf = (value: bigint): I64 => i64.const(value & 0xffffffffffffffffn);

export class WideMath {
  private readonly r: Routine;

  constructor(r: Routine) {
    this.r = r;
  }

  wide(high: I64 = ZERO64, low: I64 = ZERO64): Wide {
    const { f } = this.r;
    const made = { high: f.local('i64'), low: f.local('i64') };
    this.set(made, high, low);
    return made;
  }
  real(sign: I32, exponent: I32, high: I64, low: I64): WideReal {
    const { f } = this.r;
    const made = { sign: f.local('i32'), exponent: f.local('i32'), ...this.wide(high, low) };
    f.set(made.sign, sign);
    f.set(made.exponent, exponent);
    return made;
  }
  constant(value: bigint): Wide {
    return this.wide(highOf(value), lowOf(value));
  }
  set(to: Wide, high: I64, low: I64): void {
    const { f } = this.r;
    // `low` may depend on what `high` replaces.
    const bound = f.let(low);
    f.set(to.high, high);
    f.set(to.low, bound);
  }
  setVector(to: Wide, value: V128): void {
    const { f } = this.r;
    f.set(to.low, i64.lane(value, 0));
    f.set(to.high, i64.lane(value, 1));
  }

  add(to: Wide, high: I64, low: I64): void {
    const { f } = this.r;
    f.set(to.low, i64.add(to.low, low));
    f.set(to.high, i64.add(i64.add(to.high, high), i64.extend_u(i64.lt_u(to.low, low))));
  }
  /** to = high:low - to. */
  subtractFrom(to: Wide, high: I64, low: I64): void {
    const { f } = this.r;
    const borrow = i64.extend_u(i64.lt_u(low, to.low));
    f.set(to.high, i64.sub(i64.sub(high, to.high), borrow));
    f.set(to.low, i64.sub(low, to.low));
  }
  isLess(a: Wide, b: Wide): I32 {
    return i32.or(i64.lt_u(a.high, b.high), i32.and(i64.eq(a.high, b.high), i64.lt_u(a.low, b.low)));
  }
  isZero(a: Wide): I32 {
    return i64.eqz(i64.or(a.high, a.low));
  }

  /** Shifts right by 0 to any count; what falls off makes the lowest bit 1. */
  shiftRight(a: Wide, count: I32): void {
    this.r.shiftRightSticky(a.high, a.low, this.r.f.let(count));
  }
  /** Moves the highest bit to bit 127: the count of places. The value is not 0. */
  normalize(a: Wide): I32 {
    const { f } = this.r;
    const count = f.local('i32');
    f.set(count, i32.const(0));
    f.if(i64.eqz(a.high), () => {
      f.set(a.high, a.low);
      f.set(a.low, ZERO64);
      f.set(count, i32.const(64));
    });
    const shift = f.let(i64.clz(a.high));
    f.if(i64.ne(shift, 0), () => {
      const over = i64.shr_u(a.low, i64.sub(i64.const(64), shift));
      f.set(a.high, i64.or(i64.shl(a.high, shift), over));
      f.set(a.low, i64.shl(a.low, shift));
      f.set(count, i32.add(count, i32.wrap(shift)));
    });
    return count;
  }

  /** to = the upper half of the product. */
  multiply(to: Wide, a: Wide, b: { high: I64; low: I64 }): void {
    const product = this.r.callReal('x87WideMultiply', this.r.s, a.high, a.low, b.high, b.low);
    this.setVector(to, product);
  }

  /** The product of a number and a significand from 1/2 up to, not with, 2 (bit 127 is 1). */
  multiplyReal(number: WideReal, by: { high: I64; low: I64 }): void {
    const { f } = this.r;
    this.multiply(number, number, by);
    // Bit 127 of the product has the weight 2.
    f.set(number.exponent, i32.add(number.exponent, 1));
    f.set(number.exponent, i32.sub(number.exponent, this.normalize(number)));
  }

  /** n / d, both normalised, to n; exact quotients have nothing behind them, others have the lowest bit set. */
  divideReal(n: WideReal, d: WideReal): void {
    const { f } = this.r;
    f.set(n.exponent, i32.sub(n.exponent, i32.sub(d.exponent, BIAS_LESS_ONE)));
    f.if(i32.eqz(this.isLess(n, d)), () => {
      this.shiftRight(n, i32.const(1));
      f.set(n.exponent, i32.add(n.exponent, 1));
    });
    const quotient = this.r.callReal('x87WideDivide', this.r.s, n.high, n.low, d.high, d.low);
    this.setVector(n, quotient);
    f.set(n.sign, i32.xor(n.sign, d.sign));
  }

  /** The square of a number below 1, as a fraction of 128 bits. */
  square(number: WideReal): Wide {
    const fraction = this.wide(number.high, number.low);
    this.shiftRight(fraction, i32.sub(i32.const(BIAS_LESS_ONE), number.exponent));
    const square = this.wide();
    this.multiply(square, fraction, fraction);
    return square;
  }

  /** The value of a series routine: 127 bits after the point. */
  series(name: string, z: Wide): Wide {
    const value = this.wide();
    this.setVector(value, this.r.callReal(name, this.r.s, z.high, z.low));
    return value;
  }
}
const BIAS_LESS_ONE = 0x3ffe;

/**
 * (s, z high, z low): a power series in a fraction z by Horner's rule: coefficients and value have 127 bits after
 * the point. `alternating`: the signs are + - + -...
 */
export function seriesRoutine(coefficients: readonly bigint[], alternating = false): LibraryRoutine {
  return routine(['i64', 'i64'], 'v128', (r, f) => {
    const math = new WideMath(r);
    const z = { high: f.parameter('i64', 1), low: f.parameter('i64', 2) };
    const last = coefficients.length - 1;
    const value = math.constant(coefficients[last]);
    for (let n = last - 1; n >= 0; n--) {
      math.multiply(value, value, z);
      const [high, low] = [highOf(coefficients[n]), lowOf(coefficients[n])];
      if (alternating) math.subtractFrom(value, high, low);
      else math.add(value, high, low);
    }
    f.return(i64x2.replace_lane(i64x2.splat(value.low), 1, value.high));
  });
}

/** (s, a high, a low, b high, b low): the upper 128 bits of the product, at most 3 less than exactly. */
const x87WideMultiply = routine(['i64', 'i64', 'i64', 'i64'], 'v128', (r, f) => {
  const [aHigh, aLow, bHigh, bLow] = [1, 2, 3, 4].map((i) => f.parameter('i64', i));
  const high = f.local('i64');
  const low = f.local('i64');
  f.set(high, r.call64('multiplyHigh', aHigh, bHigh));
  f.set(low, i64.mul(aHigh, bHigh));
  const addLow = (a: I64, b: I64): void => {
    f.if(i32.and(i64.ne(a, 0), i64.ne(b, 0)), () => {
      const part = r.call64('multiplyHigh', a, b);
      f.set(low, i64.add(low, part));
      f.set(high, i64.add(high, i64.extend_u(i64.lt_u(low, part))));
    });
  };
  addLow(aHigh, bLow);
  addLow(aLow, bHigh);
  f.return(i64x2.replace_lane(i64x2.splat(low), 1, high));
});

/**
 * (s, n high, n low, d high, d low): n / d as a fraction of 128 bits, for n < d with bit 127 of d set. The lowest
 * bit tells of a remainder. Bit by bit: these functions are rare.
 */
const x87WideDivide = routine(['i64', 'i64', 'i64', 'i64'], 'v128', (_r, f) => {
  const [high, low, dHigh, dLow] = [1, 2, 3, 4].map((i) => f.parameter('i64', i));
  const quotientHigh = f.local('i64');
  const quotientLow = f.local('i64');
  const count = f.local('i32');
  f.set(count, i32.const(128));
  f.loop((again) => {
    const carry = f.local('i64');
    f.set(carry, i64.shr_s(high, 63));
    f.set(high, i64.or(i64.shl(high, 1), i64.shr_u(low, 63)));
    f.set(low, i64.shl(low, 1));
    f.set(quotientHigh, i64.or(i64.shl(quotientHigh, 1), i64.shr_u(quotientLow, 63)));
    f.set(quotientLow, i64.shl(quotientLow, 1));
    const equal = i32.and(i64.eq(high, dHigh), i64.ge_u(low, dLow));
    const fits = i32.or(i64.gt_u(high, dHigh), equal);
    f.if(i32.or(i32.wrap(carry), fits), () => {
      const borrow = i64.extend_u(i64.lt_u(low, dLow));
      f.set(high, i64.sub(i64.sub(high, dHigh), borrow));
      f.set(low, i64.sub(low, dLow));
      f.set(quotientLow, i64.or(quotientLow, 1));
    });
    f.set(count, i32.sub(count, 1));
    f.breakIf(again, count);
  });
  const rest = i64.extend_u(i64.ne(i64.or(high, low), 0));
  const sticky = i64.or(quotientLow, rest);
  f.return(i64x2.replace_lane(i64x2.splat(sticky), 1, quotientHigh));
});

export const wideRoutines = { x87WideMultiply, x87WideDivide };
