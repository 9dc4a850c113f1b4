import type { RequestName, VmInfo, VmState } from '../main/service/contract.ts';
import type { AppState, Question, Store } from './store.ts';
import { selectedVm } from './store.ts';
import type { IconName } from './components/Icon.tsx';

/**
 * Everything that the window can do, once: the toolbar, the menus, the shortcuts and the help all read this table.
 */
export interface Action {
  id: string;
  label: string;
  icon: IconName;
  /** One key: pressed alone, or with Ctrl+Shift while the console has the focus. */
  key: string;
  group: 'machine' | 'library' | 'console' | 'inside' | 'window';
  /** Loses something for good: drawn in the warning colour. */
  danger?: boolean;
  /** Only with Ctrl+Shift, only in the console: the letter alone belongs to another action. */
  inConsole?: boolean;
  /** True, or one sentence that says why not and what to do first. */
  when(state: AppState): true | string;
  run(store: Store): void;
}

const NO_VM = 'Choose or create a virtual machine first.';
const NO_CONSOLE = 'There is no console in view.';

/** States in which the guest has ended, so that the machine may be changed or deleted. */
export const RESTING: readonly VmState[] = ['off', 'crashed', 'failed'];

type Verdicts = Partial<Record<VmState, true | string>> & { otherwise: string };

/** A rule by the state of the machine in view. */
function byState(verdicts: Verdicts): Action['when'] {
  return (state) => {
    const vm = selectedVm(state);
    if (vm === undefined) return NO_VM;
    if (state.status !== 'connected') return 'Vitrine is not connected.';
    if (vm.damaged) return 'The description of this machine is damaged; it can only be deleted.';
    return verdicts[vm.state] ?? verdicts.otherwise;
  };
}

type Verb = Extract<
  RequestName,
  `vm.${'start' | 'pause' | 'resume' | 'reset' | 'powerOff' | 'powerButton' | 'delete'}`
>;

/** Sends a verb about the machine in view, after the question if there is one. */
function verb(name: Verb, doing: string, question?: (vm: VmInfo) => Omit<Question, 'run'> | undefined) {
  return (store: Store): void => {
    const vm = selectedVm(store.get());
    if (vm === undefined) return;
    const run = (): void => {
      void store.run(vm.id, doing, () => store.client.request(name, { id: vm.id }));
    };
    const asked = question?.(vm);
    if (asked === undefined) run();
    else store.set({ dialog: { kind: 'confirm', question: { ...asked, run } } });
  };
}

/** Executes an instruction of a paused machine, or runs over a call, or out of a function. */
function step(id: string, label: string, icon: IconName, key: string, how: 'into' | 'over' | 'out'): Action {
  return {
    id,
    label,
    icon,
    key,
    group: 'inside',
    when: byState({
      running: 'Pause it first.',
      paused: true,
      crashed: 'The guest has crashed: there is nothing to step. It can be looked at.',
      otherwise: 'Only a paused machine can be stepped.',
    }),
    run: (store) => {
      const vm = selectedVm(store.get());
      if (vm === undefined) return;
      const { vcpu } = vm.stop ?? { vcpu: 0 };
      // A fast repeated key must not pile up steps.
      if (store.get().busy[vm.id] !== undefined) return;
      void store.run(vm.id, 'Stepping…', () => store.client.request('debug.step', { id: vm.id, vcpu, how }));
    },
  };
}

const busyStates = {
  starting: 'It is still starting.',
  stopping: 'It is shutting down.',
} as const;

const needsConsole = (state: AppState): true | string => (state.console === undefined ? NO_CONSOLE : true);

