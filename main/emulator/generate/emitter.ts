import { OperandKind } from '../instruction.ts';
import { Field, Leave, Record, Slot } from '../state.ts';
import {
  atomic,
  i32,
  i64,
  select,
  v128,
  type I32,
  type I64,
  type Local,
  type V128,
} from '../wasm/expression.ts';
import { call, type FunctionBuilder, type FunctionReference } from '../wasm/module.ts';
import { cut, extend, loadBits } from './bits.ts';
import { Flags } from './flags.ts';
import { Addressing, Context, type Form } from './form.ts';
import { headAt, setCodeBase } from './jump-cache.ts';
import { HANDLER } from './runtime.ts';
import { tlbFor, tlbHit, type TlbProbe } from './tlb.ts';

/** A segment of an access: a fixed one (0-5), or the instruction's memory operand's. */
export type SegmentChoice = number | 'operand';

/** A place among the slots, as a byte offset: that of a slot, or one more for AH, CH, DH and BH. */
export type SlotPlace = number | I32;

function placeOf(byte: I32): SlotPlace {
  return byte.small ?? byte;
}

/** The functions that a handler can call: services (runtime.ts) and library routines, by name. */
export type Callees = (name: string) => FunctionReference;

/**
 * What an instruction's semantics is written in: operands, memory, flags and control flow, as statements of
 * the function under construction. This one takes registers, displacements and immediates from the decoded
 * record, which makes the interpreter's handlers.
 *
 * Values of operands are 64-bit and zero-extended from their size; values that are written may have anything
 * above it. Reads come back bound to locals, so later writes do not change them. Whatever can fault comes
 * before whatever commits.
 */
export class Emitter {
  readonly f: FunctionBuilder;
  readonly form: Form;
  /** Address of the vCPU's block. */
  readonly s: Local<'i32'>;
  /** Address of the decoded record. */
  readonly d: I32;
  /** The arithmetic flags. */
  readonly flags: Flags;
  /** How translation tables are looked into. */
  readonly tlb: TlbProbe;
  private readonly callees: Callees;
  protected offsetCache: I64 | undefined;

  constructor(
    f: FunctionBuilder,
    form: Form,
    callees: Callees,
    record?: I32,
    makeFlags: (c: Emitter) => Flags = (c) => new Flags(c),
  ) {
    this.f = f;
    this.form = form;
    this.tlb = tlbFor(form.codeSize);
    this.callees = callees;
    this.s = f.parameter('i32', 0);
    this.d = record ?? f.parameter('i32', 1);
    this.flags = makeFlags(this);
  }

  // ---- State fields -------------------------------------------------------------------------------------

  field32(offset: number): I32 {
    return i32.load(this.s, offset);
  }
  field64(offset: number): I64 {
    return i64.load(this.s, offset);
  }
  setField32(offset: number, value: I32): void {
    this.f.store32(this.s, value, offset);
  }
  setField64(offset: number, value: I64): void {
    this.f.store64(this.s, value, offset);
  }

  // ---- The record: here what memory holds, for translations constants -------------------------------------

  /** A byte of the record, zero-extended. */
  protected recordByte(field: number): I32 {
    return i32.load8_u(this.d, field);
  }
  protected record32(field: number): I32 {
    return i32.load(this.d, field);
  }
  protected record64(field: number): I64 {
    return i64.load(this.d, field);
  }
  /** The instruction's offset in its page. */
  protected recordPosition(): I32 {
    return i32.load16_u(this.d, Record.POSITION);
  }
  /** The 64-bit slot that a byte of the record names by its offset. */
  private slot(field: number): I64 {
    return this.loadSlot(placeOf(this.recordByte(field)), 64);
  }

  // ---- Registers ----------------------------------------------------------------------------------------

  /** A general register by number. `bits`: 8 (low byte), 16, 32, 64. */
  gpr(index: number, bits = 64): I64 {
    return this.f.let(this.loadSlot(8 * index, bits));
  }
  setGpr(index: number, bits: number, value: I64): void {
    this.storeSlot(8 * index, bits, value);
  }
  /** AH, CH, DH, BH. */
  highByte(index: number): I64 {
    return this.f.let(this.loadSlot(8 * index + 1, 8));
  }
  setHighByte(index: number, value: I64): void {
    this.storeSlot(8 * index + 1, 8, value);
  }

