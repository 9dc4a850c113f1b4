import { createHash } from 'node:crypto';

const PAGE = 4096;
/** Pages that are gathered before they are hashed: the hash takes no shared memory. */
const GATHERED = 256;

/** A hash over memory (pages of zeroes cost little) and further pieces of a machine's state. */
export function hashState(memory: Uint8Array, ...pieces: Uint8Array[]): string {
  const hash = createHash('sha256');
  const words = new Int32Array(memory.buffer, memory.byteOffset, memory.byteLength / 4);
  const batch = new Uint8Array(GATHERED * (PAGE + 4));
  const view = new DataView(batch.buffer);
  let used = 0;
  for (let page = 0; page < memory.length / PAGE; page++) {
    if (isZero(words, page)) continue;
    view.setUint32(used, page, true);
    batch.set(memory.subarray(page * PAGE, (page + 1) * PAGE), used + 4);
    used += PAGE + 4;
    if (used < batch.length) continue;
    hash.update(batch);
    used = 0;
  }
  hash.update(batch.subarray(0, used));
  for (const piece of pieces) {
    hash.update(`|${piece.length}|`);
    hash.update(piece.slice());
  }
  return hash.digest('hex');
}

function isZero(words: Int32Array, page: number): boolean {
  const end = (page + 1) * (PAGE / 4);
  for (let at = page * (PAGE / 4); at < end; at++) if (words[at] !== 0) return false;
  return true;
}
