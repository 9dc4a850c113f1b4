import { Attrib, Eflags } from '../cpu.ts';
import { generalProtection, GuestFault, selectorFault, Vector } from '../fault.ts';
import type { Processor } from '../processor.ts';
import { Field, SegmentIndex } from '../state.ts';
import {
  dplOf,
  fetch,
  install,
  isCode,
  isConforming,
  isNull,
  isPresent,
  isSystem,
  limitOf,
  stackDescriptor,
  SystemType,
  type Descriptor,
} from './descriptors.ts';
import { TransferStack } from './stack.ts';
import { switchTask } from './task.ts';

/** Where an event comes from: that decides privilege checks and the EXT bit of error codes. */
export type EventSource = 'software' | 'exception' | 'external';

const TWO_32 = 2 ** 32;

/**
 * Delivers an interrupt or exception through the IDT (SDM vol. 3, 6.12). RIP is the address to return to.
 * `error` is pushed unless it is -1. Throws GuestFault when the delivery itself faults; nothing has changed then.
 */
export function deliver(
  p: Processor,
  vector: number,
  error: number,
  source: EventSource,
  resume: boolean,
): void {
  const { cpu } = p;
  // The image of RFLAGS has RF set for faults, so that the instruction's breakpoint doesn't hit again.
  const flags = resume ? cpu.eflags | Eflags.RF : cpu.eflags & ~Eflags.RF;
  if (!cpu.protectedMode) deliverReal(p, vector, flags);
  else if (cpu.longMode) deliverLong(p, vector, error, source, flags);
  else deliverProtected(p, vector, error, source, flags);
}

function deliverReal(p: Processor, vector: number, flags: number): void {
  const { cpu, linear } = p;
  if (vector * 4 + 3 > (cpu.get(Field.IDT_LIMIT) & 0xffff)) throw generalProtection(vector * 8 + 2);
  const at = cpu.number(Field.IDT_BASE) + vector * 4;
  const ip = linear.read(at, 2);
  const selector = linear.read(at + 2, 2);
  const stack = TransferStack.current(p);
  stack.push(2, flags);
  stack.push(2, cpu.selector(SegmentIndex.CS));
  stack.push(2, cpu.get(Field.RIP));
  stack.commit();
  cpu.eflags = cpu.eflags & ~(Eflags.IF | Eflags.TF | Eflags.AC | Eflags.RF);
  cpu.setSegment(
    SegmentIndex.CS,
    selector,
    cpu.attrib(SegmentIndex.CS),
    cpu.limit(SegmentIndex.CS),
    selector << 4,
    0,
  );
  cpu.set64(Field.RIP, ip, 0);
  p.modeChanged();
}

/** The gate of a vector, with its checks up to presence. `size` is 8 or 16 bytes. */
function gateOf(p: Processor, vector: number, size: number, source: EventSource): Descriptor {
  const { cpu, linear } = p;
  const external = source === 'software' ? 0 : 1;
  const error = vector * 8 + 2 + external;
  if (vector * size + size - 1 > (cpu.get(Field.IDT_LIMIT) & 0xffff)) throw generalProtection(error);
  const at = cpu.number(Field.IDT_BASE) + vector * size;
  const gate = { selector: 0, at, low: linear.read(at, 4), high: linear.read(at + 4, 4) };
  gate.selector = gate.low >>> 16;
  const type = (gate.high >>> 8) & 31;
  const wanted: readonly number[] = size === 16 ? [14, 15] : [5, 6, 7, 14, 15];
  if (!wanted.includes(type)) throw generalProtection(error);
  if (source === 'software' && dplOf(gate) < cpu.cpl) throw generalProtection(error);
  if (!isPresent(gate)) throw new GuestFault(Vector.NP, error);
  return gate;
}

