import { eventMessage, events, replyMessage, requests } from '../main/service/contract.ts';
import type {
  EventData,
  EventName,
  Params,
  ReplyMessage,
  RequestName,
  Result,
} from '../main/service/contract.ts';
import type { Connection, Transport } from './transport.ts';

export type Status = 'connecting' | 'connected' | 'lost';

/** What a request ends with when it fails: the service's own sentence, or that the service was out of reach. */
export class ServiceError extends Error {
  readonly kind: string;

  constructor(kind: string, message: string) {
    super(message);
    this.name = 'ServiceError';
    this.kind = kind;
  }
}

interface Call {
  method: RequestName;
  resolve(result: never): void;
  reject(error: ServiceError): void;
}

/** Waits between attempts to connect, in ms: quick at first (a restart takes a moment), then calm. */
const DELAYS = [250, 500, 1000, 2000, 4000];

/** Calls the service and hears its events, over one connection at a time; lost ones are opened again. */
export class Client {
  status: Status = 'connecting';
  private readonly transport: Transport;
  private readonly delays: readonly number[];
  private connection: Connection | undefined;
  private readonly calls = new Map<number, Call>();
  private readonly handlers = new Map<EventName, Set<(data: never) => void>>();
  private readonly statusHandlers = new Set<(status: Status) => void>();
  private lastCall = 0;
  private attempts = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(transport: Transport, delays: readonly number[] = DELAYS) {
    this.transport = transport;
    this.delays = delays;
  }

  /** Opens the connection, at once if an attempt was waiting for its turn. */
  connect(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.connection !== undefined) return;
    // A transport may report from an earlier connection; only the current one counts.
    let mine: Connection | undefined = undefined;
    const current = (): boolean => mine !== undefined && this.connection === mine;
    mine = this.transport({
      opened: () => current() && this.opened(),
      message: (message) => current() && this.receive(message),
      closed: () => current() && this.closed(),
    });
    this.connection = mine;
  }

  /** Sends a request; the promise is rejected with a `ServiceError`. */
  request<N extends RequestName>(method: N, params: Params<N>): Promise<Result<N>> {
    return new Promise((resolve, reject) => {
      if (this.connection === undefined || this.status !== 'connected') {
        reject(new ServiceError('disconnected', 'Not connected to Vitrine. Nothing was changed.'));
        return;
      }
      const call = ++this.lastCall;
      this.calls.set(call, { method, resolve, reject });
      this.connection.send({ call, method, params });
    });
  }

  /** Hears an event until the returned function is called. */
  on<N extends EventName>(name: N, handler: (data: EventData<N>) => void): () => void {
    const handlers = this.handlers.get(name) ?? new Set();
    this.handlers.set(name, handlers);
    handlers.add(handler);
    return () => handlers.delete(handler);
  }

  onStatus(handler: (status: Status) => void): () => void {
    this.statusHandlers.add(handler);
    return () => this.statusHandlers.delete(handler);
  }

  private setStatus(status: Status): void {
    if (this.status === status) return;
    this.status = status;
    for (const handler of [...this.statusHandlers]) handler(status);
  }

  private opened(): void {
    this.attempts = 0;
    this.setStatus('connected');
  }

  private closed(): void {
    this.connection = undefined;
    const waiting = [...this.calls.values()];
    this.calls.clear();
    this.setStatus('lost');
    const text = 'The connection to Vitrine was lost before it answered. It may have been done or not.';
    for (const call of waiting) call.reject(new ServiceError('disconnected', text));
    const delay = this.delays[Math.min(this.attempts, this.delays.length - 1)] ?? 0;
    this.attempts += 1;
    this.timer = setTimeout(() => this.connect(), delay);
  }

  private receive(message: unknown): void {
    const event = eventMessage.safeParse(message);
    if (event.success) return this.dispatch(event.data.event, event.data.data);
    const reply = replyMessage.safeParse(message);
    if (reply.success) return this.settle(reply.data);
    console.warn('Vitrine: a message that is neither a reply nor an event was dropped', message);
  }

  private dispatch(name: string, data: unknown): void {
    if (!Object.hasOwn(events, name)) return;
    const checked = events[name as EventName].safeParse(data);
    if (!checked.success) {
      console.warn(`Vitrine: a malformed ${name} event was dropped`, checked.error.issues);
      return;
    }
    for (const handler of [...(this.handlers.get(name as EventName) ?? [])]) handler(checked.data as never);
  }

  private settle(reply: ReplyMessage): void {
    const call = this.calls.get(reply.call);
    if (call === undefined) return;
    this.calls.delete(reply.call);
    if ('error' in reply) {
      call.reject(new ServiceError(reply.error.kind, reply.error.message));
      return;
    }
    const checked = requests[call.method].result.safeParse(reply.result);
    if (checked.success) call.resolve(checked.data as never);
    else {
      call.reject(
        new ServiceError(
          'internal',
          `Vitrine's answer to ${call.method} was not understood: is it another version?`,
        ),
      );
    }
  }
}

/** The sentence to show for anything that was thrown. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
