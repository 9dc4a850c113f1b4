import { OperandKind } from '../../instruction.ts';
import { Flag, setArithmeticFlags } from '../flags.ts';
import type { Emitter } from '../emitter.ts';
import type { Semantics, SemanticsGroup } from '../semantics.ts';
import { i32, i64, select, type I32, type V128 } from '../../wasm/expression.ts';
import { bits128, i16x8, i32x4, i64x2, i8x16 } from '../../wasm/simd.ts';
import {
  bytes,
  doublewords,
  enterMmx,
  fromByte,
  imm8,
  isMmx,
  low64,
  lowOf,
  quadwords,
  readMmxVector,
  readScalar,
  requireMmx,
  sse,
  words,
  writeMmx,
} from './operands.ts';

/** Arithmetic, comparison and logic on packed integers, in XMM and MMX registers; logic on packed reals. */

/** What one instruction makes of its two operands; both are bound. */
export type VectorFunction = (a: V128, b: V128, c: Emitter) => V128;

/**
 * An instruction whose result's low half depends on the low halves only, or that tells what to do with MMX
 * operands, which come with zeros above.
 */
export function packed(compute: VectorFunction, mmx: VectorFunction = compute): Semantics {
  const wide = sse((c) => {
    const a = c.readVector(0);
    const b = c.readVector(1);
    c.writeVector(0, compute(a, b, c));
  });
  return (c) => {
    if (!isMmx(c, 0)) return wide(c);
    requireMmx(c);
    const a = readMmxVector(c, 0);
    const b = readMmxVector(c, 1);
    writeMmx(c, 0, lowOf(mmx(a, b, c)));
    enterMmx(c);
  };
}

/** The same with one operand, the source. */
function packedUnary(compute: (b: V128) => V128): Semantics {
  return (c) => {
    if (!isMmx(c, 0)) return sse((at) => at.writeVector(0, compute(at.readVector(1))))(c);
    requireMmx(c);
    writeMmx(c, 0, lowOf(compute(readMmxVector(c, 1))));
    enterMmx(c);
  };
}

/** The low half of b above the low half of a. */
export const joinLow = (a: V128, b: V128): V128 =>
  i8x16.shuffle(a, b, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);

/** Packing reads a below b; MMX packs both halves of one vector. */
function pack(narrow: (a: V128, b: V128) => V128): Semantics {
  return packed(narrow, (a, b, c) => {
    const both = c.f.let(joinLow(a, b));
    return narrow(both, both);
  });
}

const lanes = (size: number, first: number): number[] =>
  Array.from({ length: 16 }, (_, i) => first + (i % size) + 2 * size * Math.floor(i / size));

/** Horizontal operations: the even lanes of b:a and the odd ones. */
function horizontal(size: number, combine: (even: V128, odd: V128) => V128): Semantics {
  const compute: VectorFunction = (a, b) =>
    combine(i8x16.shuffle(a, b, lanes(size, 0)), i8x16.shuffle(a, b, lanes(size, size)));
  return packed(compute, (a, b, c) => {
    const both = c.f.let(joinLow(a, b));
    return compute(both, both, c);
  });
}

/** PSIGN: a, its negative, or 0 as b is. */
const sign =
  (
    ops: { eq: typeof i8x16.eq; sub: typeof i8x16.sub; shr_s: typeof i8x16.shr_s },
    width: number,
  ): VectorFunction =>
  (a, b, c) => {
    const negative = c.f.let(ops.shr_s(b, i32.const(width - 1)));
    const signed = ops.sub(bits128.xor(a, negative), negative);
    return bits128.andnot(
      signed,
      ops.eq(
        b,
        bytes(() => 0),
      ),
    );
  };

const ODD_WORDS = [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31];
const EVEN_DOUBLEWORDS = [0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11];
const even = (a: V128): V128 => i8x16.shuffle(a, a, EVEN_DOUBLEWORDS);

/** Unsigned bytes of a times signed bytes of b, neighbours added with saturation. */
const maddubs: VectorFunction = (a, b) => {
  const evenProduct = i16x8.mul(
    bits128.and(
      a,
      words(() => 0xff),
    ),
    i16x8.shr_s(i16x8.shl(b, i32.const(8)), i32.const(8)),
  );
  const oddProduct = i16x8.mul(i16x8.shr_u(a, i32.const(8)), i16x8.shr_s(b, i32.const(8)));
  return i16x8.add_sat_s(evenProduct, oddProduct);
};

/** Q15 products rounded; unlike WebAssembly's, -1 times -1 stays -1. */
const mulhrs: VectorFunction = (a, b) => {
  const least = words(() => 0x8000);
  const both = bits128.and(i16x8.eq(a, least), i16x8.eq(b, least));
  return bits128.xor(i16x8.q15mulr_sat_s(a, b), both);
};

