import { i32, i64, select, type I32 } from '../../wasm/expression.ts';
import {
  BIAS,
  type Parts,
  realInfinity,
  realZero,
  type Routine,
  routine,
  SIGN,
  Status,
  ZERO64,
} from './format.ts';
import { fullPrecision } from './remainder.ts';
import { ONE, seriesRoutine, type Wide, WideMath, type WideReal } from './wide.ts';

/** F2XM1, FYL2X and FYL2XP1. */

const LN2_160 = 0xb17217f7d1cf79abc9e3b39803f2f6af40f34326n;
const LOG2_E_160 = 0x171547652b82fe1777d0ffda0d23a7d11d6aef552n;

/** ln(2)^(n+1) / (n+1)!: 2^x - 1 = x times the series in x. 33 terms: ln(2)^33 / 34! is below 2^-144. */
const POWERS: bigint[] = [];
for (let n = 1n, value = ONE; n <= 33n; n++) {
  value = ((value * LN2_160) / n) >> 160n;
  POWERS.push(value);
}

/**
 * log2((1 + s) / (1 - s)) = 2 s times the series in s^2; |s| is below 0.172, and 0.172^52 / 53 below 2^-137. The
 * factor 2 is left to the exponent.
 */
const LOGARITHMS = Array.from({ length: 26 }, (_, n) => (LOG2_E_160 >> 33n) / BigInt(2 * n + 1));
/** The significand of the square root of 2. */
const ROOT2 = 0xb504f333f9de6484n;
/** Where the logarithm is added to the exponent of its argument: 16 bits stand before the point. */
const SUM_POINT = 112;

/** F2XM1 (s, x): 2^x - 1 for -1 <= x <= 1. Others are returned as they are, as AMD processors do. */
const x87PowerLessOne = routine(['v128'], 'v128', (r, f) => {
  const math = new WideMath(r);
  const x = r.parts(f.parameter('v128', 1));
  f.if(i32.eqz(r.isNormal(x)), () => {
    r.screen(x);
    f.if(r.isZero(x), () => f.return(f.parameter('v128', 1)));
    f.if(r.isInfinite(x), () => {
      f.if(x.sign, () => f.return(r.whole({ ...x, exponent: constantLocal(r, BIAS) })));
      f.return(f.parameter('v128', 1));
    });
    r.raiseDenormal(x);
    r.normalize(x);
  });
  f.if(i32.ge_s(x.exponent, BIAS), () => {
    r.raise(Status.PE);
    f.if(i32.and(i32.eq(x.exponent, BIAS), i64.eqz(i64.shl(x.significand, 1))), () => {
      // Seen on a Zen 5: 1 is rounded like something a little below it; 2^-1 - 1 is exact.
      f.if(i32.eqz(x.sign), () => {
        r.round(x.sign, i32.const(BIAS - 1), i64.const(-1), i64.const(-1), fullPrecision(r));
      });
      f.set(x.exponent, i32.const(BIAS - 1));
    });
    f.return(r.whole(x));
  });
  const number = math.real(x.sign, x.exponent, x.significand, ZERO64);
  const fraction = math.wide(number.high, number.low);
  math.shiftRight(fraction, i32.sub(i32.const(BIAS - 1), x.exponent));
  const multiplyBy = (name: string) => (): void => math.multiplyReal(number, math.series(name, fraction));
  f.if(x.sign, multiplyBy('x87PowerSeriesBelow'), multiplyBy('x87PowerSeries'));
  roundInexact(r, number);
});

function constantLocal(r: Routine, value: number) {
  const local = r.f.local('i32');
  r.f.set(local, i32.const(value));
  return local;
}

function roundInexact(r: Routine, { sign, exponent, high, low }: WideReal): void {
  r.round(sign, exponent, high, i64.or(low, 1), fullPrecision(r));
}

/** s = n / d becomes log2((1 + s) / (1 - s)). */
function logarithmOfRatio(math: WideMath, n: WideReal, d: WideReal, r: Routine): void {
  math.divideReal(n, d);
  math.multiplyReal(n, math.series('x87LogarithmSeries', math.square(n)));
  r.f.set(n.exponent, i32.add(n.exponent, 1));
}

/**
 * y times a logarithm, rounded. `exact`: nothing is missing in the logarithm (it is a whole number).
 */
