/**
 * A byte ring between two threads over shared memory: one producer, one consumer, no lock.
 *
 * Each serial port and console has two. Output: the vCPU threads produce (one at a time, under the device
 * lock), the I/O thread consumes. Input: the other way round. A full ring refuses bytes, so the one who floods
 * it is slowed and memory is bounded.
 *
 * Layout (bytes): 0 write count, 4 consumer sleeps, 64 read count, 68 producer was refused, 128 data. Each side's
 * words have a cache line of their own. The counts run free modulo 2^32: the difference is what is in the ring.
 */

const WRITTEN = 0;
const SLEEPING = 1;
const READ = 16;
const REFUSED = 17;
const DATA = 128;

/**
 * Bytes of an output ring: a kernel's burst of messages (about 60 KiB in a verbose boot) fits without stalling
 * the guest, and a window that hangs holds no more than this.
 */
export const OUTPUT_RING_BYTES = 64 * 1024;

/** Bytes of an input ring: one pasted page. What is longer waits with the sender. */
export const INPUT_RING_BYTES = 16 * 1024;

/** Where a UART or console sends bytes. */
export interface SerialBackend {
  /** Sends a byte; false when there is no room: the sender keeps it and tries again. */
  output(byte: number): boolean;
  /** Bytes that would be taken now. */
  free(): number;
  /** The guest switched the break condition on or off. */
  sendBreak?(on: boolean): void;
}

/** Where a UART or console gets bytes from. */
export interface SerialSource {
  /** The next byte, or -1. */
  pull(): number;
  /** Bytes waiting. */
  available(): number;
}

export class SerialRing implements SerialBackend, SerialSource {
  private readonly words: Int32Array;
  private readonly data: Uint8Array;
  private readonly mask: number;
  private readonly buffer: SharedArrayBuffer;
  private readonly wake: (() => void) | undefined;

  /** The memory of a ring of `bytes` bytes (a power of two, so that counts wrap into it with a mask). */
  static allocate(bytes: number): SharedArrayBuffer {
    if (bytes < 1 || bytes > 2 ** 30 || (bytes & (bytes - 1)) !== 0) {
      throw new RangeError(`a serial ring has a power of two of bytes up to 2^30, not ${bytes}`);
    }
    return new SharedArrayBuffer(DATA + bytes);
  }

  /** `wake` is the producer's way to call a consumer that said `sleep()`; it runs on the producer's thread. */
  constructor(buffer: SharedArrayBuffer, wake?: () => void) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, DATA / 4);
    this.data = new Uint8Array(buffer, DATA);
    this.mask = this.data.length - 1;
    this.wake = wake;
  }

  /** What another thread needs to open the same ring. */
  share(): SharedArrayBuffer {
    return this.buffer;
  }

  /** Bytes waiting to be read. */
  available(): number {
    return (Atomics.load(this.words, WRITTEN) - Atomics.load(this.words, READ)) >>> 0;
  }

  /** Bytes that fit now. */
  free(): number {
    return this.data.length - this.available();
  }

  /** Producer: adds one byte; false when the ring is full. */
  output(byte: number): boolean {
    const written = this.words[WRITTEN];
    if ((written - Atomics.load(this.words, READ)) >>> 0 >= this.data.length) {
      Atomics.store(this.words, REFUSED, 1);
      // The consumer may have made room before it could see the mark.
      if ((written - Atomics.load(this.words, READ)) >>> 0 >= this.data.length) return false;
    }
    this.data[written & this.mask] = byte;
    Atomics.store(this.words, WRITTEN, (written + 1) | 0);
    this.called();
    return true;
  }

  /** Producer: adds as many of `bytes` as fit and returns how many those were. */
  write(bytes: Uint8Array): number {
    const room = this.free();
    if (bytes.length > room) Atomics.store(this.words, REFUSED, 1);
    const count = Math.min(bytes.length, room);
    if (count === 0) return 0;
    const written = this.words[WRITTEN];
    const at = written & this.mask;
    const first = Math.min(count, this.data.length - at);
    this.data.set(bytes.subarray(0, first), at);
    this.data.set(bytes.subarray(first, count), 0);
    Atomics.store(this.words, WRITTEN, (written + count) | 0);
    this.called();
    return count;
  }

  /** Consumer: takes one byte, or -1 when there is none. */
  pull(): number {
    const read = this.words[READ];
    if (Atomics.load(this.words, WRITTEN) === read) return -1;
    const byte = this.data[read & this.mask];
    Atomics.store(this.words, READ, (read + 1) | 0);
    return byte;
  }

  /** Consumer: takes up to into.length bytes and returns how many. */
  read(into: Uint8Array): number {
    const count = Math.min(into.length, this.available());
    if (count === 0) return 0;
    const read = this.words[READ];
    const at = read & this.mask;
    const first = Math.min(count, this.data.length - at);
    into.set(this.data.subarray(at, at + first), 0);
    into.set(this.data.subarray(0, count - first), first);
    Atomics.store(this.words, READ, (read + count) | 0);
    return count;
  }

  /** What waits in it. Only while neither side works. */
  contents(): Uint8Array {
    const read = this.words[READ];
    return Uint8Array.from({ length: this.available() }, (_, i) => this.data[(read + i) & this.mask]);
  }

  /** Puts other bytes in place of what waits; what does not fit is left out. Only while neither side works. */
  replace(bytes: Uint8Array): void {
    Atomics.store(this.words, READ, this.words[WRITTEN]);
    this.write(bytes);
  }

  /** Consumer: asks to be woken by the next byte. False when there is one already: read on instead. */
  sleep(): boolean {
    Atomics.store(this.words, SLEEPING, 1);
    if (this.available() === 0) return true;
    Atomics.store(this.words, SLEEPING, 0);
    return false;
  }

  /** Consumer, after reading: true once when the producer had been refused, and so waits to be polled. */
  takeRefused(): boolean {
    return Atomics.exchange(this.words, REFUSED, 0) === 1;
  }

  private called(): void {
    if (Atomics.load(this.words, SLEEPING) === 1 && Atomics.exchange(this.words, SLEEPING, 0) === 1) {
      this.wake?.();
    }
  }
}
