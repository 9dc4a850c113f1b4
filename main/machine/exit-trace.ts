import { DEVICE_NUMBERS } from '../devices/device-names.ts';
import { Exit, Gpr, Prot } from '../nvmm/constants.ts';
import type { PortAccess, Vcpu } from '../nvmm/nvmm.ts';

/**
 * The exit trace of one vCPU, always on: a ring of records in shared memory. The vCPU's thread writes, any thread reads
 * (exit-query.ts, exit-export.ts).
 *
 * One exit is one record, with three exceptions. A time slice that ends (NONE) tells nothing and has none. An instruction
 * that touches device memory several times (read-modify-write, a move between devices, a vector) has a record for each
 * access, those after the first marked CONTINUED. A string instruction on a port is one record for each exit, with the
 * number of accesses and the first eight bytes that moved; should its memory side be a device, too, that is only counted.
 * An access of a port that a backend completed without an exit has a record like one, marked IN_PLACE.
 *
 * The writer never waits. It fills the slot after the last record, then publishes it by counting up; a reader copies a
 * record and looks at the count again: while that says that the writer was still GUARD records from coming round to the
 * slot, the copy is whole. SLOTS has more than KEPT, so who has just learnt of the oldest record has time to read it.
 */

/** Records that a reader may see. */
export const KEPT = 1_000_000;

/** Slots of the ring: the next power of two, so that finding one is a mask. */
const SLOTS = 2 ** 20;
const MASK = SLOTS - 1;

/** Far more records than a processor can have in its hands at once, whose stores it might reorder. */
const GUARD = 4096;

/** Records that copy() copies at once: a quarter of a MiB. */
const COPIED = 4096;

/** One record: 64 bytes, a cache line. */
const RECORD = 64;
const Field = {
  /** double: ns on the machine's clock when the guest had left. */
  TIME: 0,
  /** double: instructions retired since the vCPU was made; -1 where the backend does not count. */
  INSTRUCTIONS: 8,
  /** double: port, guest-physical address or MSR; -1 for exits without one. */
  WHERE: 16,
  /** u32 halves of RIP, of the instruction that left. */
  RIP: 24,
  /** u32 halves of what was read or written; see FLAG_VALUE. */
  VALUE: 32,
  /** i32: one of Exit. */
  REASON: 40,
  /** u16: number of the device that answered, see DeviceNames. */
  DEVICE: 44,
  /** u16: accesses that this record stands for: more than one for string instructions on ports. */
  ACCESSES: 46,
  /** u16: bytes of one access. */
  SIZE: 48,
  /** u8: one of Prot, IN being READ and OUT being WRITE; 0 for exits that are no access. */
  DIRECTION: 50,
  /** u8: Flag bits. */
  FLAGS: 51,
  /** f32: ns until the vCPU entered the guest again; -1 while it has not. Written after the record was published. */
  DURATION: 52,
  /** u16: 0x8000, the type (EventType) in bit 8 and the vector of the last event injected since the record before; or 0. */
  EVENT: 56,
  /** u16: counts resets, restores and changes of the backend: the machine's clock may have gone back. */
  RUN: 58,
} as const;

export const Flag = {
  /** VALUE is known. */
  VALUE: 1,
  /** The guest got an exception for it. */
  FAULT: 2,
  /** Another access of the instruction that the record before is about. */
  CONTINUED: 4,
  /** The backend could not run the instruction: our emulator did. */
  EMULATED: 8,
  /** The backend completed it in place: the guest did not leave. */
  IN_PLACE: 16,
} as const;

/** u32: records so far, bits 0-31; bits 32-63 twice, around every change of both halves. */
const COUNT_LOW = 0;
const COUNT_HIGH = 1;
const COUNT_HIGH_AGAIN = 2;

/** After the count: doubles that count accesses, reads then writes, for each port and each device number. */
const PORTS = 64;
const DEVICES = PORTS + 2 * 8 * 0x10000;
const RECORDS = DEVICES + 2 * 8 * DEVICE_NUMBERS;
const BYTES = RECORDS + SLOTS * RECORD;

/** Bit of EVENT that says that there is one. */
const EVENT_PRESENT = 0x8000;

/** The trace's memory as arrays: what both sides share. */
class Shared {
  readonly words: Int32Array;
  readonly unsigned: Uint32Array;
  readonly halves: Uint16Array;
  readonly bytes: Uint8Array;
  readonly floats: Float32Array;
  readonly doubles: Float64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
    this.unsigned = new Uint32Array(buffer);
    this.halves = new Uint16Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.floats = new Float32Array(buffer);
    this.doubles = new Float64Array(buffer);
  }

  /** Byte offset of a record's slot. */
  slot(record: number): number {
    return RECORDS + ((record & MASK) >>> 0) * RECORD;
  }
}

