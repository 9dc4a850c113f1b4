import { expect, it } from 'vitest';
import { Cpu } from '../../../main/emulator/cpu.ts';
import { Access, Mmu } from '../../../main/emulator/mmu.ts';
import { PhysicalMap } from '../../../main/emulator/physical.ts';
import {
  Area,
  Field,
  TLB_BYTES,
  TLB_ENTRIES,
  TLB_ENTRY,
  TLB_NARROW_ENTRY,
  TlbKind,
  TlbSet,
  tlbOffset,
} from '../../../main/emulator/state.ts';
import { Prot } from '../../../main/nvmm/constants.ts';
import { Random } from '../../differential/random.ts';

const PAGE = 4096;
const GIB = 2 ** 30;
const S = PAGE;
/** RAM behind the vCPU's block, as gigabyte pages map it: 64 pages, three of them page tables. */
const RAM = Math.ceil((S + Area.RECORDS + PAGE) / PAGE) * PAGE;
const PAGES = 64;
const PML4 = 0;
const LOW_TABLE = PAGE;
const HIGH_TABLE = 2 * PAGE;
/** Present, writable, user, large; the last ones global. */
const LARGE_PAGE = 0x87;
const GLOBAL = 0x100;
const NO_TAG = 1;

/** A processor in long mode whose first two gigabytes, and the last two, are the RAM; every second one global. */
function start() {
  const pages = Math.ceil((RAM + PAGES * PAGE) / 0x10000);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const cpu = new Cpu(memory, S);
  const physical = new PhysicalMap();
  const all = Prot.READ | Prot.WRITE | Prot.EXEC;
  physical.load([{ gpa: 0, size: PAGES * PAGE, hva: RAM, prot: all }]);
  const code = new Set<number>();
  const dirty = new Uint8Array(cpu.bytes.length / PAGE);
  const mmu = new Mmu(cpu, physical, (page) => code.has(page), dirty);
  const entry = (table: number, index: number, value: number): void => {
    cpu.words[(RAM + table + 8 * index) >>> 2] = value;
  };
  entry(PML4, 0, LOW_TABLE | 7);
  entry(PML4, 511, HIGH_TABLE | 7);
  for (let i = 0; i < 2; i++) {
    entry(LOW_TABLE, i, LARGE_PAGE | (i === 0 ? 0 : GLOBAL));
    entry(HIGH_TABLE, 510 + i, LARGE_PAGE | (i === 0 ? 0 : GLOBAL));
  }
  cpu.set(Field.CR0, 0x80000001 | 0);
  cpu.set(Field.CR4, 0xa0);
  cpu.set(Field.EFER, 0x500);
  return { cpu, mmu, code };
}

/** Entries for 32 bits that are not what the wide ones say. */
function differences({ words, s }: Cpu): string[] {
  const found: string[] = [];
  for (let set = 0; set < TlbSet.COUNT; set++) {
    for (let kind = 0; kind < TlbKind.COUNT; kind++) {
      const table = s + tlbOffset(set, kind);
      for (let i = 0; i < TLB_ENTRIES; i++) {
        const wide = (table + i * TLB_ENTRY) >>> 2;
        const narrow = (table + TLB_BYTES + i * TLB_NARROW_ENTRY) >>> 2;
        const valid = words[wide] !== NO_TAG && words[wide + 1] === 0;
        const [tag, addend] = [words[narrow], words[narrow + 1]];
        if (valid ? tag === words[wide] && addend === words[wide + 2] : tag === NO_TAG) continue;
        found.push(`set ${set} kind ${kind} entry ${i}: ${tag} ${addend}`);
      }
    }
  }
  return found;
}

it('keeps the entries of 32-bit code what the wide ones are', () => {
  const seed = 20261130;
  const random = new Random(seed);
  const { cpu, mmu, code } = start();
  expect(differences(cpu), 'at the start').toEqual([]);
  let filled = 0;
  for (let step = 0; step < 60; step++) {
    for (let i = 0; i < 40; i++) {
      const page = random.below(PAGES - 3) + 3;
      const base = [0, GIB, -2 * GIB, -GIB][random.below(4)];
      const linear = base + page * PAGE + random.below(PAGE);
      const access = [Access.READ, Access.WRITE, Access.FETCH][random.below(3)];
      const host = mmu.translate(linear, access, random.below(2) === 1, random.below(TlbSet.COUNT));
      expect(host, `seed ${seed}`).toBe(RAM + page * PAGE + (((linear % PAGE) + PAGE) % PAGE));
      filled++;
    }
    const page = random.below(PAGES - 3) + 3;
    const what = random.below(5);
    if (what === 0) mmu.flushAll();
    else if (what === 1) mmu.flushLocal();
    else if (what === 2) mmu.flushPage([0, GIB, -GIB][random.below(3)] + page * PAGE);
    else if (what === 3) {
      mmu.translate(page * PAGE, Access.WRITE, false, TlbSet.SUPERVISOR);
      code.add(RAM + page * PAGE);
      mmu.protect(RAM + page * PAGE);
    } else code.clear();
    expect(differences(cpu), `seed ${seed}, step ${step}, after ${what}`).toEqual([]);
  }
  expect(filled).toBe(2400);
}, 60_000);
