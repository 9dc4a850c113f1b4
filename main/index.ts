import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  app,
  BrowserWindow,
  dialog,
  ipcMain,
  Menu,
  MessageChannelMain,
  nativeImage,
  protocol,
  screen,
  session,
  shell,
  Tray,
  utilityProcess,
  type MenuItemConstructorOptions,
  type MessagePortMain,
} from 'electron';
import { z } from 'zod';
import { securityHeaders } from './service/page-headers.ts';
import { libraryFolder } from './service/paths.ts';
import { Service, type ServiceOptions } from './service/service.ts';
import { Session, type Transport } from './service/session.ts';
import { staticFile } from './service/static-files.ts';

/**
 * The desktop application: one window, a menu, a tray icon, and the service. The service runs here, in Electron's main
 * process, because only that may start utility processes; it does no work of its own that lasts. What lasts, and what
 * may crash, is in the VMs' processes, one utility process each.
 */

const ORIGIN = 'app://vitrine';
/** All that our page may ask for: Copy and Paste of the console. */
const permitted = new Set(['clipboard-read', 'clipboard-sanitized-write']);
const page = join(import.meta.dirname, '..', 'renderer');
const asset = (name: string) => join(app.getAppPath(), 'assets', name);

let service: Service | undefined;
let window: BrowserWindow | undefined;
/** Kept, or the garbage collector takes the icon away. */
let tray: Tray | undefined;

protocol.registerSchemesAsPrivileged([
  { scheme: 'app', privileges: { standard: true, secure: true, supportFetchAPI: true } },
]);
app.enableSandbox();

