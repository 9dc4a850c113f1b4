/**
 * bench:trace: what the exit trace costs. A guest computes and does port I/O, `--rate` exits a second or more. Two
 * machines have it, one with the trace and one without; they run in turn, a fraction of a second each, while the other
 * is paused. Throughput is exits per second of the machine's CPU time (of all its threads, as the scheduler counts it),
 * which other work on the computer disturbs little; by the clock it is shown, too. What runs is the built program.
 *
 *   npm run bench:trace -- [--runs 100] [--rate 50000] [--ms 200] [--backend emulated]
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { forkLauncher } from '../../main/machine/launcher.ts';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { BackendChoice } from '../../main/machine/protocol.ts';
import { median, needBuild, numberOption, quantile } from './bench.ts';

const runs = numberOption('runs', 100);
const wanted = numberOption('rate', 50_000);
const ms = numberOption('ms', 200);
const at = process.argv.indexOf('--backend');
const backends: string[] = at < 0 ? ['emulated', 'kvm'] : [process.argv[at + 1]!];

/** The machine's process, as built. */
const built = join(dirname(needBuild()), 'process.js');

/** Until the translators have done their work, in ms. */
const WARM_UP = 1500;

const folder = mkdtempSync(join(tmpdir(), 'vitrine-trace-'));
const file = join(folder, 'exits.bin');

/** 32-bit code: OUT 0x80, so many rounds of computing, IN 0x61, for ever. */
function guest(rounds: number): Uint8Array {
  const count = [0, 8, 16, 24].map((shift) => (rounds >>> shift) & 0xff);
  return Uint8Array.of(
    ...[0xba, 0x80, 0x00, 0x00, 0x00], //      mov edx, 0x80
    ...[0xee], //                        next: out dx, al
    ...[0xb9, ...count], //                    mov ecx, rounds
    ...[0x01, 0xc8], //                 round: add eax, ecx
    ...[0x31, 0xd8], //                        xor eax, ebx
    ...[0x49], //                              dec ecx
    ...[0x75, 0xf9], //                        jnz round
    ...[0xe4, 0x61], //                        in al, 0x61
    ...[0xeb, 0xef], //                        jmp next
  );
}

interface Sample {
  /** Exits in a second by the clock. */
  byClock: number;
  /** Exits in a second of CPU time. */
  byCpu: number;
}

/** ns that the process's threads have been on a CPU. */
function cpuTime(pid: number): number {
  return readdirSync(`/proc/${pid}/task`)
    .map((task) => Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]))
    .reduce((all, one) => all + one, 0);
}

/** Starts a machine, lets it get warm and pauses it. */
async function start(backend: string, traced: boolean): Promise<MachineProcess> {
  const machine = new MachineProcess({ launch: () => forkLauncher(built, []) });
  await machine.start({
    ...{ name: 'trace', guest: { kind: 'flat', file, address: 0x100000 }, memory: 16 * 2 ** 20, vcpus: 1 },
    ...{ backend: backend as BackendChoice, disks: [], ...(traced ? {} : { untraced: true }) },
  });
  await delay(WARM_UP);
  await machine.pause();
  return machine;
}

/** Lets a machine run for a while. */
async function sample(machine: MachineProcess): Promise<Sample> {
  const look = async () => {
    const stats = await machine.stats();
    return { exits: stats['exits.IO'] ?? 0, clock: performance.now(), cpu: cpuTime(machine.pid!) };
  };
  await machine.resume();
  await delay(ms / 10);
  const from = await look();
  await delay(ms);
  const to = await look();
  await machine.pause();
  const exits = to.exits - from.exits;
  return { byClock: (exits * 1e3) / (to.clock - from.clock), byCpu: (exits * 1e9) / (to.cpu - from.cpu) };
}

/** Finds the rounds of computing that give the wanted rate, or more. */
async function calibrate(backend: string): Promise<void> {
  let rounds = 1000;
  // What an exit costs and what a round costs are not told apart, so this takes a few steps.
  for (let tries = 0; tries < 4; tries++) {
    writeFileSync(file, guest(rounds));
    const machine = await start(backend, true);
    const { byCpu } = await sample(machine);
    await machine.powerOff();
    rounds = Math.max(1, Math.round((rounds * byCpu) / (wanted * 1.1)));
  }
  writeFileSync(file, guest(rounds));
  console.log(`${backend}: ${rounds} rounds of computing between two exits`);
}

async function compare(backend: string): Promise<void> {
  await calibrate(backend);
  const machines = [await start(backend, true), await start(backend, false)];
  const taken: [Sample[], Sample[]] = [[], []];
  for (let run = 0; run < runs; run++) {
    for (const one of run % 2 === 0 ? [0, 1] : [1, 0]) taken[one].push(await sample(machines[one]));
  }
  const { vcpus } = await machines[0].ask('trace.stats', null);
  for (const machine of machines) await machine.powerOff();
  const show = (what: keyof Sample, words: string): void => {
    const [on, off] = taken.map((all) => all.map((one) => one[what]));
    const ratios = on.map((one, run) => one / off[run]);
    const [low, middle, high] = [0.25, 0.5, 0.75].map((part) => quantile(ratios, part).toFixed(3));
    console.log(
      `${backend}, ${words}: ${median(on).toFixed(0)} exits/s with the trace, ${median(off).toFixed(0)} without; ` +
        `ratio ${middle} (median of ${runs} pairs, quartiles ${low} and ${high})`,
    );
  };
  show('byCpu', 'a second of CPU time');
  show('byClock', 'a second by the clock');
  console.log(`${backend}: ${vcpus[0]?.end ?? 0} exits were traced`);
}

try {
  for (const backend of backends) {
    await compare(backend).catch((error: unknown) => console.log(`${backend}: ${(error as Error).message}`));
  }
} finally {
  rmSync(folder, { recursive: true });
}
