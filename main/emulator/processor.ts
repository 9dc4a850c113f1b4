import { DebugKind, Exit } from '../nvmm/constants.ts';
import type { DebugConf } from '../nvmm/nvmm.ts';
import { Blocks, BLOCK_MAXIMUM, Reach } from './blocks.ts';
import { Attrib, Cpu, Cr0, Efer, Eflags } from './cpu.ts';
import { Decoder } from './decoder/decoder.ts';
import { GuestExit, GuestFault, hasErrorCode, Vector } from './fault.ts';
import { codeSizeOf } from './generate/form.ts';
import { DELIVER } from './generate/integer/exceptions.ts';
import { SETTLE } from './generate/unsettled.ts';
import { Handlers } from './generate/handlers.ts';
import { reserveUsual } from './generate/usual.ts';
import { PROCESSOR_GROUPS } from './groups.ts';
import { Inspector } from './inspector.ts';
import { LinearMemory, type PhysicalFallback } from './linear.ts';
import { Access, Failure, Mmu } from './mmu.ts';
import type { PhysicalMap } from './physical.ts';
import { EmulatedPorts } from './ports-in-place.ts';
import { SlowAccess } from './slow-access.ts';
import { Area, COUNTERS, Field, Leave, Record, SegmentIndex, Slot } from './state.ts';
import { ProcessorTime, TSC_HZ } from './processor-time.ts';
import { DECODED_FEATURES, type CpuidResult } from './system/cpuid.ts';
import { Debug } from './system/debug.ts';
import { runHelper } from './system/dispatch.ts';
import { REGION_INSTRUCTIONS } from './translate/finder.ts';
import { Translator, TRANSLATING, type Translating } from './translate/translator.ts';
import { deliver, type EventSource } from './system/interrupts.ts';

/** Taken once: in Node the global is a getter, which costs more than the time itself. */
const clock = performance;

const TWO_32 = 2 ** 32;
const PENDING = 0x80000000 | 0;
/** SHADOW_AT when there is none: no budget is ever that large. */
const NO_SHADOW = 0x7fffffff;
/** In Field.TSC_MARK: no budget is so near to it that the look counts. */
const NO_MARK = -0x80000000;

/**
 * Instructions between two looks at the clock: about 0.3 ms at the speeds that the interpreter reaches, so that
 * a run of a millisecond ends within its time.
 */
const SLICE = 50_000;
/**
 * By how many instructions a burst may go beyond its budget: generated code looks at it at block ends, and leaves
 * when it is negative. So near an exact limit instructions are run one by one.
 */
const OVERSHOOT = REGION_INSTRUCTIONS + 2 * BLOCK_MAXIMUM;
/** Milliseconds after which a run returns with NONE: NVMM's host time slice, which VMMs rely on. */
const RUN_MILLISECONDS = 1;

/** Injected or raised exceptions that do not set RF in the saved flags (nvmm.md 6.7). */
const WITHOUT_RF: ReadonlySet<number> = new Set([Vector.DB, Vector.OF, Vector.DF, Vector.MC, Vector.BP]);
const CONTRIBUTORY: ReadonlySet<number> = new Set([0, 10, 11, 12, 13]);

/** What a processor needs of the machine around it. */
export interface Surroundings {
  readonly physical: PhysicalMap;
  readonly fallback: PhysicalFallback;
  /** By number of host page: 1 where something may have been written (Nvmm.dirtyPages). */
  readonly dirty: Uint8Array;
  /** Marks host pages that hold decoded code, for all writers to see. */
  markCode(hostPage: number, holds: boolean): void;
  /** Whether any vCPU has decoded code from a host page. */
  isCode(hostPage: number): boolean;
  /** Tells the other vCPUs that bytes with code were written. */
  codeWritten(hostPage: number): void;
  /** Does what other threads asked for: drops code that they wrote. */
  catchUp(p: Processor): void;
  /** A leaf as the machine configured it: the processor's own answer, changed; null when it exits. */
  configuredCpuid(leaf: number, own: CpuidResult): CpuidResult | null;
}

/** An exit as the processor finds it; the driver writes it into the nvmm_vcpu_exit. */
export interface ExitRecord {
  reason: number;
  gpa: number;
  prot: number;
  in: boolean;
  port: number;
  segment: number;
  /** Bytes. */
  addressSize: number;
  operandSize: number;
  rep: boolean;
  string: boolean;
  msr: number;
  valueLow: number;
  valueHigh: number;
  /** Address of the next instruction. */
  nextLow: number;
  nextHigh: number;
  hwcode: number;
  /** DEBUG: see VcpuExit. */
  kind: number;
  index: number;
  address: number;
  write: boolean;
  vector: number;
  error: number;
}

interface PendingEvent {
  vector: number;
  /** -1: none is pushed. */
  error: number;
  source: EventSource;
  resume: boolean;
  /** A debugger has been told of it already. */
  announced?: boolean;
}

