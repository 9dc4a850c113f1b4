/** A bounded queue of bytes inside a register block that has these three fields. */
export interface ByteQueue {
  /** Its length is the capacity. */
  readonly queue: Uint8Array;
  /** Index of the oldest byte. */
  head: number;
  /** Bytes in it. */
  count: number;
}

/** Adds all the bytes, or, when they don't fit, none: false. */
export function enqueue(to: ByteQueue, ...bytes: number[]): boolean {
  const { queue } = to;
  if (to.count + bytes.length > queue.length) return false;
  for (const byte of bytes) queue[(to.head + to.count++) % queue.length] = byte;
  return true;
}

/** Takes the oldest byte; -1 when there is none. */
export function dequeue(from: ByteQueue): number {
  if (from.count === 0) return -1;
  // Loaded state may hold anything.
  const byte = from.queue[from.head % from.queue.length];
  from.head = (from.head + 1) % from.queue.length;
  from.count--;
  return byte;
}
