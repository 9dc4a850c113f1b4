import { z } from 'zod';
import { inspectRequests, stop } from './inspect-contract.ts';
import { guestConfig, MIB, path } from './guest-config.ts';
import { lockstepRequests } from './lockstep-contract.ts';
import { snapshotEvents, snapshotRequests } from './snapshot-contract.ts';
import { traceRequests } from './trace-contract.ts';

export {
  accessText,
  exitReason,
  spanText,
  type ExitFilter,
  type ExitInfo,
  type ExitPage,
  type ExitStats,
} from './trace-contract.ts';

/**
 * The contract that every front end speaks: requests, events and console streams, the same over Electron's
 * MessagePort, WebSocket and the local socket. Each message is checked against its schema where it arrives.
 */

export type { SnapshotDifference, SnapshotInfo } from './snapshot-contract.ts';

export const backendChoice = z.enum(['auto', 'emulated', 'kvm', 'nvmm']);
export type BackendChoice = z.infer<typeof backendChoice>;

export { guestConfig, type GuestConfig } from './guest-config.ts';

export const vmConfig = z.object({
  name: z.string().trim().min(1).max(80),
  guest: guestConfig,
  /** Guest RAM in bytes: a multiple of 1 MiB, from 4 MiB to 3.5 GiB (one shared WebAssembly.Memory is 4 GiB). */
  memory: z
    .number()
    .int()
    .multipleOf(MIB)
    .min(4 * MIB)
    .max(3584 * MIB),
  vcpus: z.number().int().min(1).max(1).default(1),
  backend: backendChoice.default('auto'),
  disks: z
    .array(z.object({ path, readonly: z.boolean().default(false) }))
    .max(8)
    .default([]),
  /**
   * Time is the count of instructions (1 ns each) and random bytes follow from the seed: the same inputs give the same
   * run, to the bit. On the emulated backend. Absent: the host's clock.
   */
  deterministic: z
    .object({
      seed: z.number().int().min(0).max(0xffffffff).default(1),
      /** What the real-time clock shows at power-on. */
      unixSeconds: z.number().int().min(0).max(4102444800).default(1704067200),
      /** Bytes of older memory that may be kept to go backwards, beside a copy of RAM. 0: no history. */
      history: z
        .number()
        .int()
        .min(0)
        .max(16 * 2 ** 30)
        .default(256 * MIB),
    })
    .optional(),
});
export type VmConfig = z.infer<typeof vmConfig>;
export type VmConfigInput = z.input<typeof vmConfig>;

/** `crashed`: the guest's fault (triple fault). `failed`: the host's (a file is missing, the process died). */
export const vmState = z.enum(['off', 'starting', 'running', 'paused', 'stopping', 'crashed', 'failed']);
export type VmState = z.infer<typeof vmState>;

export const vmInfo = z.object({
  id: z.string(),
  config: vmConfig,
  state: vmState,
  /** The backend in use, once started. */
  backend: z.string().optional(),
  /** One sentence for people: why it crashed or failed, or how it ended. */
  message: z.string().optional(),
  /** Why it is paused and where, or what it died of. */
  stop: stop.optional(),
  /** vCPUs that are paused by themselves while the others run. */
  held: z.array(z.number().int()).optional(),
  /** Milliseconds since the epoch. */
  createdAt: z.number(),
  startedAt: z.number().optional(),
  /** Where it listens for gdb, while it does: what to type to connect. */
  gdb: z.object({ address: z.string(), command: z.string() }).optional(),
  /** Its vm.json can't be read: `message` says why, `config` is a stand-in, and all it can do is be deleted. */
  damaged: z.literal(true).optional(),
});
export type VmInfo = z.infer<typeof vmInfo>;

export const backendReport = z.object({
  name: z.enum(['emulated', 'kvm', 'nvmm']),
  available: z.boolean(),
  /** Why not, and the way out. */
  reason: z.string().optional(),
});
export type BackendReport = z.infer<typeof backendReport>;

const id = z.object({ id: z.string().min(1).max(64) });

