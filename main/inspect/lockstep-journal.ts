import { Exit, Gpr, Limit, State, StateOffset, VcpuConf } from '../nvmm/constants.ts';
import { DelegatingNvmm } from '../nvmm/delegate.ts';
import type {
  AssistCallbacks,
  CpuidConf,
  DebugConf,
  InstructionTime,
  IoAccess,
  Machine,
  MemAccess,
  Nvmm,
  TprConf,
  Vcpu,
} from '../nvmm/nvmm.ts';

/** One access of an assist, as it was answered. */
export interface Access {
  /** Port or guest-physical address. */
  address: number;
  write: boolean;
  bytes: Uint8Array;
}

/**
 * What a VMM did with a vCPU, so that it can be done with another one, on another backend: the journal of the verbs
 * that change anything, each with the count of instructions (or of steps) at which it came.
 */
export type Action =
  /** It ran until this exit (the bytes of a struct nvmm_vcpu_exit). */
  | { kind: 'run'; exit: Uint8Array }
  | { kind: 'set'; flags: number; state: Uint8Array }
  | { kind: 'inject'; event: Uint8Array }
  | { kind: 'assist'; what: 'io' | 'memory'; accesses: Access[] }
  /** A device or a loader wrote memory. */
  | { kind: 'memory'; hva: number; bytes: Uint8Array };

export type Entry = Action & {
  at: number;
  /** Time that had passed without instructions by then. */
  skipped: number;
  /** The general registers afterwards (144 bytes), where the action may have changed them. */
  registers?: Uint8Array;
  /**
   * Hardware does not stop after an instruction that loads the flags, but after the next one. So the follower is given
   * what comes of this step (`done`), or does a step that the leader did not stop after (`extra`).
   */
  joined?: 'done' | 'extra';
};

/** The general registers, RIP and RFLAGS among the bytes of a state. */
export function generalRegisters(state: Uint8Array): Uint8Array {
  return state.subarray(StateOffset.GPRS, StateOffset.GPRS + GENERAL_BYTES);
}
const GENERAL_BYTES = 8 * (Gpr.RFLAGS + 1);

/** Exits that only say that a run was cut short. */
const CUT: ReadonlySet<number> = new Set([Exit.NONE, Exit.STOPPED]);
/** Where every instruction is stepped, backends differ in when a window opens; what is injected then is the same. */
const WINDOWS: ReadonlySet<number> = new Set([Exit.INT_READY, Exit.NMI_READY]);

export function isSignificant(reason: number, stepping: boolean): boolean {
  return !CUT.has(reason) && !(stepping && WINDOWS.has(reason));
}

/** The leader's backend: does what it is told, and writes it down. */
export class RecordingNvmm extends DelegatingNvmm {
  entries: Entry[] = [];
  /** Where the leader is: its count of instructions or of steps. */
  position: () => number = () => 0;
  time: InstructionTime | null = null;
  /** What the vCPU was configured with, apart from callbacks and stepping: the other one gets the same. */
  readonly configured: { op: number; conf: CpuidConf | TprConf }[] = [];
  /** Called with each exit that is written down. */
  onExit: (at: number, vcpu: Vcpu) => void = () => undefined;
  private readonly memory: Uint8Array;
  private readonly stepping: boolean;
  private accesses: Access[] = [];

  constructor(real: Nvmm, memory: WebAssembly.Memory, stepping: boolean) {
    super(real);
    this.memory = new Uint8Array(memory.buffer);
    this.stepping = stepping;
  }

  private note(action: Action, vcpu?: Vcpu): void {
    const registers = vcpu === undefined ? {} : { registers: generalRegisters(vcpu.state.bytes).slice() };
    this.entries.push({ ...action, at: this.position(), skipped: this.time?.skipped ?? 0, ...registers });
  }

  override run(machine: Machine, vcpu: Vcpu): void {
    this.real.run(machine, vcpu);
    if (!isSignificant(vcpu.exit.reason, this.stepping)) return;
    this.real.getState(machine, vcpu, State.GPRS);
    this.note({ kind: 'run', exit: vcpu.exit.bytes.slice() }, vcpu);
    this.onExit(this.position(), vcpu);
  }

  override setState(machine: Machine, vcpu: Vcpu, flags: number): void {
    // The window is the run loop's own affair where nothing is run but single steps.
    if (!(this.stepping && flags === State.INTR)) {
      this.note(
        { kind: 'set', flags, state: vcpu.state.bytes.slice() },
        (flags & State.GPRS) !== 0 ? vcpu : undefined,
      );
    }
    this.real.setState(machine, vcpu, flags);
  }

  override inject(machine: Machine, vcpu: Vcpu): void {
    this.note({ kind: 'inject', event: vcpu.event.bytes.slice() });
    this.real.inject(machine, vcpu);
  }

  override vcpuConfigure(
    machine: Machine,
    vcpu: Vcpu,
    op: number,
    conf: AssistCallbacks | CpuidConf | TprConf | DebugConf,
  ): void {
    if (op === VcpuConf.CALLBACKS) conf = this.listening(conf as AssistCallbacks);
    else if (op !== VcpuConf.DEBUG) this.configured.push({ op, conf: conf as CpuidConf | TprConf });
    this.real.vcpuConfigure(machine, vcpu, op, conf);
  }

  private listening({ io, mem }: AssistCallbacks): AssistCallbacks {
    return {
      io: (access: IoAccess) => {
        io?.(access);
        const { port, in: input, size, data } = access;
        this.accesses.push({ address: port, write: !input, bytes: copy(data, size) });
      },
      mem: (access: MemAccess) => {
        mem?.(access);
        const { gpa, write, size, data } = access;
        this.accesses.push({ address: gpa, write, bytes: copy(data, size) });
      },
    };
  }

  override assistIo(machine: Machine, vcpu: Vcpu): void {
    this.assist('io', machine, vcpu, () => this.real.assistIo(machine, vcpu));
  }

  override assistMem(machine: Machine, vcpu: Vcpu): void {
    this.assist('memory', machine, vcpu, () => this.real.assistMem(machine, vcpu));
  }

  private assist(what: 'io' | 'memory', machine: Machine, vcpu: Vcpu, work: () => void): void {
    const at = this.position();
    const entry: Entry = { kind: 'assist', what, accesses: [], at, skipped: this.time?.skipped ?? 0 };
    this.entries.push(entry);
    this.accesses = entry.accesses;
    work();
    this.real.getState(machine, vcpu, State.GPRS);
    entry.registers = generalRegisters(vcpu.state.bytes).slice();
  }

  override hvaWritten(hva: number, size: number): void {
    for (let done = 0; done < size; done += Limit.PAGE) {
      const bytes = this.memory.slice(hva + done, hva + Math.min(size, done + Limit.PAGE));
      this.note({ kind: 'memory', hva: hva + done, bytes });
    }
    this.real.hvaWritten(hva, size);
  }
}

function copy(data: DataView, size: number): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, size).slice();
}
