import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { answerAll } from './calc-cases.ts';
import { Session } from './session.ts';

// The calculator is tested on somebody else's machine first, so that a fault of it isn't taken for one of ours.
const QEMU = 'qemu-system-x86_64';
const missing = spawnSync(QEMU, ['--version']).status === 0 ? '' : ` (${QEMU} is not installed)`;

describe.runIf(missing === '')(`calc on QEMU${missing}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-calc-'));
  const kernel = join(folder, 'calc.elf');
  const sessions: Session[] = [];

  beforeAll(() => {
    const source = new URL('../../assets/guests/calc/calc.asm', import.meta.url);
    writeFileSync(kernel, assemble(readFileSync(source, 'utf8')).bytes);
  });
  afterAll(() => {
    for (const session of sessions) session.kill();
    rmSync(folder, { recursive: true });
  });

  function boot(...more: string[]): Session {
    const options = '-accel tcg -m 16 -nodefaults -no-user-config -display none -serial stdio -no-reboot';
    const child = spawn(QEMU, [...options.split(' '), '-kernel', kernel, ...more]);
    const session = new Session(child);
    sessions.push(session);
    return session;
  }

  it('answers, and quit powers off', async () => {
    const session = boot();
    await answerAll(session);
    expect(await session.ended).toBe(0);
  });

  it('loses nothing of what is pasted', async () => {
    const session = boot();
    await session.waitFor('> ');
    const sums = Array.from({ length: 200 }, (_, i) => i);
    session.type(sums.map((i) => `${i}*1000\r`).join(''));
    for (const i of sums) await session.waitFor(`*1000\r\n${i * 1000}\r\n> `);
    session.type('quit\r');
    expect(await session.ended).toBe(0);
  });

  it('reports an exception and halts', async () => {
    const session = boot();
    await session.waitFor('> ');
    session.type('crash\r');
    await session.waitFor('exception 6, error code 0x0000000000000000');
    const report = await session.waitFor('Halted.');
    expect(report).toMatch(/rip 00000000001[0-9a-f]{5} rfl 0{13}[0-9a-f]{3} cr2 0{16} cr3 0000000000104000/);
  });

  it('turns itself off when the power button is pressed', async () => {
    const session = boot('-qmp', `unix:${folder}/qmp,server=on,wait=off`);
    await session.waitFor('> ');
    const { createConnection } = await import('node:net');
    const monitor = createConnection(`${folder}/qmp`);
    monitor.write('{"execute":"qmp_capabilities"}{"execute":"system_powerdown"}');
    await session.waitFor('The power button was pressed.');
    expect(await session.ended).toBe(0);
    monitor.destroy();
  });
});
