import type { FunctionBuilder, FunctionReference, Signature } from '../wasm/module.ts';
import type { Callees, Emitter } from './emitter.ts';

/** Writes what one instruction does. The generator goes on to the next instruction after it. */
export type Semantics = (c: Emitter) => void;

/** What a form of instruction does, and whether it ends its block. */
export interface Meaning {
  readonly semantics: Semantics;
  readonly ending: boolean;
}

/**
 * A group of instructions with their meaning, by mnemonic. Those of `ending` end a block: they write their own
 * way out (a jump, or leaving to the run loop).
 */
export interface SemanticsGroup {
  readonly name: string;
  readonly plain: Record<string, Semantics>;
  readonly ending?: Record<string, Semantics>;
  /** Routines that the group's handlers call by name, built once for a vCPU. They may call one another and services. */
  readonly library?: Record<string, LibraryRoutine>;
  /** Routines that may also go on with a record, through the table of handlers; the library doesn't know them. */
  readonly continuations?: Record<string, LibraryRoutine>;
}

export interface LibraryRoutine {
  readonly signature: Signature;
  build(f: FunctionBuilder & FunctionReference, callees: Callees): void;
}
