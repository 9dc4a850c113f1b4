import { Exit } from '../../nvmm/constants.ts';
import { Cr0, Cr4, Eflags, isCanonicalHigh } from '../cpu.ts';
import { generalProtection, GuestFault, Vector } from '../fault.ts';
import { HELPERS, type HelperName } from '../helpers.ts';
import type { Processor } from '../processor.ts';
import { Field, Leave, Record, SegmentIndex } from '../state.ts';
import { readDebug, lmsw, writeControl, writeDebug } from './control.ts';
import { cpuid } from './cpuid.ts';
import { inspect, limitOf, lldt, loadDataSegment, ltr } from './descriptors.ts';
import { fxrstor, fxsave, xrstor, xsave } from './images.ts';
import { recordIo, recordStringIo } from './io.ts';
import { deliver } from './interrupts.ts';
import { readMsr, writeMsr } from './msr.ts';
import { TransferStack } from './stack.ts';
import {
  farReturn,
  farTransfer,
  interruptReturn,
  softwareInterrupt,
  syscall,
  sysenter,
  sysexit,
  sysret,
  writableFlags,
} from './transfers.ts';

/**
 * Carries out a helper: 0 to go on with what the generated code does next, else a Leave code. `argument` is
 * mostly the operand size in bits. Faults are thrown.
 */
type Helper = (p: Processor, record: number, argument: number) => number;

const CONTINUE = 0;
/** First address that is not canonical, and the least that a state image takes. */
const CANONICAL_END = 2 ** 47;
const LEGACY_BYTES = 512;

/** Number of the register in a record's operand byte (a slot's offset) or the plain number. */
const gprOf = (p: Processor, record: number, n: number): number =>
  p.cpu.bytes[record + Record.REGISTER + n] >> 3;
const plainOf = (p: Processor, record: number, n: number): number =>
  p.cpu.bytes[record + Record.REGISTER + n];
const valueLow = (p: Processor): number => p.cpu.get(Field.HELPER_VALUE);
const valueHigh = (p: Processor): number => p.cpu.high(Field.HELPER_VALUE);
const selector = (p: Processor): number => valueLow(p) & 0xffff;

function requireKernel(p: Processor): void {
  if (p.cpu.cpl !== 0) throw generalProtection();
}

/** Writes a register operand of 16, 32 or 64 bits. */
function setRegister(p: Processor, index: number, bits: number, low: number, high: number): void {
  if (bits === 64) p.cpu.setGpr64(index, low, high);
  else if (bits === 32) p.cpu.setGpr32(index, low);
  else p.cpu.setGpr16(index, low);
}

/** A transfer: RIP is set to the next instruction first, as the address to come back to. */
function transfer(body: (p: Processor, argument: number, record: number) => void): Helper {
  return (p, record, argument) => {
    p.setRipFromRecord(record, p.recordLength(record));
    body(p, argument, record);
    return p.retired1(record);
  };
}

/** An exit at the instruction, with the address of the next one. */
function exitWith(p: Processor, record: number, reason: number): number {
  p.setRipFromRecord(record, p.recordLength(record));
  p.exit.reason = reason;
  p.exit.nextLow = p.cpu.get(Field.RIP);
  p.exit.nextHigh = p.cpu.high(Field.RIP);
  return Leave.EXIT;
}

function timeStamp(p: Processor): void {
  if (p.cpu.get(Field.CR4) & Cr4.TSD && p.cpu.cpl !== 0) throw generalProtection();
  p.readTsc();
  p.cpu.setGpr32(0, p.msrLow);
  p.cpu.setGpr32(2, p.msrHigh);
}

function runCpuid(p: Processor, record: number): number {
  const leaf = p.cpu.gpr(0);
  const answer = p.cpuidOf(leaf, cpuid(p, leaf, p.cpu.gpr(1)));
  if (answer === null) return exitWith(p, record, Exit.CPUID);
  p.cpu.setGpr32(0, answer.eax);
  p.cpu.setGpr32(3, answer.ebx);
  p.cpu.setGpr32(1, answer.ecx);
  p.cpu.setGpr32(2, answer.edx);
  return CONTINUE;
}

function runRdmsr(p: Processor, record: number): number {
  requireKernel(p);
  const index = p.cpu.gpr(1);
  const result = readMsr(p, index);
  if (result === 'fault') throw generalProtection();
  if (result === 'exit') {
    p.exit.msr = index;
    return exitWith(p, record, Exit.RDMSR);
  }
  p.cpu.setGpr32(0, p.msrLow);
  p.cpu.setGpr32(2, p.msrHigh);
  return CONTINUE;
}

