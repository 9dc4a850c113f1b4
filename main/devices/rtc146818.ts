/**
 * Motorola MC146818A Real-Time Clock plus RAM data sheet (ADI1026), with the second bank of CMOS RAM of the
 * 82371SB (4.6) at ports 72h/73h, the century at 32h and memory sizes where firmware leaves them.
 *
 * Time advances when somebody looks: whole seconds since the last look are added to the time registers, and the
 * flags of register C follow. With divider chain and clock in step, an update ends every whole second.
 */
import type { BusDevice, Clock, Device, IrqLine, Timed } from './device.ts';
import type { PortBus } from './bus.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';
import { NEVER, nsOfTick, ticksAt } from './ticks.ts';

export interface RtcOptions {
  /** The time at power-on, in seconds since 1970; what the guest takes it for (UTC, as a rule) is its business. */
  unixSeconds: number;
  /** Bytes of RAM below 4 GiB, counted from address 0, and from 4 GiB on. */
  ramBelow4G: number;
  ramAbove4G: number;
}

const REG = {
  SECONDS: 0x00,
  SECONDS_ALARM: 0x01,
  MINUTES: 0x02,
  MINUTES_ALARM: 0x03,
  HOURS: 0x04,
  HOURS_ALARM: 0x05,
  WEEKDAY: 0x06,
  DAY: 0x07,
  MONTH: 0x08,
  YEAR: 0x09,
  A: 0x0a,
  B: 0x0b,
  C: 0x0c,
  D: 0x0d,
  EQUIPMENT: 0x14,
  BASE_MEMORY: 0x15,
  EXTENDED_MEMORY: 0x17,
  EXTENDED_MEMORY_FOUND: 0x30,
  CENTURY: 0x32,
  MEMORY_ABOVE_16M: 0x34,
  BOOT_DEVICE: 0x3d,
  MEMORY_ABOVE_4G: 0x5b,
} as const;

function layout(options: RtcOptions) {
  return {
    index: { type: 'u8', about: '70h: the register that 71h shows' },
    extendedIndex: { type: 'u8', about: '72h: the byte of the second bank that 73h shows' },
    nmiMasked: { type: 'u8', about: '70h bit 7: NMI is masked' },
    cmos: {
      type: 'u8',
      count: 256,
      reset: initialCmos(options),
      about: 'time, registers A-D, RAM; second bank',
    },
    updated: { type: 'f64', about: 'when the last update ended, in ns' },
    periods: { type: 'f64', about: 'periodic interrupts counted since power-on, at the rate of register A' },
    deadline: { type: 'f64', reset: NEVER, about: 'when the next interrupt is due, in ns' },
  } as const satisfies Layout;
}

/** UIP; divider chain bits 4-6, 11x holds it in reset; rate bits 0-3. */
const A = { UIP: 0x80, DIVIDER: 0x70, HELD: 0x60, RATE: 0x0f } as const;
const B = { SET: 0x80, UIE: 0x10, ENABLES: 0x70, BINARY: 0x04, HOURS_24: 0x02 } as const;
/** The enables of register B have the same places. */
const C = { IRQF: 0x80, PF: 0x40, AF: 0x20, UF: 0x10 } as const;
const HZ = 32768;
const SECOND = 1e9;
const DAY = 86400;
/** UIP is seen 244 us before an update begins and while it lasts, 1984 us with a 32768 Hz crystal, in ns. */
const UPDATE = 244_000 + 1_984_000;

function toBcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}

