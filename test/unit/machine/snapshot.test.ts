import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { backends } from '../../../main/machine/backends.ts';
import { MachineProcess } from '../../../main/machine/machine-process.ts';
import type { MachineConfig, SnapshotOrder } from '../../../main/machine/protocol.ts';
import { memoryOf, readSnapshot } from '../../../main/machine/snapshot/restore.ts';
import { Console } from './console.ts';

const here = backends.filter((backend) => backend.unavailable() === null).map(({ name }) => name);
const folder = mkdtempSync(join(tmpdir(), 'vitrine-snapshots-'));
const MIB = 2 ** 20;
const config: MachineConfig = {
  ...{ name: 'calc', guest: { kind: 'calc' }, memory: 8 * MIB, vcpus: 1, disks: [], backend: 'emulated' },
};
const machine = new MachineProcess();
const console = new Console(machine.serial[0]);
let number = 0;

afterEach(() => machine.powerOff());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function order(parent: string | null = null, more: Partial<SnapshotOrder> = {}): SnapshotOrder {
  const id = `s${++number}`;
  mkdirSync(join(folder, id));
  const title = { id, name: id, createdAt: 0, parent: null, writtenBy: 'test', console: '' };
  const order = { folder: join(folder, id), title, config, parent: null, layers: [], ...more };
  if (parent === null) return order;
  const saved = readSnapshot(parent);
  const { files, checksum } = memoryOf(parent, saved);
  return { ...order, parent: { files, ids: [saved.id, ...saved.memory.ancestors], checksum } };
}

async function take(parent: string | null = null): Promise<string> {
  const wanted = order(parent);
  await machine.ask('snapshot.take', wanted);
  return wanted.folder;
}

async function start(more: Partial<MachineConfig> = {}): Promise<void> {
  await machine.start({ ...config, ...more });
  if (more.restore === undefined) await console.wait('\n> ');
}

async function calculate(text: string, wanted: string): Promise<void> {
  console.type(`${text}\r`);
  await console.wait(wanted);
}

