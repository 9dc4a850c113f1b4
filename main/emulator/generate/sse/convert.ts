import { Field } from '../../state.ts';
import { f32, f64, i32, i64, select, type I32, type I64, type V128 } from '../../wasm/expression.ts';
import { bits128, f32x4, f64x2, i32x4 } from '../../wasm/simd.ts';
import { call } from '../../wasm/module.ts';
import { extend, type Emitter } from '../emitter.ts';
import type { LibraryRoutine, Semantics, SemanticsGroup } from '../semantics.ts';
import {
  everyLane,
  hostScalar,
  isFast,
  isOrdinary,
  isPlain,
  lane,
  lanesOf,
  ordinaryLanes,
  withFlags,
  withLane,
  zeroLanes,
} from './floats.ts';
import {
  enterMmx,
  imm8,
  isMmx,
  low64,
  lowOf,
  readMmxVector,
  readScalar,
  requireMmx,
  requireSse,
  sse,
  writeMmx,
  writeScalar,
} from './operands.ts';
import { convertRoutines } from './soft-convert.ts';
import { DOUBLE, Mxcsr, Rounding, SINGLE, type Format } from './soft-float.ts';

/** Conversions between reals and integers, and between the formats; rounding to integers. */

const PRECISION = Mxcsr.PE | (Mxcsr.PE << 7);
/** An inexact result changes nothing: PE is set and masked. */
const precisionKnown = (c: Emitter): I32 => i32.eq(i32.and(c.field32(Field.MXCSR), PRECISION), PRECISION);
const roundingMode = (c: Emitter): I32 => i32.and(i32.shr_u(c.field32(Field.MXCSR), Mxcsr.ROUNDING_SHIFT), 3);

// ---- Integers to reals ----------------------------------------------------------------------------------

/** CVTSI2SS and CVTSI2SD. */
const fromInteger = (format: Format): Semantics =>
  sse((c) => {
    const { size } = c.form.operands[1];
    const value = c.f.let(extend(size, c.read(1)));
    const result = c.f.local('i64');
    const host = (): void =>
      c.f.set(
        result,
        format.bits === 64
          ? i64.reinterpret_f64(f64.convert_i64_s(value))
          : i64.extend_u(i32.reinterpret_f32(f32.convert_i64_s(value))),
      );
    const exact = 1n << BigInt(format.fraction + 1);
    const small = i64.le_u(i64.add(value, exact), exact * 2n);
    if (format.bits === 64 && size === 32) host();
    else {
      c.f.if(i32.or(small, isFast(c)), host, () =>
        withFlags(c, () => c.f.set(result, c.call(`fromInteger${format.bits}`, 'i64', c.s, value))),
      );
    }
    writeScalar(c, 0, format.bits, result);
  });

/** The binary32 values of the four (two: `low`) integers of a vector. */
function singlesOf(c: Emitter, integers: V128): V128 {
  const result = c.f.local('v128');
  c.f.set(result, f32x4.convert_i32x4_s(integers));
  // Back again gives the same where nothing was rounded; 2^31 does not come back as itself.
  const same = i32x4.eq(i32x4.trunc_sat_f32x4_s(result), integers);
  const largest = i32x4.eq(integers, i32x4.splat(i32.const(0x7fffffff)));
  const exact = i32x4.all_true(bits128.andnot(same, largest));
  c.f.if(i32.eqz(i32.or(isFast(c), exact)), () =>
    withFlags(c, () => c.f.set(result, c.call('fromIntegers32', 'v128', c.s, integers))),
  );
  return result;
}

const fromMmx = (format: Format): Semantics => {
  return (c) => {
    requireSse(c);
    // A memory operand has nothing to do with the MMX state.
    const mmx = isMmx(c, 1);
    if (mmx) requireMmx(c);
    const integers = readMmxVector(c, 1);
    if (mmx) enterMmx(c);
    if (format.bits === 64) c.writeVector(0, f64x2.convert_low_i32x4_s(integers));
    else writeScalar(c, 0, 64, lowOf(singlesOf(c, integers)));
  };
};

// ---- Between the formats --------------------------------------------------------------------------------

