import { Cr, Dr, Gpr, Msr, Seg, State } from '../../nvmm/constants.ts';
import type { VcpuState } from '../../nvmm/layout.ts';

/**
 * A vCPU's registers as gdb has them: names, sizes and order are those of gdb's own features (GDB manual, appendix
 * G.5.14), then what else a kernel's debugger looks at, under the manuals' names.
 */

/** What gdb takes the machine for. */
export type Architecture = 'i8086' | 'i386' | 'i386:x86-64';

/** As people write them; null for another word. */
export function parseArchitecture(word: string): Architecture | null {
  const known: readonly Architecture[] = ['i8086', 'i386', 'i386:x86-64'];
  return known.find((name) => name === word || name === `i386:${word}`) ?? null;
}

export type RegisterType =
  | 'int'
  | 'uint'
  | 'code_ptr'
  | 'data_ptr'
  | 'i387_ext'
  | 'vec128'
  | 'eflags'
  | 'mxcsr'
  | 'cr0'
  | 'cr4'
  | 'efer';

export interface Register {
  name: string;
  bits: 16 | 32 | 64 | 80 | 128;
  type: RegisterType;
  /** The area of the state that a write changes. */
  area: number;
  read(state: VcpuState): bigint;
  /** `value` has no more bits than the register. Returns what is wrong with it, or nothing. */
  write(state: VcpuState, value: bigint): string | undefined | void;
}

export interface Feature {
  name: string;
  registers: readonly Register[];
}

const CR0_PE = 1n;
const RFLAGS_VM = 1n << 17n;
const EFER_LMA = 1n << 10n;
const ATTRIB_L = 1 << 9;
const ATTRIB_DEF = 1 << 10;

/** RFLAGS that exist (SDM volume 1, figure 3-8); bit 1 is always set. */
const RFLAGS_BITS = 0x003f_7fd7n;
/** MXCSR that exists (volume 1, figure 10-3): anything else faults in LDMXCSR, and a backend refuses it. */
const MXCSR_BITS = 0xffffn;

/** How the vCPU reads its next instruction. */
export type Mode = 'real' | 'virtual-8086' | 'protected-16' | 'protected-32' | 'compatibility' | 'long';

export function modeOf(state: VcpuState): Mode {
  if ((state.cr(Cr.CR0) & CR0_PE) === 0n) return 'real';
  const attrib = state.attrib(Seg.CS);
  if ((state.msr(Msr.EFER) & EFER_LMA) !== 0n) {
    return (attrib & ATTRIB_L) !== 0 ? 'long' : 'compatibility';
  }
  if ((state.rflags & RFLAGS_VM) !== 0n) return 'virtual-8086';
  return (attrib & ATTRIB_DEF) !== 0 ? 'protected-32' : 'protected-16';
}

/** What gdb should take a vCPU for, to disassemble what it does now. */
export function architectureOf(state: VcpuState): Architecture {
  if (modeOf(state) === 'long') return 'i386:x86-64';
  const small = (state.attrib(Seg.CS) & ATTRIB_DEF) === 0 || modeOf(state) === 'real';
  return small ? 'i8086' : 'i386';
}

const WORD32 = 0xffff_ffffn;

/**
 * The linear address of the next instruction. gdb's program counter is one: it compares it with the addresses of
 * breakpoints, and reads instructions there. It differs from RIP where CS has a base.
 */
export function linearPc(state: VcpuState): bigint {
  if (modeOf(state) === 'long') return state.rip;
  return (state.base(Seg.CS) + state.rip) & WORD32;
}

function setLinearPc(state: VcpuState, value: bigint): string | undefined {
  if (modeOf(state) === 'long') {
    if (BigInt.asUintN(64, BigInt.asIntN(48, value)) !== value) return 'the address is not canonical';
    state.rip = value;
    return undefined;
  }
  if (value > WORD32) return 'the vCPU is not in 64-bit mode: its addresses have 32 bits';
  state.rip = (value - state.base(Seg.CS)) & WORD32;
  return undefined;
}

function gpr(name: string, index: number, bits: 32 | 64, type: RegisterType = 'int'): Register {
  return {
    name,
    bits,
    type,
    area: State.GPRS,
    read: (state) => BigInt.asUintN(bits, state.gpr(index)),
    // A 32-bit view writes the upper half to zero, as instructions do.
    write: (state, value) => state.setGpr(index, value),
  };
}

