import { TLB_ENTRIES, TLB_ENTRY } from '../state.ts';
import { i32, i64, type I32, type I64 } from '../wasm/expression.ts';
import type { FunctionBuilder } from '../wasm/module.ts';

const PAGE_MASK = -4096;

/** The entry for an address in the translation table at another. */
export function tlbEntryIn(f: FunctionBuilder, linear: I64, table: I32): I32 {
  // The page's number times the size of an entry, 16.
  const offset = i32.and(i32.wrap(i64.shr_u(linear, 8)), (TLB_ENTRIES - 1) * TLB_ENTRY);
  return f.let(i32.add(table, offset));
}

/** Whether a table entry translates all `bytes` at a linear address. */
export function tlbHit(entry: I32, linear: I64, bytes: number): I32 {
  return tlbHitUpTo(entry, bytes === 1 ? linear : i64.add(linear, bytes - 1));
}

/** Whether an entry, which is that of a linear address, translates everything from there to a last byte. */
export function tlbHitUpTo(entry: I32, last: I64): I32 {
  return i64.eq(i64.load(entry), i64.and(last, PAGE_MASK));
}

/** The host address of a linear one that the entry translates. */
export function tlbHost(entry: I32, linear: I64): I32 {
  return i32.add(i32.wrap(linear), i32.load(entry, 8));
}
