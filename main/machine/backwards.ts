import type { VcpuCapture } from './capture.ts';
import type { Stop } from './debug.ts';
import { MachineError } from './errors.ts';
import type { HistoryRam } from './history.ts';
import { History } from './history.ts';
import type { Pc } from './pc.ts';
import type { Timeline } from './timeline.ts';

/** What going back needs of a run loop. All of it on the vCPU's own thread. */
export interface Replayed {
  /** An event is in the middle of its delivery: nothing can be captured. */
  readonly isDelivering: boolean;
  save(): VcpuCapture;
  load(capture: VcpuCapture): void;
  discard(): void;
  /** Runs until the count of instructions is this, or a breakpoint is met (the stop). Null: it is there. */
  replayTo(count: number): Stop | null;
  /** The vCPU stands at a stop, as if it had just met it: what comes next does not stop there again. */
  standAt(stop: Stop): void;
  /** Gets past a stop; what stops there, too. */
  passStop(): Stop | null;
  /** Where the vCPU stands, as a stop. */
  standing(reason: 'step' | 'pause', message: string): Stop;
}

/** Fewest instructions between two checkpoints: a fraction of a second of the emulator's time. */
const SPACING = 20_000_000;
/** Checkpoints take a tenth of the time at most, unless they would come more seldom than this many ms. */
const SHARE = 10;
const SELDOM_MS = 400;
/** Stops of one stretch that are passed before it is given up: a breakpoint in a hot loop, for minutes. */
const STOPS_MAXIMUM = 1_000_000;

/** Going backwards: automatic checkpoints, and replay from the nearest one. */
export class Backwards {
  private readonly timeline: Timeline;
  private readonly loop: Replayed;
  private readonly pc: Pc;
  private readonly history: History;
  private next = 0;
  private takenAt = 0;
  private lastCount = 0;

  constructor(parts: { timeline: Timeline; loop: Replayed; pc: Pc; ram: HistoryRam; limit: number }) {
    this.timeline = parts.timeline;
    this.loop = parts.loop;
    this.pc = parts.pc;
    this.history = new History(parts.ram, parts.limit);
  }

  /** Before an entry: takes a checkpoint when it is time to. */
  attend(): void {
    const count = this.timeline.instructions;
    if (count < this.next || this.loop.isDelivering) return;
    const start = performance.now();
    const vcpu = this.loop.save();
    const devices = new Uint8Array(this.pc.arena.buffer).slice();
    this.history.take({ count, inputs: this.timeline.taken, vcpu, devices });
    // Loading drops translations, here as after a return to this place: so both go on alike.
    this.loop.load(vcpu);
    const cost = performance.now() - start;
    const rate = (count - this.lastCount) / Math.max(1, start - this.takenAt);
    this.next = count + Math.max(SPACING, Math.min(SHARE * cost, SELDOM_MS) * rate);
    this.takenAt = performance.now();
    this.lastCount = count;
  }

  /** After a restore: its past is not the machine's. */
  forget(): void {
    this.history.clear();
    this.next = 0;
  }

  /** One instruction back. */
  step(): Stop {
    const target = this.timeline.instructions - 1;
    const from = this.history.before(target);
    if (target < 0 || from < 0) return this.beginning();
    this.restore(from);
    this.advance(target);
    return this.loop.standing('step', `One instruction back, after ${target} of them.`);
  }

  /** Back to the last breakpoint, watchpoint hit or exit that the machine would have stopped at. */
  toStop(): Stop {
    let end = this.timeline.instructions;
    for (let from = this.history.before(end - 1); from >= 0; from--) {
      this.restore(from);
      const found = this.lastStop(end);
      if (found !== null) {
        this.restore(from);
        this.advance(found.count);
        this.loop.standAt(found.stop);
        return found.stop;
      }
      end = this.history.count(from);
    }
    if (this.history.before(Infinity) < 0) return this.beginning();
    this.restore(0);
    return this.beginning();
  }

  private beginning(): Stop {
    return this.loop.standing('pause', 'The history begins here: there is nothing before it.');
  }

  /** The last stop before a count of instructions, from where the vCPU is. */
  private lastStop(end: number): { count: number; stop: Stop } | null {
    let found: { count: number; stop: Stop } | null = null;
    for (let stops = 0; stops < STOPS_MAXIMUM; stops++) {
      let stop = this.loop.replayTo(end);
      while (stop !== null && this.timeline.instructions < end) {
        found = { count: this.timeline.instructions, stop };
        stop = this.loop.passStop();
      }
      if (this.timeline.instructions >= end) return found;
    }
    throw new MachineError(
      'host',
      `More than ${STOPS_MAXIMUM} stops were met on the way: remove a breakpoint.`,
    );
  }

  /** Runs to a count of instructions, past whatever would stop. */
  private advance(count: number): void {
    while (this.loop.replayTo(count) !== null && this.timeline.instructions < count) this.loop.passStop();
  }

  private restore(index: number): void {
    this.loop.discard();
    this.timeline.rewind();
    const { vcpu, devices, inputs, count } = this.history.restore(index);
    new Uint8Array(this.pc.arena.buffer).set(devices);
    this.pc.moved();
    this.timeline.replayFrom(inputs);
    this.loop.load(vcpu);
    this.next = count + SPACING;
    this.lastCount = count;
  }
}
