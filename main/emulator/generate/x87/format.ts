import { Field } from '../../state.ts';
import { i32, i64, select, type I32, type I64, type Local, type V128 } from '../../wasm/expression.ts';
import { call, type FunctionBuilder, type FunctionReference } from '../../wasm/module.ts';
import { i64x2 } from '../../wasm/simd.ts';
import type { Callees } from '../emitter.ts';
import type { LibraryRoutine } from '../semantics.ts';

/**
 * The double extended format and the x87 control and status words (SDM vol. 1, chapter 8). Between routines a
 * number is a vector as it lies in the register file: lane 0 the significand with its explicit integer bit,
 * lane 1 the sign (bit 15) and the exponent.
 */

/** Bits of the status word. */
export const Status = {
  IE: 0x01,
  DE: 0x02,
  ZE: 0x04,
  OE: 0x08,
  UE: 0x10,
  PE: 0x20,
  SF: 0x40,
  ES: 0x80,
  C0: 0x100,
  C1: 0x200,
  C2: 0x400,
  C3: 0x4000,
  BUSY: 0x8000,
} as const;
export const CONDITIONS: number = Status.C0 | Status.C1 | Status.C2 | Status.C3;
/** Exceptions that leave the operands as they are when they are not masked (SDM vol. 1, 8.5). */
export const BEFORE: number = Status.IE | Status.DE | Status.ZE;

/** The control word: a mask bit below each exception, precision in bits 8-9, rounding in bits 10-11. */
export const Control = {
  EXCEPTIONS: 0x3f,
  /** Unused bit 6 reads as 1. */
  ALWAYS: 0x40,
  DEFINED: 0x1f7f,
  EXTENDED: 0x300,
  DOUBLE: 0x200,
  ROUNDING_SHIFT: 10,
  INITIAL: 0x37f,
} as const;
export const Rounding = { NEAREST: 0, DOWN: 1, UP: 2, ZERO: 3 } as const;

export const BIAS = 0x3fff;
export const SPECIAL = 0x7fff;
export const SIGN = 0x8000;
export const INTEGER_BIT = 1n << 63n;
export const QUIET_BIT = 1n << 62n;
/** Added to or taken from the exponent of a result that over- or underflows without a mask (SDM vol. 1, 8.5.4). */
export const WRAP = 0x6000;

/** The x87 routines' part of the scratch area: 112 bytes. */
export const Scratch = {
  /** Where divideWide leaves its remainder. */
  REMAINDER: Field.SCRATCH,
  /** Exceptions and C1 of the instruction at hand: 32 bits. */
  FLAGS: Field.SCRATCH + 0x80,
  /** A second result: 16 bytes. */
  SECOND: Field.SCRATCH + 0x90,
  /** Working space of the transcendental functions. */
  WORK: Field.SCRATCH + 0xa0,
  /** An image of the environment or of the whole state takes all of it. */
  IMAGE: Field.SCRATCH + 0x80,
} as const;

export const ZERO64: I64 = i64.const(0);
export const ZERO128: V128 = i64x2.splat(ZERO64);

/** A number from its significand and its sign and exponent. */
export function real(significand: I64, signExponent: I32): V128 {
  return i64x2.replace_lane(i64x2.splat(significand), 1, i64.extend_u(signExponent));
}
export const realZero = (sign: I32): V128 => i64x2.replace_lane(ZERO128, 1, i64.extend_u(sign));
export const realInfinity = (sign: I32): V128 => real(i64.const(INTEGER_BIT), i32.or(sign, SPECIAL));
/** The indefinite: what masked invalid operations give. */
export const INDEFINITE: V128 = real(i64.const(INTEGER_BIT | QUIET_BIT), i32.const(SIGN | SPECIAL));

/** A number taken apart. */
export interface Parts {
  /** 0 or 0x8000. */
  readonly sign: Local<'i32'>;
  readonly exponent: Local<'i32'>;
  readonly significand: Local<'i64'>;
}

/** The writer of one routine; parameter 0 of the routine is the vCPU's block. */
export class Routine {
  readonly f: FunctionBuilder;
  readonly s: I32;
  private readonly callees: Callees;

  constructor(f: FunctionBuilder, callees: Callees) {
    this.f = f;
    this.s = f.parameter('i32', 0);
    this.callees = callees;
  }

