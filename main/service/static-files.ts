import { readFile, realpath } from 'node:fs/promises';
import { extname, join, resolve, sep } from 'node:path';

/** The kinds of file that a build of the renderer has. Anything else isn't served. */
const types: Record<string, string> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
};

export interface StaticFile {
  type: string;
  body: Buffer;
}

/**
 * The file that a URL's path names in `root`, or null. The path is decoded once, must stay in `root` by its text, and
 * the file that it leads to must really lie there, whatever links say.
 */
export async function staticFile(root: string, urlPath: string): Promise<StaticFile | null> {
  let path: string;
  try {
    path = decodeURIComponent(urlPath);
  } catch {
    return null;
  }
  if (!path.startsWith('/') || /[\0\\]/.test(path) || path.split('/').includes('..')) return null;
  if (path === '/') path = '/index.html';
  const type = types[extname(path)];
  if (type === undefined) return null;
  try {
    const base = await realpath(resolve(root));
    const file = await realpath(join(base, path));
    if (!file.startsWith(base + sep)) return null;
    return { type, body: await readFile(file) };
  } catch {
    return null;
  }
}
