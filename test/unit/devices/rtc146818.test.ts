import { beforeEach, describe, expect, it, test } from 'vitest';
import { Rtc146818 } from '../../../main/devices/rtc146818.ts';
import { Bench, type TestLine } from './chipset.ts';

const MiB = 2 ** 20;
const SECOND = 1e9;

let bench: Bench;
let irq8: TestLine;
let rtc: Rtc146818;

function build(time: string, ramBelow4G = 256 * MiB, ramAbove4G = 0): void {
  bench = new Bench();
  irq8 = bench.line();
  const unixSeconds = Date.parse(time) / 1000;
  rtc = new Rtc146818(bench.arena, bench.clock, irq8, { unixSeconds, ramBelow4G, ramAbove4G });
  rtc.attach(bench.ports);
}

beforeEach(() => build('2026-11-22T17:59:58Z'));

function get(index: number): number {
  bench.out(0x70, index);
  return bench.in(0x71);
}

function set(index: number, value: number): void {
  bench.out(0x70, index);
  bench.out(0x71, value);
}

/** Turns the clock, serving what is due on the way. */
function advance(ns: number): void {
  const until = bench.clock.time + ns;
  while (rtc.nextDeadline() <= until) {
    bench.clock.time = rtc.nextDeadline();
    rtc.tick(bench.clock.time);
  }
  bench.clock.time = until;
}

/** Century, year, month, day, weekday, hours, minutes, seconds: hexadecimal digits. */
function time(): string {
  return [0x32, 9, 8, 7, 6, 4, 2, 0].map((index) => get(index).toString(16).padStart(2, '0')).join(' ');
}

const calendar: { name: string; start: string; seconds: number; wanted: string }[] = [
  { name: 'at power-on', start: '2026-11-22T17:59:58Z', seconds: 0, wanted: '20 26 11 22 01 17 59 58' },
  { name: 'an hour turns', start: '2026-11-22T17:59:58Z', seconds: 2, wanted: '20 26 11 22 01 18 00 00' },
  { name: 'a year turns', start: '2026-12-31T23:59:59Z', seconds: 1, wanted: '20 27 01 01 06 00 00 00' },
  { name: 'a leap day', start: '2028-02-28T23:59:59Z', seconds: 1, wanted: '20 28 02 29 03 00 00 00' },
  { name: 'a century turns', start: '2099-12-31T23:59:59Z', seconds: 1, wanted: '21 00 01 01 06 00 00 00' },
  {
    name: 'days unseen',
    start: '2026-11-22T00:00:00Z',
    seconds: 10 * 86400 + 61,
    wanted: '20 26 12 02 04 00 01 01',
  },
];

describe('time', () => {
  test.each(calendar)('$name', ({ start, seconds, wanted }) => {
    build(start);
    bench.clock.time = seconds * SECOND + 5;
    expect(time()).toBe(wanted);
  });

  it('binary and twelve hours', () => {
    set(0x0b, 0x84);
    [20, 26, 11, 22, 1, 0x8b, 59, 59].forEach((value, at) => set([0x32, 9, 8, 7, 6, 4, 2, 0][at], value));
    set(0x0b, 0x04);
    advance(SECOND);
    expect(time()).toBe('14 1a 0b 17 02 0c 00 00');
    advance(12 * 3600 * SECOND);
    expect(get(4)).toBe(0x8c);
  });

  it('stands still while SET, and goes on at the next whole second', () => {
    set(0x0b, 0x82);
    advance(3.5 * SECOND);
    expect(get(0)).toBe(0x58);
    set(0, 0x10);
    set(0x0b, 0x02);
    advance(0.4 * SECOND);
    expect(get(0)).toBe(0x10);
    advance(0.2 * SECOND);
    expect(get(0)).toBe(0x11);
  });

  it('begins half a second after the divider chain is let go', () => {
    set(0x0a, 0x76);
    advance(10.3 * SECOND);
    expect(get(0)).toBe(0x58);
    set(0x0a, 0x26);
    advance(0.49 * SECOND);
    expect(get(0)).toBe(0x58);
    advance(0.02 * SECOND);
    expect(get(0)).toBe(0x59);
  });

  it('shows an update in progress just before each second', () => {
    const seen = [0, 0.5, 0.9977, 0.9978, 0.99999, 1].map((at) => {
      bench.clock.time = at * SECOND;
      return get(0x0a);
    });
    expect(seen).toEqual([0x26, 0x26, 0x26, 0xa6, 0xa6, 0x26]);
    set(0x0b, 0x82);
    bench.clock.time = 1.9999 * SECOND;
    expect(get(0x0a)).toBe(0x26);
  });

  it('survives what no calendar has', () => {
    for (const index of [0, 2, 4, 6, 7, 8, 9, 0x32]) set(index, 0xff);
    advance(100 * 86400 * SECOND);
    expect(get(0)).toBeLessThan(0x60);
  });
});

