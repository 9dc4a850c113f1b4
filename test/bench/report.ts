/** What the benchmarks write with --json, and test/bench/performance.ts reads. */
import type { Bits } from './peers.ts';
import type { Results } from './table.ts';

export interface CpuRun {
  bits: Bits;
  bare: boolean;
  /** Milliseconds of each round: the fastest of its repetitions. */
  results: Results;
  /** CPU time of each round's busiest thread, the least of the repetitions: what a busy machine disturbs least. */
  thread: Results;
  /** Milliseconds of each round's first repetition: what warming up costs. */
  first: Results;
  /** Seconds of the guest's clock in a second of the host's, under Linux, by peer. */
  clocks: Record<string, number[]>;
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
  /** Whether Vitrine was the built one. */
  built: boolean;
  /** CPUs that were busy with something else, before each start of a peer. */
  loads: number[];
  runs: CpuRun[];
}

export interface BootedKernel {
  name: string;
  bits: Bits;
  /** Milliseconds from the start of the process to the first line of /init. */
  results: Record<string, number[]>;
  /** CPU time of the busiest thread until then. */
  threads: Record<string, number[]>;
}

export interface BootReport {
  date: string;
  options: string[];
  loads: number[];
  problems: string[];
  kernels: BootedKernel[];
}

/** docs/performance.json. */
export interface Performance {
  machine: string[];
  cpu: CpuReport | null;
  boot: BootReport | null;
  profile: ProfileReport | null;
}

export interface ProfiledGuest {
  name: string;
  /** CPU time of the vCPU's thread, in milliseconds: of one repetition of a row, of a boot to /init. */
  time: number;
  instructions: number;
  /** What --stats counts in that time. */
  counters: Record<string, number>;
  /** Milliseconds of the vCPU's thread by part of the emulator, warming up included. */
  parts: Record<string, number>;
}

export interface ProfileReport {
  date: string;
  bits: Bits;
  scale: number;
  options: string[];
  guests: ProfiledGuest[];
}
