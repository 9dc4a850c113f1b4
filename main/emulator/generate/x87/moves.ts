import { Field, Record as InstructionRecord } from '../../state.ts';
import { i32, i64, type I32, type I64, type V128 } from '../../wasm/expression.ts';
import type { Emitter } from '../emitter.ts';
import { condition } from '../flags.ts';
import type { Semantics } from '../semantics.ts';
import { readNumber } from './calculate.ts';
import { Control, real, Rounding, Scratch, SPECIAL, Status } from './format.ts';
import {
  begin,
  beginNoWait,
  clearFlags,
  commit,
  commitKeepingC1,
  finish,
  isMemory,
  remember,
  Stack,
  ST0,
  underflow,
  unlessEmpty,
} from './stack.ts';

/** Handlers that move numbers: loads, stores, constants, exchanges and the bookkeeping of the stack. */

const EXTENDED_BYTES = 10;

/** Ten bytes of memory: 64 bits and 16 bits. */
function readTen(c: Emitter): { low: I64; high: I64 } {
  const host = c.readable(c.offset(), EXTENDED_BYTES, 'operand');
  return { low: c.f.let(i64.load(host)), high: c.f.let(i64.load16_u(host, 8)) };
}

function writeTen(c: Emitter, low: I64, high: I64): void {
  const { host, commit } = c.modify(c.offset(), EXTENDED_BYTES, 'operand');
  c.f.store64(host, low);
  c.f.storeBits(16, host, high, 8);
  commit();
}

function push(c: Emitter, value: V128): void {
  c.callVoid('x87Push', c.s, value);
}

function fld(c: Emitter): void {
  begin(c);
  clearFlags(c);
  const { size } = c.form.operands[0];
  if (!isMemory(c)) {
    remember(c);
    const stack = new Stack(c);
    const source = stack.operand(0);
    push(
      c,
      unlessEmpty(c, stack.isEmpty(source), () => stack.value(source)),
    );
  } else if (size === 80) {
    const { low, high } = readTen(c);
    remember(c);
    push(c, real(low, i32.wrap(high)));
  } else {
    const value = readNumber(c, false);
    remember(c);
    const loaded = c.f.local('v128');
    c.f.set(loaded, value);
    const exponent = i32.and(i32.wrap(i64.lane(value, 1)), SPECIAL);
    c.f.if(i32.eq(exponent, SPECIAL), () => c.f.set(loaded, c.call('x87Quiet', 'v128', c.s, value)));
    push(c, loaded);
  }
}

function fild(c: Emitter): void {
  begin(c);
  clearFlags(c);
  const value = readNumber(c, true);
  remember(c);
  push(c, value);
}

function fbld(c: Emitter): void {
  begin(c);
  clearFlags(c);
  const { low, high } = readTen(c);
  remember(c);
  push(c, c.call('x87FromDecimal', 'v128', c.s, low, high));
}

/** Stores, or only looks whether that would fault, which comes before the exceptions of the x87. */
function storeIf(c: Emitter, allowed: I32, write: () => void): void {
  // Computed here, as both ways need it.
  const offset = c.offset();
  c.f.if(allowed, write, () => void c.modify(offset, c.form.operands[0].size / 8, 'operand'));
}

/** Exceptions that keep a number from being stored in memory when they are not masked. */
const NO_STORE: number = Status.IE | Status.OE | Status.UE;

/** Stores what `convert` makes of ST(0), or `indefinite` when it is empty; then pops. */
function storeConverted(
  c: Emitter,
  pops: number,
  indefinite: I64,
  convert: (value: V128) => I64,
  write: (value: I64) => void,
): void {
  const { f } = c;
  begin(c);
  clearFlags(c);
  const stack = new Stack(c);
  const result = f.local('i64');
  f.if(
    stack.isEmpty(ST0),
    () => {
      underflow(c);
      f.set(result, indefinite);
    },
    () => f.set(result, convert(stack.value(ST0))),
  );
  const flags = c.field32(Scratch.FLAGS);
  const unmasked = i32.and(flags, i32.xor(c.field32(Field.FPU_CONTROL), -1));
  const allowed = f.let(i32.eqz(i32.and(unmasked, NO_STORE)));
  storeIf(c, allowed, () => write(result));
  remember(c);
  f.do(commit(c));
  if (pops > 0) f.if(allowed, () => c.callVoid('x87Pop', c.s, i32.const(pops)));
}

