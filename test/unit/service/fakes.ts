import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import type { MachineError } from '../../../main/machine/errors.ts';
import type {
  Answer,
  MachineConfig,
  MachineStatus,
  Question,
  QuestionParams,
} from '../../../main/machine/protocol.ts';
import { SerialLog } from '../../../main/machine/serial-log.ts';
import type { Transport } from '../../../main/service/session.ts';
import type { Machine } from '../../../main/service/vms.ts';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A folder of its own for one test, gone afterwards. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-test-'));
  folders.push(folder);
  return folder;
}

const kept: string[] = [];

/** A folder for all the tests of a file: removeKept removes it. */
export function keptFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-test-'));
  kept.push(folder);
  return folder;
}

export function removeKept(): void {
  for (const folder of kept.splice(0)) rmSync(folder, { recursive: true, force: true });
}

/** Stands for a VM's process: the real serial logs, and states that a test sets. */
export class FakeMachine implements Machine {
  status: MachineStatus = { state: 'off' };
  readonly serial = Array.from({ length: 4 }, () => new SerialLog());
  readonly typed: Buffer[] = [];
  /** Whether the guest reads what is typed. */
  reads = true;
  disposed = false;
  started: MachineConfig | undefined;
  /** What the next start fails with. */
  failure: MachineError | undefined;
  readonly #listeners = new Set<(status: MachineStatus) => void>();

  onStatus(listener: (status: MachineStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  become(status: MachineStatus): void {
    this.status = status;
    for (const listener of this.#listeners) listener(status);
  }

  async start(config: MachineConfig): Promise<void> {
    this.started = config;
    this.become({ state: 'starting' });
    await Promise.resolve();
    if (this.failure) {
      this.become({ state: 'failed', message: this.failure.message });
      throw this.failure;
    }
    let taken = 0;
    this.serial.forEach((log) =>
      log.open({
        input: (data) => {
          this.typed.push(Buffer.from(data));
          taken += data.length;
          if (this.reads) log.took(taken);
        },
        ack: () => undefined,
      }),
    );
    this.become({ state: 'running', backend: 'emulated' });
  }

  async pause(): Promise<void> {
    this.become({ ...this.status, state: 'paused' });
  }

  async resume(): Promise<void> {
    this.become({ ...this.status, state: 'running' });
  }

  async reset(): Promise<void> {
    this.become({ ...this.status, state: 'running' });
  }

  async powerButton(): Promise<void> {
    this.become({ state: 'off', message: 'The guest powered off.' });
  }

  async powerOff(): Promise<void> {
    if (this.status.state === 'off') return;
    this.become({ ...this.status, state: 'stopping' });
    await Promise.resolve();
    for (const log of this.serial) log.close();
    this.become({ state: 'off' });
  }

  /** What it was asked, and what it answers. */
  readonly asked: { question: Question; params: unknown }[] = [];
  answers: Partial<Record<Question, unknown>> = {};

  async ask<Q extends Question>(question: Q, params: QuestionParams<Q>): Promise<Answer<Q>> {
    this.asked.push({ question, params });
    return this.answers[question] as Answer<Q>;
  }

  dispose(): void {
    this.disposed = true;
  }
}

type Sent = Parameters<Transport['send']>[0];

/** A front end in the same process: what it was sent, and a way to ask. */
export class FakeFrontEnd implements Transport {
  readonly sent: Sent[] = [];
  closed = false;
  #message: (message: unknown) => void = () => undefined;
  #close: () => void = () => undefined;
  #call = 0;
  #waiting = new Map<number, (reply: Sent) => void>();

  send(message: Sent): void {
    this.sent.push(message);
    if ('call' in message) this.#waiting.get(message.call)?.(message);
  }

  onMessage(listener: (message: unknown) => void): void {
    this.#message = listener;
  }

  onClose(listener: () => void): void {
    this.#close = listener;
  }

  close(): void {
    this.closed = true;
    this.#close();
  }

  /** Says something, whatever it is. */
  say(message: unknown): void {
    this.#message(message);
  }

  /** Asks, and waits for the reply: its result, or its error. */
  ask(
    method: string,
    params: unknown = {},
  ): Promise<{ result?: unknown; error?: { kind: string; message: string } }> {
    const call = ++this.#call;
    return new Promise((resolve) => {
      this.#waiting.set(call, (reply) => resolve(reply as never));
      this.say({ call, method, params });
    });
  }

  /** The console events so far, decoded. */
  output(): { stream: number; offset: number; data: Buffer }[] {
    return this.sent
      .filter((message) => 'event' in message && message.event === 'console.data')
      .map((message) => (message as { data: { stream: number; offset: number; data: string } }).data)
      .map(({ stream, offset, data }) => ({ stream, offset, data: Buffer.from(data, 'base64') }));
  }
}
