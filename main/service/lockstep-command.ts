import type { LockstepConfig, LockstepResult } from '../inspect/lockstep.ts';
import { runLockstep } from '../inspect/lockstep-run.ts';
import type { TimedInput } from '../machine/timeline-input.ts';
import { backendChoice } from './contract.ts';
import type { Streams } from './run.ts';
import { Status } from './run.ts';
import { POWER_ON_SECONDS } from './deterministic-options.ts';
import { parseRunOptions } from './run-options.ts';
import { UsageError } from './usage-error.ts';

const usage = `Usage: vitrine lockstep A B --guest calc|FILE.elf [options]
       vitrine lockstep A B --kernel FILE [--initrd FILE] [--append TEXT] [options]
       vitrine lockstep A B --flat FILE@ADDRESS [options]

Runs one guest on two backends (emulated, kvm, nvmm) from the same state, and shows the first instruction after which
they differ in a register or in memory. A is a whole machine; what its devices answer and the interrupts that it takes
are recorded and given to B. Two emulated ones run in pieces and are compared at every exit and at each piece's end, and
a difference is searched for by halves; others are stepped, and compared after each instruction.

  --instructions N   ends after so many (default 1000000)
  --piece N          instructions between two comparisons of all memory
  --type TEXT        types this into the first serial port (\\r is the return key)
  --memory SIZE, --replay FILE, --seed N  as for vitrine run
  --json             the result as one line of JSON
  --help             this text

Exit status: 0 they are the same, 1 the host's error, 2 wrong usage, 4 they differ.
`;

/** Exit status when the two differ. */
export const DIFFERENT = 4;

const DEFAULT_INSTRUCTIONS = 1_000_000;
/** When typed text comes, in ns of the machine: guests that listen have set up their port long before. */
const TYPED_AT = 20_000_000;

const standard: Streams = { input: process.stdin, output: process.stdout, errors: process.stderr };

/** `vitrine lockstep`. Resolves with the exit status. */
export async function lockstepCommand(args: string[], streams: Streams = standard): Promise<number> {
  let options: { config: LockstepConfig; json: boolean } | 'help';
  try {
    options = parseLockstep(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    streams.errors.write(`vitrine lockstep: ${error.message}\nTry: vitrine lockstep --help\n`);
    return Status.USAGE;
  }
  if (options === 'help') {
    streams.output.write(usage);
    return Status.OFF;
  }
  try {
    const result = await runLockstep(options.config);
    streams.output.write(options.json ? `${JSON.stringify(result)}\n` : lockstepText(options.config, result));
    return result.outcome === 'same' ? Status.OFF : DIFFERENT;
  } catch (error) {
    streams.errors.write(`vitrine: ${error instanceof Error ? error.message : String(error)}\n`);
    return Status.HOST;
  }
}

/** Understands the command line. Throws UsageError. */
export function parseLockstep(args: string[]): { config: LockstepConfig; json: boolean } | 'help' {
  if (args.includes('--help') || args.includes('-h')) return 'help';
  const [a, b, ...rest] = args;
  const own = new Map<string, string>();
  const others: string[] = [];
  for (let i = 0; i < rest.length; i++) {
    const [name, value] = rest[i].split(/=(.*)/s);
    if (!['--instructions', '--piece', '--type'].includes(name)) others.push(rest[i]);
    else {
      const given = value ?? rest[++i];
      if (given === undefined) throw new UsageError(`${name} wants a value`);
      own.set(name, given);
    }
  }
  const [sideA, sideB] = [backend(a), backend(b)];
  const parsed = parseRunOptions([...others, '--deterministic']);
  if (parsed === 'help') return 'help';
  const { config, json } = parsed;
  const { seed, unixSeconds, replay = [] } = config.deterministic!;
  const piece = own.get('--piece');
  return {
    json,
    config: {
      ...{ a: sideA, b: sideB, guest: config.guest, memory: config.memory, seed, unixSeconds },
      inputs: [...replay, ...typed(own.get('--type'))].sort((one, other) => one.at - other.at),
      instructions: count('--instructions', own.get('--instructions') ?? String(DEFAULT_INSTRUCTIONS)),
      ...(piece === undefined ? {} : { piece: count('--piece', piece) }),
    },
  };
}

function backend(name: string | undefined): LockstepConfig['a'] {
  const checked = backendChoice.safeParse(name);
  if (checked.success && checked.data !== 'auto') return checked.data;
  throw new UsageError(`${name ?? 'nothing'} is no backend: first come two of emulated, kvm and nvmm`);
}

function count(name: string, text: string): number {
  const value = /^\d[\d_]*$/.test(text) ? Number(text.replaceAll('_', '')) : NaN;
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new UsageError(`${name} ${text}: wanted is a whole number such as 1000000`);
}

function typed(text: string | undefined): TimedInput[] {
  if (text === undefined) return [];
  const data = new TextEncoder().encode(text.replaceAll('\\r', '\r').replaceAll('\\n', '\n'));
  return [{ at: TYPED_AT, instructions: TYPED_AT, input: { kind: 'serial', port: 0, data } }];
}

/** The same of a request. */
export function lockstepConfig({
  type,
  ...wanted
}: Omit<LockstepConfig, 'seed' | 'unixSeconds' | 'inputs' | 'piece'> & {
  type?: string | undefined;
}): LockstepConfig {
  return { ...wanted, seed: 1, unixSeconds: POWER_ON_SECONDS, inputs: typed(type) };
}

/** The result for people. */
export function lockstepText({ a, b }: LockstepConfig, result: LockstepResult): string {
  const { difference, instructions, ended, tolerated, mode } = result;
  const lines: string[] = [];
  const unit = mode === 'count' ? 'instructions' : 'steps';
  if (difference === null) lines.push(`${a} and ${b} are the same for ${instructions} ${unit}: ${ended}.`);
  else {
    const { at, rip, instruction, event, registers, memory, before, after, exits } = difference;
    lines.push(`${a} and ${b} differ after ${at} ${unit} alike, in what this does:`);
    lines.push('', `  ${rip}  ${instruction}`, '');
    if (event !== undefined) lines.push(`  ${event}`);
    for (const one of registers) lines.push(`  ${one.name}: ${a} ${one.a}, ${b} ${one.b}`);
    for (const one of memory) {
      lines.push(`  memory at 0x${one.gpa.toString(16)}: ${a} ${one.a}, ${b} ${one.b}`);
    }
    lines.push('', `  ${''.padEnd(7)}${'before'.padEnd(20)}${`${a} (A)`.padEnd(20)}${b} (B)`);
    for (const name of Object.keys(before)) {
      const mark = after.a[name] === after.b[name] ? ' ' : '*';
      lines.push(
        ` ${mark}${name.padEnd(7)}${before[name].padEnd(20)}${after.a[name].padEnd(20)}${after.b[name]}`,
      );
    }
    lines.push('', '  Exits before it, oldest first:', ...exits.map((line) => `    ${line}`));
  }
  for (const [reason, times] of Object.entries(tolerated)) lines.push(`  ${times} times: ${reason}`);
  return `${lines.join('\n')}\n`;
}
