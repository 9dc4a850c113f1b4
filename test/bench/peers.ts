/** Who runs the benchmark's guest, and how each is started. */
import type { ChildProcess } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { guests, MEMORY, root } from './bench.ts';
import type { Sample } from './protocol.ts';
import { BenchReader } from './protocol.ts';

export const built = join(root, '.cache/bench/guests');

export type Bits = 32 | 64;

/** What is run: the guest, and its words (see test/bench/guest/main.c). */
export interface Job {
  bits: Bits;
  /** Without Linux: the guest is the machine's kernel. */
  bare: boolean;
  words: string;
  /** More options for `vitrine run`. */
  options: readonly string[];
}

export interface Peer {
  /** What it is, for people. */
  about: string;
  start(job: Job): ChildProcess;
  /** Why it can't run such a job here, or null. */
  lacks(job: Pick<Job, 'bits' | 'bare'>): string | null;
}

const archOf = (bits: Bits): string => (bits === 64 ? 'amd64' : 'i386');

interface Files {
  kernel: string;
  initrd: string | null;
  append: string;
}

export function filesOf({ bits, bare, words }: Job): Files {
  const arch = archOf(bits);
  if (bare) return { kernel: join(built, `bare-${arch}.elf`), initrd: null, append: words };
  return {
    kernel: join(guests, bits === 64 ? 'vmlinuz-cloud' : 'vmlinuz-686'),
    initrd: join(built, `initrd-${arch}.gz`),
    // What follows the two dashes is for /init.
    append: `console=ttyS0 panic=-1 quiet -- ${words}`,
  };
}

/** From the sources, so that what is measured is what is there. */
function startEmulated(job: Job): ChildProcess {
  const { kernel, initrd, append } = filesOf(job);
  const guest = job.bare ? ['--guest', kernel] : ['--kernel', kernel, '--initrd', initrd!];
  const machine = ['--backend', 'emulated', '--memory', String(MEMORY), '--append', append];
  const program = ['--import', 'tsx', join(root, 'main/cli.ts')];
  return spawn(process.execPath, [...program, 'run', ...guest, ...machine, ...job.options], { cwd: root });
}

const qemuOf = (bits: Bits): string => (bits === 64 ? 'qemu-system-x86_64' : 'qemu-system-i386');

function startTcg(job: Job): ChildProcess {
  const { kernel, initrd, append } = filesOf(job);
  const machine = `-accel tcg -cpu max -m ${MEMORY} -nodefaults -no-user-config -display none -serial stdio -no-reboot`;
  const guest = ['-kernel', kernel, ...(initrd === null ? [] : ['-initrd', initrd]), '-append', append];
  return spawn(qemuOf(job.bits), [...machine.split(' '), ...guest]);
}

export const peers: Record<string, Peer> = {
  native: {
    about: 'the same program on this host',
    start: ({ bits, words }) => spawn(join(built, `bench-${archOf(bits)}`), words.split(' ')),
    lacks: () =>
      process.platform === 'linux' && process.arch === 'x64' ? null : 'the program is for Linux on x86-64',
  },
  tcg: {
    about: 'QEMU with its translator (TCG)',
    start: startTcg,
    lacks: ({ bits }) =>
      spawnSync(qemuOf(bits), ['--version']).status === 0 ? null : `${qemuOf(bits)} is not installed`,
  },
  emulated: { about: 'Vitrine, emulated backend', start: startEmulated, lacks: () => null },
};

/** Milliseconds without a line after which a guest counts as hung. */
const SILENCE = 600_000;

/** Runs a job to its end. */
export function measure(peer: Peer, job: Job): Promise<{ samples: Sample[]; output: string }> {
  const child = peer.start(job);
  const reader = new BenchReader();
  let output = '';
  return new Promise((resolve, reject) => {
    const give = (error?: unknown): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      const tail = `\nIts last output:\n${output.slice(-1500)}`;
      if (error === undefined) resolve({ samples: reader.samples, output });
      else reject(new Error(`${error instanceof Error ? error.message : String(error)}${tail}`));
    };
    const timer = setTimeout(() => give(`nothing came for ${SILENCE / 1000} s`), SILENCE);
    const take = (text: string): void => {
      const now = performance.now();
      timer.refresh();
      output += text;
      try {
        reader.feed(text, now);
      } catch (error) {
        give(error);
      }
    };
    child.on('error', give);
    child.stdout!.setEncoding('latin1').on('data', take);
    child.stderr!.setEncoding('latin1').on('data', (text: string) => (output += text));
    child.on('close', () => give(reader.ended ? undefined : 'it ended before the benchmark did'));
  });
}
