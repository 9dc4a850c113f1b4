import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Session } from './session.ts';

/** Real guests under `vitrine run`: what is started, what is seen and typed, and the exit status at the end. */

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const guests = join(root, '.cache/guests');

export interface Scenario {
  name: string;
  /** What scripts/guests.sh must have fetched. */
  needs: readonly string[];
  options: readonly string[];
  /** Text to wait for, and what to type then. */
  steps: readonly { wait: string; type?: string }[];
  /** Exit status of `vitrine run`, or undefined when the scenario ends with the last step. */
  status?: number;
  /** Text that must not appear. */
  never?: string;
  /** Minutes that it may take on a slow machine. */
  minutes: number;
  /** Part of `npm test`; the others belong to `npm run campaign:guests`. */
  short: boolean;
}

function linux(kernel: string, initrd: string, append: string, memory: number): string[] {
  const files = ['--kernel', join(guests, kernel), '--initrd', join(guests, initrd)];
  return [...files, '--append', append, '--memory', String(memory)];
}

const shell = (machine: string): Scenario['steps'] => [
  { wait: 'BOOT-OK' },
  { wait: 'guest# ', type: 'echo $((6*7)) on $(uname -m)\n' },
  { wait: `42 on ${machine}` },
  { wait: 'guest# ', type: 'grep -c processor /proc/cpuinfo; md5sum /bin/busybox | cut -c1-4\n' },
  { wait: 'guest# ', type: 'poweroff\n' },
];

export const scenarios: readonly Scenario[] = [
  {
    name: "Debian's cloud kernel, 256 MiB",
    needs: ['cloud', 'initrd'],
    options: linux('vmlinuz-cloud', 'initrd-amd64.gz', 'console=ttyS0 panic=-1', 256),
    steps: shell('x86_64'),
    status: 0,
    minutes: 5,
    short: true,
  },
  ...[96, 3072].map((memory) => ({
    name: `Debian's cloud kernel, ${memory} MiB`,
    needs: ['cloud', 'initrd'],
    options: linux('vmlinuz-cloud', 'initrd-amd64.gz', 'console=ttyS0 panic=-1', memory),
    steps: shell('x86_64'),
    status: 0,
    minutes: 8,
    short: false,
  })),
  {
    name: "Debian's 32-bit kernel",
    needs: ['686', 'initrd'],
    options: linux('vmlinuz-686', 'initrd-i386.gz', 'console=ttyS0 panic=-1', 256),
    steps: shell('i686'),
    status: 0,
    minutes: 15,
    short: false,
  },
  {
    name: "Debian's installer to its first dialog",
    needs: ['installer'],
    options: linux('installer/vmlinuz', 'installer/initrd.gz', 'console=ttyS0 panic=-1', 1024),
    steps: [{ wait: 'Select a language' }],
    minutes: 20,
    short: false,
  },
  {
    name: 'memtest86+, one pass of 16 MiB',
    needs: ['memtest'],
    options: [
      '--kernel',
      join(guests, 'memtest64.bin'),
      '--append',
      'console=ttyS0,115200',
      '--memory',
      '16',
    ],
    steps: [{ wait: 'Pass:  1        Errors: 0 ' }],
    minutes: 40,
    short: false,
  },
];

/** Why a scenario can't run here, or null once its guests are there. */
export function fetchGuests(needs: readonly string[]): string | null {
  if (needs.length === 0) return null;
  const fetched = spawnSync('bash', [join(root, 'scripts/guests.sh'), ...needs], { encoding: 'utf8' });
  if (fetched.error) return fetched.error.message;
  return fetched.status === 0 ? null : fetched.stderr.trim();
}

/** `vitrine run`, built if it is, else from source. */
export function startVitrine(options: readonly string[]): Session {
  const built = join(root, 'out/main/cli.js');
  const program = existsSync(built) ? [built] : ['--import', 'tsx', join(root, 'main/cli.ts')];
  const child = spawn(process.execPath, [...program, 'run', '--backend', 'emulated', ...options]);
  return new Session(child);
}

/** Plays a scenario. Throws when it goes another way. */
export async function play(scenario: Scenario): Promise<Session> {
  const session = startVitrine(scenario.options);
  const limit = scenario.minutes * 60_000;
  try {
    for (const { wait, type } of scenario.steps) {
      await session.waitFor(wait, limit);
      if (type !== undefined) session.type(type);
    }
    if (scenario.status !== undefined) {
      const status = await session.ended;
      if (status !== scenario.status) {
        throw new Error(`status ${status}, not ${scenario.status}; printed: ${session.output.slice(-500)}`);
      }
    }
    return session;
  } finally {
    session.kill();
  }
}
