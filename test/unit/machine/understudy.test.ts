import { describe, expect, it } from 'vitest';
import { assemble } from '../../../assets/guests/assembler/assembler.ts';
import { emulatedBackend } from '../../../main/emulator/backend.ts';
import { backendMemory, createMemory, GuestRam } from '../../../main/machine/memory.ts';
import { Understudy } from '../../../main/machine/understudy.ts';
import { Exit, Gpr, Intr, Msr, Seg, State, VcpuConf } from '../../../main/nvmm/constants.ts';
import type { AssistCallbacks } from '../../../main/nvmm/nvmm.ts';
import { longMode } from '../../conformance/rig.ts';

// The "hardware" here is the emulator, too: what the understudy leaves must be what hardware would have.

const CODE = 0x2000;
const DATA = 0x10000;
/** In the hole below 4 GiB. */
const DEVICE = 0xc000_0000;
const STEP = { step: true, breakpoints: [], watchpoints: [], exceptions: 0 };

function rig(text: string) {
  const memory = createMemory(8 * 2 ** 20, emulatedBackend.privateSize(2, 0));
  const ram = new GuestRam(memory);
  const nvmm = emulatedBackend.open(backendMemory(memory));
  const machine = nvmm.machineCreate();
  ram.map(nvmm, machine);
  ram.attach(nvmm);
  const vcpu = nvmm.vcpuCreate(machine, 0);
  const accesses: string[] = [];
  const callbacks: AssistCallbacks = {
    io: ({ in: input, port, size, data }) => {
      accesses.push(`${input ? 'in' : 'out'} ${port} ${size}`);
      if (input) data.setUint32(0, 0x12345678, true);
    },
    mem: ({ write, gpa, size, data }) => {
      accesses.push(`${write ? 'write' : 'read'} ${gpa.toString(16)} ${size}`);
      if (!write) data.setBigUint64(0, 0x1122334455667788n, true);
    },
  };
  nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CALLBACKS, callbacks);
  nvmm.vcpuConfigure(machine, vcpu, VcpuConf.DEBUG, STEP);
  // Two MiB at 0, and the device's, one to one.
  const entry = (at: number, low: number): void => {
    ram.write(at, new Uint8Array(new Uint32Array([low, 0]).buffer));
  };
  entry(0x3000, 0x4007);
  entry(0x4000, 0x5007);
  entry(0x4018, 0x6007);
  entry(0x5000, 0x87);
  entry(0x6000, DEVICE | 0x87);
  const write = (source: string): void => {
    ram.write(CODE, assemble(`bits 64\n org ${CODE}\n${source}\n`).bytes);
  };
  write(text);
  longMode(vcpu);
  const { state } = vcpu;
  state.setGpr(Gpr.RSP, 0x9000n);
  state.setGpr(Gpr.RSI, BigInt(DATA));
  state.setGpr(Gpr.RDI, BigInt(DEVICE));
  state.setGpr(Gpr.RCX, 3n);
  state.setGpr(Gpr.RDX, 0x3f8n);
  state.setGpr(Gpr.RAX, 0x55n);
  state.setSegment(Seg.GS, 0, 0xa93, 0xffff_ffff, 0x1111n);
  state.setMsr(Msr.KERNELGSBASE, 0x2222n);
  state.setMsr(Msr.TSC, 1_000_000n);
  nvmm.setState(machine, vcpu, State.ALL);
  const understudy = new Understudy(emulatedBackend, memory, 0);
  understudy.use(callbacks);
  return { nvmm, machine, vcpu, understudy, accesses, write };
}

/** All but the time stamp counter, which goes on by itself. */
function stateOf({ nvmm, machine, vcpu }: ReturnType<typeof rig>): string {
  nvmm.getState(machine, vcpu, State.ALL);
  const bytes = vcpu.state.bytes.slice();
  const at = vcpu.state.bytes.length - vcpu.state.fpu.length - 16;
  bytes.fill(0, at, at + 8);
  return Buffer.from(bytes).toString('hex');
}

