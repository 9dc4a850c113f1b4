import type { Rig } from './virtio-rig.ts';

/** One buffer of a chain, as a driver describes it. */
export interface Buffer {
  address: number;
  length: number;
  write?: boolean;
}

interface QueueState {
  size: number;
  desc: number;
  driver: number;
  device: number;
  next: number;
  seen: number;
}

/** The guest's side of virtio 1.2 over PCI: finds the structures, negotiates, builds rings in fake guest memory. */
export class VirtioDriver {
  readonly rig: Rig;
  readonly slot: number;
  common = 0;
  notify = 0;
  isr = 0;
  device = 0;
  /** Offset in configuration space of the access window's capability, and of MSI-X's. */
  accessAt = 0;
  msixAt = 0;
  multiplier = 0;
  readonly queues: QueueState[] = [];
  private heap = 0x110000;

  constructor(rig: Rig, slot: number) {
    this.rig = rig;
    this.slot = slot;
    rig.setConfig(slot, 4, 2, 6);
    for (let at = rig.config(slot, 0x34, 1); at !== 0; at = rig.config(slot, at + 1, 1)) {
      const id = rig.config(slot, at, 1);
      if (id === 0x11) this.msixAt = at;
      if (id !== 9) continue;
      const type = rig.config(slot, at + 3, 1);
      const where = this.bar(rig.config(slot, at + 4, 1)) + rig.config(slot, at + 8, 4);
      if (type === 1) this.common = where;
      if (type === 2) {
        this.notify = where;
        this.multiplier = rig.config(slot, at + 16, 4);
      }
      if (type === 3) this.isr = where;
      if (type === 4) this.device = where;
      if (type === 5) this.accessAt = at;
    }
  }

  bar(index: number): number {
    return (this.rig.config(this.slot, 0x10 + 4 * index, 4) & ~0xf) >>> 0;
  }

  /** Memory for rings and buffers; never given back. */
  alloc(bytes: number, alignment = 16): number {
    const at = Math.ceil(this.heap / alignment) * alignment;
    this.heap = at + bytes;
    return at;
  }

  read(offset: number, size: number): number {
    return this.rig.mmio.read(this.common + offset, size, 0);
  }

  write(offset: number, size: number, value: number): void {
    this.rig.mmio.write(this.common + offset, size, value, 0);
  }

  readDevice(offset: number, size: number): number {
    return this.rig.mmio.read(this.device + offset, size, 0);
  }

  get status(): number {
    return this.read(20, 1);
  }

  set status(value: number) {
    this.write(20, 1, value);
  }

  offered(select: number): number {
    this.write(0, 4, select);
    return this.read(4, 4);
  }

  accept(select: number, value: number): void {
    this.write(8, 4, select);
    this.write(12, 4, value);
  }

  /** Resets, accepts the features (all that are offered unless given) and sets up every queue, up to DRIVER_OK. */
  start(features?: { low?: number; high?: number; queueSize?: number }): this {
    this.negotiate(features);
    const count = this.read(18, 2);
    this.queues.length = 0;
    for (let index = 0; index < count; index++) this.setUpQueue(index, features?.queueSize ?? 16);
    this.status = 15;
    return this;
  }

  negotiate(features?: { low?: number; high?: number }): void {
    this.status = 0;
    this.status = 1;
    this.status = 3;
    this.accept(0, features?.low ?? this.offered(0));
    this.accept(1, features?.high ?? this.offered(1));
    this.status = 11;
  }

  setUpQueue(index: number, size: number): void {
    const queue: QueueState = {
      size,
      desc: this.alloc(16 * size, 16),
      driver: this.alloc(6 + 2 * size, 2),
      device: this.alloc(6 + 8 * size, 4),
      next: 0,
      seen: 0,
    };
    this.rig.memory.bytes.fill(0, queue.desc, queue.device + 6 + 8 * size);
    this.queues[index] = queue;
    this.write(22, 2, index);
    this.write(24, 2, size);
    this.write(32, 4, queue.desc);
    this.write(36, 4, 0);
    this.write(40, 4, queue.driver);
    this.write(44, 4, 0);
    this.write(48, 4, queue.device);
    this.write(52, 4, 0);
    this.write(28, 2, 1);
  }

  /** Writes one descriptor of a table. */
  descriptor(
    table: number,
    index: number,
    address: number,
    length: number,
    flags: number,
    next: number,
  ): void {
    const { memory } = this.rig;
    memory.writeU32(table + 16 * index, address % 2 ** 32);
    memory.writeU32(table + 16 * index + 4, Math.floor(address / 2 ** 32));
    memory.writeU32(table + 16 * index + 8, length);
    memory.writeU16(table + 16 * index + 12, flags);
    memory.writeU16(table + 16 * index + 14, next);
  }

  /** Makes a head descriptor available. */
  makeAvailable(index: number, head: number): void {
    const queue = this.queues[index];
    this.rig.memory.writeU16(queue.driver + 4 + 2 * (queue.next % queue.size), head);
    queue.next = (queue.next + 1) & 0xffff;
    this.rig.memory.writeU16(queue.driver + 2, queue.next);
  }

  kick(index: number): void {
    this.rig.mmio.write(this.notify + this.multiplier * index, 2, index, 0);
  }

  /** Lays out a chain from descriptor `first` on (or in an indirect table) and makes it available. */
  add(index: number, buffers: Buffer[], { first = 0, indirect = false } = {}): void {
    const queue = this.queues[index];
    const table = indirect ? this.alloc(16 * buffers.length) : queue.desc;
    const start = indirect ? 0 : first;
    buffers.forEach(({ address, length, write }, i) => {
      const last = i === buffers.length - 1;
      this.descriptor(
        table,
        start + i,
        address,
        length,
        (write ? 2 : 0) | (last ? 0 : 1),
        last ? 0 : start + i + 1,
      );
    });
    if (indirect) this.descriptor(queue.desc, first, table, 16 * buffers.length, 4, 0);
    this.makeAvailable(index, first);
  }

  /** Adds a chain, kicks, lets the I/O thread run, and returns what came back. */
  request(index: number, buffers: Buffer[], options?: { first?: number; indirect?: boolean }) {
    this.add(index, buffers, options);
    this.kick(index);
    this.rig.run();
    return this.used(index);
  }

  /** The next entry of the used ring, or null. */
  used(index: number): { id: number; length: number } | null {
    const queue = this.queues[index];
    const { memory } = this.rig;
    if (memory.readU16(queue.device + 2) === queue.seen) return null;
    const at = queue.device + 4 + 8 * (queue.seen % queue.size);
    queue.seen = (queue.seen + 1) & 0xffff;
    return { id: memory.readU32(at), length: memory.readU32(at + 4) };
  }
}
