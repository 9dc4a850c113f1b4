import { describe, expect, it } from 'vitest';
import { emulatedBackend } from '../../../main/emulator/backend.ts';
import { allFeatures, rows } from '../../../main/emulator/decoder/opcodes.ts';
import { x87Groups } from '../../../main/emulator/generate/x87/index.ts';
import { Field } from '../../../main/emulator/state.ts';
import { Exit, State } from '../../../main/nvmm/constants.ts';
import { Case, CODE, Fxsave, WINDOW, type Result } from '../../differential/case.ts';
import { differences, type Difference } from '../../differential/compare.ts';
import { buildHarness, NativeRunner } from '../../differential/native.ts';
import { ignoredParts } from '../../differential/tolerances.ts';
import { intelTolerances } from '../../differential/tolerances-intel.ts';
import { hostVendor } from '../../differential/vendor.ts';
import { HandlerRunner } from './handler-runner.ts';
import { CaseMaker } from './x87-cases.ts';
import { encodings } from './x87-encodings.ts';

const runner = new HandlerRunner(x87Groups, allFeatures);
const BREAKPOINT = 3;
const RDI = 7;

// ---- What the manuals say, without a processor to ask ---------------------------------------------------

interface Setup {
  code: number[];
  /** ST(0) and on: sign and exponent, then the significand, in hexadecimal. */
  st?: string[];
  /** Control and status word; TOP is 8 less the numbers in `st`. */
  control?: number;
  status?: number;
  fields?: Record<number, number>;
}

const ONE = '3fff 8000000000000000';
const TWO = '4000 8000000000000000';
const THREE = '4000 c000000000000000';
const ZERO = '0000 0000000000000000';
const INFINITY = '7fff 8000000000000000';
const INDEFINITE = 'ffff c000000000000000';
const SMALLEST = '0000 0000000000000001';
const LARGEST = '7ffe ffffffffffffffff';
const TWO_63 = '403e 8000000000000000';

const imageOf = (of: Case | Result): DataView => new DataView(of.fxsave.buffer, of.fxsave.byteOffset, 512);

function run({ code, st = [], control = 0x37f, status = 0, fields = {} }: Setup): Result {
  const made = new Case();
  const image = imageOf(made);
  made.rip = CODE + 0x100;
  made.rflags = 0x202n;
  made.code = Uint8Array.from(code);
  made.setGpr(RDI, BigInt(WINDOW + 64));
  const top = (8 - st.length) & 7;
  image.setUint16(Fxsave.FCW, control, true);
  image.setUint16(Fxsave.FSW, status | (top << 11), true);
  made.fxsave[Fxsave.FTW] = 0xff << (8 - st.length);
  st.forEach((text, i) => {
    const [high, significand] = text.split(' ');
    image.setBigUint64(Fxsave.ST + 16 * i, BigInt(`0x${significand}`), true);
    image.setUint16(Fxsave.ST + 16 * i + 8, parseInt(high, 16), true);
  });
  for (const [field, value] of Object.entries(fields)) runner.cpu.set(Number(field), value);
  const result = runner.runOne(made);
  for (const field of Object.keys(fields)) runner.cpu.set(Number(field), 0);
  return result;
}

function register(result: Result, i: number): string {
  const image = imageOf(result);
  const high = image
    .getUint16(Fxsave.ST + 16 * i + 8, true)
    .toString(16)
    .padStart(4, '0');
  return `${high} ${image
    .getBigUint64(Fxsave.ST + 16 * i, true)
    .toString(16)
    .padStart(16, '0')}`;
}
/** The status word without TOP. */
const statusOf = (result: Result): number => imageOf(result).getUint16(Fxsave.FSW, true) & ~0x3800;

const IE = 1;
const DE = 2;
const ZE = 4;
const OE = 8;
const UE = 0x10;
const PE = 0x20;
const SF = 0x40;
const PENDING = 0x8080;
const C1 = 0x200;
const C2 = 0x400;

const FADDP = [0xde, 0xc1];
const FDIVP = [0xde, 0xf9];
const FMULP = [0xde, 0xc9];
const FSQRT = [0xd9, 0xfa];
const FLD1 = [0xd9, 0xe8];
const FSIN = [0xd9, 0xfe];
const FPTAN = [0xd9, 0xf2];
const FSCALE = [0xd9, 0xfd];

