/**
 * Intel 82C54 CHMOS Programmable Interval Timer data sheet (order 231244), three counters at 40h-43h, and
 * port 61h (82371SB data sheet, 4.5: counter 2's gate and output, speaker, refresh toggle).
 *
 * Nothing counts down here: a counter remembers the tick at which its count was loaded, and count and output
 * follow from the time. A count written in mode 2 or 3 takes over at the end of the running period.
 *
 * IRQ 0 gets a rising edge at each period's end. When the machine was held up for several periods, one edge
 * comes for all of them: a burst of ticks would only find the first one still pending, and guests that keep
 * time do so by a counter.
 */
import type { BusDevice, Clock, Device, IrqLine, Timed } from './device.ts';
import type { PortBus } from './bus.ts';
import { NEVER, nsOfTick, ticksAt } from './ticks.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

/** The PC's 14.31818 MHz crystal divided by 12. */
export const PIT_HZ = 1193182;
/** Nanoseconds between two refreshes of memory: 18 ticks, which bit 4 of port 61h shows. */
const REFRESH = 15085;

/** Index: the counter. Ticks are counted since power-on. */
const PIT = {
  mode: { type: 'u8', count: 3, about: 'mode 0-5' },
  bcd: { type: 'u8', count: 3, about: 'counts in four decimal digits' },
  access: { type: 'u8', count: 3, reset: 3, about: 'bytes read and written: 1 low, 2 high, 3 both' },
  state: { type: 'u8', count: 3, about: '0 no count written, 1 waits for its gate, 2 counts' },
  gate: { type: 'u8', count: 3, reset: [1, 1, 0], about: 'level of GATE' },
  writeHigh: { type: 'u8', count: 3, about: 'the next write is the high byte' },
  writeLow: { type: 'u8', count: 3, about: 'low byte of a count that is being written' },
  readHigh: { type: 'u8', count: 3, about: 'the next read is the high byte' },
  latched: { type: 'u8', count: 3, about: 'a latched count is to be read' },
  latch: { type: 'u16', count: 3, about: 'the latched count, as the guest reads it' },
  statusLatched: { type: 'u8', count: 3, about: 'a latched status is to be read' },
  status: { type: 'u8', count: 3, about: 'the latched status' },
  initial: { type: 'u32', count: 3, reset: 0x10000, about: 'the count that runs, in ticks' },
  next: { type: 'u32', count: 3, about: 'the count that takes over at `switchAt`, or at the gate; 0: none' },
  switchAt: { type: 'f64', count: 3, about: 'tick at which `next` takes over in modes 2 and 3' },
  start: { type: 'f64', count: 3, about: 'tick at which the count was loaded' },
  frozen: { type: 'f64', count: 3, reset: -1, about: 'ticks counted when the gate fell; -1: counting' },
  deadline: { type: 'f64', reset: NEVER, about: "the next rising edge of counter 0's output, in ns" },
  portB: { type: 'u8', about: 'port 61h bits 0-3: gate 2, speaker, parity and channel check off' },
} as const satisfies Layout;

const IDLE = 0;
const WAITING = 1;
const COUNTING = 2;

export class Pit8254 implements Device, Timed {
  readonly name = 'pit';
  private readonly regs: Registers<typeof PIT>;
  private readonly clock: Clock;
  private readonly irq0: IrqLine;

  constructor(arena: RegisterArena, clock: Clock, irq0: IrqLine) {
    this.regs = arena.allocate(PIT);
    this.clock = clock;
    this.irq0 = irq0;
  }

  attach(ports: PortBus): void {
    const counters: BusDevice = {
      read: (offset) => (offset === 3 ? 0xff : this.readCounter(offset, this.ticks())),
      write: (offset, _size, value) => {
        // Edges that are due come before the change.
        this.tick(this.clock.now());
        const now = this.ticks();
        if (offset === 3) this.writeControl(value, now);
        else this.writeCounter(offset, value, now);
        this.rearm(now);
      },
    };
    ports.register(0x40, 4, counters, 'pit', { width: 1 });
    const portB: BusDevice = {
      read: () => this.readPortB(),
      write: (_offset, _size, value) => {
        this.regs.portB = value & 0x0f;
        this.setGate(2, value & 1, this.ticks());
      },
    };
    ports.register(0x61, 1, portB, 'pit port 61h', { width: 1 });
  }

  nextDeadline(): number {
    return this.regs.deadline === NEVER ? Infinity : this.regs.deadline;
  }

  tick(now: number): void {
    if (now < this.regs.deadline) return;
    const ticks = ticksAt(now, PIT_HZ);
    this.irq0.set(false);
    this.irq0.set(true);
    this.rearm(ticks);
  }

  /** True while the speaker would sound a tone of counter 2 (bits 0 and 1 of port 61h). */
  get speaker(): boolean {
    return (this.regs.portB & 3) === 3;
  }

