import { appendFileSync, writeFileSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { isLocal, openWarning } from '../inspect/gdb/address.ts';
import type { GdbServer } from '../inspect/gdb/server.ts';
import { MachineProcess } from '../machine/machine-process.ts';
import { whyEmulated } from '../nvmm/registry.ts';
import type { CrashReport, MachineStats, MachineStatus } from '../machine/protocol.ts';
import type { SerialReader } from '../machine/serial-log.ts';
import type { RunOptions } from './run-options.ts';
import { parseRunOptions, runUsage, UsageError } from './run-options.ts';
import type { Input, Key } from './terminal.ts';
import type { TimelineEvent } from '../machine/timeline-input.ts';
import { inputLine } from './deterministic-options.ts';
import { EscapeFilter, keyHelp, RawTerminal } from './terminal.ts';

/** Exit status of `vitrine run`. */
export const Status = { OFF: 0, HOST: 1, USAGE: 2, CRASHED: 3, TIMEOUT: 124 } as const;

/** As shells count: 128 and the signal's number. */
const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Where a command reads and writes: the process's streams, or a test's. */
export interface Streams {
  input: Input;
  output: Writable;
  errors: Writable;
}

const standard: Streams = { input: process.stdin, output: process.stdout, errors: process.stderr };

/** `vitrine run`. Resolves with the exit status. */
export async function runCommand(args: string[], streams: Streams = standard): Promise<number> {
  let options: RunOptions | 'help';
  try {
    options = parseRunOptions(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    streams.errors.write(`vitrine run: ${error.message}\nTry: vitrine run --help\n`);
    return Status.USAGE;
  }
  if (options === 'help') {
    streams.output.write(runUsage);
    return Status.OFF;
  }
  return new Run(options, streams).go();
}

/** One machine on one terminal. */
class Run {
  private readonly options: RunOptions;
  private readonly streams: Streams;
  private readonly machine = new MachineProcess();
  private readonly terminal: RawTerminal;
  private readonly escape: EscapeFilter;
  private readonly decoder = new TextDecoder();
  private reader: SerialReader | null = null;
  private gdb: GdbServer | null = null;
  private port = 0;
  /** Why it ends, when it was not the guest: the exit status. */
  private because: number | null = null;
  /** Output that has not been written yet, so that nothing is lost at the end. */
  private unwritten = 0;
  private whenWritten: (() => void) | null = null;

  constructor(options: RunOptions, streams: Streams) {
    this.options = options;
    this.streams = streams;
    this.terminal = new RawTerminal(streams.input);
    this.escape = new EscapeFilter((key) => this.command(key));
  }

  async go(): Promise<number> {
    const { machine, options } = this;
    const { errors, output } = this.streams;
    const stopSignals = this.listenToSignals();
    const killed = (): void => machine.dispose();
    process.on('exit', killed);
    // A reader that went away (| head): nobody sees the rest.
    output.on('error', () => this.quit(Status.HOST));
    machine.onTimeline((event) => this.sayTimeline(event));
    if (options.json) machine.onStatus((status) => this.sayStatus(status));
    this.attach();
    let timer: NodeJS.Timeout | undefined;
    try {
      if (options.record !== null) writeFileSync(options.record, '');
      await this.listenToGdb();
      await machine.start(options.config);
      await this.sayEmulated();
      if (options.timeout !== null) {
        timer = setTimeout(() => this.quit(Status.TIMEOUT), options.timeout * 1000);
      }
      this.listenToInput();
      const status = await this.ended();
      if (status.state === 'crashed') await machine.powerOff();
      return await this.finish(status);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (this.because !== null) return this.because;
      if (options.json) this.say({ event: 'exit', status: Status.HOST, state: 'failed', message });
      else errors.write(`vitrine: ${message}\n`);
      return Status.HOST;
    } finally {
      clearTimeout(timer);
      stopSignals();
      this.terminal.restore();
      this.streams.input.pause();
      await this.gdb?.close();
      machine.dispose();
      process.off('exit', killed);
      await this.written();
    }
  }

  /**
   * The machine's end. One that crashed under a gdb stays for it to look at, until it is powered off; it may be reset, or
   * taken back to before its crash, and then ends in another way.
   */
  private async ended(): Promise<MachineStatus> {
    const { machine } = this;
    let status = await machine.ended;
    while (status.state === 'crashed' && this.gdb?.connected === true) {
      this.streams.errors.write(
        `\r\n[${status.message ?? 'The guest crashed.'} It stays for gdb: Ctrl-A x ends it]\r\n`,
      );
      let lives = false;
      const next = await new Promise<MachineStatus>((resolve) => {
        const stop = machine.onStatus((news) => {
          if (news.state === 'running' || news.state === 'paused') lives = true;
          if (!['crashed', 'off', 'failed'].includes(news.state)) return;
          stop();
          resolve(news);
        });
      });
      if (next.state === 'off' && !lives) return status;
      status = next;
    }
    return status;
  }

  private async listenToGdb(): Promise<void> {
    const { options, machine } = this;
    if (options.gdb === null) return;
    const { address } = options.gdb;
    const { connectCommand, openGdb } = await import('./gdb.ts');
    this.gdb = await openGdb(address, machine, () => ({ config: options.config, ...options.gdb }));
    const command = connectCommand(this.gdb);
    if (options.json) {
      this.say({ event: 'gdb', address: this.gdb.address, command });
    } else {
      const waits = options.config.startPaused === true ? ' The machine waits for it.' : '';
      this.streams.errors.write(`vitrine: gdb can connect: ${command}.${waits}\n`);
    }
    if (!isLocal(address)) this.streams.errors.write(`vitrine: ${openWarning}\n`);
  }

  private async finish(status: MachineStatus): Promise<number> {
    const { options } = this;
    const trace = this.machine.lastTrace;
    const ended = this.because ?? codeOf(status);
    const code = ended === Status.OFF && trace !== null && 'error' in trace ? Status.HOST : ended;
    await this.written();
    this.reader?.detach();
    this.terminal.restore();
    const stats = options.stats ? this.machine.lastStats : null;
    if (options.json) {
      const { state, message, crash } = status;
      this.say({
        event: 'exit',
        status: code,
        state,
        message,
        crash,
        ...(stats === null ? {} : { stats }),
        ...(trace === null ? {} : { trace }),
      });
    } else {
      this.explain(status, code);
      if (trace !== null && 'error' in trace) this.streams.errors.write(`vitrine: ${trace.error}\n`);
      if (stats !== null) this.streams.errors.write(statsText(stats));
    }
    return code;
  }

  private explain(status: MachineStatus, code: number): void {
    const { errors } = this.streams;
    if (code === Status.TIMEOUT) {
      errors.write(`vitrine: the time of ${this.options.timeout} seconds is over.\n`);
    } else if (status.crash !== undefined) errors.write(crashText(status.crash));
    else if (status.state === 'failed') errors.write(`vitrine: ${status.message ?? 'the machine failed.'}\n`);
  }

  /** Reads the port that is shown. The guest waits when our stdout does. */
  private attach(): void {
    const { options } = this;
    this.reader?.detach();
    const reader = this.machine.serial[this.port].attach({
      from: 'start',
      lossless: true,
      onData: (data, offset) => {
        const end = offset + data.length;
        const piece = options.json ? this.serialEvent(data, offset) : data.slice();
        this.write(piece, () => reader.ack(end));
      },
    });
    this.reader = reader;
  }

  private serialEvent(data: Uint8Array, offset: number): string {
    const text = this.decoder.decode(data, { stream: true });
    return `${JSON.stringify({ event: 'serial', port: this.port, offset, bytes: data.length, text })}\n`;
  }

  private write(data: string | Uint8Array, done?: () => void): void {
    this.unwritten++;
    this.streams.output.write(data, () => {
      this.unwritten--;
      done?.();
      if (this.unwritten === 0) this.whenWritten?.();
    });
  }

  private async written(): Promise<void> {
    while (this.unwritten > 0 && !this.streams.output.destroyed) {
      await new Promise<void>((resolve) => {
        this.whenWritten = resolve;
        this.streams.output.once('close', resolve);
      });
    }
  }

  private say(event: object): void {
    this.write(`${JSON.stringify(event)}\n`);
  }

  /** A hash that was asked for, or an input for the record. */
  private sayTimeline(event: TimelineEvent): void {
    const { record, json } = this.options;
    if (event.kind === 'input') {
      if (record !== null) appendFileSync(record, inputLine(event.input));
    } else if (json) {
      this.say({ event: 'hash', instructions: event.instructions, hash: event.hash });
    } else {
      this.streams.errors.write(`hash at ${event.instructions} instructions: ${event.hash}\n`);
    }
  }

  /** Who did not choose the emulator learns that it runs, and why. */
  private async sayEmulated(): Promise<void> {
    const { config, json } = this.options;
    const chosen = config.backend !== 'auto' || config.deterministic !== undefined;
    if (json || chosen || this.machine.status.backend !== 'emulated') return;
    const { machineBackends } = await import('../machine/machine-backends.ts');
    const reason = whyEmulated(machineBackends, process.platform);
    if (reason !== null) this.streams.errors.write(`Runs emulated. ${reason}\n`);
  }

  private sayStatus({ state, backend, message }: MachineStatus): void {
    this.say({ event: 'state', state, backend, message });
  }

  /** What is typed or piped in goes to the port. Its end does not end the machine. */
  private listenToInput(): void {
    const { input } = this.streams;
    const { isTerminal } = this.terminal;
    this.terminal.enter();
    input.on('data', (chunk: Uint8Array) => {
      const data = isTerminal ? this.escape.filter(chunk) : chunk;
      if (data.length === 0 || this.machine.serial[this.port].write(data)) return;
      // A terminal stays open for Ctrl-A x; a pipe waits for the guest.
      if (!isTerminal) input.pause();
    });
    this.machine.serial.forEach((log) => log.onDrain(() => void input.resume()));
    input.on('error', () => undefined);
    input.resume();
  }

  private command(key: Key): void {
    const { machine } = this;
    const { errors } = this.streams;
    const tell = (error: unknown): void =>
      void errors.write(`\r\n[${error instanceof Error ? error.message : String(error)}]\r\n`);
    switch (key) {
      case 'x':
        return this.quit(Status.OFF);
      case 'h':
        return void errors.write(keyHelp);
      case 'b':
        return void machine.powerButton().catch(tell);
      case 'p': {
        if (machine.status.state === 'paused') {
          return void machine.resume().then(() => errors.write('\r\n[running]\r\n'), tell);
        }
        return void machine.pause().then(() => errors.write('\r\n[paused: Ctrl-A p goes on]\r\n'), tell);
      }
      case 'r':
        return void machine.reset().catch(tell);
      case 'c':
        this.port = (this.port + 1) % machine.serial.length;
        errors.write(`\r\n[${this.port < 4 ? `COM${this.port + 1}` : 'hvc0'}]\r\n`);
        return this.attach();
    }
  }

  private quit(status: number): void {
    this.because ??= status;
    void this.machine.powerOff();
  }

  private listenToSignals(): () => void {
    const listeners = Object.entries(SIGNALS).map(([signal, status]) => {
      const listener = (): void => this.quit(status);
      process.on(signal, listener);
      return () => process.off(signal, listener);
    });
    return () => listeners.forEach((stop) => stop());
  }
}

function codeOf({ state }: MachineStatus): number {
  if (state === 'crashed') return Status.CRASHED;
  return state === 'failed' ? Status.HOST : Status.OFF;
}

function crashText({ vcpu, reason, rip, exits }: CrashReport): string {
  const lines = exits.map((line) => `  ${line}\n`).join('');
  return `\nvitrine: the guest crashed: ${reason} on vCPU ${vcpu}, RIP ${rip}. Its last exits, oldest first:\n${lines}`;
}

function statsText(stats: MachineStats): string {
  return Object.entries(stats)
    .map(([name, value]) => `${name.padEnd(28)} ${value}\n`)
    .join('');
}
