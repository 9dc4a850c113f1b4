import { Exit } from '../nvmm/constants.ts';
import { isCanonical, WATCH_LIMIT } from '../nvmm/debug.ts';
import type { Answers } from './answers.ts';
import type { Breakpoint, SetBreakpoint, Stop } from './debug.ts';
import { MachineError } from './errors.ts';
import type { VcpuRequestName, VcpuRequests } from './vcpu-requests.ts';

/** Steps of one request at most: the vCPU's thread does nothing else meanwhile, for up to about a second. */
export const STEPS_MAXIMUM = 100_000;
/** More breakpoints than anybody sets by hand; each costs a comparison at every exit. */
const BREAKPOINTS_MAXIMUM = 10_000;

/** Exits that a machine can stop at: not those that only say that a run was cut short. */
export const STOPPING_EXITS: readonly string[] = Object.keys(Exit).filter(
  (name) => !['NONE', 'STOPPED', 'DEBUG'].includes(name),
);

/** What debugging needs of a machine: its I/O thread's side. */
export interface DebuggedMachine {
  readonly vcpuCount: number;
  /** Does something while no vCPU runs, between verbs, and lets them run on if they did. */
  whileStill<T>(work: () => Promise<T>): Promise<T>;
  /** Asks a vCPU whose thread is paused, whatever the machine's state is called. */
  request<N extends VcpuRequestName>(
    vcpu: number,
    name: N,
    params: VcpuRequests[N]['params'],
  ): Promise<VcpuRequests[N]['result']>;
  /** Lets a vCPU step, with time going on meanwhile; says so to the parent unless `quiet`. */
  step(vcpu: number, count: number, quiet: boolean): Promise<Stop>;
  back(to: 'step' | 'stop', quiet: boolean): Promise<Stop>;
}

/** The breakpoints of a machine. */
export class Debugging {
  private readonly machine: DebuggedMachine;
  private breakpoints: readonly SetBreakpoint[] = [];
  private next = 1;

  constructor(machine: DebuggedMachine) {
    this.machine = machine;
  }

  answers(): Answers<'debug.back' | 'debug.step' | 'debug.add' | 'debug.remove' | 'debug.list'> {
    return {
      'debug.back': ({ to, quiet }) => this.machine.back(to, quiet ?? false),
      'debug.step': ({ vcpu, count, quiet }) => {
        const times = count ?? 1;
        if (Number.isInteger(times) && times >= 1 && times <= STEPS_MAXIMUM) {
          return this.machine.step(vcpu, times, quiet ?? false);
        }
        throw new MachineError('host', `${times} steps are not 1 to ${STEPS_MAXIMUM}: ask again for more.`);
      },
      'debug.add': ({ breakpoint, once }) => this.add(breakpoint, once ?? false),
      'debug.remove': ({ id }) => this.remove(id),
      'debug.list': () => [...this.breakpoints],
    };
  }

  /** Notes that a machine has stopped: one-time breakpoints go, and the one that was met is counted. */
  async met(stop: Stop): Promise<void> {
    const kept = this.breakpoints
      .filter(({ once }) => !once)
      .map((one) => (one.id === stop.id ? { ...one, hits: one.hits + 1 } : one));
    const gone = kept.length !== this.breakpoints.length;
    this.breakpoints = kept;
    if (gone) await this.distribute();
  }

  private async add(breakpoint: Breakpoint, once: boolean): Promise<{ id: number; note?: string }> {
    checkBreakpoint(breakpoint);
    return this.machine.whileStill(async () => {
      if (this.breakpoints.length >= BREAKPOINTS_MAXIMUM) {
        throw new MachineError('host', `There are ${BREAKPOINTS_MAXIMUM} breakpoints: remove some.`);
      }
      const id = this.next++;
      const before = this.breakpoints;
      await this.change([...before, { id, breakpoint, once, hits: 0 }], before);
      const note = await this.noteAbout(breakpoint);
      return note === null ? { id } : { id, note };
    });
  }

  private async remove(id: number): Promise<null> {
    return this.machine.whileStill(async () => {
      const before = this.breakpoints;
      const kept = before.filter((one) => one.id !== id);
      if (kept.length === before.length) throw new MachineError('host', `There is no breakpoint ${id}.`);
      await this.change(kept, before);
      return null;
    });
  }

  /** All vCPUs take the new list, or none does. */
  private async change(list: readonly SetBreakpoint[], before: readonly SetBreakpoint[]): Promise<void> {
    try {
      await this.distribute(list);
    } catch (error) {
      await this.distribute(before);
      throw error;
    }
    this.breakpoints = list;
  }

  /** Gives the breakpoints to every vCPU; all of them paused. */
  async distribute(list = this.breakpoints): Promise<void> {
    for (let vcpu = 0; vcpu < this.machine.vcpuCount; vcpu++) {
      await this.machine.request(vcpu, 'debug.configure', list);
    }
  }

  /** What to know of an address that is not mapped now. */
  private async noteAbout(breakpoint: Breakpoint): Promise<string | null> {
    if (breakpoint.kind !== 'execute' && breakpoint.kind !== 'watch') return null;
    const { address } = breakpoint;
    const low = Number(BigInt.asUintN(32, address));
    const found = await this.machine.request(0, 'translate', { low, high: Number(address >> 32n) });
    if (!('fault' in found)) return null;
    return `Nothing is mapped at 0x${address.toString(16)} now (on vCPU 0): it takes effect once something is.`;
  }
}

/** Throws MachineError, with the way out, unless the breakpoint is one. */
export function checkBreakpoint(breakpoint: Breakpoint): void {
  const refuse = (why: string): never => {
    throw new MachineError('host', why);
  };
  const within = (what: string, value: number, last: number): void => {
    if (!(Number.isInteger(value) && value >= 0 && value <= last)) {
      refuse(`${what} ${value} is not 0 to 0x${last.toString(16)}.`);
    }
  };
  const canonical = (address: bigint): void => {
    if (!isCanonical(address)) refuse(`0x${address.toString(16)} is not a canonical address.`);
  };
  switch (breakpoint.kind) {
    case 'execute':
      return canonical(breakpoint.address);
    case 'watch': {
      const { address, length } = breakpoint;
      canonical(address);
      if (!(Number.isInteger(length) && length >= 1 && length <= WATCH_LIMIT)) {
        refuse(`${length} bytes can't be watched: a watchpoint has 1 byte to 4 GiB (${WATCH_LIMIT} bytes).`);
      }
      return canonical(address + BigInt(length - 1));
    }
    case 'exit':
      if (STOPPING_EXITS.includes(breakpoint.reason)) return;
      return refuse(`There is no exit "${breakpoint.reason}". There are: ${STOPPING_EXITS.join(', ')}.`);
    case 'port':
      within('Port', breakpoint.first, 0xffff);
      within('Port', breakpoint.last, 0xffff);
      if (breakpoint.last < breakpoint.first) refuse('The last port comes before the first.');
      return;
    case 'msr':
      return within('MSR', breakpoint.index, 0xffff_ffff);
    case 'exception':
      return within('Exception', breakpoint.vector, 31);
    case 'triple-fault':
      return;
  }
}
