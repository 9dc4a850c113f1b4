import { expect, it } from 'vitest';
import { findProcess } from '../../../main/machine/entry.ts';
import { forkAhead, forkLauncher } from '../../../main/machine/launcher.ts';
import { MachineProcess } from '../../../main/machine/machine-process.ts';

const { path, execArgv } = findProcess();
const gone = (pid: number): boolean => {
  try {
    return !process.kill(pid, 0);
  } catch {
    return true;
  }
};

it('gives out the process that was started ahead, once', async () => {
  const drop = forkAhead();
  const [first, second] = [forkLauncher(path, execArgv), forkLauncher(path, execArgv)];
  drop();
  expect(first.pid).not.toBe(second.pid);
  expect([gone(first.pid!), gone(second.pid!)]).toEqual([false, false]);
  for (const child of [first, second]) {
    const end = new Promise((resolve) => child.onExit(resolve));
    child.kill();
    expect(await end).toBe('signal SIGKILL');
  }
});

it('tells of one that had ended before it was given out', async () => {
  forkAhead();
  const child = forkLauncher(path, execArgv);
  child.kill();
  await expect.poll(() => gone(child.pid!)).toBe(true);
  const machine = new MachineProcess({ launch: () => child });
  const config = { name: 'late', guest: { kind: 'calc' }, memory: 8 * 2 ** 20, vcpus: 1, disks: [] } as const;
  await expect(machine.start({ ...config, disks: [], backend: 'emulated' })).rejects.toThrow('SIGKILL');
});
