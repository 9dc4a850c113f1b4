import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, test } from 'vitest';
import { AcpiPm, PM_TIMER_HZ } from '../../../main/devices/acpi-pm.ts';
import { buildAcpiTables } from '../../../main/devices/acpi-tables.ts';
import { eisaId, integer, list, memoryWindow, path, text } from '../../../main/devices/aml.ts';
import { Dma8237 } from '../../../main/devices/dma8237.ts';
import { ResetPort } from '../../../main/devices/reset-port.ts';
import { nsOfTick } from '../../../main/devices/ticks.ts';
import { Bench, type TestLine } from './chipset.ts';

let bench: Bench;

beforeEach(() => {
  bench = new Bench();
});

describe('power management', () => {
  let sci: TestLine;
  let pm: AcpiPm;

  beforeEach(() => {
    sci = bench.line();
    pm = new AcpiPm(bench.arena, bench.clock, sci, bench.power);
    pm.attach(bench.ports);
  });

  it('is switched on and off by the SMI command', () => {
    expect(bench.in(0x604, 2)).toBe(0);
    bench.out(0xb2, 0xf1);
    expect(bench.in(0x604, 2)).toBe(1);
    bench.out(0x604, 0, 2);
    expect(bench.in(0x604, 2)).toBe(1);
    bench.out(0xb2, 0xf0);
    expect([bench.in(0x604, 2), bench.in(0xb2)]).toEqual([0, 0xf0]);
  });

  it('the power button raises the SCI until acknowledged, when somebody listens', () => {
    expect(pm.pressPowerButton()).toBe(false);
    bench.out(0x600, 0xffff, 2);
    bench.out(0xb2, 0xf1);
    bench.out(0x602, 0x0100, 2);
    expect([sci.level, pm.pressPowerButton(), sci.level, bench.in(0x600, 2)]).toEqual([
      false,
      true,
      true,
      0x100,
    ]);
    bench.out(0x601, 0x01);
    expect([sci.level, bench.in(0x600, 2)]).toEqual([false, 0]);
  });

  it('status and enable can be reached together and byte by byte', () => {
    bench.out(0x600, 0x01210000, 4);
    expect([bench.in(0x600, 4), bench.in(0x602), bench.in(0x603)]).toEqual([0x01210000, 0x21, 0x01]);
    bench.out(0x603, 0x00);
    expect(bench.in(0x602, 2)).toBe(0x0021);
  });

  it('general-purpose events', () => {
    bench.out(0xb2, 0xf1);
    pm.raiseGpe(9);
    expect([sci.level, bench.in(0x620, 4)]).toEqual([false, 0x0200]);
    bench.out(0x622, 0x0200, 2);
    expect(sci.level).toBe(true);
    bench.out(0x621, 0x02);
    expect(sci.level).toBe(false);
  });

  it.each([
    { name: 'S5', value: 0x3400, asked: 1, status: 0 },
    { name: 'a state that is not there: awake at once', value: 0x2400, asked: 0, status: 0x8000 },
    { name: 'the type alone', value: 0x1400, asked: 0, status: 0 },
  ])('sleep: $name', ({ value, asked, status }) => {
    bench.out(0x604, value, 2);
    expect([bench.power.asked.length, bench.in(0x600, 2)]).toEqual([asked, status]);
  });

  it('the timer counts 32 bits and says when its highest bit changes', () => {
    bench.clock.time = nsOfTick(12345, PM_TIMER_HZ);
    expect([bench.in(0x608, 4), bench.in(0x609), bench.in(0x60a, 2)]).toEqual([12345, 12345 >> 8, 0]);
    bench.out(0xb2, 0xf1);
    bench.out(0x602, 0x0001, 2);
    const half = nsOfTick(2 ** 31, PM_TIMER_HZ);
    expect(pm.nextDeadline()).toBe(half);
    bench.clock.time = half;
    pm.tick(half);
    expect([sci.level, bench.in(0x608, 4), pm.nextDeadline()]).toEqual([true, 2 ** 31, Infinity]);
    bench.out(0x600, 0x0001, 2);
    expect([sci.level, pm.nextDeadline()]).toEqual([false, nsOfTick(2 ** 32, PM_TIMER_HZ)]);
    bench.clock.time = nsOfTick(2 ** 32 + 7, PM_TIMER_HZ);
    expect(bench.in(0x608, 4)).toBe(7);
  });

  it('reset and snapshot', () => {
    bench.clock.time = 1e12;
    bench.out(0xb2, 0xf1);
    bench.out(0x602, 0x0100, 2);
    pm.pressPowerButton();
    const saved = JSON.parse(JSON.stringify(pm.save()));
    pm.reset();
    expect([sci.level, bench.in(0x600, 4)]).toEqual([false, 0]);
    pm.load(saved);
    expect(bench.in(0x600, 4)).toBe(0x01000101);
  });
});

