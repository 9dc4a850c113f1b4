import { MmioBus, PortBus } from '../../../main/devices/bus.ts';
import type { IrqLine } from '../../../main/devices/device.ts';
import { ECAM_BYTES, PciBus } from '../../../main/devices/pci/bus.ts';
import type { PciFunction } from '../../../main/devices/pci/function.ts';
import { RegisterArena } from '../../../main/devices/registers.ts';
import type { VirtioDevice, VirtioHost } from '../../../main/devices/virtio/device.ts';
import { Doorbells } from '../../../main/devices/virtio/doorbells.ts';
import { VirtioPci } from '../../../main/devices/virtio/pci.ts';
import { FakeMemory } from './fake-memory.ts';

export const ECAM = 0xe0000000;
export const WINDOW = { base: 0xc0000000, length: 0x10000000 };
export const IO_WINDOW = { base: 0x1000, length: 0xe000 };

/** A PC's buses with a PCI bus on them, everything that devices send recorded, and the I/O thread played by run(). */
export class Rig {
  readonly arena = new RegisterArena();
  readonly memory = new FakeMemory([
    { start: 0, end: 0xa0000 },
    { start: 0x100000, end: 0x400000 },
  ]);
  readonly ports = new PortBus(this.arena);
  readonly mmio = new MmioBus(this.arena);
  readonly levels = [false, false, false, false];
  readonly messages: { address: number; data: number }[] = [];
  readonly reports: string[] = [];
  wakes = 0;
  readonly doorbells = new Doorbells(Doorbells.allocate(), () => this.wakes++);
  readonly pci: PciBus;

  constructor() {
    const irqs = this.levels.map((_, n): IrqLine => ({ set: (level) => (this.levels[n] = level) }));
    const { arena, ports, mmio } = this;
    this.pci = new PciBus({ arena, ports, mmio, irqs, ecam: ECAM, memory: WINDOW, io: IO_WINDOW });
  }

  host(): VirtioHost {
    const { arena, memory, doorbells } = this;
    return { arena, memory, doorbells, report: (message) => this.reports.push(message) };
  }

  /** Puts a function on the bus, or a virtio device through its PCI transport, and resets the machine. */
  add(what: PciFunction | VirtioDevice): number {
    const fn = 'kind' in what ? new VirtioPci(this.arena, what, this.msi()) : what;
    const slot = this.pci.add(fn);
    this.pci.reset();
    return slot;
  }

  msi() {
    return { send: (address: number, data: number) => void this.messages.push({ address, data }) };
  }

  config(slot: number, offset: number, size: number): number {
    return this.mmio.read(ECAM + (slot << 15) + offset, size, 0);
  }

  setConfig(slot: number, offset: number, size: number, value: number): void {
    this.mmio.write(ECAM + (slot << 15) + offset, size, value, 0);
  }

  /** The I/O thread's turns until nothing is left. `turns` bounds them: a device that never ends fails the test. */
  run(turns = 10_000): void {
    while (this.doorbells.run((work) => work())) {
      if (turns-- === 0) throw new Error('a device does not come to an end');
    }
  }
}

export { ECAM_BYTES };
