import { describe, expect, it } from 'vitest';
import type { BusDevice } from '../../../main/devices/device.ts';
import { Msix, type MsixOwner } from '../../../main/devices/pci/msix.ts';
import { PciFunction, type Bar } from '../../../main/devices/pci/function.ts';
import { RegisterArena } from '../../../main/devices/registers.ts';
import { ECAM, IO_WINDOW, Rig, WINDOW } from './virtio-rig.ts';

/** A device that remembers the last access and answers with its offset. */
class Echo implements BusDevice {
  last = '';
  read(offset: number, size: number): number {
    return offset * 16 + size;
  }
  write(offset: number, size: number, value: number): void {
    this.last = `${offset}/${size}=${value}`;
  }
}

class Card extends PciFunction {
  readonly echo = new Echo();
  capabilityAt: number[] = [];

  constructor(rig: Rig, bars: Omit<Bar, 'device'>[], interruptPin = 1) {
    super('card', rig.arena, {
      ...{ vendor: 0x1234, device: 0x5678, subsystemVendor: 0xabcd, subsystem: 0xef01 },
      ...{ classCode: 0x020304, revision: 7, interruptPin },
    });
    for (const bar of bars) this.addBar({ ...bar, device: this.echo });
    this.capabilityAt.push(this.addCapability({ id: 9, body: Uint8Array.of(8, 1, 2, 3, 4) }));
    const writable = Uint8Array.of(0xff, 0x0f);
    this.capabilityAt.push(this.addCapability({ id: 5, body: Uint8Array.of(0, 0x80), writable }));
  }
}

const BARS: Omit<Bar, 'device'>[] = [
  { index: 0, kind: 'io', size: 0x20 },
  { index: 1, kind: 'memory32', size: 0x1000 },
  { index: 2, kind: 'memory64', size: 0x10000 },
];

function make(bars = BARS) {
  const rig = new Rig();
  const card = new Card(rig, bars);
  const slot = rig.add(card);
  return { rig, card, slot };
}

describe('configuration header', () => {
  it.each([
    { name: 'vendor and device', offset: 0x00, size: 4, wanted: 0x56781234 },
    { name: 'command after firmware', offset: 0x04, size: 2, wanted: 0x0003 },
    { name: 'status has capabilities', offset: 0x06, size: 2, wanted: 0x0010 },
    { name: 'class and revision', offset: 0x08, size: 4, wanted: 0x02030407 },
    { name: 'header type', offset: 0x0e, size: 1, wanted: 0 },
    { name: 'subsystem', offset: 0x2c, size: 4, wanted: 0xef01abcd },
    { name: 'no ROM', offset: 0x30, size: 4, wanted: 0 },
    { name: 'capabilities', offset: 0x34, size: 1, wanted: 0x40 },
    { name: 'first capability links the second', offset: 0x40, size: 2, wanted: 0x4809 },
    { name: 'the second ends the list', offset: 0x48, size: 2, wanted: 0x0005 },
    { name: 'interrupt line and pin', offset: 0x3c, size: 2, wanted: 0x010b },
    { name: 'no extended capabilities', offset: 0x100, size: 4, wanted: 0 },
    { name: 'I/O BAR', offset: 0x10, size: 4, wanted: IO_WINDOW.base | 1 },
    { name: '32-bit BAR', offset: 0x14, size: 4, wanted: WINDOW.base + 0x10000 },
    { name: '64-bit BAR, the larger, comes first', offset: 0x18, size: 4, wanted: WINDOW.base + 4 },
    { name: '64-bit BAR, upper half', offset: 0x1c, size: 4, wanted: 0 },
    { name: 'unused BAR', offset: 0x20, size: 4, wanted: 0 },
  ])('$name', ({ offset, size, wanted }) => {
    const { rig, slot } = make();
    expect(rig.config(slot, offset, size)).toBe(wanted);
    rig.ports.write(0xcf8, 4, 0x80000000 | (slot << 11) | (offset & 0xfc), 0);
    if (offset < 256) expect(rig.ports.read(0xcfc + (offset & 3), size, 0)).toBe(wanted);
  });

  it.each([
    { name: 'vendor is read-only', offset: 0x00, size: 4, write: 0, wanted: 0x56781234 },
    { name: 'command bits', offset: 0x04, size: 2, write: 0xffff, wanted: 0x0547 },
    { name: 'cache line', offset: 0x0c, size: 1, write: 0x40, wanted: 0x40 },
    { name: 'latency', offset: 0x0d, size: 1, write: 0xff, wanted: 0xf8 },
    { name: 'interrupt line', offset: 0x3c, size: 1, write: 0x55, wanted: 0x55 },
    { name: 'interrupt pin is read-only', offset: 0x3d, size: 1, write: 0x55, wanted: 0x01 },
    { name: 'ROM stays absent', offset: 0x30, size: 4, write: 0xffffffff, wanted: 0 },
    { name: 'unused BAR stays zero', offset: 0x20, size: 4, write: 0xffffffff, wanted: 0 },
    { name: 'I/O sizing', offset: 0x10, size: 4, write: 0xffffffff, wanted: 0xffffffe1 },
    { name: '32-bit sizing', offset: 0x14, size: 4, write: 0xffffffff, wanted: 0xfffff000 },
    { name: '64-bit sizing, low', offset: 0x18, size: 4, write: 0xffffffff, wanted: 0xffff0004 },
    { name: '64-bit sizing, high', offset: 0x1c, size: 4, write: 0xffffffff, wanted: 0xffffffff },
    { name: 'capability, partly writable', offset: 0x48, size: 4, write: 0xffffffff, wanted: 0x8fff0005 },
  ])('write: $name', ({ offset, size, write, wanted }) => {
    const { rig, slot } = make();
    rig.setConfig(slot, offset, size, write);
    expect(rig.config(slot, offset, size)).toBe(wanted);
  });

  it('is put back by reset and by load', () => {
    const { rig, card, slot } = make();
    rig.setConfig(slot, 0x14, 4, 0xc8000000);
    const saved = JSON.parse(JSON.stringify(card.save()));
    rig.pci.reset();
    expect(rig.config(slot, 0x14, 4)).toBe(WINDOW.base + 0x10000);
    card.load(saved);
    expect(rig.mmio.read(0xc8000010, 4, 0)).toBe(0x104);
  });
});