/** One x86-64 processor: the run loop around the generated code, exceptions, events and time. */
export class Processor {
  readonly cpu: Cpu;
  readonly mmu: Mmu;
  readonly blocks: Blocks;
  readonly handlers: Handlers;
  readonly translator: Translator;
  readonly linear: LinearMemory;
  readonly debug: Debug;
  readonly inspector: Inspector;
  readonly ports: EmulatedPorts;
  readonly cpuid: number;
  private readonly world: Surroundings;

  /** The exit that is being recorded. */
  readonly exit: ExitRecord = {
    reason: Exit.NONE,
    gpa: 0,
    prot: 0,
    in: false,
    port: 0,
    segment: 0,
    addressSize: 0,
    operandSize: 0,
    rep: false,
    string: false,
    msr: 0,
    valueLow: 0,
    valueHigh: 0,
    nextLow: 0,
    nextHigh: 0,
    hwcode: 0,
    kind: 0,
    index: 0,
    address: 0,
    write: false,
    vector: 0,
    error: -1,
  };
  /** A retired instruction (HLT, a TPR write) wants this exit; NONE otherwise. */
  exitAfter: number = Exit.NONE;

  intWindow = false;
  nmiWindow = false;
  /** The next instruction runs in an interrupt shadow. */
  shadow = false;
  /** An event whose delivery was interrupted by an exit, or that was injected and waits for the run. */
  pendingEvent: PendingEvent | null = null;
  /** TPR writes exit. */
  tprExits = false;

  /** Scratch for helpers. */
  msrLow = 0;
  msrHigh = 0;
  readonly imageBuffer = new Uint8Array(1024);
  readonly tscHz = TSC_HZ;

  /** Instructions retired since power-on, up to the last time that the budget was settled. */
  retired = 0;
  /** Its time-stamp counter, and whether time is the host's or the count of instructions. */
  readonly time = new ProcessorTime(
    () => this.count(),
    (count) => (this.retired = count),
  );
  /** The record that a helper is running for, or 0. */
  private running = 0;
  /** What step() and single() have put aside of the budget. */
  private heldBudget = 0;
  /** Too near to the limit for bursts. */
  private tail = false;
  /** Time spent in run(), in nanoseconds. */
  private ranNs = 0;
  private readonly counters: Float64Array;
  private stepping = false;
  private readonly deliver32: (...numbers: number[]) => number;
  private readonly deliver64: (...numbers: number[]) => number;
  private nextPageRip = 0;

  constructor(
    memory: WebAssembly.Memory,
    block: { address: number; size: number },
    cpuid: number,
    world: Surroundings,
    translating: Translating = TRANSLATING,
  ) {
    const cpu = new Cpu(memory, block.address);
    this.cpu = cpu;
    this.cpuid = cpuid;
    this.world = world;
    this.counters = new Float64Array(memory.buffer, block.address + Field.COUNTERS, COUNTERS.length);
    this.mmu = new Mmu(cpu, world.physical, world.isCode, world.dirty);
    this.linear = new LinearMemory(cpu, this.mmu, world.fallback, world.isCode, (host, bytes) =>
      this.codeWasWritten(host, bytes),
    );
    this.inspector = new Inspector(cpu);
    this.ports = new EmulatedPorts(cpu);
    this.linear.turnsBack = (linear, bytes, access) => this.inspector.turnsBack(linear, bytes, access);
    this.debug = new Debug(this);
    const slow = new SlowAccess(cpu, this.linear, (linear, bytes, write) =>
      this.debug.accessed(linear, bytes, write),
    );
    this.handlers = new Handlers(
      memory,
      {
        readSlow: (_s, bytes) => slow.read(bytes),
        writeSlow: (_s, bytes) => slow.write(bytes),
        modifySlow: (_s, bytes) => slow.modify(bytes),
        modifyCommit: (_s, bytes) => slow.commit(bytes),
        helper: (_s, record, number) => this.helper(record, number),
        ending: (_s, record, number) => this.ending(record, number),
        find: () => this.find(),
        clock: (_s, budget) => this.lookAtClock(budget),
        missed: (_s, record, head) => this.translator.missed(record, head),
      },
      PROCESSOR_GROUPS,
    );
    const settle = this.handlers.routine(SETTLE);
    cpu.settleFlags = () => settle(cpu.s);
    this.deliver32 = this.handlers.routine(DELIVER[32]);
    this.deliver64 = this.handlers.routine(DELIVER[64]);
    const decoder = new Decoder(DECODED_FEATURES);
    reserveUsual(this.handlers, decoder);
    this.blocks = new Blocks(
      cpu,
      decoder,
      this.handlers,
      { start: block.address + Area.RECORDS, end: block.address + block.size },
      (hostPage, holds) => {
        world.markCode(hostPage, holds);
        if (holds) this.mmu.protect(hostPage);
      },
      () => {
        this.mmu.jumps.forgetAll();
        cpu.set(Field.LINK_FROM, 0);
        this.translator.forget();
      },
      translating.runs,
    );
    this.translator = new Translator(cpu, this.handlers, this.blocks, translating);
    this.blocks.onDrop = (record) => this.translator.release(record);
    this.blocks.clear();
    cpu.set64(Field.SLOTS + 8 * Slot.ZERO, 0, 0);
    cpu.set(Field.SHADOW_AT, NO_SHADOW);
  }

