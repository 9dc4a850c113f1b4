import { OperandKind } from '../../instruction.ts';
import { helperNumber, type HelperName } from '../../helpers.ts';
import { Field } from '../../state.ts';
import { i32, i64, type I32 } from '../../wasm/expression.ts';
import { type Emitter } from '../emitter.ts';
import { carryFlag, condition, setCarry } from '../flags.ts';
import type { Semantics, SemanticsGroup } from '../semantics.ts';

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
  c.requireCanonical(target);
  c.push(size, c.nextRip());
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

function setDirection(down: boolean): Semantics {
  return (c) => {
    const flags = c.field32(Field.EFLAGS);
    c.setField32(Field.EFLAGS, down ? i32.or(flags, DF) : i32.and(flags, ~DF));
    c.setField64(Field.DIRECTION, i64.const(down ? -1 : 1));
  };
}

/** A helper that may change RIP, the mode or the exits that are armed: the block ends with it. */
function ends(name: HelperName): Semantics {
  return (c) => {
    c.helper(helperNumber(name, c.form.operandSize));
    c.leaveRetired();
  };
}

/** The same with the offset of a memory operand handed over. */
function endsWithMemory(name: HelperName): Semantics {
  return (c) => {
    handOverOffset(c);
    c.helper(helperNumber(name, c.form.operandSize));
    c.leaveRetired();
  };
}

/** A helper within a block. */
function helps(name: HelperName): Semantics {
  return (c) => {
    handOverOffset(c);
    c.helper(helperNumber(name, c.form.operandSize));
  };
}

function handOverOffset(c: Emitter): void {
  if (c.form.operands.some(({ kind }) => kind === OperandKind.MEM))
    c.setField64(Field.HELPER_OFFSET, c.offset());
}

/** Software interrupts: the kind tells INT n (0) from INT3, INTO and INT1, which the helper takes as a size. */
function interrupt(kind: number): Semantics {
  return (c) => {
    c.helper(helperNumber('interrupt', kind));
    c.leaveRetired();
  };
}

const undefinedOpcode: Semantics = (c) => {
  c.raise(i32.const(6));
  c.f.unreachable();
};

/** MOV to a segment or control register, by the kind of its first or second operand. */
export function movHelper(operands: readonly { kind: OperandKind }[]): Semantics | undefined {
  const [to, from] = operands;
  if (to.kind === OperandKind.SEG) return endsWithMemory('loadSegment');
  if (to.kind === OperandKind.CR) return ends('movToControl');
  if (to.kind === OperandKind.DR) return ends('movToDebug');
  if (from.kind === OperandKind.CR) return ends('movFromControl');
  if (from.kind === OperandKind.DR) return ends('movFromDebug');
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
    in: helps('in'),
    out: helps('out'),
    monitor: helps('monitor'),
    mwait: helps('mwait'),
    cpuid: helps('cpuid'),
    rdmsr: helps('rdmsr'),
    rdtsc: helps('rdtsc'),
    rdtscp: helps('rdtscp'),
    rdpmc: helps('rdpmc'),
    rdrand: helps('rdrand'),
    rdseed: helps('rdseed'),
    sldt: helps('sldt'),
    str: helps('str'),
    sgdt: helps('sgdt'),
    sidt: helps('sidt'),
    lar: helps('lar'),
    lsl: helps('lsl'),
    verr: helps('verr'),
    verw: helps('verw'),
    rdfsbase: helps('rdfsbase'),
    rdgsbase: helps('rdgsbase'),
    xgetbv: helps('xgetbv'),
    wbinvd: helps('flushCaches'),
    invd: helps('flushCaches'),
    fxsave: helps('fxsave'),
    fxrstor: helps('fxrstor'),
    fxsave64: helps('fxsave'),
    fxrstor64: helps('fxrstor'),
    xsave: helps('xsave'),
    xsave64: helps('xsave'),
    xsaveopt: helps('xsave'),
    xsaveopt64: helps('xsave'),
    xrstor: helps('xrstor'),
    xrstor64: helps('xrstor'),
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
    popf: ends('popf'),
    wrmsr: ends('wrmsr'),
    swapgs: ends('swapgs'),
    wrfsbase: ends('wrfsbase'),
    wrgsbase: ends('wrgsbase'),
    lldt: endsWithMemory('lldt'),
    ltr: endsWithMemory('ltr'),
    lgdt: endsWithMemory('lgdt'),
    lidt: endsWithMemory('lidt'),
    lmsw: endsWithMemory('lmsw'),
    smsw: endsWithMemory('movFromControl'),
    clts: ends('clts'),
    invlpg: endsWithMemory('invlpg'),
    invpcid: endsWithMemory('invpcid'),
    xsetbv: ends('xsetbv'),
    stac: ends('stac'),
    clac: ends('clac'),
    les: endsWithMemory('loadFarPointer'),
    lds: endsWithMemory('loadFarPointer'),
    lss: endsWithMemory('loadFarPointer'),
    lfs: endsWithMemory('loadFarPointer'),
    lgs: endsWithMemory('loadFarPointer'),
    jmpf: endsWithMemory('farJump'),
    callf: endsWithMemory('farCall'),
    retf: ends('farReturn'),
    iret: ends('interruptReturn'),
    int: interrupt(0),
    int3: interrupt(3),
    int1: interrupt(1),
    syscall: ends('syscall'),
    sysret: ends('sysret'),
    sysenter: ends('sysenter'),
    sysexit: ends('sysexit'),
    vmcall: undefinedOpcode,
    vmmcall: undefinedOpcode,
    rsm: undefinedOpcode,
    ud0: undefinedOpcode,
    ud1: undefinedOpcode,
    ud2: undefinedOpcode,
  },
};
