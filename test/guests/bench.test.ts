import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { root } from '../bench/bench.ts';
import { lack, measure } from '../bench/measure.ts';
import type { Job } from '../bench/measure.ts';
import { rowNames, systemRows } from '../bench/table.ts';

// Every row of the CPU benchmark, as little of it as there is, without an operating system: what the emulator
// computes is what this host computes.

const missing = ['gcc', 'objcopy', 'cpio'].find((name) => spawnSync(name, ['--version']).error !== undefined);
const job: Job = { bits: 64, bare: true, words: 'scale=0', options: [], built: false };
const reason = missing ? `${missing} is not installed` : lack('native', job);
const rows = rowNames.filter((row) => !systemRows.includes(row));

describe.skipIf(reason !== null)(`the CPU benchmark${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  beforeAll(() => {
    const { status, stderr } = spawnSync('bash', [join(root, 'test/bench/guest.sh')], { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
  });

  for (const bits of [64, 32] as const) {
    it(`${bits}-bit: every row computes what it should`, async ({ skip }) => {
      const lacking = lack('native', { ...job, bits });
      if (lacking !== null) skip(lacking);
      const words = `scale=0 rows=${rows.join(',')}`;
      const [native, emulated] = [
        await measure('native', { ...job, bits, words }),
        await measure('emulated', { ...job, bits, words, options: ['--stats'] }),
      ];
      const sums = ({ samples }: typeof native) =>
        samples.map(({ row, units, sum }) => ({ row, units, sum }));
      expect(sums(native).map(({ row }) => row)).toEqual(expect.arrayContaining(rows));
      expect(sums(emulated)).toEqual(sums(native));
      // What the vCPU counted is there although it is gone.
      expect(Number(/^instructions +(\d+)$/m.exec(emulated.output)?.[1])).toBeGreaterThan(1e7);
    });
  }
});
