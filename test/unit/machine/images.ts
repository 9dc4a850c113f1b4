import { Image } from '../../../main/machine/boot/image.ts';
import { loadBzImage } from '../../../main/machine/boot/bzimage.ts';
import { loadElf } from '../../../main/machine/boot/elf.ts';
import { loadFlat } from '../../../main/machine/boot/flat.ts';
import { blameFile, ImageError } from '../../../main/machine/boot/image.ts';
import { createMemory, GuestRam } from '../../../main/machine/memory.ts';
import { StateOffset } from '../../../main/nvmm/constants.ts';
import { VcpuState } from '../../../main/nvmm/layout.ts';

/** Files to boot, made field by field, and their mutations. */

const MIB = 2 ** 20;

export function target(memory = 16 * MIB) {
  const ram = new GuestRam(createMemory(memory, 0));
  return { ram, state: new VcpuState(new Uint8Array(StateOffset.SIZE)), rsdp: 0xe0000 };
}

export function words(
  size: number,
  fields: [at: number, bytes: number, value: number | bigint][],
): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  for (const [at, width, value] of fields) {
    if (width === 1) view.setUint8(at, Number(value));
    else if (width === 2) view.setUint16(at, Number(value), true);
    else if (width === 4) view.setUint32(at, Number(value), true);
    else view.setBigUint64(at, BigInt(value), true);
  }
  return bytes;
}

/** A kernel with one setup sector and 8 KiB of payload. */
export function bzImage(changes: Parameters<typeof words>[1] = [], size = 1024 + 8192): Uint8Array {
  return words(size, [
    [0x1f1, 1, 1],
    [0x1f4, 4, 8192 / 16],
    [0x1fe, 2, 0xaa55],
    [0x201, 1, 0x6a],
    [0x202, 4, 0x5372_6448],
    [0x206, 2, 0x20f],
    [0x211, 1, 1],
    [0x22c, 4, 0x7fff_ffff],
    [0x230, 4, 0x20_0000],
    [0x234, 1, 1],
    [0x236, 2, 1],
    [0x238, 4, 2047],
    [0x258, 8, 0x10_0000],
    [0x260, 4, 0x4000],
    ...changes,
  ]);
}

/** An ELF64 with one PT_LOAD of 16 bytes (32 in memory) at 2 MiB and, with `note`, a PVH entry. */
export function elf64(options: { note?: number; physical?: number } = {}): Uint8Array {
  const { note, physical = 2 * MIB } = options;
  return words(512, [
    [0, 4, 0x464c_457f],
    [4, 1, 2],
    [5, 1, 1],
    [18, 2, 62],
    [24, 8, 0xffff_ffff_8000_0004n],
    [32, 8, 64],
    [54, 2, 56],
    [56, 2, note === undefined ? 1 : 2],
    [64, 4, 1],
    [72, 8, 256],
    [80, 8, 0xffff_ffff_8000_0000n],
    [88, 8, physical],
    [96, 8, 16],
    [104, 8, 32],
    [120, 4, 4],
    [128, 8, 320],
    [152, 8, 20],
    [256, 4, 0x1122_3344],
    [320, 4, 4],
    [324, 4, 4],
    [328, 4, 18],
    [332, 4, 0x006e_6558],
    [336, 4, note ?? 0],
  ]);
}

/** A multiboot kernel that is no ELF: loads itself to 1 MiB. */
export function multiboot(changes: Parameters<typeof words>[1] = []): Uint8Array {
  const flags = 0x1_0003;
  return words(256, [
    [32, 4, 0x1bad_b002],
    [36, 4, flags],
    [40, 4, (-(0x1bad_b002 + flags) >>> 0) as number],
    [44, 4, 0x10_0020],
    [48, 4, 0x10_0000],
    [52, 4, 0],
    [56, 4, 0x10_1000],
    [60, 4, 0x10_0040],
    ...changes,
  ]);
}

/** Loads a file any way that it can be loaded. Gives null or the message; throws when a message is not one for people. */
export function tryToBoot(bytes: Uint8Array, way: number, shared: ReturnType<typeof target>): string | null {
  const image = new Image('file', bytes);
  const initrd = new Image('initrd', bytes.subarray(0, 100));
  try {
    blameFile('file', () => {
      if (way === 0) loadBzImage(shared, image, initrd, 'console=ttyS0');
      else if (way === 1) loadElf(shared, image, null, 'a b');
      else if (way === 2) loadElf(shared, image, initrd, '');
      else loadFlat(shared, image, new DataView(bytes.buffer).getUint32(0, true));
    });
    return null;
  } catch (error) {
    if (error instanceof ImageError) return error.message;
    throw error;
  }
}

/** xorshift32: the same numbers from the same seed everywhere. */
export function random(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

const HOSTILE = [
  0, 1, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, 0x10_0000, 0xa_0000,
];

/** A file changed in up to eight places, and sometimes cut. */
export function mutate(original: Uint8Array, next: () => number): Uint8Array {
  const bytes = original.slice();
  const view = new DataView(bytes.buffer);
  for (let n = next() % 8; n >= 0; n--) {
    // Most fields that matter are in the first 640 bytes.
    const at = next() % Math.min(bytes.length - 8, 640);
    const value = next() % 2 === 0 ? HOSTILE[next() % HOSTILE.length] : next();
    const kind = next() % 4;
    if (kind === 0) view.setUint8(at, value & 0xff);
    else if (kind === 1) view.setUint16(at, value & 0xffff, true);
    else if (kind === 2) view.setUint32(at & ~3, value, true);
    else view.setUint32((at & ~7) + 4, value, true);
  }
  return next() % 4 === 0 ? bytes.slice(0, 4 + (next() % (bytes.length - 4))) : bytes;
}

/** Boots `count` hostile files; throws, with the seed, when one does more than fail with a message. */
export function imageCampaign(seed: number, count: number): { booted: number; refused: number } {
  const next = random(seed);
  const originals = [bzImage(), bzImage([[0x206, 2, 0x205]]), elf64(), elf64({ note: 2 * MIB }), multiboot()];
  const shared = target(4 * MIB);
  const result = { booted: 0, refused: 0 };
  for (let i = 0; i < count; i++) {
    const bytes = mutate(originals[next() % originals.length], next);
    const way = next() % 4;
    try {
      if (tryToBoot(bytes, way, shared) === null) result.booted++;
      else result.refused++;
    } catch (error) {
      throw new Error(`seed ${seed}, file ${i}, way ${way}: ${String(error)}`, { cause: error });
    }
  }
  return result;
}
