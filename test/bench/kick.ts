/**
 * bench:kick: how long it takes to get a vCPU out of a guest that spins with interrupts off (`cli; jmp $`), on each
 * backend present:
 *
 *   kick    from nvmm_vcpu_stop in another thread until that thread sees that the run has come back
 *   pause   from the request to the machine's process until its answer that the vCPU stands, as the service sees it
 *
 *
 * A thread that could go on may have to wait for a CPU, which no program can help. The kernel counts that (schedstat),
 * so of what took long it is said how much would have without: that is ours, or the host's hypervisor's.
 *
 *   npm run bench:kick -- [--tries 1000]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { emulatedBackend } from '../../main/emulator/backend.ts';
import { startThread } from '../../main/machine/entry.ts';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import { backendMemory, createMemory, GuestRam } from '../../main/machine/memory.ts';
import type { Backend } from '../../main/nvmm/nvmm.ts';
import { kvmBackend } from '../../native/libnvmm/backends.ts';
import { numberOption, quantile } from './bench.ts';
import type { KickReady, KickStart } from './kick-thread.ts';
import { CODE, Word } from './kick-thread.ts';
import type { Thread } from './threads.ts';
import { mainAndBusiest, ownThread, waited } from './threads.ts';

const tries = numberOption('tries', 1000);
const SPIN = Uint8Array.of(0xfa, 0xeb, 0xfe);
const MIB = 2 ** 20;

/** Each try: how long it took, and how much of that its threads waited for a CPU. In ms. */
class Tries {
  private readonly times: number[] = [];
  private readonly own: number[] = [];
  private readonly threads: readonly Thread[];
  private from = 0;
  private before = 0;

  constructor(threads: readonly (Thread | null)[]) {
    this.threads = threads.filter((thread) => thread !== null);
  }

  begin(): void {
    this.before = waited(this.threads);
    this.from = performance.now();
  }

  end(): void {
    const time = performance.now() - this.from;
    // What a thread has waited before the try, and without an end, counts when it ends; the try did not take longer.
    const wait = Math.min(time, waited(this.threads) - this.before);
    this.times.push(time);
    this.own.push(time - wait);
  }

  report(name: string): void {
    const show = (q: number): string => quantile(this.times, q).toFixed(3).padStart(8);
    const late = (times: readonly number[]): string =>
      `${times.filter((time) => time > 1).length} of ${tries}`;
    const scheduler = this.threads.length > 0 ? `, without waits for a CPU: ${late(this.own)}` : '';
    const line = `p50 ${show(0.5)} ms   p99 ${show(0.99)} ms   max ${show(1)} ms`;
    console.log(`${name.padEnd(18)} ${line}   over 1 ms: ${late(this.times)}${scheduler}`);
  }
}

/** Long enough to be in the middle of the guest's code again, at no fixed distance. */
const sleep = (i: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1 + (i % 5)));

/** The vCPU's thread counts its runs; this one stops it and waits for the count to change. */
async function kick(backend: Backend): Promise<void> {
  const memory = createMemory(4 * MIB, backend.privateSize(1, 4 * MIB));
  const words = new Int32Array(new SharedArrayBuffer(8));
  const nvmm = backend.open(backendMemory(memory));
  const machine = nvmm.machineCreate();
  const ram = new GuestRam(memory);
  ram.map(nvmm, machine);
  ram.write(CODE, SPIN);
  const data: KickStart = { backend: backend.name, memory, machine: nvmm.machineShare(machine), words };
  const worker = startThread(fileURLToPath(new URL('./kick-thread.ts', import.meta.url)), data);
  const { handle, thread } = await new Promise<KickReady>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  const all = new Tries([ownThread(), thread]);
  for (let i = 0; i < tries; i++) {
    await sleep(i);
    const before = Atomics.load(words, Word.STOPS);
    all.begin();
    nvmm.vcpuStop(handle);
    while (Atomics.load(words, Word.STOPS) === before) Atomics.wait(words, Word.STOPS, before, 100);
    all.end();
  }
  Atomics.store(words, Word.END, 1);
  nvmm.vcpuStop(handle);
  await new Promise((resolve) => worker.once('exit', resolve));
  nvmm.machineDestroy(machine);
  nvmm.close();
  all.report(`kick, ${backend.name}`);
}

async function pause(backend: 'emulated' | 'kvm', file: string): Promise<void> {
  const machine = new MachineProcess();
  const guest = { kind: 'flat', file, address: 0x10000 } as const;
  try {
    await machine.start({ name: 'kick', guest, memory: 16 * MIB, vcpus: 1, backend, disks: [] });
    // The vCPU's thread is the one that runs all the time.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const all = new Tries([ownThread(), ...(ownThread() === null ? [] : mainAndBusiest(machine.pid!))]);
    for (let i = 0; i < tries; i++) {
      all.begin();
      await machine.pause();
      all.end();
      await machine.resume();
      await sleep(i);
    }
    all.report(`pause, ${backend}`);
  } finally {
    await machine.powerOff();
    machine.dispose();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'vitrine-kick-'));
const file = join(folder, 'spin.bin');
writeFileSync(file, SPIN);
try {
  for (const backend of [emulatedBackend, kvmBackend]) {
    const missing = backend.unavailable();
    if (missing !== null) {
      console.log(`${backend.name} is not measured: ${missing}`);
      continue;
    }
    await kick(backend);
    await pause(backend.name as 'emulated' | 'kvm', file);
  }
} finally {
  rmSync(folder, { recursive: true });
}
