import { EventType, Exit, ExitOffset, Gpr, Prot, State } from '../nvmm/constants.ts';
import { NvmmError } from '../nvmm/errors.ts';
import type { AssistCallbacks, CpuidConf, InstructionTime, Machine, MemAccess, Vcpu } from '../nvmm/nvmm.ts';
import { hasErrorCode } from './fault.ts';
import type { PhysicalFallback } from './linear.ts';
import { PhysicalMap } from './physical.ts';
import { readAreas, type StopWords } from './machines.ts';
import { Processor, type Surroundings } from './processor.ts';
import { Field } from './state.ts';
import type { CpuidResult } from './system/cpuid.ts';
import { VCPU_BYTES, type Tables } from './tables.ts';
import type { Translating } from './translate/translator.ts';
import { interruptBits, loadState, resetState, saveState } from './transfer-state.ts';

/** Longest piece of memory that one access can be about: an FXSAVE image goes in pieces of this size. */
const ACCESS_BYTES = 64;

/** One vCPU of the emulated backend: the state cache of NVMM around a Processor. */
export class EmulatedVcpu implements PhysicalFallback, Surroundings {
  readonly processor: Processor;
  readonly machid: number;
  readonly block: number;
  /** See Tables.enterBlock. */
  readonly life: number;
  readonly physical = new PhysicalMap();
  readonly fallback: PhysicalFallback = this;
  readonly dirty: Uint8Array;
  callbacks: AssistCallbacks = {};
  readonly cpuidEntries = new Map<number, CpuidConf>();
  eventCommitted = false;
  private readonly tables: Tables;
  private readonly vcpu: Vcpu;
  private cached: number;
  private committed = 0;
  private areasVersion = -1;
  private ringSeen: number;
  private lastTsc = 0n;
  /** Device accesses are answered by the mem callback instead of an exit. */
  private assisting = false;
  private readonly access: MemAccess;

  constructor(
    memory: WebAssembly.Memory,
    tables: Tables,
    machine: Machine,
    vcpu: Vcpu,
    block: number,
    translating: Translating,
  ) {
    this.tables = tables;
    this.dirty = tables.dirty;
    this.machid = machine.machid;
    this.vcpu = vcpu;
    this.block = block;
    this.life = tables.lifeOf(block);
    this.ringSeen = tables.ringHead;
    const address = tables.blockAddress(block);
    this.processor = new Processor(memory, { address, size: VCPU_BYTES }, vcpu.cpuid, this, translating);
    this.access = {
      machine,
      vcpu,
      gpa: 0,
      write: false,
      size: 0,
      data: new DataView(new ArrayBuffer(ACCESS_BYTES)),
    };
    resetState(vcpu.state);
    loadState(this.processor, vcpu.state, State.ALL, 0n);
    this.cached = State.ALL;
    this.refreshAreas();
  }

  /** Nobody has destroyed it. */
  get alive(): boolean {
    return this.tables.lifeOf(this.block) === this.life;
  }

  /** Words that vcpuStop sets. */
  get stopWord(): StopWords {
    const { s } = this.processor.cpu;
    return { stop: (s + Field.STOP) >>> 2, pending: (s + Field.PENDING) >>> 2 };
  }

  destroy(): void {
    // Takes this vCPU's marks off the map of pages with code.
    this.processor.blocks.clear();
  }

  // ---- State cache (nvmm.md 6.1) ------------------------------------------------------------------------

  setState(flags: number): void {
    this.committed |= flags;
    this.cached |= flags;
    if ((flags & State.GPRS) !== 0) this.noteCompletion();
    // A counter that is set counts from now: time may be moved before the next run.
    if ((flags & State.MSRS) !== 0 && this.processor.time.isCounted) this.install();
  }

  /** RIP put behind the instruction that the exit was about: the VMM has completed it, so it counts. */
  private noteCompletion(): void {
    const { exit, state } = this.vcpu;
    const at = exit.npcOffset();
    if (at === undefined || !this.incomplete) return;
    const done =
      exit.view.getUint32(at, true) === state.gprLow(Gpr.RIP) &&
      exit.view.getUint32(at + 4, true) === state.gprHigh(Gpr.RIP);
    if (!done) return;
    this.incomplete = false;
    this.processor.completed();
  }
  /** The last exit was about an instruction that is not completed yet. */
  private incomplete = false;

