import { EventEmitter } from 'node:events';
import { MessageChannel } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { keptFolder, removeKept } from './fakes.ts';

/**
 * The desktop shell with a stand-in for Electron, which can't be had where tests run: that the window is closed to
 * everything but its own page, and that the page gets the service.
 */

interface Window {
  options: { webPreferences: Record<string, unknown> };
  url: string;
}

function standIn() {
  const electron: Stand = {
    app: new EventEmitter(),
    ipcMain: new EventEmitter(),
    windows: [],
    opened: [],
    calls: new Map(),
  };
  const keep =
    (name: string) =>
    (...args: unknown[]) =>
      electron.calls.set(name, args.at(-1) as never);
  Object.assign(electron.app, {
    enableSandbox: keep('enableSandbox'),
    requestSingleInstanceLock: () => true,
    whenReady: () => Promise.resolve(),
    quit: () => undefined,
    exit: (status: number) => electron.opened.push(`exit ${status}`),
    getAppPath: () => '/app',
    getPath: () => '/nowhere',
  });
  class BrowserWindow extends EventEmitter {
    url = '';
    readonly options: Window['options'];
    constructor(options: Window['options']) {
      super();
      this.options = options;
      electron.windows.push(this);
    }
    loadURL(url: string) {
      this.url = url;
      return Promise.resolve();
    }
  }
  class Tray extends EventEmitter {
    setToolTip() {}
    setContextMenu() {}
    destroy() {}
  }
  /** Node's channel, with the face of Electron's. */
  class MessageChannelMain {
    readonly port1: unknown;
    readonly port2: unknown;
    constructor() {
      const { port1, port2 } = new MessageChannel();
      this.port2 = port2;
      this.port1 = {
        postMessage: (message: unknown) => port1.postMessage(message),
        on: (_event: string, listener: (event: { data: unknown }) => void) =>
          port1.on('message', (data) => listener({ data })),
        once: (event: 'close', listener: () => void) => port1.once(event, listener),
        start: () => port1.start(),
        close: () => port1.close(),
      };
    }
  }
  return {
    stand: electron,
    app: electron.app,
    ipcMain: electron.ipcMain,
    BrowserWindow,
    Tray,
    MessageChannelMain,
    dialog: { showErrorBox: (_title: string, message: string) => electron.opened.push(message) },
    Menu: { setApplicationMenu: () => undefined, buildFromTemplate: () => ({}) },
    nativeImage: { createFromPath: () => ({}) },
    protocol: { registerSchemesAsPrivileged: keep('schemes'), handle: keep('app') },
    screen: {},
    session: {
      defaultSession: {
        setPermissionRequestHandler: keep('permissionRequest'),
        setPermissionCheckHandler: keep('permissionCheck'),
        setDevicePermissionHandler: keep('devicePermission'),
      },
    },
    shell: { openExternal: (url: string) => Promise.resolve(electron.opened.push(url)) },
    utilityProcess: {},
  };
}

/** What the stand-in was told. */
interface Stand {
  app: EventEmitter;
  ipcMain: EventEmitter;
  windows: Window[];
  opened: string[];
  calls: Map<string, (...args: never[]) => unknown>;
}

let electron: Stand;

beforeAll(async () => {
  const stand = standIn();
  electron = stand.stand;
  vi.doMock('electron', () => stand);
  vi.stubEnv('VITRINE_HOME', keptFolder());
  await import('../../../main/index.ts');
  await vi.waitFor(() => expect(electron.windows.length).toBe(1));
});
afterAll(() => {
  vi.unstubAllEnvs();
  removeKept();
});

const call = (name: string, ...args: unknown[]) =>
  (electron.calls.get(name) as (...args: unknown[]) => unknown)(...args);

test('the window is sandboxed and shows our page', () => {
  const [window] = electron.windows;
  expect(window!.options.webPreferences).toMatchObject({
    contextIsolation: true,
    sandbox: true,
    nodeIntegration: false,
  });
  expect(window!.options.webPreferences).not.toHaveProperty('webSecurity');
  expect(window!.url).toBe('app://vitrine/index.html');
  expect(electron.calls.has('enableSandbox')).toBe(true);
});

