import { AcpiPm } from '../devices/acpi-pm.ts';
import { buildAcpiTables } from '../devices/acpi-tables.ts';
import { MmioBus, PortBus } from '../devices/bus.ts';
import { DeviceNames } from '../devices/device-names.ts';
import type { Clock, Device, IrqLine, Timed } from '../devices/device.ts';
import { Dma8237 } from '../devices/dma8237.ts';
import { I8042 } from '../devices/i8042.ts';
import { Interrupts } from '../devices/interrupts.ts';
import type { TscTime, VcpuSignal } from '../devices/lapic.ts';
import { isApicMsr } from '../devices/lapic.ts';
import { PciBus } from '../devices/pci/bus.ts';
import { Pit8254 } from '../devices/pit8254.ts';
import { Port92 } from '../devices/port92.ts';
import type { PowerControl } from '../devices/power.ts';
import { RegisterArena } from '../devices/registers.ts';
import { ResetPort } from '../devices/reset-port.ts';
import { Rtc146818 } from '../devices/rtc146818.ts';
import type { SerialBackend, SerialSource } from '../devices/serial-ring.ts';
import { INPUT_RING_BYTES, OUTPUT_RING_BYTES, SerialRing } from '../devices/serial-ring.ts';
import { SharedLine } from '../devices/shared-line.ts';
import { Uart16550 } from '../devices/uart16550.ts';
import type { BlockBackend } from '../devices/virtio/blk.ts';
import { VirtioBlk } from '../devices/virtio/blk.ts';
import { VirtioConsole } from '../devices/virtio/console.ts';
import { Doorbells } from '../devices/virtio/doorbells.ts';
import { VirtioPci } from '../devices/virtio/pci.ts';
import type { EntropySource } from '../devices/virtio/rng.ts';
import { VirtioRng } from '../devices/virtio/rng.ts';
import { ECAM, type GuestRam, MEGABYTE, PCI_HOLE, ROM_AREA } from './memory.ts';
import { Msrs } from './msrs.ts';
import { SERIAL_PORTS } from './protocol.ts';

/**
 * The PC: its devices, put together. Every thread of the machine builds one over the same shared registers, in
 * the same order, and calls it under the device lock.
 */

/** The serial ports' places (IBM PC/AT; COM1 and COM3 share an interrupt, and so do COM2 and COM4). */
const UARTS = [
  { port: 0x3f8, irq: 4 },
  { port: 0x2f8, irq: 3 },
  { port: 0x3e8, irq: 4 },
  { port: 0x2e8, irq: 3 },
] as const;

/** Where firmware would put BARs: the memory hole from 3 GiB to the ECAM window, and ports above the chipset's. */
const PCI_MEMORY = { base: PCI_HOLE, length: ECAM - PCI_HOLE };
const PCI_PORTS = { base: 0xc000, length: 0x4000 };

/** Where guests search for the ACPI tables' root (ACPI 6.5, 5.2.5.1). */
const TABLES = { base: ROM_AREA, length: MEGABYTE - ROM_AREA };

/** A disk as every thread knows it; only the I/O thread has it open. */
export interface DiskShape {
  size: number;
  readOnly: boolean;
}

/** What makes two threads' PCs the same PC: structured-cloneable. */
export interface PcShared {
  vcpus: number;
  disks: DiskShape[];
  /** Seconds since the epoch at power-on: what the RTC shows first. */
  unixSeconds: number;
  registers: SharedArrayBuffer;
  doorbells: SharedArrayBuffer;
  outputs: SharedArrayBuffer[];
  inputs: SharedArrayBuffer[];
}

/** What a PC needs of the thread that it is on. */
export interface PcHost {
  ram: GuestRam;
  clock: Clock;
  power: PowerControl;
  signal: VcpuSignal;
  tsc: TscTime;
  /** Output waits in a serial port's ring: for the I/O thread. */
  outputReady(port: number): void;
  /** A virtqueue has work: for the I/O thread. */
  queueReady(): void;
  /** What stands between the serial devices and their rings, where something does: COM1 to COM4, hvc0. */
  serial?: { outputs: SerialBackend[]; inputs: SerialSource[] };
  disks: BlockBackend[];
  entropy: EntropySource;
  report(message: string): void;
}

