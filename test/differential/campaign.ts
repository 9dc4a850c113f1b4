/**
 * The long form of the differential test:
 *
 *   npm run campaign:differential -- 2000000 [--seed N] [--workers 2] [--only sse,x87] [--mnemonic REGEX]
 *                                            [--other emulated|handlers|native] [--hot RUNS] [--case INDEX]
 *
 * Cases run in chunks, by worker processes; which chunks are done is kept in .cache/differential, so that a
 * campaign with the same seed and filter goes on where it was interrupted. `--case` runs one case and prints it;
 * `--hot 1` has every block translated after its first run: cases run twice, and the second time counts.
 */
import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { BackendMemory } from '../../main/nvmm/nvmm.ts';
import type { CaseRunner } from './case.ts';
import { Generator } from './generate.ts';
import { buildHarness, NativeRunner } from './native.ts';
import { describeFailure } from './report.ts';
import { differencesOf, guarded, runRange } from './run.ts';
import type { Failure } from './run.ts';
import { groups } from './templates.ts';
import type { Group } from './templates.ts';

const CHUNK = 1000;
/** Cases that are translated together, at a tenth of what each costs alone. */
const TOGETHER = 100;
/** Cases whose instructions' handlers are made at the start, in one module: V8 takes ever longer for each of thousands. */
const PREPARED = 30_000;
/** Chunks after which a worker makes way for a new one: with all that V8 has compiled it grows slower, by half in 500. */
const WORKER_CHUNKS = 60;
const HANDLER_FEATURES = new Set(
  'fpu pni sse sse2 mmx fxsr cx16 popcnt ssse3 sse4_1 sse4_2 lahf_lm clflush'.split(' '),
);
const cache = join(
  import.meta.dirname ?? new URL('.', import.meta.url).pathname,
  '../../.cache/differential',
);

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: '2' },
    only: { type: 'string' },
    mnemonic: { type: 'string' },
    other: { type: 'string', default: 'emulated' },
    case: { type: 'string' },
    hot: { type: 'string', default: '0' },
    fresh: { type: 'boolean', default: false },
  },
});

function makeGenerator(): Generator {
  const only = options.only?.split(',') as Group[] | undefined;
  for (const group of only ?? []) {
    if (!groups.includes(group)) throw new Error(`--only ${group}: the groups are ${groups.join(', ')}`);
  }
  const mnemonic = options.mnemonic === undefined ? undefined : new RegExp(`^(${options.mnemonic})$`);
  return new Generator(Number(options.seed), { groups: only, mnemonic });
}

async function makeOther(): Promise<CaseRunner> {
  if (options.other === 'native') return new NativeRunner();
  if (options.other === 'handlers') {
    // The instructions' semantics alone: straight code, no paging.
    const { HandlerRunner } = await import('../unit/emulator/handler-runner.ts');
    const { sseGroups } = await import('../../main/emulator/generate/sse/index.ts');
    return guarded(new HandlerRunner(sseGroups, HANDLER_FEATURES));
  }
  const { emulatedBackend } = await import('../../main/emulator/backend.ts');
  const { EmulatedRunner } = await import('./emulated.ts');
  // --hot N: blocks are translated after N runs (1: all of them, at once).
  const { EmulatorNvmm } = await import('../../main/emulator/driver.ts');
  const hotRuns = Number(options.hot);
  if (hotRuns === 0) return guarded(new EmulatedRunner(emulatedBackend));
  const translating = { runs: hotRuns, batch: TOGETHER, patience: 0 };
  const backend = {
    ...emulatedBackend,
    open: (memory: BackendMemory) => new EmulatorNvmm(memory, { translating }),
  };
  const runner = new EmulatedRunner(backend, TOGETHER);
  runner.prepare(Array.from({ length: PREPARED }, (_, i) => makeGenerator().make(1e9 + i)));
  return guarded(runner);
}

interface ChunkReport {
  chunk: number;
  differing: number;
  unsteady: number;
  vectors: [number, number][];
  failures: Failure[];
}

async function worker(): Promise<void> {
  const generator = makeGenerator();
  const native = new NativeRunner();
  const other = await makeOther();
  process.on('message', (chunk: number) => {
    const failures = new Map<string, Failure>();
    const from = chunk * CHUNK;
    void runRange(generator, from, from + CHUNK, native, other, failures).then((range) => {
      const { differing, unsteady } = range;
      const vectors = [...range.vectors];
      const report = { chunk, differing, unsteady, vectors, failures: [...failures.values()] };
      process.send!(report satisfies ChunkReport);
    });
  });
  process.send!('ready');
}

