import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Writable } from 'node:stream';
import { Client } from './client.ts';
import type { Params, RequestName, Result, VmInfo } from './contract.ts';
import type { WireBreakpoint, WireStop } from './inspect-contract.ts';
import {
  backtraceText,
  breakpointsText,
  codeText,
  devicesText,
  memoryText,
  registersText,
  stopText,
  tableText,
  walkText,
} from './inspect-text.ts';
import { UsageError } from './usage-error.ts';

/** The commands that stop a VM of a running `vitrine serve` and look into it. */
export type DebugVerb = 'inspect' | 'step' | 'break' | 'continue' | 'pause' | 'resume';

const usages: Record<DebugVerb, string> = {
  pause: `Usage: vitrine pause VM [--json]

Pauses a VM, and says where it stands. Guest time stands still, unless --time-runs.

  --time-runs        the guest's clocks go on meanwhile
  --vcpu N           only that vCPU; the others run on, and time with them
`,
  resume: `Usage: vitrine resume VM [--vcpu N] [--json]

Lets a paused VM, or one vCPU of a running VM, go on.
`,
  continue: `Usage: vitrine continue VM [--to PLACE | --back] [--json]

Lets a paused VM go on, and waits until it stops: at a breakpoint, at PLACE, or by somebody's pause.
--back goes the other way, to the last breakpoint, watchpoint hit or exit: of a deterministic VM.
`,
  step: `Usage: vitrine step VM [--over | --out | --back] [--count N] [--vcpu N] [--json]

Executes one instruction of a paused VM; what it does to a device is part of it.

  --over             runs a CALL, an INT or a repeated string instruction as a whole
  --out              runs until the function has returned
  --back             takes it back: of a deterministic VM, which keeps a history
  --count N          so many times, or until something else stops it
`,
  break: `Usage: vitrine break VM PLACE [--once] [--json]
       vitrine break VM --watch PLACE [--length N] [--access read|write|access]
       vitrine break VM --port P[-Q] [--direction in|out|both]
       vitrine break VM --msr N [--access read|write|access]
       vitrine break VM --exit REASON | --exception N | --triple-fault
       vitrine break VM [--list] | --remove N

Sets a breakpoint, also while the VM runs; without one, lists those that are set. PLACE is a number, a register, a
symbol, or a sum of those; addresses are linear. --once: it goes when the VM stops, whatever for.
`,
  inspect: `Usage: vitrine inspect VM [WHAT] [options]

Looks into a VM that is paused or has crashed. WHAT is one of

  registers          all, by the manual's names, with their bits (the default)
  code [PLACE]       instructions there, or at RIP           --count N
  memory PLACE       bytes at a linear address               --length N, --physical
  walk PLACE         the page tables' way to an address
  backtrace          the callers, by frame pointers
  idt, gdt, ldt, tss the descriptor tables
  devices [NAME]     devices' registers, the local and I/O APICs' too; also of a running VM
  set NAME=VALUE...  changes registers
  write PLACE HEX    changes memory                          --physical

PLACE is a number, a register, a symbol, or a sum of those: rsp+16, start_kernel.

  --symbols FILE     takes symbols from an ELF file or a System.map first; they are kept for later
  --vcpu N           of that vCPU (default 0)
  --json             one JSON value
`,
};

/** Where the command writes, and the library it asks about: the process's and the user's, or a test's. */
export interface Surroundings {
  output: Writable;
  errors: Writable;
  library?: string;
}

/** Runs one of the verbs. Resolves with an exit status: 0, 1 for the host's or the VM's fault, 2 for wrong usage. */
export async function debugCommand(
  verb: DebugVerb,
  args: string[],
  around: Surroundings = { output: process.stdout, errors: process.stderr },
): Promise<number> {
  const { output, errors } = around;
  const words = (error: unknown): void => void errors.write(`vitrine ${verb}: ${(error as Error).message}\n`);
  let work: Work | 'help';
  try {
    work = parse(verb, args);
  } catch (error) {
    words(error);
    errors.write(`Try: vitrine ${verb} --help\n`);
    return 2;
  }
  if (work === 'help') {
    output.write(usages[verb]);
    return 0;
  }
  let client: Client | undefined;
  try {
    client = await Client.connect(around.library);
    const shown = await work.does(new Asked(client, await client.vm(work.vm)));
    output.write(`${work.json ? JSON.stringify(shown.value) : shown.text}\n`);
    return 0;
  } catch (error) {
    words(error);
    return error instanceof UsageError ? 2 : 1;
  } finally {
    client?.close();
  }
}

/** What a command shows, both ways. */
interface Shown {
  value: unknown;
  text: string;
}

