import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { DeterministicConfig, TimedInput } from '../machine/timeline-input.ts';
import { UsageError } from './usage-error.ts';

/** The options of `vitrine run` about deterministic machines, and the file of recorded inputs. */

/** 2024-01-01 00:00 UTC: what the guest's real-time clock shows at power-on unless somebody says otherwise. */
export const POWER_ON_SECONDS = 1704067200;
const DEFAULT_SEED = 1;
/** Bytes of older pages that a machine under a debugger keeps. */
const HISTORY_BYTES = 256 * 2 ** 20;

export interface DeterministicValues {
  deterministic: boolean;
  seed?: string | undefined;
  record?: string | undefined;
  replay?: string | undefined;
  history?: string | undefined;
  gdb?: string | undefined;
  'hash-at'?: string | undefined;
  'until-instructions'?: string | undefined;
}

/** Null when the machine is to run by the host's clock. Throws UsageError. */
export function parseDeterministic(values: DeterministicValues): DeterministicConfig | null {
  const { seed, record, replay, 'hash-at': hashAt, 'until-instructions': until } = values;
  if (!values.deterministic) {
    const without = { seed, record, replay, 'hash-at': hashAt, 'until-instructions': until };
    for (const [name, value] of Object.entries(without)) {
      if (value !== undefined) throw new UsageError(`--${name} goes with --deterministic`);
    }
    return null;
  }
  const wanted = seed === undefined ? DEFAULT_SEED : count('seed', seed);
  if (wanted > 0xffffffff) throw new UsageError(`--seed ${seed}: wanted are 32 bits`);
  // A debugger may want to go back at any time.
  const history =
    values.history !== undefined ? size(values.history) : values.gdb !== undefined ? HISTORY_BYTES : 0;
  return {
    seed: wanted,
    unixSeconds: POWER_ON_SECONDS,
    // Nobody waits at a terminal for a run that has an end or a script.
    paced: replay === undefined && until === undefined,
    record: record !== undefined,
    replay: replay === undefined ? [] : readInputs(replay),
    hashAt: (hashAt ?? '')
      .split(',')
      .filter((text) => text !== '')
      .map((text) => count('hash-at', text))
      .sort((a, b) => a - b),
    ...(history === 0 ? {} : { history }),
    ...(until === undefined ? {} : { until: count('until-instructions', until) }),
  };
}

function size(text: string): number {
  const match = /^(\d+)([MG]?)$/i.exec(text);
  if (match === null) throw new UsageError(`--history ${text}: wanted is a size such as 256M or 1G`);
  return Number(match[1]) * (match[2].toUpperCase() === 'G' ? 2 ** 30 : 2 ** 20);
}

/** A count of instructions: digits, with separators as people write them. */
function count(name: string, text: string): number {
  const value = /^\d[\d_]*$/.test(text) ? Number(text.replaceAll('_', '')) : NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new UsageError(`--${name} ${text}: wanted is a whole number such as 1000000000`);
}

const position = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const timedInput = z.object({
  at: position,
  instructions: position,
  input: z.discriminatedUnion('kind', [
    z.object({
      kind: z.literal('serial'),
      port: z.number().int().min(0).max(4),
      data: z.base64().transform((text) => new Uint8Array(Buffer.from(text, 'base64'))),
    }),
    z.object({ kind: z.literal('power-button') }),
    z.object({ kind: z.literal('reset') }),
  ]),
});

/** One line of the file of inputs. */
export function inputLine({ at, instructions, input }: TimedInput): string {
  const plain =
    input.kind === 'serial' ? { ...input, data: Buffer.from(input.data).toString('base64') } : input;
  return `${JSON.stringify({ at, instructions, input: plain })}\n`;
}

/** Reads a file of inputs. Throws UsageError that names the line. */
export function readInputs(path: string): TimedInput[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`--replay ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return parseInputs(path, text);
}

export function parseInputs(path: string, text: string): TimedInput[] {
  let last = 0;
  return text
    .split('\n')
    .map((line, index) => ({ line, number: index + 1 }))
    .filter(({ line }) => line.trim() !== '')
    .map(({ line, number }) => {
      const wrong = (why: string): never => {
        throw new UsageError(`--replay ${path}, line ${number}: ${why}`);
      };
      let value: unknown;
      try {
        value = JSON.parse(line);
      } catch {
        return wrong('is no JSON');
      }
      const checked = timedInput.safeParse(value);
      if (!checked.success) {
        const [{ path: where, message }] = checked.error.issues;
        return wrong(`${where.join('.')}: ${message}`);
      }
      if (checked.data.at < last) return wrong('comes before the line above it');
      last = checked.data.at;
      return checked.data;
    });
}
