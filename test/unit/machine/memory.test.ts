import { describe, expect, it } from 'vitest';
import { GuestAddressError } from '../../../main/devices/device.ts';
import { createMemory, GuestRam } from '../../../main/machine/memory.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

describe('createMemory', () => {
  for (const { name, ram, reserved, wanted } of [
    { name: 'too little', ram: 3 * MIB, reserved: 0, wanted: /3 MiB of memory is too little.*4 MiB/ },
    { name: 'no whole MiB', ram: 5 * MIB + 1, reserved: 0, wanted: /whole number of MiB/ },
    { name: 'no number', ram: NaN, reserved: 0, wanted: /whole number of MiB/ },
    { name: 'more than a wasm memory', ram: 4 * GIB, reserved: 65536, wanted: /too much: at most 4095 MiB/ },
    { name: 'a private part that leaves no room', ram: GIB, reserved: 3.5 * GIB, wanted: /at most 512 MiB/ },
  ]) {
    it(name, () => expect(() => createMemory(ram, reserved)).toThrow(wanted));
  }

  it('rounds the private part to wasm pages', () => {
    const { memory, privateSize } = createMemory(4 * MIB, 5000);
    expect(privateSize).toBe(65536);
    expect(memory.buffer.byteLength).toBe(4 * MIB + 65536);
  });
});

describe('GuestRam', () => {
  const ram = new GuestRam(createMemory(8 * MIB, 65536));

  for (const { name, gpa, length, wanted } of [
    { name: 'first byte', gpa: 0, length: 1, wanted: true },
    { name: 'nothing at the end', gpa: 8 * MIB, length: 0, wanted: true },
    { name: 'last byte', gpa: 8 * MIB - 1, length: 1, wanted: true },
    { name: 'over the end', gpa: 8 * MIB - 1, length: 2, wanted: false },
    { name: 'up to the VGA hole', gpa: 0, length: 0xa0000, wanted: true },
    { name: 'into the VGA hole', gpa: 0x9ffff, length: 2, wanted: false },
    { name: 'in the VGA hole', gpa: 0xb8000, length: 2, wanted: false },
    { name: 'after the VGA hole', gpa: 0xc0000, length: 0x40000, wanted: true },
    { name: 'over the VGA hole', gpa: 0, length: 0xc0000, wanted: false },
    { name: 'negative', gpa: -1, length: 1, wanted: false },
    { name: 'negative length', gpa: 0x1000, length: -1, wanted: false },
    { name: 'huge', gpa: 2 ** 64, length: 1, wanted: false },
    { name: 'huge length', gpa: 0x100000, length: 2 ** 64, wanted: false },
    { name: 'no number', gpa: NaN, length: 1, wanted: false },
  ]) {
    it(`isRam: ${name}`, () => expect(ram.isRam(gpa, length)).toBe(wanted));
  }

  it('reads what was written, aligned or not', () => {
    for (const at of [0x1000, 0x1001, 0x1003]) {
      ram.writeU32(at, 0x8899_aabb);
      expect(ram.readU32(at)).toBe(0x8899_aabb);
      ram.writeU16(at, 0xfedc);
      expect(ram.readU16(at)).toBe(0xfedc);
    }
    ram.write(0x2000, Uint8Array.of(1, 2, 3));
    const bytes = new Uint8Array(3);
    ram.read(0x2000, bytes);
    expect([...bytes]).toEqual([1, 2, 3]);
    expect(() => ram.readU32(8 * MIB - 3)).toThrow(GuestAddressError);
  });

  it('tells the backend what was written, in host addresses', () => {
    const told: number[][] = [];
    const watched = new GuestRam(createMemory(4 * MIB, 65536));
    watched.attach({ hvaWritten: (hva: number, size: number) => void told.push([hva, size]) } as never);
    watched.writeU16(0x10, 1);
    watched.forEachPiece(0x20, 8, true, (piece) => piece.fill(1));
    watched.forEachPiece(0x20, 8, false, () => undefined);
    expect(told).toEqual([
      [65536 + 0x10, 2],
      [65536 + 0x20, 8],
    ]);
  });

  it('puts what does not fit below the PCI hole above 4 GiB', () => {
    const large = new GuestRam(createMemory(3328 * MIB, 65536));
    expect(large.isRam(3 * GIB, 1)).toBe(false);
    expect(large.isRam(4 * GIB, 256 * MIB)).toBe(true);
    expect(large.isRam(4 * GIB, 256 * MIB + 1)).toBe(false);
    expect(large.e820().at(-1)).toEqual({ start: 4 * GIB, size: 256 * MIB, type: 1 });
    large.writeU32(4 * GIB, 42);
    expect(large.readU32(4 * GIB)).toBe(42);
    expect(large.readU32(0xc0000)).toBe(0);
  });
});
