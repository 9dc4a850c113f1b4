import { describe, expect, it } from 'vitest';
import { VirtioBlk, type BlockBackend } from '../../../main/devices/virtio/blk.ts';
import { VirtioConsole } from '../../../main/devices/virtio/console.ts';
import { VirtioRng } from '../../../main/devices/virtio/rng.ts';
import { SerialRing } from '../../../main/devices/serial-ring.ts';
import { VirtioDriver, type Buffer as Part } from './virtio-driver.ts';
import { Rig } from './virtio-rig.ts';

const INDIRECT = 1 << 28;
const EVENT_INDEX = 1 << 29;

function disk(bytes = 1 << 20, readOnly = false) {
  const data = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) data[i] = (i * 7 + (i >> 9)) & 0xff;
  const log: string[] = [];
  const state = { broken: false };
  const check = () => {
    if (state.broken) throw new Error('EIO: i/o error, read disk.img');
  };
  const backend: BlockBackend = {
    size: bytes,
    readOnly,
    read: (offset, into) => {
      check();
      into.set(data.subarray(offset, offset + into.length));
    },
    write: (offset, from) => {
      check();
      data.set(from, offset);
      log.push(`write ${offset}+${from.length}`);
    },
    flush: () => void log.push('flush'),
    discard: (offset, length) => void log.push(`discard ${offset}+${length}`),
  };
  return { data, log, state, backend };
}

function blk(
  options: { readOnly?: boolean; features?: { low?: number; high?: number; queueSize?: number } } = {},
) {
  const rig = new Rig();
  const host = disk(1 << 20, options.readOnly);
  const device = new VirtioBlk('virtio-blk0', rig.host(), host.backend, { serial: 'SERIAL-1' });
  const slot = rig.add(device);
  const driver = new VirtioDriver(rig, slot).start(options.features);
  const header = driver.alloc(32);
  const status = driver.alloc(1);
  const dataAt = driver.alloc(1 << 16);
  const { memory } = rig;
  /** One request; returns its status byte (0xee: not written) and the used length. */
  const request = (
    type: number,
    sector: number,
    parts: Part[],
    { indirect = false, headerBytes = 16 } = {},
  ) => {
    memory.bytes.fill(0, header, header + 32);
    memory.writeU32(header, type);
    memory.writeU32(header + 8, sector % 2 ** 32);
    memory.writeU32(header + 12, Math.floor(sector / 2 ** 32));
    memory.bytes[status] = 0xee;
    const chain = [
      { address: header, length: headerBytes },
      ...parts,
      { address: status, length: 1, write: true },
    ];
    const used = driver.request(0, chain, { indirect });
    return { status: memory.bytes[status], length: used?.length };
  };
  return { rig, device, driver, request, dataAt, status, header, memory, ...host };
}

