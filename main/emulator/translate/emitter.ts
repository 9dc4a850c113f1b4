import { Emitter, type Callees, type SegmentChoice, type SlotPlace } from '../generate/emitter.ts';
import { Addressing, type Form } from '../generate/form.ts';
import { tlbHit } from '../generate/tlb.ts';
import { Field, Leave, Record, SegmentIndex, Slot } from '../state.ts';
import { i32, i64, type I32, type I64 } from '../wasm/expression.ts';
import { jumpTarget } from './finder.ts';
import type { RegionFunction } from './function.ts';
import { LazyFlags } from './lazy-flags.ts';
import { CODE } from './ways-out.ts';
import { isBase, STACK_POINTER, type Place } from './windows.ts';

/** Where a direct jump goes on inside the function. */
export interface Edge {
  jump(): void;
  /** Back in a loop: the budget is looked at. */
  back: boolean;
}

/** Where an indirect jump may go on inside the function, if it leads to this position in the page. */
export interface Guess extends Edge {
  position: number;
}

const MASKS: Record<number, number> = { 8: 0xff, 16: 0xffff, 32: 0xffffffff };

/**
 * The same semantics with everything that the record holds as constants: registers become variables,
 * displacements and immediates become operands, the next instruction simply follows, and a jump to another
 * block of the region is one.
 */
export class TranslationEmitter extends Emitter {
  declare readonly flags: LazyFlags;
  private readonly region: RegionFunction;
  private readonly words: Int32Array;
  private readonly record: number;
  private readonly edge: Edge | undefined;
  private readonly guesses: Guess[];

  /**
   * `edge`: where the instruction's jump leads if that is in the region; `guesses`: where an indirect one may, in
   * the order of their positions.
   */
  constructor(
    region: RegionFunction,
    form: Form,
    callees: Callees,
    words: Int32Array,
    record: number,
    edge: Edge | undefined,
    guesses: Guess[],
  ) {
    super(region.f, form, callees, i32.const(record), (c) => new LazyFlags(c, region.flags));
    this.region = region;
    this.words = words;
    this.record = record;
    this.edge = edge;
    this.guesses = guesses;
  }

  // ---- The record's fields ------------------------------------------------------------------------------

  private word(field: number): number {
    return this.words[(this.record + field) >>> 2];
  }

  protected override recordByte(field: number): I32 {
    return i32.const((this.word(field & ~3) >>> (8 * (field & 3))) & 0xff);
  }
  protected override record32(field: number): I32 {
    // The link is found at run time; only displacements and second immediates are constant.
    return i32.const(this.word(field));
  }
  protected override record64(field: number): I64 {
    const [low, high] = [this.word(field), this.word(field + 4)];
    if (high === low >> 31) return i64.const(low);
    return i64.const((BigInt(high) << 32n) | BigInt.asUintN(32, BigInt(low)));
  }
  protected override recordPosition(): I32 {
    return i32.const(this.word(Record.POSITION) & 0xffff);
  }

  // ---- Registers in variables ---------------------------------------------------------------------------

  protected override loadSlot(place: SlotPlace, bits: number): I64 {
    const at = place as number;
    const index = at >> 3;
    if (index === Slot.ZERO) return i64.const(0);
    if (index === Slot.CODE_BASE) return this.region.codeBase;
    // Without checks the bases of ES, CS, SS and DS are 0, of 64-bit code as of the flat model.
    const segment = index - Slot.SEGMENT_BASE;
    const unchecked = this.form.addressing !== Addressing.CHECKED;
    if (segment >= 0 && segment < SegmentIndex.FS && unchecked) return i64.const(0);
    if (index >= Slot.ZERO) return super.loadSlot(place, bits);
    const value = this.region.register(index);
    if (bits === 64) return value;
    return i64.and((at & 1) === 1 ? i64.shr_u(value, 8) : value, MASKS[bits]);
  }

