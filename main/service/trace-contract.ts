import { z } from 'zod';

/**
 * The part of the contract that is about exits: the trace of a VM's last million of each vCPU, which is always on. A VM
 * that is running, paused or crashed can be asked. Times are ns on the machine's clock; 64-bit values are text.
 */

/** Exit reasons of NVMM. Time slices that end (NONE) are not traced. */
export const exitReason = z.enum([
  ...(['MEMORY', 'IO', 'RDMSR', 'WRMSR', 'HALTED', 'INT_READY', 'NMI_READY', 'TPR_CHANGED'] as const),
  ...(['STOPPED', 'SHUTDOWN', 'CPUID', 'MONITOR', 'MWAIT', 'INVALID'] as const),
]);
export type ExitReason = z.infer<typeof exitReason>;

export const exitDirection = z.enum(['read', 'write', 'fetch']);

const hex64 = z.string().regex(/^0x[0-9a-f]{1,16}$/i, 'wanted is 0x and up to 16 hexadecimal digits');

/** Both ends are in it. */
const range = (most: number) =>
  z
    .object({ from: z.number().int().min(0).max(most), to: z.number().int().min(0).max(most) })
    .refine(({ from, to }) => from <= to, 'a range ends where it begins, or after that');

/** Everything that is given must apply; of ports, addresses and MSRs any one, since no exit has two of them. */
export const exitFilter = z.object({
  reasons: z.array(exitReason).min(1).max(14).optional(),
  ports: range(0xffff).optional(),
  /** Guest-physical addresses. */
  gpas: range(2 ** 52 - 1).optional(),
  msrs: range(0xffffffff).optional(),
  /** Part of the name of the device that answered; "nobody" where none did. */
  device: z.string().trim().min(1).max(80).optional(),
  /** IN and RDMSR read, OUT and WRMSR write. */
  direction: exitDirection.optional(),
  rips: z
    .object({ from: hex64, to: hex64 })
    .refine(({ from, to }) => BigInt(from) <= BigInt(to), 'a range ends where it begins, or after that')
    .optional(),
  /** What was read or written. */
  value: hex64.optional(),
  times: z.object({ from: z.number().min(0), to: z.number().min(0) }).optional(),
  /** Counts resets and restores. */
  run: z.number().int().min(0).max(0xffff).optional(),
  /** Only what brought the guest an exception. */
  faults: z.literal(true).optional(),
});
export type ExitFilter = z.infer<typeof exitFilter>;

/** One exit; an instruction that touches device memory several times has a record for each access. */
export const exitInfo = z.object({
  /** Records of a vCPU count from 0. */
  number: z.number().int(),
  vcpu: z.number().int(),
  /** Counts resets, restores and changes of the backend: the machine's clock may have gone back. */
  run: z.number().int(),
  /** When the guest had left. */
  time: z.number(),
  /** Instructions that the vCPU has retired before this one, where the backend counts them. */
  instructions: z.number().optional(),
  reason: z.string(),
  rip: z.string(),
  port: z.number().int().optional(),
  gpa: z.number().optional(),
  msr: z.number().int().optional(),
  /** Bytes of one access. */
  size: z.number().int().optional(),
  direction: exitDirection.optional(),
  /** What was read or written; of several accesses to a port the first eight bytes, the first one lowest. */
  value: z.string().optional(),
  /** The device that answered, or "nobody". */
  device: z.string().optional(),
  /** Accesses, when there was not one: string instructions on ports. */
  accesses: z.number().int().optional(),
  /** Another access of the instruction that the record before is about. */
  continued: z.literal(true).optional(),
  /** The guest got an exception for it. */
  fault: z.literal(true).optional(),
  /** The backend completed it in place, and the guest did not leave. */
  inPlace: z.literal(true).optional(),
  /** The event injected last since the record before. */
  event: z.object({ type: z.enum(['interrupt', 'exception']), vector: z.number().int() }).optional(),
  /** ns until the vCPU entered the guest again, once it has; halted, that is how long it slept. */
  duration: z.number().optional(),
});
export type ExitInfo = z.infer<typeof exitInfo>;

