import { DebugKind, Exit, Gpr, Seg, State, VcpuConf, VcpuConfSupport } from '../nvmm/constants.ts';
import type { DebugConf, Machine, Nvmm, Vcpu, Watchpoint } from '../nvmm/nvmm.ts';
import type { SetBreakpoint, Stop, StopReason } from './debug.ts';
import { MachineError } from './errors.ts';
import { exitName } from './exit-names.ts';

/** Exits that come before what they are about: who runs on meets them again. */
const BEFORE: ReadonlySet<number> = new Set([
  Exit.IO,
  Exit.MEMORY,
  Exit.RDMSR,
  Exit.WRMSR,
  Exit.MONITOR,
  Exit.MWAIT,
  Exit.CPUID,
]);

/** Names of exceptions (SDM volume 3, table 6-1). */
const MNEMONICS =
  '#DE #DB NMI #BP #OF #BR #UD #NM #DF CSO #TS #NP #SS #GP #PF 15 #MF #AC #MC #XM #VE #CP'.split(' ');

/** `#GP` for 13. */
export function exceptionName(vector: number): string {
  return MNEMONICS[vector] ?? `exception ${vector}`;
}

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** What stops one vCPU: the part of a debugger that is on its thread. */
export class VcpuDebug {
  private readonly nvmm: Nvmm;
  private readonly machine: Machine;
  private readonly vcpu: Vcpu;
  private breakpoints: readonly SetBreakpoint[] = [];
  /** By place in the backend's configuration. */
  private executes: readonly SetBreakpoint[] = [];
  private watches: readonly SetBreakpoint[] = [];
  private conf: DebugConf = { step: false, breakpoints: [], watchpoints: [], exceptions: 0 };
  private configured = false;
  /** Exits can stop. */
  private armed = false;
  /** Where the vCPU stopped before what an exit is about; null elsewhere. */
  private before: bigint | null = null;

  constructor(nvmm: Nvmm, machine: Machine, vcpu: Vcpu) {
    this.nvmm = nvmm;
    this.machine = machine;
    this.vcpu = vcpu;
  }

  /** Takes the breakpoints that hold from now on. Throws when the backend can't have them; then nothing has changed. */
  configure(breakpoints: readonly SetBreakpoint[]): void {
    const of = (kind: string): SetBreakpoint[] =>
      breakpoints.filter(({ breakpoint }) => breakpoint.kind === kind);
    const executes = of('execute');
    const watches = of('watch');
    const conf: DebugConf = {
      step: false,
      breakpoints: executes.map(({ breakpoint }) =>
        breakpoint.kind === 'execute' ? breakpoint.address : 0n,
      ),
      watchpoints: watches.flatMap(({ breakpoint }) => watchpointOf(breakpoint)),
      exceptions: breakpoints.reduce(
        (mask, { breakpoint: one }) => (one.kind === 'exception' ? (mask | (1 << one.vector)) >>> 0 : mask),
        0,
      ),
    };
    const wanted = executes.length + watches.length > 0 || conf.exceptions !== 0;
    if (wanted || this.configured) this.put(conf);
    this.conf = conf;
    this.configured = wanted;
    this.breakpoints = breakpoints;
    this.executes = executes;
    this.watches = watches;
    this.armed = breakpoints.some(({ breakpoint }) => ['exit', 'port', 'msr'].includes(breakpoint.kind));
  }

  /** Some exits stop: each must be one. */
  get stopsAtExits(): boolean {
    return this.armed;
  }

  private put(conf: DebugConf): void {
    const { nvmm, machine, vcpu } = this;
    if ((nvmm.capability().vcpuConfSupport & VcpuConfSupport.DEBUG) === 0) {
      throw new MachineError(
        'host',
        `The ${nvmm.backend} backend can't step, nor stop at addresses or exceptions: its libnvmm has no ` +
          'VCPU_CONF_DEBUG. Breakpoints on exits, ports and MSRs work; the emulated backend has all of them.',
      );
    }
    nvmm.vcpuConfigure(machine, vcpu, VcpuConf.DEBUG, conf);
  }

  /** Does `work` with a backend that steps. */
  stepping<T>(work: () => T): T {
    this.put({ ...this.conf, step: true });
    try {
      return work();
    } finally {
      this.put(this.conf);
    }
  }

  /** Whether the vCPU stands where it would stop again at once: it must be stepped to get on. */
  standsAtStop(): boolean {
    if (this.before !== null) return true;
    if (this.executes.length === 0) return false;
    const linear = this.codeAddress();
    return this.conf.breakpoints.includes(linear);
  }

  /** RIP's linear address. */
  codeAddress(): bigint {
    const { state } = this.vcpu;
    this.nvmm.getState(this.machine, this.vcpu, State.GPRS | State.SEGS);
    const long = (state.attrib(Seg.CS) & (1 << 9)) !== 0;
    return long ? state.rip : BigInt.asUintN(32, state.base(Seg.CS) + state.rip);
  }

  get rip(): bigint {
    this.nvmm.getState(this.machine, this.vcpu, State.GPRS);
    return this.vcpu.state.gpr(Gpr.RIP);
  }

