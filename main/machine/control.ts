import { StateOffset } from '../nvmm/constants.ts';
import { VcpuState } from '../nvmm/layout.ts';

/**
 * What the threads of a VM's process share beside guest memory and device registers: the device lock, the
 * machine's clock, and for each vCPU a mailbox and the state it is to start with. All in one SharedArrayBuffer.
 *
 *   byte 0     the device lock
 *   byte 64    the clock: epoch and frozen time, two doubles, and a word that says whether it stands still
 *   byte 128   a block of 1280 bytes for each vCPU: mailbox (256 bytes), then an nvmm_x64_state
 */

const LOCK = 0;
const CLOCK = 64;
const BLOCKS = 128;
const MAILBOX_SIZE = 256;
const BLOCK_SIZE = 1280;

/** Makes the shared buffer of a machine. */
export function createControl(vcpus: number): SharedArrayBuffer {
  return new SharedArrayBuffer(BLOCKS + vcpus * BLOCK_SIZE);
}

/** What a vCPU thread is to do. */
export const Command = { PAUSE: 0, RUN: 1, STOP: 2 } as const;

const WANTED = 0;
/** Counts kicks: what a sleeping vCPU waits on. */
const WAKE = 1;
/** Something may be deliverable, or a deadline has moved: look before entering the guest. */
const ATTENTION = 2;
/** The state in the block is to be loaded before the guest runs on. */
const RELOAD = 3;
/** Counts commands, so that an answer tells which one it is to. */
const ORDER = 4;
/** Bytes from the mailbox's start to the doubles of the TSC relation, and to the counters of exits. */
const TSC = 64;
const COUNTERS = 128;
/** Counters of a vCPU, doubles: one for each exit reason, see exit-names.ts. */
export const COUNTER_SLOTS = 16;

/** One vCPU's mailbox. Any thread may write to it; its own thread reads. */
export class Mailbox {
  /** The state to start from when `reload` was asked for. */
  readonly state: VcpuState;
  /** Exits since the machine was made, by the index of exit-names.ts. */
  readonly counters: Float64Array;
  private readonly words: Int32Array;
  /** The counter's low and high half at a moment, that moment in ns on the machine's clock, and ticks per ns. */
  private readonly tsc: Float64Array;

  constructor(control: SharedArrayBuffer, vcpu: number) {
    const at = BLOCKS + vcpu * BLOCK_SIZE;
    this.words = new Int32Array(control, at, TSC / 4);
    this.tsc = new Float64Array(control, at + TSC, 4);
    this.counters = new Float64Array(control, at + COUNTERS, COUNTER_SLOTS);
    this.state = new VcpuState(new Uint8Array(control, at + MAILBOX_SIZE, StateOffset.SIZE));
  }

  /** Says that the vCPU's time stamp counter was at this value at `ns`, and how fast it counts. */
  relateTsc(low: number, high: number, ns: number, ticksPerNs: number): void {
    this.tsc[0] = low;
    this.tsc[1] = high;
    this.tsc[2] = ns;
    this.tsc[3] = ticksPerNs;
  }

  /** The counter is set to a value, and counts as fast as before. */
  restartTsc(low: number, high: number, ns: number): void {
    this.relateTsc(low, high, ns, this.ticksPerNs);
  }

  get ticksPerNs(): number {
    return this.tsc[3];
  }

  /** The machine-clock time at which the counter reaches a value. Exact, as differences of halves are. */
  nsAtTsc(low: number, high: number): number {
    const [refLow, refHigh, ns, ticksPerNs] = this.tsc;
    const ticks = (high - refHigh) * 2 ** 32 + (low - refLow);
    return ticksPerNs === 0 ? Infinity : ns + ticks / ticksPerNs;
  }

  get wanted(): number {
    return Atomics.load(this.words, WANTED);
  }

  /** The number of the last command. */
  get order(): number {
    return Atomics.load(this.words, ORDER);
  }

  /** Says what to do from now on. The caller also kicks the vCPU out of the guest. */
  command(command: number): void {
    Atomics.store(this.words, WANTED, command);
    Atomics.add(this.words, ORDER, 1);
    this.wake();
  }

  requestReload(): void {
    Atomics.store(this.words, RELOAD, 1);
  }

  takeReload(): boolean {
    return Atomics.exchange(this.words, RELOAD, 0) === 1;
  }

  attend(): void {
    Atomics.store(this.words, ATTENTION, 1);
  }