describe('virtio over PCI', () => {
  it.each([
    { name: 'ids', offset: 0, size: 4, wanted: 0x10421af4 },
    { name: 'revision and class', offset: 8, size: 4, wanted: 0x01000001 },
    { name: 'subsystem', offset: 0x2c, size: 4, wanted: 0x10421af4 },
    { name: '64-bit BAR 0', offset: 0x10, size: 1, wanted: 4 },
  ])('$name', ({ offset, size, wanted }) => {
    const { rig } = blk();
    expect(rig.config(1, offset, size)).toBe(wanted);
  });

  it('offers its features in words, and nothing beyond', () => {
    const { driver } = blk();
    expect(driver.offered(0) >>> 0).toBe((0x30000000 | 0x6246) >>> 0);
    expect(driver.offered(1)).toBe(0x101);
    expect([driver.offered(2), driver.offered(0xffffffff)]).toEqual([0, 0]);
  });

  it.each([
    { name: 'device_feature_select', at: 0, size: 4, write: 0x12345678, wanted: 0x12345678 },
    { name: 'device_feature is read-only', at: 4, size: 4, write: 0, wanted: 0x30006246 },
    { name: 'driver_feature_select', at: 8, size: 4, write: 1, wanted: 1 },
    { name: 'driver_feature is fixed after FEATURES_OK', at: 12, size: 4, write: 0, wanted: 0x30006246 },
    { name: 'config vector', at: 16, size: 2, write: 1, wanted: 1 },
    { name: 'config vector that does not exist', at: 16, size: 2, write: 2, wanted: 0xffff },
    { name: 'num_queues', at: 18, size: 2, write: 9, wanted: 1 },
    { name: 'status keeps its bits', at: 20, size: 1, write: 1, wanted: 15 },
    { name: 'generation', at: 21, size: 1, write: 9, wanted: 0 },
    { name: 'queue_select', at: 22, size: 2, write: 5, wanted: 5 },
    { name: 'queue_size of an enabled queue', at: 24, size: 2, write: 8, wanted: 16 },
    { name: 'queue vector', at: 26, size: 2, write: 0, wanted: 0 },
    { name: 'queue_enable cannot be cleared', at: 28, size: 2, write: 0, wanted: 1 },
    { name: 'queue_notify_off', at: 30, size: 2, write: 7, wanted: 0 },
    { name: 'a narrow write is dropped', at: 22, size: 1, write: 1, wanted: 0 },
    { name: 'a wide read spans fields', at: 16, size: 4, write: 0xffffffff, wanted: 0x0001ffff },
    { name: 'queue_reset reads 0', at: 58, size: 2, write: 0, wanted: 0 },
  ])('common configuration: $name', ({ at, size, write, wanted }) => {
    const { driver } = blk();
    driver.write(8, 4, 0);
    driver.write(0, 4, 0);
    driver.write(at, size, write);
    expect(driver.read(at, size)).toBe(wanted);
  });

  it('a queue that does not exist has size 0', () => {
    const { driver } = blk();
    driver.write(22, 2, 1);
    for (const at of [24, 28, 30]) expect(driver.read(at, 2)).toBe(0);
    for (const at of [32, 36, 40, 44, 48, 52]) {
      driver.write(at, 4, 0x1000);
      expect(driver.read(at, 4)).toBe(0);
    }
  });

  it.each([3, 0, 257, 512, 65535])('refuses a queue of %d', (size) => {
    const { driver } = blk();
    driver.negotiate();
    driver.write(22, 2, 0);
    driver.write(24, 2, size);
    expect(driver.read(24, 2)).toBe(256);
  });

  it.each([
    { name: 'without VERSION_1', low: 0, high: 0, wanted: 3 },
    { name: 'with an unknown bit', low: 1 << 27, high: 1, wanted: 3 },
    { name: 'with an unknown high bit', low: 0, high: 3, wanted: 3 },
    { name: 'with a subset', low: 0, high: 1, wanted: 11 },
  ])('FEATURES_OK $name', ({ low, high, wanted }) => {
    const { driver } = blk();
    driver.negotiate({ low, high });
    expect(driver.status).toBe(wanted);
    driver.status = 15;
    expect(driver.status).toBe(wanted === 11 ? 15 : 3);
  });

  it('keeps the order of the status bits', () => {
    const { driver } = blk();
    driver.status = 0;
    driver.status = 2;
    expect(driver.status).toBe(0);
    driver.status = 4;
    expect(driver.status).toBe(0);
    driver.status = 8 | 1;
    expect(driver.status).toBe(1);
    driver.accept(1, 1);
    expect(driver.read(12, 4)).toBe(0);
    driver.status = 0x80;
    expect(driver.status).toBe(0x81);
  });

  it.each([
    { name: 'misaligned descriptors', at: 32, value: 0x110008, wanted: /descriptor table .* aligned to 16/ },
    { name: 'misaligned used ring', at: 48, value: 0x110002, wanted: /used ring .* aligned to 4/ },
    { name: 'rings in a hole', at: 40, value: 0xa0000, wanted: /available ring .* not in RAM/ },
    { name: 'rings beyond memory', at: 36, value: 0xffffffff, wanted: /descriptor table .* not in RAM/ },
  ])('needs a reset after a queue with $name', ({ at, value, wanted }) => {
    const { driver, rig } = blk();
    driver.negotiate();
    driver.write(22, 2, 0);
    for (const area of [32, 40, 48]) driver.write(area, 4, 0x110000);
    driver.write(at, 4, value);
    driver.write(28, 2, 1);
    expect(driver.read(28, 2)).toBe(0);
    expect(driver.status & 0x40).toBe(0x40);
    driver.write(28, 2, 1);
    expect(rig.reports.length).toBe(1);
    expect(rig.reports[0]).toMatch(wanted);
    driver.status = 0;
    expect(driver.status).toBe(0);
  });

  it('interrupts by INTx, with ISR cleared by its read', () => {
    const { rig, request, driver, dataAt } = blk();
    request(0, 0, [{ address: dataAt, length: 512, write: true }]);
    expect(rig.levels[1]).toBe(true);
    expect([rig.mmio.read(driver.isr, 1, 0), rig.mmio.read(driver.isr, 1, 0)]).toEqual([1, 0]);
    expect(rig.levels[1]).toBe(false);
  });

  it('interrupts by MSI-X, and not at all without a vector', () => {
    const { rig, request, driver, dataAt } = blk();
    const table = driver.bar(2);
    [0xfee01000, 0, 0x55, 0].forEach((word, i) => rig.mmio.write(table + 16 + 4 * i, 4, word, 0));
    rig.setConfig(1, driver.msixAt + 2, 2, 0x8000);
    const read = () => request(0, 0, [{ address: dataAt, length: 512, write: true }]);
    read();
    expect(rig.messages).toEqual([]);
    driver.write(22, 2, 0);
    driver.write(26, 2, 1);
    driver.rig.memory.writeU16(driver.queues[0].driver + 4 + 2 * 16, 1);
    read();
    expect(rig.messages).toEqual([{ address: 0xfee01000, data: 0x55 }]);
    expect(rig.levels[1]).toBe(false);
    expect(rig.mmio.read(driver.isr, 1, 0)).toBe(0);
  });

  it('reaches its structures through the access window', () => {
    const { rig, driver } = blk();
    const at = driver.accessAt;
    const window = (offset: number, size: number, bar = 0) => {
      rig.setConfig(1, at + 4, 1, bar);
      rig.setConfig(1, at + 8, 4, offset);
      rig.setConfig(1, at + 12, 4, size);
    };
    window(20, 1);
    expect(rig.config(1, at + 16, 1)).toBe(15);
    window(22, 2);
    rig.setConfig(1, at + 16, 2, 3);
    expect(driver.read(22, 2)).toBe(3);
    window(0x2000, 4);
    expect(rig.config(1, at + 16, 4)).toBe(2048);
    for (const [offset, size, bar] of [
      [0x4000, 4, 0],
      [0x3fff, 4, 0],
      [2, 4, 0],
      [0, 3, 0],
      [0, 4, 5],
      [0xfffffffc, 4, 2],
    ]) {
      window(offset, size, bar);
      rig.setConfig(1, at + 16, 4, 0);
      rig.config(1, at + 16, 4);
    }
    expect(driver.status).toBe(15);
  });

  it('does nothing before it may use memory, and catches up when it may', () => {
    const { rig, driver, dataAt, header, status } = blk();
    rig.setConfig(1, 4, 2, 2);
    const parts = [
      { address: header, length: 16 },
      { address: dataAt, length: 512, write: true },
      { address: status, length: 1, write: true },
    ];
    expect(driver.request(0, parts)).toBe(null);
    rig.setConfig(1, 4, 2, 6);
    rig.run();
    expect(driver.used(0)).toEqual({ id: 0, length: 513 });
  });

  it('is saved and loaded in the middle, with a kick that nobody had heard', () => {
    const a = blk();
    const parts = [
      { address: a.header, length: 16 },
      { address: a.dataAt, length: 512, write: true },
      { address: a.status, length: 1, write: true },
    ];
    a.driver.add(0, parts);
    a.driver.kick(0);
    const fn = a.rig.pci.functions[1];
    const saved = JSON.parse(JSON.stringify(fn.save()));
    a.driver.status = 0;
    a.rig.run();
    expect(a.driver.used(0)).toBe(null);
    fn.load(saved);
    a.rig.run();
    expect(a.driver.used(0)).toEqual({ id: 0, length: 513 });
  });

  it('resets one queue', () => {
    const { driver, request, dataAt } = blk();
    const read = () => request(0, 1, [{ address: dataAt, length: 512, write: true }]);
    expect(read().status).toBe(0);
    driver.write(22, 2, 0);
    driver.write(58, 2, 1);
    expect([driver.read(58, 2), driver.read(28, 2), driver.status]).toEqual([0, 0, 15]);
    driver.setUpQueue(0, 32);
    expect(read().status).toBe(0);
  });

  it('a reset while a request is in hand is done when the request is', () => {
    const rig = new Rig();
    const host = disk();
    const seen: number[] = [];
    const slow: BlockBackend = {
      ...host.backend,
      read: (offset, into) => {
        host.backend.read(offset, into);
        driver.status = 0;
        seen.push(driver.status);
      },
    };
    const slot = rig.add(new VirtioBlk('virtio-blk0', rig.host(), slow));
    const driver = new VirtioDriver(rig, slot).start();
    const header = driver.alloc(16);
    const data = driver.alloc(1024);
    const parts = [
      { address: header, length: 16 },
      { address: data, length: 513, write: true },
    ];
    driver.request(0, parts);
    expect(seen).toEqual([15]);
    expect(driver.status).toBe(0);
    expect(driver.read(28, 2)).toBe(0);
  });
});

