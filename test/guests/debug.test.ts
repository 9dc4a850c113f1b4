import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { DebugTarget } from '../../main/inspect/target.ts';
import type { Breakpoint } from '../../main/machine/debug.ts';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { BackendChoice } from '../../main/machine/protocol.ts';
import { Gpr, Msr, State } from '../../main/nvmm/constants.ts';
import { backends } from '../../main/machine/backends.ts';

// A debugger on whole machines: processes, threads, devices.

const folder = mkdtempSync(join(tmpdir(), 'vitrine-debug-'));
/** One machine for each backend; it is reset for each test, which is quicker than another process. */
const machines = new Map<BackendChoice, MachineProcess>();
afterAll(async () => {
  await Promise.all([...machines.values()].map((machine) => machine.powerOff()));
  rmSync(folder, { recursive: true });
});

const ORIGIN = 0x10_0000;
/** jmp $ */
const WAIT = Buffer.from('ebfe', 'hex');

async function machineOf(backend: BackendChoice): Promise<MachineProcess> {
  const known = machines.get(backend);
  if (known !== undefined) {
    await known.reset();
    return known;
  }
  const path = join(folder, 'wait.bin');
  writeFileSync(path, WAIT);
  const machine = new MachineProcess();
  machines.set(backend, machine);
  await machine.start({
    name: 'debugged',
    guest: { kind: 'flat', file: path, address: ORIGIN },
    memory: 8 * 2 ** 20,
    vcpus: 1,
    backend,
    disks: [],
  });
  return machine;
}

/** A machine that stands before a 32-bit program, with a stack. */
async function guest(backend: BackendChoice, source: string): Promise<DebugTarget> {
  const target = new DebugTarget(await machineOf(backend), 1);
  await target.pause();
  for (const { id } of await target.list()) await target.remove(id);
  const { bytes } = assemble(`bits 32\n org ${ORIGIN + WAIT.length}\n${source}\n`);
  await target.writePhysical(ORIGIN + WAIT.length, bytes);
  const state = await target.readState(0);
  state.rip = BigInt(ORIGIN + WAIT.length);
  state.setGpr(Gpr.RSP, 0x20_0000n);
  await target.writeState(0, State.GPRS, state);
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
        // Paused at once, a vCPU on a busy computer may never come to its next instruction.
        await delay(10);
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

    it('holds one vCPU while time runs on, and looks into it', async () => {
      const target = await guest(name, 'again: inc ecx\n jmp again');
      const { port } = target;
      await target.resume();
      await port.ask('vcpu.pause', { vcpu: 0 });
      expect(target.status).toMatchObject({ state: 'running', held: [0] });
      const counted = async (): Promise<bigint> => (await target.readState(0)).gpr(Gpr.RCX);
      const time = async (): Promise<number> => (await port.ask('stats', null))['time.ns'];
      const [count, began] = [await counted(), await time()];
      await delay(20);
      expect(await counted()).toBe(count);
      expect(await time()).toBeGreaterThan(began);
      expect((await target.step(0)).reason).toBe('step');
      await port.ask('vcpu.resume', { vcpu: 0 });
      expect(target.status.held).toBeUndefined();
      await expect(port.ask('vcpu.resume', { vcpu: 0 })).rejects.toThrow(/not paused by itself/);
      await target.pause();
      expect(await counted()).not.toBe(count);
    });

    it.each([
      { time: 'stops', moves: false },
      { time: 'runs', moves: true },
    ] as const)('time $time while it is paused', async ({ time, moves }) => {
      const target = await guest(name, 'again: jmp again');
      await target.resume();
      await target.port.ask('machine.pause', { time });
      const now = async (): Promise<[number, bigint]> => [
        (await target.port.ask('stats', null))['time.ns'],
        (await target.readState(0)).msr(Msr.TSC),
      ];
      const before = await now();
      await delay(20);
      const after = await now();
      expect(after[0] > before[0]).toBe(moves);
      // A vCPU that does not run has been asked for its counter before: only what stands still can be compared.
      if (!moves) expect(after[1]).toBe(before[1]);
      await target.resume();
      expect((await target.pause()).reason).toBe('pause');
    });

    it('stays as it died', async () => {
      const target = await guest(name, ' mov ebx, 0x1234\n lidt [0x180000]\n ud2');
      await target.resume();
      const stop = await target.waitForStop();
      expect([target.status.state, stop.reason]).toEqual(['crashed', 'triple-fault']);
      await expect(target.step(0)).rejects.toThrow(/can't step now/);
      // KVM's own emulator loses what was before the shutdown on some hardware; ours never does.
      if (name === 'emulated') expect((await target.readState(0)).gpr(Gpr.RBX)).toBe(0x1234n);
    });

    it('refuses what is no breakpoint, and says what works', async () => {
      const target = await guest(name, ' hlt');
      const refused: [Breakpoint, RegExp][] = [
        [{ kind: 'execute', address: 1n << 47n }, /not a canonical address/],
        [{ kind: 'watch', address: 0n, length: 2 ** 32 + 1, access: 'write' }, /1 byte to 4 GiB/],
        [{ kind: 'port', first: 9, last: 8, direction: 'in' }, /before the first/],
        [{ kind: 'exit', reason: 'NONE' }, /There are: .*HALTED/],
        [{ kind: 'exception', vector: 32 }, /not 0 to 0x1f/],
      ];
      for (const [breakpoint, why] of refused) await expect(target.add(breakpoint)).rejects.toThrow(why);
      expect(await target.list()).toEqual([]);
      const { note } = await target.add({ kind: 'execute', address: 0xffff_8000_0000_0000n });
      // Without paging every address of 32 bits is mapped, and none beyond.
      expect(note ?? 'mapped').toMatch(/mapped/);
    });

    it('watches memory, and stops before exceptions, or says why not', async () => {
      const target = await guest(name, ' mov dword [0x180010], 7\n nop\n ud2');
      const start = await rip(target);
      const exception = target.add({ kind: 'exception', vector: 6 });
      if (name === 'emulated') {
        const { id } = await target.add({
          kind: 'watch',
          address: 0x18_0000n,
          length: 2 ** 20,
          access: 'write',
        });
        const stop = await target.goOn();
        expect(stop).toMatchObject({ reason: 'watchpoint', id, address: 0x18_0010n, access: 'write' });
        expect(Number(stop.rip) - start).toBe(10);
        const next = await target.goOn();
        expect(next).toMatchObject({ reason: 'exception', vector: 6, id: (await exception).id });
        expect(Number(next.rip) - start).toBe(11);
      } else {
        await expect(exception).rejects.toThrow(/does not show a guest's exceptions/);
        expect(await target.list()).toEqual([]);
        const watch = target.add({ kind: 'watch', address: 0n, length: 64, access: 'write' });
        await expect(watch).rejects.toThrow(/four debug registers/);
      }
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
