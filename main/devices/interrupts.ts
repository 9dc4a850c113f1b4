/**
 * How interrupts are wired in a PC (MultiProcessor Specification 1.4, 3.6; MADT of ACPI 6.5, 5.2.12): an ISA
 * interrupt goes to the 8259 input and the I/O APIC input of its number (IRQ 0 to input 2), the 8259s' INT goes
 * to LINT0 of every local APIC and to I/O APIC input 0, PCI interrupts go to inputs 16-23 and, by pairs, to
 * 8259 inputs 10 and 11. Guests choose by masking: PIC mode, virtual wire, or symmetric I/O.
 */
import { ApicSet } from './apic-set.ts';
import { DeliveryMode } from './apic-bus.ts';
import type { MmioBus, PortBus } from './bus.ts';
import type { Clock, Device, IrqLine, MsiSink } from './device.ts';
import { IoApic } from './ioapic.ts';
import type { TscTime, VcpuSignal } from './lapic.ts';
import { Pic8259 } from './pic8259.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

const WIRES = {
  pci: { type: 'u8', about: 'asserted PCI interrupts: bit n is GSI 16 + n' },
} as const satisfies Layout;

/** 8259 inputs of the PCI interrupts: even GSIs, odd GSIs. */
export const PCI_PIC_IRQS = [10, 11] as const;
/** The first I/O APIC input that is a PCI interrupt; there are eight. */
export const PCI_GSI = 16;

export interface InterruptResources {
  vcpus: number;
  clock: Clock;
  signal: VcpuSignal;
  tsc: TscTime;
}

export class Interrupts implements Device {
  readonly name = 'interrupts';
  readonly pic: Pic8259;
  readonly ioapic: IoApic;
  readonly apics: ApicSet;
  /** Where devices send message-signalled interrupts. */
  readonly msi: MsiSink = { send: (address, data) => this.sendMsi(address, data) };
  private readonly wires: Registers<typeof WIRES>;
  private readonly extIntPin: IrqLine;

  constructor(arena: RegisterArena, { vcpus, clock, signal, tsc }: InterruptResources) {
    this.wires = arena.allocate(WIRES);
    this.apics = new ApicSet(arena, vcpus, clock, tsc, signal, (vector) => this.ioapic.eoi(vector));
    this.ioapic = new IoApic(arena, this.apics);
    this.extIntPin = this.ioapic.line(0);
    this.pic = new Pic8259(arena, {
      set: (level) => {
        this.apics.setLint(0, level);
        this.extIntPin.set(level);
      },
    });
  }

  /** All that has a state, this object first. */
  get devices(): Device[] {
    return [this, this.pic, this.ioapic, this.apics, ...this.apics.all];
  }

  /** Of the wires only, whose levels belong to the devices behind them. */
  reset(): void {}

  save(): SavedRegisters {
    return this.wires.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.wires.loadAll(saved);
  }

  attach(ports: PortBus, mmio: MmioBus): void {
    this.pic.attach(ports);
    this.ioapic.attach(mmio);
    this.apics.attach(mmio);
  }

  /** The line of an ISA interrupt, 0-15. */
  isa(irq: number): IrqLine {
    const pic = this.pic.line(irq);
    const pin = this.ioapic.line(irq === 0 ? 2 : irq);
    return {
      set: (level) => {
        pic.set(level);
        pin.set(level);
      },
    };
  }

  /** The line of PCI interrupt n, 0-7. Devices that share it must have their levels ORed before. */
  pci(n: number): IrqLine {
    const { wires } = this;
    const pin = this.ioapic.line(PCI_GSI + n);
    const pic = this.pic.line(PCI_PIC_IRQS[n & 1]);
    const sharing = (n & 1) === 0 ? 0x55 : 0xaa;
    return {
      set: (level) => {
        wires.pci = level ? wires.pci | (1 << n) : wires.pci & ~(1 << n);
        pin.set(level);
        pic.set((wires.pci & sharing) !== 0);
      },
    };
  }

  /** Non-maskable interrupt: LINT1 of every local APIC. */
  nmi(): void {
    this.apics.setLint(1, true);
    this.apics.setLint(1, false);
  }

  /** Whether takeInterrupt would return a vector. */
  hasInterrupt(vcpu: number): boolean {
    const lapic = this.apics.get(vcpu);
    return (this.pic.output && lapic.wantsPic) || lapic.hasInterrupt();
  }

  /** The vector of the interrupt that the vCPU takes now, acknowledged; -1 when there is none. */
  takeInterrupt(vcpu: number): number {
    const lapic = this.apics.get(vcpu);
    if (lapic.wantsPic) {
      lapic.takeExtInt();
      if (this.pic.output) return this.pic.acknowledge();
    }
    return lapic.hasInterrupt() ? lapic.acknowledge() : -1;
  }

  /** SDM vol. 3, 11.11: destination in address bits 12-19, redirection hint bit 3, logical bit 2. */
  private sendMsi(address: number, data: number): void {
    if (address < 0xfee00000 || address > 0xfeefffff) return;
    const logical = (address & 4) !== 0;
    const hinted = logical && (address & 8) !== 0;
    const mode = (data >> 8) & 7;
    const chosen = hinted && mode === DeliveryMode.FIXED ? DeliveryMode.LOWEST : mode;
    const level = (data & 0x8000) !== 0;
    this.apics.deliver((address >>> 12) & 0xff, logical, chosen, data & 0xff, level);
  }
}
