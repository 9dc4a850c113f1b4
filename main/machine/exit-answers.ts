import { isApicMsr, type Lapic } from '../devices/lapic.ts';
import { advance, writeRax } from '../nvmm/assist.ts';
import { EventType, Exit, Gpr, State } from '../nvmm/constants.ts';
import { NvmmError } from '../nvmm/errors.ts';
import type { AssistCallbacks, IoAccess, MemAccess } from '../nvmm/nvmm.ts';
import { exitName } from './exit-names.ts';
import { TSC_ADJUST } from './msrs.ts';
import type { VcpuEnvironment } from './run-loop.ts';
import type { StandingPorts } from './standing-ports.ts';
import type { TscRelation } from './tsc.ts';
import type { Understudy } from './understudy.ts';

const VECTOR_UD = 6;
const VECTOR_GP = 13;
const MSR_TSC = 0x10;

/** What answers say to the loop that they are part of. */
export interface AnsweredLoop {
  /** Devices were touched: their deadlines may be others. */
  touched(): void;
  /** Something may be deliverable. */
  attends(): void;
  /** Both. */
  look(): void;
  halts(): void;
  inject(type: number, vector: number): void;
  crash(reason: string): void;
}

/** What exits are answered with: devices, MSRs, and exceptions for what there is not. On the vCPU's thread. */
export class ExitAnswers {
  private readonly environment: VcpuEnvironment;
  private readonly lapic: Lapic;
  private readonly id: number;
  private readonly tsc: TscRelation;
  /** Null where each access of a port is an exit. */
  private readonly ports: StandingPorts | null;
  private readonly loop: AnsweredLoop;
  /** For backends that complete an instruction by asking for its accesses. */
  readonly assist: AssistCallbacks;

  constructor(
    environment: VcpuEnvironment,
    tsc: TscRelation,
    ports: StandingPorts | null,
    loop: AnsweredLoop,
  ) {
    this.environment = environment;
    this.id = environment.vcpu.cpuid;
    this.lapic = environment.pc.interrupts.apics.get(this.id);
    this.tsc = tsc;
    this.ports = ports;
    this.loop = loop;
    this.assist = { io: (access) => this.assistedIo(access), mem: (access) => this.assistedMemory(access) };
  }

  /** Does what the exit in `vcpu.exit` is about; `now` is when it was. */
  answer(reason: number, now: number): void {
    const { vcpu, understudy } = this.environment;
    const { exit } = vcpu;
    switch (reason) {
      case Exit.IO:
        return this.io();
      case Exit.MEMORY:
        return this.memory();
      case Exit.STOPPED:
        return this.loop.look();
      case Exit.HALTED:
        return this.loop.halts();
      case Exit.INT_READY:
      case Exit.NMI_READY:
        return this.loop.attends();
      case Exit.TPR_CHANGED:
        return;
      case Exit.RDMSR:
        return this.readMsr();
      case Exit.WRMSR:
        return this.writeMsr();
      case Exit.MONITOR:
      case Exit.MWAIT:
        return this.fault(VECTOR_UD);
      case Exit.SHUTDOWN:
        return this.loop.crash('triple fault');
      default:
        if (reason === Exit.INVALID && understudy?.canPlay(exit) === true) {
          return this.standIn(understudy, now);
        }
        return this.loop.crash(
          `the backend can't run it on: exit ${exitName(reason)}, hardware code ${exit.hwcode}`,
        );
    }
  }

  /** An instruction that the backend can't run is run for it; what it asks for is answered as if the backend asked. */
  private standIn(understudy: Understudy, now: number): void {
    const { nvmm, machine, vcpu, trace } = this.environment;
    const exit = understudy.play(nvmm, machine, vcpu);
    const { reason } = exit;
    trace?.emulated();
    if (reason === Exit.DEBUG) return understudy.handBack(nvmm, machine, vcpu);
    trace?.end();
    understudy.handBack(nvmm, machine, vcpu);
    trace?.begin(vcpu, now);
    if (reason !== Exit.MEMORY && !(reason === Exit.IO && exit.ioStr)) return this.answer(reason, now);
    this.loop.touched();
    this.assisted(() => {
      understudy.assist();
      understudy.handBack(nvmm, machine, vcpu);
    });
  }

  /** IN and OUT, the commonest exit, without the assist; the string forms through it. */
  private io(): void {
    const { nvmm, machine, vcpu, pc, lock, trace } = this.environment;
    const { exit, state } = vcpu;
    this.loop.touched();
    if (exit.ioStr) {
      this.assisted(() => nvmm.assistIo(machine, vcpu));
      return;
    }
    const size = exit.ioOperandSize;
    lock.acquire();
    let value: number;
    if (exit.ioIn) {
      value = pc.ports.read(exit.ioPort, size, this.id);
      writeRax(state, size, value);
    } else {
      value = narrow(state.gprLow(Gpr.RAX), size);
      pc.ports.write(exit.ioPort, size, value, this.id);
    }
    trace?.port(value, pc.ports.answered);
    if (size === 1) this.ports?.met(exit.ioPort, exit.ioIn);
    lock.release();
    advance(vcpu);
    nvmm.setState(machine, vcpu, State.GPRS);
  }

