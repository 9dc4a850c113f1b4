import type { InstructionTime, Machine, Nvmm, Vcpu } from '../nvmm/nvmm.ts';
import { State } from '../nvmm/constants.ts';
import { INPUT_RING_BYTES } from '../devices/serial-ring.ts';
import { saveDevices } from './capture.ts';
import type { DeviceLock, MachineClock, Mailbox } from './control.ts';
import type { GuestRam } from './memory.ts';
import type { Pc } from './pc.ts';
import { VIRTIO_CONSOLE } from './pc.ts';
import { hashState } from './state-hash.ts';
import type {
  DeterministicConfig,
  InputQueue,
  MachineInput,
  OutputQueue,
  SeededRandom,
  TimedInput,
  TimelineCapture,
} from './timeline-input.ts';

/**
 * Instructions between two looks at what comes from outside: some 10 ms of the emulator's time, which is what a
 * typed byte or a pause may wait; and seldom enough that the last 64, which are run one by one, cost about 1 %.
 */
const SLICE = 1_000_000;
/** How often output that found no room is offered again, in ms. */
const RETRY_MS = 5;

/** What a timeline needs of its vCPU's thread. */
export interface TimelineHost {
  nvmm: Nvmm;
  machine: Machine;
  vcpu: Vcpu;
  ram: GuestRam;
  pc: Pc;
  lock: DeviceLock;
  clock: MachineClock;
  mailbox: Mailbox;
  time: InstructionTime;
  random: SeededRandom;
  inputs: InputQueue[];
  outputs: OutputQueue[];
  /** Takes the messages that have come: `give` and `goal` are called from there. */
  serve(): void;
  /** A hash was wanted at this count. */
  hashed(instructions: number, hash: string): void;
  recorded(input: TimedInput): void;
  /** The goal is reached: the vCPU stands still until it has been paused. */
  reached(instructions: number): void;
  reset(): void;
  /** Nothing will happen without an input. Absent: the vCPU sleeps until one comes. */
  idle?(): void;
}

/**
 * The time of a deterministic machine. Time is a count: each instruction is a nanosecond (the emulator's
 * time-stamp counter ticks at 1 GHz, so that nothing is ever converted or rounded, and a guest sees a processor
 * of a plausible speed), and HLT skips to what the processor would have waited for. Everything that comes
 * from outside comes in `attend`, at a known time; devices work on this vCPU's thread, at once.
 */
export class Timeline {
  private readonly host: TimelineHost;
  private readonly config: Required<Omit<DeterministicConfig, 'seed' | 'unixSeconds' | 'replay'>>;
  private readonly time: InstructionTime;
  /** The timeline's position at which the machine was powered on or reset: the machine's clock counts from there. */
  private origin = 0;
  private sliceEnd = 0;
  private queuesWait = false;
  /** Live inputs that are not taken yet, beside those in the rings. */
  private given: MachineInput[] = [];
  /** Inputs to be given at their times, and the next of them. */
  private script: TimedInput[];
  private nextReplay = 0;
  /** Every input that was taken, where there is a history. */
  private readonly log: TimedInput[] = [];
  /** How far the machine has been: until there again, nothing is printed or told. */
  private furthest = 0;
  /** On the way to a place in the past. */
  private seeking = false;
  private nextHash = 0;
  private goal: number;
  private standing = false;
  private readonly piece = new Uint8Array(4096);

  constructor(config: DeterministicConfig, host: TimelineHost) {
    this.config = { paced: true, record: false, hashAt: [], until: Infinity, history: 0, ...config };
    this.script = config.replay ?? [];
    this.host = host;
    this.time = host.time;
    this.goal = this.config.until;
  }

  /** Nanoseconds since the machine's process began, without the time that it was paused. */
  get at(): number {
    return this.time.count + this.time.skipped;
  }

  get instructions(): number {
    return this.time.count;
  }

  /** Power-on and reset: the machine's clock is at 0. */
  restart(): void {
    this.origin = this.at;
    this.host.clock.freeze(0);
  }

  /** A virtqueue's bell was rung. */
  ring(): void {
    this.queuesWait = true;
  }

  /** An input from outside. */
  give(input: MachineInput): void {
    this.given.push(input);
  }