describe('doorbells', () => {
  it('call the I/O thread once for many rings', () => {
    const { rig, driver } = blk();
    rig.run();
    const before = rig.wakes;
    for (let i = 0; i < 10; i++) driver.kick(0);
    expect(rig.wakes).toBe(before + 1);
    rig.run();
    driver.kick(0);
    expect(rig.wakes).toBe(before + 2);
    driver.kick(77);
    rig.run();
  });

  it('share the work into bounded turns', () => {
    const { rig, driver, header, status, dataAt } = blk({ features: { queueSize: 256 } });
    for (let i = 0; i < 80; i++) {
      driver.add(
        0,
        [
          { address: header, length: 16 },
          { address: dataAt, length: 512, write: true },
          { address: status, length: 1, write: true },
        ],
        { first: 3 * i },
      );
    }
    driver.kick(0);
    expect(rig.doorbells.run((work) => work())).toBe(true);
    let first = 0;
    while (driver.used(0) !== null) first++;
    expect(first).toBe(64);
    rig.run();
    while (driver.used(0) !== null) first++;
    expect(first).toBe(80);
  });
});

describe('virtio-blk', () => {
  it.each([
    { name: 'capacity', at: 0, size: 4, wanted: 2048 },
    { name: 'capacity, high', at: 4, size: 4, wanted: 0 },
    { name: 'size_max', at: 8, size: 4, wanted: 65536 },
    { name: 'seg_max', at: 12, size: 4, wanted: 126 },
    { name: 'blk_size', at: 20, size: 4, wanted: 512 },
    { name: 'discard sectors', at: 36, size: 4, wanted: 8192 },
    { name: 'discard segments', at: 40, size: 4, wanted: 1 },
    { name: 'zeroes may unmap', at: 56, size: 1, wanted: 1 },
    { name: 'behind the end', at: 60, size: 4, wanted: 0 },
  ])('configuration: $name', ({ at, size, wanted }) => {
    const { driver } = blk();
    driver.rig.mmio.write(driver.device + at, size, 0xffffffff, 0);
    expect(driver.readDevice(at, size)).toBe(wanted);
  });

  it.each([
    { name: 'direct', indirect: false, features: {} },
    { name: 'indirect', indirect: true, features: {} },
    { name: 'no event index', indirect: false, features: { low: INDIRECT } },
    { name: 'nothing but VERSION_1', indirect: false, features: { low: 0, high: 1 } },
  ])('reads and writes: $name', ({ indirect, features }) => {
    const { request, dataAt, memory, data, log, driver } = blk({ features });
    // Buffers that straddle pages, odd lengths, and one of no bytes.
    const parts = (write: boolean): Part[] => [
      { address: dataAt + 1, length: 700, write },
      { address: dataAt + 5000, length: 0, write },
      { address: dataAt + 0xff0, length: 1024 - 700, write },
    ];
    expect(request(0, 3, parts(true), { indirect })).toEqual({ status: 0, length: 1025 });
    const got = [
      ...memory.bytes.subarray(dataAt + 1, dataAt + 701),
      ...memory.bytes.subarray(dataAt + 0xff0, dataAt + 0xff0 + 324),
    ];
    expect(got).toEqual([...data.subarray(1536, 2560)]);
    memory.bytes.fill(0xab, dataAt, dataAt + 8192);
    expect(request(1, 3, parts(false), { indirect })).toEqual({ status: 0, length: 1 });
    expect(data.subarray(1536, 2560).every((byte) => byte === 0xab)).toBe(true);
    expect(data[2560]).not.toBe(0xab);
    // Without FLUSH negotiated, a write is on stable storage when it is done.
    expect(log.at(-1) === 'flush').toBe(driver.read(12, 4) === 0 || features.low !== undefined);
  });

  it('keeps going around its ring', () => {
    const { request, dataAt, driver, data, memory } = blk({ features: { queueSize: 4 } });
    for (let i = 0; i < 66_000; i++) {
      const sector = i % 2048;
      const result = request(0, sector, [{ address: dataAt, length: 512, write: true }]);
      if (result.status !== 0 || memory.bytes[dataAt + 9] !== data[sector * 512 + 9]) {
        expect({ i, ...result }).toEqual('a good read');
      }
    }
    expect(driver.status).toBe(15);
  });

  const DATA = { address: 0x120000, length: 512 };
  const IN = { ...DATA, write: true };
  it.each([
    { name: 'read at the end', type: 0, sector: 2047, parts: [IN], wanted: { status: 0, length: 513 } },
    { name: 'read behind the end', type: 0, sector: 2048, parts: [IN], wanted: { status: 1, length: 1 } },
    { name: 'read over the end', type: 0, sector: 2047, parts: [IN, IN], wanted: { status: 1, length: 1 } },
    { name: 'read at sector 2^55', type: 0, sector: 2 ** 55, parts: [IN], wanted: { status: 1, length: 1 } },
    { name: 'read at sector 2^63', type: 0, sector: 2 ** 63, parts: [IN], wanted: { status: 1, length: 1 } },
    {
      name: 'part of a sector',
      type: 0,
      sector: 0,
      parts: [{ ...IN, length: 100 }],
      wanted: { status: 1, length: 1 },
    },
    { name: 'read of nothing', type: 0, sector: 0, parts: [], wanted: { status: 0, length: 1 } },
    { name: 'write behind the end', type: 1, sector: 2048, parts: [DATA], wanted: { status: 1, length: 1 } },
    { name: 'flush', type: 4, sector: 0, parts: [], wanted: { status: 0, length: 1 } },
    { name: 'get id', type: 8, sector: 0, parts: [{ ...IN, length: 20 }], wanted: { status: 0, length: 21 } },
    { name: 'unknown type', type: 99, sector: 0, parts: [IN], wanted: { status: 2, length: 1 } },
    { name: 'discard of no range', type: 11, sector: 0, parts: [], wanted: { status: 1, length: 1 } },
    { name: 'discard of 32 ranges', type: 11, sector: 0, parts: [DATA], wanted: { status: 2, length: 1 } },
  ])('$name', ({ type, sector, parts, wanted }) => {
    const { request, driver } = blk();
    expect(request(type, sector, parts)).toEqual(wanted);
    expect(driver.status).toBe(15);
  });

  it('tells its serial number, also to a short buffer', () => {
    const { request, dataAt, memory } = blk();
    memory.bytes.fill(0xcc, dataAt, dataAt + 32);
    request(8, 0, [{ address: dataAt, length: 20, write: true }]);
    const id = Buffer.from(memory.bytes.subarray(dataAt, dataAt + 21));
    expect(id.toString('latin1')).toBe('SERIAL-1' + '\0'.repeat(12) + '\xcc');
  });

  const range = (sector: number, sectors: number, flags = 0) => {
    const bytes = Buffer.alloc(16);
    bytes.writeBigUInt64LE(BigInt(sector));
    bytes.writeUInt32LE(sectors, 8);
    bytes.writeUInt32LE(flags, 12);
    return bytes;
  };
  it.each([
    { name: 'discard', type: 11, range: range(8, 16), wanted: 0, log: ['discard 4096+8192'] },
    { name: 'discard of nothing', type: 11, range: range(8, 0), wanted: 0, log: [] },
    { name: 'discard with unmap', type: 11, range: range(8, 16, 1), wanted: 2, log: [] },
    { name: 'discard behind the end', type: 11, range: range(2040, 9), wanted: 1, log: [] },
    { name: 'discard of too much', type: 11, range: range(0, 8193), wanted: 1, log: [] },
    {
      name: 'zeroes',
      type: 13,
      range: range(1, 129, 1),
      wanted: 0,
      log: ['write 512+65536', 'write 66048+512'],
    },
    { name: 'zeroes with unknown flags', type: 13, range: range(1, 1, 2), wanted: 2, log: [] },
    { name: 'zeroes at 2^64', type: 13, range: range(2 ** 60, 1), wanted: 1, log: [] },
  ])('$name', ({ type, range: bytes, wanted, log: lines }) => {
    const { request, dataAt, memory, log, data } = blk();
    memory.write(dataAt, bytes);
    expect(request(type, 0, [{ address: dataAt, length: 16 }]).status).toBe(wanted);
    expect(log).toEqual(lines);
    if (type === 13 && wanted === 0) {
      expect(data.subarray(512, 512 + 129 * 512).every((b) => b === 0)).toBe(true);
    }
  });

  it('read-only: says so, and fails writes', () => {
    const { request, driver, dataAt, log, data, memory } = blk({ readOnly: true });
    expect(driver.offered(0) & 0x6220).toBe(0x220);
    const before = data.slice();
    for (const type of [1, 11, 13]) {
      expect(request(type, 0, [{ address: dataAt, length: type === 1 ? 512 : 16 }]).status).toBe(1);
    }
    expect(Buffer.compare(data, before)).toBe(0);
    expect(log).toEqual([]);
    expect(request(0, 0, [{ address: dataAt, length: 512, write: true }]).status).toBe(0);
    expect(memory.bytes[dataAt + 1]).toBe(7);
  });

  it("a host's error is the guest's I/O error, reported once", () => {
    const { request, rig, state, driver, dataAt } = blk();
    const read = () => request(0, 0, [{ address: dataAt, length: 512, write: true }]).status;
    state.broken = true;
    expect([read(), read(), read()]).toEqual([1, 1, 1]);
    expect(rig.reports).toEqual(['virtio-blk0: EIO: i/o error, read disk.img. The guest sees an I/O error']);
    state.broken = false;
    expect(read()).toBe(0);
    expect(driver.status).toBe(15);
  });

  it('refuses a disk of part sectors', () => {
    const rig = new Rig();
    expect(() => new VirtioBlk('disk', rig.host(), { ...disk(512).backend, size: 1000 })).toThrow(
      /1000 bytes/,
    );
  });
});

