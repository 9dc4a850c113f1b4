import { SerialRing } from '../../main/devices/serial-ring.ts';
import { VirtioBlk } from '../../main/devices/virtio/blk.ts';
import { VirtioConsole } from '../../main/devices/virtio/console.ts';
import type { VirtioDevice } from '../../main/devices/virtio/device.ts';
import { VirtioRng } from '../../main/devices/virtio/rng.ts';
import { VirtioDriver } from '../unit/devices/virtio-driver.ts';
import { ECAM, IO_WINDOW, Rig, WINDOW } from '../unit/devices/virtio-rig.ts';

export const KINDS = ['blk', 'blk-readonly', 'console', 'console-multiport', 'rng'] as const;
export type Kind = (typeof KINDS)[number];

/** Numbers from a seed: xorshift32, so that a failure can be run again. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = (seed | 0) === 0 ? 0x9e3779b9 : seed | 0;
  }

  u32(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x >>> 0;
  }

  below(limit: number): number {
    return this.u32() % limit;
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)];
  }

  /** True once in `n`. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }
}

/** What a run saw. */
export interface Outcome {
  kind: Kind;
  seed: number;
  chains: number;
  completed: number;
  resets: number;
  reports: number;
  slowestMs: number;
}

const DISK_BYTES = 1 << 20;

function build(kind: Kind, rig: Rig): { device: VirtioDevice; drain: (random: Random) => void } {
  const nothing = () => {};
  if (kind === 'rng') {
    const fill = (into: Uint8Array) => void into.fill(0x5a);
    return { device: new VirtioRng('rng', rig.host(), { fill }), drain: nothing };
  }
  if (kind === 'blk' || kind === 'blk-readonly') {
    const data = new Uint8Array(DISK_BYTES);
    const inside = (offset: number, length: number) => {
      if (!(offset >= 0 && offset + length <= DISK_BYTES)) throw new Error(`unexpected offset ${offset}`);
    };
    const backend = {
      size: DISK_BYTES,
      readOnly: kind === 'blk-readonly',
      read: (offset: number, into: Uint8Array) => {
        inside(offset, into.length);
        into.set(data.subarray(offset, offset + into.length));
      },
      write: (offset: number, from: Uint8Array) => {
        inside(offset, from.length);
        if (kind === 'blk-readonly') throw new Error('unexpected write to a read-only disk');
        data.set(from, offset);
      },
      flush: nothing,
      discard: inside,
    };
    return { device: new VirtioBlk('blk', rig.host(), backend), drain: nothing };
  }
  const ports = Array.from({ length: kind === 'console' ? 1 : 3 }, (_, n) => ({
    name: `port${n}`,
    output: new SerialRing(SerialRing.allocate(1 << 16)),
    input: new SerialRing(SerialRing.allocate(256)),
  }));
  const device = new VirtioConsole('console', rig.host(), { ports });
  const chunk = new Uint8Array(1 << 16);
  const drain = (random: Random) => {
    for (const port of ports) {
      port.output.read(chunk);
      port.input.write(chunk.subarray(0, random.below(64)));
    }
    device.poll();
  };
  return { device, drain };
}

/** A device under fire: a driver that sends random rings, some good, most hostile. */
class Attack {
  readonly rig = new Rig();
  readonly random: Random;
  readonly driver: VirtioDriver;
  readonly device: VirtioDevice;
  private readonly drain: (random: Random) => void;
  /** Where the rings are: buffers may lie over them. */
  private readonly rings = 0x110000;
  private readonly buffers = 0x140000;
  private readonly table = 0x180000;
  resets = 0;

  constructor(kind: Kind, seed: number) {
    this.random = new Random(seed);
    const { device, drain } = build(kind, this.rig);
    this.device = device;
    this.drain = drain;
    this.rig.memory.bytes.fill(0xa5, 0xa0000, 0x100000);
    this.driver = new VirtioDriver(this.rig, this.rig.add(device));
    this.makeRaces();
    this.restart();
  }

  /** Another vCPU that changes the rings between any two reads of the device. */
  private makeRaces(): void {
    const { memory } = this.rig;
    const { random } = this;
    const plain = memory.read.bind(memory);
    memory.read = (gpa, into) => {
      plain(gpa, into);
      if (random.once(97)) memory.bytes[this.rings + random.below(0x800)] = random.u32();
      if (into.length === 16 && random.once(31)) memory.bytes[gpa + random.below(16)] = random.u32();
    };
  }

