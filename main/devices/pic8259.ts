/**
 * Intel 8259A Programmable Interrupt Controller data sheet (order 231468), the pair of a PC: the master at
 * 20h with the slave at A0h on its input 2, and the edge/level registers 4D0h/4D1h (82371SB data sheet, 4.2).
 *
 * Choices that the data sheet leaves open: an edge is remembered although its line falls again (devices here
 * pulse), LTIM of ICW1 is ignored since the ELCR decides (as in the 82371SB), and the cascade input follows
 * the slave's INT as a level, so no request of the slave is lost between two acknowledge cycles.
 */
import type { BusDevice, Device, IrqLine } from './device.ts';
import type { PortBus } from './bus.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

/** Firmware leaves the SCI (9) and the PCI interrupts (10, 11) level-triggered. */
const ELCR_FIRMWARE = [0x00, 0x0e] as const;

/** Index 0 is the master, 1 the slave. Reset leaves them as firmware does: vectors 08h and 70h, all masked. */
const PIC = {
  irr: { type: 'u8', count: 2, about: 'interrupt requests' },
  isr: { type: 'u8', count: 2, about: 'interrupts in service' },
  imr: { type: 'u8', count: 2, reset: 0xff, about: 'OCW1: masked inputs' },
  icw1: { type: 'u8', count: 2, reset: 0x11, about: 'ICW1 as written' },
  icw2: { type: 'u8', count: 2, reset: [0x08, 0x70], about: 'ICW2: vector of input 0' },
  icw3: { type: 'u8', count: 2, reset: [0x04, 0x02], about: 'ICW3: cascade inputs, or the slave number' },
  icw4: { type: 'u8', count: 2, reset: 0x01, about: 'ICW4: bit 1 automatic EOI, bit 4 special fully nested' },
  step: { type: 'u8', count: 2, about: 'the ICW that the data port waits for (2-4); 0: initialised' },
  lowest: { type: 'u8', count: 2, reset: 7, about: 'the input of lowest priority' },
  autoRotate: { type: 'u8', count: 2, about: 'rotate at automatic EOI' },
  specialMask: { type: 'u8', count: 2, about: 'OCW3: special mask mode' },
  readIsr: { type: 'u8', count: 2, about: 'OCW3: the command port reads ISR, not IRR' },
  poll: { type: 'u8', count: 2, about: 'OCW3: the next read is a poll' },
  input: { type: 'u8', count: 2, about: 'levels of the inputs' },
  elcr: { type: 'u8', count: 2, reset: ELCR_FIRMWARE, about: 'level-triggered inputs' },
  output: { type: 'u8', about: "the master's INT" },
} as const satisfies Layout;

const MASTER = 0;
const SLAVE = 1;
const CASCADE = 2;
/** Inputs that are always edge-triggered: 0, 1, 2 and 8, 13. */
const ELCR_WRITABLE = [0xf8, 0xde] as const;

const ICW1 = { IC4: 0x01, SNGL: 0x02, INIT: 0x10 } as const;
const ICW4 = { AEOI: 0x02, SFNM: 0x10 } as const;
const OCW3 = { RIS: 0x01, RR: 0x02, POLL: 0x04, SELECT: 0x08, SMM: 0x20, ESMM: 0x40 } as const;

export class Pic8259 implements Device {
  readonly name = 'pic';
  private readonly regs: Registers<typeof PIC>;
  private readonly int: IrqLine;

  /** @param int the master's INT pin: told of every change. */
  constructor(arena: RegisterArena, int: IrqLine) {
    this.regs = arena.allocate(PIC);
    this.int = int;
  }

  attach(ports: PortBus): void {
    ports.register(0x20, 2, this.chipPorts(MASTER), 'pic master', { width: 1 });
    ports.register(0xa0, 2, this.chipPorts(SLAVE), 'pic slave', { width: 1 });
    const elcr: BusDevice = {
      read: (chip) => this.regs.elcr[chip],
      write: (chip, _size, value) => {
        this.regs.elcr[chip] = value & ELCR_WRITABLE[chip];
        this.update();
      },
    };
    ports.register(0x4d0, 2, elcr, 'pic elcr', { width: 1 });
  }

