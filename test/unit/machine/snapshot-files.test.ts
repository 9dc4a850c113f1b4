import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { FileCalls } from '../../../main/machine/snapshot/files.ts';
import { nodeFiles, writeFile } from '../../../main/machine/snapshot/files.ts';
import { createIndex, PAGE, runs } from '../../../main/machine/snapshot/memory-file.ts';
import { writeMemory } from '../../../main/machine/snapshot/memory-writer.ts';
import { MemoryReader, verifyMemory } from '../../../main/machine/snapshot/restore.ts';

const folder = mkdtempSync(join(tmpdir(), 'vitrine-files-'));
const SIZE = 3 * 2 ** 20;
let number = 0;
const fresh = (): string => join(folder, `memory${++number}`);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** RAM with a pattern in it: zero pages, pages of their own, and stretches of them. */
function makeRam(seed: number): Buffer {
  const ram = Buffer.alloc(SIZE);
  for (let page = 0; page < SIZE / PAGE; page++) {
    if ((page * seed) % 7 > 3) ram.fill((page % 250) + 1, page * PAGE, (page + 1) * PAGE);
  }
  return ram;
}

const read =
  (ram: Buffer) =>
  (into: Uint8Array, at: number): void =>
    into.set(ram.subarray(at, at + into.length));

/** The calls, of which the n-th write, truncation, sync or creation fails. */
function failing(n: number, code: string): { calls: FileCalls; used: () => number; open: Set<number> } {
  let count = 0;
  const may =
    <A extends unknown[], R>(call: (...args: A) => R) =>
    (...args: A): R => {
      if (++count === n) throw Object.assign(new Error(`${code}: made to fail`), { code });
      return call(...args);
    };
  const { create, write, truncate, sync } = nodeFiles;
  const calls = { create: may(create), write: may(write), truncate: may(truncate), sync: may(sync) };
  const open = new Set<number>();
  const checked: FileCalls = {
    ...calls,
    create: (path) => {
      const fd = calls.create(path);
      open.add(fd);
      return fd;
    },
    // A second time it would be another thread's file.
    close: (fd) => {
      expect(open.delete(fd)).toBe(true);
      nodeFiles.close(fd);
    },
  };
  return { calls: checked, used: () => count, open };
}

describe('the memory of a snapshot', () => {
  it('is read as it was written, over three generations, each with its own pages only', () => {
    const rams = [2, 3, 5].map(makeRam);
    rams[2]!.fill(0, PAGE, 40 * PAGE);
    const files: string[] = [];
    let checksum = 0;
    for (const ram of rams) {
      const path = fresh();
      const parent = files.length === 0 ? null : { files: [...files], checksum };
      const result = writeMemory({ path, size: SIZE, parent }, read(ram), nodeFiles);
      ({ checksum } = result);
      files.unshift(path);
      const reader = new MemoryReader({ files, size: SIZE, checksum });
      const loaded = new Uint8Array(SIZE + PAGE).fill(0xee);
      reader.load(loaded, PAGE, null);
      expect(Buffer.from(loaded.subarray(PAGE)).equals(ram)).toBe(true);
      expect(reader.bad()).toEqual([]);
      reader.close();
    }
  });

  it.each(['ENOSPC', 'EIO'])('gives the file and its size when any call fails with %s', (code) => {
    const ram = makeRam(2);
    const { calls, used } = failing(0, code);
    writeMemory({ path: fresh(), size: SIZE, parent: null }, read(ram), calls);
    expect(used()).toBeGreaterThan(5);
    for (let n = 1; n <= used(); n++) {
      const path = fresh();
      const job = { path, size: SIZE, parent: null };
      const { calls, open } = failing(n, code);
      expect(() => writeMemory(job, read(ram), calls), `call ${n}`).toThrow(
        new RegExp(`${path} \\(up to 4 MiB\\) can't be written: ${code}.*`),
      );
      expect([...open]).toEqual([]);
    }
    for (let n = 1; n <= 4; n++) {
      expect(() => writeFile(failing(n, code).calls, fresh(), 'text'), `call ${n}`).toThrow(code);
    }
    // Nothing is left open: descriptors are given out lowest first.
    const fd = openSync(folder, 'r');
    closeSync(fd);
    expect(fd).toBeLessThan(100);
  });

  it('finds the stretches of every index', () => {
    let state = 1;
    const random = (below: number): number => (state = (state * 48271) % 0x7fffffff) % below;
    for (let round = 0; round < 300; round++) {
      const index = createIndex((1 + random(400)) * PAGE);
      for (let page = 0; page < index.owner.length;) {
        const end = page + 1 + random(random(2) === 0 ? 3 : 200);
        index.owner.fill(random(3) === 0 ? 0xffff : random(3), page, end);
        page = end;
      }
      const found = runs(index);
      const pages = found.flatMap(({ owner, count }) => Array.from({ length: count }, () => owner));
      expect(pages).toEqual([...index.owner]);
      found.slice(1).forEach(({ owner, first }, i) => {
        expect(owner).not.toBe(found[i]!.owner);
        expect(first).toBe(found[i]!.first + found[i]!.count);
      });
    }
  });

  it('tells which page is another', () => {
    const path = fresh();
    const ram = makeRam(2);
    const { checksum } = writeMemory({ path, size: SIZE, parent: null }, read(ram), nodeFiles);
    expect(verifyMemory({ files: [path], size: SIZE, checksum })).toBeNull();
    const page = ram.findIndex((byte) => byte !== 0);
    const fd = openSync(path, 'r+');
    writeSync(fd, Buffer.from([ram[page]! ^ 1]), 0, 1, page);
    closeSync(fd);
    expect(verifyMemory({ files: [path], size: SIZE, checksum })).toContain(`0x${page.toString(16)}`);
    expect(existsSync(path)).toBe(true);
    expect(readFileSync(path).length).toBe(SIZE + (SIZE / PAGE) * 6);
  });
});
