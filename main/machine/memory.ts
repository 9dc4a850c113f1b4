import type { GuestMemory } from '../devices/device.ts';
import { GuestAddressError } from '../devices/device.ts';
import { Prot } from '../nvmm/constants.ts';
import type { BackendMemory, Machine, MachineVerbs } from '../nvmm/nvmm.ts';
import { MachineError } from './errors.ts';

/**
 * A VM's memory: one shared WebAssembly.Memory, laid out as [backend-private | guest RAM], and the PC's map of
 * it into guest-physical space:
 *
 *   0x00000000 - 0x0009FFFF  RAM, 640 KiB
 *   0x000A0000 - 0x000BFFFF  nothing (VGA)
 *   0x000C0000 - 0x000FFFFF  RAM, where a PC has its ROMs: the ACPI tables are here
 *   0x00100000 - 0xBFFFFFFF  RAM as far as it goes
 *   0xC0000000 - 0xFFFFFFFF  the hole: PCI, I/O APIC, local APICs
 *   0x100000000 -            RAM that did not fit below the hole
 */

const KIB = 1024;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** Bytes of a wasm page. */
const WASM_PAGE = 65536;
/** One wasm memory with 32-bit addresses has at most 65536 pages. */
const WASM_LIMIT = 4 * GIB;

export const VGA_HOLE = 0xa0000;
export const VGA_HOLE_END = 0xc0000;
/** Where the ROM area starts; RAM from here to 1 MiB is reserved in E820. */
export const ROM_AREA = 0xe0000;
export const MEGABYTE = 0x100000;
export const PCI_HOLE = 3 * GIB;
/** The PCI configuration window: 1 MiB, bus 0. */
export const ECAM = 0xe000_0000;
const ECAM_SIZE = MIB;
export const HIGH_RAM = 4 * GIB;

/** The limits of the contract: below 4 MiB the tables and a guest do not fit. */
const SMALLEST = 4 * MIB;

/** A contiguous piece of RAM. */
interface Area {
  gpa: number;
  size: number;
  /** Offset in the shared memory. */
  hva: number;
}

/** E820 types (ACPI 6.5, 15.1). */
export const E820 = { RAM: 1, RESERVED: 2 } as const;
export interface E820Entry {
  start: number;
  size: number;
  type: number;
}

/** What another thread needs to see the same memory: structured-cloneable. */
export interface SharedMemory {
  memory: WebAssembly.Memory;
  privateSize: number;
  ramSize: number;
}

/** Makes the memory of a VM with `ramSize` bytes of RAM. Throws MachineError with the way out. */
export function createMemory(ramSize: number, privateSize: number): SharedMemory {
  const mib = (bytes: number): string => `${Math.round((bytes / MIB) * 10) / 10} MiB`;
  if (!Number.isSafeInteger(ramSize) || ramSize % MIB !== 0) {
    throw new MachineError('host', `Memory must be a whole number of MiB, not ${ramSize} bytes.`);
  }
  if (ramSize < SMALLEST) {
    throw new MachineError(
      'host',
      `${mib(ramSize)} of memory is too little: a machine needs ${mib(SMALLEST)}.`,
    );
  }
  const reserved = Math.ceil(privateSize / WASM_PAGE) * WASM_PAGE;
  if (ramSize + reserved > WASM_LIMIT) {
    const most = Math.floor((WASM_LIMIT - reserved) / MIB);
    throw new MachineError(
      'host',
      `${mib(ramSize)} of memory is too much: at most ${most} MiB fit in a machine.`,
    );
  }
  const pages = (ramSize + reserved) / WASM_PAGE;
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    return { memory, privateSize: reserved, ramSize };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new MachineError(
      'host',
      `The host has no ${mib(ramSize)} of memory for the machine (${why}): give it less.`,
    );
  }
}

/** What a backend is opened with. */
export function backendMemory(shared: SharedMemory): BackendMemory {
  return { memory: shared.memory, privateOffset: 0, privateSize: shared.privateSize };
}

/** Guest RAM as devices and loaders see it. One on each thread, over the same memory. */
export class GuestRam implements GuestMemory {
  readonly size: number;
  /** Every host address: the whole shared memory. */
  readonly host: Uint8Array;
  // Aligned accesses go through these: a DataView may take a word apart, and the guest races for ring indexes.
  private readonly words16: Uint16Array;
  private readonly words32: Uint32Array;
  private readonly view: DataView;
  private readonly areas: Area[];
  /** Host address of the first byte of RAM. */
  readonly start: number;
  /** Called after each write with a host address and a length, so that the backend can forget code there. */
  private written: (hva: number, size: number) => void = () => undefined;

  constructor(shared: SharedMemory) {
    this.size = shared.ramSize;
    this.host = new Uint8Array(shared.memory.buffer);
    this.words16 = new Uint16Array(shared.memory.buffer);
    this.words32 = new Uint32Array(shared.memory.buffer);
    this.view = new DataView(shared.memory.buffer);
    this.start = shared.privateSize;
    this.areas = layOut(shared);
  }

  /** All of it, as it lies in host memory: what is below the PCI hole, then the rest. */
  get bytes(): Uint8Array {
    return this.host.subarray(this.start, this.start + this.size);
  }

