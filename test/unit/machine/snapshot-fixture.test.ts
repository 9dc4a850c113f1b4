import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, expect, it } from 'vitest';
import { MachineProcess } from '../../../main/machine/machine-process.ts';
import { checkFits, memoryOf, readSnapshot, verifyMemory } from '../../../main/machine/snapshot/restore.ts';
import { Console } from './console.ts';

// A snapshot of each version of the format that was ever written. They are never written anew: old ones load forever.
const fixtures = join(import.meta.dirname, '../../fixtures');
const folder = mkdtempSync(join(tmpdir(), 'vitrine-fixture-'));
const machine = new MachineProcess();

afterAll(async () => {
  await machine.powerOff();
  rmSync(folder, { recursive: true, force: true });
});

it.each(['snapshot-1'])('%s goes on', { timeout: 30_000 }, async (name) => {
  copyFileSync(join(fixtures, name, 'machine.json'), join(folder, 'machine.json'));
  writeFileSync(join(folder, 'memory'), gunzipSync(readFileSync(join(fixtures, name, 'memory.gz'))));
  const saved = readSnapshot(folder);
  expect(verifyMemory(memoryOf(folder, saved))).toBeNull();
  const fits = { memory: saved.memory.size, vcpus: 1, disks: 0 };
  checkFits(saved, fits);
  const avx = { ...saved, cpu: { model: 'host', features: { 'leaf1.ecx': 1 << 28 } } };
  expect(() => checkFits(avx, fits)).toThrow(/CPU features .*\(avx\)/);
  expect(() => checkFits(saved, { ...fits, memory: 5 })).toThrow(/4194304 bytes of RAM, and the VM 5/);
  expect(() => checkFits(saved, { ...fits, vcpus: 2 })).toThrow(/1 vCPUs, and the VM 2/);

  const console = new Console(machine.serial[0]!);
  await machine.start({
    ...{ name, guest: { kind: 'calc' }, memory: saved.memory.size, vcpus: 1, disks: [], backend: 'emulated' },
    restore: { folder, layers: [] },
  });
  console.type(' 7\r');
  await console.wait('42');
});
