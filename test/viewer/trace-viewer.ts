/**
 * `npx tsx test/viewer/trace-viewer.ts TRACE.json PICTURE.png`: opens an exported exit trace in a viewer that others wrote,
 * the Performance panel of Chromium's own DevTools, and takes a picture for a person to look at. Needs Chromium and a
 * display (`Xvfb :97 & DISPLAY=:97 ...`): headless Chromium does not open its internal pages.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from '@playwright/test';

const [file, picture] = process.argv.slice(2);
if (file === undefined || picture === undefined) throw new Error('TRACE.json PICTURE.png');
const profile = mkdtempSync(join(tmpdir(), 'vitrine-viewer-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: false,
  viewport: { width: 1560, height: 860 },
  args: ['--no-sandbox', '--window-size=1600,1000'],
  // A browser that is told of its automation refuses devtools://.
  ignoreDefaultArgs: ['--enable-automation'],
});
try {
  const page = context.pages()[0] ?? (await context.newPage());
  page.on('pageerror', ({ message }) => console.log(`the viewer says: ${message}`));
  await page.goto('devtools://devtools/bundled/devtools_app.html?panel=timeline');
  await page.locator('input[type=file]').first().setInputFiles(file);
  // It parses in a while; nothing on the page says when its canvas is drawn.
  await page.waitForTimeout(20_000);
  // The card about keys goes, the process's track opens, and a little of the time is brought near.
  await page.mouse.click(1531, 76);
  await page.mouse.click(250, 129);
  await page.waitForTimeout(500);
  await page.mouse.move(337, 150);
  for (let i = 0; i < Number(process.env.ZOOM ?? 10); i++) {
    await page.mouse.wheel(0, -120);
    await page.waitForTimeout(300);
  }
  await page.waitForTimeout(1500);
  // The thread's track opens, and the exit that is near is shown below.
  await page.mouse.click(260, 147);
  await page.waitForTimeout(1500);
  await page.mouse.click(337, 166);
  await page.waitForTimeout(1500);
  await page.screenshot({ path: picture });
  console.log(`${picture} shows ${file}`);
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
