import type { Tier } from '../nvmm/nvmm.ts';
import type { Breakpoint, SetBreakpoint, Stop } from './debug.ts';
import type { MachineErrorKind } from './errors.ts';
import type { DeterministicConfig, TimelineEvent } from './timeline-input.ts';
import type { ExitExport, ExitExported, ExitFormat } from './exit-export.ts';
import type { ExitPage, ExitQuery, ExitStats } from './exit-query.ts';

/**
 * What a VM's process and its parent say to each other: plain objects over Node's or Electron's channel
 * (structured clone). The parent's side is machine-process.ts, the child's process-messages.ts.
 */

export { TIERS, type Tier } from '../nvmm/nvmm.ts';

export type BackendChoice = 'auto' | 'emulated' | 'kvm' | 'nvmm';

/** What boots. `calc` is the calculator that comes with Vitrine. */
export type GuestSource =
  | { kind: 'calc' }
  | { kind: 'linux'; kernel: string; initrd?: string; append: string }
  | { kind: 'elf'; file: string; append: string; initrd?: string }
  | { kind: 'flat'; file: string; address: number };

export interface DiskConfig {
  path: string;
  readonly: boolean;
  /** Files with what was written over the image since snapshots were taken, oldest first; the last is written to. */
  layers?: string[];
}

export interface MachineConfig {
  name: string;
  guest: GuestSource;
  /** Bytes of RAM. */
  memory: number;
  vcpus: number;
  backend: BackendChoice;
  disks: DiskConfig[];
  /** Time is the count of instructions, and everything follows from the inputs. Absent: the host's clock. */
  deterministic?: DeterministicConfig;
  /** It stands still before its first instruction, until it is resumed. */
  startPaused?: true;
  /** Where it starts from in place of a boot. */
  restore?: RestorePlan;
  /** Where the exit trace is written when the machine ends, however it does; an absolute path. */
  traceFile?: { path: string; format: ExitFormat };
  /** How `emulated` runs code, for diagnosis. */
  tier?: Tier;
  /** Without the exit trace, and without the last exits in crash reports: for measuring what the trace costs. */
  untraced?: true;
}

/** `crashed`: the guest's fault (triple fault). `failed`: the host's (a file is missing, the process died). */
export type MachineState = 'off' | 'starting' | 'running' | 'paused' | 'stopping' | 'crashed' | 'failed';

/** What is known of a guest's end that it did not ask for. */
export interface CrashReport {
  vcpu: number;
  reason: string;
  /** As 0x and hexadecimal digits. */
  rip: string;
  /** The last exits, oldest first, one line each. */
  exits: string[];
}

export interface MachineStatus {
  state: MachineState;
  /** The backend in use, once it is known. */
  backend?: string;
  /** One sentence for people: why, or how it ended. */
  message?: string;
  crash?: CrashReport;
  /** Why it is paused, or what it died of. */
  stop?: Stop;
  /** vCPUs that are paused by themselves while the others run. */
  held?: number[];
}

/** A snapshot that is to be taken. */
export interface SnapshotOrder {
  /** An empty folder, on the disk already. */
  folder: string;
  title: {
    id: string;
    name: string;
    createdAt: number;
    parent: string | null;
    writtenBy: string;
    console: string;
  };
  /** The VM's configuration, as the snapshot is to have it. */
  config: object;
  /** What it is compared with: pages that are the same there are left out. */
  parent: {
    /** The `memory` of the parent, and then of its ancestors. */
    files: string[];
    /** The ids that belong to the files. */
    ids: string[];
    checksum: number;
  } | null;
  /** For each disk: the layer that is written to from then on; null for one that is not written. */
  layers: (string | null)[];
}

export interface SnapshotTaken {
  /** How long the guest stood still, in ms. */
  pausedMs: number;
  /** Pages in the snapshot's own file. */
  stored: number;
}

/** A snapshot that a machine is to go on from. */
export interface RestorePlan {
  folder: string;
  /** The layers of each disk, the last of them to be written to. */
  layers: string[][];
}

/** A device's registers, from the table that it is built from. */
export interface DeviceRegisters {
  device: string;
  registers: { name: string; value: number | number[]; about: string }[];
}

/** Counters by name. */
export type MachineStats = Record<string, number>;

export type Verb = 'pause' | 'resume' | 'reset' | 'powerButton' | 'powerOff';

