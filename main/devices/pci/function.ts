// PCI Local Bus Specification 3.0, chapter 6: one function's configuration space with a type 0 header.
import type { BusDevice, Device } from '../device.ts';
import type { RegisterArena, Registers, SavedRegisters } from '../registers.ts';

/** Section 6.1: offsets in the type 0 header, in bytes. */
export const HEADER = {
  VENDOR: 0x00,
  DEVICE: 0x02,
  /** 0 I/O decode, 1 memory decode, 2 bus master, 6 parity, 8 SERR, 10 INTx off. */
  COMMAND: 0x04,
  /** 3 INTx active, 4 has capabilities; 15:11 and 8 are errors, cleared by writing ones. */
  STATUS: 0x06,
  REVISION: 0x08,
  /** Three bytes: programming interface, subclass, class. */
  CLASS: 0x09,
  CACHE_LINE: 0x0c,
  LATENCY: 0x0d,
  TYPE: 0x0e,
  BAR: 0x10,
  SUBSYSTEM_VENDOR: 0x2c,
  SUBSYSTEM: 0x2e,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  /** 0 none, 1 INTA. */
  INTERRUPT_PIN: 0x3d,
  END: 0x40,
} as const;

export const COMMAND = { IO: 1, MEMORY: 2, MASTER: 4, PARITY: 0x40, SERR: 0x100, INTX_OFF: 0x400 } as const;
const STATUS = { INTX: 0x08, CAPABILITIES: 0x10 } as const;

/** Bytes of conventional configuration space; none of our functions has extended capabilities behind it. */
export const CONFIG_BYTES = 256;

const LAYOUT = {
  config: { type: 'u8', count: CONFIG_BYTES, about: 'configuration space' },
  intx: { type: 'u8', about: 'the function asks for its INTx interrupt' },
} as const;

export type BarKind = 'io' | 'memory32' | 'memory64';

/** A base address register and what is behind it. */
export interface Bar {
  /** 0-5; a memory64 one takes this and the next. */
  index: number;
  kind: BarKind;
  /** Bytes: a power of two; at least 4096 for memory (so that no page is shared), 4 to 256 for I/O. */
  size: number;
  device: BusDevice;
}

export interface PciIdentity {
  vendor: number;
  device: number;
  subsystemVendor: number;
  subsystem: number;
  /** Class, subclass and programming interface: 0xCCSSPP. */
  classCode: number;
  revision: number;
  /** 0 none, 1 INTA to 4 INTD. */
  interruptPin: number;
}

/** What a function tells the bus that it sits on. */
export interface PciParent {
  decodingChanged(kind: 'io' | 'memory'): void;
  intxChanged(): void;
}

/** Vendor-specific (ID 9), MSI-X (ID 17) and so on: the bytes behind ID and next pointer, and which bits can be written. */
export interface Capability {
  id: number;
  body: Uint8Array;
  writable?: Uint8Array;
}

export class PciFunction implements Device {
  readonly name: string;
  readonly bars: Bar[] = [];
  readonly interruptPin: number;
  protected readonly r: Registers<typeof LAYOUT>;
  /** The contents after reset, and which bits a write changes or clears. The same on every thread. */
  private readonly initial = new Uint8Array(CONFIG_BYTES);
  private readonly writable = new Uint8Array(CONFIG_BYTES);
  private readonly cleared = new Uint8Array(CONFIG_BYTES);
  private parent: PciParent | undefined;
  /** Where the next capability goes, and where its link does. */
  private nextCapability: number = HEADER.END;
  private link: number = HEADER.CAPABILITIES;

  constructor(name: string, arena: RegisterArena, id: PciIdentity) {
    this.name = name;
    this.r = arena.allocate(LAYOUT);
    this.interruptPin = id.interruptPin;
    const { initial, writable, cleared } = this;
    put(initial, HEADER.VENDOR, 2, id.vendor);
    put(initial, HEADER.DEVICE, 2, id.device);
    put(initial, HEADER.REVISION, 1, id.revision);
    put(initial, HEADER.CLASS, 3, id.classCode);
    put(initial, HEADER.SUBSYSTEM_VENDOR, 2, id.subsystemVendor);
    put(initial, HEADER.SUBSYSTEM, 2, id.subsystem);
    put(initial, HEADER.INTERRUPT_PIN, 1, id.interruptPin);
    put(writable, HEADER.COMMAND, 2, COMMAND.MASTER | COMMAND.PARITY | COMMAND.SERR | COMMAND.INTX_OFF);
    put(cleared, HEADER.STATUS, 2, 0xf900);
    put(writable, HEADER.CACHE_LINE, 1, 0xff);
    put(writable, HEADER.LATENCY, 1, 0xf8);
    put(writable, HEADER.INTERRUPT_LINE, 1, 0xff);
  }

  /** Puts the function on a bus. */
  attach(parent: PciParent): void {
    this.parent = parent;
  }

  reset(): void {
    this.r.resetAll();
    this.r.config.set(this.initial);
    this.parent?.decodingChanged('io');
    this.parent?.decodingChanged('memory');
    this.parent?.intxChanged();
  }

  save(): SavedRegisters {
    return this.r.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.r.loadAll(saved);
    this.parent?.decodingChanged('io');
    this.parent?.decodingChanged('memory');
  }

