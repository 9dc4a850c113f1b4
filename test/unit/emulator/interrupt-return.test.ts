import { describe, expect, it } from 'vitest';
import { Gpr, Msr, Seg } from '../../../main/nvmm/constants.ts';
import type { VcpuState } from '../../../main/nvmm/layout.ts';
import { type Change, CODE, GDT, KERNEL, openToPrograms, run, Selector, STACK, tiers } from './kernel-rig.ts';

// IRET of flat kernels has quick cases in generated code; here they and what they leave to TypeScript, both ways.

const PROGRAM_STACK = STACK + 0x1000;
const IRET = { 32: 'db 0xcf', 64: 'db 0x48, 0xcf' } as const;
const CODE_OF_PROGRAMS = { 32: Selector.USER_CODE, 64: Selector.SYSRET_CODE } as const;

interface Frame {
  code: number;
  flags?: number;
  stack?: number;
  /** An address, or a label. */
  to?: string;
}

/** Pushes a frame that goes to `back` with the program's stack, and returns through it; `stack` null: without a stack. */
function iret(bits: 32 | 64, { code, flags = 2, stack, to = 'back' }: Frame): string {
  const [a, sp] = bits === 64 ? ['rax', 'r12'] : ['eax', 'ebp'];
  const push = (value: number | string): string => `mov ${a}, ${value}\n push ${a}\n`;
  const outer = stack === undefined ? '' : `${push(stack)} push ${sp}\n`;
  return `${outer} ${push(flags)} ${push(code)} ${push(to)} ${IRET[bits]}`;
}

const change: Record<32 | 64, Change> = {
  64: (state, ram) => {
    openToPrograms(ram);
    state.setMsr(Msr.EFER, state.msr(Msr.EFER) | 1n);
    state.setMsr(Msr.STAR, BigInt(Selector.CODE) << 32n);
    state.setMsr(Msr.LSTAR, BigInt(KERNEL));
    state.setMsr(Msr.SFMASK, 0x257fd5n);
    state.setGpr(Gpr.R12, BigInt(PROGRAM_STACK));
  },
  32: (state) => {
    state.setMsr(Msr.SYSENTER_CS, BigInt(Selector.CODE));
    state.setMsr(Msr.SYSENTER_EIP, BigInt(KERNEL));
    state.setMsr(Msr.SYSENTER_ESP, BigInt(STACK));
    state.setGpr(Gpr.RBP, BigInt(PROGRAM_STACK));
  },
};

/** A hundred returns to ring 3, which says its flags and calls the kernel again. */
function toPrograms(runs: number, bits: 32 | 64, flags: number): VcpuState {
  const frame = iret(bits, { code: CODE_OF_PROGRAMS[bits], flags, stack: Selector.USER_DATA });
  const [a, call] = bits === 64 ? ['rax', 'syscall'] : ['eax', 'db 0x0f, 0x34'];
  const program = `mov ebx, 100\n again: ${frame}\n back: db 0x9c\n pop ${a}\n mov edi, eax\n inc esi\n ${call}`;
  const kernel = `dec ebx\n jz end\n mov ecx, ${CODE + 5}\n jmp ${bits === 64 ? 'rcx' : 'ecx'}\n end: hlt`;
  return run(runs, bits, program, kernel, change[bits]);
}