  private memory(): void {
    const { nvmm, machine, vcpu } = this.environment;
    this.loop.touched();
    this.assisted(() => nvmm.assistMem(machine, vcpu));
  }

  /** An instruction that the assist can't do is, to the guest, one that does not exist. */
  private assisted(assist: () => void): void {
    const { lock } = this.environment;
    lock.acquire();
    try {
      assist();
    } catch (error) {
      if (!(error instanceof NvmmError)) throw error;
      this.fault(VECTOR_UD);
    } finally {
      lock.release();
    }
  }

  private assistedIo({ in: input, port, size, data }: IoAccess): void {
    const { pc, trace } = this.environment;
    const { ports } = pc;
    if (input) data.setUint32(0, ports.read(port, size, this.id), true);
    else ports.write(port, size, narrow(data.getUint32(0, true), size), this.id);
    trace?.port(narrow(data.getUint32(0, true), size), ports.answered);
  }

  private assistedMemory({ write, gpa, size, data }: MemAccess): void {
    const { pc, trace } = this.environment;
    const { mmio } = pc;
    // Vector accesses come with 16 bytes: they are so many 8-byte ones.
    for (let at = 0; at < size; at += 8) {
      const piece = Math.min(size - at, 8);
      if (write) {
        const high = piece === 8 ? data.getUint32(at + 4, true) : 0;
        const low = narrow(data.getUint32(at, true), piece);
        mmio.write(gpa + at, piece, low, this.id, high);
        trace?.memory(gpa + at, piece, true, low, high, mmio.answered);
        continue;
      }
      const low = mmio.read(gpa + at, piece, this.id);
      if (piece === 1) data.setUint8(at, low);
      else if (piece === 2) data.setUint16(at, low, true);
      else data.setUint32(at, low, true);
      if (piece === 8) data.setUint32(at + 4, mmio.high, true);
      trace?.memory(gpa + at, piece, false, low, piece === 8 ? mmio.high : 0, mmio.answered);
    }
  }

  private readMsr(): void {
    const { nvmm, machine, vcpu, pc, lock, trace } = this.environment;
    const index = vcpu.exit.msr;
    lock.acquire();
    const value = isApicMsr(index) ? this.lapic.readMsr(index) : pc.msrs[this.id].read(index);
    lock.release();
    if (value === null) return this.fault(VECTOR_GP);
    trace?.msr(value.low, value.high, pc.msrNumber(index));
    vcpu.state.setGprHalves(Gpr.RAX, value.low, 0);
    vcpu.state.setGprHalves(Gpr.RDX, value.high, 0);
    advance(vcpu);
    nvmm.setState(machine, vcpu, State.GPRS);
  }

  private writeMsr(): void {
    const { nvmm, machine, vcpu, pc, lock, clock, trace, timeline } = this.environment;
    const { msr: index, msrValueLow: low, msrValueHigh: high } = vcpu.exit;
    this.loop.touched();
    if (index === MSR_TSC) this.tsc.restart();
    if (index === TSC_ADJUST) this.adjustTsc(low, high);
    // The guest may have written its counter without an exit, and the deadline is one of that counter.
    if (timeline !== null && isApicMsr(index)) this.tsc.relate(clock.now());
    lock.acquire();
    const taken = isApicMsr(index)
      ? this.lapic.writeMsr(index, low, high)
      : pc.msrs[this.id].write(index, low, high);
    lock.release();
    if (!taken) return this.fault(VECTOR_GP);
    trace?.msr(low, high, pc.msrNumber(index));
    advance(vcpu);
    nvmm.setState(machine, vcpu, State.GPRS);
  }

  /** Moves the counter by as much as IA32_TSC_ADJUST changes (SDM volume 3, 18.17.3). */
  private adjustTsc(low: number, high: number): void {
    const { tscAdjustLow, tscAdjustHigh } = this.environment.pc.msrs[this.id].regs;
    const wide = (upper: number, lower: number): bigint => (BigInt(upper) << 32n) | BigInt(lower);
    const delta = wide(high, low) - wide(tscAdjustHigh, tscAdjustLow);
    if (delta !== 0n) this.tsc.put(BigInt.asUintN(64, this.tsc.take() + delta));
  }

  /** The guest gets an exception for what it did. */
  private fault(vector: number): void {
    this.environment.trace?.fault();
    this.loop.inject(EventType.EXCP, vector);
  }
}

function narrow(value: number, size: number): number {
  return size === 1 ? value & 0xff : size === 2 ? value & 0xffff : value;
}
