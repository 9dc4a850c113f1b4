// Virtual I/O Device (VIRTIO) 1.2, chapters 2 and 3: what every device has, whatever bus it is on.
import { GuestAddressError, type Device, type GuestMemory } from '../device.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from '../registers.ts';
import { Chain, VirtioFault } from './chain.ts';
import type { Doorbells, Locked, Served } from './doorbells.ts';
import { CHAIN_BYTES, QUEUE_SIZE, VirtQueue, queueLayout } from './queue.ts';

/** Section 2.1. The driver sets them in this order; 0 resets the device. */
export const STATUS = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  NEEDS_RESET: 0x40,
  FAILED: 0x80,
} as const;

/** Chapter 6: feature bits that belong to no particular device, as numbers. */
export const FEATURE = { INDIRECT: 28, EVENT_INDEX: 29, VERSION_1: 32, RING_RESET: 40 } as const;

export const NO_VECTOR = 0xffff;

const commonLayout = (queues: number) =>
  ({
    ...queueLayout(queues),
    status: { type: 'u8', about: 'device status' },
    driverFeatures: { type: 'u32', count: 2, about: 'feature bits that the driver accepted' },
    generation: { type: 'u8', about: 'counts changes of the device configuration' },
    configVector: { type: 'u16', reset: NO_VECTOR, about: 'MSI-X vector for configuration changes' },
    busy: { type: 'u8', about: 'the I/O thread has a request in hand' },
    resetAsked: { type: 'u8', about: 'the driver asked for a reset while busy' },
    epoch: { type: 'u32', about: 'counts resets: a request in hand across one is dropped' },
  }) as const satisfies Layout;

/** What all virtio devices of a machine are given. */
export interface VirtioHost {
  arena: RegisterArena;
  memory: GuestMemory;
  doorbells: Doorbells;
  /** One line for people: a driver's mistake, a disk's error. */
  report: (message: string) => void;
}

/** The bus that a device is on. */
export interface VirtioTransport {
  /** May the device read and write memory? */
  readonly dmaAllowed: boolean;
  queueInterrupt(vector: number): void;
  configInterrupt(vector: number): void;
  /** The device was reset: interrupts go away. */
  deviceReset(): void;
}

/** What a kind of device is. */
export interface VirtioKind {
  /** Section 5: 1 network, 2 block, 3 console, 4 entropy. */
  type: number;
  /** Its own feature bits, as numbers. */
  features: readonly number[];
  queues: number;
}

/** A request stays in its queue: there is nothing to do with it yet. */
export const LEAVE = -1;

/**
 * How much one call of serve() does for a queue: requests, and bytes. Enough to make the call's own cost
 * small, and short enough (a few ms of copying) that pausing the machine feels immediate.
 */
const SERVE_REQUESTS = 64;
const SERVE_BYTES = CHAIN_BYTES / 4;

export abstract class VirtioDevice implements Device, Served {
  readonly name: string;
  readonly kind: VirtioKind;
  readonly queues: readonly VirtQueue[];
  readonly r: Registers<ReturnType<typeof commonLayout>>;
  protected readonly report: (message: string) => void;
  private readonly offered: readonly [number, number];
  private readonly chain: Chain;
  private readonly ring: (queues: number) => void;
  private transport: VirtioTransport | undefined;

  constructor(name: string, { arena, memory, doorbells, report }: VirtioHost, kind: VirtioKind) {
    this.name = name;
    this.kind = kind;
    this.report = report;
    this.r = arena.allocate(commonLayout(kind.queues));
    this.chain = new Chain(memory, QUEUE_SIZE);
    this.ring = doorbells.connect(this);
    const offered: [number, number] = [0, 0];
    for (const bit of [...kind.features, ...Object.values(FEATURE)]) offered[bit >> 5] |= 1 << (bit & 31);
    this.offered = [offered[0] >>> 0, offered[1] >>> 0];
    const has = (bit: number) => this.has(bit);
    const features = {
      get indirect() {
        return has(FEATURE.INDIRECT);
      },
      get eventIndex() {
        return has(FEATURE.EVENT_INDEX);
      },
    };
    this.queues = Array.from({ length: kind.queues }, (_, i) => new VirtQueue(this.r, i, memory, features));
  }

