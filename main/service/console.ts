import type { SerialLog } from '../machine/serial-log.ts';
import type { EventData } from './contract.ts';
import { ServiceError } from './errors.ts';

/**
 * Most bytes in one console.data event. Electron's MessagePort copies up to 64 KiB inline and needs shared memory for
 * more; larger pieces also make a terminal's writes jerk.
 */
const EVENT_BYTES = 64 * 1024;

/**
 * How long output is collected before it is sent, in milliseconds. A guest prints byte by byte; one event for each byte
 * would cost a hundred times the byte. Far less than a person sees when typing.
 */
const COLLECT_MS = 5;

/** Most bytes of one console.input. */
const INPUT_BYTES = 64 * 1024;

/**
 * One front end's view of one serial port. Its memory is bounded: the port's log hands out at most 256 KiB beyond what
 * was acknowledged (serial-log.ts), and those are either waiting here for a few milliseconds or on their way. A front
 * end that is slow doesn't hold the guest up: it continues later from the log, and sees a gap if the log has moved on.
 */
export class ConsoleStream {
  readonly id: number;
  readonly machine: string;
  readonly #log: SerialLog;
  readonly #send: (event: EventData<'console.data'>) => void;
  readonly #reader: ReturnType<SerialLog['attach']>;
  readonly #stopDrain: () => void;
  /** Waits to be sent: contiguous, from #offset. With nothing waiting, #offset is where the next byte is expected. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #offset = 0;
  #timer: NodeJS.Timeout | undefined;
  /** What was sent and not acknowledged: the count of bytes after each event, and the log's position there. */
  #unacknowledged: { count: number; position: number }[] = [];
  #sent = 0;
  #acknowledged = 0;
  /** Inputs that wait until the guest has read what was typed before. */
  #drained: (() => void)[] = [];

  constructor(id: number, machine: string, log: SerialLog, send: (event: EventData<'console.data'>) => void) {
    this.id = id;
    this.machine = machine;
    this.#log = log;
    this.#send = send;
    this.#stopDrain = log.onDrain(() => this.#releaseInput());
    this.#reader = log.attach({
      from: 'start',
      lossless: false,
      onData: (data, offset) => this.#collect(data, offset),
    });
  }

  /** `count`: bytes consumed since the stream was attached. */
  ack(count: number): void {
    if (count > this.#sent || count < this.#acknowledged) {
      throw new ServiceError(
        'invalid',
        `Stream ${this.id}: ${count} bytes acknowledged, but ${this.#sent} were sent and ${this.#acknowledged} acknowledged before.`,
      );
    }
    this.#acknowledged = count;
    let position: number | undefined;
    while (this.#unacknowledged.length > 0 && this.#unacknowledged[0]!.count <= count) {
      position = this.#unacknowledged.shift()!.position;
    }
    if (position !== undefined) this.#reader.ack(position);
  }

  /** Types. Resolves when the guest has room for more; one that doesn't wait for that is refused. */
  async input(base64: string): Promise<void> {
    const data = Buffer.from(base64, 'base64');
    if (data.length > INPUT_BYTES) {
      throw new ServiceError(
        'invalid',
        `${data.length} bytes of input at once; at most ${INPUT_BYTES} are taken.`,
      );
    }
    if (this.#drained.length > 0) {
      throw new ServiceError(
        'wrong-state',
        'The guest is not reading its serial port, and its buffer is full.',
      );
    }
    if (this.#log.write(data)) return;
    await new Promise<void>((resolve) => this.#drained.push(resolve));
  }

  detach(): void {
    clearTimeout(this.#timer);
    this.#reader.detach();
    this.#stopDrain();
    this.#waiting = [];
    this.#releaseInput();
  }

  #collect(data: Uint8Array, offset: number): void {
    const expected = this.#offset + this.#waitingBytes;
    // A gap or a new start of the machine: what waits is another piece of the story.
    if (this.#waitingBytes > 0 && offset !== expected) this.#flush();
    // The log counts from 0 again: acknowledging what came before must not count as credit for what comes now.
    if (offset < expected) for (const event of this.#unacknowledged) event.position = 0;
    if (this.#waitingBytes === 0) this.#offset = offset;
    // A copy: the log may reuse its memory once we return.
    this.#waiting.push(data.slice());
    this.#waitingBytes += data.length;
    this.#timer ??= setTimeout(() => this.#flush(), COLLECT_MS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const data = Buffer.concat(this.#waiting);
    const first = this.#offset;
    this.#offset += data.length;
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (let start = 0; start < data.length; start += EVENT_BYTES) {
      const piece = data.subarray(start, start + EVENT_BYTES);
      const offset = first + start;
      this.#sent += piece.length;
      this.#unacknowledged.push({ count: this.#sent, position: offset + piece.length });
      this.#send({ stream: this.id, offset, data: piece.toString('base64') });
    }
  }

  #releaseInput(): void {
    const waiting = this.#drained;
    this.#drained = [];
    for (const resolve of waiting) resolve();
  }
}
