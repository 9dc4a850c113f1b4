import { DebugKind, Exit } from '../nvmm/constants.ts';
import type { DebugConf } from '../nvmm/nvmm.ts';
import { Blocks, BLOCK_MAXIMUM } from './blocks.ts';
import { Attrib, Cpu, Cr0, Efer, Eflags } from './cpu.ts';
import { Decoder } from './decoder/decoder.ts';
import { Events } from './events.ts';
import { noExit, stopFor } from './exit-record.ts';
import { GuestExit, GuestFault, Vector } from './fault.ts';
import { codeSizeOf } from './generate/form.ts';
import { SETTLE } from './generate/unsettled.ts';
import { Handlers } from './generate/handlers.ts';
import { reserveUsual } from './generate/usual.ts';
import { PROCESSOR_GROUPS } from './groups.ts';
import { Inspector } from './inspector.ts';
import { LinearMemory, type PhysicalFallback } from './linear.ts';
import { Locator } from './locator.ts';
import { Mmu } from './mmu.ts';
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
  readonly events: Events;
  private readonly locator: Locator;
  readonly cpuid: number;
  private readonly world: Surroundings;

  /** The exit that is being recorded. */
  readonly exit = noExit();
  /** A retired instruction (HLT, a TPR write) wants this exit; NONE otherwise. */
  exitAfter: number = Exit.NONE;

  intWindow = false;
  nmiWindow = false;
  /** The next instruction runs in an interrupt shadow. */
  shadow = false;
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
        find: () => (this.inspector.hasCode || this.intWindow ? 0 : this.locator.find()),
        clock: (_s, budget) => this.lookAtClock(budget),
        missed: (_s, record, head) => this.translator.missed(record, head),
      },
      PROCESSOR_GROUPS,
    );
    const settle = this.handlers.routine(SETTLE);
    cpu.settleFlags = () => settle(cpu.s);
    this.events = new Events(this);
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
    this.locator = new Locator(cpu, this.mmu, this.blocks, this.inspector, (gpa, prot) =>
      this.memoryExit(gpa, prot),
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
    if (!this.events.waits) return false;
    inspector.recording = true;
    this.cpu.set(Field.SHADOW_AT, NO_SHADOW);
    const delivered = this.events.deliverPending();
    inspector.recording = false;
    if (!delivered) {
      inspector.hit = null;
      return true;
    }
    if (inspector.hit !== null) return this.stopWatched();
    if (inspector.step) stopFor(this.exit, DebugKind.STEP, 0, inspector.codeAddress, false);
    return inspector.step;
  }

  private stopWatched(): true {
    const { index, address, write } = this.inspector.hit!;
    this.inspector.hit = null;
    stopFor(this.exit, DebugKind.WATCHPOINT, index, address, write);
    return true;
  }

  /** Whether RIP is at a breakpoint: the stop is recorded. */
  private stopsHere(): boolean {
    if (this.inspector.step) return false;
    const address = this.inspector.codeAddress;
    const index = this.inspector.breakpointAt(address);
    if (index < 0) return false;
    stopFor(this.exit, DebugKind.BREAKPOINT, index, address, false);
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
    if (inspector.step) stopFor(this.exit, DebugKind.STEP, 0, inspector.codeAddress, false);
    return again && !inspector.step;
  }

  /** After a burst that ended: whether that was for a watched access, which is stepped here, and the run goes on. */
  private takeTurnedBack(): boolean {
    const { inspector } = this;
    if (!inspector.turnedBack) return false;
    inspector.turnedBack = false;
    this.exit.reason = Exit.NONE;
    if (!this.events.waits) return this.stepInspected();
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
    if (this.cpu.get(Field.LINK_FROM) !== 0) this.locator.noteLinkPage();
    // In a shadow that an armed window waits for, one instruction has to be run alone.
    if (this.intWindow && this.inShadow()) return this.step();
    const record = this.locator.locate(false);
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
    const record = this.locator.locate(true);
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
        if (!this.stepping && this.debug.afterTransfer()) return this.events.trap(Vector.DB);
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
        return this.events.raise(cpu.get(Field.FAULT_VECTOR), cpu.get(Field.FAULT_ERROR));
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
    if (debug.active && (flags & Eflags.RF) === 0 && debug.hitsCode()) return this.events.raise(Vector.DB, 0);
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
    const record = this.locator.locate(true);
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
    return this.events.trap(Vector.DB) && again;
  }

  get isStepping(): boolean {
    return this.stepping;
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
