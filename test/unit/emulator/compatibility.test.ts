import { describe, expect, it } from 'vitest';
import { Gpr } from '../../../main/nvmm/constants.ts';
import { GDT, run, Selector, STACK, tiers } from './kernel-rig.ts';

// What 32-bit code writes of a register with 32 bits loses its upper half; 8 and 16 bits, and what it doesn't write, leave it
// there, as processors do where the manuals promise nothing (SDM vol. 1, 3.4.1.1).

const COMPATIBILITY = Selector.CHANGING;
const UPPER = 0xaaaa_bbbb_0000_0000n;

const bodies = [
  { name: 'a line', loop: '' },
  // dec esi; jnz to its start.
  { name: 'a loop', loop: '0x4e, 0x75, 0xf3, ' },
];

describe.each(tiers)('upper halves over 32-bit code: $name', ({ runs }) => {
  it.each(bodies)('$name', ({ loop }) => {
    // mov al, 0x11; mov bx, 0x2222; inc ecx; test edx, edx; (the loop); push CODE; push back; retf
    const code = `db 0xb0, 0x11, 0x66, 0xbb, 0x22, 0x22, 0x41, 0x85, 0xd2, 0x90, ${loop}0x6a, ${Selector.CODE}, 0x68\n dd back\n db 0xcb`;
    const set = ['rax', 'rbx', 'rcx', 'rdx'].map((name, i) => `mov ${name}, ${UPPER + BigInt(i)}`);
    const program = `mov rdi, 20\nagain: ${set.join('\n')}\n mov rsi, ${UPPER + 5n}\n mov r8, ${COMPATIBILITY}\n push r8
      mov r8, compatible\n push r8\n db 0x48, 0xcb\ncompatible: ${code}\nback: db 0x90\n dec rdi\n jnz again\n hlt`;
    const state = run(runs, 64, program, 'nop', (_state, ram) => {
      ram.writeU32(GDT + COMPATIBILITY, 0xffff);
      ram.writeU32(GDT + COMPATIBILITY + 4, 0x00cf9b00);
    });
    const low = (one: number): bigint => state.gpr(one) & 0xffff_ffffn;
    const high = (one: number): bigint => state.gpr(one) >> 32n;
    const upper = UPPER >> 32n;
    expect([Gpr.RAX, Gpr.RBX, Gpr.RDX].map(high)).toEqual([upper, upper, upper]);
    expect([Gpr.RAX, Gpr.RBX, Gpr.RDX].map(low)).toEqual([0x11n, 0x2222n, 3n]);
    expect(state.gpr(Gpr.RCX)).toBe(loop === '' ? 3n : 7n);
    expect(state.gpr(Gpr.RSI)).toBe(loop === '' ? UPPER + 5n : 0n);
    expect([state.gpr(Gpr.RDI), state.gpr(Gpr.RSP)]).toEqual([0n, BigInt(STACK)]);
  });
});
