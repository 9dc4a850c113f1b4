import type { Clock } from '../devices/device.ts';
import type { Answers } from './answers.ts';
import type { DeviceLock, Mailbox } from './control.ts';
import { MachineError, messageOf } from './errors.ts';
import type { ExitExport, ExitExported } from './exit-export.ts';
import { exportExits } from './exit-export.ts';
import type { ExitSource } from './exit-query.ts';
import { ExitQueries } from './exit-query.ts';
import { createExitTrace, ExitTrace } from './exit-trace.ts';
import type { Pc } from './pc.ts';
import type { MachineConfig, TraceEnd } from './protocol.ts';

/** Exports that may be under way at once: each keeps the I/O thread as busy as it lets itself be kept. */
const EXPORTS = 2;

/** The exit traces of a machine, as its I/O thread has them. */
export class Tracing {
  /** One for each vCPU; none when exits are not traced. */
  readonly buffers: SharedArrayBuffer[];
  private readonly config: MachineConfig;
  private readonly source: ExitSource;
  private exports = 0;

  constructor(
    config: MachineConfig,
    machine: { pc: Pc; clock: Clock; lock: DeviceLock; mailboxes: Mailbox[] },
  ) {
    const { pc, clock, lock, mailboxes } = machine;
    this.config = config;
    this.buffers = config.untraced === true ? [] : mailboxes.map(createExitTrace);
    this.source = {
      traces: this.buffers.map((buffer) => new ExitTrace(buffer)),
      names: pc.names,
      clock,
      counters: () => mailboxes.map(({ counters }) => counters),
      portName: (port) => lock.run(() => pc.ports.nameOf(port)),
    };
  }

  answers(): Answers<'trace.query' | 'trace.stats' | 'trace.export'> {
    const queries = new ExitQueries(this.source);
    return {
      'trace.query': (query) => queries.query(query),
      'trace.stats': () => queries.stats(),
      'trace.export': (wanted) => this.export(wanted),
    };
  }

  /** Writes the file that the configuration asks for, at the machine's end. Null when it asks for none. */
  async end(): Promise<TraceEnd | null> {
    const { traceFile } = this.config;
    if (traceFile === undefined) return null;
    try {
      return await this.export({ ...traceFile, overwrite: true });
    } catch (error) {
      return { error: messageOf(error) };
    }
  }

  private async export(wanted: ExitExport): Promise<ExitExported> {
    if (this.exports >= EXPORTS) {
      throw new MachineError(
        'wrong-state',
        `${EXPORTS} exports of exits are under way. Wait for one to end.`,
      );
    }
    this.exports++;
    try {
      return await exportExits(this.source, this.config.name, wanted);
    } finally {
      this.exports--;
    }
  }
}
