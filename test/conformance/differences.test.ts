import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  Cr,
  EventType,
  Exit,
  Gpr,
  Intr,
  Limit,
  Prot,
  Seg,
  State,
  VcpuConf,
} from '../../main/nvmm/constants.ts';
import type { CpuidConf } from '../../main/nvmm/nvmm.ts';
import { onKvm, PAGE, Rig } from './rig.ts';
import { onEachBackend } from './suite.ts';

// The table of docs/backends.md, as far as it can be seen from here: who does what.

const NONE = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
const RFLAGS_IF = 0x200n;

onEachBackend('differences', (backend) => {
  const emulated = backend.name === 'emulated';
  let rig: Rig;
  beforeEach(() => void (rig = new Rig(backend, true)));
  afterEach(() => rig.close());

  const errnoOf = (act: () => void): string | null => {
    try {
      act();
      return null;
    } catch (error) {
      return (error as { errno?: string }).errno ?? String(error);
    }
  };

  it('what the library says of itself', () => {
    const { version, maxVcpus } = rig.nvmm.capability();
    expect(version).toBe(emulated ? 3 : 2);
    expect(maxVcpus).toBe(emulated ? Limit.VCPUS : 256);
  });

  it('hvaMap at host address 0', () => {
    const machine = rig.nvmm.machineCreate();
    // On kvm offset 0 is the tests' RAM, which another machine may map as well.
    expect(errnoOf(() => rig.nvmm.hvaMap(machine, 0, PAGE))).toBe(emulated ? 'EINVAL' : null);
  });

  it('gpaMap without READ', () => {
    const map = (): void => rig.nvmm.gpaMap(rig.machine, rig.host.ram + 6 * PAGE, 0x9000, PAGE, Prot.WRITE);
    expect(errnoOf(map)).toBe(emulated ? null : 'EINVAL');
  });

  it('gpaMap without EXEC', () => {
    const { bytes, ram } = rig.host;
    rig.nvmm.gpaMap(rig.machine, ram + 6 * PAGE, 0x9000, PAGE, Prot.READ);
    new DataView(bytes.buffer).setUint32(ram + 5 * PAGE + 9 * 8, 0x9007, true);
    bytes[ram + 6 * PAGE] = 0xf4;
    rig.nvmm.hvaWritten(ram + 6 * PAGE, 1);
    // jmp 0x9000
    rig.load('b800900000ffe0');
    expect(rig.exit()).toBe(emulated ? Exit.MEMORY : Exit.HALTED);
    if (emulated) expect([rig.vcpu.exit.memProt, rig.vcpu.exit.memGpa]).toEqual([Prot.EXEC, 0x9000]);
  });

  it('a CPUID leaf with an exit', () => {
    const conf: CpuidConf = { mask: false, exit: true, leaf: 0x4000_0099, set: NONE, del: NONE };
    const configure = (): void => rig.nvmm.vcpuConfigure(rig.machine, rig.vcpu, VcpuConf.CPUID, conf);
    expect(errnoOf(configure)).toBe(emulated ? null : 'ENOTSUP');
    if (!emulated) return;
    // eax = 0x40000099; cpuid
    rig.load('b8990000400fa2f4');
    expect(rig.exit()).toBe(Exit.CPUID);
    expect(rig.gpr(Gpr.RIP)).toBe(0x2005n);
    expect(rig.vcpu.exit.insnNpc).toBe(0x2007n);
    const state = rig.get(State.GPRS);
    state.setGpr(Gpr.RAX, 0x1234n);
    state.rip = rig.vcpu.exit.insnNpc;
    rig.set(State.GPRS);
    expect(rig.exit()).toBe(Exit.HALTED);
    expect(rig.gpr(Gpr.RAX)).toBe(0x1234n);
  });

  it('CPUID after the first run', () => {
    rig.load('f4');
    rig.exit();
    const conf: CpuidConf = { mask: true, exit: false, leaf: 1, set: NONE, del: NONE };
    const configure = (): void => rig.nvmm.vcpuConfigure(rig.machine, rig.vcpu, VcpuConf.CPUID, conf);
    expect(errnoOf(configure)).toBe(emulated ? null : 'EBUSY');
  });

  it('TPR_CHANGED', () => {
    rig.nvmm.vcpuConfigure(rig.machine, rig.vcpu, VcpuConf.TPR, { exitChanged: true });
    // cr8 = 5, 2, 7; hlt
    rig.load('b805000000440f22c0b802000000440f22c0b807000000440f22c0f4');
    const seen: number[] = [];
    while (rig.exit() === Exit.TPR_CHANGED) seen.push(rig.vcpu.exit.cr8);
    expect(rig.vcpu.exit.reason).toBe(Exit.HALTED);
    expect(rig.vcpu.exit.cr8).toBe(7);
    // Lowered once; a KVM that emulates ring 0 need not say so.
    if (emulated) expect(seen).toEqual([5, 2, 7]);
    else expect([[], [2]]).toContainEqual(seen);
  });

  it('NMI_READY', () => {
    // The handler, at 0x2080, is IRETQ; the guest spins.
    const tables = new Uint8Array(0x800);
    const view = new DataView(tables.buffer);
    view.setBigUint64(8, 0x00af_9b00_0000_ffffn, true);
    view.setUint32(0x100 + 16 * 2, (8 << 16) | 0x2080, true);
    view.setUint32(0x100 + 16 * 2 + 4, 0x8e00, true);
    rig.fill(0, tables);
    rig.load('ebfe'.padEnd(0x100, '0') + '48cf');
    rig.vcpu.state.setSegment(Seg.GDT, 0, 0, 0xff, 0x1000n);
    rig.vcpu.state.setSegment(Seg.IDT, 0, 0, 33 * 16 - 1, 0x1100n);
    rig.vcpu.state.setGpr(Gpr.RSP, 0x1800n);
    rig.set(State.ALL);
    rig.inject(EventType.INTR, 2);
    expect(rig.exit()).toBe(Exit.NMI_READY);
    expect(rig.gpr(Gpr.RIP)).toBe(0x2000n);
  });

  it('execution outside of memory: the assist can do nothing', () => {
    const { bytes, ram } = rig.host;
    new DataView(bytes.buffer).setUint32(ram + 5 * PAGE + 9 * 8, 0x9007, true);
    rig.load('b800900000ffe0');
    expect(rig.exit()).toBe(Exit.MEMORY);
    expect(errnoOf(() => rig.assist())).toBe('EFAULT');
    rig.use({ mem: () => undefined });
    expect(errnoOf(() => rig.assist())).toBe('EFAULT');
  });

  it('the shadow of MOV SS and STI that was set holds for one instruction', () => {
    rig.load('909090ebfe');
    rig.vcpu.state.rflags = 2n | RFLAGS_IF;
    rig.vcpu.state.intr = Intr.INT_SHADOW | Intr.INT_WINDOW_EXITING;
    rig.set(State.ALL);
    expect(rig.exit()).toBe(Exit.INT_READY);
    // A KVM that emulates ring 0 may go some steps further before it looks.
    if (emulated) expect(rig.gpr(Gpr.RIP)).toBe(0x2001n);
    else expect(rig.gpr(Gpr.RIP)).toBeGreaterThanOrEqual(0x2001n);
  });

  it('state that no processor can be in', () => {
    rig.load('f4');
    // Paging without protection.
    rig.vcpu.state.setCr(Cr.CR0, 0x8000_0010n);
    rig.set(State.CRS);
    expect(rig.exit()).toBe(emulated ? Exit.HALTED : Exit.INVALID);
  });

  it('RDPMC and INVD', () => {
    // invd; hlt
    rig.load('0f08f4');
    expect(rig.exit()).toBe(Exit.HALTED);
    // Without an IDT a fault is a triple fault: there are no counters anywhere.
    rig.load('31c90f33f4');
    rig.vcpu.state.setSegment(Seg.IDT, 0, 0, 0, 0n);
    rig.set(State.SEGS);
    expect(rig.exit()).toBe(Exit.SHUTDOWN);
  });

  it('CPUID: no FMA, no F16C', ({ skip }) => {
    // eax = 1; cpuid; hlt
    rig.load('b8010000000fa2f4');
    expect(rig.exit()).toBe(Exit.HALTED);
    const found = (rig.get(State.GPRS).gprLow(Gpr.RCX) >>> 12) & 0x20001;
    if (onKvm(backend) && found !== 0) skip('this KVM shows CPUID features that it was told to hide');
    expect(found).toBe(0);
  });
});
