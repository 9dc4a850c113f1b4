import type { ByteWriter } from './bytes.ts';
import {
  integer,
  IntegerConstant,
  isConstant,
  NarrowLoad,
  Operation,
  RawConstant,
  TYPE_BYTE,
  ZeroExtended,
  type Any,
  type Expression,
  type F32,
  type F64,
  type I32,
  type I64,
  type Type,
  type V128,
} from './operation.ts';

export { isConstant, Local, LocalHole, NumberHole, TYPE_BYTE } from './operation.ts';
export type { Expression, F32, F64, I32, I64, Type, V128 } from './operation.ts';

/**
 * Typed WebAssembly expressions. An expression is a small tree; nothing is computed until a statement of
 * FunctionBuilder writes it, so an expression used twice is computed twice: bind it with `let` instead.
 * Loads are computed where they are written too: bind one before a store that it must not see.
 *
 * Much of a guest's arithmetic has 32 bits, and the semantics computes with 64. What is known to fit into 32, and what is
 * cut to them, is computed as an i32: the machine clears the upper half by itself then.
 *
 * Opcodes: WebAssembly core specification 2.0, section 5.4 (with tail calls, threads and SIMD).
 */

const PREFIX_MISC = 0xfc;
const PREFIX_SIMD = 0xfd;
const PREFIX_ATOMIC = 0xfe;

/** A call of a function by its index in the module, as an expression. */
export function callExpression<T extends Type>(
  type: T,
  functionIndex: number,
  operands: readonly Any[],
): Expression<T> {
  return new Operation(type, 0, 0x10, operands, [functionIndex]);
}

/** condition ? whenTrue : whenFalse, both computed. */
export function select<T extends Type>(
  condition: I32,
  whenTrue: Expression<T>,
  whenFalse: Expression<T>,
): Expression<T> {
  if (whenTrue.type === 'v128') {
    return new Operation(whenTrue.type, 0, 0x1c, [whenTrue, whenFalse, condition], [1, TYPE_BYTE.v128]);
  }
  const [one, other] = [whenTrue.low, whenFalse.low];
  if (one !== undefined && other !== undefined) return i64.extend_u(select(condition, one, other)) as never;
  return new Operation(whenTrue.type, 0, 0x1b, [whenTrue, whenFalse, condition]);
}

type Numeric<T extends Type> = number | Expression<T>;

function operator<T extends Type>(type: T, opcode: number, prefix = 0) {
  return <A extends Type>(a: Expression<A>): Expression<T> => new Operation(type, prefix, opcode, [a]);
}

function load<T extends Type>(type: T, opcode: number, prefix = 0, align = 0) {
  return (address: I32, offset = 0): Expression<T> =>
    new Operation(type, prefix, opcode, [address], [align, offset]);
}

function integerBinary<T extends 'i32' | 'i64', R extends 'i32' | 'i64'>(
  of: T,
  result: R,
  opcode: number,
  fold?: (a: bigint, b: bigint) => bigint,
) {
  return (a: Expression<T>, b: Numeric<T> | (T extends 'i64' ? bigint : never)): Expression<R> => {
    const right = (typeof b === 'object' ? b : integer(of, b)) as Expression<T>;
    if (fold && isConstant(a) && isConstant(right)) return integer(result, fold(a.constant, right.constant));
    return new Operation(result, 0, opcode, [a, right]);
  };
}

