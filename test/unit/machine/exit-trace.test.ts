import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it, test } from 'vitest';
import { startThread } from '../../../main/machine/entry.ts';
import type { ExitExport } from '../../../main/machine/exit-export.ts';
import { exportExits } from '../../../main/machine/exit-export.ts';
import type { ExitFilter } from '../../../main/machine/exit-filter.ts';
import type { ExitInfo } from '../../../main/machine/exit-info.ts';
import { exitInfo } from '../../../main/machine/exit-info.ts';
import { exitLines } from '../../../main/machine/exit-names.ts';
import type { ExitSource } from '../../../main/machine/exit-query.ts';
import { ExitQueries } from '../../../main/machine/exit-query.ts';
import {
  createExitTrace,
  ExitRecord,
  ExitTrace,
  ExitTraceWriter,
  KEPT,
} from '../../../main/machine/exit-trace.ts';
import { EventType, Exit } from '../../../main/nvmm/constants.ts';
import { checkTraceEvents } from '../../trace-events.ts';
import type { ScriptedExit } from './trace-rig.ts';
import { deviceNames, isNumbered, numbered, write } from './trace-rig.ts';

/** Slots of the ring. */
const RING = 2 ** 20;

const folder = mkdtempSync(join(tmpdir(), 'vitrine-trace-'));
afterAll(() => rmSync(folder, { recursive: true }));

const [UART, RTC, LAPIC, MSRS] = [1, 2, 3, 4];
const names = deviceNames();

/** A trace that a script has been played into. */
function traced(script: ScriptedExit[]): {
  buffer: SharedArrayBuffer;
  trace: ExitTrace;
  writer: ExitTraceWriter;
} {
  const buffer = createExitTrace();
  const writer = new ExitTraceWriter(buffer);
  writer.restart();
  write(writer, script);
  return { buffer, trace: new ExitTrace(buffer), writer };
}

function infos(trace: ExitTrace): ExitInfo[] {
  const record = new ExitRecord();
  return Array.from({ length: trace.count }, (_, number) => {
    expect(trace.read(number, record)).toBe(true);
    return exitInfo(number, 0, record, names);
  });
}

