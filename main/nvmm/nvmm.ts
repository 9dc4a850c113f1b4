import type { VcpuEvent, VcpuExit, VcpuState } from './layout.ts';

/** What a backend can do (struct nvmm_capability). Sizes in bytes. */
export interface Capability {
  version: number;
  stateSize: number;
  commSize: number;
  maxMachines: number;
  maxVcpus: number;
  maxRam: number;
  machConfSupport: number;
  /** VcpuConfSupport bits. */
  vcpuConfSupport: number;
  xcr0Mask: number;
  mxcsrMask: number;
  confCpuidMaxops: number;
}

/** Four registers of a CPUID leaf. */
export interface CpuidRegisters {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

/** VCPU_CONF_CPUID: change what a leaf reports (del first, then set), or make it exit. */
export interface CpuidConf {
  mask: boolean;
  exit: boolean;
  leaf: number;
  set: CpuidRegisters;
  del: CpuidRegisters;
}

/** VCPU_CONF_TPR. */
export interface TprConf {
  exitChanged: boolean;
}

/** A range of linear addresses; the address is canonical, in 64 bits. */
export interface Watchpoint {
  address: bigint;
  /** Bytes: 1 to 4 GiB. */
  length: number;
  read: boolean;
  write: boolean;
}

/**
 * VCPU_CONF_DEBUG, Vitrine's extension: what makes the next runs end with a DEBUG exit. It holds until it is configured
 * again; a list that changes is a new one. The guest's own debug registers and trap flag go on working beside it where the backend can do that.
 */
export interface DebugConf {
  /** Each run executes one instruction (one element of a repeated one), or delivers one event. */
  step: boolean;
  /** Linear addresses at which no instruction is begun. A run that begins at one ends at once, unless it steps. */
  breakpoints: readonly bigint[];
  watchpoints: readonly Watchpoint[];
  /** Exceptions that stop before they are delivered: a bit for each vector. */
  exceptions: number;
}

/** One access of the I/O assist. `data` holds at least 8 bytes; the first `size` (1, 2, 4) count. */
export interface IoAccess {
  machine: Machine;
  vcpu: Vcpu;
  port: number;
  in: boolean;
  size: number;
  data: DataView;
}

/** One access of the memory assist. `size` is 1, 2, 4 or 8 (16 and more from `emulated` for vector accesses). */
export interface MemAccess {
  machine: Machine;
  vcpu: Vcpu;
  /** Guest-physical address. */
  gpa: number;
  write: boolean;
  size: number;
  data: DataView;
}

/** VCPU_CONF_CALLBACKS. Objects passed are reused: read them during the call only. */
export interface AssistCallbacks {
  io?(access: IoAccess): void;
  mem?(access: MemAccess): void;
}

/** What vcpuConfigure takes, by operation. */
export type VcpuConfiguration = AssistCallbacks | CpuidConf | TprConf | DebugConf;

export interface Machine {
  readonly machid: number;
}

/** One virtual CPU. It belongs to the thread that created it; only vcpuStop may come from elsewhere. */
export interface Vcpu {
  readonly cpuid: number;
  readonly state: VcpuState;
  readonly event: VcpuEvent;
  readonly exit: VcpuExit;
  /** Instructions retired since it was created, where the backend counts them. As of the last exit. */
  readonly instructions?: number;
}

/** CTL_MACH_INFO. */
export interface MachineInfo {
  machid: number;
  vcpus: number;
  ram: number;
  pid: number;
  /** Seconds since the epoch. */
  time: number;
}

/**
 * A vCPU's time as a count of instructions, one nanosecond each: its time-stamp counter is `count + skipped` plus
 * what was written to it, and nothing of the host's clock is seen.
 */
export interface InstructionTime {
  /** Instructions retired so far, with those that the VMM completed after an exit. Exact after every run. */
  readonly count: number;
  /** Nanoseconds that passed without an instruction (HLT). */
  skipped: number;
  /** run() returns NONE when `count` has reached this, exactly. */
  limit: number;
  /** The time-stamp counter, less `count` and `skipped`. */
  readonly offset: number;
  /** Puts time where it was once: for a vCPU whose state is put back. */
  restore(count: number, skipped: number, offset: number): void;
}

/** A byte read from or written to a port, without an exit. One object serves for any number of them. */
export interface PortAccess {
  port: number;
  in: boolean;
  value: number;
  /** Of the instruction, as unsigned halves. */
  ripLow: number;
  ripHigh: number;
  /** Instructions retired before it, as Vcpu.instructions counts. */
  instructions: number;
}

/**
 * Ports whose byte accesses a vCPU completes by itself, as KVM's coalesced I/O does for writes: where a device has said what
 * it would answer, or that it doesn't matter when it hears of a byte. The VMM learns of them all, in order, after the run.
 */
export interface PortsInPlace {
  /** Accesses that one run can complete; the next one is an exit. */
  readonly capacity: number;
  /** Accesses since the last time that they were taken. */
  readonly count: number;
  /** Reads of the port give this value from now on. Another port may lose its place for it. */
  answer(port: number, value: number): void;
  /** Writes to the port are put down for later from now on. */
  accept(port: number): void;
  /** All accesses are exits again. */
  withdraw(): void;
  /** Gives what was accessed since the last time, oldest first, and forgets it. */
  take(each: (access: Readonly<PortAccess>) => void): void;
}

/** A structured-cloneable name of a machine or vCPU, for another thread of the same process. */
export interface MachineHandle {
  backend: string;
  machid: number;
  token: unknown;
}
export interface VcpuHandle {
  backend: string;
  machid: number;
  cpuid: number;
  token: unknown;
}

/**
 * libnvmm's verbs about machines and their memory, on one thread. Each fails by throwing NvmmError.
 *
 * Host addresses (HVA) are byte offsets into the one shared WebAssembly.Memory that the backend was opened
 * with; guest-physical addresses are numbers below Limit.MAX_RAM. 64-bit registers never cross as numbers:
 * they live in the byte layouts of VcpuState and VcpuExit.
 */
export interface MachineVerbs {
  readonly backend: string;
  capability(): Capability;
  machineCreate(): Machine;
  machineDestroy(machine: Machine): void;
  machineConfigure(machine: Machine, op: number, conf: unknown): void;
  /** Names a machine for machineAttach on another thread of this process. */
  machineShare(machine: Machine): MachineHandle;
  machineAttach(handle: MachineHandle): Machine;
  hvaMap(machine: Machine, hva: number, size: number): void;
  hvaUnmap(machine: Machine, hva: number, size: number): void;
  gpaMap(machine: Machine, hva: number, gpa: number, size: number, prot: number): void;
  gpaUnmap(machine: Machine, hva: number, gpa: number, size: number): void;
  gpaToHva(machine: Machine, gpa: number): { hva: number; prot: number };
  /** Makes the current or next run of a vCPU return STOPPED: any thread may, for any vCPU. */
  vcpuStop(vcpu: VcpuHandle): void;
  ctl(op: number, machid: number): MachineInfo;
  /**
   * Tells the backend that somebody other than a vCPU (a device, a loader, a debugger) wrote guest memory.
   * Hardware is coherent and ignores it; the emulator drops what it had decoded from there.
   */
  hvaWritten(hva: number, size: number): void;
  /** What a backend counts of its own, by name (instructions, TLB misses); absent when it counts nothing. */
  counters?(machine: Machine): Record<string, number>;
  /**
   * A byte for each page of the BackendMemory: 1 when the guest, or somebody who said so (hvaWritten), may have written
   * there since it was cleared. Who clears it does that while no vCPU runs, and sets all areas of every vCPU's state
   * before one does. Absent where nobody keeps count.
   */
  readonly dirtyPages?: Uint8Array;
  /** Ends this thread's use. The last close of the owner destroys its machines. */
  close(): void;
}

/** All of libnvmm's verbs, on one thread, which the vCPUs that it creates belong to. */
export interface Nvmm extends MachineVerbs {
  vcpuCreate(machine: Machine, cpuid: number): Vcpu;
  vcpuDestroy(machine: Machine, vcpu: Vcpu): void;
  vcpuConfigure(machine: Machine, vcpu: Vcpu, op: number, conf: VcpuConfiguration): void;
  setState(machine: Machine, vcpu: Vcpu, flags: number): void;
  getState(machine: Machine, vcpu: Vcpu, flags: number): void;
  inject(machine: Machine, vcpu: Vcpu): void;
  /** Runs the guest until an exit, which is then in vcpu.exit. Returns NONE once per time slice, 1 to 100 ms. */
  run(machine: Machine, vcpu: Vcpu): void;
  vcpuShare(vcpu: Vcpu): VcpuHandle;
  /** Makes the current or next run return STOPPED. The one verb that any thread may call for any vCPU. */
  vcpuStop(vcpu: Vcpu | VcpuHandle): void;
  /** Walks the guest's page tables. Throws EFAULT. The address is given as two unsigned 32-bit halves. */
  gvaToGpa(machine: Machine, vcpu: Vcpu, gvaLow: number, gvaHigh: number): { gpa: number; prot: number };
  /** Completes an IO exit through the io callback. */
  assistIo(machine: Machine, vcpu: Vcpu): void;
  /** Completes a MEMORY exit through the mem callback. */
  assistMem(machine: Machine, vcpu: Vcpu): void;
  /**
   * Asks that runs of this vCPU come back (NONE) once the host's monotonic clock is at `ns` (process.hrtime). Absent
   * where the system alone decides when a guest that computes is interrupted.
   */
  runUntil?(vcpu: Vcpu, ns: number): void;
  /**
   * Port accesses of this vCPU without exits. Absent where each leaves the guest anyhow, as on hardware. What is put down for
   * later must be taken before another vCPU of the machine may touch the device.
   */
  portsInPlace?(machine: Machine, vcpu: Vcpu): PortsInPlace;
  /**
   * From now on this vCPU's time is its count of instructions, and `random` gives the 32-bit words of RDRAND and
   * RDSEED. Absent where instructions can't be counted: hardware counts neither exactly nor the same each time.
   */
  countInstructions?(machine: Machine, vcpu: Vcpu, random: () => number): InstructionTime;
}

/** Where a backend may put its own tables: a part of the shared memory that is neither RAM nor ROM. */
export interface BackendMemory {
  memory: WebAssembly.Memory;
  /** Start of the part that belongs to the backend, in bytes; page-aligned. */
  privateOffset: number;
  privateSize: number;
}

/**
 * What runs a guest's code on a backend that has several ways: `interpreter` handlers alone; `translator` everything
 * translated the first time it runs, which is slow and for tests; `auto` what has run often translated.
 */
export const TIERS = ['auto', 'interpreter', 'translator'] as const;
export type Tier = (typeof TIERS)[number];

/** For diagnosis; a backend ignores what it has no use for. */
export interface BackendOptions {
  tier?: Tier | undefined;
}

/** What the registry knows about a backend, for threads without a vCPU. */
export interface MachineBackend {
  readonly name: 'emulated' | 'kvm' | 'nvmm';
  /** Null when usable, or one sentence that says why it is not and what to do. */
  unavailable(): string | null;
  /** Bytes of private memory for a machine with that many vCPUs and bytes of RAM; 0 for hardware. */
  privateSize(vcpus: number, ram: number): number;
  open(memory: BackendMemory, options?: BackendOptions): MachineVerbs;
}

export interface Backend extends MachineBackend {
  open(memory: BackendMemory, options?: BackendOptions): Nvmm;
}