/** Makes the trace of one vCPU. Its pages take host memory as exits come, 64 MiB in the end. */
export function createExitTrace(): SharedArrayBuffer {
  return new SharedArrayBuffer(BYTES);
}

/** The writing end, for the vCPU's own thread: no allocation, some 15 ns for a record. */
export class ExitTraceWriter {
  /** What it has written. */
  readonly written: ExitTrace;
  private readonly shared: Shared;
  private count: number;
  /** Byte offset of the record that is being written; 0: none. */
  private at = 0;
  /** Byte offset of the exit's first record, until the guest is entered again; 0: none. */
  private exit = 0;
  private time = 0;
  private event = 0;
  private run = -1;
  /** Bytes of VALUE that the accesses so far have filled. */
  private filled = 0;

  constructor(buffer: SharedArrayBuffer) {
    this.shared = new Shared(buffer);
    this.written = new ExitTrace(buffer);
    this.count = this.written.count;
    // Another vCPU's thread may have written here before: a machine that has changed its backend.
    if (this.count > 0) {
      this.run = this.shared.halves[(this.shared.slot(this.count - 1) + Field.RUN) >>> 1];
    }
  }

  /** The machine was switched on, reset, restored or moved to another backend: its clock may have gone back. */
  restart(): void {
    this.run++;
    this.time = 0;
    this.exit = 0;
    this.event = 0;
  }

  /** An event goes in with the next entry. */
  inject(type: number, vector: number): void {
    this.event = EVENT_PRESENT | (type << 8) | vector;
  }

  /** The guest is about to be entered at `now`: the last exit took until here. */
  enter(now: number): void {
    if (this.exit === 0) return;
    const { floats, doubles } = this.shared;
    floats[(this.exit + Field.DURATION) >>> 2] = Math.max(0, now - doubles[(this.exit + Field.TIME) >>> 3]);
    this.exit = 0;
  }

  /** Begins the record of the exit that is in `vcpu.exit`, with the general registers in `vcpu.state`. */
  begin(vcpu: Vcpu, now: number): void {
    const { exit, state } = vcpu;
    const { reason } = exit;
    // Each thread reads the host's clock for itself: after a pause it may be a moment behind.
    if (now > this.time) this.time = now;
    this.open(state.gprLow(Gpr.RIP), state.gprHigh(Gpr.RIP), reason, vcpu.instructions ?? -1, 0);
    this.exit = this.at;
    switch (reason) {
      case Exit.IO:
        this.place(exit.ioPort, exit.ioOperandSize, exit.ioIn ? Prot.READ : Prot.WRITE);
        break;
      case Exit.MEMORY:
        this.place(exit.memGpa, 0, exit.memProt);
        break;
      case Exit.RDMSR:
        this.place(exit.msr, 8, Prot.READ);
        break;
      case Exit.WRMSR:
        this.place(exit.msr, 8, Prot.WRITE);
        this.value(exit.msrValueLow, exit.msrValueHigh);
        break;
      case Exit.INVALID:
        // The hardware's own code, in the place of a value.
        this.value(Number(exit.hwcode & 0xffff_ffffn), Number(exit.hwcode >> 32n));
        break;
    }
  }

  /** One access to the port of the IO exit: the first eight bytes that move are the record's value. */
  port(value: number, device: number): void {
    const { at, shared, filled } = this;
    if (at === 0) return;
    const { halves, unsigned, doubles } = shared;
    const size = halves[(at + Field.SIZE) >>> 1];
    const low = (at + Field.VALUE) >>> 2;
    if (filled < 4) unsigned[low] |= value << (8 * filled);
    else if (filled < 8) unsigned[low + 1] |= value << (8 * filled);
    this.filled = filled + size;
    halves[(at + Field.ACCESSES) >>> 1]++;
    shared.bytes[at + Field.FLAGS] |= Flag.VALUE;
    this.answer(device);
    const out = shared.bytes[at + Field.DIRECTION] === Prot.WRITE ? 1 : 0;
    doubles[((PORTS >>> 3) + 2 * doubles[(at + Field.WHERE) >>> 3] + out) >>> 0]++;
  }

  /** A byte that moved without an exit (PortsInPlace), at about `now`. */
  inPlace(access: Readonly<PortAccess>, device: number, now: number): void {
    const { port, in: input, value, ripLow, ripHigh, instructions } = access;
    if (now > this.time) this.time = now;
    this.open(ripLow, ripHigh, Exit.IO, instructions, Flag.IN_PLACE);
    this.place(port, 1, input ? Prot.READ : Prot.WRITE);
    this.port(value, device);
    this.shared.floats[(this.at + Field.DURATION) >>> 2] = 0;
    this.end();
  }

