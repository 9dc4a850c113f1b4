import type { SerialBackend, SerialRing, SerialSource } from '../devices/serial-ring.ts';

/** What comes to a machine from outside. */
export type MachineInput =
  { kind: 'serial'; port: number; data: Uint8Array } | { kind: 'power-button' } | { kind: 'reset' };

/** An input with the moment at which the guest could first notice it. */
export interface TimedInput {
  /** Nanoseconds of the machine's timeline: instructions retired and time skipped since its process began. */
  at: number;
  /** Instructions retired by then: for people, and for who looks for the place. */
  instructions: number;
  input: MachineInput;
}

/**
 * How a deterministic machine is to run. The same configuration, images, disks and inputs give the same run, to
 * the bit, on any host.
 */
export interface DeterministicConfig {
  /** 32 bits that all random bytes come from: RDRAND, RDSEED, virtio-rng. */
  seed: number;
  /** What the real-time clock shows at power-on, in seconds since the epoch. */
  unixSeconds: number;
  /** HLT sleeps as long as the time that it skips, unless this is false: then it skips at once. */
  paced?: boolean;
  /** Tell each input when it is taken. */
  record?: boolean;
  /** Inputs to be given at their times, ascending, before any other. */
  replay?: TimedInput[];
  /** Instruction counts at which to tell a hash of the machine's state, ascending. */
  hashAt?: number[];
  /** Bytes of older pages that may be kept to go backwards, beside a copy of RAM. Absent: no history. */
  history?: number;
  /** The instruction count at which the machine ends. */
  until?: number;
}

/** The time of a deterministic machine, as a capture holds it. */
export interface TimelineCapture {
  /** Instructions retired, and nanoseconds that passed without one. */
  count: number;
  skipped: number;
  /** The time-stamp counter, less the two. */
  offset: number;
  /** Where in the timeline the machine's clock was 0. */
  origin: number;
  /** Words taken from the seeded stream. */
  random: number;
  /** Bytes that were taken in and that the serial devices have not taken yet. */
  inputs: Uint8Array[];
}

/** What a deterministic machine tells of itself while it runs. */
export type TimelineEvent =
  { kind: 'hash'; instructions: number; hash: string } | { kind: 'input'; input: TimedInput };

/** Bytes on their way to a device: from the ring that another thread fills, at times that are recorded. */
export class InputQueue implements SerialSource {
  private bytes: number[] = [];

  push(data: Uint8Array): void {
    for (const byte of data) this.bytes.push(byte);
  }

  pull(): number {
    return this.bytes.shift() ?? -1;
  }

  available(): number {
    return this.bytes.length;
  }

  save(): Uint8Array {
    return Uint8Array.from(this.bytes);
  }

  load(saved: Uint8Array): void {
    this.bytes = [...saved];
  }
}

/** What a guest may send between two entries; a page of a terminal many times over. */
const OUTPUT_BYTES = 64 * 1024;

/**
 * Bytes on their way from a device. The guest always finds room: how fast somebody reads must not be seen. What
 * the ring does not take waits here, and with it the vCPU, before it goes on.
 */
export class OutputQueue implements SerialBackend {
  private bytes = new Uint8Array(OUTPUT_BYTES);
  private length = 0;
  /** What is printed again in a replay is not sent again. */
  muted = false;
  private readonly ring: SerialRing;

  constructor(ring: SerialRing) {
    this.ring = ring;
  }

  output(byte: number): boolean {
    if (this.muted) return true;
    if (this.length === this.bytes.length) {
      const larger = new Uint8Array(2 * this.bytes.length);
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.bytes[this.length++] = byte;
    return true;
  }

  free(): number {
    return OUTPUT_BYTES;
  }

  /** Sends what waits, as far as there is room. True when nothing waits any more. */
  flush(): boolean {
    if (this.length === 0) return true;
    const count = this.ring.write(this.bytes.subarray(0, this.length));
    this.bytes.copyWithin(0, count, this.length);
    this.length -= count;
    return this.length === 0;
  }
}

/**
 * Random words that follow from a seed and a position, so that the state is two numbers: the finalizer of
 * MurmurHash3 over both. Good enough for a guest's entropy, and no secret of anybody.
 */
export class SeededRandom {
  private readonly seed: number;
  position = 0;

  constructor(seed: number) {
    this.seed = seed >>> 0;
  }

  next(): number {
    const position = this.position++;
    let word = mix(this.seed ^ mix(position % 2 ** 32));
    word = mix((word + Math.floor(position / 2 ** 32) + 0x9e3779b9) | 0);
    return word >>> 0;
  }

  fill(into: Uint8Array): void {
    for (let at = 0; at < into.length; at += 4) {
      const word = this.next();
      for (let i = 0; i < 4 && at + i < into.length; i++) into[at + i] = word >>> (8 * i);
    }
  }
}

function mix(word: number): number {
  word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
  return word ^ (word >>> 16);
}
