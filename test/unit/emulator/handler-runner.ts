import { Decoder } from '../../../main/emulator/decoder/decoder.ts';
import { Cpu } from '../../../main/emulator/cpu.ts';
import { Context } from '../../../main/emulator/generate/form.ts';
import { FixedHandler, Handlers } from '../../../main/emulator/generate/handlers.ts';
import type { SemanticsGroup } from '../../../main/emulator/generate/semantics.ts';
import {
  DecodeStatus,
  Instruction,
  NO_REGISTER,
  OperandKind,
  RIP_BASE,
  type Operand,
} from '../../../main/emulator/instruction.ts';
import {
  Area,
  Field,
  Leave,
  Record,
  Slot,
  TLB_ENTRIES,
  TLB_ENTRY,
  TlbKind,
  tlbOffset,
} from '../../../main/emulator/state.ts';
import {
  CODE,
  CODE_SIZE,
  Fxsave,
  PATTERN,
  ResultBuilder,
  WINDOW,
  WINDOW_SIZE,
  WINDOW_WRITABLE,
  type Case,
  type CaseRunner,
  type Result,
} from '../../differential/case.ts';
import { hostVendor } from '../../differential/vendor.ts';

/**
 * Runs the differential test's cases by the handlers alone: straight code of one group of instructions, with a
 * page table that is three comparisons and without the run loop. For tests of semantics groups on their own.
 */

const S = 0x10000;
const RECORDS = S + Area.RECORDS;
/** The rest of the memory is behind room for the records of one case. */
const WINDOW_AT = (RECORDS & ~0xffff) + 0x20000;
const CODE_AT = WINDOW_AT + 0x10000;
const MEMORY_PAGES = CODE_AT / 0x10000 + 1;
const PAGE = 4096;
const PAGE_FAULT = 14;
/** User mode, instruction fetch. */
const FETCH_ERROR = 0x14;
const CR4_SSE = 0x600;
const AC = 0x40000;
const FLAT = Context.CODE_64 | Context.FLAT | Context.FLAT_FS | Context.FLAT_GS | Context.STACK_32;
const ALIGNMENT = FLAT | Context.ALIGNMENT;
/** What FXSAVE stores of the last x87 instruction: AMD's processors only what a pending exception needs. */
const POINTERS_ALWAYS = hostVendor === 'intel';

