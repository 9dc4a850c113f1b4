import { describe, it } from 'vitest';
import { fetchGuests, play, scenarios } from './scenarios.ts';

// Real guests on the emulator: the short ones. `npm run campaign:guests` plays all of them.
for (const scenario of scenarios.filter((one) => one.short)) {
  const reason = fetchGuests(scenario.needs);
  describe.runIf(reason === null)(`vitrine run${reason === null ? '' : ` (${reason})`}`, () => {
    it(scenario.name, async () => void (await play(scenario)), scenario.minutes * 60_000 + 10_000);
  });
}
