import type { Machine, Nvmm, PortAccess, PortsInPlace, Vcpu } from '../nvmm/nvmm.ts';
import type { PortBus } from '../devices/bus.ts';
import type { ExitTraceWriter } from './exit-trace.ts';

/** A direction of a port in which bytes went lately. */
interface Standing {
  readonly port: number;
  readonly in: boolean;
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
    this.standing.push({ port, in: input });
  }

  /** Asks the devices anew, after anything may have happened to them; `none`: nothing is to be answered in place. */
  refresh(none: boolean): void {
    if (this.standing.length === 0) return;
    this.inPlace.withdraw();
    this.standing = none ? [] : this.standing.filter((one) => this.offer(one));
  }

  /** Lets the vCPU do such an access by itself, if the device has nothing against it. */
  private offer({ port, in: input }: Standing): boolean {
    const { bus, inPlace } = this;
    if (input) {
      const value = bus.standing(port);
      if (value >= 0) inPlace.answer(port, value);
      return value >= 0;
    }
    const patient = bus.patience(port) >= inPlace.capacity;
    if (patient) inPlace.accept(port);
    return patient;
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
