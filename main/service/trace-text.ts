import type { ExitInfo, ExitStats } from './trace-contract.ts';

/** The exit trace as text for a terminal. */

const columns = { number: 9, time: 16, reason: 11, access: 26, value: 18, device: 16, rip: 18 };

export const exitHeading = [
  ...['NUMBER'.padStart(columns.number), 'TIME'.padStart(columns.time), 'REASON'.padEnd(columns.reason)],
  ...['ACCESS'.padEnd(columns.access), 'VALUE'.padEnd(columns.value), 'DEVICE'.padEnd(columns.device)],
  ...['RIP'.padEnd(columns.rip), 'TOOK'],
].join('  ');

/** One exit on one line. */
export function exitText(exit: ExitInfo): string {
  const { number, time, reason, value, device, rip, duration, fault, event } = exit;
  const notes = [
    duration === undefined ? '' : span(duration),
    fault === true ? 'refused' : '',
    event === undefined ? '' : `after ${event.type} 0x${event.vector.toString(16)}`,
  ].filter((note) => note !== '');
  return [
    ...[String(number).padStart(columns.number), (time / 1e9).toFixed(9).padStart(columns.time)],
    ...[reason.padEnd(columns.reason), accessText(exit).padEnd(columns.access)],
    ...[(value ?? '').padEnd(columns.value), (device ?? '').padEnd(columns.device)],
    ...[rip.padEnd(columns.rip), notes.join(', ')],
  ]
    .join('  ')
    .trimEnd();
}

/** What was accessed, how: "out 0x3f8 1", "+ write 0xfee00080 4", "in 0x1f0 2 × 16". */
function accessText({ reason, port, gpa, msr, direction, size, accesses, continued }: ExitInfo): string {
  const where = port ?? gpa ?? msr;
  if (where === undefined) return '';
  const verb = reason === 'IO' ? (direction === 'read' ? 'in' : 'out') : direction;
  const times = accesses === undefined ? '' : ` × ${accesses}`;
  const bytes = size === undefined || msr !== undefined ? '' : ` ${size}`;
  return `${continued === true ? '+ ' : ''}${verb ?? 'access'} 0x${where.toString(16)}${bytes}${times}`;
}

/** A time in ns with three digits or so: "850 ns", "12.3 µs". */
export function span(ns: number): string {
  const units = [
    { name: 'ns', size: 1 },
    { name: 'µs', size: 1e3 },
    { name: 'ms', size: 1e6 },
    { name: 's', size: 1e9 },
  ];
  const unit = units.findLast(({ size }) => ns >= size) ?? units[0]!;
  const value = ns / unit.size;
  return `${unit.size === 1 || value >= 100 ? Math.round(value) : value.toPrecision(3)} ${unit.name}`;
}

/** Counters and rates, as tables. */
export function statsText({ time, exits, reasons, ports, devices, vcpus }: ExitStats): string {
  const line = (name: string, counts: number[], rate: number): string =>
    `  ${name.padEnd(28)}${counts.map((one) => String(one).padStart(14)).join('')}${rate.toFixed(0).padStart(12)}/s`;
  const kept = vcpus.map(({ vcpu, first, end }) => `vCPU ${vcpu}: records ${first} to ${end - 1}`);
  const lines = [
    `At ${(time / 1e9).toFixed(3)} s. ${kept.join('; ')}`,
    ...['', `Exits${'count'.padStart(39)}${'rate'.padStart(14)}`, line('all', [exits.count], exits.rate)],
    ...reasons.map(({ name, count, rate }) => line(name, [count], rate)),
    ...['', `Devices${'reads'.padStart(37)}${'writes'.padStart(14)}${'rate'.padStart(14)}`],
    ...devices.map(({ name, reads, writes, rate }) => line(name, [reads, writes], rate)),
    ...['', `Ports${'reads'.padStart(39)}${'writes'.padStart(14)}${'rate'.padStart(14)}`],
    ...ports.map(({ port, device, reads, writes, rate }) =>
      line(`0x${port.toString(16)} ${device}`, [reads, writes], rate),
    ),
  ];
  return `${lines.join('\n')}\n`;
}