/** Makes the shared parts of a new PC. The registers are made by the first `Pc` itself. */
export function sharePc(vcpus: number, disks: DiskShape[], unixSeconds: number): Omit<PcShared, 'registers'> {
  const rings = (bytes: number): SharedArrayBuffer[] =>
    Array.from({ length: SERIAL_PORTS + 1 }, () => SerialRing.allocate(bytes));
  return {
    vcpus,
    disks,
    unixSeconds,
    doorbells: Doorbells.allocate(),
    outputs: rings(OUTPUT_RING_BYTES),
    inputs: rings(INPUT_RING_BYTES),
  };
}

/** Index of the virtio console among the serial rings: after COM1 to COM4. */
export const VIRTIO_CONSOLE = SERIAL_PORTS;

export class Pc {
  readonly arena: RegisterArena;
  /** Numbers of what answers on both buses. */
  readonly names = new DeviceNames();
  readonly ports: PortBus;
  readonly mmio: MmioBus;
  readonly interrupts: Interrupts;
  readonly acpi: AcpiPm;
  readonly uarts: Uart16550[];
  readonly console: VirtioConsole;
  readonly doorbells: Doorbells;
  readonly outputs: SerialRing[];
  readonly inputs: SerialRing[];
  /** One for each vCPU. */
  readonly msrs: Msrs[];
  /** Everything with a state, by name, in the order of construction. */
  readonly devices: Device[];
  /** What keeps time for the whole machine: the first vCPU serves it. Each vCPU serves its own local APIC. */
  private readonly timed: Timed[];
  private readonly ram: GuestRam;
  private readonly vcpus: number;
  private readonly lapicNumber: number;
  private readonly msrsNumber: number;

