import { Cr, Dr, Gpr, Msr, Seg, StateOffset } from '../../nvmm/constants.ts';
import type { VcpuState } from '../../nvmm/layout.ts';
import type { GuestRam } from '../memory.ts';

/**
 * The states in which a guest can be entered: RESET (Intel SDM volume 3, table 10-1), and on top of it real
 * mode, flat 32-bit protected mode, and 64-bit mode with an identity map of the first 4 GiB.
 */

/** The loader's own low memory, unused by the guests that these protocols start. */
export const GDT = 0x500;
const PML4 = 0x9000;
const PDPT = 0xa000;
const DIRECTORIES = 0xb000;
/** Exclusive end of the page tables: four directories of 2 MiB pages. */
export const TABLES_END = DIRECTORIES + 4 * 4096;

/** Selectors of __BOOT_CS and __BOOT_DS (Documentation/arch/x86/boot.rst), and of a task. */
const CODE_SELECTOR = 0x10;
const DATA_SELECTOR = 0x18;
const TASK_SELECTOR = 0x20;

// Attribute words, see VcpuState.attrib: type, s 0x10, p 0x80, l 0x200, def 0x400, g 0x800.
const REAL_SEGMENT = 0x93;
const CODE32 = 0xc9b;
const CODE64 = 0xa9b;
const DATA32 = 0xc93;
const LDT = 0x82;
const TSS_BUSY = 0x8b;

const CR0_PE = 1n;
const CR0_ET = 1n << 4n;
const CR0_NE = 1n << 5n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
/** Caches off: the value after power-on. */
const CR0_RESET = 0x6000_0010n;
const FLAGS = 2n;

/** The state after power-on; the guest starts at F000:FFF0. */
export function resetState(state: VcpuState): void {
  state.bytes.fill(0);
  for (const seg of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS]) {
    state.setSegment(seg, 0, REAL_SEGMENT, 0xffff, 0n);
  }
  state.setSegment(Seg.CS, 0xf000, 0x9b, 0xffff, 0xffff_0000n);
  state.setSegment(Seg.GDT, 0, 0, 0xffff, 0n);
  state.setSegment(Seg.IDT, 0, 0, 0xffff, 0n);
  state.setSegment(Seg.LDT, 0, LDT, 0xffff, 0n);
  state.setSegment(Seg.TR, 0, TSS_BUSY, 0xffff, 0n);
  state.setGpr(Gpr.RDX, 0x600n);
  state.setGpr(Gpr.RIP, 0xfff0n);
  state.setGpr(Gpr.RFLAGS, FLAGS);
  state.setCr(Cr.CR0, CR0_RESET);
  state.setCr(Cr.XCR0, 1n);
  state.setDr(Dr.DR6, 0xffff_0ff0n);
  state.setDr(Dr.DR7, 0x400n);
  state.setMsr(Msr.PAT, 0x0007_0406_0007_0406n);
  const fpu = new DataView(state.bytes.buffer, state.bytes.byteOffset + StateOffset.FPU, 512);
  fpu.setUint16(0, 0x37f, true);
  fpu.setUint32(24, 0x1f80, true);
  fpu.setUint32(28, 0xffff, true);
}

/** Real mode at a segment and an offset, stack just below 0x7C00 as a BIOS leaves it. */
export function realMode(state: VcpuState, selector: number, offset: number): void {
  resetState(state);
  state.setSegment(Seg.CS, selector, 0x9b, 0xffff, BigInt(selector) << 4n);
  state.setCr(Cr.CR0, CR0_ET);
  state.setGpr(Gpr.RDX, 0n);
  state.setGpr(Gpr.RSP, 0x7c00n);
  state.setGpr(Gpr.RIP, BigInt(offset));
}

/** Real mode as an application processor starts after SIPI: CS from the vector, everything else as after RESET. */
export function startupState(state: VcpuState, vector: number): void {
  resetState(state);
  state.setSegment(Seg.CS, vector << 8, 0x9b, 0xffff, BigInt(vector) << 12n);
  state.setGpr(Gpr.RIP, 0n);
}

/** Flat 32-bit protected mode without paging, interrupts off. Writes a GDT at 0x500. */
export function protectedMode(state: VcpuState, ram: GuestRam, entry: number): void {
  resetState(state);
  descriptors(state, ram, CODE32);
  state.setCr(Cr.CR0, CR0_PE | CR0_ET);
  state.setGpr(Gpr.RDX, 0n);
  state.setGpr(Gpr.RIP, BigInt(entry));
}

/** 64-bit mode, the first 4 GiB mapped to themselves, interrupts off. Writes a GDT at 0x500 and tables at 0x9000. */
export function longMode(state: VcpuState, ram: GuestRam, entry: number): void {
  resetState(state);
  descriptors(state, ram, CODE64);
  identityTables(ram);
  state.setCr(Cr.CR0, CR0_PG | CR0_NE | CR0_ET | CR0_PE);
  state.setCr(Cr.CR3, BigInt(PML4));
  state.setCr(Cr.CR4, CR4_PAE);
  state.setMsr(Msr.EFER, EFER_LME | EFER_LMA);
  state.setGpr(Gpr.RDX, 0n);
  state.setGpr(Gpr.RIP, BigInt(entry));
}

function descriptors(state: VcpuState, ram: GuestRam, code: number): void {
  const table = [0, 0, 0, 0, ...descriptor(code), ...descriptor(DATA32), ...descriptor(TSS_BUSY, 0x67)];
  table.forEach((word, at) => ram.writeU32(GDT + 4 * at, word));
  state.setSegment(Seg.GDT, 0, 0, 4 * table.length - 1, BigInt(GDT));
  state.setSegment(Seg.CS, CODE_SELECTOR, code, 0xffff_ffff, 0n);
  for (const seg of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS]) {
    state.setSegment(seg, DATA_SELECTOR, DATA32, 0xffff_ffff, 0n);
  }
  state.setSegment(Seg.TR, TASK_SELECTOR, TSS_BUSY, 0x67, 0n);
}

/** A descriptor with base 0 (SDM volume 3, figure 3-8), low word first. `limit` counts pages when G is set. */
function descriptor(attrib: number, limit = 0xf_ffff): [number, number] {
  const high = ((attrib & 0xff) << 8) | ((attrib & 0xf00) << 12) | (limit & 0xf_0000);
  return [limit & 0xffff, high >>> 0];
}

/** Present, writable; and PS for the 2 MiB pages. */
function identityTables(ram: GuestRam): void {
  ram.zero(PML4, TABLES_END - PML4);
  ram.writeU32(PML4, PDPT | 3);
  for (let gib = 0; gib < 4; gib++) {
    const directory = DIRECTORIES + 4096 * gib;
    ram.writeU32(PDPT + 8 * gib, directory | 3);
    for (let i = 0; i < 512; i++) {
      ram.writeU32(directory + 8 * i, (((gib << 30) | (i << 21) | 0x83) >>> 0) as number);
    }
  }
}
