import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { memoryOf, readSnapshot, verifyMemory } from '../../../main/machine/snapshot/restore.ts';
import { Library } from '../../../main/service/library.ts';
import { SnapshotStore } from '../../../main/service/snapshot-store.ts';

/** Lets the churn run, kills it with -9 so many ms after it is ready, and gives what it said. */
async function churn(folder: string, seed: number, milliseconds: number): Promise<string[]> {
  const script = join(import.meta.dirname, 'snapshot-churn.ts');
  const child = spawn(process.execPath, ['--import', 'tsx', script, folder, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  createInterface(child.stdout).on('line', (line) => {
    lines.push(line);
    if (line === 'ready') setTimeout(() => child.kill('SIGKILL'), milliseconds);
  });
  await ended;
  return lines;
}

/** Everything on disk is whole; gives the snapshots of the main VM. */
async function inspect(folder: string): Promise<Set<string>> {
  const library = await Library.open(folder);
  const { records, damaged } = await library.load();
  expect(damaged).toEqual([]);
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
      for (let round = 0; round < rounds; round++) {
        const log = await churn(folder, seed + round, (seed * 7 + round * 131) % 900);
        const where = `seed ${seed}, round ${round}: ${log.slice(-3).join('; ')}`;
        expect(log, where).toContain('ready');
        let pending: string[] = [];
        for (const line of log) {
          const [step, verb, id] = line.split(' ') as [string, string, string];
          if (step === 'begin') pending = [verb, id];
          if (step !== 'done') continue;
          pending = [];
          if (verb === 'take') alive.add(id);
          if (verb === 'delete') alive.delete(id);
        }
        const [verb = 'between', id] = pending;
        killed[verb] = (killed[verb] ?? 0) + 1;
        const found = await inspect(folder);
        const missing = [...alive].filter((each) => !found.has(each) && !(verb === 'delete' && each === id));
        const extra = [...found].filter((each) => !alive.has(each));
        expect(missing, where).toEqual([]);
        expect(extra.length, where).toBeLessThanOrEqual(verb === 'take' ? 1 : 0);
        alive = found;
      }
      console.log(`killed ${rounds} times, during: ${JSON.stringify(killed)}`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
