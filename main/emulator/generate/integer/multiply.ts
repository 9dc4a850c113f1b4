import { Field } from '../../state.ts';
import { i32, i64, select, type I64 } from '../../wasm/expression.ts';
import { call } from '../../wasm/module.ts';
import { cut, extend, type Emitter } from '../emitter.ts';
import { FlagKind, flagsResult } from '../flags.ts';
import type { LibraryRoutine, SemanticsGroup } from '../semantics.ts';

const DIVIDE_ERROR = 0;
const ZERO = i64.const(0);

/** CF = OF = `overflow` (0 or 1); SF, ZF, PF are undefined and those of the low result. */
function multiplyFlags(c: Emitter, bits: number, low: I64, overflow: I64): void {
  flagsResult(c, bits, low, overflow, overflow);
}

/** MUL and the one-operand IMUL: rDX:rAX, or AX for bytes, becomes rAX times the operand. */
function multiply(c: Emitter, signed: boolean): void {
  const f = c.f;
  const bits = c.form.operands[0].size;
  const a = c.gpr(0, bits);
  const b = c.read(0);
  if (bits === 64) {
    const low = f.let(i64.mul(a, b));
    const high = c.call(signed ? 'multiplyHighSigned' : 'multiplyHigh', 'i64', a, b);
    c.setGpr(0, 64, low);
    c.setGpr(2, 64, high);
    const expected = signed ? i64.shr_s(low, 63) : i64.const(0);
    multiplyFlags(c, 64, low, f.let(i64.extend_u(i64.ne(high, expected))));
    return;
  }
  const product = f.let(signed ? i64.mul(extend(bits, a), extend(bits, b)) : i64.mul(a, b));
  if (bits === 8) c.setGpr(0, 16, product);
  else {
    c.setGpr(0, bits, product);
    c.setGpr(2, bits, i64.shr_u(product, bits));
  }
  const fits = signed ? i64.ne(extend(bits, product), product) : i64.ne(i64.shr_u(product, bits), 0);
  multiplyFlags(c, bits, product, f.let(i64.extend_u(fits)));
}

/** IMUL with two or three operands. */
function multiplyShort(c: Emitter): void {
  const f = c.f;
  const bits = c.form.operands[0].size;
  const three = c.form.operands.length === 3;
  const a = f.let(extend(bits, c.read(three ? 1 : 0)));
  const b = f.let(extend(bits, c.read(three ? 2 : 1)));
  const product = f.let(i64.mul(a, b));
  c.write(0, product);
  c.flags.set(FlagKind.MULTIPLY, bits, a, b, product);
}

function divideError(c: Emitter): void {
  c.raise(i32.const(DIVIDE_ERROR));
}

/** DIV: #DE for a divisor of 0 and for a quotient that does not fit. */
function divide(c: Emitter): void {
  const f = c.f;
  const bits = c.form.operands[0].size;
  const divisor = c.read(0);
  if (bits === 64) {
    const low = c.gpr(0);
    const high = c.gpr(2);
    f.if(i64.le_u(divisor, high), () => divideError(c));
    const quotient = f.local('i64');
    const remainder = f.local('i64');
    f.if(
      i64.eqz(high),
      () => {
        f.set(quotient, i64.div_u(low, divisor));
        f.set(remainder, i64.rem_u(low, divisor));
      },
      () => {
        f.set(quotient, call(c.callee('divideWide'), 'i64', c.s, high, low, divisor));
        f.set(remainder, c.field64(Field.SCRATCH));
      },
    );
    c.setGpr(0, 64, quotient);
    c.setGpr(2, 64, remainder);
    return;
  }
  const dividend = wideDividend(c, bits);
  f.if(i64.eqz(divisor), () => divideError(c));
  const quotient = f.let(i64.div_u(dividend, divisor));
  f.if(i64.gt_u(quotient, bits === 32 ? 0xffffffff : 2 ** bits - 1), () => divideError(c));
  storeQuotient(c, bits, quotient, f.let(i64.rem_u(dividend, divisor)));
}

function wideDividend(c: Emitter, bits: number): I64 {
  if (bits === 8) return c.gpr(0, 16);
  return c.f.let(i64.or(c.gpr(0, bits), i64.shl(c.gpr(2, bits), bits)));
}

function storeQuotient(c: Emitter, bits: number, quotient: I64, remainder: I64): void {
  if (bits === 8) {
    c.setGpr(0, 8, quotient);
    c.setHighByte(0, remainder);
  } else {
    c.setGpr(0, bits, quotient);
    c.setGpr(2, bits, remainder);
  }
}

function divideSigned(c: Emitter): void {
  const f = c.f;
  const bits = c.form.operands[0].size;
  const divisor = f.let(extend(bits, c.read(0)));
  f.if(i64.eqz(divisor), () => divideError(c));
  if (bits === 64) {
    divideSignedWide(c, divisor);
    return;
  }
  const dividend = f.let(extend(2 * bits, wideDividend(c, bits)));
  // The one quotient that does not fit 64 bits would trap in WebAssembly.
  f.if(i32.and(i64.eq(dividend, -(2n ** 63n)), i64.eq(divisor, -1)), () => divideError(c));
  const quotient = f.let(i64.div_s(dividend, divisor));
  f.if(i64.ne(extend(bits, quotient), quotient), () => divideError(c));
  storeQuotient(c, bits, cut(bits, quotient), f.let(i64.rem_s(dividend, divisor)));
}

