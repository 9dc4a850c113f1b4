import { Fxsave, LINE } from './case.ts';
import type { Case, Result } from './case.ts';
import { memoryPart } from './tolerance.ts';
import { ignoredParts } from './tolerances.ts';

/** A place where two results differ: a register, a line of memory, or the end itself. */
export interface Difference {
  what: string;
  native: string;
  other: string;
}

export const GPR_NAMES = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');

const hex = (value: bigint | number, digits = 16): string => value.toString(16).padStart(digits, '0');
/** Bytes as one number, as registers are written. */
const number = (bytes: Uint8Array): string => Buffer.from(bytes).reverse().toString('hex');

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, i) => byte === b[i]);
}

/** All that two runs of a case differ in, less what may differ (tolerances.ts). */
export function compare(made: Case, native: Result, other: Result): Difference[] {
  // A run that was cut short is where it happened to be, and time itself is not compared.
  if (native.timedOut || other.timedOut) return [];
  const raw = differences(made, native, other);
  if (raw.length === 0) return raw;
  const ignored = ignoredParts(made, native, other);
  return ignored.everything ? [] : differences(made, native, other, ignored);
}

/** What is left out of a comparison. */
export interface Ignored {
  /** Bits of RFLAGS, of the error code, and of the x87 status word. */
  rflags: bigint;
  error: number;
  fsw: number;
  mxcsr: number;
  /** Names of whole parts, as in Difference.what. */
  parts: ReadonlySet<string>;
  everything: boolean;
}

const NOTHING: Ignored = { rflags: 0n, error: 0, fsw: 0, mxcsr: 0, parts: new Set(), everything: false };

export function differences(made: Case, native: Result, other: Result, ignored = NOTHING): Difference[] {
  const found: Difference[] = [];
  const add = (what: string, a: string, b: string): void => {
    if (a !== b && !ignored.parts.has(what)) found.push({ what, native: a, other: b });
  };
  add('exception', String(native.vector), String(other.vector));
  add('error code', hex(native.error & ~ignored.error, 1), hex(other.error & ~ignored.error, 1));
  add('cr2', hex(native.cr2), hex(other.cr2));
  add('rip', hex(native.rip), hex(other.rip));
  const flags = ~ignored.rflags;
  add('rflags', hex(native.rflags & flags, 6), hex(other.rflags & flags, 6));
  for (let i = 0; i < 16; i++) add(GPR_NAMES[i], hex(native.gpr(i)), hex(other.gpr(i)));
  add('fsbase', hex(native.fsbase), hex(other.fsbase));
  add('gsbase', hex(native.gsbase), hex(other.gsbase));
  ['ds', 'es', 'fs', 'gs'].forEach((name, i) =>
    add(name, hex(native.selector(i), 4), hex(other.selector(i), 4)),
  );
  compareFxsave(native, other, ignored, add);
  for (const offset of new Set([...native.lines.keys(), ...other.lines.keys()])) {
    const a = native.lineAt(offset, made);
    const b = other.lineAt(offset, made);
    for (let i = 0; i < LINE; i += 8) {
      add(memoryPart(offset + i), number(a.subarray(i, i + 8)), number(b.subarray(i, i + 8)));
    }
  }
  return found;
}

function compareFxsave(
  native: Result,
  other: Result,
  ignored: Ignored,
  add: (what: string, a: string, b: string) => void,
): void {
  const a = native.fxsave;
  const b = other.fxsave;
  if (same(a.subarray(0, 28), b.subarray(0, 28)) && same(a.subarray(32, 416), b.subarray(32, 416))) return;
  const field = (what: string, at: number, size: number): void =>
    add(what, number(a.subarray(at, at + size)), number(b.subarray(at, at + size)));
  const word = (image: Uint8Array, at: number, mask: number): string =>
    hex((image[at] | (image[at + 1] << 8)) & mask, 4);
  field('fcw', Fxsave.FCW, 2);
  add('fsw', word(a, Fxsave.FSW, ~ignored.fsw), word(b, Fxsave.FSW, ~ignored.fsw));
  field('ftw', Fxsave.FTW, 1);
  field('fop', Fxsave.FOP, 2);
  field('fip', Fxsave.FIP, 8);
  field('fdp', Fxsave.FDP, 8);
  add('mxcsr', word(a, Fxsave.MXCSR, ~ignored.mxcsr), word(b, Fxsave.MXCSR, ~ignored.mxcsr));
  for (let i = 0; i < 8; i++) field(`st${i}`, Fxsave.ST + 16 * i, 10);
  for (let i = 0; i < 16; i++) field(`xmm${i}`, Fxsave.XMM + 16 * i, 16);
}
