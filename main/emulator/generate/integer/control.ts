import { OperandKind } from '../../instruction.ts';
import { helperNumber, type HelperName } from '../../helpers.ts';
import { Field, Segment, SegmentIndex, Slot, TlbKind, tlbOffset, TlbSet } from '../../state.ts';
import { i32, i64, select, type I32 } from '../../wasm/expression.ts';
import { cut, type Emitter } from '../emitter.ts';
import { carryFlag, condition, setCarry } from '../flags.ts';
import type { Form } from '../form.ts';
import type { Meaning, Semantics, SemanticsGroup } from '../semantics.ts';
import { readPort, writePort } from './ports.ts';
import { moveToSegment, popSegment, staysInBlock } from './segments.ts';
import {
  popFlags,
  quickInterruptReturn,
  quickSyscall,
  quickSysenter,
  quickSysexit,
  quickSysret,
} from './system-calls.ts';
import { readBase, readControl, writeBase } from './system-registers.ts';
import { readTimeStamp } from './time-stamp.ts';

/** The record that the decoder puts after a block's last instruction: goes on to the next block. */
export const JOIN = 'join';

function jcc(c: Emitter): void {
  c.f.if(condition(c, c.form.condition), () => c.jumpRelative());
  c.next();
}

/** LOOP, LOOPE, LOOPNE: the counter has the size of addresses. */
function loop(wanted?: number): Semantics {
  return (c) => {
    const size = c.form.addressSize;
    const count = c.f.let(i64.sub(c.gpr(1, size), 1));
    c.setGpr(1, size, count);
    let again: I32 = i64.ne(c.gpr(1, size), 0);
    if (wanted !== undefined) again = i32.and(again, condition(c, wanted));
    c.f.if(again, () => c.jumpRelative());
    c.next();
  };
}

function jcxz(c: Emitter): void {
  c.f.if(i64.eqz(c.gpr(1, c.form.addressSize)), () => c.jumpRelative());
  c.next();
}

function jmp(c: Emitter): void {
  if (c.form.operands[0].kind === OperandKind.REL) {
    c.jumpRelative();
    return;
  }
  const target = c.read(0);
  c.requireCanonical(target);
  c.jumpTo(target);
}

function callNear(c: Emitter): void {
  const size = c.branchSize();
  if (c.form.operands[0].kind === OperandKind.REL) {
    c.push(size, c.nextRip());
    c.jumpRelative();
    return;
  }
  const target = c.read(0);
  // Faults of the stack come before the one of the target.
  c.requireCanonical(target, () => {
    const top = c.f.let(cut(c.form.stackSize, i64.sub(c.stackPointer(), size / 8)));
    c.modify(top, size / 8, 2);
  });
  c.push(size, c.nextRip());
  c.noteTarget(target);
  c.jumpTo(target);
}

function ret(c: Emitter): void {
  const size = c.branchSize();
  const target = c.peek(size);
  c.requireCanonical(target);
  const bytes = size / 8;
  c.drop(c.form.operands.length === 0 ? bytes : i64.add(c.immediate(16), bytes));
  c.jumpTo(target);
}

/** CLI and STI need CPL <= IOPL; the interrupt flag's virtual extensions are not in the processor's feature set. */
function requireIopl(c: Emitter): void {
  const iopl = i32.and(i32.shr_u(c.field32(Field.EFLAGS), 12), 3);
  c.f.if(i32.gt_u(c.field32(Field.CPL), iopl), () => c.raise(i32.const(13)));
}

const IF = 0x200;
const DF = 0x400;

function cli(c: Emitter): void {
  requireIopl(c);
  c.setField32(Field.EFLAGS, i32.and(c.field32(Field.EFLAGS), ~IF));
}

function sti(c: Emitter): void {
  const f = c.f;
  requireIopl(c);
  const flags = f.let(c.field32(Field.EFLAGS));
  f.if(i32.eqz(i32.and(flags, IF)), () => {
    c.setField32(Field.EFLAGS, i32.or(flags, IF));
    c.castShadow();
    f.if(c.field32(Field.WINDOW_ARMED), () => c.leaveRetired());
  });
}

