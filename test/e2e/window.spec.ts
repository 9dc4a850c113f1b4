import { expect, test } from '@playwright/test';
import { port } from './address.ts';
import { asking, crashing, flooding, printing } from './guests.ts';
import { Window, emptyLibrary, machineProcesses } from './window.ts';

test.beforeEach(emptyLibrary);
test.afterEach(emptyLibrary);

/** Long enough for a guest that should stand still to give itself away. */
const QUIET_MS = 700;

test('the calculator, from its creation to its deletion', async ({ page }) => {
  const window = await new Window(page).open();
  await expect(page.getByRole('heading', { name: 'No virtual machines yet' })).toBeVisible();
  await window.create('Calculator');
  await window.isIn('Off');
  await expect(window.verb('Pause')).toBeDisabled();
  await expect(window.verb('Pause')).toHaveAttribute('title', /Only a running machine/);

  await window.verb('Start').click();
  await window.isIn('Running');
  await window.shows('Vitrine calculator');
  await window.type('(2+3)*7\n');
  await window.shows(/^35$/m);
  await expect(window.verb('Delete')).toBeDisabled();

  await window.verb('Pause').click();
  await window.isIn('Paused');
  const before = await window.text();
  await window.type('6*9\n');
  await page.waitForTimeout(QUIET_MS);
  expect(await window.text()).toBe(before);
  await window.picture('paused');

  await window.verb('Resume').click();
  await window.isIn('Running');
  await window.shows(/^54$/m);

  await window.verb('Power off').click();
  const question = page.getByRole('alertdialog');
  await expect(question).toContainText('Power off “Calculator”?');
  await question.getByRole('button', { name: 'Cancel' }).click();
  await window.isIn('Running');
  await window.verb('Power off').click();
  await question.getByRole('button', { name: 'Power off' }).click();
  await window.isIn('Off');
  expect(machineProcesses()).toEqual([]);

  await window.verb('Delete').click();
  await question.getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByRole('heading', { name: 'No virtual machines yet' })).toBeVisible();
});

test('a window that comes late shows what was printed before', async ({ page }) => {
  const window = await new Window(page).open();
  await window.startCalculator('Late');
  await window.type('1000-1\n');
  await window.shows(/^999$/m);
  const before = await window.text();
  await page.reload();
  await window.isIn('Running');
  await expect.poll(() => window.text()).toBe(before);
  expect(page.url()).not.toContain('token');
  await window.type('5*5\n');
  await window.shows(/^25$/m);
});

test('the guest powers itself off, and what it printed stays', async ({ page }) => {
  const window = await new Window(page).open();
  await window.startCalculator('Quits');
  await window.type('quit\n');
  await window.isIn('Off');
  await window.shows('quit');
  await window.verb('Start').click();
  await window.isIn('Running');
  await window.shows('the machine was started again');
  await window.verb('Power button').click();
  await window.isIn('Off');
});

test('reset starts the guest over', async ({ page }) => {
  const window = await new Window(page).open();
  await window.startCalculator('Again');
  await window.type('8*8\n');
  await window.shows(/^64$/m);
  await window.verb('Reset').click();
  await page.getByRole('alertdialog').getByRole('button', { name: 'Reset' }).click();
  await window.isIn('Running');
  await expect.poll(async () => (await window.text()).split('Vitrine calculator').length).toBe(3);
  await window.type('9*9\n');
  await window.shows(/^81$/m);
});

test('create, start, type and power off with the keyboard alone', async ({ page }) => {
  const window = await new Window(page).open();
  const { keyboard } = page;
  await keyboard.press('n');
  await expect(page.getByRole('dialog')).toBeVisible();
  await keyboard.press('Enter');
  await window.isIn('Off');
  await keyboard.press('s');
  await window.isIn('Running');
  await window.shows('Vitrine calculator');
  await keyboard.type('12*12\n');
  await window.shows(/^144$/m);
  await keyboard.press('Control+Shift+P');
  await window.isIn('Paused');
  await keyboard.press('Control+Shift+L');
  await expect(window.machine('Calculator')).toBeFocused();
  await keyboard.press('p');
  await window.isIn('Running');
  await keyboard.press('o');
  await keyboard.press('Tab');
  await keyboard.press('Enter');
  await window.isIn('Off');
  await keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Help and shortcuts' })).toBeVisible();
  await keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toBeHidden();
  await keyboard.press('p');
  await expect(page.getByText('Pause: Only a running machine can be paused.')).toBeVisible();
});

