import { parentPort, workerData } from 'node:worker_threads';
import { messageOf } from '../machine/errors.ts';
import { loadPrebuilt } from '../machine/prebuilt-handlers.ts';
import type { LockstepConfig, LockstepResult } from './lockstep.ts';
import { Lockstep } from './lockstep.ts';

/** The thread that two backends run on in lockstep: it computes for as long as that takes. */
export type FromLockstep = { result: LockstepResult } | { error: string };

if (parentPort !== null) {
  let message: FromLockstep;
  try {
    loadPrebuilt();
    message = { result: new Lockstep(workerData as LockstepConfig).run() };
  } catch (error) {
    message = { error: messageOf(error) };
  }
  parentPort.postMessage(message);
}
