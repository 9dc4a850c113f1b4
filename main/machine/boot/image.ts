import { GuestAddressError } from '../../devices/device.ts';
import { MachineError } from '../errors.ts';
import type { GuestRam } from '../memory.ts';
import type { VcpuState } from '../../nvmm/layout.ts';

/** A file that can't be booted: the message names it, says what is wrong in it, and where. */
export class ImageError extends MachineError {
  constructor(file: string, what: string) {
    super('host', `${file}: ${what}`);
    this.name = 'ImageError';
  }
}

/** What a loader fills: guest memory, and the state that the first vCPU starts with. */
export interface BootTarget {
  ram: GuestRam;
  state: VcpuState;
  /** Guest-physical address of the ACPI RSDP; 0 when there are no tables. */
  rsdp: number;
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/**
 * The bytes of a file that nobody trusts. Each access is checked against the end of the file, without sums
 * that could overflow: offsets come from the file itself.
 */
export class Image {
  readonly name: string;
  readonly bytes: Uint8Array;
  private readonly view: DataView;

  constructor(name: string, bytes: Uint8Array) {
    this.name = name;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.bytes.length;
  }

  fail(what: string): ImageError {
    return new ImageError(this.name, what);
  }

  /** Throws unless [at, at + length) is in the file. `what` names the thing that would be there. */
  check(at: number, length: number, what: string): void {
    if (!(at >= 0 && length >= 0 && at <= this.length && length <= this.length - at)) {
      throw this.fail(
        `truncated: ${what} at ${hex(at)} needs ${length} bytes, and the file has ${this.length}`,
      );
    }
  }

  u8(at: number, what: string): number {
    this.check(at, 1, what);
    return this.bytes[at];
  }

  u16(at: number, what: string): number {
    this.check(at, 2, what);
    return this.view.getUint16(at, true);
  }

  u32(at: number, what: string): number {
    this.check(at, 4, what);
    return this.view.getUint32(at, true);
  }

  /** A 64-bit number; one beyond 2^53 is no offset, size or address that a file can mean. */
  u64(at: number, what: string): number {
    this.check(at, 8, what);
    const value = this.view.getUint32(at, true) + this.view.getUint32(at + 4, true) * 2 ** 32;
    if (!Number.isSafeInteger(value)) {
      throw this.fail(`${what} is ${hex(value)}, which is no sensible number`);
    }
    return value;
  }

  slice(at: number, length: number, what: string): Uint8Array {
    this.check(at, length, what);
    return this.bytes.subarray(at, at + length);
  }

  /** Copies a part of the file into guest memory, or says that it does not fit there. */
  load(ram: GuestRam, gpa: number, at: number, length: number, what: string): void {
    const part = this.slice(at, length, what);
    this.fits(ram, gpa, length, what);
    ram.write(gpa, part);
  }

  /** Throws unless [gpa, gpa + length) is RAM. */
  fits(ram: GuestRam, gpa: number, length: number, what: string): void {
    if (ram.isRam(gpa, length)) return;
    throw this.fail(
      `${what} wants ${hex(length)} bytes of memory at ${hex(gpa)}, and the machine has none there ` +
        `(its memory ends at ${hex(ram.lowEnd)}): give it more memory`,
    );
  }
}

/** Text as the guest reads it: bytes and a zero. Throws when it does not fit in `limit` bytes with its zero. */
export function commandLine(image: Image, text: string, limit: number): Uint8Array {
  const bytes = new TextEncoder().encode(`${text}\0`);
  if (bytes.length > limit) {
    throw image.fail(`the command line has ${bytes.length - 1} bytes, and this kernel takes ${limit - 1}`);
  }
  if (text.includes('\0')) throw image.fail('the command line has a zero byte in it');
  return bytes;
}

/** Runs a loader; an address of the file that is no RAM becomes the file's fault, in words. */
export function blameFile<T>(name: string, load: () => T): T {
  try {
    return load();
  } catch (error) {
    if (error instanceof GuestAddressError) throw new ImageError(name, error.message);
    throw error;
  }
}
