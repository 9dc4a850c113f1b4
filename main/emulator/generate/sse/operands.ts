import { OperandKind } from '../../instruction.ts';
import { Field } from '../../state.ts';
import { i32, i64, v128, type I32, type I64, type V128 } from '../../wasm/expression.ts';
import { i64x2, i8x16 } from '../../wasm/simd.ts';
import { loadBits, type Emitter } from '../emitter.ts';
import type { Semantics } from '../semantics.ts';

/** What SSE and MMX instructions share: the checks they begin with, and access to their registers. */

/** #UD or #NM when SSE instructions must not run now (SDM vol. 3, table 13-1). */
export function requireSse(c: Emitter): void {
  c.once('SSE', () => {
    const trap = c.f.let(c.field32(Field.SSE_TRAP));
    c.f.if(trap, () => c.raise(trap));
  });
}

/** #UD or #NM, then #MF for an x87 exception that is pending (SDM vol. 3, 12.2 and 12.4). */
export function requireMmx(c: Emitter): void {
  const trap = c.f.let(c.field32(Field.MMX_TRAP));
  c.f.if(trap, () => c.raise(trap));
  c.f.if(i32.and(c.field32(Field.FPU_STATUS), 0x80), () => c.raise(i32.const(16)));
}

/** What every MMX instruction but EMMS does to the x87 state: TOP = 0, no register empty (SDM vol. 1, 9.5.1). */
export function enterMmx(c: Emitter): void {
  c.setField32(Field.FPU_TOP, i32.const(0));
  c.setField32(Field.FPU_TAGS, i32.const(0xff));
}

/** Wraps the semantics of instructions that use XMM registers. */
export function sse(body: Semantics): Semantics {
  return (c) => {
    requireSse(c);
    body(c);
  };
}

export function isXmm(c: Emitter, n: number): boolean {
  return c.form.operands[n]?.kind === OperandKind.XMM;
}
export function isMmx(c: Emitter, n: number): boolean {
  return c.form.operands[n]?.kind === OperandKind.MMX;
}
export function isMemory(c: Emitter, n: number): boolean {
  return c.form.operands[n]?.kind === OperandKind.MEM;
}

/** The low 32 or 64 bits of operand n, zero-extended: an XMM, MMX or general register, or memory of that size. */
export function readScalar(c: Emitter, n: number, bits: number): I64 {
  if (isXmm(c, n)) return c.f.let(loadBits(bits, c.registerAddress(n), Field.XMM));
  if (isMmx(c, n)) return c.f.let(loadBits(bits, c.registerAddress(n), Field.X87));
  return c.read(n);
}

/** Replaces the low 32 or 64 bits of XMM register n (the rest stays), or stores them. */
export function writeScalar(c: Emitter, n: number, bits: number, value: I64): void {
  if (isXmm(c, n)) c.f.storeBits(bits, c.registerAddress(n), value, Field.XMM);
  else c.write(n, value);
}

/** The upper 64 bits of XMM register n. */
export function readHigh(c: Emitter, n: number): I64 {
  return c.f.let(i64.load(c.registerAddress(n), Field.XMM + 8));
}
export function writeHigh(c: Emitter, n: number, value: I64): void {
  c.f.store64(c.registerAddress(n), value, Field.XMM + 8);
}

/** Writes MMX register n: its x87 register gets an exponent of all ones (SDM vol. 1, 9.5.1). */
export function writeMmx(c: Emitter, n: number, value: I64): void {
  const at = c.f.let(c.registerAddress(n));
  c.f.store64(at, value, Field.X87);
  c.f.storeBits(16, at, i64.const(0xffff), Field.X87 + 8);
}

/** An MMX register or 32 or 64 bits of memory as a vector with zeros above. */
export function readMmxVector(c: Emitter, n: number): V128 {
  if (isMmx(c, n)) return c.f.let(v128.load64_zero(c.registerAddress(n), Field.X87));
  return c.f.let(low64(c.read(n)));
}

export const ZERO: V128 = v128.const(new Array<number>(16).fill(0));

/** A vector with a value in its low 64 bits and zeros above. */
export function low64(value: I64): V128 {
  return i64x2.replace_lane(ZERO, 0, value);
}
export function lowOf(vector: V128): I64 {
  return i64x2.extract_lane(vector, 0);
}
export function highOf(vector: V128): I64 {
  return i64x2.extract_lane(vector, 1);
}

/** A constant vector of 16 bytes. */
export function bytes(of: (i: number) => number): V128 {
  return v128.const(Array.from({ length: 16 }, (_, i) => of(i) & 0xff));
}
/** A constant vector of 8 words, 4 doublewords or 2 quadwords. */
export function words(of: (i: number) => number): V128 {
  return bytes((i) => of(i >> 1) >> (8 * (i & 1)));
}
export function doublewords(of: (i: number) => number): V128 {
  return bytes((i) => of(i >> 2) >> (8 * (i & 3)));
}
export function quadwords(of: (i: number) => bigint): V128 {
  return bytes((i) => Number((of(i >> 3) >> BigInt(8 * (i & 7))) & 0xffn));
}

/** XMM0, which some instructions imply. */
export function xmm0(c: Emitter): V128 {
  return c.f.let(v128.load(c.s, Field.XMM));
}

export function writeXmm0(c: Emitter, value: V128): void {
  c.f.storeV128(c.s, value, Field.XMM);
}

/** The bytes' own numbers, 0-15. */
export const IOTA: V128 = bytes((i) => i);

/** The immediate byte as an i32. */
export function imm8(c: Emitter): I32 {
  return c.f.let(i32.wrap(c.immediate(8)));
}

/** The vector from byte `at` on (0-15) moved down to byte 0, zeros from above. */
export function fromByte(vector: V128, at: I32): V128 {
  return i8x16.swizzle(vector, i8x16.add(IOTA, i8x16.splat(at)));
}
