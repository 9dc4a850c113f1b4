import { describe, expect, it } from 'vitest';
import { page, picture } from '../../bench/performance-page.ts';
import { decades, plot } from '../../bench/plot.ts';
import { profileTable, timeByFunction, timeByPart } from '../../bench/profile-parts.ts';
import { BenchReader, Checksums, milliseconds } from '../../bench/protocol.ts';
import type { CpuRun, Performance } from '../../bench/report.ts';
import { median, quantile } from '../../bench/statistics.ts';
import { geometricMean, groupRatio, markdown, ratio, resultTables } from '../../bench/table.ts';

const sample = (row: string, wall: number, clock: number, sum = 'a') => ({
  ...{ row, units: 1, sum, wall, clock },
  thread: null,
});

describe('what the guest prints', () => {
  it('a row lasts from its first line to its second, wherever the pieces are cut', () => {
    const reader = new BenchReader();
    reader.feed('Run /init\r\nBENCH begin\r\nBENCH sieve st', 0);
    reader.feed('art\r\n', 100);
    reader.feed('[ 1.0] noise\nBENCH sieve done 3 ff0', 150);
    expect(reader.samples).toEqual([]);
    reader.feed(' 77\r\nBENCH end\r\n', 400);
    expect(reader.samples).toEqual([
      { row: 'sieve', units: 3, sum: 'ff0', wall: 300, thread: null, clock: 77 },
    ]);
    expect(reader.ended).toBe(true);
  });

  it('the busiest thread counts, whatever else there is', () => {
    const reader = new BenchReader();
    reader.feed(
      'BENCH fib start\n',
      0,
      new Map([
        ['1', 5e6],
        ['2', 7e6],
      ]),
    );
    reader.feed(
      'BENCH fib done 1 a 2\n',
      900,
      new Map([
        ['2', 307e6],
        ['3', 20e6],
      ]),
    );
    expect(reader.samples[0].thread).toBe(300);
  });

  for (const { name, text, wanted } of [
    {
      name: 'a second start is a crash',
      text: 'BENCH begin\nBENCH fib start\nBENCH begin\n',
      wanted: 'again in row fib',
    },
    { name: 'a failure is one', text: 'BENCH failed: mmap\n', wanted: 'failed: mmap' },
    { name: 'an end needs its start', text: 'BENCH fib done 1 a 2\n', wanted: 'without its start' },
  ]) {
    it(name, () => expect(() => new BenchReader().feed(text, 0)).toThrow(wanted));
  }

  for (const { name, samples, tick, wanted } of [
    {
      name: 'long rows: the host’s clock',
      samples: [sample('a', 200, 5), sample('b', 300, 5)],
      tick: null,
      wanted: [200, 300],
    },
    {
      name: 'short rows: the guest’s, at the rate of the long ones',
      samples: [sample('a', 200, 1000), sample('b', 7, 10)],
      tick: 1e-6,
      wanted: [200, 2],
    },
    { name: 'only short rows, a known rate', samples: [sample('a', 7, 3e6)], tick: 1e-6, wanted: [3] },
    { name: 'only short rows, no rate', samples: [sample('a', 7, 3e6)], tick: null, wanted: [7] },
    { name: 'a clock that stands', samples: [sample('a', 7, 0)], tick: 1e-6, wanted: [7] },
  ]) {
    it(name, () => expect(milliseconds(samples, tick)).toEqual(wanted));
  }

  it('other results for the same work are named', () => {
    const sums = new Checksums();
    expect(sums.check('native', sample('fib', 1, 1, 'a'))).toBeNull();
    expect(sums.check('tcg', sample('fib', 9, 9, 'a'))).toBeNull();
    expect(sums.check('emulated', sample('fib', 9, 9, 'b'))).toMatch(/fib: emulated computed b .* native a/);
    expect(sums.check('tcg', { ...sample('fib', 9, 9, 'a'), units: 2 })).toContain('in 2 units');
  });
});

const results = {
  tcg: { sieve: [10, 30, 20], crc32: [5], getppid: [8] },
  emulated: { sieve: [40, 41, 1000], crc32: [20], smc: [3] },
};

describe('tables', () => {
  it('medians', () => {
    expect([median([3, 1, 2]), median([7]), quantile([1, 2, 3, 4], 1)]).toEqual([2, 7, 4]);
  });

  it('a ratio is that of the medians', () => {
    expect(ratio(results, 'sieve', 'emulated', 'tcg')).toBe(41 / 20);
    expect(ratio(results, 'smc', 'emulated', 'tcg')).toBeNull();
    expect(ratio(results, 'sieve', 'emulated', 'v86')).toBeNull();
  });

  it('a group is the geometric mean of what both have', () => {
    expect(geometricMean([1, 4])).toBeCloseTo(2);
    expect(groupRatio(results, ['sieve', 'crc32', 'smc'], 'emulated', 'tcg')).toBeCloseTo(
      Math.sqrt(2.05 * 4),
    );
    expect(groupRatio(results, ['smc'], 'emulated', 'tcg')).toBeNull();
  });

  it('columns are aligned', () => {
    expect(
      markdown(
        ['row', 'ms'],
        [
          ['sieve', '12'],
          ['a', ''],
        ],
      ),
    ).toBe(['| row   |  ms |', '| ----- | --: |', '| sieve |  12 |', '| a     |     |'].join('\n'));
  });

  it('all rows that ran, then their groups', () => {
    const text = resultTables(results, 'emulated');
    expect(text).toMatch(/\| sieve +\| +20.0 \| +41.0 \| +2.05 \|/);
    expect(text).toMatch(/\| getppid +\| +8.00 \| +\| +\|/);
    expect(text).toMatch(/\| CPU +\| +2.86 \|/);
    expect(text).not.toContain('memory');
  });
});

