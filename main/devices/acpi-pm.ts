/**
 * ACPI fixed hardware: ACPI Specification 6.5, chapter 4.8 (PM1a event and control blocks, PM timer, GPE0
 * block), and the SMI command port by which a guest switches ACPI on and off.
 *
 * There is no firmware behind the SMI command: enable and disable take effect at once. The only sleep state is
 * S5; a guest that asks for another one wakes up at once.
 */
import type { PortBus } from './bus.ts';
import type { BusDevice, Clock, Device, IrqLine, Timed } from './device.ts';
import type { PowerControl } from './power.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';
import { NEVER, nsOfTick, ticksAt } from './ticks.ts';

/** The PM timer's crystal. */
export const PM_TIMER_HZ = 3579545;

/** Ports and values that the FADT and the DSDT tell the guest. */
export const Pm = {
  SCI: 9,
  EVENT: 0x600,
  CONTROL: 0x604,
  TIMER: 0x608,
  GPE0: 0x620,
  /** Bytes: status and enable of 16 events. */
  GPE0_LENGTH: 4,
  SMI_COMMAND: 0xb2,
  ENABLE: 0xf1,
  DISABLE: 0xf0,
  /** SLP_TYP of S5. */
  S5: 5,
} as const;

const PM = {
  status: { type: 'u16', about: 'PM1_STS: timer 0, global 5, power button 8, wake 15' },
  enable: { type: 'u16', about: 'PM1_EN' },
  control: { type: 'u16', about: 'PM1_CNT: SCI enable 0, sleep type 10-12' },
  gpeStatus: { type: 'u16', about: 'GPE0_STS' },
  gpeEnable: { type: 'u16', about: 'GPE0_EN' },
  smiCommand: { type: 'u8', about: 'B2h: the last command' },
  smiStatus: { type: 'u8', about: 'B3h: scratch' },
  timerHalf: { type: 'f64', about: "changes of the timer's highest bit, counted since power-on" },
  deadline: { type: 'f64', reset: NEVER, about: "when the timer's highest bit changes next, in ns" },
} as const satisfies Layout;

const STATUS = { TIMER: 0x0001, POWER_BUTTON: 0x0100, WAKE: 0x8000, ALL: 0x8731 } as const;
/** Timer, global lock, power and sleep button, RTC. */
const ENABLE_WRITABLE = 0x0721;
const CONTROL = { SCI_ENABLE: 0x0001, SLEEP_ENABLE: 0x2000, WRITABLE: 0x1c02 } as const;
const HALF = 2 ** 31;

export class AcpiPm implements Device, Timed {
  readonly name = 'acpi-pm';
  private readonly regs: Registers<typeof PM>;
  private readonly clock: Clock;
  private readonly sci: IrqLine;
  private readonly power: PowerControl;

  /** @param sci the line of IRQ 9, level-triggered. */
  constructor(arena: RegisterArena, clock: Clock, sci: IrqLine, power: PowerControl) {
    this.regs = arena.allocate(PM);
    this.clock = clock;
    this.sci = sci;
    this.power = power;
  }

  attach(ports: PortBus): void {
    const timer: BusDevice = {
      read: (offset, size) => {
        const value = ticksAt(this.clock.now(), PM_TIMER_HZ) % 2 ** 32;
        return size === 4 ? value : value >>> (8 * offset);
      },
      write: () => undefined,
    };
    const smi: BusDevice = {
      read: (offset) => (offset === 0 ? this.regs.smiCommand : this.regs.smiStatus),
      write: (offset, _size, value) => this.writeSmi(offset, value),
    };
    ports.register(Pm.EVENT, 6, this.words(0), 'acpi pm1', { width: 2 });
    ports.register(Pm.TIMER, 4, timer, 'acpi timer');
    ports.register(Pm.GPE0, Pm.GPE0_LENGTH, this.words(6), 'acpi gpe0', { width: 2 });
    ports.register(Pm.SMI_COMMAND, 2, smi, 'acpi smi', { width: 1 });
  }

  /** Presses the power button. Returns false when the guest doesn't listen: no ACPI driver has enabled it. */
  pressPowerButton(): boolean {
    const { regs } = this;
    const listens = this.sciEnabled && (regs.enable & STATUS.POWER_BUTTON) !== 0;
    regs.status |= STATUS.POWER_BUTTON;
    this.update();
    return listens;
  }