export class HandlerRunner implements CaseRunner {
  readonly name = 'handlers';
  readonly memory = new WebAssembly.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES, shared: true });
  readonly cpu = new Cpu(this.memory, S);
  private readonly bytes = new Uint8Array(this.memory.buffer);
  private readonly view = new DataView(this.memory.buffer);
  private readonly decoder: Decoder;
  private readonly instruction = new Instruction();
  private readonly handlers: Handlers;
  private cr2 = 0n;
  /** The code runs off the end of its pages. */
  private runsOff = false;

  constructor(groups: readonly SemanticsGroup[], features: ReadonlySet<string>) {
    this.decoder = new Decoder(features);
    const services = {
      readSlow: (_s: number, bytes: number) => this.access(bytes, false),
      writeSlow: (_s: number, bytes: number) => this.writeSlow(bytes),
      modifySlow: (_s: number, bytes: number) => this.access(bytes, true),
      modifyCommit: () => undefined,
      ending: () => {
        throw new Error('no helpers here');
      },
      helper: () => {
        throw new Error('a helper was called');
      },
      missed: () => undefined,
      clock: () => undefined,
      find: () => 0,
    };
    this.handlers = new Handlers(this.memory, services, groups);
    for (const kind of [TlbKind.READ, TlbKind.WRITE]) {
      const table = S + tlbOffset(0, kind);
      for (let i = 0; i < TLB_ENTRIES; i++) this.view.setBigUint64(table + i * TLB_ENTRY, 1n, true);
      const size = kind === TlbKind.READ ? WINDOW_SIZE : WINDOW_WRITABLE;
      for (let at = 0; at < size; at += PAGE) {
        const entry = table + (((WINDOW + at) / PAGE) % TLB_ENTRIES) * TLB_ENTRY;
        this.view.setBigUint64(entry, BigInt(WINDOW + at), true);
        this.view.setInt32(entry + 8, WINDOW_AT - WINDOW, true);
      }
    }
    this.cpu.set(Field.TLB_READ, S + tlbOffset(0, TlbKind.READ));
    this.cpu.set(Field.TLB_WRITE, S + tlbOffset(0, TlbKind.WRITE));
    this.cpu.set(Field.CR4, CR4_SSE);
    this.bytes.fill(0xcc, CODE_AT, CODE_AT + CODE_SIZE);
  }

  /** Host address of an access that is allowed, or 0 after a fault. */
  private access(bytes: number, writing: boolean): number {
    const linear = this.view.getBigInt64(S + Field.ACCESS_ADDRESS, true);
    const fault = (vector: number, error: number): number => {
      this.cpu.set(Field.FAULT_VECTOR, vector);
      this.cpu.set(Field.FAULT_ERROR, error);
      this.cpu.set(Field.LEAVE, Leave.FAULT);
      return 0;
    };
    const last = BigInt.asIntN(64, linear + BigInt(bytes - 1));
    if (BigInt.asIntN(48, linear) !== linear || BigInt.asIntN(48, last) !== last) {
      return fault(this.cpu.get(Field.ACCESS_SEGMENT) === 2 ? 12 : 13, 0);
    }
    for (let i = 0; i < bytes; i++) {
      const at = BigInt.asUintN(64, linear + BigInt(i));
      const inWindow = at >= WINDOW && at < WINDOW + WINDOW_SIZE;
      const inCode = at >= CODE && at < CODE + CODE_SIZE;
      const writable = at >= WINDOW && at < WINDOW + WINDOW_WRITABLE;
      if (writing ? writable : inWindow || inCode) continue;
      this.cr2 = at;
      return fault(PAGE_FAULT, (inWindow || inCode ? 1 : 0) | (writing ? 2 : 0) | 4);
    }
    const at = Number(linear);
    return at < CODE ? at - WINDOW + WINDOW_AT : at - CODE + CODE_AT;
  }

  private writeSlow(bytes: number): number {
    const host = this.access(bytes, true);
    if (host === 0) return 0;
    this.bytes.copyWithin(host, S + Field.ACCESS_DATA, S + Field.ACCESS_DATA + bytes);
    return 1;
  }

  // ---- Cases --------------------------------------------------------------------------------------------

  run(cases: readonly Case[]): Promise<(Result | undefined)[]> {
    return Promise.resolve(cases.map((made) => this.runOne(made)));
  }
  close(): void {}

  runOne(made: Case): Result {
    const { bytes, cpu } = this;
    for (let at = 0; at < WINDOW_SIZE; at += PATTERN) bytes.set(made.pattern, WINDOW_AT + at);
    const codeAt = CODE_AT + made.rip - CODE;
    bytes.set(made.code, codeAt);
    for (let i = 0; i < 16; i++) this.set64(Field.SLOTS + 8 * i, made.gpr(i));
    cpu.eflags = Number(made.rflags);
    this.set64(Field.SLOTS + 8 * (Slot.SEGMENT_BASE + 4), made.fsbase);
    this.set64(Field.SLOTS + 8 * (Slot.SEGMENT_BASE + 5), made.gsbase);
    this.setFxsave(made.fxsave);
    const checking = (Number(made.rflags) & AC) !== 0;
    cpu.set(Field.ALIGNMENT_MASK, checking ? -1 : 0);
    const count = this.decode(made.rip, made.code.length, checking ? ALIGNMENT : FLAT);
    const leave = this.handlers.enter(S, RECORDS);
    const record = cpu.get(Field.CURRENT);
    bytes.fill(0xcc, codeAt, codeAt + made.code.length);
    return this.result(made, leave, (record - RECORDS) / Record.SIZE === count);
  }

  private set64(field: number, value: bigint): void {
    this.view.setBigUint64(S + field, value, true);
  }

  private setFxsave(image: Uint8Array): void {
    const { cpu } = this;
    const from = new DataView(image.buffer, image.byteOffset, 512);
    const fcw = from.getUint16(Fxsave.FCW, true);
    const fsw = from.getUint16(Fxsave.FSW, true);
    const top = (fsw >> 11) & 7;
    const pending = (fsw & ~fcw & 0x3f) !== 0 ? 0x8080 : 0;
    cpu.set(Field.FPU_CONTROL, fcw);
    cpu.set(Field.FPU_STATUS, (fsw & 0x477f) | pending);
    cpu.set(Field.FPU_TOP, top);
    cpu.set(Field.FPU_TAGS, image[Fxsave.FTW]);
    const pointers = POINTERS_ALWAYS || pending !== 0;
    cpu.set(Field.FPU_OPCODE, pointers ? from.getUint16(Fxsave.FOP, true) : 0);
    this.set64(Field.FPU_IP, pointers ? from.getBigUint64(Fxsave.FIP, true) : 0n);
    this.set64(Field.FPU_DP, pointers ? from.getBigUint64(Fxsave.FDP, true) : 0n);
    cpu.set(Field.MXCSR, from.getUint32(Fxsave.MXCSR, true));
    for (let i = 0; i < 8; i++) {
      const st = Fxsave.ST + 16 * i;
      this.bytes.set(image.subarray(st, st + 16), S + Field.X87 + 16 * ((i + top) & 7));
    }
    this.bytes.set(image.subarray(Fxsave.XMM, Fxsave.XMM + 256), S + Field.XMM);
  }

  /** Makes records of the code; INT3 stands after it, so that the first record without a handler ends the run. */
  private decode(rip: number, length: number, context: number): number {
    const { instruction, decoder, handlers, bytes, view } = this;
    const page = rip - (rip % PAGE);
    this.set64(Field.SLOTS + 8 * Slot.CODE_BASE, BigInt(page));
    let at = rip;
    let record = RECORDS;
    let count = 0;
    let status: DecodeStatus = DecodeStatus.OK;
    for (; at < rip + length; count++, record += Record.SIZE) {
      const from = CODE_AT + at - CODE;
      status = decoder.decode(bytes, from, CODE_AT + CODE_SIZE, 64, instruction);
      bytes.fill(0, record, record + Record.SIZE);
      view.setUint16(record + Record.POSITION, at - page, true);
      if (status === DecodeStatus.NEED_MORE) break;
      if (status !== DecodeStatus.OK) {
        view.setInt32(record, FixedHandler.UNDEFINED, true);
        count++;
        record += Record.SIZE;
        break;
      }
      this.fillRecord(record, at - page);
      view.setInt32(record, handlers.slotFor(instruction, context), true);
      at += instruction.length;
    }
    this.runsOff = at + 1 > CODE + CODE_SIZE || (at < rip + length && status === DecodeStatus.NEED_MORE);
    bytes.fill(0, record, record + Record.SIZE);
    view.setInt32(record, FixedHandler.STOP, true);
    view.setUint16(record + Record.POSITION, at - page, true);
    handlers.compile();
    return count;
  }

  private fillRecord(record: number, position: number): void {
    const { instruction, view } = this;
    let base = instruction.base === NO_REGISTER ? Slot.ZERO : instruction.base;
    let displacement = instruction.dispLow;
    if (instruction.base === RIP_BASE) {
      base = Slot.CODE_BASE;
      displacement += position + instruction.length;
    }
    const index = instruction.indexRegister === NO_REGISTER ? Slot.ZERO : instruction.indexRegister;
    view.setInt32(record + Record.DISPLACEMENT, displacement, true);
    view.setInt32(record + Record.IMMEDIATE, instruction.immLow, true);
    view.setInt32(record + Record.IMMEDIATE + 4, instruction.immHigh, true);
    for (let i = 0; i < 3; i++) {
      this.bytes[record + Record.REGISTER + i] = registerByte(instruction.operands[i]);
    }
    this.bytes[record + Record.BASE] = 8 * base;
    this.bytes[record + Record.INDEX] = 8 * index;
    this.bytes[record + Record.SCALE] = instruction.scale;
    this.bytes[record + Record.SEGMENT_SLOT] = 8 * (Slot.SEGMENT_BASE + instruction.segment);
    this.bytes[record + Record.SEGMENT] = instruction.segment;
    this.bytes[record + Record.LENGTH] = instruction.length;
  }

  private result(made: Case, leave: number, stopped: boolean): Result {
    const { cpu, view, bytes } = this;
    const builder = new ResultBuilder();
    for (let i = 0; i < 16; i++) builder.setGpr(i, view.getBigUint64(S + Field.SLOTS + 8 * i, true));
    const position = view.getUint16(cpu.get(Field.CURRENT) + Record.POSITION, true);
    const page = view.getBigUint64(S + Field.SLOTS + 8 * Slot.CODE_BASE, true);
    const rip = page + BigInt(position);
    const fetch = stopped && this.runsOff;
    if (fetch) this.cr2 = BigInt(CODE + CODE_SIZE);
    const vector = fetch
      ? PAGE_FAULT
      : stopped
        ? 3
        : leave === Leave.FAULT
          ? cpu.get(Field.FAULT_VECTOR)
          : 0x10000 + leave;
    builder.setEnd({
      // INT3 is a trap: RIP is behind it.
      rip: vector === 3 ? rip + 1n : rip,
      // RF is set in the frame of a fault.
      rflags: BigInt(cpu.eflags | (vector === 3 ? 0 : 0x10000)),
      vector,
      error: fetch ? FETCH_ERROR : vector === PAGE_FAULT ? cpu.get(Field.FAULT_ERROR) : 0,
      cr2: vector === PAGE_FAULT ? this.cr2 : 0n,
    });
    builder.setSegments(made.fsbase, made.gsbase, [0, 0, 0, 0]);
    const image = made.fxsave.slice();
    const to = new DataView(image.buffer);
    const top = cpu.get(Field.FPU_TOP);
    to.setUint16(Fxsave.FCW, cpu.get(Field.FPU_CONTROL), true);
    to.setUint16(Fxsave.FSW, cpu.get(Field.FPU_STATUS) | (top << 11), true);
    const pointers = POINTERS_ALWAYS || (cpu.get(Field.FPU_STATUS) & 0x80) !== 0;
    to.setUint16(Fxsave.FOP, pointers ? cpu.get(Field.FPU_OPCODE) : 0, true);
    for (const [at, field] of [
      [Fxsave.FIP, Field.FPU_IP],
      [Fxsave.FDP, Field.FPU_DP],
    ]) {
      to.setBigUint64(at, pointers ? view.getBigUint64(S + field, true) : 0n, true);
    }
    image[Fxsave.FTW] = cpu.get(Field.FPU_TAGS);
    to.setUint32(Fxsave.MXCSR, cpu.get(Field.MXCSR), true);
    for (let i = 0; i < 8; i++) {
      const from = S + Field.X87 + 16 * ((i + top) & 7);
      image.set(bytes.subarray(from, from + 16), Fxsave.ST + 16 * i);
    }
    image.set(bytes.subarray(S + Field.XMM, S + Field.XMM + 256), Fxsave.XMM);
    builder.setFxsave(image);
    builder.setWindow(bytes.subarray(WINDOW_AT, WINDOW_AT + WINDOW_WRITABLE), made.pattern);
    return builder.build();
  }
}

function registerByte(operand: Operand): number {
  switch (operand.kind) {
    case OperandKind.GPR:
      return 8 * operand.index + (operand.high ? 1 : 0);
    case OperandKind.XMM:
    case OperandKind.MMX:
      return 16 * operand.index;
    default:
      return operand.index;
  }
}
