import { mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { LocalSocket } from '../../../main/service/local-socket.ts';
import { localSocketPath } from '../../../main/service/paths.ts';
import { Service } from '../../../main/service/service.ts';
import { snapshotCommand } from '../../../main/service/snapshot-command.ts';
import { Console } from '../machine/console.ts';

const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'vitrine-snapshots-'));
const service = await Service.open({ folder });
const disk = join(folder, 'disk.img');
writeFileSync(disk, Buffer.alloc(MIB));
const config = {
  name: 'Calc',
  guest: { kind: 'calc' as const },
  memory: 8 * MIB,
  backend: 'emulated' as const,
};
const { id } = await service.call('vm.create', { ...config, disks: [{ path: disk }] });
const console = new Console(service.serial(id, 0));
const snapshots = join(folder, 'vms', id, 'snapshots');

afterAll(async () => {
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

async function take(name: string): Promise<string> {
  const { snapshot, pausedMs } = await service.call('snapshot.take', { id, name });
  expect(snapshot).toMatchObject({ name, current: true, backend: 'emulated' });
  expect(pausedMs).toBeGreaterThan(0);
  return snapshot.id;
}

const restore = (snapshot: string) => service.call('snapshot.restore', { id, snapshot });

describe('snapshots of a VM', () => {
  it('form a tree, go back and forth, and keep what others need', { timeout: 120_000 }, async () => {
    await expect(service.call('snapshot.take', { id })).rejects.toThrow('"Calc" is off');
    await service.call('vm.start', { id });
    await console.wait('\n> ');
    console.type('6 *');
    await console.wait('6 *');
    const first = await take('first');
    console.type(' 2\r');
    await console.wait('12');
    const second = await take('second');
    await restore(first);
    console.type(' 7\r');
    await console.wait('42');
    const third = await take('third');
    const tree = await service.call('snapshot.list', { id });
    expect(tree.map(({ name, parent, current }) => ({ name, parent, current }))).toEqual([
      { name: 'first', parent: null, current: false },
      { name: 'second', parent: first, current: false },
      { name: 'third', parent: first, current: true },
    ]);
    expect(tree[1]!.console).toContain('12');

    const difference = await service.call('snapshot.diff', { id, snapshot: second, other: third });
    expect(difference.pages).toBeGreaterThan(0);
    expect(difference.bytes).toBeGreaterThan(0);
    expect(difference.registers.map(({ name }) => name)).toContain(
      'vcpus.0.registers.msrs.IA32_TIME_STAMP_COUNTER',
    );
    expect((await service.call('snapshot.diff', { id, snapshot: first, other: first })).pages).toBe(0);

    // The first one's pages are needed by the others: it goes, they stay.
    await service.call('snapshot.delete', { id, snapshot: first });
    expect(readdirSync(snapshots)).toContain(`.kept-${first}`);
    expect((await service.call('snapshot.list', { id })).map(({ parent }) => parent)).toEqual([null, null]);
    expect(await service.call('snapshot.verify', { id, snapshot: second })).toEqual({ wrong: null });
    await service.call('vm.powerOff', { id });
    await restore(second);
    console.type('5 * 5\r');
    await console.wait('25');

    const { id: clone } = await service.call('snapshot.clone', { id, snapshot: third, name: 'Clone' });
    await service.call('snapshot.delete', { id, snapshot: second });
    await service.call('snapshot.delete', { id, snapshot: third });
    expect(readdirSync(snapshots)).toEqual([]);
    await service.call('snapshot.restore', { id: clone, snapshot: third });
    const other = new Console(service.serial(clone, 0));
    other.type('9 * 9\r');
    await other.wait('81');
    await service.call('vm.powerOff', { id: clone });
    await service.call('vm.powerOff', { id });
  });

  it('refuse a disk that is missing or was changed', { timeout: 60_000 }, async () => {
    await service.call('vm.start', { id });
    await console.wait('\n> ');
    const snapshot = await take('with disk');
    renameSync(disk, `${disk}.away`);
    await expect(restore(snapshot)).rejects.toThrow(/disk\.img is missing\. Put the image back/);
    renameSync(`${disk}.away`, disk);
    writeFileSync(disk, Buffer.alloc(MIB, 1));
    await expect(restore(snapshot)).rejects.toThrow(/disk\.img was changed at/);
    await expect(service.call('snapshot.show', { id, snapshot: 'nobody' })).rejects.toThrow(
      'There is no snapshot',
    );
    await service.call('vm.powerOff', { id });
    await expect(restore(snapshot)).rejects.toThrow(/disk\.img was changed at/);
    expect((await service.call('vm.list', {})).find((vm) => vm.id === id)!.state).toBe('failed');
    await service.call('snapshot.delete', { id, snapshot });
  });

  it('are worked with from the command line', { timeout: 60_000 }, async () => {
    const socket = await LocalSocket.open(localSocketPath(folder), service);
    const run = async (command: string, ...args: string[]) => {
      const [output, errors] = [new PassThrough(), new PassThrough()];
      const status = await snapshotCommand(command, args, { output, errors, library: folder });
      return { status, output: String(output.read() ?? ''), errors: String(errors.read() ?? '') };
    };
    try {
      await service.call('vm.start', { id });
      expect(await run('snapshot', 'take', 'Calc', 'one')).toMatchObject({ status: 0 });
      const { output } = await run('snapshot', 'list', 'Calc', '--json');
      expect(JSON.parse(output)).toMatchObject([{ name: 'one', current: true }]);
      await service.call('vm.pause', { id });
      const file = join(folder, 'vcpu.json');
      expect(await run('vcpu', 'save', 'Calc', file)).toMatchObject({ status: 0 });
      expect(await run('vcpu', 'load', 'Calc', file)).toMatchObject({ status: 0 });
      expect((await run('vcpu', 'diff', file, file)).output).toBe('no difference\n');
      expect(await run('restore', 'Calc', 'one')).toMatchObject({ status: 0 });
      expect((await run('snapshot', 'delete', 'Calc', 'two')).errors).toContain('There is no snapshot "two"');
      expect((await run('snapshot', 'explode')).status).toBe(2);
      expect((await run('switch', 'Calc', 'emulated')).output).toBe('emulated\n');
      await service.call('vm.powerOff', { id });
    } finally {
      await socket.close();
    }
  });
});
