import type { EventData } from '../main/service/contract.ts';
import { ServiceError } from './client.ts';
import type { Client } from './client.ts';

/** Where a console's output goes: a terminal. `done` is called when the bytes have been drawn. */
export interface ConsoleSink {
  write(bytes: Uint8Array, done: () => void): void;
  /** Forgets what was shown: the history follows again. */
  reset(): void;
  /** Says something of our own between the guest's lines. */
  note(text: string): void;
}

/**
 * Bytes consumed before an acknowledgement goes out. The service stops at 256 KiB unacknowledged: a
 * sixteenth of that keeps it from ever waiting for bytes that were drawn long ago, at few messages for a flood.
 */
const ACK_EVERY = 16 * 1024;

/** Bytes of one input request: the contract allows 64 KiB; each piece waits for the reply to the one before. */
const INPUT_CHUNK = 16 * 1024;

type Chunk = EventData<'console.data'>;

export function decodeBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function encodeBase64(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/**
 * One serial port as this window sees it: attaches, feeds the sink in order, acknowledges what was drawn, sends
 * what is typed, and attaches again when the connection comes back.
 */
export class ConsoleSession {
  private readonly client: Client;
  private readonly target: { id: string; port: number };
  private readonly sink: ConsoleSink;
  private readonly failed: (message: string) => void;
  private readonly stops: (() => void)[];
  private stream: number | undefined;
  /** Data that came while the reply to our attach was on its way. */
  private early: Chunk[] | undefined;
  /** Position after the last byte shown, since the machine was started. */
  private position = 0;
  private shown = false;
  private consumed = 0;
  private acknowledged = 0;
  /** Position where what was printed before we attached ends. */
  private history = 0;
  /** Position after the last byte that the sink has drawn. */
  private drawn = 0;
  private sending: Promise<void> = Promise.resolve();
  private closed = false;

  constructor(
    client: Client,
    target: { id: string; port: number },
    sink: ConsoleSink,
    failed: (message: string) => void,
  ) {
    this.client = client;
    this.target = target;
    this.sink = sink;
    this.failed = failed;
    this.stops = [
      client.on('console.data', (chunk) => this.receive(chunk)),
      client.onStatus((status) => {
        this.stream = undefined;
        if (status === 'connected') void this.attach();
      }),
    ];
    if (client.status === 'connected') void this.attach();
  }

  /** True while the terminal draws history: its answers to queries of long ago must not reach the guest. */
  get replaying(): boolean {
    return this.stream === undefined || this.drawn < this.history;
  }

  /** Sends typed text or bytes, in order. */
  input(data: string | Uint8Array): void {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    for (let start = 0; start < bytes.length; start += INPUT_CHUNK) {
      const chunk = encodeBase64(bytes.subarray(start, start + INPUT_CHUNK));
      this.sending = this.sending.then(() => this.send(chunk));
    }
  }

  close(): void {
    this.closed = true;
    for (const stop of this.stops) stop();
    if (this.stream !== undefined) this.detach(this.stream);
    this.stream = undefined;
  }

  private async attach(): Promise<void> {
    this.early = [];
    try {
      const { stream, history } = await this.client.request('console.attach', this.target);
      if (this.closed) return this.detach(stream);
      if (this.shown) this.sink.reset();
      this.stream = stream;
      this.shown = false;
      this.position = 0;
      this.consumed = 0;
      this.acknowledged = 0;
      this.history = history;
      this.drawn = 0;
      this.sending = Promise.resolve();
      const early = this.early ?? [];
      this.early = undefined;
      for (const chunk of early) this.receive(chunk);
    } catch (error) {
      this.early = undefined;
      if (!this.closed && !isDisconnect(error)) this.failed((error as Error).message);
    }
  }

  private detach(stream: number): void {
    this.client.request('console.detach', { stream }).catch(() => undefined);
  }

  private receive(chunk: Chunk): void {
    if (this.early !== undefined) {
      this.early.push(chunk);
      return;
    }
    if (chunk.stream !== this.stream) return;
    const bytes = decodeBase64(chunk.data);
    if (chunk.offset < this.position) {
      this.sink.note('the machine was started again');
      this.history = 0;
    } else if (chunk.offset > this.position) {
      this.sink.note(`${(chunk.offset - this.position).toLocaleString('en')} earlier bytes are not kept`);
    }
    this.position = chunk.offset + bytes.length;
    this.shown = true;
    const { stream } = chunk;
    const end = this.position;
    this.sink.write(bytes, () => {
      if (stream !== this.stream) return;
      this.drawn = end;
      this.consume(bytes.length);
    });
  }

  private consume(count: number): void {
    this.consumed += count;
    if (this.consumed - this.acknowledged < ACK_EVERY || this.stream === undefined) return;
    this.acknowledged = this.consumed;
    this.client
      .request('console.ack', { stream: this.stream, bytes: this.consumed })
      .catch((error: unknown) => this.lost(error));
  }

  private async send(data: string): Promise<void> {
    if (this.stream === undefined) return;
    try {
      await this.client.request('console.input', { stream: this.stream, data });
    } catch (error) {
      this.lost(error);
    }
  }

  /** A stream that the service no longer knows is opened again; other errors are for the user. */
  private lost(error: unknown): void {
    if (this.closed || isDisconnect(error)) return;
    if (error instanceof ServiceError && error.kind === 'not-found' && this.early === undefined) {
      this.stream = undefined;
      void this.attach();
      return;
    }
    this.failed((error as Error).message);
  }
}

function isDisconnect(error: unknown): boolean {
  return error instanceof ServiceError && error.kind === 'disconnected';
}