  /** Makes the vCPU stop at this count of instructions. */
  setGoal(instructions: number): void {
    this.goal = instructions;
  }

  /** The vCPU has been paused: what it stood still for is known. */
  paused(): void {
    this.standing = false;
  }

  /**
   * Before each entry and each sleep: whatever is not the guest's own doing. False when the vCPU has to wait, which
   * one that is stepped by a debugger never does.
   */
  attend(halted: boolean, stepping = false): boolean {
    const { host } = this;
    if (this.queuesWait) this.serveQueues();
    if (!this.flushOutputs() && !stepping) {
      host.mailbox.sleep(host.mailbox.ticket, RETRY_MS);
      return false;
    }
    const { count } = this.time;
    if (this.at < this.furthest) this.nextHash = this.config.hashAt.findIndex((one) => one > count);
    if (this.nextHash < 0) this.nextHash = this.config.hashAt.length;
    if (this.at >= this.furthest) {
      for (const output of host.outputs) output.muted = false;
      this.tellHashes(count);
    }
    if (!stepping && this.stands(count)) return false;
    this.replay();
    if (halted || count >= this.sliceEnd) {
      this.sliceEnd = (Math.floor(count / SLICE) + 1) * SLICE;
      if (!stepping) host.serve();
      if (this.nextReplay === this.script.length && !stepping) this.takeLive();
    }
    if (this.queuesWait) this.serveQueues();
    return true;
  }

  private flushOutputs(): boolean {
    let all = true;
    for (const output of this.host.outputs) all = output.flush() && all;
    return all;
  }

  /** Before the guest is entered: it comes back by `deadline`, in ns on the machine's clock. */
  enter(deadline: number): void {
    const { time, config } = this;
    let limit = Math.min(this.sliceEnd, this.goal, Math.ceil(deadline) + this.origin - time.skipped);
    if (this.nextHash < config.hashAt.length) limit = Math.min(limit, config.hashAt[this.nextHash]);
    if (this.nextReplay < this.script.length) {
      limit = Math.min(limit, this.script[this.nextReplay].at - time.skipped);
    }
    if (this.at < this.furthest) limit = Math.min(limit, this.furthest - time.skipped);
    // A deadline that has passed and that nobody served must not make the guest stand still.
    time.limit = Math.max(limit, time.count + 1);
  }

  /** Inputs taken so far. */
  get taken(): number {
    return this.log.length;
  }

  /** Before a return to the past. */
  rewind(): void {
    this.furthest = Math.max(this.furthest, this.at);
    for (const output of this.host.outputs) output.muted = true;
  }

  /** So many inputs had been taken at the place in the past; the others come again at their times. */
  replayFrom(taken: number): void {
    this.script = [...this.log.splice(taken), ...this.script.slice(this.nextReplay)];
    this.nextReplay = 0;
  }

  /** After a restore: what was before it is no past of this machine, and what was to come is not to come. */
  forget(): void {
    this.log.length = 0;
    this.script = [];
    this.nextReplay = 0;
    this.furthest = 0;
    for (const output of this.host.outputs) output.muted = false;
  }

  /** Runs `work`, which goes to a place in the past without a rest. */
  seek<T>(goal: number, work: () => T): T {
    const { goal: before } = this;
    this.goal = goal;
    this.seeking = true;
    try {
      return work();
    } finally {
      this.goal = before;
      this.seeking = false;
    }
  }

  /** Before an entry that is to deliver an event, and to run nothing. */
  enterToDeliver(): void {
    this.time.limit = this.time.count;
  }

  /** What belongs to a capture of the vCPU. */
  save(): TimelineCapture {
    const { inputs, random } = this.host;
    const { count, skipped, offset } = this.time;
    return {
      ...{ count, skipped, offset, origin: this.origin, random: random.position },
      inputs: inputs.map((input) => input.save()),
    };
  }

  /** Puts it back. A capture of a machine that ran by the host's clock has none: time goes on from where it is. */
  load(saved: TimelineCapture | undefined): void {
    const { clock, inputs, random } = this.host;
    if (saved === undefined) {
      this.origin = this.at - Math.floor(clock.now());
      return;
    }
    this.time.restore(saved.count, saved.skipped, saved.offset);
    this.origin = saved.origin;
    this.sliceEnd = 0;
    random.position = saved.random;
    saved.inputs.forEach((bytes, port) => inputs[port].load(bytes));
    this.left();
  }