const sumOfDifferences: VectorFunction = (a, b, c) => {
  const difference = bits128.or(i8x16.sub_sat_u(a, b), i8x16.sub_sat_u(b, a));
  const fours = c.f.let(i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(difference)));
  return bits128.and(
    i64x2.add(fours, i64x2.shr_u(fours, i32.const(32))),
    quadwords(() => 0xffffn),
  );
};

/** MPSADBW: eight sums of four differences, a sliding from imm[2] * 4, four bytes of b from imm[1:0] * 4. */
const multipleSums: VectorFunction = (a, b, c) => {
  const imm = imm8(c);
  const from = c.f.let(fromByte(a, i32.and(imm, 4)));
  const block = c.f.let(fromByte(b, i32.shl(i32.and(imm, 3), 2)));
  const sums = [0, 1, 2, 3].map((k) => {
    const x = c.f.let(
      i8x16.shuffle(
        from,
        from,
        Array.from({ length: 16 }, (_, i) => Math.min(15, k + i)),
      ),
    );
    const y = c.f.let(i8x16.shuffle(block, block, new Array<number>(16).fill(k)));
    return i16x8.extend_low_i8x16_u(bits128.or(i8x16.sub_sat_u(x, y), i8x16.sub_sat_u(y, x)));
  });
  return sums.reduce((sum, part) => i16x8.add(sum, part));
};

/** PHMINPOSUW: the least word and the number of the first that has it. */
const leastWord = (b: V128): V128 => {
  const low = bits128.or(
    i32x4.shl(i32x4.extend_low_i16x8_u(b), i32.const(3)),
    doublewords((i) => i),
  );
  const high = bits128.or(
    i32x4.shl(i32x4.extend_high_i16x8_u(b), i32.const(3)),
    doublewords((i) => i + 4),
  );
  return i32x4.min_u(low, high);
};

const phminposuw = sse((c) => {
  const f = c.f;
  const four = f.let(leastWord(c.readVector(1)));
  const two = f.let(
    i32x4.min_u(four, i8x16.shuffle(four, four, [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7])),
  );
  const first = i32x4.extract_lane(two, 0);
  const second = f.let(i32x4.extract_lane(two, 1));
  const bound = f.let(first);
  const least = f.let(select(i32.lt_u(bound, second), bound, second));
  const result = i32.or(i32.shr_u(least, 3), i32.shl(i32.and(least, 7), 16));
  c.writeVector(0, low64(i64.extend_u(result)));
});

/** PTEST: ZF when no bit is in both, CF when b has none that a has not. */
const ptest = sse((c) => {
  const a = c.readVector(0);
  const b = c.readVector(1);
  const zero = i32.eqz(bits128.any_true(bits128.and(a, b)));
  const carry = i32.eqz(bits128.any_true(bits128.andnot(b, a)));
  setArithmeticFlags(c, c.f.let(i32.or(i32.mul(zero, Flag.ZF), i32.mul(carry, Flag.CF))));
});

/** Shifts of lanes by the low 64 bits of the source or an immediate; MMX counts are the same. */
function shift(operation: (a: V128, count: I32) => V128, width: number, arithmetic: boolean): Semantics {
  const compute = (c: Emitter, a: V128): V128 => {
    const count = c.f.let(c.form.operands[1].kind === OperandKind.IMM ? c.immediate(8) : readCount(c));
    const narrow = i32.wrap(count);
    const inside = i64.lt_u(count, width);
    if (arithmetic) return operation(a, select(inside, narrow, i32.const(width - 1)));
    return select(
      inside,
      operation(a, narrow),
      bytes(() => 0),
    );
  };
  return (c) => {
    if (!isMmx(c, 0)) return sse((at) => at.writeVector(0, compute(at, at.readVector(0))))(c);
    requireMmx(c);
    const a = readMmxVector(c, 0);
    writeMmx(c, 0, lowOf(compute(c, a)));
    enterMmx(c);
  };
}

function readCount(c: Emitter) {
  return isMmx(c, 0) ? readScalar(c, 1, 64) : lowOf(c.readVector(1));
}

const and: VectorFunction = (a, b) => bits128.and(a, b);
const or: VectorFunction = (a, b) => bits128.or(a, b);
const xor: VectorFunction = (a, b) => bits128.xor(a, b);
const andnot: VectorFunction = (a, b) => bits128.andnot(b, a);
const mulh =
  (low: (a: V128, b: V128) => V128, high: (a: V128, b: V128) => V128): VectorFunction =>
  (a, b) =>
    i8x16.shuffle(low(a, b), high(a, b), ODD_WORDS);

