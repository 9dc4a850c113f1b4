// Virtual I/O Device (VIRTIO) 1.2, section 2.7: split virtqueues.
import type { GuestMemory } from '../device.ts';
import type { Registers } from '../registers.ts';
import { VirtioFault, type Chain } from './chain.ts';
import { fence } from './fence.ts';

/** The registers of a device's queues, one element for each queue (areas: two, low half first). */
export const queueLayout = (queues: number) =>
  ({
    queueSize: { type: 'u16', count: queues, about: 'descriptors: a power of two' },
    queueEnable: { type: 'u8', count: queues, about: 'the driver has set the queue up' },
    queueVector: { type: 'u16', count: queues, reset: 0xffff, about: 'MSI-X vector' },
    queueDesc: { type: 'u32', count: 2 * queues, about: 'guest-physical address of the descriptor table' },
    queueDriver: { type: 'u32', count: 2 * queues, about: 'guest-physical address of the available ring' },
    queueDevice: { type: 'u32', count: 2 * queues, about: 'guest-physical address of the used ring' },
    queueNext: { type: 'u16', count: queues, about: 'index of the next available entry to take' },
    queueUsed: { type: 'u16', count: queues, about: 'index of the next used entry to give' },
    queueSignalled: {
      type: 'u16',
      count: queues,
      about: 'used index at the last look at whether to interrupt',
    },
    queueReset: { type: 'u8', count: queues, about: 'the driver asked for a reset of the queue alone' },
  }) as const;

export type QueueRegisters = Registers<ReturnType<typeof queueLayout>>;

