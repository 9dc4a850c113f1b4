import { describe, expect, it } from 'vitest';
import type { GuestRam } from '../../../main/machine/memory.ts';
import { Cr, Gpr, Seg } from '../../../main/nvmm/constants.ts';
import { KERNEL, run, tiers } from './kernel-rig.ts';

// Accesses near one another, which share a look at the translation table: within a page, and where a page ends among them.

/** Linear pages: two that can be written, which are not neighbours in memory; one to read; one that is not there. */
const DATA = 0x40000000;
const READ_ONLY = DATA + 0x2000;
const PHYSICAL = [0x100000, 0x102000, 0x103000];
const IDT = 0x21000;
const PAGE_FAULT = 14;
const WP = 1n << 16n;

function map(ram: GuestRam): void {
  const [pml4, pdpt, low, high, pt] = [0x9000, 0xa000, 0xb000, 0x13000, 0xc000];
  ram.writeU32(pml4, pdpt | 3);
  ram.writeU32(pdpt, low | 3);
  ram.writeU32(pdpt + 8, high | 3);
  ram.writeU32(low, 0x83);
  ram.writeU32(high, pt | 3);
  PHYSICAL.forEach((page, i) => ram.writeU32(pt + 8 * i, page | (i < 2 ? 3 : 1)));
  // Nothing behind them, and nothing before.
  ram.writeU32(pt + 8 * PHYSICAL.length, 0);
  ram.writeU32(low + 8 * 511, 0);
  // A gate for interrupts at KERNEL: SDM vol. 3, 6.14.1.
  ram.writeU32(IDT + 16 * PAGE_FAULT, (8 << 16) | (KERNEL & 0xffff));
  ram.writeU32(IDT + 16 * PAGE_FAULT + 4, (KERNEL & 0xffff0000) | 0x8e00);
}

/** What the handler of a page fault tells: RAX its address, RDX the error code. */
const REPORT = 'mov rax, cr2\n pop rdx\n hlt';

/** As often as it takes until a block is translated without windows, and again. */
const ROUNDS = 8000;
/** Too few for that. */
const FEW = 20;
const repeated = (body: string, rounds = ROUNDS): string => `
  xor eax, eax
  mov r15d, ${rounds}
again:
  ${body}
  dec r15d
  jnz again
  hlt`;

interface Case {
  name: string;
  program: string;
  /** RAX, and others. */
  wanted: Partial<Record<keyof typeof Gpr, number>>;
  memory?: Record<number, number>;
}

/** Writes the number of the round to three fields, which are elsewhere in memory if they are taken for neighbours. */
const fields = (at: number): string => `
  mov rbx, ${at}
  mov [rbx + 8], r15
  mov [rbx], r15
  mov [rbx + 20], r15d
  add rax, [rbx]
  add rax, [rbx + 8]
  add eax, [rbx + 20]`;
const sumOfFields = (rounds: number): number => (3 * rounds * (rounds + 1)) / 2;

/** Six registers saved on a stack that ends so, and taken back in another order. */
const saved = (top: number): string => `
  mov rsp, ${top}
  mov ebx, 1
  mov ecx, 2
  mov edx, 4
  push rbx
  push rcx
  push rdx
  mov esi, [rsp + 8]
  push rsi
  pop rdi
  pop rbx
  pop rcx
  pop rdx
  shl ebx, 4
  add rax, rbx
  add rax, rcx
  add rax, rdx
  add rax, rdi`;

/** Reads and writes by a base, which is all right in the first round, and then by another one. */
const faulting = (first: number, second: number, written: string): string => `
  mov rax, [${second}]
  mov rbx, ${first}
  mov r9, ${second}
  xor r8d, r8d
again:
  inc r8
  mov esi, 0x55
  mov rdi, [rbx]
  mov esi, 0x66
  add rdi, [rbx + 16]
  mov ${written}, rdi
  mov esi, 0x77
  mov rbx, r9
  jmp again`;

