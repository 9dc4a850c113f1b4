import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { Client, namedVm } from '../../../main/service/client.ts';
import type { VmInfo } from '../../../main/service/contract.ts';
import { LocalSocket } from '../../../main/service/local-socket.ts';
import { localSocketPath } from '../../../main/service/paths.ts';
import { Service } from '../../../main/service/service.ts';
import { FakeMachine, temporaryFolder } from './fakes.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A service with its local socket, and a client of it. */
async function served() {
  const folder = temporaryFolder();
  const service = await Service.open({ folder, makeMachine: () => new FakeMachine() });
  closers.push(() => service.close());
  const local = await LocalSocket.open(localSocketPath(folder), service);
  closers.push(() => local.close());
  const client = await Client.connect(folder);
  closers.push(() => client.close());
  return { folder, service, local, client };
}

/** Something else that listens where a service would, and answers each line with these. */
async function impostor(answer: string): Promise<Client> {
  const folder = temporaryFolder();
  const server: Server = createServer((socket) => socket.on('data', () => socket.write(answer)));
  await new Promise<void>((resolve) => server.listen(localSocketPath(folder), resolve));
  closers.push(() => new Promise((resolve) => server.close(resolve)));
  const client = await Client.connect(folder);
  closers.push(() => client.close());
  return client;
}

describe('the client of the local socket', () => {
  test('asks, hears events, and finds a VM by id and by name', async () => {
    const { client } = await served();
    const heard: VmInfo[] = [];
    const stop = client.on('vm.changed', (info) => heard.push(info));
    const { id } = await client.vm('Calculator');
    await client.request('vm.start', { id });
    expect(heard.map(({ state }) => state)).toEqual(['starting', 'running']);
    expect((await client.vm(id)).state).toBe('running');
    stop();
    await client.request('vm.powerOff', { id });
    expect(heard).toHaveLength(2);
  });

  test('fails with what the service says', async () => {
    const { client } = await served();
    await expect(client.request('vm.start', { id: 'nobody' })).rejects.toMatchObject({
      kind: 'not-found',
      message: 'There is no VM nobody. It may have been deleted in another window.',
    });
    await expect(client.vm('nobody')).rejects.toThrow('There are: "Calculator" (calculator).');
  });

  test('says how to start a service when there is none', async () => {
    await expect(Client.connect(temporaryFolder())).rejects.toThrow(/Start it with: vitrine serve/);
  });

  test('fails what it waits for when the service goes away', async () => {
    const { client, local } = await served();
    const gone = client.request('vm.list', {}).then(() => client.request('vm.list', {}));
    await gone;
    await local.close();
    await expect(client.request('vm.list', {})).rejects.toMatchObject({ kind: 'host' });
  });

  const bad = [
    { name: 'a result of another shape', answer: '{"call":1,"result":7}\n', wanted: /of one version/ },
    {
      name: 'an error',
      answer: '{"call":1,"error":{"kind":"host","message":"no"}}\n',
      wanted: /^no$/,
    },
  ];
  test.each(bad)('takes $name', async ({ answer, wanted }) => {
    const client = await impostor(answer);
    await expect(client.request('vm.list', {})).rejects.toThrow(wanted);
  });
});

describe('a VM on the command line', () => {
  const vm = (id: string, name: string) => ({ id, config: { name } }) as VmInfo;
  const vms = [vm('one', 'Linux'), vm('two', 'Linux'), vm('Haiku', 'other'), vm('three', 'Haiku')];
  const cases = [
    { name: 'an id', text: 'two', wanted: 'two' },
    { name: 'a name', text: 'other', wanted: 'Haiku' },
    { name: 'an id that is a name, too', text: 'Haiku', wanted: 'Haiku' },
    {
      name: 'a name that two have',
      text: 'Linux',
      wanted: '2 VMs are named "Linux". Say which by its id: one, two.',
    },
  ];
  test.each(cases)('$name', ({ text, wanted }) => {
    let found: string;
    try {
      found = namedVm(vms, text).id;
    } catch (error) {
      found = (error as Error).message;
    }
    expect(found).toBe(wanted);
  });
});
