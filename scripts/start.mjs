// `npm start`: makes what is missing, then opens Vitrine's window; where there can't be one, serves it to a browser.
// Plain Node without dependencies, because they may not be installed yet.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** What a build is made from. */
const sources = [
  'main',
  'preload',
  'renderer',
  'native',
  'electron.config.ts',
  'package.json',
  'package-lock.json',
];

/** An Electron that ends this soon with an error never showed a window, in milliseconds. */
const EARLY_END = 5000;

/**
 * What there is to do before Vitrine can start. Times are in milliseconds since the epoch, 0 for a missing file.
 * @param {{ installed: number, lockfile: number, built: number, newestSource: number }} times
 */
export function preparations({ installed, lockfile, built, newestSource }) {
  const steps = [];
  if (installed === 0 || installed < lockfile) steps.push('install');
  if (built === 0 || built < newestSource || steps.length > 0) steps.push('build');
  return steps;
}

/**
 * Why there can't be a window, as one sentence; null when there can.
 * @param {{ platform: string, env: Record<string, string | undefined>, uid: number | undefined }} host
 */
export function windowProblem({ platform, env, uid }) {
  if (!['linux', 'darwin', 'win32'].includes(platform)) return `Electron has no build for ${platform}.`;
  if (platform === 'linux' && !env.DISPLAY && !env.WAYLAND_DISPLAY) {
    return 'There is no display here (DISPLAY and WAYLAND_DISPLAY are not set).';
  }
  if (platform === 'linux' && uid === 0) return "Electron's sandbox does not work for root.";
  return null;
}

/** The path of Electron's program, or null when npm has only its package yet: the program is a download of its own. */
export function electronProgram(folder = root) {
  const home = join(folder, 'node_modules', 'electron');
  try {
    const program = join(home, 'dist', readFileSync(join(home, 'path.txt'), 'utf8').trim());
    return existsSync(program) ? program : null;
  } catch {
    return null;
  }
}

/** The time of the newest file in `path`, or of the file itself; 0 when there is none. */
export function newest(path) {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) return 0;
  if (!stats.isDirectory()) return stats.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}

function run(command, args, what) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    // On Windows npm is a script, which needs a shell.
    shell: process.platform === 'win32' && command === 'npm',
  });
  if (status === 0) return;
  console.error(`${what} failed${error ? `: ${error.message}` : ''}. What it said is above.`);
  process.exit(1);
}

function prepare() {
  const at = (name) => join(root, name);
  const steps = preparations({
    installed: newest(at('node_modules/.package-lock.json')),
    lockfile: newest(at('package-lock.json')),
    built: newest(at('out/renderer/index.html')),
    newestSource: Math.max(...sources.map((name) => newest(at(name)))),
  });
  if (steps.includes('install')) {
    console.log("Installing Vitrine's dependencies (once).");
    run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci');
  }
  if (steps.includes('build')) {
    console.log('Building Vitrine.');
    run('npm', ['run', '--silent', 'build', '--', '--logLevel=warn'], 'The build');
  }
}

/** Fetches Electron's program if it isn't there. Null: it can't be had, and the reason was printed. */
function fetchElectron() {
  const present = electronProgram();
  if (present) return present;
  console.log("Fetching Electron's program (once, about 100 MB).");
  const { status } = spawnSync(process.execPath, [join(root, 'node_modules/electron/install.js')], {
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  return status === 0 ? electronProgram() : null;
}

/** Runs a program until it ends, and hands signals on to it. */
function follow(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit' });
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    // A terminal's Ctrl-C reaches the child by itself; staying alive here lets it end in peace.
    const hand = (signal) => signal !== 'SIGINT' && child.kill(signal);
    for (const signal of signals) process.on(signal, hand);
    const end = (status) => {
      for (const signal of signals) process.off(signal, hand);
      resolve(status);
    };
    child.once('error', (error) => {
      console.error(error.message);
      end(1);
    });
    child.once('exit', (code, signal) => end(code ?? (signal === 'SIGINT' ? 130 : 143)));
  });
}

async function main(args) {
  prepare();
  const serve = () => follow(process.execPath, [join(root, 'out/main/serve.js'), ...args]);
  // Arguments are those of `vitrine serve`: who gives some wants it.
  if (args.length > 0) return serve();
  let problem = windowProblem({
    platform: process.platform,
    env: process.env,
    uid: process.getuid?.(),
  });
  if (!problem) {
    const electron = fetchElectron();
    if (electron) {
      const began = Date.now();
      const status = await follow(electron, ['.']);
      if (status === 0 || Date.now() - began > EARLY_END) return status;
      problem = `Electron ended at once with status ${status}.`;
    } else {
      problem = "Electron's program could not be fetched (node node_modules/electron/install.js says why).";
    }
  }
  console.log(`${problem} Serving the window to a browser instead; Ctrl-C ends it.`);
  return serve();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main(process.argv.slice(2));