  /** The low `bits` at a place among the slots, zero-extended. */
  protected loadSlot(place: SlotPlace, bits: number): I64 {
    return typeof place === 'number'
      ? loadBits(bits, this.s, place + Field.SLOTS)
      : loadBits(bits, i32.add(this.s, place), Field.SLOTS);
  }

  /** Writes the low `bits` there. A 32-bit result clears the upper half (SDM vol. 1, 3.4.1.1); others keep it. */
  protected storeSlot(place: SlotPlace, bits: number, value: I64): void {
    const base = typeof place === 'number' ? this.s : i32.add(this.s, place);
    const offset = typeof place === 'number' ? place + Field.SLOTS : Field.SLOTS;
    if (bits === 32) this.f.store64(base, i64.and(value, 0xffffffff), offset);
    else this.f.storeBits(bits, base, value, offset);
  }

  /** Address of the register that operand n names, relative to the slots. */
  registerAddress(n: number): I32 {
    return i32.add(this.s, this.recordByte(Record.REGISTER + n));
  }

  /** The number of a register that is no general one, of operand n. */
  registerNumber(n: number): I32 {
    return this.recordByte(Record.REGISTER + n);
  }

  // ---- Operands -----------------------------------------------------------------------------------------

  /** The value of operand n (general register, memory, immediate), zero-extended from its size. */
  read(n: number): I64 {
    const { kind, size } = this.form.operands[n];
    switch (kind) {
      case OperandKind.GPR:
        return this.register(n, size);
      case OperandKind.MEM:
        return this.load(this.offset(), size, 'operand');
      case OperandKind.IMM:
        return this.immediate(size);
      default:
        throw new Error(`${this.form.mnemonic}: operand ${n} of kind ${kind} is not an integer`);
    }
  }

  private register(n: number, size: number): I64 {
    return this.f.let(this.loadSlot(placeOf(this.recordByte(Record.REGISTER + n)), size));
  }

  /** Writes operand n (general register or memory). */
  write(n: number, value: I64): void {
    const { kind, size } = this.form.operands[n];
    if (kind === OperandKind.GPR) {
      this.storeSlot(placeOf(this.recordByte(Record.REGISTER + n)), size, value);
    } else this.store(this.offset(), size, value, 'operand');
  }

  /**
   * Binds what an operation on operands of `bits` gives. Above them may be anything; but 32 are cut at once, for then they
   * are all that is computed.
   */
  bind(bits: number, value: I64): I64 {
    return this.f.let(bits === 32 ? cut(32, value) : value);
  }

  /** The immediate, cut to `bits` (it is stored sign- or zero-extended as the instruction defines). */
  immediate(bits = 64): I64 {
    const value = this.record64(Record.IMMEDIATE);
    return this.f.let(cut(bits, value));
  }
  /** The second immediate (32 bits), for instructions that do not jump. */
  immediate2(): I32 {
    return this.f.let(this.record32(Record.LINK));
  }

  /**
   * Replaces operand n by what `compute` makes of it: probes for writing first, so that a fault has no effect.
   * With a LOCK prefix on memory, `locked` (the value to combine) and an atomic operation may be given instead.
   */
  update(n: number, compute: (old: I64) => I64): void {
    const { kind, size } = this.form.operands[n];
    if (kind === OperandKind.GPR) {
      const place = placeOf(this.f.let(this.recordByte(Record.REGISTER + n)));
      const old = this.f.let(this.loadSlot(place, size));
      this.storeSlot(place, size, compute(old));
      return;
    }
    this.updateMemory(this.offset(), size, this.form.lock, compute);
  }

  /** The same for memory at an offset in the operand's segment. */
  updateMemory(offset: I64, size: number, locked: boolean, compute: (old: I64) => I64): void {
    const { host, commit } = this.modify(offset, size / 8, 'operand');
    if (!locked) {
      const old = this.f.let(loadBits(size, host, 0));
      this.f.storeBits(size, host, compute(old));
      commit();
      return;
    }
    this.updateLocked(host, size, compute);
    commit();
  }