interface Work {
  vm: string;
  json: boolean;
  does(asked: Asked): Promise<Shown>;
}

/** A VM at the other end of the local socket. */
class Asked {
  readonly client: Client;
  readonly vm: VmInfo;

  constructor(client: Client, vm: VmInfo) {
    this.client = client;
    this.vm = vm;
  }

  ask<N extends RequestName>(method: N, params: Omit<Params<N>, 'id'>): Promise<Result<N>> {
    return this.client.request(method, { id: this.vm.id, ...params } as Params<N>);
  }

  /** What the VM is now. */
  async state(): Promise<VmInfo> {
    return (await this.client.request('vm.list', {})).find(({ id }) => id === this.vm.id) ?? this.vm;
  }

  /** Waits until the VM stands still or is off. Listens before `start` is done, so that no stop is missed. */
  async untilStopped(start: () => Promise<unknown>): Promise<VmInfo> {
    let began = false;
    let tell = (_: VmInfo): void => undefined;
    const stopped = new Promise<VmInfo>((done) => (tell = done));
    const end = this.client.on('vm.changed', (vm) => {
      if (vm.id !== this.vm.id) return;
      if (vm.state === 'running') began = true;
      else if (began) tell(vm);
    });
    try {
      await start();
      return await stopped;
    } finally {
      end();
    }
  }
}

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;
const options = {
  json: flag,
  help: { type: 'boolean', short: 'h' },
  vcpu: text,
  over: flag,
  back: flag,
  out: flag,
  count: text,
  to: text,
  watch: text,
  length: text,
  access: text,
  port: text,
  direction: text,
  msr: text,
  exit: text,
  exception: text,
  'triple-fault': flag,
  once: flag,
  list: flag,
  remove: text,
  symbols: text,
  physical: flag,
  'time-runs': flag,
} as const;

/** The options that each verb has, beside --json and --help. */
const allowed: Record<DebugVerb, readonly string[]> = {
  pause: ['vcpu', 'time-runs'],
  resume: ['vcpu'],
  continue: ['to', 'back', 'vcpu'],
  step: ['over', 'out', 'back', 'count', 'vcpu'],
  break: [
    ...['watch', 'length', 'access', 'port', 'direction', 'msr', 'exit', 'exception', 'triple-fault'],
    ...['once', 'list', 'remove', 'vcpu'],
  ],
  inspect: ['symbols', 'count', 'length', 'physical', 'vcpu'],
};

type Values = ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];

function parse(verb: DebugVerb, args: string[]): Work | 'help' {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options });
  if (values.help) return 'help';
  const foreign = Object.keys(values).find((name) => name !== 'json' && !allowed[verb].includes(name));
  if (foreign !== undefined) throw new UsageError(`--${foreign} does not go with ${verb}`);
  const [vm, ...rest] = positionals;
  if (vm === undefined) throw new UsageError('which VM? Give its name or id');
  const does = verbs[verb](values, rest);
  return { vm, json: values.json ?? false, does };
}

/** A number as people write it, also with 0x. */
function integer(name: string, text: string): number {
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(text)) throw new UsageError(`--${name} ${text}: a number is wanted`);
  return Number(text);
}

/** An option that may be absent, as a property. */
function optional<K extends string>(key: K, text: string | undefined): { [P in K]?: number } {
  return (text === undefined ? {} : { [key]: integer(key, text) }) as { [P in K]?: number };
}

function none(rest: string[]): void {
  if (rest.length > 0) throw new UsageError(`${rest[0]}: one VM at a time, and nothing behind it`);
}

/** Where a vCPU stands, with the instruction that is next there: `code` of the JSON. */
async function shownStop(asked: Asked, stop: WireStop): Promise<Shown> {
  const next = await asked
    .ask('inspect.code', { vcpu: stop.vcpu, count: 1 })
    .then(({ lines }) => lines[0])
    // It may be gone on, or be off, by now: then there is nothing to show.
    .catch(() => undefined);
  return { value: { ...stop, ...(next === undefined ? {} : { code: next }) }, text: stopText(stop, next) };
}

/** Where a VM stands, or that it does not. */
async function shownVm(asked: Asked, { state, message, stop, held, config }: VmInfo): Promise<Shown> {
  const shown = stop === undefined ? null : await shownStop(asked, stop);
  const alone =
    held === undefined
      ? ''
      : `, but for vCPU ${held.join(', ')}, which ${held.length > 1 ? 'are' : 'is'} paused`;
  return {
    value: {
      state,
      ...(message === undefined ? {} : { message }),
      ...(held === undefined ? {} : { held }),
      ...(shown === null ? {} : { stop: shown.value }),
    },
    text: shown?.text ?? `${config.name} is ${state}${alone}${message === undefined ? '.' : `: ${message}`}`,
  };
}

