import { Limit } from '../nvmm/constants.ts';
import type { BackendMemory } from '../nvmm/nvmm.ts';
import { Area } from './state.ts';

/**
 * The driver's tables in the private part of the shared memory: what NVMM's kernel module keeps for all of its
 * users. Every thread that opens the backend over the same memory sees the same machines.
 *
 *   header | ring of written code pages | map of pages with code | map of dirty pages | machines | vCPU blocks ...
 *
 * Numbers are 32-bit words; addresses are in pages of 4 KiB.
 */

const PAGE = 4096;
const MAGIC = 0x4d4d564e; // "NVMM"

const Header = { MAGIC: 0, LOCK: 1, NEXT_OWNER: 2, BLOCK_COUNT: 3 } as const;
const HEADER_BYTES = PAGE;

/** Pages that a vCPU has not yet been told of before it drops all code instead. */
const RING_ENTRIES = 1023;
const RING_BYTES = PAGE;

/** A byte for each page of 4 GiB: bit n is set while vCPU block n (modulo 8) has decoded code from it. */
const CODE_MAP_BYTES = 2 ** 20;

/** A byte for each page of 4 GiB: not 0 when something may have been written there. */
const DIRTY_MAP_BYTES = 2 ** 20;

const MACHINE_BYTES = 32 * 1024;
export const MachineWord = {
  USED: 0,
  OWNER: 1,
  CREATED: 2,
  /** Counts changes of the areas. */
  VERSION: 3,
  AREA_COUNT: 4,
  HVA_COUNT: 5,
  OWNER_PID: 6,
  /** Pairs of page and page count. */
  HVA: 16,
  /** vCPU block number + 1 by cpuid. */
  VCPUS: 16 + 2 * Limit.HVA_MAPPINGS,
  /** What the destroyed vCPUs had counted: doubles in the order of COUNTERS. */
  COUNTED: 448,
  /** Quadruples of GPA page, page count, HVA page, protection. */
  AREAS: 512,
} as const;
export const AREA_WORDS = 4;
export const AREAS_MAXIMUM = (MACHINE_BYTES / 4 - MachineWord.AREAS) / AREA_WORDS;

/** Bytes of decoded code that a vCPU may hold: half a million instructions; a boot of Debian decodes some 350,000. */
const RECORD_BYTES = 16 * 2 ** 20;
export const VCPU_BYTES = Math.ceil((Area.RECORDS + RECORD_BYTES) / PAGE) * PAGE;
const FIXED_BYTES =
  HEADER_BYTES + RING_BYTES + CODE_MAP_BYTES + DIRTY_MAP_BYTES + Limit.MACHINES * MACHINE_BYTES;

/** Bytes of private memory for so many vCPUs, of all machines together. */
export function privateBytes(vcpus: number): number {
  return FIXED_BYTES + vcpus * VCPU_BYTES;
}

/** A vCPU block's word: whose it is, so that a handle of a vCPU that is gone is an error and nothing worse. */
const Life = {
  USED: 1,
  /** A thread is in it. */
  RUNNING: 2,
  /** It is to be destroyed when that thread is out. */
  ENDING: 4,
  FLAGS: 7,
  /** What is added when a block is freed. */
  GENERATION: 8,
} as const;

/**
 * A run that is told to stop comes back within a millisecond of CPU time. One that never does was in a thread that has
 * been terminated.
 */
const LONGEST_RUN_MS = 2000;

export class Tables {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  private readonly start: number;
  private readonly ring: number;
  private readonly codeMap: number;
  /** By number of host page. Whoever reads it clears it; vCPUs forget their translations then (Nvmm.dirtyPages). */
  readonly dirty: Uint8Array;
  private readonly machines: number;
  private readonly blocks: number;
  private readonly blockLimit: number;

