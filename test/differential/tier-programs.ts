import type { Random } from './random.ts';

/** Where a program's parts are in guest-physical memory, which is also linear. */
export const CODE = 0x100000;
export const DATA = 0x200000;
export const STACK = 0x300000;
/** Offset in the data page of the table for indirect jumps: eight 64-bit addresses. */
const TABLE = 0x800;
/** Blocks that a program may run: bounded by a counter in EBP. */
const FUEL = 400;

const EAX = 0;
const ECX = 1;
const EDX = 2;
const EBX = 3;
/** Those that instructions work on: not the stack pointer, nor the counter, nor the pointers to the data page. */
const WORKING = [EAX, ECX, EDX, EBX] as const;

export interface Program {
  code: Uint8Array;
  /** Addresses for the table. */
  table: number[];
  registers: Record<'eax' | 'ecx' | 'edx' | 'ebx' | 'ebp' | 'esi' | 'edi' | 'esp', number>;
}

interface Fixup {
  /** Offset of a 32-bit displacement. */
  at: number;
  block: number;
}

/**
 * Programs of many small blocks with everything between them that a translator turns into structure: loops in
 * loops, jumps into their middle, calls, returns, jump tables, faults, and stores over their own code. The
 * encodings mean the same in 32- and in 64-bit code. Every program ends: with HLT, or with what it ran into.
 */
export function makeProgram(random: Random): Program {
  const blocks = 4 + random.below(10);
  const functions = 1 + random.below(3);
  const bytes: number[] = [];
  const starts: number[] = [];
  const fixups: Fixup[] = [];
  /** Offsets of immediate bytes that a store may change. */
  const immediates: number[] = [];
  const dword = (value: number): void => {
    for (let i = 0; i < 4; i++) bytes.push((value >>> (8 * i)) & 0xff);
  };
  const to = (block: number): void => {
    fixups.push({ at: bytes.length, block });
    dword(0);
  };
  const end = blocks + functions;

  for (let block = 0; block < blocks + functions; block++) {
    starts.push(bytes.length);
    // dec ebp (FF /1); jz end
    bytes.push(0xff, 0xcd, 0x0f, 0x84);
    to(end);
    for (let n = random.below(7); n > 0; n--) instruction(random, bytes, immediates, dword);
    if (block >= blocks) {
      bytes.push(0xc3);
      continue;
    }
    const target = random.below(blocks);
    switch (random.below(8)) {
      case 0:
        bytes.push(0xe9);
        to(target);
        break;
      case 1:
      case 2:
        // and eax, 7; jmp [edi + eax * 8 + table]
        bytes.push(0x83, 0xe0, 0x07, 0xff, 0xa4, 0xc7);
        dword(TABLE);
        break;
      case 3:
      case 4:
        bytes.push(0xe8);
        to(blocks + random.below(functions));
        break;
      default:
        bytes.push(0x0f, 0x80 | random.below(16));
        to(target);
    }
  }
  starts.push(bytes.length);
  bytes.push(0xf4);
  const code = Uint8Array.from(bytes);
  const view = new DataView(code.buffer);
  for (const { at, block } of fixups) view.setInt32(at, starts[block] - (at + 4), true);
  return {
    code,
    table: Array.from({ length: 8 }, () => CODE + starts[random.below(blocks)]),
    registers: {
      eax: random.u32(),
      ecx: random.u32(),
      edx: random.u32(),
      ebx: random.u32(),
      ebp: FUEL,
      esi: DATA + 0xffc - random.below(8),
      edi: DATA,
      esp: STACK,
    },
  };
}

function instruction(
  random: Random,
  bytes: number[],
  immediates: number[],
  dword: (value: number) => void,
): void {
  const a = random.pick(WORKING);
  const b = random.pick(WORKING);
  const both = 0xc0 | (b << 3) | a;
  const inData = (reg: number): number[] => [0x40 | (reg << 3) | 7, 4 * random.below(30)];
  const arithmetic = [0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39, 0x85];
  const choices: (() => void)[] = [
    () => bytes.push(random.pick(arithmetic), both),
    () => bytes.push(random.pick(arithmetic) & 0xfe, both),
    () => {
      bytes.push(0x83, 0xc0 | (random.below(8) << 3) | a, random.below(256));
      immediates.push(bytes.length - 1);
    },
    () => bytes.push(0xff, 0xc0 | (random.below(2) << 3) | a),
    () => bytes.push(0xf7, 0xd0 | (random.below(2) << 3) | a),
    () => bytes.push(0xc1, 0xc0 | (random.below(8) << 3) | a, random.below(33)),
    () => bytes.push(0xd3, 0xc0 | (random.below(8) << 3) | a),
    () => bytes.push(0x0f, 0x90 | random.below(16), 0xc0 | a),
    () => bytes.push(0x0f, 0x40 | random.below(16), 0xc0 | (a << 3) | b),
    () => bytes.push(0x0f, 0xaf, both),
    () => bytes.push(0x8b, ...inData(a)),
    () => bytes.push(random.pick([0x01, 0x11, 0x29, 0x31, 0x89, 0x39]), ...inData(a)),
    () => bytes.push(0xf0, 0x0f, 0xc1, ...inData(a)),
    () => bytes.push(0x87, ...inData(a)),
    // Across the end of a page, through ESI.
    () => bytes.push(random.pick([0x03, 0x89]), (a << 3) | 6),
    () => bytes.push(0x50 | a, 0x58 | b),
    () => bytes.push(0x9c, 0x58 | a),
    () => bytes.push(random.pick([0xf8, 0xf9, 0xf5])),
    () => bytes.push(0x66, 0x0f, 0x6e, 0xc0 | a, 0x66, 0x0f, 0xfe, 0xc8, 0x66, 0x0f, 0x7e, 0xc8 | b),
    () => bytes.push(0xf3, 0x0f, 0xb8, both),
    () => {
      if (immediates.length === 0) return;
      // mov byte [edi + distance], new immediate
      bytes.push(0xc6, 0x87);
      dword(CODE - DATA + random.pick(immediates));
      bytes.push(random.below(256));
    },
    () => {
      if (!random.once(30)) return;
      // Nothing is mapped there.
      bytes.push(0x03, 0x87);
      dword(0x10000000);
    },
    () => {
      if (random.once(60)) bytes.push(0x0f, 0x0b);
    },
  ];
  random.pick(choices)();
}

export { TABLE };
