import { Cr, Dr, Gpr, Msr, Seg, State } from '../nvmm/constants.ts';
import type { VcpuState } from '../nvmm/layout.ts';

/**
 * A vCPU's registers under the names that the Intel SDM gives them, with the fields of those that have some. The
 * tables are in the order of the manual: volume 1, 3.4 (general registers, RFLAGS), volume 3, 2.5 (control registers),
 * 2.2.1 (IA32_EFER), 3.4.5 (segments), 17.2 (debug registers).
 */

export interface RegisterField {
  name: string;
  value: number;
  /** Width in bits: a flag has one. */
  bits: number;
  /** What it means. */
  about: string;
}

export interface Register {
  name: string;
  value: bigint;
  /** Width in bits. */
  bits: number;
  fields?: RegisterField[];
}

export interface RegisterGroup {
  name: string;
  registers: Register[];
}

/** A field of a register: lowest bit, number of bits. */
type FieldRow = readonly [name: string, bit: number, bits: number, about: string];

const RFLAGS: readonly FieldRow[] = [
  ['CF', 0, 1, 'carry'],
  ['PF', 2, 1, 'parity'],
  ['AF', 4, 1, 'auxiliary carry'],
  ['ZF', 6, 1, 'zero'],
  ['SF', 7, 1, 'sign'],
  ['TF', 8, 1, 'trap after each instruction'],
  ['IF', 9, 1, 'interrupts enabled'],
  ['DF', 10, 1, 'strings go down'],
  ['OF', 11, 1, 'overflow'],
  ['IOPL', 12, 2, 'privilege level for I/O'],
  ['NT', 14, 1, 'nested task'],
  ['RF', 16, 1, 'resume: no breakpoint at the next instruction'],
  ['VM', 17, 1, 'virtual-8086 mode'],
  ['AC', 18, 1, 'alignment check, or SMAP override'],
  ['VIF', 19, 1, 'virtual interrupt flag'],
  ['VIP', 20, 1, 'virtual interrupt pending'],
  ['ID', 21, 1, 'CPUID can be told by it'],
];

const CR0: readonly FieldRow[] = [
  ['PE', 0, 1, 'protected mode'],
  ['MP', 1, 1, 'WAIT heeds TS'],
  ['EM', 2, 1, 'no x87: its instructions trap'],
  ['TS', 3, 1, 'task switched: x87 and SSE trap'],
  ['ET', 4, 1, 'always 1'],
  ['NE', 5, 1, 'x87 errors are #MF'],
  ['WP', 16, 1, 'the supervisor heeds read-only pages'],
  ['AM', 18, 1, 'alignment checks allowed'],
  ['NW', 29, 1, 'not write-through'],
  ['CD', 30, 1, 'caches off'],
  ['PG', 31, 1, 'paging'],
];

const CR3: readonly FieldRow[] = [
  ['PWT', 3, 1, 'write-through'],
  ['PCD', 4, 1, 'cache disable'],
];

const CR4: readonly FieldRow[] = [
  ['VME', 0, 1, 'virtual-8086 extensions'],
  ['PVI', 1, 1, 'protected-mode virtual interrupts'],
  ['TSD', 2, 1, 'RDTSC only in ring 0'],
  ['DE', 3, 1, 'debugging extensions'],
  ['PSE', 4, 1, '4 MiB pages'],
  ['PAE', 5, 1, '64-bit page-table entries'],
  ['MCE', 6, 1, 'machine checks'],
  ['PGE', 7, 1, 'global pages'],
  ['PCE', 8, 1, 'RDPMC in every ring'],
  ['OSFXSR', 9, 1, 'SSE'],
  ['OSXMMEXCPT', 10, 1, 'SSE errors are #XM'],
  ['UMIP', 11, 1, 'SGDT and the like only in ring 0'],
  ['LA57', 12, 1, '5-level paging'],
  ['VMXE', 13, 1, 'VMX'],
  ['SMXE', 14, 1, 'SMX'],
  ['FSGSBASE', 16, 1, 'RDFSBASE and the like'],
  ['PCIDE', 17, 1, 'process-context identifiers'],
  ['OSXSAVE', 18, 1, 'XSAVE'],
  ['SMEP', 20, 1, "the supervisor doesn't execute user pages"],
  ['SMAP', 21, 1, "the supervisor doesn't access user pages"],
  ['PKE', 22, 1, 'protection keys'],
];

