import { describe, expect, it } from 'vitest';
import { emulatedBackend } from '../../../main/emulator/backend.ts';
import { Exit, Gpr, State } from '../../../main/nvmm/constants.ts';
import type { Machine, Nvmm, Vcpu } from '../../../main/nvmm/nvmm.ts';

const PRIVATE = 0x10000;

interface Made {
  nvmm: Nvmm;
  machine: Machine;
  vcpu: Vcpu;
  memory: WebAssembly.Memory;
  /** Where the code is; the page before it is free. */
  hva: number;
}

/** A machine with one vCPU and pages of code at 0xffff0000, as calc-vm makes it. */
function machineWith(code: ArrayLike<number>, prot = 5): Made {
  const privateSize = emulatedBackend.privateSize(1, 0);
  const pages = Math.ceil((PRIVATE + privateSize + 0x10000) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const nvmm = emulatedBackend.open({ memory, privateOffset: PRIVATE, privateSize });
  const size = Math.ceil(code.length / 4096) * 4096;
  const hva = pages * 65536 - size;
  const machine = nvmm.machineCreate();
  const vcpu = nvmm.vcpuCreate(machine, 0);
  nvmm.hvaMap(machine, hva, size);
  for (let at = 0; at < size; at += 4096) nvmm.gpaMap(machine, hva + at, 0xffff0000 + at, 4096, prot);
  new Uint8Array(memory.buffer).set(code, hva);
  return { nvmm, machine, vcpu, memory, hva };
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

/** MOV AX, imm16 at the end of a page with its immediate in the next, which the loop increments; BX sums AX up. */
const STRADDLING = [
  { at: 0x0000, bytes: [0xe9, 0xfc, 0x0f] }, // jmp 0xfff
  { at: 0x0fff, bytes: [0xb8, 0x01, 0x00] }, // again: mov ax, 1
  { at: 0x1002, bytes: [0x01, 0xc3] }, // add bx, ax
  { at: 0x1004, bytes: [0x2e, 0xff, 0x06, 0x00, 0x10] }, // inc word [cs:0x1000]
  { at: 0x1009, bytes: [0x49, 0x75, 0xf3] }, // dec cx; jnz again
  { at: 0x100c, bytes: [0xf4] }, // hlt
];

describe('an instruction over a page end', () => {
  it('is decoded anew when its second part is written, or mapped elsewhere', () => {
    const code = new Uint8Array(0x2000);
    for (const { at, bytes } of STRADDLING) code.set(bytes, at);
    const { nvmm, machine, vcpu, memory, hva } = machineWith(code, 7);
    const sumOf = (rounds: bigint): bigint => {
      vcpu.state.rip = 0n;
      vcpu.state.setGpr(Gpr.RBX, 0n);
      vcpu.state.setGpr(Gpr.RCX, rounds);
      nvmm.setState(machine, vcpu, State.GPRS);
      do nvmm.run(machine, vcpu);
      while (vcpu.exit.reason === Exit.NONE);
      expect(vcpu.exit.reason).toBe(Exit.HALTED);
      nvmm.getState(machine, vcpu, State.GPRS);
      return vcpu.state.gpr(Gpr.RBX);
    };
    nvmm.getState(machine, vcpu, State.GPRS);
    expect(sumOf(2000n)).toBe(BigInt.asUintN(16, (2000n * 2001n) / 2n));
    // The same page elsewhere, where the immediate is 100.
    const other = hva - 0x1000;
    const bytes = new Uint8Array(memory.buffer);
    bytes.copyWithin(other, hva + 0x1000, hva + 0x2000);
    bytes.set([100, 0], other);
    nvmm.gpaUnmap(machine, hva + 0x1000, 0xffff1000, 0x1000);
    nvmm.hvaMap(machine, other, 0x1000);
    nvmm.gpaMap(machine, other, 0xffff1000, 0x1000, 7);
    expect(sumOf(3n)).toBe(100n + 101n + 102n);
    nvmm.close();
  });
});

describe('a guest that leaves again and again', () => {
  it('is translated as well', () => {
    // again: out 0x80, al; dec cx; jnz again; hlt. Each run ends with the OUT.
    const { nvmm, machine, vcpu } = machineWith([0xe6, 0x80, 0x49, 0x75, 0xfb, 0xf4]);
    nvmm.getState(machine, vcpu, State.GPRS);
    vcpu.state.rip = 0n;
    vcpu.state.setGpr(Gpr.RCX, 0n);
    nvmm.setState(machine, vcpu, State.GPRS);
    const regions = (): number => nvmm.counters!(machine).regions;
    // Hot blocks wait for company a little: as many rounds as that takes.
    for (let rounds = 0; regions() === 0; rounds++) {
      expect(rounds).toBeLessThan(60_000);
      do nvmm.run(machine, vcpu);
      while (vcpu.exit.reason === Exit.NONE);
      expect(vcpu.exit.reason).toBe(Exit.IO);
    }
    nvmm.close();
  });
});