test('the form says beside a field what is wrong with it', async ({ page }) => {
  await new Window(page).open();
  await page.getByRole('button', { name: 'New VM' }).first().click();
  const dialog = page.getByRole('dialog', { name: 'New virtual machine' });
  await dialog.getByRole('radio', { name: 'Linux kernel' }).check();
  await dialog.getByLabel('Memory (MiB)').fill('3');
  await dialog.getByRole('button', { name: 'Create' }).click();
  const kernel = dialog.getByLabel('Kernel', { exact: true });
  await expect(kernel).toBeFocused();
  await expect(kernel).toHaveAccessibleDescription(/Enter the path of the kernel/);
  await expect(dialog.getByLabel('Memory (MiB)')).toHaveAccessibleDescription(/from 4 to 3584/);
  await kernel.fill('/boot/vmlinuz');
  await expect(kernel).not.toHaveAccessibleDescription(/Enter/);
  await page.keyboard.press('Escape');
  await expect(dialog).toBeHidden();
});

test('a kernel that is not there: a clear message, the right state, and a way on', async ({ page }) => {
  const window = await new Window(page).open();
  await window.create('Linux kernel', { Name: 'Lost', Kernel: '/no/such/vmlinuz' });
  await window.verb('Start').click();
  await expect(page.getByRole('alert')).toContainText('/no/such/vmlinuz');
  await window.isIn('Failed');
  await expect(window.state).toContainText('/no/such/vmlinuz');
  await expect(window.machine('Lost')).toContainText('Failed');
  await window.picture('failed');
  await page.getByRole('alert').getByRole('button', { name: 'Dismiss' }).click();
  await expect(page.getByRole('alert')).toBeHidden();

  // Editing is the way out.
  await window.verb('Edit').click();
  const dialog = page.getByRole('dialog', { name: 'Edit “Lost”' });
  await expect(dialog.getByLabel('Kernel', { exact: true })).toHaveValue('/no/such/vmlinuz');
  await dialog.getByRole('radio', { name: 'Calculator' }).check();
  await dialog.getByRole('button', { name: 'Save' }).click();
  await window.verb('Start').click();
  await window.isIn('Running');
  await window.shows('Vitrine calculator');
});

test('two windows show the same', async ({ page, context }) => {
  const first = await new Window(page).open();
  const second = await new Window(await context.newPage()).open();
  await first.startCalculator('Shared');
  await second.isIn('Running');
  await first.type('7*6\n');
  await second.shows(/^42$/m);
  await second.verb('Pause').click();
  await first.isIn('Paused');
  await first.verb('Resume').click();
  await second.isIn('Running');
  await second.type('11*11\n');
  await first.shows(/^121$/m);
  await first.verb('Power off').click();
  await page.getByRole('alertdialog').getByRole('button', { name: 'Power off' }).click();
  await second.isIn('Off');
  await first.verb('Delete').click();
  await page.getByRole('alertdialog').getByRole('button', { name: 'Delete' }).click();
  await expect(second.machine('Shared')).toBeHidden();
});

test('a machine whose process is killed has failed, says why, and starts again', async ({ page }) => {
  const window = await new Window(page).open();
  await window.startCalculator('Killed');
  const processes = machineProcesses();
  expect(processes.length).toBe(1);
  process.kill(processes[0]!, 'SIGKILL');
  await window.isIn('Failed');
  await expect(window.state).toContainText(/SIGKILL/);
  await expect(window.machine('Killed')).toContainText('Failed');
  await window.verb('Start').click();
  await window.isIn('Running');
});

test('a crash of one machine leaves the others alone', async ({ page }) => {
  const window = await new Window(page).open();
  await window.startCalculator('Sound');
  // In real mode KVM's emulator knows no limit of the IDT, so this guest would not crash there.
  await window.create('Flat binary', { Name: 'Broken', File: crashing(), Backend: 'emulated' });
  await window.verb('Start').click();
  await window.isIn('Crashed');
  await expect(window.state).toContainText(/triple fault/i);
  await window.picture('crashed');
  await window.machine('Sound').click();
  await window.isIn('Running');
  await window.type('3*3\n');
  await window.shows(/^9$/m);
});

test('a guest that floods its console: the window answers, and a pause is a pause', async ({ page }) => {
  const window = await new Window(page).open();
  await window.create('Flat binary', { Name: 'Flood', File: flooding() });
  await window.verb('Start').click();
  await window.shows(/x{60}\nx{60}/);
  await page.getByRole('tab', { name: 'COM2' }).click();
  await page.getByRole('tab', { name: 'COM1' }).click();
  await window.shows(/x{60}\nx{60}/);
  await window.verb('Pause').click();
  await window.isIn('Paused');
  await page.waitForTimeout(QUIET_MS);
  const before = await window.text();
  await page.waitForTimeout(QUIET_MS);
  expect(await window.text()).toBe(before);
});

