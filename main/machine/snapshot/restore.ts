import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { HostMemory } from '../../../native/libnvmm/host-memory.ts';
import { foreignFeatures } from '../../nvmm/cpu-model.ts';
import { MachineError } from '../errors.ts';
import { FileSet, readText } from './files.ts';
import type { Snapshot, SnapshotDisk } from './format.ts';
import { MACHINE_FILE, MEMORY_FILE, parseSnapshot } from './format.ts';
import type { MemoryIndex } from './memory-file.ts';
import { badPages, PAGE, readIndex, runs, ZERO } from './memory-file.ts';

/** The memory of a snapshot, as another thread needs it. */
export interface SavedMemory {
  /** Its own file first, then its ancestors' in the order of the index. */
  files: string[];
  size: number;
  /** CRC-32 of the index. */
  checksum: number;
  /** Descriptors by the number of the file, lent by a thread that has them open: the files may have gone since. */
  descriptors?: ReadonlyMap<number, number>;
}

/** Bytes of one read. */
const PIECE = 2 ** 20;

/**
 * Stretches shorter than this are read instead of mapped, in pages: a mapping costs as much as copying some 16 KiB,
 * and a process may have 65,530 of them at most.
 */
const WORTH_MAPPING = 8;

/** Mappings made at most: the limit of Linux, less what the rest of a process needs. */
const MOST_MAPPINGS = 20_000;

/** Reads and checks the machine.json in a snapshot's folder. */
export function readSnapshot(folder: string): Snapshot {
  const path = join(folder, MACHINE_FILE);
  return parseSnapshot(readText(path), path);
}

/**
 * Where a snapshot's files are, its own and its ancestors': next to each other, an ancestor that was deleted and is
 * still needed under a name with a dot.
 */
export function memoryOf(folder: string, saved: Snapshot): SavedMemory {
  const siblings = dirname(folder);
  const place = (id: string): string => {
    const kept = join(siblings, `.kept-${id}`, MEMORY_FILE);
    const own = join(siblings, id, MEMORY_FILE);
    return !existsSync(own) && existsSync(kept) ? kept : own;
  };
  const { ancestors, size, checksum } = saved.memory;
  return { files: [join(folder, MEMORY_FILE), ...ancestors.map(place)], size, checksum };
}

/** What a machine must be for a snapshot to go on in it. */
export interface Fitting {
  memory: number;
  vcpus: number;
  disks: number;
}

/** Throws MachineError, naming what does not fit, when the snapshot can't go on in this machine. */
export function checkFits(saved: Snapshot, machine: Fitting): void {
  const fail = (message: string): never => {
    throw new MachineError('host', `Snapshot "${saved.name}" can't go on here: ${message}`);
  };
  const foreign = foreignFeatures(saved.cpu.features);
  if (foreign.length > 0) {
    fail(`its guest was shown CPU features that this Vitrine's CPU model lacks (${foreign.join(', ')}).`);
  }
  if (saved.memory.size !== machine.memory) {
    fail(`it has ${saved.memory.size} bytes of RAM, and the VM ${machine.memory}.`);
  }
  if (saved.vcpus.length !== machine.vcpus) {
    fail(`it has ${saved.vcpus.length} vCPUs, and the VM ${machine.vcpus}.`);
  }
  if (saved.disks.length !== machine.disks) {
    fail(`it has ${saved.disks.length} disks, and the VM ${machine.disks}.`);
  }
  for (const disk of saved.disks) checkDisk(disk, fail);
}

function checkDisk({ path, size, modified }: SnapshotDisk, fail: (message: string) => never): void {
  if (!existsSync(path)) fail(`its disk ${path} is missing. Put the image back.`);
  const found = statSync(path);
  if (found.size !== size) fail(`its disk ${path} has ${found.size} bytes now, and had ${size}.`);
  if (found.mtimeMs !== modified) {
    const [now, then] = [found.mtimeMs, modified].map((ms) => new Date(ms).toISOString());
    fail(`its disk ${path} was changed at ${now}, after the snapshot (${then}). Put the old image back.`);
  }
}

/** An opened memory: everything that may be wrong with it, short of its pages' contents, has been looked for. */
export class MemoryReader {
  readonly index: MemoryIndex;
  private readonly files: FileSet;
  private readonly runs: ReturnType<typeof runs>;

  constructor({ files, size, checksum, descriptors }: SavedMemory) {
    this.files = new FileSet(files, descriptors);
    try {
      this.index = readIndex(this.files.get(0), size, checksum, files.length - 1);
      this.runs = runs(this.index);
      for (const { owner, first, count } of this.runs) {
        if (owner === ZERO) continue;
        const file = this.files.get(owner);
        // What is mapped and not there would end the process when it is touched.
        if (file.size < (first + count) * PAGE) {
          throw new MachineError('host', `${file.path} has only ${file.size} bytes: it was cut off.`);
        }
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Every page that is not zero, in stretches of at most a piece. `bytes` is valid during the call. */
  forEachPiece(visit: (first: number, bytes: Uint8Array) => void): void {
    const buffer = Buffer.alloc(PIECE);
    for (const { owner, first, count } of this.runs) {
      if (owner === ZERO) continue;
      for (let done = 0; done < count; done += PIECE / PAGE) {
        const bytes = buffer.subarray(0, Math.min(PIECE, (count - done) * PAGE));
        this.files.get(owner).read(bytes, (first + done) * PAGE);
        visit(first + done, bytes);
      }
    }
  }

  readPage(page: number, into: Uint8Array): void {
    const owner = this.index.owner[page];
    if (owner === ZERO) into.fill(0);
    else this.files.get(owner).read(into, page * PAGE);
  }

  /** Fills RAM, which starts at `start` of `host`: by mapping the files where the host can, else by reading them. */
  load(host: Uint8Array, start: number, memory: HostMemory | null): void {
    const { size } = this.index;
    if (memory === null) {
      host.fill(0, start, start + size);
      this.forEachPiece((first, bytes) => host.set(bytes, start + first * PAGE));
      return;
    }
    memory.clear(start, size);
    let mappings = 0;
    for (const { owner, first, count } of this.runs) {
      if (owner === ZERO) continue;
      const file = this.files.get(owner);
      const at = start + first * PAGE;
      if (count >= WORTH_MAPPING && mappings++ < MOST_MAPPINGS) {
        memory.map(at, count * PAGE, file.fd, first * PAGE);
      } else {
        file.read(host.subarray(at, at + count * PAGE), first * PAGE);
      }
    }
  }

  /** The descriptors of the files that have pages of it; open until `close`. */
  get descriptors(): ReadonlyMap<number, number> {
    return this.files.descriptors;
  }

  /** Pages whose contents are not what was saved. */
  bad(): number[] {
    const bad: number[] = [];
    this.forEachPiece((first, bytes) => badPages(this.index, first, bytes, (page) => bad.push(page)));
    return bad;
  }

  close(): void {
    this.files.close();
  }
}

/** Null, or the sentence that says what is wrong with the pages. */
export function verifyMemory(saved: SavedMemory): string | null {
  const reader = new MemoryReader(saved);
  try {
    const bad = reader.bad();
    if (bad.length === 0) return null;
    const where = `0x${(bad[0] * PAGE).toString(16)}`;
    return `${saved.files[0]}: ${bad.length} pages do not have their checksum, the first at ${where} of RAM.`;
  } finally {
    reader.close();
  }
}
