import { AddressTable } from './address-table.ts';
import type { Cpu } from './cpu.ts';
import type { Decoder } from './decoder/decoder.ts';
import { FixedHandler, type Handlers } from './generate/handlers.ts';
import { codeSizeOf, Context } from './generate/form.ts';
import {
  DecodeStatus,
  Instruction,
  NO_REGISTER,
  OperandKind,
  RIP_BASE,
  type Operand,
} from './instruction.ts';
import { clearHead } from './jump-cache.ts';
import { Field, NO_PAGE, Record, RESERVED_RECORDS, Slot } from './state.ts';

/** Longest block, in instructions: bounds what runs between two looks at the budget. */
export const BLOCK_MAXIMUM = 64;
/** A page whose code was rewritten some dozens of times keeps to the handlers: 100 runs become 1.6 million. */
const MOST_DOUBLINGS = 14;
/** Rewrites of a page's code after which more are expected. */
const OFTEN = 8;
/** Writes to such a page, one after another and with no code decoded from it meanwhile, after which it is data again. */
const IDLE_WRITES = 16;
/**
 * Writes beside a page's code after which that is forgotten: a write costs some microseconds as long as it is there, and
 * decoding it again some 50. Where it is needed again, and data are written beside it again, it stays the longer each time.
 */
const PATIENCE = 48;
const PATIENCE_GROWTH = 4;
const PAGE = 4096;
const LONGEST_INSTRUCTION = 15;

/** A block that was decoded from a page: what invalidation needs. */
export interface Block {
  /** Host address of its first byte, and the context it was decoded for. */
  host: number;
  context: number;
  record: number;
  /** Records, with the joining one; and for how many there is room. */
  count: number;
  room: number;
  /** Bytes of the page that it was made of: [start, end). */
  start: number;
  end: number;
  /** Of an instruction that straddles pages: the host page of its second part, and where in it that ends. */
  tail: { readonly page: number; readonly end: number } | null;
  /** False once it was dropped. Its place stays known, and is used again for what is there then. */
  live: boolean;
}

/** A host page that code was decoded from. */
interface CodePage {
  readonly blocks: Block[];
  /** Where in it code may be: nothing is looked for where none is. */
  readonly granules: Uint8Array;
  /** How many of them are. */
  live: number;
  /** Whether the page counts as code: what is written to it goes through here. */
  isCode: boolean;
  /** How often code in it was written over. */
  rewrites: number;
  /** Writes since its last block was dropped. */
  idleWrites: number;
  /** Writes to it that met no code, and how many of them it takes until its code is forgotten. */
  besides: number;
  patience: number;
}

/** Of 16 bytes, a few instructions: a page has 256, which are soon looked through. */
const GRANULE_SHIFT = 4;

/** How the block that was found last may be reached the next time. */
export const Reach = {
  /** By links and the jump cache. */
  LINK: 0,
  /** By the jump cache alone, which forgets it when either of its two pages is mapped anew. */
  CACHE: 1,
  /** Not at all: its records are used for others. */
  ONCE: 2,
} as const;

/** Finds the page after the one that an instruction begins in: its host address, or -1 after a fault. */
export type NextPage = () => number;

/**
 * Decoded code: blocks of records in the vCPU's memory, found by the host address of their first byte and the
 * context they were decoded for. A block lies in one page, except that of a single instruction which straddles two:
 * no link leads to that, because the second page may be mapped elsewhere the next time.
 */
export class Blocks {
  private readonly cpu: Cpu;
  private readonly decoder: Decoder;
  private readonly handlers: Handlers;
  private readonly start: number;
  private readonly end: number;
  private next: number;
  /** All of them, also those that were dropped. */
  private all: Block[] = [];
  /** Their numbers, by context and host address. */
  private readonly found = Array.from({ length: Context.COUNT }, () => new AddressTable());
  /** Their numbers plus 1, by the place of their first record; 0: none begins there. */
  private readonly byRecord: Int32Array;
  private readonly pages = new Map<number, CodePage>();
  private readonly instruction = new Instruction();
  private readonly straddling = new Uint8Array(2 * LONGEST_INSTRUCTION);
  /** Called when the first code of a host page is decoded, and when its last is dropped. */
  private readonly onCode: (hostPage: number, holds: boolean) => void;
  /** Runs of a block before it asks to be translated. */
  private readonly hotRuns: number;
  /** Called for each block that is dropped. */
  onDrop: (record: number) => void = () => {};
  /** Called when all blocks are dropped, so that nobody keeps the address of one. */
  private readonly onClear: () => void;
  reach: number = Reach.LINK;
  decoded = 0;
  invalidations = 0;

