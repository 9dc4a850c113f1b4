import { Field } from '../../state.ts';
import { i32, i64, select, v128, type I32, type V128 } from '../../wasm/expression.ts';
import { i64x2 } from '../../wasm/simd.ts';
import type { Emitter } from '../emitter.ts';
import { setArithmeticFlags } from '../flags.ts';
import type { Semantics } from '../semantics.ts';
import { Order } from './compare.ts';
import { BIAS, CONDITIONS, INDEFINITE, Scratch, SIGN, SPECIAL, Status, ZERO128 } from './format.ts';
import {
  begin,
  clearFlags,
  commit,
  commitKeepingC1,
  finish,
  isMemory,
  remember,
  Stack,
  ST0,
  ST1,
  underflow,
  unlessEmpty,
} from './stack.ts';

/** Handlers of arithmetic and comparison. */

/** The memory operand as a number: a real, or an integer for the FI... forms. Raises DE for a denormal. */
export function readNumber(c: Emitter, integer: boolean): V128 {
  const { size } = c.form.operands[0];
  const bits = c.read(0);
  if (!integer) return c.call(size === 32 ? 'x87FromSingle' : 'x87FromDouble', 'v128', c.s, bits);
  const value = size === 16 ? i64.extend16_s(bits) : size === 32 ? i64.extend32_s(bits) : bits;
  return c.call('x87FromInteger', 'v128', c.s, value);
}

type Operation = (c: Emitter, a: V128, b: V128) => V128;
const add: Operation = (c, a, b) => c.call('x87Add', 'v128', c.s, a, b, i32.const(0));
const subtract: Operation = (c, a, b) => c.call('x87Add', 'v128', c.s, a, b, i32.const(SIGN));
const multiply: Operation = (c, a, b) => c.call('x87Multiply', 'v128', c.s, a, b);
const divide: Operation = (c, a, b) => c.call('x87Divide', 'v128', c.s, a, b);
const reversed =
  (operation: Operation): Operation =>
  (c, a, b) =>
    operation(c, b, a);

/** destination = destination operation source, then pops. With memory the destination is ST(0). */
function binary(operation: Operation, pops = 0, integer = false): Semantics {
  return (c) => {
    begin(c);
    clearFlags(c);
    const memory = isMemory(c) ? readNumber(c, integer) : undefined;
    remember(c);
    const stack = new Stack(c);
    const destination = memory ? ST0 : stack.operand(0);
    const source = memory ? ST0 : stack.operand(1);
    const result = unlessEmpty(c, stack.isEmpty(destination, source), () =>
      operation(c, stack.value(destination), memory ?? stack.value(source)),
    );
    finish(c, result, destination, pops);
  };
}

/** ST(0) = a routine's value of ST(0). */
export function unary(routine: string): Semantics {
  return (c) => {
    begin(c);
    clearFlags(c);
    remember(c);
    const stack = new Stack(c);
    const result = unlessEmpty(c, stack.isEmpty(ST0), () => c.call(routine, 'v128', c.s, stack.value(ST0)));
    finish(c, result, ST0, 0);
  };
}

/** FCHS and FABS: only the sign changes, whatever the number is. */
function changeSign(change: (signExponent: V128) => V128): Semantics {
  return (c) => {
    begin(c);
    clearFlags(c);
    remember(c);
    const stack = new Stack(c);
    const result = unlessEmpty(c, stack.isEmpty(ST0), () => c.f.let(change(stack.value(ST0))));
    finish(c, result, ST0, 0);
  };
}
const changed = (value: V128, how: (a: V128) => I32): V128 =>
  i64x2.replace_lane(value, 1, i64.extend_u(how(value)));
const signExponent = (value: V128): I32 => i32.wrap(i64.lane(value, 1));

interface Comparison {
  /** Only signalling NaNs are invalid. */
  quiet: boolean;
  pops?: number;
  integer?: boolean;
}

/** The condition code of ST(0) with the operand: memory, ST(i), or ST(1) where there is none. */
function ordered(c: Emitter, { quiet, integer = false }: Comparison): I32 {
  const { f } = c;
  begin(c);
  clearFlags(c);
  const memory = isMemory(c) ? readNumber(c, integer) : undefined;
  remember(c);
  const stack = new Stack(c);
  const source = memory ? ST0 : c.form.operands.length === 2 ? stack.operand(1) : ST1;
  const code = f.local('i32');
  f.if(
    stack.isEmpty(ST0, source),
    () => {
      underflow(c);
      f.set(code, i32.const(Order.UNORDERED));
    },
    () => {
      const b = memory ?? stack.value(source);
      f.set(code, c.call('x87Compare', 'i32', c.s, stack.value(ST0), b, i32.const(Number(quiet))));
    },
  );
  return code;
}

