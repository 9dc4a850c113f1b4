import { beforeEach, describe, expect, it, test } from 'vitest';
import { Interrupts } from '../../../main/devices/interrupts.ts';
import { isApicMsr, type Lapic } from '../../../main/devices/lapic.ts';
import { Bench } from './chipset.ts';

const APIC = 0xfee00000;
const IOAPIC = 0xfec00000;
const VCPUS = 20;

let bench: Bench;
let interrupts: Interrupts;
let notified: Set<number>;

beforeEach(() => {
  bench = new Bench();
  notified = new Set();
  interrupts = new Interrupts(bench.arena, {
    vcpus: VCPUS,
    clock: bench.clock,
    signal: { notify: (vcpu) => notified.add(vcpu) },
    // A TSC of 2 GHz.
    tsc: { nsAt: (_vcpu, low, high) => (high * 2 ** 32 + low) / 2 },
  });
  interrupts.attach(bench.ports, bench.mmio);
});

const lapic = (vcpu: number): Lapic => interrupts.apics.get(vcpu);

function write(offset: number, value: number, vcpu = 0): void {
  bench.store(APIC + offset, value, 4, vcpu);
}

function read(offset: number, vcpu = 0): number {
  return bench.load(APIC + offset, 4, vcpu);
}

/** Software enable with flat logical ids, one bit for each of the first eight. */
function enable(...vcpus: number[]): void {
  for (const vcpu of vcpus) {
    write(0xf0, 0x1ff, vcpu);
    write(0xd0, (1 << (vcpu & 7)) << 24, vcpu);
  }
}

function toX2apic(vcpu: number): void {
  const base = lapic(vcpu).readMsr(0x1b)!;
  expect(lapic(vcpu).writeMsr(0x1b, base.low | 0x400, base.high)).toBe(true);
}

function msr(vcpu: number, index: number): number | null {
  return lapic(vcpu).readMsr(index)?.low ?? null;
}

/** Programs an input of the I/O APIC. */
function redirect(pin: number, low: number, destination = 0): void {
  bench.store(IOAPIC, 0x10 + 2 * pin + 1);
  bench.store(IOAPIC + 0x10, (destination << 24) >>> 0);
  bench.store(IOAPIC, 0x10 + 2 * pin);
  bench.store(IOAPIC + 0x10, low);
}

function redirection(pin: number): number {
  bench.store(IOAPIC, 0x10 + 2 * pin);
  return bench.load(IOAPIC + 0x10);
}

function pending(): number[] {
  return interrupts.apics.all.filter((one) => one.hasInterrupt()).map(({ id }) => id);
}

describe('registers after power-on', () => {
  test.each([
    { name: 'id', offset: 0x20, vcpu: 3, wanted: 0x03000000 },
    { name: 'version', offset: 0x30, vcpu: 0, wanted: 0x01050014 },
    { name: 'task priority', offset: 0x80, vcpu: 0, wanted: 0 },
    { name: 'destination format', offset: 0xe0, vcpu: 0, wanted: 0xffffffff },
    { name: 'spurious vector', offset: 0xf0, vcpu: 0, wanted: 0xff },
    { name: 'LINT0 of the first, in virtual wire mode', offset: 0x350, vcpu: 0, wanted: 0x700 },
    { name: 'LINT0 of another', offset: 0x350, vcpu: 1, wanted: 0x10000 },
    { name: 'timer', offset: 0x320, vcpu: 0, wanted: 0x10000 },
  ])('$name', ({ offset, vcpu, wanted }) => expect(read(offset, vcpu)).toBe(wanted));

  it('answers single bytes, drops narrow writes, and notes unknown registers as errors', () => {
    expect(bench.load(APIC + 0x32, 1)).toBe(0x05);
    expect(bench.load(APIC + 0x34, 4)).toBe(0);
    bench.store(APIC + 0xf0, 0x1ff, 1);
    expect(read(0xf0)).toBe(0xff);
    read(0x40);
    write(0x280, 0);
    expect(read(0x280)).toBe(0x80);
    write(0x280, 0);
    expect(read(0x280)).toBe(0);
  });
});

