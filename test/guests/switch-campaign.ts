/**
 * Linux at its shell goes from the emulator to hardware and back, in place and through a snapshot:
 *
 *   npm run campaign:switch -- [backend, default kvm]
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { BackendChoice, MachineConfig } from '../../main/machine/protocol.ts';
import { Console } from '../unit/machine/console.ts';
import { fetchGuests } from './scenarios.ts';

const other = (process.argv[2] ?? 'kvm') as BackendChoice;
const guests = join(import.meta.dirname, '../../.cache/guests');
const folder = mkdtempSync(join(tmpdir(), 'vitrine-switch-'));
const started = performance.now();

/** KVM without hardware runs a kernel at less than a million instructions a second. */
const PATIENCE = 15 * 60_000;

/**
 * A KVM without hardware underneath runs the kernel in its own emulator, which knows neither CLAC nor POPCNT nor others
 * of their age. The kernel puts them into its own code where it is shown the features.
 */
const PLAIN = 'clearcpuid=smap,smep,fsgsbase,cx16,ssse3,popcnt,rdrand,rdseed,clflushopt,erms,fsrm';

const config: MachineConfig = {
  name: 'linux',
  guest: {
    kind: 'linux',
    kernel: join(guests, 'vmlinuz-cloud'),
    initrd: join(guests, 'initrd-amd64.gz'),
    append: `console=ttyS0 panic=-1 ${PLAIN}`,
  },
  memory: 256 * 2 ** 20,
  vcpus: 1,
  backend: 'emulated',
  disks: [],
};

const machine = new MachineProcess();
const console_ = new Console(machine.serial[0]!);

function say(text: string): void {
  console.log(`${((performance.now() - started) / 1000).toFixed(1).padStart(7)} s  ${text}`);
}

/** Waits for text, unless the machine ends first. */
async function seen(text: string): Promise<void> {
  const ended = machine.ended.then(({ message }) => Promise.reject(new Error(message ?? 'it ended')));
  await Promise.race([console_.wait(text, PATIENCE), ended]);
}

async function compute(a: number, b: number, finish = false): Promise<void> {
  console_.type(finish ? `*${b}))\n` : `echo $((${a}*${b}))\n`);
  await seen(`\n${a * b}\r\n`);
  await seen('guest# ');
}

async function move(to: BackendChoice): Promise<void> {
  await machine.pause();
  await machine.ask('backend.switch', { backend: to });
  await machine.resume();
  say(`on ${machine.status.backend}`);
}

async function main(): Promise<void> {
  await machine.start(config);
  await seen('guest# ');
  say('at its shell, emulated');
  await compute(6, 7);
  // In the middle of a line.
  console_.type('echo $((11');
  await seen('echo $((11');
  await move(other);
  await compute(11, 11, true);
  say(`finished the line on ${other}`);
  await compute(12, 12);
  const taken = join(folder, 'snapshot');
  mkdirSync(taken);
  const title = { id: 'snapshot', name: '', createdAt: 0, parent: null, writtenBy: 'campaign', console: '' };
  const { pausedMs, stored } = await machine.ask('snapshot.take', {
    ...{ folder: taken, title, config, parent: null, layers: [] },
  });
  say(`snapshot on ${other}: paused for ${pausedMs.toFixed(1)} ms, ${stored} pages`);
  await move('emulated');
  await compute(13, 13);
  await machine.powerOff();
  say('off; the snapshot goes on, emulated');
  await machine.start({ ...config, restore: { folder: taken, layers: [] } });
  await compute(14, 14);
  console_.type('poweroff\n');
  const ended = await machine.ended;
  if (ended.state !== 'off') throw new Error(`it ended ${ended.state}: ${ended.message}`);
  say(`it went on everywhere: ${ended.message}`);
}

const missing = fetchGuests(['cloud', 'initrd']);
try {
  if (missing !== null) console.log(`skipped: ${missing}`);
  else await main();
} catch (error) {
  console.log(`FAILED: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  await machine.powerOff();
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
