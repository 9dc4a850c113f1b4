import { describe, expect, it } from 'vitest';
import { emulatedBackend } from '../../../main/emulator/backend.ts';
import { Exit, Gpr, State } from '../../../main/nvmm/constants.ts';
import type { Machine, Nvmm, Vcpu } from '../../../main/nvmm/nvmm.ts';

const PRIVATE = 0x10000;

/** A machine with one vCPU and one page of code at 0xffff0000, as calc-vm makes it. */
function machineWith(code: readonly number[]): { nvmm: Nvmm; machine: Machine; vcpu: Vcpu } {
  const privateSize = emulatedBackend.privateSize(1, 0);
  const pages = Math.ceil((PRIVATE + privateSize + 0x10000) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const nvmm = emulatedBackend.open({ memory, privateOffset: PRIVATE, privateSize });
  const hva = pages * 65536 - 4096;
  const machine = nvmm.machineCreate();
  const vcpu = nvmm.vcpuCreate(machine, 0);
  nvmm.hvaMap(machine, hva, 4096);
  nvmm.gpaMap(machine, hva, 0xffff0000, 4096, 5);
  new Uint8Array(memory.buffer).set(code, hva);
  return { nvmm, machine, vcpu };
}

describe('calc-vm', () => {
  it.each([
    { name: 'a small sum', a: 3n, b: 4n, wanted: 7n },
    { name: 'sums wrap at 16 bits: reset state is 16-bit code', a: 65535n, b: 1n, wanted: 0n },
  ])('$name', ({ a, b, wanted }) => {
    const { nvmm, machine, vcpu } = machineWith([0x01, 0xc3, 0xf4]);
    nvmm.getState(machine, vcpu, State.GPRS);
    vcpu.state.rip = 0n;
    vcpu.state.setGpr(Gpr.RAX, a);
    vcpu.state.setGpr(Gpr.RBX, b);
    nvmm.setState(machine, vcpu, State.GPRS);
    for (let i = 0; i < 100; i++) {
      nvmm.run(machine, vcpu);
      if (vcpu.exit.reason !== Exit.NONE) break;
    }
    expect(vcpu.exit.reason).toBe(Exit.HALTED);
    nvmm.getState(machine, vcpu, State.GPRS);
    expect(vcpu.state.gpr(Gpr.RBX)).toBe(wanted);
    expect(vcpu.state.rip).toBe(3n);
    nvmm.close();
  });
});