describe('priorities', () => {
  it('the highest vector first; what is in service or of the task keeps lower classes out', () => {
    enable(0);
    for (const vector of [0x31, 0x45, 0x4f, 0x20]) lapic(0).receive(0, vector, false);
    expect(lapic(0).acknowledge()).toBe(0x4f);
    expect(read(0xa0)).toBe(0x40);
    expect(lapic(0).pendingVector()).toBe(-1);
    write(0xb0, 0);
    lapic(0).setTpr(4);
    expect(read(0x80)).toBe(0x40);
    expect(lapic(0).pendingVector()).toBe(-1);
    notified.clear();
    write(0x80, 0x3f);
    expect(notified.has(0)).toBe(true);
    expect([lapic(0).cr8, lapic(0).pendingVector()]).toEqual([3, 0x45]);
    expect(lapic(0).acknowledge()).toBe(0x45);
    write(0x80, 0);
    write(0xb0, 0);
    expect([lapic(0).acknowledge(), lapic(0).pendingVector()]).toEqual([0x31, -1]);
    write(0xb0, 0);
    expect(lapic(0).acknowledge()).toBe(0x20);
    write(0xb0, 0);
    expect(lapic(0).acknowledge()).toBe(0xff);
  });

  it('shows requests and service in its bit arrays', () => {
    enable(0);
    lapic(0).receive(0, 0xe1, true);
    expect([read(0x270), read(0x1f0)]).toEqual([2, 2]);
    lapic(0).acknowledge();
    expect([read(0x270), read(0x170)]).toEqual([0, 2]);
  });

  it('software-disabled takes nothing fixed, and masks its local vectors', () => {
    expect(lapic(0).receive(0, 0x40, false)).toBe(false);
    enable(0);
    write(0x320, 0x40);
    write(0xf0, 0xff);
    expect(read(0x320)).toBe(0x10040);
    write(0x320, 0x41);
    expect(read(0x320)).toBe(0x10041);
  });
});

const destinations: {
  name: string;
  destination: number;
  logical?: boolean;
  mode?: number;
  wanted: number[];
  cluster?: boolean;
}[] = [
  { name: 'physical', destination: 3, wanted: [3] },
  { name: 'physical to nobody', destination: 200, wanted: [] },
  { name: 'physical to all', destination: 0xff, wanted: [0, 1, 2, 3] },
  { name: 'flat', destination: 0x0a, logical: true, wanted: [1, 3] },
  { name: 'flat to all', destination: 0xff, logical: true, wanted: [0, 1, 2, 3] },
  { name: 'cluster', destination: 0x13, logical: true, cluster: true, wanted: [2, 3] },
  { name: 'cluster to all', destination: 0xff, logical: true, cluster: true, wanted: [0, 1, 2, 3] },
  { name: 'lowest priority takes one', destination: 0x0f, logical: true, mode: 1, wanted: [0] },
];

describe('destinations in xAPIC mode', () => {
  test.each(destinations)('$name', ({ destination, logical = false, mode = 0, wanted, cluster }) => {
    enable(0, 1, 2, 3);
    if (cluster === true) {
      [0x01, 0x02, 0x11, 0x12].forEach((ldr, vcpu) => {
        write(0xe0, 0x0fffffff, vcpu);
        write(0xd0, ldr << 24, vcpu);
      });
    }
    notified.clear();
    expect(interrupts.apics.deliver(destination, logical, mode, 0x50, false)).toBe(wanted.length > 0);
    expect(pending()).toEqual(wanted);
    expect([...notified]).toEqual(wanted);
  });

  it('lowest priority chooses the least busy, and equals take turns', () => {
    enable(0, 1, 2);
    write(0x80, 0x20, 0);
    const taken = [0x50, 0x51, 0x52, 0x53].map((vector) => {
      interrupts.apics.deliver(0x07, true, 1, vector, false);
      return interrupts.apics.all.findIndex((one) => (read(0x220, one.id) & (1 << (vector - 0x40))) !== 0);
    });
    expect(taken).toEqual([1, 2, 1, 2]);
  });
});