  // ---- What generated code calls ------------------------------------------------------------------------

  private codeWasWritten(host: number, bytes: number): void {
    const page = host - (host % 4096);
    this.blocks.invalidate(page, host - page, bytes);
    this.world.codeWritten(page);
  }

  private helper(record: number, number: number): number {
    const { cpu } = this;
    cpu.set(Field.CURRENT, record);
    this.running = record;
    try {
      return runHelper(this, record, number);
    } catch (reason) {
      if (reason instanceof GuestFault) {
        cpu.set(Field.FAULT_VECTOR, reason.vector);
        cpu.set(Field.FAULT_ERROR, reason.error);
        return Leave.FAULT;
      }
      if (reason instanceof GuestExit) return Leave.EXIT;
      throw reason;
    } finally {
      this.running = 0;
    }
  }

  /** A helper that ends its block: 0 when generated code may go on at RIP. */
  private ending(record: number, number: number): number {
    const code = this.helper(record, number);
    if (code === 0) {
      this.setRipFromRecord(record, this.recordLength(record));
      this.retired1(record);
    } else if (code !== Leave.RETIRED) return code;
    return this.mayGoOn() ? 0 : Leave.RETIRED;
  }

  /** Whether the run loop has nothing to look at after an instruction that it usually looks around after. */
  private mayGoOn(): boolean {
    const { cpu, debug, inspector } = this;
    if ((cpu.get(Field.BUDGET) | cpu.get(Field.PENDING)) < 0 || this.exitAfter !== Exit.NONE) return false;
    if (this.stepping || debug.active || inspector.step || inspector.hasCode) return false;
    if (this.intWindow || this.nmiWindow || (cpu.get(Field.EFLAGS) & Eflags.TF) !== 0) return false;
    if (debug.owesTrap()) return false;
    this.resume();
    return true;
  }

  /**
   * RF lasts for one instruction, which comes now. While no breakpoint is enabled nobody sees it: the images of faults
   * have it set, whatever it is.
   */
  private resume(): void {
    const { cpu } = this;
    const flags = cpu.get(Field.EFLAGS);
    if ((flags & Eflags.RF) !== 0) cpu.set(Field.EFLAGS, flags & ~Eflags.RF);
  }

  // ---- Where instructions are ---------------------------------------------------------------------------

  /** RIP of a record: CODE_BASE + its position (+ more). Sets Field.RIP. */
  setRipFromRecord(record: number, more = 0): void {
    const { cpu } = this;
    const position = cpu.words[(record + Record.POSITION) >>> 2] & 0xffff;
    const base = Field.SLOTS + 8 * Slot.CODE_BASE;
    const low = (cpu.get(base) >>> 0) + position + more;
    if (codeSizeOf(cpu.get(Field.CONTEXT)) === 64) {
      cpu.set64(Field.RIP, low | 0, (cpu.high(base) + (low >= TWO_32 ? 1 : 0)) | 0);
    } else cpu.set64(Field.RIP, low | 0, 0);
  }

  recordLength(record: number): number {
    return cpu8(this.cpu, record + Record.LENGTH);
  }

  /** Takes the instructions of a block before `record` (and `self` more) off the budget. */
  private retire(record: number, self: number): void {
    const { cpu } = this;
    cpu.set(Field.BUDGET, cpu.get(Field.BUDGET) - cpu8(cpu, record + Record.NUMBER) - self);
  }

  /** For helpers that set RIP: the instruction counts, and the block is left. */
  retired1(record: number): number {
    this.retire(record, 1);
    this.cpu.set(Field.LINK_FROM, 0);
    return Leave.RETIRED;
  }

  /** Segments or privileges changed. */
  modeChanged(): void {
    this.cpu.updatePrivilege();
    this.codeSegmentChanged();
  }

  /** Control registers or EFER changed. */
  controlChanged(): void {
    this.cpu.updateMode();
    this.codeSegmentChanged();
  }

  private codeSegmentChanged(): void {
    this.mmu.jumps.forgetOnLimit(this.cpu.limit(SegmentIndex.CS), this.cpu.base(SegmentIndex.CS));
  }

  /** The record of the code at RIP, or the Leave code of what happened instead. */
  private locate(single: boolean): number {
    const { cpu, mmu } = this;
    const context = cpu.get(Field.CONTEXT);
    const low = cpu.get(Field.RIP);
    const high = cpu.high(Field.RIP);
    const user = cpu.cpl === 3;
    let linear: number;
    let limit = 16;
    if (cpu.code64) {
      if (!cpu.isCanonical(Field.RIP)) return this.locateFault(Vector.GP, 0);
      linear = high * TWO_32 + (low >>> 0);
    } else {
      const last = cpu.limit(SegmentIndex.CS);
      if (low >>> 0 > last) return this.locateFault(Vector.GP, 0);
      limit = last - (low >>> 0) + 1;
      linear = ((low >>> 0) + cpu.base(SegmentIndex.CS)) % TWO_32;
    }
    if (cpu.code64) limit = TWO_32;
    const host = mmu.translate(linear, Access.FETCH, user, cpu.tlbSet);
    if (host < 0) return this.locateFailed();

    const linearLow = linear | 0;
    const pageOffset = linearLow & 0xfff;
    const baseLow = (low >>> 0) - pageOffset;
    cpu.set64(
      Field.SLOTS + 8 * Slot.CODE_BASE,
      baseLow | 0,
      cpu.code64 ? (high - (baseLow < 0 ? 1 : 0)) | 0 : 0,
    );
    this.nextPageRip = linear - pageOffset + 4096;
    const record = single
      ? this.blocks.single(host, context, limit, this.nextPage)
      : this.blocks.find(host, context, limit, this.nextPage);
    if (record < 0) return this.locateFailed();
    if (!single) this.connect(record, linearLow, Math.floor(linear / TWO_32) | 0);
    return record;
  }

