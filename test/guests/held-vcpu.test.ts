import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { DebugTarget } from '../../main/inspect/target.ts';
import { backends } from '../../main/machine/backends.ts';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import { Gpr } from '../../main/nvmm/constants.ts';

// One vCPU is paused and resumed while another one runs on. The service offers one vCPU; a machine can have two.

const folder = mkdtempSync(join(tmpdir(), 'vitrine-held-'));
afterAll(() => rmSync(folder, { recursive: true }));
const ORIGIN = 0x10_0000;
const file = join(folder, 'count.bin');
/** Wakes the other vCPU by INIT and SIPI, and counts. */
const START = ` mov dword [0xfee00310], 0x1000000
 mov dword [0xfee00300], 0x4500
 mov dword [0xfee00300], 0x4608
again: inc ecx
 jmp again`;
writeFileSync(file, assemble(`bits 32\n org ${ORIGIN}\n${START}\n`).bytes);
/** Where a SIPI of vector 8 leads: again: inc ecx; jmp again. In real mode. */
const WOKEN = { at: 0x8000, code: Buffer.from('6641ebfc', 'hex') };

for (const { name, unavailable } of backends) {
  const reason = unavailable();
  describe(`a vCPU held by itself: ${name}`, () => {
    if (reason !== null) {
      it('is not here', ({ skip }) => skip(reason));
      return;
    }
    it('stands still while the other one runs on', async () => {
      const machine = new MachineProcess();
      await machine.start({
        ...{ name: 'two', guest: { kind: 'flat', file, address: ORIGIN }, memory: 8 * 2 ** 20, vcpus: 2 },
        ...{ backend: name, disks: [], startPaused: true },
      });
      try {
        const target = new DebugTarget(machine, 2);
        await target.writePhysical(WOKEN.at, WOKEN.code);
        const counted = async (vcpu: number): Promise<number> =>
          Number((await target.readState(vcpu)).gpr(Gpr.RCX));
        /** Holds a vCPU for a look: nothing else can be told of one that runs. */
        const glance = async (vcpu: number): Promise<number> => {
          await machine.ask('vcpu.pause', { vcpu });
          const count = await counted(vcpu);
          await machine.ask('vcpu.resume', { vcpu });
          return count;
        };
        await target.resume();
        while ((await glance(0)) === 0 || (await glance(1)) === 0) await delay(10);
        for (const [held, other] of [
          [1, 0],
          [0, 1],
        ] as const) {
          await machine.ask('vcpu.pause', { vcpu: held });
          expect(target.status).toMatchObject({ state: 'running', held: [held] });
          const [stands, runs] = [await counted(held), await glance(other)];
          let later = runs;
          while (later === runs) {
            await delay(10);
            later = await glance(other);
          }
          expect(await counted(held)).toBe(stands);
          // It can be stepped, and the other one doesn't stop for that.
          expect(await target.step(held)).toMatchObject({ vcpu: held, reason: 'step' });
          await machine.ask('vcpu.resume', { vcpu: held });
          expect(target.status.held).toBeUndefined();
          let resumed = await glance(held);
          while (resumed === stands) {
            await delay(10);
            resumed = await glance(held);
          }
        }
        for (const question of ['vcpu.pause', 'vcpu.resume'] as const) {
          await expect(machine.ask(question, { vcpu: 2 })).rejects.toThrow(
            'There is no vCPU 2: this machine has vCPUs 0 to 1.',
          );
        }
      } finally {
        await machine.powerOff();
      }
    });
  });
}