function timesY(r: Routine, math: WideMath, y: Parts, logarithm: WideReal, exact: I32): void {
  const { f } = r;
  math.multiply(logarithm, logarithm, { high: y.significand, low: ZERO64 });
  const exponent = i32.add(i32.sub(logarithm.exponent, BIAS - 1), y.exponent);
  const places = math.normalize(logarithm);
  const biased = f.let(i32.sub(exponent, places));
  const sticky = i64.or(logarithm.low, i64.extend_u(i32.eqz(exact)));
  // Seen on a Zen 5: PE and UE are raised for exact results, too.
  r.raise(select(i32.le_s(biased, 0), i32.const(Status.PE | Status.UE), i32.const(Status.PE)));
  r.round(i32.xor(logarithm.sign, y.sign), biased, logarithm.high, sticky, fullPrecision(r));
}

/** y times log2 of a number m (1 <= m < 2) times 2^exponent, which is not 1. Ends the routine. */
function logarithmTimesY(r: Routine, math: WideMath, m: Wide, exponent: I32, y: Parts): void {
  const { f } = r;
  const whole = f.local('i32');
  f.set(whole, exponent);
  const logarithm = math.real(i32.const(0), i32.const(BIAS), ZERO64, ZERO64);
  const exact = f.let(i64.eqz(i64.or(i64.shl(m.high, 1), m.low)));
  f.if(i32.eqz(exact), () => {
    // s = (m - 1) / (m + 1), with m between the roots of 1/2 and 2.
    const above = f.let(i64.ge_u(m.high, ROOT2));
    const half = math.wide(m.high, m.low);
    math.shiftRight(half, i32.const(1));
    const d = math.real(i32.const(0), i32.const(0), half.high, half.low);
    f.if(
      above,
      () => {
        // m / 2 - 1 over m / 2 + 1.
        f.set(whole, i32.add(whole, 1));
        math.subtractFrom(m, ZERO64, ZERO64);
        f.set(logarithm.sign, i32.const(SIGN));
        f.set(logarithm.exponent, i32.const(BIAS - 1));
        math.add(d, i64.const(1n << 63n), ZERO64);
        f.set(d.exponent, i32.const(BIAS));
      },
      () => {
        f.set(m.high, i64.and(m.high, (1n << 63n) - 1n));
        math.add(d, i64.const(1n << 62n), ZERO64);
        f.set(d.exponent, i32.const(BIAS + 1));
      },
    );
    f.set(logarithm.exponent, i32.sub(logarithm.exponent, math.normalize(m)));
    math.set(logarithm, m.high, m.low);
    logarithmOfRatio(math, logarithm, d, r);
  });
  f.if(whole, () => {
    // Fixed-point: the whole part and the fraction, which is at most 1/2 in size.
    const total = math.wide();
    f.if(i32.eqz(exact), () => {
      math.shiftRight(logarithm, i32.sub(i32.const(BIAS + 127 - SUM_POINT), logarithm.exponent));
      math.set(total, logarithm.high, logarithm.low);
      f.if(logarithm.sign, () => math.subtractFrom(total, ZERO64, ZERO64));
    });
    math.add(total, i64.shl(i64.extend_s(whole), SUM_POINT - 64), ZERO64);
    f.set(logarithm.sign, i32.shl(i64.lt_s(total.high, 0), 15));
    f.if(logarithm.sign, () => math.subtractFrom(total, ZERO64, ZERO64));
    const places = math.normalize(total);
    f.set(logarithm.exponent, i32.sub(i32.const(BIAS + 127 - SUM_POINT), places));
    math.set(logarithm, total.high, total.low);
  });
  timesY(r, math, y, logarithm, exact);
}

/** FYL2X (s, x, y): y log2(x). */
const x87LogarithmTimes = routine(['v128', 'v128'], 'v128', (r, f) => {
  const math = new WideMath(r);
  const x = r.parts(f.parameter('v128', 1));
  const y = r.parts(f.parameter('v128', 2));
  const isOne = (): I32 => i32.and(i32.eq(x.exponent, BIAS), i64.eqz(i64.shl(x.significand, 1)));
  /** The sign of y changed where log2(x) is negative: for x below 1. */
  const sign = (): I32 => i32.xor(y.sign, i32.shl(i32.lt_s(x.exponent, BIAS), 15));
  f.if(i32.or(i32.eqz(i32.and(r.isNormal(x), r.isNormal(y))), i32.or(x.sign, isOne())), () => {
    r.screen(x, y);
    f.if(i32.and(i32.ne(x.sign, 0), i32.eqz(r.isZero(x))), () => r.invalid());
    f.if(r.isZero(x), () => {
      f.if(r.isZero(y), () => r.invalid());
      f.if(i32.eqz(r.isInfinite(y)), () => r.raise(Status.ZE));
      f.return(realInfinity(i32.xor(y.sign, SIGN)));
    });
    f.if(i32.or(r.isInfinite(x), r.isInfinite(y)), () => {
      const zero = i32.or(r.isZero(y), isOne());
      f.if(zero, () => r.invalid());
      r.raiseDenormal(x);
      r.raiseDenormal(y);
      f.return(realInfinity(sign()));
    });
    r.raiseDenormal(x);
    r.raiseDenormal(y);
    f.if(i32.or(r.isZero(y), isOne()), () => f.return(realZero(sign())));
    r.normalize(x);
    r.normalize(y);
  });
  const m = math.wide(x.significand, ZERO64);
  logarithmTimesY(r, math, m, i32.sub(x.exponent, BIAS), y);
});

