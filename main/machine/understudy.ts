import { Exit, Intr, Msr, Seg, State, VcpuConf } from '../nvmm/constants.ts';
import { portableCpuid } from '../nvmm/cpu-model.ts';
import { NvmmError } from '../nvmm/errors.ts';
import type { VcpuExit } from '../nvmm/layout.ts';
import type { AssistCallbacks, Backend, Machine, Nvmm, Vcpu } from '../nvmm/nvmm.ts';
import type { SharedMemory } from './memory.ts';
import { backendMemory, GuestRam } from './memory.ts';

/**
 * Stands in for hardware, one instruction at a time: what a backend gives up on (INVALID, with the hardware's code for
 * it) our emulator runs, over the same memory, with the vCPU's state there and back. On processors with virtualization
 * that is next to nothing; a KVM without has an emulator of ring 0 that lacks much of what kernels use.
 */

/** hwcode where the processor refused the vCPU's state: there is no instruction to blame. */
const NO_ENTRY = 0xffff_ffff_ffff_ffffn;

/** What the vCPU's own backend goes on with: windows that it watches, NMIs that it knows of. */
const WINDOWS = Intr.INT_WINDOW_EXITING | Intr.NMI_WINDOW_EXITING;

/** An exception of the instruction, and one of that one's delivery: more is a triple fault. */
const MOST_RUNS = 4;

/** L of a code segment's attributes. */
const CODE_64 = 1 << 9;
/** Bytes. */
const LONGEST_INSTRUCTION = 15n;

/** What the understudy works with, once it has been needed. */
interface Stage {
  nvmm: Nvmm;
  machine: Machine;
  vcpu: Vcpu;
}

export class Understudy {
  private readonly backend: Backend;
  private readonly memory: SharedMemory;
  private readonly cpuid: number;
  private callbacks: AssistCallbacks = {};
  private stage: Stage | null = null;

  /** `backend` is the emulator, `cpuid` the number of the vCPU. */
  constructor(backend: Backend, memory: SharedMemory, cpuid: number) {
    this.backend = backend;
    this.memory = memory;
    this.cpuid = cpuid;
  }

  /** Who answers accesses to devices. Before the first play. */
  use(callbacks: AssistCallbacks): void {
    this.callbacks = callbacks;
  }

  /** Whether the INVALID exit of a vCPU is about an instruction, and nothing is in its way. */
  canPlay({ hwcode, intr }: VcpuExit): boolean {
    return hwcode !== NO_ENTRY && (intr & Intr.EVT_PENDING) === 0;
  }

  /**
   * Runs the instruction that `vcpu`, a vCPU of `nvmm`, stands at. Its exit is DEBUG when the instruction is done, or
   * what the instruction asks for; then the state is that of before, and `assist` or the caller does the rest.
   */
  play(nvmm: Nvmm, machine: Machine, vcpu: Vcpu): VcpuExit {
    this.stage ??= this.enter();
    const { stage } = this;
    nvmm.getState(machine, vcpu, State.ALL);
    stage.vcpu.state.bytes.set(vcpu.state.bytes);
    stage.vcpu.state.intr &= Intr.INT_SHADOW;
    stage.nvmm.setState(stage.machine, stage.vcpu, State.ALL);
    this.forget(stage, vcpu);
    for (let runs = 0; runs < MOST_RUNS; runs++) {
      stage.nvmm.run(stage.machine, stage.vcpu);
      if ((stage.vcpu.exit.intr & Intr.EVT_PENDING) === 0) break;
    }
    return stage.vcpu.exit;
  }

  /** Finishes an exit MEMORY, or IO of a string instruction, through the callbacks. */
  assist(): void {
    const { nvmm, machine, vcpu } = this.stage!;
    if (vcpu.exit.reason === Exit.MEMORY) nvmm.assistMem(machine, vcpu);
    else nvmm.assistIo(machine, vcpu);
  }

  /** Gives the vCPU the state that it has after the play. */
  handBack(nvmm: Nvmm, machine: Machine, vcpu: Vcpu): void {
    const stage = this.stage!;
    const { state } = vcpu;
    stage.nvmm.getState(stage.machine, stage.vcpu, State.ALL);
    const windows = state.intr & WINDOWS;
    // The counter is the one that was read: a backend leaves it alone then, by NVMM's rule.
    const tsc = state.msr(Msr.TSC);
    state.bytes.set(stage.vcpu.state.bytes);
    state.intr = (state.intr & Intr.INT_SHADOW) | windows;
    state.setMsr(Msr.TSC, tsc);
    nvmm.setState(machine, vcpu, State.ALL);
    vcpu.exit.bytes.set(stage.vcpu.exit.bytes);
    vcpu.exit.reflect(state);
  }

  /** The emulator on this thread, with a machine of its own that has the same memory. */
  private enter(): Stage {
    const nvmm = this.backend.open(backendMemory(this.memory));
    const machine = nvmm.machineCreate();
    new GuestRam(this.memory).map(nvmm, machine);
    const vcpu = nvmm.vcpuCreate(machine, this.cpuid);
    nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CALLBACKS, this.callbacks);
    for (const conf of portableCpuid()) nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CPUID, conf);
    const one = { step: true, breakpoints: [], watchpoints: [], exceptions: 0 };
    nvmm.vcpuConfigure(machine, vcpu, VcpuConf.DEBUG, one);
    return { nvmm, machine, vcpu };
  }

  /** The guest may have rewritten its code since the emulator saw it: an instruction is on one page, or on two. */
  private forget({ nvmm, machine, vcpu: own }: Stage, { state }: Vcpu): void {
    // 64-bit code has no base, and linear addresses of other code have 32 bits.
    const long = (state.attrib(Seg.CS) & CODE_64) !== 0;
    const base = long ? 0n : state.base(Seg.CS);
    for (const ahead of [0n, LONGEST_INSTRUCTION - 1n]) {
      const at = BigInt.asUintN(long ? 64 : 32, base + state.rip + ahead);
      try {
        const { gpa } = nvmm.gvaToGpa(machine, own, Number(at & 0xffff_ffffn), Number(at >> 32n));
        nvmm.hvaWritten(nvmm.gpaToHva(machine, gpa).hva, 1);
      } catch (error) {
        // Not mapped: then nothing of it has been decoded.
        if (!(error instanceof NvmmError)) throw error;
      }
    }
  }

  close(): void {
    this.stage?.nvmm.close();
    this.stage = null;
  }
}
