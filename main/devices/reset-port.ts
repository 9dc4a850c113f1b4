/** Reset Control Register, port CF9h: Intel 82371SB (PIIX3) data sheet, 4.7.2. */
import type { PortBus } from './bus.ts';
import type { BusDevice, Device } from './device.ts';
import type { PowerControl } from './power.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

const RESET = {
  control: { type: 'u8', about: 'CF9h: bit 1 hard reset, bit 2 resets when it rises, bit 3 full reset' },
} as const satisfies Layout;

export const RESET_PORT = 0xcf9;
/** Written there, resets the machine: what the FADT tells. */
export const RESET_VALUE = 0x06;
const RESET_CPU = 0x04;

export class ResetPort implements Device, BusDevice {
  readonly name = 'reset';
  private readonly regs: Registers<typeof RESET>;
  private readonly power: PowerControl;

  constructor(arena: RegisterArena, power: PowerControl) {
    this.regs = arena.allocate(RESET);
    this.power = power;
  }

  /** The port lies inside the PCI configuration ports, which only 32-bit accesses reach. */
  attach(ports: PortBus): void {
    ports.register(RESET_PORT, 1, this, 'reset', { width: 1, overlay: true });
  }

  read(): number {
    return this.regs.control;
  }

  write(_offset: number, _size: number, value: number): void {
    const rises = (value & ~this.regs.control & RESET_CPU) !== 0;
    this.regs.control = value & 0x0e;
    if (rises) this.power.reset('the guest wrote the reset control register (port CF9h)');
  }

  reset(): void {
    this.regs.resetAll();
  }

  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
  }
}