const CR8: readonly FieldRow[] = [['TPL', 0, 4, 'interrupts up to this class are held']];

const XCR0: readonly FieldRow[] = [
  ['x87', 0, 1, 'always 1'],
  ['SSE', 1, 1, 'XMM registers'],
  ['AVX', 2, 1, 'upper halves of YMM'],
];

const EFER: readonly FieldRow[] = [
  ['SCE', 0, 1, 'SYSCALL'],
  ['LME', 8, 1, 'long mode enabled'],
  ['LMA', 10, 1, 'long mode active'],
  ['NXE', 11, 1, 'no-execute pages'],
];

const DR6: readonly FieldRow[] = [
  ['B0', 0, 1, 'breakpoint 0 was met'],
  ['B1', 1, 1, 'breakpoint 1 was met'],
  ['B2', 2, 1, 'breakpoint 2 was met'],
  ['B3', 3, 1, 'breakpoint 3 was met'],
  ['BD', 13, 1, 'access to a debug register'],
  ['BS', 14, 1, 'single step'],
  ['BT', 15, 1, 'task switch'],
];

const DR7: readonly FieldRow[] = [
  ...[0, 1, 2, 3].flatMap((n): FieldRow[] => [
    [`L${n}`, 2 * n, 1, `breakpoint ${n} in this task`],
    [`G${n}`, 2 * n + 1, 1, `breakpoint ${n} everywhere`],
  ]),
  ['GD', 13, 1, 'debug registers are guarded'],
  ...[0, 1, 2, 3].flatMap((n): FieldRow[] => [
    [`R/W${n}`, 16 + 4 * n, 2, '0 execute, 1 write, 2 I/O, 3 access'],
    [`LEN${n}`, 18 + 4 * n, 2, '0 one byte, 1 two, 2 eight, 3 four'],
  ]),
];

/** NVMM's packing of segment attributes (that of AMD's VMCB). */
const ATTRIBUTES: readonly FieldRow[] = [
  ['Type', 0, 4, ''],
  ['S', 4, 1, 'code or data, not system'],
  ['DPL', 5, 2, 'privilege level'],
  ['P', 7, 1, 'present'],
  ['AVL', 8, 1, "the system's own"],
  ['L', 9, 1, '64-bit code'],
  ['D/B', 10, 1, '32-bit'],
  ['G', 11, 1, 'limit in pages'],
];

const INTR: readonly FieldRow[] = [
  ['shadow', 0, 1, 'interrupts are held for an instruction'],
  ['int-window', 1, 1, 'an exit comes when interrupts can be taken'],
  ['nmi-window', 2, 1, 'an exit comes when NMIs can be taken'],
  ['event', 3, 1, 'the delivery of an event goes on'],
];

/** What a segment's type says (SDM volume 3, tables 3-1 and 3-2). */
export function segmentType(attributes: number): string {
  const type = attributes & 15;
  if ((attributes & 0x10) === 0) {
    const names = [
      ...['reserved', '16-bit TSS', 'LDT', 'busy 16-bit TSS', '16-bit call gate', 'task gate'],
      ...['16-bit interrupt gate', '16-bit trap gate', 'reserved', 'TSS', 'reserved', 'busy TSS'],
      ...['call gate', 'reserved', 'interrupt gate', 'trap gate'],
    ];
    return names[type]!;
  }
  const accessed = (type & 1) !== 0 ? ', accessed' : '';
  if ((type & 8) !== 0) {
    return `${(type & 2) !== 0 ? 'execute, read' : 'execute'}${(type & 4) !== 0 ? ', conforming' : ''}${accessed}`;
  }
  return `${(type & 2) !== 0 ? 'read, write' : 'read'}${(type & 4) !== 0 ? ', expand down' : ''}${accessed}`;
}

