import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Client } from './client.ts';
import type { VmInfo } from './contract.ts';
import { ServiceError } from './errors.ts';
import type { ExitFilter, ExitInfo, ExitPage } from './trace-contract.ts';
import { exitDirection, exitFilter } from './trace-contract.ts';
import { traceFile } from './trace-file.ts';
import { exitHeading, exitText, statsText } from './trace-text.ts';

const usage = `Usage: vitrine trace VM [which exits] [--last N | --follow | --from N] [--json]
       vitrine trace VM --stats [--json]
       vitrine trace VM --export FILE [which exits] [--last N] [--json]

Shows the exits of a VM of a running "vitrine serve": the last million of each vCPU are kept, always. VM is an id, or a
name that no other VM has.

What to show:
  --last N           so many of the last ones that fit (default 50), oldest first
  --follow, -f       the last ones, and then each as it happens, until Ctrl-C
  --from N           the first --last ones that fit from record N on
  --stats            counters and rates by reason, port and device
  --export FILE      writes all that are kept: FILE.jsonl as JSON lines, FILE.json for Perfetto and chrome://tracing

Which exits:
  --vcpu N           of that vCPU (default 0); an export has all of them
  --reason A,B       IO, MEMORY, RDMSR, WRMSR, HALTED, INT_READY ...
  --port P[-Q]       with a port, such as 0x3f8 or 0x3f8-0x3ff
  --gpa A[-B]        with a guest-physical address
  --msr M[-N]        with an MSR
  --device TEXT      answered by a device with TEXT in its name; nobody: by none
  --direction D      read (in), write (out) or fetch
  --rip A[-B]        of an instruction there
  --value V          that read or wrote exactly this
  --time A-B         between these times, in seconds since the machine was switched on
  --faults           that brought the guest an exception

  --json             one JSON object on each line
  --help             this text

The library is in VITRINE_HOME, or where this system keeps the data of applications.
`;

/** How often a tail asks, in ms: what a person sees as at once. */
const FOLLOW_MS = 200;

/** Exits in one request: the contract's limit. */
const PAGE = 1000;

interface TraceOptions {
  vm: string;
  mode: 'last' | 'follow' | 'from' | 'stats' | 'export';
  vcpu: number;
  from: number;
  last: number | undefined;
  file: string;
  filter: ExitFilter | undefined;
  json: boolean;
}

/** Where the command writes, and the library it asks about: the process's and the user's, or a test's. */
export interface Surroundings {
  output: Writable;
  errors: Writable;
  library?: string;
}

/** `vitrine trace`. Resolves with an exit status: 0, 1 for the host's or the VM's fault, 2 for wrong usage. */
export async function traceCommand(
  args: string[],
  around: Surroundings = { output: process.stdout, errors: process.stderr },
): Promise<number> {
  const { output, errors } = around;
  let options: TraceOptions | 'help';
  try {
    options = parseTraceArgs(args);
  } catch (error) {
    errors.write(`vitrine trace: ${(error as Error).message}\nTry: vitrine trace --help\n`);
    return 2;
  }
  if (options === 'help') {
    output.write(usage);
    return 0;
  }
  let client: Client | undefined;
  try {
    client = await Client.connect(around.library);
    await new Shown(client, await client.vm(options.vm), options, around).show();
    return 0;
  } catch (error) {
    errors.write(`vitrine trace: ${(error as Error).message}\n`);
    return 1;
  } finally {
    client?.close();
  }
}

export function parseTraceArgs(args: string[]): TraceOptions | 'help' {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...{ last: { type: 'string' }, follow: { type: 'boolean', short: 'f' }, from: { type: 'string' } },
      ...{ stats: { type: 'boolean' }, export: { type: 'string' }, vcpu: { type: 'string' } },
      ...{ reason: { type: 'string' }, port: { type: 'string' }, gpa: { type: 'string' } },
      ...{ msr: { type: 'string' }, device: { type: 'string' }, direction: { type: 'string' } },
      ...{ rip: { type: 'string' }, value: { type: 'string' }, time: { type: 'string' } },
      ...{ faults: { type: 'boolean' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    },
  });
  if (values.help) return 'help';
  const [vm, ...more] = positionals;
  if (vm === undefined) throw new Error('which VM? Give its name or id');
  if (more.length > 0) throw new Error(`${more[0]}: one VM at a time`);
  const modes = (['stats', 'export', 'follow', 'from'] as const).filter((mode) => values[mode] !== undefined);
  if (modes.length > 1) throw new Error(`--${modes[0]} and --${modes[1]} exclude each other`);
  return {
    vm,
    mode: modes[0] ?? 'last',
    vcpu: integer('vcpu', values.vcpu ?? '0'),
    from: integer('from', values.from ?? '0'),
    last: values.last === undefined ? undefined : integer('last', values.last),
    file: values.export ?? '',
    filter: parseFilter(values),
    json: values.json ?? false,
  };
}

type FilterWords = Partial<
  Record<
    'reason' | 'port' | 'gpa' | 'msr' | 'device' | 'direction' | 'rip' | 'value' | 'time',
    string | undefined
  >
> & { faults?: boolean | undefined };