/** Section 2.7.5: descriptor flags. */
const DESC = { BYTES: 16, NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;
/** Section 2.7.6 and 2.7.8: both rings are flags, index, entries, then the event index. */
const RING = { INDEX: 2, ENTRIES: 4, AVAILABLE_BYTES: 2, USED_BYTES: 8, NO_INTERRUPT: 1 } as const;

/** The largest queue that we offer: what QEMU and others offer, known to be enough for one disk. */
export const QUEUE_SIZE = 256;

/**
 * Section 2.7.4.2 allows 4 GiB in a chain. This is more than our devices ask for (a disk's largest request is a
 * little less), and little enough that copying all of it takes a few milliseconds.
 */
export const CHAIN_BYTES = 8 * 2 ** 20;

/** What the driver and we agreed on that matters to queues. */
export interface QueueFeatures {
  readonly indirect: boolean;
  readonly eventIndex: boolean;
}

export class VirtQueue {
  private readonly r: QueueRegisters;
  private readonly index: number;
  private readonly memory: GuestMemory;
  private readonly features: QueueFeatures;
  private readonly descriptor = new Uint8Array(DESC.BYTES);
  private readonly fields = new DataView(this.descriptor.buffer);

  constructor(r: QueueRegisters, index: number, memory: GuestMemory, features: QueueFeatures) {
    this.r = r;
    this.index = index;
    this.memory = memory;
    this.features = features;
  }

  get enabled(): boolean {
    return this.r.queueEnable[this.index] !== 0;
  }

  /** Why the queue cannot be enabled as it is programmed; null when it can (sections 2.7 and 4.1.4.3). */
  problem(): string | null {
    const { size } = this;
    const areas = [
      ['descriptor table', this.area(this.r.queueDesc), DESC.BYTES * size, 16],
      ['available ring', this.area(this.r.queueDriver), RING.ENTRIES + RING.AVAILABLE_BYTES * size + 2, 2],
      ['used ring', this.area(this.r.queueDevice), RING.ENTRIES + RING.USED_BYTES * size + 2, 4],
    ] as const;
    for (const [what, address, bytes, alignment] of areas) {
      const where = `its ${what} at 0x${address.toString(16)}`;
      if (address % alignment !== 0) return `${where} is not aligned to ${alignment}`;
      if (!this.memory.isRam(address, bytes)) return `${where} is not in RAM`;
    }
    return null;
  }

  /** Starts from the beginning, as after a reset of the device. */
  clear(maximum: number): void {
    const { r, index } = this;
    r.queueSize[index] = maximum;
    r.queueEnable[index] = 0;
    r.queueVector[index] = 0xffff;
    for (const area of [r.queueDesc, r.queueDriver, r.queueDevice]) area.fill(0, 2 * index, 2 * index + 2);
    r.queueNext[index] = 0;
    r.queueUsed[index] = 0;
    r.queueSignalled[index] = 0;
    r.queueReset[index] = 0;
  }

  /** Takes the next request into `chain`; false when there is none. Throws VirtioFault on what is forbidden. */
  pop(chain: Chain): boolean {
    const available = this.area(this.r.queueDriver);
    const next = this.r.queueNext[this.index];
    if (this.waiting(available, next) === 0) {
      if (!this.features.eventIndex) return false;
      // Ask for a notification, then look again: the driver may have added one before it could see that.
      this.memory.writeU16(this.area(this.r.queueDevice) + RING.ENTRIES + RING.USED_BYTES * this.size, next);
      fence();
      if (this.waiting(available, next) === 0) return false;
    }
    fence();
    const head = this.memory.readU16(
      available + RING.ENTRIES + RING.AVAILABLE_BYTES * (next & (this.size - 1)),
    );
    this.walk(head, chain);
    this.r.queueNext[this.index] = next + 1;
    return true;
  }

  /** Puts the request that was just taken back, to be taken again. */
  unpop(): void {
    this.r.queueNext[this.index] -= 1;
  }

  /** Gives a request back with the number of bytes written into it. True when the driver wants an interrupt. */
  push(head: number, written: number): boolean {
    const used = this.area(this.r.queueDevice);
    const at = this.r.queueUsed[this.index];
    const entry = used + RING.ENTRIES + RING.USED_BYTES * (at & (this.size - 1));
    this.memory.writeU32(entry, head);
    this.memory.writeU32(entry + 4, written);
    fence();
    this.r.queueUsed[this.index] = at + 1;
    this.memory.writeU16(used + RING.INDEX, (at + 1) & 0xffff);
    fence();
    return this.wantsInterrupt();
  }

  private get size(): number {
    return this.r.queueSize[this.index];
  }

  private area(halves: Uint32Array): number {
    return halves[2 * this.index + 1] * 2 ** 32 + halves[2 * this.index];
  }

  private waiting(available: number, next: number): number {
    const count = (this.memory.readU16(available + RING.INDEX) - next) & 0xffff;
    if (count > this.size) {
      throw new VirtioFault(`${count} requests in an available ring of ${this.size}`);
    }
    return count;
  }

  /** Section 2.7.7.2 (flag) and 2.7.10 (event index: has the used index passed it since the last look?). */
  private wantsInterrupt(): boolean {
    const available = this.area(this.r.queueDriver);
    const used = this.r.queueUsed[this.index];
    const before = this.r.queueSignalled[this.index];
    this.r.queueSignalled[this.index] = used;
    if (!this.features.eventIndex) return (this.memory.readU16(available) & RING.NO_INTERRUPT) === 0;
    const event = this.memory.readU16(available + RING.ENTRIES + RING.AVAILABLE_BYTES * this.size);
    return ((used - event - 1) & 0xffff) < ((used - before) & 0xffff);
  }

  /**
   * Follows a chain. Each descriptor is read once, into locals. It ends: every step takes one of `left`, which
   * starts at the queue's size (section 2.7.5.1: no chain is longer), and there is one level of indirection.
   */
  private walk(head: number, chain: Chain): void {
    chain.clear(head);
    const { memory, descriptor, fields } = this;
    let table = this.area(this.r.queueDesc);
    let entries = this.size;
    let indirect = false;
    let index = head;
    let left = this.size;
    for (;;) {
      if (index >= entries) throw new VirtioFault(`descriptor ${index} of a table of ${entries}`);
      memory.read(table + DESC.BYTES * index, descriptor);
      const high = fields.getUint32(4, true);
      const address = high * 2 ** 32 + fields.getUint32(0, true);
      const length = fields.getUint32(8, true);
      const flags = fields.getUint16(12, true);
      // Above 2^52 there is no memory, and sums of addresses would no longer be exact.
      if (high >= 2 ** 20) throw new VirtioFault(`a descriptor for address 0x${address.toString(16)}`);
      if ((flags & DESC.INDIRECT) !== 0) {
        this.checkIndirect(address, length, flags, indirect);
        table = address;
        entries = length / DESC.BYTES;
        indirect = true;
        index = 0;
        continue;
      }
      if (left-- === 0) throw new VirtioFault(`a chain longer than its queue of ${this.size}`);
      chain.add(address, length, (flags & DESC.WRITE) !== 0);
      if (chain.readable + chain.writable > CHAIN_BYTES) {
        throw new VirtioFault(`a chain of more than ${CHAIN_BYTES} bytes`);
      }
      if ((flags & DESC.NEXT) === 0) return;
      index = fields.getUint16(14, true);
    }
  }

  /** Section 2.7.5.3.1. */
  private checkIndirect(address: number, length: number, flags: number, nested: boolean): void {
    if (!this.features.indirect) throw new VirtioFault('an indirect descriptor, which was not negotiated');
    if (nested) throw new VirtioFault('an indirect table inside an indirect table');
    if ((flags & DESC.NEXT) !== 0) throw new VirtioFault('an indirect descriptor that has a next one');
    if (length === 0 || length % DESC.BYTES !== 0) {
      throw new VirtioFault(`an indirect table of ${length} bytes: not a multiple of ${DESC.BYTES}`);
    }
    if (!this.memory.isRam(address, length)) {
      throw new VirtioFault(`an indirect table at 0x${address.toString(16)}, which is not RAM`);
    }
  }
}