const widenScalar = sse((c) => {
  const x = readScalar(c, 1, 32);
  const result = c.f.local('i64');
  c.f.if(
    isOrdinary(SINGLE, x),
    () => c.f.set(result, i64.reinterpret_f64(f64.promote(f32.reinterpret_i32(i32.wrap(x))))),
    () => withFlags(c, () => c.f.set(result, c.call('widen', 'i64', c.s, x))),
  );
  writeScalar(c, 0, 64, result);
});

const widenPacked = sse((c) => {
  const x = c.f.let(low64(readScalar(c, 1, 64)));
  const result = c.f.local('v128');
  c.f.if(
    everyLane(SINGLE, ordinaryLanes(SINGLE, x)),
    () => c.f.set(result, f64x2.promote_low_f32x4(x)),
    () => withFlags(c, () => c.f.set(result, c.call('widens', 'v128', c.s, x))),
  );
  c.writeVector(0, result);
});

const narrowScalar = sse((c) => {
  const x = readScalar(c, 1, 64);
  const result = c.f.local('i64');
  c.f.set(result, i64.extend_u(i32.reinterpret_f32(f32.demote(f64.reinterpret_i64(x)))));
  // A result above the least normal number comes from no denormal.
  c.f.if(i32.eqz(i32.and(isFast(c), isPlain(SINGLE, result))), () =>
    withFlags(c, () => c.f.set(result, c.call('narrow', 'i64', c.s, x))),
  );
  writeScalar(c, 0, 32, result);
});

const narrowPacked = sse((c) => {
  const x = c.readVector(1);
  const result = c.f.local('v128');
  c.f.set(result, f32x4.demote_f64x2_zero(x));
  // Seen as binary64 again, plain lanes of the result are wider than the least normal binary32.
  const back = c.f.let(f64x2.promote_low_f32x4(result));
  const least = f64x2.splat(f64.const(2 ** -126));
  const limit = f64x2.splat(f64.const(Infinity));
  const plain = bits128.and(f64x2.gt(f64x2.abs(back), least), f64x2.lt(f64x2.abs(back), limit));
  const good = bits128.or(plain, zeroLanes(DOUBLE, x));
  c.f.if(i32.eqz(i32.and(isFast(c), everyLane(DOUBLE, good))), () =>
    withFlags(c, () => c.f.set(result, c.call('narrows', 'v128', c.s, x))),
  );
  c.writeVector(0, result);
});

// ---- Reals to integers ----------------------------------------------------------------------------------

/** CVT(T)SS2SI and CVT(T)SD2SI. */
const toInteger = (format: Format, truncate: boolean): Semantics =>
  sse((c) => {
    const f = c.f;
    const width = c.form.operands[0].size;
    const x = readScalar(c, 1, format.bits);
    const result = f.local('i64');
    const rounded = f.let(truncate ? x : hostScalar(format, f32.nearest, f64.nearest, x));
    const asSingle = f32.reinterpret_i32(i32.wrap(rounded));
    const asDouble = f64.reinterpret_i64(rounded);
    if (width === 64) {
      f.set(result, format.bits === 64 ? i64.trunc_f64_s(asDouble) : i64.trunc_f32_s(asSingle));
    } else {
      const narrow = format.bits === 64 ? i32.trunc_f64_s(asDouble) : i32.trunc_f32_s(asSingle);
      f.set(result, i64.extend_s(narrow));
    }
    // Back again gives the same where nothing was rounded; what saturated is left to the routine.
    const most = (1n << BigInt(width - 1)) - 1n;
    const back =
      format.bits === 64
        ? f64.eq(f64.convert_i64_s(result), f64.reinterpret_i64(x))
        : f32.eq(f32.convert_i64_s(result), f32.reinterpret_i32(i32.wrap(x)));
    const exact = i32.and(back, i64.ne(result, most));
    const size = hostScalar(format, f32.abs, f64.abs, x);
    const limit = 2 ** (width - 1) - 1;
    const inside =
      format.bits === 64
        ? f64.lt(f64.reinterpret_i64(size), f64.const(limit))
        : f32.lt(f32.reinterpret_i32(i32.wrap(size)), f32.const(limit));
    f.if(i32.eqz(i32.or(exact, i32.and(isFast(c), inside))), () =>
      withFlags(c, () => {
        const mode = i64.extend_u(truncate ? i32.const(Rounding.ZERO) : roundingMode(c));
        f.set(result, c.call(`toInt${width}From${format.bits}`, 'i64', c.s, x, mode));
      }),
    );
    c.write(0, result);
  });

