import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { DebugTarget } from '../../../main/inspect/target.ts';
import { MachineProcess } from '../../../main/machine/machine-process.ts';
import { Cr, Seg } from '../../../main/nvmm/constants.ts';

const ORIGIN = 0x10_0000;
/** jmp $, and so much more that loading it takes longer than a vCPU's thread takes to look around. */
const IMAGE = Buffer.concat([Buffer.from('ebfe', 'hex'), Buffer.alloc(48 * 2 ** 20)]);
const RESETS = 20;
/** Requests that keep the vCPU's thread busy, and awake, while the machine is reset. */
const READS = 200;

it('starts with the whole state after a reset, whatever the vCPU is asked meanwhile', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-reset-'));
  const file = join(folder, 'wait.bin');
  writeFileSync(file, IMAGE);
  const machine = new MachineProcess();
  try {
    await machine.start({
      name: 'reset',
      guest: { kind: 'flat', file, address: ORIGIN },
      memory: 64 * 2 ** 20,
      vcpus: 1,
      backend: 'emulated',
      disks: [],
    });
    const target = new DebugTarget(machine, 1);
    for (let round = 0; round < RESETS; round++) {
      await target.pause();
      const reset = machine.reset();
      const reads = Array.from({ length: READS }, () => target.readState(0).catch(() => null));
      await Promise.all([reset, ...reads]);
      await target.pause();
      const state = await target.readState(0);
      expect({
        protection: state.cr(Cr.CR0) & 1n,
        base: state.base(Seg.CS),
        rip: Number(state.rip),
      }).toEqual({ protection: 1n, base: 0n, rip: ORIGIN });
    }
  } finally {
    await machine.powerOff();
    rmSync(folder, { recursive: true });
  }
});