describe.each(tiers)('IRET: $name', ({ runs }) => {
  const flags = [
    { name: 'none', word: 0x2, wanted: 0x2 },
    { name: 'arithmetic', word: 0x8d7, wanted: 0x8d7 },
    { name: 'IF, DF and IOPL', word: 0x3602, wanted: 0x3602 },
    { name: 'RF, which lasts for an instruction', word: 0x10202, wanted: 0x202 },
    { name: 'ID', word: 0x200202, wanted: 0x200202 },
    { name: 'NT and AC, which have consequences', word: 0x44002, wanted: 0x44002 },
    { name: 'reserved bits, which stay', word: 0xfc08_802a, wanted: 0x2 },
  ];
  const both = ([32, 64] as const).flatMap((bits) => flags.map((one) => ({ ...one, bits })));

  it.each(both)('$bits bits, to ring 3 with $name', ({ bits, word, wanted }) => {
    // A kernel with NT set can't return in long mode; SYSCALL clears it there, SYSENTER doesn't.
    if (bits === 32 && (word & 0x4000) !== 0) return;
    const state = toPrograms(runs, bits, word);
    expect(state.gpr(Gpr.RSI)).toBe(100n);
    expect(state.gpr(Gpr.RDI) & 0x3f7fffn).toBe(BigInt(wanted));
    // What ring 3 may not use is gone.
    expect([state.cpl, state.selector(Seg.DS), state.selector(Seg.ES)]).toEqual([0, 0, 0]);
  });

  it.each([
    { name: 'with a flat stack', stack: Selector.DATA },
    { name: 'with a null stack', stack: 0 },
  ])('64 bits, to ring 0 $name', ({ stack }) => {
    const frame = iret(64, { code: Selector.CODE, flags: 0x8d7, stack });
    const program = `mov ebx, 100\n again: ${frame}\n back: adc esi, 0\n dec ebx\n jnz again\n hlt`;
    const state = run(runs, 64, program, 'nop', change[64]);
    expect(state.gpr(Gpr.RSI)).toBe(100n);
    expect([state.cpl, state.selector(Seg.SS), state.gpr(Gpr.RSP)]).toEqual([
      0,
      stack,
      BigInt(PROGRAM_STACK),
    ]);
  });

  it('32 bits, to ring 0', () => {
    const frame = iret(32, { code: Selector.CODE, flags: 0x8d7 });
    const program = `mov ebx, 100\n again: ${frame}\n back: adc esi, 0\n dec ebx\n jnz again\n hlt`;
    const state = run(runs, 32, program, 'nop', change[32]);
    expect(state.gpr(Gpr.RSI)).toBe(100n);
    expect([state.cpl, state.selector(Seg.SS), state.gpr(Gpr.RSP)]).toEqual([
      0,
      Selector.DATA,
      BigInt(STACK),
    ]);
  });

  const programs = CODE_OF_PROGRAMS[64];
  const descriptor =
    (selector: number, high: number): Change =>
    (_state, ram) =>
      ram.writeU32(GDT + (selector & ~7) + 4, high);
  const refused: { name: string; frame: Frame; also?: Change }[] = [
    { name: 'a null code segment', frame: { code: 3, stack: Selector.USER_DATA } },
    { name: 'a selector beyond the table', frame: { code: 0x1003, stack: Selector.USER_DATA } },
    { name: 'one of the local table', frame: { code: programs | 4, stack: Selector.USER_DATA } },
    { name: 'data as code', frame: { code: Selector.USER_DATA, stack: Selector.USER_DATA } },
    { name: "the kernel's stack for a program", frame: { code: programs, stack: Selector.DATA } },
    { name: 'no stack for a program', frame: { code: programs, stack: 3 } },
    {
      name: 'an address that is not canonical',
      frame: { code: programs, stack: Selector.USER_DATA, to: 'r13' },
    },
    {
      name: 'code that is not present',
      frame: { code: programs, stack: Selector.USER_DATA },
      also: descriptor(programs, 0x00af7b00),
    },
    {
      name: 'a stack that is not to be written',
      frame: { code: programs, stack: Selector.USER_DATA },
      also: descriptor(Selector.USER_DATA, 0x00cff100),
    },
  ];

  it.each(refused)('64 bits, is refused $name', ({ frame, also }) => {
    // Without a handler that is the end; nothing of the frame has been taken.
    const program = `${iret(64, frame)}\n back: inc esi\n hlt`;
    const state = run(runs, 64, program, 'nop', (state, ram) => {
      change[64](state, ram);
      state.setGpr(Gpr.R13, 0x8000_0000_0000n);
      also?.(state, ram);
    });
    expect(state.gpr(Gpr.RSI)).toBe(0n);
    expect([state.cpl, state.selector(Seg.SS), state.gpr(Gpr.RSP)]).toEqual([
      0,
      Selector.DATA,
      BigInt(STACK - 40),
    ]);
  });

  it('64 bits, marks a segment as accessed that was not', () => {
    const frame = iret(64, { code: programs, stack: Selector.USER_DATA });
    const read = `mov rax, ${GDT + (programs & ~7) + 4}\n mov edi, [rax]`;
    const state = run(runs, 64, `${frame}\n back: ${read}\n inc esi\n hlt`, 'nop', (state, ram) => {
      change[64](state, ram);
      descriptor(programs, 0x00affa00)(state, ram);
    });
    expect([state.gpr(Gpr.RSI), state.gpr(Gpr.RDI), state.cpl]).toEqual([1n, 0x00affb00n, 3]);
  });
});