describe('what a broken driver sends', () => {
  const faults: { name: string; make: (driver: VirtioDriver) => void; wanted: RegExp }[] = [
    {
      name: 'a loop',
      make: (d) => {
        d.descriptor(d.queues[0].desc, 0, 0x120000, 16, 1, 0);
        d.makeAvailable(0, 0);
      },
      wanted: /longer than its queue of 16/,
    },
    {
      name: 'a head outside of the table',
      make: (d) => d.makeAvailable(0, 16),
      wanted: /descriptor 16 of a table of 16/,
    },
    {
      name: 'a next outside of the table',
      make: (d) => {
        d.descriptor(d.queues[0].desc, 0, 0x120000, 16, 1, 0xffff);
        d.makeAvailable(0, 0);
      },
      wanted: /descriptor 65535/,
    },
    {
      name: 'a buffer in the hole',
      make: (d) => d.add(0, [{ address: 0x9fff8, length: 16 }]),
      wanted: /16 bytes at 0x9fff8, which is not RAM/,
    },
    {
      name: 'an address that wraps',
      make: (d) => d.add(0, [{ address: 2 ** 64 - 4096, length: 8192 }]),
      wanted: /a descriptor for address/,
    },
    {
      name: 'a length of 4 GiB - 1',
      make: (d) => d.add(0, [{ address: 0x120000, length: 0xffffffff }]),
      wanted: /4294967295 bytes/,
    },
    {
      name: 'more than 8 MiB in all',
      make: (d) =>
        d.add(
          0,
          Array.from({ length: 12 }, () => ({ address: 0x100000, length: 0x300000 })),
        ),
      wanted: /more than 8388608 bytes/,
    },
    {
      name: 'readable after writable',
      make: (d) =>
        d.add(0, [
          { address: 0x120000, length: 16, write: true },
          { address: 0x120000, length: 16 },
        ]),
      wanted: /readable descriptor after/,
    },
    {
      name: 'an indirect table inside another',
      make: (d) => {
        const table = d.alloc(32);
        d.descriptor(table, 0, table, 16, 4, 0);
        d.descriptor(d.queues[0].desc, 0, table, 32, 4, 0);
        d.makeAvailable(0, 0);
      },
      wanted: /inside an indirect table/,
    },
    {
      name: 'an indirect table of 40 bytes',
      make: (d) => {
        d.descriptor(d.queues[0].desc, 0, 0x120000, 40, 4, 0);
        d.makeAvailable(0, 0);
      },
      wanted: /table of 40 bytes/,
    },
    {
      name: 'an indirect table in the hole',
      make: (d) => {
        d.descriptor(d.queues[0].desc, 0, 0xb0000, 32, 4, 0);
        d.makeAvailable(0, 0);
      },
      wanted: /indirect table at 0xb0000/,
    },
    {
      name: 'an indirect descriptor with a next',
      make: (d) => {
        d.descriptor(d.queues[0].desc, 0, 0x120000, 32, 5, 1);
        d.makeAvailable(0, 0);
      },
      wanted: /has a next one/,
    },
    {
      name: 'an indirect table longer than the queue',
      make: (d) =>
        d.add(
          0,
          Array.from({ length: 17 }, () => ({ address: 0x120000, length: 1 })),
          { indirect: true },
        ),
      wanted: /longer than its queue/,
    },
    {
      name: 'an available index far ahead',
      make: (d) => d.rig.memory.writeU16(d.queues[0].driver + 2, 17),
      wanted: /17 requests in an available ring of 16/,
    },
    {
      name: 'no byte for the status',
      make: (d) => d.add(0, [{ address: 0x120000, length: 16 }]),
      wanted: /without a byte for its status/,
    },
    {
      name: 'a short header',
      make: (d) =>
        d.add(0, [
          { address: 0x120000, length: 15 },
          { address: 0x120000, length: 1, write: true },
        ]),
      wanted: /header of 15 bytes/,
    },
  ];

  it.each(faults)('$name', ({ make, wanted }) => {
    const { driver, rig, request, dataAt } = blk();
    make(driver);
    driver.kick(0);
    rig.run();
    expect(driver.status).toBe(0x4f);
    expect(rig.mmio.read(driver.isr, 1, 0) & 2).toBe(2);
    expect(rig.reports.length).toBe(1);
    expect(rig.reports[0]).toMatch(wanted);
    // Nothing more, and not another word, until the driver resets the device; then all is well.
    driver.kick(0);
    rig.run();
    expect(rig.reports.length).toBe(1);
    driver.start();
    expect(request(0, 0, [{ address: dataAt, length: 512, write: true }]).status).toBe(0);
  });

  it('an indirect descriptor that was not negotiated', () => {
    const { driver, rig } = blk({ features: { low: EVENT_INDEX } });
    driver.add(0, [{ address: 0x120000, length: 16 }], { indirect: true });
    driver.kick(0);
    rig.run();
    expect(rig.reports[0]).toMatch(/not negotiated/);
  });
});

