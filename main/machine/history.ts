import type { VcpuCapture } from './capture.ts';

/** A moment that a deterministic machine can be put back to. */
export interface Checkpoint {
  /** Instructions retired by then. */
  count: number;
  /** Inputs that had been taken by then. */
  inputs: number;
  vcpu: VcpuCapture;
  /** All device registers. */
  devices: Uint8Array;
  /** Pages as they were here, of those that had changed when the next checkpoint was taken: by place in RAM. */
  changed: Map<number, Uint8Array>;
}

const PAGE = 4096;
/** What a vCPU's state and a checkpoint's own objects take beside devices and pages: some 3 KiB. */
const FIXED_BYTES = 4096;
/**
 * A checkpoint may go when the gap that it leaves is at most this part of the way back to it: so a return into the past
 * replays at most an eighth of what it goes back, and a minute has some 50 checkpoints.
 */
const GAP = 1 / 8;

/** RAM as a history sees it. */
export interface HistoryRam {
  readonly bytes: Uint8Array;
  /** A byte for each page: not 0 when it may have changed since that byte was cleared. */
  readonly dirty: Uint8Array;
  /** Says that a piece of it was written by hand. */
  rewritten(at: number, size: number): void;
}

/**
 * The checkpoints of a machine, in memory. There is a copy of RAM as it was at the newest, and each older one has the
 * pages that were others then. Beyond a bound they become fewer; the newest two stay, whatever they take, so that there is
 * always a way back.
 */
export class History {
  private readonly ram: HistoryRam;
  private readonly limit: number;
  private shadow: Uint8Array | null = null;
  private readonly checkpoints: Checkpoint[] = [];
  private bytes = 0;

  /** `limit`: bytes of older pages, beside the copy of RAM. */
  constructor(ram: HistoryRam, limit: number) {
    this.ram = ram;
    this.limit = limit;
  }

  /** The newest that is not after this count of instructions: its index, or -1. */
  before(count: number): number {
    return this.checkpoints.findLastIndex((one) => one.count <= count);
  }

  count(index: number): number {
    return this.checkpoints[index].count;
  }

  clear(): void {
    this.checkpoints.length = 0;
    this.shadow = null;
    this.bytes = 0;
  }

  /** Takes one. The vCPU has to forget its translations before it runs on. */
  take(checkpoint: Omit<Checkpoint, 'changed'>): void {
    const { bytes, dirty } = this.ram;
    if (this.shadow === null) this.shadow = bytes.slice();
    else this.keep(this.shadow, this.checkpoints.at(-1)!);
    dirty.fill(0);
    const taken = { ...checkpoint, changed: new Map<number, Uint8Array>() };
    this.checkpoints.push(taken);
    this.bytes += sizeOf(taken);
    while (this.bytes > this.limit && this.checkpoints.length > 2) this.shrink();
  }

  /** Puts RAM back to where it was, and forgets what came later. The vCPU has to forget its translations, too. */
  restore(index: number): Checkpoint {
    const { dirty, bytes } = this.ram;
    const shadow = this.shadow!;
    for (const at of pagesIn(dirty)) this.put(at, shadow.subarray(at, Math.min(at + PAGE, bytes.length)));
    while (this.checkpoints.length > index + 1) {
      this.bytes -= sizeOf(this.checkpoints.pop()!);
      const { changed } = this.checkpoints.at(-1)!;
      for (const [at, page] of changed) {
        this.put(at, page);
        shadow.set(page, at);
        this.bytes -= page.length;
      }
      changed.clear();
    }
    dirty.fill(0);
    return this.checkpoints[index];
  }

  /** What is there already stays, and so does code that was made of it. */
  private put(at: number, page: Uint8Array): void {
    const there = this.ram.bytes.subarray(at, at + page.length);
    if (Buffer.compare(there, page) === 0) return;
    there.set(page);
    this.ram.rewritten(at, page.length);
  }

  /** Takes the copy to now; `last` gets what was in it. */
  private keep(shadow: Uint8Array, last: Checkpoint): void {
    const { bytes, dirty } = this.ram;
    for (const at of pagesIn(dirty)) {
      const now = bytes.subarray(at, at + PAGE);
      const then = shadow.subarray(at, at + PAGE);
      if (Buffer.compare(now, then) === 0) continue;
      last.changed.set(at, then.slice());
      this.bytes += then.length;
      then.set(now);
    }
  }

  /** Forgets the checkpoint that is missed least. */
  private shrink(): void {
    const { checkpoints } = this;
    const newest = checkpoints.at(-1)!.count;
    let [best, least] = [0, GAP];
    for (let i = 1; i < checkpoints.length - 1; i++) {
      const gap = (checkpoints[i + 1].count - checkpoints[i - 1].count) / (newest - checkpoints[i].count);
      if (gap < least) [best, least] = [i, gap];
    }
    const [gone] = checkpoints.splice(best, 1);
    this.bytes -= sizeOf(gone);
    if (best === 0) return;
    // What had not changed from the one before to this one was the same there.
    const { changed } = checkpoints[best - 1];
    for (const [at, page] of gone.changed) {
      if (changed.has(at)) continue;
      changed.set(at, page);
      this.bytes += page.length;
    }
  }
}

/** Places of the pages that are marked. */
function* pagesIn(dirty: Uint8Array): Generator<number> {
  for (let page = dirty.indexOf(1); page >= 0; page = dirty.indexOf(1, page + 1)) yield page * PAGE;
}

function sizeOf({ changed, devices }: Checkpoint): number {
  let size = FIXED_BYTES + devices.length;
  for (const { length } of changed.values()) size += length;
  return size;
}
