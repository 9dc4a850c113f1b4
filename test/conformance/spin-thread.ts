import { parentPort, workerData } from 'node:worker_threads';
import { State } from '../../main/nvmm/constants.ts';
import { NvmmError } from '../../main/nvmm/errors.ts';
import type { BackendMemory, MachineHandle } from '../../main/nvmm/nvmm.ts';
import { candidates, longMode } from './rig.ts';

/** Runs the guest that is at 0x2000 until the vCPU is gone, and says what that was like. */
export interface SpinStart {
  backend: string;
  memory: BackendMemory;
  machine: MachineHandle;
  /** Counts runs. */
  runs: Int32Array;
}

if (parentPort !== null) {
  const data = workerData as SpinStart;
  const { backend } = candidates.find(({ name }) => name === data.backend)!;
  // The library of the other systems is found once ours is loaded.
  candidates.forEach((one) => one.backend.unavailable());
  const nvmm = backend.open(data.memory);
  const machine = nvmm.machineAttach(data.machine);
  const vcpu = nvmm.vcpuCreate(machine, 0);
  longMode(vcpu);
  nvmm.setState(machine, vcpu, State.ALL);
  parentPort.postMessage(nvmm.vcpuShare(vcpu));
  try {
    for (;;) {
      nvmm.run(machine, vcpu);
      Atomics.add(data.runs, 0, 1);
    }
  } catch (error) {
    parentPort.postMessage(error instanceof NvmmError ? error.errno : String(error));
  }
}
