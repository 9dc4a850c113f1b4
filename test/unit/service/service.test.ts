import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MachineError } from '../../../main/machine/errors.ts';
import type { VmInfo } from '../../../main/service/contract.ts';
import { describeError } from '../../../main/service/errors.ts';
import { Service } from '../../../main/service/service.ts';
import { FakeMachine, temporaryFolder } from './fakes.ts';

const calculator = { name: 'One', guest: { kind: 'calc' }, memory: 2 ** 24 };

async function open(folder = temporaryFolder()) {
  const machines: FakeMachine[] = [];
  const makeMachine = () => {
    const machine = new FakeMachine();
    machines.push(machine);
    return machine;
  };
  const service = await Service.open({ folder, makeMachine });
  const said: string[] = [];
  service.on((event, data) =>
    said.push('state' in data ? `${data.config.name} ${data.state}` : `${event} ${data.id}`),
  );
  return { service, machines, said, folder };
}

/** What a call fails with, as a front end sees it. */
async function failure(promise: Promise<unknown>) {
  return promise.then(
    () => 'no failure',
    (error: unknown) => describeError(error),
  );
}

describe('the first start', () => {
  test('gives a newcomer the calculator, once', async () => {
    const { service, folder } = await open();
    const [first, ...others] = await service.call('vm.list', {});
    expect(first).toMatchObject({
      id: 'calculator',
      config: { name: 'Calculator', guest: { kind: 'calc' } },
      state: 'off',
    });
    expect(others).toEqual([]);
    await service.call('vm.delete', { id: 'calculator' });
    await service.close();
    const again = await open(folder);
    expect(await again.service.call('vm.list', {})).toEqual([]);
    await again.service.close();
  });

  test('leaves a library alone that has VMs already', async () => {
    const folder = temporaryFolder();
    const config = { ...calculator, vcpus: 1, backend: 'auto', disks: [] };
    mkdirSync(join(folder, 'vms', 'mine'), { recursive: true });
    writeFileSync(
      join(folder, 'vms', 'mine', 'vm.json'),
      JSON.stringify({ format: 1, createdAt: 5, config }),
    );
    const { service } = await open(folder);
    expect((await service.call('vm.list', {})).map(({ id }) => id)).toEqual(['mine']);
    await service.close();
  });
});

describe('input is checked', () => {
  const cases: { name: string; method: string; params: unknown; wanted: RegExp }[] = [
    { name: 'unknown request', method: 'vm.explode', params: {}, wanted: /no request "vm.explode"/ },
    { name: 'a property of every object', method: 'toString', params: {}, wanted: /no request/ },
    { name: 'no parameters', method: 'vm.start', params: undefined, wanted: /vm.start/ },
    { name: 'id of another type', method: 'vm.start', params: { id: 7 }, wanted: /id/ },
    { name: 'endless id', method: 'vm.start', params: { id: 'x'.repeat(65) }, wanted: /id/ },
    { name: 'empty name', method: 'vm.create', params: { ...calculator, name: '  ' }, wanted: /name/ },
    {
      name: 'name too long',
      method: 'vm.create',
      params: { ...calculator, name: 'n'.repeat(81) },
      wanted: /name/,
    },
    {
      name: 'too little memory',
      method: 'vm.create',
      params: { ...calculator, memory: 2 ** 20 },
      wanted: /memory/,
    },
    {
      name: 'too much memory',
      method: 'vm.create',
      params: { ...calculator, memory: 2 ** 33 },
      wanted: /memory/,
    },
    {
      name: 'odd memory',
      method: 'vm.create',
      params: { ...calculator, memory: 2 ** 24 + 1 },
      wanted: /memory/,
    },
    { name: 'memory NaN', method: 'vm.create', params: { ...calculator, memory: NaN }, wanted: /memory/ },
    { name: 'two vCPUs', method: 'vm.create', params: { ...calculator, vcpus: 2 }, wanted: /vcpus/ },
    {
      name: 'unknown backend',
      method: 'vm.create',
      params: { ...calculator, backend: 'xen' },
      wanted: /backend/,
    },
    {
      name: 'unknown guest',
      method: 'vm.create',
      params: { ...calculator, guest: { kind: 'iso' } },
      wanted: /guest/,
    },
    {
      name: 'linux without a kernel',
      method: 'vm.create',
      params: { ...calculator, guest: { kind: 'linux' } },
      wanted: /guest.kernel/,
    },
  ];
  test.each(cases)('$name', async ({ method, params, wanted }) => {
    const { service, said } = await open();
    expect(await failure(service.call(method, params))).toEqual({
      kind: 'invalid',
      message: expect.stringMatching(wanted) as unknown,
    });
    expect(said).toEqual([]);
    await service.close();
  });
});

