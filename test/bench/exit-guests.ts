import { Seg, StateOffset } from '../../main/nvmm/constants.ts';
import { VcpuState } from '../../main/nvmm/layout.ts';
import { longMode, PAGE } from '../conformance/rig.ts';

/**
 * The guests of bench:exit: 64-bit, physical memory from 0x1000 to 0x6FFF (data, code, page tables), the I/O APIC's
 * page at virtual 0x7000. Each does one thing `count` times, between two stores that mark it.
 */

export interface ExitCase {
  name: string;
  /** Code before the loop, the loop's body, and its end: hex. */
  setup: string;
  body: string;
  /** LOOP counts in ECX; the others count in ESI, for ECX has something else. */
  counter: 'ecx' | 'esi';
  /** Runs in ring 3. */
  user?: boolean;
  /** Without an exit for each: KVM answers CPUID itself. */
  silent?: boolean;
}

/** COM1's scratch register; the first register of the I/O APIC; IA32_MTRR_DEF_TYPE. */
export const cases: readonly ExitCase[] = [
  { name: 'OUT', setup: 'baff030000 b05a', body: 'ee', counter: 'ecx' },
  { name: 'IN', setup: 'baff030000', body: 'ec', counter: 'ecx' },
  { name: 'MMIO store', setup: 'bf00700000 31c0', body: '8907', counter: 'ecx' },
  { name: 'MMIO load', setup: 'bf00700000', body: '8b07', counter: 'ecx' },
  { name: 'MMIO add', setup: 'bf00700000', body: '830700', counter: 'ecx' },
  { name: 'RDMSR', setup: 'b9ff020000', body: '0f32', counter: 'esi' },
  { name: 'WRMSR', setup: 'b9ff020000 b8000c0000 31d2', body: '0f30', counter: 'esi' },
  { name: 'CPUID', setup: '', body: '31c0 31c9 0fa2', counter: 'esi', silent: true },
];

/** eax = eax * 0x19660d + 0x3c6ef35f; edx = (eax >> 20) & ~3; [rdi + rdx] += eax */
const COMPUTE = '69c00d661900 055ff36e3c 89c2 c1ea14 83e2fc 010417';

const hex = (code: string): Buffer => Buffer.from(code.replaceAll(' ', ''), 'hex');

function counted({ setup, body, counter }: ExitCase, count: number): Buffer {
  const load = Buffer.from([counter === 'ecx' ? 0xb9 : 0xbe, 0, 0, 0, 0]);
  load.writeUInt32LE(count, 1);
  const inside = hex(body);
  // LOOP rel8, or DEC ESI; JNZ rel8.
  const end = counter === 'ecx' ? [0xe2, -inside.length - 2] : [0xff, 0xce, 0x75, -inside.length - 4];
  return Buffer.concat([hex(setup), load, inside, Buffer.from(end.map((byte) => byte & 0xff))]);
}

/** The first store to it begins the measurement, the second ends it; the guest has it at virtual 0x8000. */
export const MARK_GPA = 0xd000_0000;
/** mov dword [0x8000], 1 */
const MARK = hex('c7042500800000 01000000');

/** The loop in ring 3 of `count` turns; natively it is called, with RDI at a page. */
export function computing(count: number): { guest: Buffer; native: Buffer } {
  const loop = { name: '', setup: '31c0', body: COMPUTE, counter: 'ecx' } as const;
  const code = counted(loop, count);
  return {
    guest: Buffer.concat([MARK, hex('bf00100000'), code, MARK]),
    native: Buffer.concat([code, hex('c3')]),
  };
}

export function codeOf(one: ExitCase, count: number): Buffer {
  return Buffer.concat([MARK, counted(one, count), MARK]);
}

export const GUEST_BASE = 0x1000;
export const GUEST_SIZE = 6 * PAGE;
const CODE = PAGE;
const TABLES = 2 * PAGE;
/** Selectors of ring 3, as Linux has them. */
const USER_CODE = 0x33;
const USER_DATA = 0x2b;

/** Lays the guest's memory out in `memory`, whose first byte is guest-physical 0x1000. */
export function layOut(memory: Uint8Array, code: Uint8Array): void {
  memory.fill(0);
  memory.set(code, CODE);
  const view = new DataView(memory.buffer, memory.byteOffset + TABLES);
  view.setUint32(0, 0x4007, true);
  view.setUint32(PAGE, 0x5007, true);
  view.setUint32(2 * PAGE, 0x6007, true);
  for (let page = 1; page <= 6; page++) view.setUint32(3 * PAGE + 8 * page, (page << 12) | 7, true);
  view.setUint32(3 * PAGE + 8 * 7, 0xfec0_0007, true);
  view.setUint32(3 * PAGE + 8 * 8, MARK_GPA + 7, true);
}

/** What the guest starts with. */
export function startState(user: boolean): VcpuState {
  const state = new VcpuState(new Uint8Array(StateOffset.SIZE));
  longMode({ state });
  if (!user) return state;
  for (let seg = 0; seg < 6; seg++) {
    state.setSegment(
      seg,
      seg === Seg.CS ? USER_CODE : USER_DATA,
      state.attrib(seg) | 0x60,
      state.limit(seg),
      0n,
    );
  }
  return state;
}