  restart(): void {
    this.resets++;
    const { driver, random, rig } = this;
    (driver as unknown as { heap: number }).heap = this.rings;
    rig.setConfig(driver.slot, 4, 2, 6);
    driver.start({
      low: random.once(4) ? 0 : driver.offered(0),
      high: random.once(4) ? 1 : driver.offered(1),
      queueSize: 2 ** random.below(6),
    });
  }

  private address(): number {
    const { random } = this;
    switch (random.below(10)) {
      case 0:
        return random.u32();
      case 1:
        return 2 ** 64 - random.below(65536);
      case 2:
        return 0xa0000 - random.below(1024);
      case 3:
        return 0x400000 - random.below(4096);
      case 4:
        return this.rings + random.below(0x1000);
      case 5:
        return random.u32() * 2 ** 32 + random.u32();
      default:
        return this.buffers + random.below(0x10000);
    }
  }

  private length(): number {
    const { random } = this;
    switch (random.below(12)) {
      case 0:
        return random.u32();
      case 1:
        return 0xffffffff - random.below(16);
      case 2:
        return 0;
      case 3:
        return random.below(0x300000);
      case 4:
      case 5:
        return random.below(64);
      default:
        return 512 * (1 + random.below(8));
    }
  }

  /** A chain that a driver for this device could have sent. */
  private good(queue: number): void {
    const { random, driver, rig } = this;
    const { memory } = rig;
    const header = this.buffers;
    memory.writeU32(header, random.pick([0, 0, 1, 1, 4, 8, 11, 13, random.u32()]));
    memory.writeU32(header + 4, random.below(8));
    memory.writeU32(header + 8, random.once(8) ? random.u32() : random.below(DISK_BYTES / 512));
    memory.writeU32(header + 12, random.once(16) ? random.u32() : 0);
    const writes = random.once(2);
    const parts = Array.from({ length: random.below(4) }, () => ({
      address: this.buffers + 4096 + random.below(0x8000),
      length: 512 * random.below(5),
      write: writes,
    }));
    const all = [
      { address: header, length: random.once(8) ? random.below(17) : 16 },
      ...parts,
      { address: this.buffers + 2048, length: 1, write: true },
    ];
    const { size } = driver.queues[queue];
    const indirect = random.once(2) || all.length > size;
    const first = indirect ? random.below(size) : random.below(size - all.length + 1);
    (driver as unknown as { heap: number }).heap = this.table;
    driver.add(queue, all, { first, indirect });
  }

  /** Random descriptors, in the ring's table and in one that may be indirect, with links in every direction. */
  private hostile(queue: number): void {
    const { random, driver } = this;
    const { size, desc } = driver.queues[queue];
    for (const [table, entries] of [
      [desc, size],
      [this.table, 8],
    ] as const) {
      for (let i = 0; i < entries; i++) {
        const indirect = random.once(6);
        driver.descriptor(
          table,
          i,
          indirect ? random.pick([this.table, desc, this.address()]) : this.address(),
          indirect ? 16 * random.below(40) + (random.once(4) ? random.below(16) : 0) : this.length(),
          random.once(9) ? random.u32() & 0xffff : (indirect ? 4 : 0) | random.pick([0, 1, 1, 2, 3, 3]),
          random.once(9) ? random.u32() & 0xffff : random.below(size),
        );
      }
    }
    driver.makeAvailable(queue, random.once(9) ? random.u32() & 0xffff : random.below(size));
    if (random.once(20)) this.rig.memory.writeU16(driver.queues[queue].driver + 2, random.u32() & 0xffff);
  }

  /** Sends one chain and lets the device work. Returns the requests that came back. */
  step(): number {
    const { random, driver, rig } = this;
    const queue = random.below(driver.queues.length);
    if (random.once(3)) this.hostile(queue);
    else this.good(queue);
    driver.kick(queue);
    if (random.once(50)) rig.setConfig(driver.slot, 4, 2, random.u32() & 0x407);
    rig.run(1000);
    this.drain(random);
    rig.run(1000);
    let done = 0;
    while (done < 1000 && driver.used(queue) !== null) done++;
    if ((driver.status & 0x40) !== 0 || random.once(40)) this.restart();
    return done;
  }
}

