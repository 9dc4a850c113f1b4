import type { Blocks } from '../blocks.ts';
import type { Cpu } from '../cpu.ts';
import type { Callees } from '../generate/emitter.ts';
import { codeSizeOf } from '../generate/form.ts';
import { FixedHandler, type Handlers } from '../generate/handlers.ts';
import { OperandKind } from '../instruction.ts';
import { Field, Record } from '../state.ts';
import { i32 } from '../wasm/expression.ts';
import type { FunctionBuilder, Label } from '../wasm/module.ts';
import { TranslationEmitter, type Edge, type Guess } from './emitter.ts';
import { RegionFunction, Registers } from './function.ts';
import { agreed, STORED, type KnownFlags } from './lazy-flags.ts';
import { fallsThrough, jumpTarget, RegionFinder } from './finder.ts';
import type { Region } from './region.ts';
import { SPAN, STACK_POINTER } from './windows.ts';

/**
 * Runs of a block before it is translated. Translating costs as much as some hundred runs save: a boot, which is mostly
 * code that runs a few times, took 5 % longer with 200 and with 800, and a program that computes doesn't notice.
 */
const HOT_RUNS = 400;
/** Regions that are translated into one module: beyond a few dozen the cost of each hardly falls. */
const BATCH = 48;
/**
 * Modules and their bytes at which everything that is translated is dropped, to begin again with what is hot then. A
 * module takes three mappings of the 65,530 that Linux gives a process; a byte of it takes seven of memory, with V8's
 * machine code. A boot of Linux makes some 300 modules with 5 MiB.
 */
const MOST_MODULES = 4096;
const MOST_BYTES = 64 * 2 ** 20;

/**
 * Milliseconds that hot blocks wait for company at most: a module costs about 0.3 ms before its first function,
 * and in this time the handlers run what is hot.
 */
const PATIENCE_MS = 20;

/** When blocks are translated, and how much of that may stand. */
export interface Translating {
  /** Runs of a block before it is hot; 0: none ever is. */
  readonly runs: number;
  /** Hot blocks that don't wait any longer for company. */
  readonly batch: number;
  readonly modules: number;
  readonly bytes: number;
  /** Milliseconds that hot blocks wait for company at most. */
  readonly patience: number;
}
export const TRANSLATING: Translating = {
  runs: HOT_RUNS,
  batch: BATCH,
  modules: MOST_MODULES,
  bytes: MOST_BYTES,
  patience: PATIENCE_MS,
};
/**
 * Instructions of a region for each time that a member which is not a way in has to run hotRuns times, before the region
 * is translated again with it as one: that costs as much as some of its runs save.
 */
const INSTRUCTIONS_OF_ENTRY = 40;

/**
 * Times that a block is about misses of windows, of which one in hundreds is looked at, before it does without. Blocks that
 * use many new pages come here as well, but those seldom near a page's end.
 */
const NARROWED = 8;
const MOST_MISSING = 256;

/** Where the first record of a way in, which counts runs no more, has its number among the ways. */
const WAY = Record.IMMEDIATE;

/** A region with its function, in the handler's place of the first record of each way in. */
interface Translation {
  readonly region: Region;
  /** -1 as long as it is planned. */
  slot: number;
}

/**
 * The second tier: the region of a block that has run often becomes one WebAssembly function, put in the place
 * of its ways' first records' handlers. Links, the jump cache and invalidation go on working by those records.
 */
export class Translator {
  private readonly cpu: Cpu;
  private readonly handlers: Handlers;
  private readonly blocks: Blocks;
  private readonly finder: RegionFinder<Translation>;
  private readonly limits: Translating;
  /** What was made since everything was dropped. */
  private modules = 0;
  private bytes = 0;
  private waiting: number[] = [];
  /** By the first record of each block in it. */
  private readonly translations = new Map<number, Translation>();
  private nextFlush = 0;
  translated = 0;
  /** How often everything was dropped to make room. */
  evictions = 0;
  /** Time that translating took. */
  nanoseconds = 0;

  constructor(cpu: Cpu, handlers: Handlers, blocks: Blocks, limits: Translating) {
    this.cpu = cpu;
    this.handlers = handlers;
    this.blocks = blocks;
    this.limits = limits;
    this.finder = new RegionFinder(cpu, blocks, handlers, limits.runs, (record) =>
      this.translations.get(record),
    );
  }

  /** Takes note of a hot block, by its first record; translates when enough are there. */
  add(record: number): void {
    this.waiting.push(record);
    if (this.waiting.length >= this.limits.batch) this.flush();
  }

  /** Translates what has waited long enough. */
  poll(now: number): void {
    if (this.waiting.length > 0 && now >= this.nextFlush) this.flush(now);
  }

  /** Translates what waits. */
  private flush(now = performance.now()): void {
    this.nextFlush = now + this.limits.patience;
    if (this.modules >= this.limits.modules || this.bytes >= this.limits.bytes) this.evict();
    const planned = new Set<Translation>();
    for (const record of this.waiting) this.plan(record, planned);
    this.waiting = [];
    if (planned.size === 0) return;
    const { slots, bytes } = this.handlers.compileFunctions(
      [...planned].map(
        ({ region }) =>
          (f, callees) =>
            this.build(region, f, callees),
      ),
    );
    [...planned].forEach((translation, i) => this.install(translation, slots[i]));
    this.modules++;
    this.bytes += bytes;
    this.translated += planned.size;
    this.nanoseconds += (performance.now() - now) * 1e6;
  }

