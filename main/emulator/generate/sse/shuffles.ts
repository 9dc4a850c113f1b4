import { i32, i64, select, type I32, type V128 } from '../../wasm/expression.ts';
import { bits128, i16x8, i32x4, i64x2, i8x16 } from '../../wasm/simd.ts';
import { cut, type Emitter } from '../emitter.ts';
import type { Semantics, SemanticsGroup } from '../semantics.ts';
import { joinLow, packed, type VectorFunction } from './integer.ts';
import {
  bytes,
  doublewords,
  enterMmx,
  fromByte,
  highOf,
  imm8,
  IOTA,
  isMmx,
  isXmm,
  low64,
  lowOf,
  quadwords,
  readMmxVector,
  readScalar,
  requireMmx,
  requireSse,
  sse,
  words,
  writeMmx,
  xmm0,
} from './operands.ts';

/** Instructions that move lanes about. Immediates come at run time, so most go through index vectors. */

/** Four two-bit fields of the immediate in the four low and the four high words. */
function fields(imm: I32): V128 {
  const shifted = i16x8.mul(
    i16x8.splat(imm),
    words((i) => 64 >> (2 * (i & 3))),
  );
  return bits128.and(
    i16x8.shr_u(shifted, i32.const(6)),
    words(() => 3),
  );
}

/** Byte numbers of four doublewords that the immediate selects. */
function doublewordIndex(c: Emitter): V128 {
  const four = c.f.let(fields(imm8(c)));
  const each = i8x16.shuffle(four, four, [0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6]);
  return i8x16.add(
    i16x8.shl(each, i32.const(2)),
    bytes((i) => i & 3),
  );
}

/** Byte numbers of words that the immediate selects, in the low or the high half; the other half stays. */
function wordIndex(c: Emitter, high: boolean): V128 {
  const four = c.f.let(fields(imm8(c)));
  const each = i8x16.shuffle(four, four, [0, 0, 2, 2, 4, 4, 6, 6, 0, 0, 2, 2, 4, 4, 6, 6]);
  const picked = i8x16.add(
    i16x8.shl(each, i32.const(1)),
    bytes((i) => (i & 1) + (high ? 8 : 0)),
  );
  const half = quadwords((i) => ((i === 1) === high ? -1n : 0n));
  return bits128.select(picked, IOTA, half);
}

const shufflePart =
  (index: (c: Emitter) => V128): Semantics =>
  (c) => {
    if (isMmx(c, 0)) {
      requireMmx(c);
      const a = readMmxVector(c, 1);
      writeMmx(c, 0, lowOf(i8x16.swizzle(a, index(c))));
      enterMmx(c);
      return;
    }
    requireSse(c);
    const a = c.readVector(1);
    c.writeVector(0, i8x16.swizzle(a, index(c)));
  };

const shufps: VectorFunction = (a, b, c) => {
  const index = c.f.let(doublewordIndex(c));
  return i8x16.shuffle(
    i8x16.swizzle(a, index),
    i8x16.swizzle(b, index),
    Array.from({ length: 16 }, (_, i) => (i < 8 ? i : i + 16)),
  );
};

const shufpd: VectorFunction = (a, b, c) => {
  const imm = imm8(c);
  const first = select(i32.and(imm, 1), highOf(a), lowOf(a));
  const second = select(i32.and(imm, 2), highOf(b), lowOf(b));
  return i64x2.replace_lane(low64(first), 1, second);
};

/** Interleaves lanes of `size` bytes: of the low halves, or of the high ones. */
function interleave(size: number, high: boolean): Semantics {
  const order = (from: number): number[] =>
    Array.from({ length: 16 }, (_, i) => {
      const lane = Math.floor(i / size);
      return from + (lane >> 1) * size + (i % size) + (lane & 1 ? 16 : 0);
    });
  // Of MMX operands everything is in the low halves: the high part of the result is what is wanted.
  return packed(
    (a, b) => i8x16.shuffle(a, b, order(high ? 8 : 0)),
    (a, b) => i8x16.shuffle(a, b, order(high ? 4 : 0)),
  );
}

