import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { RawDisk } from '../../../main/machine/disk.ts';

const folder = mkdtempSync(join(tmpdir(), 'vitrine-disk-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, size: number): string {
  const path = join(folder, name);
  writeFileSync(path, Buffer.alloc(size, 7));
  return path;
}

describe('a raw disk', () => {
  it('reads and writes where it is told', () => {
    const path = file('disk', 4096);
    const disk = new RawDisk({ path, readonly: false });
    disk.write(512, Uint8Array.of(1, 2, 3));
    disk.flush();
    const bytes = new Uint8Array(new SharedArrayBuffer(4));
    disk.read(511, bytes);
    disk.close();
    expect([...bytes]).toEqual([7, 1, 2, 3]);
    expect(readFileSync(path).length).toBe(disk.size);
  });

  it('says so when the file has shrunk', () => {
    const path = file('shrunk', 1024);
    const disk = new RawDisk({ path, readonly: true });
    truncateSync(path, 512);
    expect(() => disk.read(512, new Uint8Array(512))).toThrow(/has become shorter/);
    disk.close();
  });

  mkdirSync(join(folder, 'folder'));
  const locked = file('locked', 512);
  chmodSync(locked, 0o400);
  for (const { name, path, wanted } of [
    { name: 'missing', path: join(folder, 'nothing'), wanted: /there is no such disk image/ },
    { name: 'empty', path: file('empty', 0), wanted: /is empty/ },
    {
      name: 'no whole sectors',
      path: file('odd', 1000),
      wanted: /1000 bytes are no whole number.*Add 24 bytes/,
    },
    { name: 'a folder', path: join(folder, 'folder'), wanted: /can't be opened|plain file/ },
  ]) {
    it(`refuses: ${name}`, () => expect(() => new RawDisk({ path, readonly: false })).toThrow(wanted));
  }
  it.runIf(process.getuid?.() !== 0)('refuses: no permission, and says to attach it read-only', () => {
    expect(() => new RawDisk({ path: locked, readonly: false })).toThrow(/,ro/);
  });
});