function pc(name: string, bits: 32 | 64): Register {
  return {
    name,
    bits,
    type: 'code_ptr',
    area: State.GPRS,
    read: (state) => BigInt.asUintN(bits, linearPc(state)),
    write: setLinearPc,
  };
}

const eflags: Register = {
  name: 'eflags',
  bits: 32,
  type: 'eflags',
  area: State.GPRS,
  read: (state) => state.rflags & WORD32,
  write: (state, value) => {
    state.rflags = (value & RFLAGS_BITS) | 2n;
  },
};

type SegmentPart = 'selector' | 'attrib' | 'limit' | 'base';

/** One part of a segment register. The others stay, but for a base in real and virtual-8086 mode. */
function segment(name: string, index: number, part: SegmentPart, bits: 16 | 32 | 64): Register {
  return {
    name,
    bits,
    type: part === 'base' ? 'data_ptr' : 'uint',
    area: State.SEGS,
    read: (state) => BigInt(state[part](index)),
    write: (state, value) => {
      const parts = {
        selector: state.selector(index),
        attrib: state.attrib(index),
        limit: state.limit(index),
        base: state.base(index),
      };
      if (part === 'base') parts.base = value;
      else if (part === 'selector' && value > 0xffffn) return 'a selector has 16 bits';
      else parts[part] = Number(value);
      const mode = modeOf(state);
      if (part === 'selector' && (mode === 'real' || mode === 'virtual-8086')) parts.base = value << 4n;
      state.setSegment(index, parts.selector, parts.attrib, parts.limit, parts.base);
      return undefined;
    },
  };
}

function control(name: string, index: number, type: RegisterType = 'uint'): Register {
  return {
    name,
    bits: 64,
    type,
    area: State.CRS,
    read: (state) => state.cr(index),
    write: (state, value) => state.setCr(index, value),
  };
}

function debug(name: string, index: number): Register {
  return {
    name,
    bits: 64,
    type: 'uint',
    area: State.DRS,
    read: (state) => state.dr(index),
    write: (state, value) => state.setDr(index, value),
  };
}

function msr(name: string, index: number, type: RegisterType = 'uint'): Register {
  return {
    name,
    bits: 64,
    type,
    area: State.MSRS,
    read: (state) => state.msr(index),
    write: (state, value) => state.setMsr(index, value),
  };
}

/** Bytes of the FXSAVE image (SDM volume 1, table 10-2). */
const Fx = { FCW: 0, FSW: 2, FTW: 4, FOP: 6, FIP: 8, FCS: 12, FDP: 16, FDS: 20, MXCSR: 24, ST: 32, XMM: 160 };

function readBytes(state: VcpuState, at: number, length: number): bigint {
  let value = 0n;
  for (let n = length - 1; n >= 0; n--) value = (value << 8n) | BigInt(state.fpu[at + n]);
  return value;
}

function writeBytes(state: VcpuState, at: number, length: number, value: bigint): void {
  for (let n = 0, left = value; n < length; n++, left >>= 8n) state.fpu[at + n] = Number(left & 0xffn);
}

/** Bytes of the FXSAVE image. gdb's numbers for x87 are 32 bits wide, whatever they hold. */
function fx(name: string, at: number, length: number, bits: Register['bits'], type: RegisterType): Register {
  return {
    name,
    bits,
    type,
    area: State.FPU,
    read: (state) => readBytes(state, at, length),
    write: (state, value) => writeBytes(state, at, length, BigInt.asUintN(8 * length, value)),
  };
}

const x87 = (name: string, at: number, length: number): Register => fx(name, at, length, 32, 'int');

const TOP_SHIFT = 11;
const TAG = { valid: 0, zero: 1, special: 2, empty: 3 };

/** The tag of a physical register, from FXSAVE's one bit and the register's value (volume 1, 8.1.7 and 10.5.1.1). */
function tagOf(state: VcpuState, physical: number): number {
  const fpu = state.fpu;
  if (((fpu[Fx.FTW] >> physical) & 1) === 0) return TAG.empty;
  const top = (fpu[Fx.FSW + 1] << 8) >> TOP_SHIFT;
  const at = Fx.ST + 16 * ((physical - top) & 7);
  const exponent = (fpu[at + 8] | (fpu[at + 9] << 8)) & 0x7fff;
  const integerBit = fpu[at + 7] >> 7;
  if (exponent === 0) return readBytes(state, at, 8) === 0n ? TAG.zero : TAG.special;
  return exponent === 0x7fff || integerBit === 0 ? TAG.special : TAG.valid;
}

