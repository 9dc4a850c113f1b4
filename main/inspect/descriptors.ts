import { Cr, Msr, Seg } from '../nvmm/constants.ts';
import type { VcpuState } from '../nvmm/layout.ts';
import { segmentType } from './registers.ts';

/** A descriptor or gate, spelled out (SDM volume 3, 3.4.5, 6.11 and 6.14). */
export interface Descriptor {
  /** Vector of the IDT, selector of the GDT or LDT. */
  index: number;
  raw: bigint;
  present: boolean;
  type: string;
  dpl: number;
  /** Of a segment, in linear memory. */
  base?: bigint;
  /** Of a segment, in bytes. */
  limit?: number;
  /** Of a gate: where it leads. */
  selector?: number;
  offset?: bigint;
  /** Interrupt stack table's index; 0: none. */
  ist?: number;
  flags: string[];
}

export interface TableField {
  name: string;
  offset: number;
  value: bigint;
}

const isLong = (state: VcpuState): boolean => (state.msr(Msr.EFER) & (1n << 10n)) !== 0n;
const isReal = (state: VcpuState): boolean => (state.cr(Cr.CR0) & 1n) === 0n;

/** Bytes of an entry of the IDT: 4 in real mode, 16 in long mode. */
export const gateSize = (state: VcpuState): number => (isReal(state) ? 4 : isLong(state) ? 16 : 8);

/** Decodes the IDT's bytes. What is all zero is left out. */
export function decodeIdt(state: VcpuState, bytes: Uint8Array): Descriptor[] {
  const size = gateSize(state);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const gates: Descriptor[] = [];
  for (let index = 0; index < 256 && (index + 1) * size <= bytes.length; index++) {
    const at = index * size;
    if (size === 4) {
      const [offset, selector] = [view.getUint16(at, true), view.getUint16(at + 2, true)];
      if ((offset | selector) === 0) continue;
      const raw = BigInt(view.getUint32(at, true));
      const real = { present: true, type: 'real-mode vector', dpl: 0, flags: [] };
      gates.push({ index, raw, ...real, selector, offset: BigInt(offset) });
      continue;
    }
    const raw = view.getBigUint64(at, true);
    const upper = size === 16 ? view.getBigUint64(at + 8, true) : 0n;
    if ((raw | upper) !== 0n) gates.push(gate(index, raw, upper, size === 16));
  }
  return gates;
}

function gate(index: number, raw: bigint, upper: bigint, wide: boolean): Descriptor {
  const attributes = Number((raw >> 40n) & 0xffn);
  const low = raw & 0xffffn;
  const middle = (raw >> 48n) & 0xffffn;
  return {
    index,
    raw: (upper << 64n) | raw,
    present: (attributes & 0x80) !== 0,
    type: segmentType(attributes & 0x1f),
    dpl: (attributes >> 5) & 3,
    selector: Number((raw >> 16n) & 0xffffn),
    offset: low | (middle << 16n) | (wide ? (upper & 0xffff_ffffn) << 32n : 0n),
    ...(wide ? { ist: Number((raw >> 32n) & 7n) } : {}),
    flags: [],
  };
}

/** Decodes the bytes of a GDT or LDT. The null descriptor and what is all zero are left out. */
export function decodeDescriptors(state: VcpuState, bytes: Uint8Array, local: boolean): Descriptor[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: Descriptor[] = [];
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    const raw = view.getBigUint64(at, true);
    if (raw === 0n) continue;
    const attributes = Number((raw >> 40n) & 0xffn);
    const system = (attributes & 0x10) === 0;
    const index = at | (local ? 4 : 0);
    const kind = attributes & 15;
    if (system && [4, 5, 6, 7, 12, 14, 15].includes(kind)) {
      const wide = isLong(state) && at + 16 <= bytes.length;
      found.push(gate(index, raw, wide ? view.getBigUint64(at + 8, true) : 0n, wide));
      if (wide) at += 8;
      continue;
    }
    const wide = system && isLong(state) && at + 16 <= bytes.length;
    const high = wide ? BigInt(view.getUint32(at + 8, true)) << 32n : 0n;
    const pages = (raw & (1n << 55n)) !== 0n;
    const limit = Number((raw & 0xffffn) | ((raw >> 32n) & 0xf0000n));
    const bits: [bigint, string][] = [
      [52n, 'AVL'],
      [53n, 'L'],
      [54n, 'D/B'],
      [55n, 'G'],
    ];
    found.push({
      index,
      raw,
      present: (attributes & 0x80) !== 0,
      type: segmentType(attributes),
      dpl: (attributes >> 5) & 3,
      base: ((raw >> 16n) & 0xff_ffffn) | ((raw >> 32n) & 0xff00_0000n) | high,
      limit: pages ? limit * 4096 + 4095 : limit,
      flags: bits.filter(([bit]) => ((raw >> bit) & 1n) !== 0n).map(([, name]) => name),
    });
    if (wide) at += 8;
  }
  return found;
}

/** Fields of a 64-bit TSS: SDM volume 3, figure 8-11. */
const TSS64: readonly (readonly [string, number, 2 | 4 | 8])[] = [
  ['RSP0', 0x04, 8],
  ['RSP1', 0x0c, 8],
  ['RSP2', 0x14, 8],
  ...[1, 2, 3, 4, 5, 6, 7].map((n) => [`IST${n}`, 0x1c + 8 * n, 8] as const),
  ['I/O map base', 0x66, 2],
];

/** Fields of a 32-bit TSS: figure 8-2. */
const TSS32: readonly (readonly [string, number, 2 | 4 | 8])[] = [
  ['Previous task link', 0x00, 2],
  ['ESP0', 0x04, 4],
  ['SS0', 0x08, 2],
  ['ESP1', 0x0c, 4],
  ['SS1', 0x10, 2],
  ['ESP2', 0x14, 4],
  ['SS2', 0x18, 2],
  ['CR3', 0x1c, 4],
  ['EIP', 0x20, 4],
  ['EFLAGS', 0x24, 4],
  ...['EAX', 'ECX', 'EDX', 'EBX', 'ESP', 'EBP', 'ESI', 'EDI'].map(
    (name, n) => [name, 0x28 + 4 * n, 4] as const,
  ),
  ...['ES', 'CS', 'SS', 'DS', 'FS', 'GS', 'LDT'].map((name, n) => [name, 0x48 + 4 * n, 2] as const),
  ['I/O map base', 0x66, 2],
];

/** Fields of a 16-bit TSS: figure 8-10. */
const TSS16: readonly (readonly [string, number, 2 | 4 | 8])[] = [
  ...['Previous task link', 'SP0', 'SS0', 'SP1', 'SS1', 'SP2', 'SS2', 'IP', 'FLAGS'],
  ...['AX', 'CX', 'DX', 'BX', 'SP', 'BP', 'SI', 'DI', 'ES', 'CS', 'SS', 'DS', 'LDT'],
].map((name, n) => [name, 2 * n, 2] as const);

/** The TSS that TR points to, by name, as far as its bytes go. */
export function decodeTss(state: VcpuState, bytes: Uint8Array): TableField[] {
  const wide = (state.attrib(Seg.TR) & 8) !== 0;
  const rows = isLong(state) ? TSS64 : wide ? TSS32 : TSS16;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return rows
    .filter(([, offset, size]) => offset + size <= bytes.length)
    .map(([name, offset, size]) => {
      const value =
        size === 8
          ? view.getBigUint64(offset, true)
          : BigInt(size === 4 ? view.getUint32(offset, true) : view.getUint16(offset, true));
      return { name, offset, value };
    });
}