const AC = 0x40000;
const SMAP = 1 << 21;

/** STAC and CLAC: under SMAP the kernel's accesses go through another set of tables while AC is set. */
function setAccess(on: boolean): Semantics {
  return (c) => {
    c.f.if(c.field32(Field.CPL), () => c.raise(i32.const(6)));
    const flags = c.field32(Field.EFLAGS);
    c.setField32(Field.EFLAGS, on ? i32.or(flags, AC) : i32.and(flags, ~AC));
    const allowed = on ? c.f.let(i32.and(c.field32(Field.CR4), SMAP)) : i32.const(0);
    for (const [field, kind] of [
      [Field.TLB_READ, TlbKind.READ],
      [Field.TLB_WRITE, TlbKind.WRITE],
    ] as const) {
      const offset = (set: number): I32 => i32.const(tlbOffset(set, kind));
      const both = select(allowed, offset(TlbSet.SUPERVISOR_AC), offset(TlbSet.SUPERVISOR));
      c.setTable(field, i32.add(c.s, on ? both : offset(TlbSet.SUPERVISOR)));
    }
  };
}

function swapgs(c: Emitter): void {
  c.requireKernel();
  const field = Field.SEGMENTS + Segment.SIZE * SegmentIndex.GS + Segment.BASE;
  const program = c.f.let(c.field64(field));
  const kernel = c.f.let(c.field64(Field.KERNEL_GS_BASE));
  c.setField64(Field.KERNEL_GS_BASE, program);
  c.setField64(field, kernel);
  c.setField64(field - Segment.BASE + Segment.DESCRIPTOR, i64.const(0));
  c.setField64(Field.SLOTS + 8 * (Slot.SEGMENT_BASE + SegmentIndex.GS), kernel);
}

function setDirection(down: boolean): Semantics {
  return (c) => {
    const flags = c.field32(Field.EFLAGS);
    c.setField32(Field.EFLAGS, down ? i32.or(flags, DF) : i32.and(flags, ~DF));
    c.setField64(Field.DIRECTION, i64.const(down ? -1 : 1));
  };
}

/** A helper that may change RIP, the mode or the exits that are armed: the block ends with it. */
function ends(name: HelperName, prepare?: Semantics): Semantics {
  return (c) => {
    prepare?.(c);
    c.endWithHelper(helperNumber(name, c.form.operandSize));
  };
}

/** A helper within a block. */
function helps(name: HelperName, prepare?: Semantics): Semantics {
  return (c) => {
    prepare?.(c);
    c.helper(helperNumber(name, c.form.operandSize));
  };
}

/** Hands over the value of operand n. */
const value =
  (n: number): Semantics =>
  (c) =>
    c.setField64(Field.HELPER_VALUE, c.read(n));

/** The same for instructions of the kernel; those of protected mode only are undefined elsewhere. */
const kernelValue =
  (protectedOnly: boolean): Semantics =>
  (c) => {
    if (protectedOnly) c.requireProtected();
    c.requireKernel();
    value(0)(c);
  };

/** Hands over the linear address of the memory operand, which has `bytes`. */
const address =
  (bytes: number): Semantics =>
  (c) =>
    c.setField64(Field.HELPER_VALUE, c.linear(c.offset(), bytes, 'operand', false));

/** Hands over a far pointer: from the instruction, or from memory (offset first, then the selector). */
function farPointer(c: Emitter): void {
  const size = c.form.operandSize;
  if (c.form.operands[0].kind === OperandKind.FAR) {
    c.setField64(Field.HELPER_VALUE, c.immediate(size));
    c.setField32(Field.HELPER_SELECTOR, c.immediate2());
    return;
  }
  const offset = c.load(c.offset(), size, 'operand');
  const selector = c.load(c.f.let(cut(c.form.addressSize, i64.add(c.offset(), size / 8))), 16, 'operand');
  c.setField64(Field.HELPER_VALUE, offset);
  c.setField32(Field.HELPER_SELECTOR, i32.wrap(selector));
}