/** The integers of the lanes; those of binary64 lanes come below two zeros. */
function integersOf(c: Emitter, format: Format, truncate: boolean, x: V128): V128 {
  const ops = lanesOf[format.bits];
  const result = c.f.local('v128');
  const rounded = truncate ? x : ops.nearest(x);
  c.f.set(
    result,
    format.bits === 32 ? i32x4.trunc_sat_f32x4_s(rounded) : i32x4.trunc_sat_f64x2_s_zero(rounded),
  );
  // The greatest binary32 below 2^31 is an integer; a binary64 may be rounded up to 2^31.
  const limit = format.bits === 32 ? f32x4.splat(f32.const(2 ** 31)) : f64x2.splat(f64.const(2 ** 31 - 1));
  const inside = everyLane(format, ops.lt(ops.abs(x), limit));
  c.f.if(i32.eqz(i32.and(isFast(c), inside)), () =>
    withFlags(c, () => {
      const mode = truncate ? i32.const(Rounding.ZERO) : roundingMode(c);
      c.f.set(result, c.call(`toIntegers${format.bits}`, 'v128', c.s, x, mode));
    }),
  );
  return result;
}

const toIntegers = (format: Format, truncate: boolean): Semantics =>
  sse((c) => c.writeVector(0, integersOf(c, format, truncate, c.readVector(1))));

const toMmx = (format: Format, truncate: boolean): Semantics => {
  return (c) => {
    requireSse(c);
    requireMmx(c);
    const x = format.bits === 32 ? c.f.let(low64(readScalar(c, 1, 64))) : c.readVector(1);
    // An unmasked exception comes after the transition.
    enterMmx(c);
    writeMmx(c, 0, lowOf(integersOf(c, format, truncate, x)));
  };
};

// ---- Rounding -------------------------------------------------------------------------------------------

/** Bits of ROUNDxx's immediate. */
const USE_MXCSR = 4;
const NO_PRECISION = 8;

interface RoundingChoice {
  /** Rounding mode 0-3. */
  readonly mode: I32;
  /** 8: do not report an inexact result. */
  readonly silent: I32;
}

function roundingChoice(c: Emitter): RoundingChoice {
  const imm = imm8(c);
  const mode = select(i32.and(imm, USE_MXCSR), roundingMode(c), i32.and(imm, 3));
  return { mode: c.f.let(mode), silent: c.f.let(i32.and(imm, NO_PRECISION)) };
}

const roundPacked = (format: Format): Semantics =>
  sse((c) => {
    const f = c.f;
    const x = c.readVector(1);
    const { mode, silent } = roundingChoice(c);
    const ops = lanesOf[format.bits];
    const result = f.local('v128');
    const directed = select(
      i32.eq(mode, Rounding.DOWN),
      ops.floor(x),
      select(i32.eq(mode, Rounding.UP), ops.ceil(x), ops.trunc(x)),
    );
    f.set(result, select(mode, directed, ops.nearest(x)));
    const quiet = i32.or(i32.or(silent, precisionKnown(c)), everyLane(format, ops.eq(x, result)));
    const fast = i32.and(i32.ne(quiet, 0), everyLane(format, ordinaryLanes(format, x)));
    f.if(i32.eqz(fast), () =>
      withFlags(c, () =>
        f.set(result, c.call(`roundIntegers${format.bits}`, 'v128', c.s, x, i32.or(mode, silent))),
      ),
    );
    c.writeVector(0, result);
  });

const roundScalar = (format: Format): Semantics =>
  sse((c) => {
    const f = c.f;
    const x = readScalar(c, 1, format.bits);
    const { mode, silent } = roundingChoice(c);
    const result = f.local('i64');
    const directed = select(
      i32.eq(mode, Rounding.DOWN),
      hostScalar(format, f32.floor, f64.floor, x),
      select(
        i32.eq(mode, Rounding.UP),
        hostScalar(format, f32.ceil, f64.ceil, x),
        hostScalar(format, f32.trunc, f64.trunc, x),
      ),
    );
    f.set(result, select(mode, directed, hostScalar(format, f32.nearest, f64.nearest, x)));
    const quiet = i32.or(i32.or(silent, precisionKnown(c)), i64.eq(x, result));
    const fast = i32.and(i32.ne(quiet, 0), isOrdinary(format, x));
    f.if(i32.eqz(fast), () =>
      withFlags(c, () => {
        const how = i64.extend_u(i32.or(mode, silent));
        f.set(result, c.call(`roundInteger${format.bits}`, 'i64', c.s, x, how));
      }),
    );
    writeScalar(c, 0, format.bits, result);
  });

