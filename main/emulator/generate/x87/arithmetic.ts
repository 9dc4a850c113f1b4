import { f64, i32, i64, select, type I32, type I64 } from '../../wasm/expression.ts';
import {
  BIAS,
  INTEGER_BIT,
  realInfinity,
  realZero,
  Rounding,
  type Routine,
  routine,
  Scratch,
  Status,
  ZERO64,
  type Parts,
} from './format.ts';

/** The operations of IEEE 754 on double extended numbers, rounded as the control word says. */

/** What an operation does with operands that are not both normal; those that go on are normal afterwards. */
function special(r: Routine, a: Parts, b: Parts, infinities: () => void, zeros: () => void): void {
  const f = r.f;
  f.if(i32.eqz(i32.and(r.isNormal(a), r.isNormal(b))), () => {
    r.screen(a, b);
    f.if(i32.or(r.isInfinite(a), r.isInfinite(b)), infinities);
    f.if(i32.or(i64.eqz(a.significand), i64.eqz(b.significand)), zeros);
    r.raiseDenormal(a);
    r.raiseDenormal(b);
    r.normalize(a);
    r.normalize(b);
  });
}

/** DE for denormals among operands of which one is zero or infinite. */
function raiseDenormals(r: Routine, a: Parts, b: Parts): void {
  r.raiseDenormal(a);
  r.raiseDenormal(b);
}

const MASK32 = 0xffffffff;

/** -0 when rounding down, else +0. */
function cancelledSign(r: Routine): I32 {
  return i32.shl(i32.eq(r.rounding(r.control()), Rounding.DOWN), 15);
}

/** (s, a, b, flip): a + b with b's sign changed by `flip`, 0 or 0x8000. */
const x87Add = routine(['v128', 'v128', 'i32'], 'v128', (r, f) => {
  const a = r.parts(f.parameter('v128', 1));
  const b = r.parts(f.parameter('v128', 2));
  const flip = f.parameter('i32', 3);
  const bSign = f.let(i32.xor(b.sign, flip));
  special(
    r,
    a,
    b,
    () => {
      const opposite = i32.and(i32.and(r.isInfinite(a), r.isInfinite(b)), i32.ne(a.sign, bSign));
      f.if(opposite, () => r.invalid());
      raiseDenormals(r, a, b);
      f.return(realInfinity(select(r.isInfinite(a), a.sign, bSign)));
    },
    () => {
      raiseDenormals(r, a, b);
      f.if(i32.and(i64.eqz(a.significand), i64.eqz(b.significand)), () => {
        f.return(realZero(select(i32.eq(a.sign, bSign), a.sign, cancelledSign(r))));
      });
      // Something and zero: still rounded, to the precision in force.
      f.if(
        i64.eqz(a.significand),
        () => {
          r.normalize(b);
          r.round(bSign, b.exponent, b.significand, ZERO64, r.control());
        },
        () => {
          r.normalize(a);
          r.round(a.sign, a.exponent, a.significand, ZERO64, r.control());
        },
      );
    },
  );

  // From here on a has the larger magnitude.
  const sign = f.local('i32');
  const exponent = f.local('i32');
  const high = f.local('i64');
  const smaller = f.local('i64');
  const distance = f.local('i32');
  const swap = f.let(
    i32.or(
      i32.lt_s(a.exponent, b.exponent),
      i32.and(i32.eq(a.exponent, b.exponent), i64.lt_u(a.significand, b.significand)),
    ),
  );
  f.set(sign, select(swap, bSign, a.sign));
  f.set(exponent, select(swap, b.exponent, a.exponent));
  f.set(high, select(swap, b.significand, a.significand));
  f.set(smaller, select(swap, a.significand, b.significand));
  const step = f.let(i32.sub(a.exponent, b.exponent));
  f.set(distance, select(swap, i32.sub(i32.const(0), step), step));

  const low = f.local('i64');
  r.shiftRightSticky(smaller, low, distance);
  f.if(
    i32.eq(a.sign, bSign),
    () => {
      f.set(high, i64.add(high, smaller));
      f.if(i64.lt_u(high, smaller), () => {
        const lost = i64.and(low, 1);
        f.set(low, i64.or(i64.or(i64.shr_u(low, 1), i64.shl(high, 63)), lost));
        f.set(high, i64.or(i64.shr_u(high, 1), INTEGER_BIT));
        f.set(exponent, i32.add(exponent, 1));
      });
    },
    () => {
      f.set(high, i64.sub(i64.sub(high, smaller), i64.extend_u(i64.ne(low, 0))));
      f.set(low, i64.sub(ZERO64, low));
      f.if(i64.eqz(i64.or(high, low)), () => f.return(realZero(cancelledSign(r))));
      f.if(i64.eqz(high), () => {
        f.set(high, low);
        f.set(low, ZERO64);
        f.set(exponent, i32.sub(exponent, 64));
      });
      const shift = f.let(i64.clz(high));
      f.if(i64.ne(shift, 0), () => {
        f.set(high, i64.or(i64.shl(high, shift), i64.shr_u(low, i64.sub(i64.const(64), shift))));
        f.set(low, i64.shl(low, shift));
        f.set(exponent, i32.sub(exponent, i32.wrap(shift)));
      });
    },
  );
  r.round(sign, exponent, high, low, r.control());
});

