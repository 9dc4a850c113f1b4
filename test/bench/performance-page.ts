/** The measured part of docs/performance.md, and its plot, from the numbers. */
import { busyWarning } from './bench.ts';
import type { Panel } from './plot.ts';
import { plot } from './plot.ts';
import { profileTable } from './profile-parts.ts';
import type { BootReport, CpuRun, Performance } from './report.ts';
import { median } from './statistics.ts';
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

/** One run's rows, and groups of more than one in bold, each relative to TCG. */
function panelOf(run: CpuRun): Panel {
  const peers = ORDER.filter((peer) => run.results[peer]);
  const dots = (value: (peer: string) => number | null): Panel['rows'][number]['dots'] =>
    Object.fromEntries(peers.map((peer) => [named(peer), value(peer) ?? undefined]));
  const rows = groups.flatMap((group) => [
    ...group.rows
      .filter((row) => run.results.tcg?.[row])
      .map((row) => ({ label: row, dots: dots((peer) => ratio(run.results, row, peer, 'tcg')) })),
    ...(group.rows.length > 1 && groupRatio(run.results, group.rows, 'tcg', 'tcg') !== null
      ? [
          {
            label: group.name.replace('buffers ', ''),
            strong: true,
            dots: dots((peer) => groupRatio(run.results, group.rows, peer, 'tcg')),
          },
        ]
      : []),
  ]);
  return { title: titleOf(run), unit: 'time, QEMU TCG = 1; left is faster', rows };
}

function bootPanel({ kernels }: BootReport): Panel {
  const rows = kernels.map(({ name, results }) => ({
    label: name.replace(/^Debian | kernel/g, ''),
    dots: Object.fromEntries(
      Object.entries(results).map(([peer, times]) => [
        named(peer),
        results.tcg ? median(times) / median(results.tcg) : undefined,
      ]),
    ),
  }));
  return {
    title: 'From the start of the process to /init',
    unit: 'time, QEMU TCG = 1; left is faster',
    rows,
  };
}

export function picture({ cpu, boot }: Performance): string {
  const panels = [...(boot ? [bootPanel(boot)] : []), ...(cpu?.runs.map(panelOf) ?? [])];
  const used = ORDER.map(named).filter((peer) =>
    panels.some(({ rows }) => rows.some(({ dots }) => dots[peer] !== undefined)),
  );
  return plot(panels, used);
}

function bootTable({ kernels }: BootReport): string {
  const peers = ORDER.filter((peer) => kernels.some(({ results }) => results[peer]));
  const others = peers.filter((peer) => peer !== 'emulated');
  return markdown(
    [
      'kernel',
      ...peers.map((peer) => `${named(peer)} s`),
      ...others.map((peer) => `Vitrine / ${named(peer)}`),
    ],
    kernels.map(({ name, results }) => [
      name,
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

function busyOf(loads: readonly number[]): string[] {
  const warning = loads.length === 0 ? null : busyWarning(loads);
  return warning === null ? [] : [`A busy machine: ${warning}.`];
}

const day = (date: string): string => date.slice(0, 10);

export function page({ machine, cpu, boot, profile }: Performance): string {
  const parts = [
    '![Time of each peer relative to QEMU TCG](performance.svg)',
    `Machine: ${machine.join('; ')}.`,
  ];
  if (boot) {
    const rounds = Math.max(
      ...boot.kernels.flatMap(({ results }) => Object.values(results).map((r) => r.length)),
    );
    parts.push(
      '### Boots',
      `Seconds from the start of the process to the first line of /init; medians of ${rounds} interleaved rounds, ` +
        `${day(boot.date)}.`,
      bootTable(boot),
      ...busyOf(boot.loads),
    );
  }
  for (const run of cpu?.runs ?? []) {
    const results = Object.fromEntries(
      ORDER.filter((peer) => run.results[peer]).map((peer) => [named(peer), run.results[peer]]),
    );
    parts.push(
      `### ${titleOf(run)}`,
      `Milliseconds; medians of ${cpu!.rounds} interleaved rounds, of each the best of ${cpu!.repeat}; scale ` +
        `${cpu!.scale}; ${day(cpu!.date)}.`,
      resultTables(results, named('emulated')),
      warmUp(run),
    );
    for (const problem of run.problems) parts.push(`**Wrong:** ${problem.split('\n')[0]}`);
  }
  if (cpu) parts.push(...busyOf(cpu.loads));
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