// ---- Routines by lanes ----------------------------------------------------------------------------------

/** (s, vector, mode): `name` (s, lane, mode) for each lane. The result's lanes may be narrower. */
function lanesWithMode(format: Format, result: Format, name: string): LibraryRoutine {
  return {
    signature: { parameters: ['i32', 'v128', 'i32'], result: 'v128' },
    build(f, callees) {
      const mode = f.let(i64.extend_u(f.parameter('i32', 2)));
      const out = f.local('v128');
      for (let n = 0; n < 128 / format.bits; n++) {
        const x = lane(format, f.parameter('v128', 1), n);
        const value = f.let(call(callees(name), 'i64', f.parameter('i32', 0), x, mode));
        f.set(out, withLane(result, out, n, value));
      }
      f.return(out);
    },
  };
}

/** (s, vector): `name` (s, lane) for each of `count` lanes, read by `read`. */
function lanesTo(
  result: Format,
  count: number,
  name: string,
  read: (vector: V128, n: number) => I64,
): LibraryRoutine {
  return {
    signature: { parameters: ['i32', 'v128'], result: 'v128' },
    build(f, callees) {
      const out = f.local('v128');
      for (let n = 0; n < count; n++) {
        const x = read(f.parameter('v128', 1), n);
        const value = f.let(call(callees(name), 'i64', f.parameter('i32', 0), x));
        f.set(out, withLane(result, out, n, value));
      }
      f.return(out);
    },
  };
}

export const conversions: SemanticsGroup = {
  name: 'sse conversions',
  plain: {
    cvtsi2ss: fromInteger(SINGLE),
    cvtsi2sd: fromInteger(DOUBLE),
    cvtdq2ps: sse((c) => c.writeVector(0, singlesOf(c, c.readVector(1)))),
    cvtdq2pd: sse((c) => {
      const integers = c.f.let(low64(readScalar(c, 1, 64)));
      c.writeVector(0, f64x2.convert_low_i32x4_s(integers));
    }),
    cvtpi2ps: fromMmx(SINGLE),
    cvtpi2pd: fromMmx(DOUBLE),
    cvtss2sd: widenScalar,
    cvtps2pd: widenPacked,
    cvtsd2ss: narrowScalar,
    cvtpd2ps: narrowPacked,
    cvtss2si: toInteger(SINGLE, false),
    cvttss2si: toInteger(SINGLE, true),
    cvtsd2si: toInteger(DOUBLE, false),
    cvttsd2si: toInteger(DOUBLE, true),
    cvtps2dq: toIntegers(SINGLE, false),
    cvttps2dq: toIntegers(SINGLE, true),
    cvtpd2dq: toIntegers(DOUBLE, false),
    cvttpd2dq: toIntegers(DOUBLE, true),
    cvtps2pi: toMmx(SINGLE, false),
    cvttps2pi: toMmx(SINGLE, true),
    cvtpd2pi: toMmx(DOUBLE, false),
    cvttpd2pi: toMmx(DOUBLE, true),
    roundps: roundPacked(SINGLE),
    roundpd: roundPacked(DOUBLE),
    roundss: roundScalar(SINGLE),
    roundsd: roundScalar(DOUBLE),
  },
  library: {
    ...convertRoutines,
    fromIntegers32: lanesTo(SINGLE, 4, 'fromInteger32', (vector, n) =>
      i64.extend_s(i32x4.extract_lane(vector, n)),
    ),
    widens: lanesTo(DOUBLE, 2, 'widen', (vector, n) => lane(SINGLE, vector, n)),
    narrows: lanesTo(SINGLE, 2, 'narrow', (vector, n) => lane(DOUBLE, vector, n)),
    toIntegers32: lanesWithMode(SINGLE, SINGLE, 'toInt32From32'),
    toIntegers64: lanesWithMode(DOUBLE, SINGLE, 'toInt32From64'),
    roundIntegers32: lanesWithMode(SINGLE, SINGLE, 'roundInteger32'),
    roundIntegers64: lanesWithMode(DOUBLE, DOUBLE, 'roundInteger64'),
  },
};