function fieldsOf(value: bigint, rows: readonly FieldRow[]): RegisterField[] {
  return rows.map(([name, bit, bits, about]) => ({
    name,
    value: Number((value >> BigInt(bit)) & ((1n << BigInt(bits)) - 1n)),
    bits,
    about,
  }));
}

const plain = (name: string, value: bigint, bits = 64): Register => ({ name, value, bits });
const spelled = (name: string, value: bigint, rows: readonly FieldRow[]): Register => ({
  ...plain(name, value),
  fields: fieldsOf(value, rows),
});

const GENERAL = Object.keys(Gpr).filter((name) => name !== 'RFLAGS') as (keyof typeof Gpr)[];
const SEGMENTS = Object.keys(Seg) as (keyof typeof Seg)[];
/** Names of SDM volume 4, table 2-2. */
const MSRS: readonly (readonly [string, number])[] = [
  ['IA32_STAR', Msr.STAR],
  ['IA32_LSTAR', Msr.LSTAR],
  ['IA32_CSTAR', Msr.CSTAR],
  ['IA32_FMASK', Msr.SFMASK],
  ['IA32_KERNEL_GS_BASE', Msr.KERNELGSBASE],
  ['IA32_SYSENTER_CS', Msr.SYSENTER_CS],
  ['IA32_SYSENTER_ESP', Msr.SYSENTER_ESP],
  ['IA32_SYSENTER_EIP', Msr.SYSENTER_EIP],
  ['IA32_PAT', Msr.PAT],
  ['IA32_TIME_STAMP_COUNTER', Msr.TSC],
];

/** A segment register as its parts: selector, base, limit and attributes. */
function segment(state: VcpuState, name: keyof typeof Seg): Register[] {
  const index = Seg[name];
  const table = name === 'GDT' || name === 'IDT';
  const attributes = state.attrib(index);
  const prefix = table ? `${name}R` : name === 'LDT' ? 'LDTR' : name;
  const base = plain(`${prefix}.base`, state.base(index));
  const limit = plain(`${prefix}.limit`, BigInt(state.limit(index)), 32);
  if (table) return [base, limit];
  const fields = fieldsOf(BigInt(attributes), ATTRIBUTES);
  fields[0]!.about = (attributes & 0x80) === 0 ? 'not present' : segmentType(attributes);
  return [
    plain(prefix, BigInt(state.selector(index)), 16),
    base,
    limit,
    { ...plain(`${prefix}.attributes`, BigInt(attributes), 16), fields },
  ];
}

function x87(state: VcpuState): Register[] {
  const image = new DataView(state.fpu.buffer, state.fpu.byteOffset, 512);
  const word = (name: string, at: number): Register => plain(name, BigInt(image.getUint16(at, true)), 16);
  const wide = (name: string, at: number, bits: number): Register => {
    const high = image.getBigUint64(at + 8, true) & ((1n << BigInt(bits - 64)) - 1n);
    return plain(name, (high << 64n) | image.getBigUint64(at, true), bits);
  };
  return [
    word('FCW', 0),
    word('FSW', 2),
    plain('FTW', BigInt(image.getUint8(4)), 8),
    ...Array.from({ length: 8 }, (_, n) => wide(`ST${n}`, 32 + 16 * n, 80)),
    plain('MXCSR', BigInt(image.getUint32(24, true)), 32),
    ...Array.from({ length: 16 }, (_, n) => wide(`XMM${n}`, 160 + 16 * n, 128)),
  ];
}

/** All registers of a vCPU. */
export function registersOf(state: VcpuState): RegisterGroup[] {
  return [
    {
      name: 'General',
      registers: [
        ...GENERAL.map((name) => plain(name, state.gpr(Gpr[name]))),
        spelled('RFLAGS', state.rflags, RFLAGS),
      ],
    },
    { name: 'Segments', registers: SEGMENTS.flatMap((name) => segment(state, name)) },
    {
      name: 'Control',
      registers: [
        spelled('CR0', state.cr(Cr.CR0), CR0),
        plain('CR2', state.cr(Cr.CR2)),
        spelled('CR3', state.cr(Cr.CR3), CR3),
        spelled('CR4', state.cr(Cr.CR4), CR4),
        spelled('CR8', state.cr(Cr.CR8), CR8),
        spelled('XCR0', state.cr(Cr.XCR0), XCR0),
        spelled('IA32_EFER', state.msr(Msr.EFER), EFER),
      ],
    },
    {
      name: 'Debug',
      registers: [
        ...[0, 1, 2, 3].map((n) => plain(`DR${n}`, state.dr(n))),
        spelled('DR6', state.dr(Dr.DR6), DR6),
        spelled('DR7', state.dr(Dr.DR7), DR7),
      ],
    },
    { name: 'MSRs', registers: MSRS.map(([name, index]) => plain(name, state.msr(index))) },
    { name: 'Floating point', registers: x87(state) },
    { name: 'Interruptibility', registers: [{ ...spelled('INTR', BigInt(state.intr), INTR), bits: 32 }] },
  ];
}

