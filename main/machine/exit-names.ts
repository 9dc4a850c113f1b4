import type { DeviceNames } from '../devices/device-names.ts';
import { Exit, Prot } from '../nvmm/constants.ts';
import type { ExitTrace } from './exit-trace.ts';
import { ExitRecord, Flag } from './exit-trace.ts';

const NAMES = new Map<number, string>(Object.entries(Exit).map(([name, value]) => [value, name]));

/** An exit's name, for counters and for people. */
export function exitName(reason: number): string {
  return NAMES.get(reason) ?? `0x${reason.toString(16)}`;
}

/** The reason of an exit's name; undefined for a name that there is not. */
export function exitReason(name: string): number | undefined {
  return Object.hasOwn(Exit, name) ? Exit[name as keyof typeof Exit] : undefined;
}

/** What stands for the name of a device where none answered. */
export const NOBODYS_NAME = 'nobody';

/** What an access does, by Prot. */
export const DIRECTIONS: Readonly<Record<number, 'read' | 'write' | 'fetch'>> = {
  [Prot.READ]: 'read',
  [Prot.WRITE]: 'write',
  [Prot.EXEC]: 'fetch',
};

/** The counters of a vCPU, in this order; the last one is for everything else. */
const COUNTED = [
  Exit.NONE,
  Exit.STOPPED,
  Exit.MEMORY,
  Exit.IO,
  Exit.SHUTDOWN,
  Exit.INT_READY,
  Exit.NMI_READY,
  Exit.HALTED,
  Exit.TPR_CHANGED,
  Exit.RDMSR,
  Exit.WRMSR,
  Exit.MONITOR,
  Exit.MWAIT,
  Exit.CPUID,
  Exit.INVALID,
] as const;
const INDEX = new Map<number, number>(COUNTED.map((reason, index) => [reason, index]));

/** Where an exit is counted, in Mailbox.counters. */
export function counterOf(reason: number): number {
  return INDEX.get(reason) ?? COUNTED.length;
}

/** The counters that are not zero, by name. */
export function namedCounters(counters: Float64Array): Record<string, number> {
  const named: Record<string, number> = {};
  counters.forEach((count, index) => {
    const name = index < COUNTED.length ? exitName(COUNTED[index]) : 'other';
    if (count > 0) named[`exits.${name}`] = count;
  });
  return named;
}

/** How many exits a crash report has: enough to see how a guest got where it died, and a screenful. */
const REPORTED = 64;

/** The last exits, oldest first, a line each. */
export function exitLines(trace: ExitTrace, names: DeviceNames): string[] {
  const lines: string[] = [];
  const record = new ExitRecord();
  const { count } = trace;
  for (let number = Math.max(0, count - REPORTED); number < count; number++) {
    if (trace.read(number, record)) lines.push(exitLine(record, names));
  }
  return lines;
}

/** One exit in words. */
export function exitLine(record: ExitRecord, names: DeviceNames): string {
  const { reason, direction, size, flags } = record;
  const where = `0x${record.where.toString(16)}`;
  const value = (flags & Flag.VALUE) === 0 ? '' : ` = ${address(record.valueLow, record.valueHigh)}`;
  const who = record.accesses === 0 ? '' : ` (${names.name(record.device) || NOBODYS_NAME})`;
  const times = record.accesses > 1 ? `, ${record.accesses} times` : '';
  const fault = (flags & Flag.FAULT) === 0 ? '' : ', refused';
  const emulated = (flags & Flag.EMULATED) === 0 ? '' : ', emulated';
  const inPlace = (flags & Flag.IN_PLACE) === 0 ? '' : ', in place';
  const tail = `${times}${fault}${emulated}${inPlace} at ${address(record.ripLow, record.ripHigh)}${value}${who}`;
  switch (reason) {
    case Exit.IO:
      return `IO ${direction === Prot.READ ? 'in' : 'out'} port ${where}, ${bytesOf(size)}${tail}`;
    case Exit.MEMORY: {
      const bytes = size === 0 ? '' : `, ${bytesOf(size)}`;
      return `MEMORY ${DIRECTIONS[direction] ?? 'access'} ${where}${bytes}${tail}`;
    }
    case Exit.RDMSR:
    case Exit.WRMSR:
      return `${exitName(reason)} ${where}${tail}`;
    default:
      return `${exitName(reason)}${tail}`;
  }
}

function bytesOf(size: number): string {
  return size === 1 ? '1 byte' : `${size} bytes`;
}

/** A 64-bit address from its halves. */
export function address(low: number, high: number): string {
  const digits = high === 0 ? '' : high.toString(16);
  return `0x${digits}${low.toString(16).padStart(digits === '' ? 1 : 8, '0')}`;
}
