import type { ByteWriter } from './bytes.ts';

/**
 * What expressions are made of: operations, constants, variables. The operators of expression.ts make them.
 *
 * Opcodes: WebAssembly core specification 2.0, section 5.4 (with tail calls, threads and SIMD).
 */

export type Type = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';
export const TYPE_BYTE: Record<Type, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

export interface Expression<T extends Type> {
  readonly type: T;
  write(out: ByteWriter): void;
  /** The value, where it is an i32 or i64 constant. */
  readonly constant?: bigint;
  /** The same without a BigInt, where it is a safe integer. */
  readonly small?: number | undefined;
  /** Of an i64 whose upper half is 0, if that is known: the lower half, to compute in its place. */
  readonly low?: I32 | undefined;
}
export type I32 = Expression<'i32'>;
export type I64 = Expression<'i64'>;
export type F32 = Expression<'f32'>;
export type F64 = Expression<'f64'>;
export type V128 = Expression<'v128'>;
export type Any = Expression<Type>;

export class Operation<T extends Type> implements Expression<T> {
  readonly type: T;
  readonly prefix: number;
  readonly opcode: number;
  readonly operands: readonly Any[];
  readonly immediates: readonly number[];

  constructor(
    type: T,
    prefix: number,
    opcode: number,
    operands: readonly Any[],
    immediates: readonly number[] = [],
  ) {
    this.type = type;
    this.prefix = prefix;
    this.opcode = opcode;
    this.operands = operands;
    this.immediates = immediates;
  }

  get low(): I32 | undefined {
    return undefined;
  }

  write(out: ByteWriter): void {
    for (const operand of this.operands) operand.write(out);
    if (this.prefix !== 0) {
      out.byte(this.prefix);
      out.unsigned(this.opcode);
    } else out.byte(this.opcode);
    for (const immediate of this.immediates) out.unsigned(immediate);
  }
}

/** An i32 as an i64. */
export class ZeroExtended extends Operation<'i64'> {
  private readonly from: I32;
  constructor(from: I32) {
    super('i64', 0, 0xad, [from]);
    this.from = from;
  }
  override get low(): I32 {
    return this.from;
  }
}

/** A load of at most 32 bits as an i64; `narrow` is the opcode of the same load as an i32. */
export class NarrowLoad extends Operation<'i64'> {
  private readonly narrow: number;
  constructor(opcode: number, narrow: number, address: I32, offset: number) {
    super('i64', 0, opcode, [address], [0, offset]);
    this.narrow = narrow;
  }
  override get low(): I32 {
    return new Operation('i32', 0, this.narrow, this.operands, this.immediates);
  }
}

export class IntegerConstant<T extends 'i32' | 'i64'> implements Expression<T> {
  readonly type: T;
  /** A number if it is a safe integer: most are, and do without a BigInt unless somebody computes with them. */
  private readonly value: number | bigint;
  constructor(type: T, value: number | bigint) {
    this.type = type;
    this.value = value;
  }
  get constant(): bigint {
    return BigInt(this.value);
  }
  get small(): number | undefined {
    return typeof this.value === 'number' ? this.value : undefined;
  }
  get low(): I32 | undefined {
    const { value } = this;
    const fits = this.type === 'i64' && typeof value === 'number' && value >= 0 && value <= 0xffffffff;
    return fits ? new IntegerConstant('i32', value | 0) : undefined;
  }
  write(out: ByteWriter): void {
    out.byte(this.type === 'i32' ? 0x41 : 0x42);
    if (typeof this.value === 'number') out.signed(this.value);
    else out.signed64(this.value);
  }
}

/** The constant of a type, cut to its size. */
export function integer<T extends 'i32' | 'i64'>(type: T, value: number | bigint): Expression<T> {
  if (
    typeof value === 'number' &&
    (value === (value | 0) || (type === 'i64' && Number.isSafeInteger(value)))
  ) {
    return new IntegerConstant(type, value);
  }
  const cut = BigInt.asIntN(type === 'i32' ? 32 : 64, BigInt(value));
  const small = Number(cut);
  return new IntegerConstant(type, Number.isSafeInteger(small) ? small : cut);
}

export class RawConstant<T extends Type> implements Expression<T> {
  readonly type: T;
  private readonly bytes: readonly number[];
  constructor(type: T, bytes: readonly number[]) {
    this.type = type;
    this.bytes = bytes;
  }
  write(out: ByteWriter): void {
    out.raw(this.bytes);
  }
}

/** A local variable; FunctionBuilder makes them. */
export class Local<T extends Type> implements Expression<T> {
  readonly type: T;
  readonly index: number;
  constructor(type: T, index: number) {
    this.type = type;
    this.index = index;
  }
  write(out: ByteWriter): void {
    out.byte(0x20);
    out.unsigned(this.index);
  }
}

/** A constant that is known only later (FunctionBuilder.fillHole): from -8192 to 8191. It is written once. */
export class NumberHole<T extends 'i32' | 'i64'> implements Expression<T> {
  readonly type: T;
  /** Where its bytes are, once it was written. */
  at = -1;
  constructor(type: T) {
    this.type = type;
  }
  write(out: ByteWriter): void {
    out.byte(this.type === 'i32' ? 0x41 : 0x42);
    this.at = out.length;
    out.raw([0x80, 0]);
  }
}

/** A local variable of which it is known only later which one it is: one of the first 128. It is written once. */
export class LocalHole<T extends Type> implements Expression<T> {
  readonly type: T;
  at = -1;
  constructor(type: T) {
    this.type = type;
  }
  write(out: ByteWriter): void {
    out.byte(0x20);
    this.at = out.length;
    out.byte(0);
  }
}

/** Whether the value is an i32 or i64 constant. */
export function isConstant<T extends Type>(
  value: Expression<T>,
): value is Expression<T> & { constant: bigint } {
  return value instanceof IntegerConstant;
}