export const exitPage = z.object({
  /** In the order in which they were found. */
  records: z.array(exitInfo),
  /** What to give as `from` to go on. There is nothing more when it is `end` (newer) or not above `first` (older). */
  next: z.number().int(),
  /** Number of the oldest record that is kept. */
  first: z.number().int(),
  /** The number that the next record was to have when the look began: what came later was not looked at. */
  end: z.number().int(),
});
export type ExitPage = z.infer<typeof exitPage>;

/** A counter since the machine was made, and its rate in one second of the machine's time. */
const count = z.object({ name: z.string(), count: z.number(), rate: z.number() });
const accesses = { reads: z.number(), writes: z.number(), rate: z.number() };

export const exitStats = z.object({
  time: z.number(),
  /** ns that the rates are about: the last second, or less when the machine is younger or its exits too many. */
  span: z.number(),
  exits: count,
  vcpus: z.array(z.object({ vcpu: z.number().int(), first: z.number().int(), end: z.number().int() })),
  reasons: z.array(count),
  /** The 256 busiest; every access counts, also those of one string instruction. */
  ports: z.array(z.object({ port: z.number().int(), device: z.string(), ...accesses })),
  devices: z.array(z.object({ name: z.string(), ...accesses })),
});
export type ExitStats = z.infer<typeof exitStats>;

/** JSON lines, one exitInfo each; or the trace event format that Perfetto and chrome://tracing read. */
export const exitFormat = z.enum(['jsonl', 'perfetto']);
export type ExitFormat = z.infer<typeof exitFormat>;

/** What was accessed, how: "out 0x3f8 1", "+ write 0xfee00080 4", "in 0x1f0 2 × 16". */
export function accessText({
  reason,
  port,
  gpa,
  msr,
  direction,
  size,
  accesses,
  continued,
}: ExitInfo): string {
  const where = port ?? gpa ?? msr;
  if (where === undefined) return '';
  const verb = reason === 'IO' ? (direction === 'read' ? 'in' : 'out') : direction;
  const times = accesses === undefined ? '' : ` × ${accesses}`;
  const bytes = size === undefined || msr !== undefined ? '' : ` ${size}`;
  return `${continued === true ? '+ ' : ''}${verb ?? 'access'} 0x${where.toString(16)}${bytes}${times}`;
}

/** A time in ns with three digits or so: "850 ns", "12.3 µs". */
export function spanText(ns: number): string {
  const units = [
    { name: 'ns', size: 1 },
    { name: 'µs', size: 1e3 },
    { name: 'ms', size: 1e6 },
    { name: 's', size: 1e9 },
  ];
  const unit = units.findLast(({ size }) => ns >= size) ?? units[0]!;
  const value = ns / unit.size;
  return `${unit.size === 1 || value >= 100 ? Math.round(value) : value.toPrecision(3)} ${unit.name}`;
}

const id = z.object({ id: z.string().min(1).max(64) });
const number = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

export const traceRequests = {
  /** Exits of one vCPU: `newer` looks at `from` and after, oldest first; `older` at what is before `from`, newest first. */
  'trace.query': {
    params: id.extend({
      vcpu: z.number().int().min(0).max(255).default(0),
      towards: z.enum(['newer', 'older']).default('older'),
      from: number.optional(),
      /** Of `older`: the last record that is looked at. */
      until: number.optional(),
      filter: exitFilter.optional(),
      limit: z.number().int().min(1).max(1000).default(100),
    }),
    result: exitPage,
  },
  'trace.stats': { params: id, result: exitStats },
  /** Writes the trace to a file on the service's host, which goes on meanwhile. `last`: only so many of each vCPU. */
  'trace.export': {
    params: id.extend({
      path: z.string().min(1).max(4096),
      format: exitFormat,
      filter: exitFilter.optional(),
      last: number.min(1).optional(),
      overwrite: z.boolean().default(false),
    }),
    /** `lost`: records that new ones drove out before they could be copied. */
    result: z.object({ records: z.number(), bytes: z.number(), lost: z.number() }),
  },
} as const;
