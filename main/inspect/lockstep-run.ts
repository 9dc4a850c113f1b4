import { startLockstepThread } from '../machine/entry.ts';
import { MachineError, messageOf } from '../machine/errors.ts';
import type { LockstepConfig, LockstepResult } from './lockstep.ts';
import type { FromLockstep } from './lockstep-thread.ts';

/** Runs two backends in lockstep on a thread of their own. Rejects with MachineError, also when `signal` ends it. */
export function runLockstep(config: LockstepConfig, signal?: AbortSignal): Promise<LockstepResult> {
  return new Promise((resolve, reject) => {
    const thread = startLockstepThread(config);
    const fail = (message: string): void => reject(new MachineError('host', message));
    thread.on('message', (message: FromLockstep) => {
      if ('result' in message) resolve(message.result);
      else fail(message.error);
      void thread.terminate();
    });
    thread.on('error', (error) => fail(`Lockstep ended: ${messageOf(error)}`));
    thread.on('exit', (code) => fail(`Lockstep ended unexpectedly (exit code ${code}).`));
    signal?.addEventListener('abort', () => void thread.terminate());
  });
}
