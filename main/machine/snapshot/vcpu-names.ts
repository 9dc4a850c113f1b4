import { StateOffset } from '../../nvmm/constants.ts';
import { VcpuState } from '../../nvmm/layout.ts';
import { MachineError } from '../errors.ts';

/**
 * A vCPU's state under the names of the manuals (Intel SDM volume 1, 3.4 and 10.5.1; volume 3, 2 and 10.1): what a
 * snapshot holds, and what somebody may read and change by hand. Numbers are hexadecimal, with all their digits.
 */

/** One register: its name, and where it is in a struct nvmm_x64_state. */
interface Row {
  name: string;
  offset: number;
  bytes: number;
}

export type RegisterGroup = Record<string, string>;

/** The groups of registers, as JSON has them. */
export interface NamedVcpu {
  general: RegisterGroup;
  segments: Record<string, RegisterGroup>;
  control: RegisterGroup;
  debug: RegisterGroup;
  msrs: RegisterGroup;
  fpu: RegisterGroup;
  /** Interrupt shadow, armed windows: bits 0 to 3 of nvmm's intr word. */
  interruptibility: RegisterGroup;
}

function rows(start: number, bytes: number, names: readonly string[]): Row[] {
  return names.map((name, i) => ({ name, offset: start + bytes * i, bytes }));
}

const { SEGS, GPRS, CRS, DRS, MSRS, INTR, FPU } = StateOffset;

const GENERAL = rows(GPRS, 8, [
  ...['RAX', 'RCX', 'RDX', 'RBX', 'RSP', 'RBP', 'RSI', 'RDI', 'R8', 'R9', 'R10', 'R11', 'R12', 'R13', 'R14'],
  ...['R15', 'RIP', 'RFLAGS'],
]);
const CONTROL = rows(CRS, 8, ['CR0', 'CR2', 'CR3', 'CR4', 'CR8', 'XCR0']);
const DEBUG = rows(DRS, 8, ['DR0', 'DR1', 'DR2', 'DR3', 'DR6', 'DR7']);
const MSR_NAMES = rows(MSRS, 8, [
  ...['IA32_EFER', 'IA32_STAR', 'IA32_LSTAR', 'IA32_CSTAR', 'IA32_FMASK', 'IA32_KERNEL_GS_BASE'],
  ...['IA32_SYSENTER_CS', 'IA32_SYSENTER_ESP', 'IA32_SYSENTER_EIP', 'IA32_PAT', 'IA32_TIME_STAMP_COUNTER'],
]);
const SEGMENTS = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS', 'GDTR', 'IDTR', 'LDTR', 'TR'];
/** Attributes: type 0-3, S 4, DPL 5-6, P 7, AVL 8, L 9, D/B 10, G 11. The limit is in bytes. */
const SEGMENT: readonly Row[] = [
  { name: 'selector', offset: 0, bytes: 2 },
  { name: 'attributes', offset: 2, bytes: 2 },
  { name: 'limit', offset: 4, bytes: 4 },
  { name: 'base', offset: 8, bytes: 8 },
];
/** The FXSAVE image (SDM volume 1, 10.5.1). */
const FPU_ROWS: readonly Row[] = [
  { name: 'FCW', offset: FPU, bytes: 2 },
  { name: 'FSW', offset: FPU + 2, bytes: 2 },
  { name: 'FTW', offset: FPU + 4, bytes: 1 },
  { name: 'FOP', offset: FPU + 6, bytes: 2 },
  { name: 'FIP', offset: FPU + 8, bytes: 8 },
  { name: 'FDP', offset: FPU + 16, bytes: 8 },
  { name: 'MXCSR', offset: FPU + 24, bytes: 4 },
  { name: 'MXCSR_MASK', offset: FPU + 28, bytes: 4 },
  ...Array.from({ length: 8 }, (_, i) => ({ name: `ST${i}`, offset: FPU + 32 + 16 * i, bytes: 10 })),
  ...Array.from({ length: 16 }, (_, i) => ({ name: `XMM${i}`, offset: FPU + 160 + 16 * i, bytes: 16 })),
];
const INTERRUPTIBILITY: readonly Row[] = [{ name: 'INTR', offset: INTR, bytes: 1 }];

/** The groups that are plain tables, in NVMM's order. */
const GROUPS = {
  general: GENERAL,
  control: CONTROL,
  debug: DEBUG,
  msrs: MSR_NAMES,
  fpu: FPU_ROWS,
  interruptibility: INTERRUPTIBILITY,
} as const;

function read(bytes: Uint8Array, { offset, bytes: count }: Row, base = 0): string {
  const digits = Array.from(bytes.subarray(base + offset, base + offset + count)).reverse();
  return `0x${digits.map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

function write(into: Uint8Array, row: Row, value: unknown, where: string, base = 0): void {
  const digits = 2 * row.bytes;
  if (typeof value !== 'string' || !/^0x[0-9a-f]+$/i.test(value) || value.length - 2 > digits) {
    throw new MachineError(
      'host',
      `${where}${row.name}: ${JSON.stringify(value)} is not 0x and at most ${digits} hexadecimal digits.`,
    );
  }
  const text = value.slice(2).padStart(digits, '0');
  for (let i = 0; i < row.bytes; i++) {
    into[base + row.offset + i] = Number.parseInt(text.slice(digits - 2 * i - 2, digits - 2 * i), 16);
  }
}

function group(bytes: Uint8Array, table: readonly Row[], base = 0): RegisterGroup {
  return Object.fromEntries(table.map((row) => [row.name, read(bytes, row, base)]));
}

/** The registers of a struct nvmm_x64_state by name. */
export function nameRegisters(state: Uint8Array): NamedVcpu {
  const { bytes } = new VcpuState(state);
  return {
    general: group(bytes, GENERAL),
    segments: Object.fromEntries(SEGMENTS.map((name, i) => [name, group(bytes, SEGMENT, SEGS + 16 * i)])),
    control: group(bytes, CONTROL),
    debug: group(bytes, DEBUG),
    msrs: group(bytes, MSR_NAMES),
    fpu: group(bytes, FPU_ROWS),
    interruptibility: group(bytes, INTERRUPTIBILITY),
  };
}

/** Named registers as a struct nvmm_x64_state. Throws MachineError for a name that is missing, unknown or no number. */
export function registersFrom(named: unknown): Uint8Array {
  const bytes = new Uint8Array(StateOffset.SIZE);
  const given = objectOf(named, 'The vCPU');
  for (const [name, table] of Object.entries(GROUPS)) fill(bytes, table, given[name], name);
  const segments = objectOf(given.segments, 'segments');
  SEGMENTS.forEach((name, i) => fill(bytes, SEGMENT, segments[name], `segments.${name}`, SEGS + 16 * i));
  return bytes;
}

function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new MachineError('host', `${what}: there are no registers.`);
}

function fill(into: Uint8Array, table: readonly Row[], value: unknown, where: string, base = 0): void {
  const given = objectOf(value, where);
  const unknown = Object.keys(given).find((name) => !table.some((row) => row.name === name));
  if (unknown !== undefined) throw new MachineError('host', `${where}: there is no register ${unknown}.`);
  for (const row of table) write(into, row, given[row.name], `${where}.`, base);
}
