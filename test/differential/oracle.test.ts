import { afterAll, describe, expect, it } from 'vitest';
import { Case, CODE, Fxsave, Result, WINDOW } from './case.ts';
import { compare } from './compare.ts';
import { Generator } from './generate.ts';
import { inspectAll } from './inspect.ts';
import { buildHarness, NativeRunner } from './native.ts';
import { allTemplates } from './templates.ts';
import { hostIsUnsteady } from './vendor.ts';

// The oracle itself: the native side, the generator and the comparator, before they judge the emulator.
const reason = buildHarness();
const title = reason === null ? 'native oracle' : `native oracle (${reason})`;

function plain(code: string): Case {
  const made = new Case();
  made.rip = CODE + 0x800;
  made.rflags = 0x202n;
  made.code = Buffer.from(code, 'hex');
  const view = new DataView(made.fxsave.buffer, made.fxsave.byteOffset);
  view.setUint16(Fxsave.FCW, 0x37f, true);
  view.setUint32(Fxsave.MXCSR, 0x1f80, true);
  made.setGpr(4, BigInt(WINDOW + 0x1000));
  made.setGpr(6, BigInt(WINDOW + 0x2ffc));
  return made;
}

describe.runIf(reason === null)(title, () => {
  const native = new NativeRunner();
  afterAll(() => native.close());

  const end = (code: string): bigint => BigInt(CODE + 0x800 + code.length / 2 + 1);
  const at = BigInt(CODE + 0x800);
  it.each([
    { name: 'the end is INT3', code: '90', wanted: { vector: 3, error: 0, cr2: 0n, rip: end('90') } },
    { name: 'mov al, [rsi]', code: '8a06', wanted: { vector: 3, error: 0, cr2: 0n, rip: end('8a06') } },
    {
      name: 'load past the window',
      code: '488b06',
      wanted: { vector: 14, error: 4, cr2: 0x10003000n, rip: at },
    },
    {
      name: 'store to a read-only page',
      code: '8806',
      wanted: { vector: 14, error: 7, cr2: 0x10002ffcn, rip: at },
    },
    { name: 'ud2', code: '0f0b', wanted: { vector: 6, error: 0, cr2: 0n, rip: at } },
    { name: 'div by zero', code: 'f7f1', wanted: { vector: 0, error: 0, cr2: 0n, rip: at } },
    { name: 'hlt', code: 'f4', wanted: { vector: 13, error: 0, cr2: 0n, rip: at } },
    { name: 'in al, dx', code: 'ec', wanted: { vector: 13, error: 0, cr2: 0n, rip: at } },
    {
      name: 'jmp rsp: no execute',
      code: 'ffe4',
      wanted: { vector: 14, error: 21, cr2: 0x10001000n, rip: 0x10001000n },
    },
  ])('$name', async ({ code, wanted }) => {
    const [result] = await native.run([plain(code)]);
    const { vector, error, cr2, rip } = result!;
    expect({ vector, error, cr2, rip }).toEqual(wanted);
  });

  it('ends a case that runs away', async () => {
    const [result, after] = await native.run([plain('ebfe'), plain('90')]);
    expect([result!.timedOut, after!.vector]).toEqual([true, 3]);
  });

  it('agrees with itself', async () => {
    const generator = new Generator(7);
    const cases = Array.from({ length: 2000 }, (_, i) => generator.make(i));
    const [once, again] = [await native.run(cases), await native.run(cases)];
    // Where the host's kernel may get an exception wrong once, the third answer is the second.
    const unsteady = cases.map((_, i) => i).filter((i) => compare(cases[i], once[i]!, again[i]!).length > 0);
    const third = await native.run(unsteady.map((i) => cases[i]));
    const different = unsteady.filter((i, n) => compare(cases[i], again[i]!, third[n]!).length > 0);
    expect(different.length).toBe(0);
    expect(unsteady.length).toBeLessThanOrEqual(hostIsUnsteady ? 20 : 0);
    // Most cases must get somewhere: INT3 behind the last instruction.
    expect(once.filter((result) => result!.vector === 3).length).toBeGreaterThan(800);
  });

  it.each([
    { name: 'a register', what: ['rbx'], change: (r: Result) => r.view.setUint8(24, 1) },
    {
      name: 'a defined flag',
      what: ['rflags'],
      change: (r: Result) => r.view.setUint8(128, r.bytes[128] ^ 1),
    },
    { name: 'an undefined flag', what: [], change: (r: Result) => r.view.setUint8(128, r.bytes[128] ^ 0x10) },
    { name: 'the exception', what: ['exception'], change: (r: Result) => r.view.setUint32(144, 13, true) },
    { name: 'xmm5', what: ['xmm5'], change: (r: Result) => r.view.setUint8(160 + 160 + 16 * 5 + 15, 0x80) },
    { name: 'st3', what: ['st3'], change: (r: Result) => r.view.setUint8(160 + 32 + 48 + 9, 0x80) },
    { name: 'mxcsr', what: ['mxcsr'], change: (r: Result) => r.view.setUint8(160 + 24, 0x81) },
    { name: 'reserved bytes', what: [], change: (r: Result) => r.view.setUint8(160 + 500, 0x81) },
  ])('the comparator sees $name', async ({ what, change }) => {
    const made = plain('21c0'); // and eax, eax: AF is undefined
    const [result] = await native.run([made]);
    const changed = new Result(result!.bytes.slice(), result!.lines);
    change(changed);
    expect(compare(made, result!, changed).map((one) => one.what)).toEqual(what);
  });

  it('the comparator sees memory', async () => {
    const made = plain('50'); // push rax
    made.setGpr(0, 0x1234n);
    const [result] = await native.run([made]);
    expect([...result!.lines.keys()]).toEqual([0xfc0]);
    const other = new Result(result!.bytes, new Map());
    const wanted = [{ what: 'memory 0ff8', native: '0000000000001234', other: '0000000000000000' }];
    expect(compare(made, result!, other)).toEqual(wanted);
  });
});

describe('generator', () => {
  it('makes the same cases from the same seed', () => {
    const [one, two, three] = [new Generator(5), new Generator(5), new Generator(6)];
    expect(one.make(3).bytes).toEqual(two.make(3).bytes);
    expect(one.make(3).bytes).not.toEqual(three.make(3).bytes);
  });

  it('makes every form, and nothing but them', () => {
    const generator = new Generator(1);
    const missing = new Map(allTemplates().map((template) => [template.code, template.mnemonic]));
    const known = new Set(missing.keys());
    for (let i = 0; i < 20_000; i++) {
      for (const { code, mnemonic } of inspectAll(generator.make(i).code)) {
        missing.delete(code);
        if (mnemonic !== 'invalid') expect(known.has(code), mnemonic).toBe(true);
      }
    }
    expect([...missing.values()]).toEqual([]);
  });
});
