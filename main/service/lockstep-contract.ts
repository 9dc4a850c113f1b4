import { z } from 'zod';
import { guestConfig, MIB } from './guest-config.ts';

/** Requests about lockstep: two backends that run one guest (inspect/lockstep.ts). */

const backend = z.enum(['emulated', 'kvm', 'nvmm']);
const registers = z.record(z.string(), z.string());

const difference = z.object({
  /** Instructions (or steps) done alike before. */
  at: z.number(),
  rip: z.string(),
  instruction: z.string(),
  event: z.string().optional(),
  registers: z.array(z.object({ name: z.string(), a: z.string(), b: z.string() })),
  memory: z.array(z.object({ gpa: z.number(), a: z.string(), b: z.string() })),
  before: registers,
  after: z.object({ a: registers, b: registers }),
  exits: z.array(z.string()),
});

/** Instructions of one request at most: minutes, with nothing to be seen before the end. */
const INSTRUCTIONS_MAXIMUM = 10_000_000_000;

export const lockstepRequests = {
  /** Runs a guest on two backends until they differ, it ends, or so many instructions are done. */
  'lockstep.run': {
    params: z.object({
      a: backend,
      b: backend,
      guest: guestConfig,
      memory: z
        .number()
        .int()
        .multipleOf(MIB)
        .min(4 * MIB)
        .max(1024 * MIB)
        .default(64 * MIB),
      instructions: z.number().int().min(1).max(INSTRUCTIONS_MAXIMUM).default(1_000_000),
      /** Typed into the first serial port. */
      type: z.string().max(4096).optional(),
    }),
    result: z.object({
      outcome: z.enum(['same', 'different']),
      mode: z.enum(['count', 'step']),
      instructions: z.number(),
      ended: z.string(),
      printed: z.string(),
      tolerated: z.record(z.string(), z.number()),
      difference: difference.nullable(),
    }),
  },
} as const;
