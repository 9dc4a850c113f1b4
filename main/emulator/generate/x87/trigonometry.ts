import { i32, i64, select, type I32, type V128 } from '../../wasm/expression.ts';
import {
  BIAS,
  INDEFINITE,
  real,
  realZero,
  type Routine,
  routine,
  Scratch,
  SIGN,
  Status,
  ZERO64,
} from './format.ts';
import { fullPrecision } from './remainder.ts';
import { highOf, lowOf, ONE, seriesRoutine, type Wide, WideMath, type WideReal } from './wide.ts';

/**
 * FSIN, FCOS, FSINCOS, FPTAN and FPATAN. Arguments are reduced by pi / 2 with the 66 bits of pi that processors
 * have (SDM vol. 1, 8.3.8), so that large ones give what they give there.
 */

/** Half of that pi, with 65 bits after the point. */
const HALF_PI_66 = 0x3243f6a8885a308d3n;
const REDUCED_POINT = 65;
/** Arguments below 1/2 need no reduction. */
const SMALL = BIAS - 1;

/** Reciprocals of factorials with 127 bits after the point: of first!, (first + 2)!, ... */
function factorials(first: number, count: number): bigint[] {
  const found: bigint[] = [];
  let value = ONE;
  for (let n = 1; found.length < count; n++) {
    if ((n - 1) % 2 === first) found.push(value);
    value /= BigInt(n);
  }
  return found;
}
/** 16 terms: (pi / 4)^32 / 33! is below 2^-133. */
const TERMS = 17;
const SINE = factorials(1, TERMS);
const COSINE = factorials(0, TERMS);

/** Where x87Reduce leaves its result. */
const Work = {
  SIGNIFICAND: Scratch.WORK,
  SIGN: Scratch.WORK + 16,
  EXPONENT: Scratch.WORK + 20,
  QUADRANT: Scratch.WORK + 24,
} as const;

/**
 * (s, exponent, significand): the argument less the nearest multiple of pi / 2: sign and exponent, significand and
 * number of the quadrant, in WORK.
 */
const x87Reduce = routine(['i32', 'i64'], undefined, (r, f) => {
  const math = new WideMath(r);
  const exponent = f.parameter('i32', 1);
  const significand = f.parameter('i64', 2);
  const store = (value: Wide, sign: I32, biased: I32, quadrant: I32): void => {
    f.store64(r.s, value.low, Work.SIGNIFICAND);
    f.store64(r.s, value.high, Work.SIGNIFICAND + 8);
    f.store32(r.s, sign, Work.SIGN);
    f.store32(r.s, biased, Work.EXPONENT);
    f.store32(r.s, quadrant, Work.QUADRANT);
    f.return();
  };
  f.if(i32.lt_s(exponent, SMALL), () => {
    store(math.wide(significand), i32.const(0), exponent, i32.const(0));
  });
  // The remainder bit by bit: it starts below pi / 2 in units of 2^-65, and so stays exact.
  const rest = math.wide(ZERO64, significand);
  const quadrant = f.local('i32');
  const count = f.local('i32');
  f.set(count, i32.sub(exponent, BIAS + 63 - REDUCED_POINT));
  const half = math.constant(HALF_PI_66);
  const subtract = (): void => {
    f.set(rest.high, i64.sub(i64.sub(rest.high, half.high), i64.extend_u(i64.lt_u(rest.low, half.low))));
    f.set(rest.low, i64.sub(rest.low, half.low));
  };
  f.loop((again) => {
    f.set(rest.high, i64.or(i64.shl(rest.high, 1), i64.shr_u(rest.low, 63)));
    f.set(rest.low, i64.shl(rest.low, 1));
    f.set(quadrant, i32.shl(quadrant, 1));
    f.if(i32.eqz(math.isLess(rest, half)), () => {
      subtract();
      f.set(quadrant, i32.or(quadrant, 1));
    });
    f.set(count, i32.sub(count, 1));
    f.breakIf(again, i32.gt_s(count, 0));
  });
  const twice = math.wide(i64.or(i64.shl(rest.high, 1), i64.shr_u(rest.low, 63)), i64.shl(rest.low, 1));
  const sign = f.local('i32');
  f.if(math.isLess(half, twice), () => {
    math.subtractFrom(rest, half.high, half.low);
    f.set(quadrant, i32.add(quadrant, 1));
    f.set(sign, i32.const(SIGN));
  });
  const places = math.normalize(rest);
  const biased = i32.sub(i32.const(BIAS + 127 - REDUCED_POINT), places);
  store(rest, sign, biased, quadrant);
});