  takeAttention(): boolean {
    // A plain load first: this is asked before every entry, and nearly always there is nothing.
    return this.words[ATTENTION] !== 0 && Atomics.exchange(this.words, ATTENTION, 0) === 1;
  }

  /** Ends a sleep, or the next one if none is going on. */
  wake(): void {
    Atomics.add(this.words, WAKE, 1);
    Atomics.notify(this.words, WAKE);
  }

  /** To be read before looking whether there is a reason to sleep. */
  get ticket(): number {
    return Atomics.load(this.words, WAKE);
  }

  /** Sleeps until somebody wakes, unless that was since the ticket was drawn; at most `ms` milliseconds. */
  sleep(ticket: number, ms: number): void {
    Atomics.wait(this.words, WAKE, ticket, ms);
  }
}

const FREE = 0;
const HELD = 1;
/** Held, and somebody sleeps for it. */
const CONTENDED = 2;

/**
 * The device lock: one mutex for all devices of a machine. Uncontended, it is one atomic exchange each way
 * (U. Drepper, "Futexes Are Tricky", mutex 2).
 */
export class DeviceLock {
  private readonly word: Int32Array;
  /** Nested entries of this thread: an access to one device may run another's code. */
  private depth = 0;

  constructor(control: SharedArrayBuffer) {
    this.word = new Int32Array(control, LOCK, 1);
  }

  acquire(): void {
    if (this.depth++ > 0) return;
    let seen = Atomics.compareExchange(this.word, 0, FREE, HELD);
    if (seen === FREE) return;
    if (seen !== CONTENDED) seen = Atomics.exchange(this.word, 0, CONTENDED);
    while (seen !== FREE) {
      Atomics.wait(this.word, 0, CONTENDED);
      seen = Atomics.exchange(this.word, 0, CONTENDED);
    }
  }

  release(): void {
    if (--this.depth > 0) return;
    if (Atomics.exchange(this.word, 0, FREE) === CONTENDED) Atomics.notify(this.word, 0, 1);
  }

  run<T>(work: () => T): T {
    this.acquire();
    try {
      return work();
    } finally {
      this.release();
    }
  }
}

/** Taken once: in Node the global is a getter, which costs more than the time itself. */
const clock = performance;

/** Nanoseconds that the host has been up, the same on every thread (performance.now() counts from each one's start). */
export class HostTime {
  private readonly origin: number;

  constructor() {
    // The pair is read a few times and the tightest kept: a thread may lose the CPU between the two.
    let best = Infinity;
    let origin = 0;
    for (let i = 0; i < 16; i++) {
      const before = performance.now();
      const [seconds, nanoseconds] = process.hrtime();
      const gap = performance.now() - before;
      if (gap >= best) continue;
      best = gap;
      origin = seconds * 1e9 + nanoseconds - (before + gap / 2) * 1e6;
    }
    this.origin = origin;
  }

  now(): number {
    return this.origin + clock.now() * 1e6;
  }
}

/** The machine's clock: nanoseconds since power-on, without the time that it was paused. */
export class MachineClock {
  private readonly host = new HostTime();
  private readonly times: Float64Array;
  private readonly frozen: Int32Array;

  constructor(control: SharedArrayBuffer) {
    // [0] host time at machine time 0, [1] machine time at which it was frozen.
    this.times = new Float64Array(control, CLOCK, 2);
    this.frozen = new Int32Array(control, CLOCK + 16, 1);
  }

  now(): number {
    if (Atomics.load(this.frozen, 0) === 1) return this.times[1];
    return this.host.now() - this.times[0];
  }

  /** The host's time (HostTime) at which it will be `time`, if it runs on. */
  hostTime(time: number): number {
    return time + this.times[0];
  }

  /** Makes it stand at `time`. Only while no vCPU runs. */
  freeze(time = this.now()): void {
    this.times[1] = time;
    Atomics.store(this.frozen, 0, 1);
  }

  /** Set: a vCPU moves the time (Timeline), and it never goes on by itself. */
  byHand = false;

  get isFrozen(): boolean {
    return Atomics.load(this.frozen, 0) === 1;
  }

  /** Goes on from where it stood; if it runs already, it does so. */
  unfreeze(): void {
    if (this.byHand || !this.isFrozen) return;
    this.times[0] = this.host.now() - this.times[1];
    Atomics.store(this.frozen, 0, 0);
  }
}