function integerOperators<T extends 'i32' | 'i64'>(type: T, compare: number, arithmetic: number) {
  const bits = type === 'i32' ? 32n : 64n;
  const mask = bits - 1n;
  const u = (value: bigint): bigint => BigInt.asUintN(Number(bits), value);
  const test = (condition: boolean): bigint => (condition ? 1n : 0n);
  return {
    eqz: (a: Expression<T>): I32 =>
      isConstant(a) ? i32.const(a.small === 0 ? 1 : 0) : new Operation('i32', 0, compare, [a]),
    eq: integerBinary(type, 'i32', compare + 1, (a, b) => test(a === b)),
    ne: integerBinary(type, 'i32', compare + 2, (a, b) => test(a !== b)),
    lt_s: integerBinary(type, 'i32', compare + 3, (a, b) => test(a < b)),
    lt_u: integerBinary(type, 'i32', compare + 4, (a, b) => test(u(a) < u(b))),
    gt_s: integerBinary(type, 'i32', compare + 5, (a, b) => test(a > b)),
    gt_u: integerBinary(type, 'i32', compare + 6, (a, b) => test(u(a) > u(b))),
    le_s: integerBinary(type, 'i32', compare + 7, (a, b) => test(a <= b)),
    le_u: integerBinary(type, 'i32', compare + 8, (a, b) => test(u(a) <= u(b))),
    ge_s: integerBinary(type, 'i32', compare + 9, (a, b) => test(a >= b)),
    ge_u: integerBinary(type, 'i32', compare + 10, (a, b) => test(u(a) >= u(b))),
    clz: operator(type, arithmetic),
    ctz: operator(type, arithmetic + 1),
    popcnt: operator(type, arithmetic + 2),
    add: integerBinary(type, type, arithmetic + 3, (a, b) => a + b),
    sub: integerBinary(type, type, arithmetic + 4, (a, b) => a - b),
    mul: integerBinary(type, type, arithmetic + 5, (a, b) => a * b),
    div_s: integerBinary(type, type, arithmetic + 6),
    div_u: integerBinary(type, type, arithmetic + 7),
    rem_s: integerBinary(type, type, arithmetic + 8),
    rem_u: integerBinary(type, type, arithmetic + 9),
    and: integerBinary(type, type, arithmetic + 10, (a, b) => a & b),
    or: integerBinary(type, type, arithmetic + 11, (a, b) => a | b),
    xor: integerBinary(type, type, arithmetic + 12, (a, b) => a ^ b),
    shl: integerBinary(type, type, arithmetic + 13, (a, b) => a << (b & mask)),
    shr_s: integerBinary(type, type, arithmetic + 14, (a, b) => a >> (b & mask)),
    shr_u: integerBinary(type, type, arithmetic + 15, (a, b) => u(a) >> (b & mask)),
    rotl: integerBinary(type, type, arithmetic + 16),
    rotr: integerBinary(type, type, arithmetic + 17),
  };
}

/** An i32 is the lower half of such an i64 if its operands are those of the i64's: add, sub, mul, and, or, xor, shl. */
const HALVES = new Set([0x7c, 0x7d, 0x7e, 0x83, 0x84, 0x85, 0x86]);
/** What the opcodes of i64's arithmetic are more than those of i32's. */
const WIDE_OPCODES = 0x12;
const LOAD_64 = 0x29;
const LOAD_32 = 0x28;
const SHIFT_LEFT = 0x86;

/** The lower half of an i64, with as much as possible computed in 32 bits. */
function lowerHalf(a: I64): I32 {
  if (isConstant(a)) return i32.const(Number(BigInt.asIntN(32, a.constant)));
  const { low } = a;
  if (low !== undefined) return low;
  if (a instanceof Operation && a.prefix === 0) {
    const { opcode, operands, immediates } = a;
    if (opcode === LOAD_64) return new Operation('i32', 0, LOAD_32, operands, immediates);
    const [left, right] = operands as I64[];
    const shift =
      opcode !== SHIFT_LEFT || (right.small !== undefined && right.small >= 0 && right.small < 32);
    if (HALVES.has(opcode) && shift) {
      return new Operation('i32', 0, opcode - WIDE_OPCODES, [lowerHalf(left), lowerHalf(right)]);
    }
  }
  return new Operation('i32', 0, 0xa7, [a]);
}

type Binary<R extends Type> = (a: I64, b: number | bigint | I64) => Expression<R>;
type NarrowBinary = (a: I32, b: I32) => I32;

const operand = (b: number | bigint | I64): I64 => (typeof b === 'object' ? b : integer('i64', b));

/** A comparison of two i64, which are compared as i32 if both fit. */
function comparison(wide: Binary<'i32'>, narrow: NarrowBinary): Binary<'i32'> {
  return (a, b) => {
    const right = operand(b);
    const [one, other] = [a.low, right.low];
    return one === undefined || other === undefined ? wide(a, right) : narrow(one, other);
  };
}

/** OR and XOR: 32 bits if both have no more. */
function bitwise(wide: Binary<'i64'>, narrow: NarrowBinary): Binary<'i64'> {
  return (a, b) => {
    const right = operand(b);
    const [one, other] = [a.low, right.low];
    return one === undefined || other === undefined ? wide(a, right) : i64.extend_u(narrow(one, other));
  };
}

/** AND: 32 bits if one has no more. */
const and: Binary<'i64'> = (a, b) => {
  const right = operand(b);
  if (right.small === 0xffffffff) return i64.extend_u(lowerHalf(a));
  if (a.low === undefined && right.low === undefined) return wide.and(a, right);
  return i64.extend_u(i32.and(lowerHalf(a), lowerHalf(right)));
};

/** SHR: 32 bits if what is shifted has no more. */
const shiftRight: Binary<'i64'> = (a, b) => {
  const right = operand(b);
  const { low } = a;
  const { small } = right;
  if (low === undefined || small === undefined || small < 0 || small >= 32) return wide.shr_u(a, right);
  return i64.extend_u(i32.shr_u(low, small));
};

