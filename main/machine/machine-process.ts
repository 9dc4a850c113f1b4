import { findProcess } from './entry.ts';
import { MachineError, messageOf } from './errors.ts';
import type { ChildChannel, Launcher } from './launcher.ts';
import { forkLauncher } from './launcher.ts';
import type {
  Answer,
  FromMachine,
  MachineConfig,
  MachineState,
  MachineStats,
  MachineStatus,
  Question,
  QuestionParams,
  TraceEnd,
  Verb,
} from './protocol.ts';
import { SERIAL_PORTS } from './protocol.ts';
import type { TimelineEvent } from './timeline-input.ts';
import { SerialLog } from './serial-log.ts';

export { MachineError } from './errors.ts';

/** How long a process may take to end by itself after powerOff: its disks are flushed long before. */
const GRACE_MS = 2000;

/** The same when it writes its exit trace at the end: a million records and a slow disk. */
const TRACE_GRACE_MS = 60_000;

interface Call {
  resolve(answer: Answer<Question> | undefined): void;
  reject(error: MachineError): void;
}

/** What the parent asks for by a call; its number is given when it is sent. */
type Calling =
  | { kind: Verb }
  | { kind: 'start'; config: MachineConfig }
  | { kind: 'ask'; question: Question; params: QuestionParams<Question> };

/** The parent's side of one run: a child process and the calls that it still owes an answer. */
interface Run {
  child: ChildChannel;
  calls: Map<number, Call>;
  /** powerOff or dispose was asked for: the process's end is what was wanted. */
  ending: boolean;
  /** How it ended, once the process has said so or its start has failed. */
  outcome?: MachineStatus;
  end(status: MachineStatus): void;
}

/** A VM's process, seen from its parent. It may be started again after each end, with a new process each time. */
export class MachineProcess {
  /** COM1 to COM4, and the virtio console (hvc0). */
  readonly serial: SerialLog[] = Array.from({ length: SERIAL_PORTS + 1 }, () => new SerialLog());
  /** The counters at the end of the last run; null when its process could not say. */
  lastStats: MachineStats | null = null;
  /** What came of the exit trace's file at the end of the last run; null when none was wanted. */
  lastTrace: TraceEnd | null = null;
  private grace = GRACE_MS;
  private current: MachineStatus = { state: 'off' };
  private readonly listeners = new Set<(status: MachineStatus) => void>();
  private readonly launch: Launcher;
  private run: Run | null = null;
  private readonly timelineListeners = new Set<(event: TimelineEvent) => void>();
  private nextCall = 1;
  private whenEnded: Promise<MachineStatus> = Promise.resolve(this.current);

  constructor(options: { launch?: Launcher } = {}) {
    this.launch = options.launch ?? forkLauncher;
  }

  get status(): MachineStatus {
    return this.current;
  }

  /** How the current run ends: off, crashed or failed. */
  get ended(): Promise<MachineStatus> {
    return this.whenEnded;
  }

  get pid(): number | undefined {
    return this.run?.child.pid;
  }

