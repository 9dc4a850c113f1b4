import { execFileSync, spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

export { median, quantile } from './statistics.ts';

/** What the benchmarks share: where things are, and how numbers are printed. No benchmark asserts a time. */

export const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
export const guests = join(root, '.cache/guests');

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
