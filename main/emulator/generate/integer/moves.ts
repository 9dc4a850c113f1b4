import { OperandKind } from '../../instruction.ts';
import { helperNumber } from '../../helpers.ts';
import { Field, Record, Segment } from '../../state.ts';
import { i32, i64, select, type I64 } from '../../wasm/expression.ts';
import { extend, type Emitter } from '../emitter.ts';
import { arithmeticFlags, carryFlag, condition, setArithmeticFlags } from '../flags.ts';
import type { SemanticsGroup } from '../semantics.ts';

function mov(c: Emitter): void {
  const from = c.form.operands[1];
  if (from.kind === OperandKind.SEG) c.write(0, selectorOf(c, 1));
  else c.write(0, c.read(1));
}

/** The selector in the segment register that operand n names. */
function selectorOf(c: Emitter, n: number): I64 {
  const at = i32.add(c.s, i32.mul(i32.load8_u(c.d, Record.REGISTER + n), Segment.SIZE));
  return c.f.let(i64.load16_u(at, Field.SEGMENTS));
}

function exchange(c: Emitter): void {
  // With a memory operand XCHG is locked whether or not the prefix is there.
  const memory =
    c.form.operands[0].kind === OperandKind.MEM ? 0 : c.form.operands[1].kind === OperandKind.MEM ? 1 : -1;
  if (memory < 0) {
    const a = c.read(0);
    const b = c.read(1);
    c.write(0, b);
    c.write(1, a);
    return;
  }
  const other = 1 - memory;
  const value = c.read(other);
  const old = c.f.local('i64');
  c.updateMemory(c.offset(), c.form.operands[memory].size, true, (current) => {
    c.f.set(old, current);
    return value;
  });
  c.write(other, old);
}

function bswap(c: Emitter): void {
  const { size } = c.form.operands[0];
  const value = c.read(0);
  if (size === 16) {
    // Undefined by the manuals; processors give 0.
    c.write(0, i64.const(0));
    return;
  }
  c.write(0, swapBytes(c, size, value));
}

function swapBytes(c: Emitter, size: number, value: I64): I64 {
  const f = c.f;
  const bytes = f.let(
    i64.or(
      i64.and(i64.shr_u(value, 8), 0x00ff00ff00ff00ffn),
      i64.shl(i64.and(value, 0x00ff00ff00ff00ffn), 8),
    ),
  );
  if (size === 16) return f.let(i64.and(bytes, 0xffff));
  const words = f.let(
    i64.or(
      i64.and(i64.shr_u(bytes, 16), 0x0000ffff0000ffffn),
      i64.shl(i64.and(bytes, 0x0000ffff0000ffffn), 16),
    ),
  );
  return size === 32 ? words : f.let(i64.rotl(words, 32));
}

function convertUp(c: Emitter): void {
  const half = c.form.operandSize / 2;
  c.setGpr(0, c.form.operandSize, extend(half, c.gpr(0, half)));
}

function convertDouble(c: Emitter): void {
  const size = c.form.operandSize;
  c.setGpr(2, size, i64.shr_s(extend(size, c.gpr(0, size)), 63));
}

function conditionalMove(c: Emitter): void {
  const value = c.read(1);
  const old = c.read(0);
  // The destination is written in any case: a 32-bit one loses its upper half even when nothing moves.
  c.write(0, select(condition(c, c.form.condition), value, old));
}

function xlat(c: Emitter): void {
  const offset = i64.add(c.gpr(3, 64), c.gpr(0, 8));
  const size = c.form.addressSize;
  const cutOffset = size === 64 ? offset : i64.and(offset, size === 32 ? 0xffffffff : 0xffff);
  c.setGpr(0, 8, c.load(c.f.let(cutOffset), 8, 'operand'));
}

function pushOperand(c: Emitter): void {
  const { kind } = c.form.operands[0];
  const size = c.form.operandSize;
  if (kind === OperandKind.SEG) {
    // Zero-extended, as processors of our vendor do; Intel's write 16 bits only (SDM vol. 2, PUSH).
    c.push(size, selectorOf(c, 0));
    return;
  }
  c.push(size, kind === OperandKind.IMM ? c.immediate(size) : c.read(0));
}

