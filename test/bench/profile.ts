/**
 * bench:profile: where a vCPU's thread spends its time: V8's sampling profiler by part of the emulator, and the
 * machine's counters; for a boot of the cloud kernel and for rows of bench:cpu without an operating system.
 *
 *   npm run bench:profile -- [--only boot,sieve,crc32] [--bits 64] [--scale 50] [--top 0] [--json FILE]
 *                            [--options "..."]
 *
 * --top N also names the N functions with the most time. --options go to `vitrine run`.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guests, needGuests, numberOption, root, textOption } from './bench.ts';
import { builtGuest } from './measure.ts';
import type { Bits, Guest } from './peers.ts';
import { peers } from './peers.ts';
import { profileTable, timeByFunction, timeByPart } from './profile-parts.ts';
import type { V8Profile } from './profile-parts.ts';
import { BenchReader } from './protocol.ts';
import type { ProfiledGuest, ProfileReport } from './report.ts';
import { rowNames, systemRows } from './table.ts';
import { busiest, threadTimes } from './threads.ts';

const hook = join(root, 'test/bench/profile-hook.cjs');
const options = ['--stats', ...textOption('options', '').split(' ').filter(Boolean)];
const bits = numberOption('bits', 64) as Bits;
const scale = numberOption('scale', 50);

interface Run {
  profile: V8Profile;
  counters: Record<string, number>;
  /** CPU time of the vCPU's thread, in milliseconds: of each repetition of a row, or of a boot to /init. */
  times: number[];
}

/** `name 123` on a line of its own: the counters that --stats prints. */
function countersIn(output: string): Record<string, number> {
  return Object.fromEntries(
    [...output.matchAll(/^([\w.]+) +(\d+(?:\.\d+)?)$/gm)].map(([, name, value]) => [name, Number(value)]),
  );
}

function run(guest: Guest): Promise<Run> {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-profile-'));
  const before = process.env.NODE_OPTIONS;
  process.env.NODE_OPTIONS = `${before ?? ''} --require ${hook}`;
  process.env.PROFILE_INTO = folder;
  const child = peers.emulated.start(guest);
  process.env.NODE_OPTIONS = before ?? '';
  const reader = new BenchReader();
  let output = '';
  const boot: number[] = [];
  child.stdout!.setEncoding('latin1').on('data', (text: string) => {
    const threads = /BENCH|BOOT-OK/.test(text) ? threadTimes(child.pid) : null;
    child.stdin!.write('\n'.repeat(reader.feed(text, performance.now(), threads)));
    if (text.includes('BOOT-OK')) boot.push(busiest(new Map(), threads) ?? NaN);
    output += text;
  });
  child.stderr!.setEncoding('latin1').on('data', (text: string) => (output += text));
  return new Promise((resolve, reject) => {
    child.on('close', (status) => {
      const [file] = readdirSync(folder);
      if (status !== 0 || file === undefined) {
        reject(new Error(`the guest ended with status ${status}:\n${output.slice(-1500)}`));
        return;
      }
      const profile = JSON.parse(readFileSync(join(folder, file), 'utf8')) as V8Profile;
      rmSync(folder, { recursive: true });
      const rows = reader.samples.map(({ thread, wall }) => thread ?? wall);
      resolve({ profile, counters: countersIn(output), times: [...rows, ...boot] });
    });
  });
}

const base = { bits, options, built: false };

/** A boot to /init, and off again. */
async function profileBoot(): Promise<[ProfiledGuest, V8Profile]> {
  const [kernel, initrd] =
    bits === 64 ? ['vmlinuz-cloud', 'initrd-amd64.gz'] : ['vmlinuz-686', 'initrd-i386.gz'];
  needGuests(bits === 64 ? 'cloud' : '686', 'initrd');
  const append = 'console=ttyS0 panic=-1 vitrine.poweroff';
  const { profile, counters, times } = await run({
    ...base,
    append,
    kernel: join(guests, kernel),
    initrd: join(guests, initrd),
  });
  const { instructions } = counters;
  return [{ name: 'boot', time: times[0], instructions, counters, parts: timeByPart(profile) }, profile];
}

/** A row: what two repetitions count beyond one is one repetition exactly. */
async function profileRow(name: string): Promise<[ProfiledGuest, V8Profile]> {
  const guest = (repeat: number): Guest => ({
    ...base,
    kernel: builtGuest(`bare-${bits === 64 ? 'amd64' : 'i386'}.elf`),
    initrd: null,
    append: `ack=1 rows=${name} scale=${scale} repeat=${repeat}`,
  });
  const one = await run(guest(1));
  const two = await run(guest(2));
  const counters = Object.fromEntries(
    Object.entries(two.counters).map(([key, value]) => [key, value - (one.counters[key] ?? 0)]),
  );
  const time = Math.min(...two.times);
  const { instructions } = counters;
  return [{ name, time, instructions, counters, parts: timeByPart(two.profile) }, two.profile];
}

const only = textOption('only', '').split(',').filter(Boolean);
const known = ['boot', ...rowNames.filter((row) => !systemRows.includes(row))];
const unknown = only.find((name) => !known.includes(name));
if (unknown !== undefined) throw new Error(`nothing is called ${unknown}: there are ${known.join(', ')}`);
if (spawnSync('bash', [join(root, 'test/bench/guest.sh')], { stdio: 'inherit' }).status !== 0) {
  throw new Error('the guests cannot be built');
}
const report: ProfileReport = { date: new Date().toISOString(), bits, scale, options, guests: [] };
for (const name of known.filter((one) => only.length === 0 || only.includes(one))) {
  const [guest, profile] = name === 'boot' ? await profileBoot() : await profileRow(name);
  report.guests.push(guest);
  const each = ((guest.time / guest.instructions) * 1e6).toFixed(2);
  console.log(`${name}: ${(guest.instructions / 1e6).toFixed(1)} M instructions, ${each} ns each`);
  for (const [what, time] of timeByFunction(profile).slice(0, numberOption('top', 0))) {
    console.log(`  ${time.toFixed(0).padStart(6)} ms  ${what}`);
  }
}
console.log(`\n${profileTable(report.guests)}`);
const json = textOption('json', '');
if (json !== '') writeFileSync(json, `${JSON.stringify(report, null, 1)}\n`);
