import { Fxsave, PATTERN } from './case.ts';
import type { Case, CaseRunner } from './case.ts';
import { compare } from './compare.ts';
import { inspectAll } from './inspect.ts';

/** Shrinks a case that two runners disagree on: fewer instructions, then plainer registers and memory. */
export async function minimise(made: Case, native: CaseRunner, other: CaseRunner): Promise<Case> {
  let best = made;

  async function keep(change: (candidate: Case) => void): Promise<boolean> {
    const candidate = best.clone();
    change(candidate);
    if (Buffer.compare(candidate.bytes, best.bytes) === 0) return false;
    const [a] = await native.run([candidate]);
    const [b] = await other.run([candidate]);
    const differs = a === undefined || b === undefined || compare(candidate, a, b).length > 0;
    if (differs) best = candidate;
    return differs;
  }

  // An instruction makes room for NOPs: the others stay where they are, and what they refer to as well.
  for (const one of inspectAll(best.code).reverse()) {
    await keep((candidate) => (candidate.code = candidate.code.slice(0, one.at)));
  }
  for (const one of inspectAll(best.code)) {
    await keep((candidate) => {
      const code = candidate.code.slice();
      code.fill(0x90, one.at, one.at + one.length);
      candidate.code = code;
    });
  }
  const leading = best.code.findIndex((byte) => byte !== 0x90);
  if (leading > 0) {
    await keep((candidate) => {
      candidate.rip += leading;
      candidate.code = candidate.code.slice(leading);
    });
  }

  await keep((candidate) => (candidate.rflags = 0x202n));
  await keep((candidate) => candidate.fxsave.fill(0, Fxsave.ST, Fxsave.XMM + 256));
  await keep((candidate) => candidate.pattern.fill(0));
  for (let i = 0; i < 16; i++) {
    const zero = await keep((candidate) => candidate.setGpr(i, 0n));
    if (!zero) await keep((candidate) => candidate.setGpr(i, 1n));
  }
  const fpu = (at: number, bytes: number[]): Promise<boolean> =>
    keep((candidate) => candidate.fxsave.set(bytes, at));
  await fpu(Fxsave.MXCSR, [0x80, 0x1f]);
  await fpu(Fxsave.FCW, [0x7f, 0x03]);
  await fpu(Fxsave.FSW, [0, 0]);
  for (let at = Fxsave.ST; at < Fxsave.XMM; at += 16) await fpu(at, new Array<number>(10).fill(0));
  for (let at = Fxsave.XMM; at < Fxsave.XMM + 256; at += 8) await fpu(at, new Array<number>(8).fill(0));
  for (let at = 0; at < PATTERN; at += 8) await keep((candidate) => candidate.pattern.fill(0, at, at + 8));
  return best;
}