/** LGDT and LIDT: a limit of 16 bits, then a base of 64, 32 or 24. */
function descriptorTable(c: Emitter): void {
  c.requireKernel();
  const long = c.form.codeSize === 64;
  const limit = c.load(c.offset(), 16, 'operand');
  const at = c.f.let(cut(c.form.addressSize, i64.add(c.offset(), 2)));
  const base = c.load(at, long ? 64 : 32, 'operand');
  c.setField64(Field.HELPER_VALUE, !long && c.form.operandSize === 16 ? i64.and(base, 0xffffff) : base);
  c.setField32(Field.HELPER_SELECTOR, i32.wrap(limit));
}

/** SGDT and SIDT. */
function storeDescriptorTable(baseField: number, limitField: number): Semantics {
  return (c) => {
    const long = c.form.codeSize === 64;
    c.store(c.offset(), 16, i64.extend_u(c.field32(limitField)), 'operand');
    const at = c.f.let(cut(c.form.addressSize, i64.add(c.offset(), 2)));
    c.store(at, long ? 64 : 32, c.field64(baseField), 'operand');
  };
}

/** SLDT and STR: the selector of LDT or TR. */
function storeSystemSelector(index: number): Semantics {
  return (c) => {
    c.requireProtected();
    c.write(0, c.f.let(i64.load16_u(c.s, Field.SEGMENTS + Segment.SIZE * index)));
  };
}

/** LDS and the like: a far pointer into a general and a segment register. */
function loadFarPointer(segment: number): Semantics {
  return (c) => {
    const size = c.form.operandSize;
    const offset = c.load(c.offset(), size, 'operand');
    const selector = c.load(c.f.let(cut(c.form.addressSize, i64.add(c.offset(), size / 8))), 16, 'operand');
    c.setField64(Field.HELPER_VALUE, selector);
    c.helper(helperNumber('loadSegment', segment));
    c.write(0, offset);
    if (segment === 2) c.castShadow();
    c.leaveRetired();
  };
}

/** Software interrupts: the kind tells INT n (0) from INT3, INTO and INT1. */
function interrupt(kind: number): Semantics {
  return (c) => {
    c.endWithHelper(helperNumber('interrupt', kind));
  };
}

const undefinedOpcode: Semantics = (c) => {
  c.raise(i32.const(6));
  c.f.unreachable();
};

/** MOV and POP of segment, control and debug registers have their own meaning, which mostly ends a block. */
export function systemMove({ mnemonic, operands, codeSize }: Form): Meaning | undefined {
  const to = operands[0]?.kind;
  const from = operands[1]?.kind;
  const always = (semantics: Semantics): Meaning => ({ semantics, ending: true });
  if (to === OperandKind.SEG && (mnemonic === 'pop' || mnemonic === 'mov')) {
    const semantics = mnemonic === 'pop' ? popSegment : moveToSegment;
    return { semantics, ending: !staysInBlock(codeSize) };
  }
  if (mnemonic !== 'mov') return undefined;
  if (to === OperandKind.CR) return always(ends('movToControl'));
  if (to === OperandKind.DR) return always(ends('movToDebug'));
  if (from === OperandKind.CR) return { semantics: readControl, ending: false };
  if (from === OperandKind.DR) return always(ends('movFromDebug'));
  return undefined;
}