  /** Drops all translations; V8 takes the memory back when it collects garbage. */
  private evict(): void {
    for (const translation of new Set(this.translations.values())) this.remove(translation);
    this.modules = 0;
    this.bytes = 0;
    this.evictions++;
  }

  private isCounting(record: number): boolean {
    return this.cpu.words[record >>> 2] === FixedHandler.COUNTING;
  }

  private plan(record: number, planned: Set<Translation>): void {
    const head = this.blocks.blockAt(record);
    if (head === undefined || !this.isCounting(record)) return;
    const own = this.translations.get(record);
    const isWay = ({ region }: Translation): boolean =>
      region.ways.some((index) => region.members[index].block.record === record);
    if (own !== undefined && own.slot < 0 && isWay(own)) return;
    const { region, absorbed } = this.finder.find(head);
    for (const translation of absorbed) {
      planned.delete(translation);
      this.remove(translation);
    }
    const translation = { region, slot: -1 };
    planned.add(translation);
    for (const { block } of region.members) this.translations.set(block.record, translation);
  }

  private install(translation: Translation, slot: number): void {
    const { words } = this.cpu;
    const { members, ways, instructions } = translation.region;
    translation.slot = slot;
    const runs = this.limits.runs * Math.ceil(instructions / INSTRUCTIONS_OF_ENTRY);
    for (const { block } of members) {
      if (this.isCounting(block.record)) words[(block.record + Record.IMMEDIATE) >>> 2] = runs;
    }
    ways.forEach((index, way) => {
      const { record } = members[index].block;
      words[record >>> 2] = slot;
      words[(record + WAY) >>> 2] = way;
    });
  }

  /** Takes a region away; its blocks are still good, and have to become hot again. */
  private remove({ region, slot }: Translation): void {
    const { words } = this.cpu;
    for (const { block } of region.members) {
      this.translations.delete(block.record);
      if (slot < 0 || words[block.record >>> 2] !== slot) continue;
      words[block.record >>> 2] = FixedHandler.COUNTING;
      words[(block.record + Record.IMMEDIATE) >>> 2] = this.blocks.runsUntilHot(
        block.host - (block.host % 4096),
      );
    }
    if (slot >= 0) this.handlers.release(slot);
  }

  /** Drops what waits: its records' memory is used for other blocks now. */
  forget(): void {
    this.waiting = [];
    this.narrow.clear();
    this.missing.clear();
  }

  /**
   * Takes note of a block whose accesses near a page's end were handed to the handlers, as some hundred others before: a
   * block that this is about again and again is translated anew, with a look at the translation table for each access.
   */
  missed(record: number, head: number): void {
    if (!this.isNearEnd(record)) return;
    const times = (this.missing.get(head) ?? 0) + 1;
    if (this.missing.size === MOST_MISSING) this.missing.clear();
    this.missing.set(head, times);
    if (times < NARROWED || this.blocks.blockAt(head) === undefined) return;
    this.narrow.add(head);
    this.missing.delete(head);
    this.release(head);
  }

  /** Whether an instruction that is about to be run uses memory near a page's end. */
  private isNearEnd(record: number): boolean {
    const { cpu, handlers } = this;
    const { words } = cpu;
    const operands = handlers.meaningOf(words[record >>> 2])?.form.operands ?? [];
    const memory = operands.some(({ kind }) => kind === OperandKind.MEM);
    const base = memory ? words[(record + Record.BASE) >>> 2] >>> 24 : 8 * STACK_POINTER;
    const displacement = memory ? words[(record + Record.DISPLACEMENT) >>> 2] : 0;
    const position = (cpu.get(Field.SLOTS + base) + displacement) & 4095;
    return position < SPAN || position >= 4096 - SPAN;
  }

  private readonly narrow = new Set<number>();
  private readonly missing = new Map<number, number>();

  /** A block was dropped: so is the region that it is in. */
  release(record: number): void {
    const translation = this.translations.get(record);
    if (translation !== undefined) this.remove(translation);
  }

  private build(region: Region, f: FunctionBuilder, callees: Callees): void {
    const [head] = region.members;
    const codeSize = codeSizeOf(head.block.context);
    const frame = new RegionFunction(f, callees, codeSize, registersOf(region));
    frame.build(region.ways.length > 1, () =>
      new RegionBody(region, frame, callees, this.cpu.words, this.handlers, this.narrow).write(),
    );
  }
}