/** The filter of a command line; undefined for none. Throws with the option that is wrong. */
function parseFilter(words: FilterWords): ExitFilter | undefined {
  const { reason, port, gpa, msr, device, direction, rip, value, time, faults } = words;
  const numbers = (name: string, text: string) => {
    const [from, to] = ends(name, text);
    return { from: integer(name, from), to: integer(name, to) };
  };
  const wide = (name: string, text: string): string => `0x${BigInt(checked(name, text)).toString(16)}`;
  const filter: Record<string, unknown> = {};
  if (reason !== undefined) filter.reasons = reason.toUpperCase().split(',');
  if (port !== undefined) filter.ports = numbers('port', port);
  if (gpa !== undefined) filter.gpas = numbers('gpa', gpa);
  if (msr !== undefined) filter.msrs = numbers('msr', msr);
  if (device !== undefined) filter.device = device;
  if (direction !== undefined) filter.direction = { in: 'read', out: 'write' }[direction] ?? direction;
  if (rip !== undefined) {
    const [from, to] = ends('rip', rip);
    filter.rips = { from: wide('rip', from), to: wide('rip', to) };
  }
  if (value !== undefined) filter.value = wide('value', value);
  if (time !== undefined) {
    const [from, to] = ends('time', time).map((text) => Number(text) * 1e9);
    filter.times = { from, to };
  }
  if (faults === true) filter.faults = true;
  if (Object.keys(filter).length === 0) return undefined;
  const { data, error } = exitFilter.safeParse(filter);
  if (data !== undefined) return data;
  const [{ path, message }] = error.issues;
  const option = String(path[0]).replace(/s$/, '');
  const known = option === 'direction' ? `: ${exitDirection.options.join(', ')}` : '';
  throw new Error(`--${option === 'fault' ? 'faults' : option}: ${message}${known}`);
}

/** A-B, or A for A-A. */
function ends(name: string, text: string): [string, string] {
  const parts = text.split('-');
  if (parts.length > 2) throw new Error(`--${name} ${text}: wanted is one value, or two with - between`);
  return [parts[0]!, parts[1] ?? parts[0]!];
}

function checked(name: string, text: string): string {
  if (/^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text)) return text;
  throw new Error(`--${name} ${text}: wanted is a number such as 255 or 0xff`);
}

function integer(name: string, text: string): number {
  const value = Number(checked(name, text));
  if (Number.isSafeInteger(value)) return value;
  throw new Error(`--${name} ${text}: that is more than there can be`);
}

/** One look at one VM's exits. */
class Shown {
  private readonly client: Client;
  private readonly vm: VmInfo;
  private readonly options: TraceOptions;
  private readonly around: Surroundings;

  constructor(client: Client, vm: VmInfo, options: TraceOptions, around: Surroundings) {
    this.client = client;
    this.vm = vm;
    this.options = options;
    this.around = around;
  }

  async show(): Promise<void> {
    switch (this.options.mode) {
      case 'stats':
        return this.stats();
      case 'export':
        return this.export();
      case 'follow':
        return this.follow();
      case 'last':
        return this.print(await this.lastOnes(this.options.last ?? 50));
      case 'from':
        return this.print(await this.onesFrom(this.options.last ?? 50));
    }
  }

  private write(text: string): void {
    this.around.output.write(text);
  }

  private page(towards: 'older' | 'newer', from: number | undefined, limit: number): Promise<ExitPage> {
    const { vcpu, filter } = this.options;
    return this.client.request('trace.query', { id: this.vm.id, vcpu, filter, towards, from, limit });
  }

  private async stats(): Promise<void> {
    const stats = await this.client.request('trace.stats', { id: this.vm.id });
    this.write(this.options.json ? `${JSON.stringify(stats)}\n` : statsText(stats));
  }

  private print(records: ExitInfo[], heading = true): void {
    const { json } = this.options;
    const lines = records.map((record) => (json ? JSON.stringify(record) : exitText(record)));
    if (!json && heading) lines.unshift(exitHeading);
    if (lines.length > 0) this.write(`${lines.join('\n')}\n`);
  }

  /** The last ones that fit, oldest first. */
  private async lastOnes(wanted: number): Promise<ExitInfo[]> {
    const found: ExitInfo[] = [];
    let from: number | undefined;
    while (found.length < wanted) {
      const page = await this.page('older', from, Math.min(PAGE, wanted - found.length));
      found.push(...page.records);
      from = page.next;
      if (page.next <= page.first) break;
    }
    return found.reverse();
  }

  private async onesFrom(wanted: number): Promise<ExitInfo[]> {
    const found: ExitInfo[] = [];
    let { from } = this.options;
    while (found.length < wanted) {
      const page = await this.page('newer', from, Math.min(PAGE, wanted - found.length));
      found.push(...page.records);
      if (page.next >= page.end || page.next === from) break;
      from = page.next;
    }
    return found;
  }

  /** Until the VM is switched off, or this command is ended. */
  private async follow(): Promise<void> {
    const { vcpu, last } = this.options;
    const { vcpus } = await this.client.request('trace.stats', { id: this.vm.id });
    let from = vcpus[vcpu]?.end ?? 0;
    this.print(await this.lastOnes(last ?? 10));
    for (;;) {
      let page: ExitPage;
      try {
        page = await this.page('newer', from, PAGE);
      } catch (error) {
        if (error instanceof ServiceError && error.kind === 'wrong-state') return;
        throw error;
      }
      if (page.first > from) {
        const lost = page.first - from;
        this.around.errors.write(`vitrine trace: ${lost} exits went by faster than they could be shown.\n`);
      }
      this.print(page.records, false);
      from = page.next;
      // A full page: more waits already.
      if (page.records.length < PAGE) await delay(FOLLOW_MS);
    }
  }

  private async export(): Promise<void> {
    const { file, filter, last, json } = this.options;
    const { path, format } = traceFile(file);
    const params = { id: this.vm.id, path, format, filter, last, overwrite: true } as const;
    const done = await this.client.request('trace.export', params);
    const lost = done.lost === 0 ? '' : ` ${done.lost} went by meanwhile.`;
    const words = `${done.records} exits, ${done.bytes} bytes, are in ${path}.${lost}`;
    this.write(`${json ? JSON.stringify({ path, ...done }) : words}\n`);
  }
}
