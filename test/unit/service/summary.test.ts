import { expect, test } from 'vitest';
import { playwrightCounts, summary } from '../../../scripts/test-summary.mjs';

const counts = (passed: number, failed: number, skipped: string[] = []) => ({ passed, failed, skipped });

test.each([
  {
    name: 'all is well',
    reports: [counts(3, 0), counts(2, 0)],
    steps: [],
    last: '5 passed, 0 failed, 0 skipped',
    status: 0,
  },
  {
    name: 'a test failed',
    reports: [counts(3, 1)],
    steps: [],
    last: '3 passed, 1 failed, 0 skipped',
    status: 1,
  },
  {
    name: 'a step failed',
    reports: [counts(3, 0)],
    steps: ['types'],
    last: '3 passed, 1 failed, 0 skipped',
    status: 1,
  },
  {
    name: 'one was skipped',
    reports: [counts(3, 0, ['a: b'])],
    steps: [],
    last: '3 passed, 0 failed, 1 skipped',
    status: 0,
  },
  { name: 'nothing ran', reports: [], steps: [], last: '0 passed, 0 failed, 0 skipped', status: 1 },
])('$name', ({ reports, steps, last, status }) => {
  const result = summary(reports, steps);
  expect(result.lines.at(-1)).toBe(last);
  expect(result.status).toBe(status);
  for (const line of reports.flatMap(({ skipped }) => skipped)) {
    expect(result.lines).toContain(`skipped  ${line}`);
  }
});

test("Playwright's tree is counted at every depth, with the reasons of what was skipped", () => {
  const spec = (status: string, annotations: object[] = []) => ({
    title: status,
    tests: [{ status, annotations }],
  });
  const report = {
    errors: [{}],
    suites: [
      {
        file: 'a.spec.ts',
        specs: [spec('expected'), spec('skipped', [{ type: 'skip', description: 'no /dev/kvm' }])],
        suites: [{ file: 'a.spec.ts', specs: [spec('unexpected'), spec('flaky')] }],
      },
    ],
  };
  expect(playwrightCounts(report)).toEqual({
    passed: 2,
    failed: 2,
    skipped: ['a.spec.ts: skipped: no /dev/kvm'],
  });
});
