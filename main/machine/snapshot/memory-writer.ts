import { crc32 } from 'node:zlib';
import type { FileCalls } from './files.ts';
import { FileSet, NewFile } from './files.ts';
import type { MemoryIndex } from './memory-file.ts';
import { createIndex, fileSize, OWN, PAGE, readIndex, writeIndex, ZERO } from './memory-file.ts';

/** Bytes looked at in one go: large enough that calls cost nothing beside copying, small enough for the caches. */
const PIECE = 2 ** 20;

/** What RAM is compared with: the snapshot that this one descends from. */
export interface ParentMemory {
  /** Paths of the `memory` files: the parent's first, then its ancestors' in the order of its index. */
  files: string[];
  /** CRC-32 of the parent's index. */
  checksum: number;
}

export interface MemoryJob {
  path: string;
  /** Bytes of RAM. */
  size: number;
  parent: ParentMemory | null;
}

export interface MemoryResult {
  /** CRC-32 of the index. */
  checksum: number;
  /** Pages in the file itself. */
  stored: number;
  /** Which of the parent's files have pages of this snapshot, as indexes of ParentMemory.files. */
  uses: number[];
}

/** Reads RAM at an offset from its start. */
export type ReadRam = (into: Uint8Array, at: number) => void;

const zeroPage = Buffer.alloc(PAGE);

/** Writes the `memory` file of a snapshot: pages that are neither zero nor the parent's. Throws MachineError. */
export function writeMemory(job: MemoryJob, readRam: ReadRam, calls: FileCalls): MemoryResult {
  const file = new NewFile(calls, job.path, fileSize(job.size));
  const parent = job.parent === null ? null : new Parent(job.parent, job.size);
  try {
    const index = createIndex(job.size);
    const piece = Buffer.alloc(PIECE);
    let stored = 0;
    for (let at = 0; at < job.size; at += PIECE) {
      const bytes = piece.subarray(0, Math.min(PIECE, job.size - at));
      readRam(bytes, at);
      stored += writePiece(file, bytes, at, index, parent);
    }
    const checksum = writeIndex(file, index);
    file.finish(fileSize(job.size));
    return { checksum, stored, uses: parent?.used(index) ?? [] };
  } catch (error) {
    file.abandon();
    throw error;
  } finally {
    parent?.close();
  }
}

/** Sorts out the pages of a piece, and writes those that are its own, neighbours together. */
function writePiece(
  file: NewFile,
  bytes: Buffer,
  at: number,
  index: MemoryIndex,
  parent: Parent | null,
): number {
  const before = parent?.piece(at, bytes.length);
  let start = -1;
  let stored = 0;
  const flush = (end: number): void => {
    if (start >= 0) file.write(bytes.subarray(start, end), at + start);
    start = -1;
  };
  for (let offset = 0; offset < bytes.length; offset += PAGE) {
    const page = (at + offset) / PAGE;
    if (bytes.compare(zeroPage, 0, PAGE, offset, offset + PAGE) === 0) {
      flush(offset);
      continue;
    }
    const known = parent !== null && parent.index.owner[page] !== ZERO;
    if (known && bytes.compare(before!, offset, offset + PAGE, offset, offset + PAGE) === 0) {
      index.owner[page] = parent.index.owner[page] + 1;
      index.crc[page] = parent.index.crc[page];
      flush(offset);
      continue;
    }
    index.owner[page] = OWN;
    index.crc[page] = crc32(bytes.subarray(offset, offset + PAGE));
    stored++;
    if (start < 0) start = offset;
  }
  flush(bytes.length);
  return stored;
}

/** The parent's memory, piece by piece. Files that hold nothing of it are not looked for. */
class Parent {
  readonly index: MemoryIndex;
  private readonly files: FileSet;
  private readonly bytes = Buffer.alloc(PIECE);

  constructor({ files, checksum }: ParentMemory, size: number) {
    this.files = new FileSet(files);
    try {
      this.index = readIndex(this.files.get(0), size, checksum, files.length - 1);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  piece(at: number, length: number): Buffer {
    const { owner } = this.index;
    const end = (at + length) / PAGE;
    for (let page = at / PAGE; page < end;) {
      const from = page;
      while (page < end && owner[page] === owner[from]) page++;
      const into = this.bytes.subarray(from * PAGE - at, page * PAGE - at);
      if (owner[from] !== ZERO) this.files.get(owner[from]).read(into, from * PAGE);
    }
    return this.bytes;
  }

  used({ owner }: MemoryIndex): number[] {
    const used = new Set<number>();
    for (const one of owner) if (one !== ZERO && one !== OWN) used.add(one - 1);
    return [...used].sort((a, b) => a - b);
  }

  close(): void {
    this.files.close();
  }
}
