import { createHash } from 'node:crypto';
import { z } from 'zod';
import { PORTABLE } from '../../nvmm/cpu-model.ts';
import type { MachineCapture } from '../capture.ts';
import { MachineError } from '../errors.ts';
import type { DiskConfig, MachineConfig } from '../protocol.ts';
import { SERIAL_PORTS } from '../protocol.ts';
import type { TimelineCapture } from '../timeline-input.ts';
import { MOST_ANCESTORS, PAGE } from './memory-file.ts';
import { nameRegisters, registersFrom } from './vcpu-names.ts';

/**
 * The file `machine.json` of a snapshot. Docs: docs/snapshot-format.md. A version that has been written once is read
 * forever; a later one than this is refused by name.
 */
export const FORMAT = 1;

/** Names of the two files in a snapshot's folder. */
export const MACHINE_FILE = 'machine.json';
export const MEMORY_FILE = 'memory';

const registers = z.record(z.string(), z.union([z.number(), z.array(z.number())]));
const id = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);
const checksum = z.number().int().min(0).max(0xffffffff);

const queuedEvent = z.object({
  type: z.number().int().min(0).max(1),
  vector: z.number().int().min(0).max(255),
  error: z.number().int().min(0).max(0xffffffff),
});

const vcpu = z.object({
  registers: z.unknown(),
  halted: z.boolean(),
  parked: z.boolean(),
  event: queuedEvent.nullable(),
  /** Of a deterministic machine. Format 1 was without it at first: then time goes on from where the machine's is. */
  timeline: z
    .object({
      instructions: z.number().int().min(0),
      skipped: z.number().min(0),
      offset: z.number(),
      origin: z.number(),
      random: z.number().int().min(0),
      inputs: z.array(z.base64()).length(SERIAL_PORTS + 1),
    })
    .optional(),
});

export const snapshotDisk = z.object({
  path: z.string().min(1),
  readonly: z.boolean(),
  /** Bytes. */
  size: z.number().int().positive(),
  /** When the image was last changed, in ms since the epoch: it must not be changed under the layers. */
  modified: z.number(),
  /** Files with the blocks written since, oldest first; names in the VM's folder `layers`. */
  layers: z.array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/)),
});
export type SnapshotDisk = z.infer<typeof snapshotDisk>;

const snapshot = z.object({
  writtenBy: z.string(),
  id,
  name: z.string().max(200),
  /** Milliseconds since the epoch. */
  createdAt: z.number(),
  parent: id.nullable(),
  /** The VM's configuration, as the contract has it. */
  config: z.looseObject({
    memory: z.number().int().positive().multipleOf(PAGE),
    vcpus: z.number().int().positive().max(128),
  }),
  backend: z.string(),
  cpu: z.object({ model: z.string(), features: z.record(z.string(), z.number()) }),
  /** Nanoseconds since power-on. */
  clock: z.number().min(0),
  vcpus: z.array(vcpu),
  devices: z.record(z.string(), registers),
  /** Bytes under way in each serial port, as base64: typed and not read, printed and not taken. */
  serial: z.array(z.object({ input: z.base64(), output: z.base64() })).length(SERIAL_PORTS + 1),
  /** The last that COM1 printed, as base64. */
  console: z.base64(),
  disks: z.array(snapshotDisk),
  memory: z.object({
    size: z.number().int().positive().multipleOf(PAGE),
    /** Pages in this snapshot's own file. */
    stored: z.number().int().min(0),
    /** The snapshots that the file's index names by number, from 1 on. */
    ancestors: z.array(id).max(MOST_ANCESTORS),
    /** Those of them that hold pages of this one. */
    uses: z.array(id),
    /** CRC-32 of the index. */
    checksum,
  }),
});
export type Snapshot = z.infer<typeof snapshot>;

/** What the caller of a snapshot knows of it. */
export interface SnapshotTitle {
  id: string;
  name: string;
  createdAt: number;
  parent: string | null;
  writtenBy: string;
  console: string;
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

/** A captured machine as machine.json has it. */
export function describe(
  title: SnapshotTitle,
  capture: MachineCapture,
  machine: { config: MachineConfig; backend: string; disks: SnapshotDisk[]; memory: Snapshot['memory'] },
): Snapshot {
  return {
    writtenBy: title.writtenBy,
    id: title.id,
    name: title.name,
    createdAt: title.createdAt,
    parent: title.parent,
    config: { ...machine.config },
    backend: machine.backend,
    cpu: { model: 'portable', features: { ...PORTABLE } },
    clock: capture.clock,
    vcpus: capture.vcpus.map(({ state, halted, parked, event, timeline }) => ({
      registers: nameRegisters(state),
      halted,
      parked,
      event,
      ...(timeline === undefined ? {} : { timeline: printTimeline(timeline) }),
    })),
    devices: capture.devices,
    serial: capture.inputs.map((input, port) => ({
      input: base64(input),
      output: base64(capture.outputs[port]),
    })),
    console: title.console,
    disks: machine.disks,
    memory: machine.memory,
  };
}

/** The other way round. Throws MachineError for registers that are none. */
export function captureOf(saved: Snapshot): MachineCapture {
  return {
    clock: saved.clock,
    devices: saved.devices,
    inputs: saved.serial.map(({ input }) => bytesOf(input)),
    outputs: saved.serial.map(({ output }) => bytesOf(output)),
    vcpus: saved.vcpus.map(({ registers: named, halted, parked, event, timeline }) => ({
      state: registersFrom(named),
      halted,
      parked,
      event,
      ...(timeline === undefined ? {} : { timeline: readTimeline(timeline) }),
    })),
  };
}

type SavedTimeline = NonNullable<Snapshot['vcpus'][number]['timeline']>;

function printTimeline({ count, inputs, ...times }: TimelineCapture): SavedTimeline {
  return { instructions: count, ...times, inputs: inputs.map(base64) };
}

function readTimeline({ instructions, inputs, ...times }: SavedTimeline): TimelineCapture {
  return { count: instructions, ...times, inputs: inputs.map(bytesOf) };
}

const digest = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;

/** The text of machine.json: the checksum is that of the snapshot's own JSON, without white space. */
export function printSnapshot(saved: Snapshot): string {
  const file = { format: FORMAT, checksum: digest(JSON.stringify(saved)), snapshot: saved };
  return `${JSON.stringify(file, null, 1)}\n`;
}

/** Reads machine.json. `path` is for messages; each says what is wrong, and what to do. */
export function parseSnapshot(text: string, path: string): Snapshot {
  const damaged = (why: string): MachineError =>
    new MachineError('host', `${path} ${why}. Restore it from a backup, or delete the snapshot.`);
  let file: { format?: unknown; checksum?: unknown; snapshot?: unknown };
  try {
    file = JSON.parse(text) as typeof file;
  } catch {
    throw damaged('is no JSON: it was cut off or changed');
  }
  if (typeof file !== 'object' || file === null || typeof file.format !== 'number') {
    throw damaged('is not the file of a snapshot');
  }
  if (file.format !== FORMAT) {
    throw new MachineError(
      'host',
      `${path} has format ${file.format}, and this Vitrine reads ${FORMAT}: it needs a newer Vitrine.`,
    );
  }
  if (digest(JSON.stringify(file.snapshot)) !== file.checksum) {
    throw damaged('does not have its own checksum: it was changed after it was written');
  }
  const { data, error } = snapshot.safeParse(file.snapshot);
  if (error === undefined) return data;
  const [issue] = error.issues;
  throw damaged(`is damaged: ${issue.path.join('.')}: ${issue.message}`);
}

export type { DiskConfig };
