import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DebugTarget } from '../../main/inspect/target.ts';
import type { GuestSource } from '../../main/machine/protocol.ts';
import { Gpr } from '../../main/nvmm/constants.ts';
import { deterministicMachine } from './deterministic-machine.ts';

// A deterministic machine goes back: to the very state that it had, which a hash over all of it shows.

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const MIB = 2 ** 20;

async function start(guest: GuestSource, memory: number, history = 64 * MIB) {
  const made = await deterministicMachine(guest, memory, { history });
  return { ...made, target: new DebugTarget(made.machine, 1, true) };
}

describe('backwards', () => {
  it('by an instruction, to the same state, and forward again', { timeout: 60_000 }, async () => {
    const { machine, target, hash, runTo } = await start({ kind: 'calc' }, 16 * MIB);
    const early = await runTo(9000);
    const here = await runTo(10_000);
    expect([early.instructions, here.instructions]).toEqual([9000, 10_000]);
    const { rip } = await target.readState(0);
    for (let i = 1; i <= 3; i++) {
      expect((await target.back('step')).reason).toBe('step');
      expect((await hash()).instructions).toBe(10_000 - i);
    }
    expect((await runTo(10_000)).hash).toBe(here.hash);
    expect((await target.readState(0)).rip).toBe(rip);
    await machine.powerOff();
  });

  it('to the last breakpoint, and to where the history begins', { timeout: 60_000 }, async () => {
    const { machine, target, hash, runTo } = await start({ kind: 'calc' }, 16 * MIB);
    await runTo(9000);
    const { id } = await target.add({ kind: 'port', first: 0x3f8, last: 0x3f8, direction: 'out' });
    const first = await target.goOn();
    expect(first.reason).toBe('port');
    const at = await hash();
    const second = await target.goOn();
    expect((await hash()).instructions).toBeGreaterThan(at.instructions);
    expect(second.reason).toBe('port');
    const back = await target.back('stop');
    expect([back.reason, back.rip]).toEqual(['port', first.rip]);
    expect(await hash()).toEqual(at);
    // It stands there as it did: going on stops at the next one, not here again.
    expect((await target.step(0)).reason).toBe('step');
    expect((await hash()).instructions).toBe(at.instructions + 1);
    expect((await target.goOn()).rip).toBe(second.rip);
    await target.remove(id);
    const begin = await target.reverse!.goOn();
    expect(begin.begin).toBe(true);
    expect((await hash()).instructions).toBe(0);
    await machine.powerOff();
  });

  const kernel = join(root, '.cache/guests/vmlinuz-cloud');
  it.runIf(existsSync(kernel))(
    `in Linux, over many checkpoints${existsSync(kernel) ? '' : ' (npm run fetch:guests fetches it)'}`,
    { timeout: 120_000 },
    async () => {
      const initrd = join(root, '.cache/guests/initrd-amd64.gz');
      const linux: GuestSource = { kind: 'linux', kernel, initrd, append: 'console=ttyS0' };
      const { machine, target, hash, runTo } = await start(linux, 128 * MIB, 1024 * MIB);
      const hashes = new Map<number, string>();
      for (const at of [80_000_000, 150_000_000, 290_000_000]) {
        const there = await runTo(at);
        hashes.set(at, there.hash);
        const { rip } = await target.readState(0);
        await target.back('step');
        expect((await hash()).instructions).toBe(at - 1);
        await target.step(0);
        expect((await target.readState(0)).gpr(Gpr.RIP)).toBe(rip);
        expect(await hash()).toEqual(there);
      }
      expect(new Set(hashes.values()).size).toBe(3);
      // All the way back, through every checkpoint, and again.
      expect((await target.reverse!.goOn()).begin).toBe(true);
      expect((await hash()).instructions).toBe(0);
      for (const [at, wanted] of hashes) expect((await runTo(at)).hash).toBe(wanted);
      await machine.powerOff();
    },
  );
});