  reset(): void {
    this.regs.resetAll();
    this.irq0.set(false);
  }

  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
  }

  private ticks(): number {
    return ticksAt(this.clock.now(), PIT_HZ);
  }

  private readPortB(): number {
    const now = this.clock.now();
    const refresh = Math.floor(now / REFRESH) & 1;
    const out = this.out(2, ticksAt(now, PIT_HZ)) ? 1 : 0;
    return this.regs.portB | (refresh << 4) | (out << 5);
  }

  private readCounter(index: number, now: number): number {
    const { regs } = this;
    if (regs.statusLatched[index] !== 0) {
      regs.statusLatched[index] = 0;
      return regs.status[index];
    }
    const value = regs.latched[index] !== 0 ? regs.latch[index] : this.count(index, now);
    const both = regs.access[index] === 3;
    const high = both ? regs.readHigh[index] !== 0 : regs.access[index] === 2;
    if (both) regs.readHigh[index] ^= 1;
    if (!both || high) regs.latched[index] = 0;
    return high ? value >> 8 : value & 0xff;
  }

  private writeControl(value: number, now: number): void {
    const { regs } = this;
    const index = value >> 6;
    if (index === 3) {
      this.readBack(value, now);
    } else if ((value & 0x30) === 0) {
      this.latchCount(index, now);
    } else {
      const mode = (value >> 1) & 7;
      regs.access[index] = (value >> 4) & 3;
      // Modes 6 and 7 are 2 and 3: their bit 2 is not looked at.
      regs.mode[index] = mode > 5 ? mode & 3 : mode;
      regs.bcd[index] = value & 1;
      regs.state[index] = IDLE;
      regs.next[index] = 0;
      regs.frozen[index] = -1;
      regs.writeHigh[index] = 0;
      regs.readHigh[index] = 0;
      regs.latched[index] = 0;
      regs.statusLatched[index] = 0;
    }
  }

  /** Latches the counts (bit 5 clear) and the states (bit 4 clear) of the counters in bits 1-3. */
  private readBack(value: number, now: number): void {
    const { regs } = this;
    for (let index = 0; index < 3; index++) {
      if ((value & (2 << index)) === 0) continue;
      if ((value & 0x20) === 0) this.latchCount(index, now);
      if ((value & 0x10) === 0 && regs.statusLatched[index] === 0) {
        regs.status[index] = this.statusOf(index, now);
        regs.statusLatched[index] = 1;
      }
    }
  }

  private statusOf(index: number, now: number): number {
    const { regs } = this;
    const out = this.out(index, now) ? 0x80 : 0;
    const loaded = regs.state[index] === COUNTING && now >= regs.start[index] && regs.next[index] === 0;
    const mode = (regs.access[index] << 4) | (regs.mode[index] << 1) | regs.bcd[index];
    return out | (loaded ? 0 : 0x40) | mode;
  }

  private latchCount(index: number, now: number): void {
    const { regs } = this;
    if (regs.latched[index] !== 0) return;
    regs.latch[index] = this.count(index, now);
    regs.latched[index] = 1;
  }

  private writeCounter(index: number, value: number, now: number): void {
    const { regs } = this;
    switch (regs.access[index]) {
      case 1:
        this.writeCount(index, value, now);
        break;
      case 2:
        this.writeCount(index, value << 8, now);
        break;
      default:
        if (regs.writeHigh[index] === 0) {
          regs.writeLow[index] = value;
          regs.writeHigh[index] = 1;
          // In mode 0 the first byte stops the count and the output goes low.
          if (regs.mode[index] === 0) regs.state[index] = IDLE;
        } else {
          regs.writeHigh[index] = 0;
          this.writeCount(index, (value << 8) | regs.writeLow[index], now);
        }
    }
  }

  /** A whole count has been written. */
  private writeCount(index: number, value: number, now: number): void {
    const { regs } = this;
    const { gate, state, mode } = {
      gate: regs.gate[index],
      state: regs.state[index],
      mode: regs.mode[index],
    };
    const count = this.fromGuest(index, value);
    const periodic = mode === 2 || mode === 3;
    this.settle(index, now);
    if (mode === 1 || mode === 5) {
      regs.next[index] = count;
      if (state === IDLE) regs.state[index] = WAITING;
    } else if (periodic && gate === 0) {
      regs.next[index] = count;
      regs.state[index] = WAITING;
    } else if (periodic && state === COUNTING && now >= regs.start[index]) {
      const period = regs.initial[index];
      const passed = Math.floor((now - regs.start[index]) / period);
      regs.next[index] = count;
      regs.switchAt[index] = regs.start[index] + (passed + 1) * period;
    } else {
      this.loadCount(index, count, now);
      if (gate === 0) regs.frozen[index] = 0;
    }
  }

  /** The next clock loads the count and starts. */
  private loadCount(index: number, count: number, now: number): void {
    const { regs } = this;
    regs.initial[index] = count;
    regs.next[index] = 0;
    regs.start[index] = now + 1;
    regs.frozen[index] = -1;
    regs.state[index] = COUNTING;
  }

  private setGate(index: number, level: number, now: number): void {
    const { regs } = this;
    if (regs.gate[index] === level) return;
    this.settle(index, now);
    regs.gate[index] = level;
    const mode = regs.mode[index];
    const counting = regs.state[index] === COUNTING;
    if (mode === 0 || mode === 4) {
      if (!counting) return;
      if (level === 0) regs.frozen[index] = Math.max(0, now - regs.start[index]);
      else {
        regs.start[index] = now - regs.frozen[index];
        regs.frozen[index] = -1;
      }
    } else if (level !== 0) {
      if (regs.state[index] !== IDLE) this.loadCount(index, regs.next[index] || regs.initial[index], now);
    } else if (counting && mode !== 1 && mode !== 5) {
      regs.frozen[index] = Math.max(0, now - regs.start[index]);
      regs.state[index] = WAITING;
    }
  }

  /** Lets a count take over whose time has come. */
  private settle(index: number, now: number): void {
    const { regs } = this;
    const mode = regs.mode[index];
    if (regs.state[index] !== COUNTING || (mode !== 2 && mode !== 3)) return;
    if (regs.next[index] === 0 || now < regs.switchAt[index]) return;
    regs.initial[index] = regs.next[index];
    regs.start[index] = regs.switchAt[index];
    regs.next[index] = 0;
  }

  /** Ticks since the count was loaded. */
  private elapsed(index: number, now: number): number {
    const { regs } = this;
    if (regs.frozen[index] >= 0) return regs.frozen[index];
    return Math.max(0, now - regs.start[index]);
  }

  /** The count as the guest reads it. */
  private count(index: number, now: number): number {
    this.settle(index, now);
    const { regs } = this;
    const initial = regs.initial[index];
    const elapsed = this.elapsed(index, now);
    const span = regs.bcd[index] !== 0 ? 10000 : 0x10000;
    let value: number;
    if (regs.state[index] === IDLE) {
      value = initial;
    } else if (regs.mode[index] === 2) {
      value = initial - (elapsed % initial);
    } else if (regs.mode[index] === 3) {
      const high = (initial + 1) >>> 1;
      const phase = elapsed % initial;
      value = (initial & ~1) - 2 * (phase < high ? phase : phase - high);
    } else {
      value = (((initial - elapsed) % span) + span) % span;
    }
    value %= span;
    if (regs.bcd[index] === 0) return value;
    return (
      (Math.floor(value / 1000) << 12) |
      ((Math.floor(value / 100) % 10) << 8) |
      ((Math.floor(value / 10) % 10) << 4) |
      (value % 10)
    );
  }

  /** A count from the guest in ticks: 0 is the largest. Digits above 9 count as they weigh. */
  private fromGuest(index: number, value: number): number {
    if (this.regs.bcd[index] === 0) return value || 0x10000;
    const digits = (value >> 12) * 1000 + ((value >> 8) & 15) * 100 + ((value >> 4) & 15) * 10 + (value & 15);
    return digits || 10000;
  }

  /** The level of OUT. */
  private out(index: number, now: number): boolean {
    this.settle(index, now);
    const { regs } = this;
    const mode = regs.mode[index];
    if (regs.state[index] !== COUNTING) return mode !== 0;
    const initial = regs.initial[index];
    const elapsed = this.elapsed(index, now);
    switch (mode) {
      case 0:
      case 1:
        return now >= regs.start[index] ? elapsed >= initial : mode === 1;
      case 2:
        return elapsed % initial !== initial - 1;
      case 3:
        return elapsed % initial < (initial + 1) >>> 1;
      default:
        return elapsed !== initial;
    }
  }

  /** Sets IRQ 0 to what the output of counter 0 is, and finds its next rising edge after `now`. */
  private rearm(now: number): void {
    this.irq0.set(this.out(0, now));
    const edge = this.nextEdge(now);
    this.regs.deadline = edge === NEVER ? NEVER : nsOfTick(edge, PIT_HZ);
  }

  /** The first tick after `now` at which counter 0's output rises. Its gate is always high. */
  private nextEdge(now: number): number {
    const { regs } = this;
    if (regs.state[0] !== COUNTING) return NEVER;
    const initial = regs.initial[0];
    const start = regs.start[0];
    const mode = regs.mode[0];
    if (mode === 0 || mode === 4) {
      const edge = start + initial + (mode === 4 ? 1 : 0);
      return edge > now ? edge : NEVER;
    }
    const periods = Math.max(0, Math.floor((now - start) / initial));
    return start + (periods + 1) * initial;
  }
}
