import { describe, expect, it } from 'vitest';
import { Cr, Msr, StateOffset, WalkProt } from '../../../main/nvmm/constants.ts';
import { VcpuState } from '../../../main/nvmm/layout.ts';
import { walk } from '../../../main/nvmm/walk.ts';

const { READ, WRITE, EXEC, USER, ALL } = WalkProt;
const PG = 0x8000_0001n;
const PSE = 1n << 4n;
const PAE = 1n << 5n;
const LMA = 0x500n;

/** Entries at addresses; everything below 1 MiB is memory. */
type Entries = [at: number, value: bigint][];

interface Case {
  name: string;
  mode: { cr0?: bigint; cr4?: bigint; efer?: bigint; cr3?: bigint };
  entries: Entries;
  address: bigint;
  /** Null: EFAULT. */
  wanted: { gpa: number; prot: number } | null;
}

const long = { cr0: PG, cr4: PAE, efer: LMA, cr3: 0x1000n };
const pae = { cr0: PG, cr4: PAE, cr3: 0x1020n };
const legacy = { cr0: PG, cr4: PSE, cr3: 0x1000n };
const four: Entries = [
  [0x1000, 0x2007n],
  [0x2000, 0x3007n],
  [0x3000, 0x4007n],
  [0x4008, 0x5007n],
];

const cases: Case[] = [
  { name: 'paging off', mode: {}, entries: [], address: 0x12345n, wanted: { gpa: 0x12345, prot: ALL } },
  { name: '4 levels', mode: long, entries: four, address: 0x1abcn, wanted: { gpa: 0x5abc, prot: ALL } },
  { name: '4 levels, not present', mode: long, entries: four, address: 0x2000n, wanted: null },
  {
    name: 'the narrowest level counts',
    mode: long,
    entries: [...four, [0x1000, 0x2005n], [0x3000, 0x4003n], [0x4008, 0x5007n | (1n << 63n)]],
    address: 0x1000n,
    wanted: { gpa: 0x5000, prot: READ },
  },
  {
    name: '2 MiB page',
    mode: long,
    entries: [...four, [0x3008, 0x40_0083n]],
    address: 0x21_2345n,
    wanted: { gpa: 0x41_2345, prot: READ | WRITE | EXEC },
  },
  {
    name: '1 GiB page above 4 GiB',
    mode: long,
    entries: [...four, [0x2008, 0x1_4000_0087n]],
    address: 0x7123_4567n,
    wanted: { gpa: 0x1_7123_4567, prot: ALL },
  },
  {
    name: 'upper half',
    mode: long,
    entries: [...four, [0x1ff8, 0x2007n], [0x2ff0, 0x3007n]],
    address: 0xffff_ffff_8000_1004n,
    wanted: { gpa: 0x5004, prot: ALL },
  },
  { name: 'not canonical', mode: long, entries: four, address: 0x8000_0000_0000n, wanted: null },
  {
    name: 'table outside memory',
    mode: { ...long, cr3: 0x8000_0000n },
    entries: [],
    address: 0n,
    wanted: null,
  },
  { name: 'LMA without PAE', mode: { cr0: PG, efer: LMA }, entries: [], address: 0n, wanted: null },
  {
    name: 'PAE: directory pointers have no permissions',
    mode: pae,
    entries: [
      [0x1028, 0x3001n],
      [0x3008, 0x4007n],
      [0x4000, 0x5005n],
    ],
    address: 0x4020_0123n,
    wanted: { gpa: 0x5123, prot: READ | EXEC | USER },
  },
  {
    name: '32-bit',
    mode: legacy,
    entries: [
      [0x1004, 0x2007n],
      [0x2004, 0x7003n],
    ],
    address: 0x40_1fffn,
    wanted: { gpa: 0x7fff, prot: READ | WRITE | EXEC },
  },
  {
    name: '4 MiB page',
    mode: legacy,
    entries: [[0x1ffc, 0xc000_0087n]],
    address: 0xfffe_dcban,
    wanted: { gpa: 0xc03e_dcba, prot: ALL },
  },
  {
    name: 'PS without PSE is a table',
    mode: { ...legacy, cr4: 0n },
    entries: [
      [0x1000, 0x2087n],
      [0x2000, 0x9007n],
    ],
    address: 0x10n,
    wanted: { gpa: 0x9010, prot: ALL },
  },
];

describe('walk', () => {
  for (const { name, mode, entries, address, wanted } of cases) {
    it(name, () => {
      const memory = new DataView(new ArrayBuffer(2 ** 20));
      for (const [at, value] of entries) memory.setBigUint64(at, value, true);
      if (mode.cr3 === legacy.cr3 && mode.cr4 !== PAE) {
        for (const [at, value] of entries) memory.setUint32(at, Number(value), true);
      }
      const state = new VcpuState(new Uint8Array(StateOffset.SIZE));
      state.setCr(Cr.CR0, mode.cr0 ?? 1n);
      state.setCr(Cr.CR3, mode.cr3 ?? 0n);
      state.setCr(Cr.CR4, mode.cr4 ?? 0n);
      state.setMsr(Msr.EFER, mode.efer ?? 0n);
      const read = (gpa: number): number | null => (gpa + 4 <= 2 ** 20 ? memory.getUint32(gpa, true) : null);
      const go = () => walk(state, Number(address & 0xffff_ffffn), Number(address >> 32n), read);
      if (wanted === null) expect(go).toThrow('EFAULT');
      else expect(go()).toEqual(wanted);
    });
  }
});