if (app.requestSingleInstanceLock()) {
  app.on('second-instance', show);
  app.on('activate', show);
  app.on('window-all-closed', () => {
    // VMs go on without a window; the tray brings it back. With none running there is nothing to stay for.
    if (process.platform !== 'darwin' && running() === 0) app.quit();
  });
  app.on('before-quit', beforeQuit);
  app.on('web-contents-created', (_event, contents) => {
    // The page is ours and stays: nothing that a guest prints can lead anywhere else. A link that the user has
    // confirmed in the page goes to the browser.
    contents.setWindowOpenHandler(({ url }) => {
      if (/^https?:\/\//i.test(url)) void shell.openExternal(url);
      return { action: 'deny' };
    });
    contents.on('will-navigate', (event) => event.preventDefault());
    contents.on('will-redirect', (event) => event.preventDefault());
    contents.on('will-attach-webview', (event) => event.preventDefault());
  });
  void app.whenReady().then(start);
} else {
  app.quit();
}

async function start(): Promise<void> {
  try {
    service = await Service.open({ folder: libraryFolder(), launch });
  } catch (error) {
    dialog.showErrorBox('Vitrine cannot start', (error as Error).message);
    app.exit(1);
    return;
  }
  process.once('exit', () => service?.kill());
  session.defaultSession.setPermissionRequestHandler((_contents, permission, answer, { requestingUrl }) =>
    answer(permitted.has(permission) && requestingUrl.startsWith(`${ORIGIN}/`)),
  );
  session.defaultSession.setPermissionCheckHandler(
    (_contents, permission, origin) => permitted.has(permission) && origin.replace(/\/$/, '') === ORIGIN,
  );
  session.defaultSession.setDevicePermissionHandler(() => false);
  protocol.handle('app', servePage);
  ipcMain.on('vitrine:connect', (event) => {
    const frame = event.senderFrame;
    // Only our page, and only at the top of the window.
    if (!frame || frame.parent !== null || frame.origin !== ORIGIN || !service) return;
    const { port1, port2 } = new MessageChannelMain();
    new Session(service, portTransport(port1));
    frame.postMessage('vitrine:port', null, [port2]);
  });
  Menu.setApplicationMenu(applicationMenu());
  tray = trayIcon();
  show();
}

/** A VM's process, under Electron: a utility process, since the fuse against `ELECTRON_RUN_AS_NODE` rules out fork. */
const launch: NonNullable<ServiceOptions['launch']> = (entry, execArgv) => {
  const child = utilityProcess.fork(entry, [], { execArgv, serviceName: 'Vitrine VM', stdio: 'inherit' });
  return {
    get pid() {
      return child.pid;
    },
    send: (message) => child.postMessage(message),
    onMessage: (listener) => child.on('message', listener),
    onExit: (listener) => child.once('exit', (code) => listener(`exit code ${code}`)),
    kill: () => {
      // UtilityProcess.kill asks politely; a VM that doesn't listen has to go all the same.
      if (child.pid !== undefined) process.kill(child.pid, 'SIGKILL');
    },
  };
};

async function servePage(request: Request): Promise<Response> {
  const { host, pathname } = new URL(request.url);
  const file = host === 'vitrine' && request.method === 'GET' ? await staticFile(page, pathname) : null;
  if (!file) return new Response('There is nothing here.', { status: 404, headers: securityHeaders });
  return new Response(new Uint8Array(file.body), {
    headers: { ...securityHeaders, 'Content-Type': file.type },
  });
}

function portTransport(port: MessagePortMain): Transport {
  return {
    send: (message) => port.postMessage(message),
    onMessage: (listener) => {
      port.on('message', ({ data }) => listener(data));
      port.start();
    },
    onClose: (listener) => port.once('close', listener),
    close: () => port.close(),
  };
}

/** Brings the window to the front, making it if there is none. */
function show(): void {
  if (!service) return;
  if (window) {
    if (window.isMinimized()) window.restore();
    window.show();
    window.focus();
    return;
  }
  window = new BrowserWindow({
    ...rememberedBounds(),
    minWidth: 640,
    minHeight: 420,
    title: 'Vitrine',
    icon: asset('icons/vitrine.png'),
    webPreferences: {
      preload: join(import.meta.dirname, '..', 'preload', 'index.cjs'),
      contextIsolation: true,
      sandbox: true,
      nodeIntegration: false,
    },
  });
  window.on('close', () => window && rememberBounds(window));
  window.on('closed', () => (window = undefined));
  void window.loadURL(`${ORIGIN}/index.html`);
}

const bounds = z.object({
  x: z.number().int(),
  y: z.number().int(),
  width: z.number().int().min(640).max(16384),
  height: z.number().int().min(420).max(16384),
});
const boundsFile = () => join(app.getPath('userData'), 'window.json');

/** Where the window was, unless that place is on no screen any more. */
function rememberedBounds(): Partial<z.infer<typeof bounds>> {
  try {
    const last = bounds.parse(JSON.parse(readFileSync(boundsFile(), 'utf8')));
    const { workArea } = screen.getDisplayMatching(last);
    const seen =
      last.x < workArea.x + workArea.width &&
      last.x + last.width > workArea.x &&
      last.y < workArea.y + workArea.height &&
      last.y + last.height > workArea.y;
    return seen ? last : { width: last.width, height: last.height };
  } catch {
    return { width: 1180, height: 760 };
  }
}

function rememberBounds(of: BrowserWindow): void {
  try {
    mkdirSync(dirname(boundsFile()), { recursive: true });
    writeFileSync(boundsFile(), JSON.stringify(of.getNormalBounds()));
  } catch (error) {
    console.error(`The window's place could not be kept: ${(error as Error).message}`);
  }
}

function running(): number {
  return service?.list().filter(({ state }) => !['off', 'crashed', 'failed'].includes(state)).length ?? 0;
}

/** Asks before it pulls the plug of running VMs, and waits until they are gone. */
function beforeQuit(event: Electron.Event): void {
  if (!service) return;
  event.preventDefault();
  const count = running();
  if (count > 0) {
    const answer = dialog.showMessageBoxSync({
      type: 'warning',
      message: count === 1 ? 'A virtual machine is running.' : `${count} virtual machines are running.`,
      detail: 'Quitting powers off all of them at once, as pulling the plug does.',
      buttons: ['Power off and quit', 'Cancel'],
      defaultId: 1,
      cancelId: 1,
    });
    if (answer === 1) return;
  }
  const ending = service;
  service = undefined;
  tray?.destroy();
  void ending.close().finally(() => app.quit());
}

function trayIcon(): Tray {
  const icon = new Tray(nativeImage.createFromPath(asset('icons/tray.png')));
  icon.setToolTip('Vitrine');
  icon.setContextMenu(
    Menu.buildFromTemplate([
      { label: 'Show Vitrine', click: show },
      { type: 'separator' },
      { label: 'Quit', click: () => app.quit() },
    ]),
  );
  icon.on('click', show);
  return icon;
}

function applicationMenu(): Menu {
  const template: MenuItemConstructorOptions[] = [
    { role: 'fileMenu' },
    { role: 'editMenu' },
    {
      label: 'View',
      submenu: [
        { role: 'resetZoom' },
        { role: 'zoomIn' },
        { role: 'zoomOut' },
        { type: 'separator' },
        { role: 'togglefullscreen' },
        { role: 'toggleDevTools' },
      ],
    },
    { role: 'windowMenu' },
    { role: 'help', submenu: [{ label: 'About Vitrine', click: () => app.showAboutPanel() }] },
  ];
  if (process.platform === 'darwin') template.unshift({ role: 'appMenu' });
  return Menu.buildFromTemplate(template);
}
