/**
 * Local APIC: Intel SDM vol. 3, chapter 11 (xAPIC 11.4, x2APIC 11.12), with TSC-deadline timer and directed EOI.
 *
 * One object for each vCPU. What the processor must do comes out of take...() and acknowledge(); `VcpuSignal`
 * says when it is worth asking.
 */
import { DeliveryMode } from './apic-bus.ts';
import type { Halves } from './bus.ts';
import type { Clock, Device, Timed } from './device.ts';
import {
  BASE,
  ERROR,
  ICR_WRITABLE,
  LEVEL,
  LVT,
  LVT_COUNT,
  LVT_MASKED,
  LVT_WRITABLE,
  MSR,
  REG,
  REMOTE_IRR,
  SVR,
  VERSION,
  isReadable,
  isValid,
  lapicLayout,
  type LapicRegisters,
} from './lapic-registers.ts';
import { LapicTimer, type TscTime } from './lapic-timer.ts';
import type { RegisterArena, SavedRegisters } from './registers.ts';

export type { TscTime } from './lapic-timer.ts';

/** Tells a vCPU's thread that its local APIC may have something new. Any thread calls it; it may be for nothing. */
export interface VcpuSignal {
  notify(vcpu: number): void;
}

/** Where a local APIC sends: the other ones, and the I/O APIC's EOI. */
export interface ApicNetwork {
  /** An interprocessor interrupt. `shorthand` is bits 18-19 of the ICR; `wide`: a 32-bit x2APIC destination. */
  ipi(
    from: number,
    shorthand: number,
    destination: number,
    wide: boolean,
    logical: boolean,
    mode: number,
    vector: number,
  ): void;
  eoi(vector: number): void;
  /** A local APIC moved its page, or switched it on or off. */
  moved(): void;
}

/** True for the MSRs that readMsr and writeMsr answer. */
export function isApicMsr(index: number): boolean {
  return (
    index === MSR.BASE || index === MSR.TSC_DEADLINE || (index >= MSR.X2APIC && index < MSR.X2APIC + 0x100)
  );
}

/** The highest vector of a 256-bit set, or -1. */
function highest(bits: Uint32Array): number {
  for (let word = 7; word >= 0; word--) {
    if (bits[word] !== 0) return 32 * word + 31 - Math.clz32(bits[word]);
  }
  return -1;
}

export class Lapic implements Device, Timed {
  readonly name: string;
  readonly id: number;
  private readonly regs: LapicRegisters;
  private readonly clock: Clock;
  private readonly timer: LapicTimer;
  private readonly signal: VcpuSignal;
  private readonly network: ApicNetwork;
  private readonly msr: Halves = { low: 0, high: 0 };

  constructor(
    arena: RegisterArena,
    id: number,
    clock: Clock,
    tsc: TscTime,
    signal: VcpuSignal,
    network: ApicNetwork,
  ) {
    this.name = `lapic${id}`;
    this.id = id;
    this.regs = arena.allocate(lapicLayout(id));
    this.clock = clock;
    this.timer = new LapicTimer(this.regs, id, tsc, () => this.requestLvt(LVT.TIMER));
    this.signal = signal;
    this.network = network;
  }

  // What the processor asks.

  /** IA32_APIC_BASE bit 11, which CPUID.1:EDX bit 9 shows. */
  get enabled(): boolean {
    return (this.regs.baseLow & BASE.ENABLED) !== 0;
  }

  get x2apic(): boolean {
    return (this.regs.baseLow & BASE.X2APIC) !== 0;
  }

  /** Guest-physical address of the register page, or -1 when there is none. */
  get page(): number {
    if (!this.enabled || this.x2apic) return -1;
    return this.regs.baseHigh * 2 ** 32 + ((this.regs.baseLow & 0xfffff000) >>> 0);
  }

  /** Task priority, 8 bits. */
  get tpr(): number {
    return this.regs.tpr;
  }

  /** Task priority as CR8 holds it: bits 4-7. */
  get cr8(): number {
    return this.regs.tpr >> 4;
  }

  setTpr(cr8: number): void {
    this.regs.tpr = (cr8 & 0x0f) << 4;
  }

