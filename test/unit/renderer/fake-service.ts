import { Client } from '../../../renderer/client.ts';
import type { Connection, Listener } from '../../../renderer/transport.ts';
import type { VmInfo, VmState } from '../../../main/service/contract.ts';

interface Sent {
  call: number;
  method: string;
  params: unknown;
}

/** The other end of a transport: records what is sent, and answers as a test says. */
export class FakeService {
  readonly sent: Sent[] = [];
  /** Every connection that was opened, the current one last. */
  readonly listeners: Listener[] = [];
  closedByClient = 0;
  /** Reconnects at once: no test waits. */
  readonly client = new Client((listener) => this.accept(listener), [0]);

  private accept(listener: Listener): Connection {
    this.listeners.push(listener);
    return {
      send: (message) => this.sent.push(message as Sent),
      close: () => void (this.closedByClient += 1),
    };
  }

  get listener(): Listener {
    return this.listeners.at(-1)!;
  }

  /** Opens a connection and lets the client know. */
  open(): this {
    this.client.connect();
    this.listener.opened();
    return this;
  }

  /** The last request of this method that was sent. */
  last(method: string): Sent {
    const found = this.sent.findLast((each) => each.method === method);
    if (found === undefined) throw new Error(`${method} was not requested`);
    return found;
  }

  count(method: string): number {
    return this.sent.filter((each) => each.method === method).length;
  }

  async reply(method: string, result: unknown): Promise<void> {
    this.listener.message({ call: this.last(method).call, result });
    await settle();
  }

  async refuse(method: string, kind: string, message: string): Promise<void> {
    this.listener.message({ call: this.last(method).call, error: { kind, message } });
    await settle();
  }

  event(event: string, data: unknown): void {
    this.listener.message({ event, data });
  }
}

/** Lets everything that was promised happen. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export function vm(id: string, state: VmState = 'off', extra: Partial<VmInfo> = {}): VmInfo {
  return {
    id,
    config: {
      name: `Machine ${id}`,
      guest: { kind: 'calc' },
      memory: 2 ** 24,
      vcpus: 1,
      backend: 'auto',
      disks: [],
    },
    state,
    createdAt: id.charCodeAt(0),
    ...extra,
  };
}

/** localStorage without a browser. */
export function memoryStorage(): {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
} {
  const values = new Map<string, string>();
  return { getItem: (key) => values.get(key) ?? null, setItem: (key, value) => void values.set(key, value) };
}
