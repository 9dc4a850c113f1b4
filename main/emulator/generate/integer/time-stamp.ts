import { Cr4 } from '../../cpu.ts';
import { helperNumber } from '../../helpers.ts';
import { Field } from '../../state.ts';
import { i32, i64 } from '../../wasm/expression.ts';
import type { Emitter } from '../emitter.ts';

const RAX = 0;
const RDX = 2;
/**
 * Instructions to a tick, a nanosecond, between two looks at the clock, as a power of two: more than any host runs in
 * that time, so that the next look never finds it gone beyond what it is.
 */
const PACE = 2;

/**
 * RDTSC: the clock's last answer and what was run since, for as many instructions as Field.TSC_FRESH says; then the clock is
 * asked again. What needs more than that is the helper's: #GP, and time that is a count of instructions.
 */
export function readTimeStamp(c: Emitter): void {
  const { f } = c;
  const budget = f.let(c.budgetBefore());
  const ran = f.local('i32');
  const look = (): void => f.set(ran, i32.sub(c.field32(Field.TSC_MARK), budget));
  const isStale = i32.ge_u(ran, c.field32(Field.TSC_FRESH));
  look();
  f.if(isStale, () => {
    f.call(c.callee('clock'), c.s, budget);
    look();
  });
  const denied = i32.and(i32.ne(c.field32(Field.CPL), 0), i32.ne(i32.and(c.field32(Field.CR4), Cr4.TSD), 0));
  f.if(i32.or(isStale, denied), () => {
    c.helper(helperNumber('rdtsc', c.form.operandSize));
    c.next();
  });
  const ticks = f.let(i64.add(c.field64(Field.TSC), i64.extend_u(i32.shr_u(ran, PACE))));
  c.setGpr(RAX, 32, ticks);
  c.setGpr(RDX, 32, i64.shr_u(ticks, 32));
}
