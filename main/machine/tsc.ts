import { Msr, State, StateOffset } from '../nvmm/constants.ts';
import type { Machine, Nvmm, Vcpu } from '../nvmm/nvmm.ts';
import type { Clock } from '../devices/device.ts';
import type { Mailbox } from './control.ts';

/** Shortest stretch of time that tells the rate: at 5 ms a jitter of a microsecond is 0.02 %. */
const SHORTEST_NS = 5e6;
/** How often the relation is made anew: a drift of 10 ppm stays below 10 µs. */
const RENEW_NS = 1e9;

const LOW = StateOffset.MSRS + 8 * Msr.TSC;

/**
 * How a vCPU's time stamp counter relates to the machine's clock. It is measured at exits, for no backend says:
 * the local APIC needs it for TSC deadlines, and after a pause the counter is set back to where it stood.
 */
export class TscRelation {
  private readonly nvmm: Nvmm;
  private readonly machine: Machine;
  private readonly vcpu: Vcpu;
  private readonly clock: Clock;
  private readonly mailbox: Mailbox;
  private firstLow = 0;
  private firstHigh = 0;
  private firstNs = -1;
  private nextNs = 0;
  private measured = false;

  constructor(nvmm: Nvmm, machine: Machine, vcpu: Vcpu, clock: Clock, mailbox: Mailbox) {
    this.nvmm = nvmm;
    this.machine = machine;
    this.vcpu = vcpu;
    this.clock = clock;
    this.mailbox = mailbox;
  }

  /** When an exit is wanted for the sake of measuring: the rate may be another one than before. */
  get wantedAt(): number {
    return this.measured ? Infinity : this.nextNs;
  }

  /** To be called after an exit at `now`; measures when it is time to, and says so. */
  observe(now: number): boolean {
    if (now < this.nextNs) return false;
    const { view } = this.vcpu.state;
    this.nvmm.getState(this.machine, this.vcpu, State.MSRS);
    const low = view.getUint32(LOW, true);
    const high = view.getUint32(LOW + 4, true);
    const ns = this.clock.now();
    const ticks = (high - this.firstHigh) * 2 ** 32 + (low - this.firstLow);
    if (this.firstNs < 0 || ticks <= 0) {
      this.firstLow = low;
      this.firstHigh = high;
      this.firstNs = ns;
      this.nextNs = ns + SHORTEST_NS;
      if (this.mailbox.ticksPerNs > 0) this.mailbox.relateTsc(low, high, ns, this.mailbox.ticksPerNs);
      return true;
    }
    this.mailbox.relateTsc(low, high, ns, ticks / (ns - this.firstNs));
    this.nextNs = ns + RENEW_NS;
    this.measured = true;
    return true;
  }

  /** Says exactly what is known without measuring: where time is the count of instructions, a tick is a nanosecond. */
  relate(now: number): void {
    const { view } = this.vcpu.state;
    this.nvmm.getState(this.machine, this.vcpu, State.MSRS);
    this.mailbox.relateTsc(view.getUint32(LOW, true), view.getUint32(LOW + 4, true), now, 1);
  }

  /** The guest wrote the counter, or the machine stood still: measure from the beginning. */
  restart(): void {
    this.firstNs = -1;
    this.nextNs = 0;
    this.measured = false;
  }

  /** Remembers where the counter stands, for `put` after a pause. */
  take(): bigint {
    this.nvmm.getState(this.machine, this.vcpu, State.MSRS);
    return this.vcpu.state.msr(Msr.TSC);
  }

  put(value: bigint): void {
    this.nvmm.getState(this.machine, this.vcpu, State.MSRS);
    // One more than it was: NVMM ignores a TSC that is the one it gave out last.
    this.vcpu.state.setMsr(Msr.TSC, value + 1n);
    this.nvmm.setState(this.machine, this.vcpu, State.MSRS);
    this.restart();
  }
}
