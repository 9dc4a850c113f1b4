import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';

/**
 * Where things are, from the sources (vitest, tsx) as well as from the bundle: a module of ours lies somewhere
 * below a folder called `main`, which is main/ of the repository or out/main/ of the build.
 */

/** Beside the modules of the build; electron.config.ts writes it. */
export const PREBUILT_FILE = 'handlers.json';

/** A module that runs in a process of its own. */
export interface Entry {
  path: string;
  execArgv: string[];
}

function mainFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!folder.endsWith('/main') && !folder.endsWith('\\main')) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('this module is not below a folder called main');
    folder = parent;
  }
  return folder;
}

/** The module of that name: as built, or else its source. */
function locate(name: 'process' | 'vcpu' | 'snapshot' | 'lockstep', source = `machine/${name}`): string {
  const main = mainFolder();
  const built = join(main, `${name}.js`);
  return existsSync(built) ? built : join(main, `${source}.ts`);
}

/** What the build has generated for the emulator; null: this is no build. */
export function prebuiltFile(): string | null {
  const file = join(mainFolder(), PREBUILT_FILE);
  return existsSync(file) ? file : null;
}

/** The URL of a file of tsx, which runs the sources of a clone that was not built. */
function tsx(file: string): string {
  const home = dirname(createRequire(import.meta.url).resolve('tsx/package.json'));
  return pathToFileURL(join(home, 'dist', file)).href;
}

/** The VM's process. */
export function findProcess(): Entry {
  const path = locate('process');
  return { path, execArgv: path.endsWith('.ts') ? ['--import', tsx('loader.mjs')] : [] };
}

/** A vCPU's thread that waits for its orders. */
let waiting: Worker | null = null;

/** Starts the thread of the first vCPU: its modules are loaded while the machine is being made. */
export function prepareVcpuThread(): void {
  waiting ??= startThread(locate('vcpu'), null);
}

/** A vCPU's thread with its orders, which are the first message that it gets. */
export function startVcpuThread(orders: unknown): Worker {
  const thread = waiting ?? startThread(locate('vcpu'), null);
  waiting = null;
  thread.postMessage(orders);
  return thread;
}

/** Starts the thread that writes or checks a snapshot's memory. */
export function startSnapshotThread(workerData: unknown): Worker {
  return startThread(locate('snapshot', 'machine/snapshot/thread'), workerData);
}

/** Starts the thread that two backends run on in lockstep. */
export function startLockstepThread(workerData: unknown): Worker {
  return startThread(locate('lockstep', 'inspect/lockstep-thread'), workerData);
}

/** Starts a module in a thread. A source registers tsx there first: threads of Node 20 don't take it over. */
export function startThread(path: string, workerData: unknown): Worker {
  if (!path.endsWith('.ts')) return new Worker(path, { workerData });
  const [api, module] = [tsx('esm/api/index.mjs'), pathToFileURL(path).href].map((url) =>
    JSON.stringify(url),
  );
  const code = `import(${api}).then(({ register }) => { register(); return import(${module}); })`;
  return new Worker(code, { eval: true, workerData });
}

/** The folder with package.json: assets/ and out/ are in it. */
export function rootFolder(): string {
  let folder = dirname(mainFolder());
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('there is no package.json above this module');
    folder = parent;
  }
  return folder;
}
