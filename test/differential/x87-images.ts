import { Code } from 'iced-x86';
import { WINDOW_WRITABLE } from './case.ts';

/** Finds the images that x87 instructions have left in memory, by what is constant in them. */

/** Where the fields of an image are, as offsets in the window; -1 where it doesn't have one. */
export interface Image {
  status: number;
  opcode: number;
  instruction: number;
  data: number;
  /** Of the addresses. */
  bytes: number;
}

const word = (from: Uint8Array, at: number): number => from[at] | (from[at + 1] << 8);
const same = (a: Uint8Array, b: Uint8Array, from: number, to: number): boolean =>
  Buffer.compare(a.subarray(from, to), b.subarray(from, to)) === 0;
/** FCW has bits that are always 0, and one that is always 1. */
const isControl = (from: Uint8Array, at: number): boolean => (word(from, at) & 0xe0c0) === 0x40;

/** FNSTENV and FNSAVE with 32 bits: the upper halves of four words are ones (SDM vol. 1, figure 8-9). */
function environment32(a: Uint8Array, b: Uint8Array, at: number): Image | undefined {
  const ones = [2, 6, 10, 26].every((i) => word(a, at + i) === 0xffff);
  if (!ones || !isControl(a, at) || !same(a, b, at, at + 16)) return undefined;
  return { status: at + 4, opcode: at + 18, instruction: at + 12, data: at + 20, bytes: 4 };
}

/** The same with 16 bits: selectors, which are zero, after both offsets (SDM vol. 1, figure 8-11). */
function environment16(a: Uint8Array, b: Uint8Array, at: number): Image | undefined {
  const zeros = [8, 12].every((i) => word(a, at + i) === 0);
  if (!zeros || !isControl(a, at) || !same(a, b, at, at + 10)) return undefined;
  return { status: at + 2, opcode: -1, instruction: at + 6, data: at + 10, bytes: 2 };
}

/** FXSAVE: tags in one byte with a zero after them, and MXCSR_MASK (SDM vol. 1, table 10-2). */
function fxsave(a: Uint8Array, b: Uint8Array, at: number): Image | undefined {
  const fits = at % 16 === 0 && at + 512 <= WINDOW_WRITABLE && word(a, at + 28) === 0xffff;
  if (!fits || a[at + 5] !== 0 || !isControl(a, at) || !same(a, b, at, at + 6)) return undefined;
  return { status: at + 2, opcode: at + 6, instruction: at + 8, data: at + 16, bytes: 8 };
}

const FINDERS = new Map<Code, typeof fxsave>([
  [Code.Fnstenv_m28byte, environment32],
  [Code.Fnsave_m108byte, environment32],
  [Code.Fnstenv_m14byte, environment16],
  [Code.Fnsave_m94byte, environment16],
  [Code.Fxsave_m512byte, fxsave],
  [Code.Fxsave64_m512byte, fxsave],
]);

/** The images that some instructions have left in both of two windows. */
export function imagesIn(codes: readonly Code[], a: Uint8Array, b: Uint8Array): Image[] {
  const finders = new Set(codes.map((code) => FINDERS.get(code)).filter((find) => find !== undefined));
  const images: Image[] = [];
  for (const find of finders) {
    for (let at = 0; at + 28 <= WINDOW_WRITABLE; at++) {
      const image = find(a, b, at);
      if (image) images.push(image);
    }
  }
  return images;
}

export function storesImage(code: Code): boolean {
  return FINDERS.has(code);
}
