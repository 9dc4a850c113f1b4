import { isCanonicalHigh, type Cpu, type Halves } from './cpu.ts';
import { GUEST_EXIT, GuestFault, Vector } from './fault.ts';
import { Access, Failure, type Mmu } from './mmu.ts';
import { Field, TlbSet } from './state.ts';

const TWO_32 = 2 ** 32;
const PAGE = 4096;

/** Serves guest-physical accesses that memory does not: an exit, or a device's answer while an assist runs. */
export interface PhysicalFallback {
  /** Fills `bytes` bytes at host address `into`; false when an exit was recorded instead. */
  read(gpa: number, bytes: number, into: number): boolean;
  write(gpa: number, bytes: number, from: number): boolean;
  /** Whether write() would be served; else the exit is recorded. */
  canWrite(gpa: number): boolean;
  /** Records the exit of an access that cannot be served piece by piece. */
  exit(gpa: number, prot: number): void;
}

/**
 * Accesses to linear memory from TypeScript. Those of helpers throw GuestFault or GUEST_EXIT when they fail;
 * `access` tells by its result, for generated code.
 */
export class LinearMemory {
  private readonly cpu: Cpu;
  private readonly mmu: Mmu;
  private readonly fallback: PhysicalFallback;
  /** Host bytes were written that hold decoded code. */
  private readonly onCodeWritten: (host: number, bytes: number) => void;
  private readonly isCode: (hostPage: number) => boolean;
  /** Whether a debugger watches an access, so that it is not to be made now. */
  turnsBack: (linear: number, bytes: number, access: number) => boolean = () => false;
  private readonly pieces = [
    { host: 0, gpa: 0, bytes: 0 },
    { host: 0, gpa: 0, bytes: 0 },
  ];

  constructor(
    cpu: Cpu,
    mmu: Mmu,
    fallback: PhysicalFallback,
    isCode: (hostPage: number) => boolean,
    onCodeWritten: (host: number, bytes: number) => void,
  ) {
    this.cpu = cpu;
    this.mmu = mmu;
    this.fallback = fallback;
    this.isCode = isCode;
    this.onCodeWritten = onCodeWritten;
  }

  /**
   * Translates an access that may straddle two pages. Pieces without memory have host -1 and a gpa. False after
   * a fault, which is then in FAULT_VECTOR and FAULT_ERROR.
   */
  private locate(linear: number, bytes: number, access: number, user: boolean, set: number): number {
    const inPage = PAGE - (((linear % PAGE) + PAGE) % PAGE);
    const count = bytes > inPage ? 2 : 1;
    for (let i = 0; i < count; i++) {
      const piece = this.pieces[i];
      let at = i === 0 ? linear : linear + inPage;
      if (i === 1 && !this.cpu.longMode) at %= TWO_32;
      piece.bytes = i === 0 ? Math.min(bytes, inPage) : bytes - inPage;
      piece.host = this.mmu.translate(at, access, user, set);
      if (piece.host < 0) {
        if (this.mmu.failure === Failure.FAULT) return 0;
        piece.gpa = this.mmu.exitGpa;
        // A page table that is not in memory cannot be served by a device in the middle of a walk.
        if (this.mmu.exitIsTable) {
          this.fallback.exit(this.mmu.exitGpa, this.mmu.exitProt);
          return -1;
        }
      }
    }
    if (this.mmu.watched !== undefined && this.turnsBack(linear, bytes, access)) return -1;
    return count;
  }

  /** Host address of `bytes` to read at a linear address, in place or in the bounce buffer; 0 fault, -1 exit. */
  forRead(linear: number, bytes: number, user: boolean, set: number): number {
    const count = this.locate(linear, bytes, Access.READ, user, set);
    if (count <= 0) return count;
    const [first, second] = this.pieces;
    if (count === 1 && first.host >= 0) return first.host;
    const bounce = this.cpu.s + Field.BOUNCE;
    if (!this.fill(first, bounce)) return -1;
    if (count === 2 && !this.fill(second, bounce + first.bytes)) return -1;
    return bounce;
  }

