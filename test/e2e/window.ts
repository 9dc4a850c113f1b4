import { readFileSync, readdirSync } from 'node:fs';
import { expect } from '@playwright/test';
import type { Locator, Page } from '@playwright/test';
import { WebSocket } from 'ws';
import type { VmInfo } from '../../main/service/contract.ts';
import { address, library, port } from './address.ts';

/** The window as a test uses it: by names and roles, as a person or a screen reader finds things. */
export class Window {
  readonly page: Page;
  readonly console: Locator;
  readonly state: Locator;

  constructor(page: Page) {
    this.page = page;
    this.console = page.getByRole('region', { name: /^Console of/ });
    this.state = page.getByRole('status', { name: /^State:/ });
  }

  /** Opens the page and waits for the library. */
  async open(): Promise<this> {
    await this.page.goto(address());
    await expect(this.page.getByText(/ on \w+/).first()).toBeVisible();
    return this;
  }

  /** A verb of the machine's toolbar. */
  verb(name: string): Locator {
    return this.page.getByRole('toolbar', { name: 'Machine' }).getByRole('button', { name, exact: true });
  }

  machine(name: string): Locator {
    return this.page.getByRole('navigation').getByRole('button', { name: new RegExp(`^${name}`) });
  }

  /** Fills in the dialog's fields and creates the machine. */
  async create(kind: string, fields: Record<string, string> = {}): Promise<void> {
    await this.page.getByRole('button', { name: 'New VM' }).first().click();
    const dialog = this.page.getByRole('dialog', { name: 'New virtual machine' });
    await dialog.getByRole('radio', { name: kind }).check();
    for (const [label, value] of Object.entries(fields)) {
      const field = dialog.getByLabel(label, { exact: true });
      if (label === 'Backend') await field.selectOption(value);
      else await field.fill(value);
    }
    await dialog.getByRole('button', { name: 'Create' }).click();
    await expect(dialog).toBeHidden();
  }

  async isIn(state: string): Promise<void> {
    await expect(this.state).toContainText(state);
  }

  /** What the terminal shows now, without what pads its lines. */
  async text(): Promise<string> {
    const rows = await this.console.locator('.xterm-rows > div').allTextContents();
    return rows
      .map((row) => row.replaceAll(' ', ' ').trimEnd())
      .join('\n')
      .trimEnd();
  }

  /** A point within the first word of a line of the screen; lines count from 0. */
  async line(index: number): Promise<{ x: number; y: number }> {
    const box = await this.console.locator('.xterm-rows > div').nth(index).boundingBox();
    if (box === null) throw new Error(`The terminal has no line ${index}.`);
    return { x: box.x + 6, y: box.y + box.height / 2 };
  }

  async shows(text: string | RegExp): Promise<void> {
    const wanted = typeof text === 'string' ? expect.stringContaining(text) : expect.stringMatching(text);
    await expect.poll(() => this.text(), { timeout: 30_000 }).toEqual(wanted);
  }

  /** Types into the console as a person does: key by key. */
  async type(text: string): Promise<void> {
    await this.console.click();
    await this.page.keyboard.type(text);
  }

  async startCalculator(name: string): Promise<void> {
    await this.create('Calculator', { Name: name });
    await this.verb('Start').click();
    await this.isIn('Running');
    await this.shows(/> $|>$/);
  }

  /** Takes a picture for people to look at. */
  async picture(name: string): Promise<void> {
    await this.page.screenshot({ path: `test-results/window/${name}.png` });
  }
}

/** Asks the service something over a connection of its own. */
async function ask(requests: (list: VmInfo[]) => { method: string; params: object }[]): Promise<void> {
  const token = readFileSync(`${library}/token`, 'utf8').trim();
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, ['vitrine.v1', `token.${token}`], {
    origin: `http://127.0.0.1:${port}`,
  });
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  let last = 0;
  const call = (method: string, params: object): Promise<unknown> =>
    new Promise((resolve) => {
      const mine = ++last;
      const hear = (data: Buffer): void => {
        const message = JSON.parse(String(data)) as { call?: number; result?: unknown };
        if (message.call !== mine) return;
        socket.off('message', hear);
        resolve(message.result);
      };
      socket.on('message', hear);
      socket.send(JSON.stringify({ call: mine, method, params }));
    });
  const list = (await call('vm.list', {})) as VmInfo[];
  for (const { method, params } of requests(list)) await call(method, params);
  socket.close();
}

/** Leaves the library empty, whatever the test before left in it. */
export function emptyLibrary(): Promise<void> {
  return ask((list) =>
    list.flatMap(({ id }) => [
      { method: 'vm.powerOff', params: { id } },
      { method: 'vm.delete', params: { id } },
    ]),
  );
}

/** The processes of running VMs: children of the service that the tests use. */
export function machineProcesses(): number[] {
  const processes = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
        const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
        return [{ id: Number(name), command, parent }];
      } catch {
        // It ended while we looked.
        return [];
      }
    });
  const service = processes.find(
    ({ command }) =>
      command.includes('--port') && command.includes(String(port)) && command[0]?.endsWith('node'),
  );
  return processes.filter(({ parent }) => parent === service?.id).map(({ id }) => id);
}
