import { describe, expect, it } from 'vitest';
import { Region, type Member } from '../../../main/emulator/translate/region.ts';

/** Members by the places they jump to: as if each were at position 10 times its number. */
function region(edges: number[][], guesses: Record<number, number[]> = {}, entries = [0]): Region {
  const members = edges.map((direct, i): Member => ({
    block: {
      host: 10 * i,
      context: 0,
      record: 32 * i,
      count: 2,
      room: 2,
      start: 10 * i,
      end: 10 * i + 10,
      tail: null,
      live: true,
    },
    position: 10 * i,
    records: [],
    direct: direct.map((to) => 10 * to),
    guesses: (guesses[i] ?? []).map((to) => 10 * to),
  }));
  return new Region(members, new Set(entries.map((i) => 10 * i)));
}

const cases: {
  name: string;
  edges: number[][];
  guesses?: Record<number, number[]>;
  entries?: number[];
  loops: Record<number, number>;
  dispatched: number[];
}[] = [
  { name: 'a line', edges: [[1], [2], []], loops: {}, dispatched: [] },
  { name: 'a loop of one', edges: [[0, 1], []], loops: { 0: 0 }, dispatched: [] },
  {
    name: 'a loop in a loop',
    edges: [[1], [2], [2, 3], [1, 4], []],
    loops: { 1: 3, 2: 2 },
    dispatched: [],
  },
  {
    name: 'overlapping loops: the outer one is made longer',
    edges: [[1], [2], [3, 0], [1, 4], []],
    loops: { 0: 3, 1: 3 },
    dispatched: [],
  },
  {
    name: 'a jump into the middle of a loop: its head is dispatched',
    edges: [[1, 2], [2], [1, 3], []],
    loops: {},
    dispatched: [1],
  },
  {
    name: 'the same through a loop around it',
    edges: [[1], [2, 3], [3], [2, 1, 4], []],
    loops: {},
    dispatched: [1, 2],
  },
  {
    name: 'a call in a loop: the callee lies before the return point',
    edges: [[1], [2], [], [0, 4], []],
    guesses: { 2: [3] },
    loops: { 0: 3 },
    dispatched: [],
  },
  {
    name: 'a return to two places, one of them behind',
    edges: [[1], [3], [1, 4], [], []],
    guesses: { 3: [2, 4] },
    loops: {},
    dispatched: [1, 2],
  },
  {
    name: 'a way into the middle of a loop: its head is dispatched',
    edges: [[1], [2], [1, 3], []],
    entries: [0, 2],
    loops: {},
    dispatched: [1],
  },
  {
    name: 'a way into a loop in a loop: the outer one is dispatched, the inner one stays',
    edges: [[1], [2], [2, 3], [1, 4], []],
    entries: [0, 2],
    loops: { 2: 2 },
    dispatched: [1],
  },
];

describe('regions', () => {
  it.each(cases)('$name', ({ edges, guesses, entries, loops, dispatched }) => {
    const { loopEnds, dispatched: found } = region(edges, guesses, entries);
    const ends = Object.fromEntries(loopEnds.flatMap((end, i) => (end === undefined ? [] : [[i, end]])));
    expect({ loops: ends, dispatched: [...found].sort() }).toEqual({ loops, dispatched });
  });

  it('leaves no jump into the middle of a loop, whatever the edges', () => {
    for (let seed = 1; seed <= 300; seed++) {
      let state = seed;
      const below = (limit: number): number => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * limit);
      };
      const size = 2 + below(12);
      const edges = Array.from({ length: size }, () => Array.from({ length: below(4) }, () => below(size)));
      const made = region(edges);
      edges.forEach((targets, from) => {
        for (const to of targets) {
          if (to > from) expect(from, `seed ${seed}`).toBeGreaterThanOrEqual(made.loopAround(to));
          else if (!made.dispatched.has(to)) {
            expect(made.loopEnds[to], `seed ${seed}`).toBeGreaterThanOrEqual(from);
          }
        }
      });
      for (const one of made.dispatched) expect(made.loopAround(one), `seed ${seed}`).toBe(-1);
    }
  });
});
