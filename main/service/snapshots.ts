import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { RestorePlan } from '../machine/protocol.ts';
import { VcpuState } from '../nvmm/layout.ts';
import { State } from '../nvmm/constants.ts';
import type { Snapshot } from '../machine/snapshot/format.ts';
import { memoryOf, readSnapshot, verifyMemory } from '../machine/snapshot/restore.ts';
import { nameRegisters, registersFrom } from '../machine/snapshot/vcpu-names.ts';
import { vmConfig, type VmConfig } from './contract.ts';
import { ServiceError } from './errors.ts';
import { version } from './version.ts';
import type { Library, VmRecord } from './library.ts';
import { compareSnapshots } from './snapshot-diff.ts';
import type { SnapshotDifference, SnapshotInfo } from './snapshot-contract.ts';
import { layerNames, SnapshotStore } from './snapshot-store.ts';
import type { Machine } from './vms.ts';

/** A VM, as far as snapshots have to do with it. */
export interface SnapshotVm {
  record: VmRecord;
  machine: Machine;
}

/** What the machine layer is started with, beside the configuration. */
type Disks = (VmConfig['disks'][number] & { layers?: string[] })[];

/** Bytes of the console that a snapshot keeps: what a screen shows, and some more. */
const CONSOLE_BYTES = 4096;

/** The snapshots of all VMs of a library. Of one VM, one thing is done at a time. */
export class Snapshots {
  readonly #library: Library;
  readonly #queues = new Map<string, Promise<unknown>>();

  constructor(library: Library) {
    this.#library = library;
  }

  store(id: string): SnapshotStore {
    return new SnapshotStore(this.#library.folderOf(id));
  }

  list(id: string): Promise<SnapshotInfo[]> {
    return this.store(id).list();
  }

  /** The disks of a VM as its machine opens them: with the layers that snapshots left. */
  async disksOf({ id, config }: VmRecord): Promise<Disks> {
    const store = this.store(id);
    const { layers } = await store.state();
    return config.disks.map((disk) => {
      const names = layers[disk.path] ?? [];
      return names.length === 0 ? disk : { ...disk, layers: names.map((name) => join(store.layers, name)) };
    });
  }

  take({ record, machine }: SnapshotVm, name: string): Promise<{ snapshot: SnapshotInfo; pausedMs: number }> {
    return this.#alone(record.id, async () => {
      const store = this.store(record.id);
      const id = newId();
      const state = await store.state();
      const parent = await this.#parent(store, state.current);
      const folder = await store.begin(id);
      const createdAt = Date.now();
      const layers = record.config.disks.map((disk, i) => (disk.readonly ? null : `${id}-${i}`));
      try {
        // The layers are on record before anything can be written to them.
        const named = { ...state.layers };
        record.config.disks.forEach(({ path }, i) => {
          const layer = layers[i];
          if (layer !== null) named[path] = [...(named[path] ?? []), layer];
        });
        await store.setState({ ...state, layers: named });
        const { pausedMs } = await machine.ask('snapshot.take', {
          folder,
          title: {
            id,
            name: name === '' ? new Date(createdAt).toISOString().slice(0, 19).replace('T', ' ') : name,
            createdAt,
            parent: state.current,
            writtenBy: `vitrine ${version}`,
            console: lastPrinted(machine),
          },
          config: record.config,
          parent,
          layers: layers.map((layer) => (layer === null ? null : join(store.layers, layer))),
        });
        await store.commit(id);
        const snapshot = (await store.list()).find((each) => each.id === id)!;
        return { snapshot, pausedMs };
      } catch (error) {
        await store.abandon(id);
        await this.#noteLayers(store, record, machine);
        throw error;
      }
    });
  }

  /** Goes back to a snapshot, and stands still there if `paused`. `start` starts a VM that is off, with what it is to start from. */
  restore(
    vm: SnapshotVm,
    id: string,
    paused: boolean,
    start: (config: VmConfig, disks: Disks, plan: RestorePlan) => Promise<void>,
  ): Promise<void> {
    return this.#alone(vm.record.id, async () => {
      const { record, machine } = vm;
      const store = this.store(record.id);
      const saved = await store.read(id);
      const config = { ...configOf(saved), name: record.config.name };
      const before = await store.state();
      const layers = { ...before.layers };
      const token = newId();
      saved.disks.forEach(({ path, readonly, layers: names }, i) => {
        if (readonly) return;
        layers[path] = [...names, `${token}-${i}`];
      });
      const after = { ...before, layers, current: id };
      const plan: RestorePlan = {
        folder: store.path(id),
        layers: saved.disks.map(({ path, readonly, layers: names }) =>
          (readonly ? names : layers[path]).map((name) => join(store.layers, name)),
        ),
      };
      const { state } = machine.status;
      const alive = state === 'running' || state === 'paused';
      if (alive && sameMachine(config, record.config)) {
        if (paused) await machine.pause();
        await machine.ask('snapshot.restore', plan);
        await store.setState(after);
      } else {
        if (alive || state === 'crashed') await machine.powerOff();
        await store.setState(after);
        const disks = config.disks.map((disk, i) => ({ ...disk, layers: plan.layers[i] }));
        try {
          await start(config, disks, plan);
        } catch (error) {
          await store.setState(before);
          throw error;
        }
      }
      await store.sweep();
    });
  }

  delete(id: string, snapshot: string): Promise<void> {
    return this.#alone(id, () => this.store(id).delete(snapshot));
  }

  /** Makes a VM that has this snapshot, and starts from it. */
  clone(id: string, snapshot: string, name: string): Promise<VmRecord> {
    return this.#alone(id, async () => {
      const store = this.store(id);
      const saved = await store.read(snapshot);
      return this.#library.create({ ...configOf(saved), name }, undefined, async (folder) => {
        const into = new SnapshotStore(folder);
        await store.copyTo(snapshot, saved, into);
        const layers = Object.fromEntries(
          saved.disks
            .map((disk, i) => ({ ...disk, top: `${newId()}-${i}` }))
            .filter(({ readonly }) => !readonly)
            .map(({ path, layers: names, top }) => [path, [...names, top]]),
        );
        await into.setState({ format: 1, current: snapshot, layers, gone: {} });
      });
    });
  }

  async show(id: string, snapshot: string): Promise<Record<string, unknown>> {
    return (await this.store(id).read(snapshot)) as unknown as Record<string, unknown>;
  }

  async diff(id: string, a: string, b: string): Promise<SnapshotDifference> {
    const store = this.store(id);
    const [from, to] = [await store.read(a), await store.read(b)];
    return compareSnapshots(
      { saved: from, memory: memoryOf(store.path(a), from) },
      { saved: to, memory: memoryOf(store.path(b), to) },
    );
  }

  async verify(id: string, snapshot: string): Promise<{ wrong: string | null }> {
    const store = this.store(id);
    await store.read(snapshot);
    return { wrong: verifyMemory(memoryOf(store.path(snapshot), readSnapshot(store.path(snapshot)))) };
  }

  /** A snapshot that can't be read is no parent to compare with. */
  async #parent(
    store: SnapshotStore,
    current: string | null,
  ): Promise<{ files: string[]; ids: string[]; checksum: number } | null> {
    if (current === null) return null;
    try {
      const saved = await store.read(current);
      const { files, checksum } = memoryOf(store.path(current), saved);
      return { files, ids: [current, ...saved.memory.ancestors], checksum };
    } catch {
      return null;
    }
  }

  /** After a failure: which layers the machine really writes to. Unless it is gone, too. */
  async #noteLayers(store: SnapshotStore, record: VmRecord, machine: Machine): Promise<void> {
    try {
      const paths = await machine.ask('disk.layers', null);
      const state = await store.state();
      const layers = { ...state.layers };
      record.config.disks.forEach(({ path, readonly }, i) => {
        if (!readonly) layers[path] = layerNames(paths[i] ?? []);
      });
      await store.setState({ ...state, layers });
    } catch {
      // A layer that is on record and was never made is made at the next start: it is empty.
    }
  }

  #alone<T>(id: string, work: () => Promise<T>): Promise<T> {
    const done = (this.#queues.get(id) ?? Promise.resolve()).then(work);
    this.#queues.set(
      id,
      done.catch(() => undefined),
    );
    return done;
  }
}

