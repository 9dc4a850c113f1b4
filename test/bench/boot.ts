/**
 * bench:boot: Debian's kernels with a busybox initrd, from the start of the process to the first line of /init: the
 * 64-bit cloud kernel on the emulator and on QEMU TCG, the 32-bit 686 kernel on these and v86; in turn. Prints the
 * medians and their ratios.
 *
 *   npm run bench:boot -- [--rounds 3] [--bits 64,32] [--peers emulated,tcg,v86] [--json FILE] [--options "..."]
 *                         [--calm 0]
 *
 * Vitrine is the built one, as people run it. --options go to `vitrine run`, --calm is that of bench:cpu.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Session } from '../guests/session.ts';
import { busyWarning, guests, needBuild, needGuests, numberOption, otherLoad, textOption } from './bench.ts';
import type { Bits, Guest } from './peers.ts';
import { peers } from './peers.ts';
import type { BootReport } from './report.ts';
import { median } from './statistics.ts';
import { markdown, showRatio } from './table.ts';
import { busiest, threadTimes } from './threads.ts';

const append = 'console=ttyS0 panic=-1 vitrine.poweroff';
/** Milliseconds after which a boot counts as hung. */
const LIMIT = 300_000;

const options = ['--stats', ...textOption('options', '').split(' ').filter(Boolean)];
const kernels: Record<Bits, { name: string; guest: Guest }> = {
  64: { name: 'Debian cloud kernel, 64-bit', guest: guestOf(64, 'vmlinuz-cloud', 'initrd-amd64.gz') },
  32: { name: 'Debian 686 kernel, 32-bit', guest: guestOf(32, 'vmlinuz-686', 'initrd-i386.gz') },
};

function guestOf(bits: Bits, kernel: string, initrd: string): Guest {
  return { bits, kernel: join(guests, kernel), initrd: join(guests, initrd), append, options, built: true };
}

interface Boot {
  /** Milliseconds to BOOT-OK. */
  time: number;
  /** CPU time of the busiest thread until then. */
  thread: number | null;
  output: string;
}

/** Boots once, to the end. */
async function boot(name: string, guest: Guest): Promise<Boot> {
  const from = performance.now();
  const child = peers[name].start(guest);
  const session = new Session(child);
  try {
    await session.waitFor('BOOT-OK', LIMIT);
    const time = performance.now() - from;
    const thread = busiest(new Map(), threadTimes(child.pid));
    if (peers[name].ends) await session.ended;
    return { time, thread, output: session.output };
  } finally {
    session.kill();
  }
}

const seconds = (times: readonly number[]): string => (median(times) / 1000).toFixed(2);

const wanted = textOption('peers', Object.keys(peers).join(',')).split(',');
const rounds = numberOption('rounds', 3);
const report: BootReport = { date: new Date().toISOString(), options, loads: [], problems: [], kernels: [] };
if (wanted.includes('emulated')) needBuild();
for (const bits of textOption('bits', '64,32').split(',').map(Number) as Bits[]) {
  const { name, guest } = kernels[bits];
  needGuests(bits === 64 ? 'cloud' : '686', 'initrd');
  const results: Record<string, number[]> = {};
  const threads: Record<string, number[]> = {};
  const rates: number[] = [];
  const able = wanted.filter((peer) => {
    const reason = peers[peer].lacks(guest);
    if (reason !== null) console.log(`${peer}, ${bits}-bit: left out, ${reason}`);
    return reason === null;
  });
  for (let round = 1; round <= rounds; round++) {
    for (const peer of able) {
      report.loads.push(await otherLoad());
      try {
        const { time, thread, output } = await boot(peer, guest);
        (results[peer] ??= []).push(time);
        if (thread !== null) (threads[peer] ??= []).push(thread);
        const busy = thread === null ? '' : `, its busiest thread ran ${seconds([thread])} s`;
        console.log(`${name}, round ${round}: ${peer} ${seconds([time])} s${busy}`);
        const retired = peer === 'emulated' ? /^instructions +(\d+)$/m.exec(output) : null;
        if (retired && thread !== null) rates.push(Number(retired[1]) / thread / 1000);
      } catch (error) {
        report.problems.push(`${name}, round ${round}, ${peer}: ${String(error).slice(0, 200)}`);
        console.error(report.problems.at(-1));
      }
    }
  }
  report.kernels.push({ name, bits, results, threads });
  const shares = (of: Record<string, number[]>, peer: string): string =>
    of.emulated && of[peer] && peer !== 'emulated' ? showRatio(median(of.emulated) / median(of[peer])) : '';
  const rows = able
    .filter((peer) => results[peer])
    .map((peer) => [
      peers[peer].about,
      seconds(results[peer]),
      shares(results, peer),
      threads[peer] ? seconds(threads[peer]) : '',
      shares(threads, peer),
    ]);
  console.log(`\n${name} to /init, medians of ${rounds}\n`);
  console.log(markdown(['who', 'seconds', 'Vitrine / it', 'busiest thread', 'Vitrine / it'], rows));
  if (rates.length > 0) {
    console.log(`Vitrine: ${median(rates).toFixed(1)} million instructions a second of its busiest thread`);
  }
  console.log();
}
const warning = busyWarning(report.loads);
if (warning !== null) console.log(`BUSY: ${warning}`);
const json = textOption('json', '');
if (json !== '') writeFileSync(json, `${JSON.stringify(report, null, 1)}\n`);
if (report.problems.length > 0) process.exitCode = 1;
