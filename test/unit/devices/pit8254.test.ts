import { beforeEach, describe, expect, it, test } from 'vitest';
import { PIT_HZ, Pit8254 } from '../../../main/devices/pit8254.ts';
import { nsOfTick, ticksAt } from '../../../main/devices/ticks.ts';
import { Bench, type TestLine } from './chipset.ts';

let bench: Bench;
let irq0: TestLine;
let pit: Pit8254;

beforeEach(() => {
  bench = new Bench();
  irq0 = bench.line();
  pit = new Pit8254(bench.arena, bench.clock, irq0);
  pit.attach(bench.ports);
});

/** Turns the clock to a tick, serving what is due on the way. */
function runTo(tick: number): void {
  const until = nsOfTick(tick, PIT_HZ);
  while (pit.nextDeadline() <= until) {
    bench.clock.time = pit.nextDeadline();
    pit.tick(bench.clock.time);
  }
  bench.clock.time = until;
}

function count(counter: number): number {
  return bench.in(0x40 + counter) | (bench.in(0x40 + counter) << 8);
}

function program(counter: number, mode: number, value: number, bcd = 0): void {
  bench.out(0x43, (counter << 6) | 0x30 | (mode << 1) | bcd);
  bench.out(0x40 + counter, value & 0xff);
  bench.out(0x40 + counter, value >> 8);
}

describe('ticks', () => {
  it('are exact both ways for days', () => {
    for (const hz of [PIT_HZ, 3579545, 32768]) {
      for (const tick of [0, 1, 2, hz - 1, hz, hz + 1, hz * 86400 * 90 + 12345]) {
        const ns = nsOfTick(tick, hz);
        expect(ticksAt(ns, hz)).toBe(tick);
        if (ns > 0) expect(ticksAt(ns - 1, hz)).toBe(tick - 1);
      }
    }
  });
});

// A count is loaded one tick after it was written: the ticks here count from there.
const counts: { name: string; mode: number; value: number; bcd?: number; after: [number, number][] }[] = [
  { name: 'mode 0 wraps', mode: 0, value: 10, after: [[0, 10], [1, 9], [10, 0], [11, 0xffff]] }, // prettier-ignore
  { name: 'mode 2 repeats', mode: 2, value: 4, after: [[0, 4], [1, 3], [3, 1], [4, 4], [9, 3]] }, // prettier-ignore
  { name: 'mode 2 of 65536', mode: 2, value: 0, after: [[0, 0], [1, 0xffff], [65536, 0]] }, // prettier-ignore
  { name: 'mode 3 counts by two', mode: 3, value: 6, after: [[0, 6], [1, 4], [2, 2], [3, 6], [5, 2], [6, 6]] }, // prettier-ignore
  { name: 'mode 3 of an odd count', mode: 3, value: 5, after: [[0, 4], [1, 2], [2, 0], [3, 4], [4, 2], [5, 4]] }, // prettier-ignore
  { name: 'mode 4 wraps', mode: 4, value: 2, after: [[0, 2], [2, 0], [3, 0xffff]] }, // prettier-ignore
  { name: 'BCD', mode: 2, value: 0x1000, bcd: 1, after: [[0, 0x1000], [1, 0x0999], [999, 1], [1000, 0x1000]] }, // prettier-ignore
  { name: 'BCD of 10000', mode: 0, value: 0, bcd: 1, after: [[0, 0], [1, 0x9999], [9999, 1]] }, // prettier-ignore
];

describe('counts', () => {
  test.each(counts)('$name', ({ mode, value, bcd, after }) => {
    program(1, mode, value, bcd);
    for (const [tick, wanted] of after) {
      runTo(tick + 1);
      expect([tick, count(1).toString(16)]).toEqual([tick, wanted.toString(16)]);
    }
  });
});

const outputs: { name: string; mode: number; value: number; levels: string }[] = [
  { name: 'mode 0 rises at the end', mode: 0, value: 3, levels: '000111' },
  { name: 'mode 2 is low for the last tick', mode: 2, value: 3, levels: '110110' },
  { name: 'mode 3 is a square', mode: 3, value: 4, levels: '11001100' },
  { name: 'mode 3 of an odd count is high longer', mode: 3, value: 5, levels: '1110011100' },
  { name: 'mode 4 strobes once', mode: 4, value: 2, levels: '110111' },
  { name: 'mode 1 waits for the gate', mode: 1, value: 2, levels: '1111' },
];

describe('the output of counter 2 in port 61h', () => {
  test.each(outputs)('$name', ({ mode, value, levels }) => {
    bench.out(0x61, 1);
    program(2, mode, value);
    const seen = Array.from(levels, (_, tick) => {
      runTo(tick + 1);
      return (bench.in(0x61) >> 5) & 1;
    });
    expect(seen.join('')).toBe(levels);
  });
});

