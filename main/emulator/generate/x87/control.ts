import { Field } from '../../state.ts';
import { i32, i64, select, v128, type I32, type I64 } from '../../wasm/expression.ts';
import { loadBits, type Emitter } from '../emitter.ts';
import type { LibraryRoutine, Semantics } from '../semantics.ts';
import { Control, type Routine, routine, Scratch, Status } from './format.ts';
import { begin, beginNoWait } from './stack.ts';

/** Instructions that read and write the control and status words and images of the state (SDM vol. 1, 8.1.10). */

/** Status word with TOP. */
function statusWord(c: Emitter): I64 {
  const top = i32.shl(c.field32(Field.FPU_TOP), 11);
  return c.f.let(i64.extend_u(i32.or(c.field32(Field.FPU_STATUS), top)));
}

function setControl(c: Emitter, value: I64): void {
  c.callVoid('x87SetControl', c.s, i32.wrap(value));
}

/** (s, word): a new control word; exceptions that it unmasks are pending then, those that it masks no more. */
const x87SetControl = routine(['i32'], undefined, (r, f) => {
  const word = i32.or(i32.and(f.parameter('i32', 1), Control.DEFINED), Control.ALWAYS);
  f.store32(r.s, word, Field.FPU_CONTROL);
  const summary = Status.ES | Status.BUSY;
  const status = f.let(i32.and(i32.load(r.s, Field.FPU_STATUS), ~summary));
  const unmasked = i32.and(i32.and(status, i32.xor(word, -1)), Control.EXCEPTIONS);
  const pending = select(unmasked, i32.const(summary), i32.const(0));
  f.store32(r.s, i32.or(status, pending), Field.FPU_STATUS);
});

/** (s): the state that FNINIT leaves. Registers keep what is in them. */
const x87Initialize = routine([], undefined, (r, f) => {
  f.store32(r.s, i32.const(Control.INITIAL), Field.FPU_CONTROL);
  for (const field of [Field.FPU_STATUS, Field.FPU_TOP, Field.FPU_TAGS, Field.FPU_OPCODE]) {
    f.store32(r.s, i32.const(0), field);
  }
  f.store64(r.s, i64.const(0), Field.FPU_IP);
  f.store64(r.s, i64.const(0), Field.FPU_DP);
});

/** (s): the tag word with two bits a register: 0 valid, 1 zero, 2 special, 3 empty. */
const x87TagWord = routine([], 'i32', (r, f) => {
  const word = f.local('i32');
  const number = f.local('i32');
  f.set(number, i32.const(7));
  f.loop((again) => {
    const parts = r.parts(f.let(v128.load(i32.add(r.s, i32.shl(number, 4)), Field.X87)));
    const special = select(r.isNormal(parts), i32.const(0), i32.const(2));
    const full = select(r.isZero(parts), i32.const(1), special);
    const present = i32.and(i32.shr_u(i32.load(r.s, Field.FPU_TAGS), number), 1);
    f.set(word, i32.or(i32.shl(word, 2), select(present, full, i32.const(3))));
    f.set(number, i32.sub(number, 1));
    f.breakIf(again, i32.ge_s(number, 0));
  });
  f.return(word);
});

const REGISTERS = 8;
const REGISTER_BYTES = 10;
/** Images have seven words or doublewords, then the registers in the order of the stack. */
const WORDS = 7;

/** What goes into or comes out of an image. */
interface Layout {
  /** Bits of a field: 16 or 32. */
  readonly bits: number;
  /** Real mode keeps the opcode beside linear addresses; protected mode has selectors, which are 0 here. */
  readonly real: boolean;
}

/** (s): writes the environment to the image in the scratch area. */
function storeEnvironment({ bits, real }: Layout): LibraryRoutine {
  return routine([], undefined, (r, f) => {
    const bytes = bits / 8;
    // The upper halves of the first three are all ones (seen on Intel and AMD processors).
    const put = (index: number, value: I64): void =>
      f.storeBits(bits, r.s, value, Scratch.IMAGE + bytes * index);
    const word = (index: number, value: I32): void => put(index, i64.extend_u(i32.or(value, -0x10000)));
    const tags = r.call32('x87TagWord', r.s);
    const top = i32.shl(i32.load(r.s, Field.FPU_TOP), 11);
    word(0, i32.load(r.s, Field.FPU_CONTROL));
    word(1, i32.or(i32.load(r.s, Field.FPU_STATUS), top));
    word(2, tags);
    const opcode = f.let(i64.load32_u(r.s, Field.FPU_OPCODE));
    const pointers = [i64.load(r.s, Field.FPU_IP), i64.load(r.s, Field.FPU_DP)];
    if (bits === 16 && real) {
      const [ip, dp] = pointers.map((pointer) => f.let(pointer));
      const high = (pointer: I64): I64 => i64.and(i64.shr_u(pointer, 4), 0xf000);
      put(3, ip);
      put(4, i64.or(high(ip), opcode));
      put(5, dp);
      put(6, high(dp));
    } else if (bits === 16) {
      put(3, pointers[0]);
      put(4, i64.const(0));
      put(5, pointers[1]);
      put(6, i64.const(0));
    } else if (real) {
      const [ip, dp] = pointers.map((pointer) => f.let(pointer));
      const high = (pointer: I64): I64 => i64.and(i64.shr_u(pointer, 4), 0xffff000);
      put(3, i64.or(i64.and(ip, 0xffff), -0x10000));
      put(4, i64.or(high(ip), opcode));
      put(5, i64.or(i64.and(dp, 0xffff), -0x10000));
      put(6, high(dp));
    } else {
      put(3, pointers[0]);
      put(4, i64.shl(opcode, 16));
      put(5, pointers[1]);
      put(6, i64.const(0xffff0000n));
    }
  });
}

