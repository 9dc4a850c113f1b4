import { describe, expect, it } from 'vitest';
import { cpuid } from '../../../main/emulator/system/cpuid.ts';
import type { Processor } from '../../../main/emulator/processor.ts';
import { foreignFeatures, PORTABLE, portableCpuid } from '../../../main/nvmm/cpu-model.ts';

describe('the CPU model portable', () => {
  // A processor, as far as the table looks at it.
  const processor = { cpu: { get: () => 0 }, tscHz: 1e9, cpuid: 0 } as unknown as Processor;

  it('shows nothing that the emulator has not, but what the machine adds', () => {
    for (const { leaf, set, del } of portableCpuid()) {
      const own = cpuid(processor, leaf, 0);
      for (const name of ['ebx', 'ecx', 'edx'] as const) {
        // What is neither deleted nor set is shown as the backend has it: so the emulator must have it.
        const shown = ~del[name] & ~set[name];
        if (del[name] !== 0) expect(own[name] & shown, `leaf ${leaf.toString(16)}, ${name}`).toBe(shown);
      }
    }
  });

  it('has all of x86-64-v2', () => {
    // cmpxchg16b lahf popcnt sse3 sse4_1 sse4_2 ssse3
    const ecx = (1 << 13) | (1 << 23) | 1 | (1 << 19) | (1 << 20) | (1 << 9);
    expect(PORTABLE['leaf1.ecx'] & ecx).toBe(ecx);
    expect(PORTABLE['ext1.ecx'] & 1).toBe(1);
  });

  it('names what another model shows', () => {
    expect(foreignFeatures(PORTABLE)).toEqual([]);
    const more = { ...PORTABLE, 'leaf7.ebx': PORTABLE['leaf7.ebx'] | (1 << 5), 'leaf9.eax': 4 };
    expect(foreignFeatures(more)).toEqual(['avx2', 'leaf9.eax bit 2']);
  });

  it('is no more leaves than NVMM takes, and no bit both set and deleted', () => {
    const leaves = portableCpuid();
    expect(leaves.length).toBeLessThanOrEqual(32);
    for (const { set, del } of leaves) {
      for (const name of ['eax', 'ebx', 'ecx', 'edx'] as const) expect(set[name] & del[name]).toBe(0);
    }
  });
});
