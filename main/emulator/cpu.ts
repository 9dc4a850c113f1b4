import { Context } from './generate/form.ts';
import { Vector } from './fault.ts';
import { Field, Segment, SegmentIndex, Slot, TlbKind, TlbSet, tlbOffset } from './state.ts';
import { Unsettled } from './generate/unsettled.ts';

const TWO_32 = 2 ** 32;

/** Control register bits. */
export const Cr0 = {
  PE: 1,
  MP: 2,
  EM: 4,
  TS: 8,
  ET: 16,
  NE: 32,
  WP: 1 << 16,
  AM: 1 << 18,
  NW: 1 << 29,
  CD: 1 << 30,
  PG: 1 << 31,
} as const;
export const Cr4 = {
  VME: 1,
  PVI: 2,
  TSD: 4,
  DE: 8,
  PSE: 16,
  PAE: 32,
  MCE: 64,
  PGE: 128,
  PCE: 256,
  OSFXSR: 512,
  OSXMMEXCPT: 1024,
  UMIP: 2048,
  FSGSBASE: 1 << 16,
  PCIDE: 1 << 17,
  OSXSAVE: 1 << 18,
  SMEP: 1 << 20,
  SMAP: 1 << 21,
} as const;
export const Efer = { SCE: 1, LME: 1 << 8, LMA: 1 << 10, NXE: 1 << 11 } as const;
/** Bits of RFLAGS beside the arithmetic ones. */
export const Eflags = {
  FIXED: 2,
  TF: 0x100,
  IF: 0x200,
  DF: 0x400,
  IOPL: 0x3000,
  NT: 0x4000,
  RF: 0x10000,
  VM: 0x20000,
  AC: 0x40000,
  VIF: 0x80000,
  VIP: 0x100000,
  ID: 0x200000,
} as const;
/** Segment attribute bits (VMCB packing). */
export const Attrib = {
  TYPE: 0xf,
  S: 0x10,
  DPL: 0x60,
  P: 0x80,
  AVL: 0x100,
  L: 0x200,
  DB: 0x400,
  G: 0x800,
} as const;

const ARITHMETIC = 0x8d5;

/** ES, CS, SS, DS, FS and GS, a bit each; those of the flat model, and of its data. */
const ALL_SEGMENTS = 0x3f;
const FLAT_MODEL = 0xf;
const FLAT_DATA = 0xd;
/** What the bounds of segments follow from beside themselves. */
const Bounds = { NONE: 0, REAL: 1, PROTECTED: 2 } as const;

/** A 64-bit field as two halves: `low` unsigned, `high` signed. */
export interface Halves {
  low: number;
  high: number;
}

/**
 * One vCPU's registers as TypeScript sees them: the fields of its block in the shared memory (state.ts), and
 * what has to be recomputed when some of them change. Linear addresses are numbers: canonical ones fit a
 * double exactly, as signed 48-bit values.
 */
export class Cpu {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  /** Address of the block. */
  readonly s: number;

