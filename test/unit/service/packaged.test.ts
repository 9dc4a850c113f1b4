import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kvmBackend } from '../../../native/libnvmm/backends.ts';

// What electron-builder makes of a build, with a stand-in for Electron's program, which is no part of what is looked at
// here. Node can't look into an archive as Electron does, so the packed program runs from its unpacked contents.

const root = join(import.meta.dirname, '../../..');
const library = join(root, 'native/libnvmm-linux/build/libnvmm.so');

function missing(): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the stand-in is for Linux on x86-64';
  const needed = ['out/main/cli.js', 'out/guests/calc.elf'].find((file) => !existsSync(join(root, file)));
  return needed === undefined ? null : `${needed} is missing: npm run build`;
}

/** The bytes in an Electron program that electron-builder looks for and sets: a mark, version, count, and the fuses. */
const FUSES = 'dL7pKGdnNz796PbbjQWNKmHXBZaB9tsX\x01\x09111111111';

/** A folder like that of an Electron, with a program that does nothing. */
function standIn(folder: string): void {
  mkdirSync(join(folder, 'resources'), { recursive: true });
  for (const name of ['version', 'LICENSE', 'LICENSES.chromium.html', 'chrome-sandbox']) {
    writeFileSync(join(folder, name), '');
  }
  writeFileSync(join(folder, 'electron'), `#!/bin/false\n${FUSES}\n`, 'latin1');
  chmodSync(join(folder, 'electron'), 0o755);
}

/** An entry of an archive's header: a folder, or a file in the archive or beside it. */
interface Entry {
  files?: Record<string, Entry>;
  unpacked?: boolean;
  size?: number;
  offset?: string;
}

/** Every file of an archive, by its path; those that lie beside it have no bytes. */
function readArchive(file: string): Map<string, Buffer | null> {
  const bytes = readFileSync(file);
  const start = 8 + bytes.readUInt32LE(4);
  const header = JSON.parse(bytes.toString('utf8', 16, 16 + bytes.readUInt32LE(12))) as Entry;
  const found = new Map<string, Buffer | null>();
  const walk = (entry: Entry, path: string): void => {
    for (const [name, inner] of Object.entries(entry.files ?? {})) walk(inner, join(path, name));
    if (entry.files !== undefined || entry.size === undefined) return;
    const from = start + Number(entry.offset ?? 0);
    found.set(path, entry.unpacked === true ? null : bytes.subarray(from, from + entry.size));
  };
  walk(header, '');
  return found;
}

describe('a build without a C compiler', () => {
  it('goes on, and says so', ({ skip }) => {
    if (process.platform !== 'linux' || process.arch !== 'x64') skip('libnvmm is for Linux on x86-64');
    const { status, stdout } = spawnSync(
      process.execPath,
      ['--import', 'tsx', join(root, 'scripts/build-native.ts')],
      { cwd: root, encoding: 'utf8', env: { ...process.env, CC: '/no/such/compiler' } },
    );
    expect(stdout).toBe(
      'libnvmm: not built (there is no /no/such/compiler here); machines run on the other backends.\n',
    );
    expect(status).toBe(0);
  });
});

describe('a packaged build', () => {
  const why = missing();
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-packaged-'));
  const packed = join(folder, 'packed', 'linux-unpacked');
  const resources = join(packed, 'resources');
  const app = join(folder, 'app');
  let archive = new Map<string, Buffer | null>();

  /** The packed command, where the program's own folder of resources is that of the package. */
  function vitrine(args: readonly string[], input = ''): { stdout: string; stderr: string } {
    const told = `data:text/javascript,process.resourcesPath=${JSON.stringify(resources)}`;
    const options = { encoding: 'utf8', input, timeout: 60_000 } as const;
    return spawnSync(process.execPath, ['--import', told, join(app, 'out/main/cli.js'), ...args], options);
  }

  beforeAll(() => {
    if (why !== null) return;
    standIn(join(folder, 'electron'));
    const builder = join(root, 'node_modules/electron-builder/cli.js');
    const settings = [
      `electronDist=${join(folder, 'electron')}`,
      `directories.output=${join(folder, 'packed')}`,
      'npmRebuild=false',
    ];
    const options = settings.map((setting) => `-c.${setting}`);
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [builder, '--linux', 'dir', '--x64', ...options],
      { cwd: root, encoding: 'utf8' },
    );
    expect(status, stdout + stderr).toBe(0);
    archive = readArchive(join(resources, 'app.asar'));
    for (const [path, bytes] of archive) {
      if (bytes === null) continue;
      mkdirSync(join(app, path, '..'), { recursive: true });
      writeFileSync(join(app, path), bytes);
    }
    cpSync(join(resources, 'app.asar.unpacked'), app, { recursive: true });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('has the program in its archive, and no native code', ({ skip }) => {
    if (why !== null) skip(why);
    expect([...archive.keys()]).toContain('out/main/index.js');
    const native = [...archive].filter(([path]) => /\.(so|node)$/.test(path));
    expect(native.length).toBeGreaterThan(0);
    for (const [path, bytes] of native) {
      expect({ path, inside: bytes !== null }).toEqual({ path, inside: false });
    }
  });

  it('has the fuses set that the configuration asks for', ({ skip }) => {
    if (why !== null) skip(why);
    const program = readFileSync(join(packed, 'vitrine'), 'latin1');
    const fuses = program.slice(program.indexOf(FUSES.slice(0, 32)) + 34).slice(0, 9);
    // In the order of @electron/fuses: run as Node, cookies, NODE_OPTIONS, inspect, integrity, archive only, ...
    expect(fuses.slice(0, 6)).toBe('010011');
  });

  it('runs a guest', ({ skip }) => {
    if (why !== null) skip(why);
    const { stdout } = vitrine(['run', '--guest', 'calc', '--backend', 'emulated'], '6*7\nquit\n');
    expect(stdout).toContain('42');
  });

  it('has our libnvmm as a file of its own, and finds it there', ({ skip }) => {
    if (why !== null) skip(why);
    if (!existsSync(library)) skip('libnvmm has not been built: there is no C compiler here');
    const file = join(resources, 'libnvmm', 'libnvmm.so');
    expect(readFileSync(file).equals(readFileSync(library))).toBe(true);
    const { stdout } = vitrine(['doctor']);
    expect(stdout).not.toContain('has not been built');
    const unavailable = kvmBackend.unavailable();
    if (unavailable !== null) skip(unavailable);
    expect(stdout).toMatch(/yes {2}kvm +works/);
  });

  it('says what is missing without it', ({ skip }) => {
    if (why !== null) skip(why);
    if (!existsSync('/dev/kvm')) skip('/dev/kvm does not exist, which is said first');
    rmSync(join(resources, 'libnvmm'), { recursive: true, force: true });
    const { stdout } = vitrine(['doctor']);
    expect(stdout).toMatch(/no {3}kvm +our libnvmm for Linux has not been built/);
    expect(stdout).toMatch(/yes {2}emulated +works/);
  });
});
