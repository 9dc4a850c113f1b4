import { expect, test } from '@playwright/test';
import { Window, emptyLibrary } from './window.ts';

test.beforeEach(emptyLibrary);
test.afterEach(emptyLibrary);

test('snapshots of the calculator: taken, gone back to, deleted; and another backend', async ({ page }) => {
  const window = await new Window(page).open();
  await window.startCalculator('Saved');
  await page.getByRole('button', { name: 'Snapshots', exact: true }).click();
  const panel = page.getByRole('region', { name: 'Snapshots', exact: true });
  await expect(panel).toContainText('No snapshots yet');
  const take = async (name: string): Promise<void> => {
    await panel.getByLabel('Name of the snapshot').fill(name);
    await panel.getByRole('button', { name: 'Take snapshot' }).click();
    await expect(panel.getByRole('article', { name })).toContainText('goes on from here');
  };
  const question = page.getByRole('alertdialog');

  await window.type('6 *');
  await window.shows('6 *');
  await take('in the middle');
  await window.type(' 2\n');
  await window.shows(/^12$/m);
  await take('after it');
  await expect(panel.getByRole('article', { name: 'after it' })).toContainText('12');
  await window.picture('snapshots');

  await panel.getByRole('button', { name: 'Restore in the middle' }).click();
  await expect(question).toContainText('What it is now is lost');
  await question.getByRole('button', { name: 'Restore' }).click();
  await expect(panel.getByRole('article', { name: 'in the middle' })).toContainText('goes on from here');
  await window.type(' 7\n');
  await window.shows(/^42$/m);

  await window.verb('Pause').click();
  await window.isIn('Paused');
  const backend = panel.getByLabel('Backend that the machine runs on');
  // Where there is only one backend, there is nothing to choose.
  if ((await backend.count()) > 0) {
    await backend.selectOption('emulated');
    await expect(backend).toHaveValue('emulated');
  }
  await window.verb('Resume').click();
  await window.isIn('Running');
  await window.type('9 * 9\n');
  await window.shows(/^81$/m);

  await window.verb('Power off').click();
  await question.getByRole('button', { name: 'Power off' }).click();
  await window.isIn('Off');
  await expect(panel.getByRole('button', { name: 'Take snapshot' })).toBeDisabled();
  await panel.getByRole('button', { name: 'Restore after it' }).click();
  await window.isIn('Running');
  await window.type('5 * 5\n');
  await window.shows(/^25$/m);

  for (const name of ['in the middle', 'after it']) {
    await panel.getByRole('button', { name: `Delete ${name}` }).click();
    await question.getByRole('button', { name: 'Delete' }).click();
    await expect(panel.getByRole('article', { name })).toHaveCount(0);
  }
  await expect(panel).toContainText('No snapshots yet');
});