/** Writes a region's blocks with loops and blocks of WebAssembly, so that every edge is a jump. */
class RegionBody {
  private readonly region: Region;
  private readonly frame: RegionFunction;
  private readonly callees: Callees;
  private readonly words: Int32Array;
  private readonly handlers: Handlers;
  /** Heads of blocks without windows. */
  private readonly narrow: ReadonlySet<number>;
  /** Where jumps forwards to a member, and back to a loop's head, go. */
  private readonly forwards: (Label | undefined)[] = [];
  private readonly backwards: (Label | undefined)[] = [];
  private dispatcher: Label | undefined;
  /** What the jumps to a member so far agree on about the flags; null: nothing. */
  private readonly flagsAt: (KnownFlags | null | undefined)[] = [];

  constructor(
    region: Region,
    frame: RegionFunction,
    callees: Callees,
    words: Int32Array,
    handlers: Handlers,
    narrow: ReadonlySet<number>,
  ) {
    this.region = region;
    this.frame = frame;
    this.callees = callees;
    this.words = words;
    this.handlers = handlers;
    this.narrow = narrow;
  }

  write(): void {
    for (const way of this.region.ways) this.flagsAt[way] = STORED;
    const last = this.region.members.length - 1;
    if (this.region.dispatched.size === 0) {
      this.level(-1, 0, last);
      return;
    }
    this.frame.f.loop((label) => {
      this.dispatcher = label;
      this.level(-1, 0, last);
    });
  }

  private loop(head: number): void {
    this.frame.f.loop((label) => {
      this.backwards[head] = label;
      this.level(head, head, this.region.loopEnds[head]!);
    });
  }

  /** Members first to last, which lie in the loop of `head` and in no other but those that begin among them. */
  private level(head: number, first: number, last: number): void {
    const { region } = this;
    const cuts: number[] = [];
    for (let i = first + 1; i <= last; i++) if (region.loopAround(i) === head) cuts.push(i);
    this.upTo(cuts.length, cuts, head, first, last);
  }

  /** At the start of the outermost level: goes to the member that was asked for, by its number among the ways. */
  private dispatch(): void {
    const { f, dispatch } = this.frame;
    const [, ...others] = this.region.ways;
    f.block((first) => f.switch(dispatch, [first, ...others.map((to) => this.forwards[to]!), first]));
  }

  private upTo(count: number, cuts: number[], head: number, first: number, last: number): void {
    if (count > 0) {
      this.frame.f.block((label) => {
        this.forwards[cuts[count - 1]] = label;
        this.upTo(count - 1, cuts, head, first, last);
      });
    }
    if (count === 0 && head < 0 && this.region.ways.length > 1) this.dispatch();
    const from = count === 0 ? first : cuts[count - 1];
    const to = count === cuts.length ? last : cuts[count] - 1;
    for (let i = from; i <= to; i++) {
      const end = this.region.loopEnds[i];
      if (end === undefined || i === head) this.member(i);
      else {
        this.loop(i);
        i = end;
      }
    }
  }

  private member(index: number): void {
    const { frame, words, handlers, callees, region } = this;
    const { f } = frame;
    const { block, records, guesses } = region.members[index];
    // What comes from behind is not known yet.
    const entered = region.loopEnds[index] !== undefined || region.dispatched.has(index);
    frame.flags.known = entered ? null : (this.flagsAt[index] ?? null);
    frame.beginBlock(block.record, !this.narrow.has(block.record));
    const places = [...guesses].sort((a, b) => a - b);
    for (const record of records) {
      f.recycleLocals();
      const assigned = handlers.meaningOf(words[record >>> 2])!;
      const edge = this.edgeOf(index, jumpTarget(words, record, assigned));
      const guessed = assigned.meaning.ending ? places.flatMap((at) => this.guessOf(index, at)) : [];
      const emitter = new TranslationEmitter(frame, assigned.form, callees, words, record, edge, guessed);
      // Before its ways part.
      if (assigned.meaning.ending) frame.writeBack();
      assigned.meaning.semantics(emitter);
      emitter.finish();
      // The joining record after it is never reached.
      if (!fallsThrough(assigned)) break;
    }
    frame.endBlock();
  }

  private guessOf(from: number, position: number): Guess[] {
    const edge = this.edgeOf(from, position);
    return edge === undefined ? [] : [{ ...edge, position }];
  }

  private edgeOf(from: number, position: number | undefined): Edge | undefined {
    if (position === undefined) return undefined;
    const { region, frame } = this;
    const to = region.indexAt(position);
    if (to === undefined) return undefined;
    const { f, flags } = frame;
    if (to > from) {
      const jump = (): void => {
        const known = flags.known;
        this.flagsAt[to] = this.flagsAt[to] === undefined ? known : agreed(this.flagsAt[to], known);
        f.break(this.forwards[to]!);
      };
      return { back: false, jump };
    }
    if (!region.dispatched.has(to)) return { back: true, jump: () => f.break(this.backwards[to]!) };
    const jump = (): void => {
      f.set(frame.dispatch, i32.const(region.ways.indexOf(to)));
      f.break(this.dispatcher!);
    };
    return { back: true, jump };
  }
}

/** A region with loops keeps registers in variables. */
function registersOf({ loopEnds, dispatched }: Region): number {
  const loops = dispatched.size > 0 || loopEnds.some((end) => end !== undefined);
  return loops ? Registers.KEPT : Registers.WRITTEN;
}