describe('gdb', () => {
  test('listens until it is stopped, and is told to everybody', async () => {
    const { service, said } = await open();
    const { id } = await service.call('vm.create', { ...calculator, guest: { kind: 'calc' } });
    const started = await service.call('gdb.start', { id });
    expect(started.address).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(started.command).toBe(`gdb -ex 'target remote ${started.address}'`);
    expect(service.list().find((vm) => vm.id === id)?.gdb).toEqual(started);
    expect(await service.call('gdb.start', { id })).toEqual(started);
    expect(await failure(service.call('gdb.start', { id, address: '127.0.0.1:1' }))).toMatchObject({
      kind: 'wrong-state',
      message: expect.stringContaining(`listens for gdb at ${started.address}`) as unknown,
    });
    await service.call('gdb.stop', { id });
    await service.call('gdb.stop', { id });
    expect(service.list().find((vm) => vm.id === id)?.gdb).toBeUndefined();
    expect(said).toHaveLength(3);
    await service.close();
  });

  test('others are let in only where they were asked in, with a warning', async () => {
    const { service } = await open();
    const { id } = await service.call('vm.create', { ...calculator, guest: { kind: 'calc' } });
    const { address, warning } = await service.call('gdb.start', { id, address: '0.0.0.0:0' });
    expect([address.split(':')[0], warning]).toEqual(['0.0.0.0', expect.stringContaining('no password')]);
    await service.call('vm.delete', { id });
    await service.close();
  });

  test.each([
    { name: 'an address that is none', address: 'nowhere', wanted: /HOST:PORT/ },
    {
      name: 'a folder that is not there',
      address: 'unix:/nowhere/gdb',
      wanted: /Can't listen for gdb at \/nowhere/,
    },
    {
      name: 'an address of somebody else',
      address: '192.0.2.1:0',
      wanted: /Can't listen for gdb at 192\.0\.2\.1/,
    },
  ])('$name', async ({ address, wanted }) => {
    const { service } = await open();
    const { id } = await service.call('vm.create', { ...calculator, guest: { kind: 'calc' } });
    expect(await failure(service.call('gdb.start', { id, address }))).toMatchObject({
      message: expect.stringMatching(wanted) as unknown,
    });
    await service.close();
  });

  test('a machine waits for it before its first instruction', async () => {
    const { service, machines } = await open();
    const { id } = await service.call('vm.create', { ...calculator, guest: { kind: 'calc' } });
    await service.call('vm.start', { id, paused: true });
    expect(machines.at(-1)!.started).toMatchObject({ startPaused: true });
    await service.close();
  });
});

