import { Efer } from '../../cpu.ts';
import { helperNumber } from '../../helpers.ts';
import { Field, Record, Segment, SegmentIndex } from '../../state.ts';
import { i32, i64, type I32, type I64 } from '../../wasm/expression.ts';
import { tlbHit, type Emitter } from '../emitter.ts';

/**
 * Whether a segment register has this selector already, and from the very descriptor that stands in the GDT: then a load
 * changes nothing. 32-bit kernels load DS and ES at each entry with what programs have in them, too. Only for a kernel
 * outside long mode, and not for SS, which casts a shadow.
 */
function isLoaded(c: Emitter, selector: I32): I32 {
  const { f } = c;
  const loaded = f.local('i32');
  f.set(loaded, i32.const(0));
  const index = f.let(i32.load8_u(c.d, Record.REGISTER));
  const part = f.let(i32.add(c.s, i32.mul(index, Segment.SIZE)));
  const same = i32.eq(selector, i32.load(part, Field.SEGMENTS + Segment.SELECTOR));
  const offset = f.let(i32.and(selector, 0xfff8));
  const within = i32.le_u(i32.add(offset, 7), i32.and(c.field32(Field.GDT_LIMIT), 0xffff));
  const local = i32.and(selector, 4);
  const other = i32.or(i32.or(c.field32(Field.CPL), i32.and(c.field32(Field.EFER), Efer.LMA)), local);
  const able = i32.and(i32.eqz(other), i32.ne(index, SegmentIndex.SS));
  f.if(i32.and(i32.and(same, within), able), () => {
    const linear = f.let(i64.extend_u(i32.add(c.field32(Field.GDT_BASE), offset)));
    const entry = c.tlbEntry(linear, Field.TLB_READ);
    f.if(tlbHit(entry, linear, 8), () => {
      const stands = f.let(i64.load(i32.add(i32.wrap(linear), i32.load(entry, 8))));
      const known = i64.load(part, Field.SEGMENTS + Segment.DESCRIPTOR);
      f.set(loaded, i32.and(i64.ne(stands, 0), i64.eq(stands, known)));
    });
  });
  return loaded;
}

/** Loads the segment register of the first operand, unless that is the same as before. */
function load(c: Emitter, helper: 'moveToSegment' | 'popSegment', value: I64): void {
  const hand = (): void => {
    c.setField64(Field.HELPER_VALUE, value);
    c.endWithHelper(helperNumber(helper, c.form.operandSize));
  };
  if (!staysInBlock(c.form.codeSize)) hand();
  else c.f.if(i32.eqz(isLoaded(c, c.f.let(i32.wrap(value)))), hand);
}

/** Whether such a load may be one of those that change nothing; else it ends its block. */
export function staysInBlock(codeSize: number): boolean {
  return codeSize === 32;
}

/** MOV to a segment register. */
export function moveToSegment(c: Emitter): void {
  load(c, 'moveToSegment', c.f.let(i64.and(c.read(1), 0xffff)));
}

/** POP to a segment register. */
export function popSegment(c: Emitter): void {
  const size = c.form.operandSize;
  load(c, 'popSegment', c.f.let(i64.and(c.peek(size), 0xffff)));
  if (staysInBlock(c.form.codeSize)) c.drop(size / 8);
}