const shorthands: { name: string; icr: number; wanted: number[] }[] = [
  { name: 'none', icr: 0x00000060, wanted: [2] },
  { name: 'self', icr: 0x00040060, wanted: [1] },
  { name: 'all', icr: 0x00080060, wanted: [0, 1, 2, 3] },
  { name: 'others', icr: 0x000c0060, wanted: [0, 2, 3] },
  { name: 'logical', icr: 0x00000860, wanted: [1] },
];

describe('interprocessor interrupts', () => {
  test.each(shorthands)('shorthand: $name', ({ icr, wanted }) => {
    enable(0, 1, 2, 3);
    write(0x310, 0x02000000, 1);
    write(0x300, icr, 1);
    expect(pending()).toEqual(wanted);
    expect(read(0x300, 1)).toBe(icr);
  });

  it('an illegal vector is an error, with its own interrupt', () => {
    enable(0);
    write(0x370, 0x99);
    write(0x300, 0x40005);
    write(0x280, 0);
    expect(read(0x280)).toBe(0x20);
    expect(lapic(0).acknowledge()).toBe(0x99);
  });

  it('NMI', () => {
    write(0x310, 0x01000000);
    write(0x300, 0x4400);
    expect([lapic(1).nmiPending, lapic(1).takeNmi(), lapic(1).takeNmi()]).toEqual([true, true, false]);
  });

  it('INIT, its de-assertion and two start-ups start a processor once', () => {
    const ap = lapic(1);
    expect([ap.waitingForSipi, lapic(0).waitingForSipi]).toEqual([true, false]);
    write(0x310, 0x01000000);
    write(0x300, 0xc500);
    write(0x300, 0x8500);
    expect([ap.initPending, ap.takeSipi()]).toEqual([true, -1]);
    expect([ap.takeInit(), ap.takeInit(), ap.waitingForSipi]).toEqual([true, false, true]);
    write(0x300, 0x4699);
    write(0x300, 0x4699);
    expect([ap.sipiPending, ap.takeSipi(), ap.waitingForSipi, ap.takeSipi()]).toEqual([
      true,
      0x99,
      false,
      -1,
    ]);
    write(0x300, 0x4698);
    expect(ap.sipiPending).toBe(false);
  });

  it('a start-up that comes before INIT was taken is not lost', () => {
    write(0x310, 0x01000000);
    write(0x300, 0x4500);
    write(0x300, 0x4677);
    expect([lapic(1).takeSipi(), lapic(1).takeInit(), lapic(1).takeSipi()]).toEqual([-1, true, 0x77]);
  });

  it('INIT resets all but id, base and mode', () => {
    toX2apic(1);
    expect(lapic(1).writeMsr(0x80f, 0x1ff, 0)).toBe(true);
    lapic(1).receive(5, 0, false);
    lapic(1).takeInit();
    expect([msr(1, 0x80f), msr(1, 0x802), lapic(1).x2apic]).toEqual([0xff, 1, true]);
  });
});