  constructor(memory: WebAssembly.Memory, s: number) {
    this.words = new Int32Array(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    this.s = s;
    this.changed = ALL_SEGMENTS;
  }

  // ---- Fields -------------------------------------------------------------------------------------------

  get(field: number): number {
    return this.words[(this.s + field) >>> 2];
  }
  set(field: number, value: number): void {
    this.words[(this.s + field) >>> 2] = value;
  }
  high(field: number): number {
    return this.words[(this.s + field + 4) >>> 2];
  }
  set64(field: number, low: number, high: number): void {
    this.words[(this.s + field) >>> 2] = low;
    this.words[(this.s + field + 4) >>> 2] = high;
  }
  /** A 64-bit field as a signed number: exact below 2^53. */
  number(field: number): number {
    return this.high(field) * TWO_32 + (this.get(field) >>> 0);
  }
  setNumber(field: number, value: number): void {
    this.set64(field, value | 0, Math.floor(value / TWO_32) | 0);
  }
  copy64(to: number, from: number): void {
    this.set64(to, this.get(from), this.high(from));
  }
  isCanonical(field: number): boolean {
    return isCanonicalHigh(this.high(field));
  }

  // ---- General registers --------------------------------------------------------------------------------

  /** Low 32 bits, unsigned. */
  gpr(index: number): number {
    return this.get(Field.SLOTS + 8 * index) >>> 0;
  }
  gprHigh(index: number): number {
    return this.high(Field.SLOTS + 8 * index);
  }
  /** Sets a register to a zero-extended 32-bit value. */
  setGpr32(index: number, value: number): void {
    this.set64(Field.SLOTS + 8 * index, value, 0);
  }
  setGpr64(index: number, low: number, high: number): void {
    this.set64(Field.SLOTS + 8 * index, low, high);
  }
  setGpr16(index: number, value: number): void {
    const field = Field.SLOTS + 8 * index;
    this.set(field, (this.get(field) & ~0xffff) | (value & 0xffff));
  }

  // ---- Mode ---------------------------------------------------------------------------------------------

  get cpl(): number {
    return this.get(Field.CPL);
  }
  get protectedMode(): boolean {
    return (this.get(Field.CR0) & Cr0.PE) !== 0;
  }
  get virtual8086(): boolean {
    return (this.get(Field.EFLAGS) & Eflags.VM) !== 0;
  }
  /** Real or virtual-8086 mode: selectors are paragraph numbers. */
  get realAddressing(): boolean {
    return !this.protectedMode || this.virtual8086;
  }
  get longMode(): boolean {
    return (this.get(Field.EFER) & Efer.LMA) !== 0;
  }
  /** 64-bit code runs. */
  get code64(): boolean {
    return this.longMode && (this.attrib(SegmentIndex.CS) & Attrib.L) !== 0;
  }
  get iopl(): number {
    return (this.get(Field.EFLAGS) >>> 12) & 3;
  }

  // ---- Flags --------------------------------------------------------------------------------------------

  /** Generated code's routine SETTLE. */
  settleFlags: () => void = () => {
    throw new Error('flags are unsettled, and there is no generated code to settle them');
  };

  /** RFLAGS, low 32 bits. */
  get eflags(): number {
    if (this.get(Unsettled.WHICH) !== 0) this.settleFlags();
    const resultLow = this.get(Field.FLAG_RESULT);
    const resultHigh = this.high(Field.FLAG_RESULT);
    const aux = this.get(Field.FLAG_AUX);
    const carry = this.high(Field.FLAG_CARRY);
    let parity = (resultLow ^ (aux >>> 8)) & 0xff;
    parity ^= parity >>> 4;
    parity ^= parity >>> 2;
    parity ^= parity >>> 1;
    let flags = this.get(Field.EFLAGS) & ~ARITHMETIC;
    flags |= Eflags.FIXED | (carry >>> 31) | (~parity & 1 ? 4 : 0) | (aux & 0x10);
    if (resultLow === 0 && resultHigh === 0) flags |= 0x40;
    if (((resultHigh ^ aux) & 0x80000000) !== 0) flags |= 0x80;
    if (((carry ^ (carry << 1)) & 0x80000000) !== 0) flags |= 0x800;
    return flags;
  }

  /** Sets all of RFLAGS, and what follows from it. */
  set eflags(value: number) {
    const before = this.get(Field.EFLAGS);
    const zero = (value >>> 6) & 1;
    const carry = value & 1;
    const overflow = (value >>> 11) & 1;
    this.set64(Field.FLAG_RESULT, zero ^ 1, 0);
    const parityFix = (((value >>> 2) ^ zero) & 1) << 8;
    this.set(Unsettled.WHICH, 0);
    this.set(Field.FLAG_AUX, (value & 0x10) | parityFix | (((value >>> 7) & 1) << 31));
    this.set64(Field.FLAG_CARRY, 0, (carry << 31) | ((carry ^ overflow) << 30));
    this.set(Field.EFLAGS, (value & ~ARITHMETIC) | Eflags.FIXED);
    const down = (value & Eflags.DF) !== 0;
    this.set64(Field.DIRECTION, down ? -1 : 1, down ? -1 : 0);
    if ((before ^ value) & (Eflags.AC | Eflags.VM)) this.updatePrivilege();
  }

  // ---- Segments -----------------------------------------------------------------------------------------

  private segment(index: number, part: number): number {
    return Field.SEGMENTS + Segment.SIZE * index + part;
  }
  selector(index: number): number {
    return this.get(this.segment(index, Segment.SELECTOR)) & 0xffff;
  }
  attrib(index: number): number {
    return this.get(this.segment(index, Segment.ATTRIB));
  }
  limit(index: number): number {
    return this.get(this.segment(index, Segment.LIMIT)) >>> 0;
  }
  baseField(index: number): number {
    return this.segment(index, Segment.BASE);
  }
  base(index: number): number {
    return this.number(this.baseField(index));
  }
  setSegment(
    index: number,
    selector: number,
    attrib: number,
    limit: number,
    baseLow: number,
    baseHigh: number,
  ): void {
    this.set(this.segment(index, Segment.SELECTOR), selector & 0xffff);
    this.set(this.segment(index, Segment.ATTRIB), attrib);
    this.set(this.segment(index, Segment.LIMIT), limit | 0);
    this.set64(this.baseField(index), baseLow, baseHigh);
    this.setDescriptor(index, 0, 0);
    this.changed |= 1 << index;
  }
  /** The descriptor that a segment was just loaded from. */
  setDescriptor(index: number, low: number, high: number): void {
    this.set64(this.segment(index, Segment.DESCRIPTOR), low, high);
  }
  /** The base of FS or GS, by what writes it alone. */
  setBase(index: number, low: number, high: number): void {
    this.set64(this.baseField(index), low, high);
    this.setDescriptor(index, 0, 0);
    this.changed |= 1 << index;
  }

  /** The offsets that a segment allows, for reading and writing (SDM vol. 3, 5.3). */
  private updateBounds(index: number, real: boolean): void {
    const { words } = this;
    const at = (this.s + this.segment(index, 0)) >>> 2;
    const attrib = words[at + (Segment.ATTRIB >>> 2)];
    const limit = words[at + (Segment.LIMIT >>> 2)];
    let low = 0;
    let high = limit;
    const code = (attrib & 8) !== 0;
    if (!code && attrib & 4) {
      // Expand-down: what is above the limit.
      high = attrib & Attrib.DB ? -1 : 0xffff;
      low = limit === -1 ? high : limit + 1;
    }
    const present = (attrib & Attrib.P) !== 0;
    const readable = present && (real || !code || (attrib & 2) !== 0);
    const writable = present && (real || (!code && (attrib & 2) !== 0));
    words[at + (Segment.READ_LOW >>> 2)] = readable ? low : 1;
    words[at + (Segment.READ_HIGH >>> 2)] = readable ? high : 0;
    words[at + (Segment.WRITE_LOW >>> 2)] = writable ? low : 1;
    words[at + (Segment.WRITE_HIGH >>> 2)] = writable ? high : 0;
    const flat = readable && writable && low === 0 && high === -1;
    const zero = words[at + (Segment.BASE >>> 2)] === 0;
    this.flat = (this.flat & ~(1 << index)) | (flat ? 1 << index : 0);
    this.zeroBased = (this.zeroBased & ~(1 << index)) | (zero ? 1 << index : 0);
  }

  /** Recomputes what follows from the segments that changed since the last time. */
  private updateSegments(code64: boolean): void {
    const mode = code64 ? Bounds.NONE : this.realAddressing ? Bounds.REAL : Bounds.PROTECTED;
    if (mode !== this.bounds) this.changed = ALL_SEGMENTS;
    this.bounds = mode;
    for (let index = 0, left = this.changed & ALL_SEGMENTS; left !== 0; index++, left >>>= 1) {
      if ((left & 1) === 0) continue;
      const slot = Field.SLOTS + 8 * (Slot.SEGMENT_BASE + index);
      // 64-bit code has no limits, and is left through here.
      if (!code64) {
        this.updateBounds(index, mode === Bounds.REAL);
        this.set64(slot, this.get(this.baseField(index)), 0);
      } else if (index < SegmentIndex.FS) this.set64(slot, 0, 0);
      else this.copy64(slot, this.baseField(index));
    }
    this.changed = 0;
  }
  /** Segments that were written since, a bit each; and of those that 32- and 16-bit code sees, which are how. */
  private get changed(): number {
    return this.get(Field.SEGMENTS_CHANGED);
  }
  private set changed(segments: number) {
    this.set(Field.SEGMENTS_CHANGED, segments);
  }
  private bounds: number = Bounds.NONE;
  private flat = 0;
  private zeroBased = 0;

  // ---- What follows from other state --------------------------------------------------------------------

  /**
   * Recomputes everything that generated code assumes about the mode. Call it after any change of CR0, CR4 or EFER, or
   * of all state; after a change of less what follows does.
   */
  updateMode(): void {
    this.updatePrivilege();
    const cr0 = this.get(Field.CR0);
    const taskSwitched = (cr0 & Cr0.TS) !== 0;
    const emulate = (cr0 & Cr0.EM) !== 0;
    const noSse = emulate || (this.get(Field.CR4) & Cr4.OSFXSR) === 0;
    this.set(Field.SSE_TRAP, noSse ? Vector.UD : taskSwitched ? Vector.NM : 0);
    this.set(Field.X87_TRAP, emulate || taskSwitched ? Vector.NM : 0);
    this.set(Field.MMX_TRAP, emulate ? Vector.UD : taskSwitched ? Vector.NM : 0);
    this.set(Field.WAIT_TRAP, (cr0 & Cr0.MP) !== 0 && taskSwitched ? Vector.NM : 0);
  }

  /** After a change of CPL, RFLAGS.VM or RFLAGS.AC, or of segments: the translation tables in use, and the context. */
  updatePrivilege(): void {
    const user = this.cpl === 3;
    const checks = user && (this.get(Field.CR0) & Cr0.AM) !== 0;
    const aligned = checks && (this.get(Field.EFLAGS) & Eflags.AC) !== 0;
    this.set(Field.ALIGNMENT_MASK, aligned ? -1 : 0);
    const set = this.tlbSet;
    this.set(Field.TLB_READ, this.s + tlbOffset(set, TlbKind.READ));
    this.set(Field.TLB_WRITE, this.s + tlbOffset(set, TlbKind.WRITE));
    this.updateContext();
  }

  /** After loads of data segments: their bases and bounds, and the context. */
  updateContext(): void {
    const code64 = this.code64;
    this.updateSegments(code64);
    const stack32 = (this.attrib(SegmentIndex.SS) & Attrib.DB) !== 0;
    let context: number = Context.CODE_64 | Context.STACK_32;
    if (!code64) {
      context = this.attrib(SegmentIndex.CS) & Attrib.DB ? Context.CODE_32 : Context.CODE_16;
      if (stack32) context |= Context.STACK_32;
      const { flat, zeroBased } = this;
      // The limit of CS is the fetch's affair.
      if ((zeroBased & FLAT_MODEL) === FLAT_MODEL && (flat & FLAT_DATA) === FLAT_DATA) {
        context |= Context.FLAT;
      }
      if (flat & (1 << SegmentIndex.FS)) context |= Context.FLAT_FS;
      if (flat & (1 << SegmentIndex.GS)) context |= Context.FLAT_GS;
    }
    if (this.get(Field.ALIGNMENT_MASK) !== 0) context |= Context.ALIGNMENT;
    this.set(Field.CONTEXT, context);
    // Canonical addresses leave bits 48-62 equal to bit 47; adding the context there makes the keys of contexts
    // disjoint, and so does adding a bit for programs, which may not run the kernel's pages, nor it theirs under SMEP.
    // The CS base and limit are part of what the run loop checks, so they flush the cache instead.
    this.set64(Field.JUMP_SALT, 0, (context | (this.cpl === 3 ? Context.COUNT : 0)) << 20);
    this.set64(Field.STACK_MASK, code64 || stack32 ? -1 : 0xffff, code64 ? -1 : 0);
  }

  /** Which TLB set ordinary data accesses use now. */
  get tlbSet(): number {
    if (this.cpl === 3) return TlbSet.USER;
    const allowed = (this.get(Field.CR4) & Cr4.SMAP) !== 0 && (this.get(Field.EFLAGS) & Eflags.AC) !== 0;
    return allowed ? TlbSet.SUPERVISOR_AC : TlbSet.SUPERVISOR;
  }
}

/** Whether the upper half belongs to a canonical 48-bit address. */
export function isCanonicalHigh(high: number): boolean {
  return high >= -0x8000 && high <= 0x7fff;
}