export const actions: readonly Action[] = [
  {
    id: 'start',
    label: 'Start',
    icon: 'play',
    key: 'S',
    group: 'machine',
    when: byState({
      ...busyStates,
      off: true,
      failed: true,
      crashed: true,
      otherwise: 'It is on already.',
    }),
    run: (store) => {
      const vm = selectedVm(store.get());
      if (vm === undefined) return;
      void store.run(vm.id, 'Starting…', () => store.client.request('vm.start', { id: vm.id }));
      store.get().console?.focus();
    },
  },
  {
    id: 'pause',
    label: 'Pause',
    icon: 'pause',
    key: 'P',
    group: 'machine',
    when: byState({
      ...busyStates,
      running: true,
      paused: 'It is paused already.',
      otherwise: 'Only a running machine can be paused.',
    }),
    run: verb('vm.pause', 'Pausing…'),
  },
  {
    id: 'resume',
    label: 'Resume',
    icon: 'play',
    key: 'P',
    group: 'machine',
    when: byState({ paused: true, otherwise: 'Only a paused machine can be resumed.' }),
    run: verb('vm.resume', 'Resuming…'),
  },
  {
    id: 'reset',
    label: 'Reset',
    icon: 'reset',
    key: 'R',
    group: 'machine',
    when: byState({
      ...busyStates,
      running: true,
      paused: true,
      crashed: true,
      otherwise: 'It is off: there is nothing to reset.',
    }),
    run: verb('vm.reset', 'Resetting…', (vm) =>
      vm.state === 'crashed'
        ? undefined
        : {
            title: `Reset “${vm.config.name}”?`,
            text: 'The machine starts over at once, as with its reset button. What the guest has not saved is lost.',
            button: 'Reset',
            danger: true,
          },
    ),
  },
  {
    id: 'power-button',
    label: 'Power button',
    icon: 'button',
    key: 'B',
    group: 'machine',
    when: byState({
      ...busyStates,
      running: true,
      paused: 'It is paused: resume it first, so that the guest can react.',
      crashed: 'The guest has crashed and cannot react: power it off.',
      otherwise: 'It is off already.',
    }),
    run: verb('vm.powerButton', 'Pressing the power button…'),
  },
  {
    id: 'power-off',
    label: 'Power off',
    icon: 'plug',
    key: 'O',
    group: 'machine',
    danger: true,
    when: byState({
      starting: true,
      running: true,
      paused: true,
      crashed: true,
      stopping: 'It is shutting down already.',
      otherwise: 'It is off already.',
    }),
    run: verb('vm.powerOff', 'Powering off…', (vm) => ({
      title: `Power off “${vm.config.name}”?`,
      text: 'The machine ends at once, as if its plug were pulled. What the guest has not saved is lost. To let the guest shut itself down, press its power button instead.',
      button: 'Power off',
      danger: true,
    })),
  },
  {
    id: 'gdb',
    label: 'Listen for gdb, or stop it',
    icon: 'terminal',
    key: 'G',
    group: 'inside',
    when: byState({
      ...busyStates,
      running: true,
      paused: true,
      crashed: true,
      off: true,
      otherwise: 'It could not be started: there is nothing for gdb to look at.',
    }),
    run: (store) => {
      const vm = selectedVm(store.get());
      if (vm === undefined) return;
      const listens = vm.gdb !== undefined;
      void store.run(vm.id, listens ? 'Letting gdb go…' : 'Listening for gdb…', () =>
        listens
          ? store.client.request('gdb.stop', { id: vm.id })
          : store.client.request('gdb.start', { id: vm.id }),
      );
    },
  },
  {
    id: 'edit',
    label: 'Edit',
    icon: 'edit',
    key: 'E',
    group: 'machine',
    when: byState({
      ...busyStates,
      off: true,
      failed: true,
      crashed: true,
      otherwise: 'Power it off first: a machine that is on cannot be changed.',
    }),
    run: (store) => {
      const vm = selectedVm(store.get());
      if (vm !== undefined) store.set({ dialog: { kind: 'edit', vm } });
    },
  },
  {
    id: 'delete',
    label: 'Delete',
    icon: 'trash',
    key: 'Delete',
    group: 'machine',
    danger: true,
    when: (state) => {
      const vm = selectedVm(state);
      if (vm === undefined) return NO_VM;
      if (state.status !== 'connected') return 'Vitrine is not connected.';
      return vm.damaged || RESTING.includes(vm.state) ? true : 'Power it off first.';
    },
    run: verb('vm.delete', 'Deleting…', (vm) => ({
      title: `Delete “${vm.config.name}”?`,
      text: 'The machine leaves the library for good, and this cannot be undone. Kernels and disk images that it uses stay where they are.',
      button: 'Delete',
      danger: true,
    })),
  },
  {
    id: 'new',
    label: 'New VM',
    icon: 'plus',
    key: 'N',
    group: 'library',
    when: (state) => (state.status === 'connected' ? true : 'Vitrine is not connected.'),
    run: (store) => store.set({ dialog: { kind: 'create' } }),
  },
  {
    id: 'library',
    label: 'Go to the library',
    icon: 'list',
    key: 'L',
    group: 'library',
    when: (state) => (state.vms.length > 0 ? true : 'The library is empty.'),
    run: () => document.querySelector<HTMLElement>('.library [aria-current="true"]')?.focus(),
  },
  {
    id: 'console',
    label: 'Type into the console',
    icon: 'terminal',
    key: 'J',
    group: 'console',
    when: needsConsole,
    run: (store) => store.get().console?.focus(),
  },
  {
    id: 'search',
    label: 'Search',
    icon: 'search',
    key: 'F',
    group: 'console',
    when: needsConsole,
    run: (store) => store.get().console?.search(),
  },
  {
    id: 'copy',
    label: 'Copy',
    icon: 'copy',
    key: 'C',
    inConsole: true,
    group: 'console',
    when: needsConsole,
    run: (store) => store.get().console?.copy(),
  },
  {
    id: 'paste',
    label: 'Paste',
    icon: 'paste',
    key: 'V',
    inConsole: true,
    group: 'console',
    when: needsConsole,
    run: (store) => store.get().console?.paste(),
  },
  {
    id: 'save-log',
    label: 'Save log',
    icon: 'save',
    key: 'D',
    group: 'console',
    when: needsConsole,
    run: (store) => store.get().console?.saveLog(),
  },
  {
    id: 'clear',
    label: 'Clear',
    icon: 'clear',
    key: 'K',
    group: 'console',
    when: needsConsole,
    run: (store) => store.get().console?.clear(),
  },
  {
    id: 'screen-reader',
    label: 'Screen reader mode',
    icon: 'reader',
    key: 'A',
    group: 'console',
    when: () => true,
    run: (store) => store.prefer({ screenReader: !store.get().preferences.screenReader }),
  },
  ...[0, 1, 2, 3].map((port): Action => ({
    id: `com${port + 1}`,
    label: `Show COM${port + 1}`,
    icon: 'terminal',
    key: String(port + 1),
    group: 'console',
    when: (state) => (selectedVm(state) === undefined ? NO_VM : true),
    run: (store) => {
      const { selected, ports } = store.get();
      if (selected !== undefined) store.set({ ports: { ...ports, [selected]: port } });
    },
  })),
  {
    id: 'exits',
    label: 'Exits',
    icon: 'exits',
    key: 'X',
    group: 'inside',
    when: (state) => (selectedVm(state) === undefined ? NO_VM : true),
    run: (store) => store.prefer({ exits: !store.get().preferences.exits }),
  },
  {
    id: 'glass',
    label: 'Glass',
    icon: 'glass',
    key: 'I',
    group: 'inside',
    when: (state) => (selectedVm(state) === undefined ? NO_VM : true),
    run: (store) => store.prefer({ glass: !store.get().preferences.glass }),
  },
  step('step', 'Step', 'stepInto', 'W', 'into'),
  step('step-over', 'Step over', 'stepOver', 'Y', 'over'),
  step('step-out', 'Step out', 'stepOut', 'U', 'out'),
  {
    id: 'hold-exits',
    label: 'Hold the exits',
    icon: 'pause',
    key: 'H',
    group: 'inside',
    when: (state) =>
      state.preferences.exits && selectedVm(state) !== undefined ? true : 'Show the exits first.',
    run: (store) => store.set({ exitsHeld: !store.get().exitsHeld }),
  },
  {
    id: 'snapshots',
    label: 'Snapshots',
    icon: 'snapshots',
    key: 'Z',
    group: 'inside',
    when: (state) => (selectedVm(state) === undefined ? NO_VM : true),
    run: (store) => store.prefer({ snapshots: !store.get().preferences.snapshots }),
  },
  {
    id: 'theme',
    label: 'Light or dark',
    icon: 'theme',
    key: 'T',
    group: 'window',
    when: () => true,
    run: (store) => {
      const next = { system: 'light', light: 'dark', dark: 'system' } as const;
      store.prefer({ theme: next[store.get().preferences.theme] });
    },
  },
  {
    id: 'help',
    label: 'Help and shortcuts',
    icon: 'help',
    key: '?',
    group: 'window',
    when: () => true,
    run: (store) => store.set({ dialog: { kind: 'help' } }),
  },
];

const byId = new Map(actions.map((action) => [action.id, action]));

export function action(id: string): Action {
  const found = byId.get(id);
  if (found === undefined) throw new Error(`There is no action "${id}".`);
  return found;
}

/** The action that a key means now: of those that share it, the one that the state allows, else the first. */
export function actionForKey(key: string, inConsole: boolean, state: AppState): Action | undefined {
  const sharing = actions.filter((each) => each.key === key && (!each.inConsole || inConsole));
  return sharing.find((each) => each.when(state) === true) ?? sharing[0];
}

/** Runs an action if the state allows it; otherwise says why not. */
export function perform(store: Store, chosen: Action): void {
  const allowed = chosen.when(store.get());
  if (allowed === true) chosen.run(store);
  else store.notice(`${chosen.label}: ${allowed}`);
}

/** The actions of a machine that fit its state: Pause and Resume share a place. */
export function machineActions(state: AppState): Action[] {
  const paused = selectedVm(state)?.state === 'paused';
  return actions.filter((each) => each.group === 'machine' && each.id !== (paused ? 'pause' : 'resume'));
}

/** Those, and what is wanted too rarely for a button of its own. */
export function menuActions(state: AppState): Action[] {
  return [...machineActions(state), action('gdb')];
}
