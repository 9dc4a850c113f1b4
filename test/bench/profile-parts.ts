/** A profile of V8's, added up by the parts of the emulator. */
import type { ProfiledGuest } from './report.ts';
import { markdown } from './table.ts';

/** As `Profiler.stop` of the inspector's protocol gives it. Times are microseconds. */
export interface V8Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string } }[];
  samples: number[];
  timeDeltas: number[];
}

/** What a function belongs to; null for what isn't the running machine: waiting, and loading modules. */
export function partOf(functionName: string, url: string): string | null {
  if (url.startsWith('wasm://')) return 'generated code';
  if (functionName === '(garbage collector)') return 'garbage collector';
  if (url === '' && ['Module', 'Instance'].includes(functionName)) return 'V8 compiling';
  const ours = /\/main\/(.*)$/.exec(url)?.[1];
  // emulator/decoder/lookup.ts: emulator/decoder. emulator/mmu.ts stays.
  if (ours !== undefined) return ours.split('/').slice(0, 2).join('/');
  if (url !== '' || functionName.startsWith('(')) return null;
  // Built-in functions of V8, called from ours.
  return 'built-in functions';
}

function add(profile: V8Profile, nameOf: (functionName: string, url: string) => string | null) {
  const names = new Map(
    profile.nodes.map(({ id, callFrame }) => [id, nameOf(callFrame.functionName, callFrame.url)]),
  );
  const sums = new Map<string, number>();
  profile.samples.forEach((id, i) => {
    const name = names.get(id);
    if (name) sums.set(name, (sums.get(name) ?? 0) + profile.timeDeltas[i] / 1000);
  });
  return [...sums].sort(([, a], [, b]) => b - a);
}

/** Milliseconds by part, most first. */
export const timeByPart = (profile: V8Profile): Record<string, number> =>
  Object.fromEntries(add(profile, partOf).map(([name, time]) => [name, Math.round(time * 10) / 10]));

/** Milliseconds by function, most first. */
export const timeByFunction = (profile: V8Profile): [string, number][] =>
  add(profile, (functionName, url) =>
    partOf(functionName, url) === null ? null : `${functionName} ${url.replace(/^.*\/main\//, '')}`,
  );

/** Parts with less than this share are summed up as others, in percent. */
const LEAST = 5;

/** A line for each guest: how much it executed, how fast, and the shares of the parts. */
export function profileTable(guests: readonly ProfiledGuest[]): string {
  return markdown(
    ['what', 'instructions, M', 'ns each', 'TLB misses, k', 'share of the time, percent'],
    guests.map(({ name, time, instructions, counters, parts }) => {
      const total = Object.values(parts).reduce((sum, part) => sum + part, 0);
      const shares = Object.entries(parts).map(([part, ms]): [string, number] => [part, (100 * ms) / total]);
      const large = shares.filter(([, share]) => share >= LEAST);
      const rest = 100 - large.reduce((sum, [, share]) => sum + share, 0);
      const all: [string, number][] = rest >= 0.5 ? [...large, ['others', rest]] : large;
      return [
        name,
        (instructions / 1e6).toFixed(1),
        ((time / instructions) * 1e6).toFixed(2),
        ((counters.tlbMisses ?? 0) / 1e3).toFixed(1),
        all.map(([part, share]) => `${part} ${share.toFixed(0)}`).join(', '),
      ];
    }),
  );
}