describe('a record says what happened', () => {
  const cases: { name: string; script: ScriptedExit; wanted: Partial<ExitInfo>[] }[] = [
    {
      name: 'OUT',
      script: {
        ...{ time: 5, rip: [0x7c05, 0], until: 25 },
        io: { port: 0x3f8, size: 1, input: false, values: [0x41], device: UART },
      },
      wanted: [
        {
          ...{ number: 0, vcpu: 0, run: 0, time: 5, reason: 'IO', rip: '0x7c05', port: 0x3f8, size: 1 },
          ...{ direction: 'write', value: '0x41', device: 'uart0', duration: 20 },
        },
      ],
    },
    {
      name: 'IN from nobody, of a kernel',
      script: {
        ...{ time: 5, rip: [0x81000000, 0xffffffff] },
        io: { port: 0x9999, size: 4, input: true, values: [0xffffffff], device: 0 },
      },
      wanted: [{ rip: '0xffffffff81000000', direction: 'read', value: '0xffffffff', device: 'nobody' }],
    },
    {
      name: 'REP OUTSW: the first eight bytes and the count',
      script: {
        time: 5,
        io: {
          port: 0x1f0,
          size: 2,
          input: false,
          values: [0x1111, 0x2222, 0x3333, 0x4444, 0x5555],
          device: 0,
        },
      },
      wanted: [{ size: 2, accesses: 5, value: '0x4444333322221111' }],
    },
    {
      name: 'a read-modify-write of device memory: two records',
      script: {
        ...{ time: 5, until: 9 },
        memory: [
          { gpa: 0xfee00080, size: 4, write: false, low: 0x20, device: LAPIC },
          { gpa: 0xfee00080, size: 4, write: true, low: 0x21, device: LAPIC },
        ],
      },
      wanted: [
        { reason: 'MEMORY', gpa: 0xfee00080, direction: 'read', value: '0x20', device: 'lapic', duration: 4 },
        { reason: 'MEMORY', gpa: 0xfee00080, direction: 'write', value: '0x21', continued: true },
      ],
    },
    {
      name: 'eight bytes of device memory',
      script: { time: 5, memory: [{ gpa: 2 ** 45, size: 8, write: true, low: 1, high: 2, device: 0 }] },
      wanted: [{ gpa: 2 ** 45, size: 8, value: '0x200000001', device: 'nobody' }],
    },
    {
      name: 'RDMSR',
      script: { time: 5, msr: { index: 0x1b, read: [0xfee00900, 1], device: LAPIC } },
      wanted: [{ reason: 'RDMSR', msr: 0x1b, direction: 'read', value: '0x1fee00900', device: 'lapic' }],
    },
    {
      name: 'WRMSR that is refused',
      script: { time: 5, msr: { index: 0xffffffff, write: 7n }, fault: true },
      wanted: [{ reason: 'WRMSR', msr: 0xffffffff, direction: 'write', value: '0x7', fault: true }],
    },
    {
      name: 'HLT after an interrupt',
      script: { time: 5, inject: { type: EventType.INTR, vector: 0x30 }, until: 1005 },
      wanted: [{ reason: 'HALTED', event: { type: 'interrupt', vector: 0x30 }, duration: 1000 }],
    },
    {
      name: 'a triple fault after an exception',
      script: { time: 5, reason: Exit.SHUTDOWN, inject: { type: EventType.EXCP, vector: 13 } },
      wanted: [{ reason: 'SHUTDOWN', event: { type: 'exception', vector: 13 } }],
    },
  ];
  test.each(cases)('$name', ({ script, wanted }) => {
    const found = infos(traced([script]).trace);
    expect(found).toHaveLength(wanted.length);
    found.forEach((info, index) => expect(info).toMatchObject(wanted[index]));
  });

  it('and a crash report has a line for each of the last 64', () => {
    const { trace } = traced([
      ...Array.from({ length: 70 }, (_, time) => ({ time, reason: Exit.INT_READY })),
      { time: 99, io: { port: 0x70, size: 1, input: false, values: [0x8f], device: RTC } },
    ]);
    const lines = exitLines(trace, names);
    expect(lines).toHaveLength(64);
    expect(lines.at(-1)).toBe('IO out port 0x70, 1 byte at 0x1000 = 0x8f (rtc)');
    expect(lines[0]).toBe('INT_READY at 0x1000');
  });

  it('time never goes back within a run, and may with the next', () => {
    const { trace, writer } = traced([{ time: 100 }, { time: 90 }]);
    writer.restart();
    write(writer, [{ time: 10 }]);
    expect(infos(trace).map(({ run, time }) => [run, time])).toEqual([
      [0, 100],
      [0, 100],
      [1, 10],
    ]);
  });

  it('a thread that takes the place of another goes on counting runs', () => {
    const { buffer, trace } = traced([{ time: 100 }]);
    const next = new ExitTraceWriter(buffer);
    next.restart();
    write(next, [{ time: 110 }]);
    expect(infos(trace).map(({ number, run, time }) => [number, run, time])).toEqual([
      [0, 0, 100],
      [1, 1, 110],
    ]);
  });

  it('counts accesses by port and device', () => {
    const { trace } = traced([
      { time: 1, io: { port: 0x3f8, size: 1, input: false, values: [1, 2, 3], device: UART } },
      { time: 2, io: { port: 0x3f8, size: 1, input: true, values: [1], device: UART } },
      { time: 3, memory: [{ gpa: 0xfee00000, size: 4, write: false, low: 0, device: LAPIC }] },
      { time: 4, msr: { index: 0x800, read: [0, 0], device: LAPIC } },
      { time: 5, msr: { index: 0x10, write: 0n, device: MSRS } },
    ]);
    expect(trace.port(0x3f8)).toEqual({ reads: 1, writes: 3 });
    expect(trace.port(0x3f9)).toEqual({ reads: 0, writes: 0 });
    expect([UART, LAPIC, MSRS].map((number) => trace.device(number))).toEqual([
      { reads: 1, writes: 3 },
      { reads: 2, writes: 0 },
      { reads: 0, writes: 1 },
    ]);
  });
});

