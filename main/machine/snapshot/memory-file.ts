import { crc32 } from 'node:zlib';
import { MachineError } from '../errors.ts';
import type { NewFile, OldFile } from './files.ts';

/**
 * The file `memory` of a snapshot: RAM byte by byte at its own offset, with holes where a page is zero or is in
 * another snapshot's file; behind it, at the offset of RAM's size, what each page is:
 *
 *   4 bytes for each page: CRC-32 of its contents (0 for a zero page)
 *   2 bytes for each page: whose file has it: 0 this one, n the n-th of the ancestors, 65535 nobody (it is zero)
 *
 * All numbers are little-endian. So a page is found by one look, however long the line of ancestors is.
 */

export const PAGE = 4096;
export const OWN = 0;
export const ZERO = 0xffff;
/** Ancestors that one index can name: beyond, a snapshot stores its pages itself. */
export const MOST_ANCESTORS = 0xfffe;

export interface MemoryIndex {
  /** RAM in bytes. */
  size: number;
  crc: Uint32Array;
  owner: Uint16Array;
}

export function createIndex(size: number): MemoryIndex {
  const pages = size / PAGE;
  return { size, crc: new Uint32Array(pages), owner: new Uint16Array(pages).fill(ZERO) };
}

/** Bytes of the whole file. */
export function fileSize(size: number): number {
  return size + (size / PAGE) * 6;
}

function bytesOf(array: Uint32Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Writes the index behind the pages and gives its CRC-32. */
export function writeIndex(file: NewFile, { size, crc, owner }: MemoryIndex): number {
  file.write(bytesOf(crc), size);
  file.write(bytesOf(owner), size + crc.byteLength);
  return crc32(bytesOf(owner), crc32(bytesOf(crc)));
}

/** Reads the index and checks it and the file's size. */
export function readIndex(file: OldFile, size: number, checksum: number, ancestors: number): MemoryIndex {
  if (file.size !== fileSize(size)) {
    throw new MachineError(
      'host',
      `${file.path} has ${file.size} bytes instead of ${fileSize(size)}: it was cut off or changed.`,
    );
  }
  const index = createIndex(size);
  file.read(bytesOf(index.crc), size);
  file.read(bytesOf(index.owner), size + index.crc.byteLength);
  if (crc32(bytesOf(index.owner), crc32(bytesOf(index.crc))) !== checksum) {
    throw new MachineError('host', `${file.path}: its index does not have the checksum of machine.json.`);
  }
  if (runs(index).some(({ owner }) => owner !== ZERO && owner > ancestors)) {
    throw new MachineError('host', `${file.path}: its index names a snapshot that machine.json does not.`);
  }
  return index;
}

/**
 * Stretches of pages that have the same owner: [first, first + count). A restore waits for this, and the first loop over
 * half a million pages in a young process takes tens of milliseconds: so long stretches are compared by the library.
 */
export function runs({ owner }: MemoryIndex): { owner: number; first: number; count: number }[] {
  const found: { owner: number; first: number; count: number }[] = [];
  const bytes = Buffer.from(owner.buffer, owner.byteOffset, owner.byteLength);
  // Pages are of one owner when they are the same as themselves one page on.
  const goOn = (from: number, to: number): boolean =>
    bytes.compare(bytes, 2 * (from - 1), 2 * (to - 1), 2 * from, 2 * to) === 0;
  for (let first = 0; first < owner.length;) {
    let end = first + 1;
    for (let step = 1; step > 0 && end < owner.length;) {
      const next = Math.min(end + step, owner.length);
      if (goOn(end, next)) {
        end = next;
        step *= 2;
      } else step = Math.floor(step / 2);
    }
    found.push({ owner: owner[first], first, count: end - first });
    first = end;
  }
  return found;
}

/** Pages whose contents do not have their checksum. `read` gives the bytes of a stretch of one owner. */
export function badPages(
  { crc }: MemoryIndex,
  first: number,
  bytes: Uint8Array,
  found: (page: number) => void,
): void {
  for (let page = 0; page < bytes.length / PAGE; page++) {
    if (crc32(bytes.subarray(page * PAGE, (page + 1) * PAGE)) !== crc[first + page]) found(first + page);
  }
}
