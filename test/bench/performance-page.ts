/** The measured part of docs/performance.md, and its plot, from the numbers. */
import { busyWarning } from './bench.ts';
import type { Panel } from './plot.ts';
import { plot } from './plot.ts';
import { profileTable } from './profile-parts.ts';
import type { BootedKernel, BootReport, CpuReport, CpuRun, Performance } from './report.ts';
import { median } from './statistics.ts';
import type { Results } from './table.ts';
import { groups, groupRatio, markdown, ratio, resultTables, rowNames, showRatio } from './table.ts';

/** Names for people. */
const NAMES: Record<string, string> = {
  native: 'native',
  tcg: 'QEMU TCG',
  v86: 'v86',
  emulated: 'Vitrine',
};
const ORDER = ['emulated', 'tcg', 'v86', 'native'];

const named = (peer: string): string => NAMES[peer] ?? peer;

const titleOf = ({ bits, bare }: CpuRun): string =>
  `${bits}-bit ${bare ? 'programs without an operating system' : 'programs and kernel'}`;

/** On a machine that did other things too, the CPU time of the busiest thread is what can be compared. */
const wasBusy = ({ loads }: { loads: readonly number[] }): boolean =>
  loads.length > 0 && busyWarning(loads) !== null;

const timesOf = (cpu: CpuReport, run: CpuRun): Results =>
  wasBusy(cpu) && Object.keys(run.thread).length > 0 ? run.thread : run.results;

const bootTimesOf = (boot: BootReport, { results, threads }: BootedKernel): Record<string, number[]> =>
  wasBusy(boot) && Object.keys(threads).length > 0 ? threads : results;

/** What a table of times shows. */
const whatOf = (report: { loads: readonly number[] }, clock: string): string =>
  wasBusy(report) ? `CPU time of each peer's busiest thread, since ${busyWarning(report.loads)}` : clock;

/** One run's rows, and groups of more than one in bold, each relative to TCG. */
function panelOf(run: CpuRun, results: Results): Panel {
  const peers = ORDER.filter((peer) => results[peer]);
  const dots = (value: (peer: string) => number | null): Panel['rows'][number]['dots'] =>
    Object.fromEntries(peers.map((peer) => [named(peer), value(peer) ?? undefined]));
  const rows = groups.flatMap((group) => [
    ...group.rows
      .filter((row) => results.tcg?.[row])
      .map((row) => ({ label: row, dots: dots((peer) => ratio(results, row, peer, 'tcg')) })),
    ...(group.rows.length > 1 && groupRatio(results, group.rows, 'tcg', 'tcg') !== null
      ? [
          {
            label: group.name.replace('buffers ', ''),
            strong: true,
            dots: dots((peer) => groupRatio(results, group.rows, peer, 'tcg')),
          },
        ]
      : []),
  ]);
  return { title: titleOf(run), unit: 'time, QEMU TCG = 1; left is faster', rows };
}

function bootPanel(boot: BootReport): Panel {
  const rows = boot.kernels.map((kernel) => {
    const results = bootTimesOf(boot, kernel);
    return {
      label: kernel.name.replace(/^Debian | kernel/g, ''),
      dots: Object.fromEntries(
        Object.entries(results).map(([peer, times]) => [
          named(peer),
          results.tcg ? median(times) / median(results.tcg) : undefined,
        ]),
      ),
    };
  });
  return {
    title: 'From the start of the process to /init',
    unit: 'time, QEMU TCG = 1; left is faster',
    rows,
  };
}

export function picture({ cpu, boot }: Performance): string {
  const panels = [
    ...(boot ? [bootPanel(boot)] : []),
    ...(cpu?.runs.map((run) => panelOf(run, timesOf(cpu, run))) ?? []),
  ];
  const used = ORDER.map(named).filter((peer) =>
    panels.some(({ rows }) => rows.some(({ dots }) => dots[peer] !== undefined)),
  );
  return plot(panels, used);
}

function bootTable(boot: BootReport): string {
  const kernels = boot.kernels.map((kernel) => ({ name: kernel.name, results: bootTimesOf(boot, kernel) }));
  const peers = ORDER.filter((peer) => kernels.some(({ results }) => results[peer]));
  const others = peers.filter((peer) => peer !== 'emulated');
  return markdown(
    [
      'kernel',
      'rounds',
      ...peers.map((peer) => `${named(peer)} s`),
      ...others.map((peer) => `Vitrine / ${named(peer)}`),
    ],
    kernels.map(({ name, results }) => [
      name,
      String(roundsOf([{ all: results }])),
      ...peers.map((peer) => (results[peer] ? (median(results[peer]) / 1000).toFixed(2) : '')),
      ...others.map((peer) =>
        results[peer] && results.emulated ? showRatio(median(results.emulated) / median(results[peer])) : '',
      ),
    ]),
  );
}

/** What the first repetition of a row costs beyond the best one: each peer's geometric mean. */
function warmUp(run: CpuRun): string {
  const parts = ORDER.filter((peer) => run.results[peer] && run.first[peer]).map((peer) => {
    const both = { best: run.results[peer], first: run.first[peer] };
    return `${named(peer)} ${showRatio(groupRatio(both, rowNames, 'first', 'best'))}`;
  });
  return `First repetition against the best one, geometric mean of all rows: ${parts.join(', ')}.`;
}

/** How many rounds there were: as often as the least measured one was. */
function roundsOf(all: readonly Results[]): number {
  const times = all.flatMap((results) => Object.values(results).flatMap((rows) => Object.values(rows)));
  return Math.min(...times.map(({ length }) => length));
}

const day = (date: string): string => date.slice(0, 10);

export function page({ machine, cpu, boot, profile }: Performance): string {
  const parts = [
    '![Time of each peer relative to QEMU TCG](performance.svg)',
    `Machine: ${machine.join('; ')}.`,
  ];
  if (boot) {
    parts.push(
      '### Boots',
      `From the start of the process to the first line of /init. Seconds; medians of interleaved rounds, ` +
        `${day(boot.date)}; ${whatOf(boot, "by the host's clock")}.`,
      bootTable(boot),
      ...boot.problems.map((problem) => `**Wrong:** ${problem.split('\n')[0]}`),
    );
  }
  for (const run of cpu?.runs ?? []) {
    const times = timesOf(cpu!, run);
    const results = Object.fromEntries(
      ORDER.filter((peer) => times[peer]).map((peer) => [named(peer), times[peer]]),
    );
    parts.push(
      `### ${titleOf(run)}`,
      `Milliseconds; medians of ${roundsOf([run.results])} interleaved rounds, of each the best of ${cpu!.repeat}; scale ` +
        `${cpu!.scale}; ${day(cpu!.date)}; ${whatOf(cpu!, "by the host's clock")}.`,
      resultTables(results, named('emulated')),
      ...(wasBusy(cpu!) ? [] : [warmUp(run)]),
    );
    for (const problem of run.problems) parts.push(`**Wrong:** ${problem.split('\n')[0]}`);
  }
  if (profile) {
    parts.push(
      '### Shares',
      `A boot of the ${profile.bits}-bit kernel until it is off, and rows without an operating system at scale ` +
        `${profile.scale}: instructions, and the time of the vCPU's thread by part of the emulator (V8's sampling ` +
        `profiler), warming up included; ${day(profile.date)}.`,
      profileTable(profile.guests),
    );
  }
  return parts.join('\n\n');
}
