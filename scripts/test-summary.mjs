// The end of `npm test`: adds up what the runners reported, lists every skipped test with its reason, and prints one last line.
// node scripts/test-summary.mjs [failed step]...
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** @typedef {{ passed: number, failed: number, skipped: string[] }} Counts */

/**
 * Counts of Playwright's JSON report: a tree of suites with specs, each run once.
 * @returns {Counts}
 */
export function playwrightCounts(report) {
  const counts = { passed: 0, failed: report.errors?.length ?? 0, skipped: [] };
  const visit = (suite) => {
    for (const { title, tests } of suite.specs ?? []) {
      for (const { status, annotations = [] } of tests) {
        const reason = annotations.find(({ type }) => type === 'skip' || type === 'fixme')?.description;
        if (status === 'expected' || status === 'flaky') counts.passed++;
        else if (status === 'skipped') {
          counts.skipped.push(`${suite.file}: ${title}${reason ? `: ${reason}` : ''}`);
        } else counts.failed++;
      }
    }
    for (const child of suite.suites ?? []) visit(child);
  };
  for (const suite of report.suites ?? []) visit(suite);
  return counts;
}

/**
 * @param {Counts[]} reports
 * @param {string[]} failedSteps steps that are no tests (a type check) or that left no report
 */
export function summary(reports, failedSteps) {
  const lines = [];
  const sum = (key) => reports.reduce((total, report) => total + report[key], 0);
  const skipped = reports.flatMap((report) => report.skipped);
  for (const each of skipped) lines.push(`skipped  ${each}`);
  for (const step of failedSteps) lines.push(`failed   ${step}`);
  const failed = sum('failed') + failedSteps.length;
  lines.push(`${sum('passed')} passed, ${failed} failed, ${skipped.length} skipped`);
  return { lines, status: failed === 0 && sum('passed') > 0 ? 0 : 1 };
}

function read(name) {
  try {
    return JSON.parse(readFileSync(new URL(`../.cache/test/${name}`, import.meta.url), 'utf8'));
  } catch {
    return null;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [vitest, playwright] = [read('vitest.json'), read('playwright.json')];
  const reports = [vitest, playwright && playwrightCounts(playwright)].filter(Boolean);
  const failedTests = reports.some(({ failed }) => failed > 0);
  // A runner's failure is its tests' failure, unless none of them is to blame.
  const steps = process.argv.slice(2).filter((step) => !(failedTests && step.startsWith('tests: ')));
  const { lines, status } = summary(reports, steps);
  console.log(`\n${lines.join('\n')}`);
  process.exitCode = status;
}
