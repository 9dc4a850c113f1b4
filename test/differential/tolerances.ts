import { RflagsBits } from 'iced-x86';
import { Fxsave, LINE } from './case.ts';
import type { Case, Result } from './case.ts';
import type { Ignored } from './compare.ts';
import { inspectAll } from './inspect.ts';
import { instructionAt, isAccessFault, isMemoryFault, memoryPart } from './tolerance.ts';
import type { Context, Tolerance } from './tolerance.ts';
import { amdTolerances } from './tolerances-amd.ts';
import { intelTolerances } from './tolerances-intel.ts';
import { hostVendor } from './vendor.ts';

/**
 * What may differ between the real CPU and the emulator, and why. Each entry looks at a case whose results
 * differ and says which parts of them don't count. These hold on every host; those that a vendor's processors
 * make necessary are beside them, and count on its processors alone.
 */

const FLAG: readonly [number, bigint][] = [
  [RflagsBits.OF, 0x800n],
  [RflagsBits.SF, 0x80n],
  [RflagsBits.ZF, 0x40n],
  [RflagsBits.AF, 0x10n],
  [RflagsBits.PF, 0x4n],
  [RflagsBits.CF, 0x1n],
];

function architectural(bits: number): bigint {
  return FLAG.reduce((mask, [iced, flag]) => ((bits & iced) !== 0 ? mask | flag : mask), 0n);
}

/** Flags that may be undefined when the case ended at `rip`. */
function undefinedFlags({ made, native, instructions }: Context): bigint {
  const branchy = instructions.some((one) => one.branch);
  const fault = Number(native.rip) - made.rip;
  let bits = 0;
  for (const one of instructions) {
    if (!branchy && one.at >= fault && native.vector !== 3) break;
    if (!branchy) bits &= ~one.flagsWritten;
    bits |= one.flagsUndefined;
  }
  return architectural(bits);
}

/** The value of an extended real, near enough to compare two of them. */
function real(image: Uint8Array, at: number): number {
  const view = new DataView(image.buffer, image.byteOffset + at, 10);
  const word = view.getUint16(8, true);
  const exponent = (word & 0x7fff) - 0x3fff;
  if (exponent === 0x4000) return NaN;
  return (word & 0x8000 ? -1 : 1) * (view.getUint32(4, true) / 2 ** 31) * 2 ** exponent;
}

/** A number that counts units in the last place: the largest of one exponent and the smallest of the next are 1 apart. */
function ordinal(view: DataView): bigint {
  const exponent = BigInt(view.getUint16(8, true) & 0x7fff);
  return (exponent << 63n) | BigInt.asUintN(63, view.getBigUint64(0, true));
}

/** Units in the last place between two extended reals of the same sign. */
function unitsApart(a: Uint8Array, b: Uint8Array, at: number): number {
  const one = new DataView(a.buffer, a.byteOffset + at, 10);
  const two = new DataView(b.buffer, b.byteOffset + at, 10);
  const sameSign = ((one.getUint8(9) ^ two.getUint8(9)) & 0x80) === 0;
  if (!sameSign) return real(a, at) === real(b, at) ? 0 : Infinity;
  return Math.abs(Number(ordinal(one) - ordinal(two)));
}

/** Manuals promise less than 1 unit of error; two answers may then be this far apart. */
const TRANSCENDENTAL_UNITS = 2;
/** RCPPS and RSQRTPS: a relative error up to 1.5 * 2^-12, on either side. */
const ESTIMATE = 3 * 2 ** -12;

function closeSingles(a: Uint8Array, b: Uint8Array, at: number): boolean {
  const one = new DataView(a.buffer, a.byteOffset + at, 16);
  const two = new DataView(b.buffer, b.byteOffset + at, 16);
  return [0, 4, 8, 12].every((lane) => {
    const x = one.getFloat32(lane, true);
    const y = two.getFloat32(lane, true);
    if (one.getUint32(lane, true) === two.getUint32(lane, true)) return true;
    return Math.abs(x - y) <= Math.abs(x) * ESTIMATE;
  });
}

const COMPARES_TWO = /^cmps[bwdq]$/;
const IMAGES = new Set('fxsave fxsave64 fxrstor fxrstor64 fnsave frstor fnstenv fldenv'.split(' '));

/** Names of the parts of memory that differ in two 16-bit words at most, which are zero in `other`. */
function partsWithWordsZero({ made, native, other }: Context): string[] {
  const parts: string[] = [];
  for (const [offset, line] of native.lines) {
    const theirs = other.lineAt(offset, made);
    for (let i = 0; i < LINE; i += 8) {
      const places = [0, 1, 2, 3, 4, 5, 6, 7].filter((j) => line[i + j] !== theirs[i + j]);
      const zero = places.every((j) => theirs[i + j] === 0);
      if (zero && places.length > 0 && places.length <= 4) parts.push(memoryPart(offset + i));
    }
  }
  return parts;
}

/** Linux leaves the last page of the lower half out of user space. */
const USER_END = 0x7ffffffff000n;

