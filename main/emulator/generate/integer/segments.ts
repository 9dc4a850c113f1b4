import { Cr0, Efer } from '../../cpu.ts';
import { helperNumber } from '../../helpers.ts';
import { Field, Record, Segment, SegmentIndex, Slot } from '../../state.ts';
import { i32, i64, select, type I32, type I64 } from '../../wasm/expression.ts';
import type { Emitter } from '../emitter.ts';
import { Context } from '../form.ts';
import { descriptorOf, EVERYTHING, FLAT_DATA, NOTHING, RPL, SALT_SHIFT } from './flat.ts';

/**
 * All of a descriptor but its base, its privilege, the bit for programs, and D/B, which says nothing of data that is no
 * stack and doesn't grow down (SDM vol. 3, 3.4.5): Linux has it clear in the segment for what is each CPU's own.
 */
const FLAT_MASK = 0x00af_9f00_0000_ffffn;
const FLAT_FS_BIT = Math.log2(Context.FLAT_FS);

/** A segment register and a selector for it. */
interface Load {
  index: I32;
  selector: I32;
  /** The register's part of the vCPU's block, before Field.SEGMENTS. */
  part: I32;
}

/** Whether the quick cases may be: only for a kernel outside long mode, and not for SS, which casts a shadow. */
function isPlain(c: Emitter, { index }: Load): I32 {
  const other = i32.or(c.field32(Field.CPL), i32.and(c.field32(Field.EFER), Efer.LMA));
  const plain = i32.and(i32.eqz(other), i32.and(c.field32(Field.CR0), Cr0.PE));
  return i32.and(plain, i32.ne(index, SegmentIndex.SS));
}

/** Puts a segment without bounds, by its descriptor, or none at all (0) into FS or GS, with all that follows from it. */
function install(c: Emitter, { index, selector, part }: Load, descriptor: I64): void {
  const { f } = c;
  const put = (field: number, value: I64): void => f.store64(part, value, Field.SEGMENTS + field);
  const put32 = (field: number, value: I32): void => f.store32(part, value, Field.SEGMENTS + field);
  const isNone = f.let(i64.eqz(descriptor));
  const low = i32.wrap(i64.shr_u(descriptor, 16));
  const high = f.let(i32.wrap(i64.shr_u(descriptor, 32)));
  const base = f.let(i64.extend_u(i32.or(i32.and(low, 0xffffff), i32.and(high, 0xff000000))));
  put32(Segment.SELECTOR, i32.and(selector, 0xffff));
  put32(Segment.ATTRIB, i32.or(i32.and(i32.shr_u(high, 8), 0xff), i32.and(i32.shr_u(high, 12), 0xf00)));
  put32(Segment.LIMIT, i32.sub(isNone, 1));
  const bounds = f.let(select(isNone, i64.const(NOTHING), i64.const(EVERYTHING)));
  put(Segment.READ_LOW, bounds);
  put(Segment.WRITE_LOW, bounds);
  put(Segment.BASE, base);
  put(Segment.DESCRIPTOR, descriptor);
  f.store64(i32.add(c.s, i32.shl(index, 3)), base, Field.SLOTS + 8 * Slot.SEGMENT_BASE);
  const place = f.let(i32.sub(index, SegmentIndex.FS));
  const others = i32.and(c.field32(Field.CONTEXT), i32.xor(i32.shl(i32.const(Context.FLAT_FS), place), -1));
  const own = i32.shl(i32.shl(i32.eqz(isNone), place), FLAT_FS_BIT);
  const context = f.let(i32.or(others, own));
  c.setField32(Field.CONTEXT, context);
  c.setField32(Field.JUMP_SALT + 4, i32.shl(context, SALT_SHIFT));
  const changed = i32.or(c.field32(Field.SEGMENTS_CHANGED), i32.shl(i32.const(1), index));
  c.setField32(Field.SEGMENTS_CHANGED, changed);
}

/**
 * Loads the segment register of the first operand. 32-bit kernels do that at each entry and before they return: DS and ES
 * they find as they leave them, and loads of what is there from the very descriptor that stands in the GDT change nothing;
 * FS is the kernel's own, or null. All other cases are the helper's. `after`: what else the instruction does.
 */
function load(
  c: Emitter,
  helper: 'moveToSegment' | 'popSegment',
  value: I64,
  after: () => void = () => undefined,
): void {
  const { f } = c;
  const hand = (): void => {
    c.setField64(Field.HELPER_VALUE, value);
    c.endWithHelper(helperNumber(helper, c.form.operandSize));
  };
  if (!staysInBlock(c.form.codeSize)) {
    hand();
    return;
  }
  const selector = f.let(i32.wrap(value));
  const index = f.let(i32.load8_u(c.d, Record.REGISTER));
  const part = f.let(i32.add(c.s, i32.mul(index, Segment.SIZE)));
  const one = { index, selector, part };
  const stays = f.local('i32');
  f.set(stays, i32.const(0));
  f.if(isPlain(c, one), () => {
    const isOwn = i32.and(i32.ge_s(index, SegmentIndex.FS), c.goesOn());
    // The context may be another: the block ends.
    const done = (descriptor: I64): void => {
      install(c, one, descriptor);
      after();
      c.jumpTo(c.nextRip());
    };
    f.if(i32.eqz(i32.and(selector, 0xfffc)), () => f.if(isOwn, () => done(i64.const(0))));
    const descriptor = descriptorOf(c, selector);
    const known = i64.load(part, Field.SEGMENTS + Segment.DESCRIPTOR);
    const same = i32.eq(selector, i32.load(part, Field.SEGMENTS + Segment.SELECTOR));
    f.if(i64.ne(descriptor, 0), () => {
      f.set(stays, i32.and(same, i64.eq(descriptor, known)));
      const flat = i64.eq(i64.and(descriptor, i64.const(FLAT_MASK)), i64.const(FLAT_DATA & FLAT_MASK));
      const privilege = i32.and(i32.wrap(i64.shr_u(descriptor, 45)), 3);
      const allowed = i32.ge_s(privilege, i32.and(selector, RPL));
      f.if(i32.and(i32.eqz(stays), i32.and(isOwn, i32.and(flat, allowed))), () => done(descriptor));
    });
  });
  f.if(i32.eqz(stays), hand);
  after();
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
  load(c, 'popSegment', c.f.let(i64.and(c.peek(size), 0xffff)), () => c.drop(size / 8));
}
