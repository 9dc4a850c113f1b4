import { Attrib, Efer, Eflags } from '../../cpu.ts';
import { helperNumber } from '../../helpers.ts';
import { Field, Segment, SegmentIndex } from '../../state.ts';
import { i32, i64, type I32 } from '../../wasm/expression.ts';
import type { Emitter } from '../emitter.ts';
import { arithmeticFlags, setArithmeticFlags } from '../flags.ts';
import { Context } from '../form.ts';
import { describes, DPL_3, FLAT_CODE, FLAT_DATA, RPL, setPrivilege, setSegmentOf, without } from './flat.ts';

/**
 * SYSCALL and SYSRET between 64-bit programs and a 64-bit kernel, SYSENTER and SYSEXIT between flat 32-bit ones, without
 * leaving generated code: of a call to the kernel they are what costs most. IRET likewise, from such a kernel to itself or to
 * its programs, by descriptors that say no more than "flat". All other cases are the helpers', and so are flags that change
 * more than themselves.
 */

const RCX = 1;
const RDX = 2;
const RSP = 4;
const R11 = 11;
/** Flags with consequences: traps, alignment checks, and which translation tables count under SMAP. */
const CONSEQUENCES = Eflags.TF | Eflags.RF | Eflags.VM | Eflags.AC;
/** Bits of RFLAGS that SYSRET loads (AMD64 manual vol. 3, SYSRET). */
const LOADED = 0x3f7fd7 & ~(Eflags.VM | Eflags.RF);
const ARITHMETIC = 0x8d5;
/** The quick case of SYSCALL; else nothing is done. */
export function quickSyscall(c: Emitter): void {
  if (c.form.codeSize !== 64) return;
  const { f } = c;
  const flags = f.let(i32.or(c.field32(Field.EFLAGS), arithmeticFlags(c)));
  const enabled = i32.and(c.field32(Field.EFER), Efer.SCE);
  f.if(i32.and(enabled, without(flags, CONSEQUENCES)), () => {
    c.setGpr(RCX, 64, c.nextRip());
    c.setGpr(R11, 64, i64.extend_u(flags));
    const kept = f.let(i32.and(flags, i32.xor(c.field32(Field.SFMASK), -1)));
    loadFlags(c, kept);
    const selector = f.let(i32.and(c.field32(Field.STAR + 4), 0xfffc));
    setPrivilege(c, selector, i32.add(selector, 8), 0);
    c.jumpTo(f.let(c.field64(Field.LSTAR)));
  });
}

/** The quick case of SYSRET to 64-bit code; else nothing is done. */
export function quickSysret(c: Emitter): void {
  if (c.form.codeSize !== 64 || c.form.operandSize !== 64) return;
  const { f } = c;
  const flags = f.let(i32.wrap(c.gpr(R11)));
  const target = f.let(c.gpr(RCX));
  // An armed interrupt window has to see IF.
  const nobodyWaits = i32.eqz(i32.or(c.field32(Field.CPL), c.field32(Field.WINDOW_ARMED)));
  const canonical = i64.eq(i64.shr_s(i64.shl(target, 16), 16), target);
  const enabled = i32.and(c.field32(Field.EFER), Efer.SCE);
  const plain = without(i32.or(flags, c.field32(Field.EFLAGS)), CONSEQUENCES & ~Eflags.RF);
  f.if(i32.and(i32.and(enabled, nobodyWaits), i32.and(canonical, plain)), () => {
    loadFlags(c, f.let(i32.and(flags, LOADED)));
    const base = f.let(i32.shr_u(c.field32(Field.STAR + 4), 16));
    setPrivilege(c, i32.or(i32.add(base, 16), 3), i32.or(i32.add(base, 8), 3), 3);
    c.jumpTo(target);
  });
}

