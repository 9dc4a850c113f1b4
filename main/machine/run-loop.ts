import type { Lapic } from '../devices/lapic.ts';
import { Cr, EventType, Exit, Gpr, Intr, Msr, State, VcpuConf } from '../nvmm/constants.ts';
import { portableCpuid } from '../nvmm/cpu-model.ts';
import { NvmmError } from '../nvmm/errors.ts';
import type { Machine, Nvmm, Vcpu } from '../nvmm/nvmm.ts';
import type { Backwards } from './backwards.ts';
import { resetState, startupState } from './boot/cpu-state.ts';
import type { QueuedEvent, VcpuCapture } from './capture.ts';
import type { DeviceLock, MachineClock, Mailbox } from './control.ts';
import { Command } from './control.ts';
import type { Stop } from './debug.ts';
import { MachineError } from './errors.ts';
import { ExitAnswers } from './exit-answers.ts';
import { address, counterOf, exitLines } from './exit-names.ts';
import type { ExitTraceWriter } from './exit-trace.ts';
import type { LayeredDisk } from './layered-disk.ts';
import type { Pc } from './pc.ts';
import type { CrashReport } from './protocol.ts';
import type { Timeline } from './timeline.ts';
import { StandingPorts } from './standing-ports.ts';
import { TscRelation } from './tsc.ts';
import type { Understudy } from './understudy.ts';
import { VcpuDebug } from './vcpu-debug.ts';

/** What a vCPU's thread tells the I/O thread. */
export type VcpuReport =
  /** `order` is that of the mailbox when it was answered: the command may have been given again meanwhile. */
  | { kind: 'paused'; vcpu: number; order: number }
  | { kind: 'stopped'; vcpu: number }
  | { kind: 'crash'; crash: CrashReport }
  /** A breakpoint or the like was met: the vCPU stands still until it is paused and told to run. */
  | { kind: 'debug'; stop: Stop }
  | { kind: 'power'; action: 'reset' | 'off'; cause: string };

/** What a run loop works on. */
export interface VcpuEnvironment {
  nvmm: Nvmm;
  machine: Machine;
  vcpu: Vcpu;
  pc: Pc;
  lock: DeviceLock;
  clock: MachineClock;
  mailbox: Mailbox;
  /** Where exits are written down; null: nowhere. */
  trace: ExitTraceWriter | null;
  report(report: VcpuReport): void;
  /** The time of a deterministic machine; null: the host's clock. */
  timeline: Timeline | null;
  /** Runs what the backend can't; null: that is the end of the guest. */
  understudy: Understudy | null;
  /** Takes the messages that have come. While the vCPU is paused, and when it is about to go on. */
  serve(): void;
}

/**
 * Entries that an event gets to be delivered in before a pause. One is enough, unless a stop comes first or the
 * delivery itself leaves to a device.
 */
const SETTLING_RUNS = 16;

const RFLAGS_IF = 1 << 9;
const VECTOR_NMI = 2;

/** How long a step of a halted vCPU waits for what wakes it, in ms: a guest's timer tick, and no annoyance. */
const STEP_PATIENCE_MS = 100;

/** All that is of interest of one vCPU's thread: enter the guest, handle the exit, look at the mailbox, again. */
export class RunLoop {
  private readonly nvmm: Nvmm;
  private readonly machine: Machine;
  private readonly vcpu: Vcpu;
  private readonly pc: Pc;
  private readonly lock: DeviceLock;
  private readonly clock: MachineClock;
  private readonly mailbox: Mailbox;
  private readonly lapic: Lapic;
  private readonly environment: VcpuEnvironment;
  private readonly tsc: TscRelation;
  private readonly id: number;
  private readonly trace: ExitTraceWriter | null;
  private readonly answers: ExitAnswers;
  readonly debug: VcpuDebug;
  private readonly timeline: Timeline | null;
  /** Null where each access of a port is an exit. */
  private readonly ports: StandingPorts | null;