const x87Multiply = routine(['v128', 'v128'], 'v128', (r, f) => {
  const a = r.parts(f.parameter('v128', 1));
  const b = r.parts(f.parameter('v128', 2));
  const sign = f.let(i32.xor(a.sign, b.sign));
  special(
    r,
    a,
    b,
    () => {
      f.if(i32.or(r.isZero(a), r.isZero(b)), () => r.invalid());
      raiseDenormals(r, a, b);
      f.return(realInfinity(sign));
    },
    () => {
      raiseDenormals(r, a, b);
      f.return(realZero(sign));
    },
  );
  // Four products of halves, as multiplyHigh has them, with the lower half of the whole beside.
  const aLow = f.let(i64.and(a.significand, MASK32));
  const aHigh = f.let(i64.shr_u(a.significand, 32));
  const bLow = f.let(i64.and(b.significand, MASK32));
  const bHigh = f.let(i64.shr_u(b.significand, 32));
  const lowest = f.let(i64.mul(aLow, bLow));
  const middle = f.let(i64.add(i64.mul(aHigh, bLow), i64.shr_u(lowest, 32)));
  const cross = f.let(i64.add(i64.mul(aLow, bHigh), i64.and(middle, MASK32)));
  const high = f.local('i64');
  const low = f.local('i64');
  const exponent = f.local('i32');
  f.set(low, i64.or(i64.shl(cross, 32), i64.and(lowest, MASK32)));
  const carried = i64.add(i64.shr_u(middle, 32), i64.shr_u(cross, 32));
  f.set(high, i64.add(i64.mul(aHigh, bHigh), carried));
  f.set(exponent, i32.sub(i32.add(a.exponent, b.exponent), BIAS - 1));
  f.if(i64.ge_s(high, 0), () => {
    f.set(high, i64.or(i64.shl(high, 1), i64.shr_u(low, 63)));
    f.set(low, i64.shl(low, 1));
    f.set(exponent, i32.sub(exponent, 1));
  });
  r.round(sign, exponent, high, low, r.control());
});

const x87Divide = routine(['v128', 'v128'], 'v128', (r, f) => {
  const a = r.parts(f.parameter('v128', 1));
  const b = r.parts(f.parameter('v128', 2));
  const sign = f.let(i32.xor(a.sign, b.sign));
  special(
    r,
    a,
    b,
    () => {
      f.if(i32.and(r.isInfinite(a), r.isInfinite(b)), () => r.invalid());
      raiseDenormals(r, a, b);
      f.if(r.isInfinite(a), () => f.return(realInfinity(sign)));
      f.return(realZero(sign));
    },
    () => {
      f.if(i64.eqz(b.significand), () => {
        f.if(i64.eqz(a.significand), () => r.invalid());
        // Not even DE is raised beside it.
        r.raiseOnly(Status.ZE);
        f.return(realInfinity(sign));
      });
      raiseDenormals(r, a, b);
      f.return(realZero(sign));
    },
  );
  // The quotient's integer bit is there when the dividend's significand is the smaller one: half of it else.
  const less = f.let(i64.lt_u(a.significand, b.significand));
  const high = select(less, a.significand, i64.shr_u(a.significand, 1));
  const low = select(less, ZERO64, i64.shl(a.significand, 63));
  const quotient = r.call64('divideWide', r.s, high, low, b.significand);
  const remainder = f.let(i64.load(r.s, Scratch.REMAINDER));
  // Of what follows the quotient only its relation to one half counts.
  const rest = i64.sub(b.significand, remainder);
  const relation = f.let(
    i64.or(
      i64.shl(i64.extend_u(i64.ge_u(remainder, rest)), 63),
      i64.extend_u(i32.and(i64.ne(remainder, 0), i64.ne(remainder, rest))),
    ),
  );
  const exponent = i32.add(i32.sub(a.exponent, b.exponent), i32.sub(i32.const(BIAS), less));
  r.round(sign, exponent, quotient, relation, r.control());
});