  call32(name: string, ...operands: Parameters<typeof call>[2][]): I32 {
    return this.f.let(call(this.callees(name), 'i32', ...operands));
  }
  call64(name: string, ...operands: Parameters<typeof call>[2][]): I64 {
    return this.f.let(call(this.callees(name), 'i64', ...operands));
  }
  callReal(name: string, ...operands: Parameters<typeof call>[2][]): V128 {
    return this.f.let(call(this.callees(name), 'v128', ...operands));
  }
  /** Ends the routine with what another gives. */
  returnCall(name: string, ...operands: Parameters<typeof call>[2][]): void {
    this.f.returnCall(this.callees(name), ...operands);
  }
  callVoid(name: string, ...operands: Parameters<typeof call>[2][]): void {
    this.f.call(this.callees(name), ...operands);
  }

  control(): I32 {
    return i32.load(this.s, Field.FPU_CONTROL);
  }
  rounding(control: I32): I32 {
    return i32.and(i32.shr_u(control, Control.ROUNDING_SHIFT), 3);
  }

  raise(flags: number | I32): void {
    const value = typeof flags === 'number' ? i32.const(flags) : flags;
    this.f.store32(this.s, i32.or(i32.load(this.s, Scratch.FLAGS), value), Scratch.FLAGS);
  }
  raiseIf(condition: I32, flags: number): void {
    this.f.if(condition, () => this.raise(flags));
  }
  /** Replaces what was raised before: for exceptions that hide those of a memory operand's conversion. */
  raiseOnly(flags: number | I32): void {
    this.f.store32(this.s, typeof flags === 'number' ? i32.const(flags) : flags, Scratch.FLAGS);
  }
  /** Ends the routine: the operation is invalid. */
  invalid(): void {
    this.raiseOnly(Status.IE);
    this.f.return(INDEFINITE);
  }

  // ---- Taking apart -------------------------------------------------------------------------------------

  parts(value: V128): Parts {
    const f = this.f;
    const sign = f.local('i32');
    const exponent = f.local('i32');
    const significand = f.local('i64');
    f.set(significand, i64.lane(value, 0));
    f.set(exponent, i32.wrap(i64.lane(value, 1)));
    f.set(sign, i32.and(exponent, SIGN));
    f.set(exponent, i32.and(exponent, SPECIAL));
    return { sign, exponent, significand };
  }

  put(to: Parts, from: Parts): void {
    this.f.set(to.sign, from.sign);
    this.f.set(to.exponent, from.exponent);
    this.f.set(to.significand, from.significand);
  }

  whole({ sign, exponent, significand }: Parts): V128 {
    return real(significand, i32.or(sign, exponent));
  }

  /** A finite number that is neither zero nor denormal nor in an encoding that is not supported. */
  isNormal({ exponent, significand }: Parts): I32 {
    return i32.and(i32.lt_u(i32.sub(exponent, 1), SPECIAL - 1), i64.lt_s(significand, 0));
  }
  /** Pseudo-NaNs, pseudo-infinities and unnormals (SDM vol. 1, 8.2.2). */
  isUnsupported({ exponent, significand }: Parts): I32 {
    return i32.and(i32.ne(exponent, 0), i64.ge_s(significand, 0));
  }
  /** Of a supported encoding. */
  isNaN({ exponent, significand }: Parts): I32 {
    return i32.and(i32.eq(exponent, SPECIAL), i64.ne(i64.shl(significand, 1), 0));
  }
  isSignalling(parts: Parts): I32 {
    return i32.and(this.isNaN(parts), i64.eqz(i64.and(parts.significand, QUIET_BIT)));
  }
  /** Of a supported encoding that is no NaN. */
  isInfinite({ exponent }: Parts): I32 {
    return i32.eq(exponent, SPECIAL);
  }
  isZero({ exponent, significand }: Parts): I32 {
    return i64.eqz(i64.or(significand, i64.extend_u(exponent)));
  }
  /** Pseudo-denormals count too. */
  isDenormal({ exponent, significand }: Parts): I32 {
    return i32.and(i32.eqz(exponent), i64.ne(significand, 0));
  }

  /** Raises DE for a denormal. */
  raiseDenormal(parts: Parts): void {
    this.raiseIf(this.isDenormal(parts), Status.DE);
  }

