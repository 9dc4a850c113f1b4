import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { Reporter, TestModule } from 'vitest/node';

/** What scripts/test-summary.mjs adds up. */
export interface Counts {
  passed: number;
  failed: number;
  /** Each skipped test with its reason. */
  skipped: string[];
}

/** Writes how many tests passed and failed, and which were skipped why: vitest's own report leaves the reason out. */
export default class CountsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const counts: Counts = { passed: 0, failed: unhandled.length, skipped: [] };
    for (const module of modules) {
      // A file that can't even be loaded has no tests to count.
      if (module.errors().length > 0) counts.failed++;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'passed') counts.passed++;
        else if (result.state === 'failed') counts.failed++;
        else counts.skipped.push(skipLine(relative(process.cwd(), module.moduleId), test.fullName, result));
      }
    }
    const folder = join(import.meta.dirname, '..', '.cache', 'test');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'vitest.json'), JSON.stringify(counts));
  }
}

function skipLine(file: string, name: string, result: object): string {
  const note = 'note' in result && typeof result.note === 'string' ? `: ${result.note}` : '';
  return `${file}: ${name}${note}`;
}
