import { describe, expect, it } from 'vitest';
import { Case, CODE, Fxsave, ResultBuilder, WINDOW_WRITABLE } from './case.ts';
import type { Result } from './case.ts';
import { differences } from './compare.ts';
import { commonTolerances, ignoredParts } from './tolerances.ts';
import { amdTolerances } from './tolerances-amd.ts';
import { intelTolerances } from './tolerances-intel.ts';

// What is ignored on the hosts of one vendor, and that nothing beside it is: tables without a processor.

const AT = CODE + 0x800;
const PENDING = 0x8081;

/** How one of the two runs ended. */
interface End {
  vector?: number;
  /** After the code's start; default: at the end, behind INT3. */
  rip?: number;
  rflags?: bigint;
  cr2?: bigint;
  gpr?: Record<number, bigint>;
  /** Fields of FXSAVE's image: offset and value, of 16 bits below FIP and 64 above. */
  fxsave?: [number, bigint][];
  /** Bytes of the window, in hexadecimal. */
  memory?: [number, string][];
}

function result(made: Case, end: End): Result {
  const builder = new ResultBuilder();
  const image = new Uint8Array(512);
  const view = new DataView(image.buffer);
  view.setUint16(Fxsave.FCW, 0x37f, true);
  for (const [at, value] of end.fxsave ?? []) {
    if (at < Fxsave.FIP) view.setUint16(at, Number(value), true);
    else view.setBigUint64(at, value, true);
  }
  const window = new Uint8Array(WINDOW_WRITABLE);
  for (const [at, bytes] of end.memory ?? []) window.set(Buffer.from(bytes, 'hex'), at);
  const rip = BigInt(AT + (end.rip ?? made.code.length + 1));
  const { vector = 3, rflags = 0x202n, cr2 = 0n } = end;
  builder.setEnd({ rip, rflags, vector, error: 0, cr2 });
  for (const [register, value] of Object.entries(end.gpr ?? {})) builder.setGpr(Number(register), value);
  builder.setFxsave(image);
  builder.setWindow(window, made.pattern);
  return builder.build();
}

/** Names of what counts of the differences of two runs. */
function counting(code: string, native: End, other: End, table = intelTolerances): string[] {
  const made = new Case();
  made.rip = AT;
  made.code = Buffer.from(code, 'hex');
  const [a, b] = [result(made, native), result(made, other)];
  const ignored = ignoredParts(made, a, b, table);
  return ignored.everything ? [] : differences(made, a, b, ignored).map((one) => one.what);
}

const pointers = (status: number, fop: number, fip: number, fdp: number): End => ({
  fxsave: [
    [Fxsave.FSW, BigInt(status)],
    [Fxsave.FOP, BigInt(fop)],
    [Fxsave.FIP, BigInt(fip)],
    [Fxsave.FDP, BigInt(fdp)],
  ],
});
const XMM0 = Fxsave.XMM;
const lanes = (low: bigint, high: bigint): End => ({
  fxsave: [
    [XMM0, low],
    [XMM0 + 8, high],
  ],
});
const ENVIRONMENT = (fip: string, fop: string, fdp: string): End => ({
  memory: [[0x40, `7f03ffff0000ffffffffffff${fip}0000${fop}${fdp}0000ffff`]],
});

const FADD_MEMORY = 'd807';
const FADD_REGISTER = 'd8c1';
const FLDCW = 'd92f';
const FSTENV = 'd937';
const FISTP = 'db1f';
const FNINIT = 'dbe3';
const REPE_CMPSB = 'f3a6';
const CMPSB = 'a6';
const FXRSTOR64 = '480fae0e';
const REP_STOSB_32 = '67f3aa';
const DPPS = '660f3a40c1ff';
const ADDPS = '0f58d0'; // addps xmm2, xmm0
const MOVQ_STORE = '0f7f07';
const MOVQ_LOAD = '0f6f07';
const LDDQU = 'f20ff007';
const MOVQ_GPR = '488b07';

