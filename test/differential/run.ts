import type { Case, CaseRunner } from './case.ts';
import { compare } from './compare.ts';
import type { Difference } from './compare.ts';
import type { Generator } from './generate.ts';
import { minimise } from './minimise.ts';
import { describeFailure, signature } from './report.ts';
import { hostIsUnsteady } from './vendor.ts';

/** A kind of failure, with the first case that showed it, made small. */
export interface Failure {
  signature: string;
  index: number;
  text: string;
  count: number;
}

/** Differing cases that are minimised per call: the rest are only counted. */
const MAX_MINIMISED = 20;

/** A runner whose exceptions are findings: the case that throws counts as one that it died on. */
export function guarded(runner: CaseRunner): CaseRunner {
  const told = new Set<string>();
  const one = async (made: Case): Promise<Awaited<ReturnType<CaseRunner['run']>>[number]> => {
    try {
      return (await runner.run([made]))[0];
    } catch (error) {
      const text = String((error as Error).stack);
      if (!told.has(text)) console.error(`${runner.name}: ${text}`);
      told.add(text);
      return undefined;
    }
  };
  return {
    name: runner.name,
    close: () => runner.close(),
    run: async (cases) => {
      try {
        return await runner.run(cases);
      } catch {
        // Which of them it was is found one by one.
      }
      const results = [];
      for (const made of cases) results.push(await one(made));
      return results;
    },
  };
}

/**
 * Runs cases [from, to) of a generator on both sides; what differs is collected in `failures`. `unsteady`: those for which the
 * native side gave the other's answer when it was asked again, on hosts where that may be.
 */
export async function runRange(
  generator: Pick<Generator, 'make'>,
  from: number,
  to: number,
  native: CaseRunner,
  other: CaseRunner,
  failures: Map<string, Failure>,
): Promise<{ differing: number; unsteady: number; vectors: Map<number, number> }> {
  const cases = Array.from({ length: to - from }, (_, i) => generator.make(from + i));
  const [natives, others] = [await native.run(cases), await other.run(cases)];
  const vectors = new Map<number, number>();
  let differing = 0;
  let unsteady = 0;
  let minimised = 0;
  for (let i = 0; i < cases.length; i++) {
    const vector = natives[i]?.timedOut ? -1 : (natives[i]?.vector ?? -2);
    vectors.set(vector, (vectors.get(vector) ?? 0) + 1);
    const first = differencesOf(cases[i], natives[i], others[i]);
    if (first.length === 0) continue;
    if (hostIsUnsteady) {
      const [secondly] = await native.run([cases[i]]);
      if (differencesOf(cases[i], secondly, others[i]).length === 0) {
        unsteady++;
        continue;
      }
    }
    differing++;
    if (minimised++ >= MAX_MINIMISED) continue;
    const small = await minimise(cases[i], native, other);
    const [a] = await native.run([small]);
    const [b] = await other.run([small]);
    const again = differencesOf(small, a, b);
    // What only differed among the others is told of as it was.
    const found = again.length > 0 ? again : first;
    const name = again.length > 0 ? signature(small, found) : `${signature(small, found)}, once`;
    const known = failures.get(name);
    if (known) known.count++;
    else {
      const text = describeFailure(small, found, other.name, a);
      failures.set(name, { signature: name, index: from + i, text, count: 1 });
    }
  }
  return { differing, unsteady, vectors };
}

export function differencesOf(
  made: Case,
  native: Awaited<ReturnType<CaseRunner['run']>>[number],
  other: Awaited<ReturnType<CaseRunner['run']>>[number],
): Difference[] {
  if (native === undefined || other === undefined) {
    if (native === other) return [];
    const state = (one: unknown): string => (one === undefined ? 'died' : 'lives');
    return [{ what: 'runner', native: state(native), other: state(other) }];
  }
  return compare(made, native, other);
}
