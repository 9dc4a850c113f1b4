import { helperNumber } from '../../helpers.ts';
import { Field, PORT_PLACES, PortAnswer, PortLog } from '../../state.ts';
import { i32, i64, type I32 } from '../../wasm/expression.ts';
import { cut } from '../bits.ts';
import type { Emitter } from '../emitter.ts';

const RAX = 0;

/** An exit, with the port in HELPER_VALUE. */
function leave(c: Emitter, kind: 'in' | 'out', port: I32): void {
  c.setField64(Field.HELPER_VALUE, i64.extend_u(port));
  c.helper(helperNumber(kind, c.form.operandSize));
}

/**
 * Puts the access down in the log and does without an exit, if the port's word says so and there is room. Only for the
 * kernel: others may have to be looked up in the TSS's permission map (system/io.ts).
 */
function complete(c: Emitter, kind: 'in' | 'out', port: I32, answer: I32, byte: I32): void {
  const { f } = c;
  const holds = kind === 'in' ? PortAnswer.READ : PortAnswer.WRITE;
  const count = f.let(c.field32(Field.PORT_COUNT));
  const known = i32.eq(i32.and(answer, holds | PortAnswer.PORT), i32.or(port, holds));
  const roomy = i32.lt_u(count, c.field32(Field.PORT_LIMIT));
  const kernel = i32.eqz(c.field32(Field.CPL));
  f.if(i32.eqz(i32.and(i32.and(known, roomy), kernel)), () => {
    leave(c, kind, port);
    c.next();
  });
  const entry = f.let(i32.add(c.s, i32.mul(count, PortLog.SIZE)));
  const access = i32.or(i32.or(port, holds), i32.shl(byte, PortAnswer.VALUE_SHIFT));
  f.store64(entry, c.form.codeSize === 64 ? c.rip() : cut(32, c.rip()), Field.PORT_LOG + PortLog.RIP);
  f.store32(entry, access, Field.PORT_LOG + PortLog.ACCESS);
  f.store32(entry, c.budgetBefore(), Field.PORT_LOG + PortLog.BUDGET);
  c.setField32(Field.PORT_COUNT, i32.add(count, 1));
}

const portOf = (c: Emitter, operand: number): I32 =>
  c.f.let(i32.and(i32.wrap(c.read(operand)), PortAnswer.PORT));

/** The word that may be about the port. */
function answerFor(c: Emitter, port: I32): I32 {
  const place = i32.shl(i32.and(port, PORT_PLACES - 1), 2);
  return c.f.let(i32.load(i32.add(c.s, place), Field.PORT_ANSWERS));
}

/** IN. */
export function readPort(c: Emitter): void {
  const port = portOf(c, 1);
  if (c.form.operandSize !== 8) return leave(c, 'in', port);
  const answer = answerFor(c, port);
  const byte = c.f.let(i32.and(i32.shr_u(answer, PortAnswer.VALUE_SHIFT), 0xff));
  complete(c, 'in', port, answer, byte);
  c.setGpr(RAX, 8, i64.extend_u(byte));
}

/** OUT. */
export function writePort(c: Emitter): void {
  const port = portOf(c, 0);
  if (c.form.operandSize !== 8) return leave(c, 'out', port);
  const byte = c.f.let(i32.and(i32.wrap(c.read(1)), 0xff));
  complete(c, 'out', port, answerFor(c, port), byte);
}
