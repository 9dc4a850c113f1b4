import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { hostCode } from './errors.ts';

const pattern = /^[A-Za-z0-9_-]{43}$/;

/**
 * The word that lets a browser in: 256 random bits in a file that only the user may read. It stays the same until the
 * file is deleted, so that a page finds its service again after a restart.
 */
export async function accessToken(library: string): Promise<string> {
  const path = join(library, 'token');
  try {
    const token = readFileSync(path, 'utf8').trim();
    if (pattern.test(token)) {
      chmodSync(path, 0o600);
      return token;
    }
  } catch (error) {
    if (hostCode(error) !== 'ENOENT') throw error;
  }
  const token = randomBytes(32).toString('base64url');
  await writeFileAtomic(path, `${token}\n`, { mode: 0o600 });
  return token;
}

/** Compares in a time that doesn't depend on how much is right. */
export function sameToken(given: string, wanted: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(wanted));
}
