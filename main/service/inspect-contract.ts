import { z } from 'zod';

/**
 * The part of the contract that stops a VM and looks into it. Addresses and registers are text, 0x and hexadecimal
 * digits; a `place` is what people write for an address: a number, a register (rip), a symbol, or a sum of those.
 */

const id = z.object({ id: z.string().min(1).max(64) });
const vcpu = z.number().int().min(0).max(127).default(0);
const one = id.extend({ vcpu });
export const hex64 = z.string().regex(/^0x[0-9a-f]{1,16}$/i, 'wanted is 0x and up to 16 hexadecimal digits');
const wide = z.string().regex(/^0x[0-9a-f]{1,32}$/i, 'wanted is 0x and up to 32 hexadecimal digits');
export const place = z.string().trim().min(1).max(1100);
const access = z.enum(['read', 'write', 'access']);

/** What makes a VM stop. Addresses of `execute` and `watch` are linear. */
export const breakpoint = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('execute'), place }),
  /** Up to 4 GiB. */
  z.object({ kind: z.literal('watch'), place, length: z.number().int().min(1), access }),
  /** At exits of this reason, by its name: IO, MEMORY, HALTED ... */
  z.object({ kind: z.literal('exit'), reason: z.string().min(1).max(20) }),
  z.object({
    kind: z.literal('port'),
    first: z.number().int().min(0).max(0xffff),
    last: z.number().int().min(0).max(0xffff),
    direction: z.enum(['in', 'out', 'both']),
  }),
  z.object({ kind: z.literal('msr'), index: z.number().int().min(0).max(0xffffffff), access }),
  z.object({ kind: z.literal('exception'), vector: z.number().int().min(0).max(31) }),
  /** When the guest has died, which always stops it: to have it among the others. */
  z.object({ kind: z.literal('triple-fault') }),
]);
export type WireBreakpoint = z.infer<typeof breakpoint>;

const setBreakpoint = z.object({
  number: z.number().int(),
  breakpoint,
  /** Where it is, with the symbol: for people. */
  text: z.string(),
  once: z.boolean(),
  hits: z.number().int(),
});
export type WireSetBreakpoint = z.infer<typeof setBreakpoint>;

/** Why a VM stands still, and where. */
export const stop = z.object({
  vcpu: z.number().int(),
  reason: z.enum([
    ...(['step', 'breakpoint', 'watchpoint', 'exit', 'port', 'msr', 'exception'] as const),
    ...(['triple-fault', 'pause', 'halted'] as const),
  ]),
  /** The breakpoint's number. */
  breakpoint: z.number().int().optional(),
  rip: hex64,
  /** Linear address of a watched access, a port, or an MSR. */
  address: hex64.optional(),
  access: z.enum(['read', 'write']).optional(),
  vector: z.number().int().optional(),
  error: z.number().int().optional(),
  exit: z.string().optional(),
  message: z.string(),
});
export type WireStop = z.infer<typeof stop>;

const register = z.object({
  name: z.string(),
  value: wide,
  bits: z.number().int(),
  fields: z
    .array(z.object({ name: z.string(), value: z.number().int(), bits: z.number().int(), about: z.string() }))
    .optional(),
});
export const registerGroup = z.object({ name: z.string(), registers: z.array(register) });
export type WireRegisterGroup = z.infer<typeof registerGroup>;

const codeLine = z.object({
  /** Offset in the code segment: what RIP is there. */
  address: hex64,
  bytes: z.string(),
  text: z.string(),
  symbol: z.string().optional(),
  /** RIP is here. */
  current: z.boolean(),
  /** Numbers of the breakpoints here. */
  breakpoints: z.array(z.number().int()),
});
export type CodeLine = z.infer<typeof codeLine>;

export const pageWalk = z.object({
  address: hex64,
  paging: z.enum(['none', '32-bit', 'PAE', '4-level']),
  root: hex64,
  levels: z.array(
    z.object({ name: z.string(), at: hex64, entry: hex64, flags: z.array(z.string()), frame: hex64 }),
  ),
  /** Guest-physical address; absent when the walk faults. */
  gpa: hex64.optional(),
  pageSize: z.number().int(),
  ...{ readable: z.boolean(), writable: z.boolean(), executable: z.boolean(), user: z.boolean() },
  fault: z.string().optional(),
  warning: z.string().optional(),
});
export type WirePageWalk = z.infer<typeof pageWalk>;