/** The reduced argument. */
function reduced(r: Routine, math: WideMath): WideReal {
  const { s } = r;
  return math.real(
    i32.load(s, Work.SIGN),
    i32.load(s, Work.EXPONENT),
    i64.load(s, Work.SIGNIFICAND + 8),
    i64.load(s, Work.SIGNIFICAND),
  );
}

/** number times a series that begins with 1 - ...: something is always missing, also to a tiny number. */
function timesBelowOne(r: Routine, math: WideMath, number: WideReal, series: Wide): void {
  const { f } = r;
  f.if(i64.lt_s(series.high, 0), () => math.set(series, highOf(ONE - 1n), lowOf(ONE - 1n)));
  math.multiplyReal(number, series);
}

/** Sine of the reduced argument. */
function sine(r: Routine, math: WideMath): WideReal {
  const number = reduced(r, math);
  timesBelowOne(r, math, number, math.series('x87SineSeries', math.square(number)));
  return number;
}

/** Cosine of the reduced argument: from about 0.7 to a little less than 1. */
function cosine(r: Routine, math: WideMath): WideReal {
  const { f } = r;
  const number = reduced(r, math);
  const one = math.real(i32.const(0), i32.const(BIAS), i64.const(1n << 63n), ZERO64);
  timesBelowOne(r, math, one, math.series('x87CosineSeries', math.square(number)));
  f.set(one.sign, i32.const(0));
  return one;
}

function copy(r: Routine, to: WideReal, from: WideReal): void {
  for (const field of ['sign', 'exponent'] as const) r.f.set(to[field], from[field]);
  for (const field of ['high', 'low'] as const) r.f.set(to[field], from[field]);
}

/** Rounds something that is never exact. */
function roundInexact(r: Routine, number: WideReal): void {
  const { sign, exponent, high, low } = number;
  r.round(sign, exponent, high, i64.or(low, 1), fullPrecision(r));
}

/** What the functions of one angle begin with; the operand is then finite and not 0, and its angle reduced. */
function beginAngle(r: Routine, value: V128, ofZero: V128): { sign: I32 } {
  const { f } = r;
  const a = r.parts(value);
  f.if(i32.eqz(r.isNormal(a)), () => {
    r.screen(a);
    f.if(r.isInfinite(a), () => r.invalid());
    f.if(r.isZero(a), () => f.return(ofZero));
    r.raiseDenormal(a);
    r.normalize(a);
  });
  r.callVoid('x87Reduce', r.s, a.exponent, a.significand);
  return { sign: a.sign };
}

/** (s, value): the sine, or the cosine as the sine a quadrant on. */
function sineRoutine(isCosine: boolean) {
  return routine(['v128'], 'v128', (r, f) => {
    const math = new WideMath(r);
    const value = f.parameter('v128', 1);
    const one = real(i64.const(1n << 63n), i32.const(BIAS));
    const { sign } = beginAngle(r, value, isCosine ? one : value);
    const quadrant = f.let(i32.add(i32.load(r.s, Work.QUADRANT), Number(isCosine)));
    const result = math.real(i32.const(0), i32.const(0), ZERO64, ZERO64);
    f.if(
      i32.and(quadrant, 1),
      () => copy(r, result, cosine(r, math)),
      () => copy(r, result, sine(r, math)),
    );
    const turned = i32.shl(i32.and(quadrant, 2), 14);
    const own = isCosine ? i32.const(0) : sign;
    f.set(result.sign, i32.xor(result.sign, i32.xor(turned, own)));
    roundInexact(r, result);
  });
}

/** FSINCOS: the sine; the cosine goes to SECOND. */
const x87SineCosine = routine(['v128'], 'v128', (r, f) => {
  const value = f.parameter('v128', 1);
  f.storeV128(r.s, r.callReal('x87Cosine', r.s, value), Scratch.SECOND);
  // C1 is that of the sine, which comes last.
  f.store32(r.s, i32.and(i32.load(r.s, Scratch.FLAGS), ~Status.C1), Scratch.FLAGS);
  f.return(r.callReal('x87Sine', r.s, value));
});

