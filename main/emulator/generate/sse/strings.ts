import { Field } from '../../state.ts';
import { i32, i64, select, type I32, type I64, type V128 } from '../../wasm/expression.ts';
import { bits128, i16x8, i32x4, i8x16 } from '../../wasm/simd.ts';
import type { FunctionBuilder } from '../../wasm/module.ts';
import { extend, type Emitter } from '../emitter.ts';
import { Flag, setArithmeticFlags } from '../flags.ts';
import type { LibraryRoutine, Semantics, SemanticsGroup } from '../semantics.ts';
import { bytes, doublewords, imm8, low64, sse, words, writeXmm0, ZERO } from './operands.ts';

/** The string comparisons of SSE4.2 (SDM vol. 2, 4.1), and CRC32. */

/** Fields of the immediate. */
const Control = { WORDS: 1, SIGNED: 2, AGGREGATION: 2, NEGATED: 0x10, MASKED: 0x20, LAST: 0x40 } as const;
const Aggregation = { EQUAL_ANY: 0, RANGES: 1, EQUAL_EACH: 2, EQUAL_ORDERED: 3 } as const;

/** What compareStrings adds to the bits of IntRes2. */
const SECOND_SHORT = 1 << 16;
const FIRST_SHORT = 1 << 17;

interface Lanes {
  readonly count: number;
  readonly ops: typeof i8x16 | typeof i16x8;
  /** Lane number n (at run time) of the vector kept in SCRATCH, in all lanes. */
  splat(s: I32, n: I32): V128;
}
const BYTES: Lanes = {
  count: 16,
  ops: i8x16,
  splat: (s, n) => i8x16.splat(i32.load8_u(i32.add(s, n), Field.SCRATCH)),
};
const WORDS: Lanes = {
  count: 8,
  ops: i16x8,
  splat: (s, n) => i16x8.splat(i32.load16_u(i32.add(s, i32.shl(n, 1)), Field.SCRATCH)),
};

/** The bits below `count`. */
const ones = (count: I32): I32 => i32.sub(i32.shl(i32.const(1), count), 1);

/** IntRes1: for each element of b, whether the aggregation of comparisons with a's elements holds. */
function aggregate(
  f: FunctionBuilder,
  lanes: Lanes,
  operands: { s: I32; a: V128; b: V128; first: I32; second: I32; imm: I32 },
): I32 {
  const { s, a, b, first, second, imm } = operands;
  const { ops, count } = lanes;
  const result = f.local('i32');
  const valid = f.let(ones(second));
  const j = f.local('i32');
  /** Does `body` for each element of a, or for each pair. */
  const each = (step: number, body: () => void): void => {
    f.set(j, i32.const(0));
    f.block((done) =>
      f.loop((again) => {
        f.breakIf(done, i32.gt_s(i32.add(j, step), first));
        body();
        f.set(j, i32.add(j, step));
        f.break(again);
      }),
    );
  };
  const cases: Record<number, () => void> = {
    [Aggregation.EQUAL_ANY]: () => {
      each(1, () => f.set(result, i32.or(result, ops.bitmask(ops.eq(b, lanes.splat(s, j))))));
      f.set(result, i32.and(result, valid));
    },
    [Aggregation.RANGES]: () => {
      each(2, () => {
        const low = f.let(lanes.splat(s, j));
        const high = f.let(lanes.splat(s, i32.add(j, 1)));
        const inSigned = bits128.and(ops.ge_s(b, low), ops.le_s(b, high));
        const inUnsigned = bits128.and(ops.ge_u(b, low), ops.le_u(b, high));
        const inside = select(i32.and(imm, Control.SIGNED), ops.bitmask(inSigned), ops.bitmask(inUnsigned));
        f.set(result, i32.or(result, inside));
      });
      f.set(result, i32.and(result, valid));
    },
    [Aggregation.EQUAL_EACH]: () => {
      // Elements beyond both ends are equal, beyond one end they are not.
      const validFirst = f.let(ones(first));
      const equal = i32.and(ops.bitmask(ops.eq(a, b)), i32.and(validFirst, valid));
      const neither = i32.xor(i32.or(validFirst, valid), (1 << count) - 1);
      f.set(result, i32.or(equal, neither));
    },
    [Aggregation.EQUAL_ORDERED]: () => {
      // Element k holds when a's elements stand in b from k on, as far as the vector goes.
      f.set(result, i32.const((1 << count) - 1));
      each(1, () => {
        const equal = i32.and(ops.bitmask(ops.eq(b, lanes.splat(s, j))), valid);
        const outside = i32.xor(ones(i32.sub(i32.const(count), j)), -1);
        f.set(result, i32.and(result, i32.or(i32.shr_u(equal, j), outside)));
      });
    },
  };
  const kind = f.let(i32.and(i32.shr_u(imm, Control.AGGREGATION), 3));
  for (const [number, body] of Object.entries(cases)) f.if(i32.eq(kind, Number(number)), body);
  // Polarity: all inverted, or those within b.
  const inverted = select(i32.and(imm, Control.MASKED), valid, i32.const((1 << count) - 1));
  return i32.xor(result, select(i32.and(imm, Control.NEGATED), inverted, i32.const(0)));
}