describe('a snapshot of a machine', () => {
  it('is restored in place, in the middle of a line of input', async () => {
    await start();
    console.type('6 *');
    await console.wait('6 *');
    const first = await take();
    await calculate(' 2', '12');
    const second = await take(first);
    await machine.ask('snapshot.restore', { folder: first, layers: [] });
    await calculate(' 7', '42');
    await machine.ask('snapshot.restore', { folder: second, layers: [] });
    await calculate('1 + 1', '2\r\n');
  });

  it.each(here.flatMap((from) => here.map((to) => ({ from, to }))))(
    'goes over to another process, from $from to $to',
    async ({ from, to }) => {
      await start({ backend: from });
      console.type('6 *');
      await console.wait('6 *');
      const taken = await take();
      await machine.powerOff();
      await start({ backend: to, restore: { folder: taken, layers: [] }, startPaused: true });
      expect(machine.status).toMatchObject({ state: 'paused', backend: to });
      await machine.resume();
      await calculate(' 7', '42');
    },
  );

  // The long form: npm run campaign:saves.
  it('saved, restored and saved again is the same to the byte', { timeout: 3_600_000 }, async () => {
    const rounds = Number(process.env.SAVE_ROUNDS ?? 2);
    await start();
    for (let round = 0; round < rounds; round++) {
      await machine.pause();
      const first = await take();
      await machine.resume();
      await calculate(`${round} + 2`, `${round + 2}\r\n`);
      await machine.pause();
      await machine.ask('snapshot.restore', { folder: first, layers: [] });
      const second = await take();
      const [a, b] = [first, second].map(readSnapshot);
      expect({ ...b, id: a.id, name: a.name }).toEqual(a);
      const [x, y] = [first, second].map((path) => readFileSync(join(path, 'memory')));
      expect(x.equals(y)).toBe(true);
      await machine.resume();
      await calculate(`${round} * 3`, `${round * 3}\r\n`);
      for (const path of [first, second]) rmSync(path, { recursive: true });
    }
  });

  it('stores what differs from its parent, and finds the rest there', async () => {
    await start();
    const first = await take();
    await calculate('1 + 2', '3');
    const second = await take(first);
    const third = await take(second);
    const [a, b, c] = [first, second, third].map(readSnapshot);
    expect(c.memory.stored).toBeLessThan(b.memory.stored);
    expect(b.memory).toMatchObject({ ancestors: [a.id], uses: [a.id] });
    expect(c.memory.ancestors).toEqual([b.id, a.id]);
    await machine.powerOff();
    await start({ restore: { folder: third, layers: [] } });
    await calculate('5 * 5', '25');
  });

  const damaged: { name: string; change: (path: string) => void; wanted: RegExp }[] = [
    {
      name: 'no machine.json',
      change: (p) => rmSync(join(p, 'machine.json')),
      wanted: /machine.json is missing/,
    },
    {
      name: 'half a machine.json',
      change: (p) => truncateSync(join(p, 'machine.json'), 900),
      wanted: /cut off/,
    },
    {
      name: 'an edited machine.json',
      change: (p) =>
        edit(p, (text) => text.replace('"halted": true', '"halted": false').replace('"RAX"', '"RBX"')),
      wanted: /changed after it was written/,
    },
    {
      name: 'a later format',
      change: (p) => edit(p, (text) => text.replace('"format": 1', '"format": 99')),
      wanted: /format 99.*newer Vitrine/,
    },
    { name: 'no memory', change: (p) => rmSync(join(p, 'memory')), wanted: /memory is missing/ },
    { name: 'half a memory', change: (p) => truncateSync(join(p, 'memory'), 4 * MIB), wanted: /instead of/ },
    {
      name: 'an edited index',
      change: (p) => {
        const bytes = readFileSync(join(p, 'memory'));
        bytes[8 * MIB + 5] ^= 1;
        writeFileSync(join(p, 'memory'), bytes);
      },
      wanted: /index does not have the checksum/,
    },
  ];
  it('is refused with a reason when it is damaged, and the machine goes on', async () => {
    await start();
    const good = await take();
    for (const { name, change, wanted } of damaged) {
      const bad = join(folder, `bad${++number}`);
      cpSync(good, bad, { recursive: true });
      change(bad);
      await expect(machine.ask('snapshot.restore', { folder: bad, layers: [] }), name).rejects.toThrow(
        wanted,
      );
    }
    await calculate('3 * 3', '9');
  });

  it('may be deleted as soon as a machine goes on from it', async () => {
    await start();
    await calculate('1 + 1', '2');
    const taken = await take();
    await machine.ask('snapshot.restore', { folder: taken, layers: [] });
    rmSync(taken, { recursive: true });
    // Past the check of its pages, which comes half a second later.
    await delay(1500);
    expect(machine.status).toMatchObject({ state: 'running' });
    await calculate('6 * 7', '42');
  });

  // Or, where the guest was quicker and died of it, says so.
  it('stops the machine when a page turns out to be another', async () => {
    await start();
    const bad = await take();
    const bytes = readFileSync(join(bad, 'memory'));
    const page = bytes.findLastIndex((byte, at) => at < 8 * MIB && byte !== 0);
    bytes[page] ^= 1;
    writeFileSync(join(bad, 'memory'), bytes);
    const stopped = new Promise<string>((resolve) => {
      machine.onStatus(({ state, message }) => {
        if (['paused', 'crashed'].includes(state) && message?.includes('damaged')) resolve(message);
      });
    });
    const refused = machine.ask('snapshot.restore', { folder: bad, layers: [] });
    const outcome = await Promise.race([
      stopped,
      refused.then(
        () => stopped,
        (error: Error) => error.message,
      ),
    ]);
    expect(outcome).toMatch(/checksum/);
  });
});

function edit(path: string, change: (text: string) => string): void {
  const file = join(path, 'machine.json');
  writeFileSync(file, change(readFileSync(file, 'utf8')));
}
