import type { Machine, Nvmm, PortAccess, PortsInPlace, Vcpu } from '../nvmm/nvmm.ts';
import type { PortBus } from '../devices/bus.ts';
import type { ExitTraceWriter } from './exit-trace.ts';

/** A port that was accessed lately, and what its device says of byte accesses to come. */
interface Standing {
  readonly port: number;
  readonly in: boolean;
  /** Of reads; -1 when the device must be asked. */
  value: number;
}

/**
 * Keeps a vCPU informed of the ports that it may answer in place of exits, and brings what it did with them to the devices
 * and the trace. For machines with one vCPU, as others would see devices without what was put down for later. Everything
 * here is called under the device lock.
 */
export class StandingPorts {
  private readonly inPlace: PortsInPlace;
  private readonly vcpu: Vcpu;
  private readonly bus: PortBus;
  private readonly trace: ExitTraceWriter | null;
  private standing: Standing[] = [];
  private since = 0;
  private until = 0;
  private first = 0;
  private readonly each = (access: Readonly<PortAccess>): void => this.complete(access);

  constructor(inPlace: PortsInPlace, vcpu: Vcpu, bus: PortBus, trace: ExitTraceWriter | null) {
    this.inPlace = inPlace;
    this.vcpu = vcpu;
    this.bus = bus;
    this.trace = trace;
  }

  /** Those of a machine's vCPU, where the backend can; null elsewhere. */
  static of(
    nvmm: Nvmm,
    machine: Machine,
    vcpu: Vcpu,
    bus: PortBus,
    trace: ExitTraceWriter | null,
  ): StandingPorts | null {
    const inPlace = nvmm.portsInPlace?.(machine, vcpu);
    return inPlace === undefined ? null : new StandingPorts(inPlace, vcpu, bus, trace);
  }

  /** Accesses without leaving that `left` has not been told of. */
  get count(): number {
    return this.inPlace.count;
  }

  /** A byte access has left the guest: the next ones perhaps need not. */
  met(port: number, input: boolean): void {
    if (this.standing.some((one) => one.port === port && one.in === input)) return;
    this.standing.push({ port, in: input, value: -1 });
  }

  /** Asks the devices anew, after anything may have happened to them; `none`: nothing is to be answered in place. */
  refresh(none: boolean): void {
    const { inPlace } = this;
    if (this.standing.length === 0) return;
    inPlace.withdraw();
    this.standing = none ? [] : this.standing.filter((one) => this.holds(one));
    for (const { port, in: input, value } of this.standing) {
      if (input) inPlace.answer(port, value);
      else inPlace.accept(port);
    }
  }

  private holds(one: Standing): boolean {
    const { bus, inPlace } = this;
    if (!one.in) return bus.patience(one.port) >= inPlace.capacity;
    one.value = bus.standing(one.port);
    return one.value >= 0;
  }

  /** The guest is entered at `now`, ns on the machine's clock. */
  entered(now: number): void {
    this.since = now;
    this.first = this.vcpu.instructions ?? 0;
  }

  /** The guest has left at `now`. */
  left(now: number): void {
    this.until = now;
    this.inPlace.take(this.each);
  }

  private complete(access: Readonly<PortAccess>): void {
    const { bus, vcpu, since, until, first } = this;
    const { port, in: input, value, instructions } = access;
    if (!input) bus.write(port, 1, value, vcpu.cpuid);
    if (this.trace === null) return;
    const device = input ? bus.numberOf(port) : bus.answered;
    const ran = (vcpu.instructions ?? 0) - first;
    const part = ran > 0 ? (instructions - first) / ran : 1;
    this.trace.inPlace(access, device, since + (until - since) * part);
  }
}