export const integers: SemanticsGroup = {
  name: 'sse integers',
  plain: {
    pand: packed(and),
    andps: packed(and),
    andpd: packed(and),
    pandn: packed(andnot),
    andnps: packed(andnot),
    andnpd: packed(andnot),
    por: packed(or),
    orps: packed(or),
    orpd: packed(or),
    pxor: packed(xor),
    xorps: packed(xor),
    xorpd: packed(xor),

    paddb: packed(i8x16.add),
    paddw: packed(i16x8.add),
    paddd: packed(i32x4.add),
    paddq: packed(i64x2.add),
    paddsb: packed(i8x16.add_sat_s),
    paddsw: packed(i16x8.add_sat_s),
    paddusb: packed(i8x16.add_sat_u),
    paddusw: packed(i16x8.add_sat_u),
    psubb: packed(i8x16.sub),
    psubw: packed(i16x8.sub),
    psubd: packed(i32x4.sub),
    psubq: packed(i64x2.sub),
    psubsb: packed(i8x16.sub_sat_s),
    psubsw: packed(i16x8.sub_sat_s),
    psubusb: packed(i8x16.sub_sat_u),
    psubusw: packed(i16x8.sub_sat_u),

    pmullw: packed(i16x8.mul),
    pmulhw: packed(mulh(i32x4.extmul_low_i16x8_s, i32x4.extmul_high_i16x8_s)),
    pmulhuw: packed(mulh(i32x4.extmul_low_i16x8_u, i32x4.extmul_high_i16x8_u)),
    pmaddwd: packed(i32x4.dot_i16x8_s),
    pmuludq: packed((a, b) => i64x2.extmul_low_i32x4_u(even(a), even(b))),
    pmuldq: packed((a, b) => i64x2.extmul_low_i32x4_s(even(a), even(b))),
    pmulld: packed(i32x4.mul),
    pmaddubsw: packed(maddubs),
    pmulhrsw: packed(mulhrs),

    pavgb: packed(i8x16.avgr_u),
    pavgw: packed(i16x8.avgr_u),
    psadbw: packed(sumOfDifferences),
    mpsadbw: packed(multipleSums),
    pminub: packed(i8x16.min_u),
    pminuw: packed(i16x8.min_u),
    pminud: packed(i32x4.min_u),
    pminsb: packed(i8x16.min_s),
    pminsw: packed(i16x8.min_s),
    pminsd: packed(i32x4.min_s),
    pmaxub: packed(i8x16.max_u),
    pmaxuw: packed(i16x8.max_u),
    pmaxud: packed(i32x4.max_u),
    pmaxsb: packed(i8x16.max_s),
    pmaxsw: packed(i16x8.max_s),
    pmaxsd: packed(i32x4.max_s),
    phminposuw,

    pcmpeqb: packed(i8x16.eq),
    pcmpeqw: packed(i16x8.eq),
    pcmpeqd: packed(i32x4.eq),
    pcmpeqq: packed(i64x2.eq),
    pcmpgtb: packed(i8x16.gt_s),
    pcmpgtw: packed(i16x8.gt_s),
    pcmpgtd: packed(i32x4.gt_s),
    pcmpgtq: packed(i64x2.gt_s),
    ptest,

    pabsb: packedUnary(i8x16.abs),
    pabsw: packedUnary(i16x8.abs),
    pabsd: packedUnary(i32x4.abs),
    psignb: packed(sign(i8x16, 8)),
    psignw: packed(sign(i16x8, 16)),
    psignd: packed(sign(i32x4, 32)),
    phaddw: horizontal(2, i16x8.add),
    phaddd: horizontal(4, i32x4.add),
    phaddsw: horizontal(2, i16x8.add_sat_s),
    phsubw: horizontal(2, i16x8.sub),
    phsubd: horizontal(4, i32x4.sub),
    phsubsw: horizontal(2, i16x8.sub_sat_s),

    packsswb: pack(i8x16.narrow_i16x8_s),
    packuswb: pack(i8x16.narrow_i16x8_u),
    packssdw: pack(i16x8.narrow_i32x4_s),
    packusdw: pack(i16x8.narrow_i32x4_u),

    psllw: shift(i16x8.shl, 16, false),
    pslld: shift(i32x4.shl, 32, false),
    psllq: shift(i64x2.shl, 64, false),
    psrlw: shift(i16x8.shr_u, 16, false),
    psrld: shift(i32x4.shr_u, 32, false),
    psrlq: shift(i64x2.shr_u, 64, false),
    psraw: shift(i16x8.shr_s, 16, true),
    psrad: shift(i32x4.shr_s, 32, true),
  },
};
