import type { Clock } from '../devices/device.ts';
import type { DeviceNames } from '../devices/device-names.ts';
import { DEVICE_NUMBERS, NOBODY } from '../devices/device-names.ts';
import { Exit } from '../nvmm/constants.ts';
import { MachineError } from './errors.ts';
import type { ExitFilter } from './exit-filter.ts';
import { exitTest } from './exit-filter.ts';
import type { ExitInfo } from './exit-info.ts';
import { exitInfo } from './exit-info.ts';
import { exitName, namedCounters, NOBODYS_NAME } from './exit-names.ts';
import type { AccessCount, ExitTrace } from './exit-trace.ts';
import { ExitRecord, Flag } from './exit-trace.ts';

/**
 * Questions about the exit trace, answered on the I/O thread in slices between its other work: vCPUs are not held up,
 * and disks by a millisecond at most.
 */

/** Which exits of a vCPU, and where to begin. */
export interface ExitQuery {
  vcpu: number;
  /** `newer` looks at `from`, then at what came after it; `older` at what came before `from`, the newest first. */
  towards: 'newer' | 'older';
  /** A record's number; when it is not given, the oldest or the newest is the first that is looked at. */
  from?: number | undefined;
  /** Of a walk to older ones: the last record that is looked at. A tail need not look at what it has seen. */
  until?: number | undefined;
  filter?: ExitFilter | undefined;
  /** Records in the answer, 1 to PAGE. */
  limit: number;
}

export interface ExitPage {
  /** In the order in which they were found. */
  records: ExitInfo[];
  /** What to give as `from` to go on. There is nothing more when it is `end` (newer) or not above `first` (older). */
  next: number;
  /** Number of the oldest record that is kept. */
  first: number;
  /** The number that the next record was to have when the look began: what came later was not looked at. */
  end: number;
}

export interface ExitCount {
  name: string;
  count: number;
  /** In one second of the machine's time. */
  rate: number;
}

export interface ExitAccessCount extends AccessCount {
  /** Accesses in one second of the machine's time. */
  rate: number;
}

/** Counters since the machine was made, and rates over the last second of its time. */
export interface ExitStats {
  /** ns on the machine's clock. */
  time: number;
  /** ns that the rates are about: a second, or less when the machine is younger or the trace shorter. */
  span: number;
  exits: ExitCount;
  vcpus: { vcpu: number; first: number; end: number }[];
  reasons: ExitCount[];
  /** Accesses, busiest first; at most PORTS_SHOWN ports. */
  ports: (ExitAccessCount & { port: number; device: string })[];
  devices: (ExitAccessCount & { name: string })[];
}

/** Records in one answer at most: some 250 KB as JSON. */
export const PAGE = 1000;

const PORTS_SHOWN = 256;

/** The rates look back over this much of the machine's time, in ns, and at so many records of each vCPU at most. */
const SPAN = 1e9;
const SPAN_RECORDS = 200_000;

/** Questions that may be under way at once: each front end that looks has one or two. */
const AT_ONCE = 32;

/** How long a slice lasts, in ms, and how many records are looked at between two looks at the time. */
const SLICE = 1;
const STRIDE = 256;

/** Splits long work into slices: call `over` now and then, and await `rest` when it says so. */
export class Slices {
  private end = performance.now() + SLICE;
  private steps = 0;

  /** After each step. */
  over(): boolean {
    return ++this.steps % STRIDE === 0 && performance.now() > this.end;
  }

  async rest(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.end = performance.now() + SLICE;
  }
}

/** What the exit trace is asked about, beside the trace itself. */
export interface ExitSource {
  /** One for each vCPU; none when exits are not traced. */
  traces: ExitTrace[];
  names: DeviceNames;
  clock: Clock;
  /** Exits by reason since the machine was made, for each vCPU: Mailbox.counters. */
  counters(): Float64Array[];
  /** The name of what answers at a port now, or null. */
  portName(port: number): string | null;
}

export class ExitQueries {
  private readonly source: ExitSource;
  private running = 0;

  constructor(source: ExitSource) {
    this.source = source;
  }

  query(query: ExitQuery): Promise<ExitPage> {
    return this.limited(() => this.page(query));
  }

  stats(): Promise<ExitStats> {
    return this.limited(() => this.count());
  }

  private async limited<T>(work: () => Promise<T>): Promise<T> {
    if (this.running >= AT_ONCE) {
      throw new MachineError(
        'wrong-state',
        `${AT_ONCE} questions about exits are under way. Ask again when one is answered.`,
      );
    }
    this.running++;
    try {
      return await work();
    } finally {
      this.running--;
    }
  }

  private trace(vcpu: number): ExitTrace {
    const { traces } = this.source;
    const trace = traces[vcpu];
    if (trace !== undefined) return trace;
    const why = traces.length === 0 ? 'its exits are not traced' : `it has ${traces.length}`;
    throw new MachineError('wrong-state', `The machine has no vCPU ${vcpu} to look at: ${why}.`);
  }

