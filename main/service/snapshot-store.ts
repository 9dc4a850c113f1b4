import { copyFile, link, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { unwritable } from '../machine/errors.ts';
import type { Snapshot } from '../machine/snapshot/format.ts';
import { MEMORY_FILE, MACHINE_FILE } from '../machine/snapshot/format.ts';
import { readSnapshot } from '../machine/snapshot/restore.ts';
import { hostCode, ServiceError } from './errors.ts';
import { syncFolder, writeJson } from './library.ts';
import type { SnapshotInfo } from './snapshot-contract.ts';

/**
 * The snapshots of one VM on disk, in its folder:
 *
 *     snapshots/<id>/machine.json, memory    a snapshot
 *     snapshots/.new-<id>                    one that is being taken
 *     snapshots/.trash-<id>                  one that is being deleted
 *     snapshots/.kept-<id>                   one that was deleted, and whose pages others still need
 *     layers/<name>                          blocks of a disk, written after a snapshot was taken
 *     state.json                             what the VM goes on from
 *
 * As in the library, a folder becomes a snapshot by a rename, and stops being one by a rename: a crash leaves the
 * old state or the new one. Docs: docs/snapshot-format.md.
 */

const FORMAT = 1;
const NEW = '.new-';
const TRASH = '.trash-';
const KEPT = '.kept-';
const idPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const stateFile = z.object({
  format: z.literal(FORMAT),
  /** The snapshot that was taken or restored last. */
  current: z.string().nullable(),
  /** The layers of each disk image that has some, oldest first; the last one is written to. */
  layers: z.record(z.string(), z.array(z.string())),
  /** Parents of snapshots that are gone, so that their children find a parent. */
  gone: z.record(z.string(), z.string().nullable()),
});
export type DiskState = z.infer<typeof stateFile>;

/** A snapshot, or the reason why it can't be read. */
type Entry = { id: string; saved: Snapshot } | { id: string; reason: string };

/** Lines of the console that a list shows. */
const CONSOLE_LINES = 8;

export class SnapshotStore {
  readonly folder: string;
  readonly layers: string;
  readonly #root: string;

  /** `folder` is the VM's. */
  constructor(folder: string) {
    this.folder = folder;
    this.#root = join(folder, 'snapshots');
    this.layers = join(folder, 'layers');
  }

  path(id: string): string {
    return join(this.#root, id);
  }

  /** Removes what a crash or a deletion left: unfinished ones, and pages and layers that nothing needs. */
  async sweep(): Promise<void> {
    const names = await namesIn(this.#root);
    for (const name of names.filter((each) => each.startsWith(NEW) || each.startsWith(TRASH))) {
      await rm(join(this.#root, name), { recursive: true, force: true });
    }
    const entries = await this.#entries();
    // What a damaged snapshot needs is not known: then nothing goes.
    if (entries.some((entry) => 'reason' in entry)) return;
    const saved = entries.flatMap((entry) => ('saved' in entry ? [entry.saved] : []));
    const needed = new Set(saved.flatMap(({ memory }) => memory.uses));
    for (const name of names.filter((each) => each.startsWith(KEPT))) {
      if (!needed.has(name.slice(KEPT.length))) await this.#discard(name, name.slice(KEPT.length));
    }
    await this.#sweepLayers(saved);
  }

  async #sweepLayers(saved: Snapshot[]): Promise<void> {
    const { layers } = await this.state();
    const needed = new Set([
      ...Object.values(layers).flat(),
      ...saved.flatMap(({ disks }) => disks.flatMap((disk) => disk.layers)),
    ]);
    for (const name of await namesIn(this.layers)) {
      if (!needed.has(name)) await rm(join(this.layers, name), { force: true });
    }
  }

  async state(): Promise<DiskState> {
    const path = join(this.folder, 'state.json');
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if (hostCode(error) === 'ENOENT') return { format: FORMAT, current: null, layers: {}, gone: {} };
      throw error;
    }
    try {
      return stateFile.parse(JSON.parse(text));
    } catch {
      throw new ServiceError('host', `${path} is damaged: it says where the VM's disks go on. Put it back.`);
    }
  }

  async setState(state: DiskState): Promise<void> {
    await writeJson(join(this.folder, 'state.json'), state);
    await syncFolder(this.folder);
  }

  /** The snapshots, older ones first. */
  async list(): Promise<SnapshotInfo[]> {
    const [entries, state] = [await this.#entries(), await this.state()];
    const there = new Set(entries.map(({ id }) => id));
    const parentOf = (parent: string | null): string | null => {
      let at = parent;
      // A line of parents that are gone is as long as what was deleted: no loop, but a file may be edited.
      for (let n = 0; at !== null && !there.has(at); n++) at = n < 10_000 ? (state.gone[at] ?? null) : null;
      return at;
    };
    const infos = entries.map((entry) => infoOf(entry, parentOf, state.current));
    return infos.sort((a, b) => a.createdAt - b.createdAt || a.id.localeCompare(b.id));
  }

  async read(id: string): Promise<Snapshot> {
    const names = await namesIn(this.#root);
    if (!idPattern.test(id) || !names.includes(id)) {
      const known = names.filter((name) => idPattern.test(name)).join(', ');
      throw new ServiceError('not-found', `There is no snapshot "${id}". There are: ${known || 'none'}.`);
    }
    return readSnapshot(this.path(id));
  }

  /** Makes the folder that a snapshot is written into. */
  async begin(id: string): Promise<string> {
    const making = join(this.#root, NEW + id);
    for (const path of [making, this.layers]) {
      await mkdir(path, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
        throw unwritable(path, 0, error);
      });
    }
    await syncFolder(this.folder);
    return making;
  }

  /** What was written becomes a snapshot, and the VM's current one. */
  async commit(id: string): Promise<void> {
    await rename(join(this.#root, NEW + id), this.path(id)).catch((error: unknown) => {
      throw unwritable(this.path(id), 0, error);
    });
    try {
      await syncFolder(this.#root);
      await this.setState({ ...(await this.state()), current: id });
    } catch (error) {
      // Whoever asked for it is told that there is none: so be it.
      await this.#discard(id, id).catch(() => undefined);
      throw error;
    }
  }

  async abandon(id: string): Promise<void> {
    await rm(join(this.#root, NEW + id), { recursive: true, force: true });
  }

  /** Its pages stay while others need them. */
  async delete(id: string): Promise<void> {
    let parent: string | null = null;
    try {
      parent = (await this.read(id)).parent;
    } catch (error) {
      // A damaged one can go, one that is not there can't.
      if (error instanceof ServiceError) throw error;
    }
    const state = await this.state();
    const current = state.current === id ? parent : state.current;
    await this.setState({ ...state, current, gone: { ...state.gone, [id]: parent } });
    const entries = await this.#entries();
    const needed = entries.some((entry) =>
      'saved' in entry ? entry.saved.memory.uses.includes(id) : entry.id !== id,
    );
    if (needed) {
      await rename(this.path(id), join(this.#root, KEPT + id));
      await syncFolder(this.#root);
    } else {
      await this.#discard(id, id);
    }
    await this.sweep();
  }

  async #discard(name: string, id: string): Promise<void> {
    const trash = join(this.#root, TRASH + id);
    await rm(trash, { recursive: true, force: true });
    await rename(join(this.#root, name), trash);
    await syncFolder(this.#root);
    // What can't be removed now is swept later.
    await rm(trash, { recursive: true, force: true }).catch(() => undefined);
  }

  /** Gives another VM's folder this snapshot, with all that it needs. Files are shared: they never change. */
  async copyTo(id: string, saved: Snapshot, to: SnapshotStore): Promise<void> {
    await mkdir(to.layers, { recursive: true, mode: 0o700 });
    for (const disk of saved.disks) {
      for (const name of disk.layers) await share(join(this.layers, name), join(to.layers, name));
    }
    const folders = [id, ...saved.memory.uses.map((used) => KEPT + used)];
    for (const name of folders) {
      const into = join(to.#root, name);
      await mkdir(into, { recursive: true, mode: 0o700 });
      const bare = name.startsWith(KEPT) ? name.slice(KEPT.length) : name;
      const names = await namesIn(this.#root);
      const from = names.includes(bare) ? this.path(bare) : join(this.#root, KEPT + bare);
      for (const file of [MACHINE_FILE, MEMORY_FILE]) await share(join(from, file), join(into, file));
      await syncFolder(into);
    }
    await syncFolder(to.#root);
  }

  async #entries(): Promise<Entry[]> {
    const names = await namesIn(this.#root);
    return names
      .filter((name) => idPattern.test(name))
      .map((id) => {
        try {
          return { id, saved: readSnapshot(this.path(id)) };
        } catch (error) {
          return { id, reason: (error as Error).message };
        }
      });
  }
}

function infoOf(
  entry: Entry,
  parentOf: (parent: string | null) => string | null,
  current: string | null,
): SnapshotInfo {
  const { id } = entry;
  if ('reason' in entry) {
    const nothing = { createdAt: 0, parent: null, backend: '', memory: 0, stored: 0, console: '' };
    return { id, name: id, ...nothing, current: id === current, damaged: entry.reason };
  }
  const { saved } = entry;
  const printed = Buffer.from(saved.console, 'base64').toString('utf8');
  return {
    id,
    name: saved.name,
    createdAt: saved.createdAt,
    parent: parentOf(saved.parent),
    backend: saved.backend,
    memory: saved.memory.size,
    stored: saved.memory.stored * 4096,
    console: printed.split(/\r?\n/).slice(-CONSOLE_LINES).join('\n'),
    current: id === current,
  };
}

/** A second name for a file that never changes; where the file system has none, a copy. */
async function share(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (hostCode(error) === 'ENOENT') throw new ServiceError('host', `${from} is missing.`);
    await copyFile(from, to);
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if (hostCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** The names of a machine's layers, as state.json has them. */
export function layerNames(paths: readonly string[]): string[] {
  return paths.map((path) => basename(path));
}
