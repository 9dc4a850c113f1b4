import { statSync } from 'node:fs';
import type { BlockBackend } from '../devices/virtio/blk.ts';
import { BLOCK, DiskLayer } from './disk-layer.ts';
import { RawDisk } from './disk.ts';
import type { DiskConfig } from './protocol.ts';

/**
 * A disk: an image, and over it the layers that snapshots left. The newest layer is written to; without one it is the
 * image itself. A layer under another one is never written again: a snapshot has it.
 */
export class LayeredDisk implements BlockBackend {
  readonly size: number;
  readonly readOnly: boolean;
  readonly path: string;
  private readonly image: RawDisk;
  private layers: DiskLayer[] = [];

  /** Opens the image and the layers. Throws MachineError with what is wrong and the way out. */
  constructor({ path, readonly, layers = [] }: DiskConfig) {
    this.path = path;
    this.readOnly = readonly;
    this.image = new RawDisk({ path, readonly: readonly || layers.length > 0 });
    this.size = this.image.size;
    try {
      this.layers = this.open(layers);
    } catch (error) {
      this.image.close();
      throw error;
    }
  }

  /** Files of the layers, oldest first. */
  get layerPaths(): string[] {
    return this.layers.map(({ path }) => path);
  }

  /** When the image was last changed, in ms since the epoch. */
  get modified(): number {
    return statSync(this.path).mtimeMs;
  }

  read(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length;) {
      const from = this.layerOf(Math.floor((offset + done) / BLOCK));
      let end = (Math.floor((offset + done) / BLOCK) + 1) * BLOCK;
      while (end < offset + into.length && this.layerOf(end / BLOCK) === from) end += BLOCK;
      const piece = into.subarray(done, Math.min(into.length, end - offset));
      (from ?? this.image).read(offset + done, piece);
      done += piece.length;
    }
  }

  write(offset: number, from: Uint8Array): void {
    const top = this.layers.at(-1);
    if (top === undefined) {
      this.image.write(offset, from);
      return;
    }
    // Blocks of which only a part is written keep the rest.
    const start = Math.floor(offset / BLOCK) * BLOCK;
    const end = Math.min(this.size, Math.ceil((offset + from.length) / BLOCK) * BLOCK);
    if (start === offset && end === offset + from.length) {
      top.write(offset, from);
      return;
    }
    const blocks = new Uint8Array(end - start);
    const first = blocks.subarray(0, Math.min(BLOCK, blocks.length));
    this.read(start, first);
    if (blocks.length > BLOCK) {
      const last = Math.floor((blocks.length - 1) / BLOCK) * BLOCK;
      this.read(start + last, blocks.subarray(last));
    }
    blocks.set(from, offset - start);
    top.write(start, blocks);
  }

  flush(): void {
    const top = this.layers.at(-1);
    if (top === undefined) this.image.flush();
    else top.flush();
  }

  /** From now on a new layer is written to. What was written so far is forced to the disk by `settle`. */
  addLayer(path: string): void {
    const layer = new DiskLayer(path, this.size, 'create');
    this.layers = [...this.layers, layer];
  }

  /** Forces everything below the newest layer to the disk. */
  settle(): void {
    for (const layer of this.layers.slice(0, -1)) layer.seal();
    if (this.layers.length <= 1 && !this.readOnly) this.image.flush();
  }

  /** Opens other layers over the same image. The result goes on with them; until then nothing has changed. */
  prepareLayers(paths: readonly string[]): { use(): void; close(): void } {
    const layers = this.open(paths);
    return {
      use: () => {
        for (const layer of this.layers) layer.close();
        this.layers = layers;
      },
      close: () => layers.forEach((layer) => layer.close()),
    };
  }

  close(): void {
    for (const layer of this.layers) layer.close();
    this.image.close();
  }

  private layerOf(block: number): DiskLayer | undefined {
    return this.layers.findLast((layer) => layer.has(block));
  }

  private open(paths: readonly string[]): DiskLayer[] {
    const opened: DiskLayer[] = [];
    try {
      paths.forEach((path, i) => {
        // The newest may have been named before it was made: then nothing has been written to it yet.
        const mode = i < paths.length - 1 || this.readOnly ? 'read' : 'create';
        opened.push(new DiskLayer(path, this.size, mode));
      });
      return opened;
    } catch (error) {
      for (const layer of opened) layer.close();
      throw error;
    }
  }
}

/** Other layers for all disks of a machine, or, when that fails, for none. */
export function replaceLayers(disks: readonly LayeredDisk[], layers: readonly (readonly string[])[]): void {
  const prepared: ReturnType<LayeredDisk['prepareLayers']>[] = [];
  try {
    disks.forEach((disk, i) => prepared.push(disk.prepareLayers(layers[i] ?? [])));
  } catch (error) {
    for (const one of prepared) one.close();
    throw error;
  }
  for (const one of prepared) one.use();
}
