import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { memoryOf, readSnapshot, verifyMemory } from '../../../main/machine/snapshot/restore.ts';
import { Library } from '../../../main/service/library.ts';
import { SnapshotStore } from '../../../main/service/snapshot-store.ts';
import { Victim } from './snapshot-victim.ts';

const VERBS = ['take', 'restore', 'delete', 'clone'] as const;
type Verb = (typeof VERBS)[number];

/** Marsaglia's xorshift32: the same seed gives the same choices. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** What each verb takes here, in milliseconds: learnt, so that the kill falls into it. */
const lasts: Record<Verb, number> = { take: 150, restore: 100, delete: 40, clone: 60 };

/** What was under way at the kill, and what is known to exist. */
interface Round {
  pending: { verb: Verb | 'between'; id: string };
  alive: Set<string>;
  log: string[];
}

/** Starts the service and the VM, and kills it while it takes, restores, deletes and clones snapshots. */
async function round(folder: string, random: (below: number) => number, alive: Set<string>): Promise<Round> {
  const victim = await Victim.start(folder);
  const { client } = victim;
  const state: Round = { pending: { verb: 'between', id: '' }, alive, log: [] };
  const id = (await client.vm('main')).id;
  const current = (await client.request('snapshot.list', { id })).find((each) => each.current);
  if (current !== undefined && random(2) === 0) {
    await client.request('snapshot.restore', { id, snapshot: current.id });
  } else {
    await client.request('vm.start', { id });
    await victim.prompt(id);
  }
  await victim.calculate(id, random(90) + 10, random(90) + 10);

  const take = async (): Promise<void> => {
    state.alive.add((await client.request('snapshot.take', { id })).snapshot.id);
  };
  // So that there is something to restore, delete and clone.
  while (state.alive.size < 3) await take();
  const all = random(2) === 0;
  let killed = false;
  let timer: NodeJS.Timeout | undefined;
  while (!killed) {
    const ids = [...state.alive];
    const verb = ids.length < 2 ? 'take' : ids.length > 8 ? 'delete' : VERBS[random(VERBS.length)]!;
    const one = ids[random(ids.length)]!;
    state.log.push(`${verb} ${one}`);
    state.pending = { verb, id: one };
    timer ??= setTimeout(
      () => {
        killed = true;
        victim.kill(all);
      },
      (lasts[verb] * random(1200)) / 1000,
    );
    const began = performance.now();
    try {
      if (verb === 'take') await take();
      if (verb === 'restore') await client.request('snapshot.restore', { id, snapshot: one });
      if (verb === 'delete') {
        await client.request('snapshot.delete', { id, snapshot: one });
        state.alive.delete(one);
      }
      if (verb === 'clone') {
        const made = await client.request('snapshot.clone', { id, snapshot: one, name: 'clone' });
        if (random(2) === 0) await client.request('vm.delete', { id: made.id });
      }
      state.pending = { verb: 'between', id: '' };
      lasts[verb] = 0.8 * lasts[verb] + 0.2 * (performance.now() - began);
    } catch (error) {
      if (!killed) throw error;
    }
  }
  await victim.gone();
  return state;
}

/** Everything on disk is whole; gives the snapshots of the main VM. */
async function inspect(folder: string): Promise<Set<string>> {
  const library = await Library.open(folder);
  const { records, damaged } = await library.load();
  expect(damaged).toEqual([]);
  expect(records.filter(({ config }) => config.name === 'main')).toHaveLength(1);
  let found = new Set<string>();
  for (const { id, config } of records) {
    const store = new SnapshotStore(library.folderOf(id));
    await store.sweep();
    const list = await store.list();
    expect(list.filter((each) => each.damaged !== undefined)).toEqual([]);
    for (const { id: snapshot } of list) {
      const saved = readSnapshot(store.path(snapshot));
      expect(verifyMemory(memoryOf(store.path(snapshot), saved))).toBeNull();
      for (const disk of saved.disks) {
        for (const layer of disk.layers) expect(existsSync(join(store.layers, layer)), layer).toBe(true);
      }
    }
    const { layers } = await store.state();
    for (const names of Object.values(layers)) {
      // The newest is made when it is first opened.
      for (const name of names.slice(0, -1)) expect(existsSync(join(store.layers, name)), name).toBe(true);
    }
    if (config.name === 'main') found = new Set(list.map((each) => each.id));
    if (config.name === 'clone') {
      expect(list).toHaveLength(1);
      await library.delete(id);
    }
  }
  library.close();
  return found;
}

// The long form: npm run campaign:snapshots.
test(
  'a service that is killed at any instant loses no VM and no snapshot',
  { timeout: 3_600_000 },
  async () => {
    const rounds = Number(process.env.SNAPSHOT_ROUNDS ?? 3);
    const folder = mkdtempSync(join(tmpdir(), 'vitrine-kill-'));
    const seed = Number(process.env.SEED ?? 1);
    console.log(`seed ${seed}`);
    const killed: Record<string, number> = {};
    let alive = new Set<string>();
    try {
      const disk = join(folder, 'disk.img');
      writeFileSync(disk, Buffer.alloc(2 ** 20));
      const first = await Victim.start(folder);
      await first.client.request('vm.create', {
        ...{ name: 'main', guest: { kind: 'calc' }, memory: 2 ** 23, backend: 'emulated' },
        disks: [{ path: disk }],
      });
      first.kill(true);
      await first.gone();
      for (let number = 0; number < rounds; number++) {
        const { pending, log, ...known } = await round(folder, generator(seed + number), alive);
        const where = `seed ${seed}, round ${number}: ${log.slice(-3).join('; ')}`;
        const { verb, id } = pending;
        killed[verb] = (killed[verb] ?? 0) + 1;
        const found = await inspect(folder);
        const missing = [...known.alive].filter((each) => !found.has(each));
        const extra = [...found].filter((each) => !known.alive.has(each));
        expect(
          missing.filter((each) => !(verb === 'delete' && each === id)),
          where,
        ).toEqual([]);
        expect(extra.length, where).toBeLessThanOrEqual(verb === 'take' ? 1 : 0);
        alive = found;
        if (number % 50 === 49) console.log(`${number + 1} rounds: ${JSON.stringify(killed)}`);
      }
      console.log(`killed ${rounds} times, during: ${JSON.stringify(killed)}`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