describe('event index', () => {
  it.each([
    { name: 'the next one', event: 0, wanted: true },
    { name: 'a later one', event: 5, wanted: false },
    { name: 'one long past', event: 0xfff0, wanted: false },
  ])('interrupts for $name', ({ event, wanted }) => {
    const { rig, driver, request, dataAt, memory } = blk();
    memory.writeU16(driver.queues[0].driver + 4 + 2 * 16, event);
    request(0, 0, [{ address: dataAt, length: 512, write: true }]);
    expect(rig.levels[1]).toBe(wanted);
  });

  it('asks for the next notification', () => {
    const { driver, request, memory } = blk();
    const event = () => memory.readU16(driver.queues[0].device + 4 + 8 * 16);
    request(4, 0, []);
    expect(event()).toBe(1);
    request(4, 0, []);
    expect(event()).toBe(2);
  });

  it('is the NO_INTERRUPT flag when not negotiated', () => {
    const { rig, driver, request, memory } = blk({ features: { low: 0 } });
    memory.writeU16(driver.queues[0].driver, 1);
    request(4, 0, []);
    expect(rig.levels[1]).toBe(false);
    memory.writeU16(driver.queues[0].driver, 0);
    request(4, 0, []);
    expect(rig.levels[1]).toBe(true);
  });
});