function popOperand(c: Emitter): void {
  const { kind } = c.form.operands[0];
  const size = c.form.operandSize;
  const value = c.peek(size);
  if (kind === OperandKind.MEM) {
    // An address that uses RSP is made after the stack pointer has moved (SDM vol. 2, POP).
    const before = c.gpr(4, 64);
    c.drop(size / 8);
    const offset = c.offset();
    c.setGpr(4, 64, before);
    c.store(offset, size, value, 'operand');
    c.drop(size / 8);
    return;
  }
  c.drop(size / 8);
  c.write(0, value);
}

function pushAll(c: Emitter): void {
  const size = c.form.operandSize;
  const bytes = size / 8;
  const top = c.stackPointer();
  const mask = c.form.stackSize === 16 ? 0xffff : 0xffffffff;
  for (let index = 0; index < 8; index++) {
    c.store(c.f.let(i64.and(i64.sub(top, (index + 1) * bytes), mask)), size, c.gpr(index, size), 2);
  }
  c.drop(-8 * bytes);
}

function popAll(c: Emitter): void {
  const size = c.form.operandSize;
  const values = [0, 1, 2, 3, 4, 5, 6, 7].map((place) => c.peek(size, (place * size) / 8));
  c.drop(size);
  values.forEach((value, place) => {
    if (place !== 3) c.setGpr(7 - place, size, value);
  });
}

function leave(c: Emitter): void {
  const size = c.form.operandSize;
  const frame = c.gpr(5, c.form.stackSize);
  const value = c.load(frame, size, 2);
  c.setStackPointer(i64.add(frame, size / 8));
  c.setGpr(5, size, value);
}

const FIXED_EFLAGS = 2;
const RF_VM = 0x30000;

function pushFlags(c: Emitter): void {
  const system = c.f.let(c.field32(Field.EFLAGS));
  // In virtual-8086 mode with IOPL below 3 the monitor decides (SDM vol. 3, 21.2.5).
  const denied = i32.and(i32.ne(i32.and(system, 0x20000), 0), i32.ne(i32.and(system, 0x3000), 0x3000));
  c.f.if(denied, () => c.raise(i32.const(13)));
  const word = i32.or(i32.and(system, ~RF_VM), i32.or(arithmeticFlags(c), FIXED_EFLAGS));
  c.push(c.form.operandSize, c.f.let(i64.extend_u(word)));
}

function lea(c: Emitter): void {
  c.write(0, c.offset());
}

export const moves: SemanticsGroup = {
  name: 'moves',
  plain: {
    mov,
    lea,
    xlat,
    bswap,
    leave,
    movzx: (c) => c.write(0, c.read(1)),
    movsx: (c) => c.write(0, extend(c.form.operands[1].size, c.read(1))),
    movsxd: (c) => c.write(0, extend(c.form.operands[1].size, c.read(1))),
    movnti: (c) => c.write(0, c.read(1)),
    movbe: (c) => c.write(0, swapBytes(c, c.form.operands[0].size, c.read(1))),
    xchg: exchange,
    cmovcc: conditionalMove,
    setcc: (c) => c.write(0, c.f.let(i64.extend_u(condition(c, c.form.condition)))),
    cbw: convertUp,
    cwd: convertDouble,
    push: pushOperand,
    pop: popOperand,
    pusha: pushAll,
    popa: popAll,
    pushf: pushFlags,
    lahf: (c) => {
      const flags = i32.or(arithmeticFlags(c), FIXED_EFLAGS);
      c.setHighByte(0, i64.extend_u(flags));
    },
    sahf: (c) => {
      const overflow = i32.and(arithmeticFlags(c), 0x800);
      const word = i32.or(i32.and(i32.wrap(c.highByte(0)), 0xd5), overflow);
      setArithmeticFlags(c, c.f.let(word));
    },
    salc: (c) => c.setGpr(0, 8, i64.sub(i64.const(0), carryFlag(c))),
    enter: (c) => c.helper(helperNumber('enter', c.form.operandSize)),
  },
};