describe('reset port', () => {
  it.each([
    { name: 'as the FADT says', writes: [0x06], asked: 1 },
    { name: 'prepared, then done', writes: [0x02, 0x06], asked: 1 },
    { name: 'only prepared', writes: [0x02, 0x0a], asked: 0 },
    { name: 'held', writes: [0x0e, 0x0e], asked: 1 },
  ])('$name', ({ writes, asked }) => {
    new ResetPort(bench.arena, bench.power).attach(bench.ports);
    for (const value of writes) bench.out(0xcf9, value);
    expect([bench.power.asked.length, bench.in(0xcf9)]).toEqual([asked, writes[writes.length - 1]]);
  });
});

describe('DMA controllers', () => {
  let dma: Dma8237;

  beforeEach(() => {
    dma = new Dma8237(bench.arena);
    dma.attach(bench.ports);
  });

  it.each([
    { name: 'channel 2 address', port: 0x04, clear: 0x0c },
    { name: 'channel 3 count', port: 0x07, clear: 0x0c },
    { name: 'channel 5 address', port: 0xc4, clear: 0xd8 },
    { name: 'channel 7 count', port: 0xce, clear: 0xd8 },
  ])('$name keeps two bytes, low first', ({ port, clear }) => {
    bench.out(clear, 0);
    bench.out(port, 0x34);
    bench.out(port, 0x12);
    bench.out(clear, 0);
    expect([bench.in(port), bench.in(port), bench.in(port)]).toEqual([0x34, 0x12, 0x34]);
  });

  it('masks, requests and master clear', () => {
    const masks = [0x0e, 0x0f, 0x0d].map((port, step) => {
      bench.out(port, [0, 0x05, 0][step]);
      return bench.in(0x0f);
    });
    expect(masks).toEqual([0xf0, 0xf5, 0xff]);
    bench.out(0x0a, 0x02);
    expect(bench.in(0x0f)).toBe(0xfb);
    bench.out(0x09, 0x05);
    expect(bench.in(0x08)).toBe(0x20);
  });

  it('page registers keep their bytes; 80h is the POST code', () => {
    bench.out(0x80, 0x55);
    bench.out(0x8f, 0xaa);
    expect([dma.postCode, bench.in(0x80), bench.in(0x8f)]).toEqual([0x55, 0x55, 0xaa]);
  });
});

describe('AML', () => {
  const terms: { name: string; got: readonly number[]; wanted: string }[] = [
    { name: 'one segment', got: path('_HID'), wanted: '5f484944' },
    { name: 'a short one is padded', got: path('\\_SB'), wanted: '5c5f53425f' },
    { name: 'two segments', got: path('\\_SB.PCI0'), wanted: '5c2e5f53425f50434930' },
    { name: 'three segments', got: path('^A.B.C'), wanted: '5e2f03415f5f5f425f5f5f435f5f5f' },
    { name: 'the root', got: path('\\'), wanted: '5c00' },
    { name: 'EISA id', got: eisaId('PNP0A03'), wanted: '0c41d00a03' },
    { name: 'integers', got: list(0, 1, 0xff, 0x100, 0x10000, 2 ** 33), wanted: '1217060001' + '0aff' + '0b0001' + '0c00000100' + '0e0000000002000000' }, // prettier-ignore
    { name: 'text', got: text('hi'), wanted: '0d686900' },
    { name: 'a window above 4 GiB', got: memoryWindow(2 ** 32, 2 ** 33).slice(0, 3), wanted: '8a2b00' },
  ];
  test.each(terms)('$name', ({ got, wanted }) => expect(Buffer.from(got).toString('hex')).toBe(wanted));

  it.each([
    // Body: one byte for the number of elements and the element itself.
    { size: 61, wanted: '3f' },
    { size: 62, wanted: '4104' },
    { size: 4092, wanted: '4fff' },
    { size: 4093, wanted: '810001' },
    { size: 70000, wanted: '841711' },
  ])('the length of a package with $size bytes', ({ size, wanted }) => {
    const bytes = list(new Array<number>(size).fill(0));
    expect(Buffer.from(bytes.slice(1, 1 + wanted.length / 2)).toString('hex')).toBe(wanted);
  });

  it.each(['lower', '1ABC', 'TOOLONG', 'A-B'])('refuses the name %s', (name) => {
    expect(() => path(name)).toThrow(RangeError);
  });

  it.each([-1, 1.5, 2 ** 53, NaN])('refuses the integer %s', (value) => {
    expect(() => integer(value)).toThrow(RangeError);
  });
});

