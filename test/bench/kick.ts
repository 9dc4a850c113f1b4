/**
 * bench:kick: how long it takes to get a vCPU out of a guest that spins with interrupts off (`cli; jmp $`), on each
 * backend present:
 *
 *   kick    from nvmm_vcpu_stop in another thread until that thread sees that the run has come back
 *   pause   from the request to the machine's process until its answer that the vCPU stands, as the service sees it
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
import type { KickStart } from './kick-thread.ts';
import { CODE, Word } from './kick-thread.ts';

const tries = numberOption('tries', 1000);
const SPIN = Uint8Array.of(0xfa, 0xeb, 0xfe);
const MIB = 2 ** 20;

function report(name: string, times: readonly number[]): void {
  const show = (q: number): string => quantile(times, q).toFixed(3).padStart(8);
  const late = times.filter((time) => time > 1).length;
  const line = `p50 ${show(0.5)} ms   p99 ${show(0.99)} ms   max ${show(1)} ms   over 1 ms: ${late} of ${tries}`;
  console.log(`${name.padEnd(18)} ${line}`);
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
  const handle = await new Promise<Parameters<typeof nvmm.vcpuStop>[0]>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  const times: number[] = [];
  for (let i = 0; i < tries; i++) {
    await sleep(i);
    const before = Atomics.load(words, Word.STOPS);
    const from = performance.now();
    nvmm.vcpuStop(handle);
    while (Atomics.load(words, Word.STOPS) === before) Atomics.wait(words, Word.STOPS, before, 100);
    times.push(performance.now() - from);
  }
  Atomics.store(words, Word.END, 1);
  nvmm.vcpuStop(handle);
  await new Promise((resolve) => worker.once('exit', resolve));
  nvmm.machineDestroy(machine);
  nvmm.close();
  report(`kick, ${backend.name}`, times);
}

async function pause(backend: 'emulated' | 'kvm', file: string): Promise<void> {
  const machine = new MachineProcess();
  const guest = { kind: 'flat', file, address: 0x10000 } as const;
  try {
    await machine.start({ name: 'kick', guest, memory: 16 * MIB, vcpus: 1, backend, disks: [] });
    const times: number[] = [];
    for (let i = 0; i < tries; i++) {
      const from = performance.now();
      await machine.pause();
      times.push(performance.now() - from);
      await machine.resume();
      await sleep(i);
    }
    report(`pause, ${backend}`, times);
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