  /** Raises general-purpose event n, 0-15. */
  raiseGpe(n: number): void {
    this.regs.gpeStatus |= 1 << n;
    this.update();
  }

  nextDeadline(): number {
    return this.regs.deadline === NEVER ? Infinity : this.regs.deadline;
  }

  tick(now: number): void {
    if (now < this.regs.deadline) return;
    this.settle(now);
    this.update();
  }

  reset(): void {
    this.regs.resetAll();
    this.regs.timerHalf = this.halves(this.clock.now());
    this.sci.set(false);
  }

  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
  }

  private get sciEnabled(): boolean {
    return (this.regs.control & CONTROL.SCI_ENABLE) !== 0;
  }

  /** A block of 16-bit registers from `first` on; their bytes can be reached alone. */
  private words(first: number): BusDevice {
    return {
      read: (offset) => this.readWord(first + (offset & ~1)) >>> (8 * (offset & 1)),
      write: (offset, size, value) => {
        const shift = 8 * (offset & 1);
        this.writeWord(first + (offset & ~1), value << shift, (size === 1 ? 0xff : 0xffff) << shift);
      },
    };
  }

  private readWord(offset: number): number {
    const { regs } = this;
    switch (offset) {
      case 0:
        this.settle(this.clock.now());
        return regs.status;
      case 2:
        return regs.enable;
      case 4:
        return regs.control;
      case 6:
        return regs.gpeStatus;
      case 8:
        return regs.gpeEnable;
    }
    return 0;
  }

  /** Writes the bits in `mask`. Status bits are cleared by ones. */
  private writeWord(offset: number, value: number, mask: number): void {
    const { regs } = this;
    switch (offset) {
      case 0:
        this.settle(this.clock.now());
        regs.status &= ~(value & STATUS.ALL);
        break;
      case 2:
        this.settle(this.clock.now());
        regs.enable = ((regs.enable & ~mask) | value) & ENABLE_WRITABLE;
        break;
      case 4:
        this.writeControl((regs.control & ~mask) | value);
        break;
      case 6:
        regs.gpeStatus &= ~value;
        break;
      case 8:
        regs.gpeEnable = (regs.gpeEnable & ~mask) | value;
        break;
    }
    this.update();
  }

  private writeControl(value: number): void {
    const { regs } = this;
    regs.control = (value & CONTROL.WRITABLE) | (regs.control & CONTROL.SCI_ENABLE);
    if ((value & CONTROL.SLEEP_ENABLE) === 0) return;
    if (((value >> 10) & 7) === Pm.S5) this.power.powerOff('the guest entered ACPI S5');
    else regs.status |= STATUS.WAKE;
  }

  private writeSmi(offset: number, value: number): void {
    const { regs } = this;
    if (offset === 1) {
      regs.smiStatus = value;
      return;
    }
    regs.smiCommand = value;
    if (value === Pm.ENABLE) regs.control |= CONTROL.SCI_ENABLE;
    if (value === Pm.DISABLE) regs.control &= ~CONTROL.SCI_ENABLE;
    this.update();
  }

  private halves(now: number): number {
    return Math.floor(ticksAt(now, PM_TIMER_HZ) / HALF);
  }

  /** Sets the timer's status when its highest bit has changed. */
  private settle(now: number): void {
    const { regs } = this;
    const halves = this.halves(now);
    if (halves === regs.timerHalf) return;
    regs.timerHalf = halves;
    regs.status |= STATUS.TIMER;
  }

  /** Sets the SCI by status and enable, and finds when the timer must be looked at. */
  private update(): void {
    const { regs } = this;
    const fixed = (regs.status & regs.enable) !== 0;
    const general = (regs.gpeStatus & regs.gpeEnable) !== 0;
    this.sci.set(this.sciEnabled && (fixed || general));
    const waits = (regs.enable & STATUS.TIMER) !== 0 && (regs.status & STATUS.TIMER) === 0;
    regs.deadline = waits ? nsOfTick((regs.timerHalf + 1) * HALF, PM_TIMER_HZ) : NEVER;
  }
}