describe('mechanism #1', () => {
  const read = (rig: Rig, address: number, port = 0xcfc, size = 4) => {
    rig.ports.write(0xcf8, 4, address, 0);
    return rig.ports.read(port, size, 0);
  };

  it.each([
    { name: 'host bridge', address: 0x80000000, wanted: 0x00081b36 },
    { name: 'disabled', address: 0x00000000, wanted: 0xffffffff },
    { name: 'an empty slot', address: 0x8000f800, wanted: 0xffffffff },
    { name: 'another function', address: 0x80000100, wanted: 0xffffffff },
    { name: 'another bus (type 1)', address: 0x80010000, wanted: 0xffffffff },
  ])('$name', ({ address, wanted }) => expect(read(make().rig, address)).toBe(wanted));

  it('takes the address register whole only, without its reserved bits', () => {
    const { ports } = new Rig();
    ports.write(0xcf8, 4, 0xffffffff, 0);
    expect(ports.read(0xcf8, 4, 0)).toBe(0x80fffffc);
    ports.write(0xcf8, 1, 0, 0);
    ports.write(0xcfa, 2, 0, 0);
    ports.write(0xcfb, 1, 1, 0);
    expect(ports.read(0xcf8, 4, 0)).toBe(0x80fffffc);
    expect([ports.read(0xcf8, 1, 0), ports.read(0xcfa, 2, 0)]).toEqual([0xff, 0xffff]);
  });

  it('reaches bytes and words, and writes', () => {
    const { rig, slot } = make();
    const address = 0x80000000 | (slot << 11);
    expect(read(rig, address, 0xcfe, 2)).toBe(0x5678);
    expect(read(rig, address, 0xcff, 1)).toBe(0x56);
    expect(read(rig, address | 8, 0xcff, 1)).toBe(0x02);
    rig.ports.write(0xcf8, 4, address | 0x3c, 0);
    rig.ports.write(0xcfc, 1, 9, 0);
    expect(rig.config(slot, 0x3c, 1)).toBe(9);
    rig.ports.write(0xcf8, 4, 0x80010000 | (slot << 11) | 0x3c, 0);
    rig.ports.write(0xcfc, 1, 1, 0);
    expect(rig.config(slot, 0x3c, 1)).toBe(9);
  });

  it('ECAM: empty slots and functions read all ones at any width', () => {
    const { mmio } = new Rig();
    for (const at of [0x1000, 0x8000, 0xf8000, 0xff000]) {
      expect(mmio.read(ECAM + at, 4, 0)).toBe(0xffffffff);
      expect(mmio.read(ECAM + at + 2, 2, 0)).toBe(0xffff);
      expect(mmio.read(ECAM + at + 3, 1, 0)).toBe(0xff);
      mmio.write(ECAM + at, 4, 0, 0);
    }
  });

  it('keeps its own state', () => {
    const { ports, pci } = new Rig();
    ports.write(0xcf8, 4, 0x80000800, 0);
    const saved = pci.save();
    pci.reset();
    expect(ports.read(0xcf8, 4, 0)).toBe(0);
    pci.load(saved);
    expect(ports.read(0xcf8, 4, 0)).toBe(0x80000800);
  });
});