describe('the life of a VM', () => {
  test('is told to everybody as it happens', async () => {
    const { service, said, machines } = await open();
    const { id } = await service.call('vm.create', { ...calculator, guest: { kind: 'calc' } });
    await service.call('vm.start', { id });
    await service.call('vm.pause', { id });
    await service.call('vm.resume', { id });
    await service.call('vm.reset', { id });
    await service.call('vm.powerOff', { id });
    await service.call('vm.delete', { id });
    expect(said).toEqual([
      'One off',
      'One starting',
      'One running',
      'One paused',
      'One running',
      'One running',
      'One stopping',
      'One off',
      `vm.removed ${id}`,
    ]);
    expect(machines.at(-1)!.disposed).toBe(true);
    await service.close();
  });

  // What each verb does in each state: the states in which it is refused, with the VM's name in the sentence.
  const states = ['off', 'starting', 'running', 'paused', 'stopping', 'crashed', 'failed'] as const;
  const works: Record<string, readonly string[]> = {
    'vm.start': ['off', 'crashed', 'failed'],
    'vm.pause': ['running'],
    'vm.resume': ['paused'],
    'vm.reset': ['running', 'paused', 'crashed'],
    'vm.powerOff': ['starting', 'running', 'paused', 'stopping', 'crashed'],
    'vm.powerButton': ['running'],
    'vm.delete': ['off', 'crashed', 'failed'],
  };
  const cases = Object.keys(works).flatMap((verb) => states.map((state) => ({ verb, state })));
  test.each(cases)('$verb of a VM that is $state', async ({ verb, state }) => {
    const { service, machines } = await open();
    machines[0]!.become({ state });
    const wanted = works[verb]!.includes(state)
      ? 'no failure'
      : { kind: 'wrong-state', message: expect.stringContaining(`"Calculator" is ${state}`) as unknown };
    expect(await failure(service.call(verb, { id: 'calculator' }))).toEqual(wanted);
    await service.close();
  });

  test('a VM whose process dies is shown as failed at once, and can be started again', async () => {
    const { service, machines, said } = await open();
    await service.call('vm.start', { id: 'calculator' });
    machines[0]!.become({
      state: 'failed',
      message: "The machine's process ended unexpectedly (signal SIGKILL).",
    });
    expect((await service.call('vm.list', {}))[0]).toMatchObject({ state: 'failed', message: /SIGKILL/ });
    await service.call('vm.start', { id: 'calculator' });
    expect(said.slice(-3)).toEqual(['Calculator failed', 'Calculator starting', 'Calculator running']);
    await service.close();
  });

  test('a start that fails says why, as the host', async () => {
    const { service, machines } = await open();
    machines[0]!.failure = new MachineError('host', '/boot/vmlinuz: there is no such file.');
    expect(await failure(service.call('vm.start', { id: 'calculator' }))).toEqual({
      kind: 'host',
      message: '/boot/vmlinuz: there is no such file.',
    });
    await service.close();
  });

  test('a name may be changed while it runs, and nothing else', async () => {
    const { service, machines } = await open();
    const config = { name: 'Renamed', guest: { kind: 'calc' as const }, memory: 2 ** 24 };
    await service.call('vm.start', { id: 'calculator' });
    const renamed = await service.call<'vm.update'>('vm.update', { id: 'calculator', config });
    expect(renamed.config.name).toBe('Renamed');
    const bigger = { ...config, memory: 2 ** 25 };
    expect(await failure(service.call('vm.update', { id: 'calculator', config: bigger }))).toMatchObject({
      kind: 'wrong-state',
    });
    await service.call('vm.powerOff', { id: 'calculator' });
    await service.call('vm.update', { id: 'calculator', config: bigger });
    await service.call('vm.start', { id: 'calculator' });
    expect(machines[0]!.started?.memory).toBe(2 ** 25);
    await service.close();
  });

  test('a VM that does not exist is said to be gone', async () => {
    const { service } = await open();
    for (const verb of ['vm.start', 'vm.delete', 'vm.powerOff']) {
      expect(await failure(service.call(verb, { id: 'vm-none' }))).toMatchObject({ kind: 'not-found' });
    }
    await service.close();
  });

  test('a deleted VM is gone for a start that comes while its files go', async () => {
    const { service } = await open();
    const deleted = service.call('vm.delete', { id: 'calculator' });
    expect(await failure(service.call('vm.start', { id: 'calculator' }))).toMatchObject({
      kind: 'not-found',
    });
    await deleted;
    await service.close();
  });

  test('a damaged VM is listed with its reason, does nothing, and can be deleted', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'vms', 'broken'), { recursive: true });
    writeFileSync(join(folder, 'vms', 'broken', 'vm.json'), '{');
    const { service, said } = await open(folder);
    const [broken] = (await service.call('vm.list', {})) as [VmInfo];
    expect(broken).toMatchObject({
      id: 'broken',
      state: 'failed',
      damaged: true,
      message: /vm\.json can't be read/,
    });
    expect(await failure(service.call('vm.start', { id: 'broken' }))).toMatchObject({
      kind: 'wrong-state',
      message: expect.stringContaining('damaged') as unknown,
    });
    await service.call('vm.delete', { id: 'broken' });
    expect(await service.call('vm.list', {})).toEqual([]);
    expect(said).toEqual(['vm.removed broken']);
    await service.close();
  });

  test('the end of the service is the end of every VM', async () => {
    const { service, machines } = await open();
    const { id } = await service.call('vm.create', { ...calculator, guest: { kind: 'calc' } });
    await service.call('vm.start', { id });
    await service.close();
    expect(machines.map(({ status, disposed }) => [status.state, disposed])).toEqual([
      ['off', true],
      ['off', true],
    ]);
    expect(await failure(service.call('vm.start', { id }))).toMatchObject({ kind: 'wrong-state' });
  });
});

test('the host says what works and where the library is', async () => {
  const { service, folder } = await open();
  expect(await service.call('host.info', {})).toEqual({
    version: expect.stringMatching(/^\d+\.\d+\.\d+$/) as unknown,
    platform: `${process.platform} ${process.arch}`,
    library: folder,
  });
  const reports = await service.call('host.backends', {});
  expect(reports.map(({ name }) => name).sort()).toEqual(['emulated', 'kvm', 'nvmm']);
  for (const { available, reason } of reports) expect(available).toBe(reason === undefined);
  await service.close();
});
