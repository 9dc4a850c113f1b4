import { Emitter, type Callees } from '../generate/emitter.ts';
import type { Form } from '../generate/form.ts';
import { FixedHandler } from '../generate/handlers.ts';
import { Field, Leave, Record } from '../state.ts';
import { i32, i64, type I32, type I64, type Local } from '../wasm/expression.ts';
import type { FunctionBuilder } from '../wasm/module.ts';

/**
 * The same semantics with everything that the record holds as constants: registers become fixed places in the
 * vCPU's block, displacements and immediates become operands, and the next instruction simply follows.
 */
export class TranslationEmitter extends Emitter {
  private readonly words: Int32Array;
  private readonly record: number;
  /** Address of the block's first record: its handler tells whether the block was dropped. */
  private readonly first: number;
  /** Set when a store dropped this very block. */
  private readonly stale: Local<'i32'>;
  private storesSlowly = false;

  constructor(
    f: FunctionBuilder,
    form: Form,
    callees: Callees,
    words: Int32Array,
    record: number,
    first: number,
    stale: Local<'i32'>,
  ) {
    super(f, form, callees, i32.const(record));
    this.words = words;
    this.record = record;
    this.first = first;
    this.stale = stale;
  }

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
    const low = BigInt.asUintN(32, BigInt(this.word(field)));
    return i64.const((BigInt(this.word(field + 4)) << 32n) | low);
  }
  protected override recordPosition(): I32 {
    return i32.const(this.word(Record.POSITION) & 0xffff);
  }

  /** The next instruction's code follows. */
  override next(): void {}

  protected override wroteSlowly(): void {
    this.storesSlowly = true;
    const dropped = i32.eq(i32.load(i32.const(this.first), Record.HANDLER), FixedHandler.STALE);
    this.f.set(this.stale, dropped);
  }

  /** After the instruction: leaves when it has written over the code of this block. */
  finish(next: number): void {
    if (!this.storesSlowly) return;
    this.f.if(this.stale, () => {
      this.setField32(Field.CURRENT, i32.const(next));
      this.f.return(i32.const(Leave.STALE));
    });
  }
}
