import { INPUT_WINDOW, OUTPUT_WINDOW } from './protocol.ts';

/**
 * What a port printed stays readable this far back: some ten thousand lines, a verbose boot several times
 * over, and four ports of fifty VMs still fit in 200 MiB.
 */
const KEPT = 1024 * 1024;

export interface AttachOptions {
  /** A position, or the oldest or newest one kept. */
  from: 'start' | 'end' | number;
  /** True: the guest's transmitter waits for this reader. False: a reader that is too slow skips ahead. */
  lossless: boolean;
  /** `data` is valid during the call. `offset` is the position of its first byte since the machine was started. */
  onData(data: Uint8Array, offset: number): void;
}

/** One who reads a log, at his own speed: at most OUTPUT_WINDOW bytes beyond what was acknowledged. */
export interface SerialReader {
  /** All bytes before this position are consumed. */
  ack(position: number): void;
  detach(): void;
}

interface Reader extends AttachOptions {
  /** Next byte to hand out. */
  next: number;
  acknowledged: number;
}

/** How a log talks to its port: the machine's process. */
export interface SerialLink {
  input(data: Uint8Array): void;
  ack(position: number): void;
}

/** The parent's end of one serial port: the last 1 MiB printed, who reads it, and what is typed. */
export class SerialLog {
  private readonly ring = new Uint8Array(KEPT);
  private readonly readers = new Set<Reader>();
  private readonly drainers = new Set<() => void>();
  private link: SerialLink | null = null;
  private newest = 0;
  private acknowledged = 0;
  private typed = 0;
  private taken = 0;

  /** Position of the oldest byte kept. */
  get start(): number {
    return Math.max(0, this.newest - KEPT);
  }

  /** Position after the newest byte. */
  get end(): number {
    return this.newest;
  }

  attach(options: AttachOptions): SerialReader {
    const { from } = options;
    const wanted = from === 'start' ? this.start : from === 'end' ? this.end : from;
    const next = Math.min(Math.max(wanted, this.start), this.end);
    const reader: Reader = { ...options, next, acknowledged: next };
    this.readers.add(reader);
    this.pump(reader);
    return {
      ack: (position) => {
        if (!this.readers.has(reader)) return;
        reader.acknowledged = Math.min(Math.max(position, reader.acknowledged), reader.next);
        this.pump(reader);
        this.acknowledge();
      },
      detach: () => {
        this.readers.delete(reader);
        this.acknowledge();
      },
    };
  }

  /** Types. False: more than INPUT_WINDOW bytes wait for the guest; wait for onDrain. Dropped while it is off. */
  write(data: Uint8Array): boolean {
    if (this.link === null) return true;
    this.typed += data.length;
    this.link.input(data);
    return this.typed - this.taken <= INPUT_WINDOW;
  }

  onDrain(listener: () => void): () => void {
    this.drainers.add(listener);
    return () => this.drainers.delete(listener);
  }

  /** A machine starts: forgets the last run. Readers stay, and go on at position 0. */
  open(link: SerialLink): void {
    this.link = link;
    this.newest = this.acknowledged = this.typed = this.taken = 0;
    for (const reader of this.readers) reader.next = reader.acknowledged = 0;
  }

  /** The machine's process is gone: what was typed goes nowhere, and nobody waits for it. */
  close(): void {
    this.link = null;
    this.took(this.typed);
  }

  /** The port printed. */
  append(data: Uint8Array): void {
    // What is longer than the ring is sent in windows far smaller than it, so it never overtakes itself.
    for (let at = 0; at < data.length;) {
      const inRing = this.newest % KEPT;
      const piece = data.subarray(at, at + Math.min(data.length - at, KEPT - inRing));
      this.ring.set(piece, inRing);
      this.newest += piece.length;
      at += piece.length;
    }
    for (const reader of [...this.readers]) this.pump(reader);
    this.acknowledge();
  }

  /** The guest took typed bytes, so many since the start. */
  took(position: number): void {
    const waited = this.typed - this.taken > INPUT_WINDOW;
    this.taken = position;
    if (waited && this.typed - this.taken <= INPUT_WINDOW) {
      for (const drained of [...this.drainers]) drained();
    }
  }

  private pump(reader: Reader): void {
    while (this.readers.has(reader)) {
      const room = reader.acknowledged + OUTPUT_WINDOW - reader.next;
      if (room <= 0) return;
      // A slow reader skips what is lost, once it may be sent something; what it owes, it still owes.
      const lost = Math.max(0, this.start - reader.next);
      reader.next += lost;
      reader.acknowledged += lost;
      const inRing = reader.next % KEPT;
      const length = Math.min(this.newest - reader.next, room, KEPT - inRing);
      if (length <= 0) return;
      const offset = reader.next;
      reader.next += length;
      reader.onData(this.ring.subarray(inRing, inRing + length), offset);
    }
  }

  /** Lets the port print on. Lossless readers must have consumed; for the others the log itself is enough. */
  private acknowledge(): void {
    let position = this.newest;
    for (const { lossless, acknowledged } of this.readers) {
      if (lossless) position = Math.min(position, acknowledged);
    }
    if (position <= this.acknowledged) return;
    this.acknowledged = position;
    this.link?.ack(position);
  }
}
