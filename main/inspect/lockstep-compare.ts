import { Cr, Dr, Gpr, Msr, Seg, StateOffset } from '../nvmm/constants.ts';
import { VcpuState } from '../nvmm/layout.ts';

/** One thing that two states have differently. */
export interface RegisterDifference {
  name: string;
  /** As 0x and hexadecimal digits. */
  a: string;
  b: string;
}

export interface MemoryDifference {
  /** Guest-physical address of the first byte that differs. */
  gpa: number;
  /** Up to 16 bytes from there, as hexadecimal digits. */
  a: string;
  b: string;
}

interface Part {
  name: string;
  at: number;
  bytes: number;
}

const words = (names: Record<string, number>, base: number): Part[] =>
  Object.entries(names).map(([name, index]) => ({ name, at: base + 8 * index, bytes: 8 }));

/** Every part of a struct nvmm_x64_state, by its manual's name. */
const PARTS: readonly Part[] = [
  ...words(Gpr, StateOffset.GPRS),
  ...Object.entries(Seg).flatMap(([name, index]) => {
    const at = StateOffset.SEGS + 16 * index;
    return [
      { name: `${name}.selector`, at, bytes: 2 },
      { name: `${name}.attributes`, at: at + 2, bytes: 2 },
      { name: `${name}.limit`, at: at + 4, bytes: 4 },
      { name: `${name}.base`, at: at + 8, bytes: 8 },
    ];
  }),
  ...words(Cr, StateOffset.CRS),
  ...words(Dr, StateOffset.DRS),
  ...words(Msr, StateOffset.MSRS),
  { name: 'interrupt state', at: StateOffset.INTR, bytes: 8 },
  // The FXSAVE image (SDM volume 1, table 10-2).
  { name: 'FCW', at: StateOffset.FPU, bytes: 2 },
  { name: 'FSW', at: StateOffset.FPU + 2, bytes: 2 },
  { name: 'FTW', at: StateOffset.FPU + 4, bytes: 1 },
  { name: 'FOP', at: StateOffset.FPU + 6, bytes: 2 },
  { name: 'FIP', at: StateOffset.FPU + 8, bytes: 8 },
  { name: 'FDP', at: StateOffset.FPU + 16, bytes: 8 },
  { name: 'MXCSR', at: StateOffset.FPU + 24, bytes: 4 },
  ...Array.from({ length: 8 }, (_, i) => ({ name: `ST${i}`, at: StateOffset.FPU + 32 + 16 * i, bytes: 10 })),
  ...Array.from({ length: 16 }, (_, i) => ({
    name: `XMM${i}`,
    at: StateOffset.FPU + 160 + 16 * i,
    bytes: 16,
  })),
];

function hex(state: Uint8Array, { at, bytes }: Part): string {
  let digits = '';
  for (let i = bytes - 1; i >= 0; i--) digits += state[at + i].toString(16).padStart(2, '0');
  return `0x${digits.replace(/^0+(?=.)/, '')}`;
}

/** What differs, apart from the parts named. */
export function compareStates(
  a: Uint8Array,
  b: Uint8Array,
  ignored: ReadonlySet<string>,
): RegisterDifference[] {
  if (Buffer.compare(a, b) === 0) return [];
  const found: RegisterDifference[] = [];
  for (const part of PARTS) {
    if (ignored.has(part.name)) continue;
    let same = true;
    for (let i = 0; i < part.bytes; i++) if (a[part.at + i] !== b[part.at + i]) same = false;
    if (!same) found.push({ name: part.name, a: hex(a, part), b: hex(b, part) });
  }
  return found;
}

/** Bytes that are compared at once. */
const PIECE = 2 ** 20;
const PAGE = 4096;
/** Enough to see what kind of difference it is. */
const SHOWN = 16;

/** Whether two memories are the same: a comparison of bytes at the host's full speed. */
export function sameMemory(a: Uint8Array, b: Uint8Array): boolean {
  for (let at = 0; at < a.length; at += PIECE) {
    if (Buffer.compare(a.subarray(at, at + PIECE), b.subarray(at, at + PIECE)) !== 0) return false;
  }
  return true;
}

/** Where they differ: at most 16 places. `gpaOf` gives the guest's address of an offset. */
export function compareMemory(
  a: Uint8Array,
  b: Uint8Array,
  gpaOf: (offset: number) => number,
): MemoryDifference[] {
  const found: MemoryDifference[] = [];
  for (let page = 0; page < a.length && found.length < SHOWN; page += PAGE) {
    const [one, other] = [a.subarray(page, page + PAGE), b.subarray(page, page + PAGE)];
    if (Buffer.compare(one, other) === 0) continue;
    for (let i = 0; i < PAGE && found.length < SHOWN; i++) {
      if (one[i] === other[i]) continue;
      const show = (bytes: Uint8Array): string => Buffer.from(bytes.slice(i, i + SHOWN)).toString('hex');
      found.push({ gpa: gpaOf(page + i), a: show(one), b: show(other) });
      i += SHOWN - 1;
    }
  }
  return found;
}

/** A state for people: general registers, RIP, RFLAGS. */
export function shortState(bytes: Uint8Array): Record<string, string> {
  const state = new VcpuState(bytes.slice());
  return Object.fromEntries(
    Object.entries(Gpr).map(([name, index]) => [name, `0x${state.gpr(index).toString(16)}`]),
  );
}