/** FPTAN: the tangent; SECOND becomes 1, or the NaN that the tangent is. */
const x87Tangent = routine(['v128'], 'v128', (r, f) => {
  const math = new WideMath(r);
  const value = f.parameter('v128', 1);
  const a = r.parts(value);
  const infinite = i32.and(r.isInfinite(a), i32.eqz(r.isNaN(a)));
  f.if(i32.or(r.isUnsupported(a), infinite), () => {
    f.storeV128(r.s, INDEFINITE, Scratch.SECOND);
    r.invalid();
  });
  f.if(r.isNaN(a), () => {
    const quiet = r.callReal('x87NaN', r.s, value, value);
    f.storeV128(r.s, quiet, Scratch.SECOND);
    f.return(quiet);
  });
  f.storeV128(r.s, real(i64.const(1n << 63n), i32.const(BIAS)), Scratch.SECOND);
  const { sign } = beginAngle(r, value, value);
  const above = sine(r, math);
  const below = cosine(r, math);
  f.set(above.sign, i32.xor(above.sign, sign));
  f.if(i32.and(i32.load(r.s, Work.QUADRANT), 1), () => {
    math.divideReal(below, above);
    f.set(below.sign, i32.xor(below.sign, SIGN));
    roundInexact(r, below);
  });
  math.divideReal(above, below);
  roundInexact(r, above);
});

// ---- The arc tangent ------------------------------------------------------------------------------------

/** Angles have 125 bits after the point, as pi takes two before it. */
const PI = 0x6487ed5110b4611a62633145c06e0e69n;
const ANGLE_POINT = 125;
/** Arc tangents of k / 8. */
const ARC = [
  0n,
  0x3fab7535585edb8cb225e627cfa223cn,
  0x7d6dd7e4b203758ab6e3cf7afbd10bfn,
  0xb7b0ca0f26f784738aa32122dcfe448n,
  0xed63382b0dda7b456fe445ecbc3a8d0n,
  0x11e00babdefeb3f36b906bc2ccb886e9n,
  0x14978fa3269ee12483350fe548afb594n,
  0x1700a7c5784633ce7965b4aa42148888n,
  0x1921fb54442d18469898cc51701b839an,
];
/** Of arguments up to 1/16 and a little more: (1 / 16)^32 / 33 is below 2^-133. */
const ARC_SERIES = Array.from({ length: TERMS }, (_, n) => ONE / BigInt(2 * n + 1));
/** From this difference of exponents on the ratio is below 1/16. */
const NO_STEP = 5;

/** Sets an angle to a constant chosen by number. */
function choose(r: Routine, to: Wide, from: readonly bigint[], number: I32): void {
  const { f } = r;
  from.forEach((value, i) => {
    f.if(i32.eq(number, i), () => {
      f.set(to.high, highOf(value));
      f.set(to.low, lowOf(value));
    });
  });
}

/** number = arc tangent of number, which is small. */
function smallArc(r: Routine, math: WideMath, number: WideReal): void {
  timesBelowOne(r, math, number, math.series('x87ArcSeries', math.square(number)));
}

