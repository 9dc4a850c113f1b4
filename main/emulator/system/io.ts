import { Exit } from '../../nvmm/constants.ts';
import { generalProtection } from '../fault.ts';
import type { Processor } from '../processor.ts';
import { Field, Leave, Record, SegmentIndex } from '../state.ts';

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

/** INS and OUTS: `shape` tells operand size, address size (in bytes) and whether REP stands before it. */
export function recordStringIo(p: Processor, record: number, shape: number, input: boolean): number {
  const port = p.cpu.gpr(2) & 0xffff;
  const bytes = shape & 15;
  checkPort(p, port, bytes);
  const addressSize = (shape >> 4) & 15;
  const rep = (shape & 0x100) !== 0;
  // With a count of 0 no port is touched, though the right to touch it is needed.
  if (rep && isCountZero(p, addressSize)) return 0;
  fill(p, record, port, bytes, input);
  p.exit.string = true;
  p.exit.addressSize = addressSize;
  p.exit.rep = rep;
  p.exit.segment = input ? SegmentIndex.ES : p.cpu.bytes[record + Record.SEGMENT];
  return Leave.EXIT;
}

function isCountZero(p: Processor, addressSize: number): boolean {
  const low = p.cpu.gpr(1);
  if (addressSize === 8) return low === 0 && p.cpu.gprHigh(1) === 0;
  return addressSize === 4 ? low === 0 : (low & 0xffff) === 0;
}
