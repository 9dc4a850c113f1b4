import { TLB_BYTES, TLB_ENTRIES, TLB_ENTRY, TLB_NARROW_ENTRY } from '../state.ts';
import { i32, i64, type I32, type I64 } from '../wasm/expression.ts';
import type { FunctionBuilder } from '../wasm/module.ts';

const PAGE_MASK = -4096;

/** How generated code looks an address up in a translation table. */
export interface TlbProbe {
  /** The entry for an address in the table at another. */
  entryIn(f: FunctionBuilder, linear: I64, table: I32): I32;
  /** Whether an entry, which is that of a linear address, translates everything from there to a last byte. */
  hitUpTo(entry: I32, last: I64): I32;
  /** The host address of a linear one that the entry translates. */
  host(entry: I32, linear: I64): I32;
}

/** By all 64 bits of the address. */
export const wideTlb: TlbProbe = {
  entryIn: (f, linear, table) => {
    // The page's number times the size of an entry, 16.
    const offset = i32.and(i32.wrap(i64.shr_u(linear, 8)), (TLB_ENTRIES - 1) * TLB_ENTRY);
    return f.let(i32.add(table, offset));
  },
  hitUpTo: (entry, last) => i64.eq(i64.load(entry), i64.and(last, PAGE_MASK)),
  host: (entry, linear) => i32.add(i32.wrap(linear), i32.load(entry, 8)),
};

/**
 * By 32 bits, for code that has no more, in entries of half the size: they stand behind the wide ones, and are those of the
 * addresses below 4 GiB among them (Mmu).
 */
export const narrowTlb: TlbProbe = {
  entryIn: (f, linear, table) => {
    // The page's number times the size of an entry, 8.
    const offset = i32.and(i32.shr_u(i32.wrap(linear), 9), (TLB_ENTRIES - 1) * TLB_NARROW_ENTRY);
    return f.let(i32.add(table, offset));
  },
  hitUpTo: (entry, last) => i32.eq(i32.load(entry, TLB_BYTES), i32.and(i32.wrap(last), PAGE_MASK)),
  host: (entry, linear) => i32.add(i32.wrap(linear), i32.load(entry, TLB_BYTES + 4)),
};

/** What code of so many bits uses. */
export function tlbFor(codeSize: number): TlbProbe {
  return codeSize === 64 ? wideTlb : narrowTlb;
}

/** Whether a table entry translates all `bytes` at a linear address. */
export function tlbHit(probe: TlbProbe, entry: I32, linear: I64, bytes: number): I32 {
  return probe.hitUpTo(entry, bytes === 1 ? linear : i64.add(linear, bytes - 1));
}