  private fill(piece: { host: number; gpa: number; bytes: number }, to: number): boolean {
    if (piece.host < 0) return this.fallback.read(piece.gpa, piece.bytes, to);
    this.copy(to, piece.host, piece.bytes);
    return true;
  }

  /** Whether a write would succeed, as far as paging says: 1 yes, 0 fault, -1 exit. */
  probeWrite(linear: number, bytes: number, user: boolean, set: number): number {
    const count = this.locate(linear, bytes, Access.WRITE, user, set);
    if (count <= 0) return count;
    // A page that may be read but not written: the exit is about the write.
    for (let i = 0; i < count; i++) {
      const piece = this.pieces[i];
      if (piece.host < 0 && !this.fallback.canWrite(piece.gpa)) return -1;
    }
    return 1;
  }

  /** Throws the fault that an access would have; what has no memory has none. */
  requireMapped(linear: number, bytes: number, access: number, user: boolean): void {
    if (this.locate(linear, bytes, access, user, this.cpu.tlbSet) !== 0) return;
    throw new GuestFault(this.cpu.get(Field.FAULT_VECTOR), this.cpu.get(Field.FAULT_ERROR));
  }

  /** Writes `bytes` from a host address: 1 done, 0 fault, -1 exit. */
  write(linear: number, bytes: number, from: number, user: boolean, set: number): number {
    const count = this.locate(linear, bytes, Access.WRITE, user, set);
    if (count <= 0) return count;
    const [first, second] = this.pieces;
    if (!this.drain(first, from)) return -1;
    if (count === 2 && !this.drain(second, from + first.bytes)) return -1;
    return 1;
  }

  private drain(piece: { host: number; gpa: number; bytes: number }, from: number): boolean {
    const { host, bytes } = piece;
    if (host < 0) return this.fallback.write(piece.gpa, bytes, from);
    this.copy(host, from, bytes);
    if (this.isCode(host - (host % PAGE))) this.onCodeWritten(host, bytes);
    return true;
  }

  /** Copies few bytes of host memory: the engine's copyWithin costs ten times as much. Aligned words stay whole. */
  copy(to: number, from: number, bytes: number): void {
    const { bytes: memory, words } = this.cpu;
    if (((to | from | bytes) & 3) === 0) {
      for (let i = 0; i < bytes; i += 4) words[(to + i) >>> 2] = words[(from + i) >>> 2];
    } else for (let i = 0; i < bytes; i++) memory[to + i] = memory[from + i];
  }

  // ---- For helpers --------------------------------------------------------------------------------------

  /** Throws what a failed access left behind. */
  private fail(result: number): never {
    if (result < 0) throw GUEST_EXIT;
    throw new GuestFault(this.cpu.get(Field.FAULT_VECTOR), this.cpu.get(Field.FAULT_ERROR));
  }

  private readHost(linear: number, bytes: number, user: boolean): number {
    const set = user ? TlbSet.USER : TlbSet.SUPERVISOR;
    const quick = this.mmu.known(linear, bytes, Access.READ, set);
    if (quick > 0) return quick;
    const host = this.forRead(linear, bytes, user, set);
    if (host <= 0) this.fail(host);
    return host;
  }

  /** 1, 2 or 4 bytes, unsigned. `user`: with the rights of CPL 3; else the processor's own access. */
  read(linear: number, bytes: number, user = false): number {
    const host = this.readHost(linear, bytes, user);
    if (bytes === 4 && (host & 3) === 0) return this.cpu.words[host >>> 2] >>> 0;
    const memory = this.cpu.bytes;
    let value = 0;
    for (let i = bytes - 1; i >= 0; i--) value = value * 256 + memory[host + i];
    return value;
  }

