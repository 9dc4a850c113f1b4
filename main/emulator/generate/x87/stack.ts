import { OperandKind } from '../../instruction.ts';
import { Field, Record } from '../../state.ts';
import { i32, select, v128, type I32, type Local, type V128 } from '../../wasm/expression.ts';
import type { Emitter } from '../emitter.ts';
import { BEFORE, Control, INDEFINITE, type Routine, routine, Scratch, Status } from './format.ts';

/** The register stack: what x87 instructions begin and end with. */

const MATH_FAULT = 16;
const STACK_FAULT: number = Status.IE | Status.SF;

/** #NM when x87 instructions must not run now, then #MF for an exception that is pending. */
export function begin(c: Emitter, trapField: number = Field.X87_TRAP): void {
  beginNoWait(c, trapField);
  // CR0.NE = 0 would report it by FERR# and an interrupt; PCs of the last decades all set NE, and here it is
  // #MF in both cases.
  c.f.if(i32.and(c.field32(Field.FPU_STATUS), Status.ES), () => c.raise(i32.const(MATH_FAULT)));
}

/** The same for the instructions that do not look at pending exceptions (FN...). */
export function beginNoWait(c: Emitter, trapField: number = Field.X87_TRAP): void {
  const trap = c.f.let(c.field32(trapField));
  c.f.if(trap, () => c.raise(trap));
}

export function isMemory(c: Emitter): boolean {
  return c.form.operands[0]?.kind === OperandKind.MEM;
}

/**
 * Remembers this instruction as the last one that was not for control: its address, opcode and, when it has one,
 * the offset of its operand (SDM vol. 1, 8.1.8). The selectors are not kept: they read as 0, as on processors that
 * have CPUID.(EAX=7):EBX[13].
 */
export function remember(c: Emitter): void {
  c.setField64(Field.FPU_IP, c.rip());
  c.setField32(Field.FPU_OPCODE, i32.load(c.d, Record.IMMEDIATE));
  if (isMemory(c)) c.setField64(Field.FPU_DP, c.offset());
}

/** The stack as one instruction sees it. Numbers of registers are those of ST(i). */
export class Stack {
  private readonly c: Emitter;
  readonly top: I32;

  constructor(c: Emitter) {
    this.c = c;
    this.top = c.f.let(c.field32(Field.FPU_TOP));
  }

  /** The register that operand n names. */
  operand(n: number): I32 {
    return this.c.f.let(i32.load8_u(this.c.d, Record.REGISTER + n));
  }

  private physical(index: I32): I32 {
    return i32.and(i32.add(this.top, index), 7);
  }
  private address(index: I32): I32 {
    return i32.add(this.c.s, i32.shl(this.physical(index), 4));
  }

  value(index: I32): V128 {
    return this.c.f.let(v128.load(this.address(index), Field.X87));
  }
  setValue(index: I32, value: V128): void {
    this.c.f.storeV128(this.address(index), value, Field.X87);
  }

  /** Whether one of some registers is empty: 0 or not. */
  isEmpty(...indices: I32[]): I32 {
    const { c } = this;
    const bits = indices.map((index) => i32.shl(i32.const(1), this.physical(index)));
    const wanted = bits.reduce((a, b) => i32.or(a, b));
    return c.f.let(i32.and(i32.xor(c.field32(Field.FPU_TAGS), -1), wanted));
  }
  setTag(index: I32): void {
    const { c } = this;
    const bit = i32.shl(i32.const(1), this.physical(index));
    c.setField32(Field.FPU_TAGS, i32.or(c.field32(Field.FPU_TAGS), bit));
  }
  clearTag(index: I32): void {
    const { c } = this;
    const bit = i32.shl(i32.const(1), this.physical(index));
    c.setField32(Field.FPU_TAGS, i32.and(c.field32(Field.FPU_TAGS), i32.xor(bit, -1)));
  }
  /** Makes ST(index) the top. */
  setTop(index: I32): void {
    this.c.setField32(Field.FPU_TOP, this.physical(index));
  }
  pop(): void {
    this.clearTag(ST0);
    this.setTop(ST1);
  }
}
export const ST0: I32 = i32.const(0);
export const ST1: I32 = i32.const(1);

/** Begins the exceptions of an instruction. */
export function clearFlags(c: Emitter): void {
  c.setField32(Scratch.FLAGS, i32.const(0));
}

/** Computes a number, or has a stack underflow and the indefinite. */
export function unlessEmpty(c: Emitter, empty: I32, compute: () => V128): V128 {
  const { f } = c;
  const result = f.local('v128');
  f.if(
    empty,
    () => {
      underflow(c);
      f.set(result, INDEFINITE);
    },
    () => f.set(result, compute()),
  );
  return result;
}

export function underflow(c: Emitter): void {
  c.setField32(Scratch.FLAGS, i32.const(STACK_FAULT));
}

/** Ends an instruction with a result for a register, then pops. Whether it came to that. */
export function finish(c: Emitter, value: V128, index: I32, pops: number): I32 {
  return c.call('x87Finish', 'i32', c.s, value, index, i32.const(pops));
}

/** Commits the exceptions of an instruction: whether its results may be stored. */
export function commit(c: Emitter): I32 {
  return c.call('x87Commit', 'i32', c.s, i32.const(BEFORE));
}

/** Commits the exceptions of an instruction that leaves C1 alone but for a stack underflow (seen on a Zen 5). */
export function commitKeepingC1(c: Emitter): I32 {
  const { f } = c;
  const before = f.let(i32.and(c.field32(Field.FPU_STATUS), Status.C1));
  const done = commit(c);
  f.if(i32.eqz(i32.and(c.field32(Scratch.FLAGS), Status.SF)), () => {
    c.setField32(Field.FPU_STATUS, i32.or(c.field32(Field.FPU_STATUS), before));
  });
  return done;
}