describe('semantics of the x87', () => {
  it('cover every mnemonic', () => {
    const known = new Set(x87Groups.flatMap((group) => Object.keys(group.plain)));
    const wanted = rows.filter((row) => row.opcode.feature === 'fpu').map((row) => row.opcode.mnemonic);
    expect([...new Set([...wanted, 'fisttp'])].filter((mnemonic) => !known.has(mnemonic))).toEqual([]);
  });

  const results: { name: string; setup: Setup; wanted: string; status?: number }[] = [
    { name: '1 + 2', setup: { code: FADDP, st: [ONE, TWO] }, wanted: THREE },
    {
      name: '1 / 3 in 64 bits, to nearest',
      setup: { code: FDIVP, st: [THREE, ONE] },
      wanted: '3ffd aaaaaaaaaaaaaaab',
      status: PE | C1,
    },
    {
      name: '1 / 3 towards zero',
      setup: { code: FDIVP, st: [THREE, ONE], control: 0xf7f },
      wanted: '3ffd aaaaaaaaaaaaaaaa',
      status: PE,
    },
    {
      name: '1 / 3 in 53 bits',
      setup: { code: FDIVP, st: [THREE, ONE], control: 0x27f },
      wanted: '3ffd aaaaaaaaaaaaa800',
      status: PE,
    },
    {
      name: '1 / 3 in 24 bits',
      setup: { code: FDIVP, st: [THREE, ONE], control: 0x07f },
      wanted: '3ffd aaaaab0000000000',
      status: PE | C1,
    },
    { name: '1 / 0', setup: { code: FDIVP, st: [ZERO, ONE] }, wanted: INFINITY, status: ZE },
    { name: '0 / 0', setup: { code: FDIVP, st: [ZERO, ZERO] }, wanted: INDEFINITE, status: IE },
    {
      name: 'overflow to infinity',
      setup: { code: FMULP, st: [LARGEST, TWO] },
      wanted: INFINITY,
      status: OE | PE | C1,
    },
    {
      name: 'overflow without a mask: a wrapped exponent',
      setup: { code: FMULP, st: [LARGEST, TWO], control: 0x377 },
      wanted: '1fff ffffffffffffffff',
      status: OE | PENDING,
    },
    {
      name: 'underflow to zero',
      setup: { code: FMULP, st: [SMALLEST, '3ffe 8000000000000000'] },
      wanted: ZERO,
      status: DE | UE | PE,
    },
    { name: 'the root of 2', setup: { code: FSQRT, st: [TWO] }, wanted: '3fff b504f333f9de6484', status: PE },
    {
      name: 'no root of -1',
      setup: { code: FSQRT, st: ['bfff 8000000000000000'] },
      wanted: INDEFINITE,
      status: IE,
    },
    {
      name: 'an unnormal is invalid',
      setup: { code: FSQRT, st: ['4000 4000000000000000'] },
      wanted: INDEFINITE,
      status: IE,
    },
    {
      name: 'the larger of two NaNs, made quiet',
      setup: { code: FADDP, st: ['7fff c000000000000001', '7fff c000000000000002'] },
      wanted: '7fff c000000000000002',
    },
    {
      name: 'a quiet NaN goes before a signalling one',
      setup: { code: FADDP, st: ['7fff 8000000000000003', '7fff c000000000000002'] },
      wanted: '7fff c000000000000002',
      status: IE,
    },
    {
      name: 'a stack underflow',
      setup: { code: FSQRT, st: [] },
      wanted: INDEFINITE,
      status: IE | SF,
    },
    {
      name: 'a stack overflow',
      setup: { code: FLD1, st: Array<string>(8).fill(TWO) },
      wanted: INDEFINITE,
      status: IE | SF | C1,
    },
    {
      name: 'an operand that stays when IE has no mask',
      setup: { code: FSQRT, st: ['bfff 8000000000000000'], control: 0x37e },
      wanted: 'bfff 8000000000000000',
      status: IE | PENDING,
    },
    {
      name: 'pi, rounded up',
      setup: { code: [0xd9, 0xeb], control: 0xb7f },
      wanted: '4000 c90fdaa22168c235',
    },
    {
      name: 'pi, rounded down',
      setup: { code: [0xd9, 0xeb], control: 0x77f },
      wanted: '4000 c90fdaa22168c234',
    },
    {
      name: 'the sine of 1',
      setup: { code: FSIN, st: [ONE] },
      wanted: '3ffe d76aa47848677021',
      status: PE | C1,
    },
    { name: 'no sine of 2^63', setup: { code: FSIN, st: [TWO_63] }, wanted: TWO_63, status: C2 },
    { name: 'no tangent of 2^63', setup: { code: FPTAN, st: [TWO_63] }, wanted: TWO_63, status: C2 },
    { name: '1 is pushed beside a tangent', setup: { code: FPTAN, st: [ZERO] }, wanted: ONE },
    { name: '2^1 - 1', setup: { code: [0xd9, 0xf0], st: [ONE] }, wanted: ONE, status: PE | C1 },
    { name: '3 log2(2)', setup: { code: [0xd9, 0xf1], st: [TWO, THREE] }, wanted: THREE, status: PE },
    { name: '1 scaled by 2', setup: { code: FSCALE, st: [ONE, TWO] }, wanted: '4001 8000000000000000' },
    { name: 'FFREEP marks and pops', setup: { code: [0xdf, 0xc1], st: [ONE, TWO] }, wanted: TWO },
  ];
  it.each(results)('$name', ({ setup, wanted, status = 0 }) => {
    const result = run(setup);
    expect(result.vector).toBe(BREAKPOINT);
    expect(register(result, 0)).toBe(wanted);
    expect(statusOf(result).toString(16)).toBe(status.toString(16));
  });

  const faults: { name: string; setup: Setup; vector: number }[] = [
    { name: '#NM when CR0 says so', setup: { code: FLD1, fields: { [Field.X87_TRAP]: 7 } }, vector: 7 },
    { name: '#NM of WAIT', setup: { code: [0x9b], fields: { [Field.WAIT_TRAP]: 7 } }, vector: 7 },
    { name: 'none of WAIT without MP', setup: { code: [0x9b], fields: { [Field.X87_TRAP]: 7 } }, vector: 3 },
    { name: '#MF of a pending exception', setup: { code: FLD1, control: 0x37b, status: ZE }, vector: 16 },
    { name: '#MF of WAIT', setup: { code: [0x9b], control: 0x37b, status: ZE }, vector: 16 },
    { name: 'none of FNCLEX', setup: { code: [0xdb, 0xe2], control: 0x37b, status: ZE }, vector: 3 },
    { name: 'none of FNINIT', setup: { code: [0xdb, 0xe3], control: 0x37b, status: ZE }, vector: 3 },
    {
      name: '#MF of the instruction after the one that FLDCW unmasks',
      setup: { code: [0xd9, 0x2f, ...FLD1], status: ZE },
      vector: 16,
    },
  ];
  it.each(faults)('checks: $name', ({ setup, vector }) => {
    expect(run(setup).vector).toBe(vector);
  });
});

