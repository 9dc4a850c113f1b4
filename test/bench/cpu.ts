/**
 * bench:cpu: the same programs under Vitrine's emulator, QEMU's, v86, and natively, in turn; milliseconds and ratios.
 *
 *   npm run bench:cpu -- [--peers native,tcg,v86,emulated] [--bits 64,32] [--bare] [--only sieve,crc32]
 *                        [--scale 100] [--rounds 3] [--repeat 2] [--json FILE] [--options "--stats"]
 *                        [--calm 0] [--thread] [--built]
 *
 * In each round every peer boots once and does each row --repeat times; what counts is the fastest of them, and of
 * the rounds the median. The work is the same for every peer, and so must its results be: another checksum is an
 * error, not a time.
 *
 *   --bare     runs the rows that need no operating system without one: a start takes a second instead of a boot
 *   --options  go to `vitrine run`
 *   --built    measures what `npm run build` made, as people run it; otherwise the sources as they are
 *   --calm     waits so many seconds at most, before each start, for a machine that does nothing else
 *   --thread   shows the CPU time of each peer's busiest thread, which a machine that does other things disturbs least
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyWarning, flagOption, needGuests, numberOption, otherLoad, root, textOption } from './bench.ts';
import type { Job } from './measure.ts';
import { lack, measure, runners } from './measure.ts';
import type { Bits } from './peers.ts';
import { Checksums, clockRate, milliseconds } from './protocol.ts';
import { median } from './statistics.ts';
import type { CpuReport, CpuRun } from './report.ts';
import { resultTables, rowNames, systemRows } from './table.ts';

/** A guest's clock that is further off than this is worth a line: lines arrive a little late. */
const CLOCK_TOLERANCE = 0.05;

const list = (text: string): string[] => text.split(',').filter((word) => word !== '');

/** One kind of guest on every peer, `rounds` times in turn. */
async function compare(
  job: Job,
  wanted: readonly string[],
  rounds: number,
  loads: number[],
): Promise<CpuRun> {
  const { bits, bare } = job;
  const run: CpuRun = { bits, bare, results: {}, thread: {}, first: {}, clocks: {}, problems: [] };
  const sums = new Checksums();
  const able = wanted.filter((name) => {
    const reason = lack(name, job);
    if (reason !== null) console.log(`${name}, ${bits}-bit: left out, ${reason}`);
    return reason === null;
  });
  for (let round = 1; round <= rounds; round++) {
    for (const name of able) {
      loads.push(await otherLoad());
      const from = performance.now();
      try {
        const { samples, output } = await measure(name, job);
        // Linux counts nanoseconds; what a processor counts is its own affair.
        const times = milliseconds(samples, name === 'native' || !bare ? 1e-6 : null);
        const rate = bare ? null : clockRate(samples);
        if (rate !== null) (run.clocks[name] ??= []).push(rate / 1e6);
        const byRow = new Map<string, { wall: number[]; thread: number[] }>();
        samples.forEach((sample, i) => {
          const problem = sums.check(name, sample);
          if (problem !== null) {
            run.problems.push(problem);
            return;
          }
          const all = byRow.get(sample.row) ?? { wall: [], thread: [] };
          byRow.set(sample.row, all);
          all.wall.push(times[i]);
          // Of programs that make processes, one thread is not the whole.
          const alone = name !== 'native' || !systemRows.includes(sample.row);
          if (sample.thread !== null && alone) all.thread.push(sample.thread);
        });
        for (const [row, { wall, thread }] of byRow) {
          ((run.results[name] ??= {})[row] ??= []).push(Math.min(...wall));
          ((run.first[name] ??= {})[row] ??= []).push(wall[0]);
          if (thread.length > 0) ((run.thread[name] ??= {})[row] ??= []).push(Math.min(...thread));
        }
        if (name === 'emulated' && job.options.includes('--stats')) console.log(output);
      } catch (error) {
        run.problems.push(
          `${name}, round ${round}: ${error instanceof Error ? error.message : String(error)}`,
        );
        console.error(run.problems.at(-1));
      }
      const seconds = ((performance.now() - from) / 1000).toFixed(1);
      console.log(`${bits}-bit round ${round}: ${name}, ${seconds} s in all`);
    }
  }
  return run;
}

async function main(): Promise<number> {
  const bare = flagOption('bare');
  const only = list(textOption('only', ''));
  const wanted = list(textOption('peers', runners.join(',')));
  for (const [what, names, known] of [
    ['row', only, rowNames],
    ['peer', wanted, runners],
  ] as const) {
    const unknown = names.find((name) => !known.includes(name));
    if (unknown !== undefined) {
      throw new Error(`no ${what} is called ${unknown}: there are ${known.join(', ')}`);
    }
  }
  const built = flagOption('built');
  const scale = numberOption('scale', 100);
  const rounds = numberOption('rounds', 3);
  const repeat = numberOption('repeat', 2);
  const rows = (only.length > 0 ? only : rowNames).filter((row) => !bare || !systemRows.includes(row));
  const words = `scale=${scale} repeat=${repeat} rows=${rows.join(',')}`;
  const options = textOption('options', '').split(' ').filter(Boolean);
  if (spawnSync('bash', [join(root, 'test/bench/guest.sh')], { stdio: 'inherit' }).status !== 0) {
    throw new Error('the guests cannot be built');
  }
  const runs: CpuRun[] = [];
  const loads: number[] = [];
  const json = textOption('json', '');
  for (const bits of list(textOption('bits', '64')).map(Number) as Bits[]) {
    if (!bare) needGuests(bits === 64 ? 'cloud' : '686');
    const run = await compare({ bits, bare, words, options, built }, wanted, rounds, loads);
    runs.push(run);
    // After each, so that nothing is lost when the next one is given up.
    const report: CpuReport = {
      date: new Date().toISOString(),
      scale,
      rounds,
      repeat,
      options,
      built,
      loads,
      runs,
    };
    if (json !== '') writeFileSync(json, `${JSON.stringify(report, null, 1)}\n`);
    const shown = flagOption('thread') ? run.thread : run.results;
    const title = `${bits}-bit guest, ${bare ? 'bare' : 'under Linux'}, scale ${scale}`;
    console.log(`\n${title}, medians of ${rounds}\n\n${resultTables(shown, 'emulated')}`);
    for (const [name, rates] of Object.entries(run.clocks)) {
      const rate = median(rates);
      if (Math.abs(rate - 1) < CLOCK_TOLERANCE) continue;
      console.log(`\nCLOCK: ${name}'s guest counts ${rate.toFixed(3)} s in a second`);
    }
    for (const problem of run.problems) console.log(`\nWRONG: ${problem}`);
  }
  const warning = busyWarning(loads);
  if (warning !== null) console.log(`\nBUSY: ${warning}: not numbers to quote; see --thread`);
  return runs.some(({ problems }) => problems.length > 0) ? 1 : 0;
}

process.exitCode = await main();
