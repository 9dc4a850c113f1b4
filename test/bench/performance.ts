/**
 * Writes what bench:cpu, bench:boot and bench:profile measured into docs: performance.json (the numbers), performance.svg (the
 * plot), and the part of performance.md between its markers. A part that isn't given keeps what is there.
 *
 *   npm run bench:report -- [--cpu FILE,FILE] [--boot FILE,FILE] [--profile FILE]
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, type } from 'node:os';
import { join } from 'node:path';
import { root, textOption } from './bench.ts';
import { page, picture } from './performance-page.ts';
import type { BootReport, CpuReport, Performance } from './report.ts';

const docs = join(root, 'docs');
const file = (name: string): string => join(docs, name);
const START = '<!-- measured: written by npm run bench:report -->';
const END = '<!-- end of what is measured -->';

function machine(): string[] {
  const qemu = spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }).stdout;
  const manifest = JSON.parse(readFileSync(join(root, 'node_modules/v86/package.json'), 'utf8')) as {
    version: string;
  };
  const { length, 0: cpu } = cpus();
  return [
    `${cpu.model.trim()}, ${length} CPUs`,
    `${type()} ${release().replace(/-.*/, '')}`,
    `Node ${process.version} (V8 ${process.versions.v8})`,
    /QEMU emulator version \S+( \([^)]*\))?/.exec(qemu)?.[0] ?? 'QEMU is not installed',
    `v86 ${manifest.version}`,
  ];
}

const read = <T>(path: string): T => JSON.parse(readFileSync(path, 'utf8')) as T;

const before: Partial<Performance> = existsSync(file('performance.json'))
  ? read<Performance>(file('performance.json'))
  : {};
/** Several files of one kind, separated by commas, as one: their runs, one after the other. */
function readAll<T extends { loads: number[] }>(paths: string, join: (all: T[]) => Partial<T>): T {
  const all = paths.split(',').map((path) => read<T>(path));
  return { ...all.at(-1)!, ...join(all), loads: all.flatMap(({ loads }) => loads) };
}
const readCpu = (paths: string): CpuReport =>
  readAll<CpuReport>(paths, (all) => ({ runs: all.flatMap(({ runs }) => runs) }));
const readBoot = (paths: string): BootReport =>
  readAll<BootReport>(paths, (all) => ({
    kernels: all.flatMap(({ kernels }) => kernels),
    problems: all.flatMap(({ problems }) => problems),
  }));

const [cpu, boot, profile] = ['cpu', 'boot', 'profile'].map((name) => textOption(name, ''));
const measured: Performance = {
  machine: cpu !== '' || boot !== '' ? machine() : (before.machine ?? machine()),
  cpu: cpu === '' ? (before.cpu ?? null) : readCpu(cpu),
  profile: profile === '' ? (before.profile ?? null) : read<Performance['profile']>(profile),
  boot: boot === '' ? (before.boot ?? null) : readBoot(boot),
};
const short = (_key: string, value: unknown): unknown =>
  typeof value === 'number' ? Math.round(value * 1000) / 1000 : value;
writeFileSync(file('performance.json'), JSON.stringify(measured, short));
writeFileSync(file('performance.svg'), picture(measured));

const text = readFileSync(file('performance.md'), 'utf8');
const [from, to] = [text.indexOf(START), text.indexOf(END)];
if (from < 0 || to < from) throw new Error(`docs/performance.md lacks its markers ${START} and ${END}`);
writeFileSync(
  file('performance.md'),
  `${text.slice(0, from + START.length)}\n\n${page(measured)}\n\n${text.slice(to)}`,
);
// As the rest of docs is formatted.
const pages = ['performance.json', 'performance.md'].map(file);
const formatted = spawnSync('npx', ['prettier', '--write', ...pages], { cwd: root, encoding: 'utf8' });
if (formatted.status !== 0) throw new Error(`prettier: ${formatted.stderr}`);
console.log('docs/performance.json, performance.svg and performance.md are written');
