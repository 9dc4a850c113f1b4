import { Cr0, Cr4 } from '../cpu.ts';
import { generalProtection, GuestFault, Vector } from '../fault.ts';
import type { Processor } from '../processor.ts';
import { Field } from '../state.ts';
import type { Cpu } from '../cpu.ts';

/** MXCSR bits that exist: DAZ and all masks, flags, rounding, FTZ. */
export const MXCSR_MASK = 0xffff;
const LEGACY_BYTES = 512;
const HEADER_BYTES = 64;
const X87_COMPONENT = 1;
const SSE_COMPONENT = 2;

/** The 512 bytes of FXSAVE with REX.W (SDM vol. 1, table 10-2): x87 pointers are 64 bits. */
export function saveLegacy(cpu: Cpu, image: Uint8Array, xmmCount = 16, pointers = true, wide = true): void {
  const view = new DataView(image.buffer, image.byteOffset);
  const top = cpu.get(Field.FPU_TOP);
  view.setUint16(0, cpu.get(Field.FPU_CONTROL), true);
  view.setUint16(2, (cpu.get(Field.FPU_STATUS) & ~0x3800) | (top << 11), true);
  view.setUint8(4, cpu.get(Field.FPU_TAGS));
  view.setUint8(5, 0);
  image.fill(0, 6, 24);
  if (pointers) {
    view.setUint16(6, cpu.get(Field.FPU_OPCODE), true);
    view.setUint32(8, cpu.get(Field.FPU_IP), true);
    view.setUint32(12, wide ? cpu.high(Field.FPU_IP) : 0, true);
    view.setUint32(16, cpu.get(Field.FPU_DP), true);
    view.setUint32(20, wide ? cpu.high(Field.FPU_DP) : 0, true);
  }
  view.setUint32(24, cpu.get(Field.MXCSR), true);
  view.setUint32(28, MXCSR_MASK, true);
  for (let i = 0; i < 8; i++) {
    const at = cpu.s + Field.X87 + 16 * ((top + i) & 7);
    image.set(cpu.bytes.subarray(at, at + 10), 32 + 16 * i);
    image.fill(0, 42 + 16 * i, 48 + 16 * i);
  }
  image.set(cpu.bytes.subarray(cpu.s + Field.XMM, cpu.s + Field.XMM + 16 * xmmCount), 160);
}

/** `wide`: the format with REX.W, whose pointers have 64 bits; else they have 32. */
export function loadX87(cpu: Cpu, image: Uint8Array, wide = true): void {
  const view = new DataView(image.buffer, image.byteOffset);
  const status = view.getUint16(2, true);
  const top = (status >>> 11) & 7;
  // Bit 6 is always set, bits 7 and 13-15 never; ES and B follow from the unmasked flags.
  const control = (view.getUint16(0, true) & 0x1f7f) | 0x40;
  const pending = (status & ~control & 0x3f) !== 0;
  cpu.set(Field.FPU_CONTROL, control);
  cpu.set(Field.FPU_STATUS, (status & ~0xb880) | (pending ? 0x8080 : 0));
  cpu.set(Field.FPU_TOP, top);
  cpu.set(Field.FPU_TAGS, view.getUint8(4));
  cpu.set(Field.FPU_OPCODE, view.getUint16(6, true) & 0x7ff);
  // Pointers keep 57 bits, sign-extended, as on the processors that the tests compare with.
  const high = (at: number): number => (wide ? (view.getInt32(at, true) << 7) >> 7 : 0);
  cpu.set64(Field.FPU_IP, view.getInt32(8, true), high(12));
  cpu.set64(Field.FPU_DP, view.getInt32(16, true), high(20));
  for (let i = 0; i < 8; i++) {
    const at = cpu.s + Field.X87 + 16 * ((top + i) & 7);
    cpu.bytes.set(image.subarray(32 + 16 * i, 42 + 16 * i), at);
    cpu.bytes.fill(0, at + 10, at + 16);
  }
}

export function loadXmm(cpu: Cpu, image: Uint8Array, count = 16): void {
  cpu.bytes.set(image.subarray(160, 160 + 16 * count), cpu.s + Field.XMM);
}

/** AMD processors save the x87 pointers only while an exception is pending (AMD64 manual vol. 2, 11.4.4). */
function savesPointers(cpu: Cpu): boolean {
  return (cpu.get(Field.FPU_STATUS) & 0x80) !== 0;
}

function checkAvailable(p: Processor): void {
  const cr0 = p.cpu.get(Field.CR0);
  if (cr0 & Cr0.EM) throw new GuestFault(Vector.NM);
  if (cr0 & Cr0.TS) throw new GuestFault(Vector.NM);
}

