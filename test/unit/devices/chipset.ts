import { MmioBus, PortBus } from '../../../main/devices/bus.ts';
import type { Clock, IrqLine } from '../../../main/devices/device.ts';
import type { PowerControl } from '../../../main/devices/power.ts';
import { RegisterArena } from '../../../main/devices/registers.ts';

/** A clock that the test turns, in ns. */
export class TestClock implements Clock {
  time = 0;

  now(): number {
    return this.time;
  }
}

/** An interrupt line that remembers. */
export class TestLine implements IrqLine {
  level = false;
  /** Rising edges. */
  edges = 0;

  set(level: boolean): void {
    if (level && !this.level) this.edges++;
    this.level = level;
  }
}

/** Remembers what the machine was asked for. */
export class TestPower implements PowerControl {
  readonly asked: string[] = [];

  reset(cause: string): void {
    this.asked.push(`reset: ${cause}`);
  }

  powerOff(cause: string): void {
    this.asked.push(`power off: ${cause}`);
  }
}

/** Buses over a new arena, with short forms of the accesses that a guest makes. */
export class Bench {
  readonly arena: RegisterArena;
  readonly clock = new TestClock();
  readonly power = new TestPower();
  readonly ports: PortBus;
  readonly mmio: MmioBus;

  /** @param buffer the registers of a bench on another thread. */
  constructor(buffer?: SharedArrayBuffer) {
    this.arena = new RegisterArena(buffer);
    this.ports = new PortBus(this.arena);
    this.mmio = new MmioBus(this.arena);
  }

  line(): TestLine {
    return new TestLine();
  }

  /** The low byte of the value first, as OUT does. */
  out(port: number, value: number, size = 1): void {
    this.ports.write(port, size, value, 0);
  }

  in(port: number, size = 1): number {
    return this.ports.read(port, size, 0);
  }

  load(address: number, size = 4, vcpu = 0): number {
    return this.mmio.read(address, size, vcpu);
  }

  store(address: number, value: number, size = 4, vcpu = 0): void {
    this.mmio.write(address, size, value, vcpu);
  }
}
