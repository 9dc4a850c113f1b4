import type { DeviceNames } from '../devices/device-names.ts';
import { DEVICE_NUMBERS, NOBODY } from '../devices/device-names.ts';
import { Exit, Prot } from '../nvmm/constants.ts';
import { exitReason, NOBODYS_NAME } from './exit-names.ts';
import type { ExitRecord } from './exit-trace.ts';
import { Flag } from './exit-trace.ts';

/** Both ends are in it. */
export interface Range<T = number> {
  from: T;
  to: T;
}

/**
 * Which exits are wanted: those to which everything that is given applies. Of ports, addresses and MSRs any one is
 * enough, since no exit has two of them. 64-bit values are text: 0x and hexadecimal digits.
 */
export interface ExitFilter {
  /** Names of Exit. */
  reasons?: string[] | undefined;
  ports?: Range | undefined;
  gpas?: Range | undefined;
  msrs?: Range | undefined;
  /** Part of a device's name, or "nobody" for accesses that none answered. */
  device?: string | undefined;
  direction?: 'read' | 'write' | 'fetch' | undefined;
  rips?: Range<string> | undefined;
  value?: string | undefined;
  /** ns on the machine's clock. */
  times?: Range | undefined;
  run?: number | undefined;
  /** Only what brought the guest an exception. */
  faults?: true | undefined;
}

export type ExitTest = (record: ExitRecord) => boolean;

const PROTS = { read: Prot.READ, write: Prot.WRITE, fetch: Prot.EXEC } as const;

/** Makes one function of a filter, which allocates nothing. */
export function exitTest(filter: ExitFilter, names: DeviceNames): ExitTest {
  const tests = [
    ...(filter.reasons === undefined ? [] : [reasonTest(filter.reasons)]),
    ...whereTests(filter),
    ...(filter.device === undefined ? [] : [deviceTest(filter.device, names)]),
    ...(filter.rips === undefined ? [] : [ripTest(filter.rips)]),
    ...(filter.value === undefined ? [] : [valueTest(filter.value)]),
  ];
  const { direction, times, run, faults } = filter;
  if (direction !== undefined) tests.push((record) => record.direction === PROTS[direction]);
  if (times !== undefined) tests.push(({ time }) => time >= times.from && time <= times.to);
  if (run !== undefined) tests.push((record) => record.run === run);
  if (faults === true) tests.push(({ flags }) => (flags & Flag.FAULT) !== 0);
  if (tests.length === 1) return tests[0];
  return (record) => {
    for (const test of tests) if (!test(record)) return false;
    return true;
  };
}

function reasonTest(names: string[]): ExitTest {
  const wanted = names.map(exitReason);
  return ({ reason }) => wanted.includes(reason);
}

function whereTests({ ports, gpas, msrs }: ExitFilter): ExitTest[] {
  if (ports === undefined && gpas === undefined && msrs === undefined) return [];
  return [
    ({ reason, where }) => {
      const range =
        reason === Exit.IO
          ? ports
          : reason === Exit.MEMORY
            ? gpas
            : reason === Exit.RDMSR || reason === Exit.WRMSR
              ? msrs
              : undefined;
      return range !== undefined && where >= range.from && where <= range.to;
    },
  ];
}

function deviceTest(text: string, names: DeviceNames): ExitTest {
  const part = text.toLowerCase();
  const wanted = new Uint8Array(DEVICE_NUMBERS);
  for (let number = 0; number < DEVICE_NUMBERS; number++) {
    const name = number === NOBODY ? NOBODYS_NAME : names.name(number);
    if (name !== '' && name.toLowerCase().includes(part)) wanted[number] = 1;
  }
  return ({ accesses, device }) => accesses > 0 && wanted[device] === 1;
}

function ripTest({ from, to }: Range<string>): ExitTest {
  const [first, last] = [halves(from), halves(to)];
  return ({ ripLow, ripHigh }) =>
    (ripHigh > first.high || (ripHigh === first.high && ripLow >= first.low)) &&
    (ripHigh < last.high || (ripHigh === last.high && ripLow <= last.low));
}

function valueTest(text: string): ExitTest {
  const { low, high } = halves(text);
  return ({ flags, valueLow, valueHigh }) =>
    (flags & Flag.VALUE) !== 0 && valueLow === low && valueHigh === high;
}

function halves(text: string): { low: number; high: number } {
  const value = BigInt(text);
  return { low: Number(value & 0xffff_ffffn), high: Number((value >> 32n) & 0xffff_ffffn) };
}