/** The x87's whole tag word: FXSAVE has one bit of two. */
const ftag: Register = {
  name: 'ftag',
  bits: 32,
  type: 'int',
  area: State.FPU,
  read: (state) => {
    let word = 0;
    for (let n = 0; n < 8; n++) word |= tagOf(state, n) << (2 * n);
    return BigInt(word);
  },
  write: (state, value) => {
    let short = 0;
    for (let n = 0; n < 8; n++) if (((Number(value) >> (2 * n)) & 3) !== TAG.empty) short |= 1 << n;
    state.fpu[Fx.FTW] = short;
  },
};

const mxcsr: Register = {
  ...fx('mxcsr', Fx.MXCSR, 4, 32, 'mxcsr'),
  write: (state, value) => {
    if ((value & ~MXCSR_BITS) !== 0n) return 'bits 16 to 31 of MXCSR are reserved';
    return writeBytes(state, Fx.MXCSR, 4, value) as undefined;
  },
};

const selectors = [
  segment('cs', Seg.CS, 'selector', 32),
  segment('ss', Seg.SS, 'selector', 32),
  segment('ds', Seg.DS, 'selector', 32),
  segment('es', Seg.ES, 'selector', 32),
  segment('fs', Seg.FS, 'selector', 32),
  segment('gs', Seg.GS, 'selector', 32),
];

const stack: Register[] = Array.from({ length: 8 }, (_, n) =>
  fx(`st${n}`, Fx.ST + 16 * n, 10, 80, 'i387_ext'),
);

function x87Registers(bits: 32 | 64): Register[] {
  // The 64-bit image has 64-bit pointers in place of an offset and a selector.
  const selector = bits === 64 ? 4 : 2;
  return [
    ...stack,
    x87('fctrl', Fx.FCW, 2),
    x87('fstat', Fx.FSW, 2),
    ftag,
    x87('fiseg', Fx.FCS, selector),
    x87('fioff', Fx.FIP, 4),
    x87('foseg', Fx.FDS, selector),
    x87('fooff', Fx.FDP, 4),
    x87('fop', Fx.FOP, 2),
  ];
}

function sse(count: 8 | 16): Register[] {
  const xmm = Array.from({ length: count }, (_, n) =>
    fx(`xmm${n}`, Fx.XMM + 16 * n, 16, 128, 'vec128' as const),
  );
  return [...xmm, mxcsr];
}

const SEGMENTS: readonly [string, number][] = [
  ['cs', Seg.CS],
  ['ss', Seg.SS],
  ['ds', Seg.DS],
  ['es', Seg.ES],
  ['fs', Seg.FS],
  ['gs', Seg.GS],
];

const bases = SEGMENTS.map(([name, index]) => segment(`${name}_base`, index, 'base', 64));
const fsAndGs = bases.slice(4);

