import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import { ServiceError } from './errors.ts';
import type { Service } from './service.ts';
import { parseMessage } from './message-text.ts';
import { BACKLOG_BYTES, MESSAGE_BYTES, Session, type Transport } from './session.ts';

/**
 * The service for programs of the same user: the contract as lines of JSON over a Unix socket (a named pipe on
 * Windows). There is no token: who may open the socket is the user.
 */
export class LocalSocket {
  readonly path: string;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();

  private constructor(path: string, service: Service) {
    this.path = path;
    this.#server = createServer((socket) => {
      this.#clients.add(socket);
      socket.once('close', () => this.#clients.delete(socket));
      new Session(service, lineTransport(socket));
    });
  }

  /** The library's lock is ours when this is called, so a socket that lies there is a dead service's. */
  static async open(path: string, service: Service): Promise<LocalSocket> {
    const local = new LocalSocket(path, service);
    const isFile = process.platform !== 'win32';
    if (isFile) rmSync(path, { force: true });
    // The mask closes the moment between the socket's creation and its chmod.
    const mask = process.umask(0o177);
    try {
      await new Promise<void>((resolve, reject) => {
        local.#server.once('error', reject);
        local.#server.listen(path, resolve);
      });
    } catch (error) {
      throw new ServiceError('host', `Can't listen at ${path}: ${(error as Error).message}`);
    } finally {
      process.umask(mask);
    }
    if (isFile) chmodSync(path, 0o600);
    return local;
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function lineTransport(socket: Socket): Transport {
  // A program that goes away in the middle of a line is no news.
  socket.on('error', () => undefined);
  return {
    send: (message) => {
      if (socket.writableLength > BACKLOG_BYTES) socket.destroy();
      else if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
    },
    onMessage: (listener) => {
      const decoder = new StringDecoder('utf8');
      let rest = '';
      socket.on('data', (data) => {
        const lines = (rest + decoder.write(data)).split('\n');
        rest = lines.pop()!;
        if (rest.length > MESSAGE_BYTES) socket.destroy();
        for (const line of lines) {
          const message = line.length > MESSAGE_BYTES ? undefined : parseMessage(line);
          if (message === undefined) return void socket.destroy();
          listener(message);
        }
      });
    },
    onClose: (listener) => socket.once('close', listener),
    close: () => socket.destroy(),
  };
}
