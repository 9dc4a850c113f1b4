import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { electronProgram, newest, preparations, windowProblem } from '../../../scripts/start.mjs';
import { temporaryFolder } from './fakes.ts';

test.each([
  {
    name: 'a fresh clone',
    times: { installed: 0, lockfile: 5, built: 0, newestSource: 5 },
    wanted: ['install', 'build'],
  },
  { name: 'all there', times: { installed: 6, lockfile: 5, built: 8, newestSource: 7 }, wanted: [] },
  {
    name: 'a changed source',
    times: { installed: 6, lockfile: 5, built: 8, newestSource: 9 },
    wanted: ['build'],
  },
  {
    name: 'other dependencies',
    times: { installed: 6, lockfile: 7, built: 8, newestSource: 7 },
    wanted: ['install', 'build'],
  },
  { name: 'no build', times: { installed: 6, lockfile: 5, built: 0, newestSource: 5 }, wanted: ['build'] },
])('with $name npm start does $wanted first', ({ times, wanted }) => {
  expect(preparations(times)).toEqual(wanted);
});

const display = { DISPLAY: ':0' };
test.each([
  { name: 'Linux with X11', host: { platform: 'linux', env: display, uid: 1000 }, wanted: null },
  {
    name: 'Linux with Wayland',
    host: { platform: 'linux', env: { WAYLAND_DISPLAY: 'wayland-0' }, uid: 1000 },
    wanted: null,
  },
  {
    name: 'Linux without a display',
    host: { platform: 'linux', env: { DISPLAY: '' }, uid: 1000 },
    wanted: /no display/,
  },
  { name: 'root', host: { platform: 'linux', env: display, uid: 0 }, wanted: /root/ },
  { name: 'NetBSD', host: { platform: 'netbsd', env: display, uid: 1000 }, wanted: /no build for netbsd/ },
  { name: 'macOS', host: { platform: 'darwin', env: {}, uid: 501 }, wanted: null },
  { name: 'Windows', host: { platform: 'win32', env: {}, uid: undefined }, wanted: null },
])('$name', ({ host, wanted }) => {
  const problem = windowProblem(host);
  if (wanted === null) expect(problem).toBeNull();
  else expect(problem).toMatch(wanted);
});

test("Electron's program is there only when its file is", () => {
  const folder = temporaryFolder();
  const home = join(folder, 'node_modules', 'electron');
  expect(electronProgram(folder)).toBeNull();
  mkdirSync(join(home, 'dist'), { recursive: true });
  writeFileSync(join(home, 'path.txt'), 'electron\n');
  expect(electronProgram(folder)).toBeNull();
  writeFileSync(join(home, 'dist', 'electron'), '');
  expect(electronProgram(folder)).toBe(join(home, 'dist', 'electron'));
});

test('the newest file of a folder is found at any depth', () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'a', 'b'), { recursive: true });
  for (const [name, seconds] of [
    ['a/old', 1000],
    ['a/b/new', 3000],
    ['middle', 2000],
  ] as const) {
    writeFileSync(join(folder, name), '');
    utimesSync(join(folder, name), seconds, seconds);
  }
  expect(newest(folder)).toBe(3_000_000);
  expect(newest(join(folder, 'none'))).toBe(0);
});
