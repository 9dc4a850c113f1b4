import { i32, i64, type I32, type I64, type V128 } from '../../wasm/expression.ts';
import { bits128, i32x4, i64x2, i8x16 } from '../../wasm/simd.ts';
import { call } from '../../wasm/module.ts';
import type { Emitter } from '../emitter.ts';
import type { LibraryRoutine, Semantics, SemanticsGroup } from '../semantics.ts';
import { bytes, imm8, IOTA, low64, sse, xmm0 } from './operands.ts';

/** AES (FIPS 197), carry-less multiplication, and SHA (FIPS 180-4). */

// ---- AES ------------------------------------------------------------------------------------------------

/** The product in GF(2^8) with AES's polynomial. */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let x = a, y = b; y !== 0; y >>= 1) {
    if (y & 1) product ^= x;
    x = (x << 1) ^ (x & 0x80 ? 0x11b : 0);
  }
  return product;
}

/** SubBytes: the inverse in the field (0 stays), then the affine map (FIPS 197, 5.1.1). */
function substitutionTable(): Uint8Array {
  // Powers of 3 run through all of the field but 0, so that the inverse of 3^n is 3^(255 - n).
  const powers = [1];
  for (let n = 1; n < 255; n++) powers.push(multiply(powers[n - 1], 3));
  const table = new Uint8Array(256).fill(0x63);
  powers.forEach((byte, n) => {
    const inverse = powers[(255 - n) % 255];
    for (let rotation = 0; rotation < 5; rotation++) {
      table[byte] ^= (inverse << rotation) | (inverse >> (8 - rotation));
    }
  });
  return table;
}
const SBOX = substitutionTable();
const INVERSE_SBOX = new Uint8Array(256);
SBOX.forEach((to, from) => (INVERSE_SBOX[to] = from));

/** (vector): every byte through a table of 256, sixteen entries at a time: other rows look up 0. */
const substitution = (table: Uint8Array): LibraryRoutine => ({
  signature: { parameters: ['v128'], result: 'v128' },
  build(f) {
    const x = f.parameter('v128', 0);
    const result = f.local('v128');
    for (let row = 0; row < 16; row++) {
      const column = bits128.xor(
        x,
        bytes(() => 16 * row),
      );
      const found = i8x16.swizzle(
        bytes((i) => table[16 * row + i]),
        column,
      );
      f.set(result, bits128.or(result, found));
    }
    f.return(result);
  },
});

const order = (lane: (i: number) => number): number[] => Array.from({ length: 16 }, (_, i) => lane(i));
/** Row r of the state, bytes r, r + 4 ..., moves r columns to the left. */
const SHIFT_ROWS = order((i) => (i + 4 * (i & 3)) & 15);
const UNSHIFT_ROWS = order((i) => (i - 4 * (i & 3)) & 15);
const rotate = (x: V128, by: number): V128 => {
  const lanes = order((i) => (i & ~3) | ((i + by) & 3));
  return i8x16.shuffle(x, x, lanes);
};
const permute = (x: V128, lanes: number[]): V128 => i8x16.shuffle(x, x, lanes);

/** Every byte times 2 in the field. */
function double(x: V128): V128 {
  const carry = i8x16.shr_s(x, i32.const(7));
  return bits128.xor(
    i8x16.add(x, x),
    bits128.and(
      carry,
      bytes(() => 0x1b),
    ),
  );
}

type Bind = (value: V128) => V128;

function mixColumns(bind: Bind, value: V128): V128 {
  const x = bind(value);
  const next = bind(rotate(x, 1));
  const others = bits128.xor(next, bits128.xor(rotate(x, 2), rotate(x, 3)));
  return bits128.xor(double(bind(bits128.xor(x, next))), others);
}

/** The inverse is MixColumns of the state times the polynomial 4x^2 + 5. */
function unmixColumns(bind: Bind, value: V128): V128 {
  const x = bind(value);
  const twice = bind(double(bind(bits128.xor(x, rotate(x, 2)))));
  return mixColumns(bind, bits128.xor(x, double(twice)));
}

/** One round, or the last, which does not mix. */
const round = (inverse: boolean, last: boolean): Semantics =>
  sse((c) => {
    const bind: Bind = (value) => c.f.let(value);
    const state = c.readVector(0);
    const key = c.readVector(1);
    const rows = c.f.let(permute(state, inverse ? UNSHIFT_ROWS : SHIFT_ROWS));
    const substituted = c.call(inverse ? 'unsubstitute' : 'substitute', 'v128', rows);
    const mixed = last
      ? substituted
      : inverse
        ? unmixColumns(bind, substituted)
        : mixColumns(bind, substituted);
    c.writeVector(0, bits128.xor(mixed, key));
  });

/** SubWord of doublewords 1 and 3, also rotated and with the round constant. */
const keyAssist = sse((c) => {
  const substituted = c.call('substitute', 'v128', c.readVector(1));
  const lanes = [4, 5, 6, 7, 5, 6, 7, 4, 12, 13, 14, 15, 13, 14, 15, 12];
  const constant = i64x2.splat(i64.shl(i64.extend_u(imm8(c)), 32));
  c.writeVector(0, bits128.xor(permute(substituted, lanes), constant));
});

