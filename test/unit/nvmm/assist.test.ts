import { describe, expect, it } from 'vitest';
import { Exit, Gpr, Msr, Prot, Seg } from '../../../main/nvmm/constants.ts';
import { FakeNvmm } from '../machine/fake-nvmm.ts';

interface Case {
  name: string;
  /** The instruction: what the exit says. */
  input: boolean;
  size: number;
  rep?: boolean;
  string?: boolean;
  addressSize?: number;
  seg?: number;
  /** Registers before it. */
  rax?: bigint;
  rcx?: bigint;
  rsi?: bigint;
  rdi?: bigint;
  backwards?: boolean;
  long?: boolean;
  /** Guest memory at 0x1000 before it; what the device gives. */
  memory?: string;
  device?: string;
  /** After it. */
  sent?: string;
  stored?: string;
  after?: Partial<Record<'rax' | 'rcx' | 'rsi' | 'rdi' | 'rip', bigint>>;
  calls?: number;
}

const NPC = 0x2000n;

const cases: Case[] = [
  { name: 'outb', input: false, size: 1, rax: 0x4241n, sent: 'A', after: { rip: NPC } },
  { name: 'outw', input: false, size: 2, rax: 0x4241n, sent: 'AB', after: { rip: NPC } },
  { name: 'outl', input: false, size: 4, rax: 0x44434241n, sent: 'ABCD', after: { rip: NPC } },
  {
    name: 'inb keeps the rest',
    input: true,
    size: 1,
    rax: ~0n,
    device: 'A',
    after: { rax: 0xffff_ffff_ffff_ff41n },
  },
  {
    name: 'inw keeps the rest',
    input: true,
    size: 2,
    rax: ~0n,
    device: 'AB',
    after: { rax: 0xffff_ffff_ffff_4241n },
  },
  { name: 'inl zero-extends', input: true, size: 4, rax: ~0n, device: 'ABCD', after: { rax: 0x4443_4241n } },
  {
    name: 'outsb',
    ...{ input: false, size: 1, string: true, rsi: 0x1000n, rcx: 9n, memory: 'xyz', sent: 'x' },
    after: { rsi: 0x1001n, rcx: 9n, rip: NPC },
  },
  {
    name: 'rep outsw',
    ...{
      input: false,
      size: 2,
      string: true,
      rep: true,
      rsi: 0x1000n,
      rcx: 3n,
      memory: 'abcdef',
      sent: 'abcdef',
    },
    after: { rsi: 0x1006n, rcx: 0n, rip: NPC },
    calls: 3,
  },
  {
    name: 'rep insb takes 32 bytes at a time',
    ...{ input: true, size: 1, string: true, rep: true, rdi: 0x1000n, rcx: 40n },
    ...{ device: '0123456789abcdef0123456789ABCDEF', stored: '0123456789abcdef0123456789ABCDEF' },
    after: { rdi: 0x1020n, rcx: 8n, rip: 0x100n },
    calls: 32,
  },
  {
    name: 'rep with DF: one element',
    ...{ input: false, size: 4, string: true, rep: true, backwards: true, rsi: 0x1004n, rcx: 2n },
    ...{ memory: 'abcdefgh', sent: 'efgh' },
    after: { rsi: 0x1000n, rcx: 1n, rip: 0x100n },
  },
  {
    name: 'rep with count 0',
    ...{ input: false, size: 1, string: true, rep: true, rsi: 0x1000n, rcx: 0n },
    after: { rcx: 0n, rip: NPC },
    calls: 0,
  },
  {
    name: '16-bit counts and addresses',
    ...{
      input: true,
      size: 1,
      string: true,
      rep: true,
      addressSize: 2,
      rdi: 0x9_1000n,
      rcx: 0x7_0002n,
      device: 'hi',
    },
    ...{ stored: 'hi' },
    after: { rcx: 0x7_0000n, rdi: 0x9_1002n, rip: NPC },
  },
  {
    name: 'the segment base is added outside long mode',
    ...{
      input: false,
      size: 1,
      string: true,
      seg: Seg.GS,
      rsi: 0x10n,
      memory: '0123456789abcdefX',
      sent: 'X',
    },
    after: { rsi: 0x11n },
  },
  {
    name: 'long mode: DS has no base',
    ...{ input: false, size: 1, string: true, long: true, seg: Seg.CS, rsi: 0x1000n, memory: 'Q', sent: 'Q' },
  },
];

