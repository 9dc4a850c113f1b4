/**
 * bench:idle: what a booted Linux guest costs while it does nothing: CPU of all of its processes, and memory of
 * the machine's process beyond the guest's RAM. Linux hosts only: it reads /proc.
 *
 *   npm run bench:idle -- [--seconds 10]
 */
import { readdirSync, readFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Session } from '../guests/session.ts';
import { guests, MEMORY, needBuild, needGuests, numberOption, startVitrine } from './bench.ts';

const MIB = 2 ** 20;
const TICKS = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

function statOf(pid: number): { parent: number; ticks: number } | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    return { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) };
  } catch {
    return undefined;
  }
}

/** A process and all of its descendants. */
function family(pid: number): number[] {
  const all = readdirSync('/proc').map(Number).filter(Boolean);
  const members = new Set([pid]);
  for (let before = 0; before < members.size;) {
    before = members.size;
    for (const one of all) if (members.has(statOf(one)?.parent ?? 0)) members.add(one);
  }
  return [...members];
}

/** Resident bytes of a process: all, and those of the mapping that has the guest's RAM in it. */
function residence(pid: number): { all: number; ram: number } {
  let all = 0;
  let ram = 0;
  let size = 0;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range) size = parseInt(range[2], 16) - parseInt(range[1], 16);
    const resident = /^Rss:\s+(\d+) kB/.exec(line);
    if (!resident) continue;
    all += Number(resident[1]) * 1024;
    if (size >= MEMORY * MIB) ram += Number(resident[1]) * 1024;
  }
  return { all, ram };
}

needBuild();
needGuests('cloud', 'initrd');
const seconds = numberOption('seconds', 10);
const files = ['--kernel', join(guests, 'vmlinuz-cloud'), '--initrd', join(guests, 'initrd-amd64.gz')];
const child = startVitrine(...files, '--append', 'console=ttyS0 quiet');
const session = new Session(child);
try {
  await session.waitFor('guest# ', 300_000);
  // The kernel's own start-up work goes on for a moment.
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const members = family(child.pid!);
  const spent = (): number => members.reduce((sum, pid) => sum + (statOf(pid)?.ticks ?? 0), 0) / TICKS;
  const [from, before] = [performance.now(), spent()];
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const percent = ((spent() - before) / ((performance.now() - from) / 1000)) * 100;
  console.log(`idle guest          ${percent.toFixed(2)} % of a core, all ${members.length} processes`);
  for (const pid of members) {
    const { all, ram } = residence(pid);
    const beyond = all - Math.min(ram, MEMORY * MIB);
    const what = ram > 0 ? 'the machine, beyond guest RAM' : 'the command';
    console.log(`process ${pid}: ${(beyond / MIB).toFixed(0)} MiB resident (${what})`);
  }
} finally {
  session.kill();
}
