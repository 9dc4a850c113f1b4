import { expect, it } from 'vitest';
import { compareTiers } from './tiers.ts';

/** The short form of `npm run campaign:tiers`, which takes other seeds. */
const SEED = 1;
const PROGRAMS = 60;

it(`the translator does what the handlers do (seed ${SEED})`, { timeout: 120_000 }, () => {
  const { failures, ends, evictions } = compareTiers(SEED, PROGRAMS);
  expect(failures).toEqual([]);
  // HLT, at least, is what many come to.
  expect([...ends.values()].reduce((a, b) => a + b)).toBe(PROGRAMS);
  expect(ends.size).toBeGreaterThan(1);
  expect(evictions).toBeGreaterThan(0);
});