/** Whether this is flat 32-bit code outside long mode, which may stay that, for SYSENTER and SYSEXIT with SYSENTER_CS to go by. */
function isFlat32(c: Emitter, goesByMsr = true): I32 {
  const { f } = c;
  const context = i32.and(c.field32(Field.CONTEXT), Context.FLAT | Context.STACK_32 | Context.ALIGNMENT);
  const flat = i32.eq(context, Context.FLAT | Context.STACK_32);
  const unlimited = i32.eq(c.field32(Field.SEGMENTS + Segment.SIZE * SegmentIndex.CS + Segment.LIMIT), -1);
  const plain = goesByMsr ? without(c.field32(Field.EFLAGS), CONSEQUENCES) : i32.const(1);
  const legacy = without(c.field32(Field.EFER), Efer.LMA);
  const target = goesByMsr ? i32.ne(i32.and(c.field32(Field.SYSENTER_CS), 0xfffc), 0) : i32.const(1);
  return f.let(i32.and(i32.and(i32.and(flat, unlimited), i32.and(plain, legacy)), target));
}

/** The quick case of SYSENTER; else nothing is done. */
export function quickSysenter(c: Emitter): void {
  if (c.form.codeSize !== 32) return;
  const { f } = c;
  f.if(isFlat32(c), () => {
    c.setField32(Field.EFLAGS, i32.and(c.field32(Field.EFLAGS), ~Eflags.IF));
    const selector = f.let(i32.and(c.field32(Field.SYSENTER_CS), 0xfffc));
    setPrivilege(c, selector, i32.add(selector, 8), 0);
    c.setGpr(RSP, 32, i64.extend_u(c.field32(Field.SYSENTER_ESP)));
    c.jumpTo(f.let(i64.extend_u(c.field32(Field.SYSENTER_EIP))));
  });
}

/** The quick case of SYSEXIT; else nothing is done. */
export function quickSysexit(c: Emitter): void {
  if (c.form.codeSize !== 32) return;
  const { f } = c;
  f.if(i32.and(isFlat32(c), i32.eqz(c.field32(Field.CPL))), () => {
    const selector = f.let(i32.and(c.field32(Field.SYSENTER_CS), 0xfffc));
    setPrivilege(c, i32.or(i32.add(selector, 16), 3), i32.or(i32.add(selector, 24), 3), 3);
    const target = c.gpr(RDX, 32);
    c.setGpr(RSP, 32, c.gpr(RCX, 32));
    c.jumpTo(target);
  });
}

/** Flags that IRET of the kernel changes here. RF, which faults leave in it, lasts until the next instruction. */
const RETURNED = ARITHMETIC | Eflags.IF | Eflags.DF | Eflags.IOPL | Eflags.ID;
/** Whether programs may keep the kernel's data segments, as IRET asks: each is theirs, or null. */
function keepsSegments(c: Emitter): I32 {
  const allowed = [SegmentIndex.ES, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS].map((index) => {
    const attrib = c.f.let(c.field32(Field.SEGMENTS + Segment.SIZE * index + Segment.ATTRIB));
    const theirs = i32.eq(i32.and(attrib, Attrib.DPL), Attrib.DPL);
    return i32.or(without(attrib, Attrib.P), theirs);
  });
  return allowed.reduce((all, one) => i32.and(all, one));
}

