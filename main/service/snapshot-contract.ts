import { z } from 'zod';

/** The part of the contract that is about snapshots and about a vCPU's state as a file. */

const vm = z.object({ id: z.string().min(1).max(64) });
const snapshotId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);
const one = vm.extend({ snapshot: snapshotId });

export const snapshotInfo = z.object({
  id: z.string(),
  name: z.string(),
  /** Milliseconds since the epoch. */
  createdAt: z.number(),
  /** The snapshot that it was taken after, of those that are left. */
  parent: z.string().nullable(),
  backend: z.string(),
  /** Bytes of RAM, and bytes of it that this snapshot itself keeps. */
  memory: z.number(),
  stored: z.number(),
  /** The last lines of the first serial port. */
  console: z.string(),
  /** The VM goes on from this one. */
  current: z.boolean(),
  /** Its files can't be read: why. It can be deleted. */
  damaged: z.string().optional(),
});
export type SnapshotInfo = z.infer<typeof snapshotInfo>;

/** One line of a difference: a register, by its path. */
const change = z.object({ name: z.string(), from: z.string(), to: z.string() });
/** Bytes that differ, in one stretch. */
const stretch = z.object({
  /** Offset in RAM. */
  address: z.number(),
  bytes: z.number(),
  /** The first of them, hexadecimal. */
  from: z.string(),
  to: z.string(),
});
export const snapshotDifference = z.object({
  registers: z.array(change),
  devices: z.array(change),
  pages: z.number(),
  bytes: z.number(),
  /** The first ones, in the order of addresses. */
  memory: z.array(stretch),
});
export type SnapshotDifference = z.infer<typeof snapshotDifference>;

/** Registers by group and name, hexadecimal: docs/snapshot-format.md. */
export const namedVcpu = z.record(z.string(), z.unknown());

export const snapshotRequests = {
  /** The snapshots of a VM, older ones first. */
  'snapshot.list': { params: vm, result: z.array(snapshotInfo) },
  /** Takes one of a VM that runs or is paused. The guest runs on while it is written. */
  'snapshot.take': {
    params: vm.extend({ name: z.string().trim().max(80).default('') }),
    /** `pausedMs`: how long the guest stood still. */
    result: z.object({ snapshot: snapshotInfo, pausedMs: z.number() }),
  },
  /**
   * Goes back to a snapshot. What the VM is now is lost. One that is off is started, others go on as they did, running or
   * paused; `paused`: it stands still there, whatever it did.
   */
  'snapshot.restore': { params: one.extend({ paused: z.boolean().default(false) }), result: z.object({}) },
  'snapshot.delete': { params: one, result: z.object({}) },
  /** A new VM that starts from the snapshot. */
  'snapshot.clone': {
    params: one.extend({ name: z.string().trim().min(1).max(80) }),
    result: z.object({ id: z.string() }),
  },
  /** Everything in its machine.json. */
  'snapshot.show': { params: one, result: z.record(z.string(), z.unknown()) },
  'snapshot.diff': { params: one.extend({ other: snapshotId }), result: snapshotDifference },
  /** Reads every page, and says what is wrong; null when nothing is. */
  'snapshot.verify': { params: one, result: z.object({ wrong: z.string().nullable() }) },
  /** Runs a paused VM on another backend from now on. */
  'vm.switch': {
    params: vm.extend({ backend: z.enum(['auto', 'emulated', 'kvm', 'nvmm']) }),
    result: z.object({}),
  },
  /** A vCPU's registers by the manuals' names, of a VM that is paused or crashed. */
  'vcpu.save': { params: vm.extend({ vcpu: z.number().int().min(0).max(127) }), result: namedVcpu },
  'vcpu.load': {
    params: vm.extend({ vcpu: z.number().int().min(0).max(127), registers: namedVcpu }),
    result: z.object({}),
  },
} as const;

export const snapshotEvents = {
  /** Snapshots of this VM came, went, or another one is current. */
  'snapshot.changed': vm,
} as const;