  /** The device's own configuration as it is now (section 5). */
  abstract config(): Uint8Array;

  /** A write to the configuration; most devices have nothing to write. */
  writeConfig(_offset: number, _size: number, _value: number): void {}

  /** May a request be taken from this queue now? Under the lock. */
  protected ready(_queue: number): boolean {
    return true;
  }

  /**
   * Does a request; not under the lock. Returns the bytes written into it, or LEAVE. Throws VirtioFault (or
   * the memory's GuestAddressError) for what only a broken driver sends.
   */
  protected abstract handle(queue: number, chain: Chain): number;

  /** Puts the device's own registers to their values after reset. */
  protected resetOwn(): void {}

  attach(transport: VirtioTransport): void {
    this.transport = transport;
  }

  reset(): void {
    const { r } = this;
    const epoch = r.epoch + 1;
    r.resetAll();
    r.epoch = epoch;
    for (const queue of this.queues) queue.clear(QUEUE_SIZE);
    this.resetOwn();
    this.transport?.deviceReset();
  }

  save(): SavedRegisters {
    // Nothing is under way when a state is saved; the epoch is ours, and tells what was begun before a load.
    return { ...this.r.saveAll(), epoch: 0, busy: 0 };
  }

  load(saved: SavedRegisters): void {
    const epoch = this.r.epoch + 1;
    this.r.loadAll(saved);
    this.r.epoch = epoch;
    this.r.busy = 0;
    // The bells are not saved: look at every queue.
    this.kickAll();
  }

  /** Has the driver accepted this feature bit? */
  has(bit: number): boolean {
    return (this.r.driverFeatures[bit >> 5] & (1 << (bit & 31))) !== 0;
  }

  /** Word `select` of the features on offer. */
  offeredFeatures(select: number): number {
    return select < 2 ? this.offered[select] : 0;
  }

  /** The driver accepts features: only between DRIVER and FEATURES_OK (section 3.1.1). */
  acceptFeatures(select: number, value: number): void {
    const stage = this.r.status & (STATUS.DRIVER | STATUS.FEATURES_OK);
    if (select < 2 && stage === STATUS.DRIVER) this.r.driverFeatures[select] = value;
  }

  /** The driver writes the status: 0 resets, other values add bits, each only after those before it. */
  writeStatus(value: number): void {
    const { r } = this;
    if (value === 0) {
      if (r.busy === 0) this.reset();
      else r.resetAsked = 1; // Reads of the status tell when it is done (section 2.4.1).
      return;
    }
    let status = r.status | (value & (STATUS.ACKNOWLEDGE | STATUS.FAILED));
    if ((value & STATUS.DRIVER) !== 0 && (status & STATUS.ACKNOWLEDGE) !== 0) status |= STATUS.DRIVER;
    if ((value & STATUS.FEATURES_OK) !== 0 && (status & STATUS.DRIVER) !== 0 && this.featuresFit()) {
      status |= STATUS.FEATURES_OK;
    }
    const starts = (value & ~r.status & STATUS.DRIVER_OK) !== 0 && (status & STATUS.FEATURES_OK) !== 0;
    if (starts) status |= STATUS.DRIVER_OK;
    r.status = status;
    if (starts) this.kickAll();
  }

  /** The driver enables a queue (section 4.1.4.3.2). */
  enableQueue(index: number): void {
    const { r } = this;
    if (r.queueEnable[index] !== 0 || (r.status & STATUS.FEATURES_OK) === 0) return;
    const problem = this.queues[index].problem();
    if (problem === null) r.queueEnable[index] = 1;
    else this.fail(`queue ${index} cannot be enabled: ${problem}`);
  }

  /** The driver resets one queue (section 2.6.1). */
  resetQueue(index: number): void {
    if (!this.has(FEATURE.RING_RESET) || !this.queues[index].enabled) return;
    if (this.r.busy === 0) this.queues[index].clear(QUEUE_SIZE);
    else this.r.queueReset[index] = 1;
  }

