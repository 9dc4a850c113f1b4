import { describe, expect, it } from 'vitest';
import { Gpr, Msr, Seg } from '../../../main/nvmm/constants.ts';
import { GDT, KERNEL, openToPrograms, run, Selector, STACK, tiers } from './kernel-rig.ts';

// What a call of a kernel is made of has a quick case in generated code; here both sides of each such case, by handlers
// alone and with everything translated at once.

const VALUES = 0x40000;

describe.each(tiers)('what kernels do often: $name', ({ runs }) => {
  const flags = [
    { name: 'none', word: 0x002 },
    { name: 'the arithmetic ones', word: 0x8d7 },
    { name: 'interrupts and direction', word: 0x602 },
    { name: 'alignment checks', word: 0x40202 },
    { name: 'identification', word: 0x200203 },
  ];

  it.each(flags)('a hundred SYSCALLs and SYSRETs keep flags: $name', ({ word }) => {
    // The end is HLT in ring 3: a fault without a handler.
    const program = `mov ebx, 100\n again: mov eax, ${word}\n push rax\n db 0x9d\n syscall\n db 0x9c\n pop rax
      dec ebx\n jnz again\n hlt`;
    const state = run(runs, 64, program, 'inc r8\n db 0x48, 0x0f, 0x07', (state, ram) => {
      openToPrograms(ram);
      state.setMsr(Msr.EFER, state.msr(Msr.EFER) | 1n);
      state.setMsr(Msr.STAR, (BigInt(Selector.DATA | 3) << 48n) | (BigInt(Selector.CODE) << 32n));
      state.setMsr(Msr.LSTAR, BigInt(KERNEL));
      state.setMsr(Msr.SFMASK, 0x257fd5n);
    });
    expect(state.gpr(Gpr.R8)).toBe(100n);
    // In ring 3 with IOPL 0, IF stays what SYSRET made it: set by what ring 0 began with.
    expect(state.gpr(Gpr.RAX) | 0x200n).toBe(BigInt(word) | 0x200n);
    expect(state.cpl).toBe(3);
    // SYSRET's: STAR's selector, and 16 and 8 more than that.
    const base = Selector.DATA | 3;
    expect([state.selector(Seg.CS), state.selector(Seg.SS)]).toEqual([(base + 16) | 3, (base + 8) | 3]);
  });

  it('a hundred SYSENTERs and SYSEXITs', () => {
    const program = `mov esi, 100\nagain: mov ecx, esp\n mov edx, back\n stc\n db 0x0f, 0x34
      back: dec esi\n jnz again\n db 0x9c\n pop eax\n hlt`;
    const state = run(runs, 32, program, 'adc ebx, 0\n db 0x0f, 0x35', (state) => {
      state.setMsr(Msr.SYSENTER_CS, BigInt(Selector.CODE));
      state.setMsr(Msr.SYSENTER_EIP, BigInt(KERNEL));
      state.setMsr(Msr.SYSENTER_ESP, BigInt(STACK + 0x1000));
      state.setGpr(Gpr.RFLAGS, 0x202n);
    });
    expect(state.gpr(Gpr.RBX)).toBe(100n);
    expect(state.gpr(Gpr.RSP)).toBe(BigInt(STACK));
    expect([state.cpl, state.selector(Seg.CS), state.selector(Seg.SS)]).toEqual([
      3,
      Selector.USER_CODE,
      Selector.USER_DATA,
    ]);
    // SYSENTER clears IF, and SYSEXIT leaves it at that.
    expect(state.gpr(Gpr.RAX) & 0x200n).toBe(0n);
  });

  const popped = [
    { name: 'arithmetic', word: 0x8d7, wanted: 0x8d7 },
    { name: 'IF and DF', word: 0x602, wanted: 0x602 },
    { name: 'IOPL, NT and AC, which have consequences', word: 0x47002, wanted: 0x47002 },
    { name: 'ID', word: 0x200202, wanted: 0x200202 },
    { name: 'RF and VM, which it never sets', word: 0x30202, wanted: 0x202 },
    { name: 'reserved bits, which stay', word: 0xffdb_8028, wanted: 0x02 },
  ];

  it.each(popped)('POPF of $name', ({ word, wanted }) => {
    const program = `mov esi, 20\nagain: mov eax, ${word}\n push eax\n db 0x9d\n db 0x9c\n pop eax
      mov ecx, 2\n push ecx\n db 0x9d\n dec esi\n jnz again\n hlt`;
    const state = run(runs, 32, program, 'nop');
    expect(state.gpr(Gpr.RAX) & 0x3f7fffn).toBe(BigInt(wanted));
    expect(state.gpr(Gpr.RSP)).toBe(BigInt(STACK));
  });

  const loads = [
    { name: 'MOV', load: 'db 0x8e, 0xd8' },
    { name: 'POP', load: 'push eax\n db 0x1f' },
  ];

  it.each(loads)('$name to DS takes what the descriptor has become', ({ load }) => {
    // The base becomes what DL says, twenty times, with two loads of the same between.
    const program = `mov eax, ${Selector.CHANGING}\n mov edx, 20\nagain: ${load}\n ${load}\n mov ebx, [${VALUES}]
      add edi, ebx\n mov ecx, ${Selector.DATA}\n mov ebp, ${GDT + Selector.CHANGING + 2}\n db 0x8e, 0xc1\n db 0x26, 0x88, 0x55, 0x00
      ${load}\n ${load}\n mov ebx, [${VALUES}]\n lea edi, [edi + edi * 2]\n add edi, ebx
      mov ecx, edx\n xor edx, edx\n db 0x26, 0x88, 0x55, 0x00\n mov edx, ecx\n dec edx\n jnz again\n hlt`;
    const state = run(runs, 32, program, 'nop', (_state, ram) => {
      for (let i = 0; i < 64; i++) ram.write(VALUES + i, Uint8Array.of(i));
    });
    // A word at an address that is i bytes further has i, i + 1, i + 2, i + 3 as its bytes.
    let wanted = 0;
    for (let base = 20; base > 0; base--) {
      wanted = (wanted + 0x03020100) >>> 0;
      wanted = (Math.imul(wanted, 3) + 0x03020100 + Math.imul(base, 0x01010101)) >>> 0;
    }
    expect(state.gpr(Gpr.RDI)).toBe(BigInt(wanted));
  });

  const own = [
    { name: 'MOV to FS', load: 'db 0x8e, 0xe0', prefix: 0x64, segment: Seg.FS },
    { name: 'POP to FS', load: 'push eax\n db 0x0f, 0xa1', prefix: 0x64, segment: Seg.FS },
    { name: 'MOV to GS', load: 'db 0x8e, 0xe8', prefix: 0x65, segment: Seg.GS },
    { name: 'POP to GS', load: 'push eax\n db 0x0f, 0xa9', prefix: 0x65, segment: Seg.GS },
  ];
  /** Reads VALUES through FS or GS. */
  const read = (prefix: number): string => `db ${prefix}, 0x8b, 0x1d\n dd ${VALUES}`;

  /** The upper byte of the limit's word, which has D/B: Linux has that clear in its own segment. */
  const sizes = own.flatMap((one) => [
    { ...one, sized: 'D/B set', high: 0xcf },
    { ...one, sized: 'D/B clear', high: 0x8f },
  ]);

  it.each(sizes)(
    '$name in turn with a null selector, and what the descriptor has become, $sized',
    ({ load, prefix, segment, high }) => {
      // The base becomes what DL says, twenty times; loads of DS beside, which are the helper's, compute the context anew.
      const program = `mov edx, 20\nagain: mov ebp, ${GDT + Selector.CHANGING + 2}\n mov [ebp], dl
      mov eax, ${Selector.CHANGING}\n ${load}\n ${read(prefix)}\n add edi, ebx\n xor eax, eax\n ${load}
      mov eax, ${Selector.USER_DATA}\n db 0x8e, 0xd8\n mov eax, ${Selector.CHANGING}\n ${load}\n ${read(prefix)}
      lea edi, [edi + edi * 2]\n add edi, ebx\n mov eax, ${Selector.DATA}\n db 0x8e, 0xd8\n mov eax, 3\n ${load}
      dec edx\n jnz again\n hlt`;
      const state = run(runs, 32, program, 'nop', (_state, ram) => {
        for (let i = 0; i < 64; i++) ram.write(VALUES + i, Uint8Array.of(i));
        ram.write(GDT + Selector.CHANGING + 6, Uint8Array.of(high));
      });
      let wanted = 0;
      for (let base = 20; base > 0; base--) {
        const word = (0x03020100 + Math.imul(base, 0x01010101)) >>> 0;
        wanted = (Math.imul((wanted + word) | 0, 3) + word) >>> 0;
      }
      expect(state.gpr(Gpr.RDI)).toBe(BigInt(wanted));
      expect([state.selector(segment), state.gpr(Gpr.RSP)]).toEqual([3, BigInt(STACK)]);
    },
  );

  it.each(own)('$name: a null selector reads nothing', ({ load, prefix }) => {
    const program = `mov esi, 30\nagain: mov eax, ${Selector.DATA}\n ${load}\n ${read(prefix)}\n inc edi\n dec esi\n jnz again
      xor eax, eax\n ${load}\n inc edi\n ${read(prefix)}\n inc edi\n hlt`;
    const state = run(runs, 32, program, 'nop');
    expect(state.gpr(Gpr.RDI)).toBe(31n);
  });

  it.each(own)("$name: a program's selector of the kernel's data faults", ({ load }) => {
    const program = `mov esi, 30\nagain: mov eax, ${Selector.DATA}\n ${load}\n inc edi\n dec esi\n jnz again
      mov eax, ${Selector.DATA | 3}\n ${load}\n inc edi\n hlt`;
    expect(run(runs, 32, program, 'nop').gpr(Gpr.RDI)).toBe(30n);
  });

  it('time never goes back, and goes as the clock does', () => {
    // RBX is the last time, RDI counts those that are before it, R8 is the first.
    const program = `mov esi, 200000\n xor edi, edi\n db 0x0f, 0x31\n shl rdx, 32\n or rdx, rax\n mov rbx, rdx\n mov r8, rdx
      again: db 0x0f, 0x31\n shl rdx, 32\n or rdx, rax\n cmp rdx, rbx\n adc edi, 0\n mov rbx, rdx\n dec esi\n jnz again\n hlt`;
    const before = performance.now();
    const state = run(runs, 64, program, 'nop');
    const most = (performance.now() - before) * 1e6;
    const passed = Number(state.gpr(Gpr.RBX) - state.gpr(Gpr.R8));
    expect(state.gpr(Gpr.RDI)).toBe(0n);
    // 1.6 million instructions are a millisecond at the least.
    expect(passed).toBeGreaterThan(1e5);
    expect(passed).toBeLessThan(most);
  });
});
