import { Cr0, Cr4, Efer, isCanonicalHigh, Attrib } from '../cpu.ts';
import { generalProtection, GuestFault, Vector } from '../fault.ts';
import { PHYSICAL_BITS } from '../mmu.ts';
import type { Processor } from '../processor.ts';
import { Field, SegmentIndex } from '../state.ts';

/** CR4 bits that the processor has. */
const CR4_VALID =
  Cr4.VME |
  Cr4.PVI |
  Cr4.TSD |
  Cr4.DE |
  Cr4.PSE |
  Cr4.PAE |
  Cr4.MCE |
  Cr4.PGE |
  Cr4.PCE |
  Cr4.OSFXSR |
  Cr4.OSXMMEXCPT |
  Cr4.FSGSBASE |
  Cr4.PCIDE |
  Cr4.OSXSAVE |
  Cr4.SMEP |
  Cr4.SMAP;
const CR0_VALID = 0xe005003f | 0;
export const EFER_VALID = Efer.SCE | Efer.LME | Efer.LMA | Efer.NXE;
const FLUSH_CR0 = Cr0.PG | Cr0.WP | Cr0.PE;
const FLUSH_CR4 = Cr4.PSE | Cr4.PAE | Cr4.PGE | Cr4.PCIDE | Cr4.SMEP | Cr4.SMAP;

/** MOV to CR0, CR2, CR3, CR4 or CR8, with all checks (SDM vol. 2, MOV to control registers). */
export function writeControl(p: Processor, number: number, low: number, high: number): void {
  switch (number) {
    case 0:
      writeCr0(p, low, high);
      return;
    case 2:
      p.cpu.set64(Field.CR2, low, high);
      return;
    case 3:
      writeCr3(p, low, high);
      return;
    case 4:
      writeCr4(p, low, high);
      return;
    case 8:
      if (high !== 0 || (low & ~15) !== 0) throw generalProtection();
      p.cpu.set64(Field.CR8, low, 0);
      p.taskPriorityWritten();
      return;
    default:
      throw new GuestFault(Vector.UD);
  }
}

function writeCr0(p: Processor, low: number, high: number): void {
  const { cpu } = p;
  const old = cpu.get(Field.CR0);
  if (high !== 0) throw generalProtection();
  const value = (low & CR0_VALID) | Cr0.ET;
  if (value & Cr0.PG && !(value & Cr0.PE)) throw generalProtection();
  if (value & Cr0.NW && !(value & Cr0.CD)) throw generalProtection();
  const efer = cpu.get(Field.EFER);
  if (value & Cr0.PG && !(old & Cr0.PG) && efer & Efer.LME) {
    if (!(cpu.get(Field.CR4) & Cr4.PAE)) throw generalProtection();
    if (cpu.attrib(SegmentIndex.CS) & Attrib.L) throw generalProtection();
    cpu.set(Field.EFER, efer | Efer.LMA);
  } else if (!(value & Cr0.PG) && old & Cr0.PG && efer & Efer.LMA) {
    if (cpu.code64) throw generalProtection();
    cpu.set(Field.EFER, efer & ~Efer.LMA);
  }
  if (!(value & Cr0.PG) && cpu.get(Field.CR4) & Cr4.PCIDE) throw generalProtection();
  cpu.set(Field.CR0, value);
  if (!(value & Cr0.PE)) cpu.set(Field.CPL, 0);
  if ((value ^ old) & FLUSH_CR0) p.mmu.flushAll();
  p.controlChanged();
}

function writeCr3(p: Processor, low: number, high: number): void {
  const { cpu } = p;
  let upper = high;
  if (cpu.longMode) {
    // Bit 63 asks to keep translations of the new PCID; they are dropped all the same, which is always allowed.
    if (cpu.get(Field.CR4) & Cr4.PCIDE) upper &= 0x7fffffff;
    if (upper >>> (PHYSICAL_BITS - 32)) throw generalProtection();
  }
  cpu.set64(Field.CR3, low, upper);
  p.mmu.flushLocal();
}

function writeCr4(p: Processor, low: number, high: number): void {
  const { cpu } = p;
  const old = cpu.get(Field.CR4);
  if (high !== 0 || (low & ~CR4_VALID) !== 0) throw generalProtection();
  if (cpu.longMode && !(low & Cr4.PAE)) throw generalProtection();
  if (low & Cr4.PCIDE && !(old & Cr4.PCIDE) && (!cpu.longMode || cpu.get(Field.CR3) & 0xfff)) {
    throw generalProtection();
  }
  cpu.set64(Field.CR4, low, 0);
  if ((low ^ old) & FLUSH_CR4) p.mmu.flushAll();
  p.controlChanged();
}

/** LMSW: the low four bits of CR0, of which PE can only be set. */
export function lmsw(p: Processor, value: number): void {
  const old = p.cpu.get(Field.CR0);
  writeCr0(p, (old & ~0xe) | (value & 0xf) | (old & 1), 0);
}

const DEBUG_FIELD = [0, 8, 16, 24, 32, 40, 32, 40];
const DR7_GD = 0x2000;
const DR6_BD = 0x2000;

function debugField(p: Processor, number: number): number {
  const { cpu } = p;
  if ((number === 4 || number === 5) && cpu.get(Field.CR4) & Cr4.DE) throw new GuestFault(Vector.UD);
  if (cpu.cpl !== 0) throw generalProtection();
  if (cpu.get(Field.DR + 40) & DR7_GD) {
    cpu.set(Field.DR + 32, cpu.get(Field.DR + 32) | DR6_BD);
    cpu.set(Field.DR + 40, cpu.get(Field.DR + 40) & ~DR7_GD);
    throw new GuestFault(Vector.DB);
  }
  return Field.DR + DEBUG_FIELD[number];
}

export function readDebug(p: Processor, number: number): { low: number; high: number } {
  const field = debugField(p, number);
  return { low: p.cpu.get(field), high: p.cpu.high(field) };
}

export function writeDebug(p: Processor, number: number, low: number, high: number): void {
  const field = debugField(p, number);
  const { cpu } = p;
  const system = number === 4 || number >= 5;
  if (system && high !== 0 && cpu.code64) throw generalProtection();
  if (field === Field.DR + 32) cpu.set64(field, (low & 0xe00f) | 0xffff0ff0 | 0, 0);
  else if (field === Field.DR + 40) cpu.set64(field, (low & 0xffff2fff) | 0x400, 0);
  else {
    if (cpu.code64 && !isCanonicalHigh(high)) throw generalProtection();
    cpu.set64(field, low, cpu.code64 ? high : 0);
  }
  p.debugChanged();
}

/** WRMSR to EFER. */
export function writeEfer(p: Processor, low: number, high: number): boolean {
  const { cpu } = p;
  const old = cpu.get(Field.EFER);
  if (high !== 0 || (low & ~EFER_VALID) !== 0) return false;
  if ((low ^ old) & Efer.LME && cpu.get(Field.CR0) & Cr0.PG) return false;
  cpu.set(Field.EFER, (low & ~Efer.LMA) | (old & Efer.LMA));
  if ((low ^ old) & Efer.NXE) p.mmu.flushAll();
  p.controlChanged();
  return true;
}