  /** The record for RIP, for generated code that goes on there; 0 when the run loop has to look around first. */
  private find(): number {
    const { cpu, inspector } = this;
    if (inspector.hasCode || this.intWindow) return 0;
    if (cpu.get(Field.LINK_FROM) !== 0) this.noteLinkPage();
    // What is wrong with it the run loop finds again.
    return Math.max(0, this.locate(false));
  }

  private readonly nextPage = (): number => {
    const { cpu } = this;
    const at = cpu.longMode ? this.nextPageRip : this.nextPageRip % TWO_32;
    if (at >= 2 ** 47 && cpu.longMode) {
      cpu.set(Field.FAULT_VECTOR, Vector.GP);
      cpu.set(Field.FAULT_ERROR, 0);
      this.mmu.failure = Failure.FAULT;
      return -1;
    }
    return this.mmu.translate(at, Access.FETCH, cpu.cpl === 3, cpu.tlbSet);
  };

  private locateFault(vector: number, error: number): number {
    this.cpu.set(Field.FAULT_VECTOR, vector);
    this.cpu.set(Field.FAULT_ERROR, error);
    return -Leave.FAULT;
  }

  private locateFailed(): number {
    if (this.mmu.failure === Failure.FAULT) return -Leave.FAULT;
    this.exit.reason = Exit.MEMORY;
    this.exit.gpa = this.mmu.exitGpa;
    this.exit.prot = this.mmu.exitProt;
    return -Leave.EXIT;
  }

  /** Lets later jumps find the block without us: the jump cache, and a link from the jump that led here. */
  private connect(record: number, linearLow: number, linearHigh: number): void {
    const { cpu, blocks } = this;
    if (blocks.reach === Reach.ONCE) return;
    if (this.inspector.isCodePage(linearHigh * TWO_32 + (linearLow >>> 0))) return;
    this.mmu.rememberJump(linearLow, linearHigh, record, blocks.reach === Reach.CACHE);
    if (blocks.reach === Reach.CACHE) return;
    const from = cpu.get(Field.LINK_FROM);
    if (from === 0 || !this.blocks.isLinkable(from)) return;
    // Only within a linear page: a link must hold whatever the other page is mapped to later.
    if (this.linkPage === linearLow >>> 12 && this.linkHigh === linearHigh) {
      cpu.words[(from + Record.LINK) >>> 2] = record;
    }
  }
  private linkPage = 0;
  private linkHigh = 0;

  /** Notes in which linear page the jump stands that asks for a link: before locate() moves CODE_BASE. */
  private noteLinkPage(): void {
    const { cpu } = this;
    const base = Field.SLOTS + 8 * Slot.CODE_BASE;
    if (cpu.code64) {
      this.linkPage = cpu.get(base) >>> 12;
      this.linkHigh = cpu.high(base);
    } else {
      this.linkPage = ((cpu.get(base) + cpu.get(cpu.baseField(SegmentIndex.CS))) | 0) >>> 12;
      this.linkHigh = 0;
    }
  }

  // ---- The run loop -------------------------------------------------------------------------------------

  /** Runs the guest until something is recorded in `exit`. */
  run(): void {
    const { cpu, exit } = this;
    exit.reason = Exit.NONE;
    this.exitAfter = Exit.NONE;
    this.grant();
    const start = clock.now();
    const end = start + RUN_MILLISECONDS;
    // Here as well, for a guest that leaves again and again may never come to the end of a slice.
    this.translator.poll(start);
    cpu.set(Field.LINK_FROM, 0);
    if (this.begin()) {
      this.settle();
      return;
    }
    const { inspector } = this;
    for (;;) {
      if (cpu.get(Field.PENDING) !== 0 && this.attend()) break;
      if (this.windowOpens()) break;
      if (cpu.get(Field.BUDGET) <= 0) {
        const now = clock.now();
        if (!this.time.isCounted && now >= end) break;
        if (!this.regrant(now)) break;
      }
      if (inspector.hasCode && this.stopsHere()) break;
      if (inspector.step || (inspector.hasCode && inspector.isCodePage(inspector.codeAddress))) {
        if (!this.stepInspected()) break;
      } else if (this.debug.active || (cpu.get(Field.EFLAGS) & this.steppedFlags) !== 0) {
        if (!this.step() && !this.takeTurnedBack()) break;
      } else if (!(this.tail ? this.single() : this.burst()) && !this.takeTurnedBack()) break;
    }
    this.ranNs += (clock.now() - start) * 1e6;
    this.settle();
  }

