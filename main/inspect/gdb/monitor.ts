import type { ExitFilter } from '../../machine/exit-filter.ts';
import type { ExitInfo } from '../../machine/exit-info.ts';
import {
  ECAM,
  HIGH_RAM,
  MEGABYTE,
  PCI_HOLE,
  ROM_AREA,
  VGA_HOLE,
  VGA_HOLE_END,
} from '../../machine/memory.ts';
import type { DeviceRegisters } from '../../machine/protocol.ts';
import type { VcpuState } from '../../nvmm/layout.ts';
import { registerText } from '../device-text.ts';
import type { PageWalk } from '../page-walk.ts';
import { evaluatePlace, PlaceError } from '../place.ts';
import { Exit } from '../../nvmm/constants.ts';
import { Errno, RemoteError } from './errors.ts';
import { short } from './arguments.ts';
import { bitNames } from './description.ts';
import type { Architecture } from './registers.ts';
import { modeOf, parseArchitecture } from './registers.ts';
import type { Stub } from './stub.ts';
import type { Breakpoint } from '../../machine/debug.ts';

/** gdb's `monitor`: what of a machine gdb has no words for. */

interface Command {
  usage: string;
  help: string;
  run(stub: Stub, words: readonly string[]): void | Promise<void>;
}

/** Exits that `monitor exits` shows, unless a number is given; and at most. */
const EXITS = 20;
const MOST_EXITS = 1000;

const commands: Readonly<Record<string, Command>> = {
  help: {
    usage: 'help',
    help: 'this list',
    run: (stub) => {
      for (const { usage, help } of Object.values(commands)) stub.print(`${usage.padEnd(36)} ${help}\n`);
    },
  },
  arch: {
    usage: 'arch [auto|i8086|i386|x86-64]',
    help: 'what gdb takes the vCPU for, from the next `unset tdesc filename` on',
    run: async (stub, [word]) => {
      if (word !== undefined) stub.forced = architecture(word);
      const mode = modeOf(await stub.state());
      stub.print(`${stub.forced ?? 'auto'}; vCPU ${stub.selected} is in ${mode} mode\n`);
      if (word !== undefined) stub.print('Now: unset tdesc filename\n');
    },
  },
  registers: {
    usage: 'registers [NAME...]',
    help: "registers by the manuals' names, with their bits: all, or those that begin so",
    run: async (stub, names) => {
      const state = await stub.state();
      const registers = (await stub.registers()).filter(
        ({ name }) => names.length === 0 || names.some((begin) => name.startsWith(begin.toLowerCase())),
      );
      if (registers.length === 0) {
        throw new RemoteError(Errno.NOENT, `No register begins so: ${names.join(' ')}.`);
      }
      for (const register of registers) {
        const value = register.read(state);
        const bits = bitNames(register.type, value);
        const digits = value.toString(16).padStart(register.bits / 4, '0');
        stub.print(`${register.name.toUpperCase().padEnd(15)} ${digits}${bits === '' ? '' : `  ${bits}`}\n`);
      }
    },
  },
  exits: {
    usage: 'exits [COUNT] [REASON|PORT]',
    help: `the last exits of this vCPU, oldest first: ${EXITS}, or COUNT, of one reason, or at one port`,
    run: async (stub, words) => {
      const { limit, filter } = exitWords(words);
      const page = await stub.machine.ask('trace.query', {
        vcpu: stub.selected,
        towards: 'older',
        limit,
        filter,
      });
      for (const exit of page.records.reverse()) stub.print(`${exitText(exit)}\n`);
      stub.print(`${page.records.length} shown of ${page.end - page.first} kept, ${page.end} counted\n`);
    },
  },
  walk: {
    usage: 'walk ADDRESS',
    help: "each level of the page tables for an address (0x..., a register's name, sums), and why it faults",
    run: async (stub, words) => {
      const state = await stub.state();
      stub.print(walkText(await stub.walk(placeOf(words.join(''), state))));
    },
  },
  devices: {
    usage: 'devices [NAME]',
    help: "each device's registers, or those of devices whose name begins so",
    run: async (stub, [begin = '']) => {
      const devices = await stub.machine.ask('devices.read', null);
      const shown = devices.filter(({ device }) => device.toLowerCase().startsWith(begin.toLowerCase()));
      if (shown.length === 0) {
        const names = devices.map(({ device }) => device).join(' ');
        throw new RemoteError(Errno.NOENT, `No device's name begins with ${short(begin)}: ${names}.`);
      }
      for (const device of shown) stub.print(deviceText(device));
    },
  },
  memory: {
    usage: 'memory',
    help: 'the physical memory map',
    run: (stub) => stub.print(memoryText(stub.options.memory)),
  },
  physical: {
    usage: 'physical [on|off]',
    help: "memory by physical addresses, for x and all else; QEMU's PhyMemMode",
    run: (stub, [word]) => {
      if (word !== undefined) stub.physical = onOrOff(word);
      stub.print(`Addresses are ${stub.physical ? 'physical' : 'linear'}.\n`);
    },
  },
  stop: {
    usage: 'stop WHAT',
    help: 'stops at: exit REASON | port N[-N] [in|out] | msr N [read|write] | exception N | triple-fault',
    run: async (stub, words) => {
      const { id, note } = await stub.target.add(parseStop(words));
      const number = ++stub.stops;
      stub.own.set(number, id);
      stub.print(`Stop ${number}: ${words.join(' ')}${note === undefined ? '' : ` (${note})`}\n`);
    },
  },
  stops: {
    usage: 'stops',
    help: 'what the machine stops at, whoever asked for it, with hits',
    run: async (stub) => {
      for (const { id, breakpoint, hits } of await stub.target.list()) {
        stub.print(`${stub.ownerOf(id).padEnd(9)} ${breakpointText(breakpoint)}, ${hits} hits\n`);
      }
    },
  },
  delete: {
    usage: 'delete N',
    help: 'takes a stop of `monitor stop` away',
    run: async (stub, [word]) => {
      const number = count(word ?? '', 'delete', Number.MAX_SAFE_INTEGER);
      const id = stub.own.get(number);
      if (id === undefined) throw new RemoteError(Errno.NOENT, `delete: there is no stop ${number}.`);
      stub.own.delete(number);
      await stub.target.remove(id);
    },
  },
  stats: {
    usage: 'stats',
    help: "the machine's and its backend's counters",
    run: async (stub) => {
      for (const [name, value] of Object.entries(await stub.machine.ask('stats', null))) {
        stub.print(`${name.padEnd(28)} ${value}\n`);
      }
    },
  },
  why: {
    usage: 'why',
    help: 'what was wrong with the last thing that failed, in words',
    run: (stub) => stub.print(`${stub.lastError || 'Nothing has failed.'}\n`),
  },
  'power-button': {
    usage: 'power-button',
    help: 'presses the ACPI power button of a machine that runs on later',
    run: (stub) => stub.machine.powerButton(),
  },
};

