import { Attrib } from '../../cpu.ts';
import { Field, Segment, SegmentIndex, TlbKind, TlbSet, tlbOffset } from '../../state.ts';
import { i32, i64, type I32, type I64 } from '../../wasm/expression.ts';
import type { Emitter } from '../emitter.ts';
import { Context } from '../form.ts';
import { tlbHit, wideTlb } from '../tlb.ts';

/** The flat model of today's kernels, whose segments say no more than that: what its quick cases share. */

/** Where Field.JUMP_SALT has the context and the privilege: in its upper half (see Cpu.updateMode). */
export const SALT_SHIFT = 20;

/** Bounds of a segment, the low one first: from 0 to the last byte, and none. */
export const EVERYTHING = -(2 ** 32);
export const NOTHING = 1;
/** Descriptors of flat segments that were in use before (accessed), by privilege: 64-bit code, 32-bit code, data. */
export const FLAT_CODE = { 64: 0x00af_9b00_0000_ffffn, 32: 0x00cf_9b00_0000_ffffn } as const;
export const FLAT_DATA = 0x00cf_9300_0000_ffffn;
export const DPL_3 = 0x6000_0000_0000n;

export const without = (word: I32, bits: number): I32 => i32.eqz(i32.and(word, bits));

/** A flat segment of a privilege level: its selector, and what SYSCALL and SYSRET fix. */
function setFlat(c: Emitter, index: number, selector: I32, attrib: number): void {
  const at = Field.SEGMENTS + Segment.SIZE * index;
  c.setField32(at + Segment.SELECTOR, i32.and(selector, 0xffff));
  c.setField32(at + Segment.ATTRIB, i32.const(attrib));
  c.setField32(at + Segment.LIMIT, i32.const(-1));
  c.setField64(at + Segment.BASE, i64.const(0));
  // 64-bit code has no bounds; that of other modes can read its code and write its stack.
  const nothing = i64.const(1);
  c.setField64(at + Segment.READ_LOW, i64.const(EVERYTHING));
  c.setField64(at + Segment.WRITE_LOW, index === SegmentIndex.CS ? nothing : i64.const(EVERYTHING));
}

/** The code or stack segment of a privilege level. */
export function setSegmentOf(c: Emitter, index: number, selector: I32, cpl: number): void {
  const common = Attrib.G | Attrib.P | (cpl << 5) | Attrib.S;
  const size = c.form.codeSize === 64 ? Attrib.L : Attrib.DB;
  const own = index === SegmentIndex.CS ? size | 11 : Attrib.DB | 3;
  setFlat(c, index, selector, common | own);
}

/** The code and stack segments, and what follows from the privilege. The context stays what it is. */
export function setPrivilege(c: Emitter, code: I32, stack: I32, cpl: number): void {
  setSegmentOf(c, SegmentIndex.CS, code, cpl);
  setSegmentOf(c, SegmentIndex.SS, stack, cpl);
  c.setField32(Field.CPL, i32.const(cpl));
  const user = cpl === 3 ? Context.COUNT : 0;
  c.setField32(Field.JUMP_SALT + 4, i32.shl(i32.or(c.field32(Field.CONTEXT), user), SALT_SHIFT));
  const set = cpl === 3 ? TlbSet.USER : TlbSet.SUPERVISOR;
  c.setTable(Field.TLB_READ, i32.add(c.s, tlbOffset(set, TlbKind.READ)));
  c.setTable(Field.TLB_WRITE, i32.add(c.s, tlbOffset(set, TlbKind.WRITE)));
}

/** A selector's bits beside the place in its table: RPL, and the local table's. */
export const RPL = 3;
const IN_LDT = 4;

/**
 * The descriptor that a selector names in the GDT; 0 for those of the local table, beyond the end, and where the kernel's
 * translation table doesn't have the place, which TypeScript fills when it looks itself.
 */
export function descriptorOf(c: Emitter, selector: I32): I64 {
  const { f } = c;
  const found = f.local('i64');
  f.set(found, i64.const(0));
  const at = f.let(i32.and(selector, 0xfff8));
  const inside = i32.le_u(i32.or(at, 7), i32.and(c.field32(Field.GDT_LIMIT), 0xffff));
  f.if(i32.and(inside, without(selector, IN_LDT)), () => {
    const linear = f.let(i64.add(c.field64(Field.GDT_BASE), i64.extend_u(at)));
    const entry = wideTlb.entryIn(f, linear, i32.add(c.s, tlbOffset(TlbSet.SUPERVISOR, TlbKind.READ)));
    f.if(tlbHit(wideTlb, entry, linear, 8), () => {
      f.set(found, i64.load(wideTlb.host(entry, linear)));
    });
  });
  return found;
}

/** Whether that is exactly this one, and no null selector. */
export function describes(c: Emitter, selector: I32, descriptor: bigint): I32 {
  const named = i32.ne(i32.and(selector, 0xfff8), 0);
  return i32.and(named, i64.eq(descriptorOf(c, selector), i64.const(descriptor)));
}
