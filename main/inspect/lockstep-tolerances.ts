import * as iced from 'iced-x86';
import { Gpr } from '../nvmm/constants.ts';
import { VcpuState } from '../nvmm/layout.ts';
import { codeSizeOf } from './disassembly.ts';
import type { RegisterDifference } from './lockstep-compare.ts';

/**
 * What may differ between two backends that are both right. Whoever differs so is given the leader's values, and the
 * two go on. Only where instructions are stepped: two backends that count have nothing that may differ.
 */

/** Instructions whose results are inputs: time, randomness, and what a processor says of itself. */
const FED: ReadonlyMap<number, string> = new Map([
  [iced.Mnemonic.Rdtsc, 'RDTSC'],
  [iced.Mnemonic.Rdtscp, 'RDTSCP'],
  [iced.Mnemonic.Rdrand, 'RDRAND'],
  [iced.Mnemonic.Rdseed, 'RDSEED'],
  [iced.Mnemonic.Cpuid, 'CPUID'],
  [iced.Mnemonic.Rdmsr, 'RDMSR'],
]);

const FLAGS: readonly (readonly [iced: number, bit: bigint])[] = [
  [iced.RflagsBits.OF, 0x800n],
  [iced.RflagsBits.SF, 0x80n],
  [iced.RflagsBits.ZF, 0x40n],
  [iced.RflagsBits.AF, 0x10n],
  [iced.RflagsBits.PF, 0x4n],
  [iced.RflagsBits.CF, 0x1n],
];

/** What they may give their results in. */
const RESULTS: ReadonlySet<string> = new Set(Object.keys(Gpr).filter((name) => name !== 'RIP'));

/** Where the last x87 instruction was: processors differ in what they keep, and in when. */
const LAST_FPU = new Set(['FOP', 'FIP', 'FDP']);
/** Hidden parts of segments that can't be used: nothing reads them. */
const HIDDEN = /^(\w\w|LDT|TR|GDT|IDT)\.(attributes|limit|base|selector)$/;

/** Why all of these may differ after the instruction with these bytes; null when they may not. */
export function tolerate(found: RegisterDifference[], code: Uint8Array, before: Uint8Array): string | null {
  const names = found.map(({ name }) => name);
  if (names.every((name) => LAST_FPU.has(name))) return 'FPU: the last instruction’s place';
  if (names.every((name) => hiddenOnly(name, before))) return 'hidden parts of unusable segments';
  const decoder = new iced.Decoder(codeSizeOf(new VcpuState(before.slice())), code, iced.DecoderOptions.None);
  const instruction = decoder.decode();
  try {
    const fed = FED.get(instruction.mnemonic);
    if (fed !== undefined && names.every((name) => RESULTS.has(name))) {
      return `${fed}: the other was given its result`;
    }
    if (names.length === 1 && names[0] === 'RFLAGS') {
      const undefined_ = FLAGS.reduce(
        (mask, [bit, flag]) => ((instruction.rflagsUndefined & bit) !== 0 ? mask | flag : mask),
        0n,
      );
      const [{ a, b }] = found;
      if (((BigInt(a) ^ BigInt(b)) & ~undefined_) === 0n) return 'undefined flags';
    }
    return null;
  } finally {
    instruction.free();
    decoder.free();
  }
}

function hiddenOnly(name: string, before: Uint8Array): boolean {
  const match = HIDDEN.exec(name);
  if (match === null) return false;
  const [, segment, part] = match;
  if (segment === 'GDT' || segment === 'IDT') return part === 'attributes' || part === 'selector';
  const index = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS', 'GDT', 'IDT', 'LDT', 'TR'].indexOf(segment);
  const state = new VcpuState(before.slice());
  return state.selector(index) < 4 && part !== 'base' && part !== 'selector';
}
