/**
 * The opcode table: every instruction form that the emulator knows, in the order of Intel SDM Vol. 2 Appendix A.
 * The maps are text (notation.ts says how to read them) and are parsed once, when this module loads.
 */
import type { Opcode } from '../instruction.ts';
import { parseMap } from './notation.ts';
import { oneByteMap } from './one-byte.ts';
import { map0F38, map0F3A } from './three-byte.ts';
import { twoByteMap } from './two-byte.ts';
import { x87Map } from './x87.ts';

const known = new Map<string, Opcode>();

/** One object for each mnemonic, feature and lockability, whatever decoder asks: it serves as a key. */
function opcodeOf(mnemonic: string, feature: string, lockable: boolean): Opcode {
  const key = `${mnemonic} ${feature} ${lockable}`;
  const existing = known.get(key);
  if (existing) return existing;
  const opcode: Opcode = { id: known.size, mnemonic, feature, lockable };
  known.set(key, opcode);
  return opcode;
}

export const rows = [
  ...parseMap(0, oneByteMap, opcodeOf),
  ...parseMap(0, x87Map, (name, feature, lockable) => opcodeOf(name, feature || 'fpu', lockable)),
  ...parseMap(1, twoByteMap, opcodeOf),
  ...parseMap(2, map0F38, opcodeOf),
  ...parseMap(3, map0F3A, opcodeOf),
];

/** Every opcode by its `id`. */
export const opcodes: readonly Opcode[] = [...known.values()];

/** Every feature that some row needs. */
export const allFeatures: ReadonlySet<string> = new Set(
  opcodes.map((opcode) => opcode.feature).filter((feature) => feature !== ''),
);

/** The features of the table that every x86-64 processor has (x86-64-v1). */
export const baselineFeatures: ReadonlySet<string> = new Set([
  'fpu',
  'mmx',
  'fxsr',
  'sse',
  'sse2',
  'clflush',
]);
