import { expect, it } from 'vitest';
import { talk } from './gdb-lines.ts';

/** The short form of `npm run campaign:gdb-lines`. The campaign takes other seeds. */
const SEED = 1;

it(`hostile gdb lines (seed ${SEED}) are survived`, async () => {
  const outcome = await talk(300, SEED);
  // The fuzzer must get beyond the syntax.
  expect(outcome.replies).toBeGreaterThan(3000);
  expect(outcome.runs).toBeGreaterThan(100);
  expect(outcome.writes).toBeGreaterThan(20);
});