  /**
   * A read-modify-write that other vCPUs see as one: compare-exchange until it holds. Atomics need alignment;
   * an unaligned locked access is done plainly, as no guest we know relies on split locks between vCPUs.
   */
  private updateLocked(host: I32, size: number, compute: (old: I64) => I64): void {
    const f = this.f;
    const bits = size as 8 | 16 | 32 | 64;
    const old = f.local('i64');
    f.loop((again) => {
      f.set(old, loadBits(size, host, 0));
      const value = f.let(cut(size, compute(old)));
      const store = (): void => {
        f.breakIf(again, i64.ne(atomic.compareExchange[bits](host, old, value), old));
      };
      if (size === 8) store();
      else {
        f.if(i32.and(host, size / 8 - 1), () => f.storeBits(size, host, value), store);
      }
    });
  }

  // ---- The stack ----------------------------------------------------------------------------------------

  /** RSP, ESP or SP. */
  stackPointer(): I64 {
    return this.gpr(4, this.form.stackSize);
  }
  setStackPointer(value: I64): void {
    this.setGpr(4, this.form.stackSize, value);
  }
  /** Pushes the low `bits` of a value; the stack pointer changes only when the store succeeded. */
  push(bits: number, value: I64): void {
    const top = this.f.let(cut(this.form.stackSize, i64.sub(this.stackPointer(), bits / 8)));
    this.noteStack(top, -bits / 8);
    this.store(top, bits, value, 2);
    this.moveStack(-bits / 8, () => this.setStackPointer(top));
  }
  /** What is on top of the stack, `skip` bytes below the top. */
  peek(bits: number, skip = 0): I64 {
    const top = this.stackPointer();
    const at = skip === 0 ? top : this.f.let(cut(this.form.stackSize, i64.add(top, skip)));
    this.noteStack(at, skip);
    return this.load(at, bits, 2);
  }
  /** Takes `bytes` off the stack. */
  drop(bytes: number | I64): void {
    const value = i64.add(this.stackPointer(), typeof bytes === 'number' ? i64.const(bytes) : bytes);
    if (typeof bytes === 'number') this.moveStack(bytes, () => this.setStackPointer(value));
    else this.setStackPointer(value);
  }
  /** An offset is so many bytes from the top of the stack. */
  protected noteStack(_offset: I64, _distance: number): void {}
  /** `change` moves the stack pointer by so many bytes. */
  protected moveStack(_bytes: number, change: () => void): void {
    change();
  }

  // ---- Addresses ----------------------------------------------------------------------------------------

  /** The effective address of the memory operand (offset in its segment), computed once. */
  offset(): I64 {
    this.offsetCache ??= this.f.let(this.effectiveAddress());
    return this.offsetCache;
  }

  private effectiveAddress(): I64 {
    const displacement = i64.extend_s(this.record32(Record.DISPLACEMENT));
    const base = this.plus(this.slot(Record.BASE), displacement);
    if (this.form.addressing === Addressing.BASE) return base;
    const scaled = i64.shl(this.slot(Record.INDEX), i64.extend_u(this.recordByte(Record.SCALE)));
    return cut(this.form.addressSize, i64.add(base, scaled));
  }

  private plus(a: I64, b: I64): I64 {
    return b.small === 0 ? a : i64.add(a, b);
  }

  /** Linear address of an offset in a segment, with the checks that the form asks for. May leave with a fault. */
  linear(offset: I64, bytes: number, segment: SegmentChoice, writing: boolean): I64 {
    const { addressing, codeSize, checked } = this.form;
    const operand = segment === 'operand';
    if (operand ? addressing === Addressing.CHECKED : checked) {
      return this.checkedLinear(offset, bytes, segment, writing);
    }
    const recordBase = (): I64 => this.slot(Record.SEGMENT_SLOT);
    if (operand) {
      if (addressing === Addressing.BASE) return offset;
      const base = recordBase();
      if (base.small === 0) return offset;
      const sum = i64.add(offset, base);
      return this.f.let(addressing === Addressing.FLAT32 ? cut(32, sum) : sum);
    }
    if (codeSize === 64) {
      return segment >= 4 ? this.f.let(i64.add(offset, this.segmentBase(segment))) : offset;
    }
    return segment >= 4 ? this.f.let(cut(32, i64.add(offset, this.segmentBase(segment)))) : offset;
  }

  segmentBase(segment: number): I64 {
    return this.field64(Field.SLOTS + 8 * (Slot.SEGMENT_BASE + segment));
  }

