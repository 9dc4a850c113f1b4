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
  /** Pages as they were here, of those that had changed when the next checkpoint was taken. */
  changed: { at: number; bytes: Uint8Array }[];
}

const PAGE = 4096;
/** Bytes that are compared at once, before the pages in them are. */
const PIECE = 2 ** 20;
/** What a checkpoint takes beside pages. */
const FIXED_BYTES = 2 ** 20;

/**
 * The checkpoints of a machine, in memory. There is a copy of RAM as it was at the newest, and each older one has the
 * pages that were others then; beyond a bound the oldest goes.
 */
export class History {
  private readonly ram: Uint8Array;
  private readonly limit: number;
  private shadow: Uint8Array | null = null;
  private readonly checkpoints: Checkpoint[] = [];
  private bytes = 0;

  /** `limit`: bytes of older pages, beside the copy of RAM. */
  constructor(ram: Uint8Array, limit: number) {
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

  /** Takes one. */
  take(checkpoint: Omit<Checkpoint, 'changed'>): void {
    if (this.shadow === null) this.shadow = this.ram.slice();
    else this.update(this.shadow, this.checkpoints.at(-1)!);
    this.checkpoints.push({ ...checkpoint, changed: [] });
    this.bytes += FIXED_BYTES;
    while (this.bytes > this.limit && this.checkpoints.length > 1) {
      this.bytes -= sizeOf(this.checkpoints.shift()!);
    }
  }

  /** Puts RAM back to where it was, and forgets what came later. */
  restore(index: number): Checkpoint {
    const { ram } = this;
    const shadow = this.shadow!;
    for (let at = 0; at < ram.length; at += PIECE) {
      const end = at + PIECE;
      if (Buffer.compare(ram.subarray(at, end), shadow.subarray(at, end)) !== 0) {
        ram.set(shadow.subarray(at, end), at);
      }
    }
    while (this.checkpoints.length > index + 1) {
      this.bytes -= sizeOf(this.checkpoints.pop()!) - this.undo(shadow);
    }
    return this.checkpoints[index];
  }

  /** Goes back from the checkpoint that was dropped to the newest that is left; the bytes that this frees, negative. */
  private undo(shadow: Uint8Array): number {
    const { changed } = this.checkpoints.at(-1)!;
    let freed = 0;
    for (const { at, bytes } of changed.splice(0)) {
      this.ram.set(bytes, at);
      shadow.set(bytes, at);
      freed -= bytes.length;
    }
    return freed;
  }

  private update(shadow: Uint8Array, last: Checkpoint): void {
    const { ram } = this;
    for (let piece = 0; piece < ram.length; piece += PIECE) {
      if (Buffer.compare(ram.subarray(piece, piece + PIECE), shadow.subarray(piece, piece + PIECE)) === 0) {
        continue;
      }
      for (let at = piece; at < Math.min(piece + PIECE, ram.length); at += PAGE) {
        const now = ram.subarray(at, at + PAGE);
        const then = shadow.subarray(at, at + PAGE);
        if (Buffer.compare(now, then) === 0) continue;
        last.changed.push({ at, bytes: then.slice() });
        this.bytes += PAGE;
        then.set(now);
      }
    }
  }
}

const sizeOf = ({ changed }: Checkpoint): number => FIXED_BYTES + changed.length * PAGE;
