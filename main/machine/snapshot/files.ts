import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs';
import { MachineError, messageOf, unwritable } from '../errors.ts';

/** The calls that a snapshot is written and read by: one place, so that tests can make each of them fail. */
export interface FileCalls {
  create(path: string): number;
  write(fd: number, bytes: Uint8Array, at: number): void;
  truncate(fd: number, size: number): void;
  sync(fd: number): void;
  close(fd: number): void;
}

export const nodeFiles: FileCalls = {
  create: (path) => openSync(path, 'wx', 0o600),
  write: (fd, bytes, at) => {
    for (let done = 0; done < bytes.length;) {
      done += writeSync(fd, bytes, done, bytes.length - done, at + done);
    }
  },
  truncate: ftruncateSync,
  sync: fsyncSync,
  close: closeSync,
};

/** A file that is being written. Whatever fails names the file and how large it was to become. */
export class NewFile {
  readonly path: string;
  private readonly calls: FileCalls;
  private readonly fd: number;
  private readonly size: number;
  private open = true;

  /** Makes it. `size` is what it will have at most, in bytes, for messages. */
  constructor(calls: FileCalls, path: string, size: number) {
    this.calls = calls;
    this.path = path;
    this.size = size;
    this.fd = this.named(() => calls.create(path));
  }

  write(bytes: Uint8Array, at: number): void {
    this.named(() => this.calls.write(this.fd, bytes, at));
  }

  /** Gives it its final size, forces it to the disk, and closes it. */
  finish(size: number): void {
    try {
      this.named(() => {
        this.calls.truncate(this.fd, size);
        this.calls.sync(this.fd);
      });
    } finally {
      this.named(() => this.close());
    }
  }

  /** Closes it as it is, after a failure. */
  abandon(): void {
    try {
      this.close();
    } catch {
      // The failure that led here is the one to be told.
    }
  }

  /** Once: the number may be another thread's file by the second time. */
  private close(): void {
    if (!this.open) return;
    this.open = false;
    this.calls.close(this.fd);
  }

  private named<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw unwritable(this.path, this.size, error);
    }
  }
}

/** Writes a small file whole. */
export function writeFile(calls: FileCalls, path: string, text: string): void {
  const bytes = Buffer.from(text);
  const file = new NewFile(calls, path, bytes.length);
  try {
    file.write(bytes, 0);
  } catch (error) {
    file.abandon();
    throw error;
  }
  file.finish(bytes.length);
}

/** Makes the folder of a new snapshot, unless it is there. */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw unwritable(path, 0, error);
  }
}

/** A file of a snapshot, open for reading. */
export class OldFile {
  readonly path: string;
  readonly fd: number;
  readonly size: number;
  private readonly lent: boolean;

  /** `lent`: a descriptor of it that somebody else has open, and closes. */
  constructor(path: string, lent?: number) {
    this.path = path;
    this.lent = lent !== undefined;
    try {
      this.fd = lent ?? openSync(path, 'r');
      this.size = fstatSync(this.fd).size;
    } catch (error) {
      throw unreadable(path, error);
    }
  }

  read(into: Uint8Array, at: number): void {
    try {
      for (let done = 0; done < into.length;) {
        const count = readSync(this.fd, into, done, into.length - done, at + done);
        if (count === 0) throw new Error(`it ends at byte ${at + done}`);
        done += count;
      }
    } catch (error) {
      throw unreadable(this.path, error);
    }
  }

  close(): void {
    if (!this.lent) closeSync(this.fd);
  }
}

/** Files by their number, each opened when it is first asked for. */
export class FileSet {
  private readonly paths: readonly string[];
  private readonly lent: ReadonlyMap<number, number>;
  private readonly open = new Map<number, OldFile>();

  /** `lent`: descriptors of some, by their number. */
  constructor(paths: readonly string[], lent: ReadonlyMap<number, number> = new Map()) {
    this.paths = paths;
    this.lent = lent;
  }

  /** The descriptors of those that are open. */
  get descriptors(): Map<number, number> {
    return new Map([...this.open].map(([n, { fd }]) => [n, fd]));
  }

  get(n: number): OldFile {
    const file = this.open.get(n) ?? new OldFile(this.paths[n], this.lent.get(n));
    this.open.set(n, file);
    return file;
  }

  close(): void {
    for (const file of this.open.values()) file.close();
    this.open.clear();
  }
}

export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): MachineError {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
    return new MachineError('host', `${path} is missing. Put it back, or delete the snapshot.`);
  }
  return new MachineError('host', `${path} can't be read: ${messageOf(error)}.`);
}
