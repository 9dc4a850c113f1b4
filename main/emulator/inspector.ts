import type { DebugConf } from '../nvmm/nvmm.ts';
import type { Cpu } from './cpu.ts';
import { Access } from './mmu.ts';
import { SegmentIndex, Field } from './state.ts';

const PAGE = 4096;

/** A watched range of linear addresses: [start, end). */
interface Range {
  start: number;
  end: number;
  read: boolean;
  write: boolean;
}

/** An access to a watched range. */
export interface WatchHit {
  index: number;
  address: number;
  write: boolean;
}

/** What a debugger wants of a processor when none is there. */
export const NO_DEBUG: DebugConf = { step: false, breakpoints: [], watchpoints: [], exceptions: 0 };

/**
 * What a debugger outside of the guest wants (VCPU_CONF_DEBUG); the guest's own debug registers are debug.ts. Code in
 * pages with breakpoints is run instruction by instruction, and accesses to pages with watched bytes take the slow way:
 * everything else runs at full speed, however many there are.
 */
export class Inspector {
  private readonly cpu: Cpu;
  /** What is in force. The lists are compared by identity: one that is changed is a new one. */
  configured: DebugConf = NO_DEBUG;
  step = false;
  /** Bit mask of exception vectors. */
  exceptions = 0;
  private breakpoints = new Map<number, number>();
  private codePages = new Set<number>();
  private ranges: Range[] = [];
  /** What the instruction has touched; the first, or the first write. */
  hit: WatchHit | null = null;
  /** Accesses are noted, and the instruction goes on: it is being stepped. */
  recording = false;
  /** An access was turned back because it is watched: the instruction is to be stepped. */
  turnedBack = false;

  constructor(cpu: Cpu) {
    this.cpu = cpu;
  }

  configure(conf: DebugConf): void {
    this.configured = conf;
    this.step = conf.step;
    this.exceptions = conf.exceptions;
    this.breakpoints = new Map(conf.breakpoints.map((address, index) => [linearOf(address), index]));
    this.codePages = new Set([...this.breakpoints.keys()].map(pageOf));
    this.ranges = conf.watchpoints.map(({ address, length, read, write }) => {
      const start = linearOf(address);
      return { start, end: start + length, read, write };
    });
    this.hit = null;
  }

  /** Whether there are breakpoints, so that the code's page has to be looked at. */
  get hasCode(): boolean {
    return this.codePages.size > 0;
  }

  get isWatching(): boolean {
    return this.ranges.length > 0;
  }

  /** RIP's linear address. */
  get codeAddress(): number {
    const { cpu } = this;
    if (cpu.code64) return cpu.number(Field.RIP);
    return ((cpu.get(Field.RIP) >>> 0) + cpu.base(SegmentIndex.CS)) % 2 ** 32;
  }

  /** Whether code at a linear address is to be run instruction by instruction, and never to be jumped to directly. */
  isCodePage(linear: number): boolean {
    return this.codePages.size > 0 && this.codePages.has(pageOf(linear));
  }

  /** Index of the breakpoint at a linear address, or -1. */
  breakpointAt(linear: number): number {
    return this.breakpoints.get(linear) ?? -1;
  }

  /** Whether some byte of an address's page is watched. */
  readonly watchesPage = (linear: number): boolean => {
    const start = pageOf(linear) * PAGE;
    return this.ranges.some((range) => range.start < start + PAGE && range.end > start);
  };

  /**
   * An access that is about to be made. True: not now, because it is watched, and the instruction must be stepped so
   * that nothing runs after it.
   */
  turnsBack(linear: number, bytes: number, access: number): boolean {
    const write = access === Access.WRITE;
    const index = this.ranges.findIndex(
      (range) => (write ? range.write : range.read) && linear < range.end && linear + bytes > range.start,
    );
    if (index < 0) return false;
    if (!this.recording) {
      this.turnedBack = true;
      return true;
    }
    if (this.hit === null || (write && !this.hit.write)) this.hit = { index, address: linear, write };
    return false;
  }
}

/** A canonical 64-bit address as the emulator has it. */
function linearOf(address: bigint): number {
  return Number(BigInt.asIntN(64, address));
}

const pageOf = (linear: number): number => Math.floor(linear / PAGE);
