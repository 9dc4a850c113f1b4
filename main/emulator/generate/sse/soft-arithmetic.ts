import { f64, i32, i64, select, type I32, type I64, type Type } from '../../wasm/expression.ts';
import type { LibraryRoutine } from '../semantics.ts';
import {
  infinity,
  Mxcsr,
  Rounding,
  signMask,
  SoftFloat,
  type Format,
  DOUBLE,
  SINGLE,
  type Unpacked,
} from './soft-float.ts';

/**
 * The routines add, mul, div, sqrt, min, max and compare for each format: numbers are the low bits of an i64,
 * flags are collected in FLAGS. They are named by operation and size: add32, add64.
 */

type Body = (soft: SoftFloat, format: Format, ...operands: I64[]) => void;

/** A routine (s, a, b ...) of `count` numbers. */
export function routine(format: Format, count: number, body: Body, result: Type = 'i64'): LibraryRoutine {
  return {
    signature: { parameters: ['i32', ...new Array<Type>(count).fill('i64')], result },
    build: (f) => {
      const soft = new SoftFloat(f);
      const operands = Array.from({ length: count }, (_, i) => f.parameter('i64', i + 1));
      body(soft, format, ...operands);
      f.unreachable();
    },
  };
}

/** a + (b ^ flip): the flip is the sign bit for subtraction. NaNs keep their signs. */
const add: Body = (soft, format, a, b, flip) => {
  const { f } = soft;
  soft.propagateNaN(format, a, b);
  const x = soft.flushInput(format, a);
  const y = f.let(i64.xor(soft.flushInput(format, b), flip));
  const xInfinite = f.let(soft.isInfinite(format, x));
  f.if(i32.or(xInfinite, soft.isInfinite(format, y)), () => {
    const opposite = i64.eq(i64.xor(x, y), signMask(format));
    f.if(opposite, () => soft.invalid(format));
    soft.raiseDenormal(format, x, y);
    soft.finish(select(xInfinite, x, y));
  });
  soft.raiseDenormal(format, x, y);

  // The one of larger magnitude first.
  const swapped = f.let(i64.lt_u(soft.magnitude(format, x), soft.magnitude(format, y)));
  const large = soft.unpack(format, f.let(select(swapped, y, x)));
  const small = soft.unpack(format, f.let(select(swapped, x, y)));
  f.if(i64.eqz(large.significand), () => {
    const down = i64.extend_u(i32.eq(soft.rounding(), Rounding.DOWN));
    const same = i64.eq(large.sign, small.sign);
    soft.finish(i64.shl(select(same, large.sign, down), format.bits - 1));
  });
  f.if(i64.ne(small.significand, 0), () => {
    const distance = i32.sub(large.exponent, small.exponent);
    f.set(small.significand, soft.shiftRightSticky(small.significand, distance));
  });
  f.if(
    i64.eq(large.sign, small.sign),
    () => {
      f.set(large.significand, i64.add(large.significand, small.significand));
      f.if(i64.lt_s(large.significand, 0), () => {
        f.set(large.significand, soft.shiftRightSticky(large.significand, i32.const(1)));
        f.set(large.exponent, i32.add(large.exponent, 1));
      });
    },
    () => {
      f.set(large.significand, i64.sub(large.significand, small.significand));
      f.if(i64.eqz(large.significand), () => {
        const down = i64.extend_u(i32.eq(soft.rounding(), Rounding.DOWN));
        soft.finish(i64.shl(down, format.bits - 1));
      });
      soft.normalize(large);
    },
  );
  soft.round(format, large);
};

/** The upper 64 bits of a * b, the lowest of them sticky. */
function multiplyHigh(soft: SoftFloat, a: I64, b: I64): I64 {
  const { f } = soft;
  const low = 0xffffffff;
  const a0 = f.let(i64.and(a, low));
  const a1 = f.let(i64.shr_u(a, 32));
  const b0 = f.let(i64.and(b, low));
  const b1 = f.let(i64.shr_u(b, 32));
  const p00 = f.let(i64.mul(a0, b0));
  const p01 = f.let(i64.mul(a0, b1));
  const middle = f.let(i64.add(i64.mul(a1, b0), i64.shr_u(p00, 32)));
  const cross = f.let(i64.add(i64.and(middle, low), p01));
  const high = i64.add(i64.add(i64.mul(a1, b1), i64.shr_u(middle, 32)), i64.shr_u(cross, 32));
  const rest = i64.or(i64.and(p00, low), i64.shl(cross, 32));
  return f.let(i64.or(high, i64.extend_u(i64.ne(rest, 0))));
}

