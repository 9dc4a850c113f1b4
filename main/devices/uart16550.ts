// National Semiconductor PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs (June 1995), as on a PC.
import type { AccessInfo, BusDevice, Clock, Device, IrqLine, Timed } from './device.ts';
import type { RegisterArena, Registers, SavedRegisters } from './registers.ts';
import type { SerialBackend, SerialSource } from './serial-ring.ts';

/** Section 8, in the order of the data sheet's table II; then what the chip has inside. */
const LAYOUT = {
  ier: { type: 'u8', about: 'interrupt enable: 0 received data, 1 THR empty, 2 line status, 3 modem status' },
  fcr: { type: 'u8', about: 'FIFO control: 0 enable, 3 DMA mode, 7:6 receive trigger (1, 4, 8, 14)' },
  lcr: { type: 'u8', about: 'line control: 1:0 word length, 2 stop, 5:3 parity, 6 break, 7 DLAB' },
  mcr: { type: 'u8', about: 'modem control: 0 DTR, 1 RTS, 2 OUT1, 3 OUT2 (gates the IRQ), 4 loop' },
  msr: { type: 'u8', reset: 0xb0, about: 'modem status: 3:0 changes, 4 CTS, 5 DSR, 6 RI, 7 DCD' },
  scr: { type: 'u8', about: 'scratch' },
  dll: { type: 'u8', reset: 1, about: 'divisor latch, low: 1 is 115200 baud' },
  dlm: { type: 'u8', about: 'divisor latch, high' },
  rxData: { type: 'u8', count: 16, about: 'receive FIFO' },
  rxErrors: { type: 'u8', count: 16, about: 'LSR error bits of each byte in the receive FIFO' },
  rxHead: { type: 'u8', about: 'index of the oldest received byte' },
  rxCount: { type: 'u8', about: 'bytes in the receive FIFO' },
  rxTime: { type: 'f64', about: 'when a byte last entered or left the receive FIFO, ns' },
  overrun: { type: 'u8', about: 'LSR bit 1: a byte came while there was no room' },
  timeout: { type: 'u8', about: 'character time-out interrupt is pending' },
  txData: { type: 'u8', count: 16, about: 'transmit FIFO: holds bytes only while the host has no room' },
  txHead: { type: 'u8', about: 'index of the oldest byte to send' },
  txCount: { type: 'u8', about: 'bytes in the transmit FIFO' },
  thre: { type: 'u8', about: 'THR empty interrupt is pending' },
  lines: { type: 'u8', reset: 0xb0, about: 'modem lines from outside, as in MSR 7:4: CTS, DSR and DCD on' },
  irq: { type: 'u8', about: 'level of the IRQ output' },
} as const;

const IER = { RECEIVED: 1, THR_EMPTY: 2, LINE: 4, MODEM: 8 } as const;
const LSR = {
  READY: 0x01,
  OVERRUN: 0x02,
  BREAK: 0x10,
  FRAMING: 0x08,
  EMPTY: 0x60,
  FIFO_ERROR: 0x80,
} as const;
const IIR = { NONE: 1, LINE: 6, RECEIVED: 4, TIMEOUT: 12, THR_EMPTY: 2, MODEM: 0, FIFOS: 0xc0 } as const;
const MCR = { READY: 3, OUT2: 8, LOOP: 0x10 } as const;
const LCR = { BREAK: 0x40, DLAB: 0x80 } as const;
const RING = 0x40;

const FIFO = 16;
const TRIGGER = [1, 4, 8, 14] as const;

/** The crystal of a PC's serial port divided by 16, in Hz: what a divisor of 1 gives. */
const BAUD_BASE = 115_200;

/** Where a UART's bytes and its interrupt go. */
export interface UartHost {
  arena: RegisterArena;
  clock: Clock;
  irq: IrqLine;
  /** The host side of the transmitter. */
  output: SerialBackend;
  /** The host side of the receiver. */
  input?: SerialSource;
}

/**
 * A serial port of eight I/O ports. Transmitting takes no guest time: a byte leaves at once unless the host side
 * is full; then it waits in the FIFO and THRE stays 0 until poll(), tick() or a read of LSR finds room.
 */
