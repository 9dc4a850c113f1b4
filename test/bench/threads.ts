/** CPU time of the threads of a process and its descendants, on Linux: what a busy machine disturbs least. */
import { readdirSync, readFileSync } from 'node:fs';

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