describe('the page', () => {
  const run: CpuRun = {
    bits: 64,
    bare: false,
    results,
    thread: results,
    first: results,
    clocks: {},
    problems: ['fib: 1 <2>'],
  };
  const performance: Performance = {
    machine: ['a machine'],
    cpu: {
      date: '2026-01-02T03',
      scale: 100,
      rounds: 3,
      repeat: 2,
      options: [],
      built: true,
      loads: [],
      runs: [run],
    },
    profile: null,
    boot: {
      date: '2026-01-02T03',
      options: [],
      loads: [0, 1.5, 1.25],
      problems: [],
      kernels: [
        { name: 'Debian cloud kernel', bits: 64, results: { emulated: [3000], tcg: [1500] }, threads: {} },
      ],
    },
  };

  const frame = (id: number, functionName: string, url: string) => ({ id, callFrame: { functionName, url } });
  const profile = {
    nodes: [
      frame(1, '(idle)', ''),
      frame(2, 'wasm-function[5]', 'wasm://wasm/1'),
      frame(3, 'walk', 'file:///x/main/emulator/mmu.ts'),
      frame(4, 'Module', ''),
      frame(5, 'find', 'file:///x/main/emulator/decoder/lookup.ts'),
      frame(6, 'load', 'node:internal/modules/esm/hooks'),
      frame(7, 'set', ''),
    ],
    samples: [1, 2, 3, 2, 4, 5, 6, 7],
    timeDeltas: [9000, 1000, 500, 7000, 300, 600, 9000, 100],
  };

  it('a profile is added up by part, without waiting and loading', () => {
    expect(timeByPart(profile)).toEqual({
      'generated code': 8,
      'emulator/decoder': 0.6,
      'emulator/mmu.ts': 0.5,
      'V8 compiling': 0.3,
      'built-in functions': 0.1,
    });
    expect(timeByFunction(profile)[1]).toEqual(['find emulator/decoder/lookup.ts', 0.6]);
    const guest = { name: 'fib', time: 10, instructions: 5e6, counters: {}, parts: timeByPart(profile) };
    expect(profileTable([guest])).toMatch(
      /\| fib .* 5.0 \| +2.00 \| +0.0 \| +generated code 84, emulator\/decoder 6, emulator\/mmu.ts 5, others 4 \|/,
    );
  });

  it('has the boots, the rows, the groups and what went wrong', () => {
    const text = page(performance);
    expect(text).toMatch(/\| Debian cloud kernel \| +1 \| +3.00 \| +1.50 \| +2.00 \|/);
    expect(text).toMatch(/\| sieve .* 2.05 \|/);
    expect(text).toContain('**Wrong:** fib: 1 <2>');
    expect(text).toContain('a machine');
    expect(text).toContain('1.3 CPUs were busy');
    expect(page({ machine: [], cpu: null, boot: null, profile: null })).not.toContain('undefined');
  });

  it('the plot is well-formed, and has a dot for each number', () => {
    const svg = picture(performance);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
    for (const label of ['sieve, Vitrine: 2.05', 'crc32, QEMU TCG: 1.00', 'cloud, Vitrine: 2.00']) {
      expect(svg).toContain(`<title>${label}</title>`);
    }
    const open = svg.match(/<[a-z]+/g)!.length;
    const closed = svg.match(/<\/[a-z]+|\/>/g)!.length;
    expect(closed).toBe(open);
  });

  it('labels are escaped', () => {
    const panel = { title: 'a < b & "c"', unit: '', rows: [{ label: '<i>', dots: { x: 1 } }] };
    const svg = plot([panel], ['x']);
    expect(svg).toContain('a &lt; b &amp; &quot;c&quot;');
    expect(svg).not.toContain('<i>');
  });

  for (const { values, wanted } of [
    { values: [0.5, 3], wanted: [-1, 1] },
    { values: [1], wanted: [-1, 1] },
    { values: [1, 10], wanted: [0, 1] },
    { values: [0, NaN], wanted: [-1, 1] },
    { values: [0.001, 5000], wanted: [-3, 4] },
  ]) {
    it(`the decades around ${values.join(' and ')}`, () => expect(decades(values)).toEqual(wanted));
  }
});