/** Every request: its parameters and its result. */
export const requests = {
  'vm.list': { params: z.object({}), result: z.array(vmInfo) },
  'vm.create': { params: vmConfig, result: vmInfo },
  'vm.update': { params: id.extend({ config: vmConfig }), result: vmInfo },
  'vm.delete': { params: id, result: z.object({}) },
  /** `paused`: it waits before its first instruction until it is resumed, by a debugger for example. */
  'vm.start': { params: id.extend({ paused: z.boolean().optional() }), result: z.object({}) },
  /** `vcpu`: only that one; the others and time run on. `time`: whether it stands still for the guest meanwhile. */
  'vm.pause': {
    params: id.extend({
      vcpu: z.number().int().min(0).max(127).optional(),
      time: z.enum(['stops', 'runs']).default('stops'),
    }),
    result: z.object({}),
  },
  'vm.resume': {
    params: id.extend({ vcpu: z.number().int().min(0).max(127).optional() }),
    result: z.object({}),
  },
  'vm.reset': { params: id, result: z.object({}) },
  /** Ends the machine at once, as pulling the plug does. */
  'vm.powerOff': { params: id, result: z.object({}) },
  /** Presses the ACPI power button: the guest decides. */
  'vm.powerButton': { params: id, result: z.object({}) },
  /**
   * Attaches to a serial port: console.data then carries what was printed before (as far as it is kept), and all that
   * follows. A machine that is off can be attached to; a stream stays over restarts of its machine.
   */
  'console.attach': {
    params: id.extend({ port: z.number().int().min(0).max(3) }),
    /** `history`: where what was printed before ends. A terminal must not answer queries that it finds in there. */
    result: z.object({ stream: z.number().int(), history: z.number().int() }),
  },
  'console.detach': { params: z.object({ stream: z.number().int() }), result: z.object({}) },
  /**
   * Types into a serial port. `data` is bytes as a base64 string, at most 64 KiB of them. The reply comes when the
   * guest has room for more: a long paste goes in pieces, each after the reply to the one before.
   */
  'console.input': {
    params: z.object({ stream: z.number().int(), data: z.string().max(90_000) }),
    result: z.object({}),
  },
  /**
   * Says how many bytes of a stream have been consumed since it was attached. The service sends at most 256 KiB beyond
   * that; a front end that falls far behind loses the oldest output, which `offset` shows.
   */
  'console.ack': {
    params: z.object({ stream: z.number().int(), bytes: z.number().int().min(0) }),
    result: z.object({}),
  },
  ...traceRequests,
  ...inspectRequests,
  /**
   * Listens for gdb on the service's host: at [HOST:]PORT or unix:PATH, for as long as there is the VM, whatever its state.
   * Without an address at a free port of the loopback interface. `warning`: others can reach it. docs/gdb.md.
   */
  'gdb.start': {
    params: id.extend({
      address: z.string().min(1).max(200).optional(),
      architecture: z.enum(['auto', 'i8086', 'i386', 'x86-64']).default('auto'),
    }),
    result: z.object({ address: z.string(), command: z.string(), warning: z.string().optional() }),
  },
  /** Lets gdb go and listens no more. The VM stays as it is. */
  'gdb.stop': { params: id, result: z.object({}) },
  ...snapshotRequests,
  ...lockstepRequests,
  'host.backends': { params: z.object({}), result: z.array(backendReport) },
  'host.info': {
    params: z.object({}),
    result: z.object({ version: z.string(), platform: z.string(), library: z.string() }),
  },
} as const;

export type RequestName = keyof typeof requests;
export type Params<N extends RequestName> = z.input<(typeof requests)[N]['params']>;
export type Result<N extends RequestName> = z.infer<(typeof requests)[N]['result']>;

/** Everything that the service says unasked. */
export const events = {
  'vm.changed': vmInfo,
  'vm.removed': z.object({ id: z.string() }),
  ...snapshotEvents,
  /**
   * Console output: base64 of at most 64 KiB, in order. `offset` is the position of its first byte since the machine
   * was started: lower than expected after a restart, higher when output was skipped.
   */
  'console.data': z.object({ stream: z.number().int(), offset: z.number().int(), data: z.string() }),
} as const;

export type EventName = keyof typeof events;
export type EventData<N extends EventName> = z.infer<(typeof events)[N]>;

/** A request as it crosses a transport. */
export const requestMessage = z.object({ call: z.number().int(), method: z.string(), params: z.unknown() });
export type RequestMessage = z.infer<typeof requestMessage>;

/** Errors that people read: a kind that programs can switch on, and a sentence. */
export const errorKind = z.enum(['invalid', 'not-found', 'wrong-state', 'host', 'internal']);
export const replyMessage = z.union([
  z.object({ call: z.number().int(), result: z.unknown() }),
  z.object({ call: z.number().int(), error: z.object({ kind: errorKind, message: z.string() }) }),
]);
export type ReplyMessage = z.infer<typeof replyMessage>;
export const eventMessage = z.object({ event: z.string(), data: z.unknown() });
export type EventMessage = z.infer<typeof eventMessage>;
