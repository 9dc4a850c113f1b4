import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GdbServer } from '../../main/inspect/gdb/server.ts';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { MachineConfig } from '../../main/machine/protocol.ts';
import { openGdb } from '../../main/service/gdb.ts';

/** Machines that listen for gdb, and the system's gdb with a script. */

export interface Debugged {
  machine: MachineProcess;
  server: GdbServer;
  address: string;
}

/** A machine that waits for gdb before its first instruction, unless it is to run. */
export async function debugged(
  config: Pick<MachineConfig, 'guest'> & Partial<MachineConfig>,
  { runs = false } = {},
): Promise<Debugged> {
  const machine = new MachineProcess();
  const whole: MachineConfig = {
    ...{ name: 'debugged', memory: 16 * 2 ** 20, vcpus: 1, backend: 'emulated', disks: [] },
    ...(runs ? {} : { startPaused: true as const }),
    ...config,
  };
  await machine.start(whole);
  const server = await openGdb({ kind: 'tcp', host: '127.0.0.1', port: 0 }, machine, () => ({
    config: whole,
  }));
  return { machine, server, address: server.address };
}

/** Runs gdb's commands, after it has connected; gives all that it said. It is killed after `seconds`. */
export function gdb(
  address: string,
  commands: readonly string[],
  { file, seconds = 60 }: { file?: string; seconds?: number } = {},
): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-gdb-'));
  const script = join(folder, 'script.gdb');
  const lines = ['set pagination off', 'set debuginfod enabled off', 'set confirm off'];
  writeFileSync(script, [...lines, `target remote ${address}`, ...commands, ''].join('\n'));
  const options = ['-nx', '-batch', ...(file === undefined ? [] : [file]), '-x', script];
  const child = spawn('gdb', options, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  const hear = (text: Buffer): void => void (said += text.toString());
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  // A breakpoint that is never met must not hold up everything else.
  const patience = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
  return new Promise((resolve) =>
    child.on('close', () => {
      clearTimeout(patience);
      rmSync(folder, { recursive: true });
      resolve(said);
    }),
  );
}

/** Waits until the guest has printed something, and gives all that it printed. */
export function printed(machine: MachineProcess, text: string): Promise<string> {
  let all = '';
  return new Promise((resolve, reject) => {
    machine.serial[0]!.attach({
      from: 'start',
      lossless: false,
      onData: (data) => {
        all += Buffer.from(data).toString('latin1');
        if (all.includes(text)) resolve(all);
      },
    });
    void machine.ended.then(({ state }) =>
      reject(new Error(`${state} before "${text}": ${all.slice(-300)}`)),
    );
  });
}
