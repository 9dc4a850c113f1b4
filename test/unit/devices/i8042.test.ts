import { beforeEach, describe, expect, it, test } from 'vitest';
import { I8042 } from '../../../main/devices/i8042.ts';
import { Port92 } from '../../../main/devices/port92.ts';
import { Bench, type TestLine } from './chipset.ts';

let bench: Bench;
let irq1: TestLine;
let irq12: TestLine;
let port92: Port92;
let i8042: I8042;

beforeEach(() => {
  bench = new Bench();
  irq1 = bench.line();
  irq12 = bench.line();
  port92 = new Port92(bench.arena, bench.power);
  port92.attach(bench.ports);
  i8042 = new I8042(bench.arena, { irq1, irq12, a20: port92, power: bench.power });
  i8042.attach(bench.ports);
});

/** All that waits in the output buffer, as hexadecimal bytes; those of the mouse with an m. */
function drain(): string {
  const bytes: string[] = [];
  while ((bench.in(0x64) & 1) !== 0 && bytes.length < 300) {
    const mouse = (bench.in(0x64) & 0x20) !== 0 ? 'm' : '';
    bytes.push(mouse + bench.in(0x60).toString(16).padStart(2, '0'));
  }
  return bytes.join(' ');
}

function config(value: number): void {
  bench.out(0x64, 0x60);
  bench.out(0x60, value);
}

/** Sends command bytes to the keyboard, or through D4h to the mouse. */
function send(to: 'keyboard' | 'mouse', ...bytes: number[]): void {
  for (const byte of bytes) {
    if (to === 'mouse') bench.out(0x64, 0xd4);
    bench.out(0x60, byte);
  }
}

const commands: { name: string; command: number; wanted: string }[] = [
  { name: 'self test', command: 0xaa, wanted: '55' },
  { name: 'keyboard interface test', command: 0xab, wanted: '00' },
  { name: 'mouse interface test', command: 0xa9, wanted: '00' },
  { name: 'password', command: 0xa4, wanted: 'f1' },
  { name: 'configuration', command: 0x20, wanted: '65' },
  { name: 'RAM', command: 0x3f, wanted: '00' },
  { name: 'input port', command: 0xc0, wanted: '80' },
  { name: 'output port', command: 0xd0, wanted: 'cf' },
  { name: 'test inputs', command: 0xe0, wanted: '03' },
  { name: 'unknown', command: 0xb8, wanted: '' },
];

describe('controller commands', () => {
  test.each(commands)('$name', ({ command, wanted }) => {
    bench.out(0x64, command);
    expect(drain()).toBe(wanted);
    expect([irq1.edges, irq12.edges]).toEqual([0, 0]);
  });

  it('RAM holds what is written', () => {
    bench.out(0x64, 0x75);
    bench.out(0x60, 0x5a);
    bench.out(0x64, 0x35);
    expect(drain()).toBe('5a');
  });

  it('status tells who wrote last', () => {
    bench.out(0x64, 0xa8);
    expect(bench.in(0x64)).toBe(0x1c);
    bench.out(0x60, 0xee);
    expect(bench.in(0x64)).toBe(0x15);
  });

  it('D2 and D3 put bytes into the output buffer as if typed or moved', () => {
    config(0x47);
    bench.out(0x64, 0xd2);
    bench.out(0x60, 0x42);
    expect([irq1.edges, drain(), irq1.level]).toEqual([1, '42', false]);
    bench.out(0x64, 0xd3);
    bench.out(0x60, 0x43);
    expect([irq12.edges, drain()]).toEqual([1, 'm43']);
  });

  it('A20 by its own commands, by the output port and by port 92h', () => {
    const seen: boolean[] = [];
    const after = (port: number, value: number): void => {
      bench.out(port, value);
      seen.push(port92.a20);
    };
    after(0x64, 0xdd);
    after(0x64, 0xdf);
    bench.out(0x64, 0xd1);
    after(0x60, 0xdd);
    after(0x92, 0x02);
    after(0x92, 0x00);
    expect(seen).toEqual([false, true, false, true, false]);
    bench.out(0x64, 0xd0);
    expect(drain()).toBe('dd');
  });

  it.each([
    { name: 'pulse of the reset line', writes: [[0x64, 0xfe]], wanted: 1 },
    { name: 'pulse of nothing', writes: [[0x64, 0xff]], wanted: 0 },
    { name: 'output port', writes: [[0x64, 0xd1], [0x60, 0xfe]], wanted: 1 }, // prettier-ignore
    { name: 'port 92h', writes: [[0x92, 0x03]], wanted: 1 },
    { name: 'port 92h, only when it rises', writes: [[0x92, 0x01], [0x92, 0x01]], wanted: 1 }, // prettier-ignore
  ])('reset: $name', ({ writes, wanted }) => {
    for (const [port, value] of writes) bench.out(port, value);
    expect(bench.power.asked.length).toBe(wanted);
  });
});