/** FPATAN (s, x, y): the angle of the point (x, y), from -pi to pi. */
const x87ArcTangent = routine(['v128', 'v128'], 'v128', (r, f) => {
  const math = new WideMath(r);
  const x = r.parts(f.parameter('v128', 1));
  const y = r.parts(f.parameter('v128', 2));
  const finish = (angle: Wide): void => {
    const places = math.normalize(angle);
    const biased = i32.sub(i32.const(BIAS + 127 - ANGLE_POINT), places);
    r.round(y.sign, biased, angle.high, i64.or(angle.low, 1), fullPrecision(r));
  };
  const multiple = (quarters: bigint): void => finish(math.constant((PI * quarters) / 4n));
  const leftOrRight = (left: bigint, right: bigint): void => {
    const one = (quarters: bigint): void => {
      if (quarters === 0n) f.return(realZero(y.sign));
      else multiple(quarters);
    };
    f.if(
      x.sign,
      () => one(left),
      () => one(right),
    );
  };
  f.if(i32.eqz(i32.and(r.isNormal(x), r.isNormal(y))), () => {
    r.screen(x, y);
    r.raiseDenormal(x);
    r.raiseDenormal(y);
    f.if(r.isInfinite(y), () => {
      f.if(r.isInfinite(x), () => leftOrRight(3n, 1n));
      multiple(2n);
    });
    f.if(i32.or(r.isZero(y), r.isInfinite(x)), () => leftOrRight(4n, 0n));
    f.if(r.isZero(x), () => multiple(2n));
    r.normalize(x);
    r.normalize(y);
  });

  // The ratio of the smaller to the larger, so that angles are at most pi / 4.
  const lessSignificand = i32.and(i32.eq(y.exponent, x.exponent), i64.gt_u(y.significand, x.significand));
  const steep = f.let(i32.or(i32.gt_s(y.exponent, x.exponent), lessSignificand));
  const small = f.let(select(steep, x.significand, y.significand));
  const large = f.let(select(steep, y.significand, x.significand));
  const smallExponent = f.let(select(steep, x.exponent, y.exponent));
  const largeExponent = f.let(select(steep, y.exponent, x.exponent));
  const distance = f.let(i32.sub(largeExponent, smallExponent));

  const angle = math.wide();
  const step = f.local('i32');
  f.if(i32.lt_s(distance, NO_STEP), () => {
    // The nearest eighth: the upper bits tell it well enough.
    const top = i64.shr_u(small, i64.add(i64.extend_u(distance), 5));
    const eighths = i64.div_u(i64.shl(top, 4), i64.shr_u(large, 5));
    f.set(step, i32.wrap(i64.shr_u(i64.add(eighths, 1), 1)));
  });
  f.if(
    step,
    () => {
      // tan(a - b) = (tan a - tan b) / (1 + tan a tan b), over a common denominator.
      const k = f.let(i64.extend_u(step));
      const larger = math.wide(ZERO64, large);
      const places = f.let(i64.extend_u(distance));
      const shiftLeft = (value: Wide, count: typeof places): void => {
        const over = i64.shr_u(i64.shr_u(value.low, 1), i64.sub(i64.const(63), count));
        math.set(value, i64.or(i64.shl(value.high, count), over), i64.shl(value.low, count));
      };
      shiftLeft(larger, places);
      const scaled = (value: Wide, by: typeof k): Wide => {
        const low = f.let(i64.mul(value.low, by));
        const high = i64.add(i64.mul(value.high, by), r.call64('multiplyHigh', value.low, by));
        return math.wide(high, low);
      };
      const smaller = math.wide(ZERO64, small);
      const eight = i64.const(8);
      const difference = scaled(smaller, eight);
      const subtrahend = scaled(larger, k);
      const negative = f.let(math.isLess(difference, subtrahend));
      f.if(
        negative,
        () => math.subtractFrom(difference, subtrahend.high, subtrahend.low),
        () => {
          math.subtractFrom(subtrahend, difference.high, difference.low);
          math.set(difference, subtrahend.high, subtrahend.low);
        },
      );
      choose(r, angle, ARC, step);
      f.if(i32.eqz(math.isZero(difference)), () => {
        const sum = scaled(larger, eight);
        const part = scaled(smaller, k);
        math.add(sum, part.high, part.low);
        const n = math.real(i32.shl(negative, 15), i32.const(BIAS), difference.high, difference.low);
        const d = math.real(i32.const(0), i32.const(BIAS), sum.high, sum.low);
        f.set(n.exponent, i32.sub(n.exponent, math.normalize(n)));
        f.set(d.exponent, i32.sub(d.exponent, math.normalize(d)));
        math.divideReal(n, d);
        smallArc(r, math, n);
        math.shiftRight(n, i32.sub(i32.const(BIAS + 127 - ANGLE_POINT), n.exponent));
        f.if(
          n.sign,
          () => {
            math.subtractFrom(n, angle.high, angle.low);
            math.set(angle, n.high, n.low);
          },
          () => math.add(angle, n.high, n.low),
        );
      });
    },
    () => {
      const n = math.real(y.sign, smallExponent, small, ZERO64);
      const d = math.real(i32.const(0), largeExponent, large, ZERO64);
      math.divideReal(n, d);
      smallArc(r, math, n);
      f.if(i32.eqz(i32.or(steep, x.sign)), () => roundInexact(r, n));
      math.shiftRight(n, i32.sub(i32.const(BIAS + 127 - ANGLE_POINT), n.exponent));
      math.set(angle, n.high, n.low);
    },
  );
  f.if(steep, () => math.subtractFrom(angle, highOf(PI / 2n), lowOf(PI / 2n)));
  f.if(x.sign, () => math.subtractFrom(angle, highOf(PI), lowOf(PI)));
  finish(angle);
});

export const trigonometry = {
  x87SineSeries: seriesRoutine(SINE, true),
  x87CosineSeries: seriesRoutine(COSINE, true),
  x87ArcSeries: seriesRoutine(ARC_SERIES, true),
  x87Reduce,
  x87Sine: sineRoutine(false),
  x87Cosine: sineRoutine(true),
  x87SineCosine,
  x87Tangent,
  x87ArcTangent,
};
