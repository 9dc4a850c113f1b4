import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cr, Dr, Exit, Gpr, Msr, Seg, State, StateOffset } from '../../main/nvmm/constants.ts';
import type { Vcpu } from '../../main/nvmm/nvmm.ts';
import { onKvm, Rig } from './rig.ts';
import { onEachBackend } from './suite.ts';

type VcpuState = Vcpu['state'];

const GPRS = [
  'RAX',
  'RCX',
  'RDX',
  'RBX',
  'RSP',
  'RBP',
  'RSI',
  'RDI',
  'R8',
  'R9',
  'R10',
  'R11',
  'R12',
  'R13',
  'R14',
  'R15',
] as const;

/** Each field: how to set it to something that is its own, and the parts that it lies in. */
const fields: { name: string; part: number; value: bigint; at: number; size?: number }[] = [
  ...GPRS.map((name, i) => ({
    name,
    part: State.GPRS,
    value: 0x1111_2222_3333_4400n + BigInt(i),
    at: StateOffset.GPRS + 8 * Gpr[name],
  })),
  { name: 'RFLAGS', part: State.GPRS, value: 0x8d7n & ~0x100n, at: StateOffset.GPRS + 8 * Gpr.RFLAGS },
  { name: 'CR2', part: State.CRS, value: 0xffff_8000_1234_5678n, at: StateOffset.CRS + 8 * Cr.CR2 },
  { name: 'CR8', part: State.CRS, value: 9n, at: StateOffset.CRS + 8 * Cr.CR8 },
  ...[0, 1, 2, 3].map((i) => ({
    name: `DR${i}`,
    part: State.DRS,
    value: 0x7fff_0000n + BigInt(i * 8),
    at: StateOffset.DRS + 8 * (Dr.DR0 + i),
  })),
  { name: 'DR6', part: State.DRS, value: 0xffff_0ff1n, at: StateOffset.DRS + 8 * Dr.DR6 },
  // Writes of four bytes at DR1, not armed; bit 10 is fixed.
  { name: 'DR7', part: State.DRS, value: 0x00d0_0400n, at: StateOffset.DRS + 8 * Dr.DR7 },
  // AM and WP beside what long mode needs.
  { name: 'CR0', part: State.CRS, value: 0x8005_0033n, at: StateOffset.CRS + 8 * Cr.CR0 },
  { name: 'CR3', part: State.CRS, value: 0x3018n, at: StateOffset.CRS + 8 * Cr.CR3 },
  // PSE, PAE, PGE, OSFXSR and OSXMMEXCPT.
  { name: 'CR4', part: State.CRS, value: 0x6b0n, at: StateOffset.CRS + 8 * Cr.CR4 },
  { name: 'XCR0', part: State.CRS, value: 1n, at: StateOffset.CRS + 8 * Cr.XCR0 },
  // SCE, LME, LMA, without NXE.
  { name: 'EFER', part: State.MSRS, value: 0x501n, at: StateOffset.MSRS + 8 * Msr.EFER },
  { name: 'STAR', part: State.MSRS, value: 0x0023_0010_0000_0000n, at: StateOffset.MSRS + 8 * Msr.STAR },
  { name: 'LSTAR', part: State.MSRS, value: 0xffff_ffff_8100_0000n, at: StateOffset.MSRS + 8 * Msr.LSTAR },
  { name: 'CSTAR', part: State.MSRS, value: 0xffff_ffff_8200_0000n, at: StateOffset.MSRS + 8 * Msr.CSTAR },
  { name: 'SFMASK', part: State.MSRS, value: 0x4_7700n, at: StateOffset.MSRS + 8 * Msr.SFMASK },
  {
    name: 'KERNELGSBASE',
    part: State.MSRS,
    value: 0xffff_8880_0000_1000n,
    at: StateOffset.MSRS + 8 * Msr.KERNELGSBASE,
  },
  { name: 'SYSENTER_CS', part: State.MSRS, value: 0x10n, at: StateOffset.MSRS + 8 * Msr.SYSENTER_CS },
  { name: 'SYSENTER_ESP', part: State.MSRS, value: 0x8000n, at: StateOffset.MSRS + 8 * Msr.SYSENTER_ESP },
  { name: 'SYSENTER_EIP', part: State.MSRS, value: 0x9000n, at: StateOffset.MSRS + 8 * Msr.SYSENTER_EIP },
  { name: 'PAT', part: State.MSRS, value: 0x0001_0406_0007_0406n, at: StateOffset.MSRS + 8 * Msr.PAT },
  { name: 'FS.base', part: State.SEGS, value: 0x7f00_1234_5000n, at: 16 * Seg.FS + 8 },
  { name: 'GS.base', part: State.SEGS, value: 0xffff_8880_1234_5000n, at: 16 * Seg.GS + 8 },
  { name: 'GDT.base', part: State.SEGS, value: 0xffff_8880_0000_2000n, at: 16 * Seg.GDT + 8 },
  { name: 'IDT.base', part: State.SEGS, value: 0xffff_8880_0000_3000n, at: 16 * Seg.IDT + 8 },
  { name: 'GDT.limit', part: State.SEGS, value: 0x7fn, at: 16 * Seg.GDT + 4, size: 4 },
  { name: 'TR.base', part: State.SEGS, value: 0x1800n, at: 16 * Seg.TR + 8 },
  ...(['ES', 'SS', 'DS', 'FS', 'GS'] as const).flatMap((name) => [
    {
      name: `${name}.selector`,
      part: State.SEGS,
      value: 0x10n + BigInt(Seg[name] * 8),
      at: 16 * Seg[name],
      size: 2,
    },
    {
      name: `${name}.limit`,
      part: State.SEGS,
      value: 0xf_ffffn - BigInt(Seg[name]),
      at: 16 * Seg[name] + 4,
      size: 4,
    },
  ]),
  { name: 'CS.selector', part: State.SEGS, value: 0x18n, at: 16 * Seg.CS, size: 2 },
  { name: 'LDT.selector', part: State.SEGS, value: 0x28n, at: 16 * Seg.LDT, size: 2 },
  { name: 'LDT.base', part: State.SEGS, value: 0xffff_8880_0000_4000n, at: 16 * Seg.LDT + 8 },
  { name: 'LDT.limit', part: State.SEGS, value: 0x3fn, at: 16 * Seg.LDT + 4, size: 4 },
  { name: 'TR.selector', part: State.SEGS, value: 0x40n, at: 16 * Seg.TR, size: 2 },
  { name: 'TR.limit', part: State.SEGS, value: 0x67n, at: 16 * Seg.TR + 4, size: 4 },
  { name: 'IDT.limit', part: State.SEGS, value: 0xfffn, at: 16 * Seg.IDT + 4, size: 4 },
  { name: 'FCW', part: State.FPU, value: 0x27fn, at: StateOffset.FPU, size: 2 },
  { name: 'MXCSR', part: State.FPU, value: 0x7f80n, at: StateOffset.FPU + 24, size: 4 },
  { name: 'FSW', part: State.FPU, value: 0x3800n, at: StateOffset.FPU + 2, size: 2 },
  { name: 'ST7', part: State.FPU, value: 0x8000_0000_0000_0007n, at: StateOffset.FPU + 32 + 7 * 16 },
  { name: 'ST0', part: State.FPU, value: 0x8000_0000_0000_0001n, at: StateOffset.FPU + 32 },
  { name: 'XMM0', part: State.FPU, value: 0x0123_4567_89ab_cdefn, at: StateOffset.FPU + 160 },
  {
    name: 'XMM15, upper half',
    part: State.FPU,
    value: 0xfedc_ba98_7654_3210n,
    at: StateOffset.FPU + 160 + 15 * 16 + 8,
  },
];