  /**
   * Gives a denormal its integer bit; the exponent may become less than 1. Zeros keep a significand of 0. Call it
   * for finite numbers only.
   */
  normalize({ exponent, significand }: Parts): void {
    const f = this.f;
    f.if(i32.eqz(exponent), () => {
      f.if(i64.ne(significand, 0), () => {
        const shift = f.let(i64.clz(significand));
        f.set(significand, i64.shl(significand, shift));
        f.set(exponent, i32.sub(i32.const(1), i32.wrap(shift)));
      });
    });
  }

  /** Ends the routine when an operand is a NaN or not supported. */
  screen(...operands: Parts[]): void {
    const f = this.f;
    const any = (test: (one: Parts) => I32): I32 => operands.map(test).reduce((a, b) => i32.or(a, b));
    f.if(
      any((one) => this.isUnsupported(one)),
      () => this.invalid(),
    );
    f.if(
      any((one) => this.isNaN(one)),
      () => {
        const [a, b = a] = operands;
        this.returnCall('x87NaN', this.s, this.whole(a), this.whole(b));
      },
    );
  }

  /** Rounds a value (significand with bit 63 set, then 64 bits more) and ends the routine with it. */
  round(sign: I32, exponent: I32, high: I64, low: I64, control: I32): void {
    this.returnCall('x87Round', this.s, sign, exponent, high, low, control);
  }

  /** Shifts high:low right by 0 to any count; what falls off makes the lowest bit 1. */
  shiftRightSticky(high: Local<'i64'>, low: Local<'i64'>, count: I32): void {
    const f = this.f;
    f.if(i32.ne(count, 0), () => {
      f.if(
        i32.lt_u(count, 64),
        () => {
          const right = f.let(i64.extend_u(count));
          const left = f.let(i64.sub(i64.const(64), right));
          const lost = i64.extend_u(i64.ne(i64.shl(low, left), 0));
          f.set(low, i64.or(i64.or(i64.shl(high, left), i64.shr_u(low, right)), lost));
          f.set(high, i64.shr_u(high, right));
        },
        () => {
          f.if(
            i32.lt_u(count, 128),
            () => {
              const right = f.let(i64.extend_u(i32.sub(count, 64)));
              // With a shift of 64 nothing of `high` is lost.
              const lost = i64.ne(i64.or(low, i64.sub(high, i64.shl(i64.shr_u(high, right), right))), 0);
              f.set(low, i64.or(i64.shr_u(high, right), i64.extend_u(lost)));
            },
            () => f.set(low, i64.extend_u(i64.ne(i64.or(high, low), 0))),
          );
          f.set(high, ZERO64);
        },
      );
    });
  }
}

/** A routine whose first parameter is the vCPU's block. */
export function routine(
  parameters: readonly ('i32' | 'i64' | 'v128')[],
  result: 'i32' | 'i64' | 'v128' | undefined,
  build: (r: Routine, f: FunctionBuilder & FunctionReference) => void,
): LibraryRoutine {
  return {
    signature: { parameters: ['i32', ...parameters], result },
    build: (f, callees) => {
      build(new Routine(f, callees), f);
      if (result) f.unreachable();
    },
  };
}

/**
 * NaN of two operands of which at least one is (SDM vol. 1, table 4-7): the other when one is no NaN or signals
 * alone, else that with the larger significand, else the positive one; made quiet.
 */
export const x87NaN = routine(['v128', 'v128'], 'v128', (r, f) => {
  const a = r.parts(f.parameter('v128', 1));
  const b = r.parts(f.parameter('v128', 2));
  const aSignals = f.let(r.isSignalling(a));
  const bSignals = f.let(r.isSignalling(b));
  r.raiseOnly(i32.or(aSignals, bSignals));
  const larger = i32.or(
    i64.gt_u(a.significand, b.significand),
    i32.and(i64.eq(a.significand, b.significand), i32.lt_u(a.sign, b.sign)),
  );
  const both = f.let(i32.and(r.isNaN(a), r.isNaN(b)));
  const oneSignals = f.let(i32.xor(aSignals, bSignals));
  const first = f.let(select(both, select(oneSignals, bSignals, larger), r.isNaN(a)));
  const significand = select(first, a.significand, b.significand);
  const sign = select(first, a.sign, b.sign);
  f.return(real(i64.or(significand, QUIET_BIT), i32.or(sign, SPECIAL)));
});