// ---- Routines -------------------------------------------------------------------------------------------

/**
 * Puts the exceptions of the instruction into the status word. 1 when its results may be stored: none of the
 * exceptions `before` them is without mask.
 */
function commitFlags(r: Routine, before: I32): Local<'i32'> {
  const { f } = r;
  const flags = f.let(i32.load(r.s, Scratch.FLAGS));
  const status = f.let(i32.and(i32.load(r.s, Field.FPU_STATUS), ~Status.C1));
  const unmasked = f.let(i32.and(i32.and(flags, i32.xor(r.control(), -1)), Control.EXCEPTIONS));
  const done = f.local('i32');
  f.set(done, i32.const(1));
  f.if(
    unmasked,
    () => {
      const stops = f.let(i32.and(unmasked, before));
      // What would have come after an exception that stops the instruction does not come.
      const stackFault = i32.and(flags, Status.SF);
      const stopped = select(stackFault, i32.const(STACK_FAULT | Status.C1), i32.const(BEFORE));
      const shown = i32.and(flags, select(stops, stopped, i32.const(-1)));
      const pending = i32.or(status, Status.ES | Status.BUSY);
      f.store32(r.s, i32.or(pending, shown), Field.FPU_STATUS);
      f.set(done, i32.eqz(stops));
    },
    () => f.store32(r.s, i32.or(status, flags), Field.FPU_STATUS),
  );
  return done;
}

/** (s, before): the same for handlers. */
const x87Commit = routine(['i32'], 'i32', (r, f) => {
  f.return(commitFlags(r, f.parameter('i32', 1)));
});

/** The physical number of ST(index). */
function physical(r: Routine, index: I32): I32 {
  return i32.and(i32.add(i32.load(r.s, Field.FPU_TOP), index), 7);
}

function setRegister(r: Routine, number: I32, value: V128): void {
  r.f.storeV128(i32.add(r.s, i32.shl(number, 4)), value, Field.X87);
  const bit = i32.shl(i32.const(1), number);
  r.f.store32(r.s, i32.or(i32.load(r.s, Field.FPU_TAGS), bit), Field.FPU_TAGS);
}

function popOnce(r: Routine): void {
  const { f } = r;
  const top = f.let(i32.load(r.s, Field.FPU_TOP));
  const kept = i32.xor(i32.shl(i32.const(1), top), -1);
  f.store32(r.s, i32.and(i32.load(r.s, Field.FPU_TAGS), kept), Field.FPU_TAGS);
  f.store32(r.s, i32.and(i32.add(top, 1), 7), Field.FPU_TOP);
}

/** (s, count): pops once or twice. */
const x87Pop = routine(['i32'], undefined, (r, f) => {
  popOnce(r);
  f.if(i32.gt_s(f.parameter('i32', 1), 1), () => popOnce(r));
});

/** (s, value, index, pop): ends an instruction with a result for ST(index), then pops or not; 1 when it is stored. */
const x87Finish = routine(['v128', 'i32', 'i32'], 'i32', (r, f) => {
  const done = commitFlags(r, i32.const(BEFORE));
  f.if(done, () => {
    setRegister(r, f.let(physical(r, f.parameter('i32', 2))), f.parameter('v128', 1));
    f.if(f.parameter('i32', 3), () => popOnce(r));
  });
  f.return(done);
});

/** (s, value): ends an instruction that pushes; a register that is not empty in its way is a stack overflow. */
const x87Push = routine(['v128'], undefined, (r, f) => {
  const value = f.parameter('v128', 1);
  const number = f.let(physical(r, i32.const(-1)));
  const taken = i32.and(i32.shr_u(i32.load(r.s, Field.FPU_TAGS), number), 1);
  // The underflow of an empty source comes first.
  const fault = i32.and(i32.load(r.s, Scratch.FLAGS), Status.SF);
  f.if(i32.and(taken, i32.eqz(fault)), () => {
    r.raiseOnly(STACK_FAULT | Status.C1);
    f.set(value, INDEFINITE);
  });
  // AMD processors push a denormal operand even when DE has no mask.
  f.if(commitFlags(r, i32.const(Status.IE)), () => {
    setRegister(r, number, value);
    f.store32(r.s, number, Field.FPU_TOP);
  });
});

/** (s, value): an infinity or NaN from memory as it is loaded: signalling NaNs are invalid and become quiet. */
const x87Quiet = routine(['v128'], 'v128', (r, f) => {
  const value = f.parameter('v128', 1);
  f.if(i32.eqz(r.isNaN(r.parts(value))), () => f.return(value));
  r.returnCall('x87NaN', r.s, value, value);
});

/** (s, codes, pops): ends a comparison. */
const x87Compared = routine(['i32', 'i32'], undefined, (r, f) => {
  const done = commitFlags(r, i32.const(BEFORE));
  const others = i32.and(i32.load(r.s, Field.FPU_STATUS), ~(Status.C0 | Status.C2 | Status.C3));
  f.store32(r.s, i32.or(others, f.parameter('i32', 1)), Field.FPU_STATUS);
  f.if(i32.and(done, i32.ne(f.parameter('i32', 2), 0)), () => {
    r.callVoid('x87Pop', r.s, f.parameter('i32', 2));
  });
});

export const stackRoutines = { x87Commit, x87Pop, x87Finish, x87Push, x87Quiet, x87Compared };
