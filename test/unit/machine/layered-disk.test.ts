import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LayeredDisk } from '../../../main/machine/layered-disk.ts';

const folder = mkdtempSync(join(tmpdir(), 'vitrine-layers-'));
const SIZE = 37 * 4096 + 512;
const SECTORS = SIZE / 512;

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Numbers that look random, the same each time (a linear congruential generator). */
function* numbers(seed: number): Generator<number> {
  for (let x = seed; ; x = (Math.imul(x, 1664525) + 1013904223) >>> 0) yield x >>> 8;
}

describe('a disk with layers', () => {
  it('is what was written to it, through new layers, reopening and going back', () => {
    const path = join(folder, 'image');
    const next = numbers(7);
    const draw = (below: number): number => next.next().value! % below;
    const model = Buffer.alloc(SIZE, 0x11);
    writeFileSync(path, model);
    const original = readFileSync(path);
    let disk = new LayeredDisk({ path, readonly: false, layers: [join(folder, 'layer0')] });
    const saved: { layers: string[]; model: Buffer }[] = [];
    for (let round = 1; round <= 400; round++) {
      const from = draw(SECTORS);
      const length = 512 * (1 + draw(Math.min(24, SECTORS - from)));
      if (from * 512 + length > SIZE) continue;
      const bytes = Buffer.alloc(length, round % 251);
      disk.write(from * 512, bytes);
      bytes.copy(model, from * 512);
      if (round % 50 === 0) {
        saved.push({ layers: disk.layerPaths, model: Buffer.from(model) });
        disk.addLayer(join(folder, `layer${round}`));
        disk.settle();
      }
      if (round % 70 === 0) {
        const { layerPaths } = disk;
        disk.flush();
        disk.close();
        disk = new LayeredDisk({ path, readonly: false, layers: layerPaths });
      }
      if (round % 90 === 0) {
        const old = saved[draw(saved.length)]!;
        disk.prepareLayers([...old.layers, join(folder, `back${round}`)]).use();
        old.model.copy(model);
      }
      const seen = Buffer.alloc(SIZE);
      disk.read(0, seen);
      expect(seen.equals(model), `round ${round}`).toBe(true);
    }
    disk.close();
    expect(readFileSync(path).equals(original)).toBe(true);
  });

  it.each([
    { name: 'another file', text: 'not a layer', wanted: /is no disk layer/ },
    { name: 'a layer that was cut off', text: `VITRINE LAYER 1\n${size(SIZE)}`, wanted: /cut off/ },
    { name: "another disk's", text: `VITRINE LAYER 1\n${size(8192)}`, wanted: /of 8192 bytes/ },
  ])('refuses $name', ({ text, wanted }) => {
    const path = join(folder, 'plain');
    const layer = join(folder, 'bad');
    writeFileSync(path, Buffer.alloc(SIZE));
    writeFileSync(layer, text, 'latin1');
    expect(() => new LayeredDisk({ path, readonly: false, layers: [layer] })).toThrow(wanted);
  });
});

function size(bytes: number): string {
  const eight = Buffer.alloc(8);
  eight.writeBigUInt64LE(BigInt(bytes));
  return eight.toString('latin1');
}
