import { Code } from 'iced-x86';
import { CODE, Fxsave } from './case.ts';
import { instructionAt, isMemoryFault, partsWithin, windowAfter } from './tolerance.ts';
import type { Context, Tolerance } from './tolerance.ts';
import { imagesIn, storesImage } from './x87-images.ts';

/** What Intel's processors do in their own way: the emulated one follows AMD's, and says so in CPUID. */

const LOADS_CONTROL = new Set('fldcw fldenv frstor fxrstor fxrstor64'.split(' '));

/** Which of FOP and FDP must be those of the instruction at `fip`, while an exception is pending. */
function pointersThatCount(context: Context, fip: bigint): { opcode: boolean; data: boolean } {
  // An exception that a control word has unmasked is none that the instruction has "incurred".
  const incurred = !context.instructions.some((one) => LOADS_CONTROL.has(one.mnemonic));
  const at = instructionAt(context, fip);
  return { opcode: incurred, data: incurred && (at === undefined || at.memory) };
}

/** Names of the pointers in the registers that do not count. */
function pointerRegisters(context: Context): string[] {
  const { native } = context;
  if ((native.fxsave[Fxsave.FSW] & 0x80) === 0) return ['fop', 'fip', 'fdp'];
  const view = new DataView(native.fxsave.buffer, native.fxsave.byteOffset);
  const counts = pointersThatCount(context, view.getBigUint64(Fxsave.FIP, true));
  return [...(counts.opcode ? [] : ['fop']), ...(counts.data ? [] : ['fdp'])];
}

/** Names of the parts of memory that differ in the pointers of images, where those do not count. */
function pointersInMemory(context: Context): string[] {
  const codes = context.instructions.map((one) => one.code).filter(storesImage);
  if (codes.length === 0) return [];
  const a = windowAfter(context.native, context.made);
  const b = windowAfter(context.other, context.made);
  const allowed = new Set<number>();
  const add = (from: number, bytes: number): void => {
    for (let i = 0; i < bytes; i++) allowed.add(from + i);
  };
  for (const image of imagesIn(codes, a, b)) {
    const pending = (a[image.status] & 0x80) !== 0;
    const low = a[image.instruction] | (a[image.instruction + 1] << 8);
    const counts = pointersThatCount(context, BigInt(CODE + low));
    if (image.opcode >= 0 && !(pending && counts.opcode)) add(image.opcode, 2);
    if (!(pending && counts.data)) add(image.data, image.bytes);
    // FNSTENV and FNSAVE have it always, FXSAVE on Intel's processors alone.
    if (!pending && image.bytes === 8) add(image.instruction, 8);
  }
  return partsWithin(allowed, a, b);
}

const X87_STORES = /^(fst|fstp|fist|fistp|fisttp|fbstp)$/;
const COMPARES_STRINGS = /^(cmps|scas)[bwdq]$/;
/** CF, PF, AF, ZF, SF, OF. */
const STATUS_FLAGS = 0x8d5n;
/** Loads of 16 bytes that need no alignment. */
const UNALIGNED = /^(lddqu|mov[dq]qu|movup[sd]|pcmp[ei]str[im](64)?)$/;
const ALIGNMENT_CHECK = 17;
const PAGE_FAULT = 14;
const MMX_STORES = new Set([Code.Movd_rm32_mm, Code.Movq_rm64_mm, Code.Movq_mmm64_mm, Code.Movntq_m64_mm]);
/** In the status word. */
const TOP = 0x3800;

function isNaNSingle(bits: number): boolean {
  return (bits & 0x7fffffff) > 0x7f800000;
}

/** Names of XMM registers that differ in lanes that are NaNs on both sides, and in nothing else. */
function registersWithOtherNaNs({ native, other }: Context): string[] {
  const lanes = (image: Uint8Array, i: number): number[] => {
    const view = new DataView(image.buffer, image.byteOffset + Fxsave.XMM + 16 * i, 16);
    return [0, 4, 8, 12].map((at) => view.getUint32(at, true));
  };
  return Array.from({ length: 16 }, (_, i) => i)
    .filter((i) => {
      const theirs = lanes(other.fxsave, i);
      return lanes(native.fxsave, i).every(
        (lane, j) => lane === theirs[j] || (isNaNSingle(lane) && isNaNSingle(theirs[j])),
      );
    })
    .map((i) => `xmm${i}`);
}