// ---- Images in 16-bit code ------------------------------------------------------------------------------

/** Runs code in real mode from the reset state, with 64 KiB at 0; what is at 0x800 afterwards. */
function runReal(code: readonly number[]): DataView {
  const privateSize = emulatedBackend.privateSize(1, 0x10000);
  const start = Math.ceil(privateSize / 65536) * 65536;
  const pages = start / 65536 + 2;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const nvmm = emulatedBackend.open({ memory, privateOffset: 0, privateSize });
  const machine = nvmm.machineCreate();
  const vcpu = nvmm.vcpuCreate(machine, 0);
  nvmm.hvaMap(machine, start, 0x20000);
  nvmm.gpaMap(machine, start, 0, 0x10000, 7);
  nvmm.gpaMap(machine, start + 0x10000, 0xffff0000, 0x10000, 7);
  new Uint8Array(memory.buffer).set([...code, 0xf4], start + 0x10000);
  nvmm.getState(machine, vcpu, State.ALL);
  vcpu.state.rip = 0n;
  nvmm.setState(machine, vcpu, State.GPRS);
  for (let i = 0; i < 100; i++) {
    nvmm.run(machine, vcpu);
    if (vcpu.exit.reason !== Exit.NONE) break;
  }
  expect(vcpu.exit.reason).toBe(Exit.HALTED);
  nvmm.close();
  return new DataView(memory.buffer, start + 0x800, 128);
}

