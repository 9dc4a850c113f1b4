import { chmodSync, rmSync } from 'node:fs';
import { createConnection, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { MachineError, messageOf } from '../../machine/errors.ts';
import type { GdbAddress } from './address.ts';
import { addressText } from './address.ts';
import { encodePacket } from './packet.ts';
import { GdbSession } from './session.ts';
import type { GdbMachine, GdbTarget, StubOptions } from './stub.ts';

/** A connection that died without a word is noticed after this many ms, so that gdb can come again. */
const KEEP_ALIVE_MS = 10_000;

/** Listens for one gdb at a time. It may go and come again, and so may the machine. */
export class GdbServer {
  /** Where it listens: what gdb's `target remote` takes. */
  readonly address: string;
  private readonly server: Server;
  private readonly path: string | null;
  private readonly debuggee: () => Debuggee;
  private session: GdbSession | null = null;

  private constructor(server: Server, address: GdbAddress, debuggee: () => Debuggee) {
    this.server = server;
    this.debuggee = debuggee;
    this.path = address.kind === 'unix' ? address.path : null;
    const bound = server.address();
    const port = bound !== null && typeof bound === 'object' ? (bound as AddressInfo).port : 0;
    this.address = addressText(address.kind === 'tcp' ? { ...address, port } : address);
    server.on('connection', (socket) => this.connect(socket));
  }

  /** `debuggee` is asked at each connection. Fails with a MachineError that names the address. */
  static async open(address: GdbAddress, debuggee: () => Debuggee): Promise<GdbServer> {
    const server = createServer();
    try {
      if (address.kind === 'unix') await listenAt(server, address.path);
      else await listen(server, { host: address.host, port: address.port });
    } catch (error) {
      throw new MachineError('host', `Can't listen for gdb at ${addressText(address)}: ${messageOf(error)}`);
    }
    return new GdbServer(server, address, debuggee);
  }

  /** Whether a gdb is connected. */
  get connected(): boolean {
    return this.session !== null;
  }

  /** Lets gdb go, and listens no more. The machine stays as it is. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.session?.close();
    await this.session?.ended;
    await closed;
    if (this.path !== null) rmSync(this.path, { force: true });
  }

  private connect(socket: Socket): void {
    if (this.session !== null) {
      socket.on('error', () => undefined);
      socket.end(encodePacket('E.Another gdb is connected to this machine.'));
      return;
    }
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const { target, machine, options } = this.debuggee();
    const session = new GdbSession(socket, target, machine, options);
    this.session = session;
    void session.ended.then(() => {
      if (this.session === session) this.session = null;
    });
  }
}

/** What a gdb that connects gets to see. */
export interface Debuggee {
  target: GdbTarget;
  machine: GdbMachine;
  options: StubOptions;
}

function listen(server: Server, where: { host: string; port: number } | { path: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** A Unix socket for this user alone. One that nobody listens at any more is replaced. */
async function listenAt(server: Server, path: string): Promise<void> {
  // The mask closes the moment between the socket's creation and its chmod.
  const mask = process.umask(0o177);
  try {
    await listen(server, { path }).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE' || (await answers(path))) throw error;
      rmSync(path);
      await listen(server, { path });
    });
  } finally {
    process.umask(mask);
  }
  if (process.platform !== 'win32') chmodSync(path, 0o600);
}

/** Whether there is something at the path that is not a socket left behind. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}
