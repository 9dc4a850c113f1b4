import { describe, expect, it } from 'vitest';
import { allFeatures, rows } from '../../../main/emulator/decoder/opcodes.ts';
import { sseGroups } from '../../../main/emulator/generate/sse/index.ts';
import { Field } from '../../../main/emulator/state.ts';
import { Case, CODE, Fxsave, PATTERN, WINDOW, type Result } from '../../differential/case.ts';
import { buildHarness, NativeRunner } from '../../differential/native.ts';
import { runRange, type Failure } from '../../differential/run.ts';
import { HandlerRunner } from './handler-runner.ts';
import { SseCases, templatesOf } from './sse-cases.ts';

const FEATURES = 'mmx sse sse2 pni ssse3 sse4_1 sse4_2 aes pclmulqdq sha_ni clflush'.split(' ');
/** SSE3 in name, x87 in kind. */
const LEFT_TO_OTHERS = new Set(['fisttp']);
const runner = new HandlerRunner(sseGroups, allFeatures);

// ---- What the manuals say, without a processor to ask ---------------------------------------------------

interface Setup {
  code: number[];
  /** XMM registers by number, as 32 hexadecimal digits. */
  xmm?: Record<number, string>;
  /** MMX registers by number. */
  mm?: Record<number, bigint>;
  gpr?: Record<number, bigint>;
  mxcsr?: number;
  fsw?: number;
  fcw?: number;
  /** The window from 0x400 on. */
  memory?: string;
  fields?: Record<number, number>;
}

const RSI = 6;
const RDI = 7;
const fromHex = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex')).reverse();
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).reverse().toString('hex');

function run(setup: Setup): Result {
  const made = new Case();
  const image = new DataView(made.fxsave.buffer, made.fxsave.byteOffset, 512);
  made.rip = CODE + 0x100;
  made.rflags = 0x202n;
  made.code = Uint8Array.from(setup.code);
  made.setGpr(RSI, BigInt(WINDOW + 0x400));
  made.setGpr(RDI, BigInt(WINDOW + 0x480));
  for (const [n, value] of Object.entries(setup.gpr ?? {})) made.setGpr(Number(n), value);
  image.setUint16(Fxsave.FCW, setup.fcw ?? 0x37f, true);
  image.setUint16(Fxsave.FSW, setup.fsw ?? 0, true);
  image.setUint32(Fxsave.MXCSR, setup.mxcsr ?? 0x1f80, true);
  for (const [n, hex] of Object.entries(setup.xmm ?? {})) {
    made.fxsave.set(fromHex(hex), Fxsave.XMM + 16 * Number(n));
  }
  for (const [n, value] of Object.entries(setup.mm ?? {})) {
    image.setBigUint64(Fxsave.ST + 16 * Number(n), value, true);
  }
  if (setup.memory) made.pattern.set(fromHex(setup.memory));
  for (const [field, value] of Object.entries(setup.fields ?? {})) runner.cpu.set(Number(field), value);
  const result = runner.runOne(made);
  for (const field of Object.keys(setup.fields ?? {})) {
    runner.cpu.set(Number(field), Number(field) === Field.CR4 ? 0x600 : 0);
  }
  return result;
}

const xmm = (result: Result, n: number): string =>
  toHex(result.fxsave.slice(Fxsave.XMM + 16 * n, Fxsave.XMM + 16 * n + 16));
const image = (result: Result): DataView => new DataView(result.fxsave.buffer, result.fxsave.byteOffset, 512);
const mxcsrOf = (result: Result): number => image(result).getUint32(Fxsave.MXCSR, true);
const BREAKPOINT = 3;

const ONE = '3f800000';
const TINY = '00000001';
const single = (low: string): string => low.padStart(32, '0');

