import { parseArgs } from 'node:util';
import { parseAddress, type GdbAddress } from '../inspect/gdb/address.ts';
import { parseArchitecture, type Architecture } from '../inspect/gdb/registers.ts';
import type { MachineConfig } from '../machine/protocol.ts';
import { TIERS, type Tier } from '../machine/protocol.ts';
import { backendChoice, vmConfig } from './contract.ts';
import { parseDeterministic } from './deterministic-options.ts';
import type { ExitFormat } from './trace-contract.ts';
import { traceFile } from './trace-file.ts';
import { UsageError } from './usage-error.ts';

export { UsageError } from './usage-error.ts';

export const runUsage = `Usage: vitrine run --kernel FILE [--initrd FILE] [--append TEXT] [options]
       vitrine run --guest calc|FILE.elf [--append TEXT] [--initrd FILE] [options]
       vitrine run --flat FILE@ADDRESS [options]

Runs a virtual machine with its first serial port on this terminal.

What boots:
  --kernel FILE      a Linux kernel (bzImage or vmlinux), or memtest86+
  --initrd FILE      its initial RAM disk
  --append TEXT      its command line (default: console=ttyS0)
  --guest GUEST      calc: the built-in calculator; or an ELF file: PVH, multiboot, or plain
  --flat FILE@ADDR   a flat binary: real mode below 1 MiB (0x7c00 is a boot sector), else 32-bit

The machine:
  --memory SIZE      64M, 1G ... (a plain number is MiB; default 256M)
  --backend NAME     auto, emulated, kvm or nvmm (default auto: see vitrine doctor)
  --disk PATH[,ro]   a raw disk image, also read-only; may be given up to 8 times

How it runs:
  --timeout SECONDS  ends the machine after that time, with exit status 124
  --deterministic    time is the count of instructions (1 ns each) and random bytes come from a seed: the same
                     inputs give the same run, to the bit. On the emulated backend
  --seed N           the seed, 32 bits (default 1)
  --history SIZE     keeps older memory up to that size, to go backwards (256M with --gdb)
  --record FILE      writes each input with its time to FILE, as JSON lines
  --replay FILE      gives the inputs of such a file at their times
  --hash-at N[,N]    prints a hash of memory, vCPU and devices at these counts of instructions
  --until-instructions N  ends the machine at that count
  --json             one JSON event on each line of stdout instead of the plain console
  --stats            prints counters at the end
  --tier TIER        how the emulated backend runs code, for diagnosis: interpreter, translator (everything, the
                     first time it runs), or auto (what has run often; the default)
  --trace FILE       writes the exits at the end, the last million: FILE.jsonl as JSON lines, FILE.json for
                     Perfetto (ui.perfetto.dev) and chrome://tracing
  --gdb ADDRESS      listens for gdb at [HOST:]PORT or unix:PATH; a port alone is on this computer only
  --gdb-wait         with --gdb: the machine waits for it before its first instruction
  --gdb-arch ARCH    what gdb takes the machine for: auto, i8086, i386 or x86-64 (default auto)
  --help             this text

Keys on a terminal: Ctrl-A x quits, Ctrl-A h lists the others.
Exit status: 0 the guest switched itself off, 1 the host's error, 2 wrong usage, 3 the guest crashed, 124 timeout.
`;

export interface RunOptions {
  config: MachineConfig;
  /** Seconds, or null. */
  timeout: number | null;
  json: boolean;
  stats: boolean;
  /** A file for the inputs of a deterministic machine. */
  record: string | null;
  /** Where to listen for gdb, and as what; null: nowhere. */
  gdb: { address: GdbAddress; architecture: Architecture | null } | null;
}

const MIB = 2 ** 20;
const UNITS: Record<string, number> = { '': MIB, K: 1024, M: MIB, G: 2 ** 30 };

/** Understands the command line of `vitrine run`. Throws UsageError with what is wrong in it. */
export function parseRunOptions(args: string[]): RunOptions | 'help' {
  const values = parse(args);
  if (values.help) return 'help';
  const chosen = ['kernel', 'guest', 'flat'].filter((name) => values[name as 'kernel' | 'guest' | 'flat']);
  if (chosen.length !== 1) {
    throw new UsageError(
      chosen.length === 0
        ? 'nothing to boot: give --kernel, --guest or --flat'
        : `${chosen.map((name) => `--${name}`).join(' and ')} exclude each other`,
    );
  }
  const checked = vmConfig.safeParse({
    name: chosen[0],
    guest: guestOf(values),
    memory: values.memory === undefined ? 256 * MIB : parseMemory(values.memory),
    backend: parseBackend(values.backend),
    disks: (values.disk ?? []).map(parseDisk),
  });
  if (!checked.success) {
    const [{ path, message }] = checked.error.issues;
    throw new UsageError(`--${path[0] === 'guest' ? chosen[0] : String(path[0])}: ${message}`);
  }
  const { guest } = checked.data;
  // The contract's ELF guests have no initrd; on the command line they may.
  const config: MachineConfig = {
    ...checked.data,
    guest: guest.kind === 'elf' && values.initrd !== undefined ? { ...guest, initrd: values.initrd } : guest,
    ...(values['gdb-wait'] ? { startPaused: true as const } : {}),
    ...(values.trace === undefined ? {} : { traceFile: parseTrace(values.trace) }),
  };
  const tier = parseTier(values.tier);
  if (tier !== null) config.tier = tier;
  const deterministic = parseDeterministic(values);
  if (deterministic !== null) config.deterministic = deterministic;
  return {
    config,
    timeout: parseTimeout(values.timeout),
    json: values.json,
    stats: values.stats,
    gdb: parseGdb(values),
    record: values.record ?? null,
  };
}