describe('what may differ on an Intel host', () => {
  const nan = (low: bigint): End => lanes((0x7fc00001n << 32n) | low, 0n);
  it.each<{ name: string; code: string; native: End; other: End; wanted: string[] }>([
    {
      name: 'FOP and FDP, not FIP, while nothing is pending',
      code: FADD_MEMORY,
      native: pointers(0, 0, AT, 0),
      other: pointers(0, 7, AT + 1, 0x1000),
      wanted: ['fip'],
    },
    {
      name: 'no pointer of an exception',
      code: FADD_MEMORY,
      native: pointers(PENDING, 0, AT, 0),
      other: pointers(PENDING, 7, AT, 0x1000),
      wanted: ['fop', 'fdp'],
    },
    {
      name: 'FDP of one without a memory operand',
      code: FADD_REGISTER,
      native: pointers(PENDING, 0, AT, 0),
      other: pointers(PENDING, 7, AT, 0x1000),
      wanted: ['fop'],
    },
    {
      name: 'both of an exception that FLDCW has unmasked',
      code: FADD_MEMORY + FLDCW,
      native: pointers(PENDING, 0, AT, 0),
      other: pointers(PENDING, 7, AT, 0x1000),
      wanted: [],
    },
    {
      name: 'FOP and FDP in an image',
      code: FADD_MEMORY + FSTENV,
      native: ENVIRONMENT('00080020', '0000', '00000000'),
      other: ENVIRONMENT('00080020', '0700', '00000010'),
      wanted: [],
    },
    {
      name: 'no FIP in an image',
      code: FADD_MEMORY + FSTENV,
      native: ENVIRONMENT('00080020', '0000', '00000000'),
      other: ENVIRONMENT('01080020', '0000', '00000000'),
      wanted: ['memory 0048'],
    },
    {
      name: 'an x87 exception before the fault of the store',
      code: FISTP,
      native: pointers(PENDING, 0, AT, 0),
      other: { vector: 14, rip: 0, fxsave: [[Fxsave.FCW, 0x37en]] },
      wanted: [],
    },
    {
      name: 'the same, taken away again',
      code: FISTP + FNINIT,
      native: {},
      other: { vector: 14, rip: 0, fxsave: [[Fxsave.FCW, 0x37en]] },
      wanted: [],
    },
    {
      name: 'no fault of a store without an exception',
      code: FISTP,
      native: {},
      other: { vector: 14, rip: 0 },
      wanted: ['exception', 'rip'],
    },
    {
      name: 'flags after a fault of REPE CMPSB',
      code: REPE_CMPSB,
      native: { vector: 14, rip: 0, rflags: 0x10202n },
      other: { vector: 14, rip: 0, rflags: 0x10ad7n },
      wanted: [],
    },
    {
      name: 'no flags after a fault of CMPSB',
      code: CMPSB,
      native: { vector: 14, rip: 0, rflags: 0x10202n },
      other: { vector: 14, rip: 0, rflags: 0x10ad7n },
      wanted: ['rflags'],
    },
    {
      name: 'RF of a trap inside of REP',
      code: REPE_CMPSB,
      native: { vector: 1, rip: 0, rflags: 0x10302n },
      other: { vector: 1, rip: 0, rflags: 0x302n },
      wanted: [],
    },
    {
      name: 'no RF of a trap after it',
      code: REPE_CMPSB,
      native: { vector: 1, rip: 2, rflags: 0x10302n },
      other: { vector: 1, rip: 2, rflags: 0x302n },
      wanted: ['rflags'],
    },
    {
      name: 'upper halves of RCX and RDI after a REP STOSB of nothing',
      code: REP_STOSB_32,
      native: { gpr: { 1: 0n, 6: 1n, 7: 5n } },
      other: { gpr: { 1: 1n << 40n, 6: (1n << 32n) | 1n, 7: (1n << 32n) | 5n } },
      wanted: ['rsi'],
    },
    {
      name: 'TOP after a fault of an MMX store',
      code: MOVQ_STORE,
      native: { vector: 14, rip: 0, fxsave: [[Fxsave.FSW, 0n]] },
      other: { vector: 14, rip: 0, fxsave: [[Fxsave.FSW, 0x1800n]] },
      wanted: [],
    },
    {
      name: 'but no register then',
      code: MOVQ_STORE,
      native: { vector: 14, rip: 0, fxsave: [[Fxsave.ST, 1n]] },
      other: {
        vector: 14,
        rip: 0,
        fxsave: [
          [Fxsave.FSW, 0x1800n],
          [Fxsave.ST, 1n],
          [Fxsave.ST + 16, 2n],
        ],
      },
      wanted: ['st1'],
    },
    {
      name: 'no TOP after a fault of a load',
      code: MOVQ_LOAD,
      native: { vector: 14, rip: 0, fxsave: [[Fxsave.FSW, 0n]] },
      other: { vector: 14, rip: 0, fxsave: [[Fxsave.FSW, 0x1800n]] },
      wanted: ['fsw'],
    },
    {
      name: 'what a REP STOSQ does with that RCX',
      code: `${REP_STOSB_32}f348ab`,
      native: { gpr: { 1: 0n } },
      other: { vector: 14, rip: 3, cr2: 5n, gpr: { 1: 7n, 7: 5n } },
      wanted: [],
    },
    {
      name: 'no REP STOSQ before it',
      code: `f348ab${REP_STOSB_32}`,
      native: { gpr: { 1: 0n } },
      other: { vector: 14, rip: 3, cr2: 5n, gpr: { 1: 0n, 7: 5n } },
      wanted: ['exception', 'cr2', 'rip', 'rdi'],
    },
    {
      name: '#AC of 16 bytes',
      code: LDDQU,
      native: {},
      other: { vector: 17, rip: 0 },
      wanted: [],
    },
    {
      name: 'no #AC of 8',
      code: MOVQ_GPR,
      native: {},
      other: { vector: 17, rip: 0 },
      wanted: ['exception', 'rip'],
    },
    { name: 'F3 41 90', code: 'f34190', native: {}, other: { gpr: { 0: 1n } }, wanted: [] },
    { name: 'no XCHG', code: '4190', native: {}, other: { gpr: { 0: 1n } }, wanted: ['rax'] },
    { name: 'NaNs of DPPS', code: DPPS, native: nan(0x7fc00001n), other: nan(0xffc00002n), wanted: [] },
    { name: 'no numbers of DPPS', code: DPPS, native: nan(1n), other: nan(2n), wanted: ['xmm0'] },
    {
      name: 'no NaNs of anything else',
      code: '0f58c1',
      native: nan(0x7fc00001n),
      other: nan(0xffc00002n),
      wanted: ['xmm0'],
    },
    {
      name: 'what is made of those NaNs',
      code: DPPS + ADDPS,
      native: { fxsave: [[XMM0 + 32, 1n]] },
      other: { fxsave: [[XMM0 + 32, 2n]] },
      wanted: [],
    },
    {
      name: 'no other register',
      code: DPPS + ADDPS,
      native: { fxsave: [[XMM0 + 48, 1n]] },
      other: { fxsave: [[XMM0 + 48, 2n]] },
      wanted: ['xmm3'],
    },
  ])('$name', ({ code, native, other, wanted }) => {
    expect(counting(code, native, other)).toEqual(wanted);
  });
});

