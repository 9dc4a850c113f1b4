import { describe, expect, it } from 'vitest';
import { assemble } from '../../../assets/guests/assembler/assembler.ts';
import type { GuestRam } from '../../../main/machine/memory.ts';
import { Cr, Gpr } from '../../../main/nvmm/constants.ts';
import { JUMP_CACHE_ENTRIES } from '../../../main/emulator/state.ts';
import { CODE, run, tiers, type Change } from './kernel-rig.ts';

// Indirect calls in long mode, between which the page that they lead to is another one.

/** In a gigabyte without large pages: INVLPG forgets everything in one with. */
const TARGET = 0x40000000;
/** Another place in the same page. */
const NEIGHBOUR = TARGET + 64;
/** Physical pages: what is called, in two variants, and what follows it, in two. */
const PAGES = [0x100000, 0x101000];
const SECOND = [0x102000, 0x103000];
/** Page tables of each address space: level 4, level 3, level 2 of the first gigabyte and of the second, level 1. */
const SPACES = [
  [0x9000, 0xa000, 0xb000, 0x13000, 0xc000],
  [0xd000, 0xe000, 0xf000, 0x14000, 0x12000],
];
const GLOBAL = 0x100;
const LARGE = 0x83;
const PGE = 1n << 7n;

/** Two address spaces with the first 4 MiB as they are, and `flags` on the pages that are called. */
function spaces(sums: readonly number[], flags: number): Change {
  return (state, ram) => {
    SPACES.forEach(([pml4, pdpt, pd, second, pt], space) => {
      ram.writeU32(pml4, pdpt | 3);
      ram.writeU32(pdpt, pd | 3);
      ram.writeU32(pd, LARGE);
      ram.writeU32(pd + 8, 0x200000 | LARGE);
      ram.writeU32(pdpt + 8, second | 3);
      ram.writeU32(second, pt | 3);
      ram.writeU32(pt, PAGES[space] | 3 | flags);
      ram.writeU32(pt + 8, SECOND[space] | 3 | flags);
    });
    sums.forEach((sum, i) => {
      put(ram, PAGES[i], `add rax, ${sum}\n ret`);
      put(ram, PAGES[i] + NEIGHBOUR - TARGET, `add rax, ${65536 * sum}\n ret`);
    });
    if (flags === GLOBAL) state.setCr(Cr.CR4, state.cr(Cr.CR4) | PGE);
  };
}

function put(ram: GuestRam, at: number, text: string): void {
  ram.write(at, assemble(`bits 64\n org ${at}\n${text}\n`).bytes);
}

/** Calls ten times with each step done before every call, in turn. */
const calls = (steps: readonly string[], target = TARGET): string => `
  mov rbx, ${target}
  xor eax, eax
  mov ecx, 10
again:
  ${steps.map((step) => `${step}\n call rbx`).join('\n ')}
  dec ecx
  jnz again
  hlt`;

const load = (space: number): string => `mov rdx, ${SPACES[space][0]}\n mov cr3, rdx`;
/** Maps a page of the first space elsewhere. */
const map = (entry: number, page: number, flags: number): string =>
  `mov dword [${SPACES[0][4] + 8 * entry}], ${page | 3 | flags}\n invlpg [${TARGET + 4096 * entry}]`;

/** What the pages add, where the program calls them and at the other place. */
const adds = [1, 256];

/** An addition of 6 bytes of which the last 3 are in the second page, and the return there. */
const STRADDLING = TARGET + 4093;
const straddling =
  (flags: number): Change =>
  (state, ram) => {
    spaces([], flags)(state, ram);
    for (const page of PAGES) ram.write(page + 4093, Uint8Array.of(0x48, 0x05, 0x01));
    SECOND.forEach((page, i) => ram.write(page, Uint8Array.of(i, 0, 0, 0xc3)));
  };

interface Case {
  name: string;
  program: string;
  change: Change;
  wanted: number;
}

const cases: Case[] = [
  {
    name: 'another page in another address space',
    program: calls([load(0), load(1), load(1), load(0)]),
    change: spaces(adds, 0),
    wanted: 10 * (2 + 2 * 256),
  },
  {
    name: 'another page, in which code was run before',
    program: calls(
      [0, 1, 0].map((space) => `${load(space)}\n mov rbx, ${NEIGHBOUR}\n call rbx\n mov rbx, ${TARGET}`),
    ),
    change: spaces(adds, 0),
    wanted: 10 * (2 * 65537 + 256 * 65537),
  },
  {
    name: 'the same page after a load of CR3',
    program: calls([load(0), load(0), load(0)]),
    change: spaces(adds, 0),
    wanted: 30,
  },
  ...[0, GLOBAL].flatMap((flags) => {
    const kind = flags === 0 ? 'a page' : 'a global page';
    return [
      {
        name: `${kind} that is mapped elsewhere, and back`,
        program: calls([map(0, PAGES[1], flags), 'nop', map(0, PAGES[0], flags)]),
        change: spaces(adds, flags),
        wanted: 10 * (256 + 256 + 1),
      },
      {
        name: `${kind} with an instruction that goes on in another, mapped elsewhere and back`,
        program: calls([map(1, SECOND[1], flags), 'nop', map(1, SECOND[0], flags)], STRADDLING),
        change: straddling(flags),
        wanted: 10 * (257 + 257 + 1),
      },
      {
        name: `${kind} with such an instruction after loads of CR3`,
        program: calls([load(0), 'nop', load(0)], STRADDLING),
        change: straddling(flags),
        wanted: 30,
      },
    ];
  }),
  crowd(9),
];

/** Calls so many places in turn that all have the same entry. */
function crowd(count: number): Case {
  const places = Array.from({ length: count }, (_, k) => (0x200000 + k * JUMP_CACHE_ENTRIES) ^ (8 * k));
  return {
    name: `${count} places with one entry`,
    program: calls(places.map((place) => `mov rbx, ${place}`)),
    change: (_, ram) => places.forEach((place, k) => put(ram, place, `add rax, ${1 << k}\n ret`)),
    wanted: 10 * (2 ** count - 1),
  };
}

describe.each(tiers)('$name', ({ runs }) => {
  it.each(cases)('$name', ({ program, change, wanted }) => {
    const state = run(runs, 64, program, 'hlt', (initial, ram) => {
      change(initial, ram);
      expect(initial.gpr(Gpr.RIP)).toBe(BigInt(CODE));
    });
    expect(state.gpr(Gpr.RAX)).toBe(BigInt(wanted));
  });
});