describe('the ring', () => {
  it('keeps the last million', () => {
    const buffer = createExitTrace();
    const writer = new ExitTraceWriter(buffer);
    const add = numbered(writer);
    const more = 150_000;
    for (let number = 0; number < KEPT + more; number++) add(number);
    const trace = new ExitTrace(buffer);
    const record = new ExitRecord();
    expect([trace.count, trace.first]).toEqual([KEPT + more, more]);
    for (const number of [KEPT + more - RING, 0, -1, KEPT + more]) {
      expect(trace.read(number, record)).toBe(false);
    }
    for (let number = more; number < KEPT + more; number += 997) {
      expect(trace.read(number, record) && isNumbered(record, number)).toBe(true);
    }
    // Another writer of the same ring (a thread that starts anew) goes on where it stands.
    numbered(new ExitTraceWriter(buffer))(KEPT + more);
    expect(trace.count).toBe(KEPT + more + 1);
  });

  it.each([0, 5, 2 ** 20 + 10, 2 ** 33])('can be copied, from record %d on', async (start) => {
    const buffer = createExitTrace();
    new Uint32Array(buffer, 0, 3).set([
      start % 2 ** 32,
      Math.floor(start / 2 ** 32),
      Math.floor(start / 2 ** 32),
    ]);
    const add = numbered(new ExitTraceWriter(buffer));
    for (let number = start; number < start + 10_000; number++) add(number);
    let rests = 0;
    const trace = new ExitTrace(buffer);
    const copy = await trace.copy(async () => void rests++);
    expect([copy.trace.count, copy.first]).toEqual([trace.count, trace.first]);
    expect(rests).toBeGreaterThan(1);
    const record = new ExitRecord();
    for (let number = start; number < start + 10_000; number += 97) {
      expect(copy.trace.read(number, record) && isNumbered(record, number)).toBe(true);
    }
  });

  it('a copy begins where a writer that came round left off', async () => {
    const buffer = createExitTrace();
    const add = numbered(new ExitTraceWriter(buffer));
    let next = 0;
    while (next < RING) add(next++);
    const trace = new ExitTrace(buffer);
    const { first } = trace;
    const copy = await trace.copy(async () => {
      // As fast as the copy: what it comes to late has been overwritten.
      for (let more = 0; more < 60_000 && next < 2 * RING; more++) add(next++);
    });
    expect(copy.first).toBeGreaterThan(first);
    const record = new ExitRecord();
    for (let number = copy.first; number < copy.trace.count; number++) {
      expect(copy.trace.read(number, record) && isNumbered(record, number)).toBe(true);
    }
  });

  it('counts beyond 32 bits', () => {
    const buffer = createExitTrace();
    // As after 2^33 - 3 records: low half, high half, high half again.
    new Uint32Array(buffer, 0, 3).set([2 ** 32 - 3, 1, 1]);
    const writer = new ExitTraceWriter(buffer);
    const trace = new ExitTrace(buffer);
    for (let more = 1; more <= 6; more++) {
      write(writer, [{ time: more }]);
      expect(trace.count).toBe(2 ** 33 - 3 + more);
    }
    const record = new ExitRecord();
    expect(trace.read(2 ** 33 + 2, record) && record.time).toBe(6);
  });

  it('never shows a torn record while another thread writes', async () => {
    const buffer = createExitTrace();
    const trace = new ExitTrace(buffer);
    const records = 3_000_000;
    const path = fileURLToPath(new URL('./trace-thread.ts', import.meta.url));
    const worker = startThread(path, { trace: buffer, records });
    const ended = new Promise<void>((resolve, reject) =>
      worker.on('exit', () => resolve()).on('error', reject),
    );
    let over = false;
    void ended.then(() => (over = true));
    const record = new ExitRecord();
    let [read, gone, torn, seed] = [0, 0, 0, 12345];
    const look = (number: number): void => {
      if (!trace.read(number, record)) gone++;
      else if (isNumbered(record, number)) read++;
      else torn++;
    };
    while (!over) {
      for (let i = 0; i < 20_000; i++) {
        // The newest, the oldest, those whose slots are being written anew, and anything between.
        const { count } = trace;
        look(count - 1);
        look(count - KEPT);
        look(count - RING);
        look(count - RING + 1);
        seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
        look(count - 1 - (seed % KEPT));
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(torn).toBe(0);
    expect(read).toBeGreaterThan(0);
    expect(gone).toBeGreaterThan(0);
    expect(trace.count).toBe(records);
  });
});

/** Twelve exits of many kinds. */
const mixed: ScriptedExit[] = [
  { time: 100, rip: [0x7c00, 0], io: { port: 0x3f8, size: 1, input: false, values: [0x48], device: UART } },
  { time: 200, rip: [0x7c02, 0], io: { port: 0x3fd, size: 1, input: true, values: [0x60], device: UART } },
  { time: 300, rip: [0x7c04, 0], io: { port: 0x70, size: 1, input: false, values: [0x0a], device: RTC } },
  { time: 400, rip: [0x7c06, 0], io: { port: 0x71, size: 1, input: true, values: [0x26], device: RTC } },
  { time: 500, rip: [0x7c08, 0], io: { port: 0x80, size: 1, input: false, values: [0x26], device: 0 } },
  { time: 600, memory: [{ gpa: 0xfee000b0, size: 4, write: true, low: 0, device: LAPIC }] },
  { time: 700, memory: [{ gpa: 0xd0000000, size: 4, write: false, low: 0xffffffff, device: 0 }] },
  { time: 800, msr: { index: 0x1b, read: [0xfee00900, 0], device: LAPIC } },
  { time: 900, rip: [0x81000000, 0xffffffff], msr: { index: 0xc0000080, write: 0x500n, device: MSRS } },
  { time: 1000, rip: [0x81000002, 0xffffffff], msr: { index: 0x123, write: 1n }, fault: true },
  { time: 1100, rip: [0x81000004, 0xffffffff], reason: Exit.HALTED },
  { time: 1200, rip: [0x81000005, 0xffffffff], reason: Exit.INT_READY },
];

/** A machine's traces, as its I/O thread asks them. */
function source(buffers: SharedArrayBuffer[], now = 1300): ExitSource {
  return {
    traces: buffers.map((buffer) => new ExitTrace(buffer)),
    names,
    clock: { now: () => now },
    counters: () => [],
    portName: (port) => (port === 0x3f8 ? 'uart0' : null),
  };
}

describe('questions', () => {
  const { buffer } = traced(mixed);
  const queries = new ExitQueries(source([buffer]));
  const filters: { name: string; filter: ExitFilter; wanted: number[] }[] = [
    { name: 'nothing', filter: {}, wanted: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] },
    { name: 'reasons', filter: { reasons: ['RDMSR', 'HALTED'] }, wanted: [7, 10] },
    { name: 'a reason that there is not', filter: { reasons: ['TEA'] }, wanted: [] },
    { name: 'ports', filter: { ports: { from: 0x70, to: 0x71 } }, wanted: [2, 3] },
    { name: 'addresses', filter: { gpas: { from: 0xfee00000, to: 0xfee00fff } }, wanted: [5] },
    { name: 'MSRs', filter: { msrs: { from: 0x1b, to: 0x123 } }, wanted: [7, 9] },
    {
      name: 'ports or MSRs',
      filter: { ports: { from: 0x80, to: 0x80 }, msrs: { from: 0x1b, to: 0x1b } },
      wanted: [4, 7],
    },
    { name: 'part of a device’s name', filter: { device: 'APIC' }, wanted: [5, 7] },
    { name: 'what nobody answered', filter: { device: 'nobody' }, wanted: [4, 6] },
    { name: 'reads', filter: { direction: 'read' }, wanted: [1, 3, 6, 7] },
    {
      name: 'a kernel’s RIPs',
      filter: { rips: { from: '0xffffffff81000000', to: '0xffffffff81000004' } },
      wanted: [8, 9, 10],
    },
    { name: 'low RIPs', filter: { rips: { from: '0x7c00', to: '0x7c02' } }, wanted: [0, 1] },
    { name: 'a value', filter: { value: '0x26' }, wanted: [3, 4] },
    { name: 'a wide value', filter: { value: '0x100000026' }, wanted: [] },
    { name: 'times', filter: { times: { from: 300, to: 400 } }, wanted: [2, 3] },
    { name: 'a run', filter: { run: 1 }, wanted: [] },
    { name: 'faults', filter: { faults: true }, wanted: [9] },
    { name: 'several', filter: { device: 'uart', direction: 'read', reasons: ['IO'] }, wanted: [1] },
  ];
  test.each(filters)('filter by $name', async ({ filter, wanted }) => {
    const newer = await queries.query({ vcpu: 0, towards: 'newer', filter, limit: 100 });
    expect(newer.records.map(({ number }) => number)).toEqual(wanted);
    expect(newer).toMatchObject({ next: 12, first: 0, end: 12 });
    const older = await queries.query({ vcpu: 0, towards: 'older', filter, limit: 100 });
    expect(older.records.map(({ number }) => number)).toEqual(wanted.toReversed());
    expect(older.next).toBe(0);
  });

  test.each(['newer', 'older'] as const)('page by page towards %s', async (towards) => {
    const found: number[] = [];
    let from: number | undefined;
    for (let pages = 0; pages < 10; pages++) {
      const page = await queries.query({ vcpu: 0, towards, from, limit: 5 });
      found.push(...page.records.map(({ number }) => number));
      from = page.next;
      if (page.records.length === 0) break;
    }
    const all = Array.from({ length: 12 }, (_, number) => number);
    expect(found).toEqual(towards === 'newer' ? all : all.toReversed());
  });

  it('a walk to older ones ends where it is told to', async () => {
    const page = await queries.query({ vcpu: 0, towards: 'older', until: 9, limit: 100 });
    expect(page.records.map(({ number }) => number)).toEqual([11, 10, 9]);
    expect(page.next).toBe(9);
  });

  it('a tail goes on where it was', async () => {
    const { buffer: ring, writer } = traced(mixed.slice(0, 3));
    const tail = new ExitQueries(source([ring]));
    const { next } = await tail.query({ vcpu: 0, towards: 'newer', limit: 100 });
    expect((await tail.query({ vcpu: 0, towards: 'newer', from: next, limit: 100 })).records).toEqual([]);
    write(writer, mixed.slice(3, 5));
    const page = await tail.query({ vcpu: 0, towards: 'newer', from: next, limit: 100 });
    expect(page.records.map(({ number }) => number)).toEqual([3, 4]);
  });

  it('of a vCPU that there is not, and of a machine without a trace', async () => {
    const ask = (buffers: SharedArrayBuffer[], vcpu: number) =>
      new ExitQueries(source(buffers)).query({ vcpu, towards: 'older', limit: 1 });
    await expect(ask([buffer], 1)).rejects.toThrow('no vCPU 1 to look at: it has 1');
    await expect(ask([], 0)).rejects.toThrow('its exits are not traced');
  });

  it('too many at once are refused', async () => {
    const many = new ExitQueries(source([buffer]));
    const all = Array.from({ length: 40 }, () => many.query({ vcpu: 0, towards: 'older', limit: 1 }));
    const ends = await Promise.allSettled(all);
    expect(ends.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0);
    expect((await many.query({ vcpu: 0, towards: 'older', limit: 1 })).records).toHaveLength(1);
  });

  it('counters, and rates over the last second', async () => {
    const second = 1e9;
    const out = (time: number, port: number, device: number): ScriptedExit => ({
      time,
      io: { port, size: 1, input: false, values: [0], device },
    });
    const { buffer: ring } = traced([
      ...Array.from({ length: 10 }, (_, n) => out(n * 1e6, 0x3f8, UART)),
      ...Array.from({ length: 50 }, (_, n) => out(5 * second - 2e7 * n, 0x3f8, UART)).reverse(),
      out(5 * second, 0x70, RTC),
    ]);
    const stats = await new ExitQueries({
      ...source([ring], 5 * second),
      counters: () => [Float64Array.of(1000, 0, 0, 61)],
    }).stats();
    expect(stats).toMatchObject({
      ...{ time: 5 * second, span: second, vcpus: [{ vcpu: 0, first: 0, end: 61 }] },
      exits: { count: 61, rate: 51 },
      reasons: [{ name: 'IO', count: 61, rate: 51 }],
      ports: [
        { port: 0x3f8, device: 'uart0', reads: 0, writes: 60, rate: 50 },
        { port: 0x70, reads: 0, writes: 1, rate: 1 },
      ],
      devices: [
        { name: 'uart0', writes: 60, rate: 50 },
        { name: 'rtc', writes: 1, rate: 1 },
      ],
    });
  });
});

describe('exports', () => {
  const wanted = (file: string, more: Partial<ExitExport> = {}): ExitExport => ({
    ...{ path: join(folder, file), format: 'jsonl', overwrite: false },
    ...more,
  });
  const { buffer, trace, writer } = traced(mixed);
  // A second run, after a reset.
  writer.restart();
  write(writer, [
    { time: 50, reason: Exit.HALTED, until: 80 },
    {
      ...{ time: 90, until: 95 },
      memory: [
        { gpa: 0xfee00080, size: 4, write: false, low: 0x20, device: LAPIC },
        { gpa: 0xfee00080, size: 4, write: true, low: 0x21, device: LAPIC },
      ],
    },
  ]);
  const other = traced([{ time: 250 }, { time: 10_000, until: 10_500 }]).buffer;
  const both = source([buffer, other]);

  it('JSON lines: every record of all vCPUs, by run and time', async () => {
    const done = await exportExits(both, 'test', wanted('all.jsonl'));
    const text = readFileSync(join(folder, 'all.jsonl'), 'utf8');
    const lines = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as ExitInfo);
    expect(done).toEqual({ records: 17, bytes: Buffer.byteLength(text), lost: 0 });
    expect(lines.filter(({ vcpu }) => vcpu === 0)).toEqual(infos(trace));
    expect(lines.map(({ run, time }) => run * 1e6 + time)).toEqual(
      lines.map(({ run, time }) => run * 1e6 + time).toSorted((a, b) => a - b),
    );
  });

  it('trace events: what the viewers want', async () => {
    await exportExits(both, 'a "name"', wanted('all.json', { format: 'perfetto' }));
    const events = checkTraceEvents(readFileSync(join(folder, 'all.json'), 'utf8'));
    expect(events.filter(({ ph }) => ph === 'M').map(({ args }) => args!.name)).toEqual([
      'a "name"',
      'vCPU 0',
      'vCPU 1',
    ]);
    expect(events.filter(({ ph }) => ph === 'X')).toHaveLength(16);
    expect(events.find(({ name }) => name === 'out 0x3f8 uart0')).toMatchObject({ ph: 'X', ts: 0.1, tid: 1 });
    // The second run begins where the first has ended, on whichever vCPU that was.
    const at = events.findIndex(({ name }) => name === 'reset or restore');
    expect(events[at]).toMatchObject({ ph: 'i', s: 'g', ts: 10.5 });
    expect(events[at + 1]).toMatchObject({ name: 'HALTED', ts: 10.5, dur: 0.03 });
  });

  it('only what a filter wants, and only the last', async () => {
    await exportExits(both, 'test', wanted('some.jsonl', { filter: { device: 'uart' } }));
    expect(readFileSync(join(folder, 'some.jsonl'), 'utf8').trim().split('\n')).toHaveLength(2);
    await exportExits(both, 'test', wanted('last.jsonl', { last: 1 }));
    expect(readFileSync(join(folder, 'last.jsonl'), 'utf8').trim().split('\n')).toHaveLength(2);
  });

  it('refuse what would harm, leave nothing half', async () => {
    writeFileSync(join(folder, 'mine'), 'mine');
    await expect(exportExits(both, 'test', wanted('mine'))).rejects.toThrow('exists already');
    await exportExits(both, 'test', wanted('mine', { overwrite: true }));
    await expect(exportExits(both, 'test', wanted('', { overwrite: true }))).rejects.toThrow(
      'not a regular file',
    );
    await expect(exportExits(both, 'test', wanted('no/such/file'))).rejects.toMatchObject({ kind: 'host' });
    const relative = { ...wanted('mine'), path: 'mine' };
    await expect(exportExits(both, 'test', relative)).rejects.toThrow('absolute path');
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
  });
});