const pshufb = packed(
  (a, b) =>
    i8x16.swizzle(
      a,
      bits128.and(
        b,
        bytes(() => 0x8f),
      ),
    ),
  (a, b) =>
    i8x16.swizzle(
      a,
      bits128.and(
        b,
        bytes(() => 0x87),
      ),
    ),
);

/** PALIGNR: a above b, moved right by the immediate's bytes. */
const palignr = packed(
  (a, b, c) => {
    const index = c.f.let(i8x16.add_sat_u(IOTA, i8x16.splat(imm8(c))));
    const above = i8x16.sub(
      index,
      bytes(() => 16),
    );
    return bits128.or(i8x16.swizzle(b, index), i8x16.swizzle(a, above));
  },
  (a, b, c) => i8x16.swizzle(joinLow(b, a), i8x16.add_sat_u(IOTA, i8x16.splat(imm8(c)))),
);

/** PSLLDQ and PSRLDQ: bytes come from outside as 0. */
const shiftBytes = (left: boolean): Semantics =>
  sse((c) => {
    const imm = imm8(c);
    const count = i8x16.splat(select(i32.lt_u(imm, 16), imm, i32.const(16)));
    const index = left ? i8x16.sub(IOTA, count) : i8x16.add(IOTA, count);
    c.writeVector(0, i8x16.swizzle(c.readVector(0), index));
  });

/** Lanes all ones where the immediate's bit for the lane is one. */
function maskOf(imm: I32, size: number): V128 {
  if (size === 2) {
    const bit = words((i) => 1 << i);
    return i16x8.eq(bits128.and(i16x8.splat(imm), bit), bit);
  }
  if (size === 4) {
    const bit = doublewords((i) => 1 << i);
    return i32x4.eq(bits128.and(i32x4.splat(imm), bit), bit);
  }
  const bit = quadwords((i) => 1n << BigInt(i));
  return i64x2.eq(bits128.and(i64x2.splat(i64.extend_u(imm)), bit), bit);
}

const blend = (size: number): Semantics => packed((a, b, c) => bits128.select(b, a, maskOf(imm8(c), size)));

/** Blends by the sign bits of XMM0's lanes. */
const blendVariable = (spread: (mask: V128) => V128): Semantics =>
  sse((c) => {
    const a = c.readVector(0);
    const b = c.readVector(1);
    c.writeVector(0, bits128.select(b, a, spread(xmm0(c))));
  });

/** PEXTR: the lane that the immediate numbers, zero-extended to the destination. */
const extract = (size: number): Semantics => {
  return (c) => {
    const mmx = isMmx(c, 1);
    if (mmx) requireMmx(c);
    else requireSse(c);
    const a = mmx ? readMmxVector(c, 1) : c.readVector(1);
    const lane = i32.and(imm8(c), (mmx ? 8 : 16) / size - 1);
    c.write(0, cut(8 * size, lowOf(fromByte(a, i32.mul(lane, size)))));
    if (mmx) enterMmx(c);
  };
};

/** PINSR: replaces the lane that the immediate numbers. */
function insert(size: number): Semantics {
  const splat = {
    1: (value: I32) => i8x16.splat(value),
    2: (value: I32) => i16x8.splat(value),
    4: (value: I32) => i32x4.splat(value),
  };
  return (c) => {
    const mmx = isMmx(c, 0);
    if (mmx) requireMmx(c);
    else requireSse(c);
    const value = c.read(1);
    const a = mmx ? readMmxVector(c, 0) : c.readVector(0);
    const lane = i32.and(imm8(c), (mmx ? 8 : 16) / size - 1);
    const place = i8x16.eq(
      i8x16.splat(lane),
      bytes((i) => Math.floor(i / size)),
    );
    const everywhere = size === 8 ? i64x2.splat(value) : splat[size as 1 | 2 | 4](i32.wrap(value));
    const result = bits128.select(everywhere, a, place);
    if (!mmx) return c.writeVector(0, result);
    writeMmx(c, 0, lowOf(result));
    enterMmx(c);
  };
}