describe('x2APIC', () => {
  it('has its ids, logical ids and whole destinations', () => {
    for (const vcpu of [0, 1, 17]) {
      toX2apic(vcpu);
      expect(lapic(vcpu).writeMsr(0x80f, 0x1ff, 0)).toBe(true);
    }
    expect([msr(17, 0x802), msr(17, 0x80d)]).toEqual([17, 0x10002]);
    expect(lapic(0).writeMsr(0x830, 0x0871, 0x00010002)).toBe(true);
    expect(pending()).toEqual([17]);
    expect(lapic(0).writeMsr(0x830, 0x72, 1)).toBe(true);
    expect(pending()).toEqual([1, 17]);
    expect(lapic(0).readMsr(0x830)).toEqual({ low: 0x72, high: 1 });
    expect(lapic(0).writeMsr(0x830, 0x73, 0xffffffff)).toBe(true);
    expect(pending()).toEqual([0, 1, 17]);
    expect(lapic(1).writeMsr(0x83f, 0x90, 0)).toBe(true);
    expect(lapic(1).pendingVector()).toBe(0x90);
  });

  it('the I/O APIC reaches it with eight bits', () => {
    for (const vcpu of [0, 1]) {
      toX2apic(vcpu);
      lapic(vcpu).writeMsr(0x80f, 0x1ff, 0);
    }
    interrupts.apics.deliver(0x02, true, 0, 0x40, false);
    expect(pending()).toEqual([1]);
    interrupts.apics.deliver(0xff, false, 0, 0x40, false);
    expect(pending()).toEqual([0, 1]);
  });

  it('takes the page away', () => {
    toX2apic(0);
    expect(read(0x30)).toBe(0xffffffff);
    for (let vcpu = 1; vcpu < VCPUS; vcpu++) toX2apic(vcpu);
    expect(bench.mmio.nameOf(APIC)).toBe(null);
  });

  const faults: { name: string; index: number; low?: number; high?: number }[] = [
    { name: 'a register that only xAPIC has (DFR)', index: 0x80e },
    { name: 'the high half of the ICR', index: 0x831 },
    { name: 'nothing', index: 0x8ff },
    { name: 'read-only id', index: 0x802, low: 1 },
    { name: 'read-only LDR', index: 0x80d, low: 1 },
    { name: 'EOI with a value', index: 0x80b, low: 1 },
    { name: 'ESR with a value', index: 0x828, low: 1 },
    { name: 'TPR above 8 bits', index: 0x808, low: 0x100 },
    { name: 'a high half', index: 0x808, low: 0, high: 1 },
    { name: 'reserved bits of the timer vector', index: 0x832, low: 0x80000 },
    { name: 'reserved bits of the ICR', index: 0x830, low: 0x2000 },
  ];
  test.each(faults)('#GP: $name', ({ index, low, high = 0 }) => {
    toX2apic(0);
    if (low === undefined) expect(lapic(0).readMsr(index)).toBe(null);
    expect(lapic(0).writeMsr(index, low ?? 0, high)).toBe(false);
  });

  it('all its MSRs fault in xAPIC mode', () => {
    expect(lapic(0).readMsr(0x802)).toBe(null);
    expect(lapic(0).writeMsr(0x808, 0, 0)).toBe(false);
    expect([0x1b, 0x6e0, 0x800, 0x8ff, 0x900, 0x10].map(isApicMsr)).toEqual([
      true,
      true,
      true,
      true,
      false,
      false,
    ]);
  });
});

describe('IA32_APIC_BASE', () => {
  const steps: { name: string; values: number[]; wanted: boolean }[] = [
    { name: 'xAPIC to x2APIC', values: [0xfee00d00], wanted: true },
    { name: 'x2APIC without enable', values: [0xfee00500], wanted: false },
    { name: 'x2APIC back to xAPIC', values: [0xfee00d00, 0xfee00900], wanted: false },
    { name: 'x2APIC to disabled to xAPIC', values: [0xfee00d00, 0xfee00100, 0xfee00900], wanted: true },
    { name: 'disabled to x2APIC', values: [0xfee00100, 0xfee00d00], wanted: false },
    { name: 'reserved bits', values: [0xfee00901], wanted: false },
  ];
  test.each(steps)('$name', ({ values, wanted }) => {
    const results = values.map((low) => lapic(0).writeMsr(0x1b, low, 0));
    expect(results.pop()).toBe(wanted);
    expect(results.every(Boolean)).toBe(true);
  });

  it('moves the page', () => {
    for (const one of interrupts.apics.all) one.writeMsr(0x1b, one.id === 0 ? 0xd0000900 : 0xd0000800, 0);
    expect(bench.load(0xd0000030)).toBe(0x01050014);
    expect(bench.mmio.nameOf(APIC)).toBe(null);
  });

  it('disabled, the 8259s reach the first processor directly', () => {
    lapic(0).writeMsr(0x1b, 0xfee00100, 0);
    bench.out(0x21, 0xfe);
    interrupts.isa(0).set(true);
    expect([interrupts.hasInterrupt(0), interrupts.takeInterrupt(0), interrupts.hasInterrupt(1)]).toEqual([
      true,
      0x08,
      false,
    ]);
  });
});