const cases: Case[] = [
  { name: 'fields in a page', program: repeated(fields(DATA + 0x100)), wanted: { RAX: sumOfFields(ROUNDS) } },
  ...[8, 12, 16, 22].map((before) => ({
    name: `fields, ${before} bytes before a page's end`,
    program: repeated(fields(DATA + 0x1000 - before)),
    wanted: { RAX: sumOfFields(ROUNDS) },
  })),
  {
    name: 'a field in each of two pages, in memory',
    program: repeated(fields(DATA + 0x1000 - 8), FEW),
    wanted: { RAX: sumOfFields(FEW) },
    memory: { 0x100ff8: 1, 0x102000: 1, 0x10200c: 1 },
  },
  ...[0x800, 0x1000, 0x1008, 0x1010, 0x1018, 0x1020].map((top) => ({
    name: `registers on a stack from 0x${top.toString(16)} down`,
    program: repeated(saved(DATA + top)),
    wanted: { RAX: (4 * 16 + 2 + 1 + 2) * ROUNDS, RSP: DATA + top },
  })),
  {
    name: 'a base that another instruction changes',
    program: `
      mov rbx, ${DATA}
      mov qword [rbx], 1
      mov qword [rbx + 8], 2
      lea rbx, [rbx + 8]
      mov rax, [rbx]
      mov rcx, ${DATA + 0x1000}
      mov qword [rcx], 4
      xchg rbx, rcx
      add rax, [rbx]
      add rax, [rcx - 8]
      hlt`,
    wanted: { RAX: 7 },
  },
  {
    name: 'a base that an instruction changes on one way',
    program: repeated(`
      mov rbx, ${DATA}
      mov rcx, ${DATA + 0x1000}
      mov qword [rbx], 1
      mov qword [rcx], 4
      test r15d, 1
      cmovz rbx, rcx
      add rax, [rbx]`),
    wanted: { RAX: 5 * (ROUNDS / 2) },
  },
  {
    name: 'a stack pointer that moves in other ways between',
    program: repeated(`
      mov rsp, ${DATA + 0x1040}
      mov rbp, rsp
      push 1
      push 2
      sub rsp, 64
      push 4
      add rax, [rsp]
      add rsp, 72
      pop rcx
      add rax, rcx
      add rax, [rbp - 8]
      pop rcx
      push 8
      mov rsp, rbp
      add rax, [rbp - 8]`),
    wanted: { RAX: (4 + 2 + 1 + 8) * ROUNDS },
  },
  {
    name: 'an operand that is popped beside where RSP is then',
    program: `
      mov rsp, ${DATA + 0x800}
      push 5
      push 7
      pop qword [rsp + 8]
      pop rbx
      mov rax, [rsp]
      hlt`,
    wanted: { RAX: 7, RBX: 5 },
  },
  {
    name: 'a write after reads of a page that is only to be read',
    program: faulting(DATA + 0x10, READ_ONLY + 0x10, '[rbx + 8]'),
    wanted: { RAX: READ_ONLY + 0x18, RDX: 3, RSI: 0x66, RDI: 0x30, R8: 2 },
  },
  {
    name: 'a write beyond the last page after reads in it',
    program: faulting(DATA + 0x100, READ_ONLY + 0xff8 - 0x10, '[rbx + 24]'),
    wanted: { RAX: READ_ONLY + 0x1000, RDX: 2, RSI: 0x66, RDI: 0x50, R8: 2 },
  },
  {
    name: 'a push over the first page after one in it',
    program: `
      mov rsp, ${DATA + 8}
      push 1
      mov esi, 0x55
      push 2
      mov esi, 0x77
      hlt`,
    // Its own stack isn't there either: three faults are a shutdown.
    wanted: { RSP: DATA, RSI: 0x55 },
  },
];

describe.each(tiers)('$name', ({ runs }) => {
  it.each(cases)('$name', ({ program, wanted, memory }) => {
    let ram!: GuestRam;
    const state = run(runs, 64, program, REPORT, (initial, guest) => {
      ram = guest;
      map(guest);
      guest.writeU32(PHYSICAL[2] + 0x10, 0x10);
      guest.writeU32(PHYSICAL[2] + 0x20, 0x20);
      guest.writeU32(PHYSICAL[2] + 0xfe8, 0x10);
      guest.writeU32(PHYSICAL[2] + 0xff8, 0x40);
      initial.setCr(Cr.CR0, initial.cr(Cr.CR0) | WP);
      initial.setSegment(Seg.IDT, 0, 0, 0xfff, BigInt(IDT));
    });
    const found = Object.keys(wanted).map((name) => [name, Number(state.gpr(Gpr[name as keyof typeof Gpr]))]);
    expect(Object.fromEntries(found)).toEqual(wanted);
    for (const [at, value] of Object.entries(memory ?? {})) expect(ram.readU32(Number(at))).toBe(value);
  });
});
