import { Cr4 } from '../cpu.ts';
import { PHYSICAL_BITS } from '../mmu.ts';
import type { Processor } from '../processor.ts';
import { Field } from '../state.ts';

/** Rows of the feature bits: CPUID leaf and register, bit, name as in /proc/cpuinfo (which the decoder uses too). */
const LEAF_1_EDX: readonly [number, string][] = [
  [0, 'fpu'],
  [2, 'de'],
  [3, 'pse'],
  [4, 'tsc'],
  [5, 'msr'],
  [6, 'pae'],
  [8, 'cx8'],
  [9, 'apic'],
  [11, 'sep'],
  [12, 'mtrr'],
  [13, 'pge'],
  [15, 'cmov'],
  [16, 'pat'],
  [17, 'pse36'],
  [19, 'clflush'],
  [23, 'mmx'],
  [24, 'fxsr'],
  [25, 'sse'],
  [26, 'sse2'],
];
const LEAF_1_ECX: readonly [number, string][] = [
  [0, 'pni'],
  [1, 'pclmulqdq'],
  [9, 'ssse3'],
  [13, 'cx16'],
  [17, 'pcid'],
  [19, 'sse4_1'],
  [20, 'sse4_2'],
  [21, 'x2apic'],
  [22, 'movbe'],
  [23, 'popcnt'],
  [24, 'tsc_deadline_timer'],
  [25, 'aes'],
  [26, 'xsave'],
  [30, 'rdrand'],
  [31, 'hypervisor'],
];
const LEAF_7_EBX: readonly [number, string][] = [
  [0, 'fsgsbase'],
  [7, 'smep'],
  [9, 'erms'],
  [10, 'invpcid'],
  // FCS and FDS are always stored as 0.
  [13, 'zero_fcs_fds'],
  [18, 'rdseed'],
  [20, 'smap'],
  [23, 'clflushopt'],
  [24, 'clwb'],
];
/** FSRM: short REP MOVSB is fast. */
const LEAF_7_EDX: readonly [number, string][] = [[4, 'fsrm']];
const LEAF_81_ECX: readonly [number, string][] = [
  [0, 'lahf_lm'],
  [8, '3dnowprefetch'],
];
const LEAF_81_EDX: readonly [number, string][] = [
  [11, 'syscall'],
  [20, 'nx'],
  [26, 'pdpe1gb'],
  [27, 'rdtscp'],
  [29, 'lm'],
];

/**
 * The CPU model `portable`: x86-64-v2 and what every backend can give beside it. Features whose instructions
 * are not implemented are not here, and not decoded either.
 */
export const PORTABLE_FEATURES: ReadonlySet<string> = new Set(
  [LEAF_1_EDX, LEAF_1_ECX, LEAF_7_EBX, LEAF_7_EDX, LEAF_81_ECX, LEAF_81_EDX]
    .flat()
    .map(([, name]) => name)
    .filter((name) => !['movbe', 'aes', 'pclmulqdq', 'clwb'].includes(name)),
);
/** What the decoder accepts: beside the features, instructions that CPUID has no name for. */
export const DECODED_FEATURES: ReadonlySet<string> = new Set([...PORTABLE_FEATURES, 'smap', 'monitor']);

function bits(rows: readonly [number, string][]): number {
  return rows.reduce((word, [bit, name]) => (PORTABLE_FEATURES.has(name) ? word | (1 << bit) : word), 0);
}

/**
 * What no emulated processor has to be defended against: branch type confusion and speculative return stack overflow
 * (BTC_NO in 8000_0008 EBX, SRSO_NO in 8000_0021 EAX; AMD APM vol. 3, E.4). Told that, kernels leave out return thunks,
 * each of which is two more jumps that nobody foresees.
 */
const BTC_NO = 1 << 29;
const SRSO_NO = 1 << 29;

/** Bits that the long-mode leaf repeats from leaf 1 on AMD processors, which is how we name ourselves. */
const REPEATED_EDX = 0x0183f3ff;

