import { expect, test } from '@playwright/test';
import type { Page } from '@playwright/test';
import { Window, emptyLibrary } from './window.ts';

test.beforeEach(emptyLibrary);
test.afterEach(emptyLibrary);

/** Controls without a name, ids that are given twice, images without a text: what people who can't see stumble on. */
function unnamed(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const faults: string[] = [];
    const named = (element: Element): boolean =>
      Boolean(
        element.getAttribute('aria-label') ??
        element.getAttribute('title') ??
        (element.getAttribute('aria-labelledby') &&
          document.getElementById(element.getAttribute('aria-labelledby')!)?.textContent),
      ) ||
      (element.textContent ?? '').trim() !== '' ||
      ((element as HTMLInputElement).labels?.length ?? 0) > 0;
    for (const element of document.querySelectorAll(
      'button, input:not([hidden]), select, textarea, dialog, [role=region], [role=toolbar], [role=tablist], nav',
    )) {
      if (!named(element)) faults.push(`no name: ${element.outerHTML.slice(0, 120)}`);
    }
    for (const image of document.querySelectorAll('img:not([alt]), svg:not([aria-hidden])')) {
      faults.push(`no text: ${image.outerHTML.slice(0, 120)}`);
    }
    const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`twice: #${id}`);
    if (document.querySelectorAll('main').length !== 1) faults.push('not one <main>');
    if (document.querySelectorAll('h1').length !== 1) faults.push('not one <h1>');
    return faults;
  });
}

/** Text below 4.5:1 on its ground (WCAG 2.1 AA, 1.4.3); what is disabled is exempt, and the terminal sees to its own. */
function faint(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true })!;
    type Colour = [number, number, number, number];
    const read = (css: string): Colour => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = css;
      canvas.fillRect(0, 0, 1, 1);
      const [red = 0, green = 0, blue = 0, alpha = 0] = canvas.getImageData(0, 0, 1, 1).data;
      return [red, green, blue, alpha / 255];
    };
    const luminance = ([red, green, blue]: Colour): number => {
      const linear = [red, green, blue].map((value) => {
        const part = value / 255;
        return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
    };
    const ground = (element: Element | null): Colour => {
      for (let each = element; each !== null; each = each.parentElement) {
        const colour = read(getComputedStyle(each).backgroundColor);
        if (colour[3] === 1) return colour;
      }
      return read('white');
    };
    const faults: string[] = [];
    const dialog = document.querySelector('dialog[open]');
    const walker = document.createTreeWalker(dialog ?? document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
      const element = node.parentElement!;
      const text = (node.textContent ?? '').trim();
      if (text === '' || element.closest('.xterm, [aria-disabled=true], :disabled, option')) continue;
      if (!element.checkVisibility()) continue;
      const [ink, paper] = [read(getComputedStyle(element).color), ground(element)].map(luminance) as [
        number,
        number,
      ];
      const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
      if (ratio < 4.5) faults.push(`${ratio.toFixed(2)} "${text}"`);
    }
    return faults;
  });
}

for (const colorScheme of ['light', 'dark'] as const) {
  test(`${colorScheme}: looks, names and contrast`, async ({ page }) => {
    await page.emulateMedia({ colorScheme });
    const window = await new Window(page).open();
    const look = async (name: string): Promise<void> => {
      await window.picture(`${colorScheme}-${name}`);
      expect(await unnamed(page)).toEqual([]);
      expect(await faint(page)).toEqual([]);
    };
    await look('1-empty');
    await page.getByRole('button', { name: 'New VM' }).first().click();
    await page.getByRole('radio', { name: 'Linux kernel' }).check();
    await page.getByRole('button', { name: 'Add a disk image' }).click();
    await page.getByRole('button', { name: 'Create' }).click();
    await look('2-form');
    await page.getByRole('button', { name: 'Cancel' }).click();

    await window.create('Calculator', { Name: 'A second one' });
    await look('3-off');
    await window.startCalculator('Calculator');
    await window.type('(2+3)*7\n1/0\nhelp\n');
    await window.shows(/error/);
    await look('4-running');
    await page.keyboard.press('Control+Shift+X');
    await expect(page.getByRole('table', { name: 'Exits' }).getByText('uart0').first()).toBeVisible();
    await look('4-exits');
    await page.keyboard.press('Control+Shift+X');
    await window.verb('Pause').click();
    await window.isIn('Paused');
    await look('5-paused');
    await window.verb('Power off').click();
    await look('6-question');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+Shift+L');
    await page.keyboard.press('?');
    await look('7-help');
    await page.keyboard.press('Escape');
    await window.machine('Calculator').click({ button: 'right' });
    await expect(page.getByRole('menuitem', { name: 'Start' })).toBeFocused();
    await page.keyboard.press('ArrowDown');
    await expect(page.getByRole('menuitem', { name: 'Resume' })).toBeFocused();
    await look('8-menu');
    await page.keyboard.press('Escape');
    await page.setViewportSize({ width: 760, height: 560 });
    await look('9-small');
  });
}