function fst(pops: number): Semantics {
  return (c) => {
    const { size } = c.form.operands[0];
    if (!isMemory(c)) storeRegister(c, pops);
    else if (size === 80) storeExtended(c, pops);
    else {
      const indefinite = i64.const(size === 32 ? 0xffc00000n : 0xfff8000000000000n);
      const name = size === 32 ? 'x87ToSingle' : 'x87ToDouble';
      storeConverted(
        c,
        pops,
        indefinite,
        (value) => c.call(name, 'i64', c.s, value),
        (value) => c.write(0, value),
      );
    }
  };
}

function storeRegister(c: Emitter, pops: number): void {
  begin(c);
  clearFlags(c);
  remember(c);
  const stack = new Stack(c);
  const value = unlessEmpty(c, stack.isEmpty(ST0), () => stack.value(ST0));
  finish(c, value, stack.operand(0), pops);
}

function storeExtended(c: Emitter, pops: number): void {
  const { f } = c;
  begin(c);
  clearFlags(c);
  const stack = new Stack(c);
  const value = unlessEmpty(c, stack.isEmpty(ST0), () => stack.value(ST0));
  const unmasked = i32.and(c.field32(Scratch.FLAGS), i32.xor(c.field32(Field.FPU_CONTROL), -1));
  const allowed = f.let(i32.eqz(i32.and(unmasked, Status.IE)));
  storeIf(c, allowed, () => writeTen(c, i64.lane(value, 0), i64.lane(value, 1)));
  remember(c);
  f.do(commit(c));
  f.if(allowed, () => c.callVoid('x87Pop', c.s, i32.const(pops)));
}

/** FIST, FISTP and FISTTP, which truncates. */
function fist(pops: number, truncate = false): Semantics {
  return (c) => {
    const { size } = c.form.operands[0];
    const control = c.field32(Field.FPU_CONTROL);
    const rounding = truncate
      ? i32.const(Rounding.ZERO)
      : i32.and(i32.shr_u(control, Control.ROUNDING_SHIFT), 3);
    storeConverted(
      c,
      pops,
      i64.const(-1n << BigInt(size - 1)),
      (value) => c.call('x87ToInteger', 'i64', c.s, value, i32.const(size), rounding),
      (value) => c.write(0, value),
    );
  };
}

function fbstp(c: Emitter): void {
  const indefinite = i64.const(0xc000000000000000n);
  c.setField32(Scratch.SECOND, i32.const(0xffff));
  storeConverted(
    c,
    1,
    indefinite,
    (value) => c.call('x87ToDecimal', 'i64', c.s, value),
    (value) => writeTen(c, value, i64.load32_u(c.s, Scratch.SECOND)),
  );
}

/**
 * Constants by significand and exponent, cut, and what is added to the significand when rounding up or to nearest
 * (SDM vol. 1, 8.3.8: they are kept with more bits than a register has).
 */
interface Constant {
  significand: bigint;
  exponent: number;
  /** Rounding to nearest increases the significand. */
  nearestUp: boolean;
}

/** Pushes a constant, rounded as RC says; precision control does not matter, and PE is not raised. */
function loadConstant({ significand, exponent, nearestUp }: Constant): Semantics {
  return (c) => {
    begin(c);
    clearFlags(c);
    remember(c);
    const mode = i32.and(i32.shr_u(c.field32(Field.FPU_CONTROL), Control.ROUNDING_SHIFT), 3);
    const up = i32.or(i32.eq(mode, Rounding.UP), i32.and(i32.eqz(mode), i32.const(Number(nearestUp))));
    push(c, real(i64.add(i64.const(significand), i64.extend_u(up)), i32.const(exponent)));
  };
}

/** Pushes 0 or 1. */
function loadExact(significand: bigint, exponent: number): Semantics {
  return (c) => {
    begin(c);
    clearFlags(c);
    remember(c);
    push(c, real(i64.const(significand), i32.const(exponent)));
  };
}

