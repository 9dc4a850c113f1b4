import { parentPort, workerData } from 'node:worker_threads';
import { backends } from '../../main/machine/backends.ts';
import type { SharedMemory } from '../../main/machine/memory.ts';
import { backendMemory } from '../../main/machine/memory.ts';
import { Exit, Seg, State } from '../../main/nvmm/constants.ts';
import type { Backend, MachineHandle, VcpuHandle } from '../../main/nvmm/nvmm.ts';
import type { Thread } from './threads.ts';
import { ownThread } from './threads.ts';

/** The vCPU's thread of bench:kick: runs a guest that spins, and counts how often it was stopped. */

export interface KickStart {
  backend: Backend['name'];
  memory: SharedMemory;
  machine: MachineHandle;
  /** By Word. */
  words: Int32Array;
}

/** What the thread says when the guest is about to run. */
export interface KickReady {
  handle: VcpuHandle;
  thread: Thread | null;
}

export const Word = { STOPS: 0, END: 1 } as const;

/** Guest-physical address of the code. */
export const CODE = 0x1000;

function spin({ backend, memory, machine: handle, words }: KickStart): void {
  const nvmm = backends.find(({ name }) => name === backend)!.open(backendMemory(memory));
  const machine = nvmm.machineAttach(handle);
  const vcpu = nvmm.vcpuCreate(machine, 0);
  nvmm.getState(machine, vcpu, State.ALL);
  vcpu.state.setSegment(Seg.CS, 0, vcpu.state.attrib(Seg.CS), vcpu.state.limit(Seg.CS), 0n);
  vcpu.state.rip = BigInt(CODE);
  nvmm.setState(machine, vcpu, State.ALL);
  const ready: KickReady = { handle: nvmm.vcpuShare(vcpu), thread: ownThread() };
  parentPort!.postMessage(ready);
  while (Atomics.load(words, Word.END) === 0) {
    nvmm.run(machine, vcpu);
    if (vcpu.exit.reason !== Exit.STOPPED) continue;
    Atomics.add(words, Word.STOPS, 1);
    Atomics.notify(words, Word.STOPS);
  }
  nvmm.vcpuDestroy(machine, vcpu);
  nvmm.close();
}

if (parentPort !== null) spin(workerData as KickStart);
