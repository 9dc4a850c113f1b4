import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { GuestSource, MachineConfig } from '../../main/machine/protocol.ts';

/** A deterministic machine for a test: paused at its first instruction, or where a snapshot was taken. */
export async function deterministicMachine(
  guest: GuestSource,
  memory: number,
  { history = 0, from, disks = [] }: { history?: number; from?: string; disks?: MachineConfig['disks'] } = {},
) {
  const machine = new MachineProcess();
  const config: MachineConfig = {
    ...{ name: 'deterministic', guest, memory, vcpus: 1, backend: 'emulated', disks },
    deterministic: { seed: 7, unixSeconds: 1704067200, paced: false, history },
    startPaused: true,
    ...(from === undefined ? {} : { restore: { folder: from, layers: [] } }),
  };
  await machine.start(config);
  const hash = () => machine.ask('timeline.hash', null);
  /** Runs until so many instructions have retired; the hash there. */
  const runTo = async (until: number) => {
    const there = new Promise<void>((resolve) => {
      const stop = machine.onStatus(({ state }) => {
        if (state !== 'paused') return;
        stop();
        resolve();
      });
    });
    await machine.ask('timeline.run', { until });
    await there;
    return hash();
  };
  return { machine, config, hash, runTo };
}
