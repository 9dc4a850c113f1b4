import { Cr, Msr, StateOffset, WalkProt } from './constants.ts';
import { NvmmError } from './errors.ts';
import type { VcpuState } from './layout.ts';

/**
 * nvmm_gva_to_gpa: the guest's page walk in software (reference: libnvmm.3; Intel SDM volume 3, chapter 5).
 * As there, accessed and dirty bits are not set, and reserved bits, SMEP, SMAP, WP and CPL are not looked at.
 */

const CR0_PG = 0x8000_0000;
const CR4_PSE = 1 << 4;
const CR4_PAE = 1 << 5;
const EFER_LMA = 1 << 10;

const PTE_P = 1;
const PTE_W = 2;
const PTE_U = 4;
const PTE_PS = 1 << 7;
/** NX is bit 63: bit 31 of the upper half. */
const PTE_NX_HIGH = 0x8000_0000;
/** Bits 12-51 of a 64-bit entry. */
const FRAME_HIGH = 0x000f_ffff;

type Note = (entry: WalkEntry) => void;

/** Reads an aligned 32-bit word of guest-physical memory, or gives null where no memory is mapped. */
export type ReadPhysical = (gpa: number) => number | null;

/** One entry of a walk, as it was read. */
export interface WalkEntry {
  /** 4 for PML4E, 3 for PDPTE, 2 for PDE, 1 for PTE. */
  level: number;
  /** Guest-physical address of the entry. */
  at: number;
  /** 32 or 64 bits. */
  size: 4 | 8;
  low: number;
  high: number;
  /** It maps a page: of 4 KiB, or a large one. */
  leaf: boolean;
}

export interface Translation {
  /** Guest-physical address, page offset included. */
  gpa: number;
  /** WalkProt bits. */
  prot: number;
}

/**
 * Translates the guest-virtual address (two unsigned 32-bit halves). `state` must hold CRS and MSRS. Throws
 * EFAULT when an entry is absent, lies outside memory, or the address is not canonical. `note` is told each entry.
 */
export function walk(
  state: VcpuState,
  low: number,
  high: number,
  read: ReadPhysical,
  note: (entry: WalkEntry) => void = () => undefined,
): Translation {
  const view = state.view;
  const cr0 = view.getUint32(StateOffset.CRS + 8 * Cr.CR0, true);
  const cr4 = view.getUint32(StateOffset.CRS + 8 * Cr.CR4, true);
  const efer = view.getUint32(StateOffset.MSRS + 8 * Msr.EFER, true);
  if ((cr0 & CR0_PG) === 0) {
    // Beyond 4 GiB the sum may lose its lowest bits, but nothing is mapped there.
    return { gpa: low + high * 2 ** 32, prot: WalkProt.ALL };
  }
  const long = (efer & EFER_LMA) !== 0;
  const pae = (cr4 & CR4_PAE) !== 0;
  if (long && !pae) throw fault(low, high, 'EFER.LMA is set and CR4.PAE is not');
  const cr3Low = view.getUint32(StateOffset.CRS + 8 * Cr.CR3, true);
  const cr3High = view.getUint32(StateOffset.CRS + 8 * Cr.CR3 + 4, true);

  if (!pae) return walk32(low, cr3Low, (cr4 & CR4_PSE) !== 0, read, note);
  if (!long) return walkPae(low, 0, 3, (cr3Low & ~0x1f) >>> 0, read, note);
  const sign = (high << 16) >> 16;
  if (sign !== (high | 0)) throw fault(low, high, 'the address is not canonical');
  const root = ((cr3Low & ~0xfff) >>> 0) + (cr3High & FRAME_HIGH) * 2 ** 32;
  return walkPae(low, high, 4, root, read, note);
}

/** Two levels of 32-bit entries, 4 MiB pages with PSE (the high bits of PSE-36 are ignored). */
function walk32(low: number, cr3: number, pse: boolean, read: ReadPhysical, note: Note): Translation {
  const first = ((cr3 & ~0xfff) >>> 0) + (low >>> 22) * 4;
  const seen = read(first) ?? 0;
  note({ level: 2, at: first, size: 4, low: seen, high: 0, leaf: pse && (seen & PTE_PS) !== 0 });
  const directory = entry(read, first, low, 0);
  let prot = narrow(WalkProt.ALL, directory, 0);
  if (pse && (directory & PTE_PS) !== 0) {
    return { gpa: ((directory & 0xffc0_0000) >>> 0) + (low & 0x3f_ffff), prot };
  }
  const second = ((directory & ~0xfff) >>> 0) + ((low >>> 12) & 0x3ff) * 4;
  note({ level: 1, at: second, size: 4, low: read(second) ?? 0, high: 0, leaf: true });
  const leaf = entry(read, second, low, 0);
  prot = narrow(prot, leaf, 0);
  return { gpa: ((leaf & ~0xfff) >>> 0) + (low & 0xfff), prot };
}

/** Three or four levels of 64-bit entries. Page-directory pointers of PAE (level 3 of 3) have no permission bits. */
function walkPae(
  low: number,
  high: number,
  levels: number,
  root: number,
  read: ReadPhysical,
  note: Note,
): Translation {
  let table = root;
  let prot: number = WalkProt.ALL;
  for (let level = levels; level >= 1; level--) {
    const at = table + index(low, high, level) * 8;
    const pointer = levels === 3 && level === 3;
    const seen = read(at) ?? 0;
    const upper = read(at + 4) ?? 0;
    const large = (seen & PTE_PS) !== 0 && (level === 2 || (level === 3 && !pointer));
    note({ level, at, size: 8, low: seen, high: upper, leaf: level === 1 || large });
    const lower = entry(read, at, low, high);
    if (!pointer) prot = narrow(prot, lower, upper);
    if (level === 1 || large) {
      const offsetBits = 12 + 9 * (level - 1);
      const frame = ((lower & ~0xfff) >>> 0) + (upper & FRAME_HIGH) * 2 ** 32;
      const size = 2 ** offsetBits;
      return { gpa: frame - (frame % size) + (low & (size - 1)), prot };
    }
    table = ((lower & ~0xfff) >>> 0) + (upper & FRAME_HIGH) * 2 ** 32;
  }
  throw fault(low, high, 'the walk found no page');
}

/** The nine index bits of a level; level 4 spans the halves at bits 39-47, level 3 at bits 30-38. */
function index(low: number, high: number, level: number): number {
  switch (level) {
    case 4:
      return (high >>> 7) & 0x1ff;
    case 3:
      return ((low >>> 30) | (high << 2)) & 0x1ff;
    case 2:
      return (low >>> 21) & 0x1ff;
    default:
      return (low >>> 12) & 0x1ff;
  }
}

function entry(read: ReadPhysical, at: number, low: number, high: number): number {
  const value = read(at);
  if (value === null) throw fault(low, high, `a page table entry at 0x${at.toString(16)} is not in memory`);
  if ((value & PTE_P) === 0) throw fault(low, high, 'the page is not present');
  return value;
}

function narrow(prot: number, lower: number, upper: number): number {
  let left = prot;
  if ((lower & PTE_W) === 0) left &= ~WalkProt.WRITE;
  if ((lower & PTE_U) === 0) left &= ~WalkProt.USER;
  if ((upper & PTE_NX_HIGH) !== 0) left &= ~WalkProt.EXEC;
  return left;
}

function fault(low: number, high: number, why: string): NvmmError {
  const address = (high * 2 ** 32 + low).toString(16);
  return new NvmmError('nvmm_gva_to_gpa', 'EFAULT', `guest-virtual address 0x${address}: ${why}`);
}
