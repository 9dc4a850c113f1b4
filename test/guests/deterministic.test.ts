import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { GuestSource } from '../../main/machine/protocol.ts';
import type { DeterministicConfig, TimedInput } from '../../main/machine/timeline-input.ts';

// The same inputs, the same run, to the bit: a hash over RAM, the vCPU and every device says so.

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const guests = join(root, '.cache/guests');
const MIB = 2 ** 20;

interface Outcome {
  hashes: Record<number, string>;
  inputs: TimedInput[];
  printed: string;
  message: string | undefined;
}

/** Runs to the end. `type` is typed as soon as `> ` has been printed, by a person of varying speed. */
async function play(
  guest: GuestSource,
  memory: number,
  deterministic: Partial<DeterministicConfig>,
  type = '',
): Promise<Outcome> {
  const machine = new MachineProcess();
  const outcome: Outcome = { hashes: {}, inputs: [], printed: '', message: undefined };
  machine.onTimeline((event) => {
    if (event.kind === 'hash') outcome.hashes[event.instructions] = event.hash;
    else outcome.inputs.push(event.input);
  });
  const reader = machine.serial[0].attach({
    from: 'start',
    lossless: true,
    onData: (data, offset) => {
      outcome.printed += new TextDecoder('latin1').decode(data);
      reader.ack(offset + data.length);
      if (type === '' || !outcome.printed.includes('> ')) return;
      machine.serial[0].write(new TextEncoder().encode(type));
      type = '';
    },
  });
  await machine.start({
    ...{ name: 'deterministic', guest, memory, vcpus: 1, backend: 'auto', disks: [] },
    deterministic: { seed: 7, unixSeconds: 1704067200, paced: false, ...deterministic },
  });
  outcome.message = (await machine.ended).message;
  return outcome;
}

describe('a deterministic machine', () => {
  it('gives the run again that its inputs made, on whatever day', { timeout: 60_000 }, async () => {
    const calc: GuestSource = { kind: 'calc' };
    const counts = [1, 5000, 11_000, 12_500, 13_000];
    const first = await play(calc, 16 * MIB, { record: true, hashAt: counts }, '12*12\r(2+3)*7\rquit\r');
    expect(first.printed).toContain('144');
    expect(first.inputs.length).toBeGreaterThan(0);
    const again = await play(calc, 16 * MIB, { replay: first.inputs, hashAt: counts });
    expect(again.printed).toBe(first.printed);
    expect(Object.keys(first.hashes)).toEqual(counts.map(String));
    expect(again.hashes).toEqual(first.hashes);
    // Looking at other places changes nothing; another seed or another input does.
    const [, , , late] = counts;
    const elsewhere = await play(calc, 16 * MIB, { replay: first.inputs, hashAt: [777, late], until: late });
    expect(elsewhere.message).toBe(`The machine has run ${late} instructions.`);
    expect(elsewhere.hashes[late]).toBe(first.hashes[late]);
    const other = first.inputs.map((one) => ({ ...one, at: one.at + 1 }));
    const later = await play(calc, 16 * MIB, { replay: other, hashAt: [late], until: late });
    expect(later.hashes[late]).not.toBe(first.hashes[late]);
  });

  const kernel = join(guests, 'vmlinuz-cloud');
  const initrd = join(guests, 'initrd-amd64.gz');
  it.runIf(existsSync(kernel) && existsSync(initrd))(
    `boots Debian's cloud kernel twice alike${existsSync(kernel) ? '' : ' (npm run fetch:guests fetches it)'}`,
    { timeout: 120_000 },
    async () => {
      const linux: GuestSource = { kind: 'linux', kernel, initrd, append: 'console=ttyS0' };
      const at = 60_000_000;
      const runs = [await play(linux, 256 * MIB, { hashAt: [at], until: at })];
      runs.push(await play(linux, 256 * MIB, { hashAt: [12_345_678, at], until: at }));
      expect(runs[0].hashes[at]).toMatch(/^[0-9a-f]{64}$/);
      expect(runs[1].hashes[at]).toBe(runs[0].hashes[at]);
      expect(runs[1].printed).toBe(runs[0].printed);
    },
  );
});