const verbs: Record<DebugVerb, (values: Values, rest: string[]) => Work['does']> = {
  pause: (values, rest) => {
    none(rest);
    const params = {
      ...optional('vcpu', values.vcpu),
      ...(values['time-runs'] ? { time: 'runs' as const } : {}),
    };
    return async (asked) => {
      await asked.ask('vm.pause', params);
      return shownVm(asked, await asked.state());
    };
  },
  resume: (values, rest) => {
    none(rest);
    return async (asked) => {
      await asked.ask('vm.resume', optional('vcpu', values.vcpu));
      return shownVm(asked, await asked.state());
    };
  },
  continue: (values, rest) => {
    none(rest);
    const { to } = values;
    return async (asked) => {
      if (values.back) return shownStop(asked, (await asked.ask('debug.back', { to: 'stop' })).stop);
      if (to !== undefined) {
        const { stop } = await asked.ask('debug.runTo', { place: to, ...optional('vcpu', values.vcpu) });
        return shownStop(asked, stop);
      }
      return shownVm(asked, await asked.untilStopped(() => asked.ask('vm.resume', {})));
    };
  },
  step: (values, rest) => {
    none(rest);
    if (values.over && values.out) throw new UsageError('--over and --out exclude each other');
    if (values.back) {
      if (values.over || values.out) throw new UsageError('--back goes with neither --over nor --out');
      const times = integer('count', values.count ?? '1');
      return async (asked) => {
        let { stop } = await asked.ask('debug.back', { to: 'step' });
        for (let done = 1; done < times && stop.reason === 'step'; done++) {
          ({ stop } = await asked.ask('debug.back', { to: 'step' }));
        }
        return shownStop(asked, stop);
      };
    }
    const how = values.over ? 'over' : values.out ? 'out' : 'into';
    const params = { how, ...optional('count', values.count), ...optional('vcpu', values.vcpu) } as const;
    return async (asked) => shownStop(asked, (await asked.ask('debug.step', params)).stop);
  },
  break: (values, rest) => {
    const { remove, once } = values;
    if (remove !== undefined) {
      none(rest);
      const number = integer('remove', remove);
      return async (asked) => {
        await asked.ask('debug.remove', { number });
        return { value: {}, text: `Breakpoint ${number} is gone.` };
      };
    }
    const breakpoint = breakpointOf(values, rest);
    if (breakpoint === null) {
      return async (asked) => {
        const list = await asked.ask('debug.list', {});
        return { value: list, text: breakpointsText(list) };
      };
    }
    const params = { breakpoint, once: once ?? false, ...optional('vcpu', values.vcpu) };
    return async (asked) => {
      const added = await asked.ask('debug.add', params);
      const note = added.note === undefined ? '' : ` ${added.note}`;
      return { value: added, text: `Breakpoint ${added.number}.${note}` };
    };
  },
  inspect: (values, rest) => {
    const [what = 'registers', ...more] = rest;
    if (!Object.hasOwn(looks, what)) {
      throw new UsageError(`${what}: there are ${Object.keys(looks).join(', ')}`);
    }
    const look = looks[what as keyof typeof looks](values, more);
    const { symbols } = values;
    return async (asked) => {
      if (symbols !== undefined) await asked.ask('inspect.symbols', { file: resolve(symbols) });
      return look(asked);
    };
  },
};

function wordOf<T extends string>(
  name: string,
  text: string | undefined,
  words: readonly T[],
  otherwise: T,
): T {
  if (text === undefined) return otherwise;
  const found = words.find((word) => word === text);
  if (found === undefined) throw new UsageError(`--${name} ${text}: there are ${words.join(', ')}`);
  return found;
}

/** The breakpoint that a command line describes; null for none. */
function breakpointOf(values: Values, rest: string[]): WireBreakpoint | null {
  const access = () => wordOf('access', values.access, ['read', 'write', 'access'] as const, 'access');
  const found: WireBreakpoint[] = rest.map((place) => ({ kind: 'execute', place }));
  const { watch, port, msr, exit, exception } = values;
  if (watch !== undefined) {
    found.push({
      kind: 'watch',
      place: watch,
      length: integer('length', values.length ?? '1'),
      access: access(),
    });
  }
  if (port !== undefined) {
    const [first = '', last = first] = port.split('-');
    const direction = wordOf('direction', values.direction, ['in', 'out', 'both'] as const, 'both');
    found.push({ kind: 'port', first: integer('port', first), last: integer('port', last), direction });
  }
  if (msr !== undefined) found.push({ kind: 'msr', index: integer('msr', msr), access: access() });
  if (exit !== undefined) found.push({ kind: 'exit', reason: exit.toUpperCase() });
  if (exception !== undefined) found.push({ kind: 'exception', vector: integer('exception', exception) });
  if (values['triple-fault']) found.push({ kind: 'triple-fault' });
  if (found.length > 1) throw new UsageError('one breakpoint at a time');
  if (found.length === 1 && values.list) throw new UsageError('--list goes with nothing else');
  return found[0] ?? null;
}

