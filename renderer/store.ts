import { createStore } from 'zustand/vanilla';
import type { BackendReport, Result, VmInfo } from '../main/service/contract.ts';
import { sentence } from './client.ts';
import type { Status, Client } from './client.ts';
import { loadPreferences, savePreferences } from './preferences.ts';
import type { Preferences } from './preferences.ts';

/** A question that must be answered before an action that loses something. */
export interface Question {
  title: string;
  text: string;
  button: string;
  danger: boolean;
  run(): void;
}

export type DialogState =
  | { kind: 'create' }
  | { kind: 'edit'; vm: VmInfo }
  | { kind: 'confirm'; question: Question }
  | { kind: 'help' };

/** What the console in view offers to actions. */
export interface ConsoleHandle {
  focus(): void;
  search(): void;
  copy(): void;
  paste(): void;
  clear(): void;
  saveLog(): void;
}

export interface Alert {
  id: number;
  /** The machine it is about. */
  subject: string | undefined;
  text: string;
}

export interface AppState {
  status: Status;
  /** False until the first list has arrived. */
  loaded: boolean;
  vms: VmInfo[];
  selected: string | undefined;
  /** The serial port shown, 0 for COM1, by machine. */
  ports: Record<string, number>;
  backends: BackendReport[];
  host: Result<'host.info'> | undefined;
  /** The request under way for a machine, in words: "Starting…". */
  busy: Record<string, string>;
  alerts: Alert[];
  /** Why a key did nothing: shown for a moment. */
  notice: string | undefined;
  dialog: DialogState | undefined;
  console: ConsoleHandle | undefined;
  /** New exits don't come into the list. */
  exitsHeld: boolean;
  preferences: Preferences;
}

/** Long enough to read one sentence twice. */
const NOTICE_MS = 5000;

type Storage = Parameters<typeof loadPreferences>[0] & Parameters<typeof savePreferences>[0];

/** Everything that the window shows, and the ways it changes. The service's word is the truth about machines. */
export class Store {
  readonly client: Client;
  readonly state;
  private readonly storage: Storage;
  private lastAlert = 0;
  private noticeTimer: ReturnType<typeof setTimeout> | undefined;
  /** Machines that events spoke of while a list was on its way: the event is newer. */
  private touched: Set<string> | undefined;

  constructor(client: Client, storage: Storage) {
    this.client = client;
    this.storage = storage;
    const preferences = loadPreferences(storage);
    this.state = createStore<AppState>(() => ({
      status: client.status,
      loaded: false,
      vms: [],
      selected: preferences.selected,
      ports: {},
      backends: [],
      host: undefined,
      busy: {},
      alerts: [],
      notice: undefined,
      dialog: undefined,
      console: undefined,
      exitsHeld: false,
      preferences,
    }));
    client.on('vm.changed', (vm) => this.changed(vm));
    client.on('vm.removed', ({ id }) => this.removed(id));
    client.onStatus((status) => {
      this.state.setState({ status });
      if (status === 'connected') void this.refresh();
    });
  }

  get(): AppState {
    return this.state.getState();
  }

  set(change: Partial<AppState>): void {
    this.state.setState(change);
  }

  /** Asks for everything anew: after connecting, since events may have been missed. */
  async refresh(): Promise<void> {
    this.touched = new Set();
    try {
      const listed = await this.client.request('vm.list', {});
      const touched = this.touched ?? new Set();
      const kept = this.get().vms.filter((vm) => touched.has(vm.id));
      this.setVms([...listed.filter((vm) => !touched.has(vm.id)), ...kept]);
      this.set({ loaded: true });
      const [backends, host] = await Promise.all([
        this.client.request('host.backends', {}),
        this.client.request('host.info', {}),
      ]);
      this.set({ backends, host });
    } catch (error) {
      if (this.client.status === 'connected') this.alert(sentence(error));
    } finally {
      this.touched = undefined;
    }
  }

  select(id: string | undefined): void {
    this.set({ selected: id });
    this.prefer({ selected: id });
  }

  prefer(change: Partial<Preferences>): void {
    const preferences = { ...this.get().preferences, ...change };
    this.set({ preferences });
    savePreferences(this.storage, preferences);
  }

  alert(text: string, subject?: string): void {
    const { alerts } = this.get();
    if (alerts.some((alert) => alert.text === text)) return;
    // More than a handful would cover the window; the oldest have been read or never will be.
    this.set({ alerts: [...alerts, { id: ++this.lastAlert, subject, text }].slice(-4) });
  }

  notice(text: string): void {
    clearTimeout(this.noticeTimer);
    this.set({ notice: text });
    this.noticeTimer = setTimeout(() => this.set({ notice: undefined }), NOTICE_MS);
  }

  dismiss(id: number): void {
    this.set({ alerts: this.get().alerts.filter((alert) => alert.id !== id) });
  }

  /** Runs a request about a machine: says that it is under way, and shows the service's sentence if it fails. */
  async run(id: string, doing: string, work: () => Promise<unknown>): Promise<boolean> {
    const name = this.get().vms.find((vm) => vm.id === id)?.config.name;
    this.set({ busy: { ...this.get().busy, [id]: doing } });
    try {
      await work();
      return true;
    } catch (error) {
      this.alert(sentence(error), name);
      return false;
    } finally {
      const busy = { ...this.get().busy };
      delete busy[id];
      this.set({ busy });
    }
  }

  changed(vm: VmInfo): void {
    this.touched?.add(vm.id);
    const { vms } = this.get();
    const known = vms.some(({ id }) => id === vm.id);
    this.setVms(known ? vms.map((old) => (old.id === vm.id ? vm : old)) : [...vms, vm]);
  }

  private removed(id: string): void {
    this.touched?.add(id);
    this.setVms(this.get().vms.filter((vm) => vm.id !== id));
  }

  /** Orders the list by age and keeps something selected: the neighbour of a machine that went away. */
  private setVms(vms: VmInfo[]): void {
    const { vms: before, selected } = this.get();
    const sorted = [...vms].sort((a, b) => a.createdAt - b.createdAt || a.id.localeCompare(b.id));
    this.set({ vms: sorted });
    if (sorted.some((vm) => vm.id === selected)) return;
    const place = Math.max(
      0,
      before.findIndex((vm) => vm.id === selected),
    );
    this.select(sorted[Math.min(place, sorted.length - 1)]?.id);
  }
}

/** The machine in view. */
export function selectedVm(state: AppState): VmInfo | undefined {
  return state.vms.find((vm) => vm.id === state.selected);
}
