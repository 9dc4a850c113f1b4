import { Assist } from '../nvmm/assist.ts';
import { Exit, ExitOffset, Limit, Prot, State, StateOffset, VcpuConf } from '../nvmm/constants.ts';
import { checkDebug } from '../nvmm/debug.ts';
import { NvmmError } from '../nvmm/errors.ts';
import { VcpuEvent, VcpuExit, VcpuState } from '../nvmm/layout.ts';
import type {
  AssistCallbacks,
  BackendMemory,
  CpuidConf,
  DebugConf,
  InstructionTime,
  Machine,
  Nvmm,
  PortsInPlace,
  TprConf,
  Vcpu,
  VcpuConfiguration,
  VcpuHandle,
} from '../nvmm/nvmm.ts';
import { walk } from '../nvmm/walk.ts';
import { EmulatorMachines } from './machines.ts';
import { COUNTERS, Field, TSC_FRESH } from './state.ts';
import { MachineWord } from './tables.ts';
import { TRANSLATING, type Translating } from './translate/translator.ts';
import { EmulatedVcpu } from './vcpu.ts';

const CPUID_REGISTERS = ['eax', 'ebx', 'ecx', 'edx'] as const;

/** The whole driver, with vCPUs, each of which belongs to the thread that created it. */
export class EmulatorNvmm extends EmulatorMachines implements Nvmm {
  private readonly translating: Translating;
  private readonly vcpus = new Map<Vcpu, EmulatedVcpu>();
  private readonly assist: Assist;

  /** `root`: see EmulatorMachines. */
  constructor(memory: BackendMemory, options: { root?: boolean; translating?: Partial<Translating> } = {}) {
    super(memory, options.root);
    this.translating = { ...TRANSLATING, ...options.translating };
    this.assist = new Assist(this, new Uint8Array(memory.memory.buffer));
  }

  override machineDestroy(machine: Machine): void {
    this.check('nvmm_machine_destroy', machine);
    for (const [vcpu, emulated] of [...this.vcpus]) {
      if (emulated.machid === machine.machid) this.vcpuDestroy(machine, vcpu);
    }
    super.machineDestroy(machine);
  }

  // ---- vCPUs --------------------------------------------------------------------------------------------

  vcpuCreate(machine: Machine, cpuid: number): Vcpu {
    const verb = 'nvmm_vcpu_create';
    this.check(verb, machine);
    if (!(cpuid >= 0 && cpuid < Limit.VCPUS)) {
      throw new NvmmError(verb, 'EINVAL', `vCPU id ${cpuid} is not below ${Limit.VCPUS}`);
    }
    const { machid } = machine;
    const block = this.tables.locked(() => {
      if (this.tables.get(machid, MachineWord.VCPUS + cpuid) !== 0) {
        throw new NvmmError(verb, 'EBUSY', `machine ${machid} has a vCPU ${cpuid} already`);
      }
      const taken = this.tables.takeBlock();
      if (taken === undefined) {
        throw new NvmmError(verb, 'ENOMEM', 'the private memory has no room for another vCPU');
      }
      this.tables.set(machid, MachineWord.VCPUS + cpuid, taken + 1);
      return taken;
    });
    const vcpu: Vcpu = {
      cpuid,
      state: new VcpuState(new Uint8Array(StateOffset.SIZE)),
      event: new VcpuEvent(new Uint8Array(16)),
      exit: new VcpuExit(new Uint8Array(ExitOffset.SIZE)),
      get instructions(): number {
        return emulated.processor.retired;
      },
    };
    const { memory } = this.memory;
    const emulated = new EmulatedVcpu(memory, this.tables, machine, vcpu, block, this.translating);
    this.vcpus.set(vcpu, emulated);
    this.tables.locked(() => this.agreeOnTime(machid));
    return vcpu;
  }

  /** Looks at the clock are good for a while, but several vCPUs must not see each other's time go back. */
  private agreeOnTime(machid: number): void {
    const words = new Int32Array(this.memory.memory.buffer);
    const blocks = Array.from({ length: Limit.VCPUS }, (_, cpuid) =>
      this.tables.get(machid, MachineWord.VCPUS + cpuid),
    ).filter((block) => block !== 0);
    for (const block of blocks) {
      const at = this.tables.blockAddress(block - 1) + Field.TSC_FRESH;
      words[at >>> 2] = blocks.length === 1 ? TSC_FRESH : 1;
    }
  }

  vcpuDestroy(machine: Machine, vcpu: Vcpu): void {
    const emulated = this.find('nvmm_vcpu_destroy', machine, vcpu);
    this.vcpus.delete(vcpu);
    emulated.destroy();
    this.tables.locked(() => {
      const counted = this.tables.counted(machine.machid, COUNTERS.length);
      this.countersOf(emulated.block).forEach((count, i) => (counted[i] += count));
      this.tables.set(machine.machid, MachineWord.VCPUS + vcpu.cpuid, 0);
      this.tables.freeBlock(emulated.block);
    });
  }

  private find(verb: string, machine: Machine, vcpu: Vcpu): EmulatedVcpu {
    this.check(verb, machine);
    const found = this.vcpus.get(vcpu);
    // Another thread may have destroyed it, with its machine.
    if (!found || found.machid !== machine.machid || !found.alive) {
      throw new NvmmError(
        verb,
        'ENOENT',
        `machine ${machine.machid} has no vCPU ${vcpu.cpuid} on this thread`,
      );
    }
    return found;
  }