/** 128 by 64 bits: on magnitudes, with the signs put back; the remainder has the dividend's sign. */
function divideSignedWide(c: Emitter, divisor: I64): void {
  const f = c.f;
  const low = c.gpr(0);
  const high = c.gpr(2);
  const negative = f.let(i64.lt_s(high, 0));
  const magnitudeLow = f.let(select(negative, i64.sub(ZERO, low), low));
  const carry = i64.extend_u(i64.eqz(low));
  const magnitudeHigh = f.let(select(negative, i64.add(i64.xor(high, -1), carry), high));
  const magnitudeDivisor = f.let(select(i64.lt_s(divisor, 0), i64.sub(ZERO, divisor), divisor));
  f.if(i64.le_u(magnitudeDivisor, magnitudeHigh), () => divideError(c));
  const quotient = f.let(
    call(c.callee('divideWide'), 'i64', c.s, magnitudeHigh, magnitudeLow, magnitudeDivisor),
  );
  const remainder = c.f.let(c.field64(Field.SCRATCH));
  const opposite = f.let(i32.ne(negative, i64.lt_s(divisor, 0)));
  // The magnitude may be 2^63 only when the quotient is negative.
  const limit = i64.add(i64.const(0x7fffffffffffffffn), i64.extend_u(opposite));
  f.if(i64.gt_u(quotient, limit), () => divideError(c));
  c.setGpr(0, 64, select(opposite, i64.sub(ZERO, quotient), quotient));
  c.setGpr(2, 64, select(negative, i64.sub(ZERO, remainder), remainder));
}

const MASK32 = 0xffffffff;

/** High 64 bits of an unsigned product, from four 32-bit products (Knuth, TAOCP vol. 2, 4.3.1). */
const multiplyHigh: LibraryRoutine = {
  signature: { parameters: ['i64', 'i64'], result: 'i64' },
  build(f) {
    const a = f.parameter('i64', 0);
    const b = f.parameter('i64', 1);
    const aLow = f.let(i64.and(a, MASK32));
    const aHigh = f.let(i64.shr_u(a, 32));
    const bLow = f.let(i64.and(b, MASK32));
    const bHigh = f.let(i64.shr_u(b, 32));
    const low = f.let(i64.mul(aLow, bLow));
    const middle = f.let(i64.add(i64.mul(aHigh, bLow), i64.shr_u(low, 32)));
    const cross = f.let(i64.add(i64.mul(aLow, bHigh), i64.and(middle, MASK32)));
    f.return(i64.add(i64.mul(aHigh, bHigh), i64.add(i64.shr_u(middle, 32), i64.shr_u(cross, 32))));
  },
};

const multiplyHighSigned: LibraryRoutine = {
  signature: { parameters: ['i64', 'i64'], result: 'i64' },
  build(f, callees) {
    const a = f.parameter('i64', 0);
    const b = f.parameter('i64', 1);
    const high = f.let(call(callees('multiplyHigh'), 'i64', a, b));
    const correction = i64.add(i64.and(i64.shr_s(a, 63), b), i64.and(i64.shr_s(b, 63), a));
    f.return(i64.sub(high, correction));
  },
};

/**
 * (s, high, low, divisor): quotient of high:low by divisor, which is above high; the remainder goes to SCRATCH.
 * Two rounds of base 2^32 long division on a normalised divisor (Knuth, TAOCP vol. 2, 4.3.1, algorithm D).
 */
const divideWide: LibraryRoutine = {
  signature: { parameters: ['i32', 'i64', 'i64', 'i64'], result: 'i64' },
  build(f) {
    const s = f.parameter('i32', 0);
    const high = f.parameter('i64', 1);
    const low = f.parameter('i64', 2);
    const divisor = f.parameter('i64', 3);
    const shift = f.let(i64.clz(divisor));
    const v = f.let(i64.shl(divisor, shift));
    const v1 = f.let(i64.shr_u(v, 32));
    const v0 = f.let(i64.and(v, MASK32));
    // Shifting by 64 - shift in two steps: with shift 0 nothing comes over.
    const over = i64.shr_u(i64.shr_u(low, 1), i64.sub(i64.const(63), shift));
    const top = f.let(i64.or(i64.shl(high, shift), over));
    const rest = f.let(i64.shl(low, shift));

    const digit = (numerator: I64, next: I64): { q: I64; rest: I64 } => {
      const q = f.local('i64');
      const r = f.local('i64');
      f.set(q, i64.div_u(numerator, v1));
      f.set(r, i64.sub(numerator, i64.mul(q, v1)));
      f.block((done) => {
        f.loop((again) => {
          const tooLarge = i32.or(
            i64.gt_u(q, MASK32),
            i64.gt_u(i64.mul(q, v0), i64.or(i64.shl(r, 32), next)),
          );
          f.breakIf(done, i32.eqz(tooLarge));
          f.set(q, i64.sub(q, 1));
          f.set(r, i64.add(r, v1));
          f.breakIf(again, i64.le_u(r, MASK32));
        });
      });
      return { q, rest: f.let(i64.sub(i64.add(i64.shl(numerator, 32), next), i64.mul(q, v))) };
    };
    const first = digit(top, f.let(i64.shr_u(rest, 32)));
    const second = digit(first.rest, f.let(i64.and(rest, MASK32)));
    f.store64(s, i64.shr_u(second.rest, shift), Field.SCRATCH);
    f.return(i64.add(i64.shl(first.q, 32), second.q));
  },
};

export const multiplication: SemanticsGroup = {
  name: 'multiplication',
  plain: {
    mul: (c) => multiply(c, false),
    imul: (c) => (c.form.operands.length === 1 ? multiply(c, true) : multiplyShort(c)),
    div: divide,
    idiv: divideSigned,
  },
  library: { multiplyHigh, multiplyHighSigned, divideWide },
};
