import { expect, test } from '@playwright/test';
import { Window, emptyLibrary } from './window.ts';

test.beforeEach(emptyLibrary);
test.afterEach(emptyLibrary);

test('the glass: pause, registers, step, breakpoints, memory', async ({ page }) => {
  const window = await new Window(page).open();
  await window.startCalculator('Calculator');
  await page.keyboard.press('Control+Shift+I');
  const glass = page.getByRole('region', { name: 'Glass', exact: true });
  await expect(glass.getByText('Pause it to look into it.')).toBeVisible();
  await glass.getByRole('button', { name: 'Pause' }).click();
  await window.isIn('Paused');

  const registers = glass.getByRole('region', { name: 'Registers' });
  await expect(registers.getByRole('row', { name: /^RIP/ })).toBeVisible();
  await expect(registers.getByRole('row', { name: /^CR0 .*PE.*PG/ })).toBeVisible();
  await expect(registers.getByRole('row', { name: /^IA32_EFER .*LME LMA/ })).toBeVisible();
  const code = glass.getByRole('region', { name: 'Code' });
  const current = code.locator('[aria-current="true"]');
  await expect(current).toHaveCount(1);
  await window.picture('glass-1-paused');

  // The guest sleeps until it is typed to: it goes on to the breakpoint behind HLT.
  const mark = code.getByRole('button', { name: /^Breakpoint at/ }).first();
  await mark.click();
  await expect(mark).toHaveAttribute('aria-pressed', 'true');
  const breakpoints = glass.getByRole('region', { name: 'Breakpoints' });
  await expect(breakpoints.getByText('0 hits')).toBeVisible();
  await glass.getByRole('button', { name: 'Resume' }).click();
  await window.isIn('Running');
  await window.type('1');
  await window.isIn('Paused');
  await expect(glass.getByRole('status', { name: 'Where it stands' })).toContainText('Breakpoint 1');
  await expect(breakpoints.getByText('1 hit')).toBeVisible();

  // A step by the button and one by the key; what changed is told.
  const before = await registers.getByRole('row', { name: /^RIP/ }).textContent();
  await glass.getByRole('button', { name: 'Step', exact: true }).click();
  await expect(registers.getByRole('row', { name: /^RIP .*changed/ })).toBeVisible();
  expect(await registers.getByRole('row', { name: /^RIP/ }).textContent()).not.toBe(before);
  const second = await current.textContent();
  await page.keyboard.press('w');
  await expect(current).not.toHaveText(second ?? '');
  await page.keyboard.press('y');
  await window.picture('glass-2-stepped');

  const memory = glass.getByRole('region', { name: 'Memory' });
  await memory.getByLabel('Memory at').fill('rip');
  await memory.getByRole('button', { name: 'Show' }).click();
  await expect(memory.getByRole('row').first()).toContainText(/^[0-9a-f]{6}/);
  await memory.getByLabel('Memory at').fill('nowhere');
  await memory.getByRole('button', { name: 'Show' }).click();
  await expect(memory.getByText(/neither a number nor a register/)).toBeVisible();

  await breakpoints.getByRole('button', { name: 'Remove breakpoint 1' }).click();
  await expect(breakpoints.getByText('No breakpoints.')).toBeVisible();
  await breakpoints.getByLabel('Break at').fill('0x800000000000');
  await breakpoints.getByRole('button', { name: 'Break' }).click();
  await expect(page.getByText(/is not a canonical address/)).toBeVisible();
  await page.emulateMedia({ colorScheme: 'dark' });
  await window.picture('glass-3-dark');

  await glass.getByRole('button', { name: 'Resume' }).click();
  await window.isIn('Running');
  await glass.getByRole('button', { name: 'Close the glass' }).click();
  await expect(glass).toBeHidden();
});
