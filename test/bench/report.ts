/** What the benchmarks write with --json, and test/bench/performance.ts reads. */
import type { Bits } from './peers.ts';
import type { Results } from './table.ts';

export interface CpuRun {
  bits: Bits;
  bare: boolean;
  /** Milliseconds of each round: the fastest of its repetitions. */
  results: Results;
  /** Milliseconds of each round's first repetition: what warming up costs. */
  first: Results;
  /** What went wrong, in words: other checksums, guests that ended early. */
  problems: string[];
}

export interface CpuReport {
  date: string;
  /** Percent of each row's usual work. */
  scale: number;
  rounds: number;
  repeat: number;
  options: string[];
  runs: CpuRun[];
}

export interface BootReport {
  date: string;
  options: string[];
  /** Milliseconds from the start of the process to the first line of /init. */
  kernels: { name: string; bits: Bits; results: Record<string, number[]> }[];
}

/** docs/performance.json. */
export interface Performance {
  machine: string[];
  cpu: CpuReport | null;
  boot: BootReport | null;
}
