/**
 * The opcode table spread out for one processor, so that the decoder finds a row by indexing at most twice.
 */
import type { Opcode } from '../instruction.ts';
import { type Row } from './notation.ts';
import { rows } from './opcodes.ts';

/** Cells of a group: memory forms by ModRM.reg, then register forms by the low six bits of ModRM. */
export const MEMORY_CELLS = 8;
const CELLS = MEMORY_CELLS + 64;

/** What the rows say, by row number. */
export const rowFlags = Int32Array.from(rows, (row) => row.flags);
export const rowConditions = Uint8Array.from(rows, (row) => row.condition);
export const rowOpcodes: readonly Opcode[] = rows.map((row) => row.opcode);
export const rowOperandCounts = Uint8Array.from(rows, (row) => row.operands.length);
/** Packed operands (see Method), four for each row. */
export const rowOperands = Int32Array.from(
  rows.flatMap((row) => [0, 1, 2, 3].map((i) => row.operands[i] ?? 0)),
);

export interface Lookup {
  /**
   * At map << 11 | REX.W << 10 | prefix << 8 | opcode: 0 nothing, n > 0 row n - 1, n < 0 the group of rows that
   * starts at -n. The prefix is 0 none, 1 66, 2 F3, 3 F2.
   */
  readonly top: Int32Array;
  /** Row + 1 or 0, by cell. */
  readonly groups: Int16Array;
}

/** Builds the lookup for a set of features, for 64-bit mode or for the others. */
export function buildLookup(features: ReadonlySet<string>, in64: boolean): Lookup {
  const byOpcode = new Map<number, number[]>();
  rows.forEach((row, number) => {
    if (!(in64 ? row.in64 : row.inLegacy)) return;
    if (row.opcode.feature !== '' && !features.has(row.opcode.feature)) return;
    const key = (row.map << 8) | row.byte;
    const list = byOpcode.get(key);
    if (list) list.push(number);
    else byOpcode.set(key, [number]);
  });

  const top = new Int32Array(4 << 11);
  // Group 0 stays empty, because 0 means nothing.
  const groups: number[] = [0];
  for (const [key, candidates] of byOpcode) {
    for (let slot = 0; slot < 8; slot++) {
      const at = ((key >> 8) << 11) | (slot << 8) | (key & 0xff);
      const here = candidates.filter((number) => (rowAt(number).slots >> slot) & 1);
      if (here.length === 0) continue;
      if (here.every((number) => cells[number] === CELLS)) {
        top[at] = narrowest(here) + 1;
        continue;
      }
      top[at] = -groups.length;
      for (let cell = 0; cell < CELLS; cell++) {
        const covering = here.filter((number) => covers(rowAt(number), cell));
        groups.push(covering.length === 0 ? 0 : narrowest(covering) + 1);
      }
    }
  }
  return { top, groups: Int16Array.from(groups) };
}

function rowAt(number: number): Row {
  const row = rows[number];
  if (!row) throw new Error(`opcode table: no row ${number}`);
  return row;
}

function covers(row: Row, cell: number): boolean {
  if (cell < MEMORY_CELLS) return row.memoryForm && (row.extension < 0 || row.extension === cell);
  const modrm = cell - MEMORY_CELLS;
  return (
    row.registerForm &&
    (row.extension < 0 || row.extension === modrm >> 3) &&
    (row.rm < 0 || row.rm === (modrm & 7))
  );
}

function cellsOf(row: Row): number {
  let count = 0;
  for (let cell = 0; cell < CELLS; cell++) if (covers(row, cell)) count++;
  return count;
}

function slotCount(row: Row): number {
  let count = 0;
  for (let slot = 0; slot < 8; slot++) count += (row.slots >> slot) & 1;
  return count;
}

/** By row number: cells that a row covers, and encodings. */
const cells = rows.map(cellsOf);
const weights = rows.map((row, number) => slotCount(row) * cells[number]);

/** The row that covers the fewest encodings. Two that cover as many are a mistake in the table. */
function narrowest(candidates: readonly number[]): number {
  const weighed = candidates
    .map((number) => ({ number, weight: weights[number] }))
    .sort((a, b) => a.weight - b.weight);
  const [first, second] = weighed;
  if (!first) throw new Error('opcode table: no row to choose');
  if (second && first.weight === second.weight) {
    const row = rowAt(first.number);
    const names = `${row.opcode.mnemonic} and ${rowAt(second.number).opcode.mnemonic}`;
    throw new Error(
      `opcode table: ${names} claim the same encoding ${row.byte.toString(16)} of map ${row.map}`,
    );
  }
  return first.number;
}
