import { Field } from '../../state.ts';
import {
  f32,
  f64,
  i32,
  i64,
  select,
  type I32,
  type I64,
  type Type,
  type V128,
} from '../../wasm/expression.ts';
import { bits128, f32x4, f64x2, i32x4, i64x2 } from '../../wasm/simd.ts';
import { call } from '../../wasm/module.ts';
import type { Emitter } from '../emitter.ts';
import type { LibraryRoutine } from '../semantics.ts';
import { DOUBLE, FLAGS, infinity, Mxcsr, SINGLE, type Format } from './soft-float.ts';

/**
 * What the floating-point instructions share: the conditions under which WebAssembly's own arithmetic gives
 * what the processor would, flags included, and the way to the routines when they do not hold.
 *
 * With all exceptions masked, rounding to nearest, no DAZ, no FTZ, and PE already set, an operation on numbers
 * that are not denormal or NaN, with a result that is finite and not tiny, changes no flag: it can be left to
 * the host. PE gets set by the first inexact operation of a program and stays.
 */

const FAST_BITS = Mxcsr.MASKS | Mxcsr.PE | Mxcsr.DAZ | Mxcsr.FTZ | (3 << Mxcsr.ROUNDING_SHIFT);
const FAST = Mxcsr.MASKS | Mxcsr.PE;

/** MXCSR is such that an inexact result needs nothing done. */
export function isFast(c: Emitter): I32 {
  // Flags that are set later don't change it, and PE only makes it true.
  return c.remembered('fast floats', i32.eq(i32.and(c.field32(Field.MXCSR), FAST_BITS), FAST));
}

const leastNormal = (format: Format): bigint => 1n << BigInt(format.fraction);
const magnitudeMask = (format: Format): bigint => (1n << BigInt(format.bits - 1)) - 1n;

/** Neither denormal (x is bound) nor anything else that raises DE; NaNs pass. */
export function notDenormal(format: Format, x: I64): I32 {
  const below = i64.sub(i64.and(x, magnitudeMask(format)), 1);
  return i64.ge_u(below, leastNormal(format) - 1n);
}

/** Zero, normal or infinite. */
export function isOrdinary(format: Format, x: I64): I32 {
  return i32.and(notDenormal(format, x), i64.le_u(i64.and(x, magnitudeMask(format)), infinity(format)));
}

/**
 * Finite, and above the least normal number: that one may be a tiny result that was rounded up.
 */
export function isPlain(format: Format, x: I64): I32 {
  const least = leastNormal(format) + 1n;
  return i64.lt_u(i64.sub(i64.and(x, magnitudeMask(format)), least), infinity(format) - least);
}

export function isFinite(format: Format, x: I64): I32 {
  return i64.lt_u(i64.and(x, magnitudeMask(format)), infinity(format));
}

// ---- Vectors --------------------------------------------------------------------------------------------

/** The vector instructions of a format. */
export const lanesOf = { 32: f32x4, 64: f64x2 } as const;

function splat(format: Format, bits: bigint): V128 {
  return format.bits === 32 ? i32x4.splat(i32.const(Number(bits))) : i64x2.splat(i64.const(bits));
}

/** The sign bit in every lane. */
export function signs(format: Format): V128 {
  return splat(format, 1n << BigInt(format.bits - 1));
}

/** Masks of the lanes that are zero, normal or infinite. */
export function ordinaryLanes(format: Format, x: V128): V128 {
  const ops = lanesOf[format.bits];
  return bits128.or(ops.ge(ops.abs(x), splat(format, leastNormal(format))), ops.eq(x, splat(format, 0n)));
}
export function finiteLanes(format: Format, x: V128): V128 {
  const ops = lanesOf[format.bits];
  return ops.lt(ops.abs(x), splat(format, infinity(format)));
}
export function plainLanes(format: Format, x: V128): V128 {
  const ops = lanesOf[format.bits];
  return bits128.and(finiteLanes(format, x), ops.gt(ops.abs(x), splat(format, leastNormal(format))));
}
export function zeroLanes(format: Format, x: V128): V128 {
  return lanesOf[format.bits].eq(x, splat(format, 0n));
}
export function everyLane(format: Format, mask: V128): I32 {
  return format.bits === 32 ? i32x4.all_true(mask) : i64x2.all_true(mask);
}

// ---- Scalars --------------------------------------------------------------------------------------------

