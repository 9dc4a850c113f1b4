import type { Backend, Tier } from '../nvmm/nvmm.ts';
import { EmulatorNvmm } from './driver.ts';
import { emulatedMachines } from './machine-backend.ts';
import { TRANSLATING } from './translate/translator.ts';

/** Runs of a block before it is translated; 0: never. */
const RUNS: Record<Tier, number> = { auto: TRANSLATING.runs, interpreter: 0, translator: 1 };

/** Our emulator: works wherever WebAssembly has threads, SIMD and tail calls. */
export const emulatedBackend: Backend = {
  ...emulatedMachines,
  open: (memory, options) =>
    new EmulatorNvmm(memory, { translating: { runs: RUNS[options?.tier ?? 'auto'] } }),
};
