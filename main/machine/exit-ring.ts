import { Exit, Gpr, Prot } from '../nvmm/constants.ts';
import type { Vcpu } from '../nvmm/nvmm.ts';

/** Enough to see how a guest got where it died, and a screenful. */
const KEPT = 64;

const NAMES = new Map<number, string>(Object.entries(Exit).map(([name, value]) => [value, name]));

/** An exit's name, for counters and for people. */
export function exitName(reason: number): string {
  return NAMES.get(reason) ?? `0x${reason.toString(16)}`;
}

/** The counters of a vCPU, in this order; the last one is for everything else. */
const COUNTED = [
  Exit.NONE,
  Exit.STOPPED,
  Exit.MEMORY,
  Exit.IO,
  Exit.SHUTDOWN,
  Exit.INT_READY,
  Exit.NMI_READY,
  Exit.HALTED,
  Exit.TPR_CHANGED,
  Exit.RDMSR,
  Exit.WRMSR,
  Exit.MONITOR,
  Exit.MWAIT,
  Exit.CPUID,
] as const;
const INDEX = new Map<number, number>(COUNTED.map((reason, index) => [reason, index]));

/** Where an exit is counted, in Mailbox.counters. */
export function counterOf(reason: number): number {
  return INDEX.get(reason) ?? COUNTED.length;
}

/** The counters that are not zero, by name. */
export function namedCounters(counters: Float64Array): Record<string, number> {
  const named: Record<string, number> = {};
  counters.forEach((count, index) => {
    const name = index < COUNTED.length ? exitName(COUNTED[index]) : 'other';
    if (count > 0) named[`exits.${name}`] = count;
  });
  return named;
}

/** A vCPU's last exits, written on every one and read when something went wrong: no allocation. */
export class ExitRing {
  private readonly reasons = new Int32Array(KEPT);
  private readonly ripLow = new Uint32Array(KEPT);
  private readonly ripHigh = new Uint32Array(KEPT);
  /** Port, guest-physical address or MSR. */
  private readonly where = new Float64Array(KEPT);
  /** Access size of IO, protection bit of MEMORY; negative: a write. */
  private readonly how = new Int8Array(KEPT);
  private count = 0;

  /** Notes the exit that is in `vcpu.exit`. RIP is taken where the backend delivers it with the exit. */
  note(vcpu: Vcpu): void {
    const { exit, state } = vcpu;
    const { reason } = exit;
    const at = this.count++ % KEPT;
    this.reasons[at] = reason;
    let known = true;
    switch (reason) {
      case Exit.IO:
        this.where[at] = exit.ioPort;
        this.how[at] = exit.ioIn ? exit.ioOperandSize : -exit.ioOperandSize;
        break;
      case Exit.MEMORY:
        this.where[at] = exit.memGpa;
        this.how[at] = exit.memProt;
        break;
      case Exit.RDMSR:
      case Exit.WRMSR:
        this.where[at] = exit.msr;
        break;
      default:
        known = false;
    }
    this.ripLow[at] = known ? state.gprLow(Gpr.RIP) : 0;
    this.ripHigh[at] = known ? state.gprHigh(Gpr.RIP) : 0;
  }

  /** Oldest first, a line each. */
  lines(): string[] {
    const lines: string[] = [];
    for (let n = Math.max(0, this.count - KEPT); n < this.count; n++) lines.push(this.line(n % KEPT));
    return lines;
  }

  private line(at: number): string {
    const rip = this.ripHigh[at] * 2 ** 32 + this.ripLow[at];
    const from = rip === 0 ? '' : ` at ${address(this.ripLow[at], this.ripHigh[at])}`;
    const where = `0x${this.where[at].toString(16)}`;
    switch (this.reasons[at]) {
      case Exit.IO:
        return `IO ${this.how[at] > 0 ? 'in' : 'out'} port ${where}, ${Math.abs(this.how[at])} bytes${from}`;
      case Exit.MEMORY: {
        const access = this.how[at] === Prot.WRITE ? 'write' : this.how[at] === Prot.EXEC ? 'fetch' : 'read';
        return `MEMORY ${access} ${where}${from}`;
      }
      case Exit.RDMSR:
      case Exit.WRMSR:
        return `${exitName(this.reasons[at])} ${where}${from}`;
      default:
        return exitName(this.reasons[at]);
    }
  }
}

/** A 64-bit address from its halves. */
export function address(low: number, high: number): string {
  const digits = high === 0 ? '' : high.toString(16);
  return `0x${digits}${low.toString(16).padStart(digits === '' ? 1 : 8, '0')}`;
}