  /** Processor priority: the higher of the task's and of what is in service. */
  get ppr(): number {
    const served = highest(this.regs.isr);
    const { tpr } = this.regs;
    return served < 0 || tpr >> 4 >= served >> 4 ? tpr : served & 0xf0;
  }

  /** The vector that the processor would get now, or -1. */
  pendingVector(): number {
    if (!this.enabled) return -1;
    const vector = highest(this.regs.irr);
    return vector >= 0 && vector >> 4 > this.ppr >> 4 ? vector : -1;
  }

  hasInterrupt(): boolean {
    return this.pendingVector() >= 0;
  }

  /** The processor takes the interrupt: its vector, now in service. When there is none any more, the spurious one. */
  acknowledge(): number {
    const vector = this.pendingVector();
    if (vector < 0) return this.regs.svr & 0xff;
    this.regs.irr[vector >> 5] &= ~(1 << (vector & 31));
    this.regs.isr[vector >> 5] |= 1 << (vector & 31);
    return vector;
  }

  /** True while the 8259s are to be asked for a vector: by LINT0, by a message, or past a disabled local APIC. */
  get wantsPic(): boolean {
    const { regs } = this;
    if (!this.enabled) return this.id === 0 && regs.lint[0] !== 0;
    return regs.extInt !== 0 || (regs.lint[0] !== 0 && this.lintMode(LVT.LINT0) === DeliveryMode.EXTINT);
  }

  /** The 8259s have been asked. */
  takeExtInt(): void {
    this.regs.extInt = 0;
  }

  get nmiPending(): boolean {
    return this.regs.nmi !== 0;
  }

  takeNmi(): boolean {
    const pending = this.nmiPending;
    this.regs.nmi = 0;
    return pending;
  }

  get initPending(): boolean {
    return this.regs.init !== 0;
  }

  /** Takes an INIT, which resets this local APIC too, but for its id, base and mode. */
  takeInit(): boolean {
    const { regs } = this;
    if (regs.init === 0) return false;
    const { baseLow, baseHigh, sipi } = regs;
    const [lint0, lint1] = regs.lint;
    regs.resetAll();
    regs.baseLow = baseLow;
    regs.baseHigh = baseHigh;
    regs.lint[0] = lint0;
    regs.lint[1] = lint1;
    if (this.id !== 0) regs.sipi = sipi;
    return true;
  }

  /** True from INIT (or power-on, but for vCPU 0) to the start-up message. */
  get waitingForSipi(): boolean {
    return this.regs.waiting !== 0;
  }

  get sipiPending(): boolean {
    return this.regs.sipi >= 0;
  }

  /** Takes a start-up message: its vector v starts the processor at v000h; -1 when there is none. */
  takeSipi(): number {
    const { sipi } = this.regs;
    if (sipi < 0 || this.initPending) return -1;
    this.regs.sipi = -1;
    this.regs.waiting = 0;
    return sipi;
  }

  // What comes from outside.

  /** Whether a message for that destination is for this local APIC (SDM 11.6.2, 11.12.10). */
  matches(destination: number, wide: boolean, logical: boolean): boolean {
    if (!this.enabled) return false;
    if (destination === (wide ? 0xffffffff : 0xff)) return true;
    if (!logical) return destination === this.id;
    const { regs } = this;
    if (this.x2apic) {
      const ldr = this.x2apicLdr();
      return destination >>> 16 === ldr >>> 16 && (destination & ldr & 0xffff) !== 0;
    }
    if (destination > 0xff) return false;
    if (regs.dfr >>> 28 === 0x0f) return (destination & regs.ldr) !== 0;
    return destination >> 4 === regs.ldr >> 4 && (destination & regs.ldr & 0x0f) !== 0;
  }

  /** Whether fixed interrupts are taken: a local APIC that software disabled knows only NMI, INIT and start-up. */
  get accepting(): boolean {
    return this.enabled && (this.regs.svr & SVR.ENABLED) !== 0;
  }