function parse(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        kernel: { type: 'string' },
        initrd: { type: 'string' },
        append: { type: 'string' },
        memory: { type: 'string' },
        backend: { type: 'string' },
        disk: { type: 'string', multiple: true },
        guest: { type: 'string' },
        flat: { type: 'string' },
        timeout: { type: 'string' },
        deterministic: { type: 'boolean', default: false },
        seed: { type: 'string' },
        record: { type: 'string' },
        history: { type: 'string' },
        replay: { type: 'string' },
        'hash-at': { type: 'string' },
        'until-instructions': { type: 'string' },
        json: { type: 'boolean', default: false },
        stats: { type: 'boolean', default: false },
        tier: { type: 'string' },
        trace: { type: 'string' },
        gdb: { type: 'string' },
        'gdb-wait': { type: 'boolean', default: false },
        'gdb-arch': { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

type Values = ReturnType<typeof parse>;

function guestOf({ kernel, initrd, append, guest, flat }: Values) {
  if (kernel !== undefined) {
    return {
      kind: 'linux',
      kernel,
      append: append ?? 'console=ttyS0',
      ...(initrd === undefined ? {} : { initrd }),
    };
  }
  if (flat !== undefined) {
    if (append !== undefined || initrd !== undefined) {
      throw new UsageError('--flat: a flat binary takes no --append and no --initrd');
    }
    return { kind: 'flat', ...parseFlat(flat) };
  }
  if (guest === 'calc') {
    if (append !== undefined || initrd !== undefined) {
      throw new UsageError('--guest calc: the calculator takes no --append and no --initrd');
    }
    return { kind: 'calc' };
  }
  return { kind: 'elf', file: guest, append: append ?? '' };
}

/** FILE@ADDRESS: the address is what follows the last @. */
function parseFlat(text: string): { file: string; address: number } {
  const at = text.lastIndexOf('@');
  const address = text.slice(at + 1);
  if (at < 1 || !/^(0x[0-9a-f]+|\d+)$/i.test(address)) {
    throw new UsageError(`--flat ${text}: wanted is FILE@ADDRESS, such as boot.bin@0x7c00`);
  }
  return { file: text.slice(0, at), address: Number(address) };
}

/** 64M, 1G, 512K: bytes. A number without a unit is MiB, as with other emulators. */
export function parseMemory(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMG]?)(?:i?B)?$/i.exec(text);
  if (match === null) throw new UsageError(`--memory ${text}: wanted is a size such as 64M or 1G`);
  const bytes = Number(match[1]) * UNITS[match[2].toUpperCase()];
  if (bytes % MIB !== 0) throw new UsageError(`--memory ${text}: wanted is a whole number of MiB`);
  if (bytes < 4 * MIB || bytes > 3584 * MIB) throw new UsageError(`--memory ${text}: wanted is 4M to 3584M`);
  return bytes;
}

function parseGdb(values: Values): RunOptions['gdb'] {
  const { gdb, 'gdb-wait': wait, 'gdb-arch': word = 'auto' } = values;
  if (gdb === undefined) {
    if (wait) throw new UsageError('--gdb-wait: for whom? Give --gdb too');
    if (values['gdb-arch'] !== undefined) throw new UsageError('--gdb-arch: for whom? Give --gdb too');
    return null;
  }
  const architecture = parseArchitecture(word);
  if (architecture === null && word !== 'auto') {
    throw new UsageError(`--gdb-arch ${word}: there are auto, i8086, i386, x86-64`);
  }
  try {
    return { address: parseAddress(gdb), architecture };
  } catch (error) {
    throw new UsageError(`--gdb ${(error as Error).message}`);
  }
}

function parseTier(text: string | undefined): Tier | null {
  if (text === undefined) return null;
  const tier = TIERS.find((one) => one === text);
  if (tier === undefined) throw new UsageError(`--tier ${text}: there are ${TIERS.join(', ')}`);
  return tier;
}

function parseBackend(text: string | undefined) {
  const choice = backendChoice.safeParse(text ?? 'auto');
  if (choice.success) return choice.data;
  throw new UsageError(`--backend ${text}: there are ${backendChoice.options.join(', ')}`);
}

/** PATH, PATH,ro: a path may have commas, so only the last word counts. */
function parseDisk(text: string): { path: string; readonly: boolean } {
  const readonly = text.endsWith(',ro');
  const path = readonly ? text.slice(0, -3) : text;
  if (path === '') throw new UsageError('--disk: the path is empty');
  return { path, readonly };
}

function parseTrace(file: string): { path: string; format: ExitFormat } {
  try {
    return traceFile(file);
  } catch (error) {
    throw new UsageError(`--trace ${(error as Error).message}`);
  }
}

function parseTimeout(text: string | undefined): number | null {
  if (text === undefined) return null;
  const seconds = Number(text);
  // Node's timers count milliseconds in 31 bits.
  if (text.trim() === '' || !(seconds > 0 && seconds <= 2_000_000)) {
    throw new UsageError(`--timeout ${text}: wanted is a number of seconds`);
  }
  return seconds;
}
