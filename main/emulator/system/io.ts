import { Exit } from '../../nvmm/constants.ts';
import { generalProtection } from '../fault.ts';
import type { Processor } from '../processor.ts';
import { Access } from '../mmu.ts';
import { Field, Leave, Record, SegmentIndex } from '../state.ts';

const TWO_32 = 2 ** 32;
const RSI = 6;
const RDI = 7;

/** Checks the right to use a port: CPL <= IOPL, or the TSS's permission map (SDM vol. 1, 19.5.2). */
function checkPort(p: Processor, port: number, bytes: number): void {
  const { cpu, linear } = p;
  if (!cpu.protectedMode) return;
  if (!cpu.virtual8086 && cpu.cpl <= cpu.iopl) return;
  const wide = (cpu.attrib(SegmentIndex.TR) & 8) !== 0;
  const limit = cpu.limit(SegmentIndex.TR);
  if (!wide || limit < 0x67) throw generalProtection();
  const base = cpu.base(SegmentIndex.TR);
  const map = linear.read(base + 0x66, 2) + (port >>> 3);
  if (map + 1 > limit) throw generalProtection();
  const word = linear.read(base + map, 2);
  const mask = (1 << bytes) - 1;
  if ((word >>> (port & 7)) & mask) throw generalProtection();
}

function fill(p: Processor, record: number, port: number, bytes: number, input: boolean): void {
  p.setRipFromRecord(record, p.recordLength(record));
  const { exit, cpu } = p;
  exit.reason = Exit.IO;
  exit.in = input;
  exit.port = port;
  exit.operandSize = bytes;
  exit.nextLow = cpu.get(Field.RIP);
  exit.nextHigh = cpu.high(Field.RIP);
}

/** IN and OUT: the port is in HELPER_VALUE. The size is that of the accumulator operand. */
export function recordIo(p: Processor, record: number, bits: number, input: boolean): number {
  const port = p.cpu.get(Field.HELPER_VALUE) & 0xffff;
  const bytes = bits / 8;
  checkPort(p, port, bytes);
  fill(p, record, port, bytes, input);
  p.exit.string = false;
  p.exit.rep = false;
  p.exit.segment = input ? SegmentIndex.ES : SegmentIndex.DS;
  p.exit.addressSize = p.cpu.code64 ? 8 : 4;
  return Leave.EXIT;
}

/**
 * The page of the element that INS or OUTS is about must be there, or the guest has its fault before the port is
 * touched. The assist does no more elements at once than lie in that page.
 */
function checkElement(
  p: Processor,
  segment: number,
  addressSize: number,
  bytes: number,
  input: boolean,
): void {
  const { cpu } = p;
  const pointer = input ? RDI : RSI;
  const low = addressSize === 2 ? cpu.gpr(pointer) & 0xffff : cpu.gpr(pointer);
  const high = addressSize === 8 ? cpu.gprHigh(pointer) | 0 : 0;
  const flat = cpu.code64 && segment !== SegmentIndex.FS && segment !== SegmentIndex.GS;
  const linear = high * TWO_32 + low + (flat ? 0 : cpu.base(segment));
  const access = input ? Access.WRITE : Access.READ;
  p.linear.requireMapped(cpu.code64 ? linear : linear % TWO_32, bytes, access, cpu.cpl === 3);
}

/** INS and OUTS: `shape` tells operand size, address size (in bytes) and whether REP stands before it. */
export function recordStringIo(p: Processor, record: number, shape: number, input: boolean): number {
  const port = p.cpu.gpr(2) & 0xffff;
  const bytes = shape & 15;
  checkPort(p, port, bytes);
  const addressSize = (shape >> 4) & 15;
  const rep = (shape & 0x100) !== 0;
  // With a count of 0 no port is touched, though the right to touch it is needed.
  if (rep && isCountZero(p, addressSize)) return 0;
  const segment = input ? SegmentIndex.ES : p.cpu.bytes[record + Record.SEGMENT];
  checkElement(p, segment, addressSize, bytes, input);
  fill(p, record, port, bytes, input);
  p.exit.string = true;
  p.exit.addressSize = addressSize;
  p.exit.rep = rep;
  p.exit.segment = segment;
  return Leave.EXIT;
}

function isCountZero(p: Processor, addressSize: number): boolean {
  const low = p.cpu.gpr(1);
  if (addressSize === 8) return low === 0 && p.cpu.gprHigh(1) === 0;
  return addressSize === 4 ? low === 0 : (low & 0xffff) === 0;
}
