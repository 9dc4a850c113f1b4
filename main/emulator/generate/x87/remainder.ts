import { i32, i64, select, type I32, type I64 } from '../../wasm/expression.ts';
import {
  BIAS,
  Control,
  INDEFINITE,
  realInfinity,
  realZero,
  real,
  type Routine,
  routine,
  Scratch,
  SIGN,
  SPECIAL,
  Status,
  ZERO64,
} from './format.ts';

/** Scaling, taking apart, and remainders: all exact but for the range of exponents. */

/** The control word with the full precision, which all but the basic operations have. */
export function fullPrecision(r: Routine): I32 {
  return r.f.let(i32.or(r.control(), Control.EXTENDED));
}

/** Scales by no more than this: the result has long over- or underflown. */
const FARTHEST = 0x10000;

/** FSCALE (s, a, b): a times two to the power of b, truncated. */
const x87Scale = routine(['v128', 'v128'], 'v128', (r, f) => {
  const a = r.parts(f.parameter('v128', 1));
  const b = r.parts(f.parameter('v128', 2));
  r.screen(a, b);
  f.if(r.isInfinite(b), () => {
    f.if(
      b.sign,
      () => {
        f.if(r.isInfinite(a), () => r.invalid());
        r.raiseDenormal(a);
        f.return(realZero(a.sign));
      },
      () => {
        f.if(r.isZero(a), () => r.invalid());
        r.raiseDenormal(a);
        f.return(realInfinity(a.sign));
      },
    );
  });
  r.raiseDenormal(b);
  f.if(i32.or(r.isInfinite(a), r.isZero(a)), () => f.return(f.parameter('v128', 1)));
  r.raiseDenormal(a);
  r.normalize(a);
  const distance = f.local('i32');
  f.if(
    i32.ge_u(b.exponent, BIAS + 16),
    () => f.set(distance, i32.const(FARTHEST)),
    () => {
      f.if(i32.ge_u(b.exponent, BIAS), () => {
        const shift = i64.extend_u(i32.sub(i32.const(BIAS + 63), b.exponent));
        f.set(distance, i32.wrap(i64.shr_u(b.significand, shift)));
      });
    },
  );
  f.if(b.sign, () => f.set(distance, i32.sub(i32.const(0), distance)));
  r.round(a.sign, i32.add(a.exponent, distance), a.significand, ZERO64, fullPrecision(r));
});

/** FXTRACT (s, a): the exponent of a as a number; the significand goes to SECOND. */
const x87Extract = routine(['v128'], 'v128', (r, f) => {
  const a = r.parts(f.parameter('v128', 1));
  f.storeV128(r.s, INDEFINITE, Scratch.SECOND);
  f.if(i32.eqz(r.isNormal(a)), () => {
    f.if(r.isUnsupported(a), () => r.invalid());
    f.if(r.isNaN(a), () => {
      const quiet = r.callReal('x87NaN', r.s, r.whole(a), r.whole(a));
      f.storeV128(r.s, quiet, Scratch.SECOND);
      f.return(quiet);
    });
    f.storeV128(r.s, r.whole(a), Scratch.SECOND);
    f.if(r.isInfinite(a), () => f.return(realInfinity(i32.const(0))));
    f.if(r.isZero(a), () => {
      r.raise(Status.ZE);
      f.return(realInfinity(i32.const(SIGN)));
    });
    r.raiseDenormal(a);
    r.normalize(a);
  });
  f.storeV128(r.s, real(a.significand, i32.or(a.sign, BIAS)), Scratch.SECOND);
  f.return(r.callReal('x87FromInteger', r.s, i64.extend_s(i32.sub(a.exponent, BIAS))));
});

/** The largest difference of exponents that one instruction does away with (SDM vol. 2, FPREM). */
const WHOLE = 64;

/**
 * FPREM and FPREM1 (s, a, b, nearest): the remainder of a / b with the quotient truncated, or rounded to nearest
 * even. Condition codes go to SECOND, and C1 to FLAGS: the quotient's bits 2, 1 and 0 are C0, C3 and C1, or C2
 * says that this was only a part of the way.
 */
