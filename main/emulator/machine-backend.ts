import type { MachineBackend } from '../nvmm/nvmm.ts';
import { EmulatorMachines } from './machines.ts';
import { privateBytes } from './tables.ts';

/** Our emulator for threads without a vCPU, which load no processor. */
export const emulatedMachines: MachineBackend = {
  name: 'emulated',
  unavailable: () =>
    WebAssembly.validate(PROBE)
      ? null
      : 'This JavaScript engine lacks WebAssembly tail calls: use Node 20 or newer.',
  privateSize: (vcpus) => privateBytes(vcpus),
  open: (memory) => new EmulatorMachines(memory),
};

/** (module (memory 1 1 shared) (func (v128.const 0) (drop) (return_call 0))): threads, SIMD and tail calls. */
const PROBE = new Uint8Array([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 25, 1, 23, 0, 0xfd,
  12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 0x12, 0, 0x0b,
]);
