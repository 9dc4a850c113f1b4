/** Runs the benchmark's guest once on one of those who can run it. */
import type { ChildProcess } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { join } from 'node:path';
import { guests, root } from './bench.ts';
import type { Bits } from './peers.ts';
import { peers } from './peers.ts';
import type { Sample } from './protocol.ts';
import { BenchReader } from './protocol.ts';
import { threadTimes } from './threads.ts';

/** A file that test/bench/guest.sh makes. */
export const builtGuest = (name: string): string => join(root, '.cache/bench/guests', name);

export interface Job {
  bits: Bits;
  /** Without Linux: the guest is the machine's kernel. */
  bare: boolean;
  /** What to do: see test/bench/guest/main.c. */
  words: string;
  /** More options for `vitrine run`. */
  options: readonly string[];
  /** Vitrine as people run it, from out/; otherwise from the sources as they are. */
  built: boolean;
}

/** Those who can run a job: the emulators, and this host. */
export const runners = ['native', ...Object.keys(peers)];

function kernelOf({ bits, bare }: Job): string {
  if (bare) return builtGuest(`bare-${archOf(bits)}.elf`);
  return join(guests, bits === 64 ? 'vmlinuz-cloud' : 'vmlinuz-686');
}

const archOf = (bits: Bits): string => (bits === 64 ? 'amd64' : 'i386');

/** Why a runner can't do it here, or null. */
export function lack(runner: string, job: Job): string | null {
  if (runner !== 'native') return peers[runner].lacks({ bits: job.bits, kernel: kernelOf(job) });
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the program is for Linux on x86-64';
  if (job.bits === 64 || !existsSync(builtGuest('bench-i386'))) return null;
  // Kernels are made without them, and then a shell tries to read the program.
  const tried = spawnSync(builtGuest('bench-i386'), ['scale=0', 'rows=fib'], { encoding: 'utf8' });
  return tried.stdout?.includes('BENCH') ? null : 'this kernel has no 32-bit programs';
}

function start(runner: string, job: Job): ChildProcess {
  const { bits, bare, options } = job;
  // Nothing runs while the harness looks at the clock and the threads.
  const words = `ack=1 ${job.words}`;
  if (runner === 'native') return spawn(builtGuest(`bench-${archOf(bits)}`), words.split(' '));
  return peers[runner].start({
    bits,
    kernel: kernelOf(job),
    initrd: bare ? null : builtGuest(`initrd-${archOf(bits)}.gz`),
    // What follows the two dashes is for /init.
    append: bare ? words : `console=ttyS0 panic=-1 quiet -- ${words}`,
    options,
    built: job.built,
  });
}

/** Milliseconds without a line after which a guest counts as hung. */
const SILENCE = 600_000;
/** Milliseconds that a guest has to switch itself off. */
const GOODBYE = 10_000;

/**
 * Lets this process look at once when a line arrives, though the machine be busy: it needs next to no time itself, and
 * what it measures keeps the usual priority. Only root may; others are as they are.
 */
function prioritise(priority: number): void {
  try {
    setPriority(priority);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ERR_SYSTEM_ERROR')) throw error;
  }
}

/** Runs a job to its end. */
export function measure(runner: string, job: Job): Promise<{ samples: Sample[]; output: string }> {
  const child = start(runner, job);
  prioritise(constants.priority.PRIORITY_HIGH);
  const ends = runner === 'native' || peers[runner].ends;
  const reader = new BenchReader();
  let output = '';
  return new Promise((resolve, reject) => {
    let given = false;
    const give = (error?: unknown): void => {
      if (given) return;
      given = true;
      clearTimeout(timer);
      prioritise(constants.priority.PRIORITY_NORMAL);
      child.kill('SIGKILL');
      const tail = `\nIts last output:\n${output.slice(-1500)}`;
      if (error === undefined) resolve({ samples: reader.samples, output });
      else reject(new Error(`${error instanceof Error ? error.message : String(error)}${tail}`));
    };
    let timer = setTimeout(() => give(`nothing came for ${SILENCE / 1000} s`), SILENCE);
    const take = (text: string): void => {
      const now = performance.now();
      timer.refresh();
      output += text;
      try {
        const threads = text.includes('\n') ? threadTimes(child.pid) : null;
        child.stdin!.write('\n'.repeat(reader.feed(text, now, threads)));
      } catch (error) {
        give(error);
      }
      if (!reader.ended) return;
      clearTimeout(timer);
      timer = setTimeout(() => give(), ends ? GOODBYE : 0);
    };
    child.on('error', give);
    // A guest that ended while it was answered: its end says more.
    child.stdin!.on('error', () => undefined);
    child.stdout!.setEncoding('latin1').on('data', take);
    child.stderr!.setEncoding('latin1').on('data', (text: string) => (output += text));
    child.on('close', () => give(reader.ended ? undefined : 'it ended before the benchmark did'));
  });
}
