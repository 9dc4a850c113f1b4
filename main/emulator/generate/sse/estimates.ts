import { f32, i32, i64, type I32, type I64, type V128 } from '../../wasm/expression.ts';
import { bits128, f32x4, i32x4 } from '../../wasm/simd.ts';
import { call } from '../../wasm/module.ts';
import type { Emitter } from '../emitter.ts';
import type { LibraryRoutine, Semantics, SemanticsGroup } from '../semantics.ts';
import { lane, signs, withFlags, withLane } from './floats.ts';
import { imm8, isXmm, low64, readScalar, sse, writeScalar } from './operands.ts';
import { DOUBLE, FLAGS, SINGLE, type Format } from './soft-float.ts';

/**
 * RCPxx and RSQRTxx, which know no flags and no modes, and the dot products.
 *
 * Processors differ in the bits of the estimates; the manuals ask for a relative error of at most 1.5 * 2^-12.
 * Ours are the true values rounded to 12 bits of fraction, which errs by 2^-13.
 */

const all = (bits: number): V128 => i32x4.splat(i32.const(bits));
const LEAST_NORMAL = 2 ** -126;
/** Reciprocals of numbers from here on are not above the least normal one: they become zeros. */
const VANISHING = 2 ** 126;
const FRACTION_HALF = 0x400;
const FRACTION_KEPT = ~0x7ff;

/** Numbers below the least normal one become zeros. */
function flushTiny(x: V128): V128 {
  const tiny = f32x4.lt(f32x4.abs(x), f32x4.splat(f32.const(LEAST_NORMAL)));
  return bits128.select(bits128.and(x, signs(SINGLE)), x, tiny);
}

function estimate(c: Emitter, source: V128, root: boolean): V128 {
  const x = c.f.let(flushTiny(source));
  // The root of a zero has its sign, and so has the reciprocal of that.
  const exact = f32x4.div(f32x4.splat(f32.const(1)), root ? f32x4.sqrt(x) : x);
  const rounded = bits128.and(i32x4.add(exact, all(FRACTION_HALF)), all(FRACTION_KEPT));
  const isNaN = f32x4.ne(x, x);
  const quieted = c.f.let(bits128.select(bits128.or(x, all(0x400000)), rounded, isNaN));
  if (!root) {
    const vanishes = f32x4.ge(f32x4.abs(x), f32x4.splat(f32.const(VANISHING)));
    return bits128.select(bits128.and(x, signs(SINGLE)), quieted, vanishes);
  }
  const negative = f32x4.lt(x, all(0));
  return bits128.select(all(0xffc00000), quieted, negative);
}

const estimatePacked = (root: boolean): Semantics =>
  sse((c) => c.writeVector(0, estimate(c, c.readVector(1), root)));

const estimateScalar = (root: boolean): Semantics =>
  sse((c) => {
    const x = isXmm(c, 1) ? c.readVector(1) : c.f.let(low64(readScalar(c, 1, 32)));
    writeScalar(c, 0, 32, i64.extend_u(i32x4.extract_lane(estimate(c, x, root), 0)));
  });

// ---- Dot products ---------------------------------------------------------------------------------------

/**
 * dot (s, a, b, imm): products of the lanes that imm[4..] selects, added in pairs, in the lanes that imm[0..]
 * selects. An unmasked exception ends it after the stage that had it (SDM vol. 2, DPPS).
 */
const dotRoutine = (format: Format): LibraryRoutine => ({
  signature: { parameters: ['i32', 'v128', 'v128', 'i32'], result: 'v128' },
  build(f, callees) {
    const [s, a, b] = [f.parameter('i32', 0), f.parameter('v128', 1), f.parameter('v128', 2)];
    const imm = f.parameter('i32', 3);
    const count = 128 / format.bits;
    const result = f.local('v128');
    const bit = (n: number): I32 => i32.and(i32.shr_u(imm, n), 1);
    // A stage's flags go to MXCSR of their own; those of the last one, or of one that ends it, to the caller.
    const endStage = (): void => {
      f.if(call(callees('reportFlags'), 'i32', s), () => f.return(result));
      f.store32(s, i32.const(0), FLAGS);
    };
    const sum = (x: I64, y: I64): I64 =>
      f.let(call(callees(`add${format.bits}`), 'i64', s, x, y, i64.const(0)));

    const products = Array.from({ length: count }, (_, n) => {
      const product = f.local('i64');
      const value = call(callees(`mul${format.bits}`), 'i64', s, lane(format, a, n), lane(format, b, n));
      f.if(bit(4 + n), () => f.set(product, value));
      return product;
    });
    endStage();
    let sums: I64[] = products;
    while (sums.length > 1) {
      const pairs = sums;
      sums = Array.from({ length: pairs.length / 2 }, (_, i) => sum(pairs[2 * i], pairs[2 * i + 1]));
      endStage();
    }
    for (let n = 0; n < count; n++) {
      f.if(bit(n), () => f.set(result, withLane(format, result, n, sums[0])));
    }
    f.return(result);
  },
});

const dot = (format: Format): Semantics =>
  sse((c) => {
    const a = c.readVector(0);
    const b = c.readVector(1);
    const imm = imm8(c);
    const result = c.f.local('v128');
    withFlags(c, () => c.f.set(result, c.call(`dot${format.bits}`, 'v128', c.s, a, b, imm)));
    c.writeVector(0, result);
  });

export const estimates: SemanticsGroup = {
  name: 'sse estimates',
  plain: {
    rcpps: estimatePacked(false),
    rcpss: estimateScalar(false),
    rsqrtps: estimatePacked(true),
    rsqrtss: estimateScalar(true),
    dpps: dot(SINGLE),
    dppd: dot(DOUBLE),
  },
  library: { dot32: dotRoutine(SINGLE), dot64: dotRoutine(DOUBLE) },
};
