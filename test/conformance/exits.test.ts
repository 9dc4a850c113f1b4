import { afterEach, beforeEach, expect, it } from 'vitest';
import { EventType, Exit, Gpr, Intr, Seg, State, VcpuConf } from '../../main/nvmm/constants.ts';
import { onKvm, Rig } from './rig.ts';
import { onEachBackend } from './suite.ts';

const RFLAGS_IF = 0x200;

/**
 * A small kernel: port 1, STI, then counts in RBX for ever. Handlers at 0x2040 and every 64 bytes on: interrupt 32
 * writes port 2, NMI port 3, #GP port 4 (EAX = error code), #UD port 5; each ends with IRETQ.
 */
function kernel(start: string): string {
  const handlers = ['66ba0200ee48cf', '66ba0300ee48cf', '66ba040058ef48cf', '66ba0500ee48cf'];
  return [start, ...handlers].map((code) => code.padEnd(128, '0')).join('');
}
const COUNTING = kernel('66ba0100eefb48ffc3ebfb');

/** GDT at 0x1000 with code at selector 8, IDT at 0x1100, stack below 0x1800: all in the data page. */
function boot(rig: Rig, code: string): number[] {
  const ports: number[] = [];
  rig.use({ io: ({ port }) => void ports.push(port) });
  const tables = new Uint8Array(0x800);
  const view = new DataView(tables.buffer);
  view.setBigUint64(8, 0x00af_9b00_0000_ffffn, true);
  [32, 2, 13, 6].forEach((vector, i) => {
    const at = 0x100 + 16 * vector;
    view.setUint32(at, (8 << 16) | (0x2040 + 64 * i), true);
    view.setUint32(at + 4, 0x8e00, true);
  });
  rig.fill(0, tables);
  rig.load(code);
  const { state } = rig.vcpu;
  state.setSegment(Seg.GDT, 0, 0, 0xff, 0x1000n);
  state.setSegment(Seg.IDT, 0, 0, 33 * 16 - 1, 0x1100n);
  state.setGpr(Gpr.RSP, 0x1800n);
  rig.set(State.ALL);
  return ports;
}

/** Runs up to the next port. */
function port(rig: Rig, ports: number[]): number | string {
  for (;;) {
    const reason = rig.exit();
    if (reason === Exit.NMI_READY || reason === Exit.INT_READY) continue;
    if (reason !== Exit.IO) return `exit ${reason}`;
    rig.assist();
    return ports[ports.length - 1];
  }
}

