// Virtual I/O Device (VIRTIO) 1.2, section 5.3: the console device, with one port or several.
import type { Layout, Registers, SavedRegisters } from '../registers.ts';
import type { SerialBackend, SerialSource } from '../serial-ring.ts';
import { VirtioFault, type Chain } from './chain.ts';
import { LEAVE, VirtioDevice, type VirtioHost } from './device.ts';

/** Section 5.3.3: feature bits. */
const FEATURE = { SIZE: 0, MULTIPORT: 1 } as const;

/** Section 5.3.4: configuration. (Behind it stands the emergency write register, a feature that we don't offer.) */
const CONFIG = { COLUMNS: 0, ROWS: 2, PORTS: 4, BYTES: 12 } as const;

/** Section 5.3.6.2: control messages: port (4), event (2), value (2), then for some a payload. */
const CONTROL = { PORT: 0, EVENT: 4, VALUE: 6, BYTES: 8 } as const;
const EVENT = {
  DEVICE_READY: 0,
  PORT_ADD: 1,
  PORT_READY: 3,
  CONSOLE_PORT: 4,
  RESIZE: 5,
  PORT_OPEN: 6,
  PORT_NAME: 7,
} as const;

/** Messages that wait for a buffer of the control queue are one bit each, so they cannot pile up. Sent in this order. */
const MESSAGES = [
  EVENT.PORT_ADD,
  EVENT.CONSOLE_PORT,
  EVENT.RESIZE,
  EVENT.PORT_NAME,
  EVENT.PORT_OPEN,
] as const;

/** Section 5.3.2: port 0 has queues 0 and 1, control 2 and 3, port n 2n + 2 and 2n + 3. */
const CONTROL_RECEIVE = 2;
const CONTROL_TRANSMIT = 3;

const MAX_PORTS = 8;

/** Bytes that move between a ring and a request at a time. */
const PIECE = 4096;

/** Bytes that one turn sends of one request, however long it is: about a millisecond. */
const TURN_BYTES = 64 * 1024;

const layout = (ports: number, columns: number, rows: number) =>
  ({
    columns: { type: 'u16', reset: columns, about: 'width of the terminal in characters' },
    rows: { type: 'u16', reset: rows, about: 'height of the terminal in characters' },
    portSent: {
      type: 'u32',
      count: ports,
      about: 'bytes already sent of the request at the head of transmitq',
    },
    portPending: { type: 'u8', count: ports, about: 'control messages to send: bit n is event n' },
    portOpen: { type: 'u8', count: ports, about: 'the guest has opened the port' },
  }) as const satisfies Layout;

export interface ConsolePort {
  /** What the guest calls it, for example /dev/virtio-ports/NAME. */
  name: string;
  output: SerialBackend;
  input: SerialSource;
}

export interface ConsoleOptions {
  ports: readonly ConsolePort[];
  columns?: number;
  rows?: number;
  /** Offer several ports with names; otherwise port 0 is a plain console. As many ports as are given unless said. */
  multiport?: boolean;
}

/** Section 5.3. The bytes of all ports are moved on the I/O thread: it is the rings' other end as well. */
export class VirtioConsole extends VirtioDevice {
  private readonly own: Registers<ReturnType<typeof layout>>;
  private readonly ports: readonly ConsolePort[];
  private readonly piece = new Uint8Array(PIECE);
  private readonly message = new Uint8Array(CONTROL.BYTES + 256);

  constructor(name: string, host: VirtioHost, options: ConsoleOptions) {
    const { ports, multiport = ports.length > 1 } = options;
    if (ports.length < 1 || ports.length > MAX_PORTS) {
      throw new RangeError(`${name}: a console has 1 to ${MAX_PORTS} ports, not ${ports.length}`);
    }
    const features = multiport ? [FEATURE.SIZE, FEATURE.MULTIPORT] : [FEATURE.SIZE];
    super(name, host, { type: 3, features, queues: multiport ? 2 + 2 * ports.length : 2 });
    this.ports = ports;
    this.own = host.arena.allocate(layout(ports.length, options.columns ?? 80, options.rows ?? 25));
  }