describe('virtio-rng', () => {
  function rng() {
    const rig = new Rig();
    let next = 1;
    const entropy = { fill: (into: Uint8Array) => into.forEach((_, i) => (into[i] = next++ & 0xff || 1)) };
    const slot = rig.add(new VirtioRng('virtio-rng', rig.host(), entropy));
    return { rig, driver: new VirtioDriver(rig, slot).start() };
  }

  it.each([
    { name: 'what is asked for', lengths: [64], wanted: 64 },
    { name: 'several buffers', lengths: [3, 0, 5], wanted: 8 },
    { name: 'no more than 4096', lengths: [8000], wanted: 4096 },
    { name: 'nothing', lengths: [0], wanted: 0 },
  ])('fills $name', ({ lengths, wanted }) => {
    const { rig, driver } = rng();
    expect(rig.config(1, 0, 4)).toBe(0x10441af4);
    const parts = lengths.map((length) => ({ address: driver.alloc(length + 1), length, write: true }));
    expect(driver.request(0, parts)).toEqual({ id: 0, length: wanted });
    let left = wanted;
    for (const { address, length } of parts) {
      const filled = Math.min(left, length);
      const bytes = rig.memory.bytes.subarray(address, address + length + 1);
      expect(bytes.subarray(0, filled).every((byte) => byte !== 0)).toBe(true);
      expect(bytes[filled]).toBe(0);
      left -= filled;
    }
  });
});

