import { afterEach, describe, expect, it } from 'vitest';
import { backends } from '../../../main/machine/backends.ts';
import { MachineProcess } from '../../../main/machine/machine-process.ts';
import type { BackendChoice } from '../../../main/machine/protocol.ts';
import { Console } from './console.ts';

const here = backends.filter((backend) => backend.unavailable() === null).map(({ name }) => name);
const machine = new MachineProcess();
const config = { name: 'calc', guest: { kind: 'calc' }, memory: 8 * 2 ** 20, vcpus: 1, disks: [] } as const;

afterEach(() => machine.powerOff());

async function move(to: BackendChoice): Promise<void> {
  await machine.pause();
  await machine.ask('backend.switch', { backend: to });
  expect(machine.status).toMatchObject({ state: 'paused', backend: to });
  await machine.resume();
}

describe('a machine switches its backend', () => {
  const others = here.filter((name) => name !== 'emulated');
  it.each(others)('emulated, %s, emulated: in the middle of a line of input', async (other) => {
    const console = new Console(machine.serial[0]);
    await machine.start({ ...config, disks: [], backend: 'emulated' });
    await console.wait('\n> ');
    console.type('12 *');
    await console.wait('12 *');
    await move(other);
    console.type(' (3');
    await console.wait(' (3');
    await move('emulated');
    console.type(' + 4)\r');
    await console.wait('84');
    await move(other);
    console.type('2 + 2\r');
    await console.wait('4\r\n');
  });

  it('refuses one that is not there, and goes on', async () => {
    const console = new Console(machine.serial[0]);
    await machine.start({ ...config, disks: [], backend: 'emulated' });
    await machine.pause();
    const missing = backends.find((backend) => backend.unavailable() !== null);
    if (missing !== undefined) {
      await expect(machine.ask('backend.switch', { backend: missing.name })).rejects.toThrow('not available');
    }
    await machine.resume();
    await expect(machine.ask('backend.switch', { backend: 'emulated' })).rejects.toThrow('running');
    await console.wait('\n> ');
  });
});