  vcpuConfigure(machine: Machine, vcpu: Vcpu, op: number, conf: VcpuConfiguration): void {
    const verb = 'nvmm_vcpu_configure';
    const emulated = this.find(verb, machine, vcpu);
    switch (op) {
      case VcpuConf.CALLBACKS:
        emulated.callbacks = conf as AssistCallbacks;
        return;
      case VcpuConf.CPUID:
        this.configureCpuid(verb, emulated, conf as CpuidConf);
        return;
      case VcpuConf.TPR:
        emulated.processor.tprExits = (conf as TprConf).exitChanged;
        return;
      case VcpuConf.DEBUG:
        emulated.processor.inspect(checkDebug(verb, conf as DebugConf));
        return;
      default:
        throw new NvmmError(verb, 'EINVAL', `no vCPU operation ${op} exists`);
    }
  }

  private configureCpuid(verb: string, vcpu: EmulatedVcpu, conf: CpuidConf): void {
    if (conf.mask && conf.exit) throw new NvmmError(verb, 'EINVAL', 'a CPUID leaf is either masked or exits');
    if (conf.mask && CPUID_REGISTERS.some((name) => (conf.set[name] & conf.del[name]) !== 0)) {
      throw new NvmmError(verb, 'EINVAL', 'a CPUID bit is both set and deleted');
    }
    const leaf = conf.leaf >>> 0;
    if (!conf.mask && !conf.exit) {
      vcpu.cpuidEntries.delete(leaf);
      return;
    }
    if (!vcpu.cpuidEntries.has(leaf) && vcpu.cpuidEntries.size >= Limit.CPUID_ENTRIES) {
      throw new NvmmError(verb, 'ENOBUFS', `more than ${Limit.CPUID_ENTRIES} CPUID leaves are configured`);
    }
    vcpu.cpuidEntries.set(leaf, { ...conf, set: { ...conf.set }, del: { ...conf.del } });
  }

  setState(machine: Machine, vcpu: Vcpu, flags: number): void {
    this.find('nvmm_vcpu_setstate', machine, vcpu).setState(flags);
  }
  getState(machine: Machine, vcpu: Vcpu, flags: number): void {
    this.find('nvmm_vcpu_getstate', machine, vcpu).getState(flags);
  }
  inject(machine: Machine, vcpu: Vcpu): void {
    this.find('nvmm_vcpu_inject', machine, vcpu).eventCommitted = true;
  }

  run(machine: Machine, vcpu: Vcpu): void {
    const emulated = this.vcpus.get(vcpu);
    if (!emulated || emulated.machid !== machine.machid) this.find('nvmm_vcpu_run', machine, vcpu);
    const { block, life } = emulated!;
    const gone = (): never => {
      this.vcpus.delete(vcpu);
      throw new NvmmError('nvmm_vcpu_run', 'ENOENT', `vCPU ${vcpu.cpuid} is being destroyed`);
    };
    if (!this.tables.enterBlock(block, life)) gone();
    let alive: boolean;
    try {
      emulated!.run();
    } finally {
      alive = this.tables.leaveBlock(block);
    }
    if (!alive) gone();
  }

  vcpuShare(vcpu: Vcpu): VcpuHandle {
    const emulated = this.vcpus.get(vcpu);
    if (!emulated) throw new NvmmError('vcpuShare', 'ENOENT', `vCPU ${vcpu.cpuid} is not on this thread`);
    return { backend: this.backend, machid: emulated.machid, cpuid: vcpu.cpuid, token: emulated.stopWord };
  }

  override vcpuStop(vcpu: Vcpu | VcpuHandle): void {
    if ('token' in vcpu) super.vcpuStop(vcpu);
    else this.stop(this.vcpus.get(vcpu)!.stopWord);
  }

  gvaToGpa(machine: Machine, vcpu: Vcpu, gvaLow: number, gvaHigh: number): { gpa: number; prot: number } {
    this.getState(machine, vcpu, State.CRS | State.MSRS);
    const areas = this.areas(machine.machid);
    return walk(vcpu.state, gvaLow, gvaHigh, (gpa) => {
      const area = areas.find((one) => gpa >= one.gpa && gpa < one.gpa + one.size);
      return area ? this.tables.words[(area.hva + (gpa - area.gpa)) >>> 2] >>> 0 : null;
    });
  }

  // ---- Assists and control ------------------------------------------------------------------------------

  assistIo(machine: Machine, vcpu: Vcpu): void {
    const emulated = this.find('nvmm_assist_io', machine, vcpu);
    this.assist.io(machine, vcpu, emulated.callbacks);
  }

  assistMem(machine: Machine, vcpu: Vcpu): void {
    const verb = 'nvmm_assist_mem';
    const emulated = this.find(verb, machine, vcpu);
    if (vcpu.exit.reason !== Exit.MEMORY) {
      throw new NvmmError(verb, 'EINVAL', `the last exit has reason ${vcpu.exit.reason}, not MEMORY`);
    }
    if (vcpu.exit.memProt === Prot.EXEC) {
      const where = vcpu.exit.memGpa.toString(16);
      throw new NvmmError(verb, 'EFAULT', `the guest executes at 0x${where}, where no memory is`);
    }
    emulated.assistMemory();
  }

  countInstructions(machine: Machine, vcpu: Vcpu, random: () => number): InstructionTime {
    return this.find('countInstructions', machine, vcpu).countInstructions(random);
  }

  portsInPlace(machine: Machine, vcpu: Vcpu): PortsInPlace {
    return this.find('portsInPlace', machine, vcpu).processor.ports;
  }

  override close(): void {
    super.close();
    for (const emulated of this.vcpus.values()) emulated.destroy();
    this.vcpus.clear();
  }
}
