import type { SerialRing } from '../devices/serial-ring.ts';
import type { FromMachine } from './protocol.ts';
import { OUTPUT_WINDOW } from './protocol.ts';

/** Bytes of one message: a page of a terminal many times over, and far below what a channel queues. */
const PIECE = 16 * 1024;

/**
 * A guest prints byte by byte. After the first byte the ring is looked at every so many milliseconds instead of
 * at every byte: an echo comes at once, and a flood costs 250 messages a second.
 */
const LOOK_MS = 4;

/** How often typed bytes that found no room are offered again, in ms: a guest reads 16 KiB in far more. */
const RETRY_MS = 5;

export interface PumpHost {
  send(message: FromMachine): void;
  /** The rings changed: the device is to look at them. */
  poll(port: number): void;
}

/** The I/O thread's end of one serial port: from its rings to the parent and back, with bounded memory. */
export class SerialPump {
  private readonly port: number;
  private readonly output: SerialRing;
  private readonly input: SerialRing;
  private readonly host: PumpHost;
  private readonly piece = new Uint8Array(PIECE);
  private sent = 0;
  private acknowledged = 0;
  private typed: Uint8Array[] = [];
  private taken = 0;
  private looking: NodeJS.Timeout | null = null;
  private retrying: NodeJS.Timeout | null = null;

  constructor(port: number, output: SerialRing, input: SerialRing, host: PumpHost) {
    this.port = port;
    this.output = output;
    this.input = input;
    this.host = host;
  }

  /** Starts listening: from now on the ring calls. */
  start(): void {
    this.look();
  }

  /** The ring has something, or the parent has taken something in. */
  look(): void {
    if (this.looking !== null) return;
    const moved = this.move(false);
    // Full: the next ack looks again. The ring fills meanwhile, and then the guest waits.
    if (this.sent - this.acknowledged >= OUTPUT_WINDOW) return;
    if (!moved && this.output.sleep()) return;
    this.looking = setTimeout(() => {
      this.looking = null;
      this.look();
    }, LOOK_MS);
  }

  ack(position: number): void {
    if (!(position > this.acknowledged && position <= this.sent)) return;
    const full = this.sent - this.acknowledged >= OUTPUT_WINDOW;
    this.acknowledged = position;
    if (full) this.look();
  }

  /** Sends all that is left, at the machine's end: no more than the ring holds. */
  flush(): void {
    this.stop();
    this.move(true);
  }

  stop(): void {
    if (this.looking !== null) clearTimeout(this.looking);
    if (this.retrying !== null) clearTimeout(this.retrying);
    this.looking = this.retrying = null;
  }

  /** The parent types. It keeps to INPUT_WINDOW, so what waits here is bounded. */
  type(data: Uint8Array): void {
    this.typed.push(data);
    this.offer();
  }

  private move(all: boolean): boolean {
    let moved = false;
    for (;;) {
      const room = all ? PIECE : Math.min(PIECE, OUTPUT_WINDOW - (this.sent - this.acknowledged));
      const count = room > 0 ? this.output.read(this.piece.subarray(0, room)) : 0;
      if (count === 0) break;
      moved = true;
      this.sent += count;
      this.host.send({ kind: 'output', port: this.port, data: this.piece.slice(0, count) });
    }
    if (moved && this.output.takeRefused()) this.host.poll(this.port);
    return moved;
  }

  private offer(): void {
    if (this.retrying !== null) return;
    let written = 0;
    while (this.typed.length > 0) {
      const [next] = this.typed;
      const count = this.input.write(next);
      written += count;
      if (count < next.length) {
        this.typed[0] = next.subarray(count);
        this.retrying = setTimeout(() => {
          this.retrying = null;
          this.offer();
        }, RETRY_MS);
        break;
      }
      this.typed.shift();
    }
    if (written === 0) return;
    this.taken += written;
    this.host.poll(this.port);
    this.host.send({ kind: 'took', port: this.port, position: this.taken });
  }
}
