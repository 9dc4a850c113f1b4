import type { Backend, Tier } from '../nvmm/nvmm.ts';
import { EmulatorNvmm } from './driver.ts';
import { privateBytes } from './tables.ts';
import { TRANSLATING } from './translate/translator.ts';

/** Runs of a block before it is translated; 0: never. */
const RUNS: Record<Tier, number> = { auto: TRANSLATING.runs, interpreter: 0, translator: 1 };

/** Our emulator: works wherever WebAssembly has threads, SIMD and tail calls. */
export const emulatedBackend: Backend = {
  name: 'emulated',
  unavailable: () =>
    WebAssembly.validate(PROBE)
      ? null
      : 'This JavaScript engine lacks WebAssembly tail calls: use Node 20 or newer.',
  privateSize: (vcpus) => privateBytes(vcpus),
  open: (memory, options) =>
    new EmulatorNvmm(memory, { translating: { runs: RUNS[options?.tier ?? 'auto'] } }),
};

/** (module (memory 1 1 shared) (func (v128.const 0) (drop) (return_call 0))): threads, SIMD and tail calls. */
const PROBE = new Uint8Array([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 25, 1, 23, 0, 0xfd,
  12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 0x12, 0, 0x0b,
]);
