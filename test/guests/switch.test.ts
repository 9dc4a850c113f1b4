import { describe, expect, it } from 'vitest';
import { backends } from '../../main/machine/backends.ts';
import { fetchGuests } from './scenarios.ts';
import { LinuxSwitch } from './switch.ts';

// The campaign (`npm run campaign:switch`) also starts programs over there, and takes a snapshot.
describe('Linux at its shell', () => {
  const missing = fetchGuests(['cloud', 'initrd']);
  for (const backend of backends.filter(({ name }) => name !== 'emulated')) {
    const reason = missing ?? backend.unavailable();
    const name = `goes to ${backend.name} in the middle of a line, and back${reason === null ? '' : ` (${reason})`}`;
    it.skipIf(reason !== null)(
      name,
      async () => {
        const guest = new LinuxSwitch(() => undefined);
        try {
          await guest.thereAndBack(backend.name);
          expect(await guest.exits('SHUTDOWN')).toBe(0);
        } finally {
          await guest.end();
        }
      },
      20 * 60_000,
    );
  }
});
