import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { kvmBackend } from '../../native/libnvmm/backends.ts';

// The C library's own tests (native/libnvmm-linux/test), as `make test` runs them.

const folder = join(import.meta.dirname, '../../native/libnvmm-linux');
const makefile = readFileSync(join(folder, 'Makefile'), 'utf8');
const programs = /^TESTS = (.*)$/m.exec(makefile)![1].split(' ');

function missing(): string | null {
  for (const tool of [process.env.CC ?? 'cc', 'make']) {
    if (spawnSync(tool, ['--version'], { stdio: 'ignore' }).status !== 0) return `there is no ${tool} here`;
  }
  return kvmBackend.unavailable();
}
const reason =
  process.platform === 'linux' && process.arch === 'x64' ? missing() : 'it is for Linux on x86-64';

describe('libnvmm for Linux, in C', () => {
  beforeAll(() => {
    if (reason !== null) return;
    const targets = programs.map((name) => `build/test-${name}`);
    const { status, stderr } = spawnSync('make', ['-s', '-C', folder, ...targets], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });

  it.for(programs)('%s', (name, { skip }) => {
    if (reason !== null) skip(reason);
    const { status, stdout, stderr } = spawnSync(join(folder, 'build', `test-${name}`), { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const skipped = /skipped: (.*)/.exec(stdout);
    if (skipped !== null) skip(skipped[1]);
    expect(stdout).toMatch(new RegExp(`^${name}: `));
  });

  it('installs under the prefix that is asked for', ({ skip }) => {
    if (reason !== null) skip(reason);
    const target = mkdtempSync(join(tmpdir(), 'vitrine-install-'));
    try {
      const places = [`DESTDIR=${target}`, 'PREFIX=/opt/nvmm'];
      const { status, stderr } = spawnSync('make', ['-s', '-C', folder, 'install', ...places], {
        encoding: 'utf8',
      });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const read = (file: string): string => readFileSync(join(target, 'opt/nvmm', file), 'latin1');
      expect(read('lib/libnvmm.so')).toMatch(/^\x7fELF/);
      expect(read('include/nvmm.h')).toContain('nvmm_vcpu_stop');
      expect(read('lib/pkgconfig/nvmm.pc')).toContain('prefix=/opt/nvmm\n');
    } finally {
      rmSync(target, { recursive: true });
    }
  });
});