  constructor(
    cpu: Cpu,
    decoder: Decoder,
    handlers: Handlers,
    area: { start: number; end: number },
    onCode: (hostPage: number, holds: boolean) => void,
    onClear: () => void,
    hotRuns: number,
  ) {
    this.hotRuns = hotRuns;
    this.cpu = cpu;
    this.decoder = decoder;
    this.handlers = handlers;
    this.start = area.start;
    this.end = area.end;
    this.next = area.start + RESERVED_RECORDS * Record.SIZE;
    this.byRecord = new Int32Array(Math.ceil((area.end - area.start) / Record.SIZE));
    this.onCode = onCode;
    this.onClear = onClear;
  }

  /**
   * The record of the block that starts at a host address, decoding it when it is new. `position` is the offset
   * of the address in its linear page (the same as in the host page). `limit` is how many bytes of code may be
   * fetched from here. Returns -1 when the second page of a straddling instruction faults.
   */
  find(host: number, context: number, limit: number, nextPage: NextPage): number {
    this.reach = Reach.LINK;
    const known = this.at(host, context);
    if (known === undefined || !known.live) return this.decode(host, context, limit, nextPage);
    if (known.tail === null) return known.record;
    const second = nextPage();
    if (second < 0) return -1;
    if (second !== known.tail.page) {
      this.drop(known);
      return this.decode(host, context, limit, nextPage);
    }
    this.reach = Reach.CACHE;
    return known.record;
  }

  /** The block that was decoded for a host address and a context last, perhaps dropped since. */
  private at(host: number, context: number): Block | undefined {
    const number = this.found[context].get(host);
    return number < 0 ? undefined : this.all[number];
  }

  private placeOf(record: number): number {
    return (record - this.start) / Record.SIZE;
  }

  private decode(host: number, context: number, limit: number, nextPage: NextPage): number {
    if (this.next + (2 * BLOCK_MAXIMUM + 3) * Record.SIZE > this.end) this.clear();
    const { cpu, decoder, handlers, instruction } = this;
    const mode = codeSizeOf(context) as 16 | 32 | 64;
    const page = host - (host % PAGE);
    const pageEnd = Math.min(page + PAGE, host + limit);
    const record = this.next;
    let at = host;
    let count = 0;
    let last = record + Record.SIZE;
    this.putHead(record, page, host - page);
    let ended = false;
    while (count < BLOCK_MAXIMUM && !ended && at < pageEnd) {
      const status = decoder.decode(cpu.bytes, at, pageEnd, mode, instruction);
      if (status === DecodeStatus.NEED_MORE) {
        if (count > 0) break;
        return this.decodeStraddling(at, page, context, limit, nextPage, record);
      }
      ended = this.put(last, count, at - page, status, context);
      last += this.putSize;
      count++;
      at += status === DecodeStatus.OK ? instruction.length : 1;
    }
    // A shadow must not be parted from the instruction in it by the end of a block: the join is no instruction,
    // and its look at the budget compares equal with SHADOW_AT.
    this.putJoin(last, count, at - page, mode);
    handlers.compile();
    const block = {
      host,
      context,
      record,
      count: (last - record) / Record.SIZE + 1,
      room: (last - record) / Record.SIZE + 1,
      start: host - page,
      end: at - page,
      tail: null,
      live: true,
    };
    this.decoded += count;
    return this.remember(block);
  }

  /** A host page that code is decoded from, which it counts as from now on. */
  private codePage(hostPage: number): CodePage {
    let page = this.pages.get(hostPage);
    if (page === undefined) {
      const granules = new Uint8Array(PAGE >> GRANULE_SHIFT);
      page = {
        blocks: [],
        granules,
        live: 0,
        isCode: false,
        rewrites: 0,
        idleWrites: 0,
        besides: 0,
        patience: PATIENCE,
      };
      this.pages.set(hostPage, page);
    }
    page.idleWrites = 0;
    if (!page.isCode) {
      page.isCode = true;
      this.onCode(hostPage, true);
    }
    return page;
  }

