import type { TlbProbe } from '../generate/tlb.ts';
import { Slot } from '../state.ts';
import { i32, i64, LocalHole, NumberHole, type I32, type I64, type Local } from '../wasm/expression.ts';
import type { FunctionBuilder } from '../wasm/module.ts';

/**
 * Bytes that a window spans at most: the members of a structure that are used together and the registers that a function
 * saves. The more it is, the more often a page ends in it.
 */
export const SPAN = 128;
/** The number of RSP. */
export const STACK_POINTER = 4;
/** Windows that are open at a time: a block rarely uses more bases than it has in registers of its own. */
const MOST = 6;

/** A place that is known as a constant distance from a register. */
export interface Place {
  /** A general register, or Slot.CODE_BASE or ZERO, which don't change in a block. */
  readonly base: number;
  /** Changes of the register, other than by constants, before it. */
  readonly version: number;
  /** Bytes from what the register was after the last of those. */
  readonly distance: number;
}

/** What one look at a translation table covers: [low, high), as distances. */
interface Window {
  readonly base: number;
  /** The host address of the access that opened it, and its distance. */
  readonly host: Local<'i32'>;
  readonly anchor: number;
  low: number;
  high: number;
  writes: boolean;
  readonly table: LocalHole<'i32'>;
  readonly toLow: NumberHole<'i64'>;
  readonly toLast: NumberHole<'i64'>;
}

/**
 * Accesses of a block that are near one another share a look at the translation table: the first one looks for all bytes
 * that the later ones turn out to want, which is filled in when the block ends. Within a block nothing takes an entry
 * of the table away. If a page ends among those bytes, or the table doesn't have it, handlers do the rest of the block.
 */
export class Windows {
  private readonly f: FunctionBuilder;
  private readonly hosts: Local<'i32'>[];
  private readonly tables: (writes: boolean) => Local<'i32'>;
  private readonly versions: number[] = [];
  private readonly moved: number[] = [];
  private open: Window[] = [];
  private readonly all: Window[] = [];
  private depth = 0;
  private enabled = false;
  private moving = -1;

  /** `tables`: the variables with the addresses of the tables for reading and writing. */
  constructor(f: FunctionBuilder, tables: (writes: boolean) => Local<'i32'>) {
    this.f = f;
    this.tables = tables;
    this.hosts = Array.from({ length: MOST }, () => f.local('i32'));
  }

  begin(enabled: boolean): void {
    this.open = [];
    this.enabled = enabled;
    this.depth = this.f.nesting;
  }

  /** Fills in how far the windows of the block reach, before anything is written in front of them. */
  end(): void {
    for (const { table, writes, toLow, toLast, low, high, anchor } of this.all) {
      this.f.fillHole(table, this.tables(writes));
      this.f.fillHole(toLow, low - anchor);
      this.f.fillHole(toLast, high - low - 1);
    }
    this.all.length = 0;
  }

  /** A place at a distance from a register as it is now. */
  place(base: number, displacement: number): Place {
    return {
      base,
      version: this.versions[base] ?? 0,
      distance: displacement + (this.moved[base] ?? 0),
    };
  }

  /** A register was changed. */
  changed(register: number): void {
    if (this.moving === register) return;
    this.versions[register] = (this.versions[register] ?? 0) + 1;
    this.moved[register] = 0;
    this.open = this.open.filter(({ base }) => base !== register);
  }

  /** A register is changed by a constant. */
  move(register: number, by: number, change: () => void): void {
    // On one way only: nothing is known after it.
    if (this.f.nesting === this.depth) {
      this.moving = register;
      this.moved[register] = (this.moved[register] ?? 0) + by;
    }
    change();
    this.moving = -1;
  }

  /** The host address of a place in a window, which reaches there from now on. */
  find(place: Place, bytes: number, writes: boolean): I32 | undefined {
    const { base, version, distance } = place;
    if (version !== (this.versions[base] ?? 0)) return undefined;
    for (const window of this.open) {
      const low = Math.min(window.low, distance);
      const high = Math.max(window.high, distance + bytes);
      if (window.base !== base || high - low > SPAN) continue;
      window.low = low;
      window.high = high;
      window.writes ||= writes;
      return this.f.let(i32.add(window.host, distance - window.anchor));
    }
    return undefined;
  }

  /** Opens a window at a place, whose linear address is bound; undefined where none can be. `missed` leaves. */
  openAt(
    tlb: TlbProbe,
    place: Place,
    linear: I64,
    bytes: number,
    writes: boolean,
    missed: () => void,
  ): I32 | undefined {
    const { f } = this;
    const { base, version, distance } = place;
    const current = version === (this.versions[base] ?? 0);
    if (!this.enabled || !current || f.nesting !== this.depth) return undefined;
    if (this.open.length === MOST) this.open.shift();
    const host = this.hosts.find((one) => this.open.every((window) => window.host !== one))!;
    const window: Window = {
      ...{ base, host, anchor: distance, low: distance, high: distance + bytes, writes },
      table: new LocalHole('i32'),
      toLow: new NumberHole('i64'),
      toLast: new NumberHole('i64'),
    };
    const low = f.let(i64.add(linear, window.toLow));
    const entry = tlb.entryIn(f, low, window.table);
    f.if(i32.eqz(tlb.hitUpTo(entry, i64.add(low, window.toLast))), missed);
    f.set(host, tlb.host(entry, linear));
    this.open.push(window);
    this.all.push(window);
    return host;
  }
}

/** Whether a slot is one that windows can have as their base. */
export function isBase(slot: number): boolean {
  return slot < 16 || slot === Slot.CODE_BASE || slot === Slot.ZERO;
}