/** What firmware leaves: BCD, 24 hours, 1024 Hz, battery good, the memory's size in several units. */
function initialCmos({ unixSeconds, ramBelow4G, ramAbove4G }: RtcOptions): number[] {
  const cmos = new Array<number>(256).fill(0);
  const put16 = (at: number, value: number): void => {
    const capped = Math.max(0, Math.min(0xffff, Math.floor(value)));
    cmos[at] = capped & 0xff;
    cmos[at + 1] = capped >> 8;
  };
  const time = new Date(unixSeconds * 1000);
  cmos[REG.SECONDS] = toBcd(time.getUTCSeconds());
  cmos[REG.MINUTES] = toBcd(time.getUTCMinutes());
  cmos[REG.HOURS] = toBcd(time.getUTCHours());
  cmos[REG.WEEKDAY] = time.getUTCDay() + 1;
  cmos[REG.DAY] = toBcd(time.getUTCDate());
  cmos[REG.MONTH] = toBcd(time.getUTCMonth() + 1);
  cmos[REG.YEAR] = toBcd(time.getUTCFullYear() % 100);
  cmos[REG.CENTURY] = toBcd(Math.floor(time.getUTCFullYear() / 100));
  cmos[REG.A] = 0x26;
  cmos[REG.B] = B.HOURS_24;
  cmos[REG.D] = 0x80;
  // Coprocessor and PS/2 mouse present.
  cmos[REG.EQUIPMENT] = 0x06;
  cmos[REG.BOOT_DEVICE] = 0x02;
  put16(REG.BASE_MEMORY, 640);
  put16(REG.EXTENDED_MEMORY, ramBelow4G / 1024 - 1024);
  put16(REG.EXTENDED_MEMORY_FOUND, ramBelow4G / 1024 - 1024);
  put16(REG.MEMORY_ABOVE_16M, ramBelow4G / 65536 - 256);
  const above = Math.floor(ramAbove4G / 65536);
  put16(REG.MEMORY_ABOVE_4G, above & 0xffff);
  cmos[REG.MEMORY_ABOVE_4G + 2] = (above >> 16) & 0xff;
  return cmos;
}

export class Rtc146818 implements Device, Timed {
  readonly name = 'rtc';
  private readonly regs: Registers<ReturnType<typeof layout>>;
  private readonly cmos: Uint8Array;
  private readonly clock: Clock;
  private readonly irq8: IrqLine;

  constructor(arena: RegisterArena, clock: Clock, irq8: IrqLine, options: RtcOptions) {
    this.regs = arena.allocate(layout(options));
    this.cmos = this.regs.cmos;
    this.clock = clock;
    this.irq8 = irq8;
  }

  attach(ports: PortBus): void {
    const { regs } = this;
    const bank: BusDevice = {
      read: (offset) => (offset === 0 ? 0xff : this.readRegister(regs.index)),
      write: (offset, _size, value) => {
        if (offset !== 0) return this.writeRegister(regs.index, value);
        regs.index = value & 0x7f;
        regs.nmiMasked = value >> 7;
      },
    };
    ports.register(0x70, 2, bank, 'rtc', { width: 1 });
    const extended: BusDevice = {
      read: (offset) => (offset === 0 ? 0xff : this.cmos[0x80 | regs.extendedIndex]),
      write: (offset, _size, value) => {
        if (offset === 0) regs.extendedIndex = value & 0x7f;
        else this.cmos[0x80 | regs.extendedIndex] = value;
      },
    };
    ports.register(0x72, 2, extended, 'rtc extended', { width: 1 });
  }

  /** Whether port 70h bit 7 holds back NMIs. */
  get nmiMasked(): boolean {
    return this.regs.nmiMasked !== 0;
  }

  nextDeadline(): number {
    return this.regs.deadline === NEVER ? Infinity : this.regs.deadline;
  }

  tick(now: number): void {
    if (now < this.regs.deadline) return;
    this.settle(now);
    this.interrupt(now);
  }

