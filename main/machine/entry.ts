import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * Where things are, from the sources (vitest, tsx) as well as from the bundle: a module of ours lies somewhere
 * below a folder called `main`, which is main/ of the repository or out/main/ of the build.
 */

/** A module that runs in a process or a thread of its own. */
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

/** The VM's process, or a vCPU's thread. */
export function findEntry(name: 'process' | 'vcpu'): Entry {
  const main = mainFolder();
  const built = join(main, `${name}.js`);
  if (existsSync(built)) return { path: built, execArgv: [] };
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  return { path: join(main, 'machine', `${name}.ts`), execArgv: ['--import', loader] };
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