  private checkedLinear(offset: I64, bytes: number, segment: SegmentChoice, writing: boolean): I64 {
    const f = this.f;
    const operand = segment === 'operand';
    const base = operand ? this.slot(Record.SEGMENT_SLOT) : this.segmentBase(segment);
    const linear = f.local('i64');
    if (this.form.codeSize === 64) f.set(linear, i64.add(offset, base));
    else {
      const number = operand ? this.recordByte(Record.SEGMENT) : i32.const(segment);
      const part = f.let(i32.add(this.s, i32.mul(number, 48)));
      const low = i64.load32_u(part, Field.SEGMENTS + (writing ? 24 : 16));
      const high = i64.load32_u(part, Field.SEGMENTS + (writing ? 28 : 20));
      const outside = i32.or(i64.lt_u(offset, low), i64.gt_u(i64.add(offset, bytes - 1), high));
      f.if(outside, () => {
        // SDM vol. 3, 6.15: the stack segment's violations are #SS, all others #GP.
        this.raise(select(i32.eq(number, 2), i32.const(12), i32.const(13)), i32.const(0));
      });
      f.set(linear, cut(32, i64.add(offset, base)));
    }
    // 80-bit operands are aligned to 8 bytes. An address that is not canonical has its own fault, later.
    const alignment = bytes === 10 ? 8 : bytes;
    if (alignment > 1 && (alignment & (alignment - 1)) === 0) {
      const low = i32.and(i32.wrap(linear), alignment - 1);
      const isCanonical = (address: I64): I32 => i64.eq(i64.shr_s(i64.shl(address, 16), 16), address);
      const last = f.let(i64.add(linear, bytes - 1));
      const canonical = i32.and(isCanonical(linear), isCanonical(last));
      const misaligned = i32.and(i32.ne(i32.and(low, this.field32(Field.ALIGNMENT_MASK)), 0), canonical);
      f.if(misaligned, () => this.raise(i32.const(17), i32.const(0)));
    }
    return linear;
  }

  // ---- Memory -------------------------------------------------------------------------------------------

  /** Loads `bits` (8-64) at an offset in a segment, zero-extended. */
  load(offset: I64, bits: number, segment: SegmentChoice): I64 {
    return this.f.let(loadBits(bits, this.readable(offset, bits / 8, segment), 0));
  }

  /** Stores the low `bits` of a value. */
  store(offset: I64, bits: number, value: I64, segment: SegmentChoice): void {
    const bound = this.f.let(value);
    this.writable(offset, bits / 8, segment, (at, atOffset) => this.f.storeBits(bits, at, bound, atOffset));
  }

  loadVector(offset: I64, segment: SegmentChoice): V128 {
    return this.f.let(v128.load(this.readable(offset, 16, segment)));
  }

  storeVector(offset: I64, value: V128, segment: SegmentChoice): void {
    const bound = this.f.let(value);
    this.writable(offset, 16, segment, (at, atOffset) => this.f.storeV128(at, bound, atOffset));
  }

  /** A host address at which `bytes` (at most 64) can be read. */
  readable(offset: I64, bytes: number, segment: SegmentChoice): I32 {
    const f = this.f;
    const linear = f.let(this.linear(offset, bytes, segment, false));
    const host = f.local('i32');
    const entry = this.tlbEntry(linear, Field.TLB_READ);
    f.if(
      tlbHit(this.tlb, entry, linear, bytes),
      () => f.set(host, this.tlb.host(entry, linear)),
      () => {
        this.prepareSlow(linear, segment);
        f.set(host, call(this.callees('readSlow'), 'i32', this.s, i32.const(bytes)));
        f.if(i32.eqz(host), () => this.leave(this.field32(Field.LEAVE)));
      },
    );
    return host;
  }

  /** Writes `bytes` (at most 16) by `put(address, offset)`. */
  protected writable(
    offset: I64,
    bytes: number,
    segment: SegmentChoice,
    put: (at: I32, atOffset: number) => void,
  ): void {
    const f = this.f;
    const linear = f.let(this.linear(offset, bytes, segment, true));
    const entry = this.tlbEntry(linear, Field.TLB_WRITE);
    f.if(
      tlbHit(this.tlb, entry, linear, bytes),
      () => put(this.tlb.host(entry, linear), 0),
      () => {
        this.prepareSlow(linear, segment);
        put(this.s, Field.ACCESS_DATA);
        f.if(i32.eqz(call(this.callees('writeSlow'), 'i32', this.s, i32.const(bytes))), () =>
          this.leave(this.field32(Field.LEAVE)),
        );
      },
    );
  }

