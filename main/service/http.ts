import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIP, type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type WebSocket } from 'ws';
import { hostCode, ServiceError } from './errors.ts';
import { securityHeaders } from './page-headers.ts';
import type { Service } from './service.ts';
import { parseMessage } from './message-text.ts';
import { BACKLOG_BYTES, MESSAGE_BYTES, Session, type Transport } from './session.ts';
import { staticFile } from './static-files.ts';
import { sameToken } from './token.ts';

/** Browser windows at once. Far more than a person opens; few enough that a loop in a page hurts nobody. */
const MAX_SESSIONS = 64;

/** How often a silent connection is asked whether it lives, in milliseconds: a laptop that was closed is gone. */
const HEARTBEAT_MS = 30_000;

/** Ports tried after the wanted one, when the user named none. */
const PORTS = 20;

const PROTOCOL = 'vitrine.v1';

export interface HttpOptions {
  /** Name or address to listen at. */
  host: string;
  /** The wanted port; 0: any. */
  port: number;
  /** Whether another port will do when that one is taken. */
  orNext: boolean;
  token: string;
  /** Folder of the built page. */
  page: string;
}

/**
 * The service for a browser: the page, and the contract over a WebSocket. The page is public and holds no secret; the
 * WebSocket wants the token. Against a web site that points its own name at us (DNS rebinding) or tries from another
 * tab, Host and Origin are checked as well. docs/threat-model.md.
 */
export class HttpFrontEnd {
  readonly #service: Service;
  readonly #options: HttpOptions;
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MESSAGE_BYTES,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(PROTOCOL) ? PROTOCOL : false),
  });
  readonly #alive = new WeakSet<WebSocket>();
  readonly #heartbeat: NodeJS.Timeout;

  private constructor(service: Service, options: HttpOptions) {
    this.#service = service;
    this.#options = options;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
    this.#heartbeat.unref();
  }

  static async open(service: Service, options: HttpOptions): Promise<HttpFrontEnd> {
    const front = new HttpFrontEnd(service, options);
    try {
      await front.#listen();
    } catch (error) {
      clearInterval(front.#heartbeat);
      throw error;
    }
    return front;
  }

  /** Where it listens, as in a URL. */
  get address(): string {
    const { address, family, port } = this.#server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}/`;
  }

  /** The address with the token behind the `#`, which a browser never sends anywhere. */
  get url(): string {
    return `${this.address}#token=${this.#options.token}`;
  }

  async close(): Promise<void> {
    clearInterval(this.#heartbeat);
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#sockets.close();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #listen(): Promise<void> {
    const { host, port, orNext } = this.#options;
    const last = orNext && port !== 0 ? port + PORTS : port;
    for (let each = port; ; each++) {
      try {
        await new Promise<void>((resolve, reject) => {
          this.#server.once('error', reject);
          this.#server.listen(each, host, () => {
            this.#server.off('error', reject);
            resolve();
          });
        });
        return;
      } catch (error) {
        const taken = hostCode(error) === 'EADDRINUSE';
        if (taken && each < last) continue;
        const what = taken ? 'it is in use. Choose another with --port' : (error as Error).message;
        throw new ServiceError('host', `Can't listen at ${host} port ${each}: ${what}.`);
      }
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = (status: number, type: string, body: Buffer | string): void => {
      response.writeHead(status, {
        ...securityHeaders,
        'Content-Type': type,
        'Content-Length': Buffer.byteLength(body),
        'Cache-Control': 'no-cache',
      });
      response.end(request.method === 'HEAD' ? undefined : body);
    };
    const refuse = (status: number, why: string): void =>
      answer(status, 'text/plain; charset=utf-8', `${why}\n`);
    if (!this.#hostAllowed(request)) {
      return refuse(421, 'This name is not one of ours. Use the address that was printed.');
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return refuse(405, 'Only GET and HEAD are answered here.');
    }
    const file = await staticFile(this.#options.page, pathOf(request));
    if (!file) return refuse(404, 'There is nothing here.');
    answer(200, file.type, file.body);
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Until ws takes over, a connection that breaks must not end the service.
    socket.on('error', () => socket.destroy());
    const refusal = this.#refusal(request);
    if (refusal) {
      socket.end(`HTTP/1.1 ${refusal}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
      this.#alive.add(webSocket);
      webSocket.on('pong', () => this.#alive.add(webSocket));
      new Session(this.#service, webSocketTransport(webSocket));
    });
  }

  #refusal(request: IncomingMessage): string | null {
    const { host, origin } = request.headers;
    if (!this.#hostAllowed(request)) return '421 Misdirected Request';
    // A page says where it comes from. Programs other than browsers say nothing, and need the token like anybody.
    if (origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`) {
      return '403 Forbidden';
    }
    if (pathOf(request) !== '/ws') return '404 Not Found';
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((each) => each.trim());
    const token = offered.find((each) => each.startsWith('token.'))?.slice('token.'.length) ?? '';
    if (!sameToken(token, this.#options.token)) return '401 Unauthorized';
    if (!offered.includes(PROTOCOL)) return '400 Bad Request';
    if (this.#sockets.clients.size >= MAX_SESSIONS) return '503 Service Unavailable';
    return null;
  }

  /**
   * A name that somebody else's DNS may point here is refused; an address, localhost, and the name that the user gave
   * are not names of that kind. The port is free, so that a tunnel may have another.
   */
  #hostAllowed(request: IncomingMessage): boolean {
    const match = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?$/.exec(request.headers.host ?? '');
    if (!match) return false;
    const name = match[1]!.toLowerCase().replace(/^\[|\]$/g, '');
    return isIP(name) !== 0 || name === 'localhost' || name === this.#options.host.toLowerCase();
  }

  #beat(): void {
    for (const socket of this.#sockets.clients) {
      if (!this.#alive.delete(socket)) socket.terminate();
      else socket.ping();
    }
  }
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split(/[?#]/, 1)[0]!;
}

function webSocketTransport(socket: WebSocket): Transport {
  // ws closes the connection itself after an error (a message that is too long, a frame that is none).
  socket.on('error', () => undefined);
  return {
    send: (message) => {
      if (socket.readyState !== socket.OPEN) return;
      if (socket.bufferedAmount > BACKLOG_BYTES) socket.terminate();
      else socket.send(JSON.stringify(message));
    },
    onMessage: (listener) => {
      socket.on('message', (data, isBinary) => {
        const message = isBinary ? undefined : parseMessage(String(data));
        if (message === undefined) socket.close(1003, 'messages are JSON text');
        else listener(message);
      });
    },
    onClose: (listener) => socket.once('close', listener),
    close: () => socket.close(1008, 'a message was not understood'),
  };
}
