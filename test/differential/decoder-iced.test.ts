import { describe, expect, it } from 'vitest';
import { compareStrings } from './decoder-iced.ts';

/** `npm run campaign:decoder` is the long form. */
const STRINGS = 300_000;

describe('the decoder and iced-x86', () => {
  for (const seed of [1, 2]) {
    it(`agree over ${STRINGS} random strings, seed ${seed}`, () => {
      const tally = compareStrings(seed, STRINGS);
      expect(tally.differences).toEqual([]);
      expect(tally.strings).toBe(STRINGS);
      // Not by refusing everything.
      expect(tally.alike).toBeGreaterThan(STRINGS / 2);
    });
  }
});
