/** PS/2 keyboard: IBM PS/2 Hardware Interface Technical Reference (S68X-2330), Keyboard; scan code sets 1 and 2. */
import { dequeue, enqueue } from './byte-queue.ts';
import type { Device } from './device.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

const KEYBOARD = {
  queue: { type: 'u8', count: 64, about: 'bytes on their way to the controller' },
  head: { type: 'u8', about: 'index of the oldest one' },
  count: { type: 'u8', about: 'how many there are' },
  command: { type: 'u8', about: 'the command whose parameter comes next; 0: none' },
  scanning: { type: 'u8', reset: 1, about: 'keys are reported' },
  set: { type: 'u8', reset: 2, about: 'scan code set: 1 or 2' },
  leds: { type: 'u8', about: 'scroll lock 0, num lock 1, caps lock 2' },
  rate: { type: 'u8', reset: 0x2b, about: 'typematic rate and delay' },
  last: { type: 'u8', about: 'the last byte sent, for resending' },
} as const satisfies Layout;

const REPLY = { ACK: 0xfa, RESEND: 0xfe, SELF_TEST_PASSED: 0xaa, ECHO: 0xee } as const;
const ID = [0xab, 0x83] as const;

/** Set 1's make codes by set 2's: what keyboard controllers translate to. */
const SET1 = Uint8Array.of(
  ...[0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59],
  ...[0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b],
  ...[0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d],
  ...[0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f],
  ...[0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61],
  ...[0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76],
  ...[0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f],
  ...[0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54],
);

/** A byte of set 2 in set 1. Above 7Fh only F7 (83h) and Alt-SysRq (84h) have another code. */
export function toSet1(code: number): number {
  if (code < 0x80) return SET1[code];
  return code === 0x83 ? 0x41 : code === 0x84 ? 0x54 : code;
}

export class Ps2Keyboard implements Device {
  readonly name = 'keyboard';
  private readonly regs: Registers<typeof KEYBOARD>;

  constructor(arena: RegisterArena) {
    this.regs = arena.allocate(KEYBOARD);
  }

  /** Scroll lock 1, num lock 2, caps lock 4. */
  get leds(): number {
    return this.regs.leds;
  }

  /**
   * A key goes down or up. Returns false, and forgets it, when scanning is off or the queue is full.
   * @param code its make code in set 2; keys with prefix E0 as 0xE000 | code.
   */
  key(code: number, down: boolean): boolean {
    if (this.regs.scanning === 0) return false;
    const make = code & 0xff;
    const prefix = code > 0xff ? [0xe0] : [];
    if (this.regs.set === 1) return enqueue(this.regs, ...prefix, toSet1(make) | (down ? 0 : 0x80));
    return enqueue(this.regs, ...prefix, ...(down ? [make] : [0xf0, make]));
  }

  /** The next byte for the controller, or -1. */
  take(): number {
    const byte = dequeue(this.regs);
    if (byte >= 0 && byte !== REPLY.RESEND) this.regs.last = byte;
    return byte;
  }

  /** A byte from the host. */
  receive(value: number): void {
    const { regs } = this;
    if (regs.command !== 0 && value < 0x80) {
      this.parameter(regs.command, value);
      regs.command = 0;
      return;
    }
    regs.command = 0;
    // A command ends what was on its way.
    if (value !== 0xfe) regs.count = 0;
    switch (value) {
      case 0xed: // LEDs
      case 0xf0: // scan code set
      case 0xf3: // typematic rate
        regs.command = value;
        this.send(REPLY.ACK);
        break;
      case 0xee:
        this.send(REPLY.ECHO);
        break;
      case 0xf2:
        this.send(REPLY.ACK, ...ID);
        break;
      case 0xf4:
        regs.scanning = 1;
        this.send(REPLY.ACK);
        break;
      case 0xf5:
      case 0xf6:
        this.setDefaults();
        regs.scanning = value === 0xf6 ? 1 : 0;
        this.send(REPLY.ACK);
        break;
      case 0xf7: // key types of set 3, which has no meaning in sets 1 and 2
      case 0xf8:
      case 0xf9:
      case 0xfa:
        this.send(REPLY.ACK);
        break;
      case 0xfe:
        this.send(regs.last);
        break;
      case 0xff:
        regs.resetAll();
        this.send(REPLY.ACK, REPLY.SELF_TEST_PASSED);
        break;
      default:
        this.send(REPLY.RESEND);
    }
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

  private parameter(command: number, value: number): void {
    const { regs } = this;
    if (command === 0xed) regs.leds = value & 7;
    if (command === 0xf3) regs.rate = value;
    if (command !== 0xf0) this.send(REPLY.ACK);
    else if (value === 0) this.send(REPLY.ACK, regs.set);
    else if (value > 2) this.send(REPLY.RESEND);
    else {
      regs.set = value;
      this.send(REPLY.ACK);
    }
  }

  private setDefaults(): void {
    const { regs } = this;
    regs.set = 2;
    regs.rate = 0x2b;
    regs.leds = 0;
  }

  private send(...bytes: number[]): void {
    enqueue(this.regs, ...bytes);
  }
}
