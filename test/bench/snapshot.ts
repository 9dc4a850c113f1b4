/**
 * bench:snapshot: a guest whose RAM is all in use is snapshotted and restored. For each backend present:
 *
 *   pause     how long the guest stood still while its state was taken
 *   write     from the request until the snapshot is on the disk, forced there
 *   restore   from the request until the guest's first output, in the same process
 *
 * beside a memcpy of the same bytes, the same bytes written to a plain file and forced to the disk, and QEMU's savevm and loadvm under TCG (which stop the guest for all of it).
 * Both sides in turn, medians; ratios are to the memcpy.
 *
 *   npm run bench:snapshot -- [--memory MIB, default 512] [--runs 5]
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { backends } from '../../main/machine/backends.ts';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { MachineConfig } from '../../main/machine/protocol.ts';
import { hasQemu, median, numberOption } from './bench.ts';

const memory = numberOption('memory', 512);
const runs = numberOption('runs', 5);
const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-snapshot-'));

/** Writes to every page of RAM from 2 MiB on, then prints a dot every 65,536 rounds of a loop. Also a multiboot kernel, for QEMU. */
function guest(): Buffer {
  const ADDRESS = 0x100000;
  const code = Buffer.alloc(128);
  code.set([0xeb, 0x2e]); // jmp 0x30
  const [magic, flags] = [0x1badb002, 0x10000];
  const header = [magic, flags, -(magic + flags), ADDRESS + 4, ADDRESS, 0, 0, ADDRESS + 0x30];
  header.forEach((value, i) => code.writeUInt32LE(value >>> 0, 4 + 4 * i));
  const program = Buffer.from([
    ...[0xfc, 0xbf, 0, 0, 0x20, 0], // cld; mov edi, 0x200000
    ...[0xb9, 0, 0, 0, 0], // mov ecx, pages
    ...[0x89, 0x3f, 0x81, 0xc7, 0, 0x10, 0, 0, 0x49, 0x75, 0xf5], // 0: mov [edi], edi; add edi, 4096; dec ecx; jnz 0b
    ...[0x66, 0xba, 0xf8, 0x03], // mov dx, 0x3f8
    ...[0xb0, 0x2e, 0xee], // 1: mov al, '.'; out dx, al
    ...[0xb9, 0, 0, 1, 0, 0x49, 0x75, 0xfd], // mov ecx, 65536; 2: dec ecx; jnz 2b
    ...[0xeb, 0xf3], // jmp 1b
  ]);
  program.writeUInt32LE(((memory - 3) * MIB) / 4096, 7);
  program.copy(code, 0x30);
  return code;
}

interface Side {
  name: string;
  /** One round: times in ms. */
  round(): Promise<Record<string, number>>;
  end(): Promise<void>;
}

const file = join(folder, 'guest.bin');

async function vitrine(backend: 'emulated' | 'kvm' | 'nvmm'): Promise<Side> {
  const machine = new MachineProcess();
  const config: MachineConfig = {
    ...{ name: 'bench', guest: { kind: 'flat', file, address: 0x100000 }, memory: memory * MIB },
    ...{ vcpus: 1, backend, disks: [] },
  };
  const log = machine.serial[0]!;
  const output = async (): Promise<void> => {
    const { end } = log;
    while (log.end === end) await new Promise((resolve) => setTimeout(resolve, 0));
  };
  await machine.start(config);
  await output();
  let number = 0;
  return {
    name: backend,
    round: async () => {
      const taken = join(folder, `${backend}${++number}`);
      mkdirSync(taken);
      const title = { id: 's', name: '', createdAt: 0, parent: null, writtenBy: 'bench', console: '' };
      const start = performance.now();
      const { pausedMs } = await machine.ask('snapshot.take', {
        ...{ folder: taken, title, config, parent: null, layers: [] },
      });
      const write = performance.now() - start;
      await machine.pause();
      await new Promise((resolve) => setTimeout(resolve, 50));
      const restored = performance.now();
      await machine.ask('snapshot.restore', { folder: taken, layers: [] });
      await machine.resume();
      await output();
      const restore = performance.now() - restored;
      // Its pages are checked behind the guest's back: not while the other side is measured.
      await new Promise((resolve) => setTimeout(resolve, 2000));
      rmSync(taken, { recursive: true });
      return { pause: pausedMs, write, restore };
    },
    end: () => machine.powerOff(),
  };
}

async function qemu(): Promise<Side> {
  const [disk, socket] = [join(folder, 'state.qcow2'), join(folder, 'monitor')];
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '16M']);
  const options = `-accel tcg -m ${memory} -nodefaults -display none -no-reboot -serial null -kernel ${file}`;
  const monitor = `-monitor unix:${socket},server=on,wait=off -drive if=ide,format=qcow2,file=${disk}`;
  const child = spawn('qemu-system-x86_64', [...options.split(' '), ...monitor.split(' ')], {
    stdio: 'inherit',
  });
  await new Promise((resolve) => setTimeout(resolve, 8000));
  const connection: Socket = createConnection(socket);
  let heard = '';
  connection.setEncoding('utf8').on('data', (text: string) => (heard += text));
  const command = async (text: string): Promise<number> => {
    heard = '';
    const start = performance.now();
    connection.write(`${text}\n`);
    while (!heard.includes('\n(qemu) ')) await new Promise((resolve) => setTimeout(resolve, 1));
    if (heard.includes('Error')) throw new Error(`QEMU: ${heard}`);
    return performance.now() - start;
  };
  await new Promise((resolve) => setTimeout(resolve, 500));
  return {
    name: 'QEMU TCG',
    round: async () => {
      const write = await command('savevm bench');
      const restore = await command('loadvm bench');
      await command('delvm bench');
      return { pause: write, write, restore };
    },
    end: async () => {
      connection.destroy();
      child.kill();
      await new Promise((resolve) => child.once('close', resolve));
    },
  };
}

function copying(): Side {
  const [from, to] = [Buffer.alloc(memory * MIB, 1), Buffer.alloc(memory * MIB, 2)];
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

writeFileSync(file, guest());
const sides: Side[] = [copying()];
const times = new Map<string, number[]>();
try {
  for (const { name } of backends.filter((backend) => backend.unavailable() === null)) {
    sides.push(await vitrine(name));
  }
  if (hasQemu()) sides.push(await qemu());
  else console.log('QEMU is not installed: measured without it.');
  for (let run = 0; run < runs; run++) {
    for (const side of sides) {
      for (const [what, ms] of Object.entries(await side.round())) {
        const key = `${side.name} ${what}`;
        times.set(key, [...(times.get(key) ?? []), ms]);
      }
    }
  }
  const copy = median(times.get('memcpy copy')!);
  console.log(`${memory} MiB in use, ${runs} runs, medians; memcpy ${copy.toFixed(1)} ms`);
  for (const [key, values] of times) {
    const ms = median(values);
    const range = `${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)}`;
    console.log(
      `${key.padEnd(20)} ${ms.toFixed(1).padStart(9)} ms   ${(ms / copy).toFixed(2).padStart(7)}x   (${range})`,
    );
  }
} finally {
  for (const side of sides) await side.end();
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