  /** RESET clears the interrupt enables and flags; time and RAM live on the battery. */
  reset(): void {
    const { regs, cmos } = this;
    this.settle(this.clock.now());
    cmos[REG.B] &= ~(B.ENABLES | 0x08);
    cmos[REG.C] = 0;
    regs.index = 0;
    regs.extendedIndex = 0;
    regs.nmiMasked = 0;
    regs.deadline = NEVER;
    this.irq8.set(false);
  }

  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
  }

  private readRegister(index: number): number {
    const { cmos } = this;
    if (index > REG.D && index !== REG.CENTURY) return cmos[index];
    const now = this.clock.now();
    this.settle(now);
    if (index === REG.A) {
      const left = this.regs.updated + SECOND - now;
      return cmos[REG.A] | (this.running && left <= UPDATE ? A.UIP : 0);
    }
    const value = cmos[index];
    if (index === REG.C) {
      // Reading acknowledges: all flags go and the line falls.
      cmos[REG.C] = 0;
      this.interrupt(now);
    }
    return value;
  }

  private writeRegister(index: number, value: number): void {
    const { cmos, regs } = this;
    if (index > REG.D && index !== REG.CENTURY) {
      cmos[index] = value;
      return;
    }
    const now = this.clock.now();
    this.settle(now);
    switch (index) {
      case REG.A:
        // The first update comes half a second after the divider chain is let go.
        if (this.held && (value & A.HELD) !== A.HELD) regs.updated = now - SECOND / 2;
        cmos[REG.A] = value & ~A.UIP;
        regs.periods = this.periodsAt(now);
        break;
      case REG.B:
        cmos[REG.B] = (value & B.SET) !== 0 ? value & ~B.UIE : value;
        break;
      case REG.C:
      case REG.D:
        break;
      default:
        cmos[index] = value;
    }
    this.interrupt(now);
  }

  private get held(): boolean {
    return (this.cmos[REG.A] & A.HELD) === A.HELD;
  }

  /** Whether updates happen. */
  private get running(): boolean {
    return !this.held && (this.cmos[REG.B] & B.SET) === 0;
  }

  /** Adds the seconds that have passed and sets the flags of what happened. */
  private settle(now: number): void {
    const { cmos, regs } = this;
    const periods = this.periodsAt(now);
    if (periods > regs.periods) {
      regs.periods = periods;
      cmos[REG.C] |= C.PF;
    }
    if (this.held) {
      regs.updated = now;
      return;
    }
    const seconds = Math.floor((now - regs.updated) / SECOND);
    if (seconds < 1) return;
    regs.updated += seconds * SECOND;
    if (!this.running) return;
    if (this.secondsToAlarm() <= seconds) cmos[REG.C] |= C.AF;
    cmos[REG.C] |= C.UF;
    this.advance(seconds);
  }

  /** Sets IRQ 8 by register C, and finds when it must be looked at again. */
  private interrupt(now: number): void {
    const { cmos, regs } = this;
    const enables = cmos[REG.B] & B.ENABLES;
    const asks = (cmos[REG.C] & enables) !== 0;
    if (asks) cmos[REG.C] |= C.IRQF;
    else cmos[REG.C] &= ~C.IRQF;
    this.irq8.set(asks);

    let deadline = NEVER;
    if (!asks && enables !== 0) {
      const period = this.periodTicks();
      if ((enables & C.PF) !== 0 && period !== 0) {
        deadline = nsOfTick((this.periodsAt(now) + 1) * period, HZ);
      }
      if (this.running && (enables & C.UF) !== 0) deadline = Math.min(deadline, regs.updated + SECOND);
      if (this.running && (enables & C.AF) !== 0) {
        deadline = Math.min(deadline, regs.updated + this.secondsToAlarm() * SECOND);
      }
    }
    regs.deadline = deadline;
  }

  /** Crystal ticks between two periodic interrupts; 0: none. */
  private periodTicks(): number {
    const rate = this.cmos[REG.A] & A.RATE;
    if (rate === 0) return 0;
    return rate < 3 ? 64 << rate : 1 << (rate - 1);
  }

  private periodsAt(now: number): number {
    const period = this.periodTicks();
    return period === 0 ? 0 : Math.floor(ticksAt(now, HZ) / period);
  }

  private toBinary(value: number): number {
    return (this.cmos[REG.B] & B.BINARY) !== 0 ? value : (value >> 4) * 10 + (value & 15);
  }

  private fromBinary(value: number): number {
    return (this.cmos[REG.B] & B.BINARY) !== 0 ? value : toBcd(value);
  }

  /** 0-23 for any way to write an hour. */
  private hourToBinary(value: number): number {
    if ((this.cmos[REG.B] & B.HOURS_24) !== 0) return this.toBinary(value);
    return (this.toBinary(value & 0x7f) % 12) + (value >= 0x80 ? 12 : 0);
  }

  private hourFromBinary(hour: number): number {
    if ((this.cmos[REG.B] & B.HOURS_24) !== 0) return this.fromBinary(hour);
    return this.fromBinary(hour % 12 || 12) | (hour >= 12 ? 0x80 : 0);
  }

  private secondOfDay(): number {
    const { cmos } = this;
    const hour = this.hourToBinary(cmos[REG.HOURS]);
    return hour * 3600 + this.toBinary(cmos[REG.MINUTES]) * 60 + this.toBinary(cmos[REG.SECONDS]);
  }

  /** Adds seconds to the time registers. What the guest wrote and no calendar has (month 0) counts over. */
  private advance(seconds: number): void {
    const { cmos } = this;
    const year = this.toBinary(cmos[REG.CENTURY]) * 100 + this.toBinary(cmos[REG.YEAR]);
    const midnight = new Date(0);
    midnight.setUTCFullYear(year, this.toBinary(cmos[REG.MONTH]) - 1, this.toBinary(cmos[REG.DAY]));
    const total = this.secondOfDay() + seconds;
    const time = new Date(midnight.getTime() + total * 1000);
    cmos[REG.SECONDS] = this.fromBinary(time.getUTCSeconds());
    cmos[REG.MINUTES] = this.fromBinary(time.getUTCMinutes());
    cmos[REG.HOURS] = this.hourFromBinary(time.getUTCHours());
    if (total < DAY) return;
    const weekday = (cmos[REG.WEEKDAY] & 0x0f) + 6 + Math.floor(total / DAY);
    cmos[REG.WEEKDAY] = (weekday % 7) + 1;
    cmos[REG.DAY] = this.fromBinary(time.getUTCDate());
    cmos[REG.MONTH] = this.fromBinary(time.getUTCMonth() + 1);
    cmos[REG.YEAR] = this.fromBinary(time.getUTCFullYear() % 100);
    cmos[REG.CENTURY] = this.fromBinary(Math.floor(time.getUTCFullYear() / 100) % 100);
  }

  /** Seconds from now to the next alarm, 1 to 86400; Infinity when the alarm registers hold no time of day. */
  private secondsToAlarm(): number {
    const { cmos } = this;
    const now = this.secondOfDay() % DAY;
    const hour = alarmField(cmos[REG.HOURS_ALARM], this.hourToBinary(cmos[REG.HOURS_ALARM]), 24);
    const minute = alarmField(cmos[REG.MINUTES_ALARM], this.toBinary(cmos[REG.MINUTES_ALARM]), 60);
    const second = alarmField(cmos[REG.SECONDS_ALARM], this.toBinary(cmos[REG.SECONDS_ALARM]), 60);
    const next = nextMatch(now + 1, hour, minute, second);
    if (next >= 0) return next - now;
    const tomorrow = nextMatch(0, hour, minute, second);
    return tomorrow < 0 ? Infinity : tomorrow + DAY - now;
  }
}

/** An alarm register: -1 for "any" (bits 6 and 7 set), NaN when it never matches. */
function alarmField(raw: number, value: number, limit: number): number {
  if (raw >= 0xc0) return -1;
  return value < limit ? value : NaN;
}

/** The first second of the day from `from` on that an alarm matches, or -1. */
function nextMatch(from: number, hour: number, minute: number, second: number): number {
  if (Number.isNaN(hour + minute + second)) return -1;
  for (let h = hour < 0 ? Math.floor(from / 3600) : hour; h < 24; h++) {
    const inHour = Math.max(0, from - h * 3600);
    for (let m = minute < 0 ? Math.floor(inHour / 60) : minute; m < 60; m++) {
      const inMinute = Math.max(0, from - h * 3600 - m * 60);
      const s = second < 0 ? inMinute : second;
      if (s >= inMinute && s < 60) return h * 3600 + m * 60 + s;
      if (minute >= 0) break;
    }
    if (hour >= 0) break;
  }
  return -1;
}
