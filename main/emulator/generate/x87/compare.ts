import { i32, i64, select } from '../../wasm/expression.ts';
import { INTEGER_BIT, routine, SPECIAL, Status } from './format.ts';

/** Comparing and classifying. */

/** The condition codes of a comparison (SDM vol. 2, FCOM): the first is greater, less, equal; or no order. */
export const Order = {
  GREATER: 0,
  LESS: Status.C0,
  EQUAL: Status.C3,
  UNORDERED: Status.C0 | Status.C2 | Status.C3,
} as const;

/** (s, a, b, quiet): compares, as a condition code. With `quiet` only signalling NaNs are invalid. */
const x87Compare = routine(['v128', 'v128', 'i32'], 'i32', (r, f) => {
  const a = r.parts(f.parameter('v128', 1));
  const b = r.parts(f.parameter('v128', 2));
  const quiet = f.parameter('i32', 3);
  f.if(i32.eqz(i32.and(r.isNormal(a), r.isNormal(b))), () => {
    f.if(i32.or(r.isUnsupported(a), r.isUnsupported(b)), () => {
      r.raiseOnly(Status.IE);
      f.return(i32.const(Order.UNORDERED));
    });
    f.if(i32.or(r.isNaN(a), r.isNaN(b)), () => {
      const signals = i32.or(r.isSignalling(a), r.isSignalling(b));
      r.raiseOnly(i32.or(i32.eqz(quiet), signals));
      f.return(i32.const(Order.UNORDERED));
    });
    r.raiseDenormal(a);
    r.raiseDenormal(b);
    f.if(i32.and(r.isZero(a), r.isZero(b)), () => f.return(i32.const(Order.EQUAL)));
    // A pseudo-denormal has the exponent of the smallest normal number.
    for (const one of [a, b]) {
      const pseudo = i32.and(i32.eqz(one.exponent), i64.lt_s(one.significand, 0));
      f.if(pseudo, () => f.set(one.exponent, i32.const(1)));
    }
  });
  f.if(i32.ne(a.sign, b.sign), () =>
    f.return(select(a.sign, i32.const(Order.LESS), i32.const(Order.GREATER))),
  );
  const exponents = i32.eq(a.exponent, b.exponent);
  f.if(i32.and(exponents, i64.eq(a.significand, b.significand)), () => f.return(i32.const(Order.EQUAL)));
  const less = select(exponents, i64.lt_u(a.significand, b.significand), i32.lt_u(a.exponent, b.exponent));
  f.return(i32.shl(i32.xor(less, i32.shr_u(a.sign, 15)), 8));
});

/** (s, value): the condition codes of FXAM for a register that is not empty, without C1. */
const x87Examine = routine(['v128'], 'i32', (r, f) => {
  const number = r.parts(f.parameter('v128', 1));
  const is = (condition: Parameters<typeof f.if>[0], code: number): void => {
    f.if(condition, () => f.return(i32.const(code)));
  };
  is(r.isUnsupported(number), 0);
  is(r.isZero(number), Status.C3);
  is(i32.eqz(number.exponent), Status.C2 | Status.C3);
  is(i32.ne(number.exponent, SPECIAL), Status.C2);
  is(i64.ne(number.significand, INTEGER_BIT), Status.C0);
  f.return(i32.const(Status.C0 | Status.C2));
});

export const comparison = { x87Compare, x87Examine };