  /** After the guest was left. */
  left(): void {
    this.host.clock.freeze(this.at - this.origin);
  }

  /**
   * After HLT: goes on to `deadline` on the machine's clock, or to an input that comes before. Sleeps at most so many
   * milliseconds.
   */
  skip(deadline: number, ticket: number, most: number): void {
    const { config, host } = this;
    let target = Math.ceil(deadline) + this.origin;
    const replaying = this.nextReplay < this.script.length;
    if (replaying) target = Math.min(target, this.script[this.nextReplay].at);
    const gap = target - this.at;
    if (gap <= 0) return;
    if (gap !== Infinity && (replaying || this.seeking || !config.paced)) {
      this.advance(gap);
      return;
    }
    if (gap === Infinity && this.seeking) return;
    if (gap === Infinity && host.idle !== undefined) return host.idle();
    const start = performance.now();
    host.mailbox.sleep(ticket, Math.min(gap / 1e6, most));
    this.advance(Math.min(gap, Math.round((performance.now() - start) * 1e6)));
  }

  private advance(ns: number): void {
    this.time.skipped += ns;
    this.left();
  }

  private serveQueues(): void {
    const { pc, lock, mailbox } = this.host;
    do this.queuesWait = false;
    while (pc.doorbells.run((work) => lock.run(work)) || this.queuesWait);
    mailbox.attend();
  }

  private tellHashes(count: number): void {
    const { hashAt } = this.config;
    while (this.nextHash < hashAt.length && count >= hashAt[this.nextHash]) {
      this.nextHash++;
      this.host.hashed(count, this.hash());
    }
  }

  /** Reached the goal: nothing goes on until somebody has seen it. */
  private stands(count: number): boolean {
    const { host } = this;
    const { ticket } = host.mailbox;
    if (count >= this.goal) {
      this.goal = Infinity;
      this.standing = true;
      host.reached(count);
    }
    if (!this.standing) return false;
    host.mailbox.sleep(ticket, RETRY_MS);
    return true;
  }

  private replay(): void {
    const { at, script } = this;
    while (this.nextReplay < script.length && script[this.nextReplay].at <= at) {
      this.take(script[this.nextReplay++].input);
    }
  }

  /** What came meanwhile from the other threads. */
  private takeLive(): void {
    const { host, piece } = this;
    for (const input of this.given.splice(0)) this.take(input);
    host.pc.inputs.forEach((ring, port) => {
      for (;;) {
        // What the guest does not take stays in the ring, whose sender waits for room.
        const room = host.inputs[port].available() < INPUT_RING_BYTES;
        const count = room ? ring.read(piece) : 0;
        if (count === 0) break;
        this.take({ kind: 'serial', port, data: piece.slice(0, count) });
      }
    });
  }

  private take(input: MachineInput): void {
    const { host } = this;
    const { pc, lock } = host;
    const timed = { at: this.at, instructions: this.time.count, input };
    if (this.config.record && this.at >= this.furthest) host.recorded(timed);
    if (this.config.history > 0) this.log.push(timed);
    switch (input.kind) {
      case 'serial':
        host.inputs[input.port].push(input.data);
        lock.run(() => {
          if (input.port === VIRTIO_CONSOLE) pc.console.poll();
          else pc.uarts[input.port].poll();
        });
        break;
      case 'power-button':
        lock.run(() => pc.acpi.pressPowerButton());
        break;
      case 'reset':
        host.reset();
        break;
    }
    host.mailbox.attend();
  }

  /** A hash over memory, the vCPU, the devices, and what is on its way to them. */
  hash(): string {
    const { nvmm, machine, vcpu, ram, pc, inputs, random } = this.host;
    nvmm.getState(machine, vcpu, State.ALL);
    const numbers = new Float64Array([this.time.count, this.at, this.origin, random.position]);
    return hashState(
      ram.bytes,
      vcpu.state.bytes,
      // By name, not as they lie in memory: the buses keep notes of their own there.
      new TextEncoder().encode(JSON.stringify([saveDevices(pc), pc.msrs.map(({ regs }) => regs.saveAll())])),
      new Uint8Array(numbers.buffer),
      ...inputs.map((input) => input.save()),
    );
  }
}
