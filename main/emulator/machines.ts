import { CtlOp, Limit, Prot, StateOffset, VcpuConfSupport } from '../nvmm/constants.ts';
import { NvmmError, type Errno } from '../nvmm/errors.ts';
import type {
  BackendMemory,
  Capability,
  Machine,
  MachineHandle,
  MachineInfo,
  MachineVerbs,
  VcpuHandle,
} from '../nvmm/nvmm.ts';
import { COUNTERS, Field } from './state.ts';
import { AREA_WORDS, AREAS_MAXIMUM, MachineWord, Tables } from './tables.ts';

const PAGE = Limit.PAGE;
const VCPU_CONF = VcpuConfSupport.CPUID | VcpuConfSupport.TPR | VcpuConfSupport.DEBUG;
const PENDING = 0x80000000 | 0;

/** The words of a vCPU's block that stop it, from any thread. */
export interface StopWords {
  stop: number;
  pending: number;
}

/**
 * The NVMM driver in TypeScript, as far as it is about machines and their memory: the operations with the validation,
 * ownership, limits and errno of the kernel module, over tables that all threads share. A page of host addresses is lent
 * out by the caller. Threads without a vCPU need no more than this, and load no processor.
 */
export class EmulatorMachines implements MachineVerbs {
  readonly backend = 'emulated';
  protected readonly memory: BackendMemory;
  protected readonly tables: Tables;
  private readonly owner: number;
  private readonly root: boolean;
  private readonly size: number;
  private readonly created = new Set<number>();
  readonly dirtyPages: Uint8Array;

  /** `root`: passes the ownership check of every machine, as a node opened for writing only does. */
  constructor(memory: BackendMemory, root = false) {
    this.memory = memory;
    this.tables = new Tables(memory);
    this.dirtyPages = this.tables.dirty;
    this.owner = this.tables.newOwner();
    this.root = root;
    this.size = memory.memory.buffer.byteLength;
  }

  capability(): Capability {
    return {
      version: 3,
      stateSize: StateOffset.SIZE,
      commSize: PAGE,
      maxMachines: Limit.MACHINES,
      maxVcpus: Limit.VCPUS,
      maxRam: Limit.MAX_RAM,
      machConfSupport: 0,
      vcpuConfSupport: VCPU_CONF,
      xcr0Mask: 3,
      mxcsrMask: 0xffff,
      confCpuidMaxops: Limit.CPUID_ENTRIES,
    };
  }

  // ---- Machines -----------------------------------------------------------------------------------------

  machineCreate(): Machine {
    return this.tables.locked(() => {
      for (let machid = 0; machid < Limit.MACHINES; machid++) {
        if (this.tables.get(machid, MachineWord.USED) !== 0) continue;
        this.tables.clearMachine(machid);
        this.tables.set(machid, MachineWord.USED, 1);
        this.tables.set(machid, MachineWord.OWNER, this.owner);
        this.tables.set(machid, MachineWord.OWNER_PID, processId());
        this.tables.set(machid, MachineWord.CREATED, Math.floor(Date.now() / 1000));
        this.created.add(machid);
        return { machid };
      }
      throw new NvmmError('nvmm_machine_create', 'ENOBUFS', `all ${Limit.MACHINES} machines are in use`);
    });
  }

  machineDestroy(machine: Machine): void {
    this.check('nvmm_machine_destroy', machine);
    this.created.delete(machine.machid);
    // They may be running.
    for (let cpuid = 0; cpuid < Limit.VCPUS; cpuid++) {
      const block = this.tables.get(machine.machid, MachineWord.VCPUS + cpuid);
      if (block !== 0) this.tables.endBlock(block - 1, () => this.stopBlock(block - 1));
    }
    this.tables.locked(() => {
      for (let cpuid = 0; cpuid < Limit.VCPUS; cpuid++) {
        const block = this.tables.get(machine.machid, MachineWord.VCPUS + cpuid);
        if (block !== 0) this.tables.freeBlock(block - 1);
      }
      this.tables.clearMachine(machine.machid);
    });
  }

  machineConfigure(machine: Machine, op: number, _conf: unknown): void {
    this.check('nvmm_machine_configure', machine);
    throw new NvmmError('nvmm_machine_configure', 'EINVAL', `no machine operation ${op} exists`);
  }

