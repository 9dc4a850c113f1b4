import { AcpiPm } from '../../main/devices/acpi-pm.ts';
import { Dma8237 } from '../../main/devices/dma8237.ts';
import type { Device, Timed } from '../../main/devices/device.ts';
import { I8042 } from '../../main/devices/i8042.ts';
import { Interrupts } from '../../main/devices/interrupts.ts';
import { Pit8254 } from '../../main/devices/pit8254.ts';
import { Port92 } from '../../main/devices/port92.ts';
import { ResetPort } from '../../main/devices/reset-port.ts';
import { Rtc146818 } from '../../main/devices/rtc146818.ts';
import { Bench } from '../unit/devices/chipset.ts';

const VCPUS = 3;
/** Ports where a device of the chipset answers, each about as often as all others together with the rest. */
const PORTS = [
  [0x00, 0x10],
  [0x20, 2],
  [0x40, 4],
  [0x60, 5],
  [0x70, 4],
  [0x80, 0x13],
  [0xa0, 2],
  [0xb2, 2],
  [0xc0, 0x20],
  [0x4d0, 2],
  [0x600, 12],
  [0x620, 4],
  [0xcf8, 8],
] as const;
const PAGES = [0xfee00000, 0xfec00000] as const;
const SIZES = [1, 2, 4, 8] as const;
const MSRS = [0x1b, 0x6e0] as const;

/** mulberry32: the same numbers for the same seed everywhere. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole chipset over one arena. */
function chipset(bench: Bench) {
  const { arena, clock, ports, mmio, power } = bench;
  const interrupts = new Interrupts(arena, {
    vcpus: VCPUS,
    clock,
    signal: { notify: () => undefined },
    tsc: { nsAt: (_vcpu, low, high) => high * 2 ** 32 + low },
  });
  interrupts.attach(ports, mmio);
  const pit = new Pit8254(arena, clock, interrupts.isa(0));
  const rtc = new Rtc146818(arena, clock, interrupts.isa(8), {
    unixSeconds: 1e9,
    ramBelow4G: 2 ** 28,
    ramAbove4G: 0,
  });
  const port92 = new Port92(arena, power);
  const i8042 = new I8042(arena, { irq1: interrupts.isa(1), irq12: interrupts.isa(12), a20: port92, power });
  const pm = new AcpiPm(arena, clock, interrupts.isa(9), power);
  const [reset, dma] = [new ResetPort(arena, power), new Dma8237(arena)];
  for (const device of [pit, rtc, port92, i8042, pm, reset, dma]) device.attach(ports);
  const devices: Device[] = [
    ...interrupts.devices,
    pit,
    rtc,
    port92,
    i8042,
    i8042.keyboard,
    i8042.mouse,
    pm,
    reset,
    dma,
  ];
  const timed: Timed[] = [pit, rtc, pm, ...interrupts.apics.all];
  return { interrupts, i8042, pm, devices, timed };
}

export interface StormOutcome {
  interrupts: number;
  powerRequests: number;
  unmapped: number;
}

