import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { unwritable } from '../machine/errors.ts';
import { vmConfig, type VmConfig } from './contract.ts';
import { hostCode, ServiceError } from './errors.ts';
import { LibraryLock } from './lock.ts';

/**
 * The VMs on disk. One folder for each VM, named by its id, with a vm.json:
 *
 *     <library>/lock                  the process that uses it
 *     <library>/library.json          what the library itself remembers
 *     <library>/vms/<id>/vm.json      a VM
 *     <library>/vms/.new-<id>         one that is being made
 *     <library>/vms/.trash-<id>       one that is being deleted
 *
 * A crash at any instant leaves a VM as it was or as it should be: a folder is filled under its .new- name, forced to
 * the disk and renamed; it is deleted by renaming it first. What a crash left under those two names is swept at the
 * next start. Docs: docs/library.md.
 */

/** Version of vm.json and library.json. A file of a later version is shown as damaged, never rewritten. */
const FORMAT = 1;
const NEW = '.new-';
const TRASH = '.trash-';
const idPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** How write-file-atomic names a file before it renames it. */
const unfinishedWrite = /^(vms[/\\][^/\\]+[/\\](vm|state)|library)\.json\.\d+$/;

const vmFile = z.object({ format: z.literal(FORMAT), createdAt: z.number(), config: vmConfig });
const libraryFile = z.object({ format: z.literal(FORMAT), welcomed: z.boolean() });

export interface VmRecord {
  id: string;
  createdAt: number;
  config: VmConfig;
}

/** A folder whose vm.json can't be used: it is shown with the reason, and left as it is. */
export interface DamagedRecord {
  id: string;
  reason: string;
}

export class Library {
  readonly folder: string;
  readonly #vms: string;
  readonly #lock: LibraryLock;

  private constructor(folder: string) {
    this.folder = folder;
    this.#vms = join(folder, 'vms');
    this.#lock = new LibraryLock(folder);
  }

