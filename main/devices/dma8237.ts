/**
 * Intel 8237A High Performance Programmable DMA Controller data sheet (order 231466), the pair of a PC (0-7 and
 * 8-Fh, C0-DFh) with the page registers at 80h-8Fh (82371SB data sheet, 4.1).
 *
 * No device here asks for ISA DMA, so nothing is ever transferred: guests set the registers up, probe them, and
 * read back what they wrote. Page register 80h belongs to no channel: it takes POST codes.
 */
import type { PortBus } from './bus.ts';
import type { BusDevice, Device } from './device.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

/** Index: the controller (0: channels 0-3, 1: channels 4-7), or the channel. */
const DMA = {
  address: { type: 'u16', count: 8, about: 'base address of each channel' },
  length: { type: 'u16', count: 8, about: 'base word count' },
  mode: { type: 'u8', count: 8, about: 'mode' },
  flipFlop: { type: 'u8', count: 2, about: 'the next byte is the high one' },
  command: { type: 'u8', count: 2, about: 'command' },
  request: { type: 'u8', count: 2, about: 'software requests' },
  mask: { type: 'u8', count: 2, reset: 0x0f, about: 'masked channels' },
  page: { type: 'u8', count: 16, about: '80h-8Fh: address bits 16-23 of the channels, POST code, scratch' },
} as const satisfies Layout;

export class Dma8237 implements Device {
  readonly name = 'dma';
  private readonly regs: Registers<typeof DMA>;

  constructor(arena: RegisterArena) {
    this.regs = arena.allocate(DMA);
  }

  attach(ports: PortBus): void {
    const pages: BusDevice = {
      read: (offset) => this.regs.page[offset],
      write: (offset, _size, value) => {
        this.regs.page[offset] = value;
      },
      // POST codes, and what kernels write there to pass the time.
      patience: (offset) => (offset === 0 ? Infinity : 0),
    };
    ports.register(0x00, 16, this.controller(0, 0), 'dma 0-3', { width: 1 });
    ports.register(0x80, 16, pages, 'dma pages', { width: 1 });
    // The second controller's registers are two ports apart.
    ports.register(0xc0, 32, this.controller(1, 1), 'dma 4-7', { width: 1 });
  }

  /** What was last written to port 80h. */
  get postCode(): number {
    return this.regs.page[0];
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

  private controller(index: number, shift: number): BusDevice {
    return {
      read: (offset) => this.readRegister(index, offset >> shift),
      write: (offset, _size, value) => this.writeRegister(index, offset >> shift, value),
    };
  }

  /** Address or count of a channel: even registers are addresses. */
  private words(offset: number): Uint16Array {
    return (offset & 1) === 0 ? this.regs.address : this.regs.length;
  }

  private readRegister(index: number, offset: number): number {
    const { regs } = this;
    if (offset < 8) {
      const value = this.words(offset)[4 * index + (offset >> 1)];
      regs.flipFlop[index] ^= 1;
      return regs.flipFlop[index] !== 0 ? value & 0xff : value >> 8;
    }
    // 8: status: requests in the high half, no terminal counts. 15: masks, as later chips show them.
    if (offset === 8) return regs.request[index] << 4;
    if (offset === 15) return regs.mask[index] | 0xf0;
    return 0;
  }

  private writeRegister(index: number, offset: number, value: number): void {
    const { regs } = this;
    const bit = 1 << (value & 3);
    if (offset < 8) {
      const words = this.words(offset);
      const channel = 4 * index + (offset >> 1);
      if (regs.flipFlop[index] === 0) words[channel] = (words[channel] & 0xff00) | value;
      else words[channel] = (words[channel] & 0x00ff) | (value << 8);
      regs.flipFlop[index] ^= 1;
      return;
    }
    switch (offset) {
      case 8:
        regs.command[index] = value;
        break;
      case 9:
        regs.request[index] = (value & 4) !== 0 ? regs.request[index] | bit : regs.request[index] & ~bit;
        break;
      case 10:
        regs.mask[index] = (value & 4) !== 0 ? regs.mask[index] | bit : regs.mask[index] & ~bit;
        break;
      case 11:
        regs.mode[4 * index + (value & 3)] = value & 0xfc;
        break;
      case 12:
        regs.flipFlop[index] = 0;
        break;
      case 13:
        // Master clear.
        regs.command[index] = 0;
        regs.request[index] = 0;
        regs.flipFlop[index] = 0;
        regs.mask[index] = 0x0f;
        break;
      case 14:
        regs.mask[index] = 0;
        break;
      case 15:
        regs.mask[index] = value & 0x0f;
        break;
    }
  }
}