/** Applies a host operation to numbers held as integers. */
export function hostScalar(
  format: Format,
  single: (...numbers: ReturnType<typeof f32.reinterpret_i32>[]) => ReturnType<typeof f32.reinterpret_i32>,
  double: (...numbers: ReturnType<typeof f64.reinterpret_i64>[]) => ReturnType<typeof f64.reinterpret_i64>,
  ...operands: I64[]
): I64 {
  if (format.bits === 64) {
    return i64.reinterpret_f64(double(...operands.map((x) => f64.reinterpret_i64(x))));
  }
  return i64.extend_u(i32.reinterpret_f32(single(...operands.map((x) => f32.reinterpret_i32(i32.wrap(x))))));
}

// ---- The slow way ---------------------------------------------------------------------------------------

/** Computes with routines between these two: their flags go to MXCSR, and an unmasked one is raised. */
export function withFlags(c: Emitter, compute: () => void): void {
  c.setField32(FLAGS, i32.const(0));
  compute();
  const vector = c.call('reportFlags', 'i32', c.s);
  c.f.if(vector, () => c.raise(vector));
}

const OSXMMEXCPT = 1 << 10;
const INVALID_OPCODE = 6;
const SIMD_EXCEPTION = 19;

/** reportFlags (s): merges FLAGS into MXCSR; the vector to raise, or 0. */
const reportFlags: LibraryRoutine = {
  signature: { parameters: ['i32'], result: 'i32' },
  build(f) {
    const s = f.parameter('i32', 0);
    const all = f.let(i32.load(s, FLAGS));
    const mxcsr = f.let(i32.load(s, Field.MXCSR));
    const unmasked = f.let(i32.xor(i32.and(i32.shr_u(mxcsr, 7), 0x3f), 0x3f));
    // An exception that is found before computing stops it in all lanes: nothing is rounded then.
    const early = Mxcsr.IE | Mxcsr.DE | Mxcsr.ZE;
    const stopped = i32.and(i32.and(all, unmasked), early);
    const flags = f.let(select(stopped, i32.and(all, early), all));
    f.store32(s, i32.or(mxcsr, flags), Field.MXCSR);
    f.if(i32.eqz(i32.and(flags, unmasked)), () => f.return(i32.const(0)));
    f.if(i32.and(i32.load(s, Field.CR4), OSXMMEXCPT), () => f.return(i32.const(SIMD_EXCEPTION)));
    f.return(i32.const(INVALID_OPCODE));
  },
};

export function lane(format: Format, vector: V128, n: number): I64 {
  return format.bits === 32 ? i64.extend_u(i32x4.extract_lane(vector, n)) : i64x2.extract_lane(vector, n);
}
export function withLane(format: Format, vector: V128, n: number, value: I64): V128 {
  return format.bits === 32
    ? i32x4.replace_lane(vector, n, i32.wrap(value))
    : i64x2.replace_lane(vector, n, value);
}

/** A routine (s, vectors ...) that does a scalar routine lane by lane; `extra` are operands after the lanes. */
export function byLanes(
  format: Format,
  name: string,
  vectors: number,
  extra: readonly I64[] = [],
): LibraryRoutine {
  return {
    signature: { parameters: ['i32', ...new Array<Type>(vectors).fill('v128')], result: 'v128' },
    build(f, callees) {
      const s = f.parameter('i32', 0);
      const operands = Array.from({ length: vectors }, (_, i) => f.parameter('v128', i + 1));
      const result = f.local('v128');
      for (let n = 0; n < 128 / format.bits; n++) {
        const parts = operands.map((vector) => lane(format, vector, n));
        const value = call(callees(name), 'i64', s, ...parts, ...extra);
        f.set(result, withLane(format, result, n, f.let(value)));
      }
      f.return(result);
    },
  };
}

export const floatRoutines: Record<string, LibraryRoutine> = {
  reportFlags,
  ...Object.fromEntries(
    [SINGLE, DOUBLE].flatMap((format) => [
      [`add${format.bits}s`, byLanes(format, `add${format.bits}`, 3)],
      ...['mul', 'div', 'min', 'max'].map((name) => [
        `${name}${format.bits}s`,
        byLanes(format, `${name}${format.bits}`, 2),
      ]),
      [`sqrt${format.bits}s`, byLanes(format, `sqrt${format.bits}`, 1)],
    ]),
  ),
};
