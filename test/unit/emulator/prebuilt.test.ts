import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { prebuild } from '../../../main/emulator/prebuilt.ts';
import { PREBUILT_FILE, rootFolder } from '../../../main/machine/entry.ts';

const file = join(rootFolder(), 'out/main', PREBUILT_FILE);

describe('modules that the build generates', () => {
  it('are the library, what is fixed, and the sets of usual instructions', () => {
    const names = [...prebuild().keys()].map((key) => key.split(':')[0].replace(/\d+/, 'N'));
    expect(names).toEqual(['library', 'fixed', 'set to N', 'set to N']);
  });

  it.skipIf(!existsSync(file))('are those of the sources (skipped: nothing was built)', () => {
    const built = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
    const generated = prebuild();
    expect(Object.keys(built)).toEqual([...generated.keys()]);
    const others = [...generated].filter(([key, bytes]) =>
      Buffer.compare(Buffer.from(built[key], 'base64'), bytes),
    );
    expect(others.map(([key]) => key)).toEqual([]);
  });
});
