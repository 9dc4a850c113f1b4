import { execFileSync, spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

import { median } from './statistics.ts';

export { median, quantile } from './statistics.ts';

/** What the benchmarks share: where things are, and how numbers are printed. No benchmark asserts a time. */

export const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
export const guests = join(root, '.cache/guests');

/** A benchmark's help is the comment at its top. */
if (process.argv.includes('--help')) {
  const [comment] = /\/\*\*[^]*?\*\//.exec(readFileSync(process.argv[1], 'utf8')) ?? [''];
  console.log(comment.replace(/^\/\*\*\n| \*\/$|^ \* ?/gm, ''));
  process.exit(0);
}

/** Memory of the guests that are measured, in MiB. */
export const MEMORY = 256;

/** Fetches the guests that a benchmark needs (see scripts/guests.sh). */
export function needGuests(...names: string[]): void {
  execFileSync('bash', [join(root, 'scripts/guests.sh'), ...names], { stdio: 'inherit' });
}

/** The built command line program, which is what people run. */
export function needBuild(): string {
  const cli = join(root, 'out/main/cli.js');
  if (!existsSync(cli)) throw new Error(`${cli} is missing: npm run build first`);
  return cli;
}

export function hasQemu(): boolean {
  return spawnSync('qemu-system-x86_64', ['--version']).status === 0;
}

export function startVitrine(...options: string[]): ChildProcess {
  const backend = ['--backend', 'emulated', '--memory', String(MEMORY)];
  return spawn(process.execPath, [needBuild(), 'run', ...backend, ...options]);
}

export function startQemu(...options: string[]): ChildProcess {
  const machine = `-accel tcg -cpu max -m ${MEMORY} -nodefaults -no-user-config -display none -serial stdio -no-reboot`;
  return spawn('qemu-system-x86_64', [...machine.split(' '), ...options]);
}

/** An integer argument of the command line, such as --runs 5. */
export function numberOption(name: string, otherwise: number): number {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
}

/** A text argument of the command line, such as --peers emulated,tcg. */
export function textOption(name: string, otherwise: string): string {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : (process.argv[at + 1] ?? '');
}

export const flagOption = (name: string): boolean => process.argv.includes(`--${name}`);

const busy = (): number => {
  const all = cpus().map(({ times }) => times);
  return all.reduce((sum, { user, nice, sys, irq }) => sum + user + nice + sys + irq, 0);
};

const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => void setTimeout(resolve, milliseconds));

/** A machine on which less than this is busy counts as calm, in CPUs. */
const CALM = 0.25;

/**
 * How many CPUs are busy with something else, now that nothing is measured. With --calm SECONDS it waits for at most
 * that time until the machine is calm.
 */
export async function otherLoad(): Promise<number> {
  const deadline = performance.now() + 1000 * numberOption('calm', 0);
  for (;;) {
    const [from, before] = [performance.now(), busy()];
    await sleep(500);
    const load = (busy() - before) / (performance.now() - from);
    if (load < CALM || performance.now() > deadline) return Math.round(load * 100) / 100;
  }
}

/** What to say about a machine that was busy while it measured, or null. */
export function busyWarning(loads: readonly number[]): string | null {
  const load = median(loads);
  if (load < CALM) return null;
  return `before the runs ${load.toFixed(1)} CPUs were busy with something else (median)`;
}
