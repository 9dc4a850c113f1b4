import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/{unit,conformance,differential,fuzz,guests}/**/*.test.ts'],
    pool: 'forks',
    // Two cores are the smallest machine we promise to run the suite on.
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