/** What can be asked of a machine: parameters and answer of each, as values that structured clone takes. */
export interface Questions {
  /** Takes a snapshot of a machine that runs or is paused. */
  'snapshot.take': { params: SnapshotOrder; answer: SnapshotTaken };
  /** Puts the machine into the state of a snapshot; it goes on as before, running or paused. */
  /** The files of each disk's layers, oldest first. */
  'disk.layers': { params: null; answer: string[][] };
  'snapshot.restore': { params: RestorePlan; answer: null };
  /** Runs a paused machine on another backend from now on. */
  'backend.switch': { params: { backend: BackendChoice }; answer: null };
  stats: { params: null; answer: MachineStats };
  /** The exit trace, in any state. */
  'trace.query': { params: ExitQuery; answer: ExitPage };
  'trace.stats': { params: null; answer: ExitStats };
  'trace.export': { params: ExitExport; answer: ExitExported };
  /** A hash over the whole state of a deterministic machine that is paused, and its count of instructions. */
  'timeline.hash': { params: null; answer: { instructions: number; hash: string } };
  /** Lets a paused deterministic machine go on until its count is this; it is paused then. Resolves at once. */
  'timeline.run': { params: { until: number }; answer: null };
  /** A vCPU's state: the bytes of a struct nvmm_x64_state. The machine must be paused or crashed. */
  'vcpu.read': { params: { vcpu: number }; answer: Uint8Array };
  /** Changes a vCPU's state: `flags` (State) says which areas of `state` count. The same condition. */
  'vcpu.write': { params: { vcpu: number; flags: number; state: Uint8Array }; answer: null };
  /** Pauses the machine. `runs`: the guest's clocks go on meanwhile. */
  'machine.pause': { params: { time: 'stops' | 'runs' }; answer: null };
  /** Takes one vCPU of a running machine out of the guest; it can then be looked into and stepped. */
  'vcpu.pause': { params: { vcpu: number }; answer: null };
  'vcpu.resume': { params: { vcpu: number }; answer: null };
  /** Steps a vCPU of a paused machine; the others stand still. A status with the stop follows, unless `quiet`. */
  /** Takes a paused deterministic machine back: by an instruction, or to the last breakpoint, hit or exit. */
  'debug.back': { params: { to: 'step' | 'stop'; quiet?: boolean }; answer: Stop };
  'debug.step': { params: { vcpu: number; count?: number; quiet?: boolean }; answer: Stop };
  /** Sets a breakpoint, also while the machine runs. `once`: it goes when the machine stops, whatever for. */
  'debug.add': { params: { breakpoint: Breakpoint; once?: boolean }; answer: { id: number; note?: string } };
  'debug.remove': { params: { id: number }; answer: null };
  'debug.list': { params: null; answer: SetBreakpoint[] };
  /** Every device's registers by name, in any state. */
  'devices.read': { params: null; answer: DeviceRegisters[] };
  /** Guest-physical memory, as far as there is RAM: shorter than asked where it ends. At most MEMORY_PIECE bytes. */
  'memory.read': { params: { gpa: number; length: number }; answer: Uint8Array };
  'memory.write': { params: { gpa: number; bytes: Uint8Array }; answer: null };
}

/** Bytes of one memory.read or memory.write: enough for any view, and no long stop of the I/O thread. */
export const MEMORY_PIECE = 2 ** 20;

export type Question = keyof Questions;
export type QuestionParams<Q extends Question> = Questions[Q]['params'];
export type Answer<Q extends Question> = Questions[Q]['answer'];

export type ToMachine =
  | { kind: 'start'; call: number; config: MachineConfig }
  | { kind: Verb; call: number }
  | { kind: 'ask'; call: number; question: Question; params: QuestionParams<Question> }
  /** Bytes typed into a serial port. The child counts what the guest took and says `took`. */
  | { kind: 'input'; port: number; data: Uint8Array }
  /** So many bytes of output were taken in since the start: the child may send OUTPUT_WINDOW beyond that. */
  | { kind: 'ack'; port: number; position: number };

/** What came of the exit trace's file at the end. */
export type TraceEnd = ExitExported | { error: string };

export type FromMachine =
  | { kind: 'reply'; call: number; answer?: Answer<Question> }
  | { kind: 'reply'; call: number; error: { kind: MachineErrorKind; message: string } }
  | { kind: 'status'; status: MachineStatus }
  /** The counters at the end of a run. */
  | { kind: 'stats'; stats: MachineStats }
  /** The exit trace has been written, as the configuration wanted. */
  | { kind: 'trace'; trace: TraceEnd }
  | { kind: 'timeline'; event: TimelineEvent }
  | { kind: 'output'; port: number; data: Uint8Array }
  /** So many bytes of input, counted since the start, have gone to the guest. */
  | { kind: 'took'; port: number; position: number };

export const SERIAL_PORTS = 4;

/**
 * Bytes of a serial port on their way to the parent at most. A guest that floods its console fills this in
 * milliseconds, and then goes as fast as the parent takes: no queue can grow.
 */
export const OUTPUT_WINDOW = 256 * 1024;

/** Typed bytes that wait for the guest, at most, before `write` says to wait. */
export const INPUT_WINDOW = 64 * 1024;
