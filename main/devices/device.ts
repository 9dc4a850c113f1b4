import type { SavedRegisters } from './registers.ts';

/**
 * What a device may know of the machine that it sits in. A device never sees a vCPU, a backend, Node or
 * Electron: host resources (a file, a socket) reach it as a small interface handed to its constructor.
 */

/** Guest-physical memory, as a bus master sees it. Ranges are checked here: false or a throw, never a wild access. */
export interface GuestMemory {
  /** True when all of [gpa, gpa + length) is RAM. */
  isRam(gpa: number, length: number): boolean;
  /** Copies guest memory out. Throws GuestAddressError when a byte of it is not RAM. */
  read(gpa: number, into: Uint8Array): void;
  /** Copies into guest memory (and lets the backend forget code that stood there). Throws GuestAddressError. */
  write(gpa: number, from: Uint8Array): void;
  readU16(gpa: number): number;
  readU32(gpa: number): number;
  writeU16(gpa: number, value: number): void;
  writeU32(gpa: number, value: number): void;
  /** Runs `use` on each piece of [gpa, gpa + length) in place, without a copy. `write`: the pieces will be modified. */
  forEachPiece(gpa: number, length: number, write: boolean, use: (piece: Uint8Array) => void): void;
}

/** A guest gave a device an address that is not RAM: the guest's fault, never the host's. */
export class GuestAddressError extends Error {
  constructor(gpa: number, length: number) {
    super(`guest-physical range 0x${gpa.toString(16)} + 0x${length.toString(16)} is not RAM`);
    this.name = 'GuestAddressError';
  }
}

/** An interrupt input of a controller. Level: stays until lowered. A pulse is set(true), set(false). */
export interface IrqLine {
  set(level: boolean): void;
}

/** Takes message-signalled interrupts: a 32-bit write of `data` to `address` in 0xFEExxxxx. */
export interface MsiSink {
  send(address: number, data: number): void;
}

/** Time since the machine was powered on, in nanoseconds (a double: exact for 104 days). Stands still while paused. */
export interface Clock {
  now(): number;
}

/** Something that wants to be called at a time. The machine asks before it sleeps, after every exit batch and every slice. */
export interface Timed {
  /** Nanoseconds on the machine's clock, or Infinity. */
  nextDeadline(): number;
  /** Does everything that is due at `now`. */
  tick(now: number): void;
}

/** Who accesses what: tracing needs no device code. */
export interface AccessInfo {
  /** vCPU id, or -1 for a debugger. */
  vcpu: number;
  /** Port, or guest-physical address. */
  address: number;
}

/**
 * Something on a bus. Offsets are relative to where it was put. `size` is 1, 2 or 4 for ports, 1, 2, 4 or 8
 * for memory; values are unsigned numbers up to 32 bits: an 8-byte memory access reaches a device as two
 * 4-byte ones, low first, unless the device has read64/write64.
 */
export interface BusDevice {
  read(offset: number, size: number, info: AccessInfo): number;
  write(offset: number, size: number, value: number, info: AccessInfo): void;
  /** What byte reads there give, and do nothing else, until something happens to the device; -1: it must be asked. */
  standing?(offset: number): number;
  /**
   * How many bytes written there may reach the device late, all together and in order: they raise no interrupt, and change
   * nothing that reads of it show before they have arrived. 0: none.
   */
  patience?(offset: number): number;
}

export interface Device {
  /** A short stable name: the key in snapshots and in the register view, such as `uart0` or `pic`. */
  readonly name: string;
  reset(): void;
  save(): SavedRegisters;
  load(saved: SavedRegisters): void;
}
