import { Attrib, isCanonicalHigh } from '../cpu.ts';
import { generalProtection, GuestFault, selectorFault, Vector } from '../fault.ts';
import type { Processor } from '../processor.ts';
import { Field, SegmentIndex } from '../state.ts';

/** A segment or gate descriptor as it stands in GDT, LDT or IDT: two or (in long mode, for system ones) four words. */
export interface Descriptor {
  selector: number;
  /** Linear address of the descriptor. */
  at: number;
  low: number;
  high: number;
}

/** System segment and gate types. */
export const SystemType = {
  TSS16: 1,
  LDT: 2,
  TSS16_BUSY: 3,
  CALL16: 4,
  TASK: 5,
  INTERRUPT16: 6,
  TRAP16: 7,
  TSS32: 9,
  TSS32_BUSY: 11,
  CALL32: 12,
  INTERRUPT32: 14,
  TRAP32: 15,
} as const;

export const isNull = (selector: number): boolean => (selector & 0xfffc) === 0;
/** VMCB-packed attributes of a descriptor's second word. */
export const attributes = (high: number): number => ((high >>> 8) & 0xff) | ((high >>> 12) & 0xf00);
export const typeOf = (descriptor: Descriptor): number => (descriptor.high >>> 8) & 15;
export const isSystem = (descriptor: Descriptor): boolean => (descriptor.high & 0x1000) === 0;
export const isPresent = (descriptor: Descriptor): boolean => (descriptor.high & 0x8000) !== 0;
export const dplOf = (descriptor: Descriptor): number => (descriptor.high >>> 13) & 3;
export const isCode = (descriptor: Descriptor): boolean => (descriptor.high & 0x1800) === 0x1800;
export const isConforming = (descriptor: Descriptor): boolean => (descriptor.high & 0x400) !== 0;
/** Code that can be read, or data. */
export const isReadable = (descriptor: Descriptor): boolean =>
  !isCode(descriptor) || (descriptor.high & 0x200) !== 0;
export const isWritable = (descriptor: Descriptor): boolean =>
  !isCode(descriptor) && (descriptor.high & 0x200) !== 0;

export function baseOf({ low, high }: Descriptor): number {
  return ((low >>> 16) | ((high & 0xff) << 16) | (high & 0xff000000)) >>> 0;
}
/** Limit in bytes. */
export function limitOf({ low, high }: Descriptor): number {
  const raw = (low & 0xffff) | (high & 0xf0000);
  return (high & 0x800000 ? (raw << 12) | 0xfff : raw) >>> 0;
}

/** Reads the descriptor that a selector names; undefined when it is outside its table. */
export function find(p: Processor, selector: number): Descriptor | undefined {
  const { cpu } = p;
  let base: number;
  let limit: number;
  if (selector & 4) {
    if ((cpu.attrib(SegmentIndex.LDT) & Attrib.P) === 0) return undefined;
    base = cpu.base(SegmentIndex.LDT);
    limit = cpu.limit(SegmentIndex.LDT);
  } else {
    base = cpu.number(Field.GDT_BASE);
    limit = cpu.get(Field.GDT_LIMIT) & 0xffff;
  }
  const offset = selector & 0xfff8;
  if (offset + 7 > limit) return undefined;
  const at = base + offset;
  return { selector, at, low: p.linear.read(at, 4), high: p.linear.read(at + 4, 4) };
}

/** The same, or the fault with the selector as its error code. */
export function fetch(p: Processor, selector: number, vector: number = Vector.GP): Descriptor {
  const descriptor = find(p, selector);
  if (!descriptor) throw selectorFault(vector, selector);
  return descriptor;
}

/** Sets the accessed bit of a code or data descriptor in its table. */
function markAccessed(p: Processor, descriptor: Descriptor): void {
  if (descriptor.high & 0x100) return;
  descriptor.high |= 0x100;
  p.linear.store(descriptor.at + 4, 4, descriptor.high);
}