const keyboard: { name: string; bytes: number[]; wanted: string }[] = [
  { name: 'reset', bytes: [0xff], wanted: 'fa aa' },
  { name: 'identify', bytes: [0xf2], wanted: 'fa ab 83' },
  { name: 'echo', bytes: [0xee], wanted: 'ee' },
  { name: 'LEDs', bytes: [0xed, 0x07], wanted: 'fa' },
  { name: 'typematic rate', bytes: [0xf3, 0x20], wanted: 'fa' },
  { name: 'scan code set asked for', bytes: [0xf0, 0x00], wanted: 'fa 02' },
  { name: 'scan code set 1', bytes: [0xf0, 0x01], wanted: 'fa' },
  { name: 'scan code set 3, which it has not', bytes: [0xf0, 0x03], wanted: 'fe' },
  { name: 'disable', bytes: [0xf5], wanted: 'fa' },
  { name: 'resend', bytes: [0xee], wanted: 'ee' },
  { name: 'unknown', bytes: [0x05], wanted: 'fe' },
  { name: 'a command instead of a parameter', bytes: [0xed, 0xf4], wanted: 'fa' },
];

describe('keyboard commands', () => {
  test.each(keyboard)('$name', ({ bytes, wanted }) => {
    config(0x05);
    bytes.slice(0, -1).forEach((byte) => {
      send('keyboard', byte);
      drain();
    });
    send('keyboard', bytes[bytes.length - 1]);
    // Only the answer to the last byte counts; parameters are acknowledged one by one.
    expect(drain()).toBe(wanted);
  });

  it('the identification is translated, as controllers do', () => {
    send('keyboard', 0xf2);
    expect(drain()).toBe('fa ab 41');
  });

  it('remembers the LEDs, and sends its last byte again', () => {
    send('keyboard', 0xed, 0x05);
    expect(i8042.keyboard.leds).toBe(5);
    drain();
    send('keyboard', 0xfe);
    expect(drain()).toBe('fa');
  });
});

const keys: { name: string; config: number; keys: [number, boolean][]; wanted: string }[] = [
  { name: 'A in set 2', config: 0x05, keys: [[0x1c, true], [0x1c, false]], wanted: '1c f0 1c' }, // prettier-ignore
  { name: 'A translated', config: 0x45, keys: [[0x1c, true], [0x1c, false]], wanted: '1e 9e' }, // prettier-ignore
  { name: 'right arrow', config: 0x05, keys: [[0xe074, true], [0xe074, false]], wanted: 'e0 74 e0 f0 74' }, // prettier-ignore
  { name: 'right arrow translated', config: 0x45, keys: [[0xe074, true], [0xe074, false]], wanted: 'e0 4d e0 cd' }, // prettier-ignore
  { name: 'F7 translated', config: 0x45, keys: [[0x83, true], [0x83, false]], wanted: '41 c1' }, // prettier-ignore
  { name: 'keyboard off', config: 0x55, keys: [[0x1c, true]], wanted: '' },
];