function read(state: VcpuState, at: number, size = 8): bigint {
  const { view } = state;
  if (size === 2) return BigInt(view.getUint16(at, true));
  return size === 4 ? BigInt(view.getUint32(at, true)) : view.getBigUint64(at, true);
}

function write(state: VcpuState, at: number, value: bigint, size = 8): void {
  const { view } = state;
  if (size === 2) view.setUint16(at, Number(value), true);
  else if (size === 4) view.setUint32(at, Number(value), true);
  else view.setBigUint64(at, value, true);
}

onEachBackend('state', (backend) => {
  let rig: Rig;
  beforeEach(() => void (rig = new Rig(backend, true)));
  afterEach(() => rig.close());

  it('starts as after RESET', () => {
    const vcpu = rig.nvmm.vcpuCreate(rig.machine, 1);
    rig.nvmm.getState(rig.machine, vcpu, State.ALL);
    const { state } = vcpu;
    expect(state.rip).toBe(0xfff0n);
    expect(state.base(Seg.CS)).toBe(0xffff_0000n);
    expect(state.selector(Seg.CS)).toBe(0xf000);
    expect(state.gpr(Gpr.RDX)).toBe(0x600n);
    expect(state.rflags).toBe(2n);
    expect(state.cr(Cr.CR0)).toBe(0x6000_0010n);
    expect(state.cr(Cr.XCR0)).toBe(1n);
    expect(state.dr(Dr.DR6)).toBe(0xffff_0ff0n);
    expect(state.dr(Dr.DR7)).toBe(0x400n);
    expect(state.msr(Msr.PAT)).toBe(0x0007_0406_0007_0406n);
    expect(state.intr).toBe(0);
  });

  it.each(fields)('$name: read as it was set, before and after a run', ({ part, value, at, size }) => {
    rig.load('f4f4');
    write(rig.vcpu.state, at, value, size);
    rig.set(State.ALL);
    expect(read(rig.get(part), at, size)).toBe(value);
    expect(rig.exit()).toBe(Exit.HALTED);
    expect(read(rig.get(part), at, size)).toBe(value);
    // Set again alone, and read back once more.
    rig.set(part);
    expect(rig.exit()).toBe(Exit.HALTED);
    expect(read(rig.get(part), at, size)).toBe(value);
  });

  it('general registers are those of the guest', () => {
    // rax += rbx; r15 = rsp; hlt
    rig.load('4801d84989e7f4');
    const { state } = rig.vcpu;
    state.setGpr(Gpr.RAX, 0xffff_ffff_ffff_fff0n);
    state.setGpr(Gpr.RBX, 0x21n);
    state.setGpr(Gpr.RSP, 0x1ff8n);
    rig.set(State.GPRS);
    rig.exit();
    expect(rig.gpr(Gpr.RAX)).toBe(0x11n);
    expect(rig.gpr(Gpr.R15)).toBe(0x1ff8n);
    expect(rig.gpr(Gpr.RIP)).toBe(0x2007n);
    expect(rig.get(State.GPRS).rflags & 1n).toBe(1n);
  });

  it('control registers are those of the guest, both ways', () => {
    // rax = cr2; rbx = cr4; cr2 = rcx; cr8 = rdx; hlt
    rig.load('0f20d00f20e30f22d1440f22c2f4');
    const { state } = rig.vcpu;
    state.setCr(Cr.CR2, 0x1234_5678n);
    state.setGpr(Gpr.RCX, 0x9876n);
    state.setGpr(Gpr.RDX, 5n);
    rig.set(State.ALL);
    rig.exit();
    expect(rig.gpr(Gpr.RAX)).toBe(0x1234_5678n);
    expect(rig.gpr(Gpr.RBX)).toBe(0x620n);
    expect(rig.get(State.CRS).cr(Cr.CR2)).toBe(0x9876n);
    expect(rig.vcpu.state.cr8).toBe(5);
    expect(rig.vcpu.exit.cr8).toBe(5);
  });

  it('the FPU is that of the guest, both ways', () => {
    // movups xmm1, [0x1000]; movups [0x1010], xmm0; hlt
    rig.fill(0, new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]));
    rig.load('0f100c25001000000f11042510100000f4');
    rig.vcpu.state.fpu.set([21, 22, 23, 24], 160);
    rig.set(State.FPU);
    expect(rig.exit()).toBe(Exit.HALTED);
    expect([...rig.get(State.FPU).fpu.subarray(176, 180)]).toEqual([1, 2, 3, 4]);
    expect([...rig.data.subarray(16, 20)]).toEqual([21, 22, 23, 24]);
  });

  it('the page walk', () => {
    rig.load('f4');
    expect(rig.nvmm.gvaToGpa(rig.machine, rig.vcpu, 0x2345, 0)).toEqual({ gpa: 0x2345, prot: 15 });
    expect(() => rig.nvmm.gvaToGpa(rig.machine, rig.vcpu, 0x9000, 0)).toThrow('EFAULT');
    expect(() => rig.nvmm.gvaToGpa(rig.machine, rig.vcpu, 0, 0x8000_0000)).toThrow('EFAULT');
  });

  it('the time stamp counter goes on from where it was set', ({ skip }) => {
    rig.load('0f31f4');
    rig.vcpu.state.setMsr(Msr.TSC, 1n << 50n);
    rig.set(State.MSRS);
    rig.exit();
    const tsc = (rig.gpr(Gpr.RDX) << 32n) | rig.gpr(Gpr.RAX);
    if (onKvm(backend) && tsc < 1n << 50n) skip("this KVM's guests have the host's counter");
    expect(tsc >= 1n << 50n && tsc < (1n << 50n) + (1n << 40n)).toBe(true);
  });
});
