import { describe, expect, it } from 'vitest';
import { Cr, Gpr, Seg } from '../../../main/nvmm/constants.ts';
import { openToPrograms, run, Selector, STACK, tiers, type Change } from './kernel-rig.ts';

const TSD = 4n;
const FSGSBASE = 0x10000n;
const VALUES = 0x40000;

/** Ring 3 of 64-bit code. */
const asProgram: Change = (state, ram) => {
  openToPrograms(ram);
  state.setSegment(Seg.CS, Selector.USER_CODE, 0xafb, 0xffff_ffff, 0n);
  state.setSegment(Seg.SS, Selector.USER_DATA, 0xcf3, 0xffff_ffff, 0n);
};
const withBases: Change = (state) => state.setCr(Cr.CR4, state.cr(Cr.CR4) | FSGSBASE);

describe.each(tiers)('registers of the system: $name', ({ runs }) => {
  const control = [
    // mov eax, cr0; mov ebx, cr2; mov ecx, cr3; mov edx, cr4
    { bits: 32, reads: 'db 0x0f, 0x20, 0xc0, 0x0f, 0x20, 0xd3, 0x0f, 0x20, 0xd9, 0x0f, 0x20, 0xe2' },
    // The same with rax and so on, and mov r8, cr8.
    {
      bits: 64,
      reads:
        'db 0x0f, 0x20, 0xc0, 0x0f, 0x20, 0xd3, 0x0f, 0x20, 0xd9, 0x0f, 0x20, 0xe2, 0x45, 0x0f, 0x20, 0xc0',
    },
  ] as const;

  it.each(control)('control registers are read, $bits bits', ({ bits, reads }) => {
    const program = `mov esi, 20\nagain: ${reads}\n inc edi\n dec esi\n jnz again\n hlt`;
    const fault = bits === 64 ? 0x1234_5678_9abc_def0n : 0x9abc_def0n;
    const state = run(runs, bits, program, 'nop', (state) => {
      state.setCr(Cr.CR2, fault);
      state.setCr(Cr.CR8, 7n);
    });
    const read = [Gpr.RAX, Gpr.RBX, Gpr.RCX, Gpr.RDX].map((one) => state.gpr(one));
    expect(read).toEqual([Cr.CR0, Cr.CR2, Cr.CR3, Cr.CR4].map((one) => state.cr(one)));
    expect([state.cr(Cr.CR2), state.gpr(Gpr.RDI)]).toEqual([fault, 20n]);
    if (bits === 64) expect(state.gpr(Gpr.R8)).toBe(7n);
  });

  const faults: { name: string; instruction: string; change?: Change }[] = [
    { name: 'CR1', instruction: 'db 0x0f, 0x20, 0xc8' },
    { name: 'CR0 in ring 3', instruction: 'db 0x0f, 0x20, 0xc0', change: asProgram },
    {
      name: 'RDTSC that programs may not use',
      instruction: 'db 0x0f, 0x31',
      change: (state, ram) => {
        asProgram(state, ram);
        state.setCr(Cr.CR4, state.cr(Cr.CR4) | TSD);
      },
    },
    { name: 'RDFSBASE that is not allowed', instruction: 'db 0xf3, 0x48, 0x0f, 0xae, 0xc0' },
    { name: 'WRGSBASE that is not allowed', instruction: 'db 0xf3, 0x48, 0x0f, 0xae, 0xd8' },
    {
      name: 'WRFSBASE of no canonical address',
      instruction: 'mov rax, 0x800000000000\n db 0xf3, 0x48, 0x0f, 0xae, 0xd0',
      change: withBases,
    },
  ];
  it.each(faults)('$name faults', ({ instruction, change }) => {
    const program = `mov esi, 20\nagain: inc edi\n dec esi\n jnz again\n ${instruction}\n inc edi\n hlt`;
    expect(run(runs, 64, program, 'nop', change).gpr(Gpr.RDI)).toBe(20n);
  });

  const bases = [
    { name: 'FS', prefix: 0x64, segment: Seg.FS, write: 0xd0, read: 0xc3 },
    { name: 'GS', prefix: 0x65, segment: Seg.GS, write: 0xd8, read: 0xcb },
  ];
  it.each(bases)('the base of $name is written and read', ({ prefix, segment, write, read }) => {
    // wrbase rax; rdbase rbx; R8 sums the bytes there, R9 the bases; then wrbase eax, whose upper half counts for nothing.
    const program = `mov esi, 20\nagain: mov rax, rsi\n db 0xf3, 0x48, 0x0f, 0xae, ${write}\n db 0xf3, 0x48, 0x0f, 0xae, ${read}
      db ${prefix}, 0x0f, 0xb6, 0x14, 0x25\n dd ${VALUES}\n add r8, rdx\n add r9, rbx\n dec esi\n jnz again
      mov rax, 0x1234567800000005\n db 0xf3, 0x0f, 0xae, ${write}\n hlt`;
    const state = run(runs, 64, program, 'nop', (state, ram) => {
      withBases(state, ram);
      for (let i = 0; i <= 20; i++) ram.write(VALUES + i, Uint8Array.of(3 * i));
    });
    expect([state.gpr(Gpr.R8), state.gpr(Gpr.R9)]).toEqual([630n, 210n]);
    expect([state.base(segment), state.gpr(Gpr.RSP)]).toEqual([5n, BigInt(STACK)]);
  });
});