  /**
   * Takes in a block that was just decoded at `next`; its record. Links and the jump cache may know the place of one
   * that was dropped from the same address: it gets that if it fits, or is forwarded to from there.
   */
  private remember(block: Block): number {
    const { words } = this.cpu;
    const old = this.at(block.host, block.context);
    const bytes = block.count * Record.SIZE;
    if (old !== undefined) {
      // A jump that stood there is gone.
      const from = this.cpu.get(Field.LINK_FROM);
      if (from >= old.record && from < old.record + old.room * Record.SIZE) this.cpu.set(Field.LINK_FROM, 0);
      if (old.room >= block.count) {
        words.copyWithin(old.record >>> 2, block.record >>> 2, (block.record + bytes) >>> 2);
        Object.assign(old, block, { record: old.record, room: old.room });
        this.list(old, true);
        return old.record;
      }
      words[(old.record + Record.LINK) >>> 2] = block.record;
      words[(old.record + Record.HANDLER) >>> 2] = FixedHandler.FORWARD;
    }
    this.next += bytes;
    this.list(block, false);
    const after = this.all.push(block);
    this.found[block.context].set(block.host, after - 1);
    this.byRecord[this.placeOf(block.record)] = after;
    return block.record;
  }

  /** Puts a block on its pages' lists, on which it may be already. */
  private list(block: Block, again: boolean): void {
    const { host, start, end, tail } = block;
    const own = host - (host % PAGE);
    // Of two pages that are one the whole counts.
    const alone = tail === null || tail.page !== own;
    this.listIn(own, block, again, alone ? start : 0, alone ? end : Math.max(end, tail.end));
    if (tail !== null && tail.page !== own) this.listIn(tail.page, block, again, 0, tail.end);
  }

  /** Bytes [from, to) of the page are the block's. */
  private listIn(hostPage: number, block: Block, again: boolean, from: number, to: number): void {
    const page = this.codePage(hostPage);
    page.live++;
    if (!again || !page.blocks.includes(block)) page.blocks.push(block);
    const last = (to - 1) >> GRANULE_SHIFT;
    for (let at = from >> GRANULE_SHIFT; at <= last; at++) page.granules[at] = 1;
  }

  /** One instruction over a page's end, at a record. It is kept unless it is none, which more than its bytes decides. */
  private decodeStraddling(
    at: number,
    page: number,
    context: number,
    limit: number,
    nextPage: NextPage,
    record: number,
  ): number {
    const { cpu, decoder, handlers, instruction, straddling } = this;
    const mode = codeSizeOf(context) as 16 | 32 | 64;
    const first = Math.min(page + PAGE - at, limit);
    straddling.fill(0x90);
    straddling.set(cpu.bytes.subarray(at, at + first));
    let available = first;
    let second = -1;
    if (limit > first) {
      second = nextPage();
      if (second < 0) return -1;
      straddling.set(cpu.bytes.subarray(second, second + LONGEST_INSTRUCTION), first);
      available = Math.min(limit, first + LONGEST_INSTRUCTION);
    }
    const decoded = decoder.decode(straddling, 0, available, mode, instruction);
    // Beyond the segment's limit: #GP, like an instruction that is too long.
    const status = decoded === DecodeStatus.NEED_MORE ? DecodeStatus.TOO_LONG : decoded;
    const kept = status === DecodeStatus.OK && record !== this.start;
    if (kept) this.putHead(record, NO_PAGE, at - page);
    const place = kept ? record + Record.SIZE : this.start;
    this.put(place, 0, at - page, status, context);
    this.putJoin(place + this.putSize, 1, at - page + instruction.length, mode);
    handlers.compile();
    this.decoded++;
    this.reach = kept ? Reach.CACHE : Reach.ONCE;
    if (!kept) return place;
    const count = this.putSize / Record.SIZE + 2;
    return this.remember({
      ...{ host: at, context, record, count, room: count, start: at - page, end: PAGE, live: true },
      tail: { page: second, end: instruction.length - first },
    });
  }

  /** Decodes one instruction into a run of its own that stops after it: for single-stepping. -1 as in find. */
  single(host: number, context: number, limit: number, nextPage: NextPage): number {
    const { cpu, handlers, instruction } = this;
    const mode = codeSizeOf(context) as 16 | 32 | 64;
    const page = host - (host % PAGE);
    const end = Math.min(page + PAGE, host + limit);
    const status = this.decoder.decode(cpu.bytes, host, end, mode, instruction);
    if (status === DecodeStatus.NEED_MORE) {
      if (this.decodeStraddling(host, page, context, limit, nextPage, this.start) < 0) return -1;
    } else {
      this.put(this.start, 0, host - page, status, context);
      handlers.compile();
    }
    this.reach = Reach.ONCE;
    this.putStop(this.start + this.putSize, 1, host - page + instruction.length);
    return this.start;
  }

