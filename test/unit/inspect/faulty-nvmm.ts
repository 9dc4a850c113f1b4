import { Exit, Gpr, State } from '../../../main/nvmm/constants.ts';
import { DelegatingNvmm } from '../../../main/nvmm/delegate.ts';
import type { InstructionTime, Machine, Nvmm, Vcpu } from '../../../main/nvmm/nvmm.ts';

/** What is wrong with a backend, and at which count of instructions. */
export interface Fault {
  kind: 'exit value' | 'assist' | 'flag' | 'memory';
  at: number;
}

/** Where the fault `memory` writes. */
export const SPOILT = 0x300000;
const CARRY = 1n;

/** A backend that does one thing wrong. */
export class FaultyNvmm extends DelegatingNvmm {
  private readonly fault: Fault;
  private time: InstructionTime | null = null;
  override readonly countInstructions: NonNullable<Nvmm['countInstructions']>;

  constructor(real: Nvmm, fault: Fault) {
    super(real);
    this.fault = fault;
    this.countInstructions = (machine, vcpu, random) => {
      this.time = real.countInstructions!(machine, vcpu, random);
      return this.time;
    };
  }

  private is(kind: Fault['kind']): boolean {
    return this.fault.kind === kind && this.time!.count === this.fault.at;
  }

  /** Instructions count when they are done: the fault is in the one that is number `at`, from 0. */
  override run(machine: Machine, vcpu: Vcpu): void {
    const { at, kind } = this.fault;
    const time = this.time!;
    const { limit } = time;
    const within = time.count <= at && limit > at && (kind === 'flag' || kind === 'memory');
    if (within) time.limit = at + 1;
    this.real.run(machine, vcpu);
    time.limit = limit;
    if (!within || time.count !== at + 1 || vcpu.exit.reason !== Exit.NONE) return;
    this.spoil(machine, vcpu);
    if (limit > at + 1) this.real.run(machine, vcpu);
  }

  private spoil(machine: Machine, vcpu: Vcpu): void {
    if (this.fault.kind === 'memory') {
      const { hva } = this.real.gpaToHva(machine, SPOILT);
      this.poke(hva);
      return;
    }
    this.real.getState(machine, vcpu, State.GPRS);
    vcpu.state.rflags &= ~CARRY;
    this.real.setState(machine, vcpu, State.GPRS);
  }

  /** Set by the test: the shared memory that host addresses are in. */
  poke: (hva: number) => void = () => undefined;

  override setState(machine: Machine, vcpu: Vcpu, flags: number): void {
    // The VMM answers IN: the value arrives with a bit flipped.
    if (this.is('exit value') && vcpu.exit.reason === Exit.IO && (flags & State.GPRS) !== 0) {
      vcpu.state.setGpr(Gpr.RAX, vcpu.state.gpr(Gpr.RAX) ^ 4n);
    }
    this.real.setState(machine, vcpu, flags);
  }

  override assistMem(machine: Machine, vcpu: Vcpu): void {
    const wrong = this.is('assist');
    this.real.assistMem(machine, vcpu);
    if (!wrong) return;
    // As if the value had been sign-extended.
    this.real.getState(machine, vcpu, State.GPRS);
    vcpu.state.setGpr(Gpr.RAX, vcpu.state.gpr(Gpr.RAX) | 0xffff_0000n);
    this.real.setState(machine, vcpu, State.GPRS);
  }
}
