/**
 * The two address spaces of a PC that devices sit in: 64 Ki I/O ports and memory-mapped ranges.
 *
 * Every access has one meaning. It is cut into naturally aligned pieces, none wider than what the device
 * there takes (`width`) and none reaching over the end of its range; the pieces go out in ascending order.
 * So a misaligned, a straddling or a too wide access is a series of plain ones, as on a bus with byte
 * enables. Bytes where nothing answers read all ones and drop what is written; such accesses are counted.
 *
 * Ranges that never move are registered. Ranges that the guest moves (BARs) are windows: their place is asked
 * of a callback over shared registers, and `changed()` tells every thread's bus to ask again.
 */
import type { AccessInfo, BusDevice } from './device.ts';
import { DeviceNames, NOBODY } from './device-names.ts';
import type { Layout, RegisterArena, Registers } from './registers.ts';

/** The halves of a 64-bit value, each unsigned. */
export interface Halves {
  low: number;
  high: number;
}

/** A device that wants aligned 8-byte memory accesses whole. */
export interface WideBusDevice extends BusDevice {
  read64(offset: number, into: Halves, info: AccessInfo): void;
  write64(offset: number, low: number, high: number, info: AccessInfo): void;
}

export interface RangeOptions {
  /** The widest access that the device takes, in bytes; wider ones are split. 4 unless given. */
  width?: 1 | 2 | 4;
  /** May lie over an older range, and is asked first for accesses that start in it (0xCF9 inside 0xCF8-0xCFF). */
  overlay?: boolean;
}

/** A registered range: what `remove` takes. */
export interface BusRange {
  readonly name: string;
  readonly start: number;
  readonly length: number;
}

/** A range that moves while the machine runs. */
export interface BusWindow {
  readonly name: string;
  /** Bytes. */
  readonly length: number;
  readonly device: BusDevice;
  readonly width?: 1 | 2 | 4;
  /** Where it is now, from registers that every thread shares; -1 while it does not decode. */
  base(): number;
}

/** What went to nobody, for the glass. */
export interface UnmappedCount {
  reads: number;
  writes: number;
  /** Addresses of the last ones; -1 when there was none. */
  lastRead: number;
  lastWrite: number;
}

const BUS = {
  version: { type: 'u32', about: 'counts moves of windows: a bus that has seen another number looks again' },
  unmappedReads: { type: 'f64', about: 'reads with bytes that nothing answered' },
  unmappedWrites: { type: 'f64', about: 'writes with bytes that nothing took' },
  lastRead: { type: 'f64', reset: -1, about: 'address of the last read that nothing answered' },
  lastWrite: { type: 'f64', reset: -1, about: 'address of the last write that nothing took' },
} as const satisfies Layout;

/** A stretch of addresses that one device answers. */
interface Segment {
  start: number;
  end: number;
  /** Where the device's offset 0 is. */
  origin: number;
  /** The end of the whole range, which an access that starts in the segment may reach. */
  limit: number;
  width: number;
  name: string;
  /** The name's number, see DeviceNames. */
  number: number;
  device: BusDevice;
  wide: WideBusDevice | null;
}

function isWide(device: BusDevice): device is WideBusDevice {
  const { read64, write64 } = device as Partial<WideBusDevice>;
  return typeof read64 === 'function' && typeof write64 === 'function';
}

