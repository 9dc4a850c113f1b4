import type { InstructionTime } from '../nvmm/nvmm.ts';

/** Ticks of the time-stamp counter in a second: a nanosecond each, so that no conversion loses anything. */
export const TSC_HZ = 1e9;

const TWO_32 = 2 ** 32;

/** Taken once: in Node the global is a getter, which costs more than the time itself. */
const clock = performance;

/** Time as the count of instructions. */
interface Counted {
  limit: number;
  skipped: number;
  random(): number;
}

/**
 * The time of a processor: nanoseconds of the host, or, for a machine with instruction time, its count of instructions. Then
 * a run returns when the count has reached a limit, exactly, whatever the host's clock says, and randomness is the machine's.
 */
export class ProcessorTime {
  private readonly count: () => number;
  private readonly recount: (count: number) => void;
  private counted: Counted | null = null;
  /** What the time-stamp counter is more than the time. */
  private offset = 0;
  private readonly randomWord = new Uint32Array(1);

  /** `count` gives the instructions retired, exact at any moment; `recount` sets them. */
  constructor(count: () => number, recount: (count: number) => void) {
    this.count = count;
    this.recount = recount;
  }

  get isCounted(): boolean {
    return this.counted !== null;
  }

  /** The count of instructions at which a run returns. */
  get limit(): number {
    return this.counted === null ? Infinity : this.counted.limit;
  }

  /** The time-stamp counter, as far as a number is exact. */
  read(): number {
    return this.ticks() + this.offset;
  }

  write(low: number, high: number): void {
    this.offset = high * TWO_32 + (low >>> 0) - this.ticks();
  }

  private ticks(): number {
    if (this.counted === null) return Math.floor(clock.now() * 1e6);
    return this.count() + this.counted.skipped;
  }

  /** 32 random bits: the host's, or those of the machine with instruction time. */
  random(): number {
    if (this.counted !== null) return this.counted.random();
    return crypto.getRandomValues(this.randomWord)[0];
  }

  /** Time is the count of instructions from now on. The time-stamp counter goes on from where it stands. */
  countInstructions(random: () => number): InstructionTime {
    const before = this.read();
    const counted: Counted = { limit: this.count(), skipped: 0, random };
    const untouched = this.offset === 0;
    this.counted = counted;
    this.offset = untouched ? 0 : before - this.ticks();
    const { count, recount } = this;
    const offset = (): number => this.offset;
    return {
      get offset() {
        return offset();
      },
      get count() {
        return count();
      },
      get skipped() {
        return counted.skipped;
      },
      set skipped(ns) {
        counted.skipped = ns;
      },
      get limit() {
        return counted.limit;
      },
      set limit(value) {
        counted.limit = value;
      },
      restore: (value, skipped, stamp) => {
        recount(value);
        counted.skipped = skipped;
        this.offset = stamp;
      },
    };
  }
}
