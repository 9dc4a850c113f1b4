import { readFileSync } from 'node:fs';
import { expect, test } from '@playwright/test';
import type { ExitInfo } from '../../main/service/contract.ts';
import { flooding } from './guests.ts';
import { Window, emptyLibrary } from './window.ts';

test.beforeEach(emptyLibrary);
test.afterEach(emptyLibrary);

test('exits of a running machine: the tail, filters, counters, a file', async ({ page }) => {
  const window = await new Window(page).open();
  await window.startCalculator('Calculator');
  // By the key, from the console; and by the button.
  await page.keyboard.press('Control+Shift+X');
  const exits = page.getByRole('region', { name: 'Exits', exact: true });
  const table = exits.getByRole('table', { name: 'Exits' });
  await expect(table.getByRole('row').filter({ hasText: 'uart0' }).first()).toBeVisible();
  await window.type('2+3\n');
  await window.shows(/5/);
  // What was printed went out through the UART: '5' is 0x35.
  const five = table.getByRole('row').filter({ hasText: 'out 0x3f8 1' }).filter({ hasText: '0x35' });
  await expect(five.last()).toBeVisible();
  await window.picture('exits-1-tail');

  await exits.getByLabel('Reason').selectOption('HALTED');
  await expect(table.getByRole('row').nth(1)).toContainText('HALTED');
  await expect(table.getByText('uart0')).toHaveCount(0);
  await exits.getByRole('button', { name: 'Show all exits' }).click();

  const port = exits.getByLabel('Port, or range of ports');
  await port.fill('3f8');
  await expect(table.getByRole('row').nth(1)).toContainText('out 0x3f8 1');
  await expect(table.getByText('HALTED')).toHaveCount(0);
  await port.fill('com1');
  await expect(exits.getByText('A port such as 3f8')).toBeVisible();
  await exits.getByRole('button', { name: 'Show all exits' }).click();

  // A name among the counters filters by it.
  const counters = exits.getByRole('region', { name: 'Counters of the exits' });
  await counters.getByRole('button', { name: 'uart0', exact: true }).click();
  await expect(exits.getByLabel("Part of the device's name")).toHaveValue('uart0');
  await expect(table.getByRole('row').nth(1)).toContainText('uart0');

  // Held, nothing moves, whatever the guest does.
  const hold = exits.getByRole('button', { name: 'Hold the exits' });
  await hold.click();
  await expect(hold).toHaveAttribute('aria-pressed', 'true');
  const before = await table.getAttribute('aria-rowcount');
  await window.type('6*7\n');
  await window.shows(/42/);
  await page.waitForTimeout(1200);
  expect(await table.getAttribute('aria-rowcount')).toBe(before);
  await hold.click();
  await expect(table.getByRole('row').filter({ hasText: '0x34' }).last()).toBeVisible();

  const saved = page.waitForEvent('download');
  await exits.getByRole('button', { name: 'Save the exits that are shown' }).click();
  const file = await saved;
  expect(file.suggestedFilename()).toBe('Calculator-exits.jsonl');
  const lines = readFileSync(await file.path(), 'utf8')
    .trim()
    .split('\n');
  const all = lines.map((line) => JSON.parse(line) as ExitInfo);
  expect(all.every(({ device }) => device === 'uart0')).toBe(true);

  await exits.getByRole('button', { name: 'Close the exits' }).click();
  await expect(exits).toBeHidden();
});

test('exits faster than anybody reads leave the window quick', async ({ page }) => {
  const window = await new Window(page).open();
  // Some tens of thousands a second. Ports that are answered in place alone could be ten times that, and a million, which
  // is what the ring keeps, would go by between two looks at it.
  await window.create('Flat binary', { Name: 'Flood', File: flooding(2000) });
  await window.verb('Start').click();
  await window.isIn('Running');
  await page.keyboard.press('Control+Shift+L');
  await page.keyboard.press('x');
  const exits = page.getByRole('region', { name: 'Exits', exact: true });
  const table = exits.getByRole('table', { name: 'Exits' });
  await expect(table.getByRole('row').nth(1)).toContainText('0x3f8');
  // Far more than one page holds; then the list begins anew with the newest.
  const all = exits.getByRole('region', { name: 'Counters of the exits' }).getByRole('row').nth(1);
  const count = async (): Promise<number> =>
    Number((await all.getByRole('cell').first().textContent())?.replaceAll(',', ''));
  await expect.poll(count, { timeout: 60_000 }).toBeGreaterThan(20_000);
  await exits.getByLabel("Part of the device's name").fill('uart');
  await expect(table.getByRole('row').nth(1)).toContainText('0x3f8');
  await page.waitForTimeout(3000);
  // Only what is in view is in the page, and of what is kept in memory there is an end.
  expect(await table.getByRole('row').count()).toBeLessThan(80);
  expect(Number(await table.getAttribute('aria-rowcount'))).toBeLessThan(5100);
  await window.picture('exits-2-flood');
  // The ring has room for a million, which a fast machine fills in seconds: what is gone back to must still be there.
  await window.verb('Pause').click();
  await window.isIn('Paused');

  // Held, one can go up. What was too much is said where it is missing; at the top older ones come in.
  await exits.getByRole('button', { name: 'Hold the exits' }).focus();
  await page.keyboard.press('h');
  const frame = table.getByRole('rowgroup', { name: 'Exits, newest last' });
  await expect
    .poll(async () => {
      await frame.evaluate((element) => element.scrollBy(0, -400));
      return table.getByText(/^Too many to show/).count();
    })
    .toBeGreaterThan(0);
  await window.picture('exits-3-gap');
  const first = async (): Promise<number> =>
    Number(await table.getByRole('row').nth(1).getByRole('cell').first().textContent());
  await frame.focus();
  await page.keyboard.press('Home');
  await expect.poll(first).toBeGreaterThan(0);
  const top = await first();
  await expect
    .poll(async () => {
      await page.keyboard.press('Home');
      return first();
    })
    .toBeLessThan(top);

  // Off: the exits stay in view, and the next start begins anew.
  await window.verb('Power off').click();
  await page.getByRole('alertdialog').getByRole('button', { name: 'Power off' }).click();
  await window.isIn('Off');
  await expect(table.getByRole('row').nth(1)).toContainText('0x3f8');
});