  /** Met a breakpoint: stands still until it is paused. */
  private stopped: Stop | null = null;
  /** Goes on from where it would stop again at once. */
  private passing = false;
  /** After HLT, until something wakes it. */
  private halted = false;
  /** After a power event or a crash: stands still until the I/O thread has decided. */
  private parked = true;
  /** Something may be deliverable. */
  private attention = true;
  /** Devices were touched: their deadlines, and the local APIC's TPR, may be others. */
  private stale = true;
  /** An exception waits for the next entry: nothing else can be injected. */
  private queued: QueuedEvent | null = null;
  private deadline = 0;
  private cr8 = 0;
  /** Where the time stamp counter stood when the vCPU was paused: it goes on from there. */
  private heldTsc: bigint | null = null;

  constructor(environment: VcpuEnvironment) {
    this.environment = environment;
    this.nvmm = environment.nvmm;
    this.machine = environment.machine;
    this.vcpu = environment.vcpu;
    this.pc = environment.pc;
    this.lock = environment.lock;
    this.clock = environment.clock;
    this.mailbox = environment.mailbox;
    this.trace = environment.trace;
    this.timeline = environment.timeline;
    this.id = this.vcpu.cpuid;
    this.lapic = this.pc.interrupts.apics.get(this.id);
    this.tsc = new TscRelation(this.nvmm, this.machine, this.vcpu, this.clock, this.mailbox);
    this.debug = new VcpuDebug(this.nvmm, this.machine, this.vcpu);
    const alone = this.timeline === null && this.pc.msrs.length === 1;
    this.ports = alone
      ? StandingPorts.of(this.nvmm, this.machine, this.vcpu, this.pc.ports, this.trace)
      : null;
    this.answers = new ExitAnswers(environment, this.tsc, this.ports, {
      touched: () => (this.stale = true),
      attends: () => (this.attention = true),
      look: () => this.look(),
      halts: () => (this.halted = true),
      inject: (type, vector) => this.inject(type, vector),
      crash: (reason) => this.crash(reason),
    });
    environment.understudy?.use(this.answers.assist);
    this.configure();
  }

  /** Runs until told to stop. */
  run(): void {
    for (;;) {
      const { wanted } = this.mailbox;
      if (wanted === Command.STOP) break;
      if (wanted === Command.PAUSE) {
        this.pause();
        continue;
      }
      if (this.parked || this.stopped !== null || this.lapicWaits()) {
        this.standStill();
        continue;
      }
      if (this.timeline !== null && !this.timeline.attend(this.halted)) continue;
      this.backwards?.attend();
      if (this.passing) {
        this.pass();
        continue;
      }
      if (this.halted) {
        this.halt();
        continue;
      }
      this.prepare();
      // Delivering may have found an INIT, which puts the vCPU to sleep.
      if (this.parked || this.halted) continue;
      this.enter();
      this.handle();
      if (this.stopped !== null) this.environment.report({ kind: 'debug', stop: this.stopped });
    }
    this.environment.report({ kind: 'stopped', vcpu: this.id });
  }

  /** Runs the guest until it exits. */
  private enter(): void {
    this.timeline?.enter(this.deadline);
    this.nvmm.run(this.machine, this.vcpu);
    this.timeline?.left();
    this.queued = null;
    if (this.ports !== null) this.takePorts(this.ports);
  }

  /** What the guest did with ports without leaving comes before what it left for. */
  private takePorts(ports: StandingPorts): void {
    const { count } = ports;
    if (count === 0) return;
    const now = this.clock.now();
    // They are in the trace like exits, and so among what is counted; the backend's own counters tell how many these are.
    this.mailbox.counters[counterOf(Exit.IO)] += count;
    this.lock.acquire();
    ports.left(now);
    this.lock.release();
  }

  /** The same, for the sake of an event that waits: where instructions are counted, none is run. */
  private enterToDeliver(): void {
    if (this.timeline === null) return this.enter();
    this.timeline.enterToDeliver();
    this.nvmm.run(this.machine, this.vcpu);
    this.queued = null;
  }