function runWrmsr(p: Processor, record: number): number {
  requireKernel(p);
  const index = p.cpu.gpr(1);
  const low = p.cpu.gpr(0) | 0;
  const high = p.cpu.gpr(2) | 0;
  const result = writeMsr(p, index, low, high);
  if (result === 'fault') throw generalProtection();
  if (result === 'done') return CONTINUE;
  p.exit.msr = index;
  p.exit.valueLow = low;
  p.exit.valueHigh = high;
  return exitWith(p, record, Exit.WRMSR);
}

/** RDRAND and RDSEED: CF = 1, the other arithmetic flags 0. */
function runRandom(p: Processor, record: number, bits: number): number {
  setRegister(p, gprOf(p, record, 0), bits, p.time.random() | 0, p.time.random() | 0);
  p.cpu.eflags = (p.cpu.eflags & ~0x8d5) | 1;
  return CONTINUE;
}

function popFlags(p: Processor, _record: number, bits: number): number {
  const { cpu } = p;
  if (cpu.virtual8086 && cpu.iopl < 3) throw generalProtection();
  const stack = TransferStack.current(p);
  const value = stack.pop(bits / 8);
  const mask = writableFlags(p, bits) & ~Eflags.RF;
  const flags = (cpu.eflags & ~(mask | Eflags.RF)) | (value & mask);
  stack.commit();
  cpu.eflags = flags;
  return CONTINUE;
}

function loadSegment(p: Processor, _record: number, index: number): number {
  loadDataSegment(p, index, selector(p));
  return CONTINUE;
}

/** MOV to a segment register: one to SS casts a shadow, so that the stack pointer can follow undisturbed. */
function moveToSegment(p: Processor, record: number): number {
  const index = plainOf(p, record, 0);
  loadDataSegment(p, index, selector(p));
  if (index === SegmentIndex.SS) castShadow(p, record);
  return CONTINUE;
}

/** POP to a segment register; the mode may change with SS, so the stack pointer's size is taken before. */
function popSegment(p: Processor, record: number, bits: number): number {
  const stack = TransferStack.current(p);
  moveToSegment(p, record);
  stack.skip(bits / 8);
  stack.commit();
  return CONTINUE;
}

function castShadow(p: Processor, record: number): void {
  const { cpu } = p;
  cpu.set(Field.SHADOW_AT, cpu.get(Field.BUDGET) - cpu.bytes[record + Record.NUMBER] - 1);
}

function descriptorTable(base: number, limit: number): Helper {
  return (p) => {
    requireKernel(p);
    if (p.cpu.code64 && !isCanonicalHigh(valueHigh(p))) throw generalProtection();
    p.cpu.set64(base, valueLow(p), p.cpu.code64 ? valueHigh(p) : 0);
    p.cpu.set(limit, p.cpu.get(Field.HELPER_SELECTOR) & 0xffff);
    return CONTINUE;
  };
}

function zeroFlag(p: Processor, set: boolean): void {
  p.cpu.eflags = set ? p.cpu.eflags | 0x40 : p.cpu.eflags & ~0x40;
}

function lar(p: Processor, record: number, bits: number): number {
  const found = inspect(p, selector(p), 'lar');
  zeroFlag(p, found !== undefined);
  if (found) setRegister(p, gprOf(p, record, 0), bits, found.high & (bits === 16 ? 0xff00 : 0x00ffff00), 0);
  return CONTINUE;
}

function lsl(p: Processor, record: number, bits: number): number {
  const found = inspect(p, selector(p), 'lsl');
  zeroFlag(p, found !== undefined);
  if (found) setRegister(p, gprOf(p, record, 0), bits, limitOf(found) | 0, 0);
  return CONTINUE;
}

const verify =
  (what: 'verr' | 'verw'): Helper =>
  (p) => {
    zeroFlag(p, inspect(p, selector(p), what) !== undefined);
    return CONTINUE;
  };

const CONTROL_FIELD: Record<number, number> = {
  0: Field.CR0,
  2: Field.CR2,
  3: Field.CR3,
  4: Field.CR4,
  8: Field.CR8,
};

function movFromControl(p: Processor, record: number): number {
  requireKernel(p);
  const field = CONTROL_FIELD[plainOf(p, record, 1)];
  if (field === undefined) throw new GuestFault(Vector.UD);
  setRegister(p, gprOf(p, record, 0), p.cpu.code64 ? 64 : 32, p.cpu.get(field), p.cpu.high(field));
  return CONTINUE;
}