/** Square root: the estimate of the host's binary64 unit, one step of Newton's, and the exact remainder. */
const x87SquareRoot = routine(['v128'], 'v128', (r, f) => {
  const a = r.parts(f.parameter('v128', 1));
  f.if(i32.or(i32.eqz(r.isNormal(a)), a.sign), () => {
    r.screen(a);
    f.if(r.isZero(a), () => f.return(realZero(a.sign)));
    f.if(a.sign, () => r.invalid());
    f.if(r.isInfinite(a), () => f.return(realInfinity(a.sign)));
    r.raiseDenormal(a);
    r.normalize(a);
  });
  // The radicand has 128 bits, one less for an odd exponent, so that half of it is a whole exponent.
  const odd = f.let(i64.extend_u(i32.and(a.exponent, 1)));
  const high = f.let(i64.shr_u(a.significand, odd));
  const low = f.let(i64.and(i64.shl(a.significand, 63), i64.sub(ZERO64, odd)));
  const estimate = f64.mul(f64.sqrt(f64.convert_i64_u(high)), f64.const(2 ** 32));
  const root = f.local('i64');
  f.set(root, i64.trunc_f64_u(estimate));
  f.set(root, select(i64.lt_s(root, 0), root, i64.const(INTEGER_BIT)));

  const squareLow = (): I64 => i64.mul(root, root);
  const squareHigh = (): I64 => r.call64('multiplyHigh', root, root);
  // Remainder = radicand - root^2: about 2^77, so its upper part as a binary64 tells the step to within 1.
  const restHigh = f.local('i64');
  const restLow = f.local('i64');
  const remainder = (): void => {
    const product = f.let(squareLow());
    f.set(restHigh, i64.sub(i64.sub(high, squareHigh()), i64.extend_u(i64.lt_u(low, product))));
    f.set(restLow, i64.sub(low, product));
  };
  remainder();
  const rest = f64.add(f64.mul(f64.convert_i64_s(restHigh), f64.const(2 ** 64)), f64.convert_i64_u(restLow));
  const step = f64.floor(f64.div(rest, f64.mul(f64.convert_i64_u(root), f64.const(2))));
  const stepped = f.let(i64.add(root, i64.trunc_f64_s(step)));
  // A root that the step carries out of 64 bits, or out of its range, is the nearest one inside.
  const carried = i32.and(i64.ge_s(stepped, 0), f64.ge(step, f64.const(0)));
  f.set(root, select(carried, i64.const(-1), stepped));
  f.set(root, select(i64.lt_s(root, 0), root, i64.const(INTEGER_BIT)));
  remainder();
  f.loop((again) => {
    f.if(i64.lt_s(restHigh, 0), () => {
      f.set(root, i64.sub(root, 1));
      remainder();
      f.break(again);
    });
  });
  f.loop((again) => {
    // root + 1 is still not too large when the remainder is at least 2 root + 1.
    const twice = i64.shl(root, 1);
    const above = i32.or(i64.gt_u(restHigh, 1), i32.and(i64.eq(restHigh, 1), i64.gt_u(restLow, twice)));
    f.if(above, () => {
      f.set(root, i64.add(root, 1));
      remainder();
      f.break(again);
    });
  });
  const aboveHalf = i32.or(i64.ne(restHigh, 0), i64.gt_u(restLow, root));
  const relation = i64.or(
    i64.shl(i64.extend_u(aboveHalf), 63),
    i64.extend_u(i64.ne(i64.or(restHigh, restLow), 0)),
  );
  // Biased exponents: an odd one is an even power of two.
  const exponent = i32.add(i32.shr_s(i32.sub(a.exponent, BIAS), 1), BIAS);
  r.round(i32.const(0), exponent, root, relation, r.control());
});

export const arithmetic = { x87Add, x87Multiply, x87Divide, x87SquareRoot };
