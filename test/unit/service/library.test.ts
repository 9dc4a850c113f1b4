import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { vmConfig } from '../../../main/service/contract.ts';
import { Library } from '../../../main/service/library.ts';
import { temporaryFolder } from './fakes.ts';

const config = (name: string) => vmConfig.parse({ name, guest: { kind: 'calc' }, memory: 2 ** 24 });

describe('library', () => {
  test('keeps what was created, changed and deleted over a restart', async () => {
    const folder = temporaryFolder();
    let library = await Library.open(folder);
    const first = await library.create(config('first'));
    const second = await library.create(config('second'));
    const third = await library.create(config('third'));
    await library.update({ ...second, config: config('renamed') });
    await library.delete(first.id);
    library.close();

    library = await Library.open(folder);
    const { records, damaged } = await library.load();
    expect(records).toEqual([{ ...second, config: config('renamed') }, third]);
    expect(damaged).toEqual([]);
    library.close();
  });

  test('is readable by its owner only', async () => {
    const folder = temporaryFolder();
    const library = await Library.open(folder);
    const { id } = await library.create(config('mine'));
    expect(statSync(join(folder, 'vms', id)).mode & 0o077).toBe(0);
    expect(statSync(join(folder, 'vms', id, 'vm.json')).mode & 0o077).toBe(0);
    library.close();
  });

  const good = { format: 1, createdAt: 1, config: config('good') };
  const cases = [
    { name: 'empty', text: '', wanted: /can't be read/ },
    { name: 'cut', text: JSON.stringify(good).slice(0, 40), wanted: /can't be read/ },
    { name: 'null', text: 'null', wanted: /is damaged/ },
    { name: 'another-shape', text: '{"format":1,"createdAt":1,"config":[]}', wanted: /config/ },
    {
      name: 'too-much-memory',
      text: JSON.stringify({ ...good, config: { ...good.config, memory: 2 ** 40 } }),
      wanted: /config\.memory/,
    },
    { name: 'newer', text: JSON.stringify({ ...good, format: 2 }), wanted: /newer Vitrine \(format 2/ },
    { name: 'missing', text: undefined, wanted: /is missing/ },
  ];
  test.each(cases)(
    'a damaged vm.json is shown with its reason and left alone: $name',
    async ({ name, text, wanted }) => {
      const folder = temporaryFolder();
      mkdirSync(join(folder, 'vms', name), { recursive: true });
      const file = join(folder, 'vms', name, 'vm.json');
      if (text !== undefined) writeFileSync(file, text);
      const library = await Library.open(folder);
      const { records, damaged } = await library.load();
      expect(records).toEqual([]);
      expect(damaged).toEqual([{ id: name, reason: expect.stringMatching(wanted) as unknown }]);
      expect(existsSync(file) ? readFileSync(file, 'utf8') : undefined).toBe(text);
      library.close();
    },
  );

  test('sweeps what a crash left, and nothing else', async () => {
    const folder = temporaryFolder();
    const vms = join(folder, 'vms');
    for (const name of ['.new-a', '.trash-b', 'kept']) mkdirSync(join(vms, name), { recursive: true });
    writeFileSync(join(vms, '.trash-b', 'vm.json'), '{}');
    writeFileSync(
      join(vms, 'kept', 'vm.json'),
      JSON.stringify({ format: 1, createdAt: 1, config: config('kept') }),
    );
    writeFileSync(join(vms, 'kept', 'vm.json.123456'), '{"for');
    writeFileSync(join(vms, 'kept', 'notes.txt'), 'of the user');
    writeFileSync(join(folder, 'library.json.99'), '');
    const library = await Library.open(folder);
    expect(readdirSync(vms)).toEqual(['kept']);
    expect(readdirSync(join(vms, 'kept')).sort()).toEqual(['notes.txt', 'vm.json']);
    expect(existsSync(join(folder, 'library.json.99'))).toBe(false);
    library.close();
  });

  test('is used by one service at a time', async () => {
    const folder = temporaryFolder();
    // A living process that isn't this one: the parent of the test's.
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'lock'), JSON.stringify({ pid: process.ppid }));
    await expect(Library.open(folder)).rejects.toThrow(`in use by another Vitrine (process ${process.ppid})`);
    expect(JSON.parse(readFileSync(join(folder, 'lock'), 'utf8'))).toEqual({ pid: process.ppid });
  });

  test.each([
    { name: 'a dead process', text: JSON.stringify({ pid: 2 ** 22 + 1 }) },
    {
      name: 'an earlier process with the same number',
      text: JSON.stringify({ pid: process.ppid, started: '1' }),
    },
    { name: 'nothing that can be read', text: 'x' },
  ])('takes over the lock of $name', async ({ text }) => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'lock'), text);
    const library = await Library.open(folder);
    expect((JSON.parse(readFileSync(join(folder, 'lock'), 'utf8')) as { pid: number }).pid).toBe(process.pid);
    library.close();
    expect(readdirSync(folder)).toEqual(['vms']);
  });

  test('a folder that cannot be made is named', async () => {
    const folder = join(temporaryFolder(), 'file');
    writeFileSync(folder, '');
    await expect(Library.open(folder)).rejects.toThrow(`The library ${folder} can't be used`);
  });
});

