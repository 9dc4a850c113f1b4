import type { z } from 'zod';
import type { Launcher } from '../machine/launcher.ts';
import { MachineProcess } from '../machine/machine-process.ts';
import type { SerialLog } from '../machine/serial-log.ts';
import {
  requests,
  type EventData,
  type Params,
  type RequestName,
  type Result,
  type VmInfo,
} from './contract.ts';
import { ServiceError } from './errors.ts';
import { backendReports, hostInfo } from './host.ts';
import { Inspection } from './inspection.ts';
import { runLockstep } from '../inspect/lockstep-run.ts';
import { Library } from './library.ts';
import { lockstepConfig } from './lockstep-command.ts';
import { Vms, type Machine } from './vms.ts';

/** What the service itself answers; console.* belongs to the session that asks (session.ts). */
type ServiceRequest = Exclude<RequestName, `console.${string}`>;
type Handlers = { [N in ServiceRequest]: (params: z.output<(typeof requests)[N]['params']>) => unknown };

type BroadcastName = 'vm.changed' | 'vm.removed' | 'snapshot.changed';
export type ServiceListener = <N extends BroadcastName>(event: N, data: EventData<N>) => void;

export interface ServiceOptions {
  /** Folder of the library. */
  folder: string;
  /** How a VM's process is started: Node's fork, unless the caller has something better. */
  launch?: Launcher;
  /** For tests: what stands for a VM's process. */
  makeMachine?: () => Machine;
}

/** The VM that a newcomer finds: it needs no file, and answers at once. Its id is fixed, so it is made once. */
const welcome = {
  id: 'calculator',
  config: { name: 'Calculator', guest: { kind: 'calc' }, memory: 16 * 2 ** 20 },
} as const;

/**
 * What a user manages, for any number of front ends: the library of VMs and their lives. It knows no transport and no
 * front end. Everything that comes in is checked by the contract's schemas here, whoever sends it.
 */
export class Service {
  readonly #library: Library;
  readonly #vms: Vms;
  readonly #listeners = new Set<ServiceListener>();
  readonly #handlers: Handlers;