  /** One access to device memory by the instruction of the exit. */
  memory(gpa: number, size: number, write: boolean, low: number, high: number, device: number): void {
    if (this.at === 0) return;
    const { halves, words, doubles } = this.shared;
    if (words[(this.at + Field.REASON) >>> 2] !== Exit.MEMORY) {
      doubles[(DEVICES >>> 3) + 2 * device + (write ? 1 : 0)]++;
      return;
    }
    if (halves[(this.at + Field.ACCESSES) >>> 1] > 0) this.another();
    this.place(gpa, size, write ? Prot.WRITE : Prot.READ);
    this.value(low, high);
    halves[(this.at + Field.ACCESSES) >>> 1] = 1;
    this.answer(device);
  }

  /** What an MSR held, or who took what was written. */
  msr(low: number, high: number, device: number): void {
    if (this.at === 0) return;
    this.value(low, high);
    this.shared.halves[(this.at + Field.ACCESSES) >>> 1] = 1;
    this.answer(device);
  }

  /** The guest gets an exception for what it did. */
  fault(): void {
    if (this.at !== 0) this.shared.bytes[this.at + Field.FLAGS] |= Flag.FAULT;
  }

  /** Our emulator has run the instruction. */
  emulated(): void {
    if (this.at !== 0) this.shared.bytes[this.at + Field.FLAGS] |= Flag.EMULATED;
  }

  /** Publishes the record, if one is open. */
  end(): void {
    if (this.at === 0) return;
    const { words } = this.shared;
    this.at = 0;
    this.count++;
    const high = Math.floor(this.count / 2 ** 32);
    if ((this.count | 0) === 0) Atomics.store(words, COUNT_HIGH_AGAIN, high);
    Atomics.store(words, COUNT_LOW, this.count | 0);
    if ((this.count | 0) === 0) Atomics.store(words, COUNT_HIGH, high);
  }

  private open(ripLow: number, ripHigh: number, reason: number, instructions: number, flags: number): void {
    const { words, unsigned, halves, bytes, floats, doubles } = this.shared;
    const at = this.shared.slot(this.count);
    this.at = at;
    this.filled = 0;
    doubles[(at + Field.TIME) >>> 3] = this.time;
    doubles[(at + Field.INSTRUCTIONS) >>> 3] = instructions;
    doubles[(at + Field.WHERE) >>> 3] = -1;
    unsigned[(at + Field.RIP) >>> 2] = ripLow;
    unsigned[(at + Field.RIP + 4) >>> 2] = ripHigh;
    unsigned[(at + Field.VALUE) >>> 2] = 0;
    unsigned[(at + Field.VALUE + 4) >>> 2] = 0;
    words[(at + Field.REASON) >>> 2] = reason;
    words[(at + Field.DEVICE) >>> 2] = 0; // and ACCESSES
    halves[(at + Field.SIZE) >>> 1] = 0;
    bytes[at + Field.DIRECTION] = 0;
    bytes[at + Field.FLAGS] = flags;
    floats[(at + Field.DURATION) >>> 2] = -1;
    halves[(at + Field.EVENT) >>> 1] = this.event;
    halves[(at + Field.RUN) >>> 1] = this.run;
    this.event = 0;
  }

  /** Publishes the record and opens one for another access of the same instruction. */
  private another(): void {
    const { unsigned, words, doubles } = this.shared;
    const from = this.at;
    this.end();
    this.open(
      unsigned[(from + Field.RIP) >>> 2],
      unsigned[(from + Field.RIP + 4) >>> 2],
      words[(from + Field.REASON) >>> 2],
      doubles[(from + Field.INSTRUCTIONS) >>> 3],
      Flag.CONTINUED,
    );
  }

  private place(where: number, size: number, direction: number): void {
    const { doubles, halves, bytes } = this.shared;
    doubles[(this.at + Field.WHERE) >>> 3] = where;
    halves[(this.at + Field.SIZE) >>> 1] = size;
    bytes[this.at + Field.DIRECTION] = direction;
  }

  private value(low: number, high: number): void {
    const { unsigned, bytes } = this.shared;
    unsigned[(this.at + Field.VALUE) >>> 2] = low;
    unsigned[(this.at + Field.VALUE + 4) >>> 2] = high;
    bytes[this.at + Field.FLAGS] |= Flag.VALUE;
  }

  private answer(device: number): void {
    const { halves, bytes, doubles } = this.shared;
    halves[(this.at + Field.DEVICE) >>> 1] = device;
    const out = bytes[this.at + Field.DIRECTION] === Prot.WRITE ? 1 : 0;
    doubles[(DEVICES >>> 3) + 2 * device + out]++;
  }
}