export class Uart16550 implements Device, BusDevice, Timed {
  readonly name: string;
  private readonly r: Registers<typeof LAYOUT>;
  private readonly clock: Clock;
  private readonly irq: IrqLine;
  private readonly host: SerialBackend;
  private readonly input: SerialSource | undefined;

  constructor(name: string, { arena, clock, irq, output, input }: UartHost) {
    this.name = name;
    this.r = arena.allocate(LAYOUT);
    this.clock = clock;
    this.irq = irq;
    this.host = output;
    this.input = input;
  }

  reset(): void {
    this.r.resetAll();
    this.irq.set(false);
  }

  save(): SavedRegisters {
    return this.r.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.r.loadAll(saved);
  }

  /** The chip is 8 bits wide: a wider access is so many byte accesses to the ports that follow. */
  read(offset: number, size: number, _info?: AccessInfo): number {
    if (size === 1) return this.readByte(offset & 7);
    let value = 0;
    for (let i = 0; i < size; i++) {
      const byte = offset + i < 8 ? this.readByte(offset + i) : 0xff;
      value |= byte << (8 * i);
    }
    return value >>> 0;
  }

  write(offset: number, size: number, value: number, _info?: AccessInfo): void {
    for (let i = 0; i < size && offset + i < 8; i++) this.writeByte(offset + i, (value >>> (8 * i)) & 0xff);
  }

  /** LSR, while nothing has come in and nothing waits to go out. */
  standing(offset: number): number {
    const r = this.r;
    const idle = r.txCount === 0 && r.rxCount === 0 && r.overrun === 0;
    return offset === 5 && idle && (this.input?.available() ?? 0) === 0 ? LSR.EMPTY : -1;
  }

  /** THR, while no interrupt follows and the host has room. */
  patience(offset: number): number {
    const r = this.r;
    const plain = (r.lcr & LCR.DLAB) === 0 && (r.mcr & MCR.LOOP) === 0 && (r.ier & IER.THR_EMPTY) === 0;
    return offset === 0 && plain && r.txCount === 0 ? this.host.free() : 0;
  }

  /** Moves bytes between the FIFOs and the host. Call it after input came or room for output was made. */
  poll(): void {
    this.listen();
    this.drain();
    this.update();
  }

  nextDeadline(): number {
    const r = this.r;
    const waits = r.rxCount > 0 && r.timeout === 0 && (r.fcr & 1) !== 0 && (r.ier & IER.RECEIVED) !== 0;
    return waits && r.rxCount < this.trigger() ? r.rxTime + this.timeoutNs() : Infinity;
  }

  tick(now: number): void {
    this.listen();
    this.drain();
    if (this.nextDeadline() <= now) this.r.timeout = 1;
    this.update();
  }

  /** Puts bytes into the receive FIFO and returns how many fitted. */
  receive(bytes: Uint8Array): number {
    let count = 0;
    const room = this.capacity() - this.r.rxCount;
    while (count < bytes.length && count < room) this.accept(bytes[count++], 0);
    this.update();
    return count;
  }

  /** The line was held in the break condition for longer than a character. */
  receiveBreak(): void {
    if ((this.r.mcr & MCR.LOOP) === 0) this.accept(0, LSR.BREAK | LSR.FRAMING);
    this.update();
  }

  /** Sets the modem lines from outside: CTS 0x10, DSR 0x20, RI 0x40, DCD 0x80. */
  setModemLines(lines: number): void {
    this.r.lines = lines & 0xf0;
    this.updateModem();
    this.update();
  }

  private readByte(register: number): number {
    const r = this.r;
    switch (register) {
      case 0:
        return (r.lcr & LCR.DLAB) !== 0 ? r.dll : this.readReceived();
      case 1:
        return (r.lcr & LCR.DLAB) !== 0 ? r.dlm : r.ier;
      case 2:
        return this.readInterrupt();
      case 3:
        return r.lcr;
      case 4:
        return r.mcr;
      case 5:
        return this.readLineStatus();
      case 6: {
        const value = r.msr;
        r.msr = value & 0xf0;
        this.update();
        return value;
      }
      default:
        return r.scr;
    }
  }

