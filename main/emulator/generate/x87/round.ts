import { i32, i64, select, type I32, type I64, type Local } from '../../wasm/expression.ts';
import type { LibraryRoutine } from '../semantics.ts';
import {
  BIAS,
  Control,
  INTEGER_BIT,
  real,
  realInfinity,
  realZero,
  type Routine,
  routine,
  Scratch,
  SIGN,
  SPECIAL,
  Status,
  WRAP,
  ZERO64,
} from './format.ts';

/** Rounding (SDM vol. 1, 4.8.4 and 8.1.5.3): to registers, and to the formats of memory. */

/** Rounding mode plus sign bit when the mode leads away from zero: down and negative, or up and positive. */
const AWAY = 2;

/** A rounding decision, bound. */
interface Decision {
  readonly inexact: I32;
  /** 0 or 1: the kept part is increased. */
  readonly up: I32;
}

/** What is lost of high:low when the lowest `drop` (bound; 0-63) bits of `high` and all of `low` go. */
function fractionOf(r: Routine, high: I64, low: I64, drop: I64): I64 {
  const { f } = r;
  const fraction = f.local('i64');
  f.set(fraction, low);
  f.if(i64.ne(drop, 0), () => {
    const sticky = i64.extend_u(i64.ne(low, 0));
    f.set(fraction, i64.or(i64.shl(high, i64.sub(i64.const(64), drop)), sticky));
  });
  return fraction;
}

/** Rounding to nearest, to even. */
function decideNearest(r: Routine, high: I64, low: I64, drop: I64): Decision {
  const { f } = r;
  const fraction = fractionOf(r, high, low, drop);
  const odd = i32.wrap(i64.and(i64.shr_u(high, drop), 1));
  const beyond = i32.or(i64.ne(i64.shl(fraction, 1), 0), odd);
  const up = f.let(i32.and(i64.lt_s(fraction, 0), beyond));
  return { inexact: i64.ne(fraction, 0), up };
}

/** Rounding as the mode says. */
function decide(r: Routine, sign: I32, high: I64, low: I64, drop: I64, rounding: I32): Decision {
  const { f } = r;
  const nearest = decideNearest(r, high, low, drop);
  const inexact = f.let(nearest.inexact);
  const away = i32.eq(i32.add(rounding, i32.shr_u(sign, 15)), AWAY);
  const up = f.let(select(rounding, i32.and(away, inexact), nearest.up));
  return { inexact, up };
}

/** All but the lowest `drop` bits, increased when so decided; 0 when that carries out. */
function kept(high: I64, drop: I64, up: I32): I64 {
  return i64.shl(i64.add(i64.shr_u(high, drop), i64.extend_u(up)), drop);
}

/** What the formats differ in. */
interface Target {
  /** Exponents (biased as this format is) from here on overflow. */
  readonly special: number;
  /** Memory does not get wrapped results: the store does not take place. */
  readonly wraps: boolean;
}

/**
 * Rounds to a format: raises UE, OE, PE and C1 and leaves the significand (bit 63 clear for denormals, with
 * exponent 0) and the exponent in the locals. After an overflow the exponent is `special`, and the significand
 * that of infinity or all ones, cut.
 */
function roundTo(
  r: Routine,
  target: Target,
  sign: I32,
  exponent: Local<'i32'>,
  high: Local<'i64'>,
  low: Local<'i64'>,
  drop: I64,
  control: I32,
): void {
  const f = r.f;
  const rounding = f.let(r.rounding(control));
  const tiny = f.local('i32');
  f.if(i32.le_s(exponent, 0), () => {
    // Tininess is that of the result rounded as if the exponent had no bound (SDM vol. 1, 4.9.1.5).
    const { up } = decide(r, sign, high, low, drop, rounding);
    const carries = i64.eqz(kept(high, drop, up));
    f.set(tiny, i32.or(i32.lt_s(exponent, 0), i32.eqz(carries)));
    const unmasked = i32.eqz(i32.and(control, Status.UE));
    const denormalize = (): void => {
      r.shiftRightSticky(high, low, i32.sub(i32.const(1), exponent));
      f.set(exponent, i32.const(0));
    };
    f.if(
      i32.and(tiny, unmasked),
      () => {
        if (target.wraps) {
          r.raise(Status.UE);
          f.set(exponent, i32.add(exponent, WRAP));
          // FSCALE can lead even farther: to zero.
          f.if(i32.le_s(exponent, 0), () => {
            r.raise(Status.PE);
            f.return(realZero(sign));
          });
        } else {
          r.raiseOnly(Status.UE);
          f.return(ZERO64);
        }
      },
      denormalize,
    );
  });

  const { inexact, up } = decide(r, sign, high, low, drop, rounding);
  f.if(inexact, () => {
    r.raise(i32.or(i32.or(i32.const(Status.PE), i32.shl(tiny, 4)), i32.shl(up, 9)));
  });
  f.set(high, kept(high, drop, up));
  f.if(i32.and(up, i64.eqz(high)), () => {
    f.set(high, i64.const(INTEGER_BIT));
    f.set(exponent, i32.add(exponent, 1));
  });
  f.if(i32.and(i32.eqz(exponent), i64.lt_s(high, 0)), () => f.set(exponent, i32.const(1)));

  f.if(i32.ge_s(exponent, target.special), () => {
    r.raise(Status.OE);
    const masked = i32.and(control, Status.OE);
    const overflow = (): void => {
      const away = i32.eq(i32.add(rounding, i32.shr_u(sign, 15)), AWAY);
      f.if(
        i32.or(i32.eqz(rounding), away),
        () => {
          r.raise(Status.PE | Status.C1);
          f.set(exponent, i32.const(target.special));
          f.set(high, i64.const(INTEGER_BIT));
        },
        () => {
          r.raiseOnly(i32.or(i32.and(i32.load(r.s, Scratch.FLAGS), ~Status.C1), Status.PE));
          f.set(exponent, i32.const(target.special - 1));
          f.set(high, i64.shl(i64.const(-1), drop));
        },
      );
    };
    f.if(masked, overflow, () => {
      if (target.wraps) {
        f.set(exponent, i32.sub(exponent, WRAP));
        f.if(i32.ge_s(exponent, SPECIAL), () => {
          r.raise(Status.PE | Status.C1);
          f.return(realInfinity(sign));
        });
      } else {
        r.raiseOnly(Status.OE);
        f.return(ZERO64);
      }
    });
  });
}

