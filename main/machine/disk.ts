import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import type { BlockBackend } from '../devices/virtio/blk.ts';
import { MachineError, messageOf } from './errors.ts';
import type { DiskConfig } from './protocol.ts';

const SECTOR = 512;

/** A raw image file as a disk. The I/O thread uses it, so it may block. */
export class RawDisk implements BlockBackend {
  readonly size: number;
  readonly readOnly: boolean;
  private readonly fd: number;
  private readonly path: string;

  /** Opens the file. Throws MachineError with what is wrong and the way out. */
  constructor({ path, readonly }: DiskConfig) {
    this.path = path;
    this.readOnly = readonly;
    this.fd = open(path, readonly);
    try {
      this.size = check(path, this.fd);
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  read(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length;) {
      const count = readSync(this.fd, into, done, into.length - done, offset + done);
      if (count === 0) {
        throw new Error(`${this.path}: the file has become shorter than ${offset + done} bytes`);
      }
      done += count;
    }
  }

  write(offset: number, from: Uint8Array): void {
    for (let done = 0; done < from.length;) {
      done += writeSync(this.fd, from, done, from.length - done, offset + done);
    }
  }

  flush(): void {
    fsyncSync(this.fd);
  }

  close(): void {
    closeSync(this.fd);
  }
}

function open(path: string, readonly: boolean): number {
  try {
    return openSync(path, readonly ? constants.O_RDONLY : constants.O_RDWR);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new MachineError('host', `${path}: there is no such disk image.`);
    if (!readonly && (code === 'EACCES' || code === 'EROFS' || code === 'EPERM')) {
      throw new MachineError('host', `${path}: no permission to write. Attach it read-only (${path},ro).`);
    }
    throw new MachineError('host', `${path}: the disk image can't be opened (${messageOf(error)}).`);
  }
}

function check(path: string, fd: number): number {
  const stat = fstatSync(fd);
  if (!stat.isFile()) {
    throw new MachineError('host', `${path}: a disk image is a plain file, and this is none.`);
  }
  if (stat.size === 0) {
    throw new MachineError('host', `${path}: the disk image is empty. Make it larger first.`);
  }
  if (stat.size % SECTOR !== 0) {
    const missing = SECTOR - (stat.size % SECTOR);
    throw new MachineError(
      'host',
      `${path}: its ${stat.size} bytes are no whole number of ${SECTOR}-byte sectors. Add ${missing} bytes to it.`,
    );
  }
  return stat.size;
}

/** The same disk on a thread that never touches it. */
export function absentDisk(size: number, readOnly: boolean): BlockBackend {
  const never = (): never => {
    throw new Error('a disk is used on the I/O thread only');
  };
  return { size, readOnly, read: never, write: never, flush: never };
}
