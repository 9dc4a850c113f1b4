import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { startThread } from '../../main/machine/entry.ts';
import { Prot } from '../../main/nvmm/constants.ts';
import type { Machine, Nvmm, VcpuHandle } from '../../main/nvmm/nvmm.ts';
import { Rig } from './rig.ts';
import type { SpinStart } from './spin-thread.ts';
import { onEachBackend } from './suite.ts';

// What one thread does to a vCPU that runs on another.

const message = (worker: Worker): Promise<unknown> =>
  new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));

const ends: { name: string; act(nvmm: Nvmm, machine: Machine, handle: VcpuHandle): void }[] = [
  { name: 'its machine is destroyed', act: (nvmm, machine) => nvmm.machineDestroy(machine) },
  {
    name: 'its machine is destroyed right after a stop',
    act: (nvmm, machine, handle) => {
      nvmm.vcpuStop(handle);
      nvmm.machineDestroy(machine);
    },
  },
  {
    name: 'its machine is destroyed, and another made in its place',
    act: (nvmm, machine) => {
      nvmm.machineDestroy(machine);
      const next = nvmm.machineCreate();
      nvmm.vcpuCreate(next, 0);
      nvmm.machineDestroy(next);
    },
  },
];

onEachBackend('threads', (backend) => {
  it.each(ends)('a run ends with ENOENT when $name', async ({ act }) => {
    const rig = new Rig(backend, false);
    const { nvmm, host } = rig;
    const machine = nvmm.machineCreate();
    nvmm.hvaMap(machine, host.ram, 4096);
    nvmm.gpaMap(machine, host.ram, 0x2000, 4096, Prot.READ | Prot.WRITE | Prot.EXEC);
    // Page tables for one page, in the page itself, and JMP to itself.
    nvmm.hvaMap(machine, host.ram + 0x2000, 0x4000);
    nvmm.gpaMap(machine, host.ram + 0x2000, 0x3000, 0x4000, Prot.READ | Prot.WRITE);
    host.bytes.set([0xeb, 0xfe], host.ram);
    nvmm.hvaWritten(host.ram, 2);
    const runs = new Int32Array(new SharedArrayBuffer(4));
    const data: SpinStart = {
      backend: backend.name,
      memory: host.backendMemory,
      machine: nvmm.machineShare(machine),
      runs,
    };
    const worker = startThread(join(import.meta.dirname, 'spin-thread.ts'), data);
    const handle = (await message(worker)) as VcpuHandle;
    // In the middle of a run: one has come back.
    while (Atomics.load(runs, 0) === 0) Atomics.wait(runs, 0, 0, 5);
    const end = message(worker);
    act(nvmm, machine, handle);
    expect(await end).toBe('ENOENT');
    // A stop that comes late harms nobody.
    nvmm.vcpuStop(handle);
    await worker.terminate();
    rig.close();
  });
});