/** Puts a descriptor into a segment register. */
export function install(p: Processor, index: number, selector: number, descriptor: Descriptor): void {
  if (!isSystem(descriptor)) markAccessed(p, descriptor);
  p.cpu.setSegment(
    index,
    selector,
    attributes(descriptor.high),
    limitOf(descriptor),
    baseOf(descriptor) | 0,
    0,
  );
  p.cpu.setDescriptor(index, descriptor.low, descriptor.high);
}

/** A null selector in a data segment register: unusable, the base stays 0. */
export function installNull(p: Processor, index: number, selector: number): void {
  const { cpu } = p;
  // AMD processors keep base and limit of FS and GS; programs that rely on either are rare: we clear all.
  const stack = index === SegmentIndex.SS ? (cpu.cpl << 5) | Attrib.S | 3 | Attrib.DB : 0;
  cpu.setSegment(index, selector, stack, 0, 0, 0);
}

/** A selector in real or virtual-8086 mode: base = 16 times it; in real mode the limit stays (unreal mode). */
export function installReal(p: Processor, index: number, selector: number): void {
  const { cpu } = p;
  if (cpu.virtual8086) {
    cpu.setSegment(
      index,
      selector,
      Attrib.P | Attrib.S | 3 | Attrib.DPL,
      0xffff,
      (selector & 0xffff) << 4,
      0,
    );
    return;
  }
  const attrib = (cpu.attrib(index) & ~0x1f & ~Attrib.DPL) | Attrib.P | Attrib.S | 3;
  cpu.setSegment(index, selector, attrib, cpu.limit(index), (selector & 0xffff) << 4, 0);
}

/** Loads ES, SS, DS, FS or GS with a selector (MOV, POP, LDS ...; SDM vol. 2, MOV). */
export function loadDataSegment(p: Processor, index: number, selector: number): void {
  const { cpu } = p;
  if (cpu.realAddressing) {
    installReal(p, index, selector);
  } else if (index === SegmentIndex.SS) loadStackSegment(p, selector);
  else if (isNull(selector)) installNull(p, index, selector);
  else {
    const descriptor = fetch(p, selector);
    if (isSystem(descriptor) || !isReadable(descriptor)) throw selectorFault(Vector.GP, selector);
    const conforming = isCode(descriptor) && isConforming(descriptor);
    const rpl = selector & 3;
    if (!conforming && (dplOf(descriptor) < cpu.cpl || dplOf(descriptor) < rpl)) {
      throw selectorFault(Vector.GP, selector);
    }
    if (!isPresent(descriptor)) throw selectorFault(Vector.NP, selector);
    install(p, index, selector, descriptor);
  }
  cpu.updateContext();
}

function loadStackSegment(p: Processor, selector: number): void {
  const { cpu } = p;
  if (isNull(selector)) {
    // Only 64-bit code outside CPL 3 may run on a null stack segment.
    if (!cpu.code64 || cpu.cpl === 3 || (selector & 3) !== cpu.cpl) throw generalProtection();
    installNull(p, SegmentIndex.SS, selector);
    return;
  }
  checkStackSegment(p, selector, cpu.cpl, Vector.GP);
}

/** Checks a stack selector for a privilege level and installs it. */
export function checkStackSegment(p: Processor, selector: number, cpl: number, vector: number): void {
  const descriptor = stackDescriptor(p, selector, cpl, vector);
  install(p, SegmentIndex.SS, selector, descriptor);
}

export function stackDescriptor(p: Processor, selector: number, cpl: number, vector: number): Descriptor {
  const descriptor = fetch(p, selector, vector);
  const wrong =
    (selector & 3) !== cpl || isSystem(descriptor) || !isWritable(descriptor) || dplOf(descriptor) !== cpl;
  if (wrong) throw selectorFault(vector, selector);
  if (!isPresent(descriptor)) throw selectorFault(Vector.SS, selector);
  return descriptor;
}

