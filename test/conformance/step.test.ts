import { expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { emulatedBackend } from '../../main/emulator/backend.ts';
import { DebugKind, Exit, Gpr, Intr, State, VcpuConf, VcpuConfSupport } from '../../main/nvmm/constants.ts';
import type { Backend, DebugConf } from '../../main/nvmm/nvmm.ts';
import { onKvm, PAGE, Recorder, Rig } from './rig.ts';
import { onEachBackend } from './suite.ts';

// VCPU_CONF_DEBUG: one instruction at a time, and stops at addresses.

const NONE: DebugConf = { step: false, breakpoints: [], watchpoints: [], exceptions: 0 };
const STEP: DebugConf = { ...NONE, step: true };
const ORIGIN = 0x2000;
/** The rig's pages: data at 0x1000, code at 0x2000, tables from 0x3000. Stack and IDT are in the data page. */
const IDT = 0x1000;
const STACK = 0x2000;

function configure({ nvmm, machine, vcpu }: Rig, conf: DebugConf): void {
  nvmm.vcpuConfigure(machine, vcpu, VcpuConf.DEBUG, conf);
}

/** A rig with a program, an IDT whose handlers are at 0x2800 + 16 * vector, a stack, and device memory nowhere. */
function programmed(backend: Backend, code: string): Rig {
  const rig = new Rig(backend, true);
  const { bytes } = assemble(`bits 64\n org 0x2000\n${code}\n`);
  const page = Buffer.alloc(PAGE, 0x90);
  page.set(bytes);
  rig.load(page.toString('hex'));
  rig.fill(0, '');
  const gates = new DataView(rig.data.buffer, rig.data.byteOffset);
  for (let vector = 0; vector < 32; vector++) {
    gates.setUint32(16 * vector, (8 << 16) | (0x2800 + 16 * vector), true);
    gates.setUint32(16 * vector + 4, 0x8e00, true);
  }
  // Descriptor 1 of the GDT at 0x1800: 64-bit code.
  gates.setUint32(0x808, 0xffff, true);
  gates.setUint32(0x80c, 0x00af9b00, true);
  rig.nvmm.hvaWritten(rig.host.ram, 4096);
  const state = rig.get(State.ALL);
  state.setSegment(7, 0, 0, 0x1ff, BigInt(IDT));
  state.setSegment(6, 0, 0, 0x0f, BigInt(IDT + 0x800));
  state.setGpr(Gpr.RSP, BigInt(STACK));
  state.setGpr(Gpr.RDI, 0x1c00n);
  state.setGpr(Gpr.RSI, 0x1c00n);
  rig.set(State.ALL);
  return rig;
}

/** What is compared of a state after a step. RF says whether a fault or a repetition was the reason: backends differ. */
function shown(rig: Rig): string {
  const state = rig.get(State.GPRS | State.INTR);
  const words = Array.from({ length: 17 }, (_, n) => state.gpr(n).toString(16));
  const flags = (state.rflags & ~0x10000n).toString(16);
  const shadow = (state.intr & Intr.INT_SHADOW) !== 0 ? ' shadow' : '';
  return `${words.join(' ')} flags ${flags}${shadow}`;
}

interface Case {
  name: string;
  code: string;
  /** RIP after each step, from the program's beginning; handlers as `vector@offset`. */
  wanted: string;
}

const cases: Case[] = [
  { name: 'arithmetic', code: ' mov eax, 5\n add eax, 3\n neg eax\n sub eax, 100', wanted: '5 8 a d' },
  { name: 'jumps', code: ' xor ecx, ecx\n jz x\n nop\nx: dec ecx\n jmp x', wanted: '2 5 7 5 7' },
  {
    name: 'calls and the stack',
    code: ' call f\n hlt\nf: push rax\n pop rbx\n ret',
    wanted: '6 7 8 5 halted:6',
  },
  { name: 'a load of SS', code: ' xor eax, eax\n mov ss, eax\n inc eax\n inc eax', wanted: '2 4 6 8' },
  { name: 'STI', code: ' sti\n inc eax\n cli\n nop', wanted: '1 3 4 5' },
  { name: 'REP, one element at a time', code: ' mov ecx, 3\n rep stosb\n nop', wanted: '5 5 5 7 8' },
  { name: 'REPE', code: ' mov ecx, 3\n repe cmpsb\n nop', wanted: '5 5 5 7 8' },
  { name: 'REP of nothing', code: ' xor ecx, ecx\n rep stosb\n nop', wanted: '2 4 5' },
  { name: 'PUSHF sees no trap flag', code: ' pushfq\n pop rax\n nop', wanted: '1 2 3' },
  { name: 'an undefined instruction', code: ' nop\n ud2', wanted: '1 6@0 6@1' },
  { name: 'a page fault', code: ' mov eax, [0x9000000]', wanted: '14@0' },
  { name: 'a division by zero', code: ' xor ecx, ecx\n div ecx', wanted: '2 0@0 0@1' },
  { name: 'a software interrupt', code: ' int 0x10\n nop', wanted: '16@0 16@1' },
  { name: 'a breakpoint of the guest', code: ' int3\n nop', wanted: '3@0' },
  {
    name: 'IRET',
    code: ' push 0\n mov eax, 0x2000\n push rax\n pushfq\n push 8\n mov eax, x\n push rax\n iretq\n nop\nx: nop\n nop',
    wanted: '2 7 8 9 b 10 11 14 15',
  },
  { name: 'port, then memory', code: ' out 0x7b, al\n in al, 0x7b\n nop', wanted: 'io:0 io:2 5' },
  { name: 'HLT', code: ' nop\n hlt\n nop', wanted: '1 halted:2 3' },
  {
    name: 'an interrupt that is due',
    code: ' nop\n nop',
    wanted: '1 9@0 9@1',
  },
];

/** What a KVM without hardware support does otherwise: its emulator has no trap between those. */
const softwareGaps: Record<string, string> = {
  'REP, one element at a time': 'this KVM runs several elements in a step',
  REPE: 'this KVM runs several elements in a step',
  IRET: 'this KVM takes the instruction behind IRET along',
};

/** Steps through a case; the states after each step. */
function walk(backend: Backend, { code, wanted, name }: Case): { at: string; states: string[] } {
  const rig = programmed(backend, code);
  rig.use(new Recorder());
  const states: string[] = [];
  const at: string[] = [];
  configure(rig, STEP);
  try {
    for (const step of wanted.split(' ')) {
      if (name === 'an interrupt that is due' && step === '9@0') rig.interrupt(9);
      const reason = rig.exit();
      const rip = Number(rig.gpr(Gpr.RIP)) - ORIGIN;
      const place = rip >= 0x800 ? `${(rip - 0x800) >> 4}@${rip & 15}` : rip.toString(16);
      if (reason === Exit.DEBUG) {
        expect(rig.vcpu.exit.debugKind).toBe(DebugKind.STEP);
        at.push(place);
      } else if (reason === Exit.HALTED) at.push(`halted:${place}`);
      else if (reason === Exit.IO) {
        at.push(`io:${place}`);
        const { state, exit } = rig.vcpu;
        state.rip = exit.ioNpc;
        rig.set(State.GPRS);
      } else at.push(`exit ${reason.toString(16)}:${place}`);
      states.push(shown(rig));
    }
  } finally {
    rig.close();
  }
  return { at: at.join(' '), states };
}

onEachBackend('stepping', (backend) => {
  const supported = (): boolean => {
    const rig = new Rig(backend, true);
    const { vcpuConfSupport } = rig.nvmm.capability();
    rig.close();
    return (vcpuConfSupport & VcpuConfSupport.DEBUG) !== 0;
  };
  if (!supported()) {
    it('is not possible', ({ skip }) => skip('its libnvmm has no VCPU_CONF_DEBUG'));
    return;
  }

  it.for(cases)('$name', (one, { skip }) => {
    const { at, states } = walk(backend, one);
    // A KVM without hardware support runs rings 0 to 2 by its emulator, which lacks instructions.
    if (at.includes('exit -1')) skip('this KVM does not know the instruction');
    const gap = softwareGaps[one.name];
    if (onKvm(backend) && gap !== undefined && at !== one.wanted) skip(gap);
    expect(at).toBe(one.wanted);
    expect(states).toEqual(walk(emulatedBackend, one).states);
  });

  it('a guest that steps itself gets its own #DB, and sees its own flag', () => {
    const rig = programmed(backend, ' mov eax, 0x102\n push rax\n popfq\n nop\n nop');
    configure(rig, STEP);
    const at = Array.from({ length: 5 }, () => {
      expect(rig.exit()).toBe(Exit.DEBUG);
      return Number(rig.gpr(Gpr.RIP)) - ORIGIN;
    });
    // After the NOP, and perhaps a step of its own for the delivery: the #DB handler.
    expect(at.slice(0, 3)).toEqual([5, 6, 7]);
    expect(at).toContain(0x810);
    const frame = new DataView(rig.data.buffer, rig.data.byteOffset);
    // The frame: SS, RSP, RFLAGS with TF, CS, and RIP behind the NOP.
    expect(frame.getUint32(0xfd8, true)).toBe(ORIGIN + 8);
    expect(frame.getUint32(0xfe8, true) & 0x100).toBe(0x100);
    rig.close();
  });

  it('stops at breakpoints, before the instruction, and at once where it stands', () => {
    const rig = programmed(backend, ' xor ecx, ecx\nx: inc ecx\n nop\n jmp x');
    configure(rig, { ...NONE, breakpoints: [0x9999n, 0x2002n] });
    for (let round = 0; round < 3; round++) {
      expect(rig.exit()).toBe(Exit.DEBUG);
      const { debugKind, debugIndex, debugAddress } = rig.vcpu.exit;
      expect([debugKind, debugIndex, debugAddress]).toEqual([DebugKind.BREAKPOINT, 1, 0x2002n]);
      expect([rig.gpr(Gpr.RIP), rig.gpr(Gpr.RCX)]).toEqual([0x2002n, BigInt(round)]);
      expect(rig.exit()).toBe(Exit.DEBUG);
      configure(rig, STEP);
      expect(rig.exit()).toBe(Exit.DEBUG);
      configure(rig, { ...NONE, breakpoints: [0x9999n, 0x2002n] });
    }
    configure(rig, NONE);
    rig.nvmm.vcpuStop(rig.vcpu);
    expect(rig.exit()).toBe(Exit.STOPPED);
    rig.close();
  });

  const watches = [
    { name: 'a write', code: ' nop\n mov [0x1c02], ax\n nop', write: true, rip: 0x2009n },
    { name: 'a read', code: ' nop\n mov eax, [0x1c00]\n nop', write: false, rip: 0x2008n },
    { name: 'a push', code: ' mov esp, 0x1c08\n push rax\n nop', write: true, rip: 0x2006n },
    { name: 'a read and write', code: ' lock inc dword [0x1c00]\n nop', write: true, rip: 0x2008n },
    { name: 'a string', code: ' mov edi, 0x1bf8\n mov ecx, 8\n rep stosd\n nop', write: true, rip: 0x200an },
  ];
  it.for(watches)('sees $name of watched memory', ({ code, write, rip }, { skip }) => {
    const rig = programmed(backend, code);
    const range = { address: 0x1c00n, length: 4, read: true, write: true };
    configure(rig, { ...NONE, breakpoints: [rip + 1n], watchpoints: [range] });
    const reason = rig.exit();
    const { debugKind, debugIndex } = rig.vcpu.exit;
    if (onKvm(backend) && (reason !== Exit.DEBUG || debugKind !== DebugKind.WATCHPOINT)) {
      skip("this KVM's emulator does not look at data breakpoints");
    }
    expect([reason, debugKind, debugIndex]).toEqual([Exit.DEBUG, DebugKind.WATCHPOINT, 0]);
    expect(rig.gpr(Gpr.RIP)).toBe(rip);
    if (backend.name === 'emulated') expect(rig.vcpu.exit.debugWrite).toBe(write);
    rig.close();
  });

  const refused = [
    {
      name: 'an address that is not canonical',
      conf: { ...NONE, breakpoints: [1n << 60n] },
      errno: 'EINVAL',
    },
    {
      name: 'a watch over 4 GiB',
      conf: { ...NONE, watchpoints: [{ address: 0n, length: 2 ** 32 + 1, read: true, write: true }] },
      errno: 'EINVAL',
    },
    {
      name: 'a watch for nothing',
      conf: { ...NONE, watchpoints: [{ address: 0n, length: 1, read: false, write: false }] },
      errno: 'EINVAL',
    },
  ];
  it.each(refused)('refuses $name', ({ conf, errno }) => {
    const rig = new Rig(backend, true);
    expect(() => configure(rig, conf)).toThrow(expect.objectContaining({ errno }));
    rig.close();
  });

  it('takes five breakpoints, or says why not', () => {
    const rig = new Rig(backend, true);
    const conf = { ...NONE, breakpoints: [1n, 2n, 3n, 4n, 5n] };
    if (backend.name === 'emulated') expect(() => configure(rig, conf)).not.toThrow();
    else expect(() => configure(rig, conf)).toThrow(expect.objectContaining({ errno: 'ENOBUFS' }));
    rig.close();
  });

  it('stops before exceptions, or says why not', () => {
    const rig = programmed(backend, ' nop\n ud2');
    const conf = { ...NONE, exceptions: 1 << 6 };
    if (backend.name !== 'emulated') {
      expect(() => configure(rig, conf)).toThrow(expect.objectContaining({ errno: 'ENOTSUP' }));
    } else {
      configure(rig, conf);
      expect(rig.exit()).toBe(Exit.DEBUG);
      expect([rig.vcpu.exit.debugKind, rig.vcpu.exit.debugVector]).toEqual([DebugKind.EXCEPTION, 6]);
      expect(rig.gpr(Gpr.RIP)).toBe(0x2001n);
      configure(rig, { ...conf, step: true });
      expect(rig.exit()).toBe(Exit.DEBUG);
      expect(rig.gpr(Gpr.RIP)).toBe(0x2860n);
    }
    rig.close();
  });
});