export const control: SemanticsGroup = {
  name: 'control',
  plain: {
    nop: () => {},
    endbr32: () => {},
    endbr64: () => {},
    prefetch: () => {},
    prefetchw: () => {},
    prefetchnta: () => {},
    prefetcht0: () => {},
    prefetcht1: () => {},
    prefetcht2: () => {},
    pause: () => {},
    lfence: (c) => c.f.fence(),
    sfence: (c) => c.f.fence(),
    mfence: (c) => c.f.fence(),
    clflush: (c) => c.f.do(c.load(c.offset(), 8, 'operand')),
    clflushopt: (c) => c.f.do(c.load(c.offset(), 8, 'operand')),
    clwb: (c) => c.f.do(c.load(c.offset(), 8, 'operand')),
    clc: (c) => setCarry(c, i64.const(0)),
    stc: (c) => setCarry(c, i64.const(1)),
    cmc: (c) => setCarry(c, c.f.let(i64.xor(carryFlag(c), 1))),
    cld: setDirection(false),
    std: setDirection(true),
    cli,
    sti,
    stac: setAccess(true),
    clac: setAccess(false),
    popf: popFlags,
    swapgs,
    in: readPort,
    out: writePort,
    monitor: helps('monitor'),
    mwait: helps('mwait'),
    cpuid: helps('cpuid'),
    rdmsr: helps('rdmsr'),
    rdtsc: readTimeStamp,
    rdtscp: helps('rdtscp'),
    rdpmc: helps('rdpmc'),
    rdrand: helps('rdrand'),
    rdseed: helps('rdseed'),
    sldt: storeSystemSelector(SegmentIndex.LDT),
    str: storeSystemSelector(SegmentIndex.TR),
    sgdt: storeDescriptorTable(Field.GDT_BASE, Field.GDT_LIMIT),
    sidt: storeDescriptorTable(Field.IDT_BASE, Field.IDT_LIMIT),
    smsw: (c) => c.write(0, c.f.let(c.field64(Field.CR0))),
    lar: helps('lar', value(1)),
    lsl: helps('lsl', value(1)),
    verr: helps('verr', value(0)),
    verw: helps('verw', value(0)),
    rdfsbase: readBase(SegmentIndex.FS),
    rdgsbase: readBase(SegmentIndex.GS),
    wrfsbase: writeBase(SegmentIndex.FS),
    wrgsbase: writeBase(SegmentIndex.GS),
    xgetbv: helps('xgetbv'),
    wbinvd: helps('flushCaches'),
    invd: helps('flushCaches'),
    fxsave: helps('fxsave', address(1)),
    fxrstor: helps('fxrstor', address(1)),
    fxsave64: helps('fxsave', address(1)),
    fxrstor64: helps('fxrstor', address(1)),
    xsave: helps('xsave', address(1)),
    xsave64: helps('xsave', address(1)),
    xsaveopt: helps('xsave', address(1)),
    xsaveopt64: helps('xsave', address(1)),
    xrstor: helps('xrstor', address(1)),
    xrstor64: helps('xrstor', address(1)),
    into: (c) => c.f.if(condition(c, 0), () => interrupt(4)(c)),
  },
  ending: {
    [JOIN]: (c) => c.jumpRelative(0),
    jcc,
    jmp,
    call: callNear,
    ret,
    loop: loop(),
    loope: loop(4),
    loopne: loop(5),
    jcxz,
    hlt: ends('hlt'),
    wrmsr: ends('wrmsr'),
    lldt: ends('lldt', kernelValue(true)),
    ltr: ends('ltr', kernelValue(true)),
    lgdt: ends('lgdt', descriptorTable),
    lidt: ends('lidt', descriptorTable),
    lmsw: ends('lmsw', kernelValue(false)),
    clts: ends('clts'),
    invlpg: ends('invlpg', address(1)),
    invpcid: ends('invpcid', (c) => {
      c.requireKernel();
      c.f.do(c.loadVector(c.offset(), 'operand'));
      c.setField64(Field.HELPER_VALUE, c.read(0));
    }),
    xsetbv: ends('xsetbv'),
    les: loadFarPointer(0),
    lds: loadFarPointer(3),
    lss: loadFarPointer(2),
    lfs: loadFarPointer(4),
    lgs: loadFarPointer(5),
    jmpf: ends('farJump', farPointer),
    callf: ends('farCall', farPointer),
    retf: ends('farReturn'),
    iret: ends('interruptReturn', quickInterruptReturn),
    int: interrupt(0),
    int3: interrupt(3),
    int1: interrupt(1),
    syscall: ends('syscall', quickSyscall),
    sysret: ends('sysret', quickSysret),
    sysenter: ends('sysenter', quickSysenter),
    sysexit: ends('sysexit', quickSysexit),
    vmcall: undefinedOpcode,
    vmmcall: undefinedOpcode,
    rsm: undefinedOpcode,
    ud0: undefinedOpcode,
    ud1: undefinedOpcode,
    ud2: undefinedOpcode,
  },
};
