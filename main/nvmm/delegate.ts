import type {
  AssistCallbacks,
  Capability,
  CpuidConf,
  DebugConf,
  InstructionTime,
  Machine,
  MachineHandle,
  MachineInfo,
  Nvmm,
  TprConf,
  Vcpu,
  VcpuHandle,
} from './nvmm.ts';

/** An Nvmm that hands everything on to another: for those who look at some of the verbs, or change them. */
export class DelegatingNvmm implements Nvmm {
  protected readonly real: Nvmm;
  readonly countInstructions?: (machine: Machine, vcpu: Vcpu, random: () => number) => InstructionTime;

  constructor(real: Nvmm) {
    this.real = real;
    if (real.countInstructions !== undefined) {
      this.countInstructions = (machine, vcpu, random) => real.countInstructions!(machine, vcpu, random);
    }
  }

  get backend(): string {
    return this.real.backend;
  }
  capability(): Capability {
    return this.real.capability();
  }
  machineCreate(): Machine {
    return this.real.machineCreate();
  }
  machineDestroy(machine: Machine): void {
    this.real.machineDestroy(machine);
  }
  machineConfigure(machine: Machine, op: number, conf: unknown): void {
    this.real.machineConfigure(machine, op, conf);
  }
  machineShare(machine: Machine): MachineHandle {
    return this.real.machineShare(machine);
  }
  machineAttach(handle: MachineHandle): Machine {
    return this.real.machineAttach(handle);
  }
  vcpuCreate(machine: Machine, cpuid: number): Vcpu {
    return this.real.vcpuCreate(machine, cpuid);
  }
  vcpuDestroy(machine: Machine, vcpu: Vcpu): void {
    this.real.vcpuDestroy(machine, vcpu);
  }
  vcpuConfigure(
    machine: Machine,
    vcpu: Vcpu,
    op: number,
    conf: AssistCallbacks | CpuidConf | TprConf | DebugConf,
  ): void {
    this.real.vcpuConfigure(machine, vcpu, op, conf);
  }
  setState(machine: Machine, vcpu: Vcpu, flags: number): void {
    this.real.setState(machine, vcpu, flags);
  }
  getState(machine: Machine, vcpu: Vcpu, flags: number): void {
    this.real.getState(machine, vcpu, flags);
  }
  inject(machine: Machine, vcpu: Vcpu): void {
    this.real.inject(machine, vcpu);
  }
  run(machine: Machine, vcpu: Vcpu): void {
    this.real.run(machine, vcpu);
  }
  vcpuShare(vcpu: Vcpu): VcpuHandle {
    return this.real.vcpuShare(vcpu);
  }
  vcpuStop(vcpu: Vcpu | VcpuHandle): void {
    this.real.vcpuStop(vcpu);
  }
  hvaMap(machine: Machine, hva: number, size: number): void {
    this.real.hvaMap(machine, hva, size);
  }
  hvaUnmap(machine: Machine, hva: number, size: number): void {
    this.real.hvaUnmap(machine, hva, size);
  }
  gpaMap(machine: Machine, hva: number, gpa: number, size: number, prot: number): void {
    this.real.gpaMap(machine, hva, gpa, size, prot);
  }
  gpaUnmap(machine: Machine, hva: number, gpa: number, size: number): void {
    this.real.gpaUnmap(machine, hva, gpa, size);
  }
  gvaToGpa(machine: Machine, vcpu: Vcpu, low: number, high: number): { gpa: number; prot: number } {
    return this.real.gvaToGpa(machine, vcpu, low, high);
  }
  gpaToHva(machine: Machine, gpa: number): { hva: number; prot: number } {
    return this.real.gpaToHva(machine, gpa);
  }
  assistIo(machine: Machine, vcpu: Vcpu): void {
    this.real.assistIo(machine, vcpu);
  }
  assistMem(machine: Machine, vcpu: Vcpu): void {
    this.real.assistMem(machine, vcpu);
  }
  ctl(op: number, machid: number): MachineInfo {
    return this.real.ctl(op, machid);
  }
  hvaWritten(hva: number, size: number): void {
    this.real.hvaWritten(hva, size);
  }
  counters(machine: Machine): Record<string, number> {
    return this.real.counters?.(machine) ?? {};
  }
  close(): void {
    this.real.close();
  }
}