describe('images of the x87 in real mode', () => {
  const FNINIT = [0xdb, 0xe3];
  const FADD_MEMORY = [0xd8, 0x06, 0x34, 0x12]; // fadd dword [0x1234], at offset 4
  const NORMAL = [...FNINIT, ...FLD1, ...FADD_MEMORY];
  it('of 16 bits: linear addresses with the opcode', () => {
    const view = runReal([...NORMAL, 0xd9, 0x36, 0x00, 0x08]); // fnstenv [0x800]
    const words = Array.from({ length: 7 }, (_, i) => view.getUint16(2 * i, true).toString(16));
    expect(words).toEqual(['37f', '3800', '3fff', '4', '6', '1234', '0']);
  });
  it('of 32 bits', () => {
    const view = runReal([...NORMAL, 0x66, 0xd9, 0x36, 0x00, 0x08]);
    const words = Array.from({ length: 7 }, (_, i) => view.getUint32(4 * i, true).toString(16));
    expect(words).toEqual(['ffff037f', 'ffff3800', 'ffff3fff', 'ffff0004', '6', 'ffff1234', '0']);
  });
  it('come back as they were', () => {
    const FNSAVE = [0xdd, 0x36, 0x00, 0x09]; // fnsave [0x900]
    const FRSTOR = [0xdd, 0x26, 0x00, 0x09];
    const FNSAVE_AGAIN = [0xdd, 0x36, 0x00, 0x08];
    const view = runReal([...NORMAL, ...FNSAVE, ...FRSTOR, ...FNSAVE_AGAIN]);
    expect(view.getUint16(4, true)).toBe(0x3fff);
    expect(view.getUint16(8, true)).toBe(6);
    expect(view.getBigUint64(14, true)).toBe(1n << 63n);
    expect(view.getUint16(22, true)).toBe(0x3fff);
  });
});

// ---- The real processor ---------------------------------------------------------------------------------

const reason = buildHarness();
const seed = Number(process.env.VITRINE_DIFF_SEED ?? 1);
/** Of each mnemonic; VITRINE_X87_CASES=10000 takes a minute. */
const CASES = Number(process.env.VITRINE_X87_CASES ?? 1500);
const SHOWN = 3;

/** AMD's processors are what the emulated one follows in everything; elsewhere, less what is known to differ. */
const known = hostVendor === 'intel' ? intelTolerances : [];

/** Results that processors round as they like; ours are correctly rounded. */
const APPROXIMATE = new Set('f2xm1 fyl2x fyl2xp1 fsin fcos fsincos fptan fpatan'.split(' '));

/** An extended real as a number that counts the units in the last place. */
function ordinal(hex: string): bigint {
  const value = BigInt(`0x${hex}`);
  const magnitude = ((value >> 64n) & 0x7fffn) * (1n << 63n) + (value & ((1n << 63n) - 1n));
  return value >> 79n ? -magnitude : magnitude;
}

/** One unit in the last place of a result, and whether it was rounded up. */
function isRounding({ what, native, other }: Difference): boolean {
  if (what === 'fsw') return ((parseInt(native, 16) ^ parseInt(other, 16)) & ~C1) === 0;
  if (what !== 'st0' && what !== 'st1') return false;
  const distance = ordinal(native) - ordinal(other);
  return distance >= -1n && distance <= 1n;
}

const title =
  reason === null ? `the x87 on the CPU (VITRINE_DIFF_SEED=${seed})` : `the x87 on the CPU (${reason})`;

describe.runIf(reason === null)(title, () => {
  it.each(Object.keys(encodings).map((mnemonic, stream) => ({ mnemonic, stream })))(
    '$mnemonic',
    async ({ mnemonic, stream }) => {
      const native = new NativeRunner();
      const maker = new CaseMaker(seed, stream);
      const cases = Array.from({ length: CASES }, () => maker.make(maker.random.pick(encodings[mnemonic])));
      const results = await native.run(cases);
      native.close();
      const failures: string[] = [];
      cases.forEach((made, i) => {
        const other = runner.runOne(made);
        const ignored = ignoredParts(made, results[i]!, other, known);
        const found = ignored.everything ? [] : differences(made, results[i]!, other, ignored);
        if (found.length === 0 || (APPROXIMATE.has(mnemonic) && found.every(isRounding))) return;
        const code = Buffer.from(made.code).toString('hex');
        const operands = [0, 1].map(
          (n) =>
            `${n}: ${Buffer.from(made.fxsave.slice(32 + 16 * n, 42 + 16 * n))
              .reverse()
              .toString('hex')}`,
        );
        const image = imageOf(made);
        const words = [0, 2, 4].map((at) => image.getUint16(at, true).toString(16));
        failures.push(`${code} ${words.join(' ')} ${operands.join(' ')}\n${JSON.stringify(found)}`);
      });
      expect(failures.slice(0, SHOWN).join('\n'), `${failures.length} of ${CASES}`).toBe('');
    },
  );
});