/** The quick cases of IRET; else nothing is done. */
export function quickInterruptReturn(c: Emitter): void {
  const { f, form } = c;
  const size = form.codeSize === 64 ? 64 : 32;
  if (form.operandSize !== size || form.codeSize !== size || form.checked) return;
  const bytes = size / 8;
  const before = f.let(c.field32(Field.EFLAGS));
  const plain = without(before, (CONSEQUENCES & ~Eflags.RF) | Eflags.NT);
  const nobody = i32.or(c.field32(Field.WINDOW_ARMED), c.field32(Field.NMI_BLOCKED));
  const kernel = i32.eqz(i32.or(c.field32(Field.CPL), nobody));
  const mode = size === 64 ? i32.const(1) : isFlat32(c, false);
  f.if(i32.and(i32.and(kernel, plain), i32.and(mode, c.goesOn())), () => {
    const target = c.peek(size);
    const selector = f.let(i32.and(i32.wrap(c.peek(size, bytes)), 0xffff));
    const flags = f.let(i32.wrap(c.peek(size, 2 * bytes)));
    const rpl = i32.and(selector, RPL);
    const canonical = size === 64 ? i64.eq(i64.shr_s(i64.shl(target, 16), 16), target) : i32.const(1);
    const quiet = without(flags, (CONSEQUENCES & ~Eflags.RF) | Eflags.NT);
    const returns = (): void => {
      loadFlags(c, f.let(i32.or(i32.and(before, ~(RETURNED | Eflags.RF)), i32.and(flags, RETURNED))));
      c.jumpTo(target);
    };
    f.if(f.let(i32.and(canonical, quiet)), () => {
      f.if(i32.eq(rpl, 3), () => {
        const pointer = c.peek(size, 3 * bytes);
        const stack = f.let(i32.and(i32.wrap(c.peek(size, 4 * bytes)), 0xffff));
        const theirs = i32.and(i32.eq(i32.and(stack, RPL), 3), keepsSegments(c));
        const code = describes(c, selector, FLAT_CODE[size] | DPL_3);
        f.if(i32.and(i32.and(theirs, code), describes(c, stack, FLAT_DATA | DPL_3)), () => {
          setPrivilege(c, selector, stack, 3);
          c.setGpr(RSP, size, pointer);
          returns();
        });
      });
      f.if(i32.eqz(rpl), () => {
        f.if(describes(c, selector, FLAT_CODE[size]), () => {
          if (size === 32) {
            setSegmentOf(c, SegmentIndex.CS, selector, 0);
            c.drop(3 * bytes);
            returns();
            return;
          }
          const pointer = c.peek(size, 3 * bytes);
          const stack = f.let(i32.and(i32.wrap(c.peek(size, 4 * bytes)), 0xffff));
          // Null, as an interrupt of a program leaves it: only what is so already stays so.
          const current = c.field32(Field.SEGMENTS + Segment.SIZE * SegmentIndex.SS + Segment.SELECTOR);
          const isNull = f.let(i32.and(i32.eqz(stack), i32.eqz(i32.and(current, 0xffff))));
          const flat = i32.and(i32.eqz(i32.and(stack, RPL)), describes(c, stack, FLAT_DATA));
          f.if(f.let(i32.or(isNull, flat)), () => {
            setSegmentOf(c, SegmentIndex.CS, selector, 0);
            f.if(i32.eqz(isNull), () => setSegmentOf(c, SegmentIndex.SS, stack, 0));
            c.setGpr(RSP, size, pointer);
            returns();
          });
        });
      });
    });
  });
}

/** Flags that POPF of the kernel may change here; others have consequences. */
const POPPED = ARITHMETIC | Eflags.IF | Eflags.DF | Eflags.ID;
const MUST_STAY = Eflags.TF | Eflags.IOPL | Eflags.NT | Eflags.AC;

/** POPF: what kernels do to allow interrupts again, or else the helper's. */
export function popFlags(c: Emitter): void {
  const { f, form } = c;
  const size = form.operandSize;
  const value = f.let(i32.wrap(c.peek(size)));
  const old = f.let(c.field32(Field.EFLAGS));
  const staying = without(i32.xor(value, old), size === 16 ? MUST_STAY & 0xffff : MUST_STAY);
  const plain = i32.and(staying, without(old, Eflags.TF | Eflags.RF));
  const waits = i32.and(i32.ne(i32.and(value, Eflags.IF), 0), i32.ne(c.field32(Field.WINDOW_ARMED), 0));
  const quick = i32.and(plain, i32.eqz(i32.or(c.field32(Field.CPL), waits)));
  f.if(i32.eqz(quick), () => c.endWithHelper(helperNumber('popf', size)));
  const popped = size === 16 ? POPPED & 0xffff : POPPED;
  const word = f.let(i32.or(i32.and(old, ~popped), i32.and(value, popped)));
  loadFlags(c, word);
  c.drop(size / 8);
}

/** All of RFLAGS but for bits with consequences. */
function loadFlags(c: Emitter, word: I32): void {
  setArithmeticFlags(c, word);
  c.setField32(Field.EFLAGS, i32.or(i32.and(word, ~ARITHMETIC), Eflags.FIXED));
  const down = i64.extend_u(i32.and(i32.shr_u(word, 10), 1));
  c.setField64(Field.DIRECTION, i64.sub(i64.const(1), i64.shl(down, 1)));
}
