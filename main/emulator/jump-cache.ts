import type { Cpu } from './cpu.ts';
import {
  Area,
  EVERY_GENERATION,
  Field,
  JUMP_CACHE_ENTRIES,
  JUMP_CACHE_WAYS,
  NO_PAGE,
  Record,
  noRecord,
} from './state.ts';

const PAGE = 4096;
/** In the upper half of a key that nothing matches: not canonical, whatever the salt. */
const NO_KEY_HIGH = 0x0007ffff;
/** Entries in use up to which each is cleared on its own: as many as fit into the time that clearing all takes. */
const LISTED = JUMP_CACHE_ENTRIES / 16;
const LAST_GENERATION = 0x7fffffff;

/**
 * Finds the block at a linear address for jumps that lead out of what they know. An entry is the address of a block's
 * head, whose KEY says which linear address it is for, so that a jump touches one place more than it needs anyway.
 * After a load of CR3 a head of another generation is good once more if its page is where it was (generate/jump-cache.ts).
 */
export class JumpCache {
  private readonly cpu: Cpu;
  private readonly start: number;
  /** Entries in use, if they are few. */
  private readonly listed = new Int32Array(LISTED);
  private count = 0;
  /** Linear pages that heads' keys may be in, and of those the ones that are good in every generation. */
  private readonly pages = new Set<number>();
  private readonly globalPages = new Set<number>();
  private lastPage = -1;
  private codeLimit = 0xffffffff;
  private codeBase = 0;

  constructor(cpu: Cpu) {
    this.cpu = cpu;
    this.start = (cpu.s + Area.JUMP_CACHE) >>> 2;
    clearHead(cpu.words, noRecord(cpu.s), NO_PAGE);
    this.count = LISTED + 1;
    this.forgetAll();
  }

  /**
   * Remembers that the code of a linear address is at a record, in every generation if its pages are global: `pages` of them
   * from the address on.
   */
  remember(low: number, high: number, record: number, pages: number, global: boolean): void {
    const { cpu } = this;
    const { words } = cpu;
    // With the entries the pages are forgotten, of which programs that come and go leave ever more.
    if (this.pages.size >= JUMP_CACHE_ENTRIES) this.forgetAll();
    const at = this.start + ((low ^ (low >>> 12)) & (JUMP_CACHE_ENTRIES - 1));
    for (let way = JUMP_CACHE_WAYS - 1; way > 0; way--) this.put(at ^ way, words[at ^ (way - 1)]);
    this.put(at, record);
    words[(record + Record.KEY) >>> 2] = low;
    words[(record + Record.KEY + 4) >>> 2] = high + cpu.high(Field.JUMP_SALT);
    words[(record + Record.GENERATION) >>> 2] = global ? EVERY_GENERATION : cpu.get(Field.JUMP_GENERATION);
    const page = high * (2 ** 32 / PAGE) + (low >>> 12);
    if (global) for (let i = 0; i < pages; i++) this.globalPages.add(page + i);
    if (page === this.lastPage) return;
    this.pages.add((this.lastPage = page));
  }

  private put(at: number, record: number): void {
    const { words, s } = this.cpu;
    const none = noRecord(s);
    if (record === none) return;
    if (words[at] === none) {
      if (this.count < LISTED) this.listed[this.count] = at;
      this.count++;
    }
    words[at] = record;
  }

  /** Nothing that isn't global is known to hold any more: a load of CR3. */
  forgetLocal(): void {
    const { cpu } = this;
    const generation = cpu.get(Field.JUMP_GENERATION);
    if (generation === LAST_GENERATION) this.forgetAll();
    else cpu.set(Field.JUMP_GENERATION, generation + 1);
  }

  /** A linear page is mapped anew. */
  forgetPage(page: number): void {
    // An instruction at the end of the page before may go on in this one.
    if (this.globalPages.has(page)) this.forgetAll();
    else if (this.pages.has(page) || this.pages.has(page - 1)) this.forgetLocal();
  }

  /** It holds what fits the code segment: another limit or base makes it worthless. */
  forgetOnLimit(limit: number, base: number): void {
    if (limit === this.codeLimit && base === this.codeBase) return;
    this.codeLimit = limit;
    this.codeBase = base;
    this.forgetAll();
  }

  forgetAll(): void {
    const { words, s } = this.cpu;
    const none = noRecord(s);
    if (this.count > LISTED) words.fill(none, this.start, this.start + JUMP_CACHE_ENTRIES);
    else for (let i = 0; i < this.count; i++) words[this.listed[i]] = none;
    this.count = 0;
    this.pages.clear();
    this.globalPages.clear();
    this.lastPage = -1;
    // Heads are reached by the entries alone, and get the generation with their entry.
    this.cpu.set(Field.JUMP_GENERATION, 0);
  }
}

/** Makes a block's head one that no address leads to yet. `hostPage`: where its bytes are, or NO_PAGE. */
export function clearHead(words: Int32Array, record: number, hostPage: number): void {
  words[(record + Record.HOST) >>> 2] = hostPage;
  words[(record + Record.KEY) >>> 2] = -1;
  words[(record + Record.KEY + 4) >>> 2] = NO_KEY_HIGH;
}