  read64(linear: number, into: Halves, user = false): void {
    into.low = this.read(linear, 4, user);
    into.high = this.read(linear + 4, 4, user) | 0;
  }

  /** 1, 2 or 4 bytes. */
  store(linear: number, bytes: number, value: number, user = false): void {
    const set = user ? TlbSet.USER : TlbSet.SUPERVISOR;
    const { words } = this.cpu;
    const quick = bytes === 4 ? this.mmu.known(linear, 4, Access.WRITE, set) : 0;
    if (quick > 0 && (quick & 3) === 0) {
      words[quick >>> 2] = value;
      return;
    }
    const from = this.cpu.s + Field.ACCESS_DATA;
    words[from >>> 2] = value;
    const result = this.write(linear, bytes, from, user, set);
    if (result <= 0) this.fail(result);
  }

  store64(linear: number, low: number, high: number, user = false): void {
    const set = user ? TlbSet.USER : TlbSet.SUPERVISOR;
    const { words } = this.cpu;
    const quick = this.mmu.known(linear, 8, Access.WRITE, set);
    if (quick > 0 && (quick & 3) === 0) {
      words[quick >>> 2] = low;
      words[(quick >>> 2) + 1] = high;
      return;
    }
    const from = this.cpu.s + Field.ACCESS_DATA;
    words[from >>> 2] = low;
    words[(from >>> 2) + 1] = high;
    const result = this.write(linear, 8, from, user, set);
    if (result <= 0) this.fail(result);
  }

  /** Copies a longer range out, with the current program's rights. */
  readRange(linear: number, into: Uint8Array, user: boolean): void {
    for (let done = 0; done < into.length;) {
      const at = linear + done;
      const inPage = Math.min(into.length - done, PAGE - (((at % PAGE) + PAGE) % PAGE));
      const known = this.mmu.known(at, inPage, Access.READ, this.cpu.tlbSet);
      const bytes = known > 0 ? inPage : Math.min(inPage, 64);
      const host = known > 0 ? known : this.forRead(at, bytes, user, this.cpu.tlbSet);
      if (host <= 0) this.fail(host);
      into.set(this.cpu.bytes.subarray(host, host + bytes), done);
      done += bytes;
    }
  }

  /** Throws unless every byte of a range can be written. */
  requireWritable(linear: number, bytes: number, user: boolean): void {
    const end = linear + bytes;
    for (let at = linear; at < end; at += PAGE - (((at % PAGE) + PAGE) % PAGE)) {
      const count = this.locate(at, 1, Access.WRITE, user, this.cpu.tlbSet);
      if (count <= 0) this.fail(count);
    }
  }

  /** Copies a longer range in: the whole range is probed first, so that a fault writes nothing. */
  writeRange(linear: number, from: Uint8Array, user: boolean): void {
    this.requireWritable(linear, from.length, user);
    const bounce = this.cpu.s + Field.BOUNCE;
    for (let done = 0; done < from.length;) {
      const at = linear + done;
      const inPage = Math.min(from.length - done, PAGE - (((at % PAGE) + PAGE) % PAGE));
      const known = this.mmu.known(at, inPage, Access.WRITE, this.cpu.tlbSet);
      if (known > 0) {
        this.cpu.bytes.set(from.subarray(done, done + inPage), known);
        done += inPage;
        continue;
      }
      const bytes = Math.min(inPage, 64);
      this.cpu.bytes.set(from.subarray(done, done + bytes), bounce);
      const result = this.write(at, bytes, bounce, user, this.cpu.tlbSet);
      if (result <= 0) this.fail(result);
      done += bytes;
    }
  }

  /** The linear address in a 64-bit field; #GP(0), or #SS(0) for the stack, when it is not canonical. */
  canonical(field: number, vector: number = Vector.GP): number {
    if (this.cpu.longMode && !isCanonicalHigh(this.cpu.high(field))) throw new GuestFault(vector, 0);
    return this.cpu.number(field);
  }
}
