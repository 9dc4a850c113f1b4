import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { MachineError, messageOf, unwritable } from './errors.ts';

/**
 * A file with those blocks of a disk that were written since a snapshot:
 *
 *   byte 0      "VITRINE LAYER 1\n", then the disk's size in bytes as 8 bytes, little-endian
 *   byte 4096   a bit for each block, the lowest of a byte first: the block is in here
 *   then        the blocks, each at its own place: the file is sparse
 *
 * A block is 4 KiB, as file systems write. The bits reach the file at a flush, after the blocks: a host that loses
 * its power has either the new block or the old one of everything that was flushed.
 */

export const BLOCK = 4096;
const MAGIC = 'VITRINE LAYER 1\n';
const HEADER = 4096;
const MAP_PIECE = 4096;

export class DiskLayer {
  readonly path: string;
  private readonly fd: number;
  private readonly map: Uint8Array;
  private readonly dirty = new Set<number>();
  private readonly data: number;
  private writable: boolean;

  /** Opens a layer of a disk of `size` bytes, or makes it when it is missing and may be. */
  constructor(path: string, size: number, mode: 'read' | 'write' | 'create') {
    this.path = path;
    this.writable = mode !== 'read';
    const mapBytes = Math.ceil(Math.ceil(size / BLOCK) / 8 / MAP_PIECE) * MAP_PIECE;
    this.map = new Uint8Array(mapBytes);
    this.data = HEADER + mapBytes;
    const fresh = mode === 'create' && !existsSync(path);
    if (fresh) {
      this.fd = this.make(size);
      return;
    }
    try {
      this.fd = openSync(path, this.writable ? 'r+' : 'r');
    } catch (error) {
      throw new MachineError('host', `The disk layer ${path} can't be opened: ${messageOf(error)}.`);
    }
    this.check(size);
  }

  has(block: number): boolean {
    return (this.map[block >> 3] & (1 << (block & 7))) !== 0;
  }

  /** Reads from `offset` of the disk: blocks that are all in here. */
  read(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length;) {
      const count = readSync(this.fd, into, done, into.length - done, this.data + offset + done);
      // The end of a sparse file: blocks that were marked were written, so this one was cut off.
      if (count === 0) throw new Error(`${this.path} was cut off`);
      done += count;
    }
  }

  /** Writes whole blocks. */
  write(offset: number, from: Uint8Array): void {
    for (let done = 0; done < from.length;) {
      done += writeSync(this.fd, from, done, from.length - done, this.data + offset + done);
    }
    const end = Math.ceil((offset + from.length) / BLOCK);
    for (let block = Math.floor(offset / BLOCK); block < end; block++) {
      if (this.has(block)) continue;
      this.map[block >> 3] |= 1 << (block & 7);
      this.dirty.add(Math.floor((block >> 3) / MAP_PIECE));
    }
  }

  flush(): void {
    if (!this.writable) return;
    try {
      fsyncSync(this.fd);
      if (this.dirty.size === 0) return;
      for (const piece of this.dirty) {
        const at = piece * MAP_PIECE;
        writeSync(this.fd, this.map, at, MAP_PIECE, HEADER + at);
      }
      fsyncSync(this.fd);
    } catch (error) {
      throw unwritable(this.path, 0, error);
    }
    this.dirty.clear();
  }

  /** Forces it to the disk for the last time: it is not written any more. */
  seal(): void {
    this.flush();
    this.writable = false;
  }

  close(): void {
    closeSync(this.fd);
  }

  /** Under another name first: a VM that names its layer finds it whole, or finds none and makes it. */
  private make(size: number): number {
    const making = `${this.path}.new`;
    const header = Buffer.alloc(HEADER);
    header.write(MAGIC, 'latin1');
    header.writeBigUInt64LE(BigInt(size), MAGIC.length);
    let fd = -1;
    try {
      fd = openSync(making, 'w+', 0o600);
      writeSync(fd, header, 0, HEADER, 0);
      writeSync(fd, this.map, 0, this.map.length, HEADER);
      fsyncSync(fd);
      renameSync(making, this.path);
      return fd;
    } catch (error) {
      if (fd >= 0) closeSync(fd);
      rmSync(making, { force: true });
      throw unwritable(this.path, this.data, error);
    }
  }

  private check(size: number): void {
    const header = Buffer.alloc(MAGIC.length + 8);
    const got = readSync(this.fd, header, 0, header.length, 0);
    const known = got === header.length && header.toString('latin1', 0, MAGIC.length) === MAGIC;
    const wrong = !known
      ? 'is no disk layer, or one of a newer Vitrine'
      : header.readBigUInt64LE(MAGIC.length) !== BigInt(size)
        ? `belongs to a disk of ${header.readBigUInt64LE(MAGIC.length)} bytes, and this one has ${size}`
        : fstatSync(this.fd).size < this.data
          ? 'was cut off'
          : readSync(this.fd, this.map, 0, this.map.length, HEADER) !== this.map.length
            ? 'was cut off'
            : null;
    if (wrong === null) return;
    closeSync(this.fd);
    throw new MachineError('host', `The disk layer ${this.path} ${wrong}.`);
  }
}
