import { Attrib, Efer, Eflags, isCanonicalHigh } from '../cpu.ts';
import { generalProtection, GuestFault, selectorFault, Vector } from '../fault.ts';
import type { Processor } from '../processor.ts';
import { Field, SegmentIndex } from '../state.ts';
import {
  dplOf,
  fetch,
  highBase,
  install,
  installNull,
  isCode,
  isConforming,
  isNull,
  isPresent,
  isSystem,
  limitOf,
  stackDescriptor,
  SystemType,
  typeOf,
  type Descriptor,
} from './descriptors.ts';
import { deliver, innerStack } from './interrupts.ts';
import { TransferStack } from './stack.ts';
import { switchTask } from './task.ts';

/** Far JMP and CALL to selector:offset (SDM vol. 2). RIP holds the address after the instruction. */
export function farTransfer(
  p: Processor,
  call: boolean,
  selector: number,
  low: number,
  high: number,
  size: number,
): void {
  const { cpu } = p;
  if (cpu.realAddressing) {
    if (low >>> 0 > cpu.limit(SegmentIndex.CS) && !cpu.virtual8086) throw generalProtection();
    if (call) {
      const stack = TransferStack.current(p);
      stack.push(size / 8, cpu.selector(SegmentIndex.CS));
      stack.push(size / 8, cpu.get(Field.RIP));
      stack.commit();
    }
    loadRealCode(p, selector);
    cpu.set64(Field.RIP, low, 0);
    p.modeChanged();
    return;
  }
  if (isNull(selector)) throw generalProtection();
  const descriptor = fetch(p, selector);
  if (isSystem(descriptor)) {
    throughGate(p, call, selector, descriptor);
    return;
  }
  checkCode(p, selector, descriptor);
  const long = enters64(p, descriptor);
  if (long ? !isCanonicalHigh(high) : low >>> 0 > limitOf(descriptor)) throw generalProtection();
  if (call) {
    const stack = TransferStack.current(p);
    stack.push(size / 8, cpu.selector(SegmentIndex.CS));
    stack.push(size / 8, cpu.get(Field.RIP), cpu.high(Field.RIP));
    stack.commit();
  }
  install(p, SegmentIndex.CS, (selector & 0xfffc) | cpu.cpl, descriptor);
  cpu.set64(Field.RIP, low, long ? high : 0);
  p.modeChanged();
}

function loadRealCode(p: Processor, selector: number): void {
  const { cpu } = p;
  const attrib = cpu.virtual8086 ? Attrib.P | Attrib.S | 3 | Attrib.DPL : cpu.attrib(SegmentIndex.CS);
  cpu.setSegment(SegmentIndex.CS, selector, attrib, cpu.limit(SegmentIndex.CS), (selector & 0xffff) << 4, 0);
}

/** A code segment with L set while in long mode; L and D together are not allowed. */
function enters64(p: Processor, descriptor: Descriptor): boolean {
  if (!p.cpu.longMode || (descriptor.high & 0x200000) === 0) return false;
  if (descriptor.high & 0x400000) throw selectorFault(Vector.GP, descriptor.selector);
  return true;
}

/** Privilege rules of a direct far transfer. */
function checkCode(p: Processor, selector: number, code: Descriptor): void {
  const { cpl } = p.cpu;
  if (!isCode(code)) throw selectorFault(Vector.GP, selector);
  const dpl = dplOf(code);
  const allowed = isConforming(code) ? dpl <= cpl : dpl === cpl && (selector & 3) <= cpl;
  if (!allowed) throw selectorFault(Vector.GP, selector);
  if (!isPresent(code)) throw selectorFault(Vector.NP, selector);
}

/** Call gates, task gates and TSS descriptors. */
function throughGate(p: Processor, call: boolean, selector: number, gate: Descriptor): void {
  const { cpu } = p;
  const type = typeOf(gate);
  const denied = dplOf(gate) < cpu.cpl || dplOf(gate) < (selector & 3);
  if (cpu.longMode) {
    if (type !== SystemType.CALL32 || denied) throw selectorFault(Vector.GP, selector);
    if (!isPresent(gate)) throw selectorFault(Vector.NP, selector);
    throughLongGate(p, call, gate);
    return;
  }
  switch (type) {
    case SystemType.TSS16:
    case SystemType.TSS32:
      if (denied) throw selectorFault(Vector.GP, selector);
      switchTask(p, selector, call ? 'call' : 'jump');
      return;
    case SystemType.TASK: {
      if (denied) throw selectorFault(Vector.GP, selector);
      if (!isPresent(gate)) throw selectorFault(Vector.NP, selector);
      switchTask(p, gate.low >>> 16, call ? 'call' : 'jump');
      return;
    }
    case SystemType.CALL16:
    case SystemType.CALL32:
      if (denied) throw selectorFault(Vector.GP, selector);
      if (!isPresent(gate)) throw selectorFault(Vector.NP, selector);
      throughCallGate(p, call, gate, type === SystemType.CALL32 ? 4 : 2);
      return;
    default:
      throw selectorFault(Vector.GP, selector);
  }
}

