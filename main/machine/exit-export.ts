import type { DeviceNames } from '../devices/device-names.ts';
import { lstat, open, rename, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { MachineError, messageOf } from './errors.ts';
import type { ExitFilter } from './exit-filter.ts';
import { exitTest } from './exit-filter.ts';
import type { ExitInfo } from './exit-info.ts';
import { exitInfo } from './exit-info.ts';
import type { ExitSource } from './exit-query.ts';
import { Slices } from './exit-query.ts';
import type { ExitTrace } from './exit-trace.ts';
import { ExitRecord } from './exit-trace.ts';

/**
 * The exit trace as a file: JSON lines (an ExitInfo each), or the Trace Event Format that Perfetto (ui.perfetto.dev)
 * and chrome://tracing read. All vCPUs, oldest first.
 *
 * The traces are copied first, which takes a moment, so that a busy guest does not overwrite what waits to be written. The
 * rest is done in slices between the I/O thread's other work, into a file beside the wanted one that takes its name when
 * it is complete.
 */

export type ExitFormat = 'jsonl' | 'perfetto';

export interface ExitExport {
  /** Absolute. */
  path: string;
  format: ExitFormat;
  filter?: ExitFilter | undefined;
  /** Only so many of each vCPU's last exits. */
  last?: number | undefined;
  /** An existing file may go. */
  overwrite: boolean;
}

export interface ExitExported {
  records: number;
  bytes: number;
  /** Records that new ones drove out of the trace before they could be copied. */
  lost: number;
}

/** Characters that are collected before they are written. */
const CHUNK = 2 ** 18;

/** Writes the trace of a machine, whose name is for people. */
export async function exportExits(
  source: ExitSource,
  name: string,
  wanted: ExitExport,
): Promise<ExitExported> {
  const { path, overwrite } = wanted;
  if (!isAbsolute(path)) throw new MachineError('host', `${path}: an absolute path is wanted.`);
  const there = await lstat(path).catch(() => null);
  if (there !== null && !there.isFile()) {
    throw new MachineError('host', `${path} is not a regular file: give another name.`);
  }
  if (there !== null && !overwrite) {
    throw new MachineError('host', `${path} exists already: remove it, or give another name.`);
  }
  const partial = `${path}.partial`;
  try {
    // What a guest reads and writes is its own: passwords that were typed are among it.
    const file = await open(partial, 'w', 0o600);
    try {
      const done = await write(file, source, name, wanted);
      await file.close();
      await rename(partial, path);
      return done;
    } catch (error) {
      await file.close().catch(() => undefined);
      await rm(partial, { force: true });
      throw error;
    }
  } catch (error) {
    if (error instanceof MachineError) throw error;
    throw new MachineError('host', `The exits could not be written to ${path}: ${messageOf(error)}`);
  }
}

async function write(
  file: FileHandle,
  source: ExitSource,
  name: string,
  wanted: ExitExport,
): Promise<ExitExported> {
  const format = formats[wanted.format](name, source.traces.length);
  const done: ExitExported = { records: 0, bytes: 0, lost: 0 };
  let pending = format.begin;
  const flush = async (): Promise<void> => {
    const bytes = Buffer.from(pending);
    pending = '';
    await file.writeFile(bytes);
    done.bytes += bytes.length;
  };
  const slices = new Slices();
  const streams: AsyncGenerator<Found, void>[] = [];
  for (const [vcpu, trace] of source.traces.entries()) {
    const oldest = trace.first;
    const copy = await trace.copy(() => slices.rest());
    done.lost += copy.first - oldest;
    streams.push(walk(copy, vcpu, source.names, wanted, slices));
  }
  const heads = await Promise.all(streams.map((stream) => stream.next()));
  for (;;) {
    const first = earliest(heads);
    if (first < 0) break;
    pending += format.record(heads[first].value as Found);
    done.records++;
    heads[first] = await streams[first].next();
    if (pending.length >= CHUNK) await flush();
  }
  pending += format.end;
  await flush();
  await file.sync();
  return done;
}

/** An exit, and when the same vCPU's next one was: Infinity for the last of a run. */
interface Found {
  info: ExitInfo;
  next: number;
}

/** One vCPU's exits in order, with pauses for the thread's other work. */
async function* walk(
  { trace, first }: { trace: ExitTrace; first: number },
  vcpu: number,
  names: DeviceNames,
  { filter, last }: ExitExport,
  slices: Slices,
): AsyncGenerator<Found, void> {
  const test = filter === undefined ? null : exitTest(filter, names);
  const record = new ExitRecord();
  const end = trace.count;
  let before: ExitInfo | null = null;
  for (let at = last === undefined ? first : Math.max(first, end - last); at < end; at++) {
    if (slices.over()) await slices.rest();
    if (trace.read(at, record) && (test === null || test(record))) {
      const info = exitInfo(at, vcpu, record, names);
      if (before !== null) yield { info: before, next: info.run === before.run ? info.time : Infinity };
      before = info;
    }
  }
  if (before !== null) yield { info: before, next: Infinity };
}

/** Which of the streams goes on: -1 when all have ended. */
function earliest(heads: IteratorResult<Found, void>[]): number {
  let found = -1;
  let best: ExitInfo | null = null;
  heads.forEach(({ done, value }, index) => {
    if (done === true) return;
    const { info } = value;
    if (best !== null && (info.run > best.run || (info.run === best.run && info.time >= best.time))) return;
    found = index;
    best = info;
  });
  return found;
}

/** How a file begins, what a record is in it, and how it ends. */
interface Format {
  begin: string;
  record(found: Found): string;
  end: string;
}

const formats: Record<ExitFormat, (name: string, vcpus: number) => Format> = {
  jsonl: () => ({ begin: '', record: ({ info }) => `${JSON.stringify(info)}\n`, end: '' }),
  perfetto: traceEvents,
};

/** Viewers take process 0 and thread 0 for the idle task, so both count from 1. */
const PROCESS = 1;
const threadOf = (vcpu: number): number => vcpu + 1;

/**
 * The Trace Event Format: a complete event (X) for each exit, from leaving the guest to entering it again, on a thread
 * for each vCPU; other accesses of the same instruction, and resets, as instant events (i). Times are in microseconds.
 */
function traceEvents(name: string, vcpus: number): Format {
  const label = (kind: string, tid: number, text: string): string =>
    JSON.stringify({ ph: 'M', pid: PROCESS, tid, ts: 0, name: kind, args: { name: text } });
  const labels = [label('process_name', threadOf(0), name)];
  for (let vcpu = 0; vcpu < vcpus; vcpu++) labels.push(label('thread_name', threadOf(vcpu), `vCPU ${vcpu}`));

  // A reset or a restore may set the machine's clock back; in the file, time goes on from where it was.
  let run: number | null = null;
  let origin = 0;
  let latest = 0;
  const record = ({ info, next }: Found): string => {
    let reset = '';
    if (info.run !== run) {
      if (run !== null) {
        origin = Math.max(origin, latest - info.time);
        const mark = { ph: 'i', s: 'g', pid: PROCESS, tid: threadOf(info.vcpu), ts: latest / 1000 };
        reset = `,\n${JSON.stringify({ ...mark, name: 'reset or restore' })}`;
      }
      run = info.run;
    }
    const duration = Math.max(0, Math.min(info.duration ?? 0, next - info.time));
    const from = origin + info.time;
    latest = Math.max(latest, from + duration);
    const { vcpu, reason } = info;
    const common = {
      ...{ name: titleOf(info), cat: reason, pid: PROCESS, tid: threadOf(vcpu), ts: from / 1000 },
      // What the event says itself is not said again.
      args: { ...info, vcpu: undefined, reason: undefined, duration: undefined },
    };
    const event =
      info.continued === true ? { ph: 'i', s: 't', ...common } : { ph: 'X', ...common, dur: duration / 1000 };
    return `${reset},\n${JSON.stringify(event)}`;
  };
  const begin = `{"displayTimeUnit":"ns","traceEvents":[\n${labels.join(',\n')}`;
  return { begin, record, end: '\n]}\n' };
}

/** What an exit is called in a viewer: few different names, since viewers add up by name. */
function titleOf({ reason, port, gpa, msr, direction, device }: ExitInfo): string {
  const hex = (value: number): string => `0x${value.toString(16)}`;
  const who = device === undefined ? '' : ` ${device}`;
  if (port !== undefined) return `${direction === 'read' ? 'in' : 'out'} ${hex(port)}${who}`;
  if (gpa !== undefined) return `${direction ?? 'access'} ${hex(gpa)}${who}`;
  return msr === undefined ? reason : `${reason} ${hex(msr)}${who}`;
}