  /** Makes the folder if needed, takes its lock, and sweeps what a crash left. */
  static async open(folder: string): Promise<Library> {
    const library = new Library(folder);
    try {
      await mkdir(library.#vms, { recursive: true, mode: 0o700 });
      library.#lock.acquire(folder);
    } catch (error) {
      if (error instanceof ServiceError) throw error;
      throw new ServiceError('host', `The library ${folder} can't be used: ${(error as Error).message}`);
    }
    await library.#sweep();
    return library;
  }

  async #sweep(): Promise<void> {
    const remove = (path: string) => rm(path, { recursive: true, force: true });
    for (const name of await readdir(this.#vms)) {
      if (name.startsWith(NEW) || name.startsWith(TRASH)) await remove(join(this.#vms, name));
    }
    for (const file of await readdir(this.folder, { recursive: true })) {
      if (unfinishedWrite.test(file)) await remove(join(this.folder, file));
    }
  }

  close(): void {
    this.#lock.release();
  }

  /** Every VM, in the order of their creation; damaged ones last. */
  async load(): Promise<{ records: VmRecord[]; damaged: DamagedRecord[] }> {
    const records: VmRecord[] = [];
    const damaged: DamagedRecord[] = [];
    const entries = await readdir(this.#vms, { withFileTypes: true });
    for (const entry of entries.filter((each) => each.isDirectory() && idPattern.test(each.name))) {
      try {
        records.push({ id: entry.name, ...(await this.#read(join(this.#vms, entry.name, 'vm.json'))) });
      } catch (error) {
        damaged.push({ id: entry.name, reason: (error as Error).message });
      }
    }
    records.sort((a, b) => a.createdAt - b.createdAt || a.id.localeCompare(b.id));
    return { records, damaged };
  }

  folderOf(id: string): string {
    return join(this.#vms, id);
  }

  /** `fill` may put more than the vm.json into the folder of the new VM. */
  async create(
    config: VmConfig,
    id = newId(),
    fill: (folder: string) => Promise<void> = () => Promise.resolve(),
  ): Promise<VmRecord> {
    const record: VmRecord = { id, createdAt: Date.now(), config };
    const making = join(this.#vms, NEW + id);
    await mkdir(making, { mode: 0o700 });
    try {
      await this.#write(join(making, 'vm.json'), record);
      await fill(making);
      await syncFolder(making);
    } catch (error) {
      await rm(making, { recursive: true, force: true });
      throw error;
    }
    await rename(making, join(this.#vms, id));
    await syncFolder(this.#vms);
    return record;
  }

  async update(record: VmRecord): Promise<void> {
    const folder = join(this.#vms, record.id);
    await this.#write(join(folder, 'vm.json'), record);
    await syncFolder(folder);
  }

  /** The VM is gone once it is renamed; if the removal of its files then fails, the next start sweeps them. */
  async delete(id: string): Promise<void> {
    const trash = join(this.#vms, TRASH + id);
    // A trash folder of the same name may be left from a removal that failed while we ran.
    await rm(trash, { recursive: true, force: true });
    await rename(join(this.#vms, id), trash);
    await syncFolder(this.#vms);
    await rm(trash, { recursive: true, force: true }).catch(() => undefined);
  }

  /** True once for each library: a newcomer is then given a first VM. An existing VM means that this isn't a newcomer. */
  async isNew(): Promise<boolean> {
    try {
      libraryFile.parse(JSON.parse(await readFile(join(this.folder, 'library.json'), 'utf8')));
      return false;
    } catch (error) {
      if (hostCode(error) !== 'ENOENT') return false;
    }
    return !(await readdir(this.#vms)).some((name) => idPattern.test(name));
  }

  async rememberWelcome(): Promise<void> {
    await writeJson(join(this.folder, 'library.json'), { format: FORMAT, welcomed: true });
    await syncFolder(this.folder);
  }

  async #write(path: string, { createdAt, config }: VmRecord): Promise<void> {
    await writeJson(path, { format: FORMAT, createdAt, config });
  }

  async #read(path: string): Promise<Omit<VmRecord, 'id'>> {
    let value: unknown;
    try {
      value = JSON.parse(await readFile(path, 'utf8'));
    } catch (error) {
      if (hostCode(error) === 'ENOENT') {
        throw new Error(`${path} is missing. Put it back, or delete the VM.`, { cause: error });
      }
      throw new Error(`${path} can't be read: ${(error as Error).message}`, { cause: error });
    }
    const format = (value as { format?: unknown } | null)?.format;
    if (typeof format === 'number' && format > FORMAT) {
      throw new Error(`${path} was written by a newer Vitrine (format ${format}; this one reads ${FORMAT}).`);
    }
    const { error, data } = vmFile.safeParse(value);
    if (error) {
      const [issue] = error.issues;
      throw new Error(`${path} is damaged: ${issue!.path.join('.') || 'its contents'}: ${issue!.message}`);
    }
    return { createdAt: data.createdAt, config: data.config };
  }
}

/** 60 bits in letters and digits that nobody confuses: a folder's name, unique without asking. */
function newId(): string {
  const letters = 'abcdefghjkmnpqrstvwxyz0123456789';
  return `vm-${Array.from(randomBytes(12), (byte) => letters[byte % 32]).join('')}`;
}

export async function writeJson(path: string, value: unknown): Promise<void> {
  const text = `${JSON.stringify(value, null, 2)}\n`;
  try {
    await writeFileAtomic(path, text, { mode: 0o600 });
  } catch (error) {
    throw unwritable(path, text.length, error);
  }
}

/** Forces a folder's entries to the disk: without it a rename may be lost when the power fails. */
export async function syncFolder(path: string): Promise<void> {
  // Windows has no such call for folders, and journals them itself.
  if (process.platform === 'win32') return;
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } catch (error) {
    throw unwritable(path, 0, error);
  } finally {
    await handle.close();
  }
}
