import { describe, expect, it } from 'vitest';
import { vmState } from '../../../main/service/contract.ts';
import type { VmState } from '../../../main/service/contract.ts';
import { action, actionForKey, actions, machineActions, perform } from '../../../renderer/actions.ts';
import { keyName, shortcut } from '../../../renderer/keyboard.ts';
import { Store } from '../../../renderer/store.ts';
import { FakeService, memoryStorage, vm } from './fake-service.ts';

async function storeWith(state: VmState, extra = {}) {
  const service = new FakeService();
  const store = new Store(service.client, memoryStorage());
  service.open();
  await service.reply('vm.list', [vm('a', state, extra)]);
  return { service, store };
}

/** What each state allows; the service has the same table. */
const allowed: Record<VmState, string[]> = {
  off: ['start', 'edit', 'delete'],
  starting: ['power-off'],
  running: ['pause', 'reset', 'power-button', 'power-off'],
  paused: ['resume', 'reset', 'power-off'],
  stopping: [],
  crashed: ['start', 'reset', 'power-off', 'edit', 'delete'],
  failed: ['start', 'edit', 'delete'],
};

describe('what a state allows', () => {
  it.each(vmState.options)('%s', async (state) => {
    const { store } = await storeWith(state);
    const machine = actions.filter(({ group }) => group === 'machine');
    const open = machine.filter((each) => each.when(store.get()) === true);
    expect(open.map(({ id }) => id)).toEqual(allowed[state]);
    for (const each of machine) {
      const verdict = each.when(store.get());
      if (verdict !== true) expect(verdict).toMatch(/^[A-Z].*\.$/);
    }
  });

  it('a damaged machine can only be deleted', async () => {
    const { store } = await storeWith('failed', { damaged: true });
    const open = machineActions(store.get()).filter((each) => each.when(store.get()) === true);
    expect(open.map(({ id }) => id)).toEqual(['delete']);
  });

  it('nothing while the connection is lost', async () => {
    const { service, store } = await storeWith('running');
    service.listener.closed();
    expect(machineActions(store.get()).filter((each) => each.when(store.get()) === true)).toEqual([]);
  });

  it('nothing without a machine', () => {
    const store = new Store(new FakeService().open().client, memoryStorage());
    expect(action('start').when(store.get())).toMatch(/create/);
  });
});

describe('what is lost is asked about first', () => {
  const cases = [
    { id: 'power-off', state: 'running', asks: true, method: 'vm.powerOff' },
    { id: 'delete', state: 'off', asks: true, method: 'vm.delete' },
    { id: 'reset', state: 'running', asks: true, method: 'vm.reset' },
    { id: 'reset', state: 'crashed', asks: false, method: 'vm.reset' },
    { id: 'pause', state: 'running', asks: false, method: 'vm.pause' },
    { id: 'resume', state: 'paused', asks: false, method: 'vm.resume' },
    { id: 'power-button', state: 'running', asks: false, method: 'vm.powerButton' },
    { id: 'start', state: 'off', asks: false, method: 'vm.start' },
  ] as const;
  it.each(cases)('$id when $state', async ({ id, state, asks, method }) => {
    const { service, store } = await storeWith(state);
    perform(store, action(id));
    expect(service.count(method)).toBe(asks ? 0 : 1);
    if (!asks) return;
    const { dialog } = store.get();
    if (dialog?.kind !== 'confirm') throw new Error('no question was asked');
    expect(dialog.question.title).toContain('Machine a');
    dialog.question.run();
    expect(service.last(method).params).toEqual({ id: 'a' });
  });

  it('says why when the state does not allow it, and sends nothing', async () => {
    const { service, store } = await storeWith('off');
    perform(store, action('pause'));
    expect(service.count('vm.pause')).toBe(0);
    expect(store.get().notice).toMatch(/Only a running machine/);
  });
});

describe('keys', () => {
  it('are not given twice, except to actions that never fit at once', () => {
    const pairs = actions.map((each) => `${each.key}${each.inConsole ? ' in the console' : ''}`);
    const twice = pairs.filter((key, place) => pairs.indexOf(key) !== place);
    expect(twice).toEqual(['P']);
  });

  it('mean what the state allows', async () => {
    const running = await storeWith('running');
    const paused = await storeWith('paused');
    expect(actionForKey('P', false, running.store.get())?.id).toBe('pause');
    expect(actionForKey('P', false, paused.store.get())?.id).toBe('resume');
    expect(actionForKey('C', false, paused.store.get())).toBeUndefined();
    expect(actionForKey('C', true, paused.store.get())?.id).toBe('copy');
  });

  const none = { key: '', code: '', ctrlKey: false, shiftKey: false, altKey: false, metaKey: false };
  const both = { ctrlKey: true, shiftKey: true };
  const cases = [
    { name: 'a letter in the window', press: { key: 's', code: 'KeyS' }, focus: 'window', wanted: 'S' },
    {
      name: 'a letter in the console',
      press: { key: 's', code: 'KeyS' },
      focus: 'console',
      wanted: undefined,
    },
    { name: 'a letter in a field', press: { key: 's', code: 'KeyS' }, focus: 'text', wanted: undefined },
    {
      name: 'Ctrl+Shift in the console',
      press: { key: 'S', code: 'KeyS', ...both },
      focus: 'console',
      wanted: 'S',
    },
    {
      name: 'Ctrl+Shift+2 by its place',
      press: { key: '@', code: 'Digit2', ...both },
      focus: 'console',
      wanted: '2',
    },
    { name: 'a Cyrillic layout', press: { key: 'ы', code: 'KeyS' }, focus: 'window', wanted: 'S' },
    {
      name: 'a question mark',
      press: { key: '?', code: 'Slash', shiftKey: true },
      focus: 'window',
      wanted: '?',
    },
    { name: 'Ctrl+F', press: { key: 'f', code: 'KeyF', ctrlKey: true }, focus: 'console', wanted: 'F' },
    {
      name: 'Ctrl+C goes to the guest',
      press: { key: 'c', code: 'KeyC', ctrlKey: true },
      focus: 'console',
      wanted: undefined,
    },
    {
      name: 'Alt is not ours',
      press: { key: 's', code: 'KeyS', altKey: true },
      focus: 'window',
      wanted: undefined,
    },
    { name: 'Delete', press: { key: 'Delete', code: 'Delete' }, focus: 'window', wanted: 'Delete' },
  ] as const;
  it.each(cases)('$name', ({ press, focus, wanted }) => {
    expect(shortcut({ ...none, ...press }, focus, true)).toBe(wanted);
  });

  it('by themselves can be switched off', () => {
    expect(shortcut({ ...none, key: 's', code: 'KeyS' }, 'window', false)).toBeUndefined();
    expect(shortcut({ ...none, key: 'S', code: 'KeyS', ...both }, 'window', false)).toBe('S');
    expect(keyName({ ...none, key: 's' })).toBe('S');
  });
});