describe('interrupts', () => {
  it('update-ended: each second, acknowledged by reading C', () => {
    set(0x0b, 0x12);
    advance(SECOND);
    expect(irq8.level).toBe(true);
    expect([get(0x0c), get(0x0c)]).toEqual([0xd0, 0]);
    expect(irq8.level).toBe(false);
    advance(SECOND);
    expect(irq8.edges).toBe(2);
  });

  it('flags are set without enables, and raise the line when enabled', () => {
    advance(1.5 * SECOND);
    expect(irq8.level).toBe(false);
    set(0x0b, 0x12);
    expect([irq8.level, get(0x0c)]).toEqual([true, 0xd0]);
    expect([irq8.level, get(0x0c)]).toEqual([false, 0]);
  });

  it.each([
    { rate: 6, hz: 1024 },
    { rate: 15, hz: 2 },
    { rate: 3, hz: 8192 },
    { rate: 1, hz: 256 },
    { rate: 2, hz: 128 },
    { rate: 0, hz: 0 },
  ])('periodic: rate $rate is $hz Hz', ({ rate, hz }) => {
    set(0x0a, 0x20 | rate);
    set(0x0b, 0x42);
    let edges = 0;
    const until = bench.clock.time + SECOND;
    while (rtc.nextDeadline() <= until) {
      bench.clock.time = rtc.nextDeadline();
      rtc.tick(bench.clock.time);
      expect(get(0x0c)).toBe(0xc0 | (edges === hz - 1 ? 0x10 : 0));
      edges++;
    }
    expect(edges).toBe(hz);
  });

  it('unacknowledged, a periodic interrupt stays one', () => {
    set(0x0b, 0x42);
    advance(SECOND / 2);
    expect(irq8.edges).toBe(1);
    expect(rtc.nextDeadline()).toBe(Infinity);
    get(0x0c);
    advance(SECOND / 1000);
    expect(irq8.edges).toBe(2);
  });

  const alarms: { name: string; alarm: [number, number, number]; seconds: number }[] = [
    { name: 'exact, today', alarm: [0x18, 0x00, 0x05], seconds: 7 },
    { name: 'exact, tomorrow', alarm: [0x17, 0x59, 0x58], seconds: 86400 },
    { name: 'each second', alarm: [0xff, 0xff, 0xff], seconds: 1 },
    { name: 'each minute', alarm: [0xc0, 0xc0, 0x30], seconds: 32 },
    { name: 'each hour', alarm: [0xff, 0x58, 0x00], seconds: 3482 },
    { name: 'any second of a minute', alarm: [0x18, 0x01, 0xff], seconds: 62 },
  ];
  test.each(alarms)('alarm: $name', ({ alarm: [hours, minutes, seconds], seconds: wanted }) => {
    set(5, hours);
    set(3, minutes);
    set(1, seconds);
    set(0x0b, 0x22);
    expect(rtc.nextDeadline()).toBe(wanted * SECOND);
    advance(wanted * SECOND);
    expect(get(0x0c) & 0xa0).toBe(0xa0);
  });

  it('an alarm at no time of day never comes', () => {
    set(5, 0x77);
    set(0x0b, 0x22);
    expect(rtc.nextDeadline()).toBe(Infinity);
  });
});

describe('CMOS', () => {
  it.each([
    { name: '16 MiB', below: 16 * MiB, above: 0, wanted: [0x3c00, 0x3c00, 0, 0] },
    { name: '256 MiB', below: 256 * MiB, above: 0, wanted: [0xffff, 0xffff, 0x0f00, 0] },
    { name: '6 GiB', below: 3072 * MiB, above: 3072 * MiB, wanted: [0xffff, 0xffff, 0xbf00, 0xc000] },
  ])('tells the memory: $name', ({ below, above, wanted }) => {
    build('2026-01-01T00:00:00Z', below, above);
    const word = (at: number): number => get(at) | (get(at + 1) << 8);
    const told = [word(0x17), word(0x30), word(0x34), word(0x5b) | (get(0x5d) << 16)];
    expect(word(0x15)).toBe(640);
    expect(told).toEqual(wanted);
  });

  it('keeps bytes in both banks, over a reset too', () => {
    set(0x0f, 0x0a);
    set(0x7f, 0x55);
    bench.out(0x72, 0x7f);
    bench.out(0x73, 0xaa);
    set(0x0b, 0x72);
    rtc.reset();
    bench.out(0x72, 0x7f);
    expect([get(0x0f), get(0x7f), bench.in(0x73), get(0x0b), get(0x0d)]).toEqual([
      0x0a, 0x55, 0xaa, 0x02, 0x80,
    ]);
  });

  it('masks NMI by bit 7 of the index', () => {
    bench.out(0x70, 0x8f);
    expect(rtc.nmiMasked).toBe(true);
    get(0x0f);
    expect(rtc.nmiMasked).toBe(false);
  });

  it('a snapshot goes on', () => {
    set(0x0b, 0x72);
    advance(1.25 * SECOND);
    const saved = JSON.parse(JSON.stringify(rtc.save()));
    const before = [time(), rtc.nextDeadline()];
    build('1999-01-01T00:00:00Z');
    bench.clock.time = 1.25 * SECOND;
    rtc.load(saved);
    expect([time(), rtc.nextDeadline()]).toEqual(before);
  });
});
