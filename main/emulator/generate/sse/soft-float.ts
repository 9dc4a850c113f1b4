import { Field } from '../../state.ts';
import { i32, i64, select, type I32, type I64, type Local } from '../../wasm/expression.ts';
import type { FunctionBuilder } from '../../wasm/module.ts';

/**
 * IEEE 754 arithmetic on binary32 and binary64 in integers, exact in every rounding mode, with MXCSR's flags,
 * denormals-are-zeros and flush-to-zero (SDM vol. 1, 11.5 and appendix E). The parts here write code into a
 * routine under construction; routines.ts makes the routines of them.
 *
 * A finite number is taken apart into a sign, an exponent biased as in its format but of any size, and a
 * significand with its highest bit in bit 62, so that 10 (binary64) or 39 (binary32) bits lie below the
 * last place: the lowest of them is sticky.
 */

export interface Format {
  readonly bits: 32 | 64;
  /** Bits of the fraction field. */
  readonly fraction: number;
  /** The exponent of infinities and NaNs. */
  readonly special: number;
  readonly bias: number;
}
export const SINGLE: Format = { bits: 32, fraction: 23, special: 0xff, bias: 127 };
export const DOUBLE: Format = { bits: 64, fraction: 52, special: 0x7ff, bias: 1023 };

/** Bits of MXCSR. */
export const Mxcsr = {
  IE: 1,
  DE: 2,
  ZE: 4,
  OE: 8,
  UE: 16,
  PE: 32,
  DAZ: 0x40,
  MASKS: 0x1f80,
  OVERFLOW_MASK: 0x400,
  UNDERFLOW_MASK: 0x800,
  ROUNDING_SHIFT: 13,
  FTZ: 0x8000,
} as const;
export const Rounding = { NEAREST: 0, DOWN: 1, UP: 2, ZERO: 3 } as const;

/** Where routines collect the flags of one instruction (32 bits), relative to the vCPU's block. */
export const FLAGS = Field.SCRATCH + 0xf0;

export const signMask = (format: Format): bigint => 1n << BigInt(format.bits - 1);
export const infinity = (format: Format): bigint => BigInt(format.special) << BigInt(format.fraction);
export const quietBit = (format: Format): bigint => 1n << BigInt(format.fraction - 1);
export const defaultNaN = (format: Format): bigint => signMask(format) | infinity(format) | quietBit(format);
const unsign = (format: Format): bigint => signMask(format) - 1n;

/** A finite number taken apart; significand 0 is zero. */
export interface Unpacked {
  /** 0 or 1. */
  readonly sign: Local<'i64'>;
  readonly exponent: Local<'i32'>;
  readonly significand: Local<'i64'>;
}

/** The writer of one routine: its parameter 0 is the vCPU's block. */
export class SoftFloat {
  readonly f: FunctionBuilder;
  readonly s: I32;
  readonly mxcsr: I32;
  readonly flags: Local<'i32'>;

  constructor(f: FunctionBuilder) {
    this.f = f;
    this.s = f.parameter('i32', 0);
    this.mxcsr = f.let(i32.load(this.s, Field.MXCSR));
    this.flags = f.local('i32');
  }

  raise(flags: number): void {
    this.f.set(this.flags, i32.or(this.flags, i32.const(flags)));
  }

  raiseIf(condition: I32, flag: number): void {
    this.f.if(condition, () => this.raise(flag));
  }

  /** Ends the routine: hands over the flags. */
  finish(value: I64 | I32): void {
    const f = this.f;
    f.store32(this.s, i32.or(i32.load(this.s, FLAGS), this.flags), FLAGS);
    f.return(value);
  }

  rounding(): I32 {
    return i32.and(i32.shr_u(this.mxcsr, Mxcsr.ROUNDING_SHIFT), 3);
  }

  // ---- Classes of numbers -------------------------------------------------------------------------------