  constructor({ memory, privateOffset, privateSize }: BackendMemory) {
    this.words = new Int32Array(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    this.start = privateOffset;
    this.ring = privateOffset + HEADER_BYTES;
    this.codeMap = this.ring + RING_BYTES;
    const dirtyMap = this.codeMap + CODE_MAP_BYTES;
    this.dirty = this.bytes.subarray(dirtyMap, dirtyMap + DIRTY_MAP_BYTES);
    this.machines = dirtyMap + DIRTY_MAP_BYTES;
    this.blocks = privateOffset + FIXED_BYTES;
    this.blockLimit = Math.floor((privateSize - FIXED_BYTES) / VCPU_BYTES);
    Atomics.compareExchange(this.words, (this.start >>> 2) + Header.MAGIC, 0, MAGIC);
  }

  private at(address: number, word: number): number {
    return (address >>> 2) + word;
  }

  /** Runs `body` while no other thread is in the tables. Sections are short: a few hundred words at most. */
  locked<T>(body: () => T): T {
    const lock = this.at(this.start, Header.LOCK);
    while (Atomics.compareExchange(this.words, lock, 0, 1) !== 0) Atomics.wait(this.words, lock, 1, 1);
    try {
      return body();
    } finally {
      Atomics.store(this.words, lock, 0);
      Atomics.notify(this.words, lock, 1);
    }
  }

  newOwner(): number {
    return Atomics.add(this.words, this.at(this.start, Header.NEXT_OWNER), 1) + 1;
  }

  // ---- Machines -----------------------------------------------------------------------------------------

  get(machid: number, word: number): number {
    return this.words[this.at(this.machines + machid * MACHINE_BYTES, word)];
  }
  set(machid: number, word: number, value: number): void {
    this.words[this.at(this.machines + machid * MACHINE_BYTES, word)] = value;
  }
  /** A machine's sums of counters, in shared memory. */
  counted(machid: number, length: number): Float64Array {
    const at = this.machines + machid * MACHINE_BYTES + 4 * MachineWord.COUNTED;
    return new Float64Array(this.words.buffer, at, length);
  }

  /** Empties a machine's table. */
  clearMachine(machid: number): void {
    const start = this.at(this.machines + machid * MACHINE_BYTES, 0);
    const version = this.words[start + MachineWord.VERSION];
    this.words.fill(0, start, start + MACHINE_BYTES / 4);
    this.words[start + MachineWord.VERSION] = version + 1;
  }
  version(machid: number): number {
    return Atomics.load(this.words, this.at(this.machines + machid * MACHINE_BYTES, MachineWord.VERSION));
  }
  bumpVersion(machid: number): void {
    Atomics.add(this.words, this.at(this.machines + machid * MACHINE_BYTES, MachineWord.VERSION), 1);
  }

  // ---- vCPU blocks --------------------------------------------------------------------------------------

  /** The word that says what goes on with a block: Life. */
  private life(number: number): number {
    return this.at(this.start, 16) + number;
  }

  /** Takes a free block; undefined when the private memory has no more. */
  takeBlock(): number | undefined {
    for (let number = 0; number < Math.min(this.blockLimit, 512); number++) {
      const life = Atomics.load(this.words, this.life(number));
      if ((life & Life.USED) !== 0) continue;
      const address = this.blockAddress(number);
      // The fixed part starts from zero; tables and records are set up by their owners.
      this.bytes.fill(0, address, address + PAGE);
      Atomics.store(this.words, this.life(number), life | Life.USED);
      return number;
    }
    return undefined;
  }
  freeBlock(number: number): void {
    const life = Atomics.load(this.words, this.life(number));
    Atomics.store(this.words, this.life(number), (life & ~Life.FLAGS) + Life.GENERATION);
  }
  /** What a vCPU must find in its block's word as long as it is not destroyed. */
  lifeOf(number: number): number {
    return Atomics.load(this.words, this.life(number)) & ~Life.RUNNING;
  }
  /** Begins a run; false: the vCPU of that life is destroyed. */
  enterBlock(number: number, life: number): boolean {
    return Atomics.compareExchange(this.words, this.life(number), life, life | Life.RUNNING) === life;
  }
  /** Ends the run; false: somebody waits to destroy the vCPU. */
  leaveBlock(number: number): boolean {
    const word = this.life(number);
    if ((Atomics.and(this.words, word, ~Life.RUNNING) & Life.ENDING) === 0) return true;
    Atomics.notify(this.words, word);
    return false;
  }
  /** Sees to it that no run of this vCPU begins any more, and waits for one that goes on, which `stop` ends. */
  endBlock(number: number, stop: () => void): void {
    const word = this.life(number);
    Atomics.or(this.words, word, Life.ENDING);
    stop();
    for (let waited = 0; waited < LONGEST_RUN_MS; waited += 10) {
      const life = Atomics.load(this.words, word);
      if ((life & Life.RUNNING) === 0) return;
      Atomics.wait(this.words, word, life, 10);
    }
  }
  blockAddress(number: number): number {
    return this.blocks + number * VCPU_BYTES;
  }
  /** Numbers of the blocks in use. */
  usedBlocks(): number[] {
    return Array.from({ length: Math.min(this.blockLimit, 512) }, (_, i) => i).filter(
      (i) => (Atomics.load(this.words, this.life(i)) & Life.USED) !== 0,
    );
  }

  // ---- Code ---------------------------------------------------------------------------------------------

  private codeCell(hostPage: number): number {
    return this.codeMap + (hostPage >>> 12);
  }
  markCode(hostPage: number, block: number, holds: boolean): void {
    const bit = 1 << (block & 7);
    if (holds) Atomics.or(this.bytes, this.codeCell(hostPage), bit);
    else Atomics.and(this.bytes, this.codeCell(hostPage), ~bit);
  }
  isCode(hostPage: number): boolean {
    return this.bytes[this.codeCell(hostPage)] !== 0;
  }
  /** Number of the first host page with code from page `first` on; `end` when there is none before it. */
  nextCode(first: number, end: number): number {
    const { bytes, words, codeMap } = this;
    for (let page = first; page < end; page++) {
      // Mostly there is none in many pages: a restore asks for all of RAM.
      while ((page & 3) === 0 && page + 4 <= end && words[(codeMap + page) >>> 2] === 0) page += 4;
      if (page < end && bytes[codeMap + page] !== 0) return page;
    }
    return end;
  }
  /** Whether another vCPU than `block` has code from a page. */
  isCodeElsewhere(hostPage: number, block: number): boolean {
    return (this.bytes[this.codeCell(hostPage)] & ~(1 << (block & 7))) !== 0;
  }

  /** Position after the newest entry of the ring. */
  get ringHead(): number {
    return Atomics.load(this.words, this.at(this.ring, 0));
  }
  /** Tells every vCPU that a page with code was written. */
  announce(hostPage: number): void {
    this.locked(() => {
      const head = this.words[this.at(this.ring, 0)];
      this.words[this.at(this.ring, 1 + ((head >>> 0) % RING_ENTRIES))] = hostPage | 0;
      Atomics.store(this.words, this.at(this.ring, 0), (head + 1) | 0);
    });
  }
  /** Pages announced since a position, or null when some were lost. */
  announcedSince(position: number): number[] | null {
    return this.locked(() => {
      const head = this.words[this.at(this.ring, 0)];
      const count = (head - position) | 0;
      if (count < 0 || count > RING_ENTRIES) return null;
      return Array.from({ length: count }, (_, i) => {
        return this.words[this.at(this.ring, 1 + (((position + i) >>> 0) % RING_ENTRIES))] >>> 0;
      });
    });
  }
}