  getState(flags: number): void {
    const missing = flags & ~this.cached;
    if (missing === 0) return;
    saveState(this.processor, this.vcpu.state, missing);
    if (missing & State.MSRS) this.lastTsc = this.vcpu.state.msr(10);
    this.cached |= missing;
  }

  private install(): void {
    if (this.committed === 0) return;
    loadState(this.processor, this.vcpu.state, this.committed, this.lastTsc);
    this.committed = 0;
  }

  // ---- Running ------------------------------------------------------------------------------------------

  run(): void {
    const { processor } = this;
    this.install();
    if (this.eventCommitted) {
      // Its delivery goes through memory, whose map may have changed since the last run.
      this.catchUp(processor);
      this.takeEvent();
    }
    this.cached = 0;
    this.assisting = false;
    processor.run();
    this.report();
    this.incomplete = this.vcpu.exit.npcOffset() !== undefined;
  }

  countInstructions(random: () => number): InstructionTime {
    return this.processor.time.countInstructions(random);
  }

  private takeEvent(): void {
    const { event } = this.vcpu;
    this.eventCommitted = false;
    const { vector } = event;
    if (event.type === EventType.INTR) {
      if (vector === 2) this.processor.nmiWindow = true;
      this.processor.events.inject(vector, 0, 'external');
      return;
    }
    // nvmm.md 6.7: #DE, NMI and #BP cannot be injected as exceptions, nor what is none.
    if (event.type !== EventType.EXCP || vector === 0 || vector === 2 || vector === 3 || vector >= 32) {
      throw new NvmmError(
        'nvmm_vcpu_run',
        'EINVAL',
        `event type ${event.type} vector ${vector} cannot be injected`,
      );
    }
    this.processor.events.inject(vector, hasErrorCode(vector) ? event.error : 0, 'exception');
  }

  /** Writes the processor's exit into the nvmm_vcpu_exit. */
  private report(): void {
    const { exit: to } = this.vcpu;
    const { processor } = this;
    const { exit: from, cpu } = processor;
    const { view } = to;
    to.bytes.fill(0);
    to.reason = from.reason;
    const next = (at: number): void => {
      view.setInt32(at, from.nextLow, true);
      view.setInt32(at + 4, from.nextHigh, true);
    };
    switch (from.reason) {
      case Exit.MEMORY:
        to.setMemory(from.prot, from.gpa);
        break;
      case Exit.IO:
        view.setUint8(8, from.in ? 1 : 0);
        view.setUint16(10, from.port, true);
        view.setInt8(12, from.segment);
        view.setUint8(13, from.addressSize);
        view.setUint8(14, from.operandSize);
        view.setUint8(15, from.rep ? 1 : 0);
        view.setUint8(16, from.string ? 1 : 0);
        next(24);
        break;
      case Exit.RDMSR:
        view.setUint32(8, from.msr, true);
        next(16);
        break;
      case Exit.WRMSR:
        view.setUint32(8, from.msr, true);
        view.setInt32(16, from.valueLow, true);
        view.setInt32(20, from.valueHigh, true);
        next(24);
        break;
      case Exit.DEBUG:
        to.setDebug(from.kind, from.index, BigInt(from.address), from.write, from.vector, from.error);
        break;
      case Exit.CPUID:
      case Exit.MONITOR:
      case Exit.MWAIT:
        next(8);
        break;
    }
    view.setUint32(ExitOffset.RFLAGS, cpu.eflags, true);
    view.setInt32(ExitOffset.CR8, cpu.get(Field.CR8), true);
    view.setUint32(ExitOffset.INTR, interruptBits(processor), true);
  }

  /**
   * Does the instruction that left with MEMORY again, with device accesses answered by the mem callback: so
   * every instruction is supported, in every form, with the faults it would have.
   */
  assistMemory(): void {
    if (!this.callbacks.mem) throw new NvmmError('nvmm_assist_mem', 'EINVAL', 'the vCPU has no mem callback');
    this.install();
    this.cached = 0;
    this.assisting = true;
    try {
      this.processor.runOne();
    } finally {
      this.assisting = false;
    }
    const { reason } = this.processor.exit;
    // Anything but a finished instruction (or its fault in the guest) is a new exit, which the next run finds again.
    if (reason !== Exit.NONE && reason !== Exit.MEMORY) this.report();
    else if (reason === Exit.MEMORY) {
      throw new NvmmError(
        'nvmm_assist_mem',
        'EFAULT',
        `nothing answers at 0x${this.processor.exit.gpa.toString(16)}`,
      );
    }
  }

