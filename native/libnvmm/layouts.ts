/**
 * One table per system: what its libnvmm looks like from outside. The state, exit, event, callback and CPUID
 * structures are the same everywhere; versions 2 and 3 differ in the capability and at the end of struct nvmm_vcpu.
 */

/** Byte offsets in struct nvmm_capability. */
export interface CapabilityLayout {
  size: number;
  maxMachines: number;
  maxVcpus: number;
  maxRam: number;
  machConfSupport: number;
  vcpuConfSupport: number;
  xcr0Mask: number;
  mxcsrMask: number;
  confCpuidMaxops: number;
}

export interface Layout {
  /** NVMM_KERN_VERSION that nvmm_capability must report. */
  version: number;
  /** Whether nvmm_vcpu_stop exists. */
  stop: boolean;
  /** Whether nvmm_hva_map puts fresh zeroed memory in place of what was there. */
  hvaMapClears: boolean;
  device: string;
  /** Where the system keeps its library, by the names that its loader knows. */
  libraries: readonly string[];
  /** This system's number for an errno that Node does not name, or that several systems number differently. */
  programMismatch: number;
  capability: CapabilityLayout;
}

const VERSION_2: CapabilityLayout = {
  size: 104,
  maxMachines: 8,
  maxVcpus: 12,
  maxRam: 16,
  machConfSupport: 24,
  vcpuConfSupport: 32,
  xcr0Mask: 40,
  mxcsrMask: 48,
  confCpuidMaxops: 52,
};

const VERSION_3: CapabilityLayout = {
  size: 112,
  maxMachines: 12,
  maxVcpus: 16,
  maxRam: 24,
  machConfSupport: 32,
  vcpuConfSupport: 40,
  xcr0Mask: 48,
  mxcsrMask: 56,
  confCpuidMaxops: 60,
};

/** EPROTO on Linux (nvmm.h of ours says so), EPROGMISMATCH on the BSDs; Haiku uses EPERM. */
export const LAYOUTS: Readonly<Record<string, Layout>> = {
  linux: {
    version: 2,
    stop: true,
    hvaMapClears: false,
    device: '/dev/kvm',
    libraries: [],
    programMismatch: 71,
    capability: VERSION_2,
  },
  netbsd: {
    version: 2,
    stop: true,
    hvaMapClears: true,
    device: '/dev/nvmm',
    libraries: ['libnvmm.so.0', 'libnvmm.so'],
    programMismatch: 75,
    capability: VERSION_2,
  },
  dragonfly: {
    version: 3,
    stop: false,
    hvaMapClears: true,
    device: '/dev/nvmm',
    libraries: ['libnvmm.so.3', 'libnvmm.so'],
    programMismatch: 75,
    capability: VERSION_3,
  },
  haiku: {
    version: 3,
    stop: false,
    hvaMapClears: true,
    device: '/dev/misc/nvmm',
    libraries: ['libnvmm.so'],
    programMismatch: 1,
    capability: VERSION_3,
  },
};

/** NVMM_LINUX_PAGE_*: what a vCPU shares with whoever lent the memory for it. Offsets in bytes. */
export const PAGE = {
  SIZE: 1200,
  ALIGNMENT: 64,
  CACHED: 0,
  COMMIT: 8,
  INJECT: 16,
  ANSWER: 20,
  /** A double: nanoseconds of the monotonic clock. */
  DEADLINE: 24,
  STATE: 32,
  EVENT: 1040,
  EXIT: 1056,
  ACCESS: 1120,
  DATA: 1168,
  DATA_SIZE: 16,
  RESULT: 1184,
} as const;

/** Of PAGE.ANSWER: an access can be answered in the page; it has been; it can be, and the instruction goes on after it. */
export const Answer = { OFFERED: 1, GIVEN: 2, PART: 3 } as const;

/** sizeof(struct nvmm_x64_state), on every system. */
export const STATE_SIZE = 1008;

/** struct nvmm_machine: machid u32 at 0, two opaque pointers. */
export const MACHINE_SIZE = 24;

/** struct nvmm_vcpu, with room behind it for the stop word of systems that have none. Offsets in bytes. */
export const VCPU = { SIZE: 56, STATE: 24, EVENT: 32, EXIT: 40, ALLOCATED: 64, OWN_STOP: 56 } as const;

/** struct nvmm_assist_callbacks: two function pointers. */
export const CALLBACKS_SIZE = 16;

/** struct nvmm_io. */
export const IO = { SIZE: 40, PORT: 16, IN: 18, LENGTH: 24, DATA: 32 } as const;

/** struct nvmm_mem. */
export const MEM = { SIZE: 48, GPA: 16, WRITE: 24, LENGTH: 32, DATA: 40 } as const;

/** struct nvmm_vcpu_conf_cpuid: flags (bit 0 mask, bit 1 exit), leaf, four words to set, four to delete. */
export const CPUID_CONF_SIZE = 40;

/** struct nvmm_ctl_mach_info. */
export const MACHINE_INFO = { SIZE: 32, VCPUS: 4, RAM: 8, PID: 16, TIME: 24 } as const;

/** struct nvmm_vcpu_conf_debug, our libnvmm's on Linux: a header, and points of address, length, index, accesses. */
export const DEBUG_CONF = {
  SIZE: 16 + 16 * 24,
  STEP: 0,
  EXCEPTIONS: 4,
  COUNT: 8,
  FIRST: 16,
  POINT_SIZE: 24,
  POINTS: 16,
} as const;