/** (s): takes the environment from the image in the scratch area. */
function loadEnvironment({ bits, real }: Layout): LibraryRoutine {
  return routine([], undefined, (r, f) => {
    const bytes = bits / 8;
    const get = (index: number, size = bits): I64 =>
      f.let(loadBits(size, r.s, Scratch.IMAGE + bytes * index));
    const status = f.let(i32.wrap(get(1, 16)));
    const summary = Status.ES | Status.BUSY;
    f.store32(r.s, i32.and(status, ~(summary | 0x3800)), Field.FPU_STATUS);
    f.store32(r.s, i32.and(i32.shr_u(status, 11), 7), Field.FPU_TOP);
    r.callVoid('x87SetControl', r.s, i32.wrap(get(0, 16)));
    const tags = f.let(i32.wrap(get(2, 16)));
    const present = f.local('i32');
    for (let i = 0; i < REGISTERS; i++) {
      const pair = i32.and(i32.shr_u(tags, 2 * i), 3);
      f.set(present, i32.or(present, i32.shl(i32.ne(pair, 3), i)));
    }
    f.store32(r.s, present, Field.FPU_TAGS);
    const setOpcode = (value: I64): void => f.storeBits(32, r.s, i64.and(value, 0x7ff), Field.FPU_OPCODE);
    if (real) {
      const mask = bits === 16 ? 0xf000 : 0xffff000;
      const pointer = (low: I64, high: I64): I64 =>
        i64.or(i64.and(low, 0xffff), i64.shl(i64.and(high, mask), 4));
      f.store64(r.s, pointer(get(3), get(4)), Field.FPU_IP);
      f.store64(r.s, pointer(get(5), get(6)), Field.FPU_DP);
      setOpcode(get(4));
    } else {
      f.store64(r.s, get(3), Field.FPU_IP);
      f.store64(r.s, get(5), Field.FPU_DP);
      // The protected layout of 16 bits has no opcode.
      setOpcode(bits === 32 ? i64.shr_u(get(4), 16) : i64.const(0));
    }
  });
}

/** Host address of register ST(i)'s fields. */
function registerAt(r: Routine, index: I32): I32 {
  const number = i32.and(i32.add(i32.load(r.s, Field.FPU_TOP), index), 7);
  return r.f.let(i32.add(r.s, i32.shl(number, 4)));
}

/** (s, offset): copies the registers between the register file and the image, from an offset in it. */
function copyRegisters(toImage: boolean): LibraryRoutine {
  return routine(['i32'], undefined, (r, f) => {
    const index = f.local('i32');
    f.loop((again) => {
      const file = registerAt(r, index);
      const offset = i32.add(f.parameter('i32', 1), i32.mul(index, REGISTER_BYTES));
      const image = f.let(i32.add(r.s, offset));
      if (toImage) {
        f.store64(image, i64.load(file, Field.X87), Scratch.IMAGE);
        f.storeBits(16, image, i64.load(file, Field.X87 + 8), Scratch.IMAGE + 8);
      } else {
        f.store64(file, i64.load(image, Scratch.IMAGE), Field.X87);
        f.store64(file, i64.load16_u(image, Scratch.IMAGE + 8), Field.X87 + 8);
      }
      f.set(index, i32.add(index, 1));
      f.breakIf(again, i32.lt_u(index, REGISTERS));
    });
  });
}

