import { execFileSync, spawn } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { I8042 } from '../../main/devices/i8042.ts';
import { Interrupts } from '../../main/devices/interrupts.ts';
import { Port92 } from '../../main/devices/port92.ts';
import { Bench } from '../unit/devices/chipset.ts';

/**
 * The interrupt controllers against QEMU's, which its test protocol drives without a processor. QEMU is left
 * out of what it does differently from the data sheets: ELCR changes under a request, non-specific EOI in
 * special mask mode, polls that find nothing, and reserved bits of redirection entries.
 */

interface Access {
  kind: 'out' | 'in' | 'poll' | 'store' | 'load';
  at: number;
  value?: number;
  /** Bits of what is read that must be the same. */
  mask?: number;
}

const SEED = 1;

let missing = '';
try {
  execFileSync('qemu-system-x86_64', ['-version'], { stdio: 'ignore' });
} catch {
  missing = ': qemu-system-x86_64 is not installed';
}

/** What QEMU reads, -1 for each write. */
function askQemu(accesses: readonly Access[]): Promise<number[]> {
  const machine = ['-machine', 'pc', '-accel', 'tcg', '-S', '-m', '64', '-nodefaults', '-display', 'none'];
  const child = spawn('qemu-system-x86_64', [...machine, '-qtest', 'stdio', '-qtest-log', '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const verbs = { out: 'outb', in: 'inb', poll: 'inb', store: 'writel', load: 'readl' };
  const lines = accesses.map(({ kind, at, value }) => `${verbs[kind]} ${at} ${value ?? ''}`.trim());
  return new Promise((resolve, reject) => {
    const answers: number[] = [];
    let rest = '';
    child.on('error', reject);
    child.on('exit', () => resolve(answers));
    child.stdout.on('data', (text: Buffer) => {
      const [...complete] = (rest + text.toString()).split('\n');
      rest = complete.pop()!;
      for (const line of complete) answers.push(line === 'OK' ? -1 : Number(line.split(' ')[1]));
      if (answers.length >= accesses.length) child.kill();
    });
    child.stdin.on('error', reject);
    child.stdin.write(lines.join('\n') + '\n');
  });
}

function askOurs(accesses: readonly Access[]): number[] {
  const bench = new Bench();
  const { arena, clock, ports, mmio, power } = bench;
  const signal = { notify: () => undefined };
  const interrupts = new Interrupts(arena, { vcpus: 1, clock, signal, tsc: { nsAt: () => 0 } });
  interrupts.attach(ports, mmio);
  const a20 = new Port92(arena, power);
  new I8042(arena, { irq1: interrupts.isa(1), irq12: interrupts.isa(12), a20, power }).attach(ports);
  return accesses.map(({ kind, at, value = 0 }) => {
    if (kind === 'out') bench.out(at, value);
    else if (kind === 'store') bench.store(at, value);
    else return kind === 'load' ? bench.load(at) : bench.in(at);
    return -1;
  });
}

/** The first access at which the two differ, with those before it. */
function difference(
  accesses: readonly Access[],
  qemu: readonly number[],
  ours: readonly number[],
): string | null {
  const at = accesses.findIndex(({ kind, mask = 0xffffffff }, index) => {
    if (kind === 'out' || kind === 'store') return false;
    // A poll that finds nothing has bit 7 clear; the rest of it means nothing.
    if (kind === 'poll' && ((qemu[index] | ours[index]) & 0x80) === 0) return false;
    return ((qemu[index] ^ ours[index]) & mask) !== 0;
  });
  if (at < 0) return null;
  const before = accesses.slice(Math.max(0, at - 20), at + 1).map((one) => JSON.stringify(one));
  return `access ${at}: QEMU ${qemu[at]}, ours ${ours[at]}, after\n${before.join('\n')}`;
}

function random(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Programs one 8259 at random and raises its input 1 (master) or 4 (slave) through the keyboard controller. */
function picAccesses(slave: boolean, seed: number): Access[] {
  const below = random(seed);
  const list: Access[] = [];
  const out = (at: number, value: number): unknown => list.push({ kind: 'out', at, value });
  const read = (at: number, mask = 0xff): unknown => list.push({ kind: 'in', at, mask });
  const base = slave ? 0xa0 : 0x20;
  const icw4 = seed % 3 === 0 ? 0x03 : 0x01;
  const initialise = (): void => {
    for (const [port, vector, cascade] of [
      [0x20, 0x20, 0x04],
      [0xa0, 0x28, 0x02],
    ]) {
      out(port, 0x11);
      out(port + 1, vector);
      out(port + 1, cascade);
      out(port + 1, icw4);
    }
    out(slave ? 0x21 : 0xa1, 0xff);
  };
  out(0x64, 0x60);
  out(0x60, 0x47);
  for (let i = 0; i < 3; i++) read(0x60, 0);
  out(0x4d0, 0);
  out(0x4d1, 0);
  initialise();
  let raised = false;
  for (let step = 0; step < 500; step++) {
    const level = below(8);
    switch (below(5)) {
      case 0:
        out(base + 1, below(256) & below(256));
        break;
      case 1:
        out(base, [0x20, 0x60 | level, 0xa0, 0xe0 | level, 0xc0 | level, 0x40, 0x80, 0x00][below(8)]);
        break;
      case 2:
        out(base, 0x0c);
        list.push({ kind: 'poll', at: base, mask: 0xff });
        break;
      case 3:
        if (raised) read(0x60, 0);
        else {
          out(0x64, slave ? 0xd3 : 0xd2);
          out(0x60, step & 0xff);
        }
        raised = !raised;
        break;
      case 4:
        if (below(30) === 0) initialise();
        break;
    }
    // The master's request of the cascade follows the slave's INT here, and is remembered there.
    out(base, 0x0a);
    read(base, slave ? 0xff : 0xfb);
    out(base, 0x0b);
    read(base);
    read(base + 1);
  }
  return list;
}

function ioapicAccesses(seed: number): Access[] {
  const below = random(seed);
  const list: Access[] = [];
  for (let step = 0; step < 3000; step++) {
    const register = below(3) > 0 ? 0x10 + below(48) : below(3);
    list.push({ kind: 'store', at: 0xfec00000, value: register });
    if (below(2) === 0) list.push({ kind: 'store', at: 0xfec00010, value: below(2 ** 32) });
    const entry = (register & 1) === 0 ? 0x1ffff : 0xff000000;
    list.push({ kind: 'load', at: 0xfec00010, mask: register < 0x10 ? 0xffffffff : entry });
  }
  return list;
}

describe.skipIf(missing !== '')(`the chipset and QEMU's (seed ${SEED})${missing}`, () => {
  const cases = [
    { name: 'master 8259', make: (seed: number) => picAccesses(false, seed) },
    { name: 'slave 8259', make: (seed: number) => picAccesses(true, seed) },
    { name: 'I/O APIC', make: (seed: number) => ioapicAccesses(seed) },
  ];
  it.each(cases)('$name', async ({ make }) => {
    for (let seed = SEED; seed < SEED + 3; seed++) {
      const accesses = make(seed);
      const [qemu, ours] = [await askQemu(accesses), askOurs(accesses)];
      expect(qemu.length).toBe(accesses.length);
      expect(difference(accesses, qemu, ours)).toBe(null);
    }
  });
});
