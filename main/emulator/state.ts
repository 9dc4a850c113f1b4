/**
 * Where one vCPU of the emulator keeps its state in the shared memory: byte offsets from the vCPU's block,
 * whose address every generated function gets as its first parameter. TypeScript and generated code use the
 * same table.
 */

/** The 64-bit slots that a decoded instruction can name with one byte: registers first, in encoding order. */
export const Slot = {
  /** Always 0: the base or index of an operand that has none. */
  ZERO: 16,
  /** RIP minus the offset in the code page: RIP of an instruction = CODE_BASE + its page offset. */
  CODE_BASE: 17,
  /** A displacement that does not fit 32 bits. */
  TEMPORARY: 18,
  /** Bases of ES, CS, SS, DS, FS, GS as addressing uses them (0 for the first four in 64-bit mode). */
  SEGMENT_BASE: 19,
  COUNT: 32,
} as const;

/** Segment registers' hidden parts, 48 bytes each: ES CS SS DS FS GS LDT TR. */
export const Segment = {
  SIZE: 48,
  SELECTOR: 0,
  /** VMCB packing, see VcpuState.attrib. */
  ATTRIB: 4,
  /** Bytes, unsigned. */
  LIMIT: 8,
  /** Offsets that may be read: READ_LOW <= offset and offset + size - 1 <= READ_HIGH (unsigned). Empty: low > high. */
  READ_LOW: 16,
  READ_HIGH: 20,
  WRITE_LOW: 24,
  WRITE_HIGH: 28,
  /** 64 bits. */
  BASE: 32,
  /** The descriptor that all this was loaded from, as it stood in its table then; 0: it comes from elsewhere. */
  DESCRIPTOR: 40,
} as const;

export const SegmentIndex = {
  ES: 0,
  CS: 1,
  SS: 2,
  DS: 3,
  FS: 4,
  GS: 5,
  LDT: 6,
  TR: 7,
  GDT: 8,
  IDT: 9,
} as const;