/** A record, copied out of the ring. One object serves for any number of them. */
export class ExitRecord {
  time = 0;
  instructions = -1;
  where = -1;
  ripLow = 0;
  ripHigh = 0;
  valueLow = 0;
  valueHigh = 0;
  reason = 0;
  device = 0;
  accesses = 0;
  size = 0;
  direction = 0;
  flags = 0;
  duration = -1;
  event = 0;
  run = 0;
}

/** Accesses to one port or device. */
export interface AccessCount {
  reads: number;
  writes: number;
}

/** The reading end, for any thread. */
export class ExitTrace {
  private readonly shared: Shared;

  constructor(buffer: SharedArrayBuffer) {
    this.shared = new Shared(buffer);
  }

  /** Records since the machine was made: the number that the next one will have. */
  get count(): number {
    const { words } = this.shared;
    for (;;) {
      const high = Atomics.load(words, COUNT_HIGH);
      const low = Atomics.load(words, COUNT_LOW) >>> 0;
      if (Atomics.load(words, COUNT_HIGH_AGAIN) === high) return high * 2 ** 32 + low;
    }
  }

  /** The number of the oldest record that can be read. */
  get first(): number {
    return Math.max(0, this.count - KEPT);
  }

  /** Copies a record. False when it is not there (yet, or any more): then what `into` holds means nothing. */
  read(number: number, into: ExitRecord): boolean {
    const { words, unsigned, halves, bytes, floats, doubles } = this.shared;
    if (number < 0 || number >= this.count) return false;
    const at = this.shared.slot(number);
    into.time = doubles[(at + Field.TIME) >>> 3];
    into.instructions = doubles[(at + Field.INSTRUCTIONS) >>> 3];
    into.where = doubles[(at + Field.WHERE) >>> 3];
    into.ripLow = unsigned[(at + Field.RIP) >>> 2];
    into.ripHigh = unsigned[(at + Field.RIP + 4) >>> 2];
    into.valueLow = unsigned[(at + Field.VALUE) >>> 2];
    into.valueHigh = unsigned[(at + Field.VALUE + 4) >>> 2];
    into.reason = words[(at + Field.REASON) >>> 2];
    into.device = halves[(at + Field.DEVICE) >>> 1];
    into.accesses = halves[(at + Field.ACCESSES) >>> 1];
    into.size = halves[(at + Field.SIZE) >>> 1];
    into.direction = bytes[at + Field.DIRECTION];
    into.flags = bytes[at + Field.FLAGS];
    into.duration = floats[(at + Field.DURATION) >>> 2];
    into.event = halves[(at + Field.EVENT) >>> 1];
    into.run = halves[(at + Field.RUN) >>> 1];
    return this.count - number <= SLOTS - GUARD;
  }

  /**
   * Copies all records, which takes 64 MiB, for somebody who needs long to look at them. `rest` is awaited now and then.
   * The copy begins with the first record that it could get hold of.
   */
  async copy(rest: () => Promise<void>): Promise<{ trace: ExitTrace; first: number }> {
    const buffer = createExitTrace();
    const to = new Shared(buffer);
    const { bytes } = this.shared;
    const end = this.count;
    let first = this.first;
    for (let at = first; at < end;) {
      const slot = this.shared.slot(at);
      const records = Math.min(COPIED, end - at, SLOTS - (at & MASK));
      to.bytes.set(bytes.subarray(slot, slot + records * RECORD), slot);
      const whole = this.count - (SLOTS - GUARD);
      if (whole > at) first = Math.min(whole, end);
      at += records;
      await rest();
    }
    const high = Math.floor(end / 2 ** 32);
    to.words[COUNT_LOW] = end | 0;
    to.words[COUNT_HIGH] = to.words[COUNT_HIGH_AGAIN] = high;
    return { trace: new ExitTrace(buffer), first };
  }

  /** Accesses to a port. */
  port(port: number): AccessCount {
    const at = (PORTS >>> 3) + 2 * port;
    const { doubles } = this.shared;
    return { reads: doubles[at], writes: doubles[at + 1] };
  }

  /** Accesses to a device, by its number. */
  device(number: number): AccessCount {
    const at = (DEVICES >>> 3) + 2 * number;
    const { doubles } = this.shared;
    return { reads: doubles[at], writes: doubles[at + 1] };
  }
}

/** The event that a record tells of: its EventType and vector. */
export function eventOf({ event }: ExitRecord): { type: number; vector: number } | null {
  return (event & EVENT_PRESENT) === 0 ? null : { type: (event >>> 8) & 0x7f, vector: event & 0xff };
}
