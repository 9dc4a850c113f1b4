import type { Signature } from '../wasm/module.ts';

/** A handler: (vCPU block, record) to a Leave code. */
export const HANDLER: Signature = { parameters: ['i32', 'i32'], result: 'i32' };

/**
 * What generated code may call: the TypeScript side's services. Each gets the vCPU's block first.
 * Slow accesses take the linear address from ACCESS_ADDRESS and the segment from ACCESS_SEGMENT.
 */
export const SERVICES = {
  /** (s, bytes): a host address where the bytes can be read, or 0 with the reason in LEAVE. */
  readSlow: { parameters: ['i32', 'i32'], result: 'i32' },
  /** (s, bytes): writes ACCESS_DATA; 1, or 0 with the reason in LEAVE. */
  writeSlow: { parameters: ['i32', 'i32'], result: 'i32' },
  /** (s, bytes): a host address where the bytes can be read and written, or 0. modifyCommit must follow a write. */
  modifySlow: { parameters: ['i32', 'i32'], result: 'i32' },
  /** (s, bytes): carries out what was written to the bounce buffer after modifySlow. */
  modifyCommit: { parameters: ['i32', 'i32'] },
  /** (s, record, number of the helper): an instruction done in TypeScript; 0 to go on, else a Leave code. */
  helper: { parameters: ['i32', 'i32', 'i32'], result: 'i32' },
  /** The same for one that ends its block: 0 to go on at RIP, wherever that leads. */
  ending: { parameters: ['i32', 'i32', 'i32'], result: 'i32' },
  /** (s): the record of the instruction at RIP, or 0 when the run loop has to see to it. */
  find: { parameters: ['i32'], result: 'i32' },
  /** (s, budget): looks at the clock (Field.TSC), of which the instruction at a budget wants to know; nothing if it can't. */
  clock: { parameters: ['i32', 'i32'] },
  /** (s, record, head): the window of an access missed, as others did before; of an instruction, and its block. */
  missed: { parameters: ['i32', 'i32', 'i32'] },
} as const satisfies Record<string, Signature>;
export type Service = keyof typeof SERVICES;