export const Field = {
  /** Slots: general registers and what else addressing can name. */
  SLOTS: 0x000,
  XMM: 0x100,
  /** x87 registers by physical number, 16 bytes each: 64-bit significand, 16-bit sign and exponent. MMX shares them. */
  X87: 0x200,
  FPU_CONTROL: 0x280,
  /** Status word without TOP. */
  FPU_STATUS: 0x284,
  /** 0-7. */
  FPU_TOP: 0x288,
  /** A bit for each physical register that is not empty. */
  FPU_TAGS: 0x28c,
  FPU_OPCODE: 0x290,
  MXCSR: 0x294,
  FPU_IP: 0x298,
  FPU_DP: 0x2a0,
  /** Nonzero when an SSE instruction must not run: the vector to raise (6 or 7), kept by the owner of CR0 and CR4. */
  SSE_TRAP: 0x2a8,
  /** The same for x87 instructions (7). */
  X87_TRAP: 0x2ac,
  /** The same for WAIT (7 when MP and TS). */
  WAIT_TRAP: 0x2b0,
  /** The same for MMX instructions (6 or 7). */
  MMX_TRAP: 0x2b4,

  /**
   * The arithmetic flags, in a form that needs no knowledge of the operation (see flags.ts):
   * ZF = (RESULT == 0), SF = sign of RESULT, PF from its low byte, CF = bit 63 and OF = bits 63 xor 62 of CARRY.
   */
  FLAG_RESULT: 0x300,
  FLAG_CARRY: 0x308,
  /** Bit 4: AF. Bits 8-15: xored into the parity byte. Bit 31: inverts SF. */
  FLAG_AUX: 0x310,
  /** All other bits of RFLAGS in place (TF, IF, DF, IOPL, NT, RF, VM, AC, VIF, VIP, ID and the fixed bit 1). */
  EFLAGS: 0x314,
  /** What a record's GENERATION is compared with: a load of CR3 begins a new one. */
  JUMP_GENERATION: 0x318,

  /** Address of the instruction to run when the processor is between blocks; of the faulting one after a fault. */
  RIP: 0x320,
  /** Instructions left before the run must return; signed. */
  BUDGET: 0x328,
  /** Bit 31 set by any thread: look around at the next block end. */
  PENDING: 0x32c,
  /** Address of the read and of the write table of the current privilege. */
  TLB_READ: 0x330,
  TLB_WRITE: 0x334,
  /** Added to a linear address in a record's KEY, so that the code of other modes never matches. */
  JUMP_SALT: 0x338,
  /** The decoded instruction that left the generated code (its address), for faults and helpers. */
  CURRENT: 0x340,
  /** A jump that would like to be linked to where it goes, or 0. */
  LINK_FROM: 0x344,
  /** What a slow memory access is about: linear address, and 16 bytes of data. */
  ACCESS_ADDRESS: 0x348,
  ACCESS_DATA: 0x350,
  /** Segment of the access, for the choice of #SS or #GP. */
  ACCESS_SEGMENT: 0x360,
  /** What a fault is: vector and error code (-1: none). */
  FAULT_VECTOR: 0x364,
  FAULT_ERROR: 0x368,
  /** 0-3. */
  CPL: 0x36c,
  /** Mode word, see context.ts. */
  CONTEXT: 0x370,
  /** Bits of an address that #AC checks for alignment: all ones when AC checking is on, else 0. */
  ALIGNMENT_MASK: 0x374,
  /** The stack pointer's mask is 0xffff, 0xffffffff or all ones: 64 bits. */
  STACK_MASK: 0x378,
  /** Base of the stack segment as addressing uses it is Slot.SEGMENT_BASE + 2. */
  /** Nonzero: an interrupt window is armed, so code that sets IF leaves the block. */
  WINDOW_ARMED: 0x380,
  /** Nonzero from the delivery of an NMI until the next IRET. */
  NMI_BLOCKED: 0x384,
  /** Instructions retired before the current run of blocks: 64-bit. */
  RETIRED: 0x388,
  /** RFLAGS.DF as a step: +1 or -1, 64 bits. */
  DIRECTION: 0x390,
  /** BUDGET when the run of blocks began: instructions retired since = BUDGET_START - BUDGET. */
  BUDGET_START: 0x398,
  /** What BUDGET is after an instruction that casts an interrupt shadow (STI, loads of SS): equal means in the shadow. */
  SHADOW_AT: 0x39c,
  /** What generated code hands to a helper: an operand's value or address (64-bit), and a selector, limit or port. */
  HELPER_VALUE: 0x3b0,
  HELPER_SELECTOR: 0x3b8,
  /** The Leave code of a slow access that did not succeed. */
  LEAVE: 0x3a0,
  /** Segments that were written since what follows from them was computed, a bit each (Cpu.updateContext). */
  SEGMENTS_CHANGED: 0x3a8,
  /** Set by any thread: the next run, or the one that is going on, returns STOPPED. */
  STOP: 0x3ac,
  /** 64 bytes for accesses that straddle pages. */
  BOUNCE: 0x3c0,

  SEGMENTS: 0x400,
  /** GDT and IDT: base (64 bits) and limit (32). */
  GDT_BASE: 0x580,
  GDT_LIMIT: 0x588,
  IDT_BASE: 0x590,
  IDT_LIMIT: 0x598,

  /** Instructions run by translations: 64-bit. */
  TRANSLATED: 0x5a0,
  /** The flags of a translation on its way out, until they are settled there: its variables in the order of lazy-flags.ts. */
  UNSETTLED: 0x5a8, // 40 bytes
  /** Windows of translations (translate/windows.ts) that missed. */
  WINDOW_MISSES: 0x5d0,
  /** For how many instructions a look at the clock is good: TSC_FRESH where a machine has one vCPU, 1 where it has several. */
  TSC_FRESH: 0x5d4,
  /** The time-stamp counter at the last look, 64-bit, and the budget then; or NO_MARK. */
  TSC: 0x5d8,
  TSC_MARK: 0x5e0,
  /** Accesses of ports in PORT_LOG, and how many may be: 0 while nothing is answered in place. */
  PORT_COUNT: 0x5e4,
  PORT_LIMIT: 0x5e8,

  CR0: 0x600,
  CR2: 0x608,
  CR3: 0x610,
  CR4: 0x618,
  CR8: 0x620,
  XCR0: 0x628,
  DR: 0x630, // DR0-DR3, DR6, DR7: six 64-bit registers
  EFER: 0x660,
  STAR: 0x668,
  LSTAR: 0x670,
  CSTAR: 0x678,
  SFMASK: 0x680,
  KERNEL_GS_BASE: 0x688,
  SYSENTER_CS: 0x690,
  SYSENTER_ESP: 0x698,
  SYSENTER_EIP: 0x6a0,
  PAT: 0x6a8,
  TSC_AUX: 0x6b0,
  /** Scratch for SSE and x87 routines. */
  SCRATCH: 0x700, // 256 bytes

  /** Counters for other threads to read, doubles in the order of COUNTERS. */
  COUNTERS: 0x800,

  /** What is answered in place: PORT_PLACES words (PortAnswer), each at the place that the port's low bits give. */
  PORT_ANSWERS: 0x8c0,
  /** Accesses that were, PORT_LOG_ENTRIES of them (PortLog). */
  PORT_LOG: 0x900,

  /** End of the fixed part. */
  SIZE: 0x1000,
} as const;