  private writeByte(register: number, value: number): void {
    const r = this.r;
    switch (register) {
      case 0:
        if ((r.lcr & LCR.DLAB) !== 0) r.dll = value;
        else this.transmit(value);
        return;
      case 1:
        if ((r.lcr & LCR.DLAB) !== 0) {
          r.dlm = value;
          return;
        }
        // Enabling the THR empty interrupt while THR is empty raises it, even if IIR had acknowledged it before.
        if ((value & ~r.ier & IER.THR_EMPTY) !== 0 && r.txCount === 0) r.thre = 1;
        r.ier = value & 0x0f;
        this.listen();
        this.update();
        return;
      case 2:
        this.writeFifoControl(value);
        return;
      case 3:
        if (((value ^ r.lcr) & LCR.BREAK) !== 0) this.host.sendBreak?.((value & LCR.BREAK) !== 0);
        r.lcr = value;
        return;
      case 4:
        r.mcr = value & 0x1f;
        this.listen();
        this.updateModem();
        this.update();
        return;
      case 7:
        r.scr = value;
        return;
      default:
        return; // LSR is for factory tests, MSR is read-only.
    }
  }

  private readReceived(): number {
    const r = this.r;
    if (r.rxCount === 0) this.fill();
    if (r.rxCount === 0) return 0;
    const value = r.rxData[r.rxHead];
    // Errors that LSR has not shown yet go with their byte.
    r.rxErrors[r.rxHead] = 0;
    r.rxHead = (r.rxHead + 1) % FIFO;
    r.rxCount--;
    r.timeout = 0;
    r.rxTime = this.clock.now();
    if (r.rxCount === 0) this.fill();
    this.update();
    return value;
  }

  private readInterrupt(): number {
    this.fill();
    this.drain();
    const cause = this.cause();
    if (cause === IIR.THR_EMPTY) this.r.thre = 0;
    this.update();
    return (this.r.fcr & 1) !== 0 ? cause | IIR.FIFOS : cause;
  }

  private readLineStatus(): number {
    const r = this.r;
    if (r.txCount !== 0) this.drain();
    if (r.rxCount === 0) this.fill();
    let value = r.txCount === 0 ? LSR.EMPTY : 0;
    if (r.overrun !== 0) value |= LSR.OVERRUN;
    if (r.rxCount !== 0) {
      value |= LSR.READY | r.rxErrors[r.rxHead];
      if ((r.fcr & 1) !== 0 && this.fifoHasError()) value |= LSR.FIFO_ERROR;
      r.rxErrors[r.rxHead] = 0;
    }
    r.overrun = 0;
    this.update();
    return value;
  }

  private fifoHasError(): boolean {
    const { rxErrors } = this.r;
    for (let i = 0; i < FIFO; i++) if (rxErrors[i] !== 0) return true;
    return false;
  }

  private writeFifoControl(value: number): void {
    const r = this.r;
    const toggled = ((value ^ r.fcr) & 1) !== 0;
    // Bits 7:1 count only together with bit 0.
    r.fcr = (value & 1) !== 0 ? value & 0xc9 : 0;
    if (toggled || (value & 3) === 3) this.clearReceived();
    if ((toggled || (value & 5) === 5) && r.txCount !== 0) {
      r.txCount = 0;
      r.thre = 1;
    }
    this.update();
  }

  private clearReceived(): void {
    const r = this.r;
    r.rxCount = 0;
    r.timeout = 0;
    r.rxErrors.fill(0);
  }

  private transmit(value: number): void {
    const r = this.r;
    if (r.thre !== 0) {
      // The request goes away and comes back: an edge, even where the byte leaves at once.
      r.thre = 0;
      this.update();
    }
    if ((r.mcr & MCR.LOOP) !== 0) {
      this.accept(value, 0);
      r.thre = r.txCount === 0 ? 1 : 0;
    } else if (r.txCount === 0 && this.host.output(value)) {
      r.thre = 1;
    } else if (r.txCount < this.capacity()) {
      r.txData[(r.txHead + r.txCount) % FIFO] = value;
      r.txCount++;
    } else {
      // As in the chip: a byte written to a full THR replaces the last one.
      r.txData[(r.txHead + r.txCount - 1) % FIFO] = value;
    }
    this.update();
  }