export const commonTolerances: readonly Tolerance[] = [
  {
    name: 'undefined flags',
    reason: 'the manuals leave these flags undefined after some instructions; programs must not look at them',
    ignore: (context) => ({ rflags: undefinedFlags(context) }),
  },
  {
    name: 'kernel addresses',
    reason: 'Linux reports a fault above user space as one on a page that is present, so as to tell nothing',
    ignore: ({ native }) => (native.vector === 14 && native.cr2 >= USER_END ? { error: 1 } : undefined),
  },
  {
    name: 'masked stores',
    reason:
      'whether bytes that MASKMOVQ leaves out can fault, and which address is told, is up to the processor',
    ignore: (context) => {
      const at = instructionAt(context, context.native.rip);
      return at?.mnemonic.startsWith('maskmov') ? { everything: true } : undefined;
    },
  },
  {
    name: 'faults of CALL',
    reason: 'a call to nowhere with a stack that is nowhere: processors look at one or the other first',
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, native.rip);
      const both = native.rip === other.rip && isMemoryFault(native.vector) && isMemoryFault(other.vector);
      return both && at?.mnemonic === 'call' ? { everything: true } : undefined;
    },
  },
  {
    name: 'faults of CMPS',
    reason:
      'which of two operands that both fault is looked at first is up to the processor: one class of exceptions (SDM vol. 3, 6.9); Zen 5 looks at [RSI] first, Zen 3 at [RDI]',
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, native.rip);
      const both = native.rip === other.rip && isAccessFault(native.vector) && isAccessFault(other.vector);
      if (!both || !COMPARES_TWO.test(at?.mnemonic ?? '')) return undefined;
      return { parts: ['exception', 'cr2'], error: -1 };
    },
  },
  {
    name: 'state images',
    reason:
      'which byte of a large image is touched first, and whether bad alignment is #GP or #AC, is not told',
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, native.rip);
      if (native.rip !== other.rip || !IMAGES.has(at?.mnemonic ?? '')) return undefined;
      if (native.vector !== other.vector && isMemoryFault(other.vector)) return { everything: true };
      return { parts: ['cr2'], error: 1 };
    },
  },
  {
    name: 'INT1 under a hypervisor',
    reason: "one that intercepts #DB tells INT1's own address, not the next one's as the manuals have it",
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, native.rip);
      const next = native.rip + BigInt(at?.length ?? 0) === other.rip;
      return native.vector === 1 && at?.mnemonic === 'int1' && next ? { parts: ['rip'] } : undefined;
    },
  },
  {
    name: 'x87 selectors',
    reason:
      'the selectors of the last x87 instruction are stored as zero: CPUID tells that FCS and FDS are deprecated',
    ignore: (context) => {
      const stores = /^(fnstenv|fnsave|fxsave)$/;
      if (!context.instructions.some((one) => stores.test(one.mnemonic))) return undefined;
      return { parts: partsWithWordsZero(context) };
    },
  },
  {
    name: 'transcendental functions',
    reason: 'processors differ in the last bits of these results, and in whether C1 tells of rounding up',
    ignore: ({ native, other, instructions }) => {
      if (!instructions.some((one) => one.approximate && one.mnemonic.startsWith('f'))) return undefined;
      const parts = [0, 1].flatMap((i) => {
        const at = Fxsave.ST + 16 * i;
        return unitsApart(native.fxsave, other.fxsave, at) <= TRANSCENDENTAL_UNITS ? [`st${i}`] : [];
      });
      return { fsw: 0x200, parts };
    },
  },
  {
    name: 'estimates',
    reason: 'the reciprocal estimates are bounded by their error, not by their bits',
    ignore: ({ native, other, instructions }) => {
      if (!instructions.some((one) => one.approximate && one.mnemonic.startsWith('r'))) return undefined;
      const parts = Array.from({ length: 16 }, (_, i) => i)
        .filter((i) => closeSingles(native.fxsave, other.fxsave, Fxsave.XMM + 16 * i))
        .map((i) => `xmm${i}`);
      return { parts };
    },
  },
];

const vendors = { amd: amdTolerances, intel: intelTolerances };
const tolerances: readonly Tolerance[] = [...commonTolerances, ...(hostVendor ? vendors[hostVendor] : [])];

/** Everything that doesn't count in this case. */
export function ignoredParts(made: Case, native: Result, other: Result, table = tolerances): Ignored {
  const context = { made, native, other, instructions: inspectAll(made.code) };
  let rflags = 0n;
  let error = 0;
  let fsw = 0;
  let mxcsr = 0;
  let everything = false;
  const parts = new Set<string>();
  for (const tolerance of table) {
    const part = tolerance.ignore(context);
    everything ||= part?.everything ?? false;
    rflags |= part?.rflags ?? 0n;
    error |= part?.error ?? 0;
    fsw |= part?.fsw ?? 0;
    mxcsr |= part?.mxcsr ?? 0;
    for (const name of part?.parts ?? []) parts.add(name);
  }
  return { rflags, error, fsw, mxcsr, parts, everything };
}