type Look = (values: Values, more: string[]) => Work['does'];

function wanted(more: string[], what: string): string {
  const [first, ...rest] = more;
  if (first === undefined) throw new UsageError(`which ${what}?`);
  if (rest.length > 0) throw new UsageError(`${rest[0]}: one ${what} at a time`);
  return first;
}

const table =
  (name: 'idt' | 'gdt' | 'ldt' | 'tss'): Look =>
  (values, more) => {
    none(more);
    return async (asked) => {
      const value = await asked.ask('inspect.table', { table: name, ...optional('vcpu', values.vcpu) });
      return { value, text: tableText(value) };
    };
  };

const looks = {
  registers: (values, more) => {
    none(more);
    return async (asked) => {
      const value = await asked.ask('inspect.registers', optional('vcpu', values.vcpu));
      return { value, text: registersText(value) };
    };
  },
  code: (values, more) => {
    const at = more.length === 0 ? {} : { place: wanted(more, 'place') };
    const params = { ...at, ...optional('count', values.count), ...optional('vcpu', values.vcpu) };
    return async (asked) => {
      const value = await asked.ask('inspect.code', params);
      const text = value.lines.length === 0 ? 'Nothing is mapped there.' : codeText(value.lines);
      return { value, text };
    };
  },
  memory: (values, more) => {
    const params = {
      place: wanted(more, 'place'),
      physical: values.physical ?? false,
      length: integer('length', values.length ?? '256'),
      ...optional('vcpu', values.vcpu),
    };
    return async (asked) => {
      const value = await asked.ask('inspect.memory', params);
      return { value, text: memoryText(value) };
    };
  },
  walk: (values, more) => {
    const params = { place: wanted(more, 'place'), ...optional('vcpu', values.vcpu) };
    return async (asked) => {
      const value = await asked.ask('inspect.walk', params);
      return { value, text: walkText(value) };
    };
  },
  backtrace: (values, more) => {
    none(more);
    return async (asked) => {
      const value = await asked.ask('inspect.backtrace', optional('vcpu', values.vcpu));
      return { value, text: backtraceText(value) };
    };
  },
  idt: table('idt'),
  gdt: table('gdt'),
  ldt: table('ldt'),
  tss: table('tss'),
  devices: (_, more) => {
    const params = more.length === 0 ? {} : { device: wanted(more, 'device') };
    return async (asked) => {
      const value = await asked.ask('inspect.devices', params);
      return { value, text: devicesText(value) };
    };
  },
  set: (values, more) => {
    const pairs = more.map((word) => {
      const [, name, value] = /^([\w.]+)=(0x[0-9a-f]+|\d+)$/i.exec(word) ?? [];
      if (name === undefined || value === undefined) throw new UsageError(`${word}: NAME=VALUE is wanted`);
      return [name, `0x${BigInt(value).toString(16)}`] as const;
    });
    if (pairs.length === 0) throw new UsageError('which register? NAME=VALUE');
    return async (asked) => {
      await asked.ask('inspect.setRegisters', {
        values: Object.fromEntries(pairs),
        ...optional('vcpu', values.vcpu),
      });
      return { value: {}, text: pairs.map(([name, value]) => `${name} is ${value} now.`).join('\n') };
    };
  },
  write: (values, more) => {
    const [place, ...hex] = more;
    const digits = hex.join('').replaceAll(' ', '');
    if (place === undefined || !/^([0-9a-f]{2})+$/i.test(digits)) {
      throw new UsageError('PLACE and bytes in hexadecimal');
    }
    const bytes = Buffer.from(digits, 'hex');
    const params = {
      ...{ place, physical: values.physical ?? false, bytes: bytes.toString('base64') },
      ...optional('vcpu', values.vcpu),
    };
    return async (asked) => {
      const value = await asked.ask('inspect.setMemory', params);
      return { value, text: `${value.written} of ${bytes.length} bytes written.` };
    };
  },
} as const satisfies Record<string, Look>;
