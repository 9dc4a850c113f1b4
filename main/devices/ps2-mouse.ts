/** PS/2 mouse: IBM PS/2 Hardware Interface Technical Reference (S68X-2330), Auxiliary Device; IntelliMouse wheel. */
import { dequeue, enqueue } from './byte-queue.ts';
import type { Device } from './device.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

const MOUSE = {
  queue: { type: 'u8', count: 64, about: 'bytes on their way to the controller' },
  head: { type: 'u8', about: 'index of the oldest one' },
  count: { type: 'u8', about: 'how many there are' },
  command: { type: 'u8', about: 'the command whose parameter comes next; 0: none' },
  reporting: { type: 'u8', about: 'movements are reported' },
  remote: { type: 'u8', about: 'only when asked for' },
  wrap: { type: 'u8', about: 'echoes what it is sent' },
  rate: { type: 'u8', reset: 100, about: 'samples a second' },
  resolution: { type: 'u8', reset: 2, about: '2 to the power of it: counts per millimetre' },
  scaling: { type: 'u8', about: '1: 2 to 1' },
  wheel: { type: 'u8', about: 'reports have a fourth byte' },
  knock: { type: 'u8', about: 'steps of the sequence 200, 100, 80 that switches the wheel on' },
  buttons: { type: 'u8', about: 'left 0, right 1, middle 2' },
  x: { type: 'i32', about: 'movement to the right that has not been reported' },
  y: { type: 'i32', about: 'movement up' },
  z: { type: 'i32', about: 'wheel steps towards the user' },
  last: { type: 'u8', about: 'the last byte sent, for resending' },
} as const satisfies Layout;

const REPLY = { ACK: 0xfa, RESEND: 0xfe, SELF_TEST_PASSED: 0xaa } as const;
const KNOCK = [200, 100, 80] as const;
/** No hand moves further between two reports; keeps sums small. */
const FAR = 1 << 20;

function clamp(value: number, limit: number): number {
  return Math.max(-limit, Math.min(limit, value));
}

export class Ps2Mouse implements Device {
  readonly name = 'mouse';
  private readonly regs: Registers<typeof MOUSE>;

  constructor(arena: RegisterArena) {
    this.regs = arena.allocate(MOUSE);
  }

  /** Moves right, down and turns the wheel towards the user; `buttons`: left 1, right 2, middle 4. */
  move(right: number, down: number, wheel: number, buttons: number): void {
    const { regs } = this;
    regs.x = clamp(regs.x + clamp(Math.trunc(right) || 0, FAR), FAR);
    regs.y = clamp(regs.y - clamp(Math.trunc(down) || 0, FAR), FAR);
    regs.z = clamp(regs.z + clamp(Math.trunc(wheel) || 0, FAR), FAR);
    regs.buttons = buttons & 7;
    if (regs.reporting !== 0 && regs.remote === 0) this.report();
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
    if (regs.command !== 0) {
      this.parameter(regs.command, value);
      regs.command = 0;
      return;
    }
    if (regs.wrap !== 0 && value !== 0xec && value !== 0xff) {
      this.send(value);
      return;
    }
    if (value !== 0xfe) regs.count = 0;
    switch (value) {
      case 0xe6:
      case 0xe7:
        regs.scaling = value & 1;
        this.send(REPLY.ACK);
        break;
      case 0xe8: // resolution
      case 0xf3: // sample rate
        regs.command = value;
        this.send(REPLY.ACK);
        break;
      case 0xe9:
        this.send(REPLY.ACK, this.status(), regs.resolution, regs.rate);
        break;
      case 0xea:
      case 0xf0:
        regs.remote = value === 0xf0 ? 1 : 0;
        this.send(REPLY.ACK);
        break;
      case 0xeb:
        this.send(REPLY.ACK);
        this.report();
        break;
      case 0xec:
      case 0xee:
        regs.wrap = value === 0xee ? 1 : 0;
        this.send(REPLY.ACK);
        break;
      case 0xf2:
        this.send(REPLY.ACK, regs.wheel !== 0 ? 3 : 0);
        break;
      case 0xf4:
      case 0xf5:
        regs.reporting = value === 0xf4 ? 1 : 0;
        this.send(REPLY.ACK);
        break;
      case 0xf6:
        this.setDefaults();
        this.send(REPLY.ACK);
        break;
      case 0xfe:
        this.send(regs.last);
        break;
      case 0xff:
        regs.resetAll();
        this.send(REPLY.ACK, REPLY.SELF_TEST_PASSED, 0x00);
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
    if (command === 0xe8) {
      regs.resolution = value & 3;
    } else {
      regs.rate = value;
      if (value === KNOCK[regs.knock]) regs.knock++;
      else regs.knock = value === KNOCK[0] ? 1 : 0;
      if (regs.knock === KNOCK.length) {
        regs.wheel = 1;
        regs.knock = 0;
      }
    }
    this.send(REPLY.ACK);
  }

  private status(): number {
    const { remote, reporting, scaling, buttons } = this.regs;
    const pressed = ((buttons & 1) << 2) | ((buttons & 4) >> 1) | ((buttons & 2) >> 1);
    return (remote << 6) | (reporting << 5) | (scaling << 4) | pressed;
  }

  private setDefaults(): void {
    Object.assign(this.regs, { reporting: 0, remote: 0, wrap: 0, rate: 100, resolution: 2, scaling: 0 });
  }

  /** Queues one report. What a byte can't hold, or a full queue, is left for the next one. */
  private report(): void {
    const { regs } = this;
    const x = clamp(regs.x, 255);
    const y = clamp(regs.y, 255);
    const z = clamp(regs.z, 7);
    const signs = (x < 0 ? 0x10 : 0) | (y < 0 ? 0x20 : 0);
    const bytes = [0x08 | signs | regs.buttons, x & 0xff, y & 0xff];
    if (regs.wheel !== 0) bytes.push(z & 0xff);
    if (!enqueue(regs, ...bytes)) return;
    regs.x -= x;
    regs.y -= y;
    regs.z -= z;
  }

  private send(...bytes: number[]): void {
    enqueue(this.regs, ...bytes);
  }
}