  constructor(shared: Omit<PcShared, 'registers'> & { registers?: SharedArrayBuffer }, host: PcHost) {
    const { clock, power, ram } = host;
    const arena = new RegisterArena(shared.registers);
    this.arena = arena;
    this.ram = ram;
    this.vcpus = shared.vcpus;
    this.ports = new PortBus(arena, this.names);
    this.mmio = new MmioBus(arena, this.names);
    this.interrupts = new Interrupts(arena, {
      vcpus: shared.vcpus,
      clock,
      signal: host.signal,
      tsc: host.tsc,
    });
    this.interrupts.attach(this.ports, this.mmio);
    const isa = (irq: number): IrqLine => this.interrupts.isa(irq);

    const pit = new Pit8254(arena, clock, isa(0));
    const rtc = new Rtc146818(arena, clock, isa(8), {
      unixSeconds: shared.unixSeconds,
      ramBelow4G: ram.lowEnd,
      ramAbove4G: ram.aboveHole,
    });
    const port92 = new Port92(arena, power);
    const i8042 = new I8042(arena, { irq1: isa(1), irq12: isa(12), a20: port92, power });
    this.acpi = new AcpiPm(arena, clock, isa(9), power);
    const resetPort = new ResetPort(arena, power);
    const dma = new Dma8237(arena);

    this.outputs = shared.outputs.map((ring, port) => new SerialRing(ring, () => host.outputReady(port)));
    this.inputs = shared.inputs.map((ring) => new SerialRing(ring));
    const { outputs, inputs } = host.serial ?? this;
    const irq4 = new SharedLine('com13-irq', arena, isa(4));
    const irq3 = new SharedLine('com24-irq', arena, isa(3));
    this.uarts = UARTS.map(({ port, irq }, n) => {
      const line = (irq === 4 ? irq4 : irq3).input(n >> 1);
      const [output, input] = [outputs[n], inputs[n]];
      const uart = new Uart16550(`uart${n}`, { arena, clock, irq: line, output, input });
      this.ports.register(port, 8, uart, uart.name, { width: 1 });
      return uart;
    });

    const pci = new PciBus({
      arena,
      ports: this.ports,
      mmio: this.mmio,
      irqs: [0, 1, 2, 3].map((n) => this.interrupts.pci(n)),
      ecam: ECAM,
      memory: PCI_MEMORY,
      io: PCI_PORTS,
    });
    this.doorbells = new Doorbells(shared.doorbells, () => host.queueReady());
    const virtio = {
      arena,
      memory: ram,
      doorbells: this.doorbells,
      report: (line: string) => host.report(line),
    };
    this.console = new VirtioConsole('virtio-console', virtio, {
      ports: [{ name: 'console', output: outputs[VIRTIO_CONSOLE], input: inputs[VIRTIO_CONSOLE] }],
    });
    const disks = host.disks.map(
      (backend, n) => new VirtioBlk(`disk${n}`, virtio, backend, { serial: `vitrine${n}` }),
    );
    const cards = [...disks, new VirtioRng('virtio-rng', virtio, host.entropy), this.console];
    for (const card of cards) pci.add(new VirtioPci(arena, card, this.interrupts.msi));

    // The overlay of 0xCF9 goes over the PCI bus's ports, so the reset port comes after it.
    for (const device of [pit, rtc, port92, i8042, this.acpi, dma, resetPort]) device.attach(this.ports);
    this.lapicNumber = this.names.number('lapic');
    this.msrsNumber = this.names.number('msrs');
    this.msrs = Array.from({ length: shared.vcpus }, (_, vcpu) => new Msrs(arena, vcpu));
    this.timed = [pit, rtc, this.acpi, ...this.uarts];
    const { keyboard, mouse } = i8042;
    this.devices = [
      ...[...this.interrupts.devices, pit, rtc, port92, i8042, keyboard, mouse, this.acpi, resetPort, dma],
      ...[irq4, irq3, ...this.uarts, pci, ...pci.functions, ...this.msrs],
    ];
  }

  /** Puts every device in its state after power-on. */
  reset(): void {
    // The bus of the functions resets them itself, and then places them as firmware does.
    const functions = new Set<Device>();
    for (const device of this.devices) {
      if (device instanceof PciBus) device.functions.forEach((f) => functions.add(f));
    }
    for (const device of this.devices) if (!functions.has(device)) device.reset();
    this.moved();
  }

  /** Registers that say where devices are were set without their knowing. */
  moved(): void {
    this.ports.changed();
    this.mmio.changed();
  }

  /** Writes the ACPI tables into the ROM area, and returns the address of the RSDP. */
  writeTables(): number {
    const { rsdp, parts } = buildAcpiTables({
      vcpus: this.vcpus,
      ecam: ECAM,
      pciMemory: PCI_MEMORY,
      pciPorts: PCI_PORTS,
      area: TABLES,
    });
    for (const { address, bytes } of parts) this.ram.write(address, bytes);
    return rsdp;
  }

  /** The number of what answers an MSR, as the buses number theirs. */
  msrNumber(index: number): number {
    return isApicMsr(index) ? this.lapicNumber : this.msrsNumber;
  }

  /** The next time at which something happens, for this vCPU to serve, in ns on the machine's clock. */
  deadline(vcpu: number): number {
    let next = this.interrupts.apics.get(vcpu).nextDeadline();
    if (vcpu !== 0) return next;
    for (const timed of this.timed) next = Math.min(next, timed.nextDeadline());
    return next;
  }

  /** Does what is due for this vCPU to serve. */
  tick(vcpu: number, now: number): void {
    const lapic = this.interrupts.apics.get(vcpu);
    if (lapic.nextDeadline() <= now) lapic.tick(now);
    if (vcpu !== 0) return;
    for (const timed of this.timed) if (timed.nextDeadline() <= now) timed.tick(now);
  }
}