const OPTIONS = {
  vcpus: 3,
  ecam: 0xe0000000,
  pciMemory: { base: 0xc0000000, length: 0x20000000 },
  pciPorts: { base: 0xc000, length: 0x4000 },
  area: { base: 0xe0000, length: 0x20000 },
};

describe('tables', () => {
  const { rsdp, parts } = buildAcpiTables(OPTIONS);
  const memory = new Uint8Array(0x20000);
  for (const { address, bytes } of parts) memory.set(bytes, address - 0xe0000);
  const view = new DataView(memory.buffer);
  const u32 = (at: number): number => view.getUint32(at - 0xe0000, true);
  const u64 = (at: number): number => Number(view.getBigUint64(at - 0xe0000, true));
  const signature = (at: number): string =>
    Buffer.from(memory.slice(at - 0xe0000, at - 0xe0000 + 4)).toString();
  const sum = (at: number, length: number): number =>
    memory.slice(at - 0xe0000, at - 0xe0000 + length).reduce((total, byte) => (total + byte) & 0xff, 0);

  it('lead from the RSDP to each other, with right checksums', () => {
    expect([sum(rsdp, 20), sum(rsdp, 36)]).toEqual([0, 0]);
    const [rsdt, xsdt] = [u32(rsdp + 16), u64(rsdp + 24)];
    expect([signature(rsdt), signature(xsdt)]).toEqual(['RSDT', 'XSDT']);
    const tables = Array.from({ length: (u32(rsdt + 4) - 36) / 4 }, (_, index) => u32(rsdt + 36 + 4 * index));
    expect(tables.map((_, index) => u64(xsdt + 36 + 8 * index))).toEqual(tables);
    expect(tables.map(signature)).toEqual(['FACP', 'APIC', 'MCFG']);
    const [fadt] = tables;
    expect(u64(fadt + 140)).toBe(u32(fadt + 40));
    expect([signature(u32(fadt + 36)), signature(u32(fadt + 40))]).toEqual(['FACS', 'DSDT']);
    for (const table of [rsdt, xsdt, ...tables, u32(fadt + 40)]) expect(sum(table, u32(table + 4))).toBe(0);
    expect(u32(fadt + 36) % 64).toBe(0);
  });

  it('do not overlap, and stay in their area', () => {
    let end = OPTIONS.area.base;
    for (const { address, bytes } of parts) {
      expect(address).toBeGreaterThanOrEqual(end);
      end = address + bytes.length;
    }
    expect(() => buildAcpiTables({ ...OPTIONS, area: { base: 0xe0000, length: 0x400 } })).toThrow(
      /ACPI tables need/,
    );
    expect(buildAcpiTables({ ...OPTIONS, vcpus: 128 }).parts.length).toBe(parts.length);
  });
});

let missing = '';
try {
  execFileSync('iasl', ['-v'], { stdio: 'ignore' });
} catch {
  missing = ': iasl is not installed (Debian: acpica-tools)';
}

describe.skipIf(missing !== '')(`with ACPICA${missing}`, () => {
  it('disassembles every table and compiles the DSDT again to the same bytes', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vitrine-acpi-'));
    try {
      const { parts } = buildAcpiTables({ ...OPTIONS, vcpus: 40 });
      for (const { name, bytes } of parts.filter(({ name: of }) => of !== 'RSDP')) {
        writeFileSync(join(folder, `${name}.dat`), bytes);
        const said = execFileSync('iasl', ['-d', `${name}.dat`], {
          cwd: folder,
          encoding: 'utf8',
          stdio: 'pipe',
        });
        expect(said).not.toMatch(/error|invalid|unknown/i);
      }
      // Without optimization, so that nothing is written differently.
      const flags = ['-oa', '-on', '-p', 'again', 'DSDT.dsl'];
      const said = execFileSync('iasl', flags, { cwd: folder, encoding: 'utf8', stdio: 'pipe' });
      expect(said).toMatch(/0 Errors, 0 Warnings, 0 Remarks/);
      const again = readFileSync(join(folder, 'again.aml'));
      const dsdt = parts.find(({ name }) => name === 'DSDT')!.bytes;
      expect(again.subarray(36).equals(dsdt.subarray(36))).toBe(true);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