  protected override storeSlot(place: SlotPlace, bits: number, value: I64): void {
    const at = place as number;
    const index = at >> 3;
    if (index >= Slot.ZERO) {
      super.storeSlot(place, bits, value);
      return;
    }
    const { region } = this;
    if (bits === 64) region.setRegister(index, value);
    else if (bits === 32) region.setRegister(index, i64.and(value, MASKS[32]), bits);
    else {
      const shift = 8 * (at & 1);
      const kept = i64.and(region.register(index), -1 - (MASKS[bits] << shift));
      const cut = i64.and(value, MASKS[bits]);
      region.setRegister(index, i64.or(kept, shift === 0 ? cut : i64.shl(cut, shift)), bits);
    }
  }

  protected override codeBase(): I64 {
    return this.region.codeBase;
  }
  protected override tableAddress(table: number): I32 {
    return this.region.table(table);
  }
  override setTable(table: number, address: I32): void {
    super.setTable(table, address);
    this.region.reloadTable(table);
  }
  protected override budget(): I32 {
    return this.region.budget;
  }
  protected override setBudget(value: I32): void {
    this.f.set(this.region.budget, value);
  }

  // ---- Ways out -----------------------------------------------------------------------------------------

  /** The next instruction's code follows. */
  override next(): void {}

  protected override leave(code: I32): void {
    const { f, region } = this;
    region.writeBack();
    f.set(region.target, code);
    f.set(region.head, i32.const(CODE));
    f.break(region.leaving);
  }

  /**
   * Lets the handler of this instruction do it, and the rest of its block: what TypeScript has to do with. Nothing
   * of the instruction has been done yet, or it can be begun again, as after a fault.
   */
  private handOver(): void {
    this.region.writeBack();
    this.f.set(this.region.target, this.d);
    this.f.break(this.region.leaving);
  }

  /** Nothing was done yet: the handler finds the same. */
  override raise(): void {
    this.handOver();
  }

  override helper(): void {
    this.handOver();
  }
  override endWithHelper(): void {
    this.handOver();
  }

  override jumpRelative(counts = 1): void {
    const { f, region, edge } = this;
    region.writeBack();
    if (edge === undefined) {
      this.jumpOut(counts);
      return;
    }
    this.setBudget(this.budgetAfter(counts));
    if (edge.back) {
      f.if(region.tired(), () => this.leaveFor(this.relativeTarget(counts)));
    }
    edge.jump();
  }

  /** A direct jump out of the region: through the record's link once it is known. */
  private jumpOut(counts: number): void {
    const { f, region } = this;
    this.setBudget(this.budgetAfter(counts));
    // Only within a page: a link must hold whatever another one is mapped to later.
    const linkable = jumpTarget(this.words, this.record, this) !== undefined;
    f.set(region.from, linkable ? this.d : i32.const(0));
    f.set(region.rip, this.relativeTarget(counts));
    f.break(this.flags.leaveUnsettled() ? region.searching : region.searchingUnsettled);
  }

  /** Leaves with the budget used up, to go on at an address. */
  private leaveFor(target: I64): void {
    this.setField64(Field.RIP, target);
    this.setField32(Field.LINK_FROM, i32.const(0));
    this.leave(i32.const(Leave.BUDGET));
  }

  /** The guess was made when the region was. */
  override noteTarget(): void {}

  override jumpTo(target: I64): void {
    const { f, region, guesses } = this;
    region.writeBack();
    f.set(region.rip, target);
    this.setBudget(this.budgetAfter(1));
    if (guesses.length > 0) {
      f.if(region.tired(), () => this.leaveFor(region.rip));
      const position = f.let(i64.sub(region.rip, region.codeBase));
      this.guess(position, guesses);
    }
    f.set(region.from, i32.const(0));
    f.break(this.flags.leaveUnsettled() ? region.searching : region.searchingUnsettled);
  }