  machineShare(machine: Machine): MachineHandle {
    this.check('machineShare', machine);
    return {
      backend: this.backend,
      machid: machine.machid,
      token: this.tables.get(machine.machid, MachineWord.OWNER),
    };
  }

  machineAttach(handle: MachineHandle): Machine {
    const { machid, token } = handle;
    const used = this.machineExists(machid) && this.tables.get(machid, MachineWord.OWNER) === token;
    if (!used) throw new NvmmError('machineAttach', 'ENOENT', `machine ${machid} does not exist any more`);
    const machine = { machid };
    this.attached.add(machid);
    return machine;
  }
  /** Machines of other threads of this process that were handed over. */
  private readonly attached = new Set<number>();

  private machineExists(machid: number): boolean {
    return this.tables.get(machid, MachineWord.USED) !== 0;
  }

  /** Fails unless the machine exists and is ours. */
  protected check(verb: string, { machid }: Machine): void {
    if (!(machid >= 0 && machid < Limit.MACHINES)) {
      throw new NvmmError(verb, 'EINVAL', `there is no machine id ${machid}`);
    }
    if (!this.machineExists(machid)) throw new NvmmError(verb, 'ENOENT', `machine ${machid} does not exist`);
    const ours =
      this.root || this.attached.has(machid) || this.tables.get(machid, MachineWord.OWNER) === this.owner;
    if (!ours) throw new NvmmError(verb, 'EPERM', `machine ${machid} belongs to somebody else`);
  }

  /** A stop, of a block that may be another thread's. */
  private stopBlock(block: number): void {
    const { words } = this.tables;
    const address = this.tables.blockAddress(block);
    Atomics.store(words, (address + Field.STOP) >>> 2, 1);
    Atomics.or(words, (address + Field.PENDING) >>> 2, PENDING);
  }

  vcpuStop(vcpu: VcpuHandle): void {
    this.stop(vcpu.token as StopWords);
  }

  protected stop({ stop, pending }: StopWords): void {
    Atomics.store(this.tables.words, stop, 1);
    Atomics.or(this.tables.words, pending, PENDING);
  }

  // ---- Memory -------------------------------------------------------------------------------------------

  hvaMap(machine: Machine, hva: number, size: number): void {
    const verb = 'nvmm_hva_map';
    this.check(verb, machine);
    this.checkRange(verb, hva, size);
    const { machid } = machine;
    this.tables.locked(() => {
      const count = this.tables.get(machid, MachineWord.HVA_COUNT);
      for (let i = 0; i < count; i++) {
        const { start, end } = this.hvaAt(machid, i);
        if (hva >= start && hva + size <= end) continue;
        if (hva < end && hva + size > start) {
          throw new NvmmError(
            verb,
            'EEXIST',
            `0x${hva.toString(16)} + 0x${size.toString(16)} overlaps a mapping`,
          );
        }
      }
      if (count === Limit.HVA_MAPPINGS) {
        throw new NvmmError(verb, 'ENOBUFS', `a machine has ${count} host mappings at most`);
      }
      this.tables.set(machid, MachineWord.HVA + 2 * count, hva / PAGE);
      this.tables.set(machid, MachineWord.HVA + 2 * count + 1, size / PAGE);
      this.tables.set(machid, MachineWord.HVA_COUNT, count + 1);
    });
  }

  private hvaAt(machid: number, i: number): { start: number; end: number } {
    const start = (this.tables.get(machid, MachineWord.HVA + 2 * i) >>> 0) * PAGE;
    return { start, end: start + (this.tables.get(machid, MachineWord.HVA + 2 * i + 1) >>> 0) * PAGE };
  }

  private checkRange(verb: string, hva: number, size: number): void {
    const fail = (why: string): never => {
      throw new NvmmError(verb, 'EINVAL', `host range 0x${hva.toString(16)} + 0x${size.toString(16)} ${why}`);
    };
    if (!Number.isSafeInteger(hva) || !Number.isSafeInteger(size) || hva < 0) fail('is not a range');
    if (hva % PAGE !== 0 || size % PAGE !== 0 || size <= 0) fail('is not made of whole pages');
    if (hva === 0) fail('begins at 0');
    if (size > this.size - hva) fail(`ends beyond the memory of ${this.size} bytes`);
  }

