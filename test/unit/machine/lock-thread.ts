import { workerData } from 'node:worker_threads';
import { DeviceLock } from '../../../main/machine/control.ts';

// Adds one so many times, in a way that loses some without the lock.
const { control, shared, rounds } = workerData as {
  control: SharedArrayBuffer;
  shared: SharedArrayBuffer;
  rounds: number;
};
const lock = new DeviceLock(control);
const [counter] = [new Float64Array(shared)];
for (let i = 0; i < rounds; i++) lock.run(() => (counter[0] = counter[0] + 1));