  /** Takes a message. Returns false when this local APIC refuses it. */
  receive(mode: number, vector: number, level: boolean): boolean {
    const { regs } = this;
    switch (mode) {
      case DeliveryMode.FIXED:
      case DeliveryMode.LOWEST:
        return this.request(vector, level);
      case DeliveryMode.NMI:
        regs.nmi = 1;
        break;
      case DeliveryMode.INIT:
        regs.init = 1;
        regs.sipi = -1;
        break;
      case DeliveryMode.STARTUP:
        if (this.id === 0 || (regs.waiting === 0 && regs.init === 0)) return true;
        regs.sipi = vector;
        break;
      case DeliveryMode.EXTINT:
        regs.extInt = 1;
        break;
      default:
        return false;
    }
    this.signal.notify(this.id);
    return true;
  }

  /** Drives LINT0 or LINT1. */
  setLint(pin: 0 | 1, level: boolean): void {
    const { regs } = this;
    const was = regs.lint[pin] !== 0;
    if (was === level) return;
    regs.lint[pin] = level ? 1 : 0;
    if (level) this.serveLint(pin, true);
  }

  // Time.

  nextDeadline(): number {
    return this.timer.nextDeadline();
  }

  tick(now: number): void {
    this.timer.tick(now);
  }

  // Registers.

  /** Reads from the register page: 32 bits at each multiple of 16. Bytes of a register can be read on their own. */
  readPage(offset: number): number {
    const index = offset >> 4;
    if ((offset & 0x0c) !== 0) return 0;
    let value = 0;
    if (index === REG.ICR_HIGH) value = this.regs.icrHigh;
    else if (index === REG.DFR) value = this.regs.dfr;
    else if (isReadable(index)) value = this.readRegister(index);
    else if (index !== REG.EOI && index !== REG.APR && index !== REG.RRD) this.fail(ERROR.REGISTER);
    return value >>> (8 * (offset & 3));
  }

  /** Writes to the register page: only 32 bits at once, at a multiple of 16. */
  writePage(offset: number, size: number, value: number): void {
    if (size !== 4 || (offset & 0x0f) !== 0) return;
    const { regs } = this;
    const index = offset >> 4;
    switch (index) {
      case REG.LDR:
        regs.ldr = value >>> 24;
        break;
      case REG.DFR:
        regs.dfr = (value | 0x0fffffff) >>> 0;
        break;
      case REG.ICR_HIGH:
        regs.icrHigh = (value & 0xff000000) >>> 0;
        break;
      case REG.ICR_LOW:
        this.sendIpi(value, regs.icrHigh >>> 24, false);
        break;
      case REG.SELF_IPI:
        this.fail(ERROR.REGISTER);
        break;
      default:
        if (!this.writeRegister(index, value) && !isReadable(index)) this.fail(ERROR.REGISTER);
    }
  }

  /** Reads an MSR of isApicMsr. Null: #GP. The object is used again by the next call. */
  readMsr(index: number): Readonly<Halves> | null {
    const { msr, regs } = this;
    msr.high = 0;
    if (index === MSR.BASE) {
      msr.low = regs.baseLow;
      msr.high = regs.baseHigh;
      return msr;
    }
    if (index === MSR.TSC_DEADLINE) {
      this.tick(this.clock.now());
      msr.low = regs.tscLow;
      msr.high = regs.tscHigh;
      return msr;
    }
    const register = index - MSR.X2APIC;
    if (!this.enabled || !this.x2apic || !isReadable(register)) return null;
    msr.low = this.readRegister(register) >>> 0;
    if (register === REG.ICR_LOW) msr.high = regs.icrHigh;
    return msr;
  }

  /** Writes an MSR of isApicMsr. False: #GP. */
  writeMsr(index: number, low: number, high: number): boolean {
    if (index === MSR.BASE) return this.writeBase(low, high);
    if (index === MSR.TSC_DEADLINE) {
      if (this.enabled) this.timer.setTscDeadline(low, high, this.clock.now());
      return true;
    }
    const register = index - MSR.X2APIC;
    if (!this.enabled || !this.x2apic) return false;
    if (register === REG.ICR_LOW) {
      if ((low & ~ICR_WRITABLE) !== 0) return false;
      this.regs.icrHigh = high >>> 0;
      this.sendIpi(low, high >>> 0, true);
      return true;
    }
    if (high !== 0 || !isValid(register, low)) return false;
    if (register === REG.SELF_IPI) {
      this.network.ipi(this.id, 1, 0, true, false, DeliveryMode.FIXED, low & 0xff);
      return true;
    }
    return this.writeRegister(register, low);
  }

