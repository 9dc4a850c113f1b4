import { LINE, WINDOW_WRITABLE } from './case.ts';
import type { Case, Result } from './case.ts';
import type { Found } from './inspect.ts';

/** What an entry of the tolerances is, and what the entries look at. */

export interface Context {
  made: Case;
  native: Result;
  other: Result;
  /** The case's instructions by their addresses. */
  instructions: (Found & { at: number })[];
}

/** What an entry adds to what is ignored. */
export interface Part {
  rflags?: bigint;
  error?: number;
  fsw?: number;
  mxcsr?: number;
  parts?: string[];
  /** The two runs went different ways: nothing is left to compare. */
  everything?: boolean;
}

export interface Tolerance {
  name: string;
  reason: string;
  ignore(context: Context): Part | undefined;
}

/** The name of eight bytes of the window. */
export const memoryPart = (offset: number): string => `memory ${offset.toString(16).padStart(4, '0')}`;

/** The case's instruction at an address. */
export function instructionAt({ made, instructions }: Context, rip: bigint): Found | undefined {
  return instructions.find((one) => BigInt(made.rip + one.at) === rip);
}

export function isMemoryFault(vector: number): boolean {
  return vector === 12 || vector === 13 || vector === 14;
}

/** The same, and #AC. */
export function isAccessFault(vector: number): boolean {
  return isMemoryFault(vector) || vector === 17;
}

/** Whether an unmasked exception is pending, by the status word of an image. */
export function isPending(image: Uint8Array, statusAt: number): boolean {
  return (image[statusAt] & 0x80) !== 0;
}

/** The window's writable part as a run left it. */
export function windowAfter(result: Result, made: Case): Uint8Array {
  const window = new Uint8Array(WINDOW_WRITABLE);
  for (let at = 0; at < WINDOW_WRITABLE; at += LINE) window.set(result.lineAt(at, made), at);
  return window;
}

/** Names of the parts of memory whose differing bytes are all among `allowed`, offsets in the window. */
export function partsWithin(allowed: ReadonlySet<number>, a: Uint8Array, b: Uint8Array): string[] {
  const parts = new Set([...allowed].map((at) => at & ~7));
  return [...parts]
    .filter((part) =>
      [0, 1, 2, 3, 4, 5, 6, 7].every((i) => a[part + i] === b[part + i] || allowed.has(part + i)),
    )
    .map(memoryPart);
}
