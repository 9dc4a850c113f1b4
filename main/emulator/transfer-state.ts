import { Gpr, Intr, Seg, State, StateOffset } from '../nvmm/constants.ts';
import type { VcpuState } from '../nvmm/layout.ts';
import { Cr0 } from './cpu.ts';
import type { Processor } from './processor.ts';
import { Field, SegmentIndex } from './state.ts';
import { loadX87, loadXmm, MXCSR_MASK, saveLegacy } from './system/images.ts';

/** NVMM's order of segments beside ours. GDT and IDT have no selector. */
const SEGMENTS: readonly (readonly [nvmm: number, ours: number])[] = [
  [Seg.ES, SegmentIndex.ES],
  [Seg.CS, SegmentIndex.CS],
  [Seg.SS, SegmentIndex.SS],
  [Seg.DS, SegmentIndex.DS],
  [Seg.FS, SegmentIndex.FS],
  [Seg.GS, SegmentIndex.GS],
  [Seg.LDT, SegmentIndex.LDT],
  [Seg.TR, SegmentIndex.TR],
];
/** Fields in the order of NVMM's arrays. */
const CRS = [Field.CR0, Field.CR2, Field.CR3, Field.CR4, Field.CR8, Field.XCR0];
const MSRS = [
  Field.EFER,
  Field.STAR,
  Field.LSTAR,
  Field.CSTAR,
  Field.SFMASK,
  Field.KERNEL_GS_BASE,
  Field.SYSENTER_CS,
  Field.SYSENTER_ESP,
  Field.SYSENTER_EIP,
  Field.PAT,
];
const DR6_FIXED = 0xffff0ff0 | 0;
const XCR0_VALID = 3;

/** Copies parts (State bits) of the processor into an NVMM state. */
export function saveState(p: Processor, state: VcpuState, flags: number): void {
  const { cpu } = p;
  const { view } = state;
  const put64 = (at: number, field: number): void => {
    view.setInt32(at, cpu.get(field), true);
    view.setInt32(at + 4, cpu.high(field), true);
  };
  if (flags & State.GPRS) {
    for (let i = 0; i < 16; i++) put64(StateOffset.GPRS + 8 * i, Field.SLOTS + 8 * i);
    put64(StateOffset.GPRS + 8 * Gpr.RIP, Field.RIP);
    view.setUint32(StateOffset.GPRS + 8 * Gpr.RFLAGS, cpu.eflags, true);
    view.setUint32(StateOffset.GPRS + 8 * Gpr.RFLAGS + 4, 0, true);
  }
  if (flags & State.SEGS) {
    for (const [nvmm, ours] of SEGMENTS) {
      const at = StateOffset.SEGS + 16 * nvmm;
      view.setUint16(at, cpu.selector(ours), true);
      view.setUint16(at + 2, cpu.attrib(ours), true);
      view.setUint32(at + 4, cpu.limit(ours), true);
      put64(at + 8, cpu.baseField(ours));
    }
    for (const [nvmm, base, limit] of [
      [Seg.GDT, Field.GDT_BASE, Field.GDT_LIMIT],
      [Seg.IDT, Field.IDT_BASE, Field.IDT_LIMIT],
    ] as const) {
      const at = StateOffset.SEGS + 16 * nvmm;
      view.setUint32(at + 4, cpu.get(limit) & 0xffff, true);
      put64(at + 8, base);
    }
  }
  if (flags & State.CRS) CRS.forEach((field, i) => put64(StateOffset.CRS + 8 * i, field));
  if (flags & State.DRS) for (let i = 0; i < 6; i++) put64(StateOffset.DRS + 8 * i, Field.DR + 8 * i);
  if (flags & State.MSRS) {
    MSRS.forEach((field, i) => put64(StateOffset.MSRS + 8 * i, field));
    p.readTsc();
    view.setInt32(StateOffset.MSRS + 80, p.msrLow, true);
    view.setInt32(StateOffset.MSRS + 84, p.msrHigh, true);
  }
  if (flags & State.INTR) state.intr = interruptBits(p);
  if (flags & State.FPU) saveLegacy(cpu, state.fpu);
}

/** The intr word of state and exitstate. */
export function interruptBits(p: Processor): number {
  return (
    (p.shadow ? Intr.INT_SHADOW : 0) |
    (p.intWindow ? Intr.INT_WINDOW_EXITING : 0) |
    (p.nmiWindow || p.nmiBlocked ? Intr.NMI_WINDOW_EXITING : 0) |
    (p.events.waits ? Intr.EVT_PENDING : 0)
  );
}

