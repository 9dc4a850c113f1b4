/**
 * Plays every scenario with a real guest, one after the other, and says how each went:
 *
 *   npm run campaign:guests -- [--tier auto|interpreter|translator] [part of a name ...]
 */
import { parseArgs } from 'node:util';
import { fetchGuests, play, scenarios } from './scenarios.ts';

const { values, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { tier: { type: 'string' } },
});
const tier = values.tier === undefined ? [] : ['--tier', values.tier];
let failed = 0;
for (const scenario of scenarios) {
  if (wanted.length > 0 && !wanted.some((part) => scenario.name.includes(part))) continue;
  const reason = fetchGuests(scenario.needs);
  const from = performance.now();
  let outcome = 'well';
  if (reason !== null) outcome = `skipped: ${reason}`;
  else {
    await play({ ...scenario, options: [...scenario.options, ...tier] }).catch((error: unknown) => {
      failed++;
      outcome = `FAILED: ${(error as Error).message}`;
    });
  }
  console.log(`${scenario.name}: ${outcome} (${((performance.now() - from) / 1000).toFixed(1)} s)`);
}
process.exitCode = failed === 0 ? 0 : 1;