// ---- Carry-less multiplication --------------------------------------------------------------------------

/**
 * carryless (a, b): the low 64 bits of the product over GF(2). Ordinary products of numbers with every fourth
 * bit do it: at most 16 ones are added in a place below the top one, so no carry reaches the next place that
 * counts.
 */
const carryless: LibraryRoutine = {
  signature: { parameters: ['i64', 'i64'], result: 'i64' },
  build(f) {
    const EVERY_FOURTH = 0x1111111111111111n;
    const parts = (x: I64): I64[] =>
      [0n, 1n, 2n, 3n].map((shift) => f.let(i64.and(x, BigInt.asIntN(64, EVERY_FOURTH << shift))));
    const a = parts(f.parameter('i64', 0));
    const b = parts(f.parameter('i64', 1));
    const sums = [0, 1, 2, 3].map((place) => {
      const products = [0, 1, 2, 3].map((i) => i64.mul(a[i], b[(place - i) & 3]));
      const sum = products.reduce((x, y) => i64.xor(x, y));
      return i64.and(sum, BigInt.asIntN(64, EVERY_FOURTH << BigInt(place)));
    });
    f.return(sums.reduce((x, y) => i64.or(x, y)));
  },
};

/** All 64 bits of each half in reverse. */
function reverseHalves(bind: Bind, x: V128): V128 {
  const reversed = (nibble: number): number =>
    ((nibble & 1) << 3) | ((nibble & 2) << 1) | ((nibble & 4) >> 1) | (nibble >> 3);
  const turned = bind(
    permute(
      x,
      order((i) => i ^ 7),
    ),
  );
  const low = bits128.and(
    turned,
    bytes(() => 0xf),
  );
  const high = i8x16.shr_u(turned, i32.const(4));
  return bits128.or(
    i8x16.swizzle(
      bytes((i) => reversed(i) << 4),
      low,
    ),
    i8x16.swizzle(bytes(reversed), high),
  );
}

/** carrylessWide (a, b): all 128 bits. The upper half is the lower half of the reversed numbers' product. */
const carrylessWide: LibraryRoutine = {
  signature: { parameters: ['i64', 'i64'], result: 'v128' },
  build(f, callees) {
    const bind: Bind = (value) => f.let(value);
    const [a, b] = [f.parameter('i64', 0), f.parameter('i64', 1)];
    const both = i64x2.replace_lane(low64(a), 1, b);
    const turned = bind(reverseHalves(bind, both));
    const halves = [i64x2.extract_lane(turned, 0), i64x2.extract_lane(turned, 1)];
    const upper = call(callees('carryless'), 'i64', ...halves);
    const straight = i64x2.extract_lane(reverseHalves(bind, low64(upper)), 0);
    const lower = call(callees('carryless'), 'i64', a, b);
    f.return(i64x2.replace_lane(low64(lower), 1, i64.shr_u(straight, 1)));
  },
};

const pclmulqdq = sse((c) => {
  const imm = imm8(c);
  const half = (vector: V128, bit: number): I64 => {
    const at = i32.mul(i32.and(i32.shr_u(imm, bit), 1), 8);
    return i64x2.extract_lane(i8x16.swizzle(vector, i8x16.add(IOTA, i8x16.splat(at))), 0);
  };
  const a = half(c.readVector(0), 0);
  const b = half(c.readVector(1), 4);
  c.writeVector(0, c.call('carrylessWide', 'v128', a, b));
});

// ---- SHA ------------------------------------------------------------------------------------------------

/** Processors differ in whether this operand must be aligned: here it need not be. */
const readMessage = (c: Emitter): V128 => c.readVector(1, true);

const word = (vector: V128, n: number): I32 => i32x4.extract_lane(vector, n);
/** A vector of four words, the lowest first. */
function fromWords(words: readonly I32[]): V128 {
  return words.reduce(
    (vector, value, n) => i32x4.replace_lane(vector, n, value),
    bytes(() => 0),
  );
}
const xor = (...values: I32[]): I32 => values.reduce((a, b) => i32.xor(a, b));
const sum = (...values: I32[]): I32 => values.reduce((a, b) => i32.add(a, b));
const choose = (x: I32, y: I32, z: I32): I32 => i32.xor(i32.and(i32.xor(y, z), x), z);
const majority = (x: I32, y: I32, z: I32): I32 => i32.or(i32.and(x, y), i32.and(z, i32.or(x, y)));

