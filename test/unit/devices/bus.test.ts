import { describe, expect, it, test } from 'vitest';
import { MmioBus, PortBus, type Halves, type WideBusDevice } from '../../../main/devices/bus.ts';
import type { BusDevice } from '../../../main/devices/device.ts';
import { DEVICE_NUMBERS, DeviceNames } from '../../../main/devices/device-names.ts';
import { RegisterArena } from '../../../main/devices/registers.ts';

/** Answers with the offset of each byte, and writes down what it sees. */
class Recorder implements BusDevice {
  readonly seen: string[] = [];

  read(offset: number, size: number): number {
    this.seen.push(`r${size}@${offset}`);
    let value = 0;
    for (let byte = size - 1; byte >= 0; byte--) value = value * 256 + ((offset + byte) & 0xff);
    return value;
  }

  write(offset: number, size: number, value: number): void {
    this.seen.push(`w${size}@${offset}=${value.toString(16)}`);
  }
}

class WideRecorder extends Recorder implements WideBusDevice {
  read64(offset: number, into: Halves): void {
    this.seen.push(`r8@${offset}`);
    into.low = 0x11111111;
    into.high = 0x22222222;
  }

  write64(offset: number, low: number, high: number): void {
    this.seen.push(`w8@${offset}=${high.toString(16)}:${low.toString(16)}`);
  }
}

const BASE = 0xfffffff000;

const reads: {
  name: string;
  at: number;
  size: number;
  width?: 1 | 2 | 4;
  value: number;
  high?: number;
  seen: string[];
}[] = [
  { name: 'a byte', at: 3, size: 1, value: 0x03, seen: ['r1@3'] },
  { name: 'four bytes', at: 4, size: 4, value: 0x07060504, seen: ['r4@4'] },
  {
    name: 'eight bytes as two',
    at: 8,
    size: 8,
    value: 0x0b0a0908,
    high: 0x0f0e0d0c,
    seen: ['r4@8', 'r4@12'],
  },
  { name: 'misaligned two', at: 1, size: 2, value: 0x0201, seen: ['r1@1', 'r1@2'] },
  { name: 'misaligned four', at: 1, size: 4, value: 0x04030201, seen: ['r1@1', 'r2@2', 'r1@4'] },
  {
    name: 'misaligned eight',
    at: 3,
    size: 8,
    value: 0x06050403,
    high: 0x0a090807,
    seen: ['r1@3', 'r4@4', 'r2@8', 'r1@10'],
  },
  {
    name: 'four of a byte device',
    at: 4,
    size: 4,
    width: 1,
    value: 0x07060504,
    seen: ['r1@4', 'r1@5', 'r1@6', 'r1@7'],
  },
  { name: 'over the end', at: 14, size: 4, value: 0xffff0f0e, seen: ['r2@14'] },
  { name: 'before the start', at: -2, size: 4, value: 0x0100ffff, seen: ['r2@0'] },
];

describe('reads are cut into pieces', () => {
  test.each(reads)('$name', ({ at, size, width, value, high, seen }) => {
    const bus = new MmioBus(new RegisterArena());
    const device = new Recorder();
    bus.register(BASE, 16, device, 'recorder', { width });
    expect(bus.read(BASE + at, size, 0).toString(16)).toBe(value.toString(16));
    if (high !== undefined) expect(bus.high.toString(16)).toBe(high.toString(16));
    expect(device.seen).toEqual(seen);
  });
});

const writes: {
  name: string;
  at: number;
  size: number;
  width?: 1 | 2 | 4;
  low: number;
  high?: number;
  seen: string[];
}[] = [
  { name: 'a byte of a larger number', at: 3, size: 1, low: 0x1ff, seen: ['w1@3=ff'] },
  { name: 'four bytes', at: 4, size: 4, low: 0xdeadbeef, seen: ['w4@4=deadbeef'] },
  { name: 'eight bytes as two', at: 0, size: 8, low: 1, high: 2, seen: ['w4@0=1', 'w4@4=2'] },
  { name: 'misaligned four', at: 1, size: 4, low: 0x44332211, seen: ['w1@1=11', 'w2@2=3322', 'w1@4=44'] },
  { name: 'two of a byte device', at: 0, size: 2, width: 1, low: 0x2211, seen: ['w1@0=11', 'w1@1=22'] },
  { name: 'over the end', at: 12, size: 8, low: 0x44332211, high: 5, seen: ['w4@12=44332211'] },
];