/** Puts parts of an NVMM state into the processor. `lastTsc` is the TSC that was reported last, which changes nothing. */
export function loadState(p: Processor, state: VcpuState, flags: number, lastTsc: bigint): void {
  const { cpu } = p;
  const { view } = state;
  const take64 = (at: number, field: number): void =>
    cpu.set64(field, view.getInt32(at, true), view.getInt32(at + 4, true));
  if (flags & State.SEGS) {
    for (const [nvmm, ours] of SEGMENTS) {
      const at = StateOffset.SEGS + 16 * nvmm;
      cpu.setSegment(
        ours,
        view.getUint16(at, true),
        view.getUint16(at + 2, true) & 0xfff,
        view.getUint32(at + 4, true),
        view.getInt32(at + 8, true),
        view.getInt32(at + 12, true),
      );
    }
    take64(StateOffset.SEGS + 16 * Seg.GDT + 8, Field.GDT_BASE);
    cpu.set(Field.GDT_LIMIT, view.getUint32(StateOffset.SEGS + 16 * Seg.GDT + 4, true) & 0xffff);
    take64(StateOffset.SEGS + 16 * Seg.IDT + 8, Field.IDT_BASE);
    cpu.set(Field.IDT_LIMIT, view.getUint32(StateOffset.SEGS + 16 * Seg.IDT + 4, true) & 0xffff);
  }
  if (flags & State.CRS) {
    CRS.forEach((field, i) => take64(StateOffset.CRS + 8 * i, field));
    cpu.set64(Field.CR0, cpu.get(Field.CR0) | Cr0.ET, 0);
    cpu.set64(Field.XCR0, (cpu.get(Field.XCR0) & XCR0_VALID) | 1, 0);
  }
  if (flags & State.DRS) {
    for (let i = 0; i < 6; i++) take64(StateOffset.DRS + 8 * i, Field.DR + 8 * i);
    cpu.set64(Field.DR + 32, (cpu.get(Field.DR + 32) & 0xe00f) | DR6_FIXED, 0);
    cpu.set64(Field.DR + 40, (cpu.get(Field.DR + 40) & 0xffff2fff) | 0x400, 0);
  }
  if (flags & State.MSRS) {
    MSRS.forEach((field, i) => take64(StateOffset.MSRS + 8 * i, field));
    const tsc = view.getBigUint64(StateOffset.MSRS + 80, true);
    // v3 semantics: 0 and the value reported last leave the counter alone (nvmm.md 6.6).
    if (tsc !== 0n && tsc !== lastTsc) {
      p.writeTsc(view.getInt32(StateOffset.MSRS + 80, true), view.getInt32(StateOffset.MSRS + 84, true));
    }
  }
  if (flags & State.GPRS) {
    for (let i = 0; i < 16; i++) take64(StateOffset.GPRS + 8 * i, Field.SLOTS + 8 * i);
    take64(StateOffset.GPRS + 8 * Gpr.RIP, Field.RIP);
    cpu.eflags = view.getUint32(StateOffset.GPRS + 8 * Gpr.RFLAGS, true) & 0x3f7fd7;
  }
  if (flags & State.FPU) {
    const image = state.fpu;
    const fpu = new DataView(image.buffer, image.byteOffset);
    const mask = fpu.getUint32(28, true) & MXCSR_MASK;
    loadX87(cpu, image);
    loadXmm(cpu, image);
    cpu.set(Field.MXCSR, fpu.getUint32(24, true) & mask);
  }
  if (flags & State.INTR) {
    const bits = state.intr;
    p.shadow = (bits & Intr.INT_SHADOW) !== 0;
    p.intWindow = (bits & Intr.INT_WINDOW_EXITING) !== 0;
    p.nmiWindow = (bits & Intr.NMI_WINDOW_EXITING) !== 0;
  }
  if (flags & (State.SEGS | State.CRS | State.MSRS | State.DRS)) p.stateWasSet();
}

/** Fills a state with what a processor has after RESET (nvmm.md 6.2). */
export function resetState(state: VcpuState): void {
  state.bytes.fill(0);
  for (const seg of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS]) state.setSegment(seg, 0, 0x93, 0xffff, 0n);
  state.setSegment(Seg.CS, 0xf000, 0x93, 0xffff, 0xffff0000n);
  state.setSegment(Seg.GDT, 0, 0x92, 0xffff, 0n);
  state.setSegment(Seg.IDT, 0, 0x92, 0xffff, 0n);
  state.setSegment(Seg.LDT, 0, 0x82, 0xffff, 0n);
  state.setSegment(Seg.TR, 0, 0x83, 0xffff, 0n);
  state.setGpr(Gpr.RDX, 0x600n);
  state.setGpr(Gpr.RIP, 0xfff0n);
  state.setGpr(Gpr.RFLAGS, 2n);
  [0x60000010n, 0n, 0n, 0n, 0n, 1n].forEach((value, i) => state.setCr(i, value));
  state.setDr(4, 0xffff0ff0n);
  state.setDr(5, 0x400n);
  state.setMsr(9, 0x0007040600070406n);
  const fpu = new DataView(state.fpu.buffer, state.fpu.byteOffset);
  fpu.setUint16(0, 0x40, true);
  fpu.setUint8(4, 0x55);
  fpu.setUint8(5, 0x55);
  fpu.setUint32(24, 0x1f80, true);
  fpu.setUint32(28, MXCSR_MASK, true);
}
