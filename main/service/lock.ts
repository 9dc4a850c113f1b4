import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { hostCode, ServiceError } from './errors.ts';

/** Who holds a library. `started` tells a process from a later one with the same number, where the system says it. */
const holder = z.object({ pid: z.number().int().positive(), started: z.string().optional() });
type Holder = z.infer<typeof holder>;

/**
 * The lock of a library: a file with the number of the process that uses it. It is made complete under another name
 * and linked into place, so nobody ever reads half of one. A lock whose process is gone is taken over.
 */
export class LibraryLock {
  readonly #path: string;
  readonly #mine: string;
  #held = false;

  constructor(folder: string) {
    this.#path = join(folder, 'lock');
    this.#mine = JSON.stringify({ pid: process.pid, started: startOf(process.pid) });
  }

  /** Throws when another living process has it. */
  acquire(folder: string): void {
    const own = `${this.#path}.${process.pid}`;
    writeFileSync(own, this.#mine, { mode: 0o600 });
    try {
      // Twice: once more after a lock of a dead process has been put aside.
      for (let attempt = 0; attempt < 2 && !this.#held; attempt++) {
        try {
          place(own, this.#path);
          this.#held = true;
        } catch (error) {
          if (hostCode(error) !== 'EEXIST') throw error;
          this.#putAside(folder);
        }
      }
    } finally {
      rmSync(own, { force: true });
    }
    if (!this.#held) {
      throw new ServiceError('host', `The library ${folder} was just taken by another Vitrine.`);
    }
  }

  release(): void {
    if (!this.#held) return;
    this.#held = false;
    if (read(this.#path) === this.#mine) rmSync(this.#path, { force: true });
  }

  /** Moves a dead process's lock away. Another service may do the same at this moment: what was moved is looked at. */
  #putAside(folder: string): void {
    const text = read(this.#path);
    if (text === undefined) return;
    const other = parse(text);
    if (other && isAlive(other)) {
      throw new ServiceError(
        'host',
        `The library ${folder} is in use by another Vitrine (process ${other.pid}). ` +
          'Close that one, or set VITRINE_HOME to another folder.',
      );
    }
    const aside = `${this.#path}.stale.${process.pid}`;
    renameSync(this.#path, aside);
    if (read(aside) !== text) place(aside, this.#path);
    rmSync(aside, { force: true });
  }
}

/** Gives a complete file a second name that must not exist yet. */
function place(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (error) {
    // Haiku's file system and FAT have no links: then a reader may, for an instant, see a lock that is empty.
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(hostCode(error) ?? '')) throw error;
    writeFileSync(to, readFileSync(from), { flag: 'wx', mode: 0o600 });
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hostCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function parse(text: string): Holder | undefined {
  try {
    return holder.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function isAlive({ pid, started }: Holder): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it exists, and belongs to somebody else.
    if (hostCode(error) === 'ESRCH') return false;
  }
  return started === undefined || started === startOf(pid);
}

/** When a process started, in clock ticks since the boot: field 22 of Linux's /proc/PID/stat, after the name's last ')'. */
function startOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[19];
  } catch {
    return undefined;
  }
}