export const i32 = {
  const: (value: number): I32 => new IntegerConstant('i32', value | 0),
  ...integerOperators('i32', 0x45, 0x67),
  load: load('i32', 0x28),
  load8_s: load('i32', 0x2c),
  load8_u: load('i32', 0x2d),
  load16_s: load('i32', 0x2e),
  load16_u: load('i32', 0x2f),
  wrap: lowerHalf,
  trunc_f32_s: operator('i32', 0, PREFIX_MISC),
  trunc_f32_u: operator('i32', 1, PREFIX_MISC),
  /** Saturating truncations: they never trap. */
  trunc_f64_s: operator('i32', 2, PREFIX_MISC),
  trunc_f64_u: operator('i32', 3, PREFIX_MISC),
  reinterpret_f32: operator('i32', 0xbc),
  extend8_s: operator('i32', 0xc0),
  extend16_s: operator('i32', 0xc1),
  /** Sequentially consistent load; the address must be aligned. */
  atomicLoad: load('i32', 0x10, PREFIX_ATOMIC, 2),
};

const wide = integerOperators('i64', 0x50, 0x79);

/** Loads of less than 64 bits, zero-extended; `opcode` is i64's, `narrow` i32's. */
function narrowLoad(opcode: number, narrow: number) {
  return (address: I32, offset = 0): I64 => new NarrowLoad(opcode, narrow, address, offset);
}

export const i64 = {
  const: (value: number | bigint): I64 => integer('i64', value),
  ...wide,
  eqz: (a: I64): I32 => (a.low === undefined ? wide.eqz(a) : i32.eqz(a.low)),
  eq: comparison(wide.eq, i32.eq),
  ne: comparison(wide.ne, i32.ne),
  lt_u: comparison(wide.lt_u, i32.lt_u),
  gt_u: comparison(wide.gt_u, i32.gt_u),
  le_u: comparison(wide.le_u, i32.le_u),
  ge_u: comparison(wide.ge_u, i32.ge_u),
  and,
  or: bitwise(wide.or, i32.or),
  xor: bitwise(wide.xor, i32.xor),
  shr_u: shiftRight,
  load: load('i64', LOAD_64),
  load8_s: load('i64', 0x30),
  load8_u: narrowLoad(0x31, 0x2d),
  load16_s: load('i64', 0x32),
  load16_u: narrowLoad(0x33, 0x2f),
  load32_s: load('i64', 0x34),
  load32_u: narrowLoad(0x35, LOAD_32),
  extend_s: (a: I32): I64 => (isConstant(a) ? i64.const(a.small!) : new Operation('i64', 0, 0xac, [a])),
  extend_u: (a: I32): I64 => (isConstant(a) ? i64.const(a.small! >>> 0) : new ZeroExtended(a)),
  trunc_f32_s: operator('i64', 4, PREFIX_MISC),
  trunc_f32_u: operator('i64', 5, PREFIX_MISC),
  /** Saturating truncations: they never trap. */
  trunc_f64_s: operator('i64', 6, PREFIX_MISC),
  trunc_f64_u: operator('i64', 7, PREFIX_MISC),
  reinterpret_f64: operator('i64', 0xbd),
  extend8_s: operator('i64', 0xc2),
  extend16_s: operator('i64', 0xc3),
  extend32_s: (a: I64): I64 =>
    a.low === undefined ? new Operation('i64', 0, 0xc4, [a]) : i64.extend_s(a.low),
  lane: (vector: V128, lane: number): I64 => new Operation('i64', PREFIX_SIMD, 0x1d, [vector], [lane]),
};

/** Locked read-modify-write: address, value(s), offset; the address must be aligned to the size. Result: the old value. */
function atomicRmw<T extends 'i32' | 'i64'>(type: T, opcode: number, align: number) {
  return (address: I32, value: Expression<T>, offset = 0): Expression<T> =>
    new Operation(type, PREFIX_ATOMIC, opcode, [address, value], [align, offset]);
}
function atomicCompareExchange<T extends 'i32' | 'i64'>(type: T, opcode: number, align: number) {
  return (address: I32, expected: Expression<T>, value: Expression<T>, offset = 0): Expression<T> =>
    new Operation(type, PREFIX_ATOMIC, opcode, [address, expected, value], [align, offset]);
}

/** Atomics on 64-bit values by operand size in bits (narrow ones zero-extend). */
export const atomic = {
  add: {
    8: atomicRmw('i64', 0x22, 0),
    16: atomicRmw('i64', 0x23, 1),
    32: atomicRmw('i64', 0x24, 2),
    64: atomicRmw('i64', 0x1f, 3),
  },
  exchange: {
    8: atomicRmw('i64', 0x45, 0),
    16: atomicRmw('i64', 0x46, 1),
    32: atomicRmw('i64', 0x47, 2),
    64: atomicRmw('i64', 0x42, 3),
  },
  compareExchange: {
    8: atomicCompareExchange('i64', 0x4c, 0),
    16: atomicCompareExchange('i64', 0x4d, 1),
    32: atomicCompareExchange('i64', 0x4e, 2),
    64: atomicCompareExchange('i64', 0x49, 3),
  },
};

