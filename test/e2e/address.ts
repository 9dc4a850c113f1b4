import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Not the default port, so that the tests don't meet a Vitrine that is in use; another for a second run beside this one. */
export const port = Number(process.env.VITRINE_E2E_PORT ?? 8399);

/** The library of the tests: new each time. */
export const library = join(import.meta.dirname, '..', '..', '.cache', 'e2e');

/** The address that `vitrine serve` prints: the page, with the token that lets it in. */
export function address(): string {
  return `http://127.0.0.1:${port}/#token=${readFileSync(join(library, 'token'), 'utf8').trim()}`;
}