/** Does one command; what it says goes to gdb's console. Fails with a RemoteError. */
export async function monitor(stub: Stub, line: string): Promise<void> {
  const [name = 'help', ...words] = line.trim().split(/\s+/).filter(Boolean);
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) {
    throw new RemoteError(Errno.INVAL, `There is no command "${short(name)}". Try: monitor help`);
  }
  await command.run(stub, words);
}

function architecture(word: string): Architecture | null {
  if (word === 'auto') return null;
  const found = parseArchitecture(word);
  if (found !== null) return found;
  throw new RemoteError(Errno.INVAL, `arch: "${short(word)}" is none of auto, i8086, i386, x86-64.`);
}

function onOrOff(word: string): boolean {
  if (word === 'on' || word === 'off') return word === 'on';
  throw new RemoteError(Errno.INVAL, `"${short(word)}" is neither on nor off.`);
}

/** A number as people write it: decimal, or 0x and hex digits. */
function count(word: string, what: string, most: number): number {
  const value = /^(0x[0-9a-f]+|[0-9]+)$/i.test(word) ? Number(word) : NaN;
  if (value >= 0 && value <= most) return value;
  throw new RemoteError(Errno.INVAL, `${what}: "${short(word)}" is not a number from 0 to ${most}.`);
}

const WORD = /^[A-Za-z][A-Za-z_]*$/;

function reason(word: string): string {
  const name = word.toUpperCase();
  if (Object.hasOwn(Exit, name)) return name;
  throw new RemoteError(Errno.INVAL, `There is no exit ${short(word)}: ${Object.keys(Exit).join(' ')}.`);
}

function exitWords(words: readonly string[]): { limit: number; filter: ExitFilter | undefined } {
  const [first, second] = words;
  const hasLimit = first !== undefined && /^\d+$/.test(first);
  const limit = hasLimit ? count(first, 'exits', MOST_EXITS) : EXITS;
  const word = hasLimit ? second : first;
  if (limit === 0) throw new RemoteError(Errno.INVAL, 'exits: 0 of them are none.');
  if (word === undefined) return { limit, filter: undefined };
  if (WORD.test(word)) return { limit, filter: { reasons: [reason(word)] } };
  const port = count(word, 'exits', 0xffff);
  return { limit, filter: { ports: { from: port, to: port } } };
}

/** One exit on a line. */
export function exitText(exit: ExitInfo): string {
  const place = exit.port ?? exit.gpa ?? exit.msr;
  const words = [
    String(exit.number).padStart(8),
    `${(exit.time / 1e6).toFixed(3).padStart(12)} ms`,
    exit.reason.padEnd(8),
    (exit.direction ?? '').padEnd(5),
    place === undefined ? '' : `0x${place.toString(16)}`,
    exit.size === undefined ? '' : `${exit.size}B`,
    exit.value === undefined ? '' : `= ${exit.value}`,
    exit.device ?? '',
    exit.fault === true ? 'refused' : '',
    `at ${exit.rip}`,
  ];
  return words.filter((word) => word !== '').join(' ');
}