/**
 * What Field.COUNTERS counts since the vCPU was created. `translated`: instructions that translations ran, with
 * what handlers did for them; the rest of `instructions` was interpreted. Those in Ns are nanoseconds of its
 * thread: in the guest's code with all that follows, and of that making handlers and translations. `evictions`: how
 * often all translations were dropped to make room. `portsInPlace`: accesses of ports without an exit.
 */
export const COUNTERS = [
  'instructions',
  'tlbMisses',
  'decoded',
  'invalidations',
  'modules',
  'translated',
  'regions',
  'runNs',
  'handlersNs',
  'translationNs',
  'evictions',
  'portsInPlace',
] as const;

/** The ports of a PC's serial line, which are nearly all that a boot asks again and again, have places of their own. */
export const PORT_PLACES = 16;
/** A line of a console, two accesses to a character, costs one exit or two then. */
export const PORT_LOG_ENTRIES = 64;
/** A word of Field.PORT_ANSWERS: the port in bits 0-15, what a byte read from there gives in 16-23, and what holds. */
export const PortAnswer = { PORT: 0xffff, VALUE_SHIFT: 16, READ: 1 << 24, WRITE: 1 << 25 } as const;
/** An entry of Field.PORT_LOG. */
export const PortLog = {
  SIZE: 16,
  /** RIP of the instruction, 64 bits. */
  RIP: 0,
  /** Port and byte as in PortAnswer, and READ or WRITE. */
  ACCESS: 8,
  /** The budget before the instruction. */
  BUDGET: 12,
} as const;

/** The state area of a vCPU after its fixed part. Offsets from the vCPU's block. */
/** They reach 32 MiB: two areas of a program that are further apart than that, by a multiple of it, disturb each other. */
export const TLB_ENTRIES = 8192;
/** 64-bit tag, 32-bit addend (host address minus linear address), 32-bit host page (with flag bits). */
export const TLB_ENTRY = 16;
export const TLB_BYTES = TLB_ENTRIES * TLB_ENTRY;
/**
 * Behind them the same for code of 32 bits, in its order: 32-bit tag, 32-bit addend. A program that jumps about in 8 MiB
 * finds half of them in a first cache of 32 KiB, where the wide ones fill all of it.
 */