  /**
   * Runs exactly one instruction (one round of a repeated one), for assists and debuggers. The exit's reason is
   * NONE when it was retired or faulted into the guest's handler.
   */
  runOne(): void {
    this.exit.reason = Exit.NONE;
    this.exitAfter = Exit.NONE;
    this.grant();
    this.cpu.set(Field.LINK_FROM, 0);
    this.inspector.recording = true;
    this.step();
    this.inspector.recording = false;
    if (this.exit.reason !== Exit.NONE) this.inspector.hit = null;
    this.settle();
  }

  // ---- For a debugger outside ---------------------------------------------------------------------------

  /** Takes what a debugger wants from now on. */
  inspect(conf: DebugConf): void {
    const { breakpoints, watchpoints } = this.inspector.configured;
    this.inspector.configure(conf);
    // Links that lead past a breakpoint, and translations of what is watched now. Steps change neither.
    if (breakpoints !== conf.breakpoints) this.blocks.clear();
    if (watchpoints !== conf.watchpoints) this.debug.update();
  }

  /** Before a run: what is left of the one before, and events. True when the run ends with that. */
  private begin(): boolean {
    const { inspector } = this;
    // An assist has run an instruction that touched watched memory.
    if (inspector.hit !== null) return this.stopWatched();
    if (!this.pendingEvent) return false;
    inspector.recording = true;
    const delivered = this.deliverPending();
    inspector.recording = false;
    if (!delivered) {
      inspector.hit = null;
      return true;
    }
    if (inspector.hit !== null) return this.stopWatched();
    if (inspector.step) this.stop(DebugKind.STEP, 0, inspector.codeAddress, false);
    return inspector.step;
  }

  private stop(kind: number, index: number, address: number, write: boolean): void {
    const { exit } = this;
    exit.reason = Exit.DEBUG;
    exit.kind = kind;
    exit.index = index;
    exit.address = address;
    exit.write = write;
    exit.vector = 0;
    exit.error = -1;
  }

  private stopWatched(): true {
    const { index, address, write } = this.inspector.hit!;
    this.inspector.hit = null;
    this.stop(DebugKind.WATCHPOINT, index, address, write);
    return true;
  }

  /** Whether RIP is at a breakpoint: the stop is recorded. */
  private stopsHere(): boolean {
    if (this.inspector.step) return false;
    const address = this.inspector.codeAddress;
    const index = this.inspector.breakpointAt(address);
    if (index < 0) return false;
    this.stop(DebugKind.BREAKPOINT, index, address, false);
    return true;
  }

  /** One instruction under a debugger's eyes; false when an exit is recorded. */
  private stepInspected(): boolean {
    const { inspector, exit } = this;
    inspector.hit = null;
    inspector.recording = true;
    const again = this.step();
    inspector.recording = false;
    if (!again && exit.reason !== Exit.NONE) {
      inspector.hit = null;
      return false;
    }
    if (inspector.hit !== null) {
      this.stopWatched();
      return false;
    }
    if (inspector.step) this.stop(DebugKind.STEP, 0, inspector.codeAddress, false);
    return again && !inspector.step;
  }

  /** After a burst that ended: whether that was for a watched access, which is stepped here, and the run goes on. */
  private takeTurnedBack(): boolean {
    const { inspector } = this;
    if (!inspector.turnedBack) return false;
    inspector.turnedBack = false;
    this.exit.reason = Exit.NONE;
    if (!this.pendingEvent) return this.stepInspected();
    // It was the delivery of an exception that touched watched memory.
    return !this.begin();
  }

  private grant(): void {
    const { cpu } = this;
    const left = Math.max(0, this.time.limit - this.retired);
    this.tail = left <= OVERSHOOT;
    const budget = this.tail ? left : Math.min(SLICE, left - OVERSHOOT);
    cpu.set(Field.BUDGET, budget);
    cpu.set(Field.BUDGET_START, budget);
    cpu.set(Field.TSC_MARK, NO_MARK);
    cpu.set(Field.SHADOW_AT, this.shadow ? budget : NO_SHADOW);
    cpu.set(Field.WINDOW_ARMED, this.intWindow ? 1 : 0);
  }

  /** Accounts for what was run, and takes note of the interrupt shadow. */
  private settle(): void {
    const { cpu } = this;
    const budget = cpu.get(Field.BUDGET);
    this.ports.settle(this.retired + cpu.get(Field.BUDGET_START));
    this.retired += cpu.get(Field.BUDGET_START) - budget;
    cpu.set(Field.BUDGET_START, budget);
    this.shadow = cpu.get(Field.SHADOW_AT) === budget;
    const { counters } = this;
    counters[0] = this.retired;
    counters[1] = this.mmu.misses;
    counters[2] = this.blocks.decoded;
    counters[3] = this.blocks.invalidations;
    counters[4] = this.handlers.modules;
    counters[5] = cpu.number(Field.TRANSLATED);
    counters[6] = this.translator.translated;
    counters[7] = this.ranNs;
    counters[8] = this.handlers.nanoseconds;
    counters[9] = this.translator.nanoseconds;
    counters[10] = this.translator.evictions;
    counters[11] = this.ports.total;
  }