/** FXSAVE; `size` 64: with REX.W. XMM registers 8-15 exist in 64-bit code only. */
export function fxsave(p: Processor, linear: number, wide: boolean): void {
  checkAvailable(p);
  if (linear & 15) throw generalProtection();
  const { cpu } = p;
  const image = p.imageBuffer.subarray(0, LEGACY_BYTES);
  p.linear.requireWritable(linear, LEGACY_BYTES, cpu.cpl === 3);
  p.linear.readRange(linear, image, cpu.cpl === 3);
  saveLegacy(cpu, image, cpu.code64 ? 16 : 8, savesPointers(cpu), wide);
  p.linear.writeRange(linear, image, cpu.cpl === 3);
}

export function fxrstor(p: Processor, linear: number, wide: boolean): void {
  checkAvailable(p);
  if (linear & 15) throw generalProtection();
  const { cpu } = p;
  const image = p.imageBuffer.subarray(0, LEGACY_BYTES);
  p.linear.readRange(linear, image, cpu.cpl === 3);
  const mxcsr = new DataView(image.buffer, image.byteOffset).getUint32(24, true);
  if (mxcsr & ~MXCSR_MASK) throw generalProtection();
  loadX87(cpu, image, wide);
  cpu.set(Field.MXCSR, mxcsr);
  loadXmm(cpu, image, cpu.code64 ? 16 : 8);
}

function checkXsave(p: Processor, linear: number): void {
  if (!(p.cpu.get(Field.CR4) & Cr4.OSXSAVE)) throw new GuestFault(Vector.UD);
  if (p.cpu.get(Field.CR0) & Cr0.TS) throw new GuestFault(Vector.NM);
  if (linear & 63) throw generalProtection();
}

/** XSAVE: the components in EDX:EAX that XCR0 has, standard format (SDM vol. 1, 13.7). */
export function xsave(p: Processor, linear: number, wide: boolean): void {
  checkXsave(p, linear);
  const { cpu } = p;
  const wanted = cpu.gpr(0) & cpu.get(Field.XCR0);
  const image = p.imageBuffer.subarray(0, LEGACY_BYTES + HEADER_BYTES);
  p.linear.requireWritable(linear, image.length, cpu.cpl === 3);
  p.linear.readRange(linear, image, cpu.cpl === 3);
  const current = new Uint8Array(LEGACY_BYTES);
  saveLegacy(cpu, current, cpu.code64 ? 16 : 8, savesPointers(cpu), wide);
  if (wanted & X87_COMPONENT) {
    image.set(current.subarray(0, 24));
    image.set(current.subarray(32, 160), 32);
  }
  if (wanted & SSE_COMPONENT) {
    image.set(current.subarray(24, 32), 24);
    image.set(current.subarray(160, cpu.code64 ? 416 : 288), 160);
  }
  const view = new DataView(image.buffer, image.byteOffset);
  view.setUint32(LEGACY_BYTES, (view.getUint32(LEGACY_BYTES, true) & ~cpu.gpr(0)) | wanted, true);
  p.linear.writeRange(linear, image, cpu.cpl === 3);
}

/** XRSTOR (SDM vol. 1, 13.8): components not in the image get their initial state. */
export function xrstor(p: Processor, linear: number, wide: boolean): void {
  checkXsave(p, linear);
  const { cpu } = p;
  const wanted = cpu.gpr(0) & cpu.get(Field.XCR0);
  const image = p.imageBuffer.subarray(0, LEGACY_BYTES + HEADER_BYTES);
  p.linear.readRange(linear, image, cpu.cpl === 3);
  const view = new DataView(image.buffer, image.byteOffset);
  const present = view.getUint32(LEGACY_BYTES, true);
  const reserved = image.subarray(LEGACY_BYTES + 8, LEGACY_BYTES + HEADER_BYTES).some((byte) => byte !== 0);
  const unknown = (present & ~cpu.get(Field.XCR0)) !== 0 || view.getUint32(LEGACY_BYTES + 4, true) !== 0;
  if (reserved || unknown) throw generalProtection();
  const mxcsr = view.getUint32(24, true);
  if (wanted & SSE_COMPONENT && mxcsr & ~MXCSR_MASK) throw generalProtection();
  const initial = initialImage();
  if (wanted & X87_COMPONENT) loadX87(cpu, present & X87_COMPONENT ? image : initial, wide);
  if (wanted & SSE_COMPONENT) {
    cpu.set(Field.MXCSR, mxcsr);
    loadXmm(cpu, present & SSE_COMPONENT ? image : initial, cpu.code64 ? 16 : 8);
  }
}

function initialImage(): Uint8Array {
  const image = new Uint8Array(LEGACY_BYTES);
  image[0] = 0x7f;
  image[1] = 0x03;
  return image;
}