/** Throws, with the step, when a device throws or answers with something that is no value of that size. */
export function storm(accesses: number, seed: number): StormOutcome {
  const next = random(seed);
  const below = (limit: number): number => Math.floor(next() * limit);
  const value = (): number => {
    const kind = below(4);
    return kind === 0 ? below(2) * 0xffffffff : kind === 1 ? (1 << below(32)) >>> 0 : below(2 ** 32);
  };
  const bench = new Bench();
  const { interrupts, i8042, pm, devices, timed } = chipset(bench);
  const outcome: StormOutcome = { interrupts: 0, powerRequests: 0, unmapped: 0 };

  const check = (what: string, got: number, size: number): void => {
    if (Number.isInteger(got) && got >= 0 && got < 2 ** (8 * Math.min(4, size))) return;
    throw new Error(`${what} (${size} bytes) read ${got}`);
  };

  const port = (): void => {
    const [start, length] = PORTS[below(PORTS.length)];
    const address = below(16) === 0 ? below(0x10000) : start + below(length);
    const size = SIZES[below(8) < 6 ? 0 : below(3)];
    if (below(2) === 0) bench.out(address, value(), size);
    else check(`port 0x${address.toString(16)}`, bench.in(address, size), size);
  };

  const memory = (): void => {
    const page = PAGES[below(PAGES.length)];
    const address =
      page + (below(8) === 0 ? below(0x1002) : page === PAGES[0] ? 16 * below(64) : 16 * below(5));
    const size = SIZES[below(8) < 6 ? 2 : below(4)];
    const vcpu = below(VCPUS + 1) - 1;
    if (below(2) === 0) {
      bench.mmio.write(address, size, value(), vcpu, value());
    } else {
      check(`memory 0x${address.toString(16)}`, bench.mmio.read(address, size, vcpu), size);
      if (size === 8) check('its high half', bench.mmio.high, 4);
    }
  };

  const modelSpecific = (): void => {
    const lapic = interrupts.apics.get(below(VCPUS));
    const index = below(8) === 0 ? MSRS[below(2)] : 0x800 + below(0x100);
    if (below(2) === 0) {
      // Mostly a plausible base, so that the page and both modes are met often.
      const plain = index === 0x1b && below(4) > 0;
      lapic.writeMsr(
        index,
        plain ? 0xfee00000 + below(16) * 0x100 : value(),
        plain || below(2) === 0 ? 0 : value(),
      );
    } else {
      const read = lapic.readMsr(index);
      if (read !== null) {
        [read.low, read.high].forEach((half) => check(`MSR 0x${index.toString(16)}`, half, 4));
      }
    }
  };

  const time = (): void => {
    bench.clock.time += below(4) === 0 ? below(2e9) : below(1e6);
    for (const one of timed) {
      if (one.nextDeadline() <= bench.clock.time) one.tick(bench.clock.time);
      if (!(one.nextDeadline() > bench.clock.time)) {
        throw new Error(`deadline ${one.nextDeadline()} is not to come`);
      }
    }
  };

  const processor = (): void => {
    const vcpu = below(VCPUS);
    const lapic = interrupts.apics.get(vcpu);
    const asked = interrupts.hasInterrupt(vcpu);
    const vector = interrupts.takeInterrupt(vcpu);
    if (asked !== vector >= 0 || vector > 255) throw new Error(`vector ${vector}, announced: ${asked}`);
    if (vector >= 0) outcome.interrupts++;
    lapic.takeNmi();
    lapic.takeInit();
    lapic.takeSipi();
  };

  const people = (): void => {
    i8042.key(below(2) === 0 ? below(0x85) : 0xe000 + below(0x80), below(2) === 0);
    i8042.move(below(1000) - 500, below(1000) - 500, below(5) - 2, below(8));
    if (below(16) === 0) pm.pressPowerButton();
  };

  /** A snapshot that somebody has spoilt: a device may then do anything but throw or never end. */
  const spoilt = (): void => {
    const device = devices[below(devices.length)];
    const saved = device.save();
    const names = Object.keys(saved);
    const name = names[below(names.length)];
    const field = saved[name];
    const wrong = [value(), -1, 2 ** 53, 1e300, below(100)][below(5)];
    device.load({ ...saved, [name]: Array.isArray(field) ? field.map(() => wrong) : wrong });
    for (let i = 0; i < 100; i++) [port, memory, processor, people][below(4)]();
    for (const one of devices) one.reset();
    device.load(saved);
    bench.mmio.changed();
  };

  const snapshot = (): void => {
    for (const device of devices) {
      const saved = device.save();
      const text = JSON.stringify(saved);
      device.reset();
      device.load(JSON.parse(text));
      if (JSON.stringify(device.save()) !== text) {
        throw new Error(`${device.name}: loads something else than it saved`);
      }
    }
    bench.mmio.changed();
  };

  /** What a well-behaved guest does, so that the storm also meets working controllers. */
  const guest = (): void => {
    const vcpu = below(VCPUS);
    const vector = 0x20 + below(0xe0);
    switch (below(5)) {
      case 0:
        bench.store(PAGES[0] + 0xf0, 0x1ff, 4, vcpu);
        bench.store(PAGES[0] + 0x80, 0, 4, vcpu);
        break;
      case 1:
        bench.store(PAGES[0] + 0xb0, 0, 4, vcpu);
        interrupts.apics.get(vcpu).writeMsr(0x80b, 0, 0);
        break;
      case 2:
        bench.store(PAGES[1], 0x10 + 2 * below(24));
        bench.store(PAGES[1] + 0x10, vector | (below(2) << 15));
        break;
      case 3:
        interrupts.pci(below(8)).set(below(2) === 0);
        interrupts.msi.send(PAGES[0] + (vcpu << 12), vector);
        break;
      case 4:
        for (const base of [0x20, 0xa0]) {
          for (const [at, value] of [[0, 0x11], [1, vector], [1, 4], [1, 1], [1, 0], [0, 0x20]]) bench.out(base + at, value); // prettier-ignore
        }
        break;
    }
  };

  const acts = [guest, port, port, port, memory, memory, modelSpecific, time, processor, people];
  for (let step = 0; step < accesses; step++) {
    const rare = below(20_000);
    const act = rare < 10 ? [snapshot, spoilt][rare & 1] : acts[below(acts.length)];
    try {
      act();
    } catch (cause) {
      throw new Error(`step ${step} of seed ${seed}: ${act.name}`, { cause });
    }
    outcome.powerRequests += bench.power.asked.splice(0).length;
    // A guest that switched a local APIC off would leave little to test.
    if (below(50_000) === 0) for (const device of devices) device.reset();
  }
  outcome.unmapped = bench.ports.unmapped().reads + bench.mmio.unmapped().reads;
  return outcome;
}
