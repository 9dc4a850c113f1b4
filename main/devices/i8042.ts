/**
 * Intel 8042 as PS/2 keyboard controller: IBM PS/2 Hardware Interface Technical Reference (S68X-2330), Keyboard
 * and Auxiliary Device Controller. Ports 60h and 64h, IRQ 1 and IRQ 12.
 *
 * A byte takes no time to arrive: as soon as the output buffer is read, the next one is in it. The controller's
 * own answers go first and raise no interrupt.
 */
import { dequeue, enqueue, type ByteQueue } from './byte-queue.ts';
import type { PortBus } from './bus.ts';
import type { BusDevice, Device, IrqLine } from './device.ts';
import type { A20Gate } from './port92.ts';
import type { PowerControl } from './power.ts';
import { Ps2Keyboard, toSet1 } from './ps2-keyboard.ts';
import { Ps2Mouse } from './ps2-mouse.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

/** As firmware leaves it: keyboard interrupt, system flag, mouse off, translation. */
const CONFIG_FIRMWARE = 0x65;

const CONTROLLER = {
  output: { type: 'u8', about: '60h read: output buffer' },
  full: { type: 'u8', about: 'the output buffer is full' },
  source: { type: 'u8', about: 'where it comes from: 0 controller, 1 keyboard, 2 mouse' },
  lastWasCommand: { type: 'u8', about: 'status bit 3: the last write went to 64h' },
  command: { type: 'u8', about: 'the command whose data byte comes next; 0: none' },
  ram: { type: 'u8', count: 32, reset: ram(), about: '20h-3Fh: controller RAM; byte 0 is the configuration' },
  outputPort: { type: 'u8', reset: 0xcd, about: 'output port; bits 0 (reset) and 1 (A20) act' },
  breakCode: { type: 'u8', about: 'translation has seen F0: the next code is a release' },
  queue: { type: 'u8', count: 16, about: "the controller's own answers" },
  head: { type: 'u8', about: 'index of the oldest one' },
  count: { type: 'u8', about: 'how many there are' },
} as const satisfies Layout;

function ram(): number[] {
  return [CONFIG_FIRMWARE, ...new Array<number>(31).fill(0)];
}

const CONFIG = {
  IRQ1: 0x01,
  IRQ12: 0x02,
  SYSTEM: 0x04,
  KEYBOARD_OFF: 0x10,
  MOUSE_OFF: 0x20,
  TRANSLATE: 0x40,
};
const STATUS = { FULL: 0x01, SYSTEM: 0x04, COMMAND: 0x08, UNLOCKED: 0x10, MOUSE: 0x20 } as const;
const SOURCE = { CONTROLLER: 0, KEYBOARD: 1, MOUSE: 2 } as const;
const OUTPUT_A20 = 0x02;

export interface I8042Resources {
  irq1: IrqLine;
  irq12: IrqLine;
  a20: A20Gate;
  power: PowerControl;
}

export class I8042 implements Device {
  readonly name = 'i8042';
  readonly keyboard: Ps2Keyboard;
  readonly mouse: Ps2Mouse;
  private readonly regs: Registers<typeof CONTROLLER>;
  private readonly resources: I8042Resources;

  constructor(arena: RegisterArena, resources: I8042Resources) {
    this.regs = arena.allocate(CONTROLLER);
    this.resources = resources;
    this.keyboard = new Ps2Keyboard(arena);
    this.mouse = new Ps2Mouse(arena);
  }

  attach(ports: PortBus): void {
    const data: BusDevice = {
      read: () => this.readData(),
      write: (_offset, _size, value) => this.writeData(value),
    };
    const command: BusDevice = {
      read: () => this.status(),
      write: (_offset, _size, value) => this.writeCommand(value),
    };
    ports.register(0x60, 1, data, 'i8042 data', { width: 1 });
    ports.register(0x64, 1, command, 'i8042 command', { width: 1 });
  }

  /** Presses or releases a key: see Ps2Keyboard.key. */
  key(code: number, down: boolean): boolean {
    const taken = this.keyboard.key(code, down);
    this.fill();
    return taken;
  }

  /** Moves the mouse: see Ps2Mouse.move. */
  move(right: number, down: number, wheel: number, buttons: number): void {
    this.mouse.move(right, down, wheel, buttons);
    this.fill();
  }

  reset(): void {
    this.regs.resetAll();
    this.keyboard.reset();
    this.mouse.reset();
    this.resources.irq1.set(false);
    this.resources.irq12.set(false);
  }

