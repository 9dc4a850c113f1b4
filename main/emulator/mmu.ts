import { Prot } from '../nvmm/constants.ts';
import { Cr0, Cr4, Efer, type Cpu } from './cpu.ts';
import { Vector } from './fault.ts';
import { JumpCache } from './jump-cache.ts';
import type { PhysicalMap } from './physical.ts';
import { Area, Field, TLB_ENTRIES, TLB_ENTRY, TLB_STRIDE, TlbKind, TlbSet, tlbOffset } from './state.ts';

/** What an access does: the index of its translation table. */
export const Access = { READ: TlbKind.READ, WRITE: TlbKind.WRITE, FETCH: TlbKind.FETCH } as const;

/** Page-table entry bits, low half. */
const Pte = { P: 1, W: 2, U: 4, A: 0x20, D: 0x40, PS: 0x80, G: 0x100 } as const;
const NX_HIGH = 1 << 31;
/** Page-fault error code (SDM vol. 3, 4.7). */
const PageFault = { P: 1, W: 2, U: 4, RSVD: 8, I: 16 } as const;

/** Physical addresses have 40 bits: more than NVMM's 128 GiB, and what small AMD processors have. */
export const PHYSICAL_BITS = 40;
const RESERVED_HIGH = (0xfffff << (PHYSICAL_BITS - 32)) & 0xfffff;

const TWO_32 = 2 ** 32;
const PROT_OF = [Prot.READ, Prot.WRITE, Prot.EXEC];
/** Marks an entry of the translation tables that nothing matches. */
const NO_TAG = 1;
const PAGE = 4096;
/** Words of a translation table's entries, and from one table to the next. */
const PLACES = 4 * TLB_ENTRIES;
const STRIDE = TLB_STRIDE / 4;
/** In place of an entry's place in its table. */
const NO_PLACE = -1;
const MANY_PLACES = -2;
/** In the fourth word of an entry, beside the host page: the translation came from a large page; it is global. */
const LARGE = 1;
const GLOBAL = 2;

/**
 * Entries that were filled since the last flush, beyond which clearing whole tables is as cheap. Also a bound
 * on the list's memory.
 */
const FILLED_MAXIMUM = 16384;

/** What translate() ended with when it gave -1. */
export const Failure = { NONE: 0, FAULT: 1, EXIT: 2 } as const;

/**
 * Paging (SDM vol. 3, chapter 4) and the software TLB. A translation that fails leaves either a fault
 * (FAULT_VECTOR, FAULT_ERROR and CR2 are set) or a guest-physical access that nothing serves
 * (`exitGpa`, `exitProt`), for the caller to turn into an exit.
 */
export class Mmu {
  private readonly cpu: Cpu;
  private readonly physical: PhysicalMap;
  /** Whether a host page holds decoded code: its entries are not filled for writing. */
  private readonly isCode: (hostPage: number) => boolean;
  /** By number of host page: set where the guest can have written since its translations were forgotten. */
  private readonly dirty: Uint8Array;
  /** Entries in use: those that a load of CR3 drops, and global ones. */
  private readonly filled = [new Places(FILLED_MAXIMUM), new Places(FILLED_MAXIMUM)] as const;
  readonly jumps: JumpCache;
  /** Gigabytes of linear addresses in which large pages were met since everything was flushed. */
  private readonly largeIn = new Set<number>();

  failure: number = Failure.NONE;
  exitGpa = 0;
  exitProt = 0;
  /** The exit is about a page table, not about what the access is for. */
  exitIsTable = false;
  /** Pages (linear, as low halves of page addresses) whose accesses are watched by data breakpoints. */
  watched: ((linear: number) => boolean) | undefined;
  misses = 0;

  /** By number of host page: the place of the entries that let it be written, if any do; NO_PLACE, or MANY_PLACES. */
  private readonly writable: Int32Array;
  /** Index of the first word of the translation tables, which lie one behind the other. */
  private readonly tables: number;