/** The code segment that a gate leads to. */
function handlerSegment(p: Processor, selector: number, source: EventSource): Descriptor {
  const external = source === 'software' ? 0 : 1;
  if (isNull(selector)) throw generalProtection(external);
  const code = withExternal(external, () => fetch(p, selector));
  const fault = (vector: number): GuestFault => new GuestFault(vector, (selector & 0xfffc) | external);
  if (isSystem(code) || !isCode(code) || dplOf(code) > p.cpu.cpl) throw fault(Vector.GP);
  if (!isPresent(code)) throw fault(Vector.NP);
  return code;
}

/** Adds the EXT bit to the error code of what `body` throws about a selector. */
function withExternal<T>(external: number, body: () => T): T {
  try {
    return body();
  } catch (fault) {
    if (fault instanceof GuestFault && fault.vector !== Vector.PF) {
      throw new GuestFault(fault.vector, fault.error | external);
    }
    throw fault;
  }
}

function deliverLong(p: Processor, vector: number, error: number, source: EventSource, flags: number): void {
  const { cpu, linear } = p;
  const gate = gateOf(p, vector, 16, source);
  const code = handlerSegment(p, gate.selector, source);
  const external = source === 'software' ? 0 : 1;
  if ((code.high & 0x200000) === 0 || (code.high & 0x400000) !== 0) {
    throw new GuestFault(Vector.GP, (gate.selector & 0xfffc) | external);
  }
  const offsetHigh = linear.read(gate.at + 8, 4) | 0;
  const inner = !isConforming(code) && dplOf(code) < cpu.cpl;
  const cpl = inner ? dplOf(code) : cpu.cpl;
  const ist = gate.low === 0 && gate.high === 0 ? 0 : gate.high & 7;

  let top: number;
  if (ist !== 0) top = stackPointerFromTss(p, 0x1c + 8 * ist, external);
  else if (inner) top = stackPointerFromTss(p, 4 + 8 * cpl, external);
  else top = cpu.gprHigh(4) * TWO_32 + cpu.gpr(4);
  // The frame is aligned to 16 bytes whether or not the stack changes.
  const stack = TransferStack.flat(p, Math.floor(top / 16) * 16);
  const oldSs = cpu.selector(SegmentIndex.SS);
  stack.push(8, oldSs);
  stack.push(8, cpu.gpr(4), cpu.gprHigh(4));
  stack.push(8, flags);
  stack.push(8, cpu.selector(SegmentIndex.CS));
  stack.push(8, cpu.get(Field.RIP), cpu.high(Field.RIP));
  if (error >= 0) stack.push(8, error);

  stack.commit();
  install(p, SegmentIndex.CS, (gate.selector & 0xfffc) | cpl, code);
  if (inner) cpu.setSegment(SegmentIndex.SS, cpl, (cpl << 5) | Attrib.S | 3 | Attrib.DB, 0, 0, 0);
  cpu.set(Field.CPL, cpl);
  const clear = Eflags.TF | Eflags.NT | Eflags.RF | Eflags.VM | (typeIsTrap(gate) ? 0 : Eflags.IF);
  cpu.eflags = cpu.eflags & ~clear;
  cpu.set64(Field.RIP, (gate.low & 0xffff) | (gate.high & 0xffff0000), offsetHigh);
  p.modeChanged();
}

const typeIsTrap = (gate: Descriptor): boolean => (gate.high & 0x100) !== 0;

/** A stack pointer in the 64-bit TSS. */
function stackPointerFromTss(p: Processor, offset: number, external: number): number {
  const { cpu, linear } = p;
  if (offset + 7 > cpu.limit(SegmentIndex.TR)) {
    throw new GuestFault(Vector.TS, (cpu.selector(SegmentIndex.TR) & 0xfffc) | external);
  }
  const at = cpu.base(SegmentIndex.TR) + offset;
  const low = linear.read(at, 4);
  const high = linear.read(at + 4, 4) | 0;
  if (high < -0x8000 || high > 0x7fff) throw new GuestFault(Vector.SS, external);
  return high * TWO_32 + low;
}