describe('timer', () => {
  beforeEach(() => enable(0));

  function advance(ns: number): void {
    bench.clock.time += ns;
    lapic(0).tick(bench.clock.time);
  }

  it('one-shot: counts by its divider and interrupts once', () => {
    write(0x320, 0x55);
    write(0x3e0, 0x03);
    write(0x380, 1000);
    expect(lapic(0).nextDeadline()).toBe(16_000);
    advance(8_000);
    expect([read(0x390), lapic(0).pendingVector()]).toEqual([500, -1]);
    advance(8_000);
    expect([read(0x390), lapic(0).acknowledge(), lapic(0).nextDeadline()]).toEqual([0, 0x55, Infinity]);
  });

  it('periodic: keeps its phase, one interrupt for all that was missed', () => {
    write(0x3e0, 0x0b);
    write(0x320, 0x20055);
    write(0x380, 1_000_000);
    advance(2_500_000);
    expect([lapic(0).acknowledge(), lapic(0).pendingVector(), lapic(0).nextDeadline()]).toEqual([
      0x55, -1, 3_000_000,
    ]);
    expect(read(0x390)).toBe(500_000);
    write(0x380, 0);
    expect([lapic(0).nextDeadline(), read(0x390)]).toEqual([Infinity, 0]);
  });

  it('periodic: a tiny period leaves the guest time', () => {
    write(0x3e0, 0x0b);
    write(0x320, 0x20055);
    write(0x380, 1);
    advance(100);
    expect(lapic(0).nextDeadline()).toBeGreaterThan(10_000);
  });

  it('masked: counts, but wants no attention, and does not interrupt late', () => {
    write(0x3e0, 0x0b);
    write(0x320, 0x10055);
    write(0x380, 1000);
    expect(lapic(0).nextDeadline()).toBe(Infinity);
    bench.clock.time = 400;
    expect(read(0x390)).toBe(600);
    bench.clock.time = 2000;
    write(0x320, 0x55);
    expect([lapic(0).pendingVector(), lapic(0).nextDeadline()]).toEqual([-1, Infinity]);
  });

  it.each(
    [0, 1, 2, 3, 8, 9, 10, 11].map((code, index) => ({ code, step: [2, 4, 8, 16, 32, 64, 128, 1][index] })),
  )('divider $code counts every $step ns', ({ code, step }) => {
    write(0x3e0, code);
    write(0x380, 1000);
    bench.clock.time = 10 * step;
    expect([read(0x3e0), read(0x390)]).toEqual([code, 990]);
  });

  it('TSC-deadline: interrupts at the value, clears it, and a past one at once', () => {
    expect(lapic(0).writeMsr(0x6e0, 1000, 0)).toBe(true);
    expect(lapic(0).readMsr(0x6e0)).toEqual({ low: 0, high: 0 });
    write(0x320, 0x40066);
    lapic(0).writeMsr(0x6e0, 1000, 1);
    expect(lapic(0).readMsr(0x6e0)).toEqual({ low: 1000, high: 1 });
    expect(lapic(0).nextDeadline()).toBe((2 ** 32 + 1000) / 2);
    write(0x380, 77);
    expect([read(0x380), read(0x390)]).toEqual([0, 0]);
    advance(2 ** 31 + 500);
    expect([lapic(0).acknowledge(), lapic(0).readMsr(0x6e0)]).toEqual([0x66, { low: 0, high: 0 }]);
    write(0xb0, 0);
    lapic(0).writeMsr(0x6e0, 5, 0);
    expect(lapic(0).pendingVector()).toBe(0x66);
    lapic(0).writeMsr(0x6e0, 0, 2);
    lapic(0).writeMsr(0x6e0, 0, 0);
    expect(lapic(0).nextDeadline()).toBe(Infinity);
    lapic(0).writeMsr(0x6e0, 0, 2);
    write(0x320, 0x66);
    expect(lapic(0).nextDeadline()).toBe(Infinity);
  });
});