/** What gdb has no feature for, in the order of the SDM's volume 3, chapter 2, and volume 4. */
const system: Register[] = [
  ...bases.slice(0, 4),
  ...SEGMENTS.flatMap(([name, index]) => [
    segment(`${name}_limit`, index, 'limit', 32),
    segment(`${name}_attr`, index, 'attrib', 16),
  ]),
  segment('gdtr_base', Seg.GDT, 'base', 64),
  segment('gdtr_limit', Seg.GDT, 'limit', 32),
  segment('idtr_base', Seg.IDT, 'base', 64),
  segment('idtr_limit', Seg.IDT, 'limit', 32),
  segment('ldtr', Seg.LDT, 'selector', 16),
  segment('ldtr_base', Seg.LDT, 'base', 64),
  segment('ldtr_limit', Seg.LDT, 'limit', 32),
  segment('ldtr_attr', Seg.LDT, 'attrib', 16),
  segment('tr', Seg.TR, 'selector', 16),
  segment('tr_base', Seg.TR, 'base', 64),
  segment('tr_limit', Seg.TR, 'limit', 32),
  segment('tr_attr', Seg.TR, 'attrib', 16),
  { ...gpr('ip', Gpr.RIP, 64, 'uint'), write: () => 'write to the program counter ($pc) in its place' },
  control('cr0', Cr.CR0, 'cr0'),
  control('cr2', Cr.CR2),
  control('cr3', Cr.CR3),
  control('cr4', Cr.CR4, 'cr4'),
  control('cr8', Cr.CR8),
  control('xcr0', Cr.XCR0),
  debug('dr0', Dr.DR0),
  debug('dr1', Dr.DR1),
  debug('dr2', Dr.DR2),
  debug('dr3', Dr.DR3),
  debug('dr6', Dr.DR6),
  debug('dr7', Dr.DR7),
  msr('efer', Msr.EFER, 'efer'),
  msr('star', Msr.STAR),
  msr('lstar', Msr.LSTAR, 'code_ptr'),
  msr('cstar', Msr.CSTAR, 'code_ptr'),
  msr('sfmask', Msr.SFMASK),
  msr('kernel_gs_base', Msr.KERNELGSBASE, 'data_ptr'),
  msr('sysenter_cs', Msr.SYSENTER_CS),
  msr('sysenter_esp', Msr.SYSENTER_ESP, 'data_ptr'),
  msr('sysenter_eip', Msr.SYSENTER_EIP, 'code_ptr'),
  msr('pat', Msr.PAT),
  msr('tsc', Msr.TSC),
];

const features64: readonly Feature[] = [
  {
    name: 'org.gnu.gdb.i386.core',
    registers: [
      gpr('rax', Gpr.RAX, 64),
      gpr('rbx', Gpr.RBX, 64),
      gpr('rcx', Gpr.RCX, 64),
      gpr('rdx', Gpr.RDX, 64),
      gpr('rsi', Gpr.RSI, 64),
      gpr('rdi', Gpr.RDI, 64),
      gpr('rbp', Gpr.RBP, 64, 'data_ptr'),
      gpr('rsp', Gpr.RSP, 64, 'data_ptr'),
      ...Array.from({ length: 8 }, (_, n) => gpr(`r${n + 8}`, Gpr.R8 + n, 64)),
      pc('rip', 64),
      eflags,
      ...selectors,
      ...x87Registers(64),
    ],
  },
  { name: 'org.gnu.gdb.i386.sse', registers: sse(16) },
  { name: 'org.gnu.gdb.i386.segments', registers: fsAndGs },
  { name: 'org.vitrine.system', registers: system },
];

const features32: readonly Feature[] = [
  {
    name: 'org.gnu.gdb.i386.core',
    registers: [
      gpr('eax', Gpr.RAX, 32),
      gpr('ecx', Gpr.RCX, 32),
      gpr('edx', Gpr.RDX, 32),
      gpr('ebx', Gpr.RBX, 32),
      gpr('esp', Gpr.RSP, 32, 'data_ptr'),
      gpr('ebp', Gpr.RBP, 32, 'data_ptr'),
      gpr('esi', Gpr.RSI, 32),
      gpr('edi', Gpr.RDI, 32),
      pc('eip', 32),
      eflags,
      ...selectors,
      ...x87Registers(32),
    ],
  },
  { name: 'org.gnu.gdb.i386.sse', registers: sse(8) },
  { name: 'org.vitrine.system', registers: [...fsAndGs, ...system] },
];

/** A description's features in the order of gdb's register numbers. */
export function featuresOf(architecture: Architecture): readonly Feature[] {
  return architecture === 'i386:x86-64' ? features64 : features32;
}

/** All of a description's registers; a register's number is its place. */
export function registersOf(architecture: Architecture): readonly Register[] {
  return architecture === 'i386:x86-64' ? registers64 : registers32;
}

const registers64 = features64.flatMap(({ registers }) => registers);
const registers32 = features32.flatMap(({ registers }) => registers);

/** A register's value in the guest's byte order. */
export function readRegister(register: Register, state: VcpuState): Uint8Array {
  const bytes = new Uint8Array(register.bits / 8);
  for (let n = 0, left = register.read(state); n < bytes.length; n++, left >>= 8n) {
    bytes[n] = Number(left & 0xffn);
  }
  return bytes;
}

/** The value of bytes in the guest's order. */
export function valueOf(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let n = bytes.length - 1; n >= 0; n--) value = (value << 8n) | BigInt(bytes[n]);
  return value;
}
