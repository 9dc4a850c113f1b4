import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { LockstepConfig } from '../../../main/inspect/lockstep.ts';
import { Lockstep } from '../../../main/inspect/lockstep.ts';
import { lockstepText, parseLockstep } from '../../../main/service/lockstep-command.ts';
import { backends } from '../../../main/machine/backends.ts';
import type { Fault } from './faulty-nvmm.ts';
import { FaultyNvmm } from './faulty-nvmm.ts';

const folder = mkdtempSync(join(tmpdir(), 'vitrine-lockstep-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** 32-bit code for 0x100000: reads a local APIC's register and a port, adds with carry, stores. 52 rounds. */
const guest = join(folder, 'guest.bin');
writeFileSync(
  guest,
  Uint8Array.from([
    ...[0xbb, 0x30, 0x00, 0xe0, 0xfe], // 0: mov ebx, 0xfee00030
    ...[0xb9, 0x34, 0x00, 0x00, 0x00], // 1: mov ecx, 52
    ...[0x8b, 0x03], // 2 + 8n: mov eax, [ebx]
    ...[0x01, 0xc6], // 3 + 8n: add esi, eax
    ...[0x81, 0xd7, 0x34, 0x12, 0x00, 0xf0], // 4 + 8n: adc edi, 0xf0001234
    ...[0x66, 0xba, 0xfd, 0x03], // 5 + 8n: mov dx, 0x3fd
    0xec, // 6 + 8n: in al, dx
    ...[0x11, 0x3c, 0x8d, 0x00, 0x00, 0x20, 0x00], // 7 + 8n: adc [0x200000 + 4 ecx], edi
    0x49, // 8 + 8n: dec ecx
    ...[0x75, 0xe7], // 9 + 8n: jnz 2
    ...[0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef], // ACPI S5
    ...[0xfa, 0xeb, 0xfe],
  ]),
);

const config: LockstepConfig = {
  ...{ a: 'emulated', b: 'emulated', guest: { kind: 'flat', file: guest, address: 0x100000 } },
  ...{ memory: 4 * 2 ** 20, seed: 1, unixSeconds: 1704067200, inputs: [], instructions: 10_000, piece: 150 },
};

describe('lockstep of two that count', () => {
  it('finds nothing where there is nothing', () => {
    const result = new Lockstep(config).run();
    expect(result).toMatchObject({ outcome: 'same', mode: 'count', ended: 'the guest switched itself off' });
    expect(result.instructions).toBe(2 + 52 * 8 + 3);
  });

  /** Rounds of the loop and the instruction in it; the fault is in round 25. */
  const round = (place: number): number => 2 + 8 * 25 + place;
  const cases: { name: string; fault: Fault; instruction: RegExp; register?: string }[] = [
    {
      name: 'a wrong exit value',
      fault: { kind: 'exit value', at: round(4) },
      instruction: /^in +al, *dx/,
      register: 'RAX',
    },
    {
      name: 'a wrong assist',
      fault: { kind: 'assist', at: round(0) },
      instruction: /^mov +eax, .*\[ebx\]/,
      register: 'RAX',
    },
    {
      name: 'a dropped flag',
      fault: { kind: 'flag', at: round(2) },
      instruction: /^adc +edi/,
      register: 'RFLAGS',
    },
    { name: 'a byte of memory', fault: { kind: 'memory', at: round(6) }, instruction: /^dec +ecx/ },
  ];
  it.each(cases)('finds $name at its very instruction', ({ fault, instruction, register }) => {
    const result = new Lockstep(config, (real, side) => {
      if (side === 'a') return real;
      const faulty = new FaultyNvmm(real, fault);
      faulty.poke = (hva) => bytesOf.get(real)!.fill(0x5a, hva, hva + 1);
      return faulty;
    }).run();
    expect(result.outcome).toBe('different');
    const difference = result.difference!;
    expect([difference.at, difference.instruction]).toEqual([fault.at, expect.stringMatching(instruction)]);
    if (register === undefined) {
      expect(difference.registers).toEqual([]);
      expect(difference.memory).toEqual([expect.objectContaining({ gpa: 0x300000 })]);
    } else {
      expect(difference.registers.map(({ name }) => name)).toEqual([register]);
      expect(difference.memory).toEqual([]);
    }
    expect(difference.exits.length).toBeGreaterThan(0);
    expect(difference.exits.at(-1)).toMatch(/MEMORY read from 0xfee00030|IO in from port 0x3fd/);
  });
});

/** The memory that a backend was opened with: for the fault that spoils a byte of it. */
const bytesOf = new WeakMap<object, Uint8Array>();
for (const backend of backends) {
  const { open } = backend;
  backend.open = (memory) => {
    const nvmm = open.call(backend, memory);
    bytesOf.set(nvmm, new Uint8Array(memory.memory.buffer));
    return nvmm;
  };
}

const kvm = backends.find(({ name }) => name === 'kvm')!.unavailable();
describe(`lockstep with hardware${kvm === null ? '' : ` (skipped: ${kvm})`}`, () => {
  const orders = [
    { a: 'kvm', b: 'emulated' },
    { a: 'emulated', b: 'kvm' },
  ] as const;
  it.skipIf(kvm !== null).each(orders)('$a leads $b through every instruction', (order) => {
    const result = new Lockstep({ ...config, ...order }).run();
    expect(result).toMatchObject({ outcome: 'same', mode: 'step', ended: 'the guest switched itself off' });
    expect(result.instructions).toBeGreaterThan(400);
    // Nothing but the flags that shifts and the like leave undefined may differ, and there are none in this guest.
    expect(result.tolerated).toEqual({});
  });
});

describe('vitrine lockstep', () => {
  const wrong = [
    { args: ['emulated', '--guest', 'calc'], wanted: '--guest is no backend' },
    { args: ['emulated', 'auto', '--guest', 'calc'], wanted: 'auto is no backend' },
    { args: ['emulated', 'kvm'], wanted: 'nothing to boot' },
    { args: ['emulated', 'kvm', '--guest', 'calc', '--piece', 'x'], wanted: '--piece x' },
  ];
  it.each(wrong)('says what is wrong: $wanted', ({ args, wanted }) => {
    expect(() => parseLockstep(args)).toThrow(wanted);
  });

  it('shows the difference', () => {
    const result = new Lockstep(config, (real, side) =>
      side === 'a' ? real : new FaultyNvmm(real, { kind: 'flag', at: 2 + 8 * 25 + 2 }),
    ).run();
    const text = lockstepText(config, result);
    expect(text).toContain('differ after 204 instructions alike');
    expect(text).toMatch(/RFLAGS: emulated 0x\w+, emulated 0x\w+/);
    expect(text).toMatch(/^ \*RFLAGS/m);
    expect(text).toContain('MEMORY read from 0xfee00030');
  });
});
