/**
 * Intel 82093AA I/O Advanced Programmable Interrupt Controller data sheet (order 290566), 24 inputs, with the
 * EOI register of version 20h (ICH9 data sheet, 13.5.4).
 *
 * A line says whether it is asserted, so the polarity bit is kept and changes nothing. An edge that comes while
 * its input is masked is lost, as on the chip.
 */
import { DeliveryMode, type ApicBus } from './apic-bus.ts';
import type { MmioBus } from './bus.ts';
import type { BusDevice, Device, IrqLine } from './device.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

const PINS = 24;

const IOAPIC = {
  select: { type: 'u8', about: 'IOREGSEL: the register that IOWIN shows' },
  id: { type: 'u8', about: 'IOAPICID, bits 24-27' },
  low: { type: 'u32', count: PINS, reset: 0x10000, about: 'redirection entries, bits 0-31' },
  high: { type: 'u32', count: PINS, about: 'redirection entries, bits 32-63' },
  input: { type: 'u32', about: 'asserted inputs, one bit each' },
} as const satisfies Layout;

/** Guest-physical address of the first I/O APIC of a PC. */
export const IOAPIC_BASE = 0xfec00000;

const OFFSET = { SELECT: 0x00, WINDOW: 0x10, EOI: 0x40 } as const;
const REGISTER = { ID: 0, VERSION: 1, ARBITRATION: 2, REDIRECTION: 0x10 } as const;
const ENTRY = { LOGICAL: 1 << 11, REMOTE_IRR: 1 << 14, LEVEL: 1 << 15, MASK: 1 << 16 } as const;
/** All but delivery status and remote IRR. */
const ENTRY_WRITABLE = 0x1afff;

export class IoApic implements Device, BusDevice {
  readonly name = 'ioapic';
  private readonly regs: Registers<typeof IOAPIC>;
  private readonly bus: ApicBus;

  constructor(arena: RegisterArena, bus: ApicBus) {
    this.regs = arena.allocate(IOAPIC);
    this.bus = bus;
  }

  attach(mmio: MmioBus): void {
    mmio.register(IOAPIC_BASE, 0x1000, this, 'ioapic');
  }

  /** The line of an input, 0-23. */
  line(pin: number): IrqLine {
    return { set: (level) => this.setInput(pin, level) };
  }

  /** A local APIC ended a level-triggered interrupt: inputs of that vector that are still asserted ask again. */
  eoi(vector: number): void {
    const { low } = this.regs;
    for (let pin = 0; pin < PINS; pin++) {
      if ((low[pin] & 0xff) !== vector || (low[pin] & ENTRY.REMOTE_IRR) === 0) continue;
      low[pin] &= ~ENTRY.REMOTE_IRR;
      this.serveLevel(pin);
    }
  }

  read(offset: number, _size: number): number {
    // The upper bytes of a 32-bit register can be read on their own.
    const shift = 8 * (offset & 3);
    if ((offset & ~3) === OFFSET.SELECT) return this.regs.select >>> shift;
    if ((offset & ~3) === OFFSET.WINDOW) return this.readRegister(this.regs.select) >>> shift;
    return 0;
  }

  write(offset: number, _size: number, value: number): void {
    if (offset === OFFSET.SELECT) this.regs.select = value;
    else if (offset === OFFSET.WINDOW) this.writeRegister(this.regs.select, value);
    else if (offset === OFFSET.EOI) this.eoi(value & 0xff);
  }

  reset(): void {
    // The lines belong to the devices behind them, which say themselves when they fall.
    const { input } = this.regs;
    this.regs.resetAll();
    this.regs.input = input;
  }

  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
  }

  private readRegister(index: number): number {
    const { regs } = this;
    switch (index) {
      case REGISTER.ID:
      case REGISTER.ARBITRATION:
        return regs.id << 24;
      case REGISTER.VERSION:
        return ((PINS - 1) << 16) | 0x20;
    }
    const pin = (index - REGISTER.REDIRECTION) >> 1;
    if (index < REGISTER.REDIRECTION || pin >= PINS) return 0xffffffff;
    return (index & 1) === 0 ? regs.low[pin] : regs.high[pin];
  }

  private writeRegister(index: number, value: number): void {
    const { regs } = this;
    if (index === REGISTER.ID) regs.id = (value >>> 24) & 0x0f;
    const pin = (index - REGISTER.REDIRECTION) >> 1;
    if (index < REGISTER.REDIRECTION || pin >= PINS) return;
    if ((index & 1) === 1) {
      regs.high[pin] = value & 0xff000000;
      return;
    }
    // Guests without the EOI register clear remote IRR by making the entry edge-triggered for a moment.
    const kept = (value & ENTRY.LEVEL) === 0 ? 0 : regs.low[pin] & ENTRY.REMOTE_IRR;
    regs.low[pin] = (value & ENTRY_WRITABLE) | kept;
    this.serveLevel(pin);
  }

  private setInput(pin: number, level: boolean): void {
    const { regs } = this;
    const bit = 1 << pin;
    const was = (regs.input & bit) !== 0;
    if (was === level) return;
    regs.input = level ? regs.input | bit : regs.input & ~bit;
    if (!level) return;
    if ((regs.low[pin] & ENTRY.LEVEL) !== 0) this.serveLevel(pin);
    else if ((regs.low[pin] & ENTRY.MASK) === 0) this.send(pin, false);
  }

  /** Sends an asserted, unmasked, level-triggered input that has been acknowledged since it was last sent. */
  private serveLevel(pin: number): void {
    const { regs } = this;
    const entry = regs.low[pin];
    if ((regs.input & (1 << pin)) === 0 || (entry & ENTRY.LEVEL) === 0) return;
    if ((entry & (ENTRY.MASK | ENTRY.REMOTE_IRR)) !== 0) return;
    const mode = (entry >> 8) & 7;
    const ended = mode === DeliveryMode.FIXED || mode === DeliveryMode.LOWEST;
    // Set before sending: the message may be ended at once. The other modes have no EOI and count as edges.
    if (ended) regs.low[pin] |= ENTRY.REMOTE_IRR;
    if (!this.send(pin, ended)) regs.low[pin] &= ~ENTRY.REMOTE_IRR;
  }

  private send(pin: number, level: boolean): boolean {
    const entry = this.regs.low[pin];
    const mode = (entry >> 8) & 7;
    const logical = (entry & ENTRY.LOGICAL) !== 0;
    return this.bus.deliver(this.regs.high[pin] >>> 24, logical, mode, entry & 0xff, level);
  }
}
