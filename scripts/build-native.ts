/** Builds our libnvmm for Linux where there is a C compiler: native/libnvmm-linux to out/native/libnvmm.so. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..');
const source = join(root, 'native', 'libnvmm-linux');

function missing(): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'it is for Linux on x86-64';
  for (const tool of [process.env.CC ?? 'cc', 'make']) {
    if (spawnSync(tool, ['--version'], { stdio: 'ignore' }).status !== 0) return `there is no ${tool} here`;
  }
  return null;
}

const why = missing();
if (why !== null) {
  console.log(`libnvmm: not built (${why}); machines run on the other backends.`);
} else {
  const { status } = spawnSync('make', ['-s', '-C', source], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
  const target = join(root, 'out', 'native', 'libnvmm.so');
  mkdirSync(join(root, 'out', 'native'), { recursive: true });
  // Renamed, not written over: a running machine has the old one mapped.
  copyFileSync(join(source, 'build', 'libnvmm.so'), `${target}.new`);
  renameSync(`${target}.new`, target);
  console.log(target);
}
