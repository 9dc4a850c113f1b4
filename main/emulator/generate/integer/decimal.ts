import { i32, i64, select, type I32, type I64 } from '../../wasm/expression.ts';
import type { Emitter } from '../emitter.ts';
import { arithmeticFlags, Flag, flagsLogic, setArithmeticFlags } from '../flags.ts';
import type { Semantics, SemanticsGroup } from '../semantics.ts';

/** SF, ZF and PF of AL, with CF and AF as given (0 or 1). */
function decimalFlags(c: Emitter, al: I64, carry: I32, adjust: I32): void {
  flagsLogic(c, 8, al);
  const word = i32.or(arithmeticFlags(c), i32.or(carry, i32.shl(adjust, 4)));
  setArithmeticFlags(c, c.f.let(word));
}

const flagBit = (word: I32, flag: number): I32 => i32.ne(i32.and(word, flag), 0);

/** DAA and DAS (SDM vol. 2): both digits are corrected by 6 where they or the carries say so. */
function decimalAdjust(add: boolean): Semantics {
  return (c) => {
    const f = c.f;
    const flags = f.let(arithmeticFlags(c));
    const al = c.gpr(0, 8);
    const low = f.let(i32.or(i64.gt_u(i64.and(al, 15), 9), flagBit(flags, Flag.AF)));
    const high = f.let(i32.or(i64.gt_u(al, 0x99), flagBit(flags, Flag.CF)));
    const fix = i64.or(select(low, i64.const(6), i64.const(0)), select(high, i64.const(0x60), i64.const(0)));
    const result = f.let(i64.and(add ? i64.add(al, fix) : i64.sub(al, fix), 0xff));
    c.setGpr(0, 8, result);
    // DAS also carries when the correction of the low digit alone borrows.
    const borrow = add ? high : i32.or(high, i32.and(low, i64.lt_u(al, 6)));
    decimalFlags(c, result, f.let(borrow), low);
  };
}

/** AAA and AAS: AX moves by 0x106 when the low digit overflowed. */
function asciiAdjust(add: boolean): Semantics {
  return (c) => {
    const f = c.f;
    const flags = f.let(arithmeticFlags(c));
    const ax = c.gpr(0, 16);
    const over = f.let(i32.or(i64.gt_u(i64.and(ax, 15), 9), flagBit(flags, Flag.AF)));
    const fix = select(over, i64.const(0x106), i64.const(0));
    const moved = add ? i64.add(ax, fix) : i64.sub(ax, fix);
    const result = f.let(i64.and(moved, 0xff0f));
    c.setGpr(0, 16, result);
    decimalFlags(c, f.let(i64.and(result, 0xff)), over, over);
  };
}

function aam(c: Emitter): void {
  const f = c.f;
  const base = c.immediate(8);
  f.if(i64.eqz(base), () => c.raise(i32.const(0)));
  const al = c.gpr(0, 8);
  const rest = f.let(i64.rem_u(al, base));
  c.setGpr(0, 16, f.let(i64.or(i64.shl(i64.div_u(al, base), 8), rest)));
  flagsLogic(c, 8, rest);
}

function aad(c: Emitter): void {
  const sum = i64.add(c.gpr(0, 8), i64.mul(c.highByte(0), c.immediate(8)));
  const result = c.f.let(i64.and(sum, 0xff));
  c.setGpr(0, 16, result);
  flagsLogic(c, 8, result);
}

/** BOUND: #BR when the signed index is below the first or above the second word in memory. */
function bound(c: Emitter): void {
  const f = c.f;
  const size = c.form.operandSize;
  const shift = 64 - size;
  const signed = (value: I64): I64 => i64.shr_s(i64.shl(value, shift), shift);
  const index = f.let(signed(c.read(0)));
  const offset = c.offset();
  const low = f.let(signed(c.load(offset, size, 'operand')));
  const high = f.let(signed(c.load(f.let(i64.add(offset, size / 8)), size, 'operand')));
  f.if(i32.or(i64.lt_s(index, low), i64.gt_s(index, high)), () => c.raise(i32.const(5)));
}

/** ARPL: raises the selector's RPL to that of the register; not in real or virtual-8086 mode. */
function arpl(c: Emitter): void {
  const f = c.f;
  c.requireProtected();
  const rpl = f.let(i64.and(c.read(1), 3));
  const lower = f.local('i32');
  c.update(0, (selector) => {
    f.set(lower, i64.lt_u(i64.and(selector, 3), rpl));
    return select(lower, i64.or(i64.and(selector, -4), rpl), selector);
  });
  const word = i32.or(i32.and(arithmeticFlags(c), ~Flag.ZF), i32.shl(lower, 6));
  setArithmeticFlags(c, f.let(word));
}

export const decimal: SemanticsGroup = {
  name: 'decimal',
  plain: {
    daa: decimalAdjust(true),
    das: decimalAdjust(false),
    aaa: asciiAdjust(true),
    aas: asciiAdjust(false),
    aam,
    aad,
    bound,
    arpl,
  },
};