describe('keys', () => {
  test.each(keys)('$name', ({ config: value, keys: pressed, wanted }) => {
    config(value);
    for (const [code, down] of pressed) expect(i8042.key(code, down)).toBe(true);
    expect(drain()).toBe(wanted);
  });

  it('each byte is an interrupt of its own', () => {
    i8042.key(0x1c, true);
    i8042.key(0x1c, false);
    expect(irq1.edges).toBe(1);
    bench.in(0x60);
    expect(irq1.edges).toBe(2);
    bench.in(0x60);
    expect([irq1.edges, irq1.level]).toEqual([2, false]);
  });

  it('the queue is bounded, and a key comes whole or not at all', () => {
    config(0x05);
    const taken = Array.from({ length: 100 }, () => i8042.key(0xe074, false));
    const codes = drain().split(' ');
    expect(codes.length).toBe(3 * taken.filter(Boolean).length);
    expect(codes.length).toBeLessThan(100);
    expect(i8042.key(0x1c, true)).toBe(true);
  });

  it('scanning off forgets them', () => {
    send('keyboard', 0xf5);
    drain();
    expect([i8042.key(0x1c, true), drain()]).toEqual([false, '']);
  });
});

const mouse: { name: string; bytes: number[]; wanted: string }[] = [
  { name: 'reset', bytes: [0xff], wanted: 'mfa maa m00' },
  { name: 'identify', bytes: [0xf2], wanted: 'mfa m00' },
  { name: 'status', bytes: [0xe9], wanted: 'mfa m00 m02 m64' },
  { name: 'status after settings', bytes: [0xe8, 3, 0xf3, 40, 0xe7, 0xf4, 0xe9], wanted: 'mfa m30 m03 m28' },
  { name: 'wheel', bytes: [0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2], wanted: 'mfa m03' },
  { name: 'wrap', bytes: [0xee, 0x42], wanted: 'm42' },
  { name: 'data asked for', bytes: [0xeb], wanted: 'mfa m08 m00 m00' },
  { name: 'unknown', bytes: [0x05], wanted: 'mfe' },
];

describe('mouse', () => {
  beforeEach(() => config(0x47));

  test.each(mouse)('$name', ({ bytes, wanted }) => {
    bytes.slice(0, -1).forEach((byte) => {
      send('mouse', byte);
      drain();
    });
    send('mouse', bytes[bytes.length - 1]);
    expect(drain()).toBe(wanted);
    expect(irq12.edges).toBeGreaterThan(0);
    expect(irq1.edges).toBe(0);
  });

  it('reports movements, with signs, in several reports when far', () => {
    i8042.move(5, 5, 0, 0);
    expect(drain()).toBe('');
    send('mouse', 0xf5, 0xf4);
    drain();
    i8042.move(5, 3, 0, 1);
    expect(drain()).toBe('m19 m0a mf8'.replace('m19', 'm29'));
    i8042.move(-300, 0, 0, 0);
    i8042.move(0, 0, 0, 0);
    expect(drain()).toBe('m18 m01 m00 m18 md3 m00');
  });

  it('the queue is bounded, and movements are added up', () => {
    send('mouse', 0xf4);
    drain();
    for (let i = 0; i < 1000; i++) i8042.move(1, 0, 0, 0);
    const bytes = drain().split(' ').length;
    expect(bytes).toBeLessThan(100);
    i8042.move(0, 0, 0, 0);
    expect(drain()).toBe('m08 mff m00');
  });

  it('a snapshot holds controller, keyboard and mouse', () => {
    i8042.key(0x1c, true);
    const parts = [i8042, i8042.keyboard, i8042.mouse];
    const saved = JSON.parse(JSON.stringify(parts.map((part) => part.save())));
    i8042.reset();
    expect(drain()).toBe('');
    parts.forEach((part, index) => part.load(saved[index]));
    expect(drain()).toBe('1e');
  });
});