  /** A host address at which `bytes` (at most 64) can be read and written; `commit()` must follow the write. */
  modify(offset: I64, bytes: number, segment: SegmentChoice): { host: I32; commit: () => void } {
    const f = this.f;
    const linear = f.let(this.linear(offset, bytes, segment, true));
    const host = f.local('i32');
    const slow = f.local('i32');
    const entry = this.tlbEntry(linear, Field.TLB_WRITE);
    f.if(
      tlbHit(this.tlb, entry, linear, bytes),
      () => {
        f.set(host, this.tlb.host(entry, linear));
        f.set(slow, i32.const(0));
      },
      () => {
        this.prepareSlow(linear, segment);
        f.set(host, call(this.callees('modifySlow'), 'i32', this.s, i32.const(bytes)));
        f.if(i32.eqz(host), () => this.leave(this.field32(Field.LEAVE)));
        f.set(slow, i32.const(1));
      },
    );
    return {
      host,
      commit: () => f.if(slow, () => f.call(this.callees('modifyCommit'), this.s, i32.const(bytes))),
    };
  }

  /** The entry for an address in the current translation table: `table` is Field.TLB_READ or TLB_WRITE. */
  tlbEntry(linear: I64, table: number): I32 {
    return this.tlb.entryIn(this.f, linear, this.tableAddress(table));
  }

  /** Address of the current translation table: `table` is Field.TLB_READ or TLB_WRITE. */
  protected tableAddress(table: number): I32 {
    return this.field32(table);
  }
  /** Changes to another table. */
  setTable(table: number, address: I32): void {
    this.setField32(table, address);
  }

  private prepareSlow(linear: I64, segment: SegmentChoice): void {
    this.setField64(Field.ACCESS_ADDRESS, linear);
    this.setField32(
      Field.ACCESS_SEGMENT,
      segment === 'operand' ? this.recordByte(Record.SEGMENT) : i32.const(segment),
    );
    this.setField32(Field.CURRENT, this.d);
  }

  // ---- Vector operands ----------------------------------------------------------------------------------

  /** The 128 bits of operand n: an XMM register, or memory, which must be aligned unless `unaligned`. */
  readVector(n: number, unaligned = false): V128 {
    if (this.form.operands[n].kind === OperandKind.XMM) {
      return this.f.let(v128.load(this.registerAddress(n), Field.XMM));
    }
    if (!unaligned) this.requireAligned16();
    return this.loadVector(this.offset(), 'operand');
  }

  writeVector(n: number, value: V128, unaligned = false): void {
    if (this.form.operands[n].kind === OperandKind.XMM) {
      this.f.storeV128(this.registerAddress(n), value, Field.XMM);
      return;
    }
    if (!unaligned) this.requireAligned16();
    this.storeVector(this.offset(), value, 'operand');
  }

  /** #GP(0) unless the linear address of the memory operand is a multiple of 16 (SDM vol. 2, 2.4). */
  requireAligned16(): void {
    const linear = this.linear(this.offset(), 1, 'operand', false);
    this.f.if(i32.and(i32.wrap(linear), 15), () => this.raise(i32.const(13), i32.const(0)));
  }

  // ---- Leaving ------------------------------------------------------------------------------------------

  /** Ends with an exception at this instruction. `error` is pushed for the vectors that have one. */
  raise(vector: I32, error: I32 = i32.const(0)): void {
    this.setField32(Field.FAULT_VECTOR, vector);
    this.setField32(Field.FAULT_ERROR, error);
    this.setField32(Field.CURRENT, this.d);
    this.leave(i32.const(Leave.FAULT));
  }

  /** Goes back to the run loop with a Leave code. */
  protected leave(code: I32): void {
    this.f.return(code);
  }

  /** #GP(0) outside CPL 0. */
  requireKernel(): void {
    this.f.if(this.field32(Field.CPL), () => this.raise(i32.const(13)));
  }

