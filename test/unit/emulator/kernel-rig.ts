import { expect } from 'vitest';
import { assemble } from '../../../assets/guests/assembler/assembler.ts';
import { EmulatorNvmm } from '../../../main/emulator/driver.ts';
import { privateBytes } from '../../../main/emulator/tables.ts';
import { longMode, protectedMode } from '../../../main/machine/boot/cpu-state.ts';
import { backendMemory, createMemory, GuestRam } from '../../../main/machine/memory.ts';
import { Exit, Gpr, Seg, State } from '../../../main/nvmm/constants.ts';
import type { VcpuState } from '../../../main/nvmm/layout.ts';

// A kernel and a program in the flat model, on the emulator alone: by handlers, or with everything translated at once.

export const CODE = 0x10000;
export const KERNEL = 0x11000;
export const GDT = 0x20000;
export const STACK = 0x30000;
const MAX_RUNS = 1000;
/** Selectors: kernel code and data, a program's in the order of SYSENTER, and data to change. */
export const Selector = {
  CODE: 8,
  DATA: 0x10,
  USER_CODE: 0x1b,
  USER_DATA: 0x23,
  SYSRET_CODE: 0x2b,
  CHANGING: 0x30,
};

export type Change = (state: VcpuState, ram: GuestRam) => void;

/** A machine of 4 MiB with a vCPU, whose state can be read; translated at once, or never. */
export function flatMachine(runs: number) {
  const memory = createMemory(4 * 2 ** 20, privateBytes(1));
  const nvmm = new EmulatorNvmm(backendMemory(memory), { translating: { runs, batch: 1 } });
  const machine = nvmm.machineCreate();
  const ram = new GuestRam(memory);
  ram.map(nvmm, machine);
  ram.attach(nvmm);
  const vcpu = nvmm.vcpuCreate(machine, 0);
  nvmm.getState(machine, vcpu, State.ALL);
  return { nvmm, machine, ram, vcpu };
}

/** Runs programs in the flat model of 32 or 64 bits until they leave with other than NONE; the state then. */
export function run(
  runs: number,
  bits: 32 | 64,
  program: string,
  kernel: string,
  change?: Change,
): VcpuState {
  const { nvmm, machine, ram, vcpu } = flatMachine(runs);
  for (const [at, text] of [
    [CODE, program],
    [KERNEL, kernel],
  ] as const) {
    ram.write(at, assemble(`bits ${bits}\n org ${at}\n${text}\n`).bytes);
  }
  const { state } = vcpu;
  (bits === 64 ? longMode : protectedMode)(state, ram, CODE);
  const codes = bits === 64 ? [0x00af9b00, 0x00affb00] : [0x00cf9b00, 0x00cffb00];
  const descriptors = [0, codes[0], 0x00cf9300, codes[1], 0x00cff300, codes[1], 0x00cf9300];
  descriptors.forEach((high, i) => {
    ram.writeU32(GDT + 8 * i, high === 0 ? 0 : 0xffff);
    ram.writeU32(GDT + 8 * i + 4, high);
  });
  state.setSegment(Seg.GDT, 0, 0, 8 * descriptors.length - 1, BigInt(GDT));
  state.setSegment(Seg.CS, Selector.CODE, bits === 64 ? 0xa9b : 0xc9b, 0xffff_ffff, 0n);
  for (const seg of [Seg.SS, Seg.DS, Seg.ES]) state.setSegment(seg, Selector.DATA, 0xc93, 0xffff_ffff, 0n);
  state.setGpr(Gpr.RSP, BigInt(STACK));
  state.setGpr(Gpr.RFLAGS, 2n);
  change?.(state, ram);
  nvmm.setState(machine, vcpu, State.ALL);
  for (let n = 0; n < MAX_RUNS && (n === 0 || vcpu.exit.reason === Exit.NONE); n++) nvmm.run(machine, vcpu);
  expect([Exit.HALTED, Exit.SHUTDOWN]).toContain(vcpu.exit.reason);
  nvmm.getState(machine, vcpu, State.ALL);
  nvmm.close();
  return state;
}

/** Ring 3 may use what is mapped: the tables of long mode say so. */
export function openToPrograms(ram: GuestRam): void {
  ram.writeU32(0x9000, 0xa007);
  ram.writeU32(0xa000, 0xb007);
  ram.writeU32(0xb000, 0x87);
}

export const tiers = [
  { name: 'handlers', runs: 0 },
  { name: 'translated', runs: 1 },
];
