import { describe, expect, it } from 'vitest';
import { Store, selectedVm } from '../../../renderer/store.ts';
import { clampSidebar, loadPreferences } from '../../../renderer/preferences.ts';
import { FakeService, memoryStorage, settle, vm } from './fake-service.ts';

async function connected(list = [vm('a'), vm('b')]) {
  const service = new FakeService();
  const storage = memoryStorage();
  const store = new Store(service.client, storage);
  service.open();
  await service.reply('vm.list', list);
  return { service, store, storage };
}

describe('the store', () => {
  it('asks for everything once connected, and selects something', async () => {
    const { service, store } = await connected([vm('b'), vm('a')]);
    await service.reply('host.backends', [{ name: 'emulated', available: true }]);
    await service.reply('host.info', { version: '1', platform: 'Linux', library: '/x' });
    expect(store.get().vms.map(({ id }) => id)).toEqual(['a', 'b']);
    expect(store.get().loaded).toBe(true);
    expect(selectedVm(store.get())?.id).toBe('a');
    expect(store.get().host?.platform).toBe('Linux');
  });

  it('follows events: a change, a new machine, one that goes', async () => {
    const { service, store } = await connected();
    service.event('vm.changed', vm('a', 'running'));
    service.event('vm.changed', vm('c', 'starting'));
    service.event('vm.removed', { id: 'b' });
    expect(store.get().vms.map(({ id, state }) => `${id} ${state}`)).toEqual(['a running', 'c starting']);
  });

  it('trusts an event over a list that was already on its way', async () => {
    const service = new FakeService();
    const store = new Store(service.client, memoryStorage());
    service.open();
    service.event('vm.changed', vm('a', 'running'));
    service.event('vm.removed', { id: 'b' });
    await service.reply('vm.list', [vm('a', 'off'), vm('b', 'off'), vm('c', 'off')]);
    expect(store.get().vms.map(({ id, state }) => `${id} ${state}`)).toEqual(['a running', 'c off']);
  });

  it('selects the neighbour of a machine that goes away', async () => {
    const { service, store } = await connected([vm('a'), vm('b'), vm('c')]);
    store.select('b');
    service.event('vm.removed', { id: 'b' });
    expect(store.get().selected).toBe('c');
    service.event('vm.removed', { id: 'c' });
    expect(store.get().selected).toBe('a');
    service.event('vm.removed', { id: 'a' });
    expect(store.get().selected).toBeUndefined();
  });

  it('asks anew after the connection was lost', async () => {
    const { service, store } = await connected();
    service.listener.closed();
    expect(store.get().status).toBe('lost');
    expect(store.get().vms.length).toBe(2);
    service.open();
    await service.reply('vm.list', [vm('a', 'crashed')]);
    expect(store.get().vms.map(({ id, state }) => `${id} ${state}`)).toEqual(['a crashed']);
  });

  it('shows what is under way, and the sentence when it fails', async () => {
    const { service, store } = await connected();
    const done = store.run('a', 'Starting…', () => service.client.request('vm.start', { id: 'a' }));
    expect(store.get().busy).toEqual({ a: 'Starting…' });
    await service.refuse('vm.start', 'host', '/no/kernel: no such file.');
    expect(await done).toBe(false);
    expect(store.get().busy).toEqual({});
    expect(store.get().alerts.map(({ subject, text }) => `${subject}: ${text}`)).toEqual([
      'Machine a: /no/kernel: no such file.',
    ]);
    store.dismiss(store.get().alerts[0]!.id);
    expect(store.get().alerts).toEqual([]);
  });

  it('shows the same alert once, and only the last few', async () => {
    const { store } = await connected();
    for (const text of ['1', '1', '2', '3', '4', '5']) store.alert(text);
    expect(store.get().alerts.map(({ text }) => text)).toEqual(['2', '3', '4', '5']);
  });

  it('remembers preferences and the selection', async () => {
    const { store, storage } = await connected();
    store.prefer({ theme: 'dark', sidebar: 300 });
    store.select('b');
    await settle();
    expect(loadPreferences(storage)).toMatchObject({ theme: 'dark', sidebar: 300, selected: 'b' });
  });
});

describe('preferences', () => {
  const whole = { theme: 'system', sidebar: 264, screenReader: false, letterKeys: true };
  const cases = [
    { name: 'none', stored: null, wanted: whole },
    { name: 'not JSON', stored: '{', wanted: whole },
    { name: 'not an object', stored: '7', wanted: whole },
    {
      name: 'one bad field',
      stored: '{"theme":"pink","screenReader":true}',
      wanted: { ...whole, screenReader: true },
    },
    { name: 'too wide', stored: '{"sidebar":9000}', wanted: { ...whole, sidebar: 440 } },
  ];
  it.each(cases)('$name', ({ stored, wanted }) => {
    expect(loadPreferences({ getItem: () => stored })).toMatchObject(wanted);
  });

  it('keeps the library between its limits', () => {
    expect([-5, 250.4, 1e9].map(clampSidebar)).toEqual([200, 250, 440]);
  });
});