/** Exchanges ST(0) and ST(i); empty ones hold the indefinite when the stack underflow is masked. */
function fxch(c: Emitter): void {
  const { f } = c;
  begin(c);
  clearFlags(c);
  remember(c);
  const stack = new Stack(c);
  const other = stack.operand(1);
  const a = unlessEmpty(c, stack.isEmpty(ST0), () => stack.value(ST0));
  const b = unlessEmpty(c, stack.isEmpty(other), () => stack.value(other));
  f.if(commit(c), () => {
    stack.setValue(ST0, b);
    stack.setValue(other, a);
    stack.setTag(ST0);
    stack.setTag(other);
  });
}

/** FCMOVcc: the registers must not be empty, whether the condition holds or not. */
function fcmovcc(c: Emitter): void {
  const { f } = c;
  begin(c);
  clearFlags(c);
  remember(c);
  const stack = new Stack(c);
  const source = stack.operand(1);
  const empty = stack.isEmpty(ST0, source);
  const holds = f.let(condition(c, c.form.condition));
  const value = unlessEmpty(c, empty, () => stack.value(source));
  const done = commitKeepingC1(c);
  f.if(i32.and(done, i32.or(holds, i32.ne(empty, 0))), () => {
    stack.setValue(ST0, value);
    stack.setTag(ST0);
  });
}

/** Clears C1 alone. */
function clearC1(c: Emitter): void {
  c.setField32(Field.FPU_STATUS, i32.and(c.field32(Field.FPU_STATUS), ~Status.C1));
}

function moveTop(step: number): Semantics {
  return (c) => {
    begin(c);
    remember(c);
    clearC1(c);
    const top: I32 = c.field32(Field.FPU_TOP);
    c.setField32(Field.FPU_TOP, i32.and(i32.add(top, step), 7));
  };
}

function ffree(pops: boolean): Semantics {
  return (c) => {
    begin(c);
    remember(c);
    const stack = new Stack(c);
    clearC1(c);
    stack.clearTag(stack.operand(0));
    if (pops) stack.pop();
  };
}

/** FSTP at D9 D8: an empty ST(0) is no stack underflow (see the decoder's table). */
function fstpnce(c: Emitter): void {
  begin(c);
  clearFlags(c);
  remember(c);
  const stack = new Stack(c);
  const target = stack.operand(0);
  const value = stack.value(ST0);
  c.f.if(
    stack.isEmpty(ST0),
    () => {
      clearC1(c);
      stack.pop();
    },
    () => finish(c, value, target, 1),
  );
}

/** FNOP waits; FENI, FDISI and FSETPM, which do nothing either, do not. */
function fnop(c: Emitter): void {
  beginNoWait(c);
  c.f.if(i32.eq(i32.load(c.d, InstructionRecord.IMMEDIATE), FNOP_OPCODE), () => {
    begin(c);
    remember(c);
  });
}
/** D9 D0 as in FOP. */
const FNOP_OPCODE = 0x1d0;

export const moves: Record<string, Semantics> = {
  fld,
  fild,
  fbld,
  fst: fst(0),
  fstp: fst(1),
  fstpnce,
  fist: fist(0),
  fistp: fist(1),
  fisttp: fist(1, true),
  fbstp,
  fld1: loadExact(0x8000000000000000n, 0x3fff),
  fldz: loadExact(0n, 0),
  fldpi: loadConstant({ significand: 0xc90fdaa22168c234n, exponent: 0x4000, nearestUp: true }),
  fldl2t: loadConstant({ significand: 0xd49a784bcd1b8afen, exponent: 0x4000, nearestUp: false }),
  fldl2e: loadConstant({ significand: 0xb8aa3b295c17f0bbn, exponent: 0x3fff, nearestUp: true }),
  fldlg2: loadConstant({ significand: 0x9a209a84fbcff798n, exponent: 0x3ffd, nearestUp: true }),
  fldln2: loadConstant({ significand: 0xb17217f7d1cf79abn, exponent: 0x3ffe, nearestUp: true }),
  fxch,
  fcmovcc,
  fincstp: moveTop(1),
  fdecstp: moveTop(-1),
  ffree: ffree(false),
  ffreep: ffree(true),
  fnop,
};
