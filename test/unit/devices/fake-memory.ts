import { GuestAddressError, type GuestMemory } from '../../../main/devices/device.ts';

/** A range of guest-physical addresses: [start, end). */
export interface RamRange {
  start: number;
  end: number;
}

/**
 * Guest memory over a plain buffer: RAM with a hole, as a PC has below 1 MiB. Pieces end at `pieceBytes`
 * boundaries, so that devices see what a fragmented memory would give them.
 */
export class FakeMemory implements GuestMemory {
  readonly ranges: RamRange[];
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly pieceBytes: number;

  constructor(ranges: RamRange[], pieceBytes = 4096) {
    this.ranges = ranges;
    this.pieceBytes = pieceBytes;
    this.bytes = new Uint8Array(Math.max(...ranges.map(({ end }) => end)));
    this.view = new DataView(this.bytes.buffer);
  }

  isRam(gpa: number, length: number): boolean {
    return this.ranges.some(({ start, end }) => gpa >= start && gpa + length <= end);
  }

  read(gpa: number, into: Uint8Array): void {
    this.check(gpa, into.length);
    into.set(this.bytes.subarray(gpa, gpa + into.length));
  }

  write(gpa: number, from: Uint8Array): void {
    this.check(gpa, from.length);
    this.bytes.set(from, gpa);
  }

  readU16(gpa: number): number {
    this.check(gpa, 2);
    return this.view.getUint16(gpa, true);
  }

  readU32(gpa: number): number {
    this.check(gpa, 4);
    return this.view.getUint32(gpa, true);
  }

  writeU16(gpa: number, value: number): void {
    this.check(gpa, 2);
    this.view.setUint16(gpa, value, true);
  }

  writeU32(gpa: number, value: number): void {
    this.check(gpa, 4);
    this.view.setUint32(gpa, value, true);
  }

  forEachPiece(gpa: number, length: number, _write: boolean, visit: (piece: Uint8Array) => void): void {
    this.check(gpa, length);
    const end = gpa + length;
    for (let at = gpa; at < end;) {
      const next = Math.min(end, (Math.floor(at / this.pieceBytes) + 1) * this.pieceBytes);
      visit(this.bytes.subarray(at, next));
      at = next;
    }
  }

  /** A hash of every byte that is not RAM: it must never change. */
  outside(): number {
    let hash = 0;
    for (let at = 0; at < this.bytes.length; at++) {
      if (!this.isRam(at, 1)) hash = (Math.imul(hash, 31) + this.bytes[at]) | 0;
    }
    return hash;
  }

  private check(gpa: number, length: number): void {
    if (!this.isRam(gpa, length)) throw new GuestAddressError(gpa, length);
  }
}