test('what a guest prints opens no link and changes no clipboard unasked', async ({ page, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const window = await new Window(page).open();
  await page.evaluate(() => navigator.clipboard.writeText('mine'));
  const target = `http://127.0.0.1:${port}/elsewhere`;
  const file = printing(`\x1b]52;c;ZXZpbA==\x07\x1b]8;;${target}\x07harmless\x1b]8;;\x07\r\ndone\r\n`);
  await window.create('Flat binary', { Name: 'Sly', File: file });
  await window.verb('Start').click();
  await window.shows('done');
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('mine');
  const link = await window.line(0);
  const follow = async (): Promise<void> => {
    await page.mouse.move(link.x + 10, link.y);
    await page.mouse.move(link.x, link.y);
    // The terminal looks for links while the pointer rests.
    await expect(window.console.locator('.xterm-cursor-pointer')).toBeVisible();
    await page.mouse.click(link.x, link.y);
  };
  await follow();
  const question = page.getByRole('alertdialog', { name: 'Open this link?' });
  await expect(question).toContainText(target);
  await question.getByRole('button', { name: 'Cancel' }).click();
  expect(context.pages().length).toBe(1);
  await follow();
  const opened = context.waitForEvent('page');
  await question.getByRole('button', { name: 'Open' }).click();
  expect((await opened).url()).toMatch(/elsewhere|about:blank/);
});

test('a query in the history is not answered again', async ({ page }) => {
  const window = await new Window(page).open();
  await window.create('Flat binary', { Name: 'Asks', File: asking() });
  await window.verb('Start').click();
  const answers = async (): Promise<number> => (await window.text()).match(/\^\[\d+;\d+R/g)?.length ?? 0;
  await expect.poll(answers).toBe(1);
  await page.reload();
  await expect.poll(answers).toBe(1);
  await window.type('z');
  await window.shows(/R.*z/);
  expect(await answers()).toBe(1);
});

test('copy and paste', async ({ page, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const window = await new Window(page).open();
  await window.startCalculator('Clipboard');
  await page.evaluate(() => navigator.clipboard.writeText('21*2\n'));
  await page.getByRole('button', { name: 'Paste' }).click();
  await window.shows(/^42$/m);
  const line = await window.line((await window.text()).split('\n').indexOf('42'));
  await page.mouse.dblclick(line.x, line.y);
  await page.keyboard.press('Control+Shift+C');
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('42');
});

test('search, log and clear', async ({ page }) => {
  const window = await new Window(page).open();
  await window.startCalculator('Tools');
  await window.type('123456\n');
  await window.shows(/^123456$/m);
  await page.keyboard.press('Control+f');
  const field = page.getByRole('search').getByLabel('Search the console');
  await expect(field).toBeFocused();
  await field.fill('123456');
  await expect(page.getByRole('search')).toContainText('of 2');
  await field.fill('nowhere');
  await expect(page.getByRole('search')).toContainText('Nothing found');
  await window.picture('search');
  await page.keyboard.press('Escape');

  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Save log' }).click();
  const saved = await download;
  expect(saved.suggestedFilename()).toBe('Tools-COM1.log');

  await page.getByRole('button', { name: 'Clear' }).click();
  await expect.poll(() => window.text()).not.toContain('123456');
});

test('a lost connection is said, and mended', async ({ page }) => {
  let sever = (): void => undefined;
  let refused = false;
  await page.routeWebSocket(/\/ws$/, (socket) => {
    if (refused) return void socket.close();
    socket.connectToServer();
    sever = () => void socket.close();
  });
  const window = await new Window(page).open();
  await window.startCalculator('Far');
  refused = true;
  sever();
  await expect(page.getByRole('alert')).toContainText('Connection lost');
  await expect(window.verb('Pause')).toBeDisabled();
  await window.picture('lost');
  refused = false;
  await expect(page.getByText('Connection lost')).toBeHidden();
  await window.isIn('Running');
  await window.type('4*4\n');
  await window.shows(/^16$/m);
});

test('a wrong token is explained', async ({ page }) => {
  await page.goto(`http://127.0.0.1:${port}/#token=wrong`);
  await expect(page.getByRole('alert')).toContainText('vitrine serve');
});

test('the layout is remembered', async ({ page }) => {
  const window = await new Window(page).open();
  const edge = page.getByRole('separator', { name: 'Width of the library' });
  await edge.focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  await expect(edge).toHaveAttribute('aria-valuenow', '296');
  await page.keyboard.press('t');
  await page.keyboard.press('t');
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await page.reload();
  await expect(edge).toHaveAttribute('aria-valuenow', '296');
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await expect(window.page.getByRole('button', { name: 'Theme: dark' })).toBeVisible();
});