describe('virtio-console', () => {
  function port(name: string, outputBytes = 64) {
    return {
      name,
      output: new SerialRing(SerialRing.allocate(outputBytes)),
      input: new SerialRing(SerialRing.allocate(64)),
    };
  }

  function make(count = 1, outputBytes = 64) {
    const rig = new Rig();
    const ports = Array.from({ length: count }, (_, i) => port(`org.vitrine.${i}`, outputBytes));
    const device = new VirtioConsole('virtio-console', rig.host(), { ports, columns: 132, rows: 43 });
    const driver = new VirtioDriver(rig, rig.add(device)).start();
    return { rig, device, driver, ports };
  }

  const text = (ring: SerialRing) => {
    const bytes = new Uint8Array(ring.available());
    ring.read(bytes);
    return Buffer.from(bytes).toString('latin1');
  };

  it('shows its size and tells of changes', () => {
    const { driver, device, rig } = make();
    expect([driver.readDevice(0, 2), driver.readDevice(2, 2), driver.readDevice(4, 4)]).toEqual([132, 43, 1]);
    const before = driver.read(21, 1);
    device.resize(80, 24);
    expect(driver.read(21, 1)).toBe(before + 1);
    expect(rig.mmio.read(driver.isr, 1, 0)).toBe(2);
    expect([driver.readDevice(0, 2), driver.readDevice(2, 2)]).toEqual([80, 24]);
  });

  it('sends what the guest writes', () => {
    const { driver, rig, ports } = make();
    const at = driver.alloc(64);
    rig.memory.write(at, Buffer.from('hello, world'));
    const parts = [
      { address: at, length: 5 },
      { address: at + 5, length: 7 },
    ];
    expect(driver.request(1, parts)).toEqual({ id: 0, length: 0 });
    expect(text(ports[0].output)).toBe('hello, world');
  });

  it('makes a flooding guest wait, and loses nothing', () => {
    const { driver, rig, ports, device } = make(1, 16);
    const sent = Array.from({ length: 100 }, (_, i) => String.fromCharCode(0x30 + (i % 60))).join('');
    const at = driver.alloc(128);
    rig.memory.write(at, Buffer.from(sent));
    expect(driver.request(1, [{ address: at, length: 100 }])).toBe(null);
    let got = '';
    for (let turn = 0; turn < 7; turn++) {
      got += text(ports[0].output);
      device.poll();
      rig.run();
    }
    expect(got).toBe(sent);
    expect(driver.used(1)).toEqual({ id: 0, length: 0 });
    driver.request(1, [{ address: at, length: 3 }], { first: 1 });
    expect(text(ports[0].output)).toBe('012');
  });

  it('resets a queue while another is busy', () => {
    const rig = new Rig();
    const seen: number[] = [];
    const output = {
      output: () => {
        driver.write(22, 2, 0);
        driver.write(58, 2, 1);
        seen.push(driver.read(58, 2), driver.read(28, 2));
        return true;
      },
      free: () => 1,
    };
    const ports = [{ ...port('one'), output }];
    const driver = new VirtioDriver(rig, rig.add(new VirtioConsole('c', rig.host(), { ports }))).start();
    expect(driver.request(1, [{ address: driver.alloc(1), length: 1 }])).not.toBe(null);
    expect(seen).toEqual([1, 1]);
    expect([driver.read(58, 2), driver.read(28, 2)]).toEqual([0, 0]);
    driver.write(22, 2, 1);
    expect(driver.read(28, 2)).toBe(1);
  });

  it('marks a ring that was full before the request came', () => {
    const { driver, rig, ports, device } = make(1, 16);
    const at = driver.alloc(16);
    expect(driver.request(1, [{ address: at, length: 16 }])).not.toBe(null);
    expect(ports[0].output.takeRefused()).toBe(false);
    expect(driver.request(1, [{ address: at, length: 1 }])).toBe(null);
    text(ports[0].output);
    expect(ports[0].output.takeRefused()).toBe(true);
    device.poll();
    rig.run();
    expect(driver.used(1)).not.toBe(null);
  });

  it('hands input to the guest when it has buffers', () => {
    const { driver, rig, ports, device } = make();
    const at = driver.alloc(16);
    ports[0].input.write(Buffer.from('typed ahead'));
    device.poll();
    rig.run();
    expect(driver.request(0, [{ address: at, length: 5, write: true }])).toEqual({ id: 0, length: 5 });
    expect(driver.request(0, [{ address: at + 5, length: 10, write: true }])).toEqual({ id: 0, length: 6 });
    expect(Buffer.from(rig.memory.bytes.subarray(at, at + 11)).toString()).toBe('typed ahead');
    expect(driver.request(0, [{ address: at, length: 10, write: true }])).toBe(null);
    ports[0].input.write(Buffer.from('!'));
    device.poll();
    rig.run();
    expect(driver.used(0)).toEqual({ id: 0, length: 1 });
  });

  it('introduces its ports to a multiport driver', () => {
    const { driver, rig, ports, device } = make(3);
    const message = (p: number, event: number, value: number) => {
      const at = driver.alloc(8);
      rig.memory.writeU32(at, p);
      rig.memory.writeU16(at + 4, event);
      rig.memory.writeU16(at + 6, value);
      driver.request(3, [{ address: at, length: 8 }]);
    };
    const replies = () => {
      const seen: string[] = [];
      for (;;) {
        const at = driver.alloc(64);
        const used =
          driver.used(2) ?? driver.request(2, [{ address: at, length: 64, write: true }], { first: 0 });
        if (used === null) return seen;
        const event = rig.memory.readU16(at + 4);
        const rest = rig.memory.bytes.slice(at + 8, at + used.length);
        seen.push(
          `${rig.memory.readU32(at)}: ${event} ${event === 7 ? Buffer.from(rest).toString() : [...rest].join(',')}`.trim(),
        );
      }
    };
    expect(driver.read(18, 2)).toBe(8);
    message(0, 0, 1);
    expect(replies()).toEqual(['0: 1', '1: 1', '2: 1']);
    // The buffer that replies() left waiting takes the first message.
    message(1, 3, 1);
    expect(driver.used(2)).not.toBe(null);
    expect(replies()).toEqual(['1: 6']);
    message(9, 3, 1);
    message(0xffffffff, 6, 1);
    const at = driver.alloc(8);
    ports[2].input.write(Buffer.from('x'));
    device.poll();
    expect(driver.request(6, [{ address: at, length: 8, write: true }])).toBe(null);
    message(2, 6, 1);
    expect(driver.used(6)).toEqual({ id: 0, length: 1 });
    expect(rig.memory.bytes[at]).toBe(0x78);
    device.resize(100, 30);
    rig.run();
    expect(driver.used(2)).not.toBe(null);
    expect(driver.status).toBe(15);
  });

  it('is saved and loaded in the middle of a request', () => {
    const { driver, rig, ports } = make(1, 4);
    const at = driver.alloc(16);
    rig.memory.write(at, Buffer.from('abcdefgh'));
    driver.request(1, [{ address: at, length: 8 }]);
    expect(text(ports[0].output)).toBe('abcd');
    const fn = rig.pci.functions[1];
    const saved = JSON.parse(JSON.stringify(fn.save()));
    fn.reset();
    fn.load(saved);
    rig.run();
    expect(text(ports[0].output)).toBe('efgh');
    expect(driver.used(1)).toEqual({ id: 0, length: 0 });
  });

  it('has 1 to 8 ports', () => {
    const rig = new Rig();
    expect(() => new VirtioConsole('c', rig.host(), { ports: [] })).toThrow(/1 to 8 ports/);
  });
});
