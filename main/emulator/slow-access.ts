import type { Cpu } from './cpu.ts';
import { Vector } from './fault.ts';
import type { LinearMemory } from './linear.ts';
import { Field, Leave, SegmentIndex } from './state.ts';

/** First address that is not canonical. */
const CANONICAL_END = 2 ** 47;

/**
 * Memory accesses of generated code that its look into the translation tables didn't do: what is not in them yet, straddles
 * pages, is watched or held by code, is a device, or faults. The address is in ACCESS_ADDRESS. Where the result is 0, the
 * reason is in LEAVE.
 */
export class SlowAccess {
  private readonly cpu: Cpu;
  private readonly linear: LinearMemory;
  /** Told of each access that was done. */
  private readonly accessed: (linear: number, bytes: number, write: boolean) => void;

  constructor(cpu: Cpu, linear: LinearMemory, accessed: SlowAccess['accessed']) {
    this.cpu = cpu;
    this.linear = linear;
    this.accessed = accessed;
  }

  /** Where the access is, or NaN: it is not canonical. */
  private locate(bytes: number): number {
    const { cpu } = this;
    if (!cpu.longMode) return cpu.get(Field.ACCESS_ADDRESS) >>> 0;
    const linear = cpu.number(Field.ACCESS_ADDRESS);
    // An access that begins in the lower half and ends beyond it is not canonical either.
    const beyond = linear < CANONICAL_END && linear + bytes > CANONICAL_END;
    if (!cpu.isCanonical(Field.ACCESS_ADDRESS) || beyond) {
      cpu.set(Field.FAULT_VECTOR, cpu.get(Field.ACCESS_SEGMENT) === SegmentIndex.SS ? Vector.SS : Vector.GP);
      cpu.set(Field.FAULT_ERROR, 0);
      cpu.set(Field.LEAVE, Leave.FAULT);
      return NaN;
    }
    return linear;
  }

  /** Turns a result of LinearMemory (0 fault, -1 exit) into generated code's 0 with the reason in LEAVE. */
  private leaveWith(result: number): 0 {
    this.cpu.set(Field.LEAVE, result === 0 ? Leave.FAULT : Leave.EXIT);
    return 0;
  }

  /** A host address where the bytes can be read, or 0. */
  read(bytes: number): number {
    const linear = this.locate(bytes);
    if (Number.isNaN(linear)) return 0;
    const host = this.linear.forRead(linear, bytes, this.cpu.cpl === 3, this.cpu.tlbSet);
    if (host <= 0) return this.leaveWith(host);
    this.accessed(linear, bytes, false);
    return host | 0;
  }

  /** Writes ACCESS_DATA: 1, or 0. */
  write(bytes: number): number {
    const linear = this.locate(bytes);
    if (Number.isNaN(linear)) return 0;
    const { cpu } = this;
    const result = this.linear.write(linear, bytes, cpu.s + Field.ACCESS_DATA, cpu.cpl === 3, cpu.tlbSet);
    if (result <= 0) return this.leaveWith(result);
    this.accessed(linear, bytes, true);
    return 1;
  }

  /** The bounce buffer with the bytes, which can all be written back, or 0. */
  modify(bytes: number): number {
    const linear = this.locate(bytes);
    if (Number.isNaN(linear)) return 0;
    const { cpu } = this;
    const user = cpu.cpl === 3;
    // Both pages must be writable before anything is read: a device's register may notice being read.
    const probe = this.linear.probeWrite(linear, bytes, user, cpu.tlbSet);
    if (probe <= 0) return this.leaveWith(probe);
    const host = this.linear.forRead(linear, bytes, user, cpu.tlbSet);
    if (host <= 0) return this.leaveWith(host);
    const bounce = cpu.s + Field.BOUNCE;
    if (host !== bounce) this.linear.copy(bounce, host, bytes);
    return bounce;
  }

  /** Writes the bounce buffer back. */
  commit(bytes: number): void {
    const { cpu } = this;
    const linear = this.locate(bytes);
    this.linear.write(linear, bytes, cpu.s + Field.BOUNCE, cpu.cpl === 3, cpu.tlbSet);
    this.accessed(linear, bytes, true);
  }
}