/** Sends `chains` random chains to a device. Throws on anything that a machine must not suffer. */
export function attack(kind: Kind, chains: number, seed: number): Outcome {
  let target = new Attack(kind, seed);
  const outcome: Outcome = { kind, seed, chains, completed: 0, resets: 0, reports: 0, slowestMs: 0 };
  const finish = () => {
    const { rig, resets } = target;
    outcome.resets += resets;
    outcome.reports += rig.reports.length;
    if (rig.reports.length > resets) throw new Error(`${rig.reports.length} reports in ${resets} lives`);
    const unexpected = rig.reports.find((report) => report.includes('unexpected'));
    if (unexpected !== undefined) throw new Error(unexpected);
    for (let at = 0xa0000; at < 0x100000; at++) {
      if (rig.memory.bytes[at] !== 0xa5) throw new Error(`a write outside of RAM at 0x${at.toString(16)}`);
    }
  };
  for (let chain = 0; chain < chains; chain++) {
    if (chain % 20_000 === 19_999) {
      finish();
      target = new Attack(kind, seed + chain);
    }
    const start = performance.now();
    outcome.completed += target.step();
    outcome.slowestMs = Math.max(outcome.slowestMs, performance.now() - start);
  }
  finish();
  return outcome;
}

/** Random accesses of every width to every window of a machine with every device: nothing throws. */
export function storm(accesses: number, seed: number): { reports: number } {
  const rig = new Rig();
  const random = new Random(seed);
  const drains = KINDS.map((kind) => {
    const { device, drain } = build(kind, rig);
    rig.add(device);
    return drain;
  });
  const bars = () => {
    const slot = 1 + random.below(KINDS.length);
    const bar = random.pick([0x10, 0x18]);
    return (rig.config(slot, bar, 4) & ~0xf) >>> 0;
  };
  let reports = 0;
  const access = (at: number, ports: boolean) => {
    const size = random.pick([1, 2, 4, 8]);
    const bus = ports ? rig.ports : rig.mmio;
    const value = random.once(3) ? random.below(256) : random.u32();
    if (random.once(2)) bus.write(at, ports ? Math.min(size, 4) : size, value, 0, random.u32());
    else if (!(bus.read(at, ports ? Math.min(size, 4) : size, 0) >= 0)) {
      throw new Error('not an unsigned number');
    }
  };
  for (let i = 0; i < accesses; i++) {
    switch (random.below(8)) {
      case 0:
        access(0xcf8 + random.below(8), true);
        break;
      case 1:
        access(ECAM + ((1 + random.below(KINDS.length)) << 15) + random.below(0x110), false);
        break;
      case 2:
        access(
          random.once(2) ? IO_WINDOW.base + random.below(0x1000) : WINDOW.base + random.below(0x80000),
          false,
        );
        break;
      case 3:
        access(bars() + random.pick([0, 0x1000, 0x2000, 0x3000]) + random.below(0x100), false);
        break;
      default:
        access(bars() + random.below(64), false);
    }
    if (random.once(64)) {
      // A driver that gets far: without it random statuses hardly ever pass the negotiation.
      const slot = 1 + random.below(KINDS.length);
      rig.setConfig(slot, 0x1c, 4, 0);
      rig.setConfig(slot, 0x10, 4, WINDOW.base + slot * 0x10000);
      const driver = new VirtioDriver(rig, slot);
      // Unless another device's BAR lies over this one.
      const queues = driver.read(18, 2);
      if (queues >= 1 && queues <= 8) {
        driver.start({ queueSize: 2 ** random.below(9) });
        driver.makeAvailable(0, 0);
      }
    }
    if (random.once(8)) rig.run(1000);
    if (random.once(512)) drains.forEach((drain) => drain(random));
    if (random.once(20_000)) rig.pci.reset();
    rig.messages.length = 0;
    if (rig.reports.some((report) => report.includes('unexpected'))) throw new Error(rig.reports.join('\n'));
    reports += rig.reports.length;
    rig.reports.length = 0;
  }
  return { reports };
}
