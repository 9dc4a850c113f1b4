/**
 * A writer of ACPI Machine Language: ACPI Specification 6.5, chapter 20 (encoding) and 6.4 (resource
 * descriptors). Each function returns the bytes of one term; terms are nested as in ASL.
 */

export type Aml = readonly number[];

/** An element of a package, a method's result and so on: bytes as they are, or a number or text to be encoded. */
export type Term = Aml | number | string;

function little(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, at) => Math.floor(value / 2 ** (8 * at)) % 256);
}

function term(value: Term): Aml {
  if (typeof value === 'number') return integer(value);
  return typeof value === 'string' ? text(value) : value;
}

/** Section 20.2.4. The length counts its own bytes. */
function withLength(body: Aml): number[] {
  const length = body.length;
  if (length + 1 < 0x40) return [length + 1, ...body];
  const extra = length + 2 < 2 ** 12 ? 1 : length + 3 < 2 ** 20 ? 2 : 3;
  const total = length + 1 + extra;
  return [(extra << 6) | (total & 15), ...little(Math.floor(total / 16), extra), ...body];
}

/** A path such as `_HID`, `\_SB.PCI0` or `^ABCD`: section 20.2.2. */
export function path(name: string): Aml {
  const prefix = /^[\\^]*/.exec(name)![0];
  const segments = name
    .slice(prefix.length)
    .split('.')
    .filter((segment) => segment !== '')
    .map((segment) => segment.padEnd(4, '_'));
  const wrong = segments.find((segment) => !/^[A-Z_][A-Z0-9_]{3}$/.test(segment));
  if (wrong !== undefined) throw new RangeError(`ACPI name ${name}: ${wrong} is not four capitals or digits`);
  const counts = [[0x00], [], [0x2e]][segments.length] ?? [0x2f, segments.length];
  return [...bytesOf(prefix), ...counts, ...bytesOf(segments.join(''))];
}

function bytesOf(value: string): number[] {
  return Array.from(value, (character) => character.charCodeAt(0));
}

/** An unsigned number below 2^53. */
export function integer(value: number): Aml {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`ACPI integer ${value} is not in 0 to 2^53 - 1`);
  }
  if (value < 2) return [value];
  if (value < 2 ** 8) return [0x0a, value];
  if (value < 2 ** 16) return [0x0b, ...little(value, 2)];
  if (value < 2 ** 32) return [0x0c, ...little(value, 4)];
  return [0x0e, ...little(value, 8)];
}

export function text(value: string): Aml {
  return [0x0d, ...bytesOf(value), 0];
}

/** A compressed EISA id such as PNP0A08: section 19.6.37. */
export function eisaId(id: string): Aml {
  const letters = bytesOf(id.slice(0, 3)).map((letter) => letter - 0x40);
  const product = parseInt(id.slice(3), 16);
  const maker = (letters[0] << 10) | (letters[1] << 5) | letters[2];
  // Both halves are stored high byte first.
  const swapped = [maker >> 8, maker & 0xff, product >> 8, product & 0xff];
  return integer(swapped.reduce((value, byte, at) => value + byte * 2 ** (8 * at), 0));
}

export function name(of: string, value: Term): Aml {
  return [0x08, ...path(of), ...term(value)];
}

export function scope(of: string, ...terms: Aml[]): Aml {
  return [0x10, ...withLength([...path(of), ...terms.flat()])];
}

export function device(of: string, ...terms: Aml[]): Aml {
  return [0x5b, 0x82, ...withLength([...path(of), ...terms.flat()])];
}

/** A method that is not serialized. */
export function method(of: string, parameters: number, ...terms: Aml[]): Aml {
  return [0x14, ...withLength([...path(of), parameters, ...terms.flat()])];
}

/** At most 255 elements. */
export function list(...elements: Term[]): Aml {
  return [0x12, ...withLength([elements.length, ...elements.map(term).flat()])];
}

export function buffer(bytes: Aml): Aml {
  return [0x11, ...withLength([...integer(bytes.length), ...bytes])];
}

export const Arg = (n: number): Aml => [0x68 + n];

export function store(value: Term, to: Aml): Aml {
  return [0x70, ...term(value), ...to];
}

export function giveBack(value: Term): Aml {
  return [0xa4, ...term(value)];
}

export function when(condition: Aml, ...terms: Aml[]): Aml {
  return [0xa0, ...withLength([...condition, ...terms.flat()])];
}

// Resource descriptors: section 6.4.

/** A resource template: descriptors and the end tag, whose checksum 0 says that there is none. */
export function resources(...descriptors: Aml[]): Aml {
  return buffer([...descriptors.flat(), 0x79, 0]);
}

/** Fixed ports, 16-bit decode: 6.4.2.5. */
export function io(port: number, length: number): Aml {
  return [0x47, 0x01, ...little(port, 2), ...little(port, 2), 1, length];
}

/** An edge-triggered, active-high ISA interrupt: 6.4.2.1. */
export function irq(number: number, shared = false): Aml {
  return [0x23, ...little(1 << number, 2), shared ? 0x11 : 0x01];
}

/** An ISA DMA channel, 8 bits, compatibility timing: 6.4.2.2. */
export function dma(channel: number): Aml {
  return [0x2a, 1 << channel, 0x00];
}

/** Writable memory that is always there: 6.4.3.4. */
export function memoryFixed(base: number, length: number): Aml {
  return [0x86, 9, 0, 1, ...little(base, 4), ...little(length, 4)];
}

const RANGE = { MEMORY: 0, IO: 1, BUS: 2 } as const;
/** Producer, both ends fixed, positive decode. */
const FIXED = 0x0c;

/** Address space descriptors: 6.4.3.5. `bytes` is the width of their fields. */
function addressSpace(
  tag: number,
  bytes: number,
  kind: number,
  flags: number,
  from: number,
  length: number,
): Aml {
  const fields = [0, from, from + length - 1, 0, length].flatMap((field) => little(field, bytes));
  return [tag, ...little(3 + fields.length, 2), kind, FIXED, flags, ...fields];
}

export function busNumbers(from: number, length: number): Aml {
  return addressSpace(0x88, 2, RANGE.BUS, 0, from, length);
}

/** Ports that a bridge passes on. */
export function ioWindow(from: number, length: number): Aml {
  return addressSpace(0x88, 2, RANGE.IO, 0x03, from, length);
}

/** Memory that a bridge passes on: uncached and writable; wider than 32 bits when it has to be. */
export function memoryWindow(from: number, length: number): Aml {
  const wide = from + length > 2 ** 32;
  return addressSpace(wide ? 0x8a : 0x87, wide ? 8 : 4, RANGE.MEMORY, 0x01, from, length);
}
