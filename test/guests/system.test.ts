import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { differenceOf } from './system/differences.ts';
import { readExpected } from './system/expected.ts';
import { assembleGuest, GUESTS, QEMU, runCases, runEmulated, runQemu } from './system/runner.ts';

// The system level of the processor: small kernels whose every exception is a line, the same on QEMU, on the
// emulator and in the record. Each case is compared by itself, so that a failure names it.
const installed = (program: string): boolean => spawnSync(program, ['--version']).status === 0;
const noAssembler = installed('nasm') ? '' : ' (nasm is not installed)';
const noQemu = noAssembler || (installed(QEMU) ? '' : ` (${QEMU} is not installed)`);

const folder = mkdtempSync(join(tmpdir(), 'vitrine-system-'));
afterAll(() => rmSync(folder, { recursive: true }));

for (const guest of GUESTS) {
  const file = join(folder, `${guest}.bin`);
  const expected = readExpected(guest);

  describe.runIf(noAssembler === '')(`${guest} on the emulator${noAssembler}`, () => {
    let reports: Map<string, string>;
    beforeAll(() => {
      assembleGuest(guest, file);
      const image = readFileSync(file);
      reports = runCases((first) => runEmulated(image, first));
    });
    it('has the cases of the record', () => expect([...reports.keys()]).toEqual([...expected.keys()]));
    it.each([...expected])('%s', (name, report) => expect(reports.get(name)).toBe(report));
  });

  describe.runIf(noQemu === '')(`${guest} on QEMU${noQemu}`, () => {
    it('reports what is recorded, but where it is known to be wrong', () => {
      assembleGuest(guest, file);
      const reports = runCases((first) => runQemu(file, first));
      const wrong = [...reports].filter(
        ([name, report]) => !differenceOf(guest, name) && report !== expected.get(name),
      );
      expect(wrong).toEqual([]);
    });
  });
}