  /**
   * Lets the vCPU take an event whose delivery was interrupted: the state says that there is one, but not which. Only
   * what moves the guest on does that, so it runs on for less than a time slice.
   */
  private settle(): void {
    for (let runs = 0; runs < SETTLING_RUNS && !this.parked && !this.halted; runs++) {
      // At an exception that a debugger wants to see, that one is waiting.
      if (this.stopped !== null || (this.vcpu.exit.intr & Intr.EVT_PENDING) === 0) return;
      this.enterToDeliver();
      this.handle();
      if (this.stopped !== null) this.environment.report({ kind: 'debug', stop: this.stopped });
    }
  }

  private configure(): void {
    const { nvmm, machine, vcpu } = this;
    nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CALLBACKS, this.answers.assist);
    const { vcpuConfSupport } = nvmm.capability();
    if ((vcpuConfSupport & 1) !== 0) {
      for (const conf of portableCpuid()) nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CPUID, conf);
    }
    if ((vcpuConfSupport & 2) !== 0) nvmm.vcpuConfigure(machine, vcpu, VcpuConf.TPR, { exitChanged: true });
  }

  private pause(): void {
    this.settle();
    // The counter of a deterministic machine stands still by itself.
    this.heldTsc = this.parked || this.timeline !== null ? null : this.tsc.take();
    this.timeline?.paused();
    let answered = -1;
    for (;;) {
      const { ticket, order } = this.mailbox;
      if (this.mailbox.wanted !== Command.PAUSE) break;
      if (this.mailbox.takeReload()) this.reload();
      if (order !== answered) {
        answered = order;
        this.environment.report({ kind: 'paused', vcpu: this.id, order });
      }
      this.environment.serve();
      this.mailbox.sleep(ticket, Infinity);
    }
    if (this.mailbox.wanted === Command.STOP) return;
    this.environment.serve();
    if (this.mailbox.takeReload()) this.reload();
    if (this.heldTsc !== null) this.tsc.put(this.heldTsc);
    this.stopped = null;
    this.passing = !this.parked && this.debug.standsAtStop();
    this.look();
  }

  /**
   * Runs one instruction, or delivers one event; what the instruction does to ports, device memory and MSRs is part of
   * it. Only while the vCPU is paused.
   */
  step(): Stop {
    if (this.parked) throw new MachineError('wrong-state', 'The vCPU has crashed: there is nothing to step.');
    const timeStands = this.heldTsc !== null;
    if (this.heldTsc !== null) this.tsc.put(this.heldTsc);
    this.stopped = null;
    this.look();
    // A machine that has only been stepped so far can go back, too.
    this.backwards?.attend();
    try {
      return this.debug.stepping(() => this.stepOnce());
    } finally {
      this.heldTsc = timeStands && !this.parked ? this.tsc.take() : null;
    }
  }

  /** One step with a backend that is set to it. */
  private stepOnce(): Stop {
    const { debug } = this;
    for (;;) {
      if (this.halted && !this.awaitWake()) return this.haltedStop();
      if (this.lapicWaits()) return debug.stop('halted', 'The vCPU waits for its start-up message (SIPI).');
      this.timeline?.attend(false, true);
      this.prepare();
      if (this.parked || this.halted) continue;
      this.enter();
      this.handle();
      const stopped = this.takeStopped();
      if (stopped === null && this.continues()) continue;
      debug.passed();
      if (stopped !== null) return stopped;
      if (this.parked) return debug.stop('triple-fault', 'The guest has ended in this step.');
      if (this.halted) return this.haltedStop();
      return debug.stop('step', 'One instruction, with what it did to a device.');
    }
  }

  private takeStopped(): Stop | null {
    const { stopped } = this;
    this.stopped = null;
    return stopped;
  }

  /** Whether the exit that was handled is no end of an instruction, so that the step goes on. */
  private continues(): boolean {
    if (this.parked || this.halted) return false;
    const { reason } = this.vcpu.exit;
    // What the instruction ended with, an exception, is delivered by another run.
    if (this.queued !== null) return true;
    const between: number[] = [Exit.NONE, Exit.STOPPED, Exit.INT_READY, Exit.NMI_READY];
    return between.includes(reason);
  }

  private haltedStop(): Stop {
    const open = (this.vcpu.exit.rflagsLow & RFLAGS_IF) !== 0;
    return this.debug.stop(
      'halted',
      open
        ? 'The vCPU is halted (HLT) until an interrupt comes; none has yet.'
        : 'The vCPU is halted (HLT) with interrupts off: only an NMI, an INIT or a reset gets it on.',
    );
  }

  /** Waits a little for what wakes a halted vCPU; whether it came. */
  private awaitWake(): boolean {
    const end = performance.now() + STEP_PATIENCE_MS;
    for (;;) {
      const { ticket } = this.mailbox;
      this.timeline?.attend(true, true);
      const until = this.untilWake();
      if (!this.halted) return true;
      const left = end - performance.now();
      if (left <= 0 || (until === Infinity && (this.vcpu.exit.rflagsLow & RFLAGS_IF) === 0)) return false;
      this.sleep(until, ticket, left);
    }
  }

  /** Gets past a breakpoint that the vCPU stands at. */
  private pass(): void {
    this.passing = false;
    const stop = this.debug.stepping(() => this.stepOnce());
    if (stop.reason === 'step' || stop.reason === 'halted' || this.parked) return;
    this.stopped = stop;
    this.environment.report({ kind: 'debug', stop });
  }

  /** Lets the time stamp counter go on while the vCPU is paused. */
  letTimeRun(): void {
    this.heldTsc = null;
  }

  /** The guest-physical address of a linear one, or why there is none. */
  translate(low: number, high: number): { gpa: number; prot: number } | { fault: string } {
    try {
      return this.nvmm.gvaToGpa(this.machine, this.vcpu, low, high);
    } catch (error) {
      if (!(error instanceof NvmmError)) throw error;
      return { fault: error.message };
    }
  }

  /** Of a deterministic machine: its vCPU's thread does the disks' work, too. */
  disks: readonly LayeredDisk[] = [];

  /** Set where the machine keeps a history. */
  backwards: Backwards | null = null;

  get isDelivering(): boolean {
    return (this.vcpu.exit.intr & Intr.EVT_PENDING) !== 0;
  }

  /** Goes back by an instruction, or to the last stop. Only while the vCPU is paused. */
  back(to: 'step' | 'stop'): Stop {
    if (this.backwards === null) {
      throw new MachineError(
        'wrong-state',
        'This machine keeps no history: it can go back when it is deterministic and was started with one.',
      );
    }
    this.stopped = null;
    return to === 'step' ? this.backwards.step() : this.backwards.toStop();
  }

  replayTo(count: number): Stop | null {
    const timeline = this.exactTimeline();
    return timeline.seek(count, () => {
      for (;;) {
        timeline.attend(this.halted, true);
        if (this.parked || timeline.instructions >= count) return null;
        if (this.halted) {
          const { at } = timeline;
          const until = this.untilWake();
          if (this.halted) this.sleep(until, this.mailbox.ticket, 0);
          if (this.halted && timeline.at === at) return null;
          continue;
        }
        this.prepare();
        if (this.parked || this.halted) continue;
        this.enter();
        this.handle();
        const stopped = this.takeStopped();
        if (stopped !== null) return stopped;
      }
    });
  }

  passStop(): Stop | null {
    const stop = this.debug.stepping(() => this.stepOnce());
    return stop.reason === 'step' || stop.reason === 'halted' || this.parked ? null : stop;
  }

  standAt(stop: Stop): void {
    this.debug.standAt(stop);
  }

  standing(reason: 'step' | 'pause', message: string): Stop {
    return this.debug.stop(reason, message);
  }

  /** The timeline of a deterministic machine; throws in any other. */
  exactTimeline(): Timeline {
    if (this.timeline !== null) return this.timeline;
    throw new Error("this machine runs by the host's clock: start it with deterministic time");
  }

  /** The vCPU's whole state. Only while it is paused; its time stamp counter is the one it was paused at. */
  readState(): Uint8Array {
    const { state } = this.vcpu;
    this.nvmm.getState(this.machine, this.vcpu, State.ALL);
    if (this.heldTsc !== null) state.setMsr(Msr.TSC, this.heldTsc);
    return state.bytes.slice();
  }

  /**
   * Changes the areas of the state that `flags` names. Only while it is paused. One that sleeps after HLT wakes when it
   * is sent elsewhere.
   */
  writeState(flags: number, bytes: Uint8Array): void {
    const { state } = this.vcpu;
    this.nvmm.getState(this.machine, this.vcpu, State.GPRS);
    const { rip } = state;
    state.bytes.set(bytes);
    if ((flags & State.GPRS) !== 0 && state.rip !== rip) this.halted = false;
    this.nvmm.setState(this.machine, this.vcpu, flags);
    if ((flags & State.MSRS) !== 0 && this.timeline === null) this.heldTsc = state.msr(Msr.TSC);
    this.nvmm.getState(this.machine, this.vcpu, State.ALL);
    this.vcpu.exit.reflect(state);
  }

  /** All that makes the vCPU go on as it would have. Only while it is paused. */
  save(): VcpuCapture {
    const state = this.readState();
    if ((this.vcpu.state.intr & Intr.EVT_PENDING) !== 0) {
      throw new Error('it is in the middle of taking an event: resume, and pause it again');
    }
    const timeline = this.timeline === null ? {} : { timeline: this.timeline.save() };
    return { state, halted: this.halted, parked: this.parked, event: this.queued, ...timeline };
  }

  /**
   * Gets rid of events that wait in the backend, before `load`: none can be called back, so the vCPU runs with them,
   * and what it does is to be written over. Only while it is paused.
   */
  discard(): void {
    for (let runs = 0; runs < SETTLING_RUNS; runs++) {
      if (this.queued === null && (this.vcpu.exit.intr & Intr.EVT_PENDING) === 0) return;
      this.enterToDeliver();
    }
  }

  /** Puts back what `save` gave, of this vCPU or of one on another backend. Only while it is paused. */
  load({ state, halted, parked, event, timeline }: VcpuCapture): void {
    const { vcpu } = this;
    vcpu.state.bytes.set(state);
    vcpu.state.intr &= ~Intr.EVT_PENDING;
    this.nvmm.setState(this.machine, vcpu, State.ALL);
    vcpu.exit.reflect(vcpu.state);
    this.halted = halted;
    this.parked = parked;
    this.cr8 = vcpu.state.cr8;
    this.trace?.restart();
    if (this.timeline === null) this.heldTsc = vcpu.state.msr(Msr.TSC);
    else {
      this.timeline.load(timeline);
      this.tsc.relate(this.clock.now());
    }
    if (event !== null) this.inject(event.type, event.vector, event.error);
    this.look();
  }

  /** Goes on from a snapshot. Only while it is paused. */
  restore(capture: VcpuCapture): void {
    this.load(capture);
    this.timeline?.forget();
    this.backwards?.forget();
  }

  /** Takes the state that the I/O thread has put into the mailbox: power-on and reset. While paused. */
  private reload(): void {
    this.vcpu.state.bytes.set(this.mailbox.state.bytes);
    this.nvmm.setState(this.machine, this.vcpu, State.ALL);
    this.vcpu.exit.reflect(this.vcpu.state);
    this.parked = this.halted = false;
    this.cr8 = 0;
    this.trace?.restart();
    if (this.timeline === null) this.heldTsc = this.vcpu.state.msr(Msr.TSC);
    else {
      this.timeline.restart();
      this.tsc.relate(this.clock.now());
    }
  }

  private look(): void {
    this.attention = true;
    this.stale = true;
  }

  /** An application processor that nobody has started, and that nothing else can wake. */
  private lapicWaits(): boolean {
    return this.lapic.waitingForSipi && !this.lapic.sipiPending && !this.lapic.initPending;
  }

  private standStill(): void {
    const ticket = this.mailbox.ticket;
    const still = this.parked || this.stopped !== null || this.lapicWaits();
    if (this.mailbox.wanted !== Command.RUN || !still) return;
    this.mailbox.sleep(ticket, Infinity);
    this.look();
  }

  /** Sleeps after HLT until an interrupt can be taken or the mailbox is written to. */
  private halt(): void {
    const ticket = this.mailbox.ticket;
    if (this.mailbox.wanted !== Command.RUN) return;
    const until = this.untilWake();
    if (this.halted) this.sleep(until, ticket, Infinity);
  }

  /** Sleeps to a deadline on the machine's clock, unless somebody wakes; at most so many milliseconds. */
  private sleep(until: number, ticket: number, most: number): void {
    if (this.timeline !== null) return this.timeline.skip(until, ticket, most);
    const ms = Math.min((until - this.clock.now()) / 1e6, most);
    if (ms > 0) this.mailbox.sleep(ticket, ms);
  }

  /** Wakes a halted vCPU when something does; else says when to look again, in ns on the machine's clock. */
  private untilWake(): number {
    const { rflagsLow, intr } = this.vcpu.exit;
    const takesInterrupts = (rflagsLow & RFLAGS_IF) !== 0;
    this.lock.acquire();
    const now = this.clock.now();
    this.pc.tick(this.id, now);
    const wakes =
      this.lapic.initPending ||
      (this.lapic.nmiPending && (intr & Intr.NMI_WINDOW_EXITING) === 0) ||
      (takesInterrupts && this.pc.interrupts.hasInterrupt(this.id));
    const deadline = this.pc.deadline(this.id);
    this.lock.release();
    if (wakes) {
      this.halted = false;
      this.look();
      return 0;
    }
    // With interrupts off no timer can wake a lone vCPU; the first of several keeps time for the others.
    const timers = takesInterrupts || this.pc.msrs.length > 1;
    return timers ? deadline : Infinity;
  }

  /** Before each entry: timers that are due, TPR, and what is to be injected. */
  private prepare(): void {
    if (this.mailbox.takeAttention()) this.look();
    const now = this.clock.now();
    this.trace?.enter(now);
    this.ports?.entered(now);
    if (this.stale || now >= this.deadline) this.serveTimers(now);
    if (this.attention && this.queued === null) {
      this.lock.acquire();
      // Whoever takes an interrupt must not be answered what was before it.
      this.ports?.refresh(this.debug.stopsAtExits);
      this.deliver();
      this.lock.release();
    }
  }

  private serveTimers(now: number): void {
    this.lock.acquire();
    this.deadline = this.pc.deadline(this.id);
    if (now >= this.deadline) {
      this.pc.tick(this.id, now);
      this.deadline = this.pc.deadline(this.id);
    }
    const { cr8 } = this.lapic;
    this.ports?.refresh(this.debug.stopsAtExits);
    this.lock.release();
    this.nvmm.runUntil?.(this.vcpu, this.clock.hostTime(Math.min(this.deadline, this.tsc.wantedAt)));
    this.stale = false;
    // Raising an interrupt in this thread says so in the mailbox, too.
    if (this.mailbox.takeAttention()) this.attention = true;
    if (cr8 === this.cr8) return;
    this.cr8 = cr8;
    this.nvmm.getState(this.machine, this.vcpu, State.CRS);
    this.vcpu.state.setCr(Cr.CR8, BigInt(cr8));
    this.nvmm.setState(this.machine, this.vcpu, State.CRS);
  }

  /** Injects the most urgent thing that can be, or asks to be called when it can. Under the lock. */
  private deliver(): void {
    const { lapic } = this;
    if (lapic.initPending && lapic.takeInit()) {
      this.initialize();
      return;
    }
    if (lapic.sipiPending) {
      const vector = lapic.takeSipi();
      if (vector >= 0) this.startUp(vector);
    }
    const { intr, rflagsLow } = this.vcpu.exit;
    // An event whose delivery was interrupted goes first, and would be lost under another.
    if ((intr & Intr.EVT_PENDING) !== 0) return;
    if (lapic.nmiPending && (intr & Intr.NMI_WINDOW_EXITING) === 0) {
      lapic.takeNmi();
      this.inject(EventType.INTR, VECTOR_NMI);
      return;
    }
    const { interrupts } = this.pc;
    if (!interrupts.hasInterrupt(this.id)) {
      this.attention = false;
      return;
    }
    const open = (rflagsLow & RFLAGS_IF) !== 0 && (intr & (Intr.INT_SHADOW | Intr.INT_WINDOW_EXITING)) === 0;
    if (open) {
      const vector = interrupts.takeInterrupt(this.id);
      if (vector >= 0) this.inject(EventType.INTR, vector);
      // Another one may wait behind it: it is looked at after the next exit.
      if (!interrupts.hasInterrupt(this.id)) {
        this.attention = false;
        return;
      }
    }
    if ((intr & Intr.INT_WINDOW_EXITING) === 0) this.armWindow();
    this.attention = false;
  }

  /** Makes the guest exit with INT_READY as soon as it can take an interrupt. */
  private armWindow(): void {
    const { nvmm, machine, vcpu } = this;
    nvmm.getState(machine, vcpu, State.INTR);
    vcpu.state.intr |= Intr.INT_WINDOW_EXITING;
    nvmm.setState(machine, vcpu, State.INTR);
  }

  private inject(type: number, vector: number, error = 0): void {
    this.vcpu.event.set(type, vector, error);
    this.nvmm.inject(this.machine, this.vcpu);
    this.trace?.inject(type, vector);
    this.queued = { type, vector, error };
  }

  /** INIT: the state of RESET. An application processor then waits for a start-up message (SDM volume 3, 9.4). */
  private initialize(): void {
    resetState(this.vcpu.state);
    this.nvmm.setState(this.machine, this.vcpu, State.ALL & ~State.FPU);
    this.halted = false;
    this.look();
  }

  private startUp(vector: number): void {
    startupState(this.vcpu.state, vector);
    this.nvmm.setState(this.machine, this.vcpu, State.ALL & ~State.FPU);
    this.halted = false;
  }

  private handle(): void {
    const { exit } = this.vcpu;
    const { reason } = exit;
    const now = this.clock.now();
    if (exit.cr8 !== this.cr8) this.taskPriority(exit.cr8);
    const stop = this.debug.atExit();
    // A stop before something: it is an exit when the vCPU goes on.
    if (stop !== null && !this.debug.isOver) {
      this.stopped = stop;
      return;
    }
    this.mailbox.counters[counterOf(reason)]++;
    // At any exit: a guest may be busy for long without a time slice that ends, and its deadlines hang on it.
    if (this.timeline === null && this.tsc.observe(now)) this.stale = true;
    // Time slices tell nothing, and would push what matters out of the trace.
    if (reason === Exit.NONE) {
      // Something may have come in for a port that is answered in place.
      if (this.ports !== null) this.stale = true;
      return;
    }
    // Wherever there is an instruction to complete, its registers are needed; the trace wants RIP of every exit.
    if (this.trace !== null || exit.npcOffset() !== undefined || reason === Exit.MEMORY) {
      this.nvmm.getState(this.machine, this.vcpu, State.GPRS);
    }
    this.trace?.begin(this.vcpu, now);
    this.answers.answer(reason, now);
    this.trace?.end();
    if (stop !== null && !this.parked) this.stopped = stop;
  }

  private taskPriority(cr8: number): void {
    this.cr8 = cr8;
    this.lock.acquire();
    this.lapic.setTpr(cr8);
    this.lock.release();
    this.attention = true;
  }

  private crash(reason: string): void {
    const { nvmm, machine, vcpu } = this;
    this.parked = true;
    this.trace?.end();
    nvmm.getState(machine, vcpu, State.GPRS);
    const rip = address(vcpu.state.gprLow(Gpr.RIP), vcpu.state.gprHigh(Gpr.RIP));
    this.environment.report({
      kind: 'crash',
      crash: {
        vcpu: this.id,
        reason,
        rip,
        exits: this.trace === null ? [] : exitLines(this.trace.written, this.pc.names),
      },
    });
  }

  /** The guest asked for a reset or switched itself off: it does nothing more until the I/O thread has acted. */
  power(action: 'reset' | 'off', cause: string): void {
    if (this.parked) return;
    this.parked = true;
    this.environment.report({ kind: 'power', action, cause });
  }
}
