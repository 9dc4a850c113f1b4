import { isCanonicalHigh } from '../cpu.ts';
import type { Processor } from '../processor.ts';
import { Field, SegmentIndex } from '../state.ts';
import { writeEfer } from './control.ts';

/** MSRs that the processor has itself; all others are the VMM's, through an exit. */
export const MSR = {
  TSC: 0x10,
  PLATFORM_ID: 0x17,
  BIOS_SIGN: 0x8b,
  SYSENTER_CS: 0x174,
  SYSENTER_ESP: 0x175,
  SYSENTER_EIP: 0x176,
  MISC_ENABLE: 0x1a0,
  PAT: 0x277,
  EFER: 0xc0000080,
  STAR: 0xc0000081,
  LSTAR: 0xc0000082,
  CSTAR: 0xc0000083,
  SFMASK: 0xc0000084,
  FS_BASE: 0xc0000100,
  GS_BASE: 0xc0000101,
  KERNEL_GS_BASE: 0xc0000102,
  TSC_AUX: 0xc0000103,
} as const;

/** Plain registers: MSR, field, and whether the value must be a canonical address. */
const FIELDS: readonly [msr: number, field: number, canonical: boolean][] = [
  [MSR.SYSENTER_CS, Field.SYSENTER_CS, false],
  [MSR.SYSENTER_ESP, Field.SYSENTER_ESP, true],
  [MSR.SYSENTER_EIP, Field.SYSENTER_EIP, true],
  [MSR.STAR, Field.STAR, false],
  [MSR.LSTAR, Field.LSTAR, true],
  [MSR.CSTAR, Field.CSTAR, true],
  [MSR.SFMASK, Field.SFMASK, false],
  [MSR.KERNEL_GS_BASE, Field.KERNEL_GS_BASE, true],
];
const plain = new Map(FIELDS.map(([msr, field, canonical]) => [msr, { field, canonical }]));

export type MsrResult = 'done' | 'fault' | 'exit';

/** Fast strings; performance monitoring and precise events absent (SDM vol. 4). */
const MISC_ENABLE_VALUE = 0x1801;

/** Reads an MSR into `p.msrLow` and `p.msrHigh`. */
export function readMsr(p: Processor, msr: number): MsrResult {
  const { cpu } = p;
  const from = (field: number): MsrResult => {
    p.msrLow = cpu.get(field);
    p.msrHigh = cpu.high(field);
    return 'done';
  };
  const known = plain.get(msr);
  if (known) return from(known.field);
  switch (msr) {
    case MSR.TSC:
      p.readTsc();
      return 'done';
    case MSR.EFER:
      return from(Field.EFER);
    case MSR.PAT:
      return from(Field.PAT);
    case MSR.FS_BASE:
      return from(cpu.baseField(SegmentIndex.FS));
    case MSR.GS_BASE:
      return from(cpu.baseField(SegmentIndex.GS));
    case MSR.TSC_AUX:
      return from(Field.TSC_AUX);
    case MSR.PLATFORM_ID:
    case MSR.BIOS_SIGN:
      p.msrLow = p.msrHigh = 0;
      return 'done';
    case MSR.MISC_ENABLE:
      p.msrLow = MISC_ENABLE_VALUE;
      p.msrHigh = 0;
      return 'done';
    default:
      return 'exit';
  }
}

export function writeMsr(p: Processor, msr: number, low: number, high: number): MsrResult {
  const { cpu } = p;
  const known = plain.get(msr);
  if (known) {
    if (known.canonical && !isCanonicalHigh(high)) return 'fault';
    cpu.set64(known.field, low, high);
    return 'done';
  }
  switch (msr) {
    case MSR.TSC:
      p.writeTsc(low, high);
      return 'done';
    case MSR.EFER:
      return writeEfer(p, low, high) ? 'done' : 'fault';
    case MSR.PAT:
      if (!validPat(low) || !validPat(high)) return 'fault';
      cpu.set64(Field.PAT, low, high);
      return 'done';
    case MSR.FS_BASE:
    case MSR.GS_BASE:
      if (!isCanonicalHigh(high)) return 'fault';
      cpu.setBase(msr === MSR.FS_BASE ? SegmentIndex.FS : SegmentIndex.GS, low, high);
      cpu.updateContext();
      return 'done';
    case MSR.TSC_AUX:
      if (high !== 0) return 'fault';
      cpu.set64(Field.TSC_AUX, low, 0);
      return 'done';
    case MSR.PLATFORM_ID:
    case MSR.BIOS_SIGN:
    case MSR.MISC_ENABLE:
      return 'done';
    default:
      return 'exit';
  }
}

/** Each byte of PAT is one of the memory types 0, 1, 4, 5, 6, 7. */
function validPat(word: number): boolean {
  for (let shift = 0; shift < 32; shift += 8) {
    const type = (word >>> shift) & 0xff;
    if (type > 7 || type === 2 || type === 3) return false;
  }
  return true;
}