function gateTarget(p: Processor, call: boolean, selector: number): { code: Descriptor; inner: boolean } {
  if (isNull(selector)) throw generalProtection();
  const code = fetch(p, selector);
  const { cpl } = p.cpu;
  if (isSystem(code) || !isCode(code) || dplOf(code) > cpl) throw selectorFault(Vector.GP, selector);
  if (!call && !isConforming(code) && dplOf(code) !== cpl) throw selectorFault(Vector.GP, selector);
  if (!isPresent(code)) throw selectorFault(Vector.NP, selector);
  return { code, inner: call && !isConforming(code) && dplOf(code) < cpl };
}

function throughCallGate(p: Processor, call: boolean, gate: Descriptor, bytes: number): void {
  const { cpu } = p;
  const selector = gate.low >>> 16;
  const { code, inner } = gateTarget(p, call, selector);
  const offset = (bytes === 4 ? (gate.low & 0xffff) | (gate.high & 0xffff0000) : gate.low & 0xffff) >>> 0;
  if (offset > limitOf(code)) throw generalProtection();
  const cpl = inner ? dplOf(code) : cpu.cpl;
  if (inner) {
    const { selector: ss, pointer } = innerStack(p, cpl);
    const stackSegment = stackDescriptor(p, ss, cpl, Vector.TS);
    const count = gate.high & 31;
    const old = TransferStack.current(p);
    const parameters = Array.from({ length: count }, () => old.pop(bytes));
    const stack = TransferStack.of(p, stackSegment, pointer);
    stack.push(bytes, cpu.selector(SegmentIndex.SS));
    stack.push(bytes, cpu.gpr(4));
    for (const parameter of parameters.reverse()) stack.push(bytes, parameter);
    stack.push(bytes, cpu.selector(SegmentIndex.CS));
    stack.push(bytes, cpu.get(Field.RIP));
    cpu.set(Field.CPL, cpl);
    install(p, SegmentIndex.SS, ss, stackSegment);
    stack.commit();
  } else if (call) {
    const stack = TransferStack.current(p);
    stack.push(bytes, cpu.selector(SegmentIndex.CS));
    stack.push(bytes, cpu.get(Field.RIP));
    stack.commit();
  }
  install(p, SegmentIndex.CS, (selector & 0xfffc) | cpl, code);
  cpu.set64(Field.RIP, offset | 0, 0);
  p.modeChanged();
}

function throughLongGate(p: Processor, call: boolean, gate: Descriptor): void {
  const { cpu, linear } = p;
  const selector = gate.low >>> 16;
  const { code, inner } = gateTarget(p, call, selector);
  if (!enters64(p, code)) throw selectorFault(Vector.GP, selector);
  const offsetHigh = highBase(p, gate);
  const low = (gate.low & 0xffff) | (gate.high & 0xffff0000);
  const cpl = inner ? dplOf(code) : cpu.cpl;
  if (call) {
    let top = cpu.gprHigh(4) * 2 ** 32 + cpu.gpr(4);
    if (inner) {
      const at = cpu.base(SegmentIndex.TR) + 4 + 8 * cpl;
      if (4 + 8 * cpl + 7 > cpu.limit(SegmentIndex.TR)) {
        throw selectorFault(Vector.TS, cpu.selector(SegmentIndex.TR));
      }
      top = (linear.read(at + 4, 4) | 0) * 2 ** 32 + linear.read(at, 4);
    }
    const stack = TransferStack.flat(p, top, cpl === 3);
    if (inner) {
      stack.push(8, cpu.selector(SegmentIndex.SS));
      stack.push(8, cpu.gpr(4), cpu.gprHigh(4));
    }
    stack.push(8, cpu.selector(SegmentIndex.CS));
    stack.push(8, cpu.get(Field.RIP), cpu.high(Field.RIP));
    stack.commit();
  }
  if (inner) {
    cpu.set(Field.CPL, cpl);
    installNull(p, SegmentIndex.SS, cpl);
  }
  install(p, SegmentIndex.CS, (selector & 0xfffc) | cpl, code);
  cpu.set64(Field.RIP, low, offsetHigh);
  p.modeChanged();
}

