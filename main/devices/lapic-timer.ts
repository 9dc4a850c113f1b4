/**
 * The local APIC's timer: Intel SDM vol. 3, 11.5.4, one-shot, periodic and TSC-deadline. Its crystal ticks once a
 * nanosecond; divided by 1 to 128, as the guest says.
 */
import { LVT, LVT_MASKED, type LapicRegisters } from './lapic-registers.ts';
import { NEVER } from './ticks.ts';

/** When a vCPU's time stamp counter reaches a value. */
export interface TscTime {
  /** Nanoseconds on the machine's clock; a time that is over when the counter is past the value. */
  nsAt(vcpu: number, low: number, high: number): number;
}

/** Bits 17-18 of its local vector. */
const MODE = { ONE_SHOT: 0, PERIODIC: 1, TSC_DEADLINE: 2 } as const;
/** A periodic timer's interrupts are at least this far apart, in ns: a shorter period would leave a guest no time. */
const SHORTEST_PERIOD = 10_000;

export class LapicTimer {
  private readonly regs: LapicRegisters;
  private readonly id: number;
  private readonly tsc: TscTime;
  private readonly expired: () => void;

  /** @param expired raises the timer's local vector, unless it is masked. */
  constructor(regs: LapicRegisters, id: number, tsc: TscTime, expired: () => void) {
    this.regs = regs;
    this.id = id;
    this.tsc = tsc;
    this.expired = expired;
  }

  nextDeadline(): number {
    const { deadline, lvt } = this.regs;
    // A masked timer ends unseen: whoever looks settles it.
    return deadline === NEVER || (lvt[LVT.TIMER] & LVT_MASKED) !== 0 ? Infinity : deadline;
  }

  tick(now: number): void {
    const { regs } = this;
    if (now < regs.deadline) return;
    if (this.mode() === MODE.PERIODIC) this.armPeriodic(now);
    else regs.deadline = NEVER;
    if (this.mode() === MODE.TSC_DEADLINE) {
      regs.tscLow = 0;
      regs.tscHigh = 0;
    }
    this.expired();
  }

  /** Writes the initial count, which starts the timer; 0 stops it. */
  start(count: number, now: number): void {
    const { regs } = this;
    if (this.mode() === MODE.TSC_DEADLINE) return;
    regs.initialCount = count;
    regs.timerStart = now;
    regs.deadline = count === 0 ? NEVER : now + count * this.step();
  }

  currentCount(now: number): number {
    const { initialCount, timerStart } = this.regs;
    const mode = this.mode();
    if (mode === MODE.TSC_DEADLINE || initialCount === 0) return 0;
    const passed = Math.floor(Math.max(0, now - timerStart) / this.step());
    if (mode === MODE.PERIODIC) return initialCount - (passed % initialCount);
    return Math.max(0, initialCount - passed);
  }

  /** A running count goes on with the new divider. */
  setDivide(value: number, now: number): void {
    const { regs } = this;
    this.tick(now);
    const counted = (now - regs.timerStart) / this.step();
    regs.divide = value;
    if (regs.deadline === NEVER || this.mode() === MODE.TSC_DEADLINE) return;
    regs.timerStart = now - counted * this.step();
    const periods = Math.floor(counted / regs.initialCount) + 1;
    regs.deadline = regs.timerStart + periods * regs.initialCount * this.step();
  }

  /** Writes the local vector. A running count goes on, but to and from TSC-deadline the timer is disarmed. */
  setVector(value: number, now: number): void {
    const { regs } = this;
    this.tick(now);
    const from = this.mode();
    regs.lvt[LVT.TIMER] = value;
    const to = this.mode();
    if (from === to) return;
    if (from === MODE.TSC_DEADLINE || to === MODE.TSC_DEADLINE) {
      regs.initialCount = 0;
      regs.tscLow = 0;
      regs.tscHigh = 0;
      regs.deadline = NEVER;
    } else if (to === MODE.PERIODIC) {
      this.armPeriodic(now);
    }
  }

  /** Writes IA32_TSC_DEADLINE. A value that is over ends at once; 0 disarms; in other modes nothing happens. */
  setTscDeadline(low: number, high: number, now: number): void {
    const { regs } = this;
    if (this.mode() !== MODE.TSC_DEADLINE) return;
    regs.tscLow = low;
    regs.tscHigh = high;
    regs.deadline = low === 0 && high === 0 ? NEVER : this.tsc.nsAt(this.id, low, high);
    this.tick(now);
  }

  private mode(): number {
    return (this.regs.lvt[LVT.TIMER] >> 17) & 3;
  }

  /** Nanoseconds for each count. */
  private step(): number {
    const { divide } = this.regs;
    const code = (divide & 3) | ((divide & 8) >> 1);
    return code === 7 ? 1 : 2 << code;
  }

  /** The first end of a period after `now`; of short periods, one that is far enough away. */
  private armPeriodic(now: number): void {
    const { regs } = this;
    const period = regs.initialCount * this.step();
    const from = period < SHORTEST_PERIOD ? now + SHORTEST_PERIOD : now;
    if (period === 0) regs.deadline = NEVER;
    else regs.deadline = regs.timerStart + (Math.floor((from - regs.timerStart) / period) + 1) * period;
  }
}
