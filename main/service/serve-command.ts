import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ServiceError } from './errors.ts';
import { HttpFrontEnd } from './http.ts';
import { LocalSocket } from './local-socket.ts';
import { libraryFolder, localSocketPath } from './paths.ts';
import { Service } from './service.ts';
import { accessToken } from './token.ts';

/** Beside 8006 of Proxmox: a port that nothing registered is likely to hold on a desktop. */
const DEFAULT_PORT = 8006;

const usage = `Usage: vitrine serve [--host ADDRESS] [--port N]

Serves the window to a browser, and keeps the VMs, until it is interrupted (Ctrl-C).
  --host ADDRESS   where to listen (default 127.0.0.1: this computer only)
  --port N         TCP port (default ${DEFAULT_PORT}, or the next free one)
  --help           this text

The library is in VITRINE_HOME, or where this system keeps the data of applications.
`;

interface ServeOptions {
  host: string;
  port: number | undefined;
}

/** `vitrine serve`. Resolves with an exit status: 0 after an interrupt, 1 for a host's error, 2 for wrong usage. */
export async function serveCommand(args: string[]): Promise<number> {
  let options: ServeOptions | 'help';
  try {
    options = parseServeArgs(args);
  } catch (error) {
    process.stderr.write(`vitrine serve: ${(error as Error).message}\n\n${usage}`);
    return 2;
  }
  if (options === 'help') {
    process.stdout.write(usage);
    return 0;
  }
  try {
    await serve(options);
    return 0;
  } catch (error) {
    process.stderr.write(`vitrine serve: ${(error as Error).message}\n`);
    return 1;
  }
}

export function parseServeArgs(args: string[]): ServeOptions | 'help' {
  const { values } = parseArgs({
    args,
    options: { host: { type: 'string' }, port: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) return 'help';
  const { host = '127.0.0.1', port } = values;
  if (port !== undefined && (!/^\d{1,5}$/.test(port) || Number(port) > 65535)) {
    throw new Error(`--port ${port}: a number from 0 to 65535 is wanted`);
  }
  return { host, port: port === undefined ? undefined : Number(port) };
}

async function serve({ host, port }: ServeOptions): Promise<void> {
  const page = pageFolder();
  const folder = libraryFolder();
  const service = await Service.open({ folder });
  // Whatever ends this process, no VM outlives it.
  const kill = () => service.kill();
  process.once('exit', kill);
  try {
    const token = await accessToken(folder);
    const local = await LocalSocket.open(localSocketPath(folder), service);
    const http = await HttpFrontEnd.open(service, {
      host,
      port: port ?? DEFAULT_PORT,
      orNext: port === undefined,
      token,
      page,
    }).catch(async (error: unknown) => {
      await local.close();
      throw error;
    });
    process.stdout.write(`Vitrine is at ${http.url}\n`);
    if (!isLoopback(http.address)) {
      process.stderr.write(
        'Others can reach this address, and what travels is not encrypted: who reads it can use the token.\n' +
          'Better: listen at 127.0.0.1, and reach it through ssh -L.\n',
      );
    }
    await interrupted();
    process.stdout.write('Powering off the VMs.\n');
    await http.close();
    await local.close();
  } finally {
    await service.close();
    process.off('exit', kill);
  }
}

/** The built page: out/renderer in the clone's folder, whether we run from out/ or from source. */
function pageFolder(): string {
  for (
    let folder = dirname(fileURLToPath(import.meta.url));
    folder !== dirname(folder);
    folder = dirname(folder)
  ) {
    const page = join(folder, 'out', 'renderer');
    if (existsSync(join(page, 'index.html'))) return page;
  }
  throw new ServiceError('host', 'The page has not been built. Run: npm run build');
}

function isLoopback(address: string): boolean {
  const { hostname } = new URL(address);
  return hostname.startsWith('127.') || hostname === '[::1]';
}

/** Resolves at the first request to end. A second one ends the process at once: its exit handler kills the VMs. */
function interrupted(): Promise<void> {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  return new Promise((resolve) => {
    let asked = false;
    const ask = (signal: (typeof signals)[number]) => {
      if (asked) process.exit(signal === 'SIGINT' ? 130 : 143);
      asked = true;
      resolve();
    };
    for (const signal of signals) process.on(signal, ask);
  });
}