/** compareStrings (s, a, b, length of a, length of b, imm): IntRes2, SECOND_SHORT and FIRST_SHORT. Lengths are in range. */
const compareStrings: LibraryRoutine = {
  signature: { parameters: ['i32', 'v128', 'v128', 'i32', 'i32', 'i32'], result: 'i32' },
  build(f) {
    const [s, a, b] = [f.parameter('i32', 0), f.parameter('v128', 1), f.parameter('v128', 2)];
    const [first, second, imm] = [f.parameter('i32', 3), f.parameter('i32', 4), f.parameter('i32', 5)];
    f.storeV128(s, a, Field.SCRATCH);
    const finish = (lanes: Lanes): void => {
      const result = aggregate(f, lanes, { s, a, b, first, second, imm });
      const short = (length: I32, bit: number): I32 => i32.mul(i32.lt_u(length, lanes.count), bit);
      f.return(i32.or(result, i32.or(short(second, SECOND_SHORT), short(first, FIRST_SHORT))));
    };
    f.if(
      i32.and(imm, Control.WORDS),
      () => finish(WORDS),
      () => finish(BYTES),
    );
    f.unreachable();
  },
};

/** Elements in a vector of the format. */
const elements = (imm: I32): I32 => i32.shr_u(i32.const(16), i32.and(imm, Control.WORDS));

/** Elements before the first that is 0. */
function implicitLength(c: Emitter, vector: V128, imm: I32): I32 {
  const inBytes = i32.ctz(i32.or(i8x16.bitmask(i8x16.eq(vector, ZERO)), 1 << 16));
  const inWords = i32.ctz(i32.or(i16x8.bitmask(i16x8.eq(vector, ZERO)), 1 << 8));
  return c.f.let(select(i32.and(imm, Control.WORDS), inWords, inBytes));
}

/** The magnitude of EAX or EDX (RAX or RDX with REX.W), at most what the vector holds. */
function explicitLength(c: Emitter, register: number, imm: I32): I32 {
  const bits = c.form.operandSize === 64 ? 64 : 32;
  const value = c.f.let(extend(bits, c.gpr(register, bits)));
  const size = c.f.let(select(i64.lt_s(value, 0), i64.sub(i64.const(0), value), value));
  const most = c.f.let(elements(imm));
  return c.f.let(select(i64.lt_u(size, i64.extend_u(most)), i32.wrap(size), most));
}

const RAX = 0;
const RCX = 1;
const RDX = 2;

function stringCompare(explicit: boolean, index: boolean): Semantics {
  return sse((c) => {
    const f = c.f;
    const imm = imm8(c);
    const a = c.readVector(0);
    const b = c.readVector(1, true);
    const first = explicit ? explicitLength(c, RAX, imm) : implicitLength(c, a, imm);
    const second = explicit ? explicitLength(c, RDX, imm) : implicitLength(c, b, imm);
    const found = c.call('compareStrings', 'i32', c.s, a, b, first, second, imm);
    const result = f.let(i32.and(found, 0xffff));
    if (index) {
      const last = i32.sub(i32.const(31), i32.clz(result));
      const one = select(i32.and(imm, Control.LAST), last, i32.ctz(result));
      c.setGpr(RCX, 32, i64.extend_u(select(result, one, elements(imm))));
    } else writeXmm0(c, maskOf(result, imm));
    const flag = (condition: I32, bit: number): I32 => i32.mul(i32.ne(condition, 0), bit);
    const flags = [
      flag(result, Flag.CF),
      flag(i32.and(found, SECOND_SHORT), Flag.ZF),
      flag(i32.and(found, FIRST_SHORT), Flag.SF),
      flag(i32.and(result, 1), Flag.OF),
    ];
    setArithmeticFlags(c, f.let(flags.reduce((word, bit) => i32.or(word, bit))));
  });
}