/**
 * (s, sign, exponent, high, low, control): rounds high:low, whose bit 127 is set, to the precision of a control
 * word, and packs it.
 */
const x87Round = routine(['i32', 'i32', 'i64', 'i64', 'i32'], 'v128', (r, f) => {
  const sign = f.parameter('i32', 1);
  const exponent = f.parameter('i32', 2);
  const high = f.parameter('i64', 3);
  const low = f.parameter('i64', 4);
  const control = f.parameter('i32', 5);
  const precision = f.let(i32.and(control, Control.EXTENDED));
  const short = select(i32.eqz(precision), i64.const(40), i64.const(0));
  const drop = f.let(select(i32.eq(precision, Control.DOUBLE), i64.const(11), short));
  // Nearly always the result is far from the ends of the range and rounded to nearest.
  const inRange = i32.lt_u(i32.sub(exponent, 1), SPECIAL - 2);
  f.if(i32.and(inRange, i32.eqz(r.rounding(control))), () => {
    const { inexact, up } = decideNearest(r, high, low, drop);
    f.if(inexact, () => {
      r.raise(i32.or(i32.shl(up, 9), Status.PE));
      f.set(high, kept(high, drop, up));
      // A carry leaves nothing but the integer bit.
      f.if(i64.eqz(high), () => {
        f.return(real(i64.const(INTEGER_BIT), i32.or(sign, i32.add(exponent, 1))));
      });
    });
    f.return(real(high, i32.or(sign, exponent)));
  });
  roundTo(r, { special: SPECIAL, wraps: true }, sign, exponent, high, low, drop, control);
  f.return(real(high, i32.or(sign, exponent)));
});

/** (s, value): a number as binary32 or binary64, zero-extended. What happens is in FLAGS. */
function toFormat(fraction: number, exponentBits: number): LibraryRoutine {
  const bits = 1 + exponentBits + fraction;
  const special = 2 ** exponentBits - 1;
  const drop = i64.const(63 - fraction);
  const fractionMask = (1n << BigInt(fraction)) - 1n;
  return routine(['v128'], 'i64', (r, f) => {
    const number = r.parts(f.parameter('v128', 1));
    const { sign, exponent, significand } = number;
    const finish = (biased: I64, fractionField: I64): void => {
      const signBit = i64.shl(i64.extend_u(sign), bits - 16);
      f.return(i64.or(signBit, i64.add(i64.shl(biased, fraction), fractionField)));
    };
    const field = (): I64 => i64.and(i64.shr_u(significand, drop), fractionMask);
    const rebias = BIAS - (special >> 1);
    const rebiased = f.let(i32.sub(exponent, rebias));
    // Nearly always the result is far from the ends of the range and rounded to nearest.
    const inRange = i32.lt_u(i32.sub(rebiased, 1), special - 2);
    const nearest = i32.eqz(r.rounding(r.control()));
    f.if(i32.and(i32.and(inRange, i64.lt_s(significand, 0)), nearest), () => {
      const { inexact, up } = decideNearest(r, significand, ZERO64, drop);
      f.if(inexact, () => r.raise(i32.or(i32.shl(up, 9), Status.PE)));
      // A carry out of the fraction goes to the exponent.
      finish(i64.extend_u(rebiased), i64.add(field(), i64.extend_u(up)));
    });
    f.if(r.isUnsupported(number), () => {
      r.raise(Status.IE);
      f.set(sign, i32.const(SIGN));
      finish(i64.const(special), i64.const(1n << BigInt(fraction - 1)));
    });
    f.if(r.isInfinite(number), () => {
      r.raise(r.isSignalling(number));
      // A NaN becomes quiet; what does not fit of its significand is lost.
      const quiet = i64.extend_u(i64.ne(i64.shl(significand, 1), 0));
      finish(i64.const(special), i64.or(field(), i64.shl(quiet, fraction - 1)));
    });
    f.if(i64.eqz(significand), () => finish(ZERO64, ZERO64));
    r.normalize(number);
    f.set(exponent, i32.sub(exponent, rebias));
    const low = f.local('i64');
    const target = { special, wraps: false };
    roundTo(r, target, sign, exponent, significand, low, drop, f.let(r.control()));
    finish(i64.extend_u(exponent), field());
  });
}

export const rounding = {
  x87Round,
  x87ToSingle: toFormat(23, 8),
  x87ToDouble: toFormat(52, 11),
};
