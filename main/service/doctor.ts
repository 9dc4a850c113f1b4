import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { arch, availableParallelism, freemem, platform, release, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { machineBackends } from '../machine/machine-backends.ts';
import { rootFolder } from '../machine/entry.ts';
import type { BackendReport } from '../nvmm/registry.ts';
import { reportBackends } from '../nvmm/registry.ts';
import { version } from './version.ts';

export const doctorUsage = `Usage: vitrine doctor [--json]

Says which backends work on this computer, what to do about those that don't, and what else Vitrine needs.
`;

const MIB = 2 ** 20;
/** What package.json's "engines" asks for. */
const NODE_WANTED = [20, 19] as const;

/** A thing that Vitrine can use, and the way to it when it is not there. */
interface Finding {
  name: string;
  ok: boolean;
  detail: string;
}

interface Report {
  version: string;
  /** True when a machine can be started here. */
  ok: boolean;
  backends: BackendReport[];
  host: Finding[];
}

/** `vitrine doctor`. Exit status 0 when a machine can be started here, 1 when not, 2 for wrong usage. */
export function doctorCommand(
  args: string[],
  output: Writable = process.stdout,
  errors: Writable = process.stderr,
): number {
  let values: { json?: boolean; help?: boolean };
  try {
    ({ values } = parseArgs({
      args,
      options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    }));
  } catch (error) {
    errors.write(
      `vitrine doctor: ${error instanceof Error ? error.message : String(error)}\n\n${doctorUsage}`,
    );
    return 2;
  }
  if (values.help) {
    output.write(doctorUsage);
    return 0;
  }
  const report = examine();
  output.write(values.json ? `${JSON.stringify(report)}\n` : text(report));
  return report.ok ? 0 : 1;
}

function examine(): Report {
  const reports = reportBackends(machineBackends);
  const host = [node(), memory(), ...kvm(), electron(), display()];
  return { version, ok: reports.some(({ available }) => available), backends: reports, host };
}

function node(): Finding {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const ok = major > NODE_WANTED[0] || (major === NODE_WANTED[0] && minor >= NODE_WANTED[1]);
  const way = ok ? '' : `: too old, ${NODE_WANTED.join('.')} or newer is needed`;
  return {
    name: 'Node',
    ok,
    detail: `${process.versions.node} (${platform()} ${release()} ${arch()})${way}`,
  };
}

function memory(): Finding {
  const [free, total] = [freemem(), totalmem()].map((bytes) => Math.round(bytes / MIB));
  const ok = free >= 256;
  const way = ok ? '' : ': little for a machine, so close something or give it less with --memory';
  return { name: 'Memory', ok, detail: `${free} MiB free of ${total}, ${availableParallelism()} CPUs${way}` };
}

/** The device by itself: what stands in the way of backend kvm beside the library. */
function kvm(): Finding[] {
  if (platform() !== 'linux') return [];
  const name = '/dev/kvm';
  if (!existsSync(name)) {
    return [
      { name, ok: false, detail: 'not there: no hardware virtualization, or its module is not loaded' },
    ];
  }
  try {
    accessSync(name, constants.R_OK | constants.W_OK);
    return [{ name, ok: true, detail: `there, and we may use it${withoutHardware()}` }];
  } catch {
    return [{ name, ok: false, detail: 'there, but no permission: add yourself to the group kvm' }];
  }
}

/** A KVM can be there without the processor's support; it is slow in ring 0 and lacks instructions. */
function withoutHardware(): string {
  try {
    const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ' vmx ';
    if (/ (vmx|svm)( |$)/.test(flags)) return '';
  } catch {
    return '';
  }
  return "; the processor shows no virtualization, so kernels are slow in it, and our emulator runs what it can't";
}

/** The npm package comes without its program, which its first start fetches. */
function electron(): Finding {
  const home = join(rootFolder(), 'node_modules', 'electron');
  try {
    const program = join(home, 'dist', readFileSync(join(home, 'path.txt'), 'utf8').trim());
    if (existsSync(program)) return { name: 'Electron', ok: true, detail: program };
  } catch {
    // Neither file nor package: said below.
  }
  const detail = existsSync(home)
    ? 'its program is not here yet: "npx electron" fetches it; without it, "vitrine serve" shows the window in a browser'
    : 'not installed: "vitrine serve" shows the window in a browser';
  return { name: 'Electron', ok: false, detail };
}

function display(): Finding {
  if (platform() !== 'linux') return { name: 'Display', ok: true, detail: `that of ${platform()}` };
  const { DISPLAY, WAYLAND_DISPLAY } = process.env;
  const found = WAYLAND_DISPLAY ?? DISPLAY;
  if (found !== undefined && found !== '') return { name: 'Display', ok: true, detail: found };
  return { name: 'Display', ok: false, detail: 'none here: use "vitrine run" or "vitrine serve"' };
}

function text({ version: own, ok, backends: reports, host }: Report): string {
  const line = (good: boolean, name: string, detail: string): string =>
    `  ${good ? 'yes' : 'no '}  ${name.padEnd(10)} ${detail}\n`;
  return [
    `Vitrine ${own}\n\nBackends, best first:\n`,
    ...reports.map(({ name, available, reason }) => line(available, name, available ? 'works' : reason!)),
    '\nThis computer:\n',
    ...host.map(({ ok: good, name, detail }) => line(good, name, detail)),
    ok ? '\nMachines can be started here.\n' : '\nNo backend works here, so no machine can be started.\n',
  ].join('');
}
