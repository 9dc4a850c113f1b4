import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import type { GuestSource } from '../../main/machine/protocol.ts';
import { deterministicMachine } from './deterministic-machine.ts';

// A guest that was restored goes on as one that never was: ten million instructions later they are the same to the
// bit, by a hash over RAM, the vCPU, every device, and what is on its way to them.

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'vitrine-restore-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const MIB = 2 ** 20;
const FURTHER = 10_000_000;

/** A paused machine at its first instruction, or where a snapshot was taken. */
async function paused(guest: GuestSource, memory: number, from?: string) {
  const made = await deterministicMachine(guest, memory, from === undefined ? {} : { from });
  const { machine, config, runTo } = made;
  const take = async (): Promise<string> => {
    const path = mkdtempSync(join(folder, 's-'));
    const title = { id: 's', name: '', createdAt: 0, parent: null, writtenBy: 'test', console: '' };
    await machine.ask('snapshot.take', { folder: path, title, config, parent: null, layers: [] });
    return path;
  };
  return { machine, runTo, take };
}

/** Mixes what the devices' clocks show into 4 MiB of memory, for ever. */
const MIXER = `
 bits 32
 org 0x100000
start:
 xor ebx, ebx
 mov edi, 0x200000
again:
 rdtsc
 add ebx, eax
 xor al, al
 out 0x43, al
 in al, 0x40
 add bl, al
 mov eax, [0xfee00390]
 rol ebx, 7
 xor ebx, eax
 mov ecx, 500
inner:
 add [edi + ecx * 8], ebx
 dec ecx
 jnz inner
 add edi, 4096
 and edi, 0x5fffff
 or edi, 0x200000
 jmp again
`;
const mixer = join(folder, 'mixer.bin');
writeFileSync(mixer, assemble(MIXER).bytes);

const kernel = join(root, '.cache/guests/vmlinuz-cloud');
const initrd = join(root, '.cache/guests/initrd-amd64.gz');
const cases = [
  {
    ...{ name: 'a loop over clocks and memory', memory: 8, at: [1_000_000, 11_234_567] },
    guest: { kind: 'flat', file: mixer, address: 0x100000 },
    missing: null,
  },
  {
    ...{ name: "Debian's cloud kernel in its boot", memory: 128, at: [20_000_000, 45_678_901] },
    guest: { kind: 'linux', kernel, initrd, append: 'console=ttyS0' },
    missing: existsSync(kernel) ? null : 'npm run fetch:guests fetches it',
  },
] as const;

describe('ten million instructions after a restore', () => {
  for (const { name, memory, at, guest, missing } of cases) {
    it.skipIf(missing !== null)(
      `${name}: those without one${missing === null ? '' : ` (${missing})`}`,
      { timeout: 300_000 },
      async () => {
        const untouched = await paused(guest, memory * MIB);
        const wanted = [];
        for (const count of at) wanted.push(await untouched.runTo(count + FURTHER));
        await untouched.machine.powerOff();

        const first = await paused(guest, memory * MIB);
        for (const [i, count] of at.entries()) {
          const { hash } = await first.runTo(count);
          const taken = await first.take();
          expect(await first.runTo(count + FURTHER)).toEqual(wanted[i]);
          // In place, and in a process that has never run the guest.
          await first.machine.ask('snapshot.restore', { folder: taken, layers: [] });
          expect(await first.machine.ask('timeline.hash', null)).toEqual({ instructions: count, hash });
          expect(await first.runTo(count + FURTHER)).toEqual(wanted[i]);
          const other = await paused(guest, memory * MIB, taken);
          expect(await other.machine.ask('timeline.hash', null)).toEqual({ instructions: count, hash });
          expect(await other.runTo(count + FURTHER)).toEqual(wanted[i]);
          await other.machine.powerOff();
        }
        await first.machine.powerOff();
      },
    );
  }
});