  /** #UD in real and virtual-8086 mode. */
  requireProtected(): void {
    const real = i32.eqz(i32.and(this.field32(Field.CR0), 1));
    const virtual = i32.and(this.field32(Field.EFLAGS), 0x20000);
    this.f.if(i32.or(real, virtual), () => this.raise(i32.const(6)));
  }

  /** Makes the next instruction run in an interrupt shadow (STI, loads of SS). */
  castShadow(): void {
    const after = i32.sub(this.budget(), i32.add(this.recordByte(Record.NUMBER), 1));
    this.setField32(Field.SHADOW_AT, after);
  }

  /** Calls a TypeScript helper by number; goes on when it says so, else leaves. */
  helper(number: number): void {
    const result = this.f.let(call(this.callees('helper'), 'i32', this.s, this.d, i32.const(number)));
    this.f.if(result, () => this.leave(result));
  }

  /**
   * The same for a helper that may change RIP, the mode or the exits that are armed: the block ends with it, and goes on
   * at RIP unless the run loop has something to look at.
   */
  endWithHelper(number: number): void {
    const result = this.f.let(call(this.callees('ending'), 'i32', this.s, this.d, i32.const(number)));
    this.f.if(result, () => this.leave(result));
    const rip = this.f.let(this.field64(Field.RIP));
    const is64 = i32.eq(i32.and(this.field32(Field.CONTEXT), Context.CODE_MASK), Context.CODE_64);
    this.jumpThroughCache(rip, select(is64, rip, cut(32, i64.add(rip, this.segmentBase(1)))));
  }

  /**
   * Does what holds until the block ends once it was done, like a check that is passed: here each time, for who comes in
   * the middle of a block.
   */
  once(_what: string, work: () => void): void {
    work();
  }

  /**
   * A condition that is not worse later in the block, unless that forgets it: here it is looked at each time. What asks
   * must be right with `false`, too.
   */
  remembered(_what: 'fast floats', condition: I32): I32 {
    return condition;
  }
  forget(_what: 'fast floats'): void {}

  /** A library routine or service by name. */
  callee(name: string): FunctionReference {
    return this.callees(name);
  }
  /** A library routine or service with a result. */
  call<T extends 'i32' | 'i64' | 'f64' | 'f32' | 'v128'>(
    name: string,
    type: T,
    ...operands: Parameters<typeof call>[2][]
  ) {
    return this.f.let(call(this.callees(name), type, ...operands));
  }
  callVoid(name: string, ...operands: Parameters<typeof call>[2][]): void {
    this.f.call(this.callees(name), ...operands);
  }

  // ---- Control flow -------------------------------------------------------------------------------------

  /** Goes on with the next instruction of the block. */
  next(): void {
    const following = this.f.let(i32.add(this.d, Record.SIZE));
    this.f.returnCallIndirect(HANDLER, i32.load(following, Record.HANDLER), this.s, following);
  }

  /** RIP of this instruction, not cut. */
  rip(): I64 {
    return this.plus(this.codeBase(), i64.extend_u(this.recordPosition()));
  }
  protected codeBase(): I64 {
    return this.field64(Field.SLOTS + 8 * Slot.CODE_BASE);
  }
  /** RIP of the next instruction, cut to the code size. */
  nextRip(): I64 {
    return this.f.let(this.cutRip(i64.add(this.rip(), i64.extend_u(this.recordByte(Record.LENGTH)))));
  }

  private cutRip(value: I64): I64 {
    return this.form.codeSize === 64 ? value : cut(32, value);
  }

  /** Instructions that may be run before the run loop looks around, as of the start of the block. */
  protected budget(): I32 {
    return this.field32(Field.BUDGET);
  }
  protected setBudget(value: I32): void {
    this.setField32(Field.BUDGET, value);
  }

  /** The budget as of this instruction. */
  budgetBefore(): I32 {
    return this.budgetAfter(0);
  }

  protected budgetAfter(self: number): I32 {
    return i32.sub(this.budget(), i32.add(this.recordByte(Record.NUMBER), self));
  }

  /** Whether more instructions may be run after this one before the run loop looks around. */
  goesOn(): I32 {
    return i32.ge_s(i32.or(this.budgetAfter(1), this.field32(Field.PENDING)), 0);
  }