/** Copies an image's words to memory or from it: one at a time, as the whole may straddle pages. */
function copyImage(c: Emitter, bytes: number, step: number, toMemory: boolean): void {
  const { f } = c;
  const at = f.local('i32');
  const start = c.offset();
  const mask = c.form.addressSize === 64 ? -1n : (1n << BigInt(c.form.addressSize)) - 1n;
  if (toMemory) {
    // A fault must leave memory as it is: both ends first.
    c.modify(start, step, 'operand');
    c.modify(f.let(i64.and(i64.add(start, bytes - 1), mask)), 1, 'operand');
  }
  f.set(at, i32.const(0));
  f.loop((again) => {
    const offset = f.let(i64.and(i64.add(start, i64.extend_u(at)), mask));
    const image = f.let(i32.add(c.s, at));
    if (toMemory) c.store(offset, 8 * step, loadBits(8 * step, image, Scratch.IMAGE), 'operand');
    else f.storeBits(8 * step, image, c.load(offset, 8 * step, 'operand'), Scratch.IMAGE);
    f.set(at, i32.add(at, step));
    f.breakIf(again, i32.lt_u(at, bytes));
  });
}

/** Does something with the layout that is in force: by operand size, and by CR0.PE and RFLAGS.VM. */
function withLayout(c: Emitter, then: (suffix: string) => void): void {
  const bits = imageBits(c);
  if (c.form.codeSize === 64) {
    then(`${bits}`);
    return;
  }
  const protectedMode = i32.and(c.field32(Field.CR0), 1);
  const virtual = i32.and(c.field32(Field.EFLAGS), 0x20000);
  c.f.if(
    i32.and(protectedMode, i32.eqz(virtual)),
    () => then(`${bits}`),
    () => then(`${bits}Real`),
  );
}

function imageBits(c: Emitter): number {
  return c.form.operandSize === 16 ? 16 : 32;
}

function fnstenv(c: Emitter): void {
  beginNoWait(c);
  const bytes = imageBits(c) / 8;
  withLayout(c, (suffix) => c.callVoid(`x87StoreEnvironment${suffix}`, c.s));
  copyImage(c, WORDS * bytes, bytes, true);
  // All exceptions are masked then.
  setControl(c, i64.or(i64.load32_u(c.s, Field.FPU_CONTROL), Control.EXCEPTIONS));
}

function fnsave(c: Emitter): void {
  beginNoWait(c);
  const bytes = imageBits(c) / 8;
  withLayout(c, (suffix) => c.callVoid(`x87StoreEnvironment${suffix}`, c.s));
  c.callVoid('x87SaveRegisters', c.s, i32.const(WORDS * bytes));
  copyImage(c, WORDS * bytes + REGISTERS * REGISTER_BYTES, bytes, true);
  c.callVoid('x87Initialize', c.s);
}

function fldenv(c: Emitter): void {
  begin(c);
  const bytes = imageBits(c) / 8;
  copyImage(c, WORDS * bytes, bytes, false);
  withLayout(c, (suffix) => c.callVoid(`x87LoadEnvironment${suffix}`, c.s));
}

function frstor(c: Emitter): void {
  begin(c);
  const bytes = imageBits(c) / 8;
  copyImage(c, WORDS * bytes + REGISTERS * REGISTER_BYTES, bytes, false);
  withLayout(c, (suffix) => c.callVoid(`x87LoadEnvironment${suffix}`, c.s));
  c.callVoid('x87RestoreRegisters', c.s, i32.const(WORDS * bytes));
}

export const control: Record<string, Semantics> = {
  fninit: (c) => {
    beginNoWait(c);
    c.callVoid('x87Initialize', c.s);
  },
  fnclex: (c) => {
    beginNoWait(c);
    const kept = Status.C0 | Status.C1 | Status.C2 | Status.C3;
    c.setField32(Field.FPU_STATUS, i32.and(c.field32(Field.FPU_STATUS), kept));
  },
  fldcw: (c) => {
    begin(c);
    setControl(c, c.read(0));
  },
  fnstcw: (c) => {
    beginNoWait(c);
    c.write(0, i64.load32_u(c.s, Field.FPU_CONTROL));
  },
  fnstsw: (c) => {
    beginNoWait(c);
    c.write(0, statusWord(c));
  },
  fnstenv,
  fnsave,
  fldenv,
  frstor,
  fwait: (c) => begin(c, Field.WAIT_TRAP),
};

export const controlRoutines = {
  x87SetControl,
  x87Initialize,
  x87TagWord,
  x87StoreEnvironment16: storeEnvironment({ bits: 16, real: false }),
  x87StoreEnvironment32: storeEnvironment({ bits: 32, real: false }),
  x87StoreEnvironment16Real: storeEnvironment({ bits: 16, real: true }),
  x87StoreEnvironment32Real: storeEnvironment({ bits: 32, real: true }),
  x87LoadEnvironment16: loadEnvironment({ bits: 16, real: false }),
  x87LoadEnvironment32: loadEnvironment({ bits: 32, real: false }),
  x87LoadEnvironment16Real: loadEnvironment({ bits: 16, real: true }),
  x87LoadEnvironment32Real: loadEnvironment({ bits: 32, real: true }),
  x87SaveRegisters: copyRegisters(true),
  x87RestoreRegisters: copyRegisters(false),
};
