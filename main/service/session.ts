import { ConsoleStream } from './console.ts';
import {
  requestMessage,
  type EventMessage,
  type ReplyMessage,
  type RequestMessage,
  type Result,
  type requests,
} from './contract.ts';
import { describeError, ServiceError } from './errors.ts';
import { checkParams, type Service } from './service.ts';
import type { z } from 'zod';

/** A connection to one front end, whatever carries it. Messages are plain values; the transport encodes them. */
export interface Transport {
  send(message: ReplyMessage | EventMessage): void;
  onMessage(listener: (message: unknown) => void): void;
  /** Once, when the front end has gone or was let go. */
  onClose(listener: () => void): void;
  close(): void;
}

/** Largest message from a front end, in bytes: a console.input of 64 KiB in base64, and room for its envelope. */
export const MESSAGE_BYTES = 128 * 1024;

/** A front end that lets this many bytes pile up has stopped reading: its transport lets it go, and it may come again. */
export const BACKLOG_BYTES = 32 * 2 ** 20;

/** Streams that one front end may have: four ports of a few dozen VMs. Each may hold 256 KiB on its way. */
const MAX_STREAMS = 128;

type ConsoleRequest = 'console.attach' | 'console.detach' | 'console.input' | 'console.ack';
type Checked<N extends keyof typeof requests> = z.output<(typeof requests)[N]['params']>;

/** One connected front end: answers its requests, tells it what happens, and owns its console streams. */
export class Session {
  readonly #service: Service;
  readonly #transport: Transport;
  readonly #streams = new Map<number, ConsoleStream>();
  readonly #stopEvents: () => void;
  #nextStream = 1;
  #open = true;

  readonly #console: { [N in ConsoleRequest]: (params: Checked<N>) => unknown } = {
    'console.attach': ({ id, port }) => this.#attach(id, port),
    'console.detach': ({ stream }) => {
      this.#stream(stream).detach();
      this.#streams.delete(stream);
      return {};
    },
    'console.input': async ({ stream, data }) => {
      await this.#stream(stream).input(data);
      return {};
    },
    'console.ack': ({ stream, bytes }) => {
      this.#stream(stream).ack(bytes);
      return {};
    },
  };

  constructor(service: Service, transport: Transport) {
    this.#service = service;
    this.#transport = transport;
    this.#stopEvents = service.on((event, data) => {
      this.#send({ event, data });
      if (event === 'vm.removed') this.#dropStreams(data.id);
    });
    transport.onMessage((message) => void this.#answer(message));
    transport.onClose(() => this.#end());
  }

  async #answer(message: unknown): Promise<void> {
    const { data: request } = requestMessage.safeParse(message);
    // Without a call number there is nobody to answer to, and the rest can't be trusted either.
    if (!request) return this.#transport.close();
    try {
      const result = this.#dispatch(request);
      // No await for what is ready: see Service.answer.
      this.#send({ call: request.call, result: result instanceof Promise ? await result : result });
    } catch (error) {
      this.#send({ call: request.call, error: describeError(error) });
    }
  }

  #dispatch({ method, params }: RequestMessage): unknown {
    if (!Object.hasOwn(this.#console, method)) return this.#service.answer(method, params);
    const name = method as ConsoleRequest;
    const handler = this.#console[name] as (params: unknown) => unknown;
    return handler(checkParams(name, params));
  }

  #attach(machine: string, port: number): Result<'console.attach'> {
    if (this.#streams.size >= MAX_STREAMS) {
      throw new ServiceError('invalid', `This window has ${MAX_STREAMS} consoles open already. Close some.`);
    }
    const id = this.#nextStream++;
    const log = this.#service.serial(machine, port);
    const history = log.end;
    this.#streams.set(
      id,
      new ConsoleStream(id, machine, log, (data) => this.#send({ event: 'console.data', data })),
    );
    return { stream: id, history };
  }

  #stream(id: number): ConsoleStream {
    const stream = this.#streams.get(id);
    if (!stream) throw new ServiceError('not-found', `There is no console stream ${id}.`);
    return stream;
  }

  #dropStreams(machine: string): void {
    for (const stream of this.#streams.values()) {
      if (stream.machine !== machine) continue;
      stream.detach();
      this.#streams.delete(stream.id);
    }
  }

  #send(message: ReplyMessage | EventMessage): void {
    if (this.#open) this.#transport.send(message);
  }

  #end(): void {
    this.#open = false;
    this.#stopEvents();
    for (const stream of this.#streams.values()) stream.detach();
    this.#streams.clear();
  }
}
