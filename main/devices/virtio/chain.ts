// Virtual I/O Device (VIRTIO) 1.2, section 2.7.4.2: a descriptor chain, device-readable parts first.
import type { GuestMemory } from '../device.ts';

/** The guest gave a device something that the specification forbids. The device asks to be reset. */
export class VirtioFault extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'VirtioFault';
  }
}

/**
 * One request's buffers, copied from the ring: what the guest does to its descriptors afterwards changes nothing.
 * A device makes one and uses it again for each request.
 */
export class Chain {
  /** Index of the first descriptor: the request's name in the used ring. */
  head = 0;
  /** Bytes that the device may read, and bytes that it may write. */
  readable = 0;
  writable = 0;
  private readonly memory: GuestMemory;
  private readonly address: Float64Array;
  private readonly length: Uint32Array;
  private readers = 0;
  private count = 0;

  constructor(memory: GuestMemory, capacity: number) {
    this.memory = memory;
    this.address = new Float64Array(capacity);
    this.length = new Uint32Array(capacity);
  }

  clear(head: number): void {
    this.head = head;
    this.readable = 0;
    this.writable = 0;
    this.readers = 0;
    this.count = 0;
  }

  /** Adds a buffer. Throws VirtioFault when it is not RAM, stands in the wrong order or is one too many. */
  add(address: number, length: number, write: boolean): void {
    if (this.count === this.address.length) {
      throw new VirtioFault(`a chain of more than ${this.count} descriptors`);
    }
    if (!write && this.count !== this.readers) {
      throw new VirtioFault('a device-readable descriptor after a device-writable one');
    }
    if (length !== 0 && !this.memory.isRam(address, length)) {
      throw new VirtioFault(`a buffer of ${length} bytes at 0x${address.toString(16)}, which is not RAM`);
    }
    this.address[this.count] = address;
    this.length[this.count++] = length;
    if (write) this.writable += length;
    else {
      this.readable += length;
      this.readers++;
    }
  }

  /** Copies readable bytes from `offset` on into `into`; returns how many there were. */
  read(offset: number, into: Uint8Array): number {
    return this.pieces(false, offset, into.length, (piece, at) => into.set(piece, at));
  }

  /** Copies `from` to the writable bytes from `offset` on; returns how many fitted. */
  write(offset: number, from: Uint8Array): number {
    return this.pieces(true, offset, from.length, (piece, at) =>
      piece.set(from.subarray(at, at + piece.length)),
    );
  }

  /** Visits [offset, offset + length) of the readable bytes in place; `at` counts from `offset`. Returns the bytes visited. */
  eachReadable(offset: number, length: number, use: (piece: Uint8Array, at: number) => void): number {
    return this.pieces(false, offset, length, use);
  }

  /** The same for the writable bytes, which `use` fills. */
  eachWritable(offset: number, length: number, use: (piece: Uint8Array, at: number) => void): number {
    return this.pieces(true, offset, length, use);
  }

  private pieces(
    write: boolean,
    offset: number,
    length: number,
    use: (piece: Uint8Array, at: number) => void,
  ): number {
    let at = 0;
    let skip = offset;
    const end = write ? this.count : this.readers;
    for (let i = write ? this.readers : 0; i < end && at < length; i++) {
      const here = this.length[i];
      if (skip >= here) {
        skip -= here;
        continue;
      }
      const part = Math.min(here - skip, length - at);
      this.memory.forEachPiece(this.address[i] + skip, part, write, (piece) => {
        use(piece, at);
        at += piece.length;
      });
      skip = 0;
    }
    return at;
  }
}