  /** Sends what waits for the host. */
  private drain(): void {
    const r = this.r;
    if (r.txCount === 0) return;
    while (r.txCount !== 0 && this.host.output(r.txData[r.txHead])) {
      r.txHead = (r.txHead + 1) % FIFO;
      r.txCount--;
    }
    if (r.txCount === 0) r.thre = 1;
  }

  /**
   * Takes what the host has once the guest is ready for it: DTR, RTS or the received-data interrupt is on. A
   * driver clears the FIFO before that, and what was typed early would be lost.
   */
  private listen(): void {
    if ((this.r.mcr & MCR.READY) !== 0 || (this.r.ier & IER.RECEIVED) !== 0) this.fill();
  }

  /** Takes bytes from the host side while there is room for them: the host never overruns the guest. */
  private fill(): void {
    const r = this.r;
    if (this.input === undefined || (r.mcr & MCR.LOOP) !== 0) return;
    const capacity = this.capacity();
    while (r.rxCount < capacity) {
      const byte = this.input.pull();
      if (byte < 0) return;
      this.accept(byte, 0);
    }
  }

  private accept(byte: number, errors: number): void {
    const r = this.r;
    if (r.rxCount >= this.capacity()) {
      r.overrun = 1;
      if ((r.fcr & 1) !== 0) return;
      // Without FIFOs the new byte destroys the old one (8.4, LSR bit 1).
      r.rxCount = 0;
    }
    const at = (r.rxHead + r.rxCount) % FIFO;
    r.rxData[at] = byte;
    r.rxErrors[at] = errors;
    r.rxCount++;
    r.timeout = 0;
    r.rxTime = this.clock.now();
  }

  private capacity(): number {
    return (this.r.fcr & 1) !== 0 ? FIFO : 1;
  }

  private trigger(): number {
    return (this.r.fcr & 1) !== 0 ? TRIGGER[this.r.fcr >> 6] : 1;
  }

  /** Four character times at the programmed speed and format (8.6), in ns. */
  private timeoutNs(): number {
    const { lcr, dll, dlm } = this.r;
    const bits = 1 + 5 + (lcr & 3) + ((lcr >> 3) & 1) + 1 + ((lcr >> 2) & 1);
    const divisor = (dlm << 8) | dll || 1;
    return (4 * bits * divisor * 1e9) / BAUD_BASE;
  }

  /** Brings MSR to what the lines say, or in loop mode to what MCR says (8.7), and notes the changes. */
  private updateModem(): void {
    const r = this.r;
    const { mcr } = r;
    const lines =
      (mcr & MCR.LOOP) !== 0
        ? ((mcr & 2) << 3) | ((mcr & 1) << 5) | ((mcr & 4) << 4) | ((mcr & 8) << 4)
        : r.lines;
    const changed = (r.msr ^ lines) & 0xf0;
    // Of the ring indicator only the trailing edge counts.
    const deltas = (changed & ~RING) | (changed & RING & ~lines);
    r.msr = lines | (r.msr & 0x0f) | (deltas >> 4);
  }

  /** The pending interrupt of the highest priority, as IIR 3:0 (table IV). */
  private cause(): number {
    const r = this.r;
    const { ier } = r;
    if (ier === 0) return IIR.NONE;
    if ((ier & IER.LINE) !== 0 && (r.overrun !== 0 || (r.rxCount !== 0 && r.rxErrors[r.rxHead] !== 0))) {
      return IIR.LINE;
    }
    if ((ier & IER.RECEIVED) !== 0 && r.rxCount !== 0) {
      if (r.rxCount >= this.trigger()) return IIR.RECEIVED;
      if (r.timeout !== 0) return IIR.TIMEOUT;
    }
    if ((ier & IER.THR_EMPTY) !== 0 && r.thre !== 0) return IIR.THR_EMPTY;
    if ((ier & IER.MODEM) !== 0 && (r.msr & 0x0f) !== 0) return IIR.MODEM;
    return IIR.NONE;
  }

  /** On a PC the interrupt passes a gate that OUT2 opens, and loop mode holds OUT2 inactive. */
  private update(): void {
    const r = this.r;
    const gate = (r.mcr & (MCR.OUT2 | MCR.LOOP)) === MCR.OUT2;
    const level = gate && this.cause() !== IIR.NONE ? 1 : 0;
    if (level === r.irq) return;
    r.irq = level;
    this.irq.set(level === 1);
  }
}