/** Runs churn.ts on a folder, kills it with SIGKILL once it has said `lines` lines, and gives back what it had said. */
async function churn(folder: string, seed: number, lines: number): Promise<string[]> {
  const script = fileURLToPath(new URL('churn.ts', import.meta.url));
  // A file, and no pipe: what was said is there, however slowly we listen.
  const log = join(temporaryFolder(), 'log');
  const stdout = openSync(log, 'a');
  const child = spawn(process.execPath, ['--import', 'tsx', script, folder, String(seed)], {
    stdio: ['ignore', stdout, 'pipe'],
  });
  closeSync(stdout);
  let errors = '';
  child.stderr!.on('data', (data: Buffer) => (errors += data.toString()));
  const said = () => readFileSync(log, 'utf8').split('\n').slice(0, -1);
  const poll = setInterval(() => said().length >= lines && child.kill('SIGKILL'), 1);
  await new Promise((resolve) => child.once('close', resolve));
  clearInterval(poll);
  expect(errors).toBe('');
  return said();
}

/**
 * The short form of the crash campaign (npm run campaign:library): a service that creates, renames and deletes without a pause is
 * killed, over and over, and after each time every VM must be there, as it was or as it should be.
 */
test('a service that is killed at any instant loses nothing', async () => {
  const rounds = Number(process.env.LIBRARY_ROUNDS ?? 6);
  const folder = temporaryFolder();
  const seed = Number(process.env.SEED ?? 1);
  console.log(`seed ${seed}`);
  const alive = new Map<string, string>();
  for (let round = 0; round < rounds; round++) {
    const log = await churn(folder, seed + round, 5 + ((seed + round * 7) % 40));
    // What was being done when it died may have happened or not.
    let pending: string[] = [];
    for (const line of log) {
      const [step, verb, id, name] = line.split(' ') as [string, string, string, string];
      pending = step === 'begin' ? [verb, id, name] : [];
      if (step !== 'done') continue;
      if (verb === 'delete') alive.delete(id);
      else alive.set(id, name);
    }
    const library = await Library.open(folder);
    const { records, damaged } = await library.load();
    library.close();
    expect(damaged).toEqual([]);
    const found = new Map(records.map((record) => [record.id, record.config.name]));
    const [verb, id, name] = pending;
    if (id !== undefined) {
      const before = alive.get(id);
      const after = verb === 'delete' ? undefined : name;
      expect([before, after], `seed ${seed}, round ${round}: ${verb} ${id}`).toContain(found.get(id));
      if (found.has(id)) alive.set(id, found.get(id)!);
      else alive.delete(id);
    }
    expect(Object.fromEntries(found), `seed ${seed}, round ${round}`).toEqual(Object.fromEntries(alive));
  }
});
