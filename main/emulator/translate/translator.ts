import type { Cpu } from '../cpu.ts';
import type { Handlers } from '../generate/handlers.ts';
import { Record } from '../state.ts';
import { TranslationEmitter } from './emitter.ts';

/**
 * Runs of a block before it is translated; 0 translates nothing. The tier is off until its own campaigns have
 * shown it to be as exact as the handlers.
 */
export const HOT_RUNS = 0;
/** Blocks that are translated into one module: beyond a few dozen the cost per block hardly falls. */
const BATCH = 24;

interface HotBlock {
  /** Address of its first record, the one that counts. */
  record: number;
  count: number;
}

/**
 * The second tier: a block that has run often becomes one WebAssembly function, put in the place of its first
 * record's handler. Links, the jump cache and invalidation go on working by that record.
 */
export class Translator {
  private readonly cpu: Cpu;
  private readonly handlers: Handlers;
  private waiting: HotBlock[] = [];
  private readonly slots = new Map<number, number>();
  translated = 0;

  private readonly batch: number;

  constructor(cpu: Cpu, handlers: Handlers, hotRuns: number) {
    // Who wants everything translated at once (tests) doesn't want to wait for company.
    this.batch = hotRuns === 1 ? 1 : BATCH;
    this.cpu = cpu;
    this.handlers = handlers;
  }

  /** Takes note of a hot block; translates when enough are there. */
  add(block: HotBlock): void {
    this.waiting.push(block);
    if (this.waiting.length >= this.batch) this.flush();
  }

  /** Translates what waits. */
  flush(): void {
    const batch = this.waiting.filter(({ record }) => this.handlers.isCounting(this.cpu.words[record >>> 2]));
    this.waiting = [];
    if (batch.length === 0) return;
    const { words } = this.cpu;
    const slots = this.handlers.compileFunctions(
      batch.map((block) => ({
        groups: this.recordsOf(block).flatMap(
          (record) => this.handlers.meaningOf(words[record >>> 2])?.meaning.group ?? [],
        ),
        build: (f, callees) => {
          const stale = f.local('i32');
          f.keepLocals();
          for (const record of this.recordsOf(block)) {
            f.recycleLocals();
            const { form, meaning } = this.handlers.meaningOf(words[record >>> 2])!;
            const emitter = new TranslationEmitter(f, form, callees, words, record, block.record, stale);
            meaning.semantics(emitter);
            emitter.finish(record + Record.SIZE);
          }
          f.unreachable();
        },
      })),
    );
    batch.forEach(({ record }, i) => {
      words[record >>> 2] = slots[i];
      this.slots.set(record, slots[i]);
    });
    this.translated += batch.length;
  }

  /** Drops what waits: its records' memory is used for other blocks now. */
  forget(): void {
    this.waiting = [];
  }

  /** The instructions' records: all but the counting one, with the joining one at the end. */
  private recordsOf({ record, count }: HotBlock): number[] {
    return Array.from({ length: count - 1 }, (_, i) => record + (i + 1) * Record.SIZE);
  }

  /** A block was dropped: its function may go. */
  release(record: number): void {
    const slot = this.slots.get(record);
    if (slot === undefined) return;
    this.slots.delete(record);
    this.handlers.release(slot);
  }
}