  /** Reads `size` bytes (1, 2, 4) of configuration space. */
  readConfig(offset: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value |= this.configByte(offset + i) << (8 * i);
    return value >>> 0;
  }

  writeConfig(offset: number, size: number, value: number): void {
    const { config } = this.r;
    const decoding = (this.command & (COMMAND.IO | COMMAND.MEMORY)) !== 0;
    for (let i = 0; i < size && offset + i < CONFIG_BYTES; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & 0xff;
      const mask = this.writable[at];
      config[at] = (config[at] & ~mask & ~(byte & this.cleared[at])) | (byte & mask);
    }
    const command = overlaps(offset, size, HEADER.COMMAND, 2);
    if (command || (decoding && overlaps(offset, size, HEADER.BAR, 24))) {
      for (const kind of ['io', 'memory'] as const) {
        if (this.bars.some((bar) => (bar.kind === 'io') === (kind === 'io'))) {
          this.parent?.decodingChanged(kind);
        }
      }
    }
    if (command) this.parent?.intxChanged();
  }

  get command(): number {
    return this.r.config[HEADER.COMMAND] | (this.r.config[HEADER.COMMAND + 1] << 8);
  }

  /** May the function read and write memory, and send messages? */
  get busMaster(): boolean {
    return (this.command & COMMAND.MASTER) !== 0;
  }

  /** Does it pull its interrupt pin? */
  get intxActive(): boolean {
    return this.r.intx !== 0 && (this.command & COMMAND.INTX_OFF) === 0;
  }

  setIntx(level: boolean): void {
    const value = level ? 1 : 0;
    if (this.r.intx === value) return;
    this.r.intx = value;
    this.parent?.intxChanged();
  }

  /** Where a BAR decodes, in its address space; -1 when decoding is off. */
  barBase(bar: Bar): number {
    const enable = bar.kind === 'io' ? COMMAND.IO : COMMAND.MEMORY;
    return (this.command & enable) === 0 ? -1 : this.barAddress(bar);
  }

  /** Puts a BAR at an address, as firmware does. */
  setBar(bar: Bar, address: number): void {
    const at = HEADER.BAR + 4 * bar.index;
    this.writeConfig(at, 4, address % 2 ** 32);
    if (bar.kind === 'memory64') this.writeConfig(at + 4, 4, Math.floor(address / 2 ** 32));
  }

  protected addBar(bar: Bar): void {
    const least = bar.kind === 'io' ? 4 : 4096;
    const most = bar.kind === 'io' ? 256 : 2 ** 31;
    if (bar.size < least || bar.size > most || (bar.size & (bar.size - 1)) !== 0) {
      throw new RangeError(`${this.name}: BAR ${bar.index} cannot have ${bar.size} bytes`);
    }
    const at = HEADER.BAR + 4 * bar.index;
    // Section 6.2.5.1: bit 0 I/O, bits 2:1 type (2: 64 bits).
    put(this.initial, at, 4, bar.kind === 'io' ? 1 : bar.kind === 'memory64' ? 4 : 0);
    put(this.writable, at, 4, ~(bar.size - 1) >>> 0);
    if (bar.kind === 'memory64') put(this.writable, at + 4, 4, 0xffffffff);
    this.writable[HEADER.COMMAND] |= bar.kind === 'io' ? COMMAND.IO : COMMAND.MEMORY;
    this.bars.push(bar);
  }

  /** Links a capability at the end of the list (section 6.7) and returns its offset. */
  protected addCapability({ id, body, writable }: Capability): number {
    const at = this.nextCapability;
    const end = at + 2 + body.length;
    if (end > CONFIG_BYTES) throw new RangeError(`${this.name}: no room for capability ${id}`);
    this.initial[at] = id;
    this.initial.set(body, at + 2);
    if (writable !== undefined) this.writable.set(writable, at + 2);
    this.initial[this.link] = at;
    this.initial[HEADER.STATUS] |= STATUS.CAPABILITIES;
    this.link = at + 1;
    this.nextCapability = (end + 3) & ~3;
    return at;
  }

  private barAddress(bar: Bar): number {
    const at = HEADER.BAR + 4 * bar.index;
    const low = (this.storedDword(at) & ~(bar.size - 1)) >>> 0;
    return bar.kind === 'memory64' ? this.storedDword(at + 4) * 2 ** 32 + low : low;
  }

  private storedDword(at: number): number {
    const { config } = this.r;
    return (config[at] | (config[at + 1] << 8) | (config[at + 2] << 16) | (config[at + 3] << 24)) >>> 0;
  }

  private configByte(at: number): number {
    if (at >= CONFIG_BYTES) return 0;
    const value = this.r.config[at];
    return at === HEADER.STATUS && this.r.intx !== 0 ? value | STATUS.INTX : value;
  }
}

/** Stores a little-endian number. */
export function put(into: Uint8Array, at: number, size: number, value: number): void {
  for (let i = 0; i < size; i++) into[at + i] = (value >>> (8 * i)) & 0xff;
}

/** Do [a, a + length) and [b, b + other) have a byte in common? */
export function overlaps(a: number, length: number, b: number, other: number): boolean {
  return a < b + other && b < a + length;
}