/** SHA1RNDS4: four rounds; A B C D from the highest word of operand 0, W + E in operand 1. */
const sha1Rounds = sse((c) => {
  const f = c.f;
  const state = c.readVector(0);
  const message = readMessage(c);
  const kind = f.let(i32.and(imm8(c), 3));
  let [a, b, third, d] = [3, 2, 1, 0].map((n) => f.let(word(state, n)));
  let e: I32 = i32.const(0);
  const constants = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6];
  const constant = f.local('i32');
  constants.forEach((value, n) => f.if(i32.eq(kind, n), () => f.set(constant, i32.const(value | 0))));
  for (let i = 0; i < 4; i++) {
    const mixed = f.local('i32');
    const [x, y, z] = [b, third, d];
    f.set(mixed, xor(x, y, z));
    f.if(i32.eqz(kind), () => f.set(mixed, choose(x, y, z)));
    f.if(i32.eq(kind, 2), () => f.set(mixed, majority(x, y, z)));
    const next = f.let(sum(mixed, i32.rotl(a, 5), word(message, 3 - i), e, constant));
    [e, d, third, b, a] = [d, third, f.let(i32.rotl(b, 30)), a, next];
  }
  c.writeVector(0, fromWords([d, third, b, a]));
});

const sha1NextE = sse((c) => {
  const e = i32.rotl(word(c.readVector(0), 3), 30);
  const message = readMessage(c);
  c.writeVector(0, i32x4.replace_lane(message, 3, i32.add(word(message, 3), e)));
});

const sha1Message1 = sse((c) => {
  const a = c.readVector(0);
  const b = readMessage(c);
  const later = i8x16.shuffle(
    b,
    a,
    order((i) => i + 8),
  );
  c.writeVector(0, bits128.xor(a, later));
});

const sha1Message2 = sse((c) => {
  const f = c.f;
  const a = c.readVector(0);
  const b = readMessage(c);
  const w16 = f.let(i32.rotl(i32.xor(word(a, 3), word(b, 2)), 1));
  const w17 = i32.rotl(i32.xor(word(a, 2), word(b, 1)), 1);
  const w18 = i32.rotl(i32.xor(word(a, 1), word(b, 0)), 1);
  const w19 = i32.rotl(i32.xor(word(a, 0), w16), 1);
  c.writeVector(0, fromWords([w19, w18, w17, w16]));
});

/** SHA256RNDS2: two rounds; A B E F from the highest word of operand 1, C D G H of operand 0, W + K in XMM0. */
const sha256Rounds = sse((c) => {
  const f = c.f;
  const first = c.readVector(0);
  const second = readMessage(c);
  const message = xmm0(c);
  const take = (vector: V128, n: number): I32 => f.let(word(vector, n));
  let [a, b, e, g0] = [3, 2, 1, 0].map((n) => take(second, n));
  let [third, d, g, h] = [3, 2, 1, 0].map((n) => take(first, n));
  for (let i = 0; i < 2; i++) {
    const sigma1 = xor(i32.rotr(e, 6), i32.rotr(e, 11), i32.rotr(e, 25));
    const sigma0 = xor(i32.rotr(a, 2), i32.rotr(a, 13), i32.rotr(a, 22));
    const t1 = f.let(sum(choose(e, g0, g), sigma1, word(message, i), h));
    const next = f.let(sum(t1, majority(a, b, third), sigma0));
    const nextE = f.let(i32.add(t1, d));
    [h, g, g0, e, d, third, b, a] = [g, g0, e, nextE, third, b, a, next];
  }
  c.writeVector(0, fromWords([g0, e, b, a]));
});

const smallSigma = (x: I32, first: number, second: number, shift: number): I32 =>
  xor(i32.rotr(x, first), i32.rotr(x, second), i32.shr_u(x, shift));

const sha256Message1 = sse((c) => {
  const a = c.readVector(0);
  const b = readMessage(c);
  const words = [0, 1, 2, 3].map((n) => {
    const next = c.f.let(n < 3 ? word(a, n + 1) : word(b, 0));
    return i32.add(word(a, n), smallSigma(next, 7, 18, 3));
  });
  c.writeVector(0, fromWords(words));
});

const sha256Message2 = sse((c) => {
  const f = c.f;
  const a = c.readVector(0);
  const b = readMessage(c);
  const sigma = (x: I32): I32 => smallSigma(x, 17, 19, 10);
  const w16 = f.let(i32.add(word(a, 0), sigma(f.let(word(b, 2)))));
  const w17 = f.let(i32.add(word(a, 1), sigma(f.let(word(b, 3)))));
  const w18 = i32.add(word(a, 2), sigma(w16));
  const w19 = i32.add(word(a, 3), sigma(w17));
  c.writeVector(0, fromWords([w16, w17, w18, w19]));
});

export const crypto: SemanticsGroup = {
  name: 'sse crypto',
  plain: {
    aesenc: round(false, false),
    aesenclast: round(false, true),
    aesdec: round(true, false),
    aesdeclast: round(true, true),
    aesimc: sse((c) =>
      c.writeVector(
        0,
        unmixColumns((value) => c.f.let(value), readMessage(c)),
      ),
    ),
    aeskeygenassist: keyAssist,
    pclmulqdq,
    sha1rnds4: sha1Rounds,
    sha1nexte: sha1NextE,
    sha1msg1: sha1Message1,
    sha1msg2: sha1Message2,
    sha256rnds2: sha256Rounds,
    sha256msg1: sha256Message1,
    sha256msg2: sha256Message2,
  },
  library: {
    substitute: substitution(SBOX),
    unsubstitute: substitution(INVERSE_SBOX),
    carryless,
    carrylessWide,
  },
};