  /** Looks at an exit before it is handled: the stop, if it is one. */
  atExit(): Stop | null {
    const { reason } = this.vcpu.exit;
    if (reason === Exit.DEBUG) return this.atDebugExit();
    if (!this.armed || reason === Exit.NONE || reason === Exit.STOPPED) return null;
    const found = this.breakpoints.find(({ breakpoint }) => this.matches(breakpoint));
    if (found === undefined) return null;
    const { rip } = this;
    if (BEFORE.has(reason)) {
      if (this.before === rip) return null;
      this.before = rip;
    }
    return this.exitStop(found, reason, rip);
  }

  /** After a return to a stop that was met before what stopped was done. */
  standAt({ reason, rip }: Stop): void {
    if (reason === 'port' || reason === 'msr' || reason === 'exit') this.before = rip;
  }

  /** The vCPU has gone on from where it had stopped. */
  passed(): void {
    this.before = null;
  }

  /** Whether the exit, which was a stop, is to be handled first: it is about something that has happened. */
  get isOver(): boolean {
    return !BEFORE.has(this.vcpu.exit.reason) && this.vcpu.exit.reason !== Exit.DEBUG;
  }

  /** A stop without a breakpoint. */
  stop(reason: StopReason, message: string): Stop {
    return { vcpu: this.vcpu.cpuid, reason, rip: this.rip, message };
  }

  private atDebugExit(): Stop {
    const { exit } = this.vcpu;
    const { rip } = this;
    const at = `at ${hex(rip)}`;
    switch (exit.debugKind) {
      case DebugKind.BREAKPOINT: {
        const found = this.executes[exit.debugIndex];
        const stop = this.stop('breakpoint', `Breakpoint ${found?.id ?? '?'} ${at}.`);
        return { ...stop, ...idOf(found), address: exit.debugAddress };
      }
      case DebugKind.WATCHPOINT: {
        const found = this.watches[exit.debugIndex];
        const access = exit.debugWrite ? 'write' : 'read';
        const message = `Watchpoint ${found?.id ?? '?'}: a ${access} at ${hex(exit.debugAddress)}, by the instruction before ${hex(rip)}.`;
        return { ...this.stop('watchpoint', message), ...idOf(found), address: exit.debugAddress, access };
      }
      case DebugKind.EXCEPTION: {
        const { debugVector: vector, debugError: error } = exit;
        const found = this.breakpoints.find(
          ({ breakpoint }) => breakpoint.kind === 'exception' && breakpoint.vector === vector,
        );
        const code = error < 0 ? '' : `, error code ${hex(error)}`;
        const stop = this.stop('exception', `${exceptionName(vector)}${code} ${at}.`);
        return { ...stop, ...idOf(found), vector, ...(error < 0 ? {} : { error }) };
      }
      default:
        return this.stop('step', `Stepped: now ${at}.`);
    }
  }

  private matches(breakpoint: SetBreakpoint['breakpoint']): boolean {
    const { exit } = this.vcpu;
    const { reason } = exit;
    switch (breakpoint.kind) {
      case 'exit':
        return breakpoint.reason === exitName(reason);
      case 'port': {
        if (reason !== Exit.IO) return false;
        const last = exit.ioPort + exit.ioOperandSize - 1;
        if (exit.ioPort > breakpoint.last || last < breakpoint.first) return false;
        return breakpoint.direction === 'both' || (breakpoint.direction === 'in') === exit.ioIn;
      }
      case 'msr':
        if (reason !== Exit.RDMSR && reason !== Exit.WRMSR) return false;
        if (exit.msr !== breakpoint.index) return false;
        return breakpoint.access === 'access' || (breakpoint.access === 'read') === (reason === Exit.RDMSR);
      default:
        return false;
    }
  }

  private exitStop({ id, breakpoint }: SetBreakpoint, reason: number, rip: bigint): Stop {
    const { exit } = this.vcpu;
    const name = exitName(reason);
    const at = `at ${hex(rip)}`;
    const kind = breakpoint.kind === 'port' || breakpoint.kind === 'msr' ? breakpoint.kind : 'exit';
    const base = { vcpu: this.vcpu.cpuid, reason: kind, id, rip, exit: name } as const;
    switch (reason) {
      case Exit.IO: {
        const access = exit.ioIn ? 'read' : 'write';
        const message = `Breakpoint ${id}: ${exit.ioIn ? 'IN from' : 'OUT to'} port ${hex(exit.ioPort)} ${at}.`;
        return { ...base, address: BigInt(exit.ioPort), access, message };
      }
      case Exit.MEMORY:
        return {
          ...base,
          address: BigInt(exit.memGpa),
          access: exit.memProt === 2 ? 'write' : 'read',
          message: `Breakpoint ${id}: access to guest-physical ${hex(exit.memGpa)} ${at}.`,
        };
      case Exit.RDMSR:
      case Exit.WRMSR: {
        const access = reason === Exit.RDMSR ? 'read' : 'write';
        const message = `Breakpoint ${id}: ${name} of ${hex(exit.msr)} ${at}.`;
        return { ...base, address: BigInt(exit.msr), access, message };
      }
      default:
        return { ...base, message: `Breakpoint ${id}: exit ${name} ${at}.` };
    }
  }
}

const idOf = (found: SetBreakpoint | undefined): { id?: number } =>
  found === undefined ? {} : { id: found.id };

function watchpointOf(breakpoint: SetBreakpoint['breakpoint']): Watchpoint[] {
  if (breakpoint.kind !== 'watch') return [];
  const { address, length, access } = breakpoint;
  return [{ address, length, read: access !== 'write', write: access !== 'read' }];
}