  /** True while the pair asks for an interrupt. */
  get output(): boolean {
    return this.regs.output !== 0;
  }

  /** The line of an ISA interrupt, 0-15. Input 2 is the cascade: what is said there goes nowhere. */
  line(irq: number): IrqLine {
    const chip = irq >> 3;
    const bit = 1 << (irq & 7);
    if (irq === CASCADE) return { set: () => undefined };
    return { set: (level) => this.setInput(chip, bit, level) };
  }

  /** The acknowledge cycles of a processor: returns the vector. Without a request it is the spurious one, 7 or 15. */
  acknowledge(): number {
    const { regs } = this;
    let vector: number;
    const request = this.request(MASTER);
    if (request < 0) {
      vector = regs.icw2[MASTER] + 7;
    } else if (request === CASCADE && (regs.icw1[MASTER] & ICW1.SNGL) === 0) {
      const behind = this.request(SLAVE);
      vector = regs.icw2[SLAVE] + (behind < 0 ? 7 : behind);
      if (behind >= 0) this.serve(SLAVE, behind);
      this.serve(MASTER, CASCADE);
    } else {
      vector = regs.icw2[MASTER] + request;
      this.serve(MASTER, request);
    }
    this.update();
    return vector;
  }

  reset(): void {
    const { input } = this.regs;
    const [master, slave] = input;
    this.regs.resetAll();
    // The lines belong to the devices behind them, which say themselves when they fall.
    input[MASTER] = master;
    input[SLAVE] = slave;
    this.int.set(false);
  }

  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
  }

  private setInput(chip: number, bit: number, level: boolean): void {
    const { regs } = this;
    const was = (regs.input[chip] & bit) !== 0;
    if (was === level) return;
    if (level) {
      regs.input[chip] |= bit;
      regs.irr[chip] |= bit;
    } else {
      regs.input[chip] &= ~bit;
    }
    this.update();
  }

  private chipPorts(chip: number): BusDevice {
    return {
      read: (offset) => this.readChip(chip, offset),
      write: (offset, _size, value) => {
        if (offset === 1) this.writeData(chip, value);
        else if ((value & ICW1.INIT) !== 0) this.initialise(chip, value);
        else if ((value & OCW3.SELECT) !== 0) this.writeOcw3(chip, value);
        else this.writeOcw2(chip, value);
        this.update();
      },
    };
  }

  private readChip(chip: number, offset: number): number {
    const { regs } = this;
    if (regs.poll[chip] !== 0) {
      regs.poll[chip] = 0;
      const request = this.request(chip);
      if (request < 0) return 0x07;
      this.serve(chip, request);
      this.update();
      return 0x80 | request;
    }
    if (offset === 1) return regs.imr[chip];
    return regs.readIsr[chip] !== 0 ? regs.isr[chip] : regs.irr[chip];
  }

  private initialise(chip: number, value: number): void {
    const { regs } = this;
    regs.icw1[chip] = value;
    regs.icw4[chip] = 0;
    regs.step[chip] = 2;
    regs.imr[chip] = 0;
    regs.isr[chip] = 0;
    regs.irr[chip] &= regs.elcr[chip];
    regs.lowest[chip] = 7;
    regs.autoRotate[chip] = 0;
    regs.specialMask[chip] = 0;
    regs.readIsr[chip] = 0;
    regs.poll[chip] = 0;
  }

  private writeData(chip: number, value: number): void {
    const { regs } = this;
    const icw1 = regs.icw1[chip];
    const afterIcw3 = (icw1 & ICW1.IC4) !== 0 ? 4 : 0;
    switch (regs.step[chip]) {
      case 2:
        regs.icw2[chip] = value & 0xf8;
        regs.step[chip] = (icw1 & ICW1.SNGL) === 0 ? 3 : afterIcw3;
        break;
      case 3:
        regs.icw3[chip] = value;
        regs.step[chip] = afterIcw3;
        break;
      case 4:
        regs.icw4[chip] = value;
        regs.step[chip] = 0;
        break;
      default:
        regs.imr[chip] = value;
    }
  }

  /** End of interrupt and priority rotation: R, SL and EOI are bits 7, 6 and 5. */
  private writeOcw2(chip: number, value: number): void {
    const { regs } = this;
    const rotate = (value & 0x80) !== 0;
    const level = value & 7;
    switch (value >> 5) {
      case 0b000:
      case 0b100:
        regs.autoRotate[chip] = rotate ? 1 : 0;
        break;
      case 0b001:
      case 0b101: {
        const served = this.highest(chip, this.blocking(chip));
        if (served >= 0) this.endOf(chip, served, rotate);
        break;
      }
      case 0b011:
      case 0b111:
        this.endOf(chip, level, rotate);
        break;
      case 0b110:
        regs.lowest[chip] = level;
        break;
    }
  }

  private writeOcw3(chip: number, value: number): void {
    const { regs } = this;
    if ((value & OCW3.POLL) !== 0) regs.poll[chip] = 1;
    if ((value & OCW3.RR) !== 0) regs.readIsr[chip] = value & OCW3.RIS;
    if ((value & OCW3.ESMM) !== 0) regs.specialMask[chip] = (value & OCW3.SMM) !== 0 ? 1 : 0;
  }

  private endOf(chip: number, level: number, rotate: boolean): void {
    this.regs.isr[chip] &= ~(1 << level);
    if (rotate) this.regs.lowest[chip] = level;
  }

  /** Takes a request into service. */
  private serve(chip: number, level: number): void {
    const { regs } = this;
    const bit = 1 << level;
    if ((regs.elcr[chip] & bit) === 0) regs.irr[chip] &= ~bit;
    if ((regs.icw4[chip] & ICW4.AEOI) === 0) regs.isr[chip] |= bit;
    else if (regs.autoRotate[chip] !== 0) regs.lowest[chip] = level;
  }

  /** Of the inputs in `bits` the one with the highest priority, or -1. */
  private highest(chip: number, bits: number): number {
    if (bits === 0) return -1;
    let level = this.regs.lowest[chip];
    do level = (level + 1) & 7;
    while ((bits & (1 << level)) === 0);
    return level;
  }

  /** What is in service and keeps lower priorities out. */
  private blocking(chip: number): number {
    const { regs } = this;
    return regs.specialMask[chip] !== 0 ? regs.isr[chip] & ~regs.imr[chip] : regs.isr[chip];
  }

  /** The input that a chip would serve next, or -1: the highest request, when above all that is in service. */
  private request(chip: number): number {
    const { regs } = this;
    const requested = this.highest(chip, regs.irr[chip] & ~regs.imr[chip]);
    if (requested < 0 || regs.step[chip] !== 0) return -1;
    let blocking = this.blocking(chip);
    // Special fully nested mode: the slave may interrupt its own handler through the master.
    if (chip === MASTER && (regs.icw4[MASTER] & ICW4.SFNM) !== 0) blocking &= ~(1 << CASCADE);
    const served = this.highest(chip, blocking);
    if (served < 0) return requested;
    const base = regs.lowest[chip] + 1;
    return ((requested - base) & 7) < ((served - base) & 7) ? requested : -1;
  }

  /** Brings the level-triggered requests, the cascade and INT up to date. */
  private update(): void {
    const { regs } = this;
    for (let chip = MASTER; chip <= SLAVE; chip++) {
      const level = regs.elcr[chip];
      regs.irr[chip] = (regs.irr[chip] & ~level) | (regs.input[chip] & level);
    }
    if (this.request(SLAVE) >= 0) regs.irr[MASTER] |= 1 << CASCADE;
    else regs.irr[MASTER] &= ~(1 << CASCADE);

    const output = this.request(MASTER) >= 0 ? 1 : 0;
    if (output === regs.output) return;
    regs.output = output;
    this.int.set(output !== 0);
  }
}
