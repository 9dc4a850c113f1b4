import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { differenceOf } from './differences.ts';
import { writeExpected } from './expected.ts';
import { assembleGuest, GUESTS, runCases, runEmulated, runQemu } from './runner.ts';

/**
 * Plays the system guests on QEMU and on the emulator, and prints where they differ although differences.ts does
 * not say so. `--record` writes expected/*.txt: QEMU's reports, and the emulator's where QEMU is known to be wrong.
 * Usage: npm run campaign:system -- [--record] [guest ...]
 */
const words = process.argv.slice(2);
const record = words.includes('--record');
const wanted = words.filter((word) => !word.startsWith('--'));
const folder = mkdtempSync(join(tmpdir(), 'vitrine-system-'));
let unexplained = 0;
for (const guest of wanted.length > 0 ? wanted : GUESTS) {
  const file = join(folder, `${guest}.bin`);
  assembleGuest(guest, file);
  const image = readFileSync(file);
  const theirs = runCases((first) => runQemu(file, first));
  const ours = runCases((first) => runEmulated(image, first));
  const right = new Map<string, string>();
  let known = 0;
  for (const [name, report] of ours) {
    const known1 = differenceOf(guest, name);
    right.set(name, known1 ? report : (theirs.get(name) ?? report));
    if (theirs.get(name) === report) continue;
    if (known1) known++;
    else {
      unexplained++;
      console.log(`${guest}: ${name}\nQEMU:\n${theirs.get(name)}\nemulator:\n${report}\n`);
    }
  }
  console.log(`${guest}: ${ours.size} cases, ${known} where QEMU is known to be wrong`);
  if (record) writeExpected(guest, right);
}
rmSync(folder, { recursive: true });
process.exitCode = unexplained > 0 ? 1 : 0;