  /** Keyboard and mouse are devices of their own in a snapshot. */
  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
  }

  private get config(): number {
    return this.regs.ram[0];
  }

  private set config(value: number) {
    this.regs.ram[0] = value;
  }

  private status(): number {
    const { regs } = this;
    return (
      STATUS.UNLOCKED |
      (this.config & CONFIG.SYSTEM ? STATUS.SYSTEM : 0) |
      (regs.lastWasCommand !== 0 ? STATUS.COMMAND : 0) |
      (regs.full !== 0 ? STATUS.FULL : 0) |
      (regs.full !== 0 && regs.source === SOURCE.MOUSE ? STATUS.MOUSE : 0)
    );
  }

  private readData(): number {
    const { regs } = this;
    const value = regs.output;
    regs.full = 0;
    this.fill();
    return value;
  }

  /** Moves the next waiting byte into the empty output buffer and sets the interrupt lines. */
  private fill(): void {
    const { regs } = this;
    if (regs.full === 0) {
      this.interrupt();
      let byte = dequeue(regs as ByteQueue);
      let source: number = SOURCE.CONTROLLER;
      if (byte < 0 && (this.config & CONFIG.KEYBOARD_OFF) === 0) {
        byte = this.takeKey();
        source = SOURCE.KEYBOARD;
      }
      if (byte < 0 && (this.config & CONFIG.MOUSE_OFF) === 0) {
        byte = this.mouse.take();
        source = SOURCE.MOUSE;
      }
      if (byte < 0) return;
      this.put(byte, source);
    }
    this.interrupt();
  }

  private put(byte: number, source: number): void {
    const { regs } = this;
    regs.output = byte;
    regs.source = source;
    regs.full = 1;
  }

  /** The next byte of the keyboard, translated to set 1 when the configuration says so. */
  private takeKey(): number {
    const { regs } = this;
    for (;;) {
      const byte = this.keyboard.take();
      if (byte < 0 || (this.config & CONFIG.TRANSLATE) === 0) return byte;
      if (byte === 0xf0) {
        regs.breakCode = 0x80;
        continue;
      }
      const code = toSet1(byte) | regs.breakCode;
      // A prefix stands before F0, which is still to come.
      if (byte !== 0xe0) regs.breakCode = 0;
      return code;
    }
  }

  private interrupt(): void {
    const { regs, config } = this;
    const { irq1, irq12 } = this.resources;
    irq1.set(regs.full !== 0 && regs.source === SOURCE.KEYBOARD && (config & CONFIG.IRQ1) !== 0);
    irq12.set(regs.full !== 0 && regs.source === SOURCE.MOUSE && (config & CONFIG.IRQ12) !== 0);
  }

  private writeCommand(value: number): void {
    const { regs } = this;
    regs.lastWasCommand = 1;
    regs.command = 0;
    if (value >= 0x20 && value < 0x40) this.answer(regs.ram[value - 0x20]);
    else if (value >= 0x60 && value < 0x80) regs.command = value;
    else if (value >= 0xf0) this.pulse(value);
    else this.execute(value);
    this.fill();
  }

  private execute(value: number): void {
    const { regs } = this;
    switch (value) {
      case 0xa4: // is a password set? no
        this.answer(0xf1);
        break;
      case 0xa7:
        this.config |= CONFIG.MOUSE_OFF;
        break;
      case 0xa8:
        this.config &= ~CONFIG.MOUSE_OFF;
        break;
      case 0xa9: // mouse and keyboard interface tests: no error
      case 0xab:
        this.answer(0x00);
        break;
      case 0xaa:
        this.config |= CONFIG.SYSTEM;
        this.answer(0x55);
        break;
      case 0xad:
        this.config |= CONFIG.KEYBOARD_OFF;
        break;
      case 0xae:
        this.config &= ~CONFIG.KEYBOARD_OFF;
        break;
      case 0xc0: // input port: keyboard not locked
        this.answer(0x80);
        break;
      case 0xd0:
        this.answer(this.readOutputPort());
        break;
      case 0xd1: // each of these takes a data byte
      case 0xd2:
      case 0xd3:
      case 0xd4:
        regs.command = value;
        break;
      case 0xdd:
      case 0xdf:
        this.resources.a20.a20 = value === 0xdf;
        break;
      case 0xe0: // test inputs: both clocks high
        this.answer(0x03);
        break;
    }
  }

  private writeData(value: number): void {
    const { regs } = this;
    const { command } = regs;
    regs.lastWasCommand = 0;
    regs.command = 0;
    if (command >= 0x60 && command < 0x80) {
      regs.ram[command - 0x60] = value;
    } else if (command === 0xd1) {
      this.writeOutputPort(value);
    } else if (command === 0xd2 || command === 0xd3) {
      this.put(value, command === 0xd2 ? SOURCE.KEYBOARD : SOURCE.MOUSE);
    } else if (command === 0xd4) {
      this.mouse.receive(value);
    } else {
      // Talking to the keyboard switches its interface on.
      this.config &= ~CONFIG.KEYBOARD_OFF;
      this.keyboard.receive(value);
    }
    this.fill();
  }

  private readOutputPort(): number {
    const a20 = this.resources.a20.a20 ? OUTPUT_A20 : 0;
    return (this.regs.outputPort & ~OUTPUT_A20) | a20;
  }

  private writeOutputPort(value: number): void {
    this.regs.outputPort = value;
    this.resources.a20.a20 = (value & OUTPUT_A20) !== 0;
    if ((value & 1) === 0) this.pullReset('held');
  }

  /** F0h-FFh pulse the output bits 0-3 that are clear in the command low; bit 0 is the reset line. */
  private pulse(value: number): void {
    if ((value & 1) === 0) this.pullReset('pulsed');
  }

  private pullReset(how: string): void {
    this.resources.power.reset(`the guest ${how} the reset line of the keyboard controller (port 64h)`);
  }

  private answer(byte: number): void {
    enqueue(this.regs as ByteQueue, byte);
  }
}
