import { describe, expect, it } from 'vitest';
import { answerAll } from './calc-cases.ts';
import { fetchGuests, play, scenarios, startVitrine } from './scenarios.ts';

// Real guests on the emulator: the short ones. `npm run campaign:guests` plays all of them.
for (const scenario of scenarios.filter((one) => one.short)) {
  const reason = fetchGuests(scenario.needs);
  describe.runIf(reason === null)(`vitrine run${reason === null ? '' : ` (${reason})`}`, () => {
    it(scenario.name, async () => void (await play(scenario)), scenario.minutes * 60_000 + 10_000);
  });
}

describe('vitrine run --guest calc', () => {
  it('answers, and quit powers off', async () => {
    const session = startVitrine(['--guest', 'calc']);
    try {
      await answerAll(session);
      expect(await session.ended).toBe(0);
    } finally {
      session.kill();
    }
  });
});