const XSAVE_X87_SSE = 3;
/** Legacy area and header (SDM vol. 1, 13.4). */
const XSAVE_BYTES = 576;

const text = (value: string, at: number): number =>
  [0, 1, 2, 3].reduce((word, i) => word | ((value.charCodeAt(at + i) || 0) << (8 * i)), 0);

export interface CpuidResult {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

const BRAND = 'Vitrine portable x86-64-v2 processor'.padEnd(48, '\0');

/** What CPUID answers before the vCPU's own configuration. Frequencies in Hz. */
export function cpuid(p: Processor, leaf: number, subleaf: number): CpuidResult {
  const none = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  const { cpu } = p;
  switch (leaf >>> 0) {
    case 0:
      return {
        eax: 0x16,
        ebx: text('AuthenticAMD', 0),
        ecx: text('AuthenticAMD', 8),
        edx: text('AuthenticAMD', 4),
      };
    case 1: {
      const osxsave = cpu.get(Field.CR4) & Cr4.OSXSAVE ? 1 << 27 : 0;
      // Family 0Fh + 8 = 17h, model 31h, stepping 0; CLFLUSH line 8 quadwords; one logical processor; APIC id.
      return {
        eax: 0x00830f10,
        ebx: (p.cpuid << 24) | (1 << 16) | (8 << 8),
        ecx: bits(LEAF_1_ECX) | osxsave,
        edx: bits(LEAF_1_EDX),
      };
    }
    case 7:
      return subleaf === 0 ? { ...none, ebx: bits(LEAF_7_EBX), edx: bits(LEAF_7_EDX) } : none;
    case 0xb:
      return subleaf > 1
        ? { ...none, ecx: subleaf & 0xff, edx: p.cpuid }
        : { eax: subleaf === 0 ? 0 : 7, ebx: 1, ecx: subleaf | ((subleaf + 1) << 8), edx: p.cpuid };
    case 0xd:
      if (subleaf === 0) return { eax: XSAVE_X87_SSE, ebx: XSAVE_BYTES, ecx: XSAVE_BYTES, edx: 0 };
      return none;
    case 0x15:
      // TSC over a crystal of 1 MHz steps: TSC Hz = crystal * ebx / eax.
      return { eax: 1, ebx: Math.round(p.tscHz / 1e6), ecx: 1_000_000, edx: 0 };
    case 0x16:
      return { ...none, eax: Math.round(p.tscHz / 1e6), ebx: Math.round(p.tscHz / 1e6), ecx: 100 };
    case 0x40000000:
      return {
        eax: 0x40000010,
        ebx: text('___ NVMM ___', 0),
        ecx: text('___ NVMM ___', 4),
        edx: text('___ NVMM ___', 8),
      };
    case 0x40000010:
      // As VMware defined and Linux reads it: TSC frequency in kHz.
      return { ...none, eax: Math.round(p.tscHz / 1000) };
    case 0x80000000:
      return {
        eax: 0x80000021,
        ebx: text('AuthenticAMD', 0),
        ecx: text('AuthenticAMD', 8),
        edx: text('AuthenticAMD', 4),
      };
    case 0x80000001:
      return {
        eax: 0x00830f10,
        ebx: 0,
        ecx: bits(LEAF_81_ECX),
        edx: bits(LEAF_81_EDX) | (bits(LEAF_1_EDX) & REPEATED_EDX),
      };
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
      const at = ((leaf >>> 0) - 0x80000002) * 16;
      return {
        eax: text(BRAND, at),
        ebx: text(BRAND, at + 4),
        ecx: text(BRAND, at + 8),
        edx: text(BRAND, at + 12),
      };
    }
    case 0x80000007:
      return { ...none, edx: 1 << 8 };
    case 0x80000008:
      return { ...none, eax: PHYSICAL_BITS | (48 << 8), ebx: BTC_NO };
    case 0x80000021:
      return { ...none, eax: SRSO_NO };
    default:
      return none;
  }
}
