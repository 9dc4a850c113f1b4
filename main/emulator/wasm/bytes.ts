/** A growing byte buffer with WebAssembly's variable-length integers (core specification 5.2.2). */
export class ByteWriter {
  private data: Uint8Array;
  length = 0;

  /** Most handlers and small modules fit 1 KiB; larger ones double it. */
  constructor(capacity = 1024) {
    this.data = new Uint8Array(capacity);
  }

  private reserve(more: number): void {
    if (this.length + more <= this.data.length) return;
    const grown = new Uint8Array(Math.max(this.data.length * 2, this.length + more));
    grown.set(this.data.subarray(0, this.length));
    this.data = grown;
  }

  byte(value: number): void {
    if (this.length === this.data.length) this.reserve(1);
    this.data[this.length++] = value;
  }

  raw(bytes: Uint8Array | readonly number[]): void {
    this.reserve(bytes.length);
    this.data.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** Writes over bytes. */
  replace(at: number, bytes: readonly number[]): void {
    this.data.set(bytes, at);
  }

  /** Puts bytes between others. */
  insert(at: number, bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.data.copyWithin(at + bytes.length, at, this.length);
    this.data.set(bytes, at);
    this.length += bytes.length;
  }

  /** Unsigned LEB128 of a number below 2^32. */
  unsigned(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  /** Signed LEB128 of a 32-bit integer. */
  signed32(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  /** Signed LEB128 of a safe integer. */
  signed(value: number): void {
    let rest = value;
    while (rest !== (rest | 0)) {
      const next = Math.floor(rest / 128);
      this.byte((rest - 128 * next) | 0x80);
      rest = next;
    }
    this.signed32(rest);
  }

  /** Signed LEB128 of a 64-bit integer. */
  signed64(value: bigint): void {
    let rest = BigInt.asIntN(64, value);
    if (rest >= -0x80000000n && rest <= 0x7fffffffn) {
      this.signed32(Number(rest));
      return;
    }
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.unsigned(bytes.length);
    this.raw(bytes);
  }

  /** A copy of what was written. */
  toBytes(): Uint8Array<ArrayBuffer> {
    return this.data.slice(0, this.length) as Uint8Array<ArrayBuffer>;
  }

  /** What was written, without a copy: valid until the next write. */
  view(): Uint8Array {
    return this.data.subarray(0, this.length);
  }
}