/** The code segment that RET or IRET goes back to. */
function returnSegment(p: Processor, selector: number): Descriptor {
  if (isNull(selector)) throw generalProtection();
  const code = fetch(p, selector);
  const rpl = selector & 3;
  const wrong = isSystem(code) || !isCode(code) || rpl < p.cpu.cpl;
  const privilege = isConforming(code) ? dplOf(code) > rpl : dplOf(code) !== rpl;
  if (wrong || privilege) throw selectorFault(Vector.GP, selector);
  if (!isPresent(code)) throw selectorFault(Vector.NP, selector);
  return code;
}

/** Data segments that the outer level may not use become null (SDM vol. 2, RET). */
function dropInnerSegments(p: Processor): void {
  const { cpu } = p;
  for (const index of [SegmentIndex.ES, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS]) {
    const attrib = cpu.attrib(index);
    const conformingCode = (attrib & 0xc) === 0xc;
    if (!conformingCode && (attrib & Attrib.P) !== 0 && (attrib >>> 5) % 4 < cpu.cpl) {
      cpu.setSegment(index, 0, 0, 0, 0, 0);
    }
  }
}

/** The stack of the outer level that RET or IRET goes back to: checked, not yet installed. */
function outerStack(p: Processor, selector: number, rpl: number, to64: boolean): Descriptor | undefined {
  if (isNull(selector)) {
    if (!to64 || rpl === 3) throw generalProtection();
    return undefined;
  }
  return stackDescriptor(p, selector, rpl, Vector.GP);
}

function setOuterStack(
  p: Processor,
  selector: number,
  descriptor: Descriptor | undefined,
  low: number,
  high: number,
): void {
  const { cpu } = p;
  if (descriptor) install(p, SegmentIndex.SS, selector, descriptor);
  else installNull(p, SegmentIndex.SS, selector);
  if (cpu.code64) cpu.setGpr64(4, low, high);
  else if (cpu.attrib(SegmentIndex.SS) & Attrib.DB) cpu.setGpr32(4, low);
  else cpu.setGpr16(4, low);
}

/** RETF; `extra` bytes of parameters are dropped. */
export function farReturn(p: Processor, size: number, extra: number): void {
  const { cpu } = p;
  const bytes = size / 8;
  const stack = TransferStack.current(p);
  const low = stack.pop(bytes);
  const high = stack.poppedHigh;
  const selector = stack.pop(bytes) & 0xffff;
  if (cpu.realAddressing) {
    stack.skip(extra);
    stack.commit();
    loadRealCode(p, selector);
    cpu.set64(Field.RIP, low | 0, 0);
    p.modeChanged();
    return;
  }
  const code = returnSegment(p, selector);
  const to64 = enters64(p, code);
  if (to64 ? !isCanonicalHigh(high) : low > limitOf(code)) throw generalProtection();
  const rpl = selector & 3;
  stack.skip(extra);
  if (rpl === cpu.cpl) {
    stack.commit();
    install(p, SegmentIndex.CS, selector, code);
  } else {
    const newLow = stack.pop(bytes);
    const newHigh = stack.poppedHigh;
    const ss = stack.pop(bytes) & 0xffff;
    const outer = outerStack(p, ss, rpl, to64);
    install(p, SegmentIndex.CS, selector, code);
    cpu.set(Field.CPL, rpl);
    setOuterStack(p, ss, outer, newLow | 0, newHigh);
    TransferStack.current(p).skipCommitted(extra);
    dropInnerSegments(p);
  }
  cpu.set64(Field.RIP, low | 0, to64 ? high : 0);
  p.modeChanged();
}

/** Flags that IRET and POPF change, by privilege and operand size (SDM vol. 2, IRET and POPF). */
export function writableFlags(p: Processor, size: number): number {
  const { cpu } = p;
  let mask = 0x8d5 | Eflags.TF | Eflags.DF | Eflags.NT;
  if (size !== 16) mask |= Eflags.RF | Eflags.AC | Eflags.ID;
  const cpl = cpu.protectedMode ? cpu.cpl : 0;
  if (cpl === 0) mask |= Eflags.IOPL;
  if (cpl <= cpu.iopl) mask |= Eflags.IF;
  return mask;
}