describe('I/O APIC', () => {
  beforeEach(() => enable(0, 1));

  it('tells its version and size, and answers unknown registers', () => {
    const registers = [0, 1, 2, 0x0f, 0x3f, 0x40].map((index) => {
      bench.store(IOAPIC, index);
      return bench.load(IOAPIC + 0x10);
    });
    expect(registers).toEqual([0, 0x00170020, 0, 0xffffffff, 0, 0xffffffff]);
    expect(redirection(5)).toBe(0x10000);
  });

  it('an edge is sent once, and lost while masked', () => {
    redirect(4, 0x10041);
    interrupts.isa(4).set(true);
    redirect(4, 0x41, 1);
    expect(pending()).toEqual([]);
    interrupts.isa(4).set(false);
    interrupts.isa(4).set(true);
    expect(lapic(1).acknowledge()).toBe(0x41);
    write(0xb0, 0, 1);
    expect(pending()).toEqual([]);
  });

  it('a level is sent again after EOI, until it falls', () => {
    redirect(17, 0xa051, 1);
    const line = interrupts.pci(1);
    line.set(true);
    expect(redirection(17)).toBe(0xe051);
    expect(lapic(1).acknowledge()).toBe(0x51);
    expect(lapic(1).pendingVector()).toBe(-1);
    write(0xb0, 0, 1);
    expect(lapic(1).acknowledge()).toBe(0x51);
    line.set(false);
    write(0xb0, 0, 1);
    expect([pending(), redirection(17)]).toEqual([[], 0xa051]);
  });

  it('EOI broadcasts can be suppressed: then its EOI register counts', () => {
    write(0xf0, 0x11ff, 1);
    redirect(17, 0xa051, 1);
    interrupts.pci(1).set(true);
    lapic(1).acknowledge();
    write(0xb0, 0, 1);
    expect(redirection(17)).toBe(0xe051);
    bench.store(IOAPIC + 0x40, 0x51);
    expect(lapic(1).acknowledge()).toBe(0x51);
  });

  it('remote IRR goes when the entry is made edge-triggered', () => {
    redirect(17, 0xa051, 1);
    interrupts.pci(1).set(true);
    redirect(17, 0x12051, 1);
    expect(redirection(17)).toBe(0x12051);
    redirect(17, 0x1a051, 1);
    expect(redirection(17)).toBe(0x1a051);
  });

  it('a level nobody takes is not remembered as sent', () => {
    redirect(17, 0xa051, 9);
    interrupts.pci(1).set(true);
    expect(redirection(17)).toBe(0xa051);
    redirect(17, 0xa051, 1);
    expect(pending()).toEqual([1]);
  });

  it.each([
    { name: 'lowest priority', low: 0x0941, wanted: () => pending().length === 1 },
    { name: 'SMI is ignored', low: 0x0241, wanted: () => pending().length === 0 },
    { name: 'NMI', low: 0x0400, wanted: () => lapic(1).takeNmi() },
    { name: 'INIT', low: 0x0500, wanted: () => lapic(1).initPending },
  ])('delivery mode: $name', ({ low, wanted }) => {
    redirect(5, low, (low & 0x800) === 0 ? 1 : 0xff);
    interrupts.isa(5).set(true);
    expect(wanted()).toBe(true);
  });
});

