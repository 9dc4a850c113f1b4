/** Medians, ratios and tables of the CPU benchmark. */
import { median } from './statistics.ts';

/** Rows and the groups that the marks speak of. */
export const groups = [
  {
    name: 'CPU',
    rows: ['sieve', 'crc32', 'sha256', 'qsort', 'fib', 'bytecode', 'mix64', 'chase', 'nbody-sse'],
  },
  { name: 'memory', rows: ['memcpy', 'repmovs', 'wordcopy'] },
  { name: 'memory, buffers 16 MiB apart', rows: ['memcpy-aliased', 'repmovs-aliased', 'wordcopy-aliased'] },
  { name: 'x87', rows: ['nbody-x87'] },
  { name: 'kernel', rows: ['getppid', 'faults', 'fork', 'exec', 'pipe'] },
  { name: 'self-modifying code', rows: ['smc'] },
] as const;

export const rowNames: readonly string[] = groups.flatMap(({ rows }) => rows);

/** The rows that measure Linux, and need it. */
export const systemRows: readonly string[] = groups.find(({ name }) => name === 'kernel')!.rows;

/** Milliseconds of every run of a row: results[peer][row]. */
export type Results = Record<string, Record<string, number[]>>;

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** Median of one row divided by another peer's, or null where one of them has none. */
export function ratio(results: Results, row: string, peer: string, to: string): number | null {
  const [ours, theirs] = [results[peer]?.[row], results[to]?.[row]];
  return ours?.length && theirs?.length ? median(ours) / median(theirs) : null;
}

/** Geometric mean of a group's ratios, over the rows that both have; null where there are none. */
export function groupRatio(
  results: Results,
  rows: readonly string[],
  peer: string,
  to: string,
): number | null {
  const ratios = rows.map((row) => ratio(results, row, peer, to)).filter((value) => value !== null);
  return ratios.length === 0 ? null : geometricMean(ratios);
}

export const showRatio = (value: number | null): string =>
  value === null ? '' : value >= 100 ? value.toFixed(0) : value.toPrecision(3);

export const showTime = (values: readonly number[] | undefined): string => {
  if (!values?.length) return '';
  const value = median(values);
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
};

/** A Markdown table, its columns aligned: the first to the left, numbers to the right. */
export function markdown(head: readonly string[], body: readonly (readonly string[])[]): string {
  const widths = head.map((text, i) => Math.max(3, text.length, ...body.map((row) => row[i].length)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join(' | ')} |`;
  const rule = `| ${widths.map((n, i) => (i === 0 ? '-'.repeat(n) : `${'-'.repeat(n - 1)}:`)).join(' | ')} |`;
  return [line(head), rule, ...body.map(line)].join('\n');
}

/** Milliseconds of each peer for each row that ran, and the ratios of `subject` to the others; then by group. */
export function resultTables(results: Results, subject: string): string {
  const peers = Object.keys(results);
  const others = results[subject] ? peers.filter((peer) => peer !== subject) : [];
  const rows = rowNames.filter((row) => peers.some((peer) => results[peer][row]?.length));
  const times = markdown(
    ['row', ...peers.map((peer) => `${peer} ms`), ...others.map((peer) => `${subject} / ${peer}`)],
    rows.map((row) => [
      row,
      ...peers.map((peer) => showTime(results[peer][row])),
      ...others.map((peer) => showRatio(ratio(results, row, subject, peer))),
    ]),
  );
  if (others.length === 0) return times;
  const means = markdown(
    ['group, geometric mean', ...others.map((peer) => `${subject} / ${peer}`)],
    groups
      .filter((group) => group.rows.some((row) => rows.includes(row)))
      .map((group) => [
        group.name,
        ...others.map((peer) => showRatio(groupRatio(results, group.rows, subject, peer))),
      ]),
  );
  return `${times}\n\n${means}`;
}