/** One IO exit at 0x100; 8 KiB of memory mapped to itself, segments flat but for GS at 0x1000. */
function play(one: Case) {
  const nvmm = new FakeNvmm(new Uint8Array(0x2000));
  nvmm.gpaMap(nvmm.machine, 0, 0, 0x2000, Prot.READ | Prot.WRITE | Prot.EXEC);
  const { state, exit } = nvmm.vcpu;
  for (let seg = 0; seg < 6; seg++) {
    state.setSegment(seg, 0, 0x93, 0xffff_ffff, seg === Seg.GS ? 0x1000n : 0n);
  }
  state.setMsr(Msr.EFER, one.long ? 0x500n : 0n);
  state.rip = 0x100n;
  state.rflags = one.backwards ? 0x402n : 2n;
  state.setGpr(Gpr.RAX, one.rax ?? 0n);
  state.setGpr(Gpr.RCX, one.rcx ?? 0n);
  state.setGpr(Gpr.RSI, one.rsi ?? 0n);
  state.setGpr(Gpr.RDI, one.rdi ?? 0n);
  nvmm.host.set(new TextEncoder().encode(one.memory ?? ''), 0x1000);
  nvmm.vcpu.leaveIo(123, one.size, one.input, Number(NPC));
  exit.view.setInt8(12, one.seg ?? (one.input ? Seg.ES : Seg.DS));
  exit.view.setUint8(13, one.addressSize ?? 8);
  exit.view.setUint8(15, one.rep ? 1 : 0);
  exit.view.setUint8(16, one.string ? 1 : 0);
  const device = new TextEncoder().encode(one.device ?? '');
  let [sent, given, calls] = ['', 0, 0];
  nvmm.vcpu.callbacks = {
    io: ({ port, in: input, size, data }) => {
      expect(port).toBe(123);
      calls++;
      for (let i = 0; i < size; i++) {
        if (input) data.setUint8(i, device[given++]);
        else sent += String.fromCharCode(data.getUint8(i));
      }
    },
  };
  nvmm.assistIo(nvmm.machine, nvmm.vcpu);
  return { nvmm, state, sent, calls };
}

describe('assistIo', () => {
  for (const one of cases) {
    it(one.name, () => {
      const { nvmm, state, sent, calls } = play(one);
      expect(sent).toBe(one.sent ?? '');
      const stored = one.stored ?? '';
      expect(new TextDecoder().decode(nvmm.host.subarray(0x1000, 0x1000 + stored.length))).toBe(stored);
      for (const [name, value] of Object.entries(one.after ?? {})) {
        expect(state.gpr(Gpr[name.toUpperCase() as keyof typeof Gpr]), name).toBe(value);
      }
      if (one.calls !== undefined) expect(calls).toBe(one.calls);
    });
  }

  it('refuses other exits', () => {
    const nvmm = new FakeNvmm();
    nvmm.vcpu.leave(Exit.MEMORY);
    expect(() => nvmm.assistIo(nvmm.machine, nvmm.vcpu)).toThrow('EINVAL');
  });

  it('gives EFAULT beyond a segment limit', () => {
    const nvmm = new FakeNvmm(new Uint8Array(0x2000));
    nvmm.vcpu.state.setSegment(Seg.DS, 0, 0x93, 0xfff, 0n);
    nvmm.vcpu.state.setGpr(Gpr.RSI, 0x1000n);
    nvmm.vcpu.leaveIo(1, 1, false);
    nvmm.vcpu.exit.view.setUint8(16, 1);
    expect(() => nvmm.assistIo(nvmm.machine, nvmm.vcpu)).toThrow('EFAULT');
  });

  it('takes what is no memory to the mem callback', () => {
    const nvmm = new FakeNvmm(new Uint8Array(0x1000));
    const seen: string[] = [];
    nvmm.vcpu.state.setSegment(Seg.DS, 0, 0x93, 0xffff_ffff, 0n);
    nvmm.vcpu.state.setGpr(Gpr.RSI, 0xd000_0000n);
    nvmm.vcpu.leaveIo(1, 2, false);
    nvmm.vcpu.exit.view.setUint8(16, 1);
    nvmm.vcpu.callbacks = {
      mem: ({ gpa, write, size, data }) => {
        seen.push(`${write ? 'write' : 'read'} ${size} at ${gpa.toString(16)}`);
        data.setUint16(0, 0xbeef, true);
      },
      io: ({ data }) => void seen.push(data.getUint16(0, true).toString(16)),
    };
    nvmm.assistIo(nvmm.machine, nvmm.vcpu);
    expect(seen).toEqual(['read 2 at d0000000', 'beef']);
  });
});
