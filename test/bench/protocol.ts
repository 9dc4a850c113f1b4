/** What the benchmark's guest prints (test/bench/guest/main.c), read as it arrives. */

import type { ThreadTimes } from './threads.ts';
import { busiest } from './threads.ts';

export interface Sample {
  row: string;
  units: number;
  /** Hexadecimal: equal work has equal sums, wherever it ran. */
  sum: string;
  /** Milliseconds of the host's clock between the arrival of the row's two lines. */
  wall: number;
  /** CPU time of the busiest thread meanwhile, in milliseconds; null where that isn't known. */
  thread: number | null;
  /** The same as wall by the guest's clock, in units of the guest. */
  clock: number;
}

const LINE = /^BENCH (?:(begin|end)|failed: (.*)|(\S+) start|(\S+) done (\d+) ([0-9a-f]+) (\d+))$/;

export class BenchReader {
  readonly samples: Sample[] = [];
  ended = false;
  private begun = false;
  private line = '';
  private row = '';
  private from = 0;
  private threads: ThreadTimes | null = null;

  /**
   * Takes a piece of output that arrived at `now`, in milliseconds, and what the threads had run then. Throws when
   * the guest is in trouble. Returns how many lines were read that the guest waits for an answer to, with ack=1.
   */
  feed(text: string, now: number, threads: ThreadTimes | null = null): number {
    const lines = (this.line + text).split('\n');
    this.line = lines.pop()!;
    return lines.filter((line) => this.read(line.trimEnd(), now, threads)).length;
  }

  private read(line: string, now: number, threads: ThreadTimes | null): boolean {
    // A console may have something on the line already.
    const at = line.indexOf('BENCH ');
    const match = at < 0 ? null : LINE.exec(line.slice(at));
    if (match === null) return false;
    const [, frame, failure, started, row, units, sum, clock] = match;
    if (frame === 'begin') {
      if (this.begun) throw new Error(`the guest started again${this.where()}`);
      this.begun = true;
    } else if (frame === 'end') {
      this.ended = true;
    } else if (failure !== undefined) {
      throw new Error(`the guest failed${this.where()}: ${failure}`);
    } else if (started !== undefined) {
      this.row = started;
      this.from = now;
      this.threads = threads;
    } else {
      if (row !== this.row) throw new Error(`the end of ${row} without its start`);
      const thread = busiest(this.threads, threads);
      this.samples.push({
        ...{ row, units: Number(units), sum },
        ...{ wall: now - this.from, thread, clock: Number(clock) },
      });
      this.row = '';
    }
    return frame === undefined;
  }

  private where(): string {
    return this.row === '' ? '' : ` in row ${this.row}`;
  }
}

/** Shorter than this, the arrival of lines says less than the guest's clock. Milliseconds. */
const COARSE = 100;

/** The guest's clock divided by the host's, over the longer rows; null if there are none. */
export function clockRate(samples: readonly Sample[]): number | null {
  const long = samples.filter(({ wall, clock }) => wall >= COARSE && clock > 0);
  const wall = long.reduce((sum, sample) => sum + sample.wall, 0);
  return wall === 0 ? null : long.reduce((sum, sample) => sum + sample.clock, 0) / wall;
}

/**
 * Milliseconds of each sample: the host's clock, except for the shortest, which are the guest's ticks at the rate
 * that the longer rows of the same run show. Without those it is `tick` milliseconds, or the host's clock if that
 * is not known.
 */
export function milliseconds(samples: readonly Sample[], tick: number | null): number[] {
  const measured = clockRate(samples);
  const rate = measured === null ? tick : 1 / measured;
  return samples.map((sample) =>
    sample.wall >= COARSE || rate === null || sample.clock === 0 ? sample.wall : sample.clock * rate,
  );
}

/** Equal work must give equal results: remembers what was computed first. */
export class Checksums {
  private readonly first = new Map<string, { sum: string; units: number; by: string }>();

  /** What is wrong with a sample, or null. */
  check(by: string, { row, sum, units }: Sample): string | null {
    const first = this.first.get(row) ?? { sum, units, by };
    this.first.set(row, first);
    if (first.sum === sum && first.units === units) return null;
    return `${row}: ${by} computed ${sum} in ${units} units, ${first.by} ${first.sum} in ${first.units}`;
  }
}
