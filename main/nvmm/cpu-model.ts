import type { CpuidConf, CpuidRegisters } from './nvmm.ts';

/**
 * The CPU model `portable`: the features that a guest is shown on every backend, so that a snapshot taken on one runs
 * on any other. They are those that the emulator has and NVMM passes on by both vendors' modules; all others are
 * masked. x86-64-v2 is in it. XSAVE is not: NVMM shows the host's variants of it and has no way to hide them alone.
 * Vendor, family, caches and address widths stay the backend's: a guest looks at them when it boots.
 */

export type FeatureWord =
  'leaf1.ecx' | 'leaf1.edx' | 'leaf7.ebx' | 'leaf7.ecx' | 'leaf7.edx' | 'ext1.ecx' | 'ext1.edx' | 'ext8.ebx';

/** Where each word is, and which of its bits are shown. */
const WORDS: readonly [FeatureWord, leaf: number, register: keyof CpuidRegisters, shown: number][] = [
  // sse3 ssse3 cx16 sse4_1 sse4_2 popcnt rdrand hypervisor
  ['leaf1.ecx', 1, 'ecx', 0xc0982201],
  // fpu de pse tsc msr pae cx8 apic sep pge cmov pat pse36 clflush mmx fxsr sse sse2
  ['leaf1.edx', 1, 'edx', 0x078bab7d],
  // fsgsbase smep erms zero_fcs_fds rdseed smap clflushopt
  ['leaf7.ebx', 7, 'ebx', 0x00942281],
  ['leaf7.ecx', 7, 'ecx', 0],
  // fsrm
  ['leaf7.edx', 7, 'edx', 0x00000010],
  // lahf_lm 3dnowprefetch
  ['ext1.ecx', 0x8000_0001, 'ecx', 0x00000101],
  // syscall nx pdpe1gb lm, and what repeats leaf 1
  ['ext1.edx', 0x8000_0001, 'edx', 0x2593ab7d],
  // btc_no: what a processor is safe from is the backend's to say, as its family is
  ['ext8.ebx', 0x8000_0008, 'ebx', 0x2000_0000],
];

/** What our PC has although NVMM hides it: x2apic tsc_deadline_timer; mce mtrr mca as QEMU sets; tsc_adjust. */
const ADDED: Partial<Record<FeatureWord, number>> = {
  'leaf1.ecx': (1 << 21) | (1 << 24),
  'leaf1.edx': (1 << 7) | (1 << 12) | (1 << 14),
  // Linux then trusts the TSC, and need not ask a slower clock for the time.
  'leaf7.ebx': 1 << 1,
};

/** All that guests are shown, by word: what a snapshot says that its guest may use. */
export const PORTABLE: Readonly<Record<FeatureWord, number>> = Object.fromEntries(
  WORDS.map(([word, , , shown]) => [word, (shown | (ADDED[word] ?? 0)) >>> 0]),
) as Record<FeatureWord, number>;

/** Names of bits as in /proc/cpuinfo, of those that a guest of another version may have been shown. */
const NAMES: Partial<Record<FeatureWord, Record<number, string>>> = {
  'leaf1.ecx': {
    1: 'pclmulqdq',
    3: 'monitor',
    12: 'fma',
    17: 'pcid',
    22: 'movbe',
    25: 'aes',
    26: 'xsave',
    28: 'avx',
  },
  'leaf7.ebx': {
    3: 'bmi1',
    5: 'avx2',
    8: 'bmi2',
    10: 'invpcid',
    16: 'avx512f',
    19: 'adx',
    24: 'clwb',
    29: 'sha_ni',
  },
  'leaf7.ecx': { 2: 'umip', 3: 'pku', 16: 'la57', 22: 'rdpid' },
  'ext1.ecx': { 5: 'abm' },
  'ext1.edx': { 27: 'rdtscp' },
};

/** How a vCPU is configured to show the model. */
export function portableCpuid(): CpuidConf[] {
  const none: CpuidRegisters = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  const leaves = new Map<number, CpuidConf>();
  for (const [word, leaf, register, shown] of WORDS) {
    const conf = leaves.get(leaf) ?? { mask: true, exit: false, leaf, set: { ...none }, del: { ...none } };
    const added = ADDED[word] ?? 0;
    conf.set[register] = added;
    conf.del[register] = ~(shown | added);
    leaves.set(leaf, conf);
  }
  return [...leaves.values()];
}

/** Features that a guest was shown and that are not in our model, by name. */
export function foreignFeatures(shown: Readonly<Record<string, number>>): string[] {
  return Object.entries(shown).flatMap(([word, bits]) => {
    const known = PORTABLE[word as FeatureWord] ?? 0;
    const names = NAMES[word as FeatureWord] ?? {};
    return Array.from({ length: 32 }, (_, bit) => bit)
      .filter((bit) => (((bits & ~known) >>> bit) & 1) !== 0)
      .map((bit) => names[bit] ?? `${word} bit ${bit}`);
  });
}
