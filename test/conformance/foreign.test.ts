import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kvmBackend, refused } from '../../native/libnvmm/backends.ts';
import { LibraryError, openLibraryFile } from '../../native/libnvmm/library.ts';

// Libraries and devices that are not what they should be. What is wrong is said in a sentence, before anything is used.

const compiler = process.env.CC ?? 'cc';
const unix = process.platform === 'linux' && spawnSync(compiler, ['--version']).status === 0;

interface Foreign {
  name: string;
  system: string;
  version: number;
  size: number;
  stop: boolean;
  init?: number;
  stateSize?: number;
  /** Null: it is taken. */
  said: RegExp | null;
}

const foreigners: Foreign[] = [
  { name: "NetBSD's", system: 'netbsd', version: 2, size: 104, stop: true, said: null },
  { name: "DragonFly's", system: 'dragonfly', version: 3, size: 112, stop: false, said: null },
  { name: "Haiku's", system: 'haiku', version: 3, size: 112, stop: false, said: null },
  {
    name: "DragonFly's on NetBSD",
    ...{ system: 'netbsd', version: 3, size: 112, stop: false },
    said: /has no nvmm_vcpu_stop: it is the library of another system or version/,
  },
  {
    name: "NetBSD's on Haiku",
    ...{ system: 'haiku', version: 2, size: 104, stop: true },
    said: /speaks version 2 with 1008 bytes of state, and version 3 with 1008 is wanted/,
  },
  {
    name: 'the next version',
    ...{ system: 'netbsd', version: 4, size: 104, stop: true },
    said: /speaks version 4/,
  },
  {
    name: 'a state that has grown',
    ...{ system: 'netbsd', version: 2, size: 104, stop: true, stateSize: 1024 },
    said: /with 1024 bytes of state/,
  },
  {
    name: 'a longer capability',
    ...{ system: 'netbsd', version: 2, size: 112, stop: true },
    said: /does not have 104 bytes: it is another system's/,
  },
  {
    name: 'a shorter capability',
    ...{ system: 'dragonfly', version: 3, size: 104, stop: true },
    said: /does not have 112 bytes/,
  },
  {
    name: 'no device',
    ...{ system: 'netbsd', version: 2, size: 104, stop: true, init: 2 },
    said: /nvmm_init fails with errno 2: look at \/dev\/nvmm/,
  },
  {
    name: 'no permission',
    ...{ system: 'haiku', version: 3, size: 112, stop: false, init: 13 },
    said: /errno 13: look at \/dev\/misc\/nvmm/,
  },
  {
    name: 'one without our own functions',
    ...{ system: 'linux', version: 2, size: 104, stop: true },
    said: /has no nvmm_linux_reason: it was built from other sources. Run "npm run build:native" again/,
  },
];

describe('a library of somebody else', () => {
  let folder = '';
  beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'vitrine-foreign-'))));
  afterAll(() => rmSync(folder, { recursive: true }));

  function attempt(system: string, file: string): string | null {
    try {
      openLibraryFile(system, file);
      return null;
    } catch (error) {
      expect(error).toBeInstanceOf(LibraryError);
      return (error as LibraryError).message;
    }
  }

  it.for(foreigners)('$name', (one, { skip }) => {
    if (!unix) skip('it is compiled on Linux, where there is a C compiler');
    const file = join(folder, `${one.name.replaceAll(/\W/g, '-')}.so`);
    const defines = [
      `-DVERSION=${one.version}`,
      `-DCAPABILITY_SIZE=${one.size}`,
      `-DINIT=${one.init ?? 0}`,
      `-DSTATE_SIZE=${one.stateSize ?? 1008}`,
      ...(one.stop ? ['-DWITH_STOP'] : []),
    ];
    const source = join(import.meta.dirname, 'foreign.c');
    const { status } = spawnSync(compiler, ['-shared', '-fPIC', ...defines, '-o', file, source]);
    expect(status).toBe(0);
    const said = attempt(one.system, file);
    if (one.said === null) expect(said).toBeNull();
    else expect(said).toMatch(one.said);
  });

  it('a file that is no library', ({ skip }) => {
    if (process.platform !== 'linux') skip('the message is that of Linux');
    const file = join(folder, 'text.so');
    writeFileSync(file, 'not a library\n');
    expect(attempt('netbsd', file)).toMatch(/can't be loaded \(.*text\.so.*\)/);
  });

  it('no file, no such system', () => {
    expect(attempt('netbsd', join(folder, 'absent.so'))).toMatch(/can't be loaded/);
    expect(attempt('plan9', 'libnvmm.so')).toBe('there is no libnvmm for plan9.');
  });
});

describe('a device', () => {
  it('that does not exist', () => {
    expect(refused('/dev/no-such-nvmm')).toBe('/dev/no-such-nvmm does not exist: load the nvmm module.');
  });

  it('that this user may not open', ({ skip }) => {
    if (process.getuid?.() !== 0 || kvmBackend.unavailable() !== null) {
      skip('only root can be somebody else, and /dev/kvm must be there');
    }
    // In a process of its own, since a user who has left root can't come back.
    const module = join(import.meta.dirname, '../../native/libnvmm/backends.ts');
    const script = `import(${JSON.stringify(module)}).then(({ kvmBackend }) => {
      process.setgroups([]); process.setgid(65534); process.setuid(65534);
      console.log(kvmBackend.unavailable());
    })`;
    const { stdout } = spawnSync(process.execPath, ['--import', 'tsx', '--eval', script], {
      encoding: 'utf8',
    });
    expect(stdout).toBe('/dev/kvm: permission denied. Add yourself to the group kvm, and log in again.\n');
  });
});