export const intelTolerances: readonly Tolerance[] = [
  {
    name: 'x87 pointers',
    reason:
      'FXSAVE stores FIP always, where AMD stores it for a pending exception alone (AMD64 vol. 2, 11.4.4); FOP is that of an unmasked exception or 0 (SDM vol. 1, 8.1.9.1), FDP as well where CPUID has FDP_EXCPTN_ONLY, and undefined after an instruction without a memory operand (8.1.8)',
    ignore: (context) => ({ parts: [...pointerRegisters(context), ...pointersInMemory(context)] }),
  },
  {
    name: 'x87 exceptions before faults',
    reason:
      "an unmasked exception leaves a store's memory alone, and whether its address is looked at before is up to the processor: one class of exceptions in the order of priorities (SDM vol. 3, 6.9; AMD64 vol. 2, 8.5)",
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, other.rip);
      if (!isMemoryFault(other.vector) || !X87_STORES.test(at?.mnemonic ?? '')) return undefined;
      const fip = new DataView(native.fxsave.buffer, native.fxsave.byteOffset).getBigUint64(Fxsave.FIP, true);
      const pending = (native.fxsave[Fxsave.FSW] & 0x80) !== 0;
      return pending && fip === other.rip ? { everything: true } : undefined;
    },
  },
  {
    name: 'flags of interrupted comparisons',
    reason:
      'a fault in a repeated CMPS or SCAS brings the flags back that were there before it (SDM vol. 2, REP); AMD leaves those of the last comparison',
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, native.rip);
      const same = native.rip === other.rip && native.vector === other.vector && isMemoryFault(native.vector);
      return same && at?.repeated && COMPARES_STRINGS.test(at.mnemonic)
        ? { rflags: STATUS_FLAGS }
        : undefined;
    },
  },
  {
    name: 'alignment of 16 bytes',
    reason:
      '#AC of a 16-byte access that may be unaligned is up to the processor (SDM vol. 3, 6.15, interrupt 17)',
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, other.rip);
      const only = other.vector === ALIGNMENT_CHECK && native.vector !== ALIGNMENT_CHECK;
      return only && at?.memory && UNALIGNED.test(at.mnemonic) ? { everything: true } : undefined;
    },
  },
  {
    name: 'TOP after faults of MMX stores',
    reason:
      'Ice Lake keeps TOP = 0 when the store of an MMX register has a page fault, and nothing else of the instruction; no manual has that (seen; SDM vol. 3, 6.5 says that a fault leaves no trace)',
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, native.rip);
      const same = native.rip === other.rip && native.vector === PAGE_FAULT && other.vector === PAGE_FAULT;
      const cleared = (native.fxsave[Fxsave.FSW + 1] & (TOP >> 8)) === 0;
      return same && cleared && MMX_STORES.has(at?.code ?? Code.INVALID) ? { fsw: TOP } : undefined;
    },
  },
  {
    name: 'PAUSE with REX.B',
    reason:
      'F3 41 90 is PAUSE, whose REX prefix means nothing (SDM vol. 2, PAUSE; XED agrees); for AMD it is an XCHG with R8',
    ignore: ({ made, instructions }) => {
      const extended = instructions.some(
        (one) => one.code === Code.Pause && (made.code[one.at + one.length - 2] & 0xf1) === 0x41,
      );
      return extended ? { everything: true } : undefined;
    },
  },
  {
    name: 'NaNs of dot products',
    reason:
      'which of several NaNs becomes the sum, and in which lane, is up to the processor (SDM vol. 2, DPPS, DPPD)',
    ignore: (context) => {
      if (!context.instructions.some((one) => /^dpp[sd]$/.test(one.mnemonic))) return undefined;
      return { parts: registersWithOtherNaNs(context) };
    },
  },
];