  magnitude(format: Format, x: I64): I64 {
    return i64.and(x, unsign(format));
  }
  isNaN(format: Format, x: I64): I32 {
    return i64.gt_u(this.magnitude(format, x), infinity(format));
  }
  isSignalling(format: Format, x: I64): I32 {
    return i32.and(this.isNaN(format, x), i64.eqz(i64.and(x, quietBit(format))));
  }
  isInfinite(format: Format, x: I64): I32 {
    return i64.eq(this.magnitude(format, x), infinity(format));
  }
  isDenormal(format: Format, x: I64): I32 {
    return i64.lt_u(i64.sub(this.magnitude(format, x), 1), (1n << BigInt(format.fraction)) - 1n);
  }
  isNegative(format: Format, x: I64): I32 {
    return i64.ne(i64.and(x, signMask(format)), 0);
  }

  /** x, or a zero of its sign when it is denormal and MXCSR.DAZ is set. */
  flushInput(format: Format, x: I64): I64 {
    const flush = i32.and(i32.and(this.mxcsr, Mxcsr.DAZ), i32.shl(this.isDenormal(format, x), 6));
    return this.f.let(select(flush, i64.and(x, signMask(format)), x));
  }

  /** DE when one is denormal; those that DAZ clears are not denormal any more. */
  raiseDenormal(format: Format, ...operands: I64[]): void {
    for (const x of operands) this.raiseIf(this.isDenormal(format, x), Mxcsr.DE);
  }

  /** Ends the routine with the NaN of the operands, if one is: the first operand's wins (SDM vol. 1, table 4-7). */
  propagateNaN(format: Format, a: I64, b: I64 = a): void {
    const f = this.f;
    const first = f.let(this.isNaN(format, a));
    f.if(i32.or(first, this.isNaN(format, b)), () => {
      this.raiseIf(i32.or(this.isSignalling(format, a), this.isSignalling(format, b)), Mxcsr.IE);
      this.finish(i64.or(select(first, a, b), quietBit(format)));
    });
  }

  /** Ends the routine with IE and the default NaN. */
  invalid(format: Format): void {
    this.raise(Mxcsr.IE);
    this.finish(i64.const(defaultNaN(format)));
  }

  // ---- Taking apart and putting together ----------------------------------------------------------------

  /** Takes a finite number apart. */
  unpack(format: Format, x: I64): Unpacked {
    const f = this.f;
    const { fraction, special } = format;
    const sign = f.local('i64');
    const exponent = f.local('i32');
    const significand = f.local('i64');
    f.set(sign, i64.and(i64.shr_u(x, format.bits - 1), 1));
    f.set(exponent, i32.and(i32.wrap(i64.shr_u(x, fraction)), special));
    f.set(significand, i64.and(x, (1n << BigInt(fraction)) - 1n));
    f.if(
      exponent,
      () => f.set(significand, i64.shl(i64.or(significand, 1n << BigInt(fraction)), 62 - fraction)),
      () =>
        f.if(i64.ne(significand, 0), () => {
          const zeros = f.let(i64.clz(significand));
          f.set(significand, i64.shl(significand, i64.sub(zeros, 1)));
          f.set(exponent, i32.sub(i32.const(64 - fraction), i32.wrap(zeros)));
        }),
    );
    return { sign, exponent, significand };
  }

  /** Shifts right by any count from 0 up; what falls off makes the lowest bit 1. */
  shiftRightSticky(value: I64, count: I32): I64 {
    const { f } = this;
    const result = f.local('i64');
    f.if(
      i32.lt_u(count, 64),
      () => {
        const wide = f.let(i64.extend_u(count));
        const kept = f.let(i64.shr_u(value, wide));
        f.set(result, i64.or(kept, i64.extend_u(i64.ne(i64.shl(kept, wide), value))));
      },
      () => f.set(result, i64.extend_u(i64.ne(value, 0))),
    );
    return result;
  }