export function interruptReturn(p: Processor, size: number): void {
  const { cpu } = p;
  const bytes = size / 8;
  if (cpu.virtual8086 && cpu.iopl < 3) throw generalProtection();
  if (cpu.protectedMode && !cpu.virtual8086 && cpu.get(Field.EFLAGS) & Eflags.NT) {
    if (cpu.longMode) throw generalProtection();
    switchTask(p, p.linear.read(cpu.base(SegmentIndex.TR), 2), 'return');
    return;
  }
  const stack = TransferStack.current(p);
  const low = stack.pop(bytes);
  const high = stack.poppedHigh;
  const selector = stack.pop(bytes) & 0xffff;
  const flags = stack.pop(bytes);
  const writable = writableFlags(p, size);
  const newFlags = (cpu.eflags & ~writable) | (flags & writable);

  if (cpu.realAddressing) {
    stack.commit();
    loadRealCode(p, selector);
    cpu.set64(Field.RIP, low | 0, 0);
    cpu.eflags = newFlags;
    p.modeChanged();
    return;
  }
  if (flags & Eflags.VM && cpu.cpl === 0 && !cpu.longMode && size === 32) {
    returnToVirtual8086(p, stack, low, selector, flags);
    return;
  }
  const code = returnSegment(p, selector);
  const to64 = enters64(p, code);
  if (to64 ? !isCanonicalHigh(high) : low > limitOf(code)) throw generalProtection();
  const rpl = selector & 3;
  const outward = rpl !== cpu.cpl;
  // IRETQ always takes the stack pointer back (SDM vol. 3, 6.14.3).
  if (outward || cpu.code64) {
    const newLow = stack.pop(bytes);
    const newHigh = stack.poppedHigh;
    const ss = stack.pop(bytes) & 0xffff;
    const outer = outerStack(p, ss, rpl, to64);
    install(p, SegmentIndex.CS, selector, code);
    cpu.set(Field.CPL, rpl);
    setOuterStack(p, ss, outer, newLow | 0, newHigh);
    if (outward) dropInnerSegments(p);
  } else {
    stack.commit();
    install(p, SegmentIndex.CS, selector, code);
  }
  cpu.set64(Field.RIP, low | 0, to64 ? high : 0);
  cpu.eflags = newFlags;
  p.modeChanged();
}

function returnToVirtual8086(
  p: Processor,
  stack: TransferStack,
  eip: number,
  cs: number,
  flags: number,
): void {
  const { cpu } = p;
  const esp = stack.pop(4);
  const [ss, es, ds, fs, gs] = [1, 2, 3, 4, 5].map(() => stack.pop(4) & 0xffff);
  cpu.set(Field.CPL, 3);
  cpu.eflags = (flags & 0x3f7fd5) | Eflags.FIXED;
  const real = (index: number, selector: number): void =>
    cpu.setSegment(index, selector, Attrib.P | Attrib.S | 3 | Attrib.DPL, 0xffff, selector << 4, 0);
  [es, cs, ss, ds, fs, gs].forEach((selector, index) => real(index, selector));
  cpu.setGpr32(4, esp | 0);
  cpu.set64(Field.RIP, eip & 0xffff, 0);
  p.modeChanged();
}

/** Fixed flat segments of SYSCALL and its like. */
function flatCode(p: Processor, selector: number, dpl: number, long: boolean): void {
  const size = long ? Attrib.L : Attrib.DB;
  p.cpu.setSegment(
    SegmentIndex.CS,
    selector,
    Attrib.G | size | Attrib.P | (dpl << 5) | Attrib.S | 11,
    0xffffffff,
    0,
    0,
  );
}
function flatStack(p: Processor, selector: number, dpl: number): void {
  p.cpu.setSegment(
    SegmentIndex.SS,
    selector,
    Attrib.G | Attrib.DB | Attrib.P | (dpl << 5) | Attrib.S | 3,
    0xffffffff,
    0,
    0,
  );
}

