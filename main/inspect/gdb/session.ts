import type { Duplex } from 'node:stream';
import { messageOf } from '../../machine/errors.ts';
import { execute } from './commands.ts';
import { Errno, RemoteError } from './errors.ts';
import type { Incoming } from './packet.ts';
import { encodePacket, hexByte, hexText, PacketReader } from './packet.ts';
import type { GdbMachine, GdbTarget, StubOptions } from './stub.ts';
import { Stub } from './stub.ts';

/** How often a packet is sent again before the line is given up. */
const RETRIES = 8;

/** Packets that may wait for the one that is being answered: gdb sends one at a time. */
const WAITING = 16;

/** Bytes that gdb may leave unread before it is let go: what a monitor command prints, many times. */
const BACKLOG = 16 * 2 ** 20;

/** A piece of text for gdb's console: older versions take a reply of a few hundred bytes in a buffer. */
const TEXT_PIECE = 4096;

/** One connected gdb: acknowledgements, the order of packets, errors, and what happens when it goes. */
export class GdbSession {
  /** Resolves when it is over and its breakpoints are gone. */
  readonly ended: Promise<void>;
  private readonly stream: Duplex;
  private readonly stub: Stub;
  private readonly reader = new PacketReader();
  private readonly waiting: string[] = [];
  private acknowledges = true;
  private answering = false;
  private last: Buffer | null = null;
  private retries = 0;
  private open = true;
  /** gdb has said something, and found the machine standing. */
  private greeted = false;

  constructor(stream: Duplex, target: GdbTarget, machine: GdbMachine, options: StubOptions) {
    this.stream = stream;
    this.stub = new Stub(target, machine, options, (text) => this.print(text));
    stream.on('data', (bytes: Buffer) => {
      for (const item of this.reader.feed(bytes)) this.take(item);
    });
    stream.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      stream.once('close', () => {
        this.open = false;
        this.waiting.length = 0;
        void this.stub.close().then(resolve);
      });
    });
  }

  close(): void {
    this.stream.destroy();
  }

  private take(item: Incoming): void {
    switch (item.kind) {
      case 'ack':
        this.retries = 0;
        return;
      case 'nack':
        if (this.last === null || !this.acknowledges) return;
        if (++this.retries > RETRIES) return this.close();
        this.write(this.last);
        return;
      case 'interrupt':
        this.stub.interrupt();
        return;
      case 'broken':
        return this.refuse(item.why);
      case 'packet':
        if (this.acknowledges) this.write(Buffer.from('+'));
        // gdb is silent while the guest runs: whoever isn't wants it to stop.
        this.stub.interrupt();
        this.waiting.push(item.body);
        if (this.waiting.length > WAITING) return this.close();
        void this.answer();
    }
  }

  private refuse(why: 'checksum' | 'length'): void {
    if (why === 'checksum' && this.acknowledges) return this.write(Buffer.from('-'));
    if (this.acknowledges) this.write(Buffer.from('+'));
    const what =
      why === 'length' ? 'The packet is longer than PacketSize.' : "The packet's checksum is wrong.";
    this.reply(this.errorReply('', new RemoteError(Errno.INVAL, what)));
  }

  private async answer(): Promise<void> {
    if (this.answering) return;
    this.answering = true;
    for (let body = this.waiting.shift(); body !== undefined; body = this.waiting.shift()) {
      if (body === 'QStartNoAckMode') {
        this.reply('OK');
        this.acknowledges = false;
        continue;
      }
      const reply = await this.replyTo(body);
      if (!this.open) break;
      if (typeof reply === 'string') this.reply(reply);
      else {
        if (reply.last !== null) this.reply(reply.last);
        this.stream.end();
        break;
      }
    }
    this.answering = false;
  }

  private async replyTo(body: string): Promise<string | { last: string | null }> {
    try {
      // What gdb connects to stands still: it looks at registers before it asks why.
      if (!this.greeted) await this.stub.halt();
      this.greeted = true;
      return await execute(this.stub, body);
    } catch (error) {
      this.stub.lastError = messageOf(error);
      return isResume(body) ? await this.stoppedBy(error) : this.errorReply(body, error);
    }
  }

  /** A guest that can't go on: to gdb it stopped again at once, which every version understands. */
  private async stoppedBy(error: unknown): Promise<string> {
    this.print(`${messageOf(error)}\n`);
    try {
      const stop = await this.stub.halt();
      if (stop !== null) return await this.stub.stopReply(stop);
    } catch (second) {
      this.stub.lastError = messageOf(second);
    }
    return 'X09';
  }

  /** `E.words` for a gdb that takes them; `E.x.words` is what older ones show of a breakpoint; else a number. */
  private errorReply(body: string, error: unknown): string {
    const words = messageOf(error).replace(/[^ -~]/g, '?');
    if (this.stub.accepts.has('error-message')) return `E.${words}`;
    if (body.startsWith('Z')) return `E.vitrine.${words}`;
    if (body.startsWith('qRcmd,')) {
      this.print(`${messageOf(error)}\n`);
      return 'OK';
    }
    return `E${hexByte(error instanceof RemoteError ? error.errno : Errno.IO)}`;
  }

  private print(text: string): void {
    for (let at = 0; at < text.length; at += TEXT_PIECE) {
      this.reply(`O${hexText(text.slice(at, at + TEXT_PIECE))}`);
    }
  }

  private reply(body: string): void {
    this.last = encodePacket(body);
    this.write(this.last);
  }

  private write(bytes: Buffer): void {
    if (!this.open || !this.stream.writable) return;
    if (this.stream.writableLength > BACKLOG) this.close();
    else this.stream.write(bytes);
  }
}

/** Packets that are answered by a stop reply. */
function isResume(body: string): boolean {
  return /^([cCsS]|vCont;|b[sc]$)/.test(body);
}