  hvaUnmap(machine: Machine, hva: number, size: number): void {
    const verb = 'nvmm_hva_unmap';
    this.check(verb, machine);
    const { machid } = machine;
    this.tables.locked(() => {
      const count = this.tables.get(machid, MachineWord.HVA_COUNT);
      const found = Array.from({ length: count }, (_, i) => i).find((i) => {
        const { start, end } = this.hvaAt(machid, i);
        return start === hva && end === hva + size;
      });
      if (found === undefined) {
        throw new NvmmError(verb, 'ENOENT', `nothing is mapped at 0x${hva.toString(16)}`);
      }
      for (let word = 0; word < 2; word++) {
        const last = this.tables.get(machid, MachineWord.HVA + 2 * (count - 1) + word);
        this.tables.set(machid, MachineWord.HVA + 2 * found + word, last);
      }
      this.tables.set(machid, MachineWord.HVA_COUNT, count - 1);
    });
  }

  gpaMap(machine: Machine, hva: number, gpa: number, size: number, prot: number): void {
    const verb = 'nvmm_gpa_map';
    this.check(verb, machine);
    const where = `guest range 0x${gpa.toString(16)} + 0x${size.toString(16)}`;
    const fail = (why: string, errno: Errno = 'EINVAL'): never => {
      throw new NvmmError(verb, errno, `${where} ${why}`);
    };
    if ((prot & ~(Prot.READ | Prot.WRITE | Prot.EXEC)) !== 0) {
      fail(`with protection ${prot}, which has unknown bits`);
    }
    if (!Number.isSafeInteger(gpa) || gpa < 0 || gpa % PAGE !== 0) fail('is not page-aligned');
    this.checkRange(verb, hva, size);
    if (gpa + size > Limit.MAX_RAM) fail('ends beyond 128 GiB');
    const { machid } = machine;
    this.tables.locked(() => {
      const inside = Array.from({ length: this.tables.get(machid, MachineWord.HVA_COUNT) }, (_, i) =>
        this.hvaAt(machid, i),
      ).some(({ start, end }) => hva >= start && hva + size <= end);
      if (!inside) fail(`is to be 0x${hva.toString(16)}, which is in no host mapping`);
      const areas = this.areas(machid);
      if (areas.some((area) => gpa < area.gpa + area.size && gpa + size > area.gpa)) {
        fail('overlaps a mapping');
      }
      if (areas.length === AREAS_MAXIMUM) fail(`is one too many: ${AREAS_MAXIMUM} can be mapped`, 'ENOMEM');
      const at = MachineWord.AREAS + AREA_WORDS * areas.length;
      [gpa / PAGE, size / PAGE, hva / PAGE, prot].forEach((value, i) =>
        this.tables.set(machid, at + i, value),
      );
      this.tables.set(machid, MachineWord.AREA_COUNT, areas.length + 1);
    });
    this.areasChanged(machid);
  }

  gpaUnmap(machine: Machine, hva: number, gpa: number, size: number): void {
    const verb = 'nvmm_gpa_unmap';
    this.check(verb, machine);
    const { machid } = machine;
    this.tables.locked(() => {
      const areas = this.areas(machid);
      const found = areas.findIndex((area) => area.gpa === gpa && area.size === size && area.hva === hva);
      if (found < 0) throw new NvmmError(verb, 'ESRCH', `nothing is mapped so at 0x${gpa.toString(16)}`);
      for (let word = 0; word < AREA_WORDS; word++) {
        const last = this.tables.get(machid, MachineWord.AREAS + AREA_WORDS * (areas.length - 1) + word);
        this.tables.set(machid, MachineWord.AREAS + AREA_WORDS * found + word, last);
      }
      this.tables.set(machid, MachineWord.AREA_COUNT, areas.length - 1);
    });
    this.areasChanged(machid);
  }

  protected areas(machid: number): { gpa: number; size: number; hva: number; prot: number }[] {
    return readAreas(this.tables, machid);
  }