describe('the gate of counter 2', () => {
  it('holds mode 0, which goes on where it was', () => {
    bench.out(0x61, 0);
    program(2, 0, 100);
    runTo(50);
    expect(count(2)).toBe(100);
    bench.out(0x61, 1);
    runTo(60);
    expect(count(2)).toBe(90);
    bench.out(0x61, 0);
    runTo(500);
    expect(count(2)).toBe(90);
  });

  it('starts mode 1 over', () => {
    program(2, 1, 10);
    runTo(5);
    bench.out(0x61, 1);
    runTo(10);
    expect(bench.in(0x61) & 0x20).toBe(0);
    bench.out(0x61, 0);
    bench.out(0x61, 1);
    runTo(20);
    expect(bench.in(0x61) & 0x20).toBe(0);
    runTo(21);
    expect(bench.in(0x61) & 0x20).toBe(0x20);
  });

  it('stops mode 3 with the output high, and starts it over', () => {
    bench.out(0x61, 1);
    program(2, 3, 10);
    runTo(8);
    expect(bench.in(0x61) & 0x20).toBe(0);
    bench.out(0x61, 0);
    expect(bench.in(0x61) & 0x20).toBe(0x20);
    bench.out(0x61, 1);
    runTo(9);
    expect(count(2)).toBe(10);
  });
});

describe('reading', () => {
  it('a latched count stays until read', () => {
    program(0, 2, 1000);
    runTo(11);
    bench.out(0x43, 0x00);
    runTo(500);
    bench.out(0x43, 0x00);
    expect(count(0)).toBe(990);
    expect(count(0)).toBe(501);
  });

  it('the read-back command latches several counts and states', () => {
    program(0, 2, 1000);
    program(2, 3, 7);
    runTo(1);
    bench.out(0x43, 0xc2 | 8);
    runTo(2);
    expect([bench.in(0x40), count(0)]).toEqual([0xb4, 1000]);
    expect(bench.in(0x42) & 0x3f).toBe(0x36);
  });

  it('the status tells when a count is not loaded yet', () => {
    bench.out(0x43, 0x34);
    bench.out(0x43, 0xe2);
    expect(bench.in(0x40)).toBe(0xf4);
    program(0, 2, 5);
    runTo(3);
    bench.out(0x43, 0xe2);
    expect(bench.in(0x40)).toBe(0xb4);
  });

  it.each([
    { name: 'low byte', control: 0x14, write: [0x12], read: [0x12, 0x12] },
    { name: 'high byte', control: 0x24, write: [0x12], read: [0x12, 0x12] },
    { name: 'both', control: 0x34, write: [0x34, 0x12], read: [0x34, 0x12] },
  ])('access mode: $name', ({ control, write, read }) => {
    bench.out(0x43, control);
    for (const byte of write) bench.out(0x40, byte);
    runTo(1);
    expect([bench.in(0x40), bench.in(0x40)]).toEqual(read);
  });
});

describe('IRQ 0', () => {
  it('rises each period in modes 2 and 3, and once in 0 and 4', () => {
    for (const [mode, edges] of [
      [2, 10],
      [3, 10],
      [0, 1],
      [4, 1],
    ]) {
      const start = ticksAt(bench.clock.time, PIT_HZ);
      program(0, mode, 100);
      irq0.edges = 0;
      runTo(start + 1005);
      expect([mode, irq0.edges]).toEqual([mode, edges]);
    }
  });

  it('comes once for all periods that were missed, then in phase', () => {
    program(0, 2, 100);
    irq0.edges = 0;
    bench.clock.time = nsOfTick(1050, PIT_HZ);
    pit.tick(bench.clock.time);
    expect(irq0.edges).toBe(1);
    expect(pit.nextDeadline()).toBe(nsOfTick(1101, PIT_HZ));
  });

  it('a new count in mode 2 takes over after the running period', () => {
    program(0, 2, 100);
    runTo(51);
    bench.out(0x40, 10);
    bench.out(0x40, 0);
    irq0.edges = 0;
    runTo(121);
    expect(irq0.edges).toBe(3);
    expect(count(0)).toBe(10);
  });

  it('has no deadline before a count is written, and after a one-shot', () => {
    expect(pit.nextDeadline()).toBe(Infinity);
    program(0, 0, 5);
    runTo(10);
    expect(pit.nextDeadline()).toBe(Infinity);
  });

  it('a snapshot goes on counting', () => {
    program(0, 3, 0x1234);
    runTo(77);
    const saved = JSON.parse(JSON.stringify(pit.save()));
    const deadline = pit.nextDeadline();
    pit.reset();
    expect(pit.nextDeadline()).toBe(Infinity);
    pit.load(saved);
    expect(pit.nextDeadline()).toBe(deadline);
  });
});

it('the refresh bit of port 61h toggles every 15 us', () => {
  const bits = [0, 16_000, 31_000].map((ns) => {
    bench.clock.time = ns;
    return (bench.in(0x61) >> 4) & 1;
  });
  expect(bits).toEqual([0, 1, 0]);
});