export const TLB_NARROW_ENTRY = 8;
/** From one table to the next: a power of two, so that an entry's table is found with a mask. */
export const TLB_STRIDE = 2 * TLB_BYTES;
export const TlbSet = {
  /** Supervisor; the same with EFLAGS.AC set under SMAP; user. Each has read, write and fetch tables. */
  SUPERVISOR: 0,
  SUPERVISOR_AC: 1,
  USER: 2,
  COUNT: 3,
} as const;
export const TlbKind = { READ: 0, WRITE: 1, FETCH: 2, COUNT: 3 } as const;
/** A boot of Linux runs some 70,000 blocks, a quarter of them more than a hundred times. */
export const JUMP_CACHE_ENTRIES = 32768;
/** The record of a block's head, which says itself what address it is for. */
export const JUMP_CACHE_ENTRY = 4;
/** Places that a head may be in, by the number that is combined with its first. */
export const JUMP_CACHE_WAYS = 4;
/**
 * Instructions for which a look at the clock is good (Field.TSC_FRESH): about a microsecond, which is what a look costs in
 * a dozen of reads.
 */
export const TSC_FRESH = 1024;

export const Area = {
  TLB: Field.SIZE,
  JUMP_CACHE: Field.SIZE + TlbSet.COUNT * TlbKind.COUNT * TLB_STRIDE,
  RECORDS: Field.SIZE + TlbSet.COUNT * TlbKind.COUNT * TLB_STRIDE + JUMP_CACHE_ENTRIES * JUMP_CACHE_ENTRY,
} as const;

/** Offset of one translation table from the vCPU's block. */
export function tlbOffset(set: number, kind: number): number {
  return Area.TLB + (set * TlbKind.COUNT + kind) * TLB_STRIDE;
}

/** Records at the start of their area that no block has: three of an instruction that is stepped or is none, a spare one. */
export const RESERVED_RECORDS = 5;

/** The address of a record that is in place of none in the jump cache. */
export function noRecord(s: number): number {
  return s + Area.RECORDS + (RESERVED_RECORDS - 1) * Record.SIZE;
}

/** A decoded instruction in memory: 32 bytes. Register fields are byte offsets of slots (or of XMM and ST registers). */
export const Record = {
  SIZE: 32,
  /** Index in the function table of the code that runs it. */
  HANDLER: 0,
  /** Displacement, signed 32 bits. */
  DISPLACEMENT: 4,
  /** First immediate, 64 bits. */
  IMMEDIATE: 8,
  /** Registers of operands 0, 1, 2. */
  REGISTER: 16,
  BASE: 19,
  INDEX: 20,
  SCALE: 21,
  /** Slot (byte offset) of the segment base to add. */
  SEGMENT_SLOT: 22,
  /** Segment register of the memory operand, 0-5. */
  SEGMENT: 23,
  /** Offset of the instruction in its linear page. */
  POSITION: 24,
  LENGTH: 26,
  /** Instructions before this one in its block. */
  NUMBER: 27,
  /**
   * For direct jumps: address of the record they lead to, or 0. For indirect calls: where the last one led, from the page's
   * start, plus 1. Else the second immediate.
   */
  LINK: 28,

  // In a block's head, which stands before its first instruction and is none, in place of operands:
  /** Field.JUMP_GENERATION when it was last known that KEY leads here; EVERY_GENERATION: a global page does. */
  GENERATION: 4,
  /** The host page of the block's bytes; NO_PAGE if they are in two. */
  HOST: 12,
  /** The linear address that led here last, plus Field.JUMP_SALT; 64 bits. */
  KEY: 16,
} as const;

export const EVERY_GENERATION = -1;
export const NO_PAGE = 1;

/** What generated code returns to the run loop. */
export const Leave = {
  /** The instruction at RIP has no known block. */
  LOOKUP: 1,
  /** Budget used up or PENDING set; RIP is right. */
  BUDGET: 2,
  /** FAULT_VECTOR and FAULT_ERROR are to be raised at CURRENT. */
  FAULT: 3,
  /** An NVMM exit is recorded; RIP is that of CURRENT. */
  EXIT: 4,
  /** CURRENT's block was invalidated: find it anew. */
  STALE: 5,
  /** A helper changed the mode or RIP: RIP is right; the instruction is retired. */
  RETIRED: 6,
  /** CURRENT's block has run often enough to be translated; nothing of it was run this time. */
  HOT: 7,
} as const;