  // ---- PhysicalFallback ---------------------------------------------------------------------------------

  read(gpa: number, bytes: number, into: number): boolean {
    if (!this.assisting) return this.exitWith(gpa, Prot.READ);
    const { access } = this;
    const { bytes: memory } = this.processor.cpu;
    // Devices are asked in the sizes that they know.
    for (let done = 0; done < bytes; done += access.size) {
      access.gpa = gpa + done;
      access.write = false;
      access.size = pieceOf(bytes - done);
      access.data.setBigUint64(0, 0n, true);
      this.callbacks.mem!(access);
      for (let i = 0; i < access.size; i++) memory[into + done + i] = access.data.getUint8(i);
    }
    return true;
  }

  write(gpa: number, bytes: number, from: number): boolean {
    if (!this.assisting) return this.exitWith(gpa, Prot.WRITE);
    const { access } = this;
    const { bytes: memory } = this.processor.cpu;
    for (let done = 0; done < bytes; done += access.size) {
      access.gpa = gpa + done;
      access.write = true;
      access.size = pieceOf(bytes - done);
      access.data.setBigUint64(0, 0n, true);
      for (let i = 0; i < access.size; i++) access.data.setUint8(i, memory[from + done + i]);
      this.callbacks.mem!(access);
    }
    return true;
  }

  canWrite(gpa: number): boolean {
    return this.assisting || this.exitWith(gpa, Prot.WRITE);
  }

  exit(gpa: number, prot: number): void {
    this.processor.memoryExit(gpa, prot);
  }

  private exitWith(gpa: number, prot: number): false {
    this.processor.memoryExit(gpa, prot);
    return false;
  }

  // ---- Surroundings -------------------------------------------------------------------------------------

  markCode(hostPage: number, holds: boolean): void {
    this.tables.markCode(hostPage, this.block, holds);
  }
  readonly isCode = (hostPage: number): boolean => this.tables.isCode(hostPage);

  codeWritten(hostPage: number): void {
    if (!this.tables.isCodeElsewhere(hostPage, this.block)) return;
    this.tables.announce(hostPage);
    for (const block of this.tables.usedBlocks()) {
      if (block !== this.block) {
        const pending = (this.tables.blockAddress(block) + Field.PENDING) >>> 2;
        Atomics.or(this.tables.words, pending, 0x80000000 | 0);
      }
    }
  }

  catchUp(p: Processor): void {
    const head = this.tables.ringHead;
    if (head !== this.ringSeen) {
      const pages = this.tables.announcedSince(this.ringSeen);
      this.ringSeen = head;
      if (pages === null) p.blocks.clear();
      else for (const page of pages) p.blocks.invalidate(page);
    }
    if (this.tables.version(this.machid) !== this.areasVersion) this.refreshAreas();
  }

  private refreshAreas(): void {
    this.areasVersion = this.tables.version(this.machid);
    this.physical.load(this.tables.locked(() => readAreas(this.tables, this.machid)));
    this.processor.mmu.flushAll();
  }

  configuredCpuid(leaf: number, own: CpuidResult): CpuidResult | null {
    const entry = this.cpuidEntries.get(leaf);
    if (!entry) return own;
    if (entry.exit) return null;
    const { set, del } = entry;
    return {
      eax: (own.eax & ~del.eax) | set.eax,
      ebx: (own.ebx & ~del.ebx) | set.ebx,
      ecx: (own.ecx & ~del.ecx) | set.ecx,
      edx: (own.edx & ~del.edx) | set.edx,
    };
  }
}

/** The largest access (1, 2, 4 or 8 bytes) not larger than what is left. */
function pieceOf(bytes: number): number {
  return bytes >= 8 ? 8 : bytes >= 4 ? 4 : bytes >= 2 ? 2 : 1;
}