function deliverProtected(
  p: Processor,
  vector: number,
  error: number,
  source: EventSource,
  flags: number,
): void {
  const { cpu } = p;
  const gate = gateOf(p, vector, 8, source);
  const type = (gate.high >>> 8) & 31;
  if (type === SystemType.TASK) {
    switchTask(p, gate.selector, 'call', true);
    if (error >= 0) {
      const stack = TransferStack.current(p);
      stack.push(cpu.attrib(SegmentIndex.TR) & 8 ? 4 : 2, error);
      stack.commit();
    }
    return;
  }
  const external = source === 'software' ? 0 : 1;
  const bytes = type & 8 ? 4 : 2;
  const code = handlerSegment(p, gate.selector, source);
  const from86 = cpu.virtual8086;
  const inner = !isConforming(code) && dplOf(code) < cpu.cpl;
  if (from86 && (!inner || dplOf(code) !== 0)) {
    throw new GuestFault(Vector.GP, (gate.selector & 0xfffc) | external);
  }
  const offset = bytes === 4 ? (gate.low & 0xffff) | (gate.high & 0xffff0000) : gate.low & 0xffff;
  if (offset >>> 0 > limitOf(code)) throw generalProtection(external);
  const cpl = inner ? dplOf(code) : cpu.cpl;

  let stack: TransferStack;
  let stackSegment: Descriptor | undefined;
  if (inner) {
    const { selector, pointer } = innerStack(p, cpl, external);
    stackSegment = withExternal(external, () => stackDescriptor(p, selector, cpl, Vector.TS));
    stack = TransferStack.of(p, stackSegment, pointer);
    if (from86) {
      for (const index of [SegmentIndex.GS, SegmentIndex.FS, SegmentIndex.DS, SegmentIndex.ES]) {
        stack.push(bytes, cpu.selector(index));
      }
    }
    stack.push(bytes, cpu.selector(SegmentIndex.SS));
    stack.push(bytes, cpu.gpr(4));
  } else stack = TransferStack.current(p);
  stack.push(bytes, flags);
  stack.push(bytes, cpu.selector(SegmentIndex.CS));
  stack.push(bytes, cpu.get(Field.RIP));
  if (error >= 0) stack.push(bytes, error);

  const clear = Eflags.TF | Eflags.NT | Eflags.RF | Eflags.VM | (typeIsTrap(gate) ? 0 : Eflags.IF);
  cpu.eflags = cpu.eflags & ~clear;
  cpu.set(Field.CPL, cpl);
  if (stackSegment) install(p, SegmentIndex.SS, stackSegment.selector, stackSegment);
  stack.commit();
  if (from86) {
    for (const index of [SegmentIndex.GS, SegmentIndex.FS, SegmentIndex.DS, SegmentIndex.ES]) {
      cpu.setSegment(index, 0, 0, 0, 0, 0);
    }
  }
  install(p, SegmentIndex.CS, (gate.selector & 0xfffc) | cpl, code);
  cpu.set64(Field.RIP, offset, 0);
  p.modeChanged();
}

/** SS and ESP of an inner level in a 16- or 32-bit TSS (SDM vol. 3, 7.2.1 and 7.6). */
export function innerStack(p: Processor, cpl: number, external = 0): { selector: number; pointer: number } {
  const { cpu, linear } = p;
  const wide = (cpu.attrib(SegmentIndex.TR) & 8) !== 0;
  const offset = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
  const bytes = wide ? 4 : 2;
  if (offset + (wide ? 5 : 3) > cpu.limit(SegmentIndex.TR)) {
    throw new GuestFault(Vector.TS, (cpu.selector(SegmentIndex.TR) & 0xfffc) | external);
  }
  const at = cpu.base(SegmentIndex.TR) + offset;
  const pointer = linear.read(at, bytes);
  const selector = linear.read(at + bytes, 2);
  if (isNull(selector)) throw selectorFault(Vector.TS, external);
  return { selector, pointer };
}
