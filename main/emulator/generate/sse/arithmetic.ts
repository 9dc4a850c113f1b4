import { f32, f64, i32, i64, select, type I32, type I64, type V128 } from '../../wasm/expression.ts';
import { bits128, i32x4, i8x16 } from '../../wasm/simd.ts';
import { call } from '../../wasm/module.ts';
import type { Emitter } from '../emitter.ts';
import { Flag, setArithmeticFlags } from '../flags.ts';
import type { LibraryRoutine, Semantics, SemanticsGroup } from '../semantics.ts';
import {
  everyLane,
  finiteLanes,
  floatRoutines,
  hostScalar,
  isFast,
  isFinite,
  isOrdinary,
  isPlain,
  lane,
  lanesOf,
  notDenormal,
  ordinaryLanes,
  plainLanes,
  signs,
  withFlags,
  withLane,
  zeroLanes,
} from './floats.ts';
import { bytes, imm8, readScalar, sse, writeScalar } from './operands.ts';
import { arithmeticRoutines, Relation } from './soft-arithmetic.ts';
import { DOUBLE, SINGLE, type Format } from './soft-float.ts';

/** Arithmetic and comparison of packed and scalar reals. */

type Name = 'add' | 'sub' | 'mul' | 'div' | 'sqrt' | 'min' | 'max';

/** The sign bit where the routine `add` is to subtract. */
function flipOf(format: Format, name: Name): bigint {
  return name === 'sub' ? 1n << BigInt(format.bits - 1) : 0n;
}
const routineOf = (name: Name): string => (name === 'sub' ? 'add' : name);

/** Whether the host's result of an operation is all there is to it, for lanes. */
function laneConditions(format: Format, name: Name, result: V128, a: V128, b: V128): V128 {
  const inputs =
    name === 'sqrt'
      ? ordinaryLanes(format, b)
      : bits128.and(ordinaryLanes(format, a), ordinaryLanes(format, b));
  switch (name) {
    case 'min':
    case 'max':
      return inputs;
    case 'add':
    case 'sub':
      // A tiny sum is exact.
      return bits128.and(inputs, finiteLanes(format, result));
    case 'mul': {
      const zero = bits128.or(zeroLanes(format, a), zeroLanes(format, b));
      const exactZero = bits128.and(zeroLanes(format, result), zero);
      return bits128.and(inputs, bits128.or(plainLanes(format, result), exactZero));
    }
    case 'div':
    case 'sqrt': {
      const zero = zeroLanes(format, name === 'sqrt' ? b : a);
      const exactZero = bits128.and(zeroLanes(format, result), zero);
      return bits128.and(inputs, bits128.or(plainLanes(format, result), exactZero));
    }
  }
}

function hostLanes(format: Format, name: Name, a: V128, b: V128): V128 {
  const ops = lanesOf[format.bits];
  if (name === 'sqrt') return ops.sqrt(b);
  // The second operand wins unless the first is truly less or greater: pmin and pmax with the operands swapped.
  if (name === 'min') return ops.pmin(b, a);
  if (name === 'max') return ops.pmax(b, a);
  return ops[name](a, b);
}

const packedReal = (format: Format, name: Name): Semantics =>
  sse((c) => {
    const b = c.readVector(1);
    const a = name === 'sqrt' ? b : c.readVector(0);
    const result = c.f.local('v128');
    c.f.set(result, hostLanes(format, name, a, b));
    const ordinary = everyLane(format, laneConditions(format, name, result, a, b));
    const fast = name === 'min' || name === 'max' ? ordinary : i32.and(isFast(c), ordinary);
    c.f.if(i32.eqz(fast), () =>
      withFlags(c, () => {
        const operands = name === 'sqrt' ? [b] : [a, b];
        if (name === 'sub') operands.push(signs(format));
        if (name === 'add') operands.push(bytes(() => 0));
        c.f.set(result, c.call(`${routineOf(name)}${format.bits}s`, 'v128', c.s, ...operands));
      }),
    );
    c.writeVector(0, result);
  });

function hostScalarOf(format: Format, name: Name, a: I64, b: I64): I64 {
  switch (name) {
    case 'sqrt':
      return hostScalar(format, f32.sqrt, f64.sqrt, b);
    case 'min':
      return select(scalarLess(format, a, b), a, b);
    case 'max':
      return select(scalarLess(format, b, a), a, b);
    default:
      return hostScalar(format, f32[name], f64[name], a, b);
  }
}

function scalarCompare(format: Format, name: 'lt' | 'eq', a: I64, b: I64): I32 {
  if (format.bits === 64) return f64[name](f64.reinterpret_i64(a), f64.reinterpret_i64(b));
  return f32[name](f32.reinterpret_i32(i32.wrap(a)), f32.reinterpret_i32(i32.wrap(b)));
}
const scalarLess = (format: Format, a: I64, b: I64): I32 => scalarCompare(format, 'lt', a, b);