  private constructor(library: Library, makeMachine: () => Machine) {
    this.#library = library;
    this.#vms = new Vms(library, makeMachine, (event, info) => {
      if (event === 'vm.changed') this.#emit(event, info);
      else this.#emit(event, { id: info.id });
    });
    const run =
      (verb: Exclude<Parameters<Vms['run']>[1], 'start'>) =>
      async ({ id }: { id: string }) => {
        await this.#vms.run(id, verb);
        return {};
      };
    const inspection = new Inspection(this.#vms);
    this.#handlers = {
      ...inspection.handlers,
      'vm.list': () => this.list(),
      'vm.create': (config) => this.#vms.create(config),
      'vm.update': ({ id, config }) => this.#vms.update(id, config),
      'vm.delete': async ({ id }) => {
        await this.#vms.delete(id);
        return {};
      },
      'vm.start': async ({ id, paused }) => {
        await this.#vms.run(id, 'start', paused);
        return {};
      },
      'vm.pause': async ({ id, time, vcpu }) => {
        await this.#vms.pause(id, time, vcpu);
        return {};
      },
      'vm.resume': async ({ id, vcpu }) => {
        await this.#vms.resume(id, vcpu);
        return {};
      },
      'vm.reset': run('reset'),
      'vm.powerOff': run('powerOff'),
      'vm.powerButton': run('powerButton'),
      'trace.query': ({ id, ...query }) => this.#vms.ask(id, 'trace.query', query),
      'trace.stats': ({ id }) => this.#vms.ask(id, 'trace.stats', null),
      'trace.export': ({ id, ...wanted }) => this.#vms.ask(id, 'trace.export', wanted),
      'gdb.start': (wanted) => this.#vms.startGdb(wanted),
      'gdb.stop': async ({ id }) => {
        await this.#vms.stopGdb(id);
        return {};
      },
      'snapshot.list': ({ id }) => this.#vms.listSnapshots(id),
      'snapshot.take': ({ id, name }) => this.#vms.takeSnapshot(id, name),
      'snapshot.restore': async ({ id, snapshot, paused }) => {
        await this.#vms.restoreSnapshot(id, snapshot, paused);
        return {};
      },
      'snapshot.delete': async ({ id, snapshot }) => {
        await this.#vms.deleteSnapshot(id, snapshot);
        return {};
      },
      'snapshot.clone': async ({ id, snapshot, name }) => {
        const { id: made } = await this.#vms.cloneSnapshot(id, snapshot, name);
        return { id: made };
      },
      'snapshot.show': ({ id, snapshot }) => this.#vms.snapshots(id).show(id, snapshot),
      'snapshot.diff': ({ id, snapshot, other }) => this.#vms.snapshots(id).diff(id, snapshot, other),
      'snapshot.verify': ({ id, snapshot }) => this.#vms.snapshots(id).verify(id, snapshot),
      'vm.switch': async ({ id, backend }) => {
        await this.#vms.switchBackend(id, backend);
        return {};
      },
      'vcpu.save': ({ id, vcpu }) => this.#vms.saveVcpu(id, vcpu),
      'vcpu.load': async ({ id, vcpu, registers }) => {
        await this.#vms.loadVcpu(id, vcpu, registers);
        return {};
      },
      'lockstep.run': (wanted) => runLockstep(lockstepConfig(wanted)),
      'host.backends': () => backendReports(),
      'host.info': () => hostInfo(library.folder),
    };
  }

  /** Opens the library and its VMs, all off. A library that has never been used gets the calculator. */
  static async open({ folder, launch, makeMachine }: ServiceOptions): Promise<Service> {
    const library = await Library.open(folder);
    try {
      const service = new Service(
        library,
        makeMachine ?? (() => new MachineProcess(launch ? { launch } : {})),
      );
      const isNew = await library.isNew();
      await service.#vms.load();
      if (isNew) await service.#vms.create(requests['vm.create'].params.parse(welcome.config), welcome.id);
      await library.rememberWelcome();
      return service;
    } catch (error) {
      library.close();
      throw error;
    }
  }

  list(): VmInfo[] {
    return this.#vms.list();
  }

  /** Answers a request. Fails with a ServiceError, or with an error that describeError understands. */
  async call<N extends ServiceRequest>(method: N, params: Params<N>): Promise<Result<N>>;
  async call(method: string, params: unknown): Promise<unknown>;
  async call(method: string, params: unknown): Promise<unknown> {
    return this.answer(method, params);
  }

  /**
   * The same, at once for what needs no waiting: a list that is sent in the moment when it was made can't arrive after
   * news that is younger than it.
   */
  answer(method: string, params: unknown): unknown {
    if (!Object.hasOwn(this.#handlers, method)) {
      throw new ServiceError('invalid', `There is no request "${method.slice(0, 80)}".`);
    }
    const name = method as ServiceRequest;
    const handler = this.#handlers[name] as (params: unknown) => unknown;
    return handler(checkParams(name, params));
  }

  /** Tells of every change, to every front end. Returns what ends that. */
  on(listener: ServiceListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A VM's serial port: what it has printed, and the way in. Ports count from 0 (COM1). */
  serial(id: string, port: number): SerialLog {
    return this.#vms.machine(id).serial[port]!;
  }

  /** Ends all VMs; resolves when their processes are gone. */
  async close(): Promise<void> {
    await this.#vms.close();
    this.#library.close();
  }

  /** The same at once, for a process that is about to end. */
  kill(): void {
    this.#vms.kill();
    this.#library.close();
  }

  #emit<N extends BroadcastName>(event: N, data: EventData<N>): void {
    for (const listener of this.#listeners) listener(event, data);
  }
}

/** A request's parameters as its schema wants them, or one sentence about the first thing that is wrong. */
export function checkParams<N extends RequestName>(
  method: N,
  params: unknown,
): z.output<(typeof requests)[N]['params']> {
  const { data, error } = requests[method].params.safeParse(params);
  if (!error) return data as z.output<(typeof requests)[N]['params']>;
  const [issue] = error.issues;
  const where = issue!.path.length > 0 ? ` ${issue!.path.join('.')}:` : '';
  throw new ServiceError('invalid', `${method}:${where} ${issue!.message}`);
}