/** Writes registers by name into a state. Gives the areas (State) that changed; throws RangeError with what is wrong. */
export function writeRegisters(state: VcpuState, values: Record<string, bigint>): number {
  let flags = 0;
  for (const [given, value] of Object.entries(values)) {
    flags |= writeRegister(state, given.toUpperCase(), value);
  }
  return flags;
}

function writeRegister(state: VcpuState, name: string, value: bigint): number {
  const known = registersOf(state).flatMap(({ registers }) => registers);
  const register = known.find((one) => one.name.toUpperCase() === name);
  if (register === undefined || name === 'INTR') {
    throw new RangeError(`There is no register ${name} that can be written.`);
  }
  if (value < 0n || value >> BigInt(register.bits) !== 0n) {
    throw new RangeError(`0x${value.toString(16)} does not fit the ${register.bits} bits of ${name}.`);
  }
  if (Object.hasOwn(Gpr, name)) {
    state.setGpr(Gpr[name as keyof typeof Gpr], value);
    return State.GPRS;
  }
  if (Object.hasOwn(Cr, name)) {
    state.setCr(Cr[name as keyof typeof Cr], value);
    return State.CRS;
  }
  if (Object.hasOwn(Dr, name)) {
    state.setDr(Dr[name as keyof typeof Dr], value);
    return State.DRS;
  }
  if (name === 'IA32_EFER') {
    state.setMsr(Msr.EFER, value);
    return State.MSRS;
  }
  const msr = MSRS.find(([one]) => one === name);
  if (msr !== undefined) {
    state.setMsr(msr[1], value);
    return State.MSRS;
  }
  return /^(F[CST]W|MXCSR|ST\d|XMM\d+)$/.test(name)
    ? writeX87(state, name, value)
    : writeSegment(state, name, value);
}

function writeSegment(state: VcpuState, name: string, value: bigint): number {
  const [prefix, part = 'SELECTOR'] = name.split('.') as [string, string?];
  const key = (
    prefix.endsWith('TR') && prefix.length === 4 ? prefix.slice(0, 3) : prefix
  ) as keyof typeof Seg;
  const index = Seg[key];
  state.setSegment(
    index,
    part === 'SELECTOR' ? Number(value) : state.selector(index),
    part === 'ATTRIBUTES' ? Number(value) : state.attrib(index),
    part === 'LIMIT' ? Number(value) : state.limit(index),
    part === 'BASE' ? value : state.base(index),
  );
  return State.SEGS;
}

function writeX87(state: VcpuState, name: string, value: bigint): number {
  const image = new DataView(state.fpu.buffer, state.fpu.byteOffset, 512);
  const wide = (at: number, high: number): void => {
    image.setBigUint64(at, BigInt.asUintN(64, value), true);
    if (high === 8) image.setBigUint64(at + 8, value >> 64n, true);
    else image.setUint16(at + 8, Number(value >> 64n), true);
  };
  if (name === 'FCW') image.setUint16(0, Number(value), true);
  else if (name === 'FSW') image.setUint16(2, Number(value), true);
  else if (name === 'FTW') image.setUint8(4, Number(value));
  else if (name === 'MXCSR') image.setUint32(24, Number(value), true);
  else if (name.startsWith('ST')) wide(32 + 16 * Number(name.slice(2)), 2);
  else wide(160 + 16 * Number(name.slice(3)), 8);
  return State.FPU;
}