describe('BARs', () => {
  it('decode where they are put', () => {
    const { rig, card, slot } = make();
    expect(rig.ports.read(IO_WINDOW.base + 4, 1, 0)).toBe(0x41);
    expect(rig.mmio.read(WINDOW.base + 0x10020, 4, 0)).toBe(0x204);
    rig.mmio.write(WINDOW.base + 0x8, 2, 0xbeef, 0);
    expect(card.echo.last).toBe(`8/2=${0xbeef}`);
    // Moved.
    rig.setConfig(slot, 0x14, 4, 0xc4000000);
    expect(rig.mmio.read(WINDOW.base + 0x10020, 4, 0)).toBe(0xffffffff);
    expect(rig.mmio.read(0xc4000020, 4, 0)).toBe(0x204);
    // Above 4 GiB.
    rig.setConfig(slot, 0x1c, 4, 0x12);
    rig.setConfig(slot, 0x18, 4, 0x34560000);
    expect(rig.mmio.read(0x1234560020, 4, 0)).toBe(0x204);
    expect(rig.config(slot, 0x18, 4)).toBe(0x34560004);
    // Beyond what can be addressed.
    rig.setConfig(slot, 0x1c, 4, 0xffffffff);
    expect(rig.mmio.read(0x1234560020, 4, 0)).toBe(0xffffffff);
  });

  it.each([
    { name: 'memory off', command: 1, io: 0x41, memory: 0xffffffff },
    { name: 'I/O off', command: 2, io: 0xff, memory: 0x204 },
    { name: 'both off', command: 0, io: 0xff, memory: 0xffffffff },
  ])('follow the command register: $name', ({ command, io, memory }) => {
    const { rig, slot } = make();
    rig.setConfig(slot, 4, 2, command);
    expect(rig.ports.read(IO_WINDOW.base + 4, 1, 0)).toBe(io);
    expect(rig.mmio.read(WINDOW.base + 0x10020, 4, 0)).toBe(memory);
    rig.setConfig(slot, 4, 2, 3);
    expect(rig.mmio.read(WINDOW.base + 0x10020, 4, 0)).toBe(0x204);
  });

  it('a moved I/O BAR does not hide fixed ports', () => {
    const { rig, slot } = make();
    rig.setConfig(slot, 0x10, 4, 0xce1);
    expect(rig.config(slot, 0x10, 4)).toBe(0xce1);
    rig.ports.write(0xcf8, 4, 0x80000000, 0);
    expect(rig.ports.read(0xcfc, 4, 0)).toBe(0x00081b36);
    rig.setConfig(slot, 0x10, 4, 0x12340001);
    expect(rig.ports.read(0x1234, 4, 0)).toBe(0xffffffff);
  });

  it('refuses sizes that no BAR has', () => {
    const rig = new Rig();
    expect(() => new Card(rig, [{ index: 0, kind: 'memory32', size: 0x1800 }])).toThrow(/6144/);
    expect(() => new Card(rig, [{ index: 0, kind: 'memory32', size: 0x10 }])).toThrow(/16 bytes/);
    expect(() => new Card(rig, [{ index: 0, kind: 'io', size: 0x200 }])).toThrow(/512/);
  });

  it('says when the window or the slots are full', () => {
    const { rig } = make();
    expect(() => rig.pci.add(new Card(rig, []), 1)).toThrow(/slot 1 is not free/);
    for (let slot = 2; slot < 32; slot++) rig.pci.add(new Card(rig, []));
    expect(() => rig.pci.add(new Card(rig, []))).toThrow(/not free/);
    const small = new Rig();
    small.pci.add(new Card(small, [{ index: 0, kind: 'memory32', size: 2 ** 29 }]));
    expect(() => small.pci.reset()).toThrow(/window .* is full/);
  });
});

describe('INTx', () => {
  it.each([
    { slot: 1, pin: 1, line: 1 },
    { slot: 2, pin: 1, line: 2 },
    { slot: 3, pin: 2, line: 0 },
    { slot: 4, pin: 4, line: 3 },
  ])('slot $slot pin $pin goes to PIRQ $line', ({ slot, pin, line }) => {
    const rig = new Rig();
    const card = new Card(rig, [], pin);
    rig.pci.add(card, slot);
    rig.pci.reset();
    expect(rig.config(slot, 0x3c, 1)).toBe(line & 1 ? 11 : 10);
    card.setIntx(true);
    expect(rig.levels).toEqual([0, 1, 2, 3].map((n) => n === line));
    expect(rig.config(slot, 6, 2) & 8).toBe(8);
    rig.setConfig(slot, 4, 2, 0x400);
    expect(rig.levels).toEqual([false, false, false, false]);
    expect(rig.config(slot, 6, 2) & 8).toBe(8);
    rig.setConfig(slot, 4, 2, 0);
    expect(rig.levels[line]).toBe(true);
    rig.pci.reset();
    expect(rig.levels[line]).toBe(false);
  });

  it('is shared', () => {
    const rig = new Rig();
    const cards = [new Card(rig, []), new Card(rig, [])];
    rig.pci.add(cards[0], 2);
    rig.pci.add(cards[1], 6);
    rig.pci.reset();
    const seen = [
      [0, true],
      [1, true],
      [0, false],
      [1, false],
    ].map(([n, level]) => {
      cards[n as number].setIntx(level as boolean);
      return rig.levels[2];
    });
    expect(seen).toEqual([true, true, true, false]);
  });
});