function scalarCondition(c: Emitter, format: Format, name: Name, result: I64, a: I64, b: I64): I32 {
  if (name === 'min' || name === 'max') return i32.and(isOrdinary(format, a), isOrdinary(format, b));
  const good = name === 'add' || name === 'sub' ? isFinite(format, result) : isPlain(format, result);
  const inputs =
    name === 'sqrt' ? notDenormal(format, b) : i32.and(notDenormal(format, a), notDenormal(format, b));
  return i32.and(i32.and(isFast(c), good), inputs);
}

const scalarReal = (format: Format, name: Name): Semantics =>
  sse((c) => {
    const b = readScalar(c, 1, format.bits);
    const a = name === 'sqrt' ? b : readScalar(c, 0, format.bits);
    const result = c.f.local('i64');
    c.f.set(result, hostScalarOf(format, name, a, b));
    c.f.if(i32.eqz(scalarCondition(c, format, name, result, a, b)), () =>
      withFlags(c, () => {
        const operands = name === 'sqrt' ? [b] : [a, b];
        if (routineOf(name) === 'add') operands.push(i64.const(flipOf(format, name)));
        c.f.set(result, c.call(`${routineOf(name)}${format.bits}`, 'i64', c.s, ...operands));
      }),
    );
    writeScalar(c, 0, format.bits, result);
  });

/** Adds vectors that a horizontal or alternating instruction has arranged; `flip` has sign bits to subtract. */
function addArranged(c: Emitter, format: Format, a: V128, b: V128, flip: V128): void {
  const result = c.f.local('v128');
  c.f.set(result, lanesOf[format.bits].add(a, bits128.xor(b, flip)));
  const fast = everyLane(format, laneConditions(format, 'add', result, a, b));
  c.f.if(i32.eqz(i32.and(isFast(c), fast)), () =>
    withFlags(c, () => c.f.set(result, c.call(`add${format.bits}s`, 'v128', c.s, a, b, flip))),
  );
  c.writeVector(0, result);
}

const alternating = (format: Format): Semantics =>
  sse((c) => {
    const size = format.bits / 8;
    // The even lanes subtract.
    const flip = bytes((i) => (i % (2 * size) === size - 1 ? 0x80 : 0));
    addArranged(c, format, c.readVector(0), c.readVector(1), flip);
  });

const horizontal = (format: Format, subtract: boolean): Semantics =>
  sse((c) => {
    const a = c.readVector(0);
    const b = c.readVector(1);
    const size = format.bits / 8;
    const lanes = (first: number): number[] =>
      Array.from({ length: 16 }, (_, i) => first + (i % size) + 2 * size * Math.floor(i / size));
    const even = c.f.let(i8x16.shuffle(a, b, lanes(0)));
    const odd = c.f.let(i8x16.shuffle(a, b, lanes(size)));
    addArranged(c, format, even, odd, subtract ? signs(format) : bytes(() => 0));
  });

// ---- Comparisons ----------------------------------------------------------------------------------------

/**
 * CMPxx predicates 0-7: a bit for each relation (EQUAL, LESS, GREATER, UNORDERED from the lowest) for which
 * the predicate holds, four for each predicate: EQ LT LE UNORD NEQ NLT NLE ORD.
 */
const PREDICATES = 0x7cde_8321;
/** Predicates that accept quiet NaNs: EQ, UNORD, NEQ, ORD. */
const QUIET = 0b10011001;

/** Masks (0 or -1) of a predicate's parts for ordinary operands: "less" counts, "equal" counts, negated. */
function predicateParts(c: Emitter, predicate: I32): { less: I32; equal: I32; negated: I32 } {
  const minus = (bit: I32): I32 => c.f.let(i32.sub(i32.const(0), i32.and(bit, 1)));
  return {
    less: minus(i32.shr_u(i32.add(i32.and(predicate, 3), 1), 1)),
    equal: minus(i32.xor(predicate, 1)),
    negated: minus(i32.shr_u(predicate, 2)),
  };
}

const comparePacked = (format: Format): Semantics =>
  sse((c) => {
    const a = c.readVector(0);
    const b = c.readVector(1);
    const predicate = c.f.let(i32.and(imm8(c), 7));
    const ops = lanesOf[format.bits];
    const result = c.f.local('v128');
    const ordinary = everyLane(format, bits128.and(ordinaryLanes(format, a), ordinaryLanes(format, b)));
    c.f.if(
      ordinary,
      () => {
        const { less, equal, negated } = predicateParts(c, predicate);
        const holds = bits128.or(
          bits128.and(ops.lt(a, b), i32x4.splat(less)),
          bits128.and(ops.eq(a, b), i32x4.splat(equal)),
        );
        c.f.set(result, bits128.xor(holds, i32x4.splat(negated)));
      },
      () =>
        withFlags(c, () => c.f.set(result, c.call(`predicate${format.bits}s`, 'v128', c.s, a, b, predicate))),
    );
    c.writeVector(0, result);
  });

