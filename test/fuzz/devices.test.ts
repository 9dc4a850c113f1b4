import { describe, expect, it } from 'vitest';
import { storm } from './chipset-storm.ts';

/** The short form of `npm run campaign:devices`. The campaign takes other seeds. */
const SEED = 1;

describe(`random accesses to the chipset (seed ${SEED})`, () => {
  it('never throw, answer with values of their size, and leave memory bounded', () => {
    storm(20_000, SEED);
    const before = process.memoryUsage().heapUsed;
    const outcome = storm(300_000, SEED + 1);
    // The storm must reach what it is about.
    expect(outcome.interrupts).toBeGreaterThan(1000);
    expect(outcome.powerRequests).toBeGreaterThan(100);
    expect(outcome.unmapped).toBeGreaterThan(100);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(256 * 2 ** 20);
  });
});