  reset(): void {
    const [lint0, lint1] = this.regs.lint;
    this.regs.resetAll();
    this.regs.lint[0] = lint0;
    this.regs.lint[1] = lint1;
    this.network.moved();
  }

  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
    this.network.moved();
  }

  private readRegister(index: number): number {
    const { regs } = this;
    if (index >= REG.ISR && index < REG.TMR) return regs.isr[index - REG.ISR];
    if (index >= REG.TMR && index < REG.IRR) return regs.tmr[index - REG.TMR];
    if (index >= REG.IRR && index < REG.ESR) return regs.irr[index - REG.IRR];
    if (index >= REG.LVT && index < REG.LVT + LVT_COUNT) return regs.lvt[index - REG.LVT];
    switch (index) {
      case REG.ID:
        return this.x2apic ? this.id : this.id << 24;
      case REG.VERSION:
        return VERSION;
      case REG.TPR:
        return regs.tpr;
      case REG.PPR:
        return this.ppr;
      case REG.LDR:
        return this.x2apic ? this.x2apicLdr() : regs.ldr << 24;
      case REG.SVR:
        return regs.svr;
      case REG.ESR:
        return regs.esr;
      case REG.ICR_LOW:
        return regs.icrLow;
      case REG.INITIAL_COUNT:
        return regs.initialCount;
      case REG.CURRENT_COUNT:
        return this.timer.currentCount(this.clock.now());
      case REG.DIVIDE:
        return regs.divide;
    }
    return 0;
  }

  /** Writes what both modes can write. Returns false for other registers. */
  private writeRegister(index: number, value: number): boolean {
    const { regs } = this;
    if (index >= REG.LVT && index < REG.LVT + LVT_COUNT) {
      this.writeLvt(index - REG.LVT, value);
      return true;
    }
    switch (index) {
      case REG.TPR:
        regs.tpr = value & 0xff;
        if (this.hasInterrupt()) this.signal.notify(this.id);
        return true;
      case REG.EOI:
        this.endOfInterrupt();
        return true;
      case REG.SVR:
        regs.svr = value & SVR.WRITABLE;
        if ((value & SVR.ENABLED) === 0) {
          this.tick(this.clock.now());
          for (let entry = 0; entry < LVT_COUNT; entry++) regs.lvt[entry] |= LVT_MASKED;
        }
        return true;
      case REG.ESR:
        regs.esr = regs.errors;
        regs.errors = 0;
        return true;
      case REG.INITIAL_COUNT:
        this.timer.start(value, this.clock.now());
        return true;
      case REG.DIVIDE:
        this.timer.setDivide(value & 0x0b, this.clock.now());
        return true;
    }
    return false;
  }

  private writeBase(low: number, high: number): boolean {
    const { regs } = this;
    const enabled = (low & BASE.ENABLED) !== 0;
    const x2apic = (low & BASE.X2APIC) !== 0;
    // 52 address bits at most. x2APIC is entered from xAPIC only, and left by disabling.
    if ((low & BASE.RESERVED) !== 0 || high >>> 20 !== 0) return false;
    if (x2apic && (!enabled || (!this.enabled && !this.x2apic))) return false;
    if (this.x2apic && enabled && !x2apic) return false;
    const was = this.enabled;
    regs.baseLow = ((low & ~BASE.BSP) | (this.id === 0 ? BASE.BSP : 0)) >>> 0;
    regs.baseHigh = high >>> 0;
    if (was && !enabled) this.clearState();
    this.network.moved();
    this.signal.notify(this.id);
    return true;
  }

  /** Disabling loses all but the base and what the processor itself waits for. */
  private clearState(): void {
    const { regs } = this;
    const { baseLow, baseHigh, waiting, sipi, init, nmi } = regs;
    const [lint0, lint1] = regs.lint;
    regs.resetAll();
    Object.assign(regs, { baseLow, baseHigh, waiting, sipi, init, nmi });
    regs.lint[0] = lint0;
    regs.lint[1] = lint1;
  }

  private x2apicLdr(): number {
    return ((this.id >> 4) << 16) | (1 << (this.id & 15));
  }

  private endOfInterrupt(): void {
    const { regs } = this;
    const vector = highest(regs.isr);
    if (vector < 0) return;
    const word = vector >> 5;
    const bit = 1 << (vector & 31);
    regs.isr[word] &= ~bit;
    if ((regs.tmr[word] & bit) !== 0) {
      if ((regs.svr & SVR.NO_BROADCAST) === 0) this.network.eoi(vector);
      for (let pin = 0; pin < 2; pin++) {
        const entry = LVT.LINT0 + pin;
        if ((regs.lvt[entry] & 0xff) !== vector) continue;
        regs.lvt[entry] &= ~REMOTE_IRR;
        this.serveLint(pin as 0 | 1, false);
      }
    }
    if (this.hasInterrupt()) this.signal.notify(this.id);
  }

  private request(vector: number, level: boolean): boolean {
    if (!this.accepting) return false;
    if (vector < 16) {
      this.fail(ERROR.RECEIVE_VECTOR);
      return true;
    }
    const { regs } = this;
    const word = vector >> 5;
    const bit = 1 << (vector & 31);
    regs.irr[word] |= bit;
    if (level) regs.tmr[word] |= bit;
    else regs.tmr[word] &= ~bit;
    this.signal.notify(this.id);
    return true;
  }

  private requestLvt(entry: number): void {
    const value = this.regs.lvt[entry];
    if ((value & LVT_MASKED) === 0) this.request(value & 0xff, false);
  }

  private fail(error: number): void {
    const { regs } = this;
    const known = (regs.errors & error) !== 0;
    regs.errors |= error;
    // An error vector that is itself illegal must not fail again and again.
    if (!known && (regs.lvt[LVT.ERROR] & 0xff) >= 16) this.requestLvt(LVT.ERROR);
  }

  private sendIpi(command: number, destination: number, wide: boolean): void {
    const { regs } = this;
    regs.icrLow = command & ICR_WRITABLE;
    const vector = command & 0xff;
    const mode = (command >> 8) & 7;
    // INIT level de-assert only sets arbitration ids, which nothing here has.
    if (mode === DeliveryMode.INIT && (command & 0xc000) === LEVEL) return;
    if (mode <= DeliveryMode.LOWEST && vector < 16) {
      this.fail(ERROR.SEND_VECTOR);
      return;
    }
    if (mode === DeliveryMode.EXTINT) return;
    const logical = (command & 0x800) !== 0;
    this.network.ipi(this.id, (command >> 18) & 3, destination, wide, logical, mode, vector);
  }

  private writeLvt(entry: number, value: number): void {
    const { regs } = this;
    const forced = (regs.svr & SVR.ENABLED) === 0 ? LVT_MASKED : 0;
    const kept = (value & LVT_WRITABLE[entry]) | (regs.lvt[entry] & REMOTE_IRR) | forced;
    if (entry === LVT.TIMER) this.timer.setVector(kept, this.clock.now());
    else regs.lvt[entry] = kept;
    if (entry === LVT.LINT0) this.serveLint(0, false);
    if (entry === LVT.LINT1) this.serveLint(1, false);
  }

  /** Delivery mode of a LINT entry, -1 when masked. */
  private lintMode(entry: number): number {
    const value = this.regs.lvt[entry];
    return (value & LVT_MASKED) !== 0 ? -1 : (value >> 8) & 7;
  }

  /** Does what an asserted pin asks for: at its rising edge, or (level-triggered) whenever that may have changed. */
  private serveLint(pin: 0 | 1, rising: boolean): void {
    const { regs } = this;
    if (regs.lint[pin] === 0) return;
    const entry = LVT.LINT0 + pin;
    const value = regs.lvt[entry];
    const mode = this.lintMode(entry);
    if (!this.enabled) {
      // Without a local APIC the pins are INTR and NMI.
      if (pin === 1 && rising) regs.nmi = 1;
      this.signal.notify(this.id);
    } else if (mode === DeliveryMode.EXTINT) {
      this.signal.notify(this.id);
    } else if (mode === DeliveryMode.FIXED && (value & LEVEL) !== 0) {
      if ((value & REMOTE_IRR) === 0 && this.request(value & 0xff, true)) regs.lvt[entry] |= REMOTE_IRR;
    } else if (mode >= 0 && rising) {
      this.receive(mode, value & 0xff, false);
    }
  }
}
