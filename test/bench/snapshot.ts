/**
 * bench:snapshot: a guest whose RAM is all in use is snapshotted and restored. For each backend present:
 *
 *   pause                 how long the guest stood still while its state was taken
 *   write                 from the request until the snapshot is on the disk, forced there
 *   restore, answered     from the request until the machine runs again, in the same process
 *   restore, first exit   the same until the guest has done something: its first exit, which it makes every 512 instructions
 *   step back             of one instruction, after a minute of a busy guest of a deterministic machine
 *
 * beside a memcpy of the same bytes, the same bytes written to a plain file and forced to the disk, and QEMU's savevm and
 * loadvm under TCG (which stop the guest for all of it). All sides in turn, medians; ratios are to the memcpy. The steps
 * back come first and alone: the guests of the others never rest, and would take their minute from it.
 *
 *   npm run bench:snapshot -- [--memory MIB, default 512] [--runs 5] [--seconds 60: before the steps back]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { backends } from '../../main/machine/backends.ts';
import { hasQemu, median, numberOption } from './bench.ts';
import { copying, qemu, type Side, stepBack, vitrine } from './snapshot-sides.ts';

const memory = numberOption('memory', 512);
const runs = numberOption('runs', 5);
const seconds = numberOption('seconds', 60);
const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-snapshot-'));

/** Writes to every page of RAM from 2 MiB on, then writes to port 0x80 every 512 instructions. Also a multiboot kernel, for QEMU. */
function guest(): Buffer {
  const ADDRESS = 0x100000;
  const code = Buffer.alloc(128);
  code.set([0xeb, 0x2e]); // jmp 0x30
  const [magic, flags] = [0x1badb002, 0x10000];
  const header = [magic, flags, -(magic + flags), ADDRESS + 4, ADDRESS, 0, 0, ADDRESS + 0x30];
  header.forEach((value, i) => code.writeUInt32LE(value >>> 0, 4 + 4 * i));
  const program = Buffer.from([
    ...[0xfc, 0xbf, 0, 0, 0x20, 0], // cld; mov edi, 0x200000
    ...[0xb9, 0, 0, 0, 0], // mov ecx, pages
    ...[0x89, 0x3f, 0x81, 0xc7, 0, 0x10, 0, 0, 0x49, 0x75, 0xf5], // 0: mov [edi], edi; add edi, 4096; dec ecx; jnz 0b
    ...[0xe6, 0x80], // 1: out 0x80, al
    ...[0xb9, 0, 1, 0, 0, 0x49, 0x75, 0xfd], // mov ecx, 256; 2: dec ecx; jnz 2b
    ...[0xeb, 0xf4], // jmp 1b
  ]);
  program.writeUInt32LE(((memory - 3) * MIB) / 4096, 7);
  program.copy(code, 0x30);
  return code;
}
const file = join(folder, 'guest.bin');
writeFileSync(file, guest());
const bench = { memory: memory * MIB, file, folder };
const sides: Side[] = [];
const times = new Map<string, number[]>();

async function round(side: Side): Promise<void> {
  for (const [what, ms] of Object.entries(await side.round())) {
    const key = `${side.name} ${what}`;
    times.set(key, [...(times.get(key) ?? []), ms]);
  }
}

try {
  if (seconds > 0) {
    const back = await stepBack(seconds, bench);
    for (let run = 0; run < runs; run++) await round(back);
    await back.end();
  }
  sides.push(copying(bench));
  for (const { name } of backends.filter((backend) => backend.unavailable() === null)) {
    sides.push(await vitrine(name, bench));
  }
  if (hasQemu()) sides.push(await qemu(bench));
  else console.log('QEMU is not installed: measured without it.');
  for (let run = 0; run < runs; run++) for (const side of sides) await round(side);
  const copy = median(times.get('memcpy copy')!);
  console.log(`${memory} MiB in use, ${runs} runs, medians; memcpy ${copy.toFixed(1)} ms`);
  for (const [key, values] of times) {
    const ms = median(values);
    const range = `${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)}`;
    console.log(
      `${key.padEnd(28)} ${ms.toFixed(1).padStart(9)} ms   ${(ms / copy).toFixed(2).padStart(7)}x   (${range})`,
    );
  }
} finally {
  for (const side of sides) await side.end();
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
