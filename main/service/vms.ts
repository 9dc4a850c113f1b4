import { isLocal, openWarning, parseAddress } from '../inspect/gdb/address.ts';
import { parseArchitecture } from '../inspect/gdb/registers.ts';
import type { GdbServer } from '../inspect/gdb/server.ts';
import type { MachineProcess } from '../machine/machine-process.ts';
import type { Answer, Question, QuestionParams } from '../machine/protocol.ts';
import type { DebugPort } from '../inspect/target.ts';
import type { Params, Result, VmConfig, VmInfo, VmState } from './contract.ts';
import { connectCommand, openGdb } from './gdb.ts';
import { ServiceError } from './errors.ts';
import { wireStop } from './inspection.ts';
import type { DamagedRecord, Library, VmRecord } from './library.ts';
import type { SnapshotInfo } from './snapshot-contract.ts';
import { loadVcpu, saveVcpu, Snapshots } from './snapshots.ts';

/** What is needed of a VM's process, so that tests can put another in its place. */
export type Machine = Pick<
  MachineProcess,
  | 'status'
  | 'onStatus'
  | 'start'
  | 'pause'
  | 'resume'
  | 'reset'
  | 'powerButton'
  | 'powerOff'
  | 'serial'
  | 'ask'
  | 'dispose'
>;

export type Listener = (event: 'vm.changed' | 'vm.removed' | 'snapshot.changed', info: VmInfo) => void;

type Verb = 'start' | 'pause' | 'resume' | 'reset' | 'powerOff' | 'powerButton';

/** In which states a verb makes sense; the machine's process says no too, but only we know the VM's name. */
const allowed: Record<
  Verb | 'delete' | 'edit' | 'look' | 'snapshot' | 'switch',
  { states: VmState[]; way: string }
> = {
  start: { states: ['off', 'crashed', 'failed'], way: 'Power it off first' },
  pause: { states: ['running'], way: 'Only a running VM can be paused' },
  resume: { states: ['paused'], way: 'Only a paused VM can be resumed' },
  reset: { states: ['running', 'paused', 'crashed'], way: 'Start it instead' },
  powerOff: {
    states: ['starting', 'running', 'paused', 'stopping', 'crashed'],
    way: 'There is nothing to power off',
  },
  powerButton: { states: ['running'], way: 'Nobody would see its power button' },
  delete: { states: ['off', 'crashed', 'failed'], way: 'Power it off first' },
  look: { states: ['running', 'paused', 'crashed'], way: 'Only a VM that is on can be looked into' },
  snapshot: { states: ['running', 'paused'], way: 'Start it: a VM that is off has no state to keep' },
  switch: { states: ['paused'], way: 'Pause it first' },
  edit: { states: ['off', 'crashed', 'failed'], way: 'Power it off to change more than its name' },
};

/** What stands in for the configuration of a VM whose vm.json can't be read: contract.ts, VmInfo.damaged. */
const standIn: Omit<VmConfig, 'name'> = {
  guest: { kind: 'calc' },
  memory: 4 * 2 ** 20,
  vcpus: 1,
  backend: 'auto',
  disks: [],
};

interface Vm {
  record: VmRecord;
  machine: Machine;
  startedAt?: number;
  gdb?: GdbServer;
}

/**
 * The VMs of a library and their lives. A VM's state is never kept here: it is what its process says at the moment of
 * asking, so a list is right even when a process has just died.
 */
export class Vms {
  readonly #library: Library;
  readonly #makeMachine: () => Machine;
  readonly #listener: Listener;
  readonly #vms = new Map<string, Vm>();
  readonly #damaged = new Map<string, DamagedRecord>();
  readonly #snapshots: Snapshots;
  #closed = false;

  constructor(library: Library, makeMachine: () => Machine, listener: Listener) {
    this.#library = library;
    this.#makeMachine = makeMachine;
    this.#snapshots = new Snapshots(library);
    this.#listener = listener;
  }

  async load(): Promise<void> {
    const { records, damaged } = await this.#library.load();
    for (const record of records) {
      this.#add(record);
      // Whatever can't be swept is told when it is needed.
      await this.#snapshots
        .store(record.id)
        .sweep()
        .catch(() => undefined);
    }
    for (const record of damaged) this.#damaged.set(record.id, record);
  }

