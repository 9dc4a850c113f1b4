import { Assist } from '../../../main/nvmm/assist.ts';
import { Exit, ExitOffset, Intr, Limit, StateOffset } from '../../../main/nvmm/constants.ts';
import { NvmmError } from '../../../main/nvmm/errors.ts';
import { VcpuEvent, VcpuExit, VcpuState } from '../../../main/nvmm/layout.ts';
import type {
  AssistCallbacks,
  Capability,
  Machine,
  MachineHandle,
  MachineInfo,
  Nvmm,
  Vcpu,
  VcpuHandle,
} from '../../../main/nvmm/nvmm.ts';
import { walk } from '../../../main/nvmm/walk.ts';

/** What happened in one run: sets the exit and the registers, as a guest would have. */
export type Step = (vcpu: FakeVcpu) => void;

export class FakeVcpu implements Vcpu {
  readonly cpuid: number;
  readonly state = new VcpuState(new Uint8Array(StateOffset.SIZE));
  readonly event = new VcpuEvent(new Uint8Array(16));
  readonly exit = new VcpuExit(new Uint8Array(ExitOffset.SIZE));
  callbacks: AssistCallbacks = {};
  /** What the instruction of a MEMORY exit writes, and who sees what came of it. */
  readonly operand = new DataView(new ArrayBuffer(16));
  operandDone: (data: DataView) => void = () => undefined;

  constructor(cpuid: number) {
    this.cpuid = cpuid;
  }

  /** Ends a run with this reason; the union is cleared. */
  leave(reason: number): void {
    this.exit.bytes.fill(0, ExitOffset.UNION, ExitOffset.RFLAGS);
    this.exit.reason = reason;
  }

  leaveIo(port: number, size: number, input: boolean, npc = 0x2000): void {
    this.leave(Exit.IO);
    const { view } = this.exit;
    view.setUint8(8, input ? 1 : 0);
    view.setUint16(10, port, true);
    view.setInt8(12, 3);
    view.setUint8(13, 8);
    view.setUint8(14, size);
    view.setUint32(24, npc, true);
  }

  leaveMsr(index: number, value: bigint | null, npc = 0x3000): void {
    this.leave(value === null ? Exit.RDMSR : Exit.WRMSR);
    this.exit.view.setUint32(8, index, true);
    if (value !== null) this.exit.view.setBigUint64(16, value, true);
    this.exit.view.setUint32(value === null ? 16 : 24, npc, true);
  }

  /** Exitstate: interrupts enabled or not. */
  set interruptsEnabled(on: boolean) {
    this.exit.view.setUint32(ExitOffset.RFLAGS, on ? 0x202 : 2, true);
  }
  set intr(bits: number) {
    this.exit.view.setUint32(ExitOffset.INTR, bits, true);
  }
  set cr8(value: number) {
    this.exit.view.setUint32(ExitOffset.CR8, value, true);
  }
}

/** An NVMM whose guest is a script: each run plays the next step. For tests of what stands above the interface. */
export class FakeNvmm implements Nvmm {
  readonly backend = 'fake';
  readonly machine: Machine = { machid: 0 };
  readonly vcpu: FakeVcpu;
  /** Every event injected, in order. */
  readonly injected: { type: number; vector: number; error: number }[] = [];
  readonly committed: number[] = [];
  readonly host: Uint8Array;
  readonly script: Step[] = [];
  /** Runs when the script is over. */
  after: () => void = () => undefined;
  private readonly maps: { hva: number; gpa: number; size: number; prot: number }[] = [];

  constructor(host = new Uint8Array(0), cpuid = 0) {
    this.host = host;
    this.vcpu = new FakeVcpu(cpuid);
  }

  capability(): Capability {
    const { MACHINES, VCPUS, MAX_RAM, CPUID_ENTRIES } = Limit;
    return {
      ...{
        version: 3,
        stateSize: 1008,
        commSize: 4096,
        maxMachines: MACHINES,
        maxVcpus: VCPUS,
        maxRam: MAX_RAM,
      },
      ...{
        machConfSupport: 0,
        vcpuConfSupport: 3,
        xcr0Mask: 3,
        mxcsrMask: 0xffff,
        confCpuidMaxops: CPUID_ENTRIES,
      },
    };
  }
  machineCreate(): Machine {
    return this.machine;
  }
  machineDestroy(): void {}
  machineConfigure(): void {}
  machineShare(): MachineHandle {
    return { backend: this.backend, machid: 0, token: null };
  }
  machineAttach(): Machine {
    return this.machine;
  }
  vcpuCreate(): Vcpu {
    return this.vcpu;
  }
  vcpuDestroy(): void {}
  vcpuConfigure(_machine: Machine, _vcpu: Vcpu, op: number, conf: unknown): void {
    if (op === 0) this.vcpu.callbacks = conf as AssistCallbacks;
  }
  setState(_machine: Machine, _vcpu: Vcpu, flags: number): void {
    this.committed.push(flags);
    if ((flags & 0x04) !== 0) this.vcpu.cr8 = this.vcpu.state.cr8;
    // The fake hardware takes window bits at once, and shows them in the exit state.
    if ((flags & 0x20) !== 0) this.vcpu.intr = this.vcpu.state.intr;
  }
  getState(): void {
    this.vcpu.state.intr = this.vcpu.exit.intr & ~Intr.EVT_PENDING;
  }
  inject(): void {
    const { type, vector, error } = this.vcpu.event;
    this.injected.push({ type, vector, error });
  }
  run(): void {
    const step = this.script.shift();
    this.vcpu.leave(Exit.NONE);
    if (step === undefined) this.after();
    else step(this.vcpu);
  }
  vcpuShare(): VcpuHandle {
    return { backend: this.backend, machid: 0, cpuid: this.vcpu.cpuid, token: null };
  }
  vcpuStop(): void {}
  hvaMap(): void {}
  hvaUnmap(): void {}
  gpaMap(_machine: Machine, hva: number, gpa: number, size: number, prot: number): void {
    this.maps.push({ hva, gpa, size, prot });
  }
  gpaUnmap(): void {}
  gvaToGpa(_machine: Machine, vcpu: Vcpu, low: number, high: number): { gpa: number; prot: number } {
    const view = new DataView(this.host.buffer, this.host.byteOffset);
    return walk(vcpu.state, low, high, (gpa) => {
      const map = this.mapAt(gpa);
      return map === undefined ? null : view.getUint32(map.hva + gpa - map.gpa, true);
    });
  }
  gpaToHva(_machine: Machine, gpa: number): { hva: number; prot: number } {
    const map = this.mapAt(gpa);
    if (map === undefined) throw new NvmmError('nvmm_gpa_to_hva', 'ENOENT', `nothing at ${gpa}`);
    return { hva: map.hva + gpa - map.gpa, prot: map.prot };
  }
  assistIo(machine: Machine, vcpu: Vcpu): void {
    new Assist(this, this.host).io(machine, vcpu, this.vcpu.callbacks);
  }
  /** One access of 4 bytes. */
  assistMem(machine: Machine, vcpu: Vcpu): void {
    const { operand: data, operandDone, callbacks } = this.vcpu;
    callbacks.mem?.({ machine, vcpu, gpa: vcpu.exit.memGpa, write: vcpu.exit.memProt === 2, size: 4, data });
    operandDone(data);
  }
  ctl(): MachineInfo {
    return { machid: 0, vcpus: 1, ram: 0, pid: 0, time: 0 };
  }
  hvaWritten(): void {}
  close(): void {}

  private mapAt(gpa: number) {
    return this.maps.find((map) => gpa >= map.gpa && gpa < map.gpa + map.size);
  }
}
