import { Attrib, Cr0, Efer, Eflags } from '../../cpu.ts';
import { Field, Segment, SegmentIndex, TlbKind, TlbSet, tlbOffset } from '../../state.ts';
import { i32, i64, type I32, type I64 } from '../../wasm/expression.ts';
import type { FunctionBuilder } from '../../wasm/module.ts';
import { Emitter, type Callees } from '../emitter.ts';
import { tlbHit, wideTlb } from '../tlb.ts';
import { arithmeticFlags } from '../flags.ts';
import { Context, plainForm } from '../form.ts';
import type { LibraryRoutine, SemanticsGroup } from '../semantics.ts';
import {
  describes,
  FLAT_CODE,
  FLAT_DATA,
  NOTHING,
  RPL,
  setPrivilege,
  setSegmentOf,
  without,
} from './flat.ts';

/**
 * Exceptions of kernels in the flat model, and of their programs: delivered by generated code where nothing is unusual,
 * and all that it reads and writes is in the supervisor's translation tables. Else nothing is done, and
 * system/interrupts.ts delivers, by which everything here must come out the same.
 */

type Size = 32 | 64;

const RSP = 4;
/** What has consequences beyond the frame: traps, virtual-8086 mode, and AC, which counts under SMAP. */
const UNUSUAL = Eflags.TF | Eflags.VM | Eflags.AC;
/** The upper word of a gate: present, type of an interrupt or trap gate; its DPL does not matter for exceptions. */
const GATE_MASK = 0x9e00;
const GATE = 0x8e00;
const IS_TRAP = 0x100;
/** The interrupt stack table's number in a 64-bit gate's second word. */
const IST = 7;
/** Offsets in a TSS of ESP0 and SS0, and of RSP0 (SDM vol. 3, 7.2.1 and 7.7). */
const ESP0 = 4;
const RSP0 = 4;
/** A 32-bit TSS: bit 3 of its type. */
const WIDE_TSS = 8;

/** Gives up: nothing has been done. */
const giveUpIf = (f: FunctionBuilder, condition: I32): void => f.if(condition, () => f.return(i32.const(0)));

/** Where the kernel's translation table has all of some bytes; gives up where it doesn't. */
function hostOf(c: Emitter, linear: I64, bytes: number, kind: number): I32 {
  const { f } = c;
  const entry = wideTlb.entryIn(f, linear, i32.add(c.s, tlbOffset(TlbSet.SUPERVISOR, kind)));
  giveUpIf(f, i32.eqz(tlbHit(wideTlb, entry, linear, bytes)));
  return f.let(wideTlb.host(entry, linear));
}

const readable = (c: Emitter, linear: I64, bytes: number): I32 =>
  hostOf(c, c.f.let(linear), bytes, TlbKind.READ);