/** All ones in 1, 2 or 4 bytes. */
function ones(size: number): number {
  return size === 1 ? 0xff : size === 2 ? 0xffff : 0xffffffff;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** What both buses share: the ranges, the splitting and the counting. How an address finds its segment differs. */
abstract class Bus {
  /** Bits 32-63 of the last 8-byte read. */
  high = 0;
  /** The number of the device that answered the last access (of several, the last), see DeviceNames; or NOBODY. */
  answered = NOBODY;
  private readonly regs: Registers<typeof BUS>;
  private readonly kind: string;
  private readonly limit: number;
  private readonly names: DeviceNames;
  private readonly ranges: Segment[] = [];
  private readonly windows: BusWindow[] = [];
  /** The version that the table was made for; -1: none. A cache, so it may be a plain field. */
  private seen = -1;
  private readonly info: AccessInfo = { vcpu: 0, address: 0 };
  private readonly halves: Halves = { low: 0, high: 0 };

  protected constructor(arena: RegisterArena, kind: string, limit: number, names: DeviceNames) {
    this.regs = arena.allocate(BUS);
    this.kind = kind;
    this.limit = limit;
    this.names = names;
  }

  /** Puts a device at [start, start + length) for good. Every thread must do the same, in the same order. */
  register(
    start: number,
    length: number,
    device: BusDevice,
    name: string,
    options: RangeOptions = {},
  ): BusRange {
    const end = start + length;
    const place = `${this.kind} ${hex(start)} + ${hex(length)}`;
    if (
      !Number.isSafeInteger(start) ||
      !Number.isSafeInteger(end) ||
      start < 0 ||
      length < 1 ||
      end > this.limit
    ) {
      throw new RangeError(`${name}: ${place} does not exist`);
    }
    const taken = this.ranges.find((other) => start < other.limit && other.start < end);
    if (taken !== undefined && options.overlay !== true) {
      throw new RangeError(`${name}: ${place} overlaps ${taken.name}`);
    }
    const range = this.segment(start, length, device, name, options.width ?? 4);
    this.ranges.push(range);
    this.seen = -1;
    return { name, start, length };
  }

  /** Takes a registered range away, on this thread only: what moves in a running machine is a window. */
  remove(range: BusRange): void {
    const at = this.ranges.findIndex(({ name, start }) => name === range.name && start === range.start);
    if (at < 0) throw new RangeError(`${range.name}: no such range is registered`);
    this.ranges.splice(at, 1);
    this.seen = -1;
  }

  /** Adds a range that moves. Registered ranges are asked before windows, older windows before newer ones. */
  window(window: BusWindow): void {
    this.windows.push(window);
    // Now, and not when it first decodes: the order must be the same on every thread.
    this.names.number(window.name);
    this.seen = -1;
  }

  /** A window moved, appeared or went: every thread's bus asks all of them again at its next access. */
  changed(): void {
    this.regs.version = (this.regs.version + 1) >>> 0;
  }

  /** The name of what answers at an address, or null. */
  nameOf(address: number): string | null {
    return this.at(address)?.name ?? null;
  }

  /** The number of what answers at an address (DeviceNames), or NOBODY. */
  numberOf(address: number): number {
    return this.at(address)?.number ?? NOBODY;
  }

  /** What byte reads of an address give until a device is touched, or -1: see BusDevice. */
  standing(address: number): number {
    const at = this.at(address);
    return at?.device.standing?.(address - at.origin) ?? -1;
  }

  /** How many bytes written to an address may reach their device late: see BusDevice. */
  patience(address: number): number {
    const at = this.at(address);
    return at?.device.patience?.(address - at.origin) ?? 0;
  }

  unmapped(): UnmappedCount {
    const { unmappedReads, unmappedWrites, lastRead, lastWrite } = this.regs;
    return { reads: unmappedReads, writes: unmappedWrites, lastRead, lastWrite };
  }

  /**
   * Reads 1, 2, 4 or 8 bytes. Returns the value, of 8 bytes the low half: the other one is then in `high`.
   * @param vcpu who reads; -1 for a debugger.
   */
  read(address: number, size: number, vcpu: number): number {
    this.info.vcpu = vcpu;
    const at = this.at(address);
    if (at === null || (address & (size - 1)) !== 0 || address + size > at.limit) {
      return this.readPieces(address, size);
    }
    if (size <= at.width) return this.readFrom(at, address, size);
    if (size !== 8 || at.wide === null) return this.readPieces(address, size);
    this.info.address = address;
    at.wide.read64(address - at.origin, this.halves, this.info);
    this.answered = at.number;
    this.high = this.halves.high >>> 0;
    return this.halves.low >>> 0;
  }

  /** Writes 1, 2, 4 or 8 bytes. `high` is bits 32-63 of an 8-byte value. */
  write(address: number, size: number, low: number, vcpu: number, high = 0): void {
    this.info.vcpu = vcpu;
    const at = this.at(address);
    if (at === null || (address & (size - 1)) !== 0 || address + size > at.limit) {
      this.writePieces(address, size, low, high);
    } else if (size <= at.width) {
      this.writeTo(at, address, size, low);
    } else if (size !== 8 || at.wide === null) {
      this.writePieces(address, size, low, high);
    } else {
      this.info.address = address;
      at.wide.write64(address - at.origin, low >>> 0, high >>> 0, this.info);
      this.answered = at.number;
    }
  }

  /** The segment that holds the address, or null. */
  protected abstract find(address: number): Segment | null;
  /** Makes the table anew. Each layer hides the ones before it. */
  protected abstract rebuild(layers: Segment[]): void;

  private at(address: number): Segment | null {
    const { version } = this.regs;
    if (version !== this.seen) {
      this.seen = version;
      this.rebuild(this.layers());
    }
    return this.find(address);
  }

  private layers(): Segment[] {
    const layers: Segment[] = [];
    for (const window of this.windows) {
      const start = window.base();
      if (start < 0 || start + window.length > this.limit) continue;
      layers.push(this.segment(start, window.length, window.device, window.name, window.width ?? 4));
    }
    return [...layers.reverse(), ...this.ranges];
  }

  private segment(start: number, length: number, device: BusDevice, name: string, width: number): Segment {
    const limit = start + length;
    return {
      start,
      end: limit,
      origin: start,
      limit,
      width,
      name,
      number: this.names.number(name),
      device,
      wide: isWide(device) ? device : null,
    };
  }

  private readFrom(at: Segment, address: number, size: number): number {
    this.info.address = address;
    const value = at.device.read(address - at.origin, size, this.info);
    this.answered = at.number;
    return (value & ones(size)) >>> 0;
  }

  private writeTo(at: Segment, address: number, size: number, value: number): void {
    this.info.address = address;
    at.device.write(address - at.origin, size, (value & ones(size)) >>> 0, this.info);
    this.answered = at.number;
  }

  private readPieces(address: number, size: number): number {
    let low = 0;
    let high = 0;
    let missed = false;
    this.answered = NOBODY;
    for (let done = 0; done < size;) {
      const at = this.at(address + done);
      const piece = this.pieceSize(at, address + done, size - done);
      const value = at === null ? 0xff : this.readFrom(at, address + done, piece);
      missed ||= at === null;
      for (let byte = 0; byte < piece; byte++, done++) {
        const bits = (value >>> (8 * byte)) & 0xff;
        if (done < 4) low |= bits << (8 * done);
        else high |= bits << (8 * (done - 4));
      }
    }
    if (missed) {
      this.regs.unmappedReads++;
      this.regs.lastRead = address;
    }
    this.high = high >>> 0;
    return low >>> 0;
  }

  private writePieces(address: number, size: number, low: number, high: number): void {
    let missed = false;
    this.answered = NOBODY;
    for (let done = 0; done < size;) {
      const at = this.at(address + done);
      const piece = this.pieceSize(at, address + done, size - done);
      let value = 0;
      for (let byte = 0; byte < piece; byte++) {
        const from = done + byte;
        value |= (((from < 4 ? low : high) >>> (8 * (from & 3))) & 0xff) << (8 * byte);
      }
      if (at === null) missed = true;
      else this.writeTo(at, address + done, piece, value >>> 0);
      done += piece;
    }
    if (missed) {
      this.regs.unmappedWrites++;
      this.regs.lastWrite = address;
    }
  }

  /** Bytes of the next piece of an access: a power of two, aligned, within the range and its width. */
  private pieceSize(at: Segment | null, address: number, left: number): number {
    if (at === null) return 1;
    let size = at.width;
    while (size > left || (address & (size - 1)) !== 0 || address + size > at.limit) size >>= 1;
    return size;
  }
}

/** I/O port space: 64 Ki ports, found by table. An access that runs over port 0xFFFF finds nothing there. */
export class PortBus extends Bus {
  private readonly table = new Uint16Array(0x10000);
  private segments: (Segment | null)[] = [null];

  constructor(arena: RegisterArena, names = new DeviceNames()) {
    super(arena, 'port', 0x10000, names);
  }

  protected find(port: number): Segment | null {
    return port < 0x10000 ? this.segments[this.table[port]] : null;
  }

  protected rebuild(layers: Segment[]): void {
    this.segments = [null, ...layers];
    this.table.fill(0);
    layers.forEach((layer, index) => this.table.fill(index + 1, layer.start, layer.end));
  }
}

/** Memory-mapped devices: sorted segments, found by binary search, the last one found tried first. */
export class MmioBus extends Bus {
  private segments: Segment[] = [];
  private last: Segment | null = null;

  constructor(arena: RegisterArena, names = new DeviceNames()) {
    // 52 bits are the most that x86 can address; sums of such numbers are exact in a double.
    super(arena, 'memory', 2 ** 52, names);
  }

  protected find(address: number): Segment | null {
    const { last, segments } = this;
    if (last !== null && address >= last.start && address < last.end) return last;
    let from = 0;
    let to = segments.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (segments[middle].end <= address) from = middle + 1;
      else to = middle;
    }
    if (from === segments.length || segments[from].start > address) return null;
    return (this.last = segments[from]);
  }

  protected rebuild(layers: Segment[]): void {
    let segments: Segment[] = [];
    for (const layer of layers) {
      segments = segments.flatMap((old) => {
        if (old.end <= layer.start || layer.end <= old.start) return [old];
        const left = { ...old, end: layer.start };
        const right = { ...old, start: layer.end };
        return [left, right].filter(({ start, end }) => start < end);
      });
      segments.push(layer);
    }
    this.segments = segments.sort((a, b) => a.start - b.start);
    this.last = null;
  }
}