describe('the understudy', () => {
  it.each(['popcnt rax, rcx', 'movd xmm1, edx', 'swapgs', 'stac', 'sub rcx, 4', 'push rdx'])(
    'leaves what hardware leaves: %s',
    (text) => {
      const [own, played] = [rig(text), rig(text)];
      own.nvmm.run(own.machine, own.vcpu);
      expect(own.vcpu.exit.reason).toBe(Exit.DEBUG);
      const exit = played.understudy.play(played.nvmm, played.machine, played.vcpu);
      expect(exit.reason).toBe(Exit.DEBUG);
      played.understudy.handBack(played.nvmm, played.machine, played.vcpu);
      expect(stateOf(played)).toBe(stateOf(own));
      played.understudy.close();
    },
  );

  it.each([
    { text: 'add [rdi], eax', accesses: ['read c0000000 4', 'write c0000000 4'] },
    { text: 'movups [rdi], xmm0', accesses: ['write c0000000 8', 'write c0000008 8'] },
    { text: 'rep outsb', accesses: ['out 1016 1', 'out 1016 1', 'out 1016 1'] },
  ])('finishes $text through the callbacks', ({ text, accesses }) => {
    const [own, played] = [rig(text), rig(text)];
    own.nvmm.run(own.machine, own.vcpu);
    if (own.vcpu.exit.reason === Exit.MEMORY) own.nvmm.assistMem(own.machine, own.vcpu);
    else own.nvmm.assistIo(own.machine, own.vcpu);
    const { understudy, nvmm, machine, vcpu } = played;
    expect(understudy.play(nvmm, machine, vcpu).reason).toBe(own.vcpu.exit.reason);
    understudy.assist();
    understudy.handBack(nvmm, machine, vcpu);
    expect(played.accesses).toEqual(accesses);
    expect(stateOf(played)).toBe(stateOf(own));
  });

  it('leaves what it can not finish to the caller, with the exit', () => {
    const { understudy, nvmm, machine, vcpu } = rig('in al, dx');
    const { reason } = understudy.play(nvmm, machine, vcpu);
    understudy.handBack(nvmm, machine, vcpu);
    expect([reason, vcpu.exit.reason, vcpu.exit.ioPort, vcpu.exit.ioNpc]).toEqual([
      Exit.IO,
      Exit.IO,
      0x3f8,
      BigInt(CODE + 1),
    ]);
    expect(vcpu.state.rip).toBe(BigInt(CODE));
  });

  it('sees code that was rewritten without a word', () => {
    const all = rig('inc eax');
    const { understudy, nvmm, machine, vcpu } = all;
    for (const [text, wanted] of [
      ['inc eax', 0x56n],
      ['dec eax', 0x55n],
    ] as const) {
      all.write(text);
      vcpu.state.rip = BigInt(CODE);
      nvmm.setState(machine, vcpu, State.GPRS);
      understudy.play(nvmm, machine, vcpu);
      understudy.handBack(nvmm, machine, vcpu);
      expect(vcpu.state.gpr(Gpr.RAX)).toBe(wanted);
    }
  });

  it('keeps the windows that the vCPU waits for, and its time stamp counter', () => {
    const { understudy, nvmm, machine, vcpu } = rig('nop');
    const tsc = vcpu.state.msr(Msr.TSC);
    vcpu.state.intr |= Intr.INT_WINDOW_EXITING;
    vcpu.state.rflags |= 0x200n;
    nvmm.setState(machine, vcpu, State.ALL);
    expect(understudy.play(nvmm, machine, vcpu).reason).toBe(Exit.DEBUG);
    understudy.handBack(nvmm, machine, vcpu);
    expect(vcpu.state.intr & Intr.INT_WINDOW_EXITING).not.toBe(0);
    expect(vcpu.exit.intr & Intr.INT_WINDOW_EXITING).not.toBe(0);
    expect(vcpu.state.msr(Msr.TSC)).toBe(tsc);
  });

  it('does not play where no instruction is to blame, or an event waits', () => {
    const { understudy, vcpu } = rig('nop');
    const { exit } = vcpu;
    const can = (hwcode: bigint, intr: number): boolean => {
      exit.bytes.fill(0);
      exit.reason = Exit.INVALID;
      exit.view.setBigUint64(8, hwcode, true);
      vcpu.state.intr = intr;
      exit.reflect(vcpu.state);
      return understudy.canPlay(exit);
    };
    expect(can(1n, 0)).toBe(true);
    expect(can(0xffff_ffff_ffff_ffffn, 0)).toBe(false);
    expect(can(1n, Intr.EVT_PENDING)).toBe(false);
  });
});
