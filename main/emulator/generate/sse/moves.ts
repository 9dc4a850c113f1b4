import { Field } from '../../state.ts';
import { i32, i64 } from '../../wasm/expression.ts';
import { i32x4, i64x2, i8x16 } from '../../wasm/simd.ts';
import { cut, type Emitter } from '../emitter.ts';
import type { Semantics, SemanticsGroup } from '../semantics.ts';
import {
  enterMmx,
  isMemory,
  isMmx,
  isXmm,
  low64,
  readHigh,
  readMmxVector,
  readScalar,
  requireMmx,
  requireSse,
  sse,
  writeHigh,
  writeMmx,
  writeScalar,
} from './operands.ts';

/** Moves between XMM, MMX and general registers and memory; MXCSR; hints and fences. */

const moveAligned = sse((c) => c.writeVector(0, c.readVector(1)));
const moveUnaligned = sse((c) => c.writeVector(0, c.readVector(1, true), true));

/** MOVSS and MOVSD: register to register keeps the rest, a load clears it. */
const moveScalar = (bits: number): Semantics =>
  sse((c) => {
    const value = readScalar(c, 1, bits);
    if (isMemory(c, 1)) c.writeVector(0, low64(value));
    else writeScalar(c, 0, bits, value);
  });

const moveLow = sse((c) => writeScalar(c, 0, 64, readScalar(c, 1, 64)));
const moveHigh = sse((c) => {
  if (isXmm(c, 0)) writeHigh(c, 0, c.read(1));
  else c.write(0, readHigh(c, 1));
});

function requireFor(c: Emitter): void {
  if (isXmm(c, 0) || isXmm(c, 1)) requireSse(c);
  if (isMmx(c, 0) || isMmx(c, 1)) requireMmx(c);
}

/** MOVD and MOVQ in all their forms: the destination's other bits become 0. */
const moveInteger = (bits: number): Semantics => {
  return (c) => {
    requireFor(c);
    const value = readScalar(c, 1, bits);
    if (isXmm(c, 0)) c.writeVector(0, low64(value));
    else if (isMmx(c, 0)) writeMmx(c, 0, value);
    else c.write(0, value);
    if (isMmx(c, 0) || isMmx(c, 1)) enterMmx(c);
  };
};

const duplicate = (lanes: readonly number[]): Semantics =>
  sse((c) => {
    const a = c.readVector(1);
    c.writeVector(0, i8x16.shuffle(a, a, lanes));
  });

/** PMOVMSKB, MOVMSKPS, MOVMSKPD. */
const signMask = (mask: typeof i8x16.bitmask): Semantics => {
  return (c) => {
    requireFor(c);
    const a = isMmx(c, 1) ? readMmxVector(c, 1) : c.readVector(1);
    c.write(0, i64.extend_u(mask(a)));
    if (isMmx(c, 1)) enterMmx(c);
  };
};

/** MASKMOVDQU and MASKMOVQ: the bytes of operand 0 that operand 1 selects go to DS:rDI. */
function maskedStore(c: Emitter): void {
  const f = c.f;
  const mmx = isMmx(c, 0);
  if (mmx) requireMmx(c);
  else requireSse(c);
  const value = mmx ? readMmxVector(c, 0) : c.readVector(0);
  const mask = mmx ? readMmxVector(c, 1) : c.readVector(1);
  const start = c.gpr(7);
  f.storeV128(c.s, value, Field.SCRATCH);
  const left = f.local('i32');
  f.set(left, i8x16.bitmask(mask));
  f.block((done) =>
    f.loop((again) => {
      f.breakIf(done, i32.eqz(left));
      const byte = f.let(i32.ctz(left));
      const offset = f.let(cut(c.form.addressSize, i64.add(start, i64.extend_u(byte))));
      c.store(offset, 8, i64.load8_u(i32.add(c.s, byte), Field.SCRATCH), 'operand');
      f.set(left, i32.and(left, i32.sub(left, 1)));
      f.break(again);
    }),
  );
  if (mmx) enterMmx(c);
}

const nothing: Semantics = () => undefined;
/** CLFLUSH and its relatives fault like a load; memory here is always coherent. */
const flushLine: Semantics = (c) => {
  c.f.do(c.readable(c.offset(), 1, 'operand'));
};

const EVEN_FLOATS = [0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11, 8, 9, 10, 11];
const ODD_FLOATS = EVEN_FLOATS.map((byte) => byte + 4);

export const moves: SemanticsGroup = {
  name: 'sse moves',
  plain: {
    movaps: moveAligned,
    movapd: moveAligned,
    movdqa: moveAligned,
    movntps: moveAligned,
    movntpd: moveAligned,
    movntdq: moveAligned,
    movntdqa: moveAligned,
    movups: moveUnaligned,
    movupd: moveUnaligned,
    movdqu: moveUnaligned,
    lddqu: moveUnaligned,
    movss: moveScalar(32),
    movsd: moveScalar(64),
    movlps: moveLow,
    movlpd: moveLow,
    movhps: moveHigh,
    movhpd: moveHigh,
    movhlps: sse((c) => writeScalar(c, 0, 64, readHigh(c, 1))),
    movlhps: sse((c) => writeHigh(c, 0, readScalar(c, 1, 64))),
    movd: moveInteger(32),
    movq: moveInteger(64),
    movq2dq: moveInteger(64),
    movdq2q: moveInteger(64),
    movntq: moveInteger(64),
    movddup: sse((c) => c.writeVector(0, i64x2.splat(readScalar(c, 1, 64)))),
    movsldup: duplicate(EVEN_FLOATS),
    movshdup: duplicate(ODD_FLOATS),
    movmskps: signMask(i32x4.bitmask),
    movmskpd: signMask(i64x2.bitmask),
    pmovmskb: signMask(i8x16.bitmask),
    maskmovdqu: maskedStore,
    maskmovq: maskedStore,
    movnti: (c) => c.write(0, c.read(1)),

    ldmxcsr: sse((c) => {
      const value = c.f.let(i32.wrap(c.read(0)));
      // Bits 16-31 are reserved; bit 17 is AMD's misaligned exception mask, which our processors do not have.
      c.f.if(i32.gt_u(value, 0xffff), () => c.raise(i32.const(13)));
      c.setField32(Field.MXCSR, value);
      c.forget('fast floats');
    }),
    stmxcsr: sse((c) => c.write(0, i64.extend_u(c.field32(Field.MXCSR)))),
    emms: (c) => {
      requireMmx(c);
      c.setField32(Field.FPU_TOP, i32.const(0));
      c.setField32(Field.FPU_TAGS, i32.const(0));
    },

    prefetch: nothing,
    prefetchw: nothing,
    prefetchnta: nothing,
    prefetcht0: nothing,
    prefetcht1: nothing,
    prefetcht2: nothing,
    clflush: flushLine,
    clflushopt: flushLine,
    clwb: flushLine,
    sfence: nothing,
    lfence: nothing,
    mfence: (c) => c.f.fence(),
  },
};