  config(): Uint8Array {
    const bytes = new Uint8Array(CONFIG.BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint16(CONFIG.COLUMNS, this.own.columns, true);
    view.setUint16(CONFIG.ROWS, this.own.rows, true);
    view.setUint32(CONFIG.PORTS, this.ports.length, true);
    return bytes;
  }

  override save(): SavedRegisters {
    return { ...super.save(), ...this.own.saveAll() };
  }

  override load(saved: SavedRegisters): void {
    this.own.loadAll(saved);
    super.load(saved);
  }

  /** Input was put into a ring, or there is room for output again. Any thread. */
  poll(): void {
    this.kickAll();
  }

  /** The terminal has another size now. Under the device lock. */
  resize(columns: number, rows: number): void {
    this.own.columns = columns;
    this.own.rows = rows;
    if (this.has(FEATURE.MULTIPORT)) this.post(0, EVENT.RESIZE);
    else this.configChanged();
  }

  protected override resetOwn(): void {
    // The terminal keeps its size: it is the host's.
    this.own.portSent.fill(0);
    this.own.portPending.fill(0);
    this.own.portOpen.fill(0);
  }

  protected override ready(queue: number): boolean {
    if (this.isControl(queue)) {
      return queue === CONTROL_TRANSMIT || this.own.portPending.some((pending) => pending !== 0);
    }
    const port = this.portOf(queue);
    if (port >= this.ports.length) return false;
    // A full output is found by trying: that marks its ring, and whoever drains it polls us.
    if ((queue & 1) !== 0) return true;
    return (
      this.ports[port].input.available() > 0 &&
      (!this.has(FEATURE.MULTIPORT) || this.own.portOpen[port] !== 0)
    );
  }

  protected handle(queue: number, chain: Chain): number {
    if (queue === CONTROL_RECEIVE && this.isControl(queue)) return this.sendMessage(chain);
    if (queue === CONTROL_TRANSMIT && this.isControl(queue)) return this.takeMessage(chain);
    const port = this.portOf(queue);
    return (queue & 1) === 0 ? this.receive(port, chain) : this.transmit(queue, port, chain);
  }

  private isControl(queue: number): boolean {
    return queue === CONTROL_RECEIVE || queue === CONTROL_TRANSMIT;
  }

  private portOf(queue: number): number {
    return queue < CONTROL_RECEIVE ? 0 : (queue >> 1) - 1;
  }

  /** Host to guest. */
  private receive(port: number, chain: Chain): number {
    const { input } = this.ports[port];
    if (chain.writable === 0) throw new VirtioFault(`port ${port}: a receive buffer of no bytes`);
    let done = 0;
    while (done < chain.writable) {
      const most = Math.min(PIECE, chain.writable - done);
      let count = 0;
      for (let byte; count < most && (byte = input.pull()) >= 0; count++) this.piece[count] = byte;
      if (count === 0) break;
      done += chain.write(done, this.piece.subarray(0, count));
    }
    return done === 0 ? LEAVE : done;
  }

  /** Guest to host: what finds no room stays in the queue, and the guest waits. */
  private transmit(queue: number, port: number, chain: Chain): number {
    const { output } = this.ports[port];
    let done = this.own.portSent[port];
    const turnEnd = done + TURN_BYTES;
    while (done < chain.readable) {
      if (done >= turnEnd) {
        this.own.portSent[port] = done;
        this.kick(queue);
        return LEAVE;
      }
      const count = chain.read(done, this.piece);
      let sent = 0;
      while (sent < count && output.output(this.piece[sent])) sent++;
      done += sent;
      if (sent < count) {
        this.own.portSent[port] = done;
        return LEAVE;
      }
    }
    this.own.portSent[port] = 0;
    return 0;
  }

  /** The guest's control messages (5.3.6.2.2). Unknown ports and events are ignored. */
  private takeMessage(chain: Chain): number {
    if (chain.read(0, this.message.subarray(0, CONTROL.BYTES)) !== CONTROL.BYTES) {
      throw new VirtioFault(`a control message of ${chain.readable} bytes`);
    }
    const view = new DataView(this.message.buffer);
    const port = view.getUint32(CONTROL.PORT, true);
    const event = view.getUint16(CONTROL.EVENT, true);
    const value = view.getUint16(CONTROL.VALUE, true);
    if (event === EVENT.DEVICE_READY && value === 1) {
      for (let n = 0; n < this.ports.length; n++) this.post(n, EVENT.PORT_ADD);
    } else if (port < this.ports.length && event === EVENT.PORT_READY && value === 1) {
      // Port 0 is where a login is expected; the others are plain byte streams.
      if (port === 0) this.post(port, EVENT.CONSOLE_PORT, EVENT.RESIZE);
      this.post(port, EVENT.PORT_NAME, EVENT.PORT_OPEN);
    } else if (port < this.ports.length && event === EVENT.PORT_OPEN) {
      this.own.portOpen[port] = value === 0 ? 0 : 1;
      this.poll();
    }
    return 0;
  }

  private post(port: number, ...events: number[]): void {
    for (const event of events) this.own.portPending[port] |= 1 << event;
    this.kick(CONTROL_RECEIVE);
  }

  /** Sends one pending message. */
  private sendMessage(chain: Chain): number {
    const { portPending, columns, rows } = this.own;
    const port = portPending.findIndex((pending) => pending !== 0);
    const event = MESSAGES.find((candidate) => (portPending[port] & (1 << candidate)) !== 0);
    if (port < 0 || event === undefined) return LEAVE;
    portPending[port] &= ~(1 << event);
    const view = new DataView(this.message.buffer);
    view.setUint32(CONTROL.PORT, port, true);
    view.setUint16(CONTROL.EVENT, event, true);
    view.setUint16(CONTROL.VALUE, 1, true);
    let length: number = CONTROL.BYTES;
    if (event === EVENT.RESIZE) {
      view.setUint16(length, columns, true);
      view.setUint16(length + 2, rows, true);
      length += 4;
    } else if (event === EVENT.PORT_NAME) {
      const name = new TextEncoder().encode(this.ports[port].name).subarray(0, 255);
      this.message.set(name, length);
      length += name.length;
    }
    if (chain.writable < length) {
      throw new VirtioFault(`a control buffer of ${chain.writable} bytes for a message of ${length}`);
    }
    return chain.write(0, this.message.subarray(0, length));
  }
}