  /** From now on writes are told to this backend. */
  attach(nvmm: MachineVerbs): void {
    this.written = (hva, size) => nvmm.hvaWritten(hva, size);
  }

  /** A piece of `bytes`, or all of it, may have changed by other means than these. */
  rewritten(at = 0, size = this.size): void {
    this.written(this.start + at, size);
  }

  /** Gives the machine its memory. RAM is zero afterwards (hvaMap makes it so), so load images later. */
  map(nvmm: MachineVerbs, machine: Machine): void {
    nvmm.hvaMap(machine, this.start, this.size);
    for (const { hva, gpa, size } of this.areas) {
      nvmm.gpaMap(machine, hva, gpa, size, Prot.READ | Prot.WRITE | Prot.EXEC);
    }
  }

  /** End of the RAM below the PCI hole. */
  get lowEnd(): number {
    return Math.min(this.size, PCI_HOLE);
  }

  /** Bytes of RAM from 4 GiB on. */
  get aboveHole(): number {
    return Math.max(0, this.size - PCI_HOLE);
  }

  /** The map as a BIOS reports it (INT 15h, E820). */
  e820(): E820Entry[] {
    const entries: E820Entry[] = [
      { start: 0, size: 639 * KIB, type: E820.RAM },
      { start: 639 * KIB, size: KIB, type: E820.RESERVED },
      { start: ROM_AREA, size: MEGABYTE - ROM_AREA, type: E820.RESERVED },
      { start: MEGABYTE, size: this.lowEnd - MEGABYTE, type: E820.RAM },
      { start: ECAM, size: ECAM_SIZE, type: E820.RESERVED },
    ];
    if (this.aboveHole > 0) entries.push({ start: HIGH_RAM, size: this.aboveHole, type: E820.RAM });
    return entries;
  }

  isRam(gpa: number, length: number): boolean {
    return this.offset(gpa, length) >= 0;
  }

  /** How many of `length` bytes from `gpa` on are RAM. */
  extent(gpa: number, length: number): number {
    const area = this.areas.find((one) => gpa >= one.gpa && gpa < one.gpa + one.size);
    return area === undefined ? 0 : Math.min(length, area.gpa + area.size - gpa);
  }

  read(gpa: number, into: Uint8Array): void {
    const at = this.checked(gpa, into.length);
    into.set(this.host.subarray(at, at + into.length));
  }

  write(gpa: number, from: Uint8Array): void {
    const at = this.checked(gpa, from.length);
    this.host.set(from, at);
    this.written(at, from.length);
  }

  /** Fills [gpa, gpa + length) with zeroes. */
  zero(gpa: number, length: number): void {
    const at = this.checked(gpa, length);
    this.host.fill(0, at, at + length);
    this.written(at, length);
  }

  readU16(gpa: number): number {
    const at = this.checked(gpa, 2);
    return (at & 1) === 0 ? this.words16[at / 2] : this.view.getUint16(at, true);
  }

  readU32(gpa: number): number {
    const at = this.checked(gpa, 4);
    return (at & 3) === 0 ? this.words32[at / 4] : this.view.getUint32(at, true);
  }

  writeU16(gpa: number, value: number): void {
    const at = this.checked(gpa, 2);
    if ((at & 1) === 0) this.words16[at / 2] = value;
    else this.view.setUint16(at, value, true);
    this.written(at, 2);
  }

  writeU32(gpa: number, value: number): void {
    const at = this.checked(gpa, 4);
    if ((at & 3) === 0) this.words32[at / 4] = value;
    else this.view.setUint32(at, value, true);
    this.written(at, 4);
  }

  forEachPiece(gpa: number, length: number, write: boolean, work: (piece: Uint8Array) => void): void {
    // No two areas touch in guest-physical space, so a range that is all RAM is one piece.
    const at = this.checked(gpa, length);
    work(this.host.subarray(at, at + length));
    if (write) this.written(at, length);
  }

  private checked(gpa: number, length: number): number {
    const at = this.offset(gpa, length);
    if (at < 0) throw new GuestAddressError(gpa, length);
    return at;
  }

  /** The host address of a range that is all RAM, or -1. Also for numbers that are no addresses. */
  private offset(gpa: number, length: number): number {
    if (!(length >= 0)) return -1;
    for (let i = 0; i < this.areas.length; i++) {
      const area = this.areas[i];
      const inside = gpa - area.gpa;
      // Compared as a difference: gpa + length may not be exact when a guest gives a 64-bit address.
      if (inside >= 0 && inside <= area.size && length <= area.size - inside) return area.hva + inside;
    }
    return -1;
  }
}

function layOut({ privateSize, ramSize }: SharedMemory): Area[] {
  const low = Math.min(ramSize, PCI_HOLE);
  const areas: Area[] = [
    { gpa: VGA_HOLE_END, size: low - VGA_HOLE_END, hva: privateSize + VGA_HOLE_END },
    { gpa: 0, size: VGA_HOLE, hva: privateSize },
  ];
  if (ramSize > PCI_HOLE) {
    areas.splice(1, 0, { gpa: HIGH_RAM, size: ramSize - PCI_HOLE, hva: privateSize + PCI_HOLE });
  }
  return areas;
}