/** SYSCALL (AMD64 manual vol. 3). RIP holds the address after the instruction. */
export function syscall(p: Processor): void {
  const { cpu } = p;
  if ((cpu.get(Field.EFER) & Efer.SCE) === 0 || !cpu.protectedMode) throw new GuestFault(Vector.UD);
  const selector = cpu.high(Field.STAR) & 0xfffc;
  cpu.setGpr64(1, cpu.get(Field.RIP), cpu.high(Field.RIP));
  if (cpu.longMode) {
    const flags = cpu.eflags & ~Eflags.RF;
    cpu.setGpr64(11, flags, 0);
    cpu.copy64(Field.RIP, cpu.code64 ? Field.LSTAR : Field.CSTAR);
    cpu.eflags = flags & ~(cpu.get(Field.SFMASK) | Eflags.RF);
    flatCode(p, selector, 0, true);
  } else {
    cpu.setGpr32(1, cpu.get(Field.RIP));
    cpu.set64(Field.RIP, cpu.get(Field.STAR), 0);
    cpu.eflags = cpu.eflags & ~(Eflags.VM | Eflags.IF | Eflags.RF);
    flatCode(p, selector, 0, false);
  }
  flatStack(p, (selector + 8) & 0xffff, 0);
  cpu.set(Field.CPL, 0);
  p.modeChanged();
}

export function sysret(p: Processor, size: number): void {
  const { cpu } = p;
  if ((cpu.get(Field.EFER) & Efer.SCE) === 0 || !cpu.protectedMode) throw new GuestFault(Vector.UD);
  if (cpu.cpl !== 0) throw generalProtection();
  const star = (cpu.high(Field.STAR) >>> 16) & 0xffff;
  if (cpu.longMode) {
    if (size === 64 && !isCanonicalHigh(cpu.gprHigh(1))) throw generalProtection();
    const keep = Eflags.VM | Eflags.RF;
    cpu.eflags = (cpu.gpr(11) & 0x3f7fd7 & ~keep) | Eflags.FIXED;
    cpu.set64(Field.RIP, cpu.gpr(1), size === 64 ? cpu.gprHigh(1) : 0);
    flatCode(p, ((star + (size === 64 ? 16 : 0)) | 3) & 0xffff, 3, size === 64);
  } else {
    cpu.eflags = cpu.eflags | Eflags.IF;
    cpu.set64(Field.RIP, cpu.gpr(1), 0);
    flatCode(p, star | 3, 3, false);
  }
  flatStack(p, ((star + 8) | 3) & 0xffff, 3);
  cpu.set(Field.CPL, 3);
  p.modeChanged();
}

/** SYSENTER and SYSEXIT (SDM vol. 2); AMD processors have them outside long mode only, Intel's everywhere: here everywhere. */
export function sysenter(p: Processor): void {
  const { cpu } = p;
  const cs = cpu.get(Field.SYSENTER_CS);
  if (!cpu.protectedMode || (cs & 0xfffc) === 0) throw generalProtection();
  cpu.eflags = cpu.eflags & ~(Eflags.VM | Eflags.IF | Eflags.RF);
  const long = cpu.longMode;
  flatCode(p, cs & 0xfffc, 0, long);
  flatStack(p, ((cs & 0xfffc) + 8) & 0xffff, 0);
  cpu.set(Field.CPL, 0);
  cpu.setGpr64(4, cpu.get(Field.SYSENTER_ESP), long ? cpu.high(Field.SYSENTER_ESP) : 0);
  cpu.set64(Field.RIP, cpu.get(Field.SYSENTER_EIP), long ? cpu.high(Field.SYSENTER_EIP) : 0);
  p.modeChanged();
}

export function sysexit(p: Processor, size: number): void {
  const { cpu } = p;
  const cs = cpu.get(Field.SYSENTER_CS);
  if (!cpu.protectedMode || (cs & 0xfffc) === 0 || cpu.cpl !== 0) throw generalProtection();
  const long = size === 64;
  if (long && (!isCanonicalHigh(cpu.gprHigh(2)) || !isCanonicalHigh(cpu.gprHigh(1)))) {
    throw generalProtection();
  }
  flatCode(p, (((cs & 0xfffc) + (long ? 32 : 16)) | 3) & 0xffff, 3, long);
  flatStack(p, (((cs & 0xfffc) + (long ? 40 : 24)) | 3) & 0xffff, 3);
  cpu.set(Field.CPL, 3);
  cpu.setGpr64(4, cpu.gpr(1), long ? cpu.gprHigh(1) : 0);
  cpu.set64(Field.RIP, cpu.gpr(2), long ? cpu.gprHigh(2) : 0);
  p.modeChanged();
}

/** INT n, INT3, INTO, INT1. RIP holds the address after the instruction. */
export function softwareInterrupt(p: Processor, vector: number, privileged: boolean): void {
  const { cpu } = p;
  if (cpu.virtual8086 && cpu.iopl < 3 && privileged) throw generalProtection();
  deliver(p, vector, -1, 'software', false);
}
