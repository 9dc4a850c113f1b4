import { closeSync, fsyncSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { FrozenMemory, HostMemory } from '../../../native/libnvmm/host-memory.ts';
import { openHostMemory } from '../../../native/libnvmm/host-memory.ts';
import type { MachineCapture } from '../capture.ts';
import { startSnapshotThread } from '../entry.ts';
import { MachineError, unwritable } from '../errors.ts';
import { replaceLayers, type LayeredDisk } from '../layered-disk.ts';
import type { GuestRam } from '../memory.ts';
import type { MachineConfig, RestorePlan, SnapshotOrder, SnapshotTaken } from '../protocol.ts';
import { nodeFiles, writeFile } from './files.ts';
import type { SnapshotDisk } from './format.ts';
import { captureOf, describe, MACHINE_FILE, MEMORY_FILE, printSnapshot } from './format.ts';
import type { MemoryResult } from './memory-writer.ts';
import type { SavedMemory } from './restore.ts';
import { checkFits, memoryOf, MemoryReader, readSnapshot } from './restore.ts';
import type { RamSource, SnapshotAnswer, SnapshotTask } from './thread.ts';

/** When the pages of a restored memory are checked: not while the guest takes its first steps, which need the CPU. */
const CHECK_MS = 500;

/** What a snapshot needs of its machine. */
export interface SnapshotHost {
  readonly config: MachineConfig;
  readonly ram: GuestRam;
  readonly memory: WebAssembly.Memory;
  readonly disks: readonly LayeredDisk[];
  backendName(): string;
  /**
   * Stands still while `work` runs, and then goes on as before. Runs after what was asked for earlier. Only while the
   * machine runs or is paused.
   */
  whileStill<T>(verb: string, work: () => Promise<T>): Promise<T>;
  capture(): Promise<MachineCapture>;
  revive(capture: MachineCapture, restoreRam: () => void): Promise<void>;
  /** What is done to `disks`, where another thread has the same ones open and works with them. */
  sealElsewhere(layers: readonly (string | null)[]): Promise<void>;
  replaceElsewhere(layers: readonly (readonly string[])[]): Promise<void>;
  /** The machine can't be trusted any more: it stops, and says why. */
  distrust(why: string): void;
}

/** Snapshots of one machine, on its I/O thread. */
export class MachineSnapshots {
  private readonly host: SnapshotHost;
  private readonly memory: HostMemory | null;
  private writing = false;
  /** Counts restores: what was found out about an older one is of no interest. */
  private restores = 0;

  constructor(host: SnapshotHost) {
    this.host = host;
    this.memory = openHostMemory(host.ram.host);
  }

  /** Writes a snapshot into an empty folder. The guest stands still while its state is taken, and runs on meanwhile. */
  async take(order: SnapshotOrder): Promise<SnapshotTaken> {
    if (this.writing) {
      throw new MachineError('wrong-state', 'Another snapshot is being written. Wait for it.');
    }
    this.writing = true;
    const { host } = this;
    let frozen: FrozenMemory | null = null;
    try {
      // What is in the disks' caches goes out before, so that little is left to wait for.
      for (const disk of host.disks) if (!disk.readOnly) disk.flush();
      let pausedMs = 0;
      let result: MemoryResult | null = null;
      const { capture, disks } = await host.whileStill('take a snapshot', async () => {
        const start = performance.now();
        const capture = await host.capture();
        await host.sealElsewhere(order.layers);
        const taken = { capture, disks: this.sealDisks(order) };
        frozen = this.memory?.freeze() ?? null;
        // Where no picture can be taken, the guest waits until its memory is written.
        if (frozen === null) result = await this.write(order, { memory: host.memory, start: host.ram.start });
        pausedMs = performance.now() - start;
        return taken;
      });
      const picture = frozen as FrozenMemory | null;
      if (picture !== null) {
        result = await this.write(order, { frozen: picture.handle, start: host.ram.start });
      }
      for (const disk of host.disks) if (!disk.readOnly) disk.settle();
      const { checksum, stored, uses } = result!;
      const ancestors = order.parent?.ids ?? [];
      const saved = describe(order.title, capture, {
        config: order.config as MachineConfig,
        backend: host.backendName(),
        disks,
        memory: {
          size: host.ram.size,
          stored,
          ancestors,
          uses: uses.map((i) => ancestors[i]),
          checksum,
        },
      });
      writeFile(nodeFiles, join(order.folder, MACHINE_FILE), printSnapshot(saved));
      syncFolder(order.folder);
      return { pausedMs, stored };
    } finally {
      (frozen as FrozenMemory | null)?.release();
      this.writing = false;
    }
  }

  /** Puts the machine into the state of a snapshot; it then goes on as it did before, running or paused. */
  async restore(plan: RestorePlan): Promise<void> {
    const prepared = this.prepare(plan);
    await this.using(prepared, () =>
      this.host.whileStill('restore a snapshot', () => this.apply(plan, prepared)),
    );
  }

  /** The same for a machine that has just been made, and stands still. */
  async startFrom(plan: RestorePlan): Promise<void> {
    const prepared = this.prepare(plan);
    await this.using(prepared, () => this.apply(plan, prepared));
  }

  /**
   * Restores. The files stay open until their pages have been checked: whoever deletes the snapshot meanwhile takes their
   * names away, and not what the guest's memory is.
   */
  private async using({ memory, reader }: Prepared, restore: () => Promise<void>): Promise<void> {
    try {
      await restore();
    } catch (error) {
      reader.close();
      throw error;
    }
    // Pages that are read on demand are checked while the guest runs.
    if (this.memory === null) reader.close();
    else {
      const lent = { ...memory, descriptors: reader.descriptors };
      void this.checkLater(lent).finally(() => reader.close());
    }
  }

  /** Everything that can be wrong with a snapshot is found here, while the machine is as it was. */
  private prepare({ folder }: RestorePlan): Prepared {
    const { ram, config, disks } = this.host;
    const saved = readSnapshot(folder);
    checkFits(saved, { memory: ram.size, vcpus: config.vcpus, disks: disks.length });
    const capture = captureOf(saved);
    const memory = memoryOf(folder, saved);
    const reader = new MemoryReader(memory);
    try {
      if (this.memory === null && reader.bad().length > 0) {
        throw new MachineError('host', `${folder}: its memory does not have its checksums. It was changed.`);
      }
      return { memory, capture, reader };
    } catch (error) {
      reader.close();
      throw error;
    }
  }

  private async apply(plan: RestorePlan, { capture, reader }: Prepared): Promise<void> {
    const { ram, disks } = this.host;
    replaceLayers(disks, plan.layers);
    await this.host.replaceElsewhere(plan.layers);
    await this.host.revive(capture, () => reader.load(ram.host, ram.start, this.memory));
  }

  private checkLater(memory: SavedMemory): Promise<void> {
    const number = ++this.restores;
    return delay(CHECK_MS)
      .then(() => (number === this.restores ? this.run({ kind: 'verify', memory }) : null))
      .then((answer) => {
        if (answer === null) return;
        const wrong =
          answer.kind === 'verified' ? answer.wrong : answer.kind === 'failed' ? answer.message : null;
        if (wrong !== null && number === this.restores) this.host.distrust(wrong);
      })
      .catch((error: unknown) => this.host.distrust(String(error)));
  }

  /** What each disk is now; the guest writes into new layers from here on. */
  private sealDisks(order: SnapshotOrder): SnapshotDisk[] {
    return this.host.disks.map((disk, i) => {
      const { path, readOnly, size, layerPaths } = disk;
      const layer = order.layers[i] ?? null;
      if (layer !== null) disk.addLayer(layer);
      const layers = layerPaths.map((one) =>
        one.slice(Math.max(one.lastIndexOf('/'), one.lastIndexOf('\\')) + 1),
      );
      return { path, readonly: readOnly, size, modified: disk.modified, layers };
    });
  }

  private async write(order: SnapshotOrder, source: RamSource): Promise<MemoryResult> {
    const { ram } = this.host;
    const parent =
      order.parent === null ? null : { files: order.parent.files, checksum: order.parent.checksum };
    const job = { path: join(order.folder, MEMORY_FILE), size: ram.size, parent };
    const answer = await this.run({ kind: 'write', job, source });
    if (answer.kind === 'written') return answer.result;
    throw new MachineError('host', answer.kind === 'failed' ? answer.message : 'the writer gave no answer');
  }

  private run(task: SnapshotTask): Promise<SnapshotAnswer> {
    return new Promise((resolve, reject) => {
      const worker = startSnapshotThread(task);
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', (code) => reject(new Error(`the snapshot's thread ended (exit code ${code})`)));
    });
  }
}

interface Prepared {
  memory: SavedMemory;
  capture: MachineCapture;
  reader: MemoryReader;
}

/** Forces a folder's entries to the disk. Windows has no such call for folders, and journals them itself. */
function syncFolder(path: string): void {
  if (process.platform === 'win32') return;
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } catch (error) {
    throw unwritable(path, 0, error);
  } finally {
    closeSync(fd);
  }
}
