import { createHash } from 'node:crypto';
import { EmulatorNvmm } from '../../main/emulator/driver.ts';
import { privateBytes } from '../../main/emulator/tables.ts';
import type { Translating } from '../../main/emulator/translate/translator.ts';
import { longMode, protectedMode } from '../../main/machine/boot/cpu-state.ts';
import { backendMemory, createMemory, GuestRam } from '../../main/machine/memory.ts';
import { Cr, Exit, Gpr, Msr, State } from '../../main/nvmm/constants.ts';
import type { Machine, Vcpu } from '../../main/nvmm/nvmm.ts';
import { Random } from './random.ts';
import { CODE, DATA, makeProgram, STACK, TABLE, type Program } from './tier-programs.ts';

/** The interpreter against the translator: the same programs, and everything that is left of them. */

const MIB = 2 ** 20;
const PAGE = 4096;
/** Runs of at most a millisecond each: no program takes more than a few. */
const MAX_RUNS = 2000;

/** After one run: at once, alone. */
export function translatingAfter(runs: number): Partial<Translating> {
  return runs === 1 ? { runs, batch: 1 } : { runs };
}

/** All of a program's code never stands at once. */
const FORGETFUL: Partial<Translating> = { runs: 1, batch: 1, modules: 3 };

/** One machine with a tier of its own. */
class Runner {
  private readonly nvmm: EmulatorNvmm;
  private readonly machine: Machine;
  private readonly vcpu: Vcpu;
  private readonly ram: GuestRam;

  constructor(translating: Partial<Translating>) {
    const memory = createMemory(4 * MIB, privateBytes(1));
    this.nvmm = new EmulatorNvmm(backendMemory(memory), { translating });
    this.machine = this.nvmm.machineCreate();
    this.ram = new GuestRam(memory);
    this.ram.map(this.nvmm, this.machine);
    this.ram.attach(this.nvmm);
    this.vcpu = this.nvmm.vcpuCreate(this.machine, 0);
  }

  /** Runs a program to its end; what is left, as text. */
  run(program: Program, bits: 32 | 64): string {
    const { nvmm, machine, vcpu, ram } = this;
    for (const page of [CODE, CODE + PAGE, DATA, DATA + PAGE, STACK - PAGE]) ram.zero(page, PAGE);
    ram.write(CODE, program.code);
    program.table.forEach((address, i) => ram.writeU32(DATA + TABLE + 8 * i, address));
    nvmm.getState(machine, vcpu, State.ALL);
    (bits === 64 ? longMode : protectedMode)(vcpu.state, ram, CODE);
    const { state } = vcpu;
    const { eax, ecx, edx, ebx, ebp, esi, edi, esp } = program.registers;
    [eax, ecx, edx, ebx, esp, ebp, esi, edi].forEach((value, i) => state.setGprHalves(i, value, 0));
    state.setGpr(Gpr.RFLAGS, 2n);
    // SSE, for the few vector instructions.
    state.setCr(Cr.CR4, state.cr(Cr.CR4) | 0x600n);
    nvmm.setState(machine, vcpu, State.ALL);
    const before = nvmm.counters(machine).instructions;
    for (let n = 0; n < MAX_RUNS; n++) {
      nvmm.run(machine, vcpu);
      if (vcpu.exit.reason !== Exit.NONE) break;
    }
    const { reason } = vcpu.exit;
    const where = reason === Exit.MEMORY ? vcpu.exit.memGpa : 0;
    nvmm.getState(machine, vcpu, State.ALL);
    vcpu.state.setMsr(Msr.TSC, 0n);
    const registers = Array.from({ length: 18 }, (_, i) => vcpu.state.gpr(i).toString(16)).join(' ');
    const hash = createHash('sha1').update(vcpu.state.bytes);
    const page = new Uint8Array(PAGE);
    for (const at of [CODE, DATA, DATA + PAGE, STACK - PAGE]) {
      ram.read(at, page);
      hash.update(page);
    }
    const count = nvmm.counters(machine).instructions - before;
    return `exit ${reason} ${where}, ${count} instructions, ${registers}, ${hash.digest('hex')}`;
  }

  /** How often its translations were dropped to make room. */
  get evictions(): number {
    return this.nvmm.counters(this.machine).evictions;
  }

  close(): void {
    this.nvmm.close();
  }
}

export interface TierFailure {
  program: number;
  bits: number;
  translating: Partial<Translating>;
  wanted: string;
  got: string;
}

/** Compares `count` programs of a seed; `progress` hears of each hundred. */
export function compareTiers(
  seed: number,
  count: number,
  progress: (done: number) => void = () => undefined,
): { failures: TierFailure[]; ends: Map<string, number>; evictions: number } {
  const ways = [translatingAfter(1), translatingAfter(2), translatingAfter(7), FORGETFUL];
  const reference = new Runner(translatingAfter(0));
  const others = ways.map((translating) => ({ translating, runner: new Runner(translating) }));
  const failures: TierFailure[] = [];
  const ends = new Map<string, number>();
  for (let i = 0; i < count && failures.length < 5; i++) {
    const program = makeProgram(new Random(seed, i));
    const bits = i % 2 === 0 ? 64 : 32;
    const wanted = reference.run(program, bits);
    const end = wanted.slice(0, wanted.indexOf(' ', 5));
    ends.set(end, (ends.get(end) ?? 0) + 1);
    for (const { translating, runner } of others) {
      const got = runner.run(program, bits);
      if (got !== wanted) failures.push({ program: i, bits, translating, wanted, got });
    }
    if (i % 100 === 99) progress(i + 1);
  }
  const evictions = others.reduce((sum, { runner }) => sum + runner.evictions, 0);
  for (const { runner } of [{ runner: reference }, ...others]) runner.close();
  return { failures, ends, evictions };
}
