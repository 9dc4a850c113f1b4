import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { findProcess } from './entry.ts';

/** A child process, as far as it is needed here: Node's fork() and Electron's utilityProcess both fit. */
export interface ChildChannel {
  readonly pid: number | undefined;
  send(message: unknown): void;
  onMessage(listener: (message: unknown) => void): void;
  /** Once. `how` is for people: "exit code 1", "signal SIGKILL". */
  onExit(listener: (how: string) => void): void;
  kill(): void;
}

/** Starts the module at `entry` (an absolute path) in a process of its own. */
export type Launcher = (entry: string, execArgv: string[]) => ChildChannel;

/**
 * Threads of V8 that compile beside a vCPU: one processor is the vCPU's. On two processors the usual four kept it waiting
 * for a sixth of a boot. More than four find nothing to do.
 */
const V8_THREADS = Math.min(4, Math.max(1, availableParallelism() - 1));

/** Node's own child processes. Structured clone carries bytes as bytes. */
export const forkLauncher: Launcher = (entry, execArgv) => {
  const ready = ahead;
  ahead = null;
  return ready ?? launch(entry, execArgv);
};

/** A process that was started before anybody asked for it. */
let ahead: ChildChannel | null = null;

/**
 * Starts the process of the next machine while it is not known yet what that will be: Node takes longer to come up than to
 * read the options. What is returned ends the process if no machine has taken it.
 */
export function forkAhead(): () => void {
  const { path, execArgv } = findProcess();
  ahead ??= launch(path, execArgv);
  return () => {
    ahead?.kill();
    ahead = null;
  };
}

function launch(entry: string, execArgv: string[]): ChildChannel {
  const child = fork(entry, [], {
    execArgv: [...execArgv, `--v8-pool-size=${V8_THREADS}`],
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  // It may end before anybody asks.
  const ended = new Promise<string>((resolve) => {
    child.on('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : `signal ${signal}`));
    child.on('error', (error) => resolve(error.message));
  });
  return {
    pid: child.pid,
    send: (message) => {
      // A child that has just died is reported by onExit; a message on its way to it is lost anyway.
      if (child.connected) child.send(message as object, () => undefined);
    },
    onMessage: (listener) => void child.on('message', listener),
    onExit: (listener) => void ended.then(listener),
    kill: () => void child.kill('SIGKILL'),
  };
}
