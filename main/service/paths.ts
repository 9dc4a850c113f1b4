import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** What of the environment decides where things are. */
export interface Surroundings {
  env: Record<string, string | undefined>;
  platform: NodeJS.Platform;
  home: string;
}

const here = (): Surroundings => ({ env: process.env, platform: process.platform, home: homedir() });

/** The folder of the library: VITRINE_HOME, or where this system keeps the data of applications. */
export function libraryFolder({ env, platform, home }: Surroundings = here()): string {
  if (env.VITRINE_HOME) return env.VITRINE_HOME;
  if (platform === 'win32') return join(env.LOCALAPPDATA || join(home, 'AppData', 'Local'), 'Vitrine');
  if (platform === 'darwin') return join(home, 'Library', 'Application Support', 'Vitrine');
  return join(env.XDG_DATA_HOME || join(home, '.local', 'share'), 'vitrine');
}

/**
 * Where the service of a library listens for local programs. One name for each library; in the user's runtime folder
 * where there is one, because a socket's path may have 107 bytes only and a library's folder may be deep.
 */
export function localSocketPath(library: string, { env, platform }: Surroundings = here()): string {
  const name = `vitrine-${createHash('sha256').update(library).digest('hex').slice(0, 16)}`;
  if (platform === 'win32') return `\\\\.\\pipe\\${name}`;
  const runtime = env.XDG_RUNTIME_DIR;
  if (runtime && isFolder(runtime)) return join(runtime, `${name}.sock`);
  return join(library, 'socket');
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
