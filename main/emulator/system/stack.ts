import { Attrib } from '../cpu.ts';
import { GuestFault, Vector } from '../fault.ts';
import type { Processor } from '../processor.ts';
import { Field, SegmentIndex } from '../state.ts';
import { attributes, baseOf, limitOf, type Descriptor } from './descriptors.ts';

const TWO_32 = 2 ** 32;

/**
 * A stack that is being pushed to or popped from before it is the current one: nothing of the processor changes
 * until the transfer is complete. Pointers are offsets in the segment, as numbers (signed in 64-bit mode).
 */
export class TransferStack {
  private readonly p: Processor;
  private readonly base: number;
  private readonly limit: number;
  private readonly attrib: number;
  private readonly long: boolean;
  private readonly mask: number;
  /** With the rights of CPL 3. */
  private readonly user: boolean;
  /** Error code of #SS when the segment is too small. */
  private readonly error: number;
  pointer: number;

  private constructor(
    p: Processor,
    segment: { base: number; limit: number; attrib: number },
    pointer: number,
    options: { long: boolean; user: boolean; error: number },
  ) {
    this.p = p;
    this.base = segment.base;
    this.limit = segment.limit;
    this.attrib = segment.attrib;
    this.long = options.long;
    this.user = options.user;
    this.error = options.error;
    this.mask = segment.attrib & Attrib.DB ? TWO_32 : 0x10000;
    this.pointer = pointer;
  }

  /** The stack in use. */
  static current(p: Processor): TransferStack {
    const { cpu } = p;
    const long = cpu.code64;
    const segment = {
      base: long ? 0 : cpu.base(SegmentIndex.SS),
      limit: cpu.limit(SegmentIndex.SS),
      attrib: cpu.attrib(SegmentIndex.SS),
    };
    const full = long
      ? cpu.gprHigh(4) * TWO_32 + cpu.gpr(4)
      : segment.attrib & Attrib.DB
        ? cpu.gpr(4)
        : cpu.gpr(4) & 0xffff;
    return new TransferStack(p, segment, full, { long, user: cpu.cpl === 3, error: 0 });
  }

  /** An inner stack that a descriptor gives. */
  static of(p: Processor, descriptor: Descriptor, pointer: number): TransferStack {
    const segment = {
      base: baseOf(descriptor),
      limit: limitOf(descriptor),
      attrib: attributes(descriptor.high),
    };
    const user = (descriptor.selector & 3) === 3;
    return new TransferStack(p, segment, pointer, { long: false, user, error: descriptor.selector & 0xfffc });
  }

  /** A flat 64-bit stack of an inner privilege level. */
  static flat(p: Processor, pointer: number, user = false): TransferStack {
    return new TransferStack(p, { base: 0, limit: 0, attrib: 0 }, pointer, { long: true, user, error: 0 });
  }

  private linear(offset: number, bytes: number): number {
    if (this.long) {
      if (offset < -(2 ** 47) || offset + bytes > 2 ** 47) throw new GuestFault(Vector.SS, 0);
      this.checkAlignment(offset, bytes);
      return offset;
    }
    const expandDown = (this.attrib & 0xc) === 4;
    const top = this.attrib & Attrib.DB ? 0xffffffff : 0xffff;
    const inside = expandDown
      ? offset > this.limit && offset + bytes - 1 <= top
      : offset + bytes - 1 <= this.limit;
    if (!inside) throw new GuestFault(Vector.SS, this.error);
    const linear = (this.base + offset) % TWO_32;
    this.checkAlignment(linear, bytes);
    return linear;
  }

  private checkAlignment(linear: number, bytes: number): void {
    if (!this.user || this.p.cpu.get(Field.ALIGNMENT_MASK) === 0) return;
    if (linear % bytes !== 0) throw new GuestFault(Vector.AC, 0);
  }

  private wrap(offset: number): number {
    return this.long ? offset : ((offset % this.mask) + this.mask) % this.mask;
  }

  /** Pushes 2, 4 or 8 bytes; `high` is the upper half of 8. */
  push(bytes: number, low: number, high = 0): void {
    const to = this.wrap(this.pointer - bytes);
    const at = this.linear(to, bytes);
    if (bytes === 8) this.p.linear.store64(at, low, high, this.user);
    else this.p.linear.store(at, bytes, low, this.user);
    this.pointer = to;
  }

  /** Pops 2, 4 or 8 bytes; of 8 the low half, with the high one in `poppedHigh`. */
  pop(bytes: number): number {
    const at = this.linear(this.pointer, bytes);
    const value = this.p.linear.read(at, Math.min(bytes, 4), this.user);
    this.poppedHigh = bytes === 8 ? this.p.linear.read(at + 4, 4, this.user) | 0 : 0;
    this.pointer = this.wrap(this.pointer + bytes);
    return value;
  }
  poppedHigh = 0;

  /** The same stack with another pointer (both halves of a register). */
  at(low: number, high: number): TransferStack {
    const copy = TransferStack.current(this.p);
    copy.pointer = this.long ? high * TWO_32 + low : low & (this.mask - 1);
    if (!this.long && this.mask === TWO_32) copy.pointer = low;
    return copy;
  }

  /** What is on top, without taking it. */
  peek(bytes: number): number {
    const before = this.pointer;
    const value = this.pop(bytes);
    this.pointer = before;
    return value;
  }

  /** Faults unless `bytes` can be written at the top. */
  probe(bytes: number): void {
    const at = this.linear(this.pointer, bytes);
    this.p.linear.requireWritable(at, bytes, this.user);
  }

  skip(bytes: number): void {
    this.pointer = this.wrap(this.pointer + bytes);
  }

  /** Drops bytes from the stack in use. */
  skipCommitted(bytes: number): void {
    this.skip(bytes);
    this.commit();
  }

  /** Makes the pointer the current RSP, ESP or SP; the segment must be in SS by now. */
  commit(): void {
    const { cpu } = this.p;
    if (this.long) cpu.setGpr64(4, this.pointer | 0, Math.floor(this.pointer / TWO_32) | 0);
    else if (this.attrib & Attrib.DB) cpu.setGpr32(4, this.pointer | 0);
    else cpu.setGpr16(4, this.pointer);
  }
}