const descriptor = z.object({
  index: z.number().int(),
  raw: wide,
  present: z.boolean(),
  type: z.string(),
  dpl: z.number().int(),
  base: hex64.optional(),
  limit: z.number().int().optional(),
  selector: z.number().int().optional(),
  offset: hex64.optional(),
  symbol: z.string().optional(),
  ist: z.number().int().optional(),
  flags: z.array(z.string()),
});
export type WireDescriptor = z.infer<typeof descriptor>;

export const tableName = z.enum(['idt', 'gdt', 'ldt', 'tss']);
const table = z.object({
  table: tableName,
  base: hex64,
  limit: z.number().int(),
  /** The table is not mapped, or only in part. */
  note: z.string().optional(),
  descriptors: z.array(descriptor),
  /** Of the TSS. */
  fields: z.array(z.object({ name: z.string(), offset: z.number().int(), value: hex64 })),
});
export type WireTable = z.infer<typeof table>;

const device = z.object({
  device: z.string(),
  registers: z.array(
    z.object({ name: z.string(), value: z.union([z.number(), z.array(z.number())]), about: z.string() }),
  ),
});
export type WireDevice = z.infer<typeof device>;

const stopped = z.object({ stop });

/** Most bytes of one look at memory. */
export const LOOK_MAXIMUM = 65536;

export const inspectRequests = {
  /**
   * Steps a paused VM: `into` an instruction (or `count` of them), `over` a call, or `out` of the function. The reply
   * comes when it has stopped, which over a call may take as long as the call.
   */
  'debug.step': {
    params: one.extend({
      how: z.enum(['into', 'over', 'out']).default('into'),
      count: z.number().int().min(1).max(100_000).default(1),
    }),
    result: stopped,
  },
  /**
   * Takes a paused deterministic VM back: by an instruction, or to the last breakpoint, watchpoint hit or exit that it
   * would have stopped at. `pause` as the reason: its history begins there.
   */
  'debug.back': { params: id.extend({ to: z.enum(['step', 'stop']).default('step') }), result: stopped },
  /** Runs a paused VM until it is about to execute a place; the reply comes when it stops, there or before. */
  'debug.runTo': { params: one.extend({ place }), result: stopped },
  /** Sets a breakpoint, also while the VM runs. `note`: what to know about it. */
  'debug.add': {
    params: one.extend({ breakpoint, once: z.boolean().default(false) }),
    result: z.object({ number: z.number().int(), note: z.string().optional() }),
  },
  'debug.remove': { params: id.extend({ number: z.number().int() }), result: z.object({}) },
  'debug.list': { params: id, result: z.array(setBreakpoint) },
  /** Takes symbols from an ELF file or a System.map; an absolute path. Null: forgets them. */
  'inspect.symbols': {
    params: id.extend({ file: z.string().min(1).max(4096).nullable() }),
    result: z.object({ count: z.number().int() }),
  },
  'inspect.registers': { params: one, result: z.array(registerGroup) },
  /** Changes registers by name, of a paused VM; all or none. */
  'inspect.setRegisters': {
    params: one.extend({ values: z.record(z.string().max(20), wide) }),
    result: z.object({}),
  },
  /** Memory at a linear or guest-physical place: base64, shorter than asked where there is none. */
  'inspect.memory': {
    params: one.extend({
      place,
      physical: z.boolean().default(false),
      length: z.number().int().min(1).max(LOOK_MAXIMUM),
    }),
    result: z.object({ address: hex64, symbol: z.string().optional(), bytes: z.string() }),
  },
  'inspect.setMemory': {
    params: one.extend({ place, physical: z.boolean().default(false), bytes: z.string().max(90_000) }),
    /** Fewer bytes than given where memory ends. */
    result: z.object({ written: z.number().int() }),
  },
  /** Disassembles at a place (RIP unless given), in the mode that the vCPU is in. */
  'inspect.code': {
    params: one.extend({ place: place.optional(), count: z.number().int().min(1).max(500).default(16) }),
    result: z.object({
      size: z.union([z.literal(16), z.literal(32), z.literal(64)]),
      lines: z.array(codeLine),
    }),
  },
  /** Translates a linear place, with each level's entry. */
  'inspect.walk': { params: one.extend({ place }), result: pageWalk },
  'inspect.backtrace': {
    params: one,
    result: z.object({
      frames: z.array(z.object({ address: hex64, frame: hex64, symbol: z.string().optional() })),
      end: z.string(),
    }),
  },
  'inspect.table': { params: one.extend({ table: tableName }), result: table },
  /** Every device's registers, the local APICs and the I/O APIC among them; `device`: of those with that in their name. */
  'inspect.devices': {
    params: id.extend({ device: z.string().max(80).optional() }),
    result: z.array(device),
  },
} as const;
