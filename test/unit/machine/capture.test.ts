import { describe, expect, it } from 'vitest';
import { loadDevices, saveDevices } from '../../../main/machine/capture.ts';
import { createMemory, GuestRam } from '../../../main/machine/memory.ts';
import { Pc, sharePc } from '../../../main/machine/pc.ts';

const MIB = 2 ** 20;
/** Bytes of the registers that a virtio device does not take over: epoch and busy. */
const VIRTIO_OWN = 5;

function makePc(): Pc {
  const disks = [{ size: MIB, readOnly: false }];
  return new Pc(sharePc(2, disks, 0), {
    ram: new GuestRam(createMemory(4 * MIB, 0)),
    clock: { now: () => 0 },
    power: { reset: () => undefined, powerOff: () => undefined },
    signal: { notify: () => undefined },
    tsc: { nsAt: () => 0 },
    outputReady: () => undefined,
    queueReady: () => undefined,
    disks: [{ ...disks[0], read: () => undefined, write: () => undefined, flush: () => undefined }],
    entropy: { fill: () => undefined },
    report: () => undefined,
  });
}

describe('the state of all devices', () => {
  it('has a name of its own for each', () => {
    const names = makePc().devices.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });

  // Every byte of the registers has another value than after power-on, so none can be left out unseen.
  it.each([0x3f, 0x11])('goes over to another PC whole, through JSON (bytes of %i)', (byte) => {
    const [from, to] = [makePc(), makePc()];
    for (const { start, end } of from.arena.blocks) new Uint8Array(from.arena.buffer).fill(byte, start, end);
    const saved = JSON.parse(JSON.stringify(saveDevices(from))) as Saved;
    loadDevices(to, saved);
    expect(saveDevices(to)).toEqual(saved);
    // The two buses keep nothing but counts of accesses to nothing. A virtio device keeps its epoch and no busy mark.
    const [, , ...blocks] = from.arena.blocks;
    const wrong = blocks.filter(({ start, end }) => {
      const [a, b] = [from, to].map(({ arena }) => Buffer.from(arena.buffer, start, end - start));
      return a.reduce((count, value, at) => count + (value === b[at] ? 0 : 1), 0) > VIRTIO_OWN;
    });
    expect(wrong).toEqual([]);
  });

  it.each([
    { name: 'a device that is missing', change: (saved: Saved) => delete saved.pit, wanted: /device pit/ },
    {
      name: 'a register that is missing',
      change: (s: Saved) => delete s.pit.mode,
      wanted: /device pit: register mode/,
    },
    { name: 'a register of another size', change: (s: Saved) => (s.pit.mode = [1]), wanted: /register mode/ },
  ])('is refused with the name of $name', ({ change, wanted }) => {
    const saved = saveDevices(makePc());
    change(saved);
    expect(() => loadDevices(makePc(), saved)).toThrow(wanted);
  });
});

type Saved = ReturnType<typeof saveDevices>;
