import { Eflags } from '../cpu.ts';
import type { Processor } from '../processor.ts';
import { Field, SegmentIndex } from '../state.ts';

const DR6 = Field.DR + 32;
const DR7 = Field.DR + 40;
const DR6_BS = 0x4000;
const DR6_BT = 0x8000;
const ENABLED = 0xff;
const LOCAL = 0x55;
/** Break conditions in DR7. */
const Condition = { EXECUTE: 0, WRITE: 1, IO: 2, ACCESS: 3 } as const;
const LENGTHS = [1, 2, 8, 4];

/**
 * Breakpoints of DR0-DR3, and the trap flag (SDM vol. 3, chapter 17). While a breakpoint is enabled the
 * processor runs instruction by instruction: exact, and nobody is in a hurry then.
 */
export class Debug {
  private readonly p: Processor;
  /** Some breakpoint is enabled. */
  active = false;
  /** Breakpoints that the instruction hit, as bits of DR6. */
  hits = 0;
  /** The instruction (a software interrupt, a cleared TF) does not trap although TF was set before it. */
  suppressTrap = false;
  /** The instruction (SYSCALL or SYSRET) traps when TF is set after it, not before it (SDM vol. 2, SYSRET). */
  trapsByNewFlag = false;
  /** The instruction loaded RF itself. */
  keepsRf = false;
  private taskTrap = false;

  constructor(p: Processor) {
    this.p = p;
  }

  /** After a change of DR0-DR7. */
  update(): void {
    const { cpu, mmu } = this.p;
    const dr7 = cpu.get(DR7);
    this.active = (dr7 & ENABLED) !== 0;
    const data =
      this.active && [0, 1, 2, 3].some((n) => this.enabled(n) && this.condition(n) !== Condition.EXECUTE);
    const pages = data
      ? [0, 1, 2, 3]
          .filter((n) => this.enabled(n))
          .map((n) => Math.floor(cpu.number(Field.DR + 8 * n) / 4096))
      : [];
    // Accesses to those pages take the slow way, which asks accessed() and the inspector.
    const { inspector } = this.p;
    mmu.watched =
      data || inspector.isWatching
        ? (linear) => pages.includes(Math.floor(linear / 4096)) || inspector.watchesPage(linear)
        : undefined;
    mmu.flushAll();
  }

  private enabled(n: number): boolean {
    return (this.p.cpu.get(DR7) & (3 << (2 * n))) !== 0;
  }
  private condition(n: number): number {
    return (this.p.cpu.get(DR7) >>> (16 + 4 * n)) & 3;
  }
  private length(n: number): number {
    return LENGTHS[(this.p.cpu.get(DR7) >>> (18 + 4 * n)) & 3];
  }

  /** Whether an execution breakpoint is at RIP; DR6 tells which. */
  hitsCode(): boolean {
    const { cpu } = this.p;
    const rip = cpu.code64 ? cpu.number(Field.RIP) : (cpu.get(Field.RIP) >>> 0) + cpu.base(SegmentIndex.CS);
    let hits = 0;
    for (let n = 0; n < 4; n++) {
      if (
        this.enabled(n) &&
        this.condition(n) === Condition.EXECUTE &&
        cpu.number(Field.DR + 8 * n) === rip
      ) {
        hits |= 1 << n;
      }
    }
    if (hits === 0) return false;
    cpu.set(DR6, cpu.get(DR6) | hits);
    return true;
  }

  /** A data access in a watched page. */
  accessed(linear: number, bytes: number, write: boolean): void {
    if (!this.active) return;
    for (let n = 0; n < 4; n++) {
      const condition = this.condition(n);
      const matches = condition === Condition.ACCESS || (condition === Condition.WRITE && write);
      if (!this.enabled(n) || !matches) continue;
      const length = this.length(n);
      const start = Math.floor(this.p.cpu.number(Field.DR + 8 * n) / length) * length;
      if (linear < start + length && linear + bytes > start) this.hits |= 1 << n;
    }
  }

  /** After an instruction: whether a debug trap is due. `traced`: TF was set before it. */
  afterStep(traced: boolean): boolean {
    const { cpu } = this.p;
    let dr6 = this.hits;
    const single = this.trapsByNewFlag ? (cpu.get(Field.EFLAGS) & Eflags.TF) !== 0 : traced;
    this.trapsByNewFlag = false;
    if (single && !this.suppressTrap) dr6 |= DR6_BS;
    if (this.taskTrap) dr6 |= DR6_BT;
    this.taskTrap = false;
    if (dr6 === 0) return false;
    cpu.set(DR6, cpu.get(DR6) | dr6);
    return true;
  }

  /** The same after an instruction that was not stepped: by TF that it loaded, or the T bit of the new task. */
  afterTransfer(): boolean {
    if (!this.trapsByNewFlag && !this.taskTrap) return false;
    this.hits = 0;
    this.suppressTrap = false;
    return this.afterStep(false);
  }

  /** After an instruction that left TF clear: whether afterTransfer() has something to tell all the same. */
  owesTrap(): boolean {
    this.trapsByNewFlag = false;
    return this.taskTrap;
  }

  onTask(trap: boolean): void {
    const { cpu } = this.p;
    if (cpu.get(DR7) & LOCAL) {
      cpu.set(DR7, cpu.get(DR7) & ~LOCAL);
      this.update();
    }
    this.taskTrap = trap;
  }
}
