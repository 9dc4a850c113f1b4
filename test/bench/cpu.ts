/**
 * bench:cpu: the same programs under Vitrine's emulator, QEMU's, and natively, in turn; milliseconds and ratios.
 *
 *   npm run bench:cpu -- [--peers native,tcg,emulated] [--bits 64,32] [--bare] [--only sieve,crc32]
 *                        [--scale 100] [--rounds 3] [--repeat 1] [--json FILE] [--options "--stats"]
 *
 * --bare runs the rows that need no operating system without one: a start takes a second instead of a boot.
 * --options go to `vitrine run`. The work is the same for every peer, and so must its results be: another checksum
 * is an error, not a time.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { flagOption, needGuests, numberOption, root, textOption } from './bench.ts';
import type { Bits, Job } from './peers.ts';
import { measure, peers } from './peers.ts';
import type { Sample } from './protocol.ts';
import { milliseconds } from './protocol.ts';
import type { Results } from './table.ts';
import { resultTables, rowNames } from './table.ts';

/** Everything that was measured, as the JSON file has it. */
export interface Report {
  date: string;
  scale: number;
  rounds: number;
  runs: { bits: Bits; bare: boolean; results: Results; problems: string[] }[];
}

const list = (text: string): string[] => text.split(',').filter((word) => word !== '');

/** One kind of guest on every peer, `rounds` times in turn. */
async function compare(
  bits: Bits,
  wanted: readonly string[],
  rounds: number,
  job: Omit<Job, 'bits'>,
): Promise<Report['runs'][number]> {
  const results: Results = {};
  const problems: string[] = [];
  const sums = new Map<string, { sum: string; units: number; peer: string }>();
  const able = wanted.filter((name) => {
    const lack = peers[name].lacks({ bits, bare: job.bare });
    if (lack !== null) console.log(`${name}, ${bits}-bit: left out, ${lack}`);
    return lack === null;
  });
  const check = (name: string, { row, sum, units }: Sample): boolean => {
    const first = sums.get(row) ?? { sum, units, peer: name };
    sums.set(row, first);
    if (first.sum === sum && first.units === units) return true;
    problems.push(`${row}: ${name} computed ${sum}, but ${first.peer} ${first.sum}`);
    return false;
  };
  for (let round = 1; round <= rounds; round++) {
    for (const name of able) {
      const from = performance.now();
      try {
        const { samples, output } = await measure(peers[name], { ...job, bits });
        // Linux counts nanoseconds; what a processor counts is its own affair.
        const times = milliseconds(samples, name === 'native' || !job.bare ? 1e-6 : null);
        samples.forEach((sample, i) => {
          if (check(name, sample)) ((results[name] ??= {})[sample.row] ??= []).push(times[i]);
        });
        if (name === 'emulated' && job.options.includes('--stats')) console.log(output);
      } catch (error) {
        problems.push(`${name}, round ${round}: ${error instanceof Error ? error.message : String(error)}`);
        console.error(problems.at(-1));
      }
      const seconds = ((performance.now() - from) / 1000).toFixed(1);
      console.log(`${bits}-bit round ${round}: ${name}, ${seconds} s in all`);
    }
  }
  return { bits, bare: job.bare, results, problems };
}

async function main(): Promise<number> {
  const bare = flagOption('bare');
  const only = list(textOption('only', ''));
  const wanted = list(textOption('peers', 'native,tcg,emulated'));
  for (const [what, names, known] of [
    ['row', only, rowNames],
    ['peer', wanted, Object.keys(peers)],
  ] as const) {
    const unknown = names.find((name) => !known.includes(name));
    if (unknown !== undefined) {
      throw new Error(`no ${what} is called ${unknown}: there are ${known.join(', ')}`);
    }
  }
  const scale = numberOption('scale', 100);
  const rounds = numberOption('rounds', 3);
  const words = [
    `scale=${scale}`,
    `repeat=${numberOption('repeat', 1)}`,
    ...(only.length > 0 ? [`rows=${only.join(',')}`] : []),
  ].join(' ');
  const options = textOption('options', '').split(' ').filter(Boolean);
  if (spawnSync('bash', [join(root, 'test/bench/guest.sh')], { stdio: 'inherit' }).status !== 0) {
    throw new Error('the guests cannot be built');
  }
  const runs: Report['runs'] = [];
  for (const bits of list(textOption('bits', '64')).map(Number) as Bits[]) {
    if (!bare) needGuests(bits === 64 ? 'cloud' : '686');
    const run = await compare(bits, wanted, rounds, { bare, words, options });
    runs.push(run);
    const title = `${bits}-bit guest, ${bare ? 'bare' : 'under Linux'}, scale ${scale}`;
    console.log(`\n${title}, medians of ${rounds}\n\n${resultTables(run.results, 'emulated')}`);
    for (const problem of run.problems) console.log(`\nWRONG: ${problem}`);
  }
  const json = textOption('json', '');
  const report: Report = { date: new Date().toISOString(), scale, rounds, runs };
  if (json !== '') writeFileSync(json, `${JSON.stringify(report, null, 1)}\n`);
  return runs.some(({ problems }) => problems.length > 0) ? 1 : 0;
}

process.exitCode = await main();