  /** Another slice; false when the limit is reached. */
  private regrant(now: number): boolean {
    this.settle();
    this.translator.poll(now);
    this.grant();
    return this.cpu.get(Field.BUDGET) > 0;
  }

  /** From the delivery of an NMI until the next IRET no other is taken. */
  get nmiBlocked(): boolean {
    return this.cpu.get(Field.NMI_BLOCKED) !== 0;
  }
  set nmiBlocked(blocked) {
    this.cpu.set(Field.NMI_BLOCKED, blocked ? 1 : 0);
  }

  private inShadow(): boolean {
    return this.cpu.get(Field.SHADOW_AT) === this.cpu.get(Field.BUDGET);
  }

  /** Something happened outside: true when the run ends. */
  private attend(): boolean {
    const { cpu, exit } = this;
    Atomics.store(cpu.words, (cpu.s + Field.PENDING) >>> 2, 0);
    this.world.catchUp(this);
    if (Atomics.exchange(cpu.words, (cpu.s + Field.STOP) >>> 2, 0) === 0) return false;
    exit.reason = Exit.STOPPED;
    return true;
  }

  /** An armed window that is open now: its exit is recorded. */
  private windowOpens(): boolean {
    if (this.intWindow && (this.cpu.get(Field.EFLAGS) & Eflags.IF) !== 0 && !this.inShadow()) {
      this.intWindow = false;
      this.exit.reason = Exit.INT_READY;
      return true;
    }
    if (this.nmiWindow && !this.nmiBlocked && !this.inShadow()) {
      this.nmiWindow = false;
      this.exit.reason = Exit.NMI_READY;
      return true;
    }
    return false;
  }

  /** Flags with which instructions are stepped. So near to a limit RF has to be what it is. */
  private get steppedFlags(): number {
    return this.tail ? Eflags.TF | Eflags.RF : Eflags.TF;
  }

  /** Runs generated code until it leaves; false when an exit is recorded. */
  private burst(): boolean {
    const resumed = (this.cpu.get(Field.EFLAGS) & Eflags.RF) !== 0;
    if (!resumed) return this.runOn();
    const budget = this.cpu.get(Field.BUDGET);
    this.resume();
    const again = this.runOn();
    // It left for an exit with the very instruction that RF is for.
    if (!again && this.cpu.get(Field.BUDGET) === budget) {
      this.cpu.set(Field.EFLAGS, this.cpu.get(Field.EFLAGS) | Eflags.RF);
    }
    return again;
  }

  private runOn(): boolean {
    if (this.cpu.get(Field.LINK_FROM) !== 0) this.noteLinkPage();
    // In a shadow that an armed window waits for, one instruction has to be run alone.
    if (this.intWindow && this.inShadow()) return this.step();
    const record = this.locate(false);
    if (record < 0) return this.left(-record, 0);
    return this.left(this.handlers.enter(this.cpu.s, record), 1);
  }

  /** As burst(), but one instruction (some rounds of a repeated one). */
  private single(): boolean {
    const { cpu } = this;
    const budget = cpu.get(Field.BUDGET);
    // With no budget left every jump leaves.
    cpu.set(Field.BUDGET, 0);
    cpu.set(Field.SHADOW_AT, cpu.get(Field.SHADOW_AT) === budget ? 0 : NO_SHADOW);
    cpu.set(Field.LINK_FROM, 0);
    this.heldBudget = budget;
    const record = this.locate(true);
    const again = record < 0 ? this.left(-record, 0) : this.left(this.handlers.enter(cpu.s, record), 1);
    this.heldBudget = 0;
    const shadowAt = cpu.get(Field.SHADOW_AT);
    cpu.set(Field.SHADOW_AT, shadowAt === NO_SHADOW ? NO_SHADOW : shadowAt + budget);
    cpu.set(Field.BUDGET, cpu.get(Field.BUDGET) + budget);
    return again;
  }

  /** Handles a Leave code; false when the run ends. `ran` is 0 when no record is current. */
  private left(code: number, ran: number): boolean {
    const { cpu, exit } = this;
    switch (code) {
      case Leave.LOOKUP:
      case Leave.BUDGET:
        return true;
      case Leave.RETIRED:
        // Stepping looks at this itself.
        if (!this.stepping && this.debug.afterTransfer()) return this.trap(Vector.DB);
        if (this.exitAfter === Exit.NONE) return true;
        exit.reason = this.exitAfter;
        return false;
      case Leave.STALE: {
        const record = cpu.get(Field.CURRENT);
        this.retire(record, 0);
        this.setRipFromRecord(record);
        cpu.set(Field.LINK_FROM, 0);
        return true;
      }
      case Leave.HOT:
        this.becameHot(cpu.get(Field.CURRENT));
        return true;
      case Leave.EXIT:
        if (ran) this.leaveRecord();
        return false;
      case Leave.FAULT:
        if (ran) this.leaveRecord();
        // What the instruction touched before it faulted has not happened.
        this.inspector.hit = null;
        return this.raise(cpu.get(Field.FAULT_VECTOR), cpu.get(Field.FAULT_ERROR));
      default:
        throw new Error(`generated code left with ${code}`);
    }
  }