  /** Takes instructions off the budget: those of the block up to and with this one (`self` = 1) or before it (0). */
  protected retire(self: number): I32 {
    const left = this.f.let(this.budgetAfter(self));
    this.setBudget(left);
    return i32.lt_s(i32.or(left, this.field32(Field.PENDING)), 0);
  }

  /**
   * Ends the block with a jump to RIP + immediate, through the link when it is known. `counts` is 0 for the
   * record that only joins two blocks.
   */
  jumpRelative(counts = 1): void {
    const f = this.f;
    const tired = f.let(this.retire(counts));
    const link = f.let(i32.load(this.d, Record.LINK));
    f.if(i32.and(i32.ne(link, 0), i32.eqz(tired)), () =>
      f.returnCallIndirect(HANDLER, i32.load(link, Record.HANDLER), this.s, link),
    );
    this.setField64(Field.RIP, this.relativeTarget(counts));
    this.setField32(Field.LINK_FROM, this.d);
    f.if(tired, () => f.return(i32.const(Leave.BUDGET)));
    this.lookup();
  }

  /** Where jumpRelative(counts) goes. */
  protected relativeTarget(counts: number): I64 {
    const next = i64.add(this.rip(), i64.extend_u(this.recordByte(Record.LENGTH)));
    const size = counts === 0 ? this.form.codeSize : this.branchSize();
    return cut(size, i64.add(next, this.record64(Record.IMMEDIATE)));
  }

  /** Bits of a near branch target: always 64 in 64-bit code, else the operand size. */
  branchSize(): number {
    return this.form.codeSize === 64 ? 64 : this.form.operandSize;
  }

  /** Takes note of where an indirect call goes: the next region guesses that it does again. */
  noteTarget(target: I64): void {
    const position = i32.wrap(i64.sub(target, this.codeBase()));
    this.f.store32(this.d, i32.add(position, 1), Record.LINK);
  }

  /** Ends the block with a jump to an address (already cut and checked). */
  jumpTo(target: I64): void {
    this.setField64(Field.RIP, target);
    this.setField32(Field.LINK_FROM, i32.const(0));
    this.f.if(this.retire(1), () => this.leave(i32.const(Leave.BUDGET)));
    this.lookup();
  }

  /** Ends the block here: RIP is the next instruction's, and the run loop looks around. */
  leaveRetired(): void {
    this.setField64(Field.RIP, this.nextRip());
    this.setField32(Field.LINK_FROM, i32.const(0));
    this.f.do(this.retire(1));
    this.leave(i32.const(Leave.RETIRED));
  }

  /** Leaves in the middle of a repeated instruction, to come back to it: registers hold the progress. */
  leaveUnretired(): void {
    this.setField64(Field.RIP, this.cutRip(this.rip()));
    this.setField32(Field.LINK_FROM, i32.const(0));
    this.f.do(this.retire(0));
    this.leave(i32.const(Leave.BUDGET));
  }

  /** #GP(0) when a 64-bit branch target is not canonical; `first` may find other faults then. */
  requireCanonical(target: I64, first?: () => void): void {
    if (this.branchSize() !== 64) return;
    this.f.if(i64.ne(i64.shr_s(i64.shl(target, 16), 16), target), () => {
      first?.();
      this.raise(i32.const(13));
    });
  }

  /** Continues at RIP: through the jump cache, or by way of the run loop. */
  protected lookup(): void {
    const f = this.f;
    const rip = f.let(this.field64(Field.RIP));
    this.jumpThroughCache(rip, this.form.codeSize === 64 ? rip : cut(32, i64.add(rip, this.segmentBase(1))));
  }

  private jumpThroughCache(rip: I64, address: I64): void {
    const f = this.f;
    const linear = f.let(address);
    const head = headAt(f, this.s, this.callees, linear, () => {
      const found = f.let(call(this.callees('find'), 'i32', this.s));
      f.if(i32.eqz(found), () => f.return(i32.const(Leave.LOOKUP)));
      f.returnCallIndirect(HANDLER, i32.load(found, Record.HANDLER), this.s, found);
    });
    setCodeBase(f, this.s, rip, linear);
    f.returnCallIndirect(HANDLER, i32.load(head, Record.HANDLER), this.s, head);
  }
}

export { cut, extend, loadBits };
