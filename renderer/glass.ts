import type { Result, VmInfo } from '../main/service/contract.ts';
import { sentence } from './client.ts';
import type { Client } from './client.ts';

/** What the glass shows of a machine that stands still. */
export interface Glass {
  registers: Result<'inspect.registers'>;
  code: Result<'inspect.code'>;
  memory: Result<'inspect.memory'> | undefined;
  breakpoints: Result<'debug.list'>;
  /** Why the memory can't be shown. */
  problem: string | undefined;
}

/** Instructions and bytes in view: what fits without scrolling far. */
const LINES = 24;
const BYTES = 256;

/** Whether a machine can be looked into now. */
export const standsStill = ({ state }: VmInfo): boolean => state === 'paused' || state === 'crashed';

/** Looks into a machine. `place` is where memory is shown: what the user wrote. */
export async function lookInto(client: Client, id: string, vcpu: number, place: string): Promise<Glass> {
  const memory = client.request('inspect.memory', { id, vcpu, place, length: BYTES }).then(
    (shown) => ({
      shown,
      problem: shown.bytes === '' ? `Nothing is mapped at ${shown.address}.` : undefined,
    }),
    (error: unknown) => ({ shown: undefined, problem: sentence(error) }),
  );
  const [registers, code, breakpoints, { shown, problem }] = await Promise.all([
    client.request('inspect.registers', { id, vcpu }),
    client.request('inspect.code', { id, vcpu, count: LINES }),
    client.request('debug.list', { id }),
    memory,
  ]);
  return { registers, code, memory: shown, breakpoints, problem };
}

/** A register as a row: its name, its digits, and the fields that are set, in words. */
export interface RegisterRow {
  name: string;
  value: string;
  fields: string;
  /** It is another value than in the look before. */
  changed: boolean;
}

/** The groups in view, with what changed since `before`. */
export function registerRows(
  now: Result<'inspect.registers'>,
  before: Result<'inspect.registers'> | undefined,
): { name: string; rows: RegisterRow[] }[] {
  const old = new Map(
    before?.flatMap(({ registers }) => registers.map((one) => [one.name, one.value] as const)),
  );
  return now.map(({ name, registers }) => ({
    name,
    rows: registers.map(({ name: register, value, bits, fields = [] }) => ({
      name: register,
      value: value.slice(2).padStart(Math.ceil(bits / 4), '0'),
      fields: fields
        .filter((field) => field.value !== 0)
        .map((field) => (field.bits === 1 ? field.name : `${field.name}=${field.value}`))
        .join(' '),
      changed: before !== undefined && old.get(register) !== value,
    })),
  }));
}

/** Sixteen bytes: address, hexadecimal, text. */
export interface MemoryRow {
  address: string;
  hex: string;
  text: string;
}

export function memoryRows({ address, bytes }: Result<'inspect.memory'>): MemoryRow[] {
  const data = Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
  const start = BigInt(address);
  return Array.from({ length: Math.ceil(data.length / 16) }, (_, row) => {
    const piece = [...data.subarray(16 * row, 16 * row + 16)];
    return {
      address: BigInt.asUintN(64, start + BigInt(16 * row)).toString(16),
      hex: piece.map((byte) => byte.toString(16).padStart(2, '0')).join(' '),
      text: piece.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join(''),
    };
  });
}