const mul: Body = (soft, format, a, b) => {
  const { f } = soft;
  soft.propagateNaN(format, a, b);
  const x = soft.flushInput(format, a);
  const y = soft.flushInput(format, b);
  const sign = f.let(i64.and(i64.xor(x, y), signMask(format)));
  const infinite = i32.or(soft.isInfinite(format, x), soft.isInfinite(format, y));
  const zero = f.let(i32.or(i64.eqz(soft.magnitude(format, x)), i64.eqz(soft.magnitude(format, y))));
  f.if(infinite, () => {
    f.if(zero, () => soft.invalid(format));
    soft.raiseDenormal(format, x, y);
    soft.finish(i64.or(sign, infinity(format)));
  });
  soft.raiseDenormal(format, x, y);
  f.if(zero, () => soft.finish(sign));
  const left = soft.unpack(format, x);
  const right = soft.unpack(format, y);
  // Bits 62 times bits 63 of 128: the product's highest bit is 124 or 125 + 1, so 61 or 62 of the upper half.
  const product = multiplyHigh(soft, left.significand, i64.shl(right.significand, 1));
  const exponent = i32.add(i32.sub(i32.add(left.exponent, right.exponent), format.bias), 1);
  f.set(left.sign, i64.xor(left.sign, right.sign));
  f.set(left.exponent, exponent);
  f.set(left.significand, product);
  soft.normalize(left);
  soft.round(format, left);
};

/** Bits of quotient that one division gives: a remainder of 53 bits and these fit 64. */
const QUOTIENT_STEP = 11;

const div: Body = (soft, format, a, b) => {
  const { f } = soft;
  soft.propagateNaN(format, a, b);
  const x = soft.flushInput(format, a);
  const y = soft.flushInput(format, b);
  const sign = f.let(i64.and(i64.xor(x, y), signMask(format)));
  const xInfinite = f.let(soft.isInfinite(format, x));
  const yInfinite = f.let(soft.isInfinite(format, y));
  const xZero = f.let(i64.eqz(soft.magnitude(format, x)));
  const yZero = f.let(i64.eqz(soft.magnitude(format, y)));
  f.if(i32.or(i32.and(xInfinite, yInfinite), i32.and(xZero, yZero)), () => soft.invalid(format));
  f.if(i32.and(yZero, i32.eqz(xInfinite)), () => {
    soft.raise(Mxcsr.ZE);
    soft.finish(i64.or(sign, infinity(format)));
  });
  soft.raiseDenormal(format, x, y);
  f.if(xInfinite, () => soft.finish(i64.or(sign, infinity(format))));
  f.if(i32.or(xZero, yInfinite), () => soft.finish(sign));

  const left = soft.unpack(format, x);
  const right = soft.unpack(format, y);
  const divisor = f.let(i64.shr_u(right.significand, 10));
  const rest = f.local('i64');
  f.set(rest, i64.shr_u(left.significand, 10));
  f.set(left.exponent, i32.add(i32.sub(left.exponent, right.exponent), format.bias));
  // Makes the quotient at least 1 and less than 2.
  f.if(i64.lt_u(rest, divisor), () => {
    f.set(rest, i64.shl(rest, 1));
    f.set(left.exponent, i32.sub(left.exponent, 1));
  });
  const quotient = f.local('i64');
  f.set(quotient, i64.const(1));
  f.set(rest, i64.sub(rest, divisor));
  const steps = Math.ceil((format.fraction + 2) / QUOTIENT_STEP);
  for (let step = 0; step < steps; step++) {
    f.set(rest, i64.shl(rest, QUOTIENT_STEP));
    const part = f.let(i64.div_u(rest, divisor));
    f.set(quotient, i64.or(i64.shl(quotient, QUOTIENT_STEP), part));
    f.set(rest, i64.sub(rest, i64.mul(part, divisor)));
  }
  const place = 62 - steps * QUOTIENT_STEP;
  f.set(left.significand, i64.or(i64.shl(quotient, place), i64.extend_u(i64.ne(rest, 0))));
  f.set(left.sign, i64.xor(left.sign, right.sign));
  soft.round(format, left);
};

const sqrt: Body = (soft, format, a) => {
  const { f } = soft;
  soft.propagateNaN(format, a);
  const x = soft.flushInput(format, a);
  f.if(i64.eqz(soft.magnitude(format, x)), () => soft.finish(x));
  f.if(soft.isNegative(format, x), () => soft.invalid(format));
  f.if(soft.isInfinite(format, x), () => soft.finish(x));
  soft.raiseDenormal(format, x);
  const number = soft.unpack(format, x);
  root(soft, format, number);
  soft.round(format, number);
};

