import { OperandKind } from '../../instruction.ts';
import { atomic, i32, i64, select, type I64 } from '../../wasm/expression.ts';
import { cut, loadBits, type Emitter } from '../emitter.ts';
import {
  carryFlag,
  flagsAdd,
  flagsAddCarry,
  flagsLogic,
  flagsStep,
  flagsSubtract,
  flagsSubtractBorrow,
  setZero,
} from '../flags.ts';
import type { Semantics, SemanticsGroup } from '../semantics.ts';

type SetFlags = (c: Emitter, bits: number, a: I64, b: I64, result: I64) => void;

/** dst = dst op src, with flags of both operands and the result. */
function binary(compute: (a: I64, b: I64) => I64, flags: SetFlags): Semantics {
  return (c) => {
    const b = c.read(1);
    const { size } = c.form.operands[0];
    c.update(0, (a) => {
      const result = c.bind(size, compute(a, b));
      flags(c, size, a, b, result);
      return result;
    });
  };
}

/** The same with CF added to or taken from the result. */
function binaryWithCarry(compute: (a: I64, b: I64) => I64, flags: SetFlags): Semantics {
  return (c) => {
    const b = c.read(1);
    // Read once: within a locked retry the flags may have been written already.
    const carry = c.f.let(carryFlag(c));
    const { size } = c.form.operands[0];
    c.update(0, (a) => {
      const sum = compute(a, b);
      const result = c.bind(size, compute(sum, carry));
      flags(c, size, a, b, result);
      return result;
    });
  };
}

/** Flags of dst op src, nothing written. */
function compare(compute: (a: I64, b: I64) => I64, flags: SetFlags): Semantics {
  return (c) => {
    const a = c.read(0);
    const b = c.read(1);
    const { size } = c.form.operands[0];
    flags(c, size, a, b, c.bind(size, compute(a, b)));
  };
}

const logic: SetFlags = (c, bits, _a, _b, result) => flagsLogic(c, bits, result);

function step(up: boolean): Semantics {
  return (c) => {
    const { size } = c.form.operands[0];
    c.update(0, (a) => {
      const result = c.bind(size, up ? i64.add(a, 1) : i64.sub(a, 1));
      flagsStep(c, size, a, result, up);
      return result;
    });
  };
}

function negate(c: Emitter): void {
  const zero = i64.const(0);
  const { size } = c.form.operands[0];
  c.update(0, (a) => {
    const result = c.bind(size, i64.sub(zero, a));
    flagsSubtract(c, size, zero, a, result);
    return result;
  });
}

function exchangeAdd(c: Emitter): void {
  const b = c.read(1);
  const old = c.f.local('i64');
  const { size } = c.form.operands[0];
  c.update(0, (a) => {
    c.f.set(old, a);
    const result = c.bind(size, i64.add(a, b));
    flagsAdd(c, size, a, b, result);
    return result;
  });
  // XADD of a register with itself leaves the sum: the destination is written last (SDM vol. 2, XADD).
  if (c.form.operands[0].kind === OperandKind.GPR) {
    const sum = c.read(0);
    c.write(1, old);
    c.write(0, sum);
  } else c.write(1, old);
}

function compareExchange(c: Emitter): void {
  const { kind, size } = c.form.operands[0];
  const f = c.f;
  const expected = c.gpr(0, size);
  const value = c.read(1);
  const old = f.local('i64');
  if (kind === OperandKind.GPR) {
    f.set(old, c.read(0));
    const equal = f.let(i64.eq(old, expected));
    // Either the destination or the accumulator is written, never both.
    f.if(
      equal,
      () => c.write(0, value),
      () => c.setGpr(0, size, old),
    );
  } else {
    const { host, commit } = c.modify(c.offset(), size / 8, 'operand');
    const plain = (): void => {
      f.set(old, loadBits(size, host, 0));
      f.storeBits(size, host, select(i64.eq(old, expected), value, old));
    };
    const locked = (): void => {
      f.set(old, atomic.compareExchange[size as 8 | 16 | 32 | 64](host, expected, cut(size, value)));
    };
    if (!c.form.lock) plain();
    else if (size === 8) locked();
    else f.if(i32.and(host, size / 8 - 1), plain, locked);
    commit();
    f.if(i64.ne(old, expected), () => c.setGpr(0, size, old));
  }
  flagsSubtract(c, size, expected, old, c.bind(size, i64.sub(expected, old)));
}

/** CMPXCHG8B and CMPXCHG16B: only ZF changes. */
function compareExchangePair(c: Emitter, half: 32 | 64): void {
  const f = c.f;
  const bytes = half / 8;
  if (half === 64) c.requireAligned16();
  const { host, commit } = c.modify(c.offset(), 2 * bytes, 'operand');
  const equal = f.local('i32');
  const low = f.local('i64');
  const high = f.local('i64');
  const expectedLow = c.gpr(0, half);
  const expectedHigh = c.gpr(2, half);
  const newLow = c.gpr(3, half);
  const newHigh = c.gpr(1, half);
  const plain = (): void => {
    f.set(low, loadBits(half, host, 0));
    f.set(high, loadBits(half, host, bytes));
    f.set(equal, i32.and(i64.eq(low, expectedLow), i64.eq(high, expectedHigh)));
    f.storeBits(half, host, select(equal, newLow, low));
    f.storeBits(half, host, select(equal, newHigh, high), bytes);
  };
  if (half === 32 && c.form.lock) {
    f.if(i32.and(host, 7), plain, () => {
      const join = (l: I64, h: I64): I64 => f.let(i64.or(l, i64.shl(h, 32)));
      const expected = join(expectedLow, expectedHigh);
      const old = f.let(atomic.compareExchange[64](host, expected, join(newLow, newHigh)));
      f.set(low, i64.and(old, 0xffffffff));
      f.set(high, i64.shr_u(old, 32));
      f.set(equal, i64.eq(old, expected));
    });
  } else plain();
  commit();
  f.if(i32.eqz(equal), () => {
    c.setGpr(0, half, low);
    c.setGpr(2, half, high);
  });
  setZero(c, equal);
}

export const arithmetic: SemanticsGroup = {
  name: 'arithmetic',
  plain: {
    add: binary(i64.add, flagsAdd),
    or: binary(i64.or, logic),
    adc: binaryWithCarry(i64.add, flagsAddCarry),
    sbb: binaryWithCarry(i64.sub, flagsSubtractBorrow),
    and: binary(i64.and, logic),
    sub: binary(i64.sub, flagsSubtract),
    xor: binary(i64.xor, logic),
    cmp: compare(i64.sub, flagsSubtract),
    test: compare(i64.and, logic),
    inc: step(true),
    dec: step(false),
    neg: negate,
    not: (c) => c.update(0, (a) => i64.xor(a, -1)),
    xadd: exchangeAdd,
    cmpxchg: compareExchange,
    cmpxchg8b: (c) => compareExchangePair(c, 32),
    cmpxchg16b: (c) => compareExchangePair(c, 64),
  },
};
