import type { Blocks } from '../blocks.ts';
import type { Cpu } from '../cpu.ts';
import type { Callees } from '../generate/emitter.ts';
import { codeSizeOf } from '../generate/form.ts';
import { FixedHandler, type FunctionSource, type Handlers } from '../generate/handlers.ts';
import { Record } from '../state.ts';
import { i32 } from '../wasm/expression.ts';
import type { FunctionBuilder, Label } from '../wasm/module.ts';
import { TranslationEmitter, type Edge, type Guess } from './emitter.ts';
import { RegionFunction } from './function.ts';
import { STORED, translationGroup, type KnownFlags } from './lazy-flags.ts';
import type { Region } from './region.ts';
import { fallsThrough, jumpTarget, RegionFinder } from './region.ts';

/**
 * Runs of a block before it is translated. Translating costs as much as some hundred runs save; in a boot, which is
 * mostly code that runs a few times, 400 to 1000 were best, and a program that computes doesn't notice.
 */
export const HOT_RUNS = 800;
/** Regions that are translated into one module: beyond a few dozen the cost of each hardly falls. */
const BATCH = 48;
/**
 * Milliseconds that hot blocks wait for company at most: a module costs about 0.3 ms before its first function,
 * and in this time the handlers run what is hot.
 */
const PATIENCE_MS = 20;

/** A region that is in place: in the handler's place of its head's first record. */
interface Translation {
  head: number;
  slot: number;
  /** First records of all its blocks. */
  members: number[];
}

/**
 * The second tier: the region of a block that has run often becomes one WebAssembly function, put in the place
 * of its first record's handler. Links, the jump cache and invalidation go on working by that record.
 */
export class Translator {
  private readonly cpu: Cpu;
  private readonly handlers: Handlers;
  private readonly blocks: Blocks;
  private readonly finder: RegionFinder;
  private readonly batch: number;
  private waiting: number[] = [];
  /** By the first record of each block in it. */
  private readonly translations = new Map<number, Set<Translation>>();
  private nextFlush = 0;
  translated = 0;
  /** Time that translating took. */
  nanoseconds = 0;

  constructor(cpu: Cpu, handlers: Handlers, blocks: Blocks, hotRuns: number) {
    this.cpu = cpu;
    this.handlers = handlers;
    this.blocks = blocks;
    // Who wants everything translated at once (tests) doesn't want to wait for company.
    this.batch = hotRuns === 1 ? 1 : BATCH;
    this.finder = new RegionFinder(cpu, blocks, handlers, hotRuns);
  }

  /** Takes note of a hot block, by its first record; translates when enough are there. */
  add(record: number): void {
    this.waiting.push(record);
    if (this.waiting.length >= this.batch) this.flush();
  }

  /** Translates what has waited long enough. */
  poll(now: number): void {
    if (this.waiting.length > 0 && now >= this.nextFlush) this.flush(now);
  }

  /** Translates what waits. */
  private flush(now = performance.now()): void {
    this.nextFlush = now + PATIENCE_MS;
    const heads = this.waiting.flatMap((record) => {
      const block = this.blocks.blockAt(record);
      return block !== undefined && this.isCounting(record) ? [block] : [];
    });
    this.waiting = [];
    if (heads.length === 0) return;
    const regions = heads.map((head) => this.finder.find(head));
    const slots = this.handlers.compileFunctions(regions.map((region) => this.sourceOf(region)));
    regions.forEach((region, i) => this.install(region, slots[i]));
    this.translated += regions.length;
    this.nanoseconds += (performance.now() - now) * 1e6;
  }

  private isCounting(record: number): boolean {
    return this.cpu.words[record >>> 2] === FixedHandler.COUNTING;
  }

  private install({ members }: Region, slot: number): void {
    const head = members[0].block.record;
    const translation = { head, slot, members: members.map(({ block }) => block.record) };
    for (const record of translation.members) {
      const known = this.translations.get(record);
      if (known) known.add(translation);
      else this.translations.set(record, new Set([translation]));
    }
    this.cpu.words[head >>> 2] = slot;
  }

  /** Drops what waits: its records' memory is used for other blocks now. */
  forget(): void {
    this.waiting = [];
  }