describe('writes are cut into pieces', () => {
  test.each(writes)('$name', ({ at, size, width, low, high, seen }) => {
    const bus = new MmioBus(new RegisterArena());
    const device = new Recorder();
    bus.register(BASE, 16, device, 'recorder', { width });
    bus.write(BASE + at, size, low, 0, high);
    expect(device.seen).toEqual(seen);
  });
});

it('gives aligned eight-byte accesses whole to a device that wants them', () => {
  const bus = new MmioBus(new RegisterArena());
  const device = new WideRecorder();
  bus.register(0, 16, device, 'wide');
  expect([bus.read(8, 8, 0), bus.high]).toEqual([0x11111111, 0x22222222]);
  bus.write(0, 8, 0x55, 0, 0x66);
  bus.read(4, 8, 0);
  expect(device.seen).toEqual(['r8@8', 'w8@0=66:55', 'r4@4', 'r4@8']);
});

describe('nothing there', () => {
  it('reads all ones, drops writes and counts both once an access', () => {
    const arena = new RegisterArena();
    const bus = new PortBus(arena);
    const other = new PortBus(new RegisterArena(arena.buffer));
    expect([bus.read(0x10, 1, 0), bus.read(0x10, 2, 0), bus.read(0xfffe, 4, 0)]).toEqual([
      0xff, 0xffff, 0xffffffff,
    ]);
    other.write(0x22, 4, 0, 0);
    expect(bus.unmapped()).toEqual({ reads: 3, writes: 1, lastRead: 0xfffe, lastWrite: 0x22 });
    expect(other.unmapped()).toEqual(bus.unmapped());
  });

  it('does not find what only starts below or above', () => {
    const bus = new MmioBus(new RegisterArena());
    bus.register(0x1000, 0x1000, new Recorder(), 'low');
    bus.register(2 ** 51, 0x1000, new Recorder(), 'high');
    const found = [0xfff, 0x1000, 0x1fff, 0x2000, 2 ** 51 - 1, 2 ** 51, 2 ** 51 + 0xfff, 2 ** 51 + 0x1000];
    expect(found.map((at) => bus.nameOf(at))).toEqual([null, 'low', 'low', null, null, 'high', 'high', null]);
    expect(bus.nameOf(2 ** 53)).toBe(null);
  });
});

describe('ranges', () => {
  const wrong: { name: string; start: number; length: number; wanted: RegExp }[] = [
    { name: 'overlap', start: 0x3ff, length: 1, wanted: /late: port 0x3ff \+ 0x1 overlaps early/ },
    { name: 'nothing', start: 0x500, length: 0, wanted: /does not exist/ },
    { name: 'past the end', start: 0xffff, length: 2, wanted: /does not exist/ },
    { name: 'not a number', start: NaN, length: 2, wanted: /does not exist/ },
  ];
  test.each(wrong)('refused: $name', ({ start, length, wanted }) => {
    const bus = new PortBus(new RegisterArena());
    bus.register(0x3f8, 8, new Recorder(), 'early');
    expect(() => bus.register(start, length, new Recorder(), 'late')).toThrow(wanted);
  });

  it('an overlay is asked first, for accesses that start in it', () => {
    const bus = new PortBus(new RegisterArena());
    const [pci, reset] = [new Recorder(), new Recorder()];
    bus.register(0xcf8, 8, pci, 'pci');
    const range = bus.register(0xcf9, 1, reset, 'reset', { width: 1, overlay: true });
    bus.read(0xcf8, 4, 0);
    bus.read(0xcf9, 1, 0);
    bus.read(0xcfa, 2, 0);
    expect([pci.seen, reset.seen]).toEqual([['r4@0', 'r2@2'], ['r1@0']]);
    bus.remove(range);
    expect(bus.nameOf(0xcf9)).toBe('pci');
    expect(() => bus.remove(range)).toThrow(/no such range/);
  });
});