  /** Compares with the middle one, and so on. */
  private guess(position: I64, guesses: Guess[]): void {
    const { f } = this;
    if (guesses.length <= 2) {
      for (const guess of guesses) f.if(i64.eq(position, guess.position), () => guess.jump());
      return;
    }
    const middle = guesses.length >> 1;
    f.if(
      i64.lt_u(position, guesses[middle].position),
      () => this.guess(position, guesses.slice(0, middle)),
      () => this.guess(position, guesses.slice(middle)),
    );
  }

  // ---- What holds for the rest of the block -----------------------------------------------------------------

  override once(what: string, work: () => void): void {
    if (this.region.holds(what)) return;
    work();
    this.region.nowHolds(what);
  }

  override remembered(what: 'fast floats', condition: I32): I32 {
    const { f, region } = this;
    if (!region.holds(what)) {
      f.set(region.fastFloats, condition);
      region.nowHolds(what);
    }
    return region.holds(what) ? region.fastFloats : condition;
  }
  override forget(what: 'fast floats'): void {
    this.region.forget(what);
  }

  // ---- Memory -------------------------------------------------------------------------------------------

  /** Offsets that are a constant distance from a register. */
  private readonly places = new Map<I64, Place>();

  override offset(): I64 {
    const { region, form, offsetCache } = this;
    if (offsetCache !== undefined) return offsetCache;
    const offset = super.offset();
    const base = this.slotNumber(Record.BASE);
    const flat = form.addressing === Addressing.FLAT32 && this.slotNumber(Record.INDEX) === Slot.ZERO;
    const segment = this.slotNumber(Record.SEGMENT_SLOT) - Slot.SEGMENT_BASE;
    const near = (flat && segment < SegmentIndex.FS) || form.addressing === Addressing.BASE;
    if (near && isBase(base)) {
      this.places.set(offset, region.windows.place(base, this.word(Record.DISPLACEMENT)));
    }
    return offset;
  }

  private slotNumber(field: number): number {
    return this.recordByte(field).small! >> 3;
  }

  protected override noteStack(offset: I64, distance: number): void {
    const { checked, stackSize } = this.form;
    if (checked || stackSize === 16) return;
    this.places.set(offset, this.region.windows.place(STACK_POINTER, distance));
  }

  protected override moveStack(bytes: number, change: () => void): void {
    if (this.form.stackSize === 16) change();
    else this.region.windows.move(STACK_POINTER, bytes, change);
  }

  /** Where the translation table has the address; else the handler does the instruction, and fills the table. */
  private hostOf(offset: I64, bytes: number, segment: SegmentChoice, writing: boolean): I32 {
    const { f, region } = this;
    const place = this.places.get(offset);
    const known = place === undefined ? undefined : region.windows.find(place, bytes, writing);
    if (known !== undefined) return known;
    const linear = f.let(this.linear(offset, bytes, segment, writing));
    region.writeBack();
    if (place !== undefined) {
      const missed = (): void => {
        f.set(region.head, i32.const(region.blockHead));
        f.set(region.target, this.d);
        f.break(region.leaving);
      };
      const opened = region.windows.openAt(this.tlb, place, linear, bytes, writing, missed);
      if (opened !== undefined) return opened;
    }
    const entry = this.tlbEntry(linear, writing ? Field.TLB_WRITE : Field.TLB_READ);
    f.if(i32.eqz(tlbHit(this.tlb, entry, linear, bytes)), () => this.handOver());
    return f.let(this.tlb.host(entry, linear));
  }

  override readable(offset: I64, bytes: number, segment: SegmentChoice): I32 {
    return this.hostOf(offset, bytes, segment, false);
  }
  protected override writable(
    offset: I64,
    bytes: number,
    segment: SegmentChoice,
    put: (at: I32, atOffset: number) => void,
  ): void {
    put(this.hostOf(offset, bytes, segment, true), 0);
  }
  override modify(offset: I64, bytes: number, segment: SegmentChoice): { host: I32; commit: () => void } {
    return { host: this.hostOf(offset, bytes, segment, true), commit: () => undefined };
  }

  /** After the instruction. */
  finish(): void {
    this.flags.finish();
  }
}
