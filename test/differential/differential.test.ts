import { describe, expect, it } from 'vitest';
import { emulatedBackend } from '../../main/emulator/backend.ts';
import { EmulatedRunner } from './emulated.ts';
import { Generator } from './generate.ts';
import { buildHarness, NativeRunner } from './native.ts';
import { guarded, runRange } from './run.ts';
import type { Failure } from './run.ts';

// The emulator against the real CPU: the short form of `npm run campaign:differential`.
const reason = buildHarness();
const title = reason === null ? 'emulator and CPU' : `emulator and CPU (${reason})`;
// One seed here, so that a run that fails fails again; the campaign takes a new one each time.
const seconds = Number(process.env.VITRINE_DIFF_SECONDS ?? 60);
const seed = Number(process.env.VITRINE_DIFF_SEED ?? 1);
const CHUNK = 250;

describe.runIf(reason === null)(title, () => {
  it(
    `agree on random instructions for ${seconds} s (VITRINE_DIFF_SEED=${seed})`,
    async () => {
      const generator = new Generator(seed);
      const native = new NativeRunner();
      const emulated = guarded(new EmulatedRunner(emulatedBackend));
      const failures = new Map<string, Failure>();
      const until = Date.now() + seconds * 1000;
      let index = 0;
      for (; Date.now() < until && failures.size < 5; index += CHUNK) {
        await runRange(generator, index, index + CHUNK, native, emulated, failures);
      }
      native.close();
      emulated.close();
      console.log(`${index} sequences, seed ${seed}`);
      const texts = [...failures.values()].map((one) => `case ${one.index}: ${one.signature}\n${one.text}`);
      expect(texts.join('\n\n')).toBe('');
    },
    (seconds + 60) * 1000,
  );
});
