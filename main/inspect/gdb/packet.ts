/**
 * The frames of gdb's remote protocol (GDB manual, appendix E.1): `$body#checksum`, acknowledgements, the interrupt
 * byte, escapes, and runs in what we send. Bodies are latin1 strings: one character for each byte.
 */

/** Bytes of a body at most, in either direction. gdb asks for memory in pieces that fit: 32 KiB as hex digits. */
export const PACKET_SIZE = 0x1_0000;

/** What arrives. A broken packet names what is wrong with it. */
export type Incoming =
  | { kind: 'packet'; body: string }
  | { kind: 'broken'; why: 'checksum' | 'length' }
  | { kind: 'ack' }
  | { kind: 'nack' }
  | { kind: 'interrupt' };

const DOLLAR = 0x24;
const HASH = 0x23;
const PLUS = 0x2b;
const MINUS = 0x2d;
const ESCAPE = 0x7d;
const INTERRUPT = 0x03;
const FLIP = 0x20;

/** Takes a stream of bytes apart, whatever is in it. What is no part of a frame is ignored, as gdb does. */
export class PacketReader {
  private readonly body = new Uint8Array(PACKET_SIZE);
  private length = 0;
  private state: 'idle' | 'body' | 'escaped' | 'sum-high' | 'sum-low' = 'idle';
  private sum = 0;
  private high = -1;
  private overlong = false;

  /** The next bytes, and what they complete, in order. */
  feed(bytes: Uint8Array): Incoming[] {
    const complete: Incoming[] = [];
    for (const byte of bytes) {
      const item = this.take(byte);
      if (item !== null) complete.push(item);
    }
    return complete;
  }

  private take(byte: number): Incoming | null {
    switch (this.state) {
      case 'idle':
        return this.outside(byte);
      case 'sum-high':
        this.high = digit(byte);
        this.state = 'sum-low';
        return null;
      case 'sum-low': {
        this.state = 'idle';
        if (this.overlong) return { kind: 'broken', why: 'length' };
        const low = digit(byte);
        if (this.high < 0 || low < 0 || this.high * 16 + low !== this.sum) {
          return { kind: 'broken', why: 'checksum' };
        }
        return { kind: 'packet', body: latin1(this.body.subarray(0, this.length)) };
      }
      default:
        this.inside(byte);
        return null;
    }
  }

  private outside(byte: number): Incoming | null {
    if (byte === PLUS) return { kind: 'ack' };
    if (byte === MINUS) return { kind: 'nack' };
    if (byte === INTERRUPT) return { kind: 'interrupt' };
    if (byte === DOLLAR) this.begin();
    return null;
  }

  private begin(): void {
    this.state = 'body';
    this.length = this.sum = 0;
    this.overlong = false;
  }

  private inside(byte: number): void {
    if (byte === HASH) {
      this.state = 'sum-high';
      return;
    }
    // A packet that begins within another: the end of the first was lost.
    if (byte === DOLLAR) {
      this.begin();
      return;
    }
    this.sum = (this.sum + byte) & 0xff;
    if (this.state === 'body' && byte === ESCAPE) {
      this.state = 'escaped';
      return;
    }
    if (this.length === PACKET_SIZE) this.overlong = true;
    else this.body[this.length++] = this.state === 'escaped' ? byte ^ FLIP : byte;
    this.state = 'body';
  }
}

function digit(byte: number): number {
  const value = Number.parseInt(String.fromCharCode(byte), 16);
  return Number.isNaN(value) ? -1 : value;
}

/** A frame around a body: binary bytes escaped, runs shortened. */
export function encodePacket(body: string): Buffer {
  const text = shortenRuns(escape(body));
  let sum = 0;
  for (let at = 0; at < text.length; at++) sum += text.charCodeAt(at);
  return Buffer.from(`$${text}#${hexByte(sum & 0xff)}`, 'latin1');
}

function escape(body: string): string {
  return body.replace(/[#$}*]/g, (char) => `}${String.fromCharCode(char.charCodeAt(0) ^ FLIP)}`);
}

/** The most repetitions that one count says: it is 29 more, and no printable byte is beyond 126. */
const LONGEST_RUN = 126 - 29;
/** A run takes two bytes for its count; shorter ones stay as they are. */
const SHORTEST_RUN = 4;

/** Counts that would read as # $ + or -. */
const FRAMING = new Set([HASH, DOLLAR, PLUS, MINUS]);

/** `0000` is `0*!`: the character, a star, and the number of repetitions that follow, plus 29. */
function shortenRuns(text: string): string {
  return text.replace(/([^}*])\1{3,}/g, (run, char: string) => {
    let short = '';
    let left = run.length;
    while (left >= SHORTEST_RUN) {
      let repeats = Math.min(left - 1, LONGEST_RUN);
      while (FRAMING.has(repeats + 29)) repeats--;
      short += `${char}*${String.fromCharCode(repeats + 29)}`;
      left -= repeats + 1;
    }
    return short + char.repeat(left);
  });
}

/** What gdb does to a body that it received: for tests, and for whoever reads a log of the line. */
export function expandRuns(text: string): string {
  return text.replace(/(.)\*(.)/gs, (_, char: string, count: string) =>
    char.repeat(count.charCodeAt(0) - 29 + 1),
  );
}

export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

export function hexByte(value: number): string {
  return value.toString(16).padStart(2, '0');
}

/** Bytes as hex digits. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

/** A text as gdb wants it in replies: the hex digits of its UTF-8 bytes. */
export function hexText(text: string): string {
  return Buffer.from(text, 'utf8').toString('hex');
}

/** Bytes of hex digits, or null where there is something else or half a byte. */
export function unhex(digits: string): Buffer | null {
  if (digits.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(digits)) return null;
  return Buffer.from(digits, 'hex');
}