/** Reads the upper two words of a 16-byte system descriptor: the high half of its base. */
export function highBase(p: Processor, descriptor: Descriptor): number {
  const high = p.linear.read(descriptor.at + 8, 4) | 0;
  const type = p.linear.read(descriptor.at + 12, 4);
  if ((type & 0x1f00) !== 0) throw selectorFault(Vector.GP, descriptor.selector);
  if (!isCanonicalHigh(high)) throw selectorFault(Vector.GP, descriptor.selector);
  return high;
}

function requireSystemWrite(p: Processor): void {
  if (p.cpu.realAddressing) throw new GuestFault(Vector.UD);
  if (p.cpu.cpl !== 0) throw generalProtection();
}

export function lldt(p: Processor, selector: number): void {
  requireSystemWrite(p);
  const { cpu } = p;
  if (isNull(selector)) {
    cpu.setSegment(SegmentIndex.LDT, selector, SystemType.LDT, 0, 0, 0);
    return;
  }
  if (selector & 4) throw selectorFault(Vector.GP, selector);
  const descriptor = fetch(p, selector);
  if (!isSystem(descriptor) || typeOf(descriptor) !== SystemType.LDT) {
    throw selectorFault(Vector.GP, selector);
  }
  if (!isPresent(descriptor)) throw selectorFault(Vector.NP, selector);
  const high = cpu.longMode ? highBase(p, descriptor) : 0;
  cpu.setSegment(
    SegmentIndex.LDT,
    selector,
    attributes(descriptor.high),
    limitOf(descriptor),
    baseOf(descriptor) | 0,
    high,
  );
}

export function ltr(p: Processor, selector: number): void {
  requireSystemWrite(p);
  const { cpu } = p;
  if (isNull(selector)) throw generalProtection();
  if (selector & 4) throw selectorFault(Vector.GP, selector);
  const descriptor = fetch(p, selector);
  const type = typeOf(descriptor);
  const available = type === SystemType.TSS32 || (type === SystemType.TSS16 && !cpu.longMode);
  if (!isSystem(descriptor) || !available) throw selectorFault(Vector.GP, selector);
  if (!isPresent(descriptor)) throw selectorFault(Vector.NP, selector);
  const high = cpu.longMode ? highBase(p, descriptor) : 0;
  descriptor.high |= 0x200;
  p.linear.store(descriptor.at + 4, 4, descriptor.high);
  cpu.setSegment(
    SegmentIndex.TR,
    selector,
    attributes(descriptor.high),
    limitOf(descriptor),
    baseOf(descriptor) | 0,
    high,
  );
}

/** Types that LAR and LSL accept among system descriptors. */
const LAR_TYPES = new Set<number>([1, 2, 3, 4, 5, 9, 11, 12]);
const LAR_TYPES_LONG = new Set<number>([2, 9, 11, 12]);
const LSL_TYPES = new Set<number>([1, 2, 3, 9, 11]);
const LSL_TYPES_LONG = new Set<number>([2, 9, 11]);

/** LAR, LSL, VERR, VERW: the descriptor when the program may know of it, else undefined. */
export function inspect(
  p: Processor,
  selector: number,
  what: 'lar' | 'lsl' | 'verr' | 'verw',
): Descriptor | undefined {
  const { cpu } = p;
  if (cpu.realAddressing) throw new GuestFault(Vector.UD);
  if (isNull(selector)) return undefined;
  const descriptor = find(p, selector);
  if (!descriptor) return undefined;
  const visible =
    (isCode(descriptor) && isConforming(descriptor)) || dplOf(descriptor) >= Math.max(cpu.cpl, selector & 3);
  if (isSystem(descriptor)) {
    if (what === 'verr' || what === 'verw') return undefined;
    const long = cpu.longMode;
    const types = what === 'lar' ? (long ? LAR_TYPES_LONG : LAR_TYPES) : long ? LSL_TYPES_LONG : LSL_TYPES;
    return types.has(typeOf(descriptor)) && dplOf(descriptor) >= Math.max(cpu.cpl, selector & 3)
      ? descriptor
      : undefined;
  }
  if (what === 'verr' && !isReadable(descriptor)) return undefined;
  if (what === 'verw' && !isWritable(descriptor)) return undefined;
  return visible ? descriptor : undefined;
}