describe('MSI-X', () => {
  const ENABLE = 0x8000;
  const MASK = 0x4000;

  function table(control = ENABLE) {
    const state = { control, master: true };
    const sent: { address: number; data: number }[] = [];
    const owner: MsixOwner = { msixControl: () => state.control, isMaster: () => state.master };
    const sink = { send: (address: number, data: number) => void sent.push({ address, data }) };
    const msix = new Msix(new RegisterArena(), 40, owner, sink);
    msix.reset();
    const program = (vector: number, masked = 0, address = 0xfee00000, upper = 0) => {
      [address, upper, 0x4000 + vector, masked].forEach((word, i) =>
        msix.write(16 * vector + 4 * i, 4, word),
      );
    };
    const pending = (word: number) => msix.read(2048 + 4 * word, 4);
    return { msix, state, sent, program, pending };
  }

  it('starts masked and empty', () => {
    const { msix } = table();
    expect([0, 4, 8, 12].map((at) => msix.read(at, 4))).toEqual([0, 0, 0, 1]);
    expect(msix.read(16 * 40, 4)).toBe(0);
    expect(msix.read(4095, 1)).toBe(0);
  });

  it.each([
    { name: 'unmasked', masked: 0, control: ENABLE, master: true, sent: 1 },
    { name: 'masked', masked: 1, control: ENABLE, master: true, sent: 0 },
    { name: 'function masked', masked: 0, control: ENABLE | MASK, master: true, sent: 0 },
    { name: 'no bus master', masked: 0, control: ENABLE, master: false, sent: 0 },
  ])('$name', ({ masked, control, master, sent: count }) => {
    const { msix, state, sent, program, pending } = table();
    state.master = master;
    program(35, masked);
    state.control = control;
    msix.notify(35);
    msix.notify(35);
    expect(sent.length).toBe(2 * count);
    expect(pending(1)).toBe(count === 1 ? 0 : 8);
    // What is pending goes out once, when every mask is gone.
    state.control = ENABLE;
    state.master = true;
    msix.unmasked();
    msix.write(16 * 35 + 12, 4, 0);
    expect(sent.length).toBe(count === 1 ? 2 : 1);
    expect(sent[0]).toEqual({ address: 0xfee00000, data: 0x4000 + 35 });
    expect(pending(1)).toBe(0);
  });

  it.each([
    { name: 'pending bits are read-only', at: 2048, size: 4, value: 1, read: 2048, wanted: 0 },
    { name: 'two bytes are dropped', at: 0, size: 2, value: 0x1234, read: 0, wanted: 0 },
    { name: 'misaligned is dropped', at: 2, size: 4, value: 0x1234, read: 0, wanted: 0 },
    { name: 'address bits 1:0', at: 0, size: 4, value: 0xfee00003, read: 0, wanted: 0xfee00000 },
    { name: 'control has one bit', at: 12, size: 4, value: 0xfffffffe, read: 12, wanted: 0 },
  ])('$name', ({ at, size, value, read, wanted }) => {
    const { msix } = table();
    msix.write(at, size, value);
    expect(msix.read(read, 4)).toBe(wanted);
  });

  it.each([
    { name: 'to RAM', address: 0x1000, upper: 0 },
    { name: 'above 4 GiB', address: 0xfee00000, upper: 1 },
  ])('a message $name goes nowhere', ({ address, upper }) => {
    const { msix, sent, program } = table();
    program(0, 0, address, upper);
    msix.notify(0);
    msix.notify(99);
    expect(sent).toEqual([]);
  });

  it('keeps its state', () => {
    const a = table();
    a.program(3, 1);
    a.msix.notify(3);
    const b = table();
    b.msix.load(JSON.parse(JSON.stringify(a.msix.save())));
    b.msix.write(3 * 16 + 12, 4, 0);
    expect(b.sent).toEqual([{ address: 0xfee00000, data: 0x4003 }]);
  });
});