  /** Every vCPU of the machine has to look at the areas before it goes on. */
  private areasChanged(machid: number): void {
    this.tables.bumpVersion(machid);
    for (let cpuid = 0; cpuid < Limit.VCPUS; cpuid++) {
      const block = this.tables.get(machid, MachineWord.VCPUS + cpuid);
      if (block !== 0) this.kick(block - 1);
    }
  }

  private kick(block: number): void {
    Atomics.or(this.tables.words, (this.tables.blockAddress(block) + Field.PENDING) >>> 2, PENDING);
  }

  gpaToHva(machine: Machine, gpa: number): { hva: number; prot: number } {
    this.check('nvmm_gpa_to_hva', machine);
    const area = this.areas(machine.machid).find((one) => gpa >= one.gpa && gpa < one.gpa + one.size);
    if (!area) {
      throw new NvmmError('nvmm_gpa_to_hva', 'ENOENT', `guest address 0x${gpa.toString(16)} is not mapped`);
    }
    return { hva: area.hva + (gpa - area.gpa), prot: area.prot };
  }

  hvaWritten(hva: number, size: number): void {
    const { tables } = this;
    const first = Math.floor(hva / PAGE);
    const end = Math.ceil((hva + size) / PAGE);
    this.dirtyPages.fill(1, first, end);
    for (let page = tables.nextCode(first, end); page < end; page = tables.nextCode(page + 1, end)) {
      tables.announce(page * PAGE);
      for (const block of tables.usedBlocks()) this.kick(block);
    }
  }

  // ---- Control ------------------------------------------------------------------------------------------

  ctl(op: number, machid: number): MachineInfo {
    if (op !== CtlOp.MACH_INFO) {
      throw new NvmmError('nvmm_ctl', 'EINVAL', `no control operation ${op} exists`);
    }
    this.check('nvmm_ctl', { machid });
    let vcpus = 0;
    for (let cpuid = 0; cpuid < Limit.VCPUS; cpuid++) {
      if (this.tables.get(machid, MachineWord.VCPUS + cpuid) !== 0) vcpus++;
    }
    let ram = 0;
    for (let i = 0; i < this.tables.get(machid, MachineWord.HVA_COUNT); i++) {
      const { start, end } = this.hvaAt(machid, i);
      ram += end - start;
    }
    return {
      machid,
      vcpus,
      ram,
      pid: this.tables.get(machid, MachineWord.OWNER_PID),
      time: this.tables.get(machid, MachineWord.CREATED),
    };
  }

  protected countersOf(block: number): Float64Array {
    const at = this.tables.blockAddress(block) + Field.COUNTERS;
    return new Float64Array(this.memory.memory.buffer, at, COUNTERS.length);
  }

  /** Counters of all vCPUs of a machine, whatever thread they run on, and of those that it had. */
  counters(machine: Machine): Record<string, number> {
    this.check('counters', machine);
    const counted = this.tables.counted(machine.machid, COUNTERS.length);
    const total: Record<string, number> = Object.fromEntries(COUNTERS.map((name, i) => [name, counted[i]]));
    for (let cpuid = 0; cpuid < Limit.VCPUS; cpuid++) {
      const block = this.tables.get(machine.machid, MachineWord.VCPUS + cpuid);
      if (block === 0) continue;
      const values = this.countersOf(block - 1);
      COUNTERS.forEach((name, i) => (total[name] += values[i]));
    }
    return total;
  }

  close(): void {
    for (const machid of [...this.created]) {
      if (this.machineExists(machid)) this.machineDestroy({ machid });
    }
  }
}

/** The process id, where there are processes. */
function processId(): number {
  return (globalThis as { process?: { pid?: number } }).process?.pid ?? 0;
}

/** The guest-physical areas of a machine. */
export function readAreas(
  tables: Tables,
  machid: number,
): { gpa: number; size: number; hva: number; prot: number }[] {
  return Array.from({ length: tables.get(machid, MachineWord.AREA_COUNT) }, (_, i) => {
    const at = MachineWord.AREAS + AREA_WORDS * i;
    const pages = (word: number): number => (tables.get(machid, at + word) >>> 0) * PAGE;
    return { gpa: pages(0), size: pages(1), hva: pages(2), prot: tables.get(machid, at + 3) };
  });
}