async function one(index: number): Promise<void> {
  const made = makeGenerator().make(index);
  const [native, other] = [new NativeRunner(), await makeOther()];
  const [a] = await native.run([made]);
  const [b] = await other.run([made]);
  console.log(describeFailure(made, differencesOf(made, a, b), other.name, a));
  native.close();
  other.close();
}

async function campaign(total: number): Promise<void> {
  const chunks = Math.ceil(total / CHUNK);
  const what = JSON.stringify([options.seed, options.only, options.mnemonic, options.other, options.hot]);
  const file = join(cache, `campaign-${createHash('sha256').update(what).digest('hex').slice(0, 12)}.json`);
  const resumed = !options.fresh && existsSync(file);
  const done = new Set<number>(resumed ? (JSON.parse(readFileSync(file, 'utf8')) as number[]) : []);
  console.log(
    `seed ${options.seed}, ${total} sequences${done.size > 0 ? `, ${done.size * CHUNK} of them done before` : ''}`,
  );
  const failures = new Map<string, Failure>();
  const vectors = new Map<number, number>();
  const queue = Array.from({ length: chunks }, (_, i) => i).filter((chunk) => !done.has(chunk));
  const started = Date.now();
  const all = queue.length;
  let differing = 0;
  let unsteady = 0;
  let finished = 0;

  const take = (report: ChunkReport): void => {
    finished++;
    differing += report.differing;
    unsteady += report.unsteady;
    if (report.differing === 0) done.add(report.chunk);
    for (const [vector, count] of report.vectors) vectors.set(vector, (vectors.get(vector) ?? 0) + count);
    for (const failure of report.failures) {
      const known = failures.get(failure.signature);
      if (known) {
        known.count += failure.count;
        continue;
      }
      failures.set(failure.signature, failure);
      console.log(`\n--- case ${failure.index}: ${failure.signature}\n${failure.text}`);
    }
    const rate = (finished * CHUNK) / ((Date.now() - started) / 1000);
    if (finished % 20 === 0) {
      writeFileSync(file, JSON.stringify([...done]));
      console.log(
        `${finished * CHUNK} of ${all * CHUNK}, ${differing} differing, ${Math.round(rate)} a second`,
      );
    }
  };

  /** Lets one process work until it is old, or nothing is left. */
  const work = (): Promise<void> => {
    const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), {
      execArgv: process.execArgv,
      env: { ...process.env, VITRINE_DIFF_WORKER: '1' },
    });
    let age = 0;
    return new Promise<void>((resolve, reject) => {
      child.on('message', (message: 'ready' | ChunkReport) => {
        if (message !== 'ready') take(message);
        const next = age++ < WORKER_CHUNKS ? queue.shift() : undefined;
        if (next === undefined) {
          child.kill();
          resolve();
        } else child.send(next);
      });
      child.on('exit', (code) => {
        if (code !== null && code !== 0) reject(new Error(`a worker ended with status ${code}`));
      });
    });
  };
  await Promise.all(
    Array.from({ length: Math.min(Number(options.workers), all) }, async () => {
      while (queue.length > 0) await work();
    }),
  );
  writeFileSync(file, JSON.stringify([...done]));
  const ends = [...vectors].sort(([a], [b]) => a - b).map(([vector, count]) => `${vector}: ${count}`);
  console.log(`\nnative ended by exception (-1: no end, -2: died): ${ends.join(', ')}`);
  if (unsteady > 0) {
    console.log(`${unsteady} for which the CPU gave two answers, the emulator's the second time`);
  }
  console.log(`${all * CHUNK} sequences, ${differing} differing, seed ${options.seed}`);
  const kinds = [...failures.values()].sort((a, b) => b.count - a.count);
  for (const { signature, count, index } of kinds) console.log(`  ${count} x ${signature} (case ${index})`);
  process.exitCode = differing === 0 ? 0 : 1;
}

if (process.env.VITRINE_DIFF_WORKER) await worker();
else {
  const reason = buildHarness();
  mkdirSync(cache, { recursive: true });
  if (reason !== null) {
    console.error(reason);
    process.exitCode = 1;
  } else if (options.case !== undefined) await one(Number(options.case));
  else await campaign(Number(positionals[0] ?? 2_000_000));
}
