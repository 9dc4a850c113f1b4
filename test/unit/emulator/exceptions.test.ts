import { afterEach, describe, expect, it, vi } from 'vitest';
import { DELIVER } from '../../../main/emulator/generate/integer/exceptions.ts';
import { Handlers } from '../../../main/emulator/generate/handlers.ts';
import type { GuestRam } from '../../../main/machine/memory.ts';
import { Gpr, Seg } from '../../../main/nvmm/constants.ts';
import type { VcpuState } from '../../../main/nvmm/layout.ts';
import { KERNEL, openToPrograms, run, Selector, STACK, tiers } from './kernel-rig.ts';

// Exceptions of flat kernels are delivered by generated code where nothing is unusual; it must do what interrupts.ts does.

const IDT = 0x21000;
const TSS = 0x22000;
/** What the kernel has for programs' exceptions, and programs. */
const KERNEL_STACK = 0x32000;
const PROGRAM_STACK = 0x33000;
const ROUNDS = 60;

type Bits = 32 | 64;

interface Raised {
  name: string;
  vector: number;
  /** Two bytes long. */
  instruction: string;
  /** Instructions before. */
  before?: string;
  error: boolean;
  bits?: Bits;
}

/** What is raised with all settings; others are with the first alone. */
const WITH_ALL = '#GP with a selector';

const raised: Raised[] = [
  { name: '#DE', vector: 0, instruction: 'db 0xf7, 0xf1', before: 'xor ecx, ecx', error: false },
  { name: '#UD', vector: 6, instruction: 'db 0x0f, 0x0b', error: false },
  {
    name: '#GP with a selector',
    vector: 13,
    instruction: 'db 0x8e, 0xd8',
    before: 'mov eax, 0x77',
    error: true,
  },
  {
    name: '#PF',
    vector: 14,
    instruction: 'db 0x8b, 0x01',
    before: 'mov rcx, 0x7f0000000000',
    error: true,
    bits: 64,
  },
];

/** What the tables say otherwise than usual; some of it only TypeScript does. */
interface Setting {
  name: string;
  /** Of gates: 14 interrupt, 15 trap. */
  type?: number;
  flags?: number;
  /** The number of the interrupt stack (64 bits). */
  ist?: number;
  stackPointer?: number;
  quick: boolean;
  bits?: Bits;
}

const settings: Setting[] = [
  { name: 'through an interrupt gate', quick: true },
  { name: 'through a trap gate', type: 15, quick: true },
  { name: 'with flags', flags: 0xcd7, quick: true },
  { name: 'on a stack that is not aligned', stackPointer: KERNEL_STACK - 4, quick: true },
  { name: 'with a frame over the end of a page', stackPointer: KERNEL_STACK + 16, quick: false },
  { name: 'with AC', flags: 0x40002, quick: false },
  { name: 'on an interrupt stack', ist: 1, quick: false, bits: 64 },
];

function tables(bits: Bits, vector: number, { type = 14, ist = 0, stackPointer = KERNEL_STACK }: Setting) {
  return (state: VcpuState, ram: GuestRam): void => {
    if (bits === 64) openToPrograms(ram);
    const size = bits === 64 ? 16 : 8;
    ram.writeU32(IDT + size * vector, (Selector.CODE << 16) | (KERNEL & 0xffff));
    ram.writeU32(IDT + size * vector + 4, (KERNEL & 0xffff0000) | 0x8000 | (type << 8) | ist);
    state.setSegment(Seg.IDT, 0, 0, 0xfff, BigInt(IDT));
    state.setSegment(Seg.TR, 0x40, 0x8b, 0x67, BigInt(TSS));
    // What programs may keep, so that their data stay flat.
    for (const seg of [Seg.DS, Seg.ES]) state.setSegment(seg, Selector.USER_DATA, 0xcf3, 0xffff_ffff, 0n);
    ram.writeU32(TSS + 4, stackPointer);
    if (bits === 32) ram.writeU32(TSS + 8, Selector.DATA);
    ram.writeU32(TSS + 0x24, KERNEL_STACK - 0x100);
  };
}