function compare(comparison: Comparison): Semantics {
  return (c) => {
    const code = ordered(c, comparison);
    c.callVoid('x87Compared', c.s, code, i32.const(comparison.pops ?? 0));
  };
}

/** FCOMI and its kind: the order goes to ZF, PF and CF; OF, SF and AF become 0. */
function compareFlags(comparison: Comparison): Semantics {
  return (c) => {
    const code = ordered(c, comparison);
    const { f } = c;
    const done = commitKeepingC1(c);
    // C3, C2 and C0 lie as ZF, PF and CF do, eight bits higher. They are set whatever the exceptions.
    setArithmeticFlags(c, f.let(i32.shr_u(code, 8)));
    if (comparison.pops) f.if(done, () => c.callVoid('x87Pop', c.s, i32.const(comparison.pops!)));
  };
}

function ftst(c: Emitter): void {
  const { f } = c;
  begin(c);
  clearFlags(c);
  remember(c);
  const stack = new Stack(c);
  const code = f.local('i32');
  f.if(
    stack.isEmpty(ST0),
    () => {
      underflow(c);
      f.set(code, i32.const(Order.UNORDERED));
    },
    () => f.set(code, c.call('x87Compare', 'i32', c.s, stack.value(ST0), ZERO128, i32.const(0))),
  );
  c.callVoid('x87Compared', c.s, code, i32.const(0));
}

/** Classifies ST(0), also when it is empty; C1 is its sign. */
function fxam(c: Emitter): void {
  const { f } = c;
  begin(c);
  remember(c);
  const stack = new Stack(c);
  const value = stack.value(ST0);
  const code = f.local('i32');
  f.if(
    stack.isEmpty(ST0),
    () => f.set(code, i32.const(Status.C0 | Status.C3)),
    () => f.set(code, c.call('x87Examine', 'i32', c.s, value)),
  );
  const sign = i32.shr_u(i32.and(signExponent(value), SIGN), 6);
  const others = i32.and(c.field32(Field.FPU_STATUS), ~CONDITIONS);
  c.setField32(Field.FPU_STATUS, i32.or(i32.or(others, code), sign));
}

/** ST(destination) = what is computed of ST(0) and ST(1), then pops. Whether it came to that. */
export function ofTwo(c: Emitter, compute: (a: V128, b: V128) => V128, destination = ST0, pops = 0): I32 {
  begin(c);
  clearFlags(c);
  remember(c);
  const stack = new Stack(c);
  const result = unlessEmpty(c, stack.isEmpty(ST0, ST1), () => compute(stack.value(ST0), stack.value(ST1)));
  return finish(c, result, destination, pops);
}

/** FPREM and FPREM1: C0, C3 and C1 are of the quotient. C0 and C3 stay when there is no remainder. */
function remainder(nearest: number): Semantics {
  return (c) => {
    const status = c.field32(Field.FPU_STATUS);
    const kept = c.f.let(i32.and(status, Status.C0 | Status.C3));
    c.setField32(Scratch.SECOND, kept);
    const done = ofTwo(c, (a, b) => c.call('x87Remainder', 'v128', c.s, a, b, i32.const(nearest)));
    const codes = select(done, c.field32(Scratch.SECOND), kept);
    const others = i32.and(status, ~(Status.C0 | Status.C2 | Status.C3));
    c.setField32(Field.FPU_STATUS, i32.or(others, codes));
  };
}

/** Replaces ST(0) by a routine's value and pushes the one that it left in SECOND. */
function pushSecond(c: Emitter, stack: Stack, routine: string): void {
  const { f } = c;
  const above = i32.const(-1);
  const first = f.local('v128');
  const indefinite = (flags: number): void => {
    c.setField32(Scratch.FLAGS, i32.const(flags));
    f.storeV128(c.s, INDEFINITE, Scratch.SECOND);
    f.set(first, INDEFINITE);
  };
  f.if(
    stack.isEmpty(ST0),
    () => indefinite(Status.IE | Status.SF),
    () =>
      f.if(
        stack.isEmpty(above),
        () => f.set(first, c.call(routine, 'v128', c.s, stack.value(ST0))),
        () => indefinite(Status.IE | Status.SF | Status.C1),
      ),
  );
  f.if(commit(c), () => {
    stack.setValue(ST0, first);
    stack.setTag(ST0);
    stack.setValue(above, f.let(v128.load(c.s, Scratch.SECOND)));
    stack.setTag(above);
    stack.setTop(above);
  });
}