  list(): VmInfo[] {
    return [...[...this.#vms.values()].map(infoOf), ...[...this.#damaged.values()].map(damagedInfo)];
  }

  async create(config: VmConfig, id?: string): Promise<VmInfo> {
    const vm = this.#add(await this.#library.create(config, id));
    return this.#say(vm);
  }

  /** A name may be changed at any time; the rest only while nothing of it is in use. */
  async update(id: string, config: VmConfig): Promise<VmInfo> {
    const vm = this.#get(id);
    const { name } = vm.record.config;
    if (JSON.stringify({ ...config, name }) !== JSON.stringify(vm.record.config)) this.#check(vm, 'edit');
    const record = { ...vm.record, config };
    await this.#library.update(record);
    vm.record = record;
    return this.#say(vm);
  }

  async delete(id: string): Promise<void> {
    if (this.#damaged.has(id)) {
      await this.#library.delete(id);
      const info = damagedInfo(this.#damaged.get(id)!);
      this.#damaged.delete(id);
      this.#listener('vm.removed', info);
      return;
    }
    const vm = this.#get(id);
    this.#check(vm, 'delete');
    // From here on nobody finds it, so nothing starts it while its files go.
    this.#vms.delete(id);
    try {
      await this.#library.delete(id);
    } catch (error) {
      this.#vms.set(id, vm);
      throw error;
    }
    vm.machine.dispose();
    await vm.gdb?.close();
    this.#listener('vm.removed', infoOf(vm));
  }

  /** Does what a button of the front end says. Ends when it is true: after powerOff the process is gone. */
  async run(id: string, verb: Verb, paused = false): Promise<void> {
    const vm = this.#get(id);
    this.#check(vm, verb);
    if (verb !== 'start') return vm.machine[verb]();
    if (this.#closed) throw new ServiceError('wrong-state', 'Vitrine is ending; no VM can be started.');
    vm.startedAt = Date.now();
    return vm.machine.start({
      ...vm.record.config,
      disks: await this.#snapshots.disksOf(vm.record),
      ...(paused ? { startPaused: true as const } : {}),
    });
  }

  /** Snapshots of a VM: what only reads them. */
  snapshots(id: string): Pick<Snapshots, 'show' | 'diff' | 'verify'> {
    this.#get(id);
    return this.#snapshots;
  }

  async listSnapshots(id: string): Promise<SnapshotInfo[]> {
    this.#get(id);
    return this.#snapshots.list(id);
  }

  async takeSnapshot(id: string, name: string): Promise<{ snapshot: SnapshotInfo; pausedMs: number }> {
    const vm = this.#get(id);
    this.#check(vm, 'snapshot');
    const taken = await this.#snapshots.take(vm, name);
    this.#listener('snapshot.changed', infoOf(vm));
    return taken;
  }

  async restoreSnapshot(id: string, snapshot: string, paused: boolean): Promise<void> {
    const vm = this.#get(id);
    if (this.#closed) throw new ServiceError('wrong-state', 'Vitrine is ending; no VM can be started.');
    await this.#snapshots.restore(vm, snapshot, paused, async (config, disks, restore) => {
      vm.record = { ...vm.record, config };
      await this.#library.update(vm.record);
      vm.startedAt = Date.now();
      await vm.machine.start({
        ...config,
        disks,
        restore,
        ...(paused ? { startPaused: true as const } : {}),
      });
    });
    this.#listener('snapshot.changed', this.#say(vm));
  }

  async deleteSnapshot(id: string, snapshot: string): Promise<void> {
    const vm = this.#get(id);
    await this.#snapshots.delete(id, snapshot);
    this.#listener('snapshot.changed', infoOf(vm));
  }

  async cloneSnapshot(id: string, snapshot: string, name: string): Promise<VmInfo> {
    this.#get(id);
    return this.#say(this.#add(await this.#snapshots.clone(id, snapshot, name)));
  }

  async switchBackend(id: string, backend: VmConfig['backend']): Promise<void> {
    const vm = this.#get(id);
    this.#check(vm, 'switch');
    await vm.machine.ask('backend.switch', { backend });
  }

  saveVcpu(id: string, vcpu: number): Promise<Record<string, unknown>> {
    const vm = this.#get(id);
    this.#check(vm, 'look');
    return saveVcpu(vm, vcpu);
  }

  async loadVcpu(id: string, vcpu: number, registers: unknown): Promise<void> {
    const vm = this.#get(id);
    this.#check(vm, 'look');
    await loadVcpu(vm, vcpu, registers);
  }

  /** Pauses a VM, or one of its vCPUs while the others run on. */
  async pause(id: string, time: 'stops' | 'runs', vcpu?: number): Promise<void> {
    const vm = this.#get(id);
    this.#check(vm, 'pause');
    if (vcpu !== undefined) await vm.machine.ask('vcpu.pause', { vcpu });
    else if (time === 'runs') await vm.machine.ask('machine.pause', { time });
    else await vm.machine.pause();
  }

  async resume(id: string, vcpu?: number): Promise<void> {
    if (vcpu === undefined) return this.run(id, 'resume');
    await this.ask(id, 'vcpu.resume', { vcpu });
  }

  /** Asks a VM's process about what goes on in it. */
  async ask<Q extends Question>(id: string, question: Q, params: QuestionParams<Q>): Promise<Answer<Q>> {
    const vm = this.#get(id);
    this.#check(vm, 'look');
    return vm.machine.ask(question, params);
  }

  /** A VM for a debugger. Its states are checked at each question, since they may change meanwhile. */
  debugPort(id: string): { port: DebugPort; vcpus: number } {
    const { machine, record } = this.#get(id);
    this.#check(this.#get(id), 'look');
    return { port: machine, vcpus: record.config.vcpus };
  }

  /** Listens for gdb. One that listens already is told again, unless it is to be elsewhere. */
  async startGdb({ id, address = '0', architecture }: Params<'gdb.start'>): Promise<Result<'gdb.start'>> {
    const vm = this.#get(id);
    if (vm.gdb !== undefined) {
      if (vm.gdb.address !== address && address !== '0') {
        const name = `"${vm.record.config.name}"`;
        throw new ServiceError(
          'wrong-state',
          `${name} listens for gdb at ${vm.gdb.address}. Stop that first.`,
        );
      }
      return gdbOf(vm.gdb);
    }
    const where = addressOf(address);
    const server = await openGdb(where, vm.machine, () => ({
      config: vm.record.config,
      architecture: parseArchitecture(architecture ?? 'auto'),
    }));
    // Meanwhile it may have been deleted, or have been made to listen by somebody else.
    if (this.#closed || this.#vms.get(id) !== vm || vm.gdb !== undefined) {
      await server.close();
      throw new ServiceError(
        'wrong-state',
        'Something else happened to this VM meanwhile. Look at it again.',
      );
    }
    vm.gdb = server;
    this.#say(vm);
    return { ...gdbOf(server), ...(isLocal(where) ? {} : { warning: openWarning }) };
  }

  async stopGdb(id: string): Promise<void> {
    const vm = this.#get(id);
    const { gdb } = vm;
    if (gdb === undefined) return;
    delete vm.gdb;
    await gdb.close();
    this.#say(vm);
  }

  machine(id: string): Machine {
    return this.#get(id).machine;
  }

  /** Ends every VM and waits until their processes are gone. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#vms.values()].map(({ gdb }) => gdb?.close()));
    await Promise.all([...this.#vms.values()].map(({ machine }) => machine.powerOff()));
    this.kill();
  }

  /** The same without waiting, for the last moment of our own process. */
  kill(): void {
    this.#closed = true;
    for (const { machine } of this.#vms.values()) machine.dispose();
  }

  #add(record: VmRecord): Vm {
    const vm: Vm = { record, machine: this.#makeMachine() };
    vm.machine.onStatus(() => {
      if (this.#vms.get(record.id) === vm) this.#say(vm);
    });
    this.#vms.set(record.id, vm);
    return vm;
  }

  #get(id: string): Vm {
    const vm = this.#vms.get(id);
    if (vm) return vm;
    const damaged = this.#damaged.get(id);
    if (damaged) throw new ServiceError('wrong-state', `"${id}" is damaged: ${damaged.reason}`);
    throw new ServiceError('not-found', `There is no VM ${id}. It may have been deleted in another window.`);
  }

  #check(vm: Vm, verb: keyof typeof allowed): void {
    const { state } = vm.machine.status;
    const { states, way } = allowed[verb];
    if (states.includes(state)) return;
    throw new ServiceError('wrong-state', `"${vm.record.config.name}" is ${state}. ${way}.`);
  }

  #say(vm: Vm): VmInfo {
    const info = infoOf(vm);
    this.#listener('vm.changed', info);
    return info;
  }
}

function addressOf(text: string): ReturnType<typeof parseAddress> {
  try {
    return parseAddress(text);
  } catch (error) {
    throw new ServiceError('invalid', `gdb.start: address: ${(error as Error).message}`);
  }
}

function gdbOf(server: GdbServer): { address: string; command: string } {
  return { address: server.address, command: connectCommand(server) };
}

function infoOf({ record, machine, startedAt, gdb }: Vm): VmInfo {
  const { state, backend, message, stop, held } = machine.status;
  const info: VmInfo = { id: record.id, config: record.config, state, createdAt: record.createdAt };
  if (backend !== undefined) info.backend = backend;
  if (message !== undefined) info.message = message;
  if (stop !== undefined) info.stop = wireStop(stop);
  if (held !== undefined) info.held = held;
  if (startedAt !== undefined) info.startedAt = startedAt;
  if (gdb !== undefined) info.gdb = gdbOf(gdb);
  return info;
}

function damagedInfo({ id, reason }: DamagedRecord): VmInfo {
  return {
    id,
    config: { ...standIn, name: id },
    state: 'failed',
    message: reason,
    createdAt: 0,
    damaged: true,
  };
}