describe('semantics of SSE and MMX', () => {
  it('cover every mnemonic of their features', () => {
    const known = new Set(sseGroups.flatMap((group) => Object.keys(group.plain)));
    const wanted = rows
      .filter((row) => FEATURES.includes(row.opcode.feature) && !LEFT_TO_OTHERS.has(row.opcode.mnemonic))
      .map((row) => row.opcode.mnemonic);
    expect([...new Set(wanted)].filter((mnemonic) => !known.has(mnemonic))).toEqual([]);
  });

  const ADDSS = [0xf3, 0x0f, 0x58, 0xc1]; // addss xmm0, xmm1
  const MINSS = [0xf3, 0x0f, 0x5d, 0xc1];
  const QUIET = '7fc00001';
  const SIGNALLING = '7f800002';
  const scalars: {
    name: string;
    code: number[];
    a: string;
    b: string;
    mxcsr?: number;
    wanted: string;
    flags: number;
  }[] = [
    { name: 'an exact sum', code: ADDSS, a: ONE, b: ONE, wanted: '40000000', flags: 0 },
    { name: 'an inexact sum', code: ADDSS, a: ONE, b: '33000000', wanted: ONE, flags: 0x20 },
    {
      name: 'rounding up',
      code: ADDSS,
      a: ONE,
      b: '33000000',
      mxcsr: 0x5f80,
      wanted: '3f800001',
      flags: 0x20,
    },
    { name: 'a denormal operand', code: ADDSS, a: TINY, b: TINY, wanted: '00000002', flags: 2 },
    { name: 'DAZ', code: ADDSS, a: TINY, b: ONE, mxcsr: 0x1fc0, wanted: ONE, flags: 0 },
    {
      name: 'DAZ keeps the sign',
      code: ADDSS,
      a: '80000001',
      b: '80000000',
      mxcsr: 0x1fc0,
      wanted: '80000000',
      flags: 0,
    },
    { name: 'the first NaN wins', code: ADDSS, a: QUIET, b: SIGNALLING, wanted: QUIET, flags: 1 },
    { name: 'a signalling NaN is quieted', code: ADDSS, a: ONE, b: SIGNALLING, wanted: '7fc00002', flags: 1 },
    { name: 'infinities cancel', code: ADDSS, a: '7f800000', b: 'ff800000', wanted: 'ffc00000', flags: 1 },
    {
      name: 'opposite zeros, down',
      code: ADDSS,
      a: '00000000',
      b: '80000000',
      mxcsr: 0x3f80,
      wanted: '80000000',
      flags: 0,
    },
    { name: 'overflow', code: ADDSS, a: '7f7fffff', b: '7f7fffff', wanted: '7f800000', flags: 0x28 },
    {
      name: 'overflow toward zero',
      code: ADDSS,
      a: '7f7fffff',
      b: '7f7fffff',
      mxcsr: 0x7f80,
      wanted: '7f7fffff',
      flags: 0x28,
    },
    { name: 'min of two zeros', code: MINSS, a: '00000000', b: '80000000', wanted: '80000000', flags: 0 },
    { name: 'min with a NaN', code: MINSS, a: QUIET, b: ONE, wanted: ONE, flags: 1 },
    { name: 'min with a second NaN', code: MINSS, a: ONE, b: SIGNALLING, wanted: SIGNALLING, flags: 1 },
  ];
  it.each(scalars)('scalars: $name', ({ code, a, b, mxcsr = 0x1f80, wanted, flags }) => {
    const result = run({ code, xmm: { 0: single(a), 1: single(b) }, mxcsr });
    expect(xmm(result, 0)).toBe(single(wanted));
    expect(mxcsrOf(result)).toBe(mxcsr | flags);
  });

  const faults: { name: string; setup: Setup; vector: number; mxcsr?: number }[] = [
    {
      name: '#UD or #NM as CR0 and CR4 have it',
      setup: { code: ADDSS, fields: { [Field.SSE_TRAP]: 7 } },
      vector: 7,
    },
    { name: '#NM of MMX', setup: { code: [0x0f, 0xfc, 0xc1], fields: { [Field.MMX_TRAP]: 7 } }, vector: 7 },
    { name: '#UD of MMX', setup: { code: [0x0f, 0xfc, 0xc1], fields: { [Field.MMX_TRAP]: 6 } }, vector: 6 },
    { name: '#MF before MMX', setup: { code: [0x0f, 0xfc, 0xc1], fsw: 1, fcw: 0x37e }, vector: 16 },
    {
      name: 'no #MF of CVTPI2PS from memory',
      setup: { code: [0x0f, 0x2a, 0x06], fsw: 1, fcw: 0x37e },
      vector: 3,
    },
    {
      name: 'no check of MOVNTI',
      setup: { code: [0x0f, 0xc3, 0x06], fields: { [Field.SSE_TRAP]: 6 } },
      vector: 3,
    },
    {
      name: 'no check of SFENCE',
      setup: { code: [0x0f, 0xae, 0xf8], fields: { [Field.SSE_TRAP]: 6 } },
      vector: 3,
    },
    {
      name: '#XM of an unmasked exception',
      setup: { code: [0xf3, 0x0f, 0x5e, 0xc1], xmm: { 0: single(ONE) }, mxcsr: 0x1d80 },
      vector: 19,
      mxcsr: 0x1d84,
    },
    {
      name: '#UD in its place without OSXMMEXCPT',
      setup: {
        code: [0xf3, 0x0f, 0x5e, 0xc1],
        xmm: { 0: single(ONE) },
        mxcsr: 0x1d80,
        fields: { [Field.CR4]: 0x200 },
      },
      vector: 6,
      mxcsr: 0x1d84,
    },
    { name: '#GP of a misaligned operand', setup: { code: [0x0f, 0x58, 0x46, 8] }, vector: 13 },
    { name: 'none of MOVUPS', setup: { code: [0x0f, 0x10, 0x46, 8] }, vector: 3 },
    { name: 'none of PCMPISTRI', setup: { code: [0x66, 0x0f, 0x3a, 0x63, 0x46, 8, 0] }, vector: 3 },
    {
      name: '#GP of reserved bits in MXCSR',
      setup: { code: [0x0f, 0xae, 0x16], memory: single('00010000') },
      vector: 13,
    },
  ];
  it.each(faults)('checks: $name', ({ setup, vector, mxcsr }) => {
    const result = run(setup);
    expect(result.vector).toBe(vector);
    if (mxcsr !== undefined) expect(mxcsrOf(result)).toBe(mxcsr);
    if (vector !== BREAKPOINT) expect(xmm(result, 0)).toBe(setup.xmm?.[0] ?? single(''));
  });

  it('enter the MMX state', () => {
    const result = run({ code: [0x0f, 0xfc, 0xc1], mm: { 0: 0x01ffn, 1: 0x0101n }, fsw: 0 }); // paddb mm0, mm1
    expect(result.fxsave[Fxsave.FTW]).toBe(0xff);
    expect(image(result).getBigUint64(Fxsave.ST, true)).toBe(0x0200n);
    expect(image(result).getUint16(Fxsave.ST + 8, true)).toBe(0xffff);
  });

  it('store the bytes that a mask selects, and nothing else', () => {
    const result = run({
      code: [0x66, 0x0f, 0xf7, 0xc1], // maskmovdqu xmm0, xmm1
      xmm: { 0: '0f0e0d0c0b0a09080706050403020100', 1: '80000000000000000000000000008000' },
    });
    const wanted = new Uint8Array(PATTERN);
    wanted[0x81] = 1;
    wanted[0x8f] = 15;
    expect(result.lines.size).toBe(1);
    expect(result.lines.get(0x480)).toEqual(wanted.slice(0x80, 0xc0));
  });

  const AES_STATE = '7b5b54657374566563746f725d53475d';
  const AES_KEY = '48692853686179295b477565726f6e5d';
  const vectors: { name: string; code: number[]; a: string; b: string; wanted: string }[] = [
    // The examples of Intel's white papers on AES-NI and on PCLMULQDQ (S. Gueron).
    {
      name: 'AESENC',
      code: [0x66, 0x0f, 0x38, 0xdc, 0xc1],
      a: AES_STATE,
      b: AES_KEY,
      wanted: 'a8311c2f9fdba3c58b104b58ded7e595',
    },
    {
      name: 'AESENCLAST',
      code: [0x66, 0x0f, 0x38, 0xdd, 0xc1],
      a: AES_STATE,
      b: AES_KEY,
      wanted: 'c7fb881e938c5964177ec42553fdc611',
    },
    {
      name: 'AESDEC',
      code: [0x66, 0x0f, 0x38, 0xde, 0xc1],
      a: AES_STATE,
      b: AES_KEY,
      wanted: '138ac342faea2787b58eb95eb730392a',
    },
    {
      name: 'AESDECLAST',
      code: [0x66, 0x0f, 0x38, 0xdf, 0xc1],
      a: AES_STATE,
      b: AES_KEY,
      wanted: 'c5a391ef6b317f95d410637b72a593d0',
    },
    {
      name: 'AESIMC undoes MixColumns',
      code: [0x66, 0x0f, 0x38, 0xdb, 0xc1],
      a: single(''),
      b: 'f8bd7e4d010101019d58dc9fbca14d8e',
      wanted: '4c31262d010101015c220af2455313db',
    },
    {
      name: 'PCLMULQDQ of the low halves',
      code: [0x66, 0x0f, 0x3a, 0x44, 0xc1, 0],
      a: AES_STATE,
      b: AES_KEY,
      wanted: '1d4d84c85c3440c0929633d5d36f0451',
    },
    {
      name: 'PCLMULQDQ of the high halves',
      code: [0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x11],
      a: AES_STATE,
      b: AES_KEY,
      wanted: '1d1e1f2c592e7c45d66ee03e410fd4ed',
    },
  ];
  it.each(vectors)('published: $name', ({ code, a, b, wanted }) => {
    expect(xmm(run({ code, xmm: { 0: a, 1: b } }), 0)).toBe(wanted);
  });

  it('published: the first round key of FIPS 197, A.1', () => {
    const key = '3c4fcf098815f7aba6d2ae2816157e2b';
    const result = run({ code: [0x66, 0x0f, 0x3a, 0xdf, 0xc1, 1], xmm: { 1: key } }); // aeskeygenassist
    expect(xmm(result, 0).slice(0, 8)).toBe('01eb848b');
  });

  it('published: CRC-32C of "123456789"', () => {
    const setup = { code: [0xf2, 0x0f, 0x38, 0xf0, 0xc1], gpr: { 0: 0xffffffffn } }; // crc32 eax, cl
    let crc = setup.gpr[0];
    for (const byte of Buffer.from('123456789')) {
      crc = run({ ...setup, gpr: { 0: crc, 1: BigInt(byte) } }).gpr(0);
    }
    expect(crc ^ 0xffffffffn).toBe(0xe3069283n);
    const words = run({
      code: [0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc1], // crc32 rax, rcx
      gpr: { 0: 0xffffffffn, 1: Buffer.from('12345678').readBigUInt64LE() },
    });
    const last = run({ ...setup, gpr: { 0: words.gpr(0), 1: BigInt('9'.charCodeAt(0)) } });
    expect(last.gpr(0)).toBe(crc);
  });
});

// ---- The processor --------------------------------------------------------------------------------------

const reason = buildHarness();
const seed = Number(process.env.VITRINE_DIFF_SEED ?? 1);
/** Cases of each mnemonic, up to four instructions a case: some five seconds for all of them. */
const CASES = Number(process.env.VITRINE_SSE_CASES ?? 100);

describe.runIf(reason === null)(`SSE and MMX on the CPU (VITRINE_DIFF_SEED=${seed})`, () => {
  const templates = templatesOf(/./);
  // Our processors have no misaligned exception mask, which is bit 17 of MXCSR on AMD's.
  const mnemonics = [...new Set(templates.map(({ mnemonic }) => mnemonic))].filter(
    (name) => name !== 'ldmxcsr',
  );
  it.each(mnemonics)('%s', async (mnemonic) => {
    const generator = new SseCases(
      seed,
      templates.filter((template) => template.mnemonic === mnemonic),
    );
    const native = new NativeRunner();
    const failures = new Map<string, Failure>();
    await runRange(generator, 0, CASES, native, runner, failures);
    native.close();
    expect([...failures.values()].map(({ text }) => text).join('\n')).toBe('');
  });
});
if (reason !== null) console.log(`SSE is not compared with the CPU: ${reason}`);