describe('wiring', () => {
  it('IRQ 0 is at input 2 of the I/O APIC', () => {
    enable(0);
    redirect(2, 0x30);
    interrupts.isa(0).set(true);
    expect(interrupts.takeInterrupt(0)).toBe(0x30);
  });

  it('virtual wire: the 8259s through LINT0, before the local APIC, whatever its priority', () => {
    enable(0);
    write(0x350, 0x700);
    write(0x80, 0xff);
    bench.out(0x21, 0xfe);
    notified.clear();
    interrupts.isa(0).set(true);
    expect([...notified]).toEqual([0]);
    lapic(0).receive(0, 0x99, false);
    expect([interrupts.takeInterrupt(0), interrupts.takeInterrupt(0)]).toEqual([0x08, -1]);
    write(0x80, 0);
    expect(interrupts.takeInterrupt(0)).toBe(0x99);
  });

  it('a masked LINT0 keeps the 8259s out, and unmasking lets a waiting request in', () => {
    enable(0);
    write(0x350, 0x10700);
    bench.out(0x21, 0xfe);
    interrupts.isa(0).set(true);
    expect(interrupts.hasInterrupt(0)).toBe(false);
    notified.clear();
    write(0x350, 0x700);
    expect([interrupts.hasInterrupt(0), notified.has(0)]).toEqual([true, true]);
  });

  it('the 8259s through input 0 of the I/O APIC as ExtINT', () => {
    enable(1);
    redirect(0, 0x700, 1);
    bench.out(0x21, 0xfe);
    interrupts.isa(0).set(true);
    expect([interrupts.hasInterrupt(1), interrupts.takeInterrupt(1), interrupts.takeInterrupt(1)]).toEqual([
      true,
      0x08,
      -1,
    ]);
  });

  it('LINT0 as a fixed level', () => {
    enable(0);
    write(0x350, 0x8077);
    bench.out(0x21, 0xfe);
    interrupts.isa(0).set(true);
    expect([interrupts.takeInterrupt(0), read(0x350)]).toEqual([0x77, 0xc077]);
    write(0xb0, 0);
    expect(interrupts.takeInterrupt(0)).toBe(0x77);
    bench.out(0x21, 0xff);
    write(0xb0, 0);
    expect([interrupts.takeInterrupt(0), read(0x350)]).toEqual([-1, 0x8077]);
  });

  it('NMI comes through LINT1', () => {
    interrupts.nmi();
    expect([lapic(0).nmiPending, lapic(1).nmiPending]).toEqual([true, false]);
  });

  it('PCI interrupts share two inputs of the 8259s', () => {
    bench.out(0x21, 0x00);
    bench.out(0xa1, 0x00);
    interrupts.pci(0).set(true);
    interrupts.pci(2).set(true);
    interrupts.pci(0).set(false);
    expect(interrupts.takeInterrupt(0)).toBe(0x72);
    bench.out(0xa0, 0x20);
    bench.out(0x20, 0x20);
    interrupts.pci(2).set(false);
    expect(interrupts.hasInterrupt(0)).toBe(false);
    interrupts.pci(3).set(true);
    expect(interrupts.takeInterrupt(0)).toBe(0x73);
  });

  it.each([
    { name: 'physical', address: 0xfee01000, data: 0x41, wanted: [1] },
    { name: 'logical', address: 0xfee03004, data: 0x41, wanted: [0, 1] },
    { name: 'logical, hinted: one of them', address: 0xfee0300c, data: 0x41, wanted: [0] },
    { name: 'somewhere else', address: 0xfed01000, data: 0x41, wanted: [] },
    { name: 'beyond 4 GiB', address: 0x1fee01000, data: 0x41, wanted: [] },
  ])('MSI: $name', ({ address, data, wanted }) => {
    enable(0, 1, 2);
    interrupts.msi.send(address, data);
    expect(pending()).toEqual(wanted);
  });

  it('every thread sees the same', () => {
    enable(0);
    const thread = new Bench(bench.arena.buffer);
    const other = new Interrupts(thread.arena, {
      vcpus: VCPUS,
      clock: bench.clock,
      signal: { notify: () => undefined },
      tsc: { nsAt: () => 0 },
    });
    redirect(2, 0x30);
    other.isa(0).set(true);
    expect(interrupts.takeInterrupt(0)).toBe(0x30);
  });

  it('a snapshot brings everything back', () => {
    enable(0, 1);
    redirect(17, 0xa051, 1);
    interrupts.pci(1).set(true);
    lapic(0).receive(0, 0x60, false);
    const saved = JSON.parse(JSON.stringify(interrupts.devices.map((device) => device.save())));
    for (const device of interrupts.devices) device.reset();
    expect(pending()).toEqual([]);
    interrupts.devices.forEach((device, index) => device.load(saved[index]));
    expect(pending()).toEqual([0, 1]);
    expect(JSON.parse(JSON.stringify(interrupts.devices.map((device) => device.save())))).toEqual(saved);
    expect(new Set(interrupts.devices.map(({ name }) => name)).size).toBe(interrupts.devices.length);
  });
});