/** (s, vector, error, resume): 1 if it was delivered. `error` is -1 if there is none; `resume`: RF or 0, for the frame. */
function build(size: Size, f: FunctionBuilder, callees: Callees): void {
  const c = new Emitter(f, plainForm('exception', size), callees, i32.const(0));
  const is64 = size === 64;
  const bytes = size / 8;
  const segment = (index: number, field: number): number => Field.SEGMENTS + Segment.SIZE * index + field;
  const [vector, error, resume] = [1, 2, 3].map((n) => f.parameter('i32', n));

  const flags = f.let(c.field32(Field.EFLAGS));
  const modeBits = Context.CODE_MASK | Context.STACK_32 | Context.ALIGNMENT | (is64 ? 0 : Context.FLAT);
  const mode = Context.STACK_32 | (is64 ? Context.CODE_64 : Context.CODE_32 | Context.FLAT);
  const usual = i32.eq(i32.and(c.field32(Field.CONTEXT), modeBits), mode);
  const cpl = f.let(c.field32(Field.CPL));
  const privilege = i32.or(i32.eqz(cpl), i32.eq(cpl, 3));
  giveUpIf(f, i32.eqz(i32.and(i32.and(usual, privilege), without(flags, UNUSUAL))));
  if (!is64) {
    giveUpIf(f, i32.ne(c.field32(segment(SegmentIndex.CS, Segment.LIMIT)), -1));
    giveUpIf(f, i32.and(c.field32(Field.EFER), Efer.LMA));
    giveUpIf(f, without(c.field32(Field.CR0), Cr0.PE));
  }

  const gateBytes = 2 * bytes;
  const last = i32.add(i32.mul(vector, gateBytes), gateBytes - 1);
  giveUpIf(f, i32.gt_u(last, i32.and(c.field32(Field.IDT_LIMIT), 0xffff)));
  const place = i64.add(c.field64(Field.IDT_BASE), i64.extend_u(i32.mul(vector, gateBytes)));
  const gate = readable(c, place, gateBytes);
  const low = f.let(i32.load(gate));
  const high = f.let(i32.load(gate, 4));
  giveUpIf(f, i32.ne(i32.and(high, GATE_MASK), GATE));
  if (is64) giveUpIf(f, i32.and(high, IST));
  const offset = i64.extend_u(i32.or(i32.and(low, 0xffff), i32.and(high, 0xffff0000)));
  const target = f.let(is64 ? i64.or(offset, i64.shl(i64.extend_u(i32.load(gate, 8)), 32)) : offset);
  const code = f.let(i32.and(i32.shr_u(low, 16), 0xfffc));
  giveUpIf(f, i32.eqz(describes(c, f.let(i32.shr_u(low, 16)), FLAT_CODE[size])));

  const top = f.local('i64');
  const stack = f.local('i32');
  f.if(
    cpl,
    () => {
      const tss = c.field64(segment(SegmentIndex.TR, Segment.BASE));
      const at = is64 ? RSP0 : ESP0;
      giveUpIf(f, i32.lt_u(c.field32(segment(SegmentIndex.TR, Segment.LIMIT)), at + 7));
      if (!is64) giveUpIf(f, without(c.field32(segment(SegmentIndex.TR, Segment.ATTRIB)), WIDE_TSS));
      const found = readable(c, i64.add(tss, at), 8);
      if (is64) f.set(top, i64.and(i64.load(found), -16));
      else {
        f.set(top, i64.extend_u(i32.load(found)));
        f.set(stack, i32.load16_u(found, 4));
        giveUpIf(f, i32.and(stack, RPL));
        giveUpIf(f, i32.eqz(describes(c, stack, FLAT_DATA)));
      }
    },
    () => f.set(top, is64 ? i64.and(c.gpr(RSP), -16) : c.gpr(RSP, 32)),
  );

  // From the top down; the error code, if there is one, is last.
  const selector = (index: number): I64 => i64.extend_u(c.field32(segment(index, Segment.SELECTOR)));
  const image = i32.or(i32.or(flags, arithmeticFlags(c)), resume);
  const frame = [i64.extend_u(image), selector(SegmentIndex.CS), c.field64(Field.RIP)];
  const outer = [selector(SegmentIndex.SS), c.gpr(RSP)];
  const most = (outer.length + frame.length + 1) * bytes;
  const lowest = f.let(i64.sub(top, most));
  if (!is64) giveUpIf(f, i64.lt_s(lowest, 0));
  const host = hostOf(c, lowest, most, TlbKind.WRITE);
  const put = (words: readonly I64[], above: number): void =>
    words.forEach((word, i) => f.storeBits(size, host, word, most - bytes * (above + i + 1)));
  const used = f.local('i32');
  const finish = (count: number): void => {
    f.set(used, i32.const(count * bytes));
    f.if(i32.ge_s(error, 0), () => {
      f.storeBits(size, host, i64.extend_u(error), most - bytes * (count + 1));
      f.set(used, i32.const((count + 1) * bytes));
    });
  };
  const whole = (): void => {
    put([...outer, ...frame], 0);
    finish(outer.length + frame.length);
  };
  if (is64) whole();
  else {
    f.if(cpl, whole, () => {
      put(frame, 0);
      finish(frame.length);
    });
  }

  f.if(
    cpl,
    () => {
      setPrivilege(c, code, stack, 0);
      if (is64) setNullStack(c);
    },
    () => setSegmentOf(c, SegmentIndex.CS, code, 0),
  );
  c.setGpr(RSP, size, i64.sub(top, i64.extend_u(used)));
  // An interrupt gate clears IF.
  const masked = i32.shl(i32.eqz(i32.and(high, IS_TRAP)), 9);
  c.setField32(Field.EFLAGS, i32.and(flags, i32.xor(i32.or(masked, Eflags.NT | Eflags.RF), -1)));
  c.setField64(Field.RIP, target);
  c.setField32(Field.LINK_FROM, i32.const(0));
  f.return(i32.const(1));
  f.unreachable();
}

/** What 64-bit mode has as SS after a change of privilege (SDM vol. 3, 6.14.4). */
function setNullStack(c: Emitter): void {
  const at = Field.SEGMENTS + Segment.SIZE * SegmentIndex.SS;
  c.setField32(at + Segment.SELECTOR, i32.const(0));
  c.setField32(at + Segment.ATTRIB, i32.const(Attrib.S | 3 | Attrib.DB));
  c.setField32(at + Segment.LIMIT, i32.const(0));
  c.setField64(at + Segment.READ_LOW, i64.const(NOTHING));
  c.setField64(at + Segment.WRITE_LOW, i64.const(NOTHING));
}

const deliver = (size: Size): LibraryRoutine => ({
  signature: { parameters: ['i32', 'i32', 'i32', 'i32'], result: 'i32' },
  build: (f, callees) => build(size, f, callees),
});

export const DELIVER = { 32: 'deliver32', 64: 'deliver64' } as const;

export const exceptions: SemanticsGroup = {
  name: 'exceptions',
  plain: {},
  library: { [DELIVER[32]]: deliver(32), [DELIVER[64]]: deliver(64) },
};