  /** A block was dropped: so are the regions that it is in. */
  release(record: number): void {
    const translations = this.translations.get(record);
    if (translations === undefined) return;
    const { words } = this.cpu;
    for (const translation of translations) {
      const { head, slot, members } = translation;
      for (const member of members) {
        const others = this.translations.get(member)!;
        others.delete(translation);
        if (others.size === 0) this.translations.delete(member);
      }
      if (words[head >>> 2] === slot) {
        // Its head is still good: it has to become hot again.
        words[head >>> 2] = FixedHandler.COUNTING;
        const host = this.blocks.blockAt(head)?.host ?? 0;
        words[(head + Record.IMMEDIATE) >>> 2] = this.blocks.runsUntilHot(host - (host % 4096));
      }
      this.handlers.release(slot);
    }
  }

  private sourceOf(region: Region): FunctionSource {
    const { words } = this.cpu;
    const groups = region.members.flatMap(({ records }) =>
      records.flatMap((record) => this.handlers.meaningOf(words[record >>> 2])?.meaning.group ?? []),
    );
    return { groups: [...groups, translationGroup], build: (f, callees) => this.build(region, f, callees) };
  }

  private build(region: Region, f: FunctionBuilder, callees: Callees): void {
    const [head] = region.members;
    const codeSize = codeSizeOf(head.block.context);
    const frame = new RegionFunction(f, callees, codeSize);
    frame.build(() => new RegionBody(region, frame, callees, this.cpu.words, this.handlers).write());
  }
}

/** Writes a region's blocks with loops and blocks of WebAssembly, so that every edge is a jump. */
class RegionBody {
  private readonly region: Region;
  private readonly frame: RegionFunction;
  private readonly callees: Callees;
  private readonly words: Int32Array;
  private readonly handlers: Handlers;
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
  ) {
    this.region = region;
    this.frame = frame;
    this.callees = callees;
    this.words = words;
    this.handlers = handlers;
  }

  write(): void {
    this.flagsAt[0] = STORED;
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

  /** At the start of the outermost level: goes to the member that was asked for. */
  private dispatch(): void {
    const { f, dispatch } = this.frame;
    const others = [...this.region.dispatched].filter((one) => one !== 0);
    f.block((first) => f.switch(dispatch, [first, ...others.map((to) => this.forwards[to]!), first]));
  }

  private upTo(count: number, cuts: number[], head: number, first: number, last: number): void {
    if (count > 0) {
      this.frame.f.block((label) => {
        this.forwards[cuts[count - 1]] = label;
        this.upTo(count - 1, cuts, head, first, last);
      });
    }
    if (count === 0 && head < 0 && this.dispatcher !== undefined) this.dispatch();
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
    const { records, guesses } = region.members[index];
    // What comes from behind is not known yet.
    const entered = region.loopEnds[index] !== undefined || region.dispatched.has(index);
    frame.flags.known = entered ? null : (this.flagsAt[index] ?? null);
    const places = [...guesses].sort((a, b) => a - b);
    for (const record of records) {
      f.recycleLocals();
      const assigned = handlers.meaningOf(words[record >>> 2])!;
      const edge = this.edgeOf(index, jumpTarget(words, record, assigned));
      const guessed = assigned.meaning.ending ? places.flatMap((at) => this.guessOf(index, at)) : [];
      const emitter = new TranslationEmitter(frame, assigned.form, callees, words, record, edge, guessed);
      assigned.meaning.semantics(emitter);
      emitter.finish();
      // The joining record after it is never reached.
      if (!fallsThrough(assigned)) break;
    }
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
      f.set(frame.dispatch, i32.const(this.dispatchNumber(to)));
      f.break(this.dispatcher!);
    };
    return { back: true, jump };
  }

  /** 0 is the first member. */
  private dispatchNumber(index: number): number {
    return index === 0 ? 0 : [...this.region.dispatched].filter((one) => one !== 0).indexOf(index) + 1;
  }
}

function agreed(a: KnownFlags | null, b: KnownFlags | null): KnownFlags | null {
  if (a === null || b === null || a.kind !== b.kind || a.bits !== b.bits) return null;
  const same = a.rotation?.left === b.rotation?.left && a.rotation?.bits === b.rotation?.bits;
  return same ? a : null;
}
