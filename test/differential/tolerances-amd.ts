import { Fxsave, LINE } from './case.ts';
import { instructionAt, memoryPart } from './tolerance.ts';
import type { Context, Tolerance } from './tolerance.ts';

/** What AMD's processors do in their own way, and the emulated one doesn't. */

/** Names of the parts of memory in which the only difference is that a 32-bit word has some more bits set. */
function linesThatDifferBy(bits: number, { made, native, other }: Context): string[] {
  const parts: string[] = [];
  for (const [offset, line] of native.lines) {
    const theirs = other.lineAt(offset, made);
    for (let i = 0; i < LINE; i += 8) {
      const differing = [...line.subarray(i, i + 8)].map((byte, j) => byte ^ theirs[i + j]);
      const places = differing.flatMap((byte, j) => (byte === 0 ? [] : [j]));
      if (places.length === 1 && differing[places[0]] === bits >> 16 && places[0] % 4 === 2) {
        parts.push(memoryPart(offset + i));
      }
    }
  }
  return parts;
}

const POINTERS: readonly [string, number][] = [
  ['fip', Fxsave.FIP],
  ['fdp', Fxsave.FDP],
];

/** Whether the 64-bit word of `a` is what is left of that of `b` in an address of 48 bits. */
function isCut(a: Uint8Array, b: Uint8Array, at: number): boolean {
  const word = (image: Uint8Array): bigint =>
    new DataView(image.buffer, image.byteOffset + at, 8).getBigInt64(0, true);
  return word(a) === BigInt.asIntN(48, word(b));
}

/** Names of the parts of memory that differ in that alone, where an image was stored. */
function cutInMemory({ made, native, other, instructions }: Context): string[] {
  if (!instructions.some((one) => one.mnemonic === 'fxsave64')) return [];
  return [...native.lines].flatMap(([offset, line]) => {
    const theirs = other.lineAt(offset, made);
    const words = Array.from({ length: LINE / 8 }, (_, i) => 8 * i);
    return words.filter((at) => isCut(line, theirs, at)).map((at) => memoryPart(offset + at));
  });
}

export const amdTolerances: readonly Tolerance[] = [
  {
    name: 'offsets that are not canonical',
    reason: "AMD's processors also check an offset before FS's or GS's base makes a canonical address of it",
    ignore: (context) => {
      const { native, other } = context;
      // What the whole address runs into then: the page fault, or alignment checking before it.
      const same = native.rip === other.rip && native.vector === 13 && [14, 17].includes(other.vector);
      return same && instructionAt(context, native.rip)?.baseAdded ? { everything: true } : undefined;
    },
  },
  {
    name: 'MXCSR_MASK',
    reason: "FXSAVE stores which bits of MXCSR exist, and bit 17 does on AMD's processors",
    ignore: (context) => {
      if (!context.instructions.some((one) => one.mnemonic.startsWith('fxsave'))) return undefined;
      return { parts: linesThatDifferBy(0x20000, context) };
    },
  },
  {
    name: 'misaligned SSE mode',
    reason: "MXCSR has a bit 17 on AMD's processors alone; elsewhere setting it is a fault",
    ignore: ({ native }) => ((native.fxsave[Fxsave.MXCSR + 2] & 2) !== 0 ? { everything: true } : undefined),
  },
  {
    name: 'x87 pointers',
    reason:
      "the opcode and addresses of the last x87 instruction are kept for handlers of a pending exception alone, as AMD's processors without XSaveErPtr do",
    ignore: ({ native }) => {
      const pending = (native.fxsave[Fxsave.FSW] & 0x80) !== 0;
      return pending ? undefined : { parts: ['fop', 'fip', 'fdp'] };
    },
  },
  {
    name: 'x87 pointers of FXRSTOR64',
    reason:
      "Zen 3 keeps 48 bits of the addresses that an image has, and stores them sign-extended; Zen 5 and the emulated processor keep all 64 (no manual says what becomes of one that isn't canonical)",
    ignore: (context) => {
      if (!context.instructions.some((one) => one.mnemonic === 'fxrstor64')) return undefined;
      const cut = POINTERS.filter(([, at]) => isCut(context.native.fxsave, context.other.fxsave, at));
      return { parts: [...cut.map(([name]) => name), ...cutInMemory(context)] };
    },
  },
];