describe('what may differ on every host', () => {
  it.each<{ name: string; code: string; native: End; other: End; wanted: string[] }>([
    {
      name: 'which operand of CMPSB faults',
      code: CMPSB,
      native: { vector: 14, rip: 0, cr2: 1n },
      other: { vector: 13, rip: 0 },
      wanted: [],
    },
    {
      name: 'not whether an operand faults',
      code: CMPSB,
      native: { vector: 14, rip: 0, cr2: 1n },
      other: {},
      wanted: ['exception', 'cr2', 'rip'],
    },
    {
      name: 'not which byte SCASB reads',
      code: 'ae',
      native: { vector: 14, rip: 0, cr2: 1n },
      other: { vector: 14, rip: 0, cr2: 2n },
      wanted: ['cr2'],
    },
  ])('$name', ({ code, native, other, wanted }) => {
    expect(counting(code, native, other, commonTolerances)).toEqual(wanted);
  });
});

/** An exception is pending, and FDP is all that there is of pointers. */
const dataPointer = (fdp: bigint): End => ({
  fxsave: [
    [Fxsave.FSW, BigInt(PENDING)],
    [Fxsave.FDP, fdp],
  ],
});

describe('what may differ on an AMD host', () => {
  it.each<{ name: string; code: string; native: End; other: End; wanted: string[] }>([
    {
      name: 'all pointers, while nothing is pending',
      code: FADD_MEMORY,
      native: pointers(0, 0, 0, 0),
      other: pointers(0, 7, AT, 0x1000),
      wanted: [],
    },
    {
      name: 'no pointer of an exception',
      code: FADD_REGISTER,
      native: pointers(PENDING, 0, AT + 1, 0),
      other: pointers(PENDING, 7, AT, 0x1000),
      wanted: ['fop', 'fip', 'fdp'],
    },
    {
      name: 'no flags after a fault of REPE CMPSB',
      code: REPE_CMPSB,
      native: { vector: 14, rip: 0, rflags: 0x10202n },
      other: { vector: 14, rip: 0, rflags: 0x10ad7n },
      wanted: ['rflags'],
    },
    {
      name: 'no #AC of 16 bytes',
      code: LDDQU,
      native: {},
      other: { vector: 17, rip: 0 },
      wanted: ['exception', 'rip'],
    },
    { name: 'no XCHG', code: 'f34190', native: {}, other: { gpr: { 0: 1n } }, wanted: ['rax'] },
    {
      name: 'addresses of FXRSTOR64 in 48 bits',
      code: FXRSTOR64,
      native: pointers(PENDING, 0, 0x5141, -0x1000),
      other: pointers(PENDING, 0, 0x6141, -0x1000),
      wanted: ['fip'],
    },
    {
      name: 'no more than the upper bits of those',
      code: FXRSTOR64,
      native: dataPointer(0x18e74e6a2968n),
      other: dataPointer(0x7218e74e6a2968n),
      wanted: [],
    },
    {
      name: 'no upper bits without FXRSTOR64',
      code: FADD_MEMORY,
      native: dataPointer(0x18e74e6a2968n),
      other: dataPointer(0x7218e74e6a2968n),
      wanted: ['fdp'],
    },
  ])('$name', ({ code, native, other, wanted }) => {
    expect(counting(code, native, other, amdTolerances)).toEqual(wanted);
  });
});
