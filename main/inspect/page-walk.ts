import { Cr, Msr, WalkProt } from '../nvmm/constants.ts';
import { NvmmError } from '../nvmm/errors.ts';
import type { VcpuState } from '../nvmm/layout.ts';
import type { Translation, WalkEntry } from '../nvmm/walk.ts';
import { walk } from '../nvmm/walk.ts';
import type { FetchPhysical } from './linear.ts';
import { withPhysical } from './linear.ts';

/** One level of a page-table walk (SDM volume 3, 4.5). */
export interface WalkLevel {
  /** PML4E, PDPTE, PDE or PTE. */
  name: string;
  /** Guest-physical address of the entry. */
  at: number;
  entry: bigint;
  /** The names of the bits that are set, in the manual's order. */
  flags: string[];
  /** The page or table that it points to. */
  frame: bigint;
}

/** What an access would meet, besides the walk itself. */
export interface PageWalk {
  address: bigint;
  /** How addresses are translated: `none`, `32-bit`, `PAE` or `4-level`. */
  paging: 'none' | '32-bit' | 'PAE' | '4-level';
  root: bigint;
  levels: WalkLevel[];
  /** Where it leads; null when it faults. */
  gpa: number | null;
  /** Bytes of the page that maps the address; 0 without paging or page. */
  pageSize: number;
  readable: boolean;
  writable: boolean;
  executable: boolean;
  user: boolean;
  /** Why it faults, and what that means for whom. */
  fault?: string;
  /** What would fault although the walk succeeds: reserved bits. */
  warning?: string;
}

const NAMES = ['', 'PTE', 'PDE', 'PDPTE', 'PML4E'];
const FLAGS: readonly (readonly [bit: bigint, name: string])[] = [
  [0n, 'P'],
  [1n, 'R/W'],
  [2n, 'U/S'],
  [3n, 'PWT'],
  [4n, 'PCD'],
  [5n, 'A'],
  [6n, 'D'],
  [7n, 'PS'],
  [8n, 'G'],
  [63n, 'XD'],
];

const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LMA = 1n << 10n;
const EFER_NXE = 1n << 11n;

function pagingOf(state: VcpuState): PageWalk['paging'] {
  if ((state.cr(Cr.CR0) & CR0_PG) === 0n) return 'none';
  if ((state.msr(Msr.EFER) & EFER_LMA) !== 0n) return '4-level';
  return (state.cr(Cr.CR4) & CR4_PAE) !== 0n ? 'PAE' : '32-bit';
}

function levelOf({ level, at, size, low, high, leaf }: WalkEntry): WalkLevel {
  const entry = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  const flags = FLAGS.filter(([bit, name]) => {
    if (name === 'PS' && level === 1) return false;
    if ((name === 'D' || name === 'G') && !leaf) return false;
    return (size === 8 || bit < 32n) && ((entry >> bit) & 1n) !== 0n;
  }).map(([, name]) => name);
  // A large page's frame has as many bits less as the level's index covers.
  const offset = !leaf || level === 1 ? 12n : size === 8 ? BigInt(12 + 9 * (level - 1)) : 22n;
  const frame = size === 8 ? entry & 0x000f_ffff_ffff_f000n : entry & 0xffff_f000n;
  return { name: NAMES[level]!, at, entry, flags, frame: (frame >> offset) << offset };
}

/** Walks the page tables for an address, as the vCPU would; what it says of the fault is meant for people. */
export async function pageWalk(state: VcpuState, address: bigint, fetch: FetchPhysical): Promise<PageWalk> {
  const paging = pagingOf(state);
  const low = Number(BigInt.asUintN(32, address));
  const high = Number(address >> 32n);
  const entries: WalkEntry[] = [];
  const result: PageWalk = {
    address,
    paging,
    root:
      paging === 'none' ? 0n : state.cr(Cr.CR3) & (paging === 'PAE' ? 0xffff_ffe0n : 0x000f_ffff_ffff_f000n),
    levels: [],
    gpa: null,
    pageSize: 0,
    ...{ readable: false, writable: false, executable: false, user: false },
  };
  if (paging !== '4-level' && high !== 0) {
    return { ...result, fault: 'Linear addresses have 32 bits outside of long mode.' };
  }
  try {
    const { gpa, prot }: Translation = await withPhysical(fetch, (read) => {
      entries.length = 0;
      return walk(state, low, high, read, (entry) => entries.push(entry));
    });
    const noExecute = (state.msr(Msr.EFER) & EFER_NXE) !== 0n;
    Object.assign(result, {
      gpa,
      readable: true,
      writable: (prot & WalkProt.WRITE) !== 0,
      executable: (prot & WalkProt.EXEC) !== 0 || !noExecute,
      user: (prot & WalkProt.USER) !== 0,
    });
    const last = entries.at(-1);
    if (last !== undefined) {
      result.pageSize = last.size === 4 && last.level === 2 ? 2 ** 22 : 2 ** (12 + 9 * (last.level - 1));
    }
    const reserved = !noExecute && entries.some((entry) => entry.size === 8 && entry.high >>> 31 === 1);
    if (reserved) {
      result.warning = 'XD is set although IA32_EFER.NXE is not: a reserved bit, so every access faults.';
    }
  } catch (error) {
    if (!(error instanceof NvmmError)) throw error;
    const [, why = error.message] = /0x[0-9a-f]+: (.*)$/.exec(error.message) ?? [];
    const at = entries.at(-1);
    const where = at === undefined ? '' : ` The ${NAMES[at.level]!} at 0x${at.at.toString(16)} decides it.`;
    result.fault = `${why[0]!.toUpperCase()}${why.slice(1)}.${where}`;
  }
  result.levels = entries.map(levelOf);
  return result;
}
