import { beforeEach, describe, expect, it, test } from 'vitest';
import { Pic8259 } from '../../../main/devices/pic8259.ts';
import { Bench, type TestLine } from './chipset.ts';

let bench: Bench;
let int: TestLine;
let pic: Pic8259;

beforeEach(() => {
  bench = new Bench();
  int = bench.line();
  pic = new Pic8259(bench.arena, int);
  pic.attach(bench.ports);
});

/** Vectors 20h and 28h, cascaded, everything unmasked. */
function initialise(icw4 = 0x01): void {
  for (const [base, icw2, icw3] of [
    [0x20, 0x20, 0x04],
    [0xa0, 0x28, 0x02],
  ]) {
    bench.out(base, 0x11);
    bench.out(base + 1, icw2);
    bench.out(base + 1, icw3);
    bench.out(base + 1, icw4);
    bench.out(base + 1, 0x00);
  }
}

function raise(irq: number): void {
  pic.line(irq).set(true);
}

function pulse(irq: number): void {
  pic.line(irq).set(true);
  pic.line(irq).set(false);
}

const order: { name: string; icw4?: number; before?: () => void; raised: number[]; wanted: number[] }[] = [
  { name: 'one of the master', raised: [3], wanted: [0x23] },
  { name: 'one of the slave', raised: [12], wanted: [0x2c] },
  { name: 'by priority, the slave between 1 and 3', raised: [3, 1, 15, 8], wanted: [0x21, 0x28, 0x2f, 0x23] },
  { name: 'nothing: the spurious one', raised: [], wanted: [0x27] },
  { name: 'masked', before: () => bench.out(0x21, 0x08), raised: [3, 5], wanted: [0x25] },
  {
    name: 'after rotation, 4 is first',
    before: () => bench.out(0x20, 0xc3),
    raised: [0, 3, 4],
    wanted: [0x24, 0x20, 0x23],
  },
];

describe('acknowledge, with an end of interrupt after each', () => {
  test.each(order)('$name', ({ before, raised, wanted }) => {
    initialise();
    before?.();
    for (const irq of raised) pulse(irq);
    const got = wanted.map(() => {
      const vector = pic.acknowledge();
      if (vector >= 0x28) bench.out(0xa0, 0x20);
      bench.out(0x20, 0x20);
      return vector;
    });
    expect(got).toEqual(wanted);
    expect(pic.output).toBe(false);
  });
});

describe('priorities', () => {
  it('keep lower requests out until the end of interrupt', () => {
    initialise();
    raise(4);
    expect(pic.acknowledge()).toBe(0x24);
    raise(6);
    expect(int.level).toBe(false);
    raise(1);
    expect(int.level).toBe(true);
    expect(pic.acknowledge()).toBe(0x21);
    bench.out(0x20, 0x20);
    expect(int.level).toBe(false);
    bench.out(0x20, 0x20);
    expect(int.level).toBe(true);
    expect(pic.acknowledge()).toBe(0x26);
  });

  it('special mask mode lets lower ones through the masked one in service', () => {
    initialise();
    raise(1);
    pic.acknowledge();
    raise(5);
    bench.out(0x21, 0x02);
    expect(pic.output).toBe(false);
    bench.out(0x20, 0x68);
    expect(pic.acknowledge()).toBe(0x25);
    bench.out(0x20, 0x48);
    bench.out(0x20, 0x61);
    bench.out(0x20, 0x65);
    bench.out(0x20, 0x0b);
    expect(bench.in(0x20)).toBe(0);
  });

  it('special fully nested mode lets a higher one of the slave through', () => {
    for (const [icw4, wanted] of [
      [0x01, false],
      [0x11, true],
    ] as const) {
      initialise(icw4);
      pulse(12);
      pic.acknowledge();
      pulse(8);
      expect(pic.output).toBe(wanted);
      pic.reset();
    }
  });

  it('automatic EOI leaves nothing in service, and rotates when told', () => {
    initialise(0x03);
    bench.out(0x20, 0x80);
    pulse(0);
    expect(pic.acknowledge()).toBe(0x20);
    pulse(0);
    pulse(1);
    expect(pic.acknowledge()).toBe(0x21);
    bench.out(0x20, 0x0b);
    expect(bench.in(0x20)).toBe(0);
  });

  it('rotation on EOI makes the served one the lowest', () => {
    initialise();
    raise(0);
    pic.acknowledge();
    bench.out(0x20, 0xa0);
    pulse(1);
    pic.line(0).set(false);
    raise(0);
    expect(pic.acknowledge()).toBe(0x21);
  });
});

describe('triggers', () => {
  it('an edge is one request, however long it lasts', () => {
    initialise();
    raise(5);
    pic.acknowledge();
    bench.out(0x20, 0x20);
    expect(pic.output).toBe(false);
  });

  it('a level asks again until it falls', () => {
    initialise();
    bench.out(0x4d0, 0xff);
    expect(bench.in(0x4d0)).toBe(0xf8);
    raise(5);
    pic.acknowledge();
    bench.out(0x20, 0x20);
    expect(pic.output).toBe(true);
    pic.line(5).set(false);
    expect(pic.output).toBe(false);
    expect(pic.acknowledge()).toBe(0x27);
  });

  it('a level of the slave that falls too early ends as its spurious interrupt', () => {
    initialise();
    raise(10);
    bench.out(0xa1, 0xff);
    expect(pic.output).toBe(false);
    bench.out(0xa1, 0x00);
    expect(pic.acknowledge()).toBe(0x2a);
  });

  it('the ELCR takes only what can be level-triggered, and starts as firmware leaves it', () => {
    expect([bench.in(0x4d0), bench.in(0x4d1)]).toEqual([0x00, 0x0e]);
    bench.out(0x4d0, 0xffff, 2);
    expect([bench.in(0x4d0), bench.in(0x4d1)]).toEqual([0xf8, 0xde]);
  });
});

describe('registers', () => {
  it('masks read back, as guests probe the chip', () => {
    bench.out(0x21, 0xfb);
    bench.out(0xa1, 0x55);
    expect([bench.in(0x21), bench.in(0xa1)]).toEqual([0xfb, 0x55]);
  });

  it('the command port shows requests or what is in service', () => {
    initialise();
    raise(3);
    raise(4);
    pic.acknowledge();
    expect(bench.in(0x20)).toBe(0x10);
    bench.out(0x20, 0x0b);
    expect(bench.in(0x20)).toBe(0x08);
    bench.out(0x20, 0x0a);
    expect(bench.in(0x20)).toBe(0x10);
  });

  it('a poll acknowledges', () => {
    initialise();
    raise(6);
    bench.out(0x20, 0x0c);
    expect(bench.in(0x20)).toBe(0x86);
    bench.out(0x20, 0x0b);
    expect(bench.in(0x20)).toBe(0x40);
    bench.out(0x20, 0x0c);
    expect(bench.in(0x20)).toBe(0x07);
  });

  it('single mode needs no ICW3, and no ICW4 when not announced', () => {
    bench.out(0x20, 0x12);
    bench.out(0x21, 0x40);
    bench.out(0x21, 0xa5);
    expect(bench.in(0x21)).toBe(0xa5);
  });

  it('a snapshot brings everything back', () => {
    initialise();
    raise(3);
    raise(9);
    pic.acknowledge();
    const saved = JSON.parse(JSON.stringify(pic.save()));
    const other = new Bench();
    const copy = new Pic8259(other.arena, other.line());
    copy.load(saved);
    expect(copy.save()).toEqual(saved);
    expect(() => copy.load({ ...saved, isr: [1] })).toThrow(/isr/);
  });
});