/** XMM0 of PCMPxSTRM: the bits themselves, or an element of ones for each. */
function maskOf(result: I32, imm: I32): V128 {
  const bit = bytes((i) => 1 << (i & 7));
  const wordBit = words((i) => 1 << i);
  // Byte 0 of the result in the low eight lanes, byte 1 in the high ones.
  const spread = i8x16.swizzle(
    i32x4.splat(result),
    bytes((i) => i >> 3),
  );
  const byteMask = i8x16.eq(bits128.and(spread, bit), bit);
  const wordMask = i16x8.eq(bits128.and(i16x8.splat(result), wordBit), wordBit);
  const wide = select(i32.and(imm, Control.WORDS), wordMask, byteMask);
  return select(i32.and(imm, Control.LAST), wide, low64(i64.extend_u(result)));
}

// ---- CRC32 ----------------------------------------------------------------------------------------------

/** CRC-32C (Castagnoli), bits reversed. */
const POLYNOMIAL = 0x82f63b78;

/** The checksum of a message of `bits` bits of which only number `bit` is 1. */
function column(bits: number, bit: number): number {
  let crc = 0;
  for (let i = 0; i < bits; i++) {
    const low = (crc ^ (i === bit ? 1 : 0)) & 1;
    crc = (crc >>> 1) ^ (low ? POLYNOMIAL : 0);
  }
  return crc;
}

/**
 * crc (checksum, data): the checksum is linear in the message's bits, so it is the sum of their columns: four
 * at a time, selected by the bits.
 */
const crcRoutine = (bits: 8 | 16 | 32 | 64): LibraryRoutine => ({
  signature: { parameters: ['i32', 'i64'], result: 'i32' },
  build(f) {
    const checksum = f.parameter('i32', 0);
    const message = f.let(i64.xor(f.parameter('i64', 1), i64.extend_u(checksum)));
    const sum = f.local('v128');
    for (let half = 0; half < bits; half += 32) {
      const part = f.let(i32x4.splat(i32.wrap(i64.shr_u(message, half))));
      for (let at = 0; at < Math.min(32, bits); at += 4) {
        const selector = doublewords((i) => 1 << (at + i));
        const chosen = i32x4.eq(bits128.and(part, selector), selector);
        const columns = doublewords((i) => column(bits, half + at + i));
        f.set(sum, bits128.xor(sum, bits128.and(chosen, columns)));
      }
    }
    const lanes = [0, 1, 2, 3].map((n) => i32x4.extract_lane(sum, n));
    const folded = lanes.reduce((a, b) => i32.xor(a, b));
    // What of the old checksum the message did not reach moves down.
    f.return(bits < 32 ? i32.xor(folded, i32.shr_u(checksum, bits)) : folded);
  },
});

function crc32(c: Emitter): void {
  const { size } = c.form.operands[1];
  const data: I64 = c.read(1);
  const checksum = i32.wrap(c.read(0));
  // A 64-bit destination gets zeros above, too.
  c.write(0, i64.extend_u(c.call(`crc${size}`, 'i32', checksum, data)));
}

export const strings: SemanticsGroup = {
  name: 'sse strings',
  plain: {
    pcmpestri: stringCompare(true, true),
    pcmpestrm: stringCompare(true, false),
    pcmpistri: stringCompare(false, true),
    pcmpistrm: stringCompare(false, false),
    crc32,
  },
  library: {
    compareStrings,
    crc8: crcRoutine(8),
    crc16: crcRoutine(16),
    crc32: crcRoutine(32),
    crc64: crcRoutine(64),
  },
};