/** Below this 1 + x needs more than 128 bits, or loses what x has: s = x / (2 + x) directly. */
const NEAR_ONE = BIAS - 2;

/** FYL2XP1 (s, x, y): y log2(1 + x), for x above -1. */
const x87LogarithmOfOnePlus = routine(['v128', 'v128'], 'v128', (r, f) => {
  const math = new WideMath(r);
  const x = r.parts(f.parameter('v128', 1));
  const y = r.parts(f.parameter('v128', 2));
  f.if(i32.eqz(i32.and(r.isNormal(x), r.isNormal(y))), () => {
    r.screen(x, y);
    const sign = f.let(i32.xor(x.sign, y.sign));
    f.if(i32.or(r.isInfinite(x), r.isInfinite(y)), () => {
      const negative = i32.and(r.isInfinite(x), i32.ne(x.sign, 0));
      const zero = i32.or(r.isZero(x), r.isZero(y));
      f.if(i32.or(negative, zero), () => r.invalid());
      r.raiseDenormal(x);
      r.raiseDenormal(y);
      f.return(realInfinity(sign));
    });
    r.raiseDenormal(x);
    r.raiseDenormal(y);
    f.if(i32.or(r.isZero(x), r.isZero(y)), () => f.return(realZero(sign)));
    r.normalize(x);
    r.normalize(y);
  });
  const wide = math.wide(x.significand, ZERO64);
  f.if(i32.lt_s(x.exponent, NEAR_ONE), () => {
    const n = math.real(x.sign, x.exponent, x.significand, ZERO64);
    // 2 + x with 126 bits after the point.
    math.shiftRight(wide, i32.sub(i32.const(BIAS + 1), x.exponent));
    f.if(x.sign, () => math.subtractFrom(wide, ZERO64, ZERO64));
    math.add(wide, i64.const(1n << 63n), ZERO64);
    const d = math.real(i32.const(0), i32.const(BIAS + 1), wide.high, wide.low);
    f.set(d.exponent, i32.sub(d.exponent, math.normalize(d)));
    logarithmOfRatio(math, n, d, r);
    timesY(r, math, y, n, i32.const(0));
  });
  const atMostMinusOne = i32.and(i32.ne(x.sign, 0), i32.ge_s(x.exponent, BIAS));
  f.if(atMostMinusOne, () => {
    // Undefined; AMD processors give x back.
    r.raise(Status.PE);
    f.return(f.parameter('v128', 1));
  });
  // 1 + x, exactly but for the largest: 127 bits after the point when x is below 1, else as many as x leaves.
  const exponent = f.local('i32');
  f.set(exponent, i32.const(BIAS));
  const one = math.wide(i64.const(1n << 63n), ZERO64);
  f.if(
    i32.lt_s(x.exponent, BIAS),
    () => math.shiftRight(wide, i32.sub(i32.const(BIAS), x.exponent)),
    () => {
      math.shiftRight(one, i32.sub(x.exponent, BIAS));
      f.set(exponent, x.exponent);
    },
  );
  f.if(
    x.sign,
    () => math.subtractFrom(wide, one.high, one.low),
    () => {
      math.add(wide, one.high, one.low);
      f.if(math.isLess(wide, one), () => {
        math.shiftRight(wide, i32.const(1));
        f.set(wide.high, i64.or(wide.high, 1n << 63n));
        f.set(exponent, i32.add(exponent, 1));
      });
    },
  );
  f.set(exponent, i32.sub(exponent, math.normalize(wide)));
  logarithmTimesY(r, math, wide, i32.sub(exponent, BIAS), y);
});

export const logarithms = {
  x87PowerSeries: seriesRoutine(POWERS),
  x87PowerSeriesBelow: seriesRoutine(POWERS, true),
  x87LogarithmSeries: seriesRoutine(LOGARITHMS),
  x87PowerLessOne,
  x87LogarithmTimes,
  x87LogarithmOfOnePlus,
};
