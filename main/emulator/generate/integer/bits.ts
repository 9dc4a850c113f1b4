import { OperandKind } from '../../instruction.ts';
import { i32, i64, select, type I64 } from '../../wasm/expression.ts';
import { cut, extend, type Emitter } from '../emitter.ts';
import { Flag, flagsResult, setArithmeticFlags, setCarry, setZero, arithmeticFlags } from '../flags.ts';
import type { Semantics, SemanticsGroup } from '../semantics.ts';

/** BT, BTS, BTR, BTC: `change` makes the new value from the old one and the mask of the bit. */
function bitTest(change?: (old: I64, mask: I64) => I64): Semantics {
  return (c) => {
    const f = c.f;
    const [target, selector] = c.form.operands;
    const bits = target.size;
    const index = c.read(1);
    const number = f.let(i64.and(index, bits - 1));
    const carry = f.local('i64');
    const apply = (old: I64): I64 => {
      f.set(carry, i64.and(i64.shr_u(old, number), 1));
      return change ? change(old, f.let(i64.shl(i64.const(1), number))) : old;
    };
    if (target.kind === OperandKind.GPR) {
      if (change) c.update(0, apply);
      else apply(c.read(0));
    } else {
      let offset = c.offset();
      if (selector.kind === OperandKind.GPR) {
        // A register selects any bit of memory, forwards and backwards (SDM vol. 2, BT).
        const unit = bits === 16 ? 4 : bits === 32 ? 5 : 6;
        const step = i64.shl(i64.shr_s(extend(bits, index), unit), unit - 3);
        offset = f.let(cut(c.form.addressSize, i64.add(offset, step)));
      }
      if (change) c.updateMemory(offset, bits, c.form.lock, apply);
      else apply(c.load(offset, bits, 'operand'));
    }
    setCarry(c, carry);
  };
}

/** BSF and BSR: a source of 0 sets ZF and leaves the destination alone. */
function bitScan(find: (c: Emitter, value: I64) => I64): Semantics {
  return (c) => {
    const value = c.read(1);
    const found = c.f.let(i64.ne(value, 0));
    c.f.if(found, () => c.write(0, find(c, value)));
    setZero(c, c.f.let(i32.eqz(found)));
  };
}

/** LZCNT and TZCNT: CF when the source is 0, ZF when the result is. */
function countZeros(count: (bits: number, value: I64) => I64): Semantics {
  return (c) => {
    const bits = c.form.operands[0].size;
    const value = c.read(1);
    const result = c.f.let(select(i64.eqz(value), i64.const(bits), count(bits, value)));
    c.write(0, result);
    const cleared = i32.and(arithmeticFlags(c), ~(Flag.CF | Flag.ZF));
    const word = i32.or(cleared, i32.or(i64.eqz(value), i32.shl(i64.eqz(result), 6)));
    setArithmeticFlags(c, c.f.let(word));
  };
}

export const bits: SemanticsGroup = {
  name: 'bits',
  plain: {
    bt: bitTest(),
    bts: bitTest((old, mask) => i64.or(old, mask)),
    btr: bitTest((old, mask) => i64.and(old, i64.xor(mask, -1))),
    btc: bitTest((old, mask) => i64.xor(old, mask)),
    bsf: bitScan((_c, value) => i64.ctz(value)),
    bsr: bitScan((_c, value) => i64.sub(i64.const(63), i64.clz(value))),
    lzcnt: countZeros((size, value) => i64.sub(i64.clz(value), 64 - size)),
    tzcnt: countZeros((_size, value) => i64.ctz(value)),
    popcnt: (c) => {
      const size = c.form.operands[0].size;
      const value = c.read(1);
      const zero = i64.const(0);
      c.write(0, i64.popcnt(value));
      // All flags are cleared but ZF, which tells of the source; a result of 1 gives PF 0, SF 0, ZF 0.
      flagsResult(c, size, c.f.let(i64.extend_u(i64.ne(value, 0))), zero, zero);
      c.f.if(i64.eqz(value), () => setArithmeticFlags(c, i32.const(Flag.ZF)));
    },
  },
};