function movToControl(p: Processor, record: number): number {
  requireKernel(p);
  const register = gprOf(p, record, 1);
  writeControl(p, plainOf(p, record, 0), p.cpu.gpr(register) | 0, p.cpu.code64 ? p.cpu.gprHigh(register) : 0);
  return CONTINUE;
}

function movFromDebug(p: Processor, record: number): number {
  const { low, high } = readDebug(p, plainOf(p, record, 1));
  setRegister(p, gprOf(p, record, 0), p.cpu.code64 ? 64 : 32, low, high);
  return CONTINUE;
}

function movToDebug(p: Processor, record: number): number {
  const register = gprOf(p, record, 1);
  writeDebug(p, plainOf(p, record, 0), p.cpu.gpr(register) | 0, p.cpu.code64 ? p.cpu.gprHigh(register) : 0);
  return CONTINUE;
}

function invlpg(p: Processor): number {
  requireKernel(p);
  // A non-canonical address is no error: nothing is mapped there (SDM vol. 2, INVLPG).
  if (!p.cpu.longMode || p.cpu.isCanonical(Field.HELPER_VALUE)) {
    p.mmu.flushPage(p.cpu.longMode ? p.cpu.number(Field.HELPER_VALUE) : valueLow(p) >>> 0);
  }
  return CONTINUE;
}

const INVPCID_TYPES = 3;
function invpcid(p: Processor): number {
  requireKernel(p);
  if (valueHigh(p) !== 0 || valueLow(p) >>> 0 > INVPCID_TYPES) throw generalProtection();
  // Dropping more than was asked for is always allowed.
  p.mmu.flushAll();
  return CONTINUE;
}

function xgetbv(p: Processor): number {
  if (!(p.cpu.get(Field.CR4) & Cr4.OSXSAVE)) throw new GuestFault(Vector.UD);
  if (p.cpu.gpr(1) !== 0) throw generalProtection();
  p.cpu.setGpr32(0, p.cpu.get(Field.XCR0));
  p.cpu.setGpr32(2, 0);
  return CONTINUE;
}

const XCR0_VALID = 3;
function xsetbv(p: Processor): number {
  if (!(p.cpu.get(Field.CR4) & Cr4.OSXSAVE)) throw new GuestFault(Vector.UD);
  requireKernel(p);
  const value = p.cpu.gpr(0);
  if (p.cpu.gpr(1) !== 0 || p.cpu.gpr(2) !== 0 || (value & ~XCR0_VALID) !== 0 || (value & 1) === 0) {
    throw generalProtection();
  }
  p.cpu.set64(Field.XCR0, value, 0);
  return CONTINUE;
}

/** ENTER (SDM vol. 2): the frame's size is the first immediate, the nesting level the second. */
function enter(p: Processor, record: number, bits: number): number {
  const { cpu } = p;
  const bytes = bits / 8;
  const size = cpu.words[(record + Record.IMMEDIATE) >>> 2] & 0xffff;
  const level = cpu.words[(record + Record.LINK) >>> 2] & 31;
  const stack = TransferStack.current(p);
  stack.push(bytes, cpu.gpr(5), cpu.gprHigh(5));
  const frame = stack.pointer;
  if (level > 0) {
    const outer = stack.at(cpu.gpr(5), cpu.gprHigh(5));
    for (let i = 1; i < level; i++) {
      outer.skip(-bytes);
      const low = outer.peek(bytes);
      stack.push(bytes, low, outer.poppedHigh);
    }
    stack.push(bytes, frame | 0, Math.floor(frame / 2 ** 32) | 0);
  }
  stack.skip(-size);
  // The new top must be writable (SDM vol. 2, ENTER).
  stack.probe(bytes);
  stack.commit();
  setRegister(p, 5, bits, frame | 0, Math.floor(frame / 2 ** 32) | 0);
  return CONTINUE;
}

/** Instructions on a processor state image, at a linear address that was not looked at yet. */
const image =
  (body: (p: Processor, linear: number, wide: boolean) => void): Helper =>
  (p, record, size) => {
    const stack = p.cpu.bytes[record + Record.SEGMENT] === SegmentIndex.SS;
    const vector = stack ? Vector.SS : Vector.GP;
    const linear = p.linear.canonical(Field.HELPER_VALUE, vector);
    if (linear < CANONICAL_END && linear + LEGACY_BYTES > CANONICAL_END) throw new GuestFault(vector);
    body(p, linear, size === 64);
    return CONTINUE;
  };

