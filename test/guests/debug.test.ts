import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { DebugTarget } from '../../main/inspect/target.ts';
import type { Breakpoint } from '../../main/machine/debug.ts';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { BackendChoice } from '../../main/machine/protocol.ts';
import { Gpr, State } from '../../main/nvmm/constants.ts';
import { backends } from '../../main/machine/backends.ts';

// A debugger on whole machines: processes, threads, devices.

const folder = mkdtempSync(join(tmpdir(), 'vitrine-debug-'));
const machines: MachineProcess[] = [];
afterEach(async () => {
  await Promise.all(machines.splice(0).map((machine) => machine.powerOff()));
});
afterAll(() => rmSync(folder, { recursive: true }));

const ORIGIN = 0x10_0000n;

/** A 32-bit guest at 1 MiB that begins with a word-long loop to itself, so that it can be stopped before it does more. */
async function guest(backend: BackendChoice, source: string): Promise<DebugTarget> {
  const path = join(folder, `${machines.length}-${backend}.bin`);
  const text = `bits 32\n org 0x100000\nwait: jmp wait\n mov esp, 0x200000\nstart:\n${source}\n`;
  writeFileSync(path, assemble(text).bytes);
  const machine = new MachineProcess();
  machines.push(machine);
  await machine.start({
    name: 'debugged',
    guest: { kind: 'flat', file: path, address: Number(ORIGIN) },
    memory: 8 * 2 ** 20,
    vcpus: 1,
    backend,
    disks: [],
  });
  const target = new DebugTarget(machine, 1);
  await target.pause();
  const state = await target.readState(0);
  state.rip = ORIGIN + 2n;
  await target.writeState(0, State.GPRS, state);
  await target.step(0);
  return target;
}

const rip = async (target: DebugTarget): Promise<number> => Number((await target.readState(0)).rip);

for (const backend of backends) {
  const { name } = backend;
  const reason = backend.unavailable();
  describe(`debugging: ${name}`, () => {
    if (reason !== null) {
      it('is not here', ({ skip }) => skip(reason));
      return;
    }

    it('steps one instruction at a time, device accesses included', async () => {
      const target = await guest(
        name,
        ' mov dx, 0x3f8\n mov al, 65\n out dx, al\n in al, dx\n mov [0xfee00080], eax\n nop\n hlt',
      );
      const at: number[] = [await rip(target)];
      for (let i = 0; i < 6; i++) {
        const stop = await target.step(0);
        expect(stop.reason).toBe('step');
        at.push(Number(stop.rip));
      }
      expect(at.map((address) => address - at[0])).toEqual([0, 4, 6, 7, 8, 14, 15]);
      const stop = await target.step(0);
      expect([stop.reason, stop.message]).toEqual(['halted', expect.stringContaining('interrupts off')]);
      expect((await target.step(0)).reason).toBe('halted');
    });

    it('stops at a breakpoint, and goes on from it', async () => {
      const target = await guest(name, ' xor ecx, ecx\nagain: inc ecx\n nop\n jmp again');
      const loop = BigInt(await rip(target)) + 2n;
      const { id } = await target.add({ kind: 'execute', address: loop });
      for (let round = 0; round < 3; round++) {
        const stop = await target.goOn();
        expect([stop.reason, stop.id, stop.rip]).toEqual(['breakpoint', id, loop]);
        expect(Number((await target.readState(0)).gpr(Gpr.RCX))).toBe(round);
      }
      expect((await target.list()).map(({ hits }) => hits)).toEqual([3]);
      await target.remove(id);
      let rounds = 3;
      while (rounds === 3) {
        await target.resume();
        expect((await target.pause()).reason).toBe('pause');
        rounds = Number((await target.readState(0)).gpr(Gpr.RCX));
      }
    });

    it('steps over calls and out of functions', async () => {
      const target = await guest(
        name,
        ' mov ecx, 3\n call f\n nop\n hlt\nf: dec ecx\n jz .end\n call f\n.end: inc eax\n ret',
      );
      const start = await rip(target);
      await target.step(0);
      const over = await target.stepOver(0);
      expect([over.reason, Number(over.rip) - start]).toEqual(['step', 10]);
      expect(Number((await target.readState(0)).gpr(Gpr.RAX)) & 0xff).toBe(3);
      const state = await target.readState(0);
      state.rip = BigInt(start);
      await target.writeState(0, State.GPRS, state);
      await target.step(0, 3);
      const out = await target.stepOut(0);
      expect([out.reason, Number(out.rip) - start]).toEqual(['step', 10]);
    });

    const stops: { name: string; code: string; breakpoint: Breakpoint; wanted: object }[] = [
      {
        name: 'a port',
        code: ' nop\n out 0x80, al\n mov dx, 0x3f9\n in al, dx\n hlt',
        breakpoint: { kind: 'port', first: 0x3f8, last: 0x3ff, direction: 'in' },
        wanted: { reason: 'port', address: 0x3f9n, access: 'read', offset: 7 },
      },
      {
        name: 'an MSR',
        code: ' mov ecx, 0x1b\n rdmsr\n wrmsr\n hlt',
        breakpoint: { kind: 'msr', index: 0x1b, access: 'write' },
        wanted: { reason: 'msr', address: 0x1bn, access: 'write', offset: 7 },
      },
      {
        name: 'an exit',
        code: ' nop\n mov eax, [0xfee00030]\n hlt',
        breakpoint: { kind: 'exit', reason: 'MEMORY' },
        wanted: { reason: 'exit', exit: 'MEMORY', address: 0xfee00030n, offset: 1 },
      },
      {
        name: 'HLT',
        code: ' nop\n hlt',
        breakpoint: { kind: 'exit', reason: 'HALTED' },
        wanted: { reason: 'exit', exit: 'HALTED', offset: 2 },
      },
    ];
    it.each(stops)('stops at $name, and goes on', async ({ code, breakpoint, wanted }) => {
      const target = await guest(name, code);
      const start = await rip(target);
      const { id } = await target.add(breakpoint);
      const stop = await target.goOn();
      expect({ ...stop, offset: Number(stop.rip) - start }).toMatchObject({ ...wanted, id });
      // Going on does it, and does not stop there again.
      const end = await target.step(0);
      expect(['step', 'halted']).toContain(end.reason);
    });
  });
}
