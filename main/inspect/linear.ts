import type { VcpuState } from '../nvmm/layout.ts';
import { NvmmError } from '../nvmm/errors.ts';
import { walk, type ReadPhysical } from '../nvmm/walk.ts';

/** Reads an aligned 32-bit word of guest-physical memory; null where there is none. */
export type FetchPhysical = (gpa: number) => Promise<number | null>;

/** What a computation misses of memory that is read asynchronously. */
class Missing extends Error {
  readonly gpa: number;

  constructor(gpa: number) {
    super(`0x${gpa.toString(16)} has not been read yet`);
    this.gpa = gpa;
  }
}

/** Does synchronous work over memory that can only be fetched: again for each word that it turns out to need. */
export async function withPhysical<T>(fetch: FetchPhysical, work: (read: ReadPhysical) => T): Promise<T> {
  const words = new Map<number, number | null>();
  for (;;) {
    try {
      return work((gpa) => {
        const word = words.get(gpa);
        if (word === undefined) throw new Missing(gpa);
        return word;
      });
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      words.set(error.gpa, await fetch(error.gpa));
    }
  }
}

/** The guest-physical address of a linear one, or null where nothing is mapped. */
export async function translatePage(
  state: VcpuState,
  address: bigint,
  fetch: FetchPhysical,
): Promise<number | null> {
  const low = Number(BigInt.asUintN(32, address));
  const high = Number(BigInt.asUintN(64, address) >> 32n);
  try {
    return await withPhysical(fetch, (read) => walk(state, low, high, read).gpa);
  } catch (error) {
    if (error instanceof NvmmError) return null;
    throw error;
  }
}