  /** A block that has run often: it is translated, now or with the next ones, and goes on meanwhile. */
  private becameHot(record: number): void {
    const { cpu, blocks } = this;
    this.setRipFromRecord(record);
    cpu.set(Field.LINK_FROM, 0);
    if (blocks.blockAt(record) !== undefined) this.translator.add(record);
  }

  private leaveRecord(): void {
    const record = this.cpu.get(Field.CURRENT);
    this.retire(record, 0);
    this.setRipFromRecord(record);
    this.cpu.set(Field.LINK_FROM, 0);
  }

  /** One instruction with the checks of the debug registers and the trap flag. */
  private step(): boolean {
    const { cpu, debug } = this;
    const flags = cpu.get(Field.EFLAGS);
    if (debug.active && (flags & Eflags.RF) === 0 && debug.hitsCode()) return this.raise(Vector.DB, 0);
    const budget = cpu.get(Field.BUDGET);
    const shadowed = this.inShadow();
    this.heldBudget = budget;
    cpu.set(Field.BUDGET, 0);
    cpu.set(Field.TSC_MARK, NO_MARK);
    cpu.set(Field.SHADOW_AT, NO_SHADOW);
    cpu.set(Field.LINK_FROM, 0);
    // Who steps sees each access.
    const portLimit = cpu.get(Field.PORT_LIMIT);
    cpu.set(Field.PORT_LIMIT, 0);
    // Makes repeated instructions leave after a round.
    Atomics.or(cpu.words, (cpu.s + Field.PENDING) >>> 2, PENDING);
    this.stepping = true;
    debug.hits = 0;
    debug.suppressTrap = false;
    debug.keepsRf = false;
    const record = this.locate(true);
    const code = record < 0 ? -record : this.handlers.enter(cpu.s, record);
    const again = this.left(code, record < 0 ? 0 : 1);
    this.stepping = false;
    this.heldBudget = 0;
    cpu.set(Field.PORT_LIMIT, portLimit);
    const used = -cpu.get(Field.BUDGET);
    const casts = cpu.get(Field.SHADOW_AT) === -used && used !== 0;
    cpu.set(Field.BUDGET, budget - used);
    cpu.set(Field.SHADOW_AT, casts && !shadowed ? budget - used : NO_SHADOW);
    const faulted = code === Leave.FAULT || code === Leave.EXIT;
    if (faulted) return again;
    // RF lasts for one instruction; IRET and POPF set it for the next one.
    if (flags & Eflags.RF && !debug.keepsRf) cpu.set(Field.EFLAGS, cpu.get(Field.EFLAGS) & ~Eflags.RF);
    const trap = debug.afterStep((flags & Eflags.TF) !== 0 && !casts);
    if (!trap) return again;
    return this.trap(Vector.DB) && again;
  }

  get isStepping(): boolean {
    return this.stepping;
  }

  // ---- Exceptions and events ----------------------------------------------------------------------------

  /** Raises an exception at RIP; false when the machine shuts down or an exit came in between. */
  raise(vector: number, error: number): boolean {
    const code = hasErrorCode(vector) ? error : -1;
    const resume = !WITHOUT_RF.has(vector) || vector === Vector.DB;
    if (this.deliverQuickly(vector, code, resume)) return true;
    return this.deliverEvent({ vector, error: code, source: 'exception', resume });
  }

  /** What nobody looks at is delivered by generated code, if that can do it. */
  private deliverQuickly(vector: number, error: number, resume: boolean): boolean {
    const { cpu, inspector } = this;
    if (inspector.exceptions !== 0 || inspector.recording || this.debug.active || this.stepping) return false;
    const quick = cpu.code64 ? this.deliver64 : this.deliver32;
    return quick(cpu.s, vector, error, resume ? Eflags.RF : 0) !== 0;
  }

  private trap(vector: number): boolean {
    return this.deliverEvent({ vector, error: -1, source: 'exception', resume: false });
  }

  /** Takes an injected event: it is delivered when the run begins. */
  inject(vector: number, error: number, source: EventSource): void {
    this.pendingEvent = {
      vector,
      error: source === 'exception' && hasErrorCode(vector) ? error : -1,
      source,
      resume: source === 'exception' && !WITHOUT_RF.has(vector),
    };
  }

  private deliverPending(): boolean {
    const event = this.pendingEvent!;
    this.pendingEvent = null;
    this.cpu.set(Field.SHADOW_AT, NO_SHADOW);
    if (event.source === 'external' && event.vector === Vector.NMI) this.nmiBlocked = true;
    return this.deliverEvent(event);
  }

