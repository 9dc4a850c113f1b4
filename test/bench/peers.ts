/** The emulators that are measured, and how each starts a guest with its serial port on stdout. */
import type { ChildProcess } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { MEMORY, needBuild, root } from './bench.ts';

export type Bits = 32 | 64;

export interface Guest {
  bits: Bits;
  /** A bzImage; or multiboot, if it is an ELF file. */
  kernel: string;
  initrd: string | null;
  append: string;
  /** More options for `vitrine run`. */
  options: readonly string[];
  /** Vitrine as people run it, from out/; otherwise from the sources as they are. */
  built: boolean;
}

export interface Peer {
  /** What it is, for people. */
  about: string;
  start(guest: Guest): ChildProcess;
  /** Why it can't run such a guest here, or null. */
  lacks(guest: Pick<Guest, 'bits' | 'kernel'>): string | null;
  /** Whether the process ends when the guest switches itself off. */
  ends: boolean;
}

const isElf = (kernel: string): boolean => kernel.endsWith('.elf');

function startEmulated({ kernel, initrd, append, options, built }: Guest): ChildProcess {
  const program = built ? [needBuild()] : ['--import', 'tsx', join(root, 'main/cli.ts')];
  const guest = [isElf(kernel) ? '--guest' : '--kernel', kernel, ...(initrd ? ['--initrd', initrd] : [])];
  const machine = ['--backend', 'emulated', '--memory', String(MEMORY), '--append', append];
  return spawn(process.execPath, [...program, 'run', ...guest, ...machine, ...options], { cwd: root });
}

const qemuOf = (bits: Bits): string => (bits === 64 ? 'qemu-system-x86_64' : 'qemu-system-i386');

function startTcg({ bits, kernel, initrd, append }: Guest): ChildProcess {
  const machine = `-accel tcg -cpu max -m ${MEMORY} -nodefaults -no-user-config -display none -serial stdio -no-reboot`;
  const guest = ['-kernel', kernel, ...(initrd ? ['-initrd', initrd] : []), '-append', append];
  return spawn(qemuOf(bits), [...machine.split(' '), ...guest]);
}

/** v86 boots Linux through SeaBIOS: Debian's package, in the variant that is small enough for its chip set. */
const bios = '/usr/share/seabios/bios.bin';
const vgaBios = '/usr/share/seabios/vgabios-stdvga.bin';

function startV86({ kernel, initrd, append }: Guest): ChildProcess {
  const firmware = isElf(kernel) ? [] : [bios, vgaBios];
  const program = join(root, 'test/bench/v86.mjs');
  const guest = [kernel, initrd ?? '-', append, String(MEMORY), ...firmware];
  return spawn(process.execPath, [program, ...guest], { cwd: root });
}

export const peers: Record<string, Peer> = {
  tcg: {
    about: 'QEMU with its translator (TCG)',
    start: startTcg,
    lacks({ bits }) {
      return spawnSync(qemuOf(bits), ['--version']).status === 0 ? null : `${qemuOf(bits)} is not installed`;
    },
    ends: true,
  },
  v86: {
    about: 'v86 under Node',
    start: startV86,
    lacks({ bits, kernel }) {
      if (bits === 64) return 'it has no 64-bit guests';
      return isElf(kernel) || existsSync(bios) ? null : `${bios} is missing: apt-get install seabios`;
    },
    ends: false,
  },
  emulated: { about: 'Vitrine, emulated backend', start: startEmulated, lacks: () => null, ends: true },
};