function fxtract(c: Emitter): void {
  begin(c);
  clearFlags(c);
  remember(c);
  pushSecond(c, new Stack(c), 'x87Extract');
}

/** Functions of an angle: C2 says that it is 2^63 or more, and nothing else happens. */
function ofAngle(routine: string, pushes: boolean): Semantics {
  return (c) => {
    const { f } = c;
    begin(c);
    clearFlags(c);
    remember(c);
    const stack = new Stack(c);
    const value = stack.value(ST0);
    const exponent = i32.and(signExponent(value), SPECIAL);
    const large = i32.and(i32.ge_u(exponent, BIAS + 63), i32.ne(exponent, SPECIAL));
    const supported = i64.lt_s(i64.lane(value, 0), 0);
    const empty = stack.isEmpty(ST0);
    const faults = pushes ? i32.or(empty, i32.eqz(stack.isEmpty(i32.const(-1)))) : empty;
    const far = i32.and(i32.and(large, supported), i32.eqz(faults));
    const without = i32.and(c.field32(Field.FPU_STATUS), ~(Status.C1 | Status.C2));
    f.if(
      far,
      () => c.setField32(Field.FPU_STATUS, i32.or(without, Status.C2)),
      () => {
        c.setField32(Field.FPU_STATUS, without);
        if (pushes) pushSecond(c, stack, routine);
        else {
          const result = unlessEmpty(c, stack.isEmpty(ST0), () => c.call(routine, 'v128', c.s, value));
          finish(c, result, ST0, 0);
        }
      },
    );
  };
}

/** ST(1) = a routine's value of ST(0) and ST(1), then pops. */
const intoSecond =
  (routine: string): Semantics =>
  (c) =>
    void ofTwo(c, (a, b) => c.call(routine, 'v128', c.s, a, b), ST1, 1);

export const calculations: Record<string, Semantics> = {
  fadd: binary(add),
  faddp: binary(add, 1),
  fiadd: binary(add, 0, true),
  fsub: binary(subtract),
  fsubp: binary(subtract, 1),
  fisub: binary(subtract, 0, true),
  fsubr: binary(reversed(subtract)),
  fsubrp: binary(reversed(subtract), 1),
  fisubr: binary(reversed(subtract), 0, true),
  fmul: binary(multiply),
  fmulp: binary(multiply, 1),
  fimul: binary(multiply, 0, true),
  fdiv: binary(divide),
  fdivp: binary(divide, 1),
  fidiv: binary(divide, 0, true),
  fdivr: binary(reversed(divide)),
  fdivrp: binary(reversed(divide), 1),
  fidivr: binary(reversed(divide), 0, true),
  fsqrt: unary('x87SquareRoot'),
  frndint: unary('x87RoundToInteger'),
  fscale: (c) => void ofTwo(c, (a, b) => c.call('x87Scale', 'v128', c.s, a, b)),
  fxtract,
  fsin: ofAngle('x87Sine', false),
  fcos: ofAngle('x87Cosine', false),
  fsincos: ofAngle('x87SineCosine', true),
  fptan: ofAngle('x87Tangent', true),
  fpatan: intoSecond('x87ArcTangent'),
  f2xm1: unary('x87PowerLessOne'),
  fyl2x: intoSecond('x87LogarithmTimes'),
  fyl2xp1: intoSecond('x87LogarithmOfOnePlus'),
  fprem: remainder(0),
  fprem1: remainder(1),
  fchs: changeSign((value) => changed(value, (a) => i32.xor(signExponent(a), SIGN))),
  fabs: changeSign((value) => changed(value, (a) => i32.and(signExponent(a), ~SIGN))),
  fcom: compare({ quiet: false }),
  fcomp: compare({ quiet: false, pops: 1 }),
  fcompp: compare({ quiet: false, pops: 2 }),
  fucom: compare({ quiet: true }),
  fucomp: compare({ quiet: true, pops: 1 }),
  fucompp: compare({ quiet: true, pops: 2 }),
  ficom: compare({ quiet: false, integer: true }),
  ficomp: compare({ quiet: false, integer: true, pops: 1 }),
  fcomi: compareFlags({ quiet: false }),
  fcomip: compareFlags({ quiet: false, pops: 1 }),
  fucomi: compareFlags({ quiet: true }),
  fucomip: compareFlags({ quiet: true, pops: 1 }),
  ftst,
  fxam,
};