  /** Runs until a block of this host page is translated: code that is rewritten all the time is not worth it. */
  runsUntilHot(page: number): number {
    // Who wants everything translated (tests) wants this, too.
    if (this.hotRuns === 1) return 1;
    const rewrites = this.pages.get(page)?.rewrites ?? 0;
    return this.hotRuns * (1 << Math.min(MOST_DOUBLINGS, rewrites >> 2));
  }

  /**
   * The record before a block's instructions, which counts its runs if somebody wants to know: never of an instruction in two
   * pages (NO_PAGE), which isn't translated.
   */
  private putHead(record: number, page: number, position: number): void {
    const { words } = this.cpu;
    const counts = this.hotRuns > 0 && page !== NO_PAGE;
    words[(record + Record.HANDLER) >>> 2] = counts ? FixedHandler.COUNTING : FixedHandler.BEGIN;
    words[(record + Record.IMMEDIATE) >>> 2] = counts ? this.runsUntilHot(page) : 0;
    words[(record + Record.POSITION) >>> 2] = position;
    clearHead(words, record, page);
  }

  private putStop(record: number, number: number, position: number): void {
    const words = this.cpu.words;
    words[(record + Record.HANDLER) >>> 2] = FixedHandler.STOP;
    words[(record + Record.POSITION) >>> 2] = position | (number << 24);
  }

  private putJoin(record: number, number: number, position: number, mode: number): void {
    const words = this.cpu.words;
    words[(record + Record.HANDLER) >>> 2] =
      mode === 64 ? FixedHandler.JOIN_64 : mode === 32 ? FixedHandler.JOIN_32 : FixedHandler.JOIN_16;
    words[(record + Record.IMMEDIATE) >>> 2] = 0;
    words[(record + Record.IMMEDIATE + 4) >>> 2] = 0;
    words[(record + Record.POSITION) >>> 2] = position | (number << 24);
    words[(record + Record.LINK) >>> 2] = 0;
  }

  /** Bytes of records that put() wrote: an instruction takes one, or two when its displacement has 64 bits. */
  private putSize: number = Record.SIZE;

  /** Writes an instruction's record; true when the block ends with it. */
  private put(
    record: number,
    number: number,
    position: number,
    status: DecodeStatus,
    context: number,
  ): boolean {
    const { cpu, handlers, instruction } = this;
    const words = cpu.words;
    const where = position | (instruction.length << 16) | (number << 24);
    let at = record >>> 2;
    this.putSize = Record.SIZE;
    if (status !== DecodeStatus.OK) {
      words[at] = status === DecodeStatus.TOO_LONG ? FixedHandler.TOO_LONG : FixedHandler.UNDEFINED;
      words[at + 6] = where;
      return true;
    }
    let { dispLow, dispHigh } = instruction;
    let base = instruction.base === NO_REGISTER ? Slot.ZERO : instruction.base;
    if (instruction.base === RIP_BASE) {
      // RIP of an instruction is CODE_BASE + its page position, so the next one's is folded in here.
      const sum = dispLow + position + instruction.length;
      base = Slot.CODE_BASE;
      dispLow = sum | 0;
      dispHigh = Math.floor(sum / 2 ** 32);
    }
    if ((context & Context.CODE_MASK) === Context.CODE_64 && dispHigh !== dispLow >> 31) {
      // More than the record's 32 bits: the index register is one that a record before this one sets.
      words[at] = FixedHandler.SET_TEMPORARY;
      words[at + 2] = dispLow;
      words[at + 3] = dispHigh;
      words[at + 6] = where;
      at += Record.SIZE / 4;
      this.putSize = 2 * Record.SIZE;
      instruction.indexRegister = Slot.TEMPORARY;
      instruction.scale = 0;
      dispLow = 0;
    }
    const slot = handlers.slotFor(instruction, context);
    const { operands } = instruction;
    const index = instruction.indexRegister === NO_REGISTER ? Slot.ZERO : instruction.indexRegister;
    const segmentSlot = Slot.SEGMENT_BASE + instruction.segment;
    words[at] = slot;
    words[at + 1] = dispLow;
    words[at + 2] = instruction.immLow;
    words[at + 3] = instruction.immHigh;
    words[at + 4] =
      registerByte(operands[0]) |
      (registerByte(operands[1]) << 8) |
      (registerByte(operands[2]) << 16) |
      ((8 * base) << 24);
    words[at + 5] =
      (8 * index) | (instruction.scale << 8) | ((8 * segmentSlot) << 16) | (instruction.segment << 24);
    words[at + 6] = where;
    words[at + 7] = operands[0].kind === OperandKind.REL ? 0 : instruction.imm2;
    return handlers.ends(slot);
  }

