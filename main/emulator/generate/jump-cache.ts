import { Field, JUMP_CACHE_ENTRIES, Slot } from '../state.ts';
import { i32, i64, type I32, type I64 } from '../wasm/expression.ts';
import type { FunctionBuilder } from '../wasm/module.ts';

/** Bytes of an entry: the address with the context's salt (64 bits), the record, and the record if jumps may be linked to it. */
const ENTRY_SHIFT = 4;
export const JumpEntry = { RECORD: 8, LINKABLE: 12 } as const;

/**
 * Looks an address up in the jump cache, which Mmu.rememberJump fills: the entry that it has, and whether another one is
 * there. `linear` is bound.
 */
export function jumpEntry(f: FunctionBuilder, s: I32, linear: I64): { entry: I32; misses: I32 } {
  const low = f.let(i32.wrap(linear));
  const hash = i32.and(i32.xor(low, i32.shr_u(low, 12)), JUMP_CACHE_ENTRIES - 1);
  const entry = f.let(i32.add(i32.load(s, Field.JUMP_CACHE), i32.shl(hash, ENTRY_SHIFT)));
  const misses = i64.ne(i64.load(entry), i64.add(linear, i64.load(s, Field.JUMP_SALT)));
  return { entry, misses };
}

/** RIP of the start of the page that code is run from: the address `linear` is at `rip`. */
export function setCodeBase(f: FunctionBuilder, s: I32, rip: I64, linear: I64): void {
  f.store64(s, i64.sub(rip, i64.and(linear, 4095)), Field.SLOTS + 8 * Slot.CODE_BASE);
}