function floatBinary<T extends 'f32' | 'f64', R extends Type>(_of: T, result: R, opcode: number) {
  return (a: Expression<T>, b: Expression<T>): Expression<R> => new Operation(result, 0, opcode, [a, b]);
}

function floatOperators<T extends 'f32' | 'f64'>(type: T, compare: number, arithmetic: number) {
  return {
    eq: floatBinary(type, 'i32', compare),
    ne: floatBinary(type, 'i32', compare + 1),
    lt: floatBinary(type, 'i32', compare + 2),
    gt: floatBinary(type, 'i32', compare + 3),
    le: floatBinary(type, 'i32', compare + 4),
    ge: floatBinary(type, 'i32', compare + 5),
    abs: operator(type, arithmetic),
    neg: operator(type, arithmetic + 1),
    ceil: operator(type, arithmetic + 2),
    floor: operator(type, arithmetic + 3),
    trunc: operator(type, arithmetic + 4),
    nearest: operator(type, arithmetic + 5),
    sqrt: operator(type, arithmetic + 6),
    add: floatBinary(type, type, arithmetic + 7),
    sub: floatBinary(type, type, arithmetic + 8),
    mul: floatBinary(type, type, arithmetic + 9),
    div: floatBinary(type, type, arithmetic + 10),
    min: floatBinary(type, type, arithmetic + 11),
    max: floatBinary(type, type, arithmetic + 12),
    copysign: floatBinary(type, type, arithmetic + 13),
  };
}

export const f32 = {
  const: (value: number): F32 =>
    new RawConstant('f32', [0x43, ...new Uint8Array(new Float32Array([value]).buffer)]),
  ...floatOperators('f32', 0x5b, 0x8b),
  load: load('f32', 0x2a),
  convert_i32_s: operator('f32', 0xb2),
  convert_i32_u: operator('f32', 0xb3),
  convert_i64_s: operator('f32', 0xb4),
  convert_i64_u: operator('f32', 0xb5),
  demote: operator('f32', 0xb6),
  reinterpret_i32: operator('f32', 0xbe),
};

export const f64 = {
  const: (value: number): F64 =>
    new RawConstant('f64', [0x44, ...new Uint8Array(new Float64Array([value]).buffer)]),
  ...floatOperators('f64', 0x61, 0x99),
  load: load('f64', 0x2b),
  convert_i32_s: operator('f64', 0xb7),
  convert_i32_u: operator('f64', 0xb8),
  convert_i64_s: operator('f64', 0xb9),
  convert_i64_u: operator('f64', 0xba),
  promote: operator('f64', 0xbb),
  reinterpret_i64: operator('f64', 0xbf),
};

/** Any SIMD operation by its opcode after the prefix 0xfd: operands, then lane or shuffle immediates. */
export function simd<T extends Type>(
  type: T,
  opcode: number,
  operands: readonly Any[],
  immediates: readonly number[] = [],
) {
  return new SimdOperation(type, opcode, operands, immediates) as Expression<T>;
}

class SimdOperation<T extends Type> implements Expression<T> {
  readonly type: T;
  private readonly opcode: number;
  private readonly operands: readonly Any[];
  private readonly immediates: readonly number[];
  constructor(type: T, opcode: number, operands: readonly Any[], immediates: readonly number[]) {
    this.type = type;
    this.opcode = opcode;
    this.operands = operands;
    this.immediates = immediates;
  }
  write(out: ByteWriter): void {
    for (const operand of this.operands) operand.write(out);
    out.byte(PREFIX_SIMD);
    out.unsigned(this.opcode);
    // Lane numbers and shuffle indices are single bytes.
    for (const immediate of this.immediates) out.byte(immediate);
  }
}

export const v128 = {
  load: load('v128', 0, PREFIX_SIMD),
  /** 32 or 64 bits into the lowest lane, zeros above. */
  load32_zero: load('v128', 92, PREFIX_SIMD),
  load64_zero: load('v128', 93, PREFIX_SIMD),
  const: (bytes: readonly number[]): V128 => new RawConstant('v128', [PREFIX_SIMD, 12, ...bytes]),
};

/** Writes a statement opcode with operands: for FunctionBuilder. */
export function writeStatement(
  out: ByteWriter,
  prefix: number,
  opcode: number,
  operands: readonly Any[],
  immediates: readonly number[] = [],
): void {
  new Operation('i32', prefix, opcode, operands, immediates).write(out);
}
