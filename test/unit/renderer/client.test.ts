import { describe, expect, it, vi } from 'vitest';
import { takeToken } from '../../../renderer/transport.ts';
import { FakeService, settle, vm } from './fake-service.ts';

describe('the client', () => {
  it('resolves a request with its own reply, whatever the order', async () => {
    const service = new FakeService().open();
    const list = service.client.request('vm.list', {});
    const start = service.client.request('vm.start', { id: 'a' });
    await service.reply('vm.start', {});
    await service.reply('vm.list', [vm('a')]);
    expect(await list).toEqual([vm('a')]);
    expect(await start).toEqual({});
  });

  it('rejects with the kind and sentence of the service', async () => {
    const service = new FakeService().open();
    const start = service.client.request('vm.start', { id: 'a' });
    start.catch(() => undefined);
    await service.refuse('vm.start', 'wrong-state', '"a" is running.');
    await expect(start).rejects.toMatchObject({ kind: 'wrong-state', message: '"a" is running.' });
  });

  it('rejects a result that breaks the contract', async () => {
    const service = new FakeService().open();
    const list = service.client.request('vm.list', {});
    list.catch(() => undefined);
    await service.reply('vm.list', [{ id: 7 }]);
    await expect(list).rejects.toMatchObject({ kind: 'internal' });
  });

  it('drops malformed and unknown messages and goes on', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const service = new FakeService().open();
    const heard: unknown[] = [];
    service.client.on('vm.removed', (data) => heard.push(data));
    for (const message of [
      null,
      7,
      'x',
      {},
      { call: 'x' },
      { event: 'toString', data: {} },
      { call: 99, result: 1 },
    ]) {
      service.listener.message(message);
    }
    service.event('vm.removed', { id: 3 });
    service.event('vm.removed', { id: 'a' });
    expect(heard).toEqual([{ id: 'a' }]);
    warn.mockRestore();
  });

  it('refuses requests while there is no connection', async () => {
    const service = new FakeService();
    await expect(service.client.request('vm.list', {})).rejects.toMatchObject({ kind: 'disconnected' });
    expect(service.sent).toEqual([]);
  });

  it('rejects what is under way when the connection is lost, and connects again', async () => {
    const service = new FakeService().open();
    const said: string[] = [];
    service.client.onStatus((status) => said.push(status));
    const start = service.client.request('vm.start', { id: 'a' });
    start.catch(() => undefined);
    service.listener.closed();
    await expect(start).rejects.toMatchObject({ kind: 'disconnected' });
    await vi.waitFor(() => expect(service.listeners.length).toBe(2));
    service.listener.opened();
    expect(said).toEqual(['lost', 'connected']);
  });

  it('ignores what an earlier connection still says', async () => {
    const service = new FakeService().open();
    const first = service.listener;
    first.closed();
    await vi.waitFor(() => expect(service.listeners.length).toBe(2));
    service.listener.opened();
    const heard: unknown[] = [];
    service.client.on('vm.removed', (data) => heard.push(data));
    first.message({ event: 'vm.removed', data: { id: 'a' } });
    first.closed();
    await settle();
    expect(heard).toEqual([]);
    expect(service.client.status).toBe('connected');
  });

  it('stops calling a handler that was taken off', () => {
    const service = new FakeService().open();
    const heard: unknown[] = [];
    const stop = service.client.on('vm.removed', (data) => heard.push(data));
    stop();
    service.event('vm.removed', { id: 'a' });
    expect(heard).toEqual([]);
  });
});

describe('the token', () => {
  const cases = [
    { name: 'from the address', hash: '#token=abc', kept: undefined, wanted: 'abc', cleaned: true },
    { name: 'from the session after a reload', hash: '', kept: 'abc', wanted: 'abc', cleaned: false },
    { name: 'a newer address wins', hash: '#token=new', kept: 'old', wanted: 'new', cleaned: true },
    { name: 'none', hash: '#other=1', kept: undefined, wanted: '', cleaned: false },
  ];
  it.each(cases)('$name', ({ hash, kept, wanted, cleaned }) => {
    const store = new Map<string, string>(kept === undefined ? [] : [['vitrine.token', kept]]);
    const replaced: unknown[] = [];
    const token = takeToken({
      location: { hash, pathname: '/', search: '?x' },
      history: { replaceState: (_state, _title, url) => void replaced.push(url) },
      sessionStorage: {
        getItem: (key) => store.get(key) ?? null,
        setItem: (key, value) => void store.set(key, value),
      },
    });
    expect(token).toBe(wanted);
    expect(replaced).toEqual(cleaned ? ['/?x'] : []);
    if (wanted !== '') expect(store.get('vitrine.token')).toBe(wanted);
  });
});