  private async page({ vcpu, towards, from, until, filter, limit }: ExitQuery): Promise<ExitPage> {
    const trace = this.trace(vcpu);
    const { names } = this.source;
    const test = filter === undefined ? null : exitTest(filter, names);
    const record = new ExitRecord();
    const records: ExitInfo[] = [];
    const slices = new Slices();
    const step = towards === 'newer' ? 1 : -1;
    const end = trace.count;
    let at = towards === 'newer' ? Math.max(from ?? 0, trace.first) : Math.min(from ?? end, end) - 1;
    const least = towards === 'older' ? (until ?? 0) : 0;
    while (at < end && at >= least && records.length < limit) {
      if (!trace.read(at, record)) {
        if (towards === 'older') break;
        at = Math.max(at + 1, trace.first);
        continue;
      }
      if (test === null || test(record)) records.push(exitInfo(at, vcpu, record, names));
      at += step;
      if (slices.over()) await slices.rest();
    }
    return { records, next: towards === 'newer' ? at : at + 1, first: trace.first, end };
  }

  private async count(): Promise<ExitStats> {
    const { traces, names, clock, counters, portName } = this.source;
    const time = clock.now();
    const recent = await this.recent(time);
    const rate = (count: number | undefined): number =>
      recent.span > 0 ? ((count ?? 0) * 1e9) / recent.span : 0;

    const total: Record<string, number> = {};
    for (const one of counters()) {
      for (const [name, count] of Object.entries(namedCounters(one))) {
        const reason = name.replace('exits.', '');
        // A time slice that ends is no exit that anybody sees.
        if (reason !== 'NONE') total[reason] = (total[reason] ?? 0) + count;
      }
    }
    const reasons = Object.entries(total).map(([name, count]) => ({
      ...{ name, count },
      rate: rate(recent.reasons.get(name)),
    }));

    const sum = (counts: AccessCount[]): AccessCount => ({
      reads: counts.reduce((all, { reads }) => all + reads, 0),
      writes: counts.reduce((all, { writes }) => all + writes, 0),
    });
    const ports: ExitStats['ports'] = [];
    for (let port = 0; port < 0x10000; port++) {
      const counts = sum(traces.map((trace) => trace.port(port)));
      if (counts.reads + counts.writes === 0) continue;
      const device = portName(port) ?? NOBODYS_NAME;
      ports.push({ port, device, ...counts, rate: rate(recent.ports.get(port)) });
    }
    const devices: ExitStats['devices'] = [];
    for (let number = 0; number < DEVICE_NUMBERS; number++) {
      const counts = sum(traces.map((trace) => trace.device(number)));
      if (counts.reads + counts.writes === 0) continue;
      const name = number === NOBODY ? NOBODYS_NAME : names.name(number);
      devices.push({ name, ...counts, rate: rate(recent.devices.get(number)) });
    }
    const busiest = (a: AccessCount, b: AccessCount): number => b.reads + b.writes - a.reads - a.writes;
    const all = reasons.reduce((count, one) => count + one.count, 0);
    return {
      time: Math.round(time),
      span: Math.round(recent.span),
      exits: { name: 'all', count: all, rate: rate(recent.exits) },
      vcpus: traces.map(({ first, count }, vcpu) => ({ vcpu, first, end: count })),
      reasons: reasons.sort((a, b) => b.count - a.count),
      ports: ports.sort(busiest).slice(0, PORTS_SHOWN),
      devices: devices.sort(busiest),
    };
  }

  /** What happened in the last second. */
  private async recent(time: number) {
    const reasons = new Map<string, number>();
    const ports = new Map<number, number>();
    const devices = new Map<number, number>();
    const record = new ExitRecord();
    const slices = new Slices();
    let span = Math.min(SPAN, time);
    let exits = 0;
    for (const trace of this.source.traces) {
      let at = trace.count - 1;
      const last = Math.max(trace.first, trace.count - SPAN_RECORDS);
      for (; at >= last && trace.read(at, record) && record.time > time - span; at--) {
        // What is younger than the question has not happened; what is older than a reset has another clock.
        if (record.time > time) {
          if (record.time > time + SPAN) break;
          continue;
        }
        const { reason, accesses, device, where } = record;
        if ((record.flags & Flag.CONTINUED) === 0) {
          exits++;
          const name = exitName(reason);
          reasons.set(name, (reasons.get(name) ?? 0) + 1);
        }
        if (accesses > 0) devices.set(device, (devices.get(device) ?? 0) + accesses);
        if (reason === Exit.IO) ports.set(where, (ports.get(where) ?? 0) + accesses);
        if (slices.over()) await slices.rest();
      }
      // More than fits the look back: the rates are about what did.
      if (at < last && last > 0) span = Math.min(span, time - record.time);
    }
    return { reasons, ports, devices, exits, span };
  }
}
