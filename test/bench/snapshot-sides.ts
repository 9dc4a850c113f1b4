import { execFileSync, spawn } from 'node:child_process';
import { closeSync, fsyncSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DebugTarget } from '../../main/inspect/target.ts';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { MachineConfig } from '../../main/machine/protocol.ts';

/** What bench:snapshot measures, one object for each. */

const MIB = 2 ** 20;

/** What all of them have in common. */
export interface Bench {
  /** Bytes. */
  memory: number;
  /** The guest: a multiboot kernel and a flat binary in one. */
  file: string;
  /** A folder of its own. */
  folder: string;
}

export interface Side {
  name: string;
  /** One round: times in ms. A guest stands still between its rounds: it would take the processor from the others. */
  round(): Promise<Record<string, number>>;
  end(): Promise<void>;
}

/** The guest's newest exit: which run of it (a restore begins another), and its number. */
async function newest(machine: MachineProcess): Promise<{ run: number; number: number }> {
  const { records } = await machine.ask('trace.query', { vcpu: 0, towards: 'older', limit: 1 });
  return records[0] ?? { run: -1, number: -1 };
}

export async function vitrine(backend: 'emulated' | 'kvm' | 'nvmm', bench: Bench): Promise<Side> {
  const machine = new MachineProcess();
  const config: MachineConfig = {
    ...{ name: 'bench', guest: { kind: 'flat', file: bench.file, address: 0x100000 }, memory: bench.memory },
    ...{ vcpus: 1, backend, disks: [] },
  };
  await machine.start(config);
  while ((await newest(machine)).number < 0) await delay(10);
  await machine.pause();
  let number = 0;
  return {
    name: backend,
    round: async () => {
      await machine.resume();
      const taken = join(bench.folder, `${backend}${++number}`);
      mkdirSync(taken);
      const title = { id: 's', name: '', createdAt: 0, parent: null, writtenBy: 'bench', console: '' };
      const start = performance.now();
      const { pausedMs } = await machine.ask('snapshot.take', {
        ...{ folder: taken, title, config, parent: null, layers: [] },
      });
      const write = performance.now() - start;
      const { run } = await newest(machine);
      await delay(50);
      const restored = performance.now();
      await machine.ask('snapshot.restore', { folder: taken, layers: [] });
      const answered = performance.now() - restored;
      while ((await newest(machine)).run === run) await delay(0);
      const restore = performance.now() - restored;
      // Its pages are checked behind the guest's back: not while the other side is measured.
      await delay(2000);
      await machine.pause();
      rmSync(taken, { recursive: true });
      return { pause: pausedMs, write, 'restore, answered': answered, 'restore, first exit': restore };
    },
    end: () => machine.powerOff(),
  };
}

/** A deterministic machine with a history, after so many seconds of a busy guest: one instruction back. */
export async function stepBack(seconds: number, bench: Bench): Promise<Side> {
  const machine = new MachineProcess();
  await machine.start({
    ...{ name: 'bench', guest: { kind: 'flat', file: bench.file, address: 0x100000 }, memory: bench.memory },
    ...{ vcpus: 1, backend: 'emulated', disks: [] },
    deterministic: { seed: 1, unixSeconds: 1704067200, paced: false, history: 256 * MIB },
  });
  const target = new DebugTarget(machine, 1, true);
  const runFor = async (ms: number): Promise<void> => {
    await delay(ms);
    await target.pause();
  };
  await runFor(seconds * 1000);
  return {
    name: 'deterministic',
    round: async () => {
      const start = performance.now();
      const { reason } = await target.back('step');
      const back = performance.now() - start;
      if (reason !== 'step') throw new Error(`it did not go back: ${reason}`);
      await target.resume();
      await runFor(1000);
      return { 'step back': back };
    },
    end: () => machine.powerOff(),
  };
}

export async function qemu({ memory, file, folder }: Bench): Promise<Side> {
  const [disk, socket] = [join(folder, 'state.qcow2'), join(folder, 'monitor')];
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '16M']);
  const options = `-accel tcg -m ${memory / MIB} -nodefaults -display none -no-reboot -serial null -kernel ${file}`;
  const monitor = `-monitor unix:${socket},server=on,wait=off -drive if=ide,format=qcow2,file=${disk}`;
  const child = spawn('qemu-system-x86_64', [...options.split(' '), ...monitor.split(' ')], {
    stdio: 'inherit',
  });
  // Until the guest has filled its memory.
  await delay(8000);
  const connection: Socket = createConnection(socket);
  let heard = '';
  connection.setEncoding('utf8').on('data', (text: string) => (heard += text));
  const command = async (text: string): Promise<number> => {
    heard = '';
    const start = performance.now();
    connection.write(`${text}\n`);
    while (!heard.includes('\n(qemu) ')) await delay(1);
    if (heard.includes('Error')) throw new Error(`QEMU: ${heard}`);
    return performance.now() - start;
  };
  await delay(500);
  await command('stop');
  return {
    name: 'QEMU TCG',
    round: async () => {
      await command('cont');
      const write = await command('savevm bench');
      const restore = await command('loadvm bench');
      await command('delvm bench');
      await command('stop');
      return { pause: write, write, restore };
    },
    end: async () => {
      connection.destroy();
      child.kill();
      await new Promise((resolve) => child.once('close', resolve));
    },
  };
}

/** The same bytes copied, and written to a plain file that is forced to the disk. */
export function copying({ memory, folder }: Bench): Side {
  const [from, to] = [Buffer.alloc(memory, 1), Buffer.alloc(memory, 2)];
  return {
    name: 'memcpy',
    round: () => {
      const start = performance.now();
      from.copy(to);
      const copy = performance.now() - start;
      const fd = openSync(join(folder, 'plain'), 'w');
      for (let at = 0; at < to.length; at += MIB) writeSync(fd, to, at, MIB);
      fsyncSync(fd);
      closeSync(fd);
      return Promise.resolve({ copy, 'to a file': performance.now() - start - copy });
    },
    end: () => Promise.resolve(),
  };
}