/** Raises the same sixty times; the handler adds up its frames and goes on behind the instruction. */
function rounds(runs: number, bits: Bits, ring: number, one: Raised, setting: Setting) {
  const [a, sp, sum] = bits === 64 ? ['rax', 'rsp', 'rdi'] : ['eax', 'esp', 'edi'];
  const word = bits / 8;
  const add = (n: number): string =>
    `add ${sum}, [${sp} + ${n * word}]\n lea ${sum}, [${sum} + ${sum} * 2]\n`;
  const outer = bits === 64 || ring === 3 ? add(3) + add(4) : '';
  const kernel = `${one.error ? `pop ${a}\n add ${sum}, ${a}\n` : ''} ${add(0)} ${add(1)} ${add(2)} ${outer}
    pop ${a}\n add ${a}, 2\n push ${a}\n inc esi\n dec ebx\n jz end\n ${bits === 64 ? 'db 0x48, 0xcf' : 'db 0xcf'}\n end: hlt`;
  const push = (value: number | string): string => `mov ${a}, ${value}\n push ${a}\n`;
  const code = bits === 64 ? Selector.SYSRET_CODE : Selector.USER_CODE;
  const enter = `${push(Selector.USER_DATA)} ${push(PROGRAM_STACK)} ${push(setting.flags ?? 2)} ${push(code)} ${push('start')}
    ${bits === 64 ? 'db 0x48, 0xcf' : 'db 0xcf'}`;
  const flags = `${push(setting.flags ?? 2)} db 0x9d`;
  const program = `mov ebx, ${ROUNDS}\n ${ring === 3 ? enter : flags}
    start: ${one.before ?? ''}\n stc\n ${one.instruction}\n jmp start`;
  let memory: GuestRam | undefined;
  const state = run(runs, bits, program, kernel, (state, ram) => {
    tables(bits, one.vector, setting)(state, ram);
    memory = ram;
  });
  const stacks = new Uint8Array(0x3100);
  memory!.read(STACK - 0x100, stacks);
  const general = Array.from({ length: 16 }, (_, i) => state.gpr(i).toString(16));
  const segments = [Seg.CS, Seg.SS, Seg.DS, Seg.ES].map((segment) => state.selector(segment));
  return {
    general,
    segments,
    cpl: state.cpl,
    flags: state.gpr(Gpr.RFLAGS),
    stacks,
    count: state.gpr(Gpr.RSI),
  };
}

const isDelivery = (name: string): boolean => Object.values<string>(DELIVER).includes(name);

afterEach(() => vi.restoreAllMocks());

const cases = ([32, 64] as const).flatMap((bits) =>
  [0, 3].flatMap((ring) =>
    raised.flatMap((one) =>
      settings
        .filter((setting) => (one.bits ?? bits) === bits && (setting.bits ?? bits) === bits)
        .filter((setting) => one.name === WITH_ALL || setting === settings[0])
        .map((setting) => ({ bits, ring, one, setting })),
    ),
  ),
);

describe.each(tiers)('exceptions: $name', ({ runs }) => {
  it.each(cases)('$bits bits, ring $ring: $one.name $setting.name', ({ bits, ring, one, setting }) => {
    const { routine } = Handlers.prototype;
    let delivered = 0;
    const watched = vi.spyOn(Handlers.prototype, 'routine').mockImplementation(function (
      this: Handlers,
      name,
    ) {
      const real = routine.call(this, name);
      if (!isDelivery(name)) return real;
      return (...numbers) => {
        const done = real(...numbers);
        delivered += done;
        return done;
      };
    });
    const quick = rounds(runs, bits, ring, one, setting);
    watched.mockImplementation(function (this: Handlers, name) {
      return isDelivery(name) ? () => 0 : routine.call(this, name);
    });
    expect(quick).toEqual(rounds(runs, bits, ring, one, setting));
    expect(quick.count).toBe(BigInt(ROUNDS));
    // The first ones fill the translation tables. A program's stack pointer is not the kernel's affair.
    const onKernelStack = setting.stackPointer === undefined || ring === 3;
    if (setting.quick || !onKernelStack) expect(delivered).toBeGreaterThan(ROUNDS - 10);
    else expect(delivered).toBe(0);
  });
});