describe('nothing leads out of the page', () => {
  /** Contents as Electron makes them for any window, and what the shell has said about them. */
  function contents() {
    const made = Object.assign(new EventEmitter(), {
      open: (_details: { url: string }): unknown => undefined,
      setWindowOpenHandler(handler: (details: { url: string }) => unknown) {
        made.open = handler;
      },
    });
    electron.app.emit('web-contents-created', {}, made);
    return made;
  }

  test.each(['will-navigate', 'will-redirect', 'will-attach-webview'])('%s is prevented', (event) => {
    const preventDefault = vi.fn();
    contents().emit(event, { preventDefault });
    expect(preventDefault).toHaveBeenCalledOnce();
  });

  test.each([
    { url: 'https://example.org/', wanted: ['https://example.org/'] },
    { url: 'file:///etc/passwd', wanted: [] },
    { url: 'javascript:alert(1)', wanted: [] },
    { url: 'app://vitrine/', wanted: [] },
    { url: 'smb://host/share', wanted: [] },
  ])('no window opens for $url', ({ url, wanted }) => {
    electron.opened.length = 0;
    expect(contents().open({ url })).toEqual({ action: 'deny' });
    expect(electron.opened).toEqual(wanted);
  });

  test.each([
    { permission: 'clipboard-read', from: 'app://vitrine', wanted: true },
    { permission: 'clipboard-sanitized-write', from: 'app://vitrine', wanted: true },
    { permission: 'clipboard-read', from: 'https://example.org', wanted: false },
    { permission: 'clipboard-read', from: 'app://vitrine.example', wanted: false },
    { permission: 'media', from: 'app://vitrine', wanted: false },
    { permission: 'openExternal', from: 'app://vitrine', wanted: false },
  ])('$permission for $from: $wanted', ({ permission, from, wanted }) => {
    const answer = vi.fn();
    call('permissionRequest', {}, permission, answer, { requestingUrl: `${from}/index.html` });
    expect(answer).toHaveBeenCalledWith(wanted);
    expect(call('permissionCheck', {}, permission, `${from}/`)).toBe(wanted);
    expect(call('devicePermission', {})).toBe(false);
  });

  test.each(['app://vitrine/../package.json', 'app://vitrine/%2e%2e/package.json', 'app://other/index.html'])(
    '%s is not served',
    async (url) => {
      const response = (await call('app', { url, method: 'GET' })) as Response;
      expect(response.status).toBe(404);
      expect(response.headers.get('Content-Security-Policy')).toContain("default-src 'none'");
    },
  );
});

describe('the port to the service', () => {
  /** A frame that asks; what it is given. */
  function connect(frame: { origin: string; parent: unknown } | null): MessagePort[] {
    const given: MessagePort[] = [];
    const senderFrame = frame && {
      ...frame,
      postMessage: (_channel: string, _message: unknown, ports: MessagePort[]) => given.push(...ports),
    };
    electron.ipcMain.emit('vitrine:connect', { senderFrame });
    return given;
  }

  test('is given to our page, and carries the contract', async () => {
    const [port] = connect({ origin: 'app://vitrine', parent: null });
    const reply = new Promise((resolve) => port!.addEventListener('message', ({ data }) => resolve(data)));
    port!.start();
    port!.postMessage({ call: 1, method: 'vm.list', params: {} });
    expect(await reply).toMatchObject({ call: 1, result: [{ id: 'calculator', state: 'off' }] });
    port!.close();
  });

  test.each([
    { name: 'another origin', frame: { origin: 'https://example.org', parent: null } },
    { name: 'a frame inside our page', frame: { origin: 'app://vitrine', parent: {} } },
    { name: 'a frame that has gone', frame: null },
  ])('is not given to $name', ({ frame }) => {
    expect(connect(frame)).toEqual([]);
  });
});