const x87Remainder = routine(['v128', 'v128', 'i32'], 'v128', (r, f) => {
  const a = r.parts(f.parameter('v128', 1));
  const b = r.parts(f.parameter('v128', 2));
  const nearest = f.parameter('i32', 3);
  f.if(i32.eqz(i32.and(r.isNormal(a), r.isNormal(b))), () => {
    r.screen(a, b);
    f.if(i32.or(r.isInfinite(a), r.isZero(b)), () => r.invalid());
    r.raiseDenormal(a);
    r.raiseDenormal(b);
    f.store32(r.s, i32.const(0), Scratch.SECOND);
    f.if(r.isZero(a), () => f.return(f.parameter('v128', 1)));
    r.normalize(a);
    f.if(r.isInfinite(b), () => f.set(b.exponent, i32.const(SPECIAL + 1)));
    r.normalize(b);
  });
  f.store32(r.s, i32.const(0), Scratch.SECOND);
  const distance = f.local('i32');
  f.set(distance, i32.sub(a.exponent, b.exponent));
  const quotient = f.local('i64');
  const rest = f.local('i64');
  const exponent = f.local('i32');
  f.set(rest, a.significand);
  f.set(exponent, a.exponent);
  f.if(
    i32.ge_s(distance, 0),
    () => {
      f.set(exponent, b.exponent);
      const partial = f.let(i32.ge_s(distance, WHOLE));
      f.if(partial, () => {
        const step = f.let(i32.or(i32.and(distance, 31), 32));
        f.set(exponent, i32.add(b.exponent, i32.sub(distance, step)));
        f.set(distance, step);
      });
      const first = f.let(i64.ge_u(rest, b.significand));
      f.if(first, () => f.set(rest, i64.sub(rest, b.significand)));
      const left = f.let(i64.extend_u(distance));
      const right = i64.sub(i64.const(63), left);
      const high = i64.shr_u(i64.shr_u(rest, 1), right);
      const divided = r.call64('divideWide', r.s, high, i64.shl(rest, left), b.significand);
      f.set(rest, i64.load(r.s, Scratch.REMAINDER));
      f.set(quotient, i64.or(divided, i64.shl(i64.extend_u(first), left)));
      f.if(
        partial,
        () => f.store32(r.s, i32.const(Status.C2), Scratch.SECOND),
        () => {
          const other = f.let(i64.sub(b.significand, rest));
          const odd = i32.wrap(i64.and(quotient, 1));
          const above = i32.or(i64.gt_u(rest, other), i32.and(i64.eq(rest, other), odd));
          f.if(i32.and(nearest, above), () => {
            f.set(rest, other);
            f.set(a.sign, i32.xor(a.sign, SIGN));
            f.set(quotient, i64.add(quotient, 1));
          });
          storeQuotient(r, quotient);
        },
      );
    },
    () => {
      // Half of b may still be less than a.
      const near = i32.and(nearest, i32.eq(distance, -1));
      f.if(i32.and(near, i64.gt_u(rest, b.significand)), () => {
        f.set(rest, i64.sub(i64.shl(b.significand, 1), rest));
        f.set(a.sign, i32.xor(a.sign, SIGN));
        f.set(quotient, i64.const(1));
        storeQuotient(r, quotient);
      });
    },
  );
  f.if(i64.eqz(rest), () => f.return(realZero(a.sign)));
  const shift = f.let(i64.clz(rest));
  r.round(a.sign, i32.sub(exponent, i32.wrap(shift)), i64.shl(rest, shift), ZERO64, fullPrecision(r));
});

/** Bits 0, 1, 2 of the quotient to C1, C3, C0. */
function storeQuotient(r: Routine, quotient: I64): void {
  const bit = (number: number): I32 => i32.and(i32.wrap(i64.shr_u(quotient, number)), 1);
  const codes = i32.or(select(bit(2), i32.const(Status.C0), i32.const(0)), i32.shl(bit(1), 14));
  r.f.store32(r.s, codes, Scratch.SECOND);
  r.raise(i32.shl(bit(0), 9));
}

export const remainders = { x87Scale, x87Extract, x87Remainder };
