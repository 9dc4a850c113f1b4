import { accessText, spanText, type ExitInfo, type ExitStats } from './trace-contract.ts';

/** The exit trace as text for a terminal. */

const columns = { number: 9, time: 16, reason: 11, access: 26, value: 18, device: 16, rip: 18 };

export const exitHeading = [
  ...['NUMBER'.padStart(columns.number), 'TIME'.padStart(columns.time), 'REASON'.padEnd(columns.reason)],
  ...['ACCESS'.padEnd(columns.access), 'VALUE'.padEnd(columns.value), 'DEVICE'.padEnd(columns.device)],
  ...['RIP'.padEnd(columns.rip), 'TOOK'],
].join('  ');

/** One exit on one line. */
export function exitText(exit: ExitInfo): string {
  const { number, time, reason, value, device, rip, duration, inPlace, fault, event } = exit;
  const notes = [
    inPlace === true ? 'in place' : duration === undefined ? '' : spanText(duration),
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