  // ---- Dropping -----------------------------------------------------------------------------------------

  /** Whether a jump at this record may be linked: it was not dropped, nor is it among the records that are used again. */
  isLinkable(record: number): boolean {
    const handler = this.cpu.words[record >>> 2];
    const dropped = handler === FixedHandler.STALE || handler === FixedHandler.FORWARD;
    return record >= this.start + RESERVED_RECORDS * Record.SIZE && !dropped;
  }

  /** The block whose first record this is, unless it was dropped. */
  blockAt(record: number): Block | undefined {
    const block = this.all[this.byRecord[this.placeOf(record)] - 1] as Block | undefined;
    return block?.live ? block : undefined;
  }

  /** The blocks in a host page, but for those that go over its end. */
  inPage(hostPage: number): readonly Block[] {
    return this.pages.get(hostPage)?.blocks.filter(({ live, tail }) => live && tail === null) ?? [];
  }

  /** The block in one page that was decoded for a host address and a context: its first record. */
  decodedAt(host: number, context: number): number | undefined {
    const block = this.at(host, context);
    return block?.live && block.tail === null ? block.record : undefined;
  }

  /** Whether a host page holds decoded code of this vCPU. */
  holds(hostPage: number): boolean {
    return this.pages.get(hostPage)?.isCode === true;
  }

  /** Drops the blocks that bytes [offset, offset + length) of a host page belong to. */
  invalidate(hostPage: number, offset = 0, length = PAGE): void {
    const page = this.pages.get(hostPage);
    if (page === undefined || !page.isCode) return;
    const before = page.live;
    if (hasGranules(page, offset, offset + length)) {
      for (const block of page.blocks) {
        if (block.live && overlaps(block, hostPage, offset, offset + length)) this.drop(block);
      }
    }
    if (page.live < before) page.rewrites++;
    else if (page.live > 0 && ++page.besides >= page.patience) {
      page.besides = 0;
      page.patience *= PATIENCE_GROWTH;
      for (const block of page.blocks) if (block.live) this.drop(block);
    }
    if (page.live > 0) return;
    page.granules.fill(0);
    // Taking writing away again costs a search of the translation tables: what is rewritten often stays without.
    if (page.rewrites >= OFTEN && ++page.idleWrites < IDLE_WRITES) return;
    page.isCode = false;
    this.onCode(hostPage, false);
  }

  /** Every record of the block leads to the run loop from now on, also for a run that is in the middle of it. */
  private drop(block: Block): void {
    this.invalidations++;
    block.live = false;
    for (const hostPage of pagesOf(block)) this.pages.get(hostPage)!.live--;
    this.onDrop(block.record);
    for (let i = 0; i < block.room; i++) {
      this.cpu.words[(block.record + i * Record.SIZE) >>> 2] = FixedHandler.STALE;
    }
  }

  /** Drops everything. The records' memory is used again, so no link or cached jump may survive. */
  clear(): void {
    for (const { record } of this.all) {
      this.onDrop(record);
      this.byRecord[this.placeOf(record)] = 0;
    }
    this.all = [];
    for (const [hostPage, { isCode }] of this.pages) if (isCode) this.onCode(hostPage, false);
    for (const found of this.found) found.clear();
    this.pages.clear();
    this.next = this.start + RESERVED_RECORDS * Record.SIZE;
    this.onClear();
  }
}

/** The host page that a block is in, or both. */
function pagesOf({ host, tail }: Block): number[] {
  const page = host - (host % PAGE);
  return tail === null || tail.page === page ? [page] : [page, tail.page];
}

function hasGranules({ granules }: CodePage, from: number, to: number): boolean {
  const last = (to - 1) >> GRANULE_SHIFT;
  for (let at = from >> GRANULE_SHIFT; at <= last; at++) if (granules[at] !== 0) return true;
  return false;
}

/** Whether a block has any of the bytes [from, to) of a host page. */
function overlaps({ host, start, end, tail }: Block, hostPage: number, from: number, to: number): boolean {
  if (host - (host % PAGE) === hostPage && start < to && end > from) return true;
  return tail !== null && tail.page === hostPage && tail.end > from;
}

/** What a record's register byte holds for an operand: a slot's offset, an XMM register's, or a plain number. */
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