/** INSERTPS: imm[7:6] source lane of a register, imm[5:4] destination, imm[3:0] lanes to clear. */
const insertps = sse((c) => {
  const imm = imm8(c);
  const value = isXmm(c, 1)
    ? lowOf(fromByte(c.readVector(1), i32.and(i32.shr_u(imm, 4), 12)))
    : readScalar(c, 1, 32);
  const bound = c.f.let(i32.wrap(value));
  const place = i32x4.eq(
    i32x4.splat(i32.and(i32.shr_u(imm, 4), 3)),
    doublewords((i) => i),
  );
  const inserted = bits128.select(i32x4.splat(bound), c.readVector(0), place);
  c.writeVector(0, bits128.andnot(inserted, maskOf(imm, 4)));
});

type Extension = 'b' | 'w' | 'd';
/** PMOVSX and PMOVZX by a chain of widenings from the source's size. */
const widen = (steps: readonly ((a: V128) => V128)[]): Semantics =>
  sse((c) => {
    const source = isXmm(c, 1) ? c.readVector(1) : c.f.let(low64(c.read(1)));
    c.writeVector(
      0,
      steps.reduce((vector, step) => step(vector), source),
    );
  });
const signed: Record<Extension, (a: V128) => V128> = {
  b: i16x8.extend_low_i8x16_s,
  w: i32x4.extend_low_i16x8_s,
  d: i64x2.extend_low_i32x4_s,
};
const unsigned: Record<Extension, (a: V128) => V128> = {
  b: i16x8.extend_low_i8x16_u,
  w: i32x4.extend_low_i16x8_u,
  d: i64x2.extend_low_i32x4_u,
};

export const shuffles: SemanticsGroup = {
  name: 'sse shuffles',
  plain: {
    pshufd: shufflePart(doublewordIndex),
    pshuflw: shufflePart((c) => wordIndex(c, false)),
    pshufhw: shufflePart((c) => wordIndex(c, true)),
    pshufw: shufflePart((c) => wordIndex(c, false)),
    shufps: packed(shufps),
    shufpd: packed(shufpd),
    pshufb,
    palignr,
    pslldq: shiftBytes(true),
    psrldq: shiftBytes(false),

    punpcklbw: interleave(1, false),
    punpcklwd: interleave(2, false),
    punpckldq: interleave(4, false),
    punpcklqdq: interleave(8, false),
    punpckhbw: interleave(1, true),
    punpckhwd: interleave(2, true),
    punpckhdq: interleave(4, true),
    punpckhqdq: interleave(8, true),
    unpcklps: interleave(4, false),
    unpckhps: interleave(4, true),
    unpcklpd: interleave(8, false),
    unpckhpd: interleave(8, true),

    blendps: blend(4),
    blendpd: blend(8),
    pblendw: blend(2),
    blendvps: blendVariable((mask) => i32x4.shr_s(mask, i32.const(31))),
    blendvpd: blendVariable((mask) => i64x2.shr_s(mask, i32.const(63))),
    pblendvb: blendVariable((mask) => i8x16.shr_s(mask, i32.const(7))),

    pextrb: extract(1),
    pextrw: extract(2),
    pextrd: extract(4),
    pextrq: extract(8),
    extractps: extract(4),
    pinsrb: insert(1),
    pinsrw: insert(2),
    pinsrd: insert(4),
    pinsrq: insert(8),
    insertps,

    pmovsxbw: widen([signed.b]),
    pmovsxbd: widen([signed.b, signed.w]),
    pmovsxbq: widen([signed.b, signed.w, signed.d]),
    pmovsxwd: widen([signed.w]),
    pmovsxwq: widen([signed.w, signed.d]),
    pmovsxdq: widen([signed.d]),
    pmovzxbw: widen([unsigned.b]),
    pmovzxbd: widen([unsigned.b, unsigned.w]),
    pmovzxbq: widen([unsigned.b, unsigned.w, unsigned.d]),
    pmovzxwd: widen([unsigned.w]),
    pmovzxwq: widen([unsigned.w, unsigned.d]),
    pmovzxdq: widen([unsigned.d]),
  },
};
