import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Victim } from './snapshot-victim.ts';

// A disk that fails or is full while a snapshot of a running VM is written: the VM runs on, nothing of it is left, and
// the message names the file and its size. Whole programs, from the command down to the calls of the C library.

const folder = mkdtempSync(join(tmpdir(), 'vitrine-faults-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const MIB = 2 ** 20;

/** Names the file, and for what has a size worth knowing, that. */
const NAMES_FILE = /^\S+(snapshots|layers|state\.json)\S*( \(up to \d+ [KM]iB\))? can't be (written|made): /;

async function vm(victim: Victim, library: string): Promise<string> {
  const disk = join(library, 'disk.img');
  writeFileSync(disk, Buffer.alloc(MIB));
  const { id } = await victim.client.request('vm.create', {
    ...{ name: 'main', guest: { kind: 'calc' }, memory: 8 * MIB, backend: 'emulated' },
    disks: [{ path: disk }],
  });
  await victim.client.request('vm.start', { id });
  await victim.prompt(id);
  return id;
}

/** Tries to take a snapshot; the message, or null when it worked. The VM runs on, and nothing is half there. */
async function attempt(victim: Victim, library: string, id: string): Promise<string | null> {
  const { client } = victim;
  const before = (await client.request('snapshot.list', { id })).map(({ id: one }) => one);
  const message = await client.request('snapshot.take', { id }).then(
    () => null,
    (error: Error) => error.message,
  );
  const { state, message: why } = await client.vm('main');
  expect([state, why], message ?? 'it worked').toEqual(['running', undefined]);
  await victim.calculate(id, 11, 13);
  if (message === null) return null;
  expect((await client.request('snapshot.list', { id })).map(({ id: one }) => one)).toEqual(before);
  const snapshots = join(library, 'vms', id, 'snapshots');
  const left = existsSync(snapshots) ? readdirSync(snapshots).filter((name) => name.startsWith('.')) : [];
  expect(left).toEqual([]);
  return message;
}

/** Now it works: the snapshot is whole, and the VM goes on from it. */
async function works(victim: Victim, library: string, id: string): Promise<void> {
  const { client } = victim;
  expect(await attempt(victim, library, id)).toBeNull();
  for (const { id: snapshot, damaged } of await client.request('snapshot.list', { id })) {
    expect(damaged).toBeUndefined();
    expect(await client.request('snapshot.verify', { id, snapshot })).toEqual({ wrong: null });
    await client.request('snapshot.restore', { id, snapshot });
    await victim.calculate(id, 17, 19);
  }
}

const compiler = process.platform === 'linux' && spawnSync('gcc', ['--version']).status === 0;

describe('a snapshot whose disk fails', () => {
  it.runIf(compiler).each(['ENOSPC', 'EIO'] as const)(
    `%s at each call${compiler ? '' : ' (no gcc for Linux here)'}`,
    { timeout: 600_000 },
    async (code) => {
      const library = mkdtempSync(join(folder, `${code}-`));
      const [preload, control] = [join(library, 'failing.so'), join(library, 'failing')];
      const source = join(import.meta.dirname, 'failing-calls.c');
      execFileSync('gcc', ['-shared', '-fPIC', '-O2', '-o', preload, source, '-ldl']);
      writeFileSync(control, new Uint8Array(8));
      // Written over, never cut off: it is mapped.
      const choose = (call: number): void => {
        const words = Int32Array.of(call, constants.errno[code]);
        writeFileSync(control, new Uint8Array(words.buffer), { flag: 'r+' });
      };
      const victim = await Victim.start(library, { LD_PRELOAD: preload, FAILING_CALLS: control });
      try {
        const id = await vm(victim, library);
        const messages: string[] = [];
        for (let call = 1; ; call++) {
          choose(call);
          const message = await attempt(victim, library, id);
          const left = readFileSync(control).readInt32LE(0);
          choose(0);
          if (left > 0) break;
          // What fails after the snapshot is there for good is no reason to say that there is none.
          if (message === null) continue;
          messages.push(message);
          expect(message, `call ${call}`).toMatch(NAMES_FILE);
          expect(message, `call ${call}`).toContain(code);
        }
        expect(messages.filter((message) => message.includes('MiB')).length).toBeGreaterThan(5);
        await works(victim, library, id);
      } finally {
        victim.kill(true);
        await victim.gone();
      }
    },
  );

  const mountable = process.platform === 'linux' && mount(mkdtempSync(join(folder, 'try-')));
  it.runIf(mountable)(
    `a full one${mountable ? '' : ' (may not mount a tmpfs here)'}`,
    { timeout: 600_000 },
    async () => {
      const library = mkdtempSync(join(folder, 'full-'));
      mount(library, '6m');
      const victim = await Victim.start(library);
      try {
        const id = await vm(victim, library);
        const filler = join(library, 'filler');
        let [failed, worked] = [0, 0];
        for (let kib = 0; worked === 0; kib += 16) {
          const { bavail, bsize } = statfsSync(library);
          writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - kib * 1024)));
          const message = await attempt(victim, library, id);
          rmSync(filler);
          if (message === null) worked++;
          else {
            failed++;
            expect(message, `${kib} KiB left`).toMatch(NAMES_FILE);
            expect(message, `${kib} KiB left`).toMatch(/ENOSPC.* Make room on that disk\./);
          }
        }
        expect(failed).toBeGreaterThan(2);
        await works(victim, library, id);
      } finally {
        victim.kill(true);
        await victim.gone();
        execFileSync('umount', ['-l', library]);
      }
    },
  );
});

/** Mounts a small disk of memory; to find out whether that is allowed, without a size. */
function mount(at: string, size?: string): boolean {
  mkdirSync(at, { recursive: true });
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size ?? '64k'}`, 'tmpfs', at]);
  if (status === 0 && size === undefined) execFileSync('umount', [at]);
  return status === 0;
}
