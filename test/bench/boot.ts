/**
 * bench:boot: Debian's cloud kernel with a busybox initrd, from the start of the process to the first line of
 * /init, on the emulator and on QEMU TCG, in turn. Prints both medians and their ratio.
 *
 *   npm run bench:boot -- [--runs 3]
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { Session } from '../guests/session.ts';
import {
  guests,
  hasQemu,
  median,
  needBuild,
  needGuests,
  numberOption,
  startQemu,
  startVitrine,
} from './bench.ts';

const kernel = join(guests, 'vmlinuz-cloud');
const initrd = join(guests, 'initrd-amd64.gz');
const append = 'console=ttyS0 panic=-1 vitrine.poweroff';
/** Milliseconds after which a boot counts as hung. */
const LIMIT = 300_000;

/** Milliseconds to BOOT-OK, and all output once the process has ended. */
async function boot(start: () => ChildProcess): Promise<{ time: number; output: string }> {
  const from = performance.now();
  const session = new Session(start());
  try {
    await session.waitFor('BOOT-OK', LIMIT);
    const time = performance.now() - from;
    await session.ended;
    return { time, output: session.output };
  } finally {
    session.kill();
  }
}

needBuild();
needGuests('cloud', 'initrd');
const qemu = hasQemu();
if (!qemu) console.log('qemu-system-x86_64 is not installed: nothing to compare with');
const ours: number[] = [];
const theirs: number[] = [];
const rates: number[] = [];
for (let run = 0; run < numberOption('runs', 3); run++) {
  const { time, output } = await boot(() =>
    startVitrine('--kernel', kernel, '--initrd', initrd, '--append', append, '--stats'),
  );
  ours.push(time);
  const retired = /instructions\D+([\d,_]+)/i.exec(output);
  if (retired) rates.push(Number(retired[1].replace(/\D/g, '')) / time / 1000);
  if (qemu) {
    theirs.push((await boot(() => startQemu('-kernel', kernel, '-initrd', initrd, '-append', append))).time);
  }
  const seconds = (times: number[]): string => times.map((time) => (time / 1000).toFixed(2)).join(' ');
  console.log(
    `run ${run + 1}: vitrine ${seconds(ours.slice(-1))} s, QEMU TCG ${seconds(theirs.slice(-1))} s`,
  );
}
console.log(`vitrine (emulated)  ${(median(ours) / 1000).toFixed(2)} s to BOOT-OK`);
if (rates.length > 0) {
  console.log(`                    ${median(rates).toFixed(1)} million instructions a second`);
}
if (theirs.length > 0) {
  console.log(`QEMU TCG            ${(median(theirs) / 1000).toFixed(2)} s`);
  console.log(`ratio               ${(median(ours) / median(theirs)).toFixed(2)}`);
}
