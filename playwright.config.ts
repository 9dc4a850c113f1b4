import { existsSync } from 'node:fs';
import { defineConfig } from '@playwright/test';
import { library, port } from './test/e2e/address.ts';

/** Debian's own browser; Playwright's, where that one isn't installed. */
const chromium = process.env.CHROMIUM ?? '/usr/bin/chromium';

/**
 * The window as a user sees it, driven in Chromium: the built page, the built service, a library of its own, and real
 * VMs. One server and one library serve all tests, so they run one after the other.
 */
export default defineConfig({
  testDir: 'test/e2e',
  outputDir: 'test-results',
  workers: 1,
  timeout: 120_000,
  expect: { timeout: 20_000 },
  reporter: [['list'], ['json', { outputFile: '.cache/test/playwright.json' }]],
  use: {
    browserName: 'chromium',
    viewport: { width: 1280, height: 800 },
    screenshot: 'only-on-failure',
    trace: 'retain-on-failure',
    launchOptions: {
      ...(existsSync(chromium) ? { executablePath: chromium } : {}),
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    },
  },
  webServer: {
    command: `rm -rf ${library} && exec node out/main/serve.js --port ${port}`,
    url: `http://127.0.0.1:${port}/`,
    env: { VITRINE_HOME: library },
    // The VMs of a failed test end with the service.
    gracefulShutdown: { signal: 'SIGTERM', timeout: 10_000 },
    timeout: 60_000,
    stdout: 'ignore',
  },
});
