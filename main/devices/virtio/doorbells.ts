/**
 * How a vCPU thread tells the I/O thread that a queue has work: a word of flags for each device in shared memory,
 * one bit for each queue, and one word that says whether the I/O thread has been called already.
 */

/** More devices than PCI slots are of no use. */
const MAX_DEVICES = 32;
const CALLED = MAX_DEVICES;

/** Runs `work` under the machine's device lock. */
export type Locked = <T>(work: () => T) => T;

/** A device with queues, as the I/O thread sees it. */
export interface Served {
  /** Serves the queues in the bit set `queues`, not under the lock. Returns the bits of those that have more to do. */
  serve(queues: number, locked: Locked): number;
}

export class Doorbells {
  private readonly flags: Int32Array;
  private readonly wake: () => void;
  private readonly devices: Served[] = [];

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(4 * (MAX_DEVICES + 1));
  }

  /** `wake` calls the I/O thread from the thread that rings; it is not repeated until the I/O thread has come. */
  constructor(buffer: SharedArrayBuffer, wake: () => void) {
    this.flags = new Int32Array(buffer);
    this.wake = wake;
  }

  /** Gives a device its bell (in the same order on every thread) and returns the rope: what rings it. */
  connect(device: Served): (queues: number) => void {
    const index = this.devices.length;
    if (index === MAX_DEVICES) throw new RangeError(`no more than ${MAX_DEVICES} virtio devices fit`);
    this.devices.push(device);
    return (queues) => {
      Atomics.or(this.flags, index, queues);
      if (Atomics.exchange(this.flags, CALLED, 1) === 0) this.wake();
    };
  }

  /**
   * I/O thread: serves every device whose bell was rung, a bounded piece of work each. True when something is
   * left: call again in the next turn of the event loop, so that a busy guest does not starve the rest.
   */
  run(locked: Locked): boolean {
    Atomics.store(this.flags, CALLED, 0);
    let more = false;
    for (let index = 0; index < this.devices.length; index++) {
      const queues = Atomics.exchange(this.flags, index, 0);
      if (queues === 0) continue;
      const left = this.devices[index].serve(queues, locked);
      if (left === 0) continue;
      Atomics.or(this.flags, index, left);
      more = true;
    }
    // Serving one queue may have rung for another.
    return more || Atomics.load(this.flags, CALLED) === 1;
  }
}