/** An address as `monitor` takes it: gdb's own names with their $, and sums. */
function placeOf(text: string, state: VcpuState): bigint {
  try {
    return evaluatePlace(text.replaceAll('$', '').replace(/^pc$/, 'rip'), state, null);
  } catch (error) {
    if (error instanceof PlaceError) throw new RemoteError(Errno.INVAL, error.message);
    throw error;
  }
}

function walkText(walk: PageWalk): string {
  const address = (value: bigint | number): string => `0x${value.toString(16)}`;
  const lines = walk.levels.map(
    ({ name, at, entry, flags, frame }) =>
      `${name.padEnd(5)} at ${address(at)}: ${entry.toString(16).padStart(16, '0')} -> ${address(frame)} ${flags.join(' ')}`,
  );
  const root = walk.paging === 'none' ? 'paging is off' : `${walk.paging} paging from ${address(walk.root)}`;
  const rights = [
    walk.writable ? 'read, write' : 'read',
    ...(walk.executable ? ['execute'] : []),
    walk.user ? 'user' : 'supervisor',
  ].join(', ');
  const end =
    walk.gpa === null ? `faults: ${walk.fault ?? 'no page'}` : `is ${address(walk.gpa)} (${rights})`;
  const warning = walk.warning === undefined ? [] : [walk.warning];
  return [
    `${address(walk.address)}: ${root}`,
    ...lines,
    `${address(walk.address)} ${end}`,
    ...warning,
    '',
  ].join('\n');
}

function deviceText({ device, registers }: DeviceRegisters): string {
  const lines = registers.map(({ name, value, about }) => {
    return `  ${name.padEnd(20)} ${registerText(value, 8)}  ${about}`;
  });
  return `${device}\n${lines.join('\n')}\n`;
}

function parseStop([what, ...words]: readonly string[]): Breakpoint {
  const [first = '', second] = words;
  switch (what) {
    case 'exit':
      return { kind: 'exit', reason: reason(first) };
    case 'port': {
      const [low, high = low] = first.split('-');
      const direction = choice(second, { in: 'in', out: 'out' } as const, 'both');
      return {
        kind: 'port',
        first: count(low, 'port', 0xffff),
        last: count(high, 'port', 0xffff),
        direction,
      };
    }
    case 'msr': {
      const access = choice(second, { read: 'read', write: 'write' } as const, 'access');
      return { kind: 'msr', index: count(first, 'msr', 0xffff_ffff), access };
    }
    case 'exception':
      return { kind: 'exception', vector: count(first, 'exception', 31) };
    case 'triple-fault':
      return { kind: 'triple-fault' };
  }
  throw new RemoteError(Errno.INVAL, `stop: wanted is ${commands.stop.help.replace('stops at: ', '')}.`);
}

function choice<T extends string, D>(word: string | undefined, words: Record<string, T>, none: D): T | D {
  if (word === undefined) return none;
  if (Object.hasOwn(words, word)) return words[word];
  throw new RemoteError(Errno.INVAL, `"${short(word)}" is none of ${Object.keys(words).join(', ')}.`);
}

function breakpointText(breakpoint: Breakpoint): string {
  switch (breakpoint.kind) {
    case 'execute':
      return `execute 0x${breakpoint.address.toString(16)}`;
    case 'watch':
      return `watch 0x${breakpoint.address.toString(16)}, ${breakpoint.length} bytes, ${breakpoint.access}`;
    case 'exit':
      return `exit ${breakpoint.reason}`;
    case 'port':
      return `port 0x${breakpoint.first.toString(16)}-0x${breakpoint.last.toString(16)} ${breakpoint.direction}`;
    case 'msr':
      return `msr 0x${breakpoint.index.toString(16)} ${breakpoint.access}`;
    case 'exception':
      return `exception ${breakpoint.vector}`;
    case 'triple-fault':
      return 'triple-fault';
  }
}

/** The PC's map of `size` bytes of RAM: memory.ts. */
export function memoryText(size: number): string {
  const low = Math.min(size, PCI_HOLE);
  const high = size - low;
  const areas: [number, number, string][] = [
    [0, VGA_HOLE, 'RAM'],
    [VGA_HOLE, VGA_HOLE_END, 'nothing (VGA)'],
    [VGA_HOLE_END, ROM_AREA, 'RAM'],
    [ROM_AREA, MEGABYTE, 'RAM, reserved: ACPI tables'],
    [MEGABYTE, low, 'RAM'],
    [PCI_HOLE, HIGH_RAM, `devices; PCI configuration at 0x${ECAM.toString(16)}`],
  ];
  if (high > 0) areas.push([HIGH_RAM, HIGH_RAM + high, 'RAM']);
  const digits = (at: number): string => at.toString(16).padStart(9, '0');
  return areas.map(([from, to, what]) => `${digits(from)}-${digits(to - 1)}  ${what}\n`).join('');
}