/**
 * The square root of a positive number. The host's root is the nearest of 53 bits; the difference between its
 * square and the radicand tells on which side of it the true one lies, which is all that rounding asks.
 */
function root(soft: SoftFloat, format: Format, number: Unpacked): void {
  const { f } = soft;
  const { exponent, significand } = number;
  const power = f.let(i32.sub(exponent, format.bias));
  const odd = f.let(i64.extend_u(i32.and(power, 1)));
  const radicand = f.let(i64.shr_u(significand, 10));
  // In [1, 4) as a binary64: exponent 1023 or 1024.
  const scaled = i64.add(i64.shl(i64.add(odd, 1022), 52), radicand);
  const nearest = f64.sqrt(f64.reinterpret_i64(scaled));
  const bits = i64.reinterpret_f64(nearest);
  const rootBits = f.let(i64.or(i64.and(bits, (1n << 52n) - 1n), 1n << 52n));
  // Both have 106 bits, but they differ by less than 2^54.
  const square = i64.mul(rootBits, rootBits);
  const difference = f.let(i64.sub(i64.shl(radicand, i64.add(odd, 52)), square));
  const tooLarge = f.let(i64.extend_u(i64.lt_s(difference, 0)));
  const sticky = i64.or(i64.mul(tooLarge, 0x300), i64.extend_u(i64.ne(difference, 0)));
  f.set(significand, i64.or(i64.shl(i64.sub(rootBits, tooLarge), 10), sticky));
  f.set(exponent, i32.add(i32.shr_s(power, 1), format.bias));
}

/** Flags of MIN, MAX and comparisons, and the operands after DAZ. A quiet comparison accepts quiet NaNs. */
function compared(soft: SoftFloat, format: Format, a: I64, b: I64, quiet: I32) {
  const { f } = soft;
  const unordered = f.let(i32.or(soft.isNaN(format, a), soft.isNaN(format, b)));
  const x = soft.flushInput(format, a);
  const y = soft.flushInput(format, b);
  f.if(
    unordered,
    () => {
      const signalling = i32.or(soft.isSignalling(format, a), soft.isSignalling(format, b));
      soft.raiseIf(i32.or(i32.eqz(quiet), signalling), Mxcsr.IE);
    },
    () => soft.raiseDenormal(format, x, y),
  );
  return { unordered, x, y };
}

/** An integer that is ordered as the number is, and one for both zeros. */
function ordered(soft: SoftFloat, format: Format, x: I64): I64 {
  const magnitude = soft.f.let(soft.magnitude(format, x));
  return soft.f.let(select(soft.isNegative(format, x), i64.sub(i64.const(0), magnitude), magnitude));
}

/** The second operand unless the first is truly less (or greater). */
const extreme =
  (less: boolean): Body =>
  (soft, format, a, b) => {
    const { unordered, x, y } = compared(soft, format, a, b, i32.const(0));
    const first = ordered(soft, format, x);
    const second = ordered(soft, format, y);
    const wins = less ? i64.lt_s(first, second) : i64.gt_s(first, second);
    soft.finish(select(i32.and(wins, i32.eqz(unordered)), x, y));
  };

/** What a comparison finds. */
export const Relation = { EQUAL: 0, LESS: 1, GREATER: 2, UNORDERED: 3 } as const;

/** (s, a, b, quiet): the relation of a to b. */
const compare: Body = (soft, format, a, b, quiet) => {
  const { unordered, x, y } = compared(soft, format, a, b, i32.wrap(quiet));
  const first = ordered(soft, format, x);
  const second = ordered(soft, format, y);
  const relation = i32.or(i64.lt_s(first, second), i32.shl(i64.gt_s(first, second), 1));
  soft.finish(select(unordered, i32.const(Relation.UNORDERED), relation));
};

export const arithmeticRoutines: Record<string, LibraryRoutine> = Object.fromEntries(
  [SINGLE, DOUBLE].flatMap((format) => [
    [`add${format.bits}`, routine(format, 3, add)],
    [`mul${format.bits}`, routine(format, 2, mul)],
    [`div${format.bits}`, routine(format, 2, div)],
    [`sqrt${format.bits}`, routine(format, 1, sqrt)],
    [`min${format.bits}`, routine(format, 2, extreme(true))],
    [`max${format.bits}`, routine(format, 2, extreme(false))],
    [`compare${format.bits}`, routine(format, 3, compare, 'i32')],
  ]),
);