describe('who answered', () => {
  it('is a number with a name; nobody where nothing is', () => {
    const names = new DeviceNames();
    const arena = new RegisterArena();
    const [ports, mmio] = [new PortBus(arena, names), new MmioBus(arena, names)];
    ports.register(0x3f8, 8, new Recorder(), 'uart', { width: 1 });
    mmio.register(0x1000, 0x100, new WideRecorder(), 'wide');
    mmio.register(0x1100, 4, new Recorder(), 'uart');
    const cases: { access: () => unknown; bus: PortBus | MmioBus; wanted: string }[] = [
      { access: () => ports.read(0x3f8, 1, 0), bus: ports, wanted: 'uart' },
      { access: () => ports.write(0x80, 1, 0, 0), bus: ports, wanted: '' },
      { access: () => ports.write(0x3fe, 2, 0, 0), bus: ports, wanted: 'uart' },
      { access: () => ports.read(0x9000, 4, 0), bus: ports, wanted: '' },
      { access: () => mmio.read(0x1000, 8, 0), bus: mmio, wanted: 'wide' },
      { access: () => mmio.write(0x1100, 4, 1, 0), bus: mmio, wanted: 'uart' },
      { access: () => mmio.write(0x1008, 8, 1, 0, 2), bus: mmio, wanted: 'wide' },
      { access: () => mmio.read(0x2000, 8, 0), bus: mmio, wanted: '' },
      // Half of it is there.
      { access: () => mmio.read(0x10fe, 4, 0), bus: mmio, wanted: 'uart' },
    ];
    for (const { access, bus, wanted } of cases) {
      access();
      expect(names.name(bus.answered)).toBe(wanted);
    }
  });

  it('has the same number on every thread, wherever windows are', () => {
    const arena = new RegisterArena();
    const [first, second] = [new DeviceNames(), new DeviceNames()];
    const bases = [-1, 0x2000];
    const buses = [new MmioBus(arena, first), new MmioBus(new RegisterArena(arena.buffer), second)];
    buses.forEach((bus, thread) => {
      bus.window({
        name: 'a',
        length: 16,
        device: new Recorder(),
        base: () => (thread === 0 ? -1 : bases[0]),
      });
      bus.window({ name: 'b', length: 16, device: new Recorder(), base: () => bases[1] });
      bus.read(0x2000, 4, 0);
    });
    expect([first.number('a'), first.number('b')]).toEqual([second.number('a'), second.number('b')]);
    expect(buses[0].answered).toBe(buses[1].answered);
  });

  it('has one number for all names beyond the last', () => {
    const names = new DeviceNames();
    for (let n = 0; n < 2 * DEVICE_NUMBERS; n++) names.number(`device ${n}`);
    expect(names.number('device 3')).toBe(4);
    expect(names.number('device 500')).toBe(DEVICE_NUMBERS - 1);
    expect(names.name(DEVICE_NUMBERS - 1)).toBe('others');
    expect(names.name(names.number('device 253'))).toBe('device 253');
  });
});

describe.each([
  { kind: 'port', make: (arena: RegisterArena) => new PortBus(arena), a: 0x1000, b: 0x2000 },
  { kind: 'memory', make: (arena: RegisterArena) => new MmioBus(arena), a: 0xc0000000, b: 0x1000000000 },
])('windows of the $kind bus', ({ make, a, b }) => {
  it('move for every thread, and lie behind registered ranges and older windows', () => {
    const arena = new RegisterArena();
    const threads = [make(arena), make(new RegisterArena(arena.buffer))];
    const bases = [a, -1];
    for (const bus of threads) {
      bus.register(a + 0x10, 0x10, new Recorder(), 'fixed');
      bus.window({ name: 'first', length: 0x40, device: new Recorder(), base: () => bases[0] });
      bus.window({ name: 'second', length: 0x80, device: new Recorder(), base: () => bases[1] });
    }
    const names = (at: number[]): (string | null)[][] =>
      threads.map((bus) => at.map((address) => bus.nameOf(address)));
    const places = [a, a + 0x10, a + 0x20, a + 0x40, b];
    expect(names(places)).toEqual(Array(2).fill(['first', 'fixed', 'first', null, null]));
    bases[1] = a;
    threads[1].changed();
    expect(names(places)).toEqual(Array(2).fill(['first', 'fixed', 'first', 'second', null]));
    bases[0] = b;
    threads[0].changed();
    expect(names(places)).toEqual(Array(2).fill(['second', 'fixed', 'second', 'second', 'first']));
    expect(threads[0].read(b + 4, 4, 0)).toBe(0x07060504);
  });
});
