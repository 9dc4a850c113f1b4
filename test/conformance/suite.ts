import { describe, it } from 'vitest';
import type { Backend } from '../../main/nvmm/nvmm.ts';
import { candidates } from './rig.ts';

/** Runs the tests on every backend. One that is not here counts as a skip that names its reason. */
export function onEachBackend(title: string, tests: (backend: Backend) => void): void {
  for (const { name, backend, reason } of candidates) {
    describe(`${title}: ${name}`, () => {
      if (reason === null) tests(backend);
      else it('is not here', ({ skip }) => skip(reason));
    });
  }
}