function halt(p: Processor): number {
  requireKernel(p);
  p.exitAfter = Exit.HALTED;
  return CONTINUE;
}

function interrupt(p: Processor, kind: number, record: number): void {
  const vector = [p.cpu.words[(record + Record.IMMEDIATE) >>> 2] & 0xff, Vector.DB, 0, Vector.BP, Vector.OF][
    kind
  ];
  p.debug.suppressTrap = true;
  // INT1 is no software interrupt: the gate's privilege level does not matter (AMD64 manual vol. 3, INT).
  if (kind === 1) deliver(p, vector, -1, 'external', false);
  else softwareInterrupt(p, vector, kind === 0);
}

const TABLE: Record<HelperName, Helper> = {
  in: (p, record, bits) => recordIo(p, record, bits, true),
  out: (p, record, bits) => recordIo(p, record, bits, false),
  ins: (p, record, shape) => recordStringIo(p, record, shape, true),
  outs: (p, record, shape) => recordStringIo(p, record, shape, false),
  hlt: halt,
  monitor: (p, record) => {
    requireKernel(p);
    return exitWith(p, record, Exit.MONITOR);
  },
  mwait: (p, record) => {
    requireKernel(p);
    return exitWith(p, record, Exit.MWAIT);
  },
  cpuid: runCpuid,
  rdmsr: runRdmsr,
  wrmsr: runWrmsr,
  rdtsc: (p) => {
    timeStamp(p);
    return CONTINUE;
  },
  rdtscp: (p) => {
    timeStamp(p);
    p.cpu.setGpr32(1, p.cpu.get(Field.TSC_AUX));
    return CONTINUE;
  },
  rdpmc: () => {
    // No performance counters exist, so every index is wrong.
    throw generalProtection();
  },
  rdrand: runRandom,
  rdseed: runRandom,
  popf: popFlags,
  loadSegment,
  moveToSegment,
  popSegment,
  lldt: (p) => {
    lldt(p, selector(p));
    return CONTINUE;
  },
  ltr: (p) => {
    ltr(p, selector(p));
    return CONTINUE;
  },
  lgdt: descriptorTable(Field.GDT_BASE, Field.GDT_LIMIT),
  lidt: descriptorTable(Field.IDT_BASE, Field.IDT_LIMIT),
  lar,
  lsl,
  verr: verify('verr'),
  verw: verify('verw'),
  movFromControl,
  movToControl,
  movFromDebug,
  movToDebug,
  lmsw: (p) => {
    requireKernel(p);
    lmsw(p, valueLow(p));
    return CONTINUE;
  },
  clts: (p) => {
    requireKernel(p);
    p.cpu.set(Field.CR0, p.cpu.get(Field.CR0) & ~Cr0.TS);
    p.cpu.updateMode();
    return CONTINUE;
  },
  invlpg,
  invpcid,
  flushCaches: (p) => {
    requireKernel(p);
    return CONTINUE;
  },
  xgetbv,
  xsetbv,
  farJump: transfer((p, size) =>
    farTransfer(p, false, p.cpu.get(Field.HELPER_SELECTOR) & 0xffff, valueLow(p), valueHigh(p), size),
  ),
  farCall: transfer((p, size) =>
    farTransfer(p, true, p.cpu.get(Field.HELPER_SELECTOR) & 0xffff, valueLow(p), valueHigh(p), size),
  ),
  farReturn: transfer((p, size, record) =>
    farReturn(p, size, p.cpu.words[(record + Record.IMMEDIATE) >>> 2] & 0xffff),
  ),
  interrupt: transfer((p, kind, record) => interrupt(p, kind, record)),
  interruptReturn: transfer((p, size) => {
    p.debug.keepsRf = true;
    p.nmiBlocked = false;
    interruptReturn(p, size);
  }),
  syscall: transfer((p) => {
    syscall(p);
    p.debug.trapsByNewFlag = true;
  }),
  sysret: transfer((p, size) => {
    sysret(p, size);
    p.debug.trapsByNewFlag = true;
  }),
  sysenter: transfer((p) => sysenter(p)),
  sysexit: transfer((p, size) => sysexit(p, size)),
  enter,
  fxsave: image(fxsave),
  fxrstor: image(fxrstor),
  xsave: image(xsave),
  xrstor: image(xrstor),
};

const BY_NUMBER: readonly Helper[] = HELPERS.map((name) => TABLE[name]);

export function runHelper(p: Processor, record: number, number: number): number {
  return BY_NUMBER[number & 0xff](p, record, number >>> 8);
}
