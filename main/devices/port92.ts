/** System Control Port A, port 92h: Intel 82371SB (PIIX3) data sheet, 4.5.5; IBM PS/2 Hardware Interface Reference. */
import type { PortBus } from './bus.ts';
import type { BusDevice, Device } from './device.ts';
import type { PowerControl } from './power.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

const PORT92 = {
  control: {
    type: 'u8',
    reset: 0x02,
    about: '92h: bit 0 resets when it rises, bit 1 address line 20 passes',
  },
} as const satisfies Layout;

const FAST_RESET = 0x01;
const A20 = 0x02;

/** Address line 20, which the keyboard controller switches too. Firmware leaves it passing. */
export interface A20Gate {
  a20: boolean;
}

export class Port92 implements Device, BusDevice, A20Gate {
  readonly name = 'port92';
  private readonly regs: Registers<typeof PORT92>;
  private readonly power: PowerControl;

  constructor(arena: RegisterArena, power: PowerControl) {
    this.regs = arena.allocate(PORT92);
    this.power = power;
  }

  attach(ports: PortBus): void {
    ports.register(0x92, 1, this, 'port 92h', { width: 1 });
  }

  get a20(): boolean {
    return (this.regs.control & A20) !== 0;
  }
  set a20(pass: boolean) {
    this.regs.control = (this.regs.control & ~A20) | (pass ? A20 : 0);
  }

  read(): number {
    return this.regs.control;
  }

  write(_offset: number, _size: number, value: number): void {
    const rises = (value & ~this.regs.control & FAST_RESET) !== 0;
    this.regs.control = value & (FAST_RESET | A20);
    if (rises) this.power.reset('the guest used the fast reset (port 92h)');
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
