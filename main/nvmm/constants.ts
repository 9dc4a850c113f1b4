/**
 * The numbers of the NVMM interface (nvmm.h of NetBSD 10 and DragonFly BSD 6, machine-dependent part x86).
 * Names are those of the header without the prefix NVMM_ or NVMM_X64_.
 */

/** Exit reasons. INVALID and STOPPED are the 64-bit values -1 and -2; here they are numbers below zero. */
export const Exit = {
  NONE: 0,
  INVALID: -1,
  STOPPED: -2,
  MEMORY: 1,
  IO: 2,
  SHUTDOWN: 0x1000,
  INT_READY: 0x1001,
  NMI_READY: 0x1002,
  HALTED: 0x1003,
  TPR_CHANGED: 0x1004,
  RDMSR: 0x2000,
  WRMSR: 0x2001,
  MONITOR: 0x2002,
  MWAIT: 0x2003,
  CPUID: 0x2004,
  /** Vitrine's extension: what VcpuConf.DEBUG asked for has come about. See DebugKind. */
  DEBUG: 0x10000,
} as const;

/** What a DEBUG exit is about. */
export const DebugKind = {
  /** One instruction was run, or an event delivered. */
  STEP: 0,
  /** RIP is at a breakpoint; the instruction has not run. */
  BREAKPOINT: 1,
  /** The instruction before RIP has touched a watched range. */
  WATCHPOINT: 2,
  /** An exception is about to be delivered; RIP is at what raised it. */
  EXCEPTION: 3,
} as const;

/** Parts of the vCPU state, as bits for getState and setState. */
export const State = {
  SEGS: 0x01,
  GPRS: 0x02,
  CRS: 0x04,
  DRS: 0x08,
  MSRS: 0x10,
  INTR: 0x20,
  FPU: 0x40,
  ALL: 0x7f,
} as const;

export const Seg = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5, GDT: 6, IDT: 7, LDT: 8, TR: 9 } as const;
export const Gpr = {
  RAX: 0,
  RCX: 1,
  RDX: 2,
  RBX: 3,
  RSP: 4,
  RBP: 5,
  RSI: 6,
  RDI: 7,
  R8: 8,
  R9: 9,
  R10: 10,
  R11: 11,
  R12: 12,
  R13: 13,
  R14: 14,
  R15: 15,
  RIP: 16,
  RFLAGS: 17,
} as const;
export const Cr = { CR0: 0, CR2: 1, CR3: 2, CR4: 3, CR8: 4, XCR0: 5 } as const;
export const Dr = { DR0: 0, DR1: 1, DR2: 2, DR3: 3, DR6: 4, DR7: 5 } as const;
export const Msr = {
  EFER: 0,
  STAR: 1,
  LSTAR: 2,
  CSTAR: 3,
  SFMASK: 4,
  KERNELGSBASE: 5,
  SYSENTER_CS: 6,
  SYSENTER_ESP: 7,
  SYSENTER_EIP: 8,
  PAT: 9,
  TSC: 10,
} as const;

/** Bits of the intr word (state and exitstate). */
export const Intr = { INT_SHADOW: 1, INT_WINDOW_EXITING: 2, NMI_WINDOW_EXITING: 4, EVT_PENDING: 8 } as const;

export const EventType = { EXCP: 0, INTR: 1 } as const;

/** Protection of a guest-physical mapping: the host's PROT_ values. */
export const Prot = { READ: 1, WRITE: 2, EXEC: 4 } as const;
/** Protection that a page walk reports (nvmm_prot_t). */
export const WalkProt = { READ: 1, WRITE: 2, EXEC: 4, USER: 8, ALL: 15 } as const;

/** DEBUG is Vitrine's extension, far from the numbers that NVMM gives out. */
export const VcpuConf = { CALLBACKS: 0, CPUID: 200, TPR: 201, DEBUG: 1000 } as const;
/** Bits of Capability.vcpuConfSupport. */
export const VcpuConfSupport = { CPUID: 1 << 0, TPR: 1 << 1, DEBUG: 1 << 30 } as const;
export const CtlOp = { MACH_INFO: 0 } as const;

export const Limit = {
  MACHINES: 128,
  VCPUS: 128,
  HVA_MAPPINGS: 32,
  CPUID_ENTRIES: 32,
  /** Exclusive end of guest-physical address space: 128 GiB. */
  MAX_RAM: 128 * 2 ** 30,
  PAGE: 4096,
} as const;

/** Byte offsets inside the 1008-byte nvmm_x64_state. */
export const StateOffset = {
  SEGS: 0,
  GPRS: 160,
  CRS: 304,
  DRS: 352,
  MSRS: 400,
  INTR: 488,
  FPU: 496,
  SIZE: 1008,
} as const;
/** Byte offsets inside the 64-byte nvmm_vcpu_exit. */
export const ExitOffset = { REASON: 0, UNION: 8, RFLAGS: 40, CR8: 48, INTR: 56, SIZE: 64 } as const;
