/** What the kernel counts of threads, on Linux: CPU time, which a busy machine disturbs least, and waiting for a CPU. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Nanoseconds on a CPU by thread. */
export type ThreadTimes = ReadonlyMap<string, number>;

function children(pid: string): string[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
  );
}

function collect(pid: string, into: Map<string, number>): void {
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const [running] = readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ');
      into.set(task, Number(running));
    }
    for (const child of children(pid)) collect(child, into);
  } catch {
    // It ended while it was looked at: what is known of it stays.
  }
}

/** Of a process and its descendants; null where there is no such /proc. */
export function threadTimes(pid: number | undefined): ThreadTimes | null {
  if (process.platform !== 'linux' || pid === undefined) return null;
  const times = new Map<string, number>();
  collect(String(pid), times);
  return times.size === 0 ? null : times;
}

/** Milliseconds of the thread that ran most between two looks: of an emulator, its processor's. */
export function busiest(from: ThreadTimes | null, to: ThreadTimes | null): number | null {
  if (from === null || to === null) return null;
  return Math.max(0, ...[...to].map(([thread, time]) => time - (from.get(thread) ?? 0))) / 1e6;
}

/** The folder of a thread in /proc. */
export type Thread = string;

/** The calling thread; null where there is no such /proc. */
export function ownThread(): Thread | null {
  return process.platform === 'linux' ? `/proc/${readlinkSync('/proc/thread-self')}` : null;
}

/** Of a process: its main thread, and of the others the one that has run most. */
export function mainAndBusiest(pid: number): Thread[] {
  const ran = (task: string): number =>
    Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  const others = readdirSync(`/proc/${pid}/task`).filter((task) => task !== String(pid));
  const [busiest] = others.sort((a, b) => ran(b) - ran(a));
  return [String(pid), busiest].map((task) => `/proc/${pid}/task/${task}`);
}

/** Milliseconds that these threads could have run and had no CPU, all together, up to when each ran last. */
export function waited(threads: readonly Thread[]): number {
  const delays = threads.map((thread) => Number(readFileSync(`${thread}/schedstat`, 'utf8').split(' ')[1]));
  return delays.reduce((sum, delay) => sum + delay, 0) / 1e6;
}