  /** Results of the last walk. */
  private pageGpa = 0;
  private pageGlobal = false;
  private pageLarge = false;
  private pageDirty = false;

  constructor(cpu: Cpu, physical: PhysicalMap, isCode: (hostPage: number) => boolean, dirty: Uint8Array) {
    this.cpu = cpu;
    this.physical = physical;
    this.isCode = isCode;
    this.dirty = dirty;
    this.writable = new Int32Array(cpu.bytes.length / PAGE).fill(NO_PLACE);
    this.tables = (cpu.s + Area.TLB) >>> 2;
    const end = TlbSet.COUNT * TlbKind.COUNT * STRIDE;
    for (let table = 0; table < end; table += STRIDE) {
      for (let at = 0; at < PLACES; at += 4) this.drop(this.tables + table + at);
    }
    this.jumps = new JumpCache(cpu);
  }

  /**
   * Host address of a linear address for an access, or -1 (see `failure`). `user` is false for what the
   * processor does on its own behalf (descriptor tables, TSS), whatever the CPL.
   */
  translate(linear: number, access: number, user: boolean, set: number): number {
    const cpu = this.cpu;
    const words = cpu.words;
    const low = linear | 0;
    const high = Math.floor(linear / TWO_32) | 0;
    const entry = cpu.s + tlbOffset(set, access) + ((low >>> 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY;
    const at = entry >>> 2;
    const tag = low & ~0xfff;
    if (words[at] === tag && words[at + 1] === high) return (low + words[at + 2]) >>> 0;
    return this.miss(linear, low, high, access, user, set, at);
  }

  /**
   * The same for an access within one page, as far as the translation table knows it; else 0. What is watched, or to be
   * written over code, never is in the table.
   */
  known(linear: number, bytes: number, access: number, set: number): number {
    const { words, s } = this.cpu;
    const low = linear | 0;
    const at = (s + tlbOffset(set, access) + ((low >>> 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY) >>> 2;
    const hit =
      words[at] === (low & ~0xfff) &&
      words[at + 1] === (Math.floor(linear / TWO_32) | 0) &&
      (low & 0xfff) <= PAGE - bytes;
    return hit ? (low + words[at + 2]) >>> 0 : 0;
  }

  private miss(
    linear: number,
    low: number,
    high: number,
    access: number,
    user: boolean,
    set: number,
    at: number,
  ): number {
    this.misses++;
    const cpu = this.cpu;
    if (!this.walk(linear, low, high, access, user, set)) return -1;
    const gpa = this.pageGpa;
    const host = this.physical.host(gpa, PROT_OF[access]);
    if (host < 0) {
      this.failure = Failure.EXIT;
      this.exitIsTable = false;
      this.exitGpa = gpa + (low & 0xfff);
      this.exitProt = PROT_OF[access];
      return -1;
    }
    if (access === Access.WRITE) this.dirty[host / PAGE] = 1;
    const writable = access !== Access.WRITE || (this.pageDirty && !this.isCode(host));
    if (writable && !(access !== Access.FETCH && this.watched?.(linear))) {
      const words = cpu.words;
      const filled = this.filled[this.pageGlobal ? 1 : 0];
      if (!filled.add(at)) {
        this.flushAll();
        filled.add(at);
      }
      words[at] = low & ~0xfff;
      words[at + 1] = high;
      words[at + 2] = host - (low & ~0xfff);
      words[at + 3] = host | (this.pageLarge ? LARGE : 0) | (this.pageGlobal ? GLOBAL : 0);
      const narrow = this.narrow(at);
      words[narrow] = high === 0 ? low & ~0xfff : NO_TAG;
      words[narrow + 1] = host - (low & ~0xfff);
      if (access === Access.WRITE) this.noteWritable(host, at);
      if (this.pageLarge) this.largeIn.add(gigabyte(low, high));
    }
    return host + (low & 0xfff);
  }

  /** The index of the entry that code of 32 bits has for one, given by its own. */
  private narrow(at: number): number {
    const place = at - this.tables;
    return this.tables + (place & ~(PLACES - 1)) + PLACES + ((place & (PLACES - 1)) >>> 1);
  }

  /** Nothing matches an entry any more. */
  private drop(at: number): void {
    const { words } = this.cpu;
    words[at] = NO_TAG;
    words[this.narrow(at)] = NO_TAG;
  }

  /** Remembers the place of an entry, which the tables of all rights have in common, for writing to a host page. */
  private noteWritable(hostPage: number, at: number): void {
    const place = (at - this.tables) & (PLACES - 1);
    const known = this.writable[hostPage / PAGE];
    if (known === place) return;
    const others = known !== NO_PLACE && (known === MANY_PLACES || this.isWritableBy(known, hostPage));
    this.writable[hostPage / PAGE] = others ? MANY_PLACES : place;
  }

  private isWritableBy(place: number, hostPage: number): boolean {
    for (let set = 0; set < TlbSet.COUNT; set++) {
      if (this.leadsTo(this.writingTable(set) + place, hostPage)) return true;
    }
    return false;
  }

  private writingTable(set: number): number {
    return (this.cpu.s + tlbOffset(set, TlbKind.WRITE)) >>> 2;
  }

  /** Whether an entry of the translation tables is one to this host page. */
  private leadsTo(at: number, hostPage: number): boolean {
    const { words } = this.cpu;
    return words[at] !== NO_TAG && (words[at + 3] & ~0xfff) === (hostPage | 0);
  }

  private fault(linear: number, error: number): false {
    this.failure = Failure.FAULT;
    this.cpu.setNumber(Field.CR2, linear);
    this.cpu.set(Field.FAULT_VECTOR, Vector.PF);
    this.cpu.set(Field.FAULT_ERROR, error);
    return false;
  }

  /** Walks the page tables for an access; sets pageGpa and the like, and the accessed and dirty bits. */
  private walk(
    linear: number,
    low: number,
    high: number,
    access: number,
    user: boolean,
    set: number,
  ): boolean {
    const cpu = this.cpu;
    const cr0 = cpu.get(Field.CR0);
    if ((cr0 & Cr0.PG) === 0) {
      this.pageGpa = (low & ~0xfff) >>> 0;
      this.pageGlobal = false;
      this.pageLarge = false;
      this.pageDirty = true;
      return true;
    }
    const cr4 = cpu.get(Field.CR4);
    const nx = (cpu.get(Field.EFER) & Efer.NXE) !== 0;
    const pae = (cr4 & Cr4.PAE) !== 0;
    const long = cpu.longMode;
    let error = (access === Access.WRITE ? PageFault.W : 0) | (user ? PageFault.U : 0);
    if (access === Access.FETCH && (nx || (cr4 & Cr4.SMEP) !== 0)) error |= PageFault.I;

    let table: number;
    let shift: number;
    const cr3 = cpu.get(Field.CR3);
    if (long) {
      table = (cpu.high(Field.CR3) & 0xfffff) * TWO_32 + ((cr3 & ~0xfff) >>> 0);
      shift = 39;
    } else if (pae) {
      table = (cr3 & ~0x1f) >>> 0;
      shift = 30;
    } else {
      table = (cr3 & ~0xfff) >>> 0;
      shift = 22;
    }

    const wide = pae || long;
    let permissions = Pte.W | Pte.U;
    let noExecute = false;
    let entryLow: number;
    let entryHigh: number;
    let host: number;
    for (;;) {
      const index = wide ? tableIndex(low, high, shift) : (low >>> shift) & 0x3ff;
      const address = table + index * (wide ? 8 : 4);
      host = this.physical.host(address, Prot.READ);
      if (host < 0) {
        this.failure = Failure.EXIT;
        this.exitIsTable = true;
        this.exitGpa = address;
        this.exitProt = Prot.READ;
        return false;
      }
      entryLow = cpu.words[host >>> 2];
      entryHigh = wide ? cpu.words[(host + 4) >>> 2] : 0;
      if ((entryLow & Pte.P) === 0) return this.fault(linear, error);
      const pdpte32 = wide && !long && shift === 30;
      if (wide) {
        let reserved = entryHigh & RESERVED_HIGH;
        if (!nx && entryHigh & NX_HIGH) reserved = 1;
        if (pdpte32) reserved |= (entryLow & 0x1e6) | (entryHigh & NX_HIGH);
        if (shift === 39 && entryLow & Pte.PS) reserved = 1;
        if (reserved) return this.fault(linear, error | PageFault.P | PageFault.RSVD);
      }
      if (!pdpte32) {
        permissions &= entryLow;
        if (entryHigh & NX_HIGH) noExecute = true;
      }
      const leaf = shift === 12 || (entryLow & Pte.PS && (wide ? !pdpte32 : (cr4 & Cr4.PSE) !== 0));
      if (leaf) break;
      if (!pdpte32 && (entryLow & Pte.A) === 0) this.orWord(host, Pte.A);
      table = (entryHigh & 0xfffff) * TWO_32 + ((entryLow & ~0xfff) >>> 0);
      shift -= wide ? 9 : 10;
    }

    const large = shift !== 12;
    if (large) {
      // Bits between the flags and the page frame of a large page are reserved (bit 12 is PAT).
      const below = wide ? (1 << shift) - 1 : 0x3fffff;
      const frameBits = entryLow & below & ~0x1fff;
      if (wide ? frameBits !== 0 : (frameBits & 0x200000) !== 0 || frameBits >>> 21 !== 0) {
        return this.fault(linear, error | PageFault.P | PageFault.RSVD);
      }
    }

    if (!this.allowed(access, user, set, permissions, noExecute && nx, cr0, cr4)) {
      return this.fault(linear, error | PageFault.P);
    }

    const wanted = access === Access.WRITE ? Pte.A | Pte.D : Pte.A;
    if ((entryLow & wanted) !== wanted) this.orWord(host, wanted);
    this.pageDirty = access === Access.WRITE || (entryLow & Pte.D) !== 0;
    this.pageGlobal = (entryLow & Pte.G) !== 0 && (cr4 & Cr4.PGE) !== 0;
    this.pageLarge = large;
    if (!large) this.pageGpa = (entryHigh & 0xfffff) * TWO_32 + ((entryLow & ~0xfff) >>> 0);
    else if (!wide) {
      // PSE-36: bits 13-20 are address bits 32-39.
      this.pageGpa =
        ((entryLow >>> 13) & 0xff) * TWO_32 + (((entryLow & 0xffc00000) | (low & 0x3ff000)) >>> 0);
    } else {
      const mask = (1 << shift) - 1;
      this.pageGpa = (entryHigh & 0xfffff) * TWO_32 + (((entryLow & ~mask) | (low & mask & ~0xfff)) >>> 0);
    }
    return true;
  }

  private allowed(
    access: number,
    user: boolean,
    set: number,
    permissions: number,
    noExecute: boolean,
    cr0: number,
    cr4: number,
  ): boolean {
    const userPage = (permissions & Pte.U) !== 0;
    if (access === Access.FETCH && noExecute) return false;
    if (user) return userPage && (access !== Access.WRITE || (permissions & Pte.W) !== 0);
    if (userPage) {
      if (access === Access.FETCH) return (cr4 & Cr4.SMEP) === 0;
      if ((cr4 & Cr4.SMAP) !== 0 && set !== TlbSet.SUPERVISOR_AC) return false;
    }
    return access !== Access.WRITE || (permissions & Pte.W) !== 0 || (cr0 & Cr0.WP) === 0;
  }

  private orWord(host: number, bits: number): void {
    Atomics.or(this.cpu.words, host >>> 2, bits);
    this.dirty[host >>> 12] = 1;
  }

  // ---- Flushing -----------------------------------------------------------------------------------------

  /** Forgets everything. */
  flushAll(): void {
    for (const places of this.filled) this.dropFilled(places);
    this.largeIn.clear();
    this.jumps.forgetAll();
  }

  /** Forgets what is not global: a load of CR3. */
  flushLocal(): void {
    this.dropFilled(this.filled[0]);
    this.jumps.forgetLocal();
  }

  private dropFilled(places: Places): void {
    for (let i = 0; i < places.count; i++) this.drop(places.at[i]);
    places.count = 0;
  }

  /** INVLPG: one page, of whatever size. */
  flushPage(linear: number): void {
    const { words, s } = this.cpu;
    const low = linear | 0;
    const high = Math.floor(linear / TWO_32) | 0;
    const place = ((low >>> 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY;
    for (let set = 0; set < TlbSet.COUNT; set++) {
      for (let kind = 0; kind < TlbKind.COUNT; kind++) {
        const at = (s + tlbOffset(set, kind) + place) >>> 2;
        if (words[at] === (low & ~0xfff) && words[at + 1] === high) this.drop(at);
      }
    }
    // A large page has many entries here; a gigabyte is the largest.
    if (this.largeIn.has(gigabyte(low, high))) {
      this.flushLarge(low, high);
      this.jumps.forgetAll();
      return;
    }
    this.jumps.forgetPage(Math.floor(linear / PAGE));
  }

  private flushLarge(low: number, high: number): void {
    const { words } = this.cpu;
    for (const { at: places, count } of this.filled) {
      for (let i = 0; i < count; i++) {
        const at = places[i];
        const near = words[at] >>> 30 === low >>> 30 && words[at + 1] === high;
        if (near && (words[at + 3] & LARGE) !== 0) this.drop(at);
      }
    }
  }

  /** Takes writing away from every translation to a host page that now holds code. */
  protect(hostPage: number): void {
    const known = this.writable[hostPage / PAGE];
    this.writable[hostPage / PAGE] = NO_PLACE;
    if (known === NO_PLACE) return;
    const [first, end] = known === MANY_PLACES ? [0, PLACES] : [known, known + 1];
    for (let set = 0; set < TlbSet.COUNT; set++) {
      const table = this.writingTable(set);
      for (let at = table + first; at < table + end; at += 4) {
        if (this.leadsTo(at, hostPage)) this.drop(at);
      }
    }
  }

  // ---- The jump cache -----------------------------------------------------------------------------------

  /** Remembers where the code of a linear address is. `straddles`: it goes on in the next page. */
  rememberJump(low: number, high: number, record: number, straddles: boolean): void {
    // The page after the last one below 4 GiB has the other half of its address.
    const global = this.isGlobal(low, high) && (!straddles || this.isGlobal(low + PAGE, high));
    this.jumps.remember(low, high, record, straddles ? 2 : 1, global);
  }

  /** Whether code is run from a global page, as far as the translation table knows it. */
  private isGlobal(low: number, high: number): boolean {
    const { words, s, tlbSet } = this.cpu;
    const fetch = tlbOffset(tlbSet, TlbKind.FETCH) + ((low >>> 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY;
    const entry = (s + fetch) >>> 2;
    const known = words[entry] === (low & ~0xfff) && words[entry + 1] === high;
    return known && (words[entry + 3] & GLOBAL) !== 0;
  }
}

/** A bounded list of places in memory, as indexes of 32-bit words. */
class Places {
  readonly at: Int32Array;
  count = 0;

  constructor(most: number) {
    this.at = new Int32Array(most);
  }

  /** False when there is no room. */
  add(place: number): boolean {
    if (this.count === this.at.length) return false;
    this.at[this.count++] = place;
    return true;
  }
}

function gigabyte(low: number, high: number): number {
  return high * 4 + (low >>> 30);
}

function tableIndex(low: number, high: number, shift: number): number {
  if (shift < 30) return (low >>> shift) & 511;
  if (shift === 30) return ((high & 0x7f) << 2) | (low >>> 30);
  return (high >>> 7) & 511;
}