const compareScalar = (format: Format): Semantics =>
  sse((c) => {
    const a = readScalar(c, 0, format.bits);
    const b = readScalar(c, 1, format.bits);
    const predicate = c.f.let(i32.and(imm8(c), 7));
    const result = c.f.local('i64');
    c.f.if(
      i32.and(isOrdinary(format, a), isOrdinary(format, b)),
      () => {
        const { less, equal, negated } = predicateParts(c, predicate);
        const isLess = i32.sub(i32.const(0), scalarLess(format, a, b));
        const isEqual = i32.sub(i32.const(0), scalarCompare(format, 'eq', a, b));
        const holds = i32.or(i32.and(isLess, less), i32.and(isEqual, equal));
        c.f.set(result, i64.extend_s(i32.xor(holds, negated)));
      },
      () =>
        withFlags(c, () =>
          c.f.set(result, c.call(`predicate${format.bits}`, 'i64', c.s, a, b, i64.extend_u(predicate))),
        ),
    );
    writeScalar(c, 0, format.bits, result);
  });

/** predicate (s, a, b, predicate): all ones where it holds, else 0. */
const predicateRoutine = (format: Format): LibraryRoutine => ({
  signature: { parameters: ['i32', 'i64', 'i64', 'i64'], result: 'i64' },
  build(f, callees) {
    const predicate = f.let(i32.wrap(f.parameter('i64', 3)));
    const quiet = i64.extend_u(i32.and(i32.shr_u(i32.const(QUIET), predicate), 1));
    const [s, a, b] = [f.parameter('i32', 0), f.parameter('i64', 1), f.parameter('i64', 2)];
    const relation = call(callees(`compare${format.bits}`), 'i32', s, a, b, quiet);
    const bit = i32.add(i32.shl(predicate, 2), relation);
    const holds = i32.and(i32.shr_u(i32.const(PREDICATES), bit), 1);
    f.return(i64.extend_s(i32.sub(i32.const(0), holds)));
  },
});

const predicateLanes = (format: Format): LibraryRoutine => ({
  signature: { parameters: ['i32', 'v128', 'v128', 'i32'], result: 'v128' },
  build(f, callees) {
    const [s, a, b] = [f.parameter('i32', 0), f.parameter('v128', 1), f.parameter('v128', 2)];
    const predicate = f.let(i64.extend_u(f.parameter('i32', 3)));
    const result = f.local('v128');
    for (let n = 0; n < 128 / format.bits; n++) {
      const [x, y] = [lane(format, a, n), lane(format, b, n)];
      const value = f.let(call(callees(`predicate${format.bits}`), 'i64', s, x, y, predicate));
      f.set(result, withLane(format, result, n, value));
    }
    f.return(result);
  },
});

/** COMIS and UCOMIS: the relation in ZF, PF, CF. */
const compareFlags = (format: Format, quiet: boolean): Semantics =>
  sse((c) => {
    const a = readScalar(c, 0, format.bits);
    const b = readScalar(c, 1, format.bits);
    const word = c.f.local('i32');
    c.f.if(
      i32.and(isOrdinary(format, a), isOrdinary(format, b)),
      () => {
        const equal = i32.mul(scalarCompare(format, 'eq', a, b), Flag.ZF);
        c.f.set(word, i32.or(scalarLess(format, a, b), equal));
      },
      () =>
        withFlags(c, () => {
          const operands = [c.s, a, b, i64.const(quiet ? 1 : 0)] as const;
          const relation = c.call(`compare${format.bits}`, 'i32', ...operands);
          const less = i32.eq(relation, Relation.LESS);
          const equal = i32.mul(i32.eqz(relation), Flag.ZF);
          const unordered = i32.mul(i32.eq(relation, Relation.UNORDERED), Flag.ZF | Flag.PF | Flag.CF);
          c.f.set(word, i32.or(i32.or(less, equal), unordered));
        }),
    );
    setArithmeticFlags(c, word);
  });

export const arithmetic: SemanticsGroup = {
  name: 'sse arithmetic',
  plain: {
    ...Object.fromEntries(
      (['add', 'sub', 'mul', 'div', 'sqrt', 'min', 'max'] as const).flatMap((name) => [
        [`${name}ps`, packedReal(SINGLE, name)],
        [`${name}pd`, packedReal(DOUBLE, name)],
        [`${name}ss`, scalarReal(SINGLE, name)],
        [`${name}sd`, scalarReal(DOUBLE, name)],
      ]),
    ),
    addsubps: alternating(SINGLE),
    addsubpd: alternating(DOUBLE),
    haddps: horizontal(SINGLE, false),
    haddpd: horizontal(DOUBLE, false),
    hsubps: horizontal(SINGLE, true),
    hsubpd: horizontal(DOUBLE, true),
    cmpps: comparePacked(SINGLE),
    cmppd: comparePacked(DOUBLE),
    cmpss: compareScalar(SINGLE),
    cmpsd: compareScalar(DOUBLE),
    comiss: compareFlags(SINGLE, false),
    comisd: compareFlags(DOUBLE, false),
    ucomiss: compareFlags(SINGLE, true),
    ucomisd: compareFlags(DOUBLE, true),
  },
  library: {
    ...floatRoutines,
    ...arithmeticRoutines,
    predicate32: predicateRoutine(SINGLE),
    predicate64: predicateRoutine(DOUBLE),
    predicate32s: predicateLanes(SINGLE),
    predicate64s: predicateLanes(DOUBLE),
  },
};
