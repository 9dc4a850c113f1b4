import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { answerAll } from '../guests/calc-cases.ts';
import { Session } from '../guests/session.ts';

/**
 * Runs guests on QEMU with `-accel nvmm` over our libnvmm for Linux: devices, memory maps and a run loop that are
 * not ours. qemu.sh builds it. Every run leaves an exit trace (native/libnvmm-linux/trace.c) beside its output in
 * .cache/peers/runs, to explain a failure with.
 * Usage: npm run campaign:qemu -- [part of a case's name ...]
 */
const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const peers = realpathSync(join(root, '.cache/peers'));
const qemu = join(peers, 'qemu-build/qemu-system-x86_64');
const runs = join(peers, 'runs');
const peer = join(runs, 'peer.elf');
const calc = join(runs, 'calc.elf');
const qmp = join(runs, 'monitor');

/** Of a guest that runs at 0.7 million instructions a second, where KVM emulates ring 0. */
const PATIENCE_MILLISECONDS = 300_000;
/** Of a failed case's trace: a screenful. */
const LAST_LINES = 16;
/** isa-debug-exit makes 2n + 1 of the guest's 0x10. */
const SUCCESS = 0x21;

/** What a terminal takes as a move of the cursor. */
const MOVES = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*H`, 'g');

const QUIET = ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'];
const SERIAL = ['-serial', 'stdio'];
const EXIT = ['-device', 'isa-debug-exit,iobase=0xf4'];
const MICROVM = ['-M', 'microvm', '-bios', 'qboot.rom', '-m', '64'];
const PC = ['-M', 'pc', '-m', '64'];
const QMP = ['-qmp', `unix:${qmp},server=on,wait=off`];
const DEBUG = ['-chardev', 'stdio,id=seabios', '-device', 'isa-debugcon,iobase=0x402,chardev=seabios'];

interface Run {
  session: Session;
  trace: string;
}

function traceOf(name: string): string {
  return join(runs, `${name.replaceAll(/[^a-z0-9]+/gi, '-')}.trace`);
}

function start(name: string, options: string[]): Run {
  const trace = traceOf(name);
  const child = spawn(qemu, ['-accel', 'nvmm', '-L', join(peers, 'firmware'), ...QUIET, ...options], {
    env: { ...process.env, NVMM_TRACE: trace },
  });
  return { session: new Session(child), trace };
}

/** The exits of a trace, as far as they are looked at here. */
interface TraceLine {
  exit?: string;
  vcpu?: number;
  port?: string;
  data?: string;
  map?: string;
  hva?: string;
  size?: string;
}

function readTrace(file: string): TraceLine[] {
  const text = readFileSync(file, 'utf8').trimEnd();
  return text.split('\n').map((line) => JSON.parse(line) as TraceLine);
}

/** What a trace says at first sight: how many exits of each kind each vCPU had, and how it ended. */
function explain(file: string): string {
  const counts = new Map<string, number>();
  for (const { vcpu, exit } of readTrace(file)) {
    const kind = `vCPU ${vcpu}: ${exit}`;
    if (exit !== undefined) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const exits = [...counts].sort(([a], [b]) => a.localeCompare(b)).map(([kind, count]) => `${kind} ${count}`);
  const last = readFileSync(file, 'utf8').trimEnd().split('\n').slice(-LAST_LINES);
  return [file, exits.join(', '), ...last].join('\n  ');
}

/** Our guest: each of its checks is a line, "ok ..." or "FAILED ...". */
async function runPeer(name: string, options: string[], wanted: string[]): Promise<string> {
  const { session, trace } = start(name, [...options, ...SERIAL, ...EXIT, '-kernel', peer]);
  await session.waitFor('peer: done', PATIENCE_MILLISECONDS);
  expect(await session.ended).toBe(SUCCESS);
  for (const text of wanted) expect(session.output).toContain(text);
  // What the trace saw leave through the serial port is what was printed.
  const lines = readTrace(trace);
  const printed = lines.filter(
    (line) => line.exit === 'IO' && line.port === '0x3f8' && line.data !== undefined,
  );
  const bytes = printed.map((line) => String.fromCharCode(parseInt(line.data!, 16))).join('');
  expect(bytes).toContain(session.output.slice(session.output.indexOf('peer: in long mode')));
  const checks = session.output.match(/^ok /gm)?.length ?? 0;
  return `${checks} checks, ${lines.filter((line) => line.exit !== undefined).length} exits`;
}

/** QMP commands after the handshake; gives the answers, a line each. */
function monitor(path: string, ...commands: (string | Command)[]): Promise<string> {
  return new Promise((resolve, reject) => {
    let answers = '';
    const socket = createConnection(path, () => {
      for (const command of ['qmp_capabilities', ...commands]) {
        socket.write(JSON.stringify(typeof command === 'string' ? { execute: command } : command));
      }
    });
    socket.on('error', reject).on('data', (data) => {
      answers += data.toString();
      if ((answers.match(/"(return|error)"/g)?.length ?? 0) <= commands.length) return;
      socket.destroy();
      resolve(answers);
    });
  });
}

interface Command {
  execute: string;
  arguments: Record<string, string | number>;
}

interface PeerCase {
  name: string;
  run(name: string): Promise<string>;
}

const cases: PeerCase[] = [
  {
    name: 'microvm, qboot, PVH',
    run: (name) => runPeer(name, MICROVM, ["ok the firmware's alias", 'processors: 1']),
  },
  {
    name: 'microvm, two processors',
    run: (name) => runPeer(name, [...MICROVM, '-smp', '2'], ['processors: 2']),
  },
  {
    name: 'pc, SeaBIOS, multiboot',
    run: (name) => runPeer(name, PC, ['ok shadow RAM, on again', 'ok a store to ROM']),
  },
  {
    name: 'q35, SeaBIOS, multiboot',
    run: (name) => runPeer(name, ['-M', 'q35', '-m', '64'], ['ok shadow RAM, on again', 'ok a store to ROM']),
  },
  {
    name: 'pc, RAM above 4 GiB',
    run: async (name) => {
      const report = await runPeer(name, ['-M', 'pc', '-m', '5G'], ['ok RAM above 4 GiB']);
      // One RAM block in several pieces: the map above 4 GiB goes on where the one below the hole ends.
      const maps = readTrace(traceOf(name)).filter((line) => line.map !== undefined);
      const low = maps.find((line) => line.map === '0x0')!;
      const high = maps.find((line) => line.map === '0x100000000')!;
      expect(Number(BigInt(high.hva!) - BigInt(low.hva!))).toBeGreaterThanOrEqual(3 * 2 ** 30);
      return report;
    },
  },
  {
    name: 'SeaBIOS to its banner, on its debug port',
    run: async (name) => {
      const { session, trace } = start(name, [...PC, ...DEBUG]);
      await session.waitFor('SeaBIOS (version ', PATIENCE_MILLISECONDS);
      await session.waitFor('No bootable device.', PATIENCE_MILLISECONDS);
      session.kill();
      await session.ended;
      return `${readTrace(trace).filter((line) => line.exit !== undefined).length} exits`;
    },
  },
  {
    name: 'SeaBIOS to its banner, on the serial port',
    run: async (name) => {
      const { session } = start(name, [...PC, ...SERIAL, '-machine', 'graphics=off']);
      await session.waitFor('SeaBIOS (version ', PATIENCE_MILLISECONDS);
      await session.waitFor('No bootable device.', PATIENCE_MILLISECONDS);
      session.kill();
      await session.ended;
      return '';
    },
  },
  {
    name: 'SeaBIOS to its banner, on a VGA',
    run: async (name) => {
      const { session } = start(name, [...PC, ...QMP, ...DEBUG, '-vga', 'std']);
      await session.waitFor('No bootable device.', PATIENCE_MILLISECONDS);
      const file = join(runs, 'screen');
      const saved = { val: 0xb8000, size: 80 * 25 * 2, filename: file };
      await monitor(qmp, { execute: 'pmemsave', arguments: saved });
      session.kill();
      await session.ended;
      // Character and colour take turns; SeaBIOS writes each to its debug port first, so the last may be missing.
      const screen = Buffer.from(readFileSync(file).filter((_, index) => index % 2 === 0));
      expect(screen.toString('latin1')).toMatch(/SeaBIOS \(version .*No bootable device/);
      return '';
    },
  },
  {
    name: 'GRUB from a CD, its menu and its command line',
    run: async (name) => {
      const cd = ['-cdrom', join(peers, 'firmware/grub-rescue-cdrom.iso')];
      const { session } = start(name, [...PC, '-machine', 'graphics=off', ...SERIAL, ...cd]);
      // Its greeting comes in pieces with escape sequences between them, as many as the BIOS's timer sees.
      await session.waitFor('lcome to GRUB!', PATIENCE_MILLISECONDS);
      await session.waitFor('Memtest86+', PATIENCE_MILLISECONDS);
      session.type('c');
      await session.waitFor('grub>', PATIENCE_MILLISECONDS);
      // No more than fits into the BIOS's buffer of 15 keys.
      session.type('echo 1$root\r');
      // The answer may come in pieces, too.
      const printed = await session.waitFor('grub>', PATIENCE_MILLISECONDS);
      expect(printed.replaceAll(MOVES, '')).toContain('1hd96');
      session.kill();
      await session.ended;
      return '';
    },
  },
  {
    name: 'calc on pc answers, and quit powers off',
    run: async (name) => {
      const { session } = start(name, [...PC, ...SERIAL, '-kernel', calc]);
      await answerAll(session);
      expect(await session.ended).toBe(0);
      return '';
    },
  },
  {
    name: 'calc is stopped, continued, and reset',
    run: async (name) => {
      const options = [...PC, ...QMP, '-action', 'reboot=reset'];
      const { session } = start(name, [...options, ...SERIAL, '-kernel', calc]);
      await session.waitFor('> ', PATIENCE_MILLISECONDS);
      expect(await monitor(qmp, 'stop', 'query-status')).toContain('"paused"');
      session.type('6*7\r');
      expect(await monitor(qmp, 'cont', 'query-status')).toContain('"running"');
      await session.waitFor('\r\n42\r\n> ');
      await monitor(qmp, 'system_reset');
      await session.waitFor('Vitrine calculator', PATIENCE_MILLISECONDS);
      await session.waitFor('> ', PATIENCE_MILLISECONDS);
      session.type('2*3\r');
      await session.waitFor('\r\n6\r\n> ');
      session.type('quit\r');
      expect(await session.ended).toBe(0);
      return '';
    },
  },
];

mkdirSync(runs, { recursive: true });
const assembled = spawnSync('nasm', ['-f', 'bin', '-o', peer, join(root, 'test/peers/peer.asm')]);
if (assembled.status !== 0) throw new Error(`nasm peer.asm: ${assembled.stderr}`);
writeFileSync(calc, assemble(readFileSync(join(root, 'assets/guests/calc/calc.asm'), 'utf8')).bytes);

const words = process.argv.slice(2);
let failed = 0;
for (const { name, run } of cases) {
  if (words.length > 0 && !words.some((word) => name.includes(word))) continue;
  const began = Date.now();
  try {
    const report = await run(name);
    console.log(`ok ${name}: ${report}${report && ', '}${((Date.now() - began) / 1000).toFixed(1)} s`);
  } catch (error) {
    failed++;
    console.log(`FAILED ${name}: ${error instanceof Error ? error.message : String(error)}`);
    console.log(`  ${explain(traceOf(name))}`);
  }
}
rmSync(qmp, { force: true });
console.log(
  failed === 0 ? 'QEMU runs on our libnvmm.' : `${failed} cases failed; their traces are in ${runs}`,
);
process.exitCode = failed === 0 ? 0 : 1;