  /** Delivers, with what follows from faults on the way (SDM vol. 3, 6.15, interrupt 8). */
  private deliverEvent(first: PendingEvent): boolean {
    let event = first;
    for (;;) {
      if (this.announces(event)) return false;
      try {
        deliver(this, event.vector, event.error, event.source, event.resume);
        this.cpu.set(Field.LINK_FROM, 0);
        return true;
      } catch (reason) {
        if (reason instanceof GuestExit) {
          this.pendingEvent = event;
          return false;
        }
        if (!(reason instanceof GuestFault)) throw reason;
        const next = combine(event, reason);
        if (next === null) {
          this.exit.reason = Exit.SHUTDOWN;
          return false;
        }
        event = next;
      }
    }
  }

  /** Whether a debugger is told before this event is delivered: the exit is recorded, and the event waits. */
  private announces(event: PendingEvent): boolean {
    const { exceptions } = this.inspector;
    if (exceptions === 0 || event.source !== 'exception' || event.announced) return false;
    if (((exceptions >>> event.vector) & 1) === 0) return false;
    this.pendingEvent = { ...event, announced: true };
    this.stop(DebugKind.EXCEPTION, 0, this.inspector.codeAddress, false);
    this.exit.vector = event.vector;
    this.exit.error = event.error;
    return true;
  }

  // ---- What the system does -----------------------------------------------------------------------------

  /** Records a MEMORY exit. */
  memoryExit(gpa: number, prot: number): void {
    this.exit.reason = Exit.MEMORY;
    this.exit.gpa = gpa;
    this.exit.prot = prot;
  }

  cpuidOf(leaf: number, own: CpuidResult): CpuidResult | null {
    return this.world.configuredCpuid(leaf, own);
  }

  taskPriorityWritten(): void {
    if (this.tprExits) this.exitAfter = Exit.TPR_CHANGED;
  }

  debugChanged(): void {
    this.debug.update();
  }

  /** A task switch clears the local breakpoints; the T bit of the new TSS traps. */
  debugOnTask(trap: boolean): void {
    this.debug.onTask(trap);
  }

  /** For RDTSC without us (generate/integer/time-stamp.ts). Counted time is exact, and the helper's. */
  private lookAtClock(budget: number): void {
    const { cpu, time } = this;
    if (time.isCounted || this.stepping) return;
    this.readTsc();
    cpu.set64(Field.TSC, this.msrLow, this.msrHigh);
    cpu.set(Field.TSC_MARK, budget);
  }

  /** The guest or who runs it sets the time-stamp counter. */
  writeTsc(low: number, high: number): void {
    this.time.write(low, high);
    this.cpu.set(Field.TSC_MARK, NO_MARK);
  }

  /** The time-stamp counter into msrLow and msrHigh. */
  readTsc(): void {
    const ticks = this.time.read();
    this.msrLow = ticks | 0;
    this.msrHigh = Math.floor(ticks / TWO_32) | 0;
  }

  /** Instructions retired so far, exact at any moment: also in the middle of a block, for its helpers. */
  private count(): number {
    const { cpu } = this;
    const budget = this.heldBudget + cpu.get(Field.BUDGET);
    const inBlock = this.running === 0 ? 0 : cpu8(cpu, this.running + Record.NUMBER);
    return this.retired + cpu.get(Field.BUDGET_START) - budget + inBlock;
  }

  /** The instruction that the last exit was about was completed by the VMM. */
  completed(): void {
    this.retired++;
  }

  /** After registers were set from outside. */
  stateWasSet(): void {
    const { cpu } = this;
    const real = (cpu.get(Field.CR0) & Cr0.PE) === 0;
    const virtual = (cpu.get(Field.EFLAGS) & Eflags.VM) !== 0;
    cpu.set(Field.CPL, real ? 0 : virtual ? 3 : (cpu.attrib(SegmentIndex.SS) & Attrib.DPL) >>> 5);
    const long = (cpu.get(Field.EFER) & Efer.LME) !== 0 && (cpu.get(Field.CR0) & Cr0.PG) !== 0;
    const efer = cpu.get(Field.EFER);
    cpu.set(Field.EFER, long ? efer | Efer.LMA : efer & ~Efer.LMA);
    this.mmu.flushAll();
    cpu.updateMode();
    this.debug.update();
  }
}

function cpu8(cpu: Cpu, address: number): number {
  return cpu.bytes[address];
}

/** What a fault during the delivery of an event leads to: the fault, a double fault, or null for shutdown. */
function combine(event: PendingEvent, fault: GuestFault): PendingEvent | null {
  const second: PendingEvent = {
    vector: fault.vector,
    error: hasErrorCode(fault.vector) ? fault.error : -1,
    source: 'exception',
    resume: true,
  };
  if (event.source !== 'exception') return second;
  if (event.vector === Vector.DF) return null;
  const contributes = CONTRIBUTORY.has(fault.vector) || fault.vector === Vector.PF;
  const double =
    (CONTRIBUTORY.has(event.vector) && CONTRIBUTORY.has(fault.vector)) ||
    (event.vector === Vector.PF && contributes);
  return double ? { vector: Vector.DF, error: 0, source: 'exception', resume: false } : second;
}