  onStatus(listener: (status: MachineStatus) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Hashes and inputs of a deterministic machine, as its configuration asks for them. */
  onTimeline(listener: (event: TimelineEvent) => void): () => void {
    this.timelineListeners.add(listener);
    return () => this.timelineListeners.delete(listener);
  }

  /** Resolves when the guest runs. Rejects with the reason, and the status is then `failed`. */
  async start(config: MachineConfig): Promise<void> {
    if (this.run !== null) {
      if (this.current.state !== 'crashed') throw this.wrongState('start');
      await this.powerOff();
    }
    this.lastStats = null;
    this.lastTrace = null;
    this.grace = config.traceFile === undefined ? GRACE_MS : TRACE_GRACE_MS;
    this.whenEnded = new Promise((resolve) => this.open(resolve));
    this.become({ state: 'starting' });
    try {
      await this.call({ kind: 'start', config });
    } catch (error) {
      this.conclude({ state: 'failed', message: messageOf(error) });
      await this.whenEnded;
      throw error;
    }
  }

  pause(): Promise<void> {
    return this.verb('pause', ['running', 'paused']);
  }

  resume(): Promise<void> {
    return this.verb('resume', ['paused', 'running']);
  }

  /** Boots again, also after a crash. */
  reset(): Promise<void> {
    return this.verb('reset', ['running', 'paused', 'crashed']);
  }

  powerButton(): Promise<void> {
    return this.verb('powerButton', ['running']);
  }

  /** Counters of the machine and its backend. */
  stats(): Promise<MachineStats> {
    return this.ask('stats', null);
  }

  /** Asks the machine's process, whatever state the machine is in: also one that crashed can be looked at. */
  async ask<Q extends Question>(question: Q, params: QuestionParams<Q>): Promise<Answer<Q>> {
    if (this.run === null) throw this.wrongState(question);
    return (await this.call({ kind: 'ask', question, params })) as Answer<Q>;
  }

  /** Pulls the plug. Never rejects; afterwards the process is gone. */
  async powerOff(): Promise<void> {
    const { run } = this;
    if (run === null) return;
    run.ending = true;
    this.become({ ...this.current, state: 'stopping' });
    const gone = new Promise<void>((resolve) => {
      const stop = this.onStatus(() => {
        if (this.run === run) return;
        stop();
        resolve();
      });
    });
    this.call({ kind: 'powerOff' }).catch(() => undefined);
    const timer = setTimeout(() => run.child.kill(), this.grace);
    await gone;
    clearTimeout(timer);
  }

  /** Kills the process if there is one. */
  dispose(): void {
    const { run } = this;
    if (run === null) return;
    run.ending = true;
    run.child.kill();
    this.finish({ state: 'off' });
  }

  private async verb(kind: Verb, states: MachineState[]): Promise<void> {
    if (this.run === null || !states.includes(this.current.state)) throw this.wrongState(kind);
    await this.call({ kind });
  }

  private wrongState(verb: string): MachineError {
    return new MachineError('wrong-state', `The machine is ${this.current.state}: it can't do ${verb} now.`);
  }

  private open(end: (status: MachineStatus) => void): void {
    const { path, execArgv } = findProcess();
    const child = this.launch(path, execArgv);
    const run: Run = { child, calls: new Map(), ending: false, end };
    this.run = run;
    child.onMessage((message) => {
      if (this.run === run) this.receive(run, message as FromMachine);
    });
    child.onExit((how) => {
      if (this.run !== run) return;
      const dead: MachineStatus = {
        state: 'failed',
        message: `The machine's process ended unexpectedly (${how}).`,
      };
      this.finish(run.outcome ?? (run.ending ? { state: 'off' } : dead));
    });
    this.serial.forEach((log, port) =>
      log.open({
        input: (data) => child.send({ kind: 'input', port, data: data.slice() }),
        ack: (position) => child.send({ kind: 'ack', port, position }),
      }),
    );
  }

  private call(message: Calling): Promise<Answer<Question> | undefined> {
    const { run } = this;
    if (run === null) return Promise.reject(this.wrongState(message.kind));
    const call = this.nextCall++;
    return new Promise((resolve, reject) => {
      run.calls.set(call, { resolve, reject });
      run.child.send({ ...message, call });
    });
  }

  private receive(run: Run, message: FromMachine): void {
    switch (message.kind) {
      case 'reply': {
        const call = run.calls.get(message.call);
        run.calls.delete(message.call);
        if ('error' in message) call?.reject(new MachineError(message.error.kind, message.error.message));
        else call?.resolve(message.answer);
        return;
      }
      case 'status':
        if (message.status.state === 'off' || message.status.state === 'failed') {
          this.conclude(message.status);
        } else if (!run.ending) {
          this.become(message.status);
          if (message.status.state === 'crashed') run.end(message.status);
        }
        return;
      case 'stats':
        this.lastStats = message.stats;
        return;
      case 'trace':
        this.lastTrace = message.trace;
        return;
      case 'timeline':
        for (const listener of [...this.timelineListeners]) listener(message.event);
        return;
      case 'output':
        this.serial[message.port]?.append(message.data);
        return;
      case 'took':
        this.serial[message.port]?.took(message.position);
        return;
    }
  }

  /** How the run ended is known. It is told when the process is gone: who sees `off` may rely on that. */
  private conclude(status: MachineStatus): void {
    const { run } = this;
    if (run === null) return;
    run.outcome ??= status;
    run.child.kill();
  }

  /** The run is over: nothing of it is left, whatever its process still says. */
  private finish(status: MachineStatus): void {
    const { run } = this;
    if (run === null) return;
    this.run = null;
    run.child.kill();
    for (const log of this.serial) log.close();
    this.become({
      ...(this.current.backend === undefined ? {} : { backend: this.current.backend }),
      ...status,
    });
    const why = status.message ?? 'The machine was powered off.';
    for (const { reject } of run.calls.values()) reject(new MachineError('host', why));
    run.end(this.current);
  }

  private become(status: MachineStatus): void {
    this.current = status;
    for (const listener of [...this.listeners]) listener(status);
  }
}