  /** Makes bit 62 the highest of a significand that is not 0 and whose bit 63 is 0. */
  normalize(number: Unpacked): void {
    const { f } = this;
    const shift = f.let(i64.sub(i64.clz(number.significand), 1));
    f.set(number.significand, i64.shl(number.significand, shift));
    f.set(number.exponent, i32.sub(number.exponent, i32.wrap(shift)));
  }

  /** Rounds a number whose significand is not 0, and ends the routine with it. */
  round(format: Format, number: Unpacked): void {
    const { f } = this;
    const { fraction, special } = format;
    const drop = 62 - fraction;
    const { sign, exponent, significand } = number;
    const lowBits = (1n << BigInt(drop)) - 1n;
    const signBit = f.let(i64.shl(sign, format.bits - 1));
    const rounding = f.let(this.rounding());
    // Away from zero: down for negative numbers, up for positive ones.
    const away = f.let(i32.eq(i32.add(rounding, i32.wrap(sign)), Rounding.UP));
    const directed = select(away, i64.const(lowBits), i64.const(0));
    const half = 1n << BigInt(drop - 1);
    const increment = f.let(select(rounding, directed, i64.const(half)));

    const tiny = f.local('i32');
    f.if(i32.le_s(exponent, 0), () => {
      // Tininess is that of the result rounded as if the exponent had no bound (SDM vol. 1, 4.9.1.5).
      const carries = i64.lt_s(i64.add(significand, increment), 0);
      f.set(tiny, i32.or(i32.lt_s(exponent, 0), i32.eqz(carries)));
      // Unmasked: the destination stays, and PE tells of the result before it gets too small an exponent.
      f.if(i32.and(tiny, i32.eqz(i32.and(this.mxcsr, Mxcsr.UNDERFLOW_MASK))), () => {
        this.raise(Mxcsr.UE);
        this.raiseIf(i64.ne(i64.and(significand, lowBits), 0), Mxcsr.PE);
        this.finish(signBit);
      });
      f.if(i32.and(tiny, i32.ne(i32.and(this.mxcsr, Mxcsr.FTZ), 0)), () => {
        this.raise(Mxcsr.UE | Mxcsr.PE);
        this.finish(signBit);
      });
      f.set(significand, this.shiftRightSticky(significand, i32.sub(i32.const(1), exponent)));
      f.set(exponent, i32.const(1));
    });

    const below = f.let(i64.and(significand, lowBits));
    const inexact = f.let(i64.ne(below, 0));
    this.raiseIf(i32.and(tiny, inexact), Mxcsr.UE);
    this.raiseIf(inexact, Mxcsr.PE);
    const rounded = f.local('i64');
    f.set(rounded, i64.shr_u(i64.add(significand, increment), drop));
    const tie = i32.and(i64.eq(below, half), i32.eqz(rounding));
    f.set(rounded, i64.and(rounded, i64.xor(i64.extend_u(tie), -1)));
    // The leading bit of the significand, where there is one, counts the exponent up.
    const packed = i64.add(i64.shl(i64.extend_s(i32.sub(exponent, 1)), fraction), rounded);
    f.if(i32.ge_s(exponent, special), () => this.overflow(format, signBit, away, rounding));
    const value = f.let(packed);
    f.if(i64.ge_u(value, infinity(format)), () => this.overflow(format, signBit, away, rounding));
    this.finish(i64.or(value, signBit));
  }

  private overflow(format: Format, signBit: I64, away: I32, rounding: I32): void {
    this.raise(Mxcsr.OE);
    // Unmasked, only bits that were cut off count as inexact.
    this.raiseIf(i32.and(this.mxcsr, Mxcsr.OVERFLOW_MASK), Mxcsr.PE);
    const toInfinity = i32.or(i32.eqz(rounding), away);
    const magnitude = select(toInfinity, i64.const(infinity(format)), i64.const(infinity(format) - 1n));
    this.finish(i64.or(magnitude, signBit));
  }
}