onEachBackend('exits', (backend) => {
  let rig: Rig;
  beforeEach(() => void (rig = new Rig(backend, true)));
  afterEach(() => rig.close());

  it('HALTED: RIP is behind HLT', () => {
    rig.load('90f4');
    expect(rig.exit()).toBe(Exit.HALTED);
    expect(rig.gpr(Gpr.RIP)).toBe(0x2002n);
    expect(rig.vcpu.exit.rflagsLow & RFLAGS_IF).toBe(0);
  });

  it('NONE comes now and then from a guest that spins', () => {
    rig.load('ebfe');
    for (let i = 0; i < 3; i++) {
      rig.nvmm.run(rig.machine, rig.vcpu);
      expect(rig.vcpu.exit.reason).toBe(Exit.NONE);
      expect(rig.vcpu.exit.rflagsLow).toBe(2);
    }
  });

  it('STOPPED, once for each stop before a run', () => {
    rig.load('ebfe');
    rig.nvmm.vcpuStop(rig.vcpu);
    rig.nvmm.vcpuStop(rig.nvmm.vcpuShare(rig.vcpu));
    rig.nvmm.run(rig.machine, rig.vcpu);
    expect(rig.vcpu.exit.reason).toBe(Exit.STOPPED);
    rig.nvmm.run(rig.machine, rig.vcpu);
    expect(rig.vcpu.exit.reason).toBe(Exit.NONE);
    expect(rig.gpr(Gpr.RIP)).toBe(0x2000n);
  });

  it('a stop keeps what was set before it', () => {
    rig.load('f4');
    rig.vcpu.state.setGpr(Gpr.RAX, 77n);
    rig.set(State.GPRS);
    rig.nvmm.vcpuStop(rig.vcpu);
    rig.nvmm.run(rig.machine, rig.vcpu);
    expect(rig.vcpu.exit.reason).toBe(Exit.STOPPED);
    expect(rig.exit()).toBe(Exit.HALTED);
    expect(rig.gpr(Gpr.RAX)).toBe(77n);
  });

  it('SHUTDOWN on a triple fault', () => {
    rig.load('0f0b');
    rig.vcpu.state.setSegment(Seg.IDT, 0, 0, 0, 0n);
    rig.set(State.SEGS);
    expect(rig.exit()).toBe(Exit.SHUTDOWN);
  });

  it('MEMORY: reads, writes and their addresses', () => {
    // eax = 0x6ff8, but page 6 of the tables is sent to 0x9000: mov rbx, [rax]; mov [rax], ecx; hlt
    const { bytes, ram } = rig.host;
    new DataView(bytes.buffer).setUint32(ram + 5 * 4096 + 8 * 6, 0x9003, true);
    rig.load('b8f86f0000488b188908f4');
    expect(rig.exit()).toBe(Exit.MEMORY);
    expect([rig.vcpu.exit.memProt, rig.vcpu.exit.memGpa]).toEqual([1, 0x9ff8]);
    rig.use({ mem: ({ write, data }) => void (write || data.setBigUint64(0, 5n, true)) });
    rig.assist();
    expect(rig.exit()).toBe(Exit.MEMORY);
    expect([rig.vcpu.exit.memProt, rig.vcpu.exit.memGpa]).toEqual([2, 0x9ff8]);
    expect(rig.gpr(Gpr.RBX)).toBe(5n);
    rig.assist();
    expect(rig.exit()).toBe(Exit.HALTED);
  });

  it('MEMORY: execution outside of memory', () => {
    const { bytes, ram } = rig.host;
    new DataView(bytes.buffer).setUint32(ram + 5 * 4096 + 8 * 6, 0x9003, true);
    rig.load('b800600000ffe0');
    expect(rig.exit()).toBe(Exit.MEMORY);
    expect([rig.vcpu.exit.memProt, rig.vcpu.exit.memGpa]).toEqual([4, 0x9000]);
    expect(() => rig.assist()).toThrow('nvmm_assist_mem');
  });

  it('RDMSR and WRMSR: answered, and refused with #GP', () => {
    // ecx = 0x1b; rdmsr; ecx = 0x1b; wrmsr; ecx = 0x1b; rdmsr
    const ports = boot(rig, kernel('b91b0000000f320f300f32f4'));
    expect(rig.exit()).toBe(Exit.RDMSR);
    expect(rig.vcpu.exit.msr).toBe(0x1b);
    expect(rig.gpr(Gpr.RIP)).toBe(0x2005n);
    expect(rig.vcpu.exit.rdmsrNpc).toBe(0x2007n);
    const state = rig.get(State.GPRS);
    state.setGpr(Gpr.RAX, 0xfee0_0900n);
    state.setGpr(Gpr.RDX, 0x12n);
    state.rip = rig.vcpu.exit.rdmsrNpc;
    rig.set(State.GPRS);
    expect(rig.exit()).toBe(Exit.WRMSR);
    expect(rig.vcpu.exit.msrValue).toBe(0x12_fee0_0900n);
    expect(rig.vcpu.exit.wrmsrNpc).toBe(0x2009n);
    rig.get(State.GPRS).rip = 0x2009n;
    rig.set(State.GPRS);
    expect(rig.exit()).toBe(Exit.RDMSR);
    rig.inject(EventType.EXCP, 13);
    expect(port(rig, ports)).toBe(4);
    // The fault is at the instruction, to which IRET returns.
    expect(rig.exit()).toBe(Exit.RDMSR);
    expect(rig.gpr(Gpr.RIP)).toBe(0x2009n);
  });

  it('MSRs of the guest, without exits', () => {
    // ecx = 0xc0000102 (KERNELGSBASE); eax = 0x1000; edx = 0; wrmsr; rdmsr; hlt
    rig.load('b9020100c0b80010000031d20f300f32f4');
    expect(rig.exit()).toBe(Exit.HALTED);
    expect(rig.gpr(Gpr.RAX)).toBe(0x1000n);
    expect(rig.get(State.MSRS).msr(5)).toBe(0x1000n);
  });

  it('CPUID: NVMM, the number of the vCPU, changes of its own', ({ skip }) => {
    const vcpu = rig.nvmm.vcpuCreate(rig.machine, 7);
    rig.nvmm.vcpuConfigure(rig.machine, vcpu, VcpuConf.CPUID, {
      mask: true,
      exit: false,
      leaf: 1,
      set: { eax: 0, ebx: 0, ecx: 1 << 21, edx: 0 },
      del: { eax: 0, ebx: 0, ecx: 1, edx: 0 },
    });
    const ask = (leaf: number): number[] => {
      rig.load('0fa2f4');
      vcpu.state.bytes.set(rig.vcpu.state.bytes);
      vcpu.state.setGpr(Gpr.RAX, BigInt(leaf));
      rig.nvmm.setState(rig.machine, vcpu, State.ALL);
      do rig.nvmm.run(rig.machine, vcpu);
      while (vcpu.exit.reason === Exit.NONE);
      rig.nvmm.getState(rig.machine, vcpu, State.GPRS);
      return [Gpr.RAX, Gpr.RBX, Gpr.RCX, Gpr.RDX].map((gpr) => vcpu.state.gprLow(gpr));
    };
    const words = new Uint32Array(ask(0x4000_0000).slice(1));
    expect(Buffer.from(words.buffer).toString('latin1')).toBe('___ NVMM ___');
    const [, ebx, ecx, edx] = ask(1);
    expect(ebx >>> 24).toBe(7);
    if (onKvm(backend) && (ecx & 1) !== 0) {
      skip('this KVM shows CPUID features that it was told to hide');
    }
    expect(ecx & 1).toBe(0);
    expect((ecx >>> 21) & 1).toBe(1);
    // Hypervisor, no VMX, no AVX, no MONITOR; APIC, PAE, FXSR, SSE2.
    expect([ecx >>> 31, (ecx >>> 5) & 1, (ecx >>> 28) & 1, (ecx >>> 3) & 1]).toEqual([1, 0, 0, 0]);
    for (const bit of [6, 9, 24, 26]) expect((edx >>> bit) & 1).toBe(1);
  });

  it.each([
    { name: 'MONITOR', code: '0f01c8' },
    { name: 'VMMCALL', code: '0f01d9', native: true },
    { name: 'UD2', code: '0f0b', native: true },
  ])('$name is not executed', ({ code, native }) => {
    const ports = boot(rig, kernel(code));
    const reason = rig.exit();
    if (native) {
      expect(reason).toBe(Exit.IO);
      rig.assist();
      expect(ports).toEqual([5]);
    } else {
      // An exit of its own where the hardware has one, #UD where CPUID hides the instruction.
      expect([Exit.MONITOR, Exit.IO]).toContain(reason);
    }
  });

  it('interrupts, NMIs and exceptions reach their handlers', () => {
    const ports = boot(rig, COUNTING);
    expect(port(rig, ports)).toBe(1);
    while ((rig.vcpu.exit.rflagsLow & RFLAGS_IF) === 0) rig.nvmm.run(rig.machine, rig.vcpu);
    rig.interrupt(32);
    expect(port(rig, ports)).toBe(2);
    rig.inject(EventType.EXCP, 13, 0x1238);
    expect(rig.exit()).toBe(Exit.IO);
    expect(rig.gpr(Gpr.RAX) & 0xffffn).toBe(0x1238n);
    rig.assist();
    rig.inject(EventType.EXCP, 6);
    expect(port(rig, ports)).toBe(5);
    rig.interrupt(2);
    expect(port(rig, ports)).toBe(3);
    expect(rig.vcpu.exit.intr & Intr.NMI_WINDOW_EXITING).toBe(Intr.NMI_WINDOW_EXITING);
    expect(rig.exit()).toBe(Exit.NMI_READY);
    expect(rig.vcpu.exit.intr & Intr.NMI_WINDOW_EXITING).toBe(0);
  });

  it('INT_READY when interrupts are on again, and not in the shadow of STI', () => {
    // port 1; sti; nop; and round and round
    const ports = boot(rig, kernel('66ba0100eefb90ebfe'));
    expect(port(rig, ports)).toBe(1);
    rig.get(State.INTR).intr |= Intr.INT_WINDOW_EXITING;
    rig.set(State.INTR);
    expect(rig.exit()).toBe(Exit.INT_READY);
    // An emulating host may go a step further before it looks.
    expect([0x2007n, 0x2008n]).toContain(rig.gpr(Gpr.RIP));
    expect(rig.vcpu.exit.intr & (Intr.INT_WINDOW_EXITING | Intr.INT_SHADOW)).toBe(0);
    rig.interrupt(32);
    expect(port(rig, ports)).toBe(2);
  });

  it('a window stays shut while interrupts are off', () => {
    const ports = boot(rig, kernel('66ba010031c9ffc975fceef4'));
    rig.get(State.INTR).intr |= Intr.INT_WINDOW_EXITING;
    rig.vcpu.state.setGpr(Gpr.RCX, 0n);
    rig.set(State.INTR);
    // The loop goes round 2^32 times: it is cut short from outside.
    rig.nvmm.run(rig.machine, rig.vcpu);
    expect(rig.vcpu.exit.reason).toBe(Exit.NONE);
    expect(rig.vcpu.exit.intr & Intr.INT_WINDOW_EXITING).toBe(Intr.INT_WINDOW_EXITING);
    expect(ports).toEqual([]);
  });

  it.each([0, 2, 3, 32, 255])('exception %i is refused by the run', (vector) => {
    rig.load('f4');
    rig.inject(EventType.EXCP, vector);
    expect(() => rig.nvmm.run(rig.machine, rig.vcpu)).toThrow('EINVAL');
    expect(rig.exit()).toBe(Exit.HALTED);
  });
});