/** A vCPU's registers by name. */
export async function saveVcpu({ machine }: SnapshotVm, vcpu: number): Promise<Record<string, unknown>> {
  return { ...nameRegisters(await machine.ask('vcpu.read', { vcpu })) };
}

export async function loadVcpu({ machine }: SnapshotVm, vcpu: number, registers: unknown): Promise<void> {
  const state = registersFrom(registers);
  const { bytes } = new VcpuState(state);
  await machine.ask('vcpu.write', { vcpu, flags: State.ALL, state: bytes });
}

/** The VM's configuration that a snapshot has: one that this version of the contract no longer takes is refused. */
function configOf(saved: Snapshot): VmConfig {
  const { data, error } = vmConfig.safeParse(saved.config);
  if (error === undefined) return data;
  const [issue] = error.issues;
  const where = issue!.path.join('.');
  throw new ServiceError('host', `Snapshot "${saved.name}": its VM's ${where}: ${issue!.message}`);
}

/** True when a machine of one configuration can take the state of the other without a new process. */
function sameMachine(a: VmConfig, b: VmConfig): boolean {
  const shape = ({ memory, vcpus, disks }: VmConfig): string => JSON.stringify([memory, vcpus, disks]);
  return shape(a) === shape(b);
}

/** The last that COM1 printed, as base64. */
function lastPrinted(machine: Machine): string {
  const log = machine.serial[0]!;
  const pieces: Buffer[] = [];
  log
    .attach({
      from: Math.max(log.start, log.end - CONSOLE_BYTES),
      lossless: false,
      onData: (data) => pieces.push(Buffer.from(data)),
    })
    .detach();
  return Buffer.concat(pieces).toString('base64');
}

function newId(): string {
  const letters = 'abcdefghjkmnpqrstvwxyz0123456789';
  return `s-${Array.from(randomBytes(10), (byte) => letters[byte % 32]).join('')}`;
}
