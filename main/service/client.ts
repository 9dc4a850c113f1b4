import { createConnection, type Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import {
  eventMessage,
  events,
  replyMessage,
  requests,
  type EventData,
  type EventName,
  type Params,
  type RequestName,
  type Result,
  type VmInfo,
} from './contract.ts';
import { hostCode, ServiceError } from './errors.ts';
import { parseMessage } from './message-text.ts';
import { libraryFolder, localSocketPath } from './paths.ts';

type Listener = (data: unknown) => void;

interface Call {
  method: RequestName;
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** A program's end of the contract, over the local socket of a running `vitrine serve`. */
export class Client {
  readonly #socket: Socket;
  readonly #calls = new Map<number, Call>();
  readonly #listeners = new Map<EventName, Set<Listener>>();
  #next = 1;
  #lost: ServiceError | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const decoder = new StringDecoder('utf8');
    let pieces: string[] = [];
    socket.on('data', (data: Buffer) => {
      const lines = decoder.write(data).split('\n');
      for (const line of lines.slice(0, -1)) {
        this.#hear([...pieces, line].join(''));
        pieces = [];
      }
      pieces.push(lines.at(-1)!);
    });
    socket.on('error', (error) => this.#lose(`The connection to vitrine serve broke: ${error.message}`));
    socket.once('close', () => this.#lose('vitrine serve has closed the connection.'));
  }

  /** Connects to the service of a library. Fails with a ServiceError that says what to do. */
  static async connect(library = libraryFolder()): Promise<Client> {
    const path = localSocketPath(library);
    const socket = createConnection(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (error) => reject(unreachable(error, library, path)));
    });
    socket.removeAllListeners();
    return new Client(socket);
  }

  /** Asks; fails with the service's own ServiceError. */
  request<N extends RequestName>(method: N, params: Params<N>): Promise<Result<N>> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    const call = this.#next++;
    return new Promise<Result<N>>((resolve, reject) => {
      this.#calls.set(call, { method, resolve: resolve as Call['resolve'], reject });
      this.#socket.write(`${JSON.stringify({ call, method, params })}\n`);
    });
  }

  /** Listens to an event. Returns what ends that. */
  on<N extends EventName>(event: N, listener: (data: EventData<N>) => void): () => void {
    const heard = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, heard.add(listener as Listener));
    return () => heard.delete(listener as Listener);
  }

  /** The VM that has this id, or this name if no other has it. */
  async vm(text: string): Promise<VmInfo> {
    return namedVm(await this.request('vm.list', {}), text);
  }

  close(): void {
    this.#lose('The connection was closed.');
    this.#socket.destroy();
  }

  #hear(line: string): void {
    const message = parseMessage(line);
    const { data: reply } = replyMessage.safeParse(message);
    if (reply !== undefined) return this.#settle(reply);
    const { data: news } = eventMessage.safeParse(message);
    if (news === undefined || !Object.hasOwn(events, news.event)) return;
    const name = news.event as EventName;
    const heard = this.#listeners.get(name);
    if (heard === undefined) return;
    const { data, success } = events[name].safeParse(news.data);
    if (success) for (const listener of heard) listener(data);
  }

  #settle(reply: ReturnType<typeof replyMessage.parse>): void {
    const call = this.#calls.get(reply.call);
    if (call === undefined) return;
    this.#calls.delete(reply.call);
    if ('error' in reply) return call.reject(new ServiceError(reply.error.kind, reply.error.message));
    const { data, error } = requests[call.method].result.safeParse(reply.result);
    if (error === undefined) return call.resolve(data);
    const why = `${call.method}: the service answered what this command does not understand: ${error.issues[0]!.message}`;
    call.reject(new ServiceError('internal', `${why}. Are both of one version?`));
  }

  #lose(why: string): void {
    this.#lost ??= new ServiceError('host', why);
    for (const { reject } of this.#calls.values()) reject(this.#lost);
    this.#calls.clear();
  }
}

/** What a command line means by ID or NAME. An id goes before a name. */
export function namedVm(vms: readonly VmInfo[], text: string): VmInfo {
  const byId = vms.find(({ id }) => id === text);
  if (byId !== undefined) return byId;
  const named = vms.filter(({ config }) => config.name === text);
  if (named.length === 1) return named[0]!;
  if (named.length === 0) {
    const known = vms.map(({ config, id }) => `"${config.name}" (${id})`).join(', ');
    throw new ServiceError('not-found', `There is no VM "${text}". There are: ${known || 'none'}.`);
  }
  const ids = named.map(({ id }) => id).join(', ');
  throw new ServiceError('invalid', `${named.length} VMs are named "${text}". Say which by its id: ${ids}.`);
}

function unreachable(error: Error, library: string, path: string): ServiceError {
  const code = hostCode(error);
  const nobody = code === 'ENOENT' || code === 'ECONNREFUSED';
  return new ServiceError(
    'host',
    nobody
      ? `Nothing serves the library ${library}. Start it with: vitrine serve`
      : `Can't connect to ${path}: ${error.message}`,
  );
}
