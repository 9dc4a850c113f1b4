import { Cr4 } from '../../cpu.ts';
import { Vector } from '../../fault.ts';
import { helperNumber } from '../../helpers.ts';
import { Field, Segment, Slot } from '../../state.ts';
import { i32, i64 } from '../../wasm/expression.ts';
import type { Emitter } from '../emitter.ts';
import type { Semantics } from '../semantics.ts';

/** CR0, CR2, CR3 and CR4 follow one another in the vCPU's block. */
const LAST_IN_ROW = 4;

/** MOV from a control register, which a kernel does in each page fault; CR8 and those that don't exist are the helper's. */
export function readControl(c: Emitter): void {
  const { f } = c;
  c.requireKernel();
  const number = f.let(c.registerNumber(1));
  f.if(i32.or(i32.eq(number, 1), i32.gt_u(number, LAST_IN_ROW)), () => {
    c.helper(helperNumber('movFromControl', c.form.operandSize));
    c.next();
  });
  const place = i32.sub(number, i32.ne(number, 0));
  c.write(0, f.let(i64.load(i32.add(c.s, i32.shl(place, 3)), Field.CR0)));
}

/** #UD unless RDFSBASE and the like are allowed; the decoder knows that this is 64-bit code. */
function requireBases(c: Emitter): void {
  c.f.if(i32.eqz(i32.and(c.field32(Field.CR4), Cr4.FSGSBASE)), () => c.raise(i32.const(Vector.UD)));
}

/** RDFSBASE and RDGSBASE. */
export function readBase(index: number): Semantics {
  return (c) => {
    requireBases(c);
    c.write(0, c.f.let(c.field64(Field.SEGMENTS + Segment.SIZE * index + Segment.BASE)));
  };
}

/** WRFSBASE and WRGSBASE. What 32-bit code makes of segments is computed when it comes to run (Cpu.updateSegments). */
export function writeBase(index: number): Semantics {
  return (c) => {
    requireBases(c);
    const base = c.read(0);
    c.requireCanonical(base);
    const at = Field.SEGMENTS + Segment.SIZE * index;
    c.setField64(at + Segment.BASE, base);
    c.setField64(at + Segment.DESCRIPTOR, i64.const(0));
    c.setField64(Field.SLOTS + 8 * (Slot.SEGMENT_BASE + index), base);
  };
}
