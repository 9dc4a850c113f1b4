import { parentPort, workerData } from 'node:worker_threads';
import type { FrozenHandle } from '../../../native/libnvmm/host-memory.ts';
import { readFrozen } from '../../../native/libnvmm/host-memory.ts';
import { MachineError, messageOf } from '../errors.ts';
import { nodeFiles } from './files.ts';
import type { MemoryJob, MemoryResult } from './memory-writer.ts';
import { writeMemory } from './memory-writer.ts';
import type { SavedMemory } from './restore.ts';
import { verifyMemory } from './restore.ts';

/** The thread that writes or checks a snapshot's memory, so that the I/O thread goes on serving the guest. */

/** What it is to do. */
export type SnapshotTask =
  | { kind: 'write'; job: MemoryJob; source: RamSource }
  /** Gives the sentence that says what is wrong, or null. */
  | { kind: 'verify'; memory: SavedMemory };

/** Where RAM is read from: a picture of it, or the memory itself while the machine stands still. */
export type RamSource = { start: number } & ({ frozen: FrozenHandle } | { memory: WebAssembly.Memory });

export type SnapshotAnswer =
  | { kind: 'written'; result: MemoryResult }
  | { kind: 'verified'; wrong: string | null }
  | { kind: 'failed'; message: string };

function write(job: MemoryJob, source: RamSource): MemoryResult {
  const { start } = source;
  if ('memory' in source) {
    const bytes = new Uint8Array(source.memory.buffer);
    const read = (into: Uint8Array, at: number): void =>
      into.set(bytes.subarray(start + at, start + at + into.length));
    return writeMemory(job, read, nodeFiles);
  }
  const frozen = readFrozen(source.frozen);
  try {
    return writeMemory(job, (into, at) => frozen.read(into, start + at), nodeFiles);
  } finally {
    frozen.close();
  }
}

function work(task: SnapshotTask): SnapshotAnswer {
  try {
    if (task.kind === 'write') return { kind: 'written', result: write(task.job, task.source) };
    return { kind: 'verified', wrong: verifyMemory(task.memory) };
  } catch (error) {
    if (task.kind === 'verify' && error instanceof MachineError) {
      return { kind: 'verified', wrong: error.message };
    }
    return { kind: 'failed', message: messageOf(error) };
  }
}

if (parentPort !== null) parentPort.postMessage(work(workerData as SnapshotTask));
