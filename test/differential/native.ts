import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Result, LINE, RESULT_SIZE } from './case.ts';
import type { Case, CaseRunner } from './case.ts';

const folder = import.meta.dirname ?? new URL('.', import.meta.url).pathname;
const target = join(folder, '../../.cache/differential/harness');

/** Why this host has no native oracle, or null after the harness has been built. */
export function buildHarness(): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return `the native oracle needs Linux on x86-64, and this is ${process.platform} on ${process.arch}`;
  }
  if (spawnSync('make', ['--version']).status !== 0 || spawnSync('cc', ['--version']).status !== 0) {
    return 'the native oracle needs make and a C compiler';
  }
  mkdirSync(join(target, '..'), { recursive: true });
  const made = spawnSync('make', ['-s', '-C', join(folder, 'harness'), `OUT=${target}`], {
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(`the harness does not build:\n${made.stderr}`);
  const tried = spawnSync(target, [], { input: '', encoding: 'utf8' });
  return tried.status === 0 ? null : tried.stderr.trim();
}

/** Cases a batch: enough to make the pipe's cost vanish, few enough that a dead harness costs little. */
const BATCH = 256;

/** Runs cases on the real CPU: a child process that is started again when a case has killed it. */
export class NativeRunner implements CaseRunner {
  readonly name = 'native';
  private child: ChildProcess | undefined;
  private buffer: Buffer = Buffer.alloc(0);
  private wake: (() => void) | undefined;
  private over = true;

  async run(cases: readonly Case[]): Promise<(Result | undefined)[]> {
    const results: (Result | undefined)[] = [];
    while (results.length < cases.length) {
      const batch = cases.slice(results.length, results.length + BATCH);
      const done = await this.runBatch(batch);
      results.push(...done);
      if (done.length === batch.length) continue;
      // The harness died, and with it the results that it had not written. Finds the case that did it.
      if (batch.length > 1) for (const one of batch) results.push((await this.runBatch([one]))[0]);
      else results.push(undefined);
    }
    return results;
  }

  private start(): ChildProcess {
    if (this.child && !this.over) return this.child;
    const child = spawn(target, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child = child;
    this.buffer = Buffer.alloc(0);
    this.over = false;
    child.stdout!.on('data', (data: Buffer) => {
      this.buffer = this.buffer.length === 0 ? data : Buffer.concat([this.buffer, data]);
      this.wake?.();
    });
    child.stdin!.on('error', () => {});
    child.on('close', () => {
      this.over = true;
      this.wake?.();
    });
    return child;
  }

  private async runBatch(batch: readonly Case[]): Promise<Result[]> {
    const child = this.start();
    const count = Buffer.alloc(4);
    count.writeUInt32LE(batch.length);
    child.stdin!.write(Buffer.concat([count, ...batch.map((one) => one.bytes)]));
    const results: Result[] = [];
    let at = 0;
    for (;;) {
      for (let size = this.recordSize(at); size > 0; size = this.recordSize(at)) {
        results.push(this.parse(at));
        at += size;
      }
      if (results.length === batch.length || this.over) {
        this.buffer = this.buffer.subarray(at);
        return results.length === batch.length ? results : [];
      }
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  /** Bytes of the record at `at`, or 0 while it isn't all there. */
  private recordSize(at: number): number {
    if (this.buffer.length < at + RESULT_SIZE) return 0;
    const size = RESULT_SIZE + this.buffer.readUInt32LE(at + 676) * (4 + LINE);
    return this.buffer.length < at + size ? 0 : size;
  }

  private parse(at: number): Result {
    const bytes = Uint8Array.from(this.buffer.subarray(at, at + RESULT_SIZE));
    const lines = new Map<number, Uint8Array>();
    for (let i = 0; i < this.buffer.readUInt32LE(at + 676); i++) {
      const line = at + RESULT_SIZE + i * (4 + LINE);
      lines.set(
        this.buffer.readUInt32LE(line),
        Uint8Array.from(this.buffer.subarray(line + 4, line + 4 + LINE)),
      );
    }
    return new Result(bytes, lines);
  }

  close(): void {
    this.child?.stdin?.end();
  }
}
