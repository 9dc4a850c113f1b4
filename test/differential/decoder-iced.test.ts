import { describe, expect, it } from 'vitest';
import { compareStrings } from './decoder-iced.ts';

/** `npm run campaign:decoder` is the long form. */
const STRINGS = 300_000;

describe('the decoder and iced-x86', () => {
  const seed = Date.now() % 1_000_000_000;
  for (const each of [1, seed]) {
    it(`agree over ${STRINGS} random strings, seed ${each}`, () => {
      const tally = compareStrings(each, STRINGS);
      expect(tally.differences).toEqual([]);
      expect(tally.strings).toBe(STRINGS);
      // Not by refusing everything.
      expect(tally.alike).toBeGreaterThan(STRINGS / 2);
    });
  }
});