  /** The driver says that a queue has something new. */
  kick(index: number): void {
    if (index < this.queues.length && (this.r.status & STATUS.DRIVER_OK) !== 0) this.ring(1 << index);
  }

  /** Looks at every queue again. */
  kickAll(): void {
    this.ring(2 ** this.queues.length - 1);
  }

  serve(queues: number, locked: Locked): number {
    let more = 0;
    for (let index = 0; index < this.queues.length; index++) {
      if ((queues & (1 << index)) !== 0 && this.serveQueue(index, locked)) more |= 1 << index;
    }
    return more;
  }

  /** The configuration changed: tell the driver. */
  protected configChanged(): void {
    this.r.generation++;
    if ((this.r.status & STATUS.DRIVER_OK) !== 0) this.transport?.configInterrupt(this.r.configVector);
  }

  /** The driver did something forbidden: nothing more is done for it until it resets the device (section 2.1.2). */
  protected fail(message: string): void {
    const { r } = this;
    if ((r.status & STATUS.NEEDS_RESET) !== 0) return;
    r.status |= STATUS.NEEDS_RESET;
    if ((r.status & STATUS.DRIVER_OK) !== 0) this.transport?.configInterrupt(r.configVector);
    this.report(
      `${this.name}: the guest's driver made a mistake: ${message}. The device waits for a reset by it`,
    );
  }

  private featuresFit(): boolean {
    const [low, high] = this.r.driverFeatures;
    const unknown = (low & ~this.offered[0]) | (high & ~this.offered[1]);
    return unknown === 0 && this.has(FEATURE.VERSION_1);
  }

  private serveQueue(index: number, locked: Locked): boolean {
    let bytes = 0;
    for (let done = 0; done < SERVE_REQUESTS && bytes < SERVE_BYTES; done++) {
      const epoch = locked(() => this.begin(index));
      if (epoch < 0) return false;
      let written = 0;
      let fault: unknown;
      try {
        written = this.handle(index, this.chain);
      } catch (error) {
        fault = error;
      }
      bytes += this.chain.readable + this.chain.writable;
      if (!locked(() => this.end(index, epoch, written, fault))) return false;
    }
    return true;
  }

  /** Takes a request into the chain; the device is then busy. Returns the epoch, or -1 when there is nothing to do. */
  private begin(index: number): number {
    const { r } = this;
    const live = (r.status & (STATUS.DRIVER_OK | STATUS.NEEDS_RESET)) === STATUS.DRIVER_OK;
    if (!live || !this.queues[index].enabled || this.transport?.dmaAllowed !== true) return -1;
    try {
      if (!this.ready(index) || !this.queues[index].pop(this.chain)) return -1;
    } catch (error) {
      this.failWith(index, error);
      return -1;
    }
    r.busy = 1;
    return r.epoch;
  }

  /** Gives the request back. False when the queue is not to be served on. */
  private end(index: number, epoch: number, written: number, fault: unknown): boolean {
    const { r } = this;
    const queue = this.queues[index];
    if (r.epoch !== epoch) return false; // The machine was reset or loaded meanwhile.
    r.busy = 0;
    try {
      if (fault !== undefined) throw fault;
      if (written === LEAVE) queue.unpop();
      else if (queue.push(this.chain.head, written)) this.transport?.queueInterrupt(r.queueVector[index]);
    } catch (error) {
      this.failWith(index, error);
    }
    if (r.resetAsked !== 0) {
      this.reset();
      return false;
    }
    // Any queue may have been reset meanwhile, this one or another.
    this.queues.forEach((other, i) => {
      if (r.queueReset[i] !== 0) other.clear(QUEUE_SIZE);
    });
    return written !== LEAVE && (r.status & STATUS.NEEDS_RESET) === 0;
  }

  private failWith(index: number, error: unknown): void {
    const known = error instanceof VirtioFault || error instanceof GuestAddressError;
    this.fail(`queue ${index}: ${known ? error.message : `unexpected ${String(error)}`}`);
  }
}
