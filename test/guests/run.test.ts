import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { MachineConfig } from '../../main/machine/protocol.ts';
import { OUTPUT_WINDOW } from '../../main/machine/protocol.ts';
import { Gpr, State } from '../../main/nvmm/constants.ts';
import { VcpuState } from '../../main/nvmm/layout.ts';
import type { flatGuests } from './flat-guests.ts';
import { flatOption } from './flat-guests.ts';
import { Session } from './session.ts';

// `vitrine run` from its sources, as people use it: small guests, the real emulator, real processes.

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'vitrine-run-'));
afterAll(() => rmSync(folder, { recursive: true }));

const program = ['--import', 'tsx', join(root, 'main/cli.ts')];

function start(...args: string[]): Session & { pid: number } {
  const child = spawn(process.execPath, [...program, ...args], { cwd: root });
  return Object.assign(new Session(child), { pid: child.pid! });
}

/** Runs to the end with nothing typed. */
function finish(...args: string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...program, ...args], {
    cwd: root,
    encoding: 'latin1',
    input: '',
    timeout: 100_000,
  });
  return { status, out: stdout, err: stderr };
}

// Real-mode guests, on the backend that has every rule of real mode: KVM's own emulator of it, which this may run
// on, doesn't know the IDT's limit, so nothing ever triple-faults there.
const flat = (name: keyof typeof flatGuests): string[] => [
  ...['run', '--backend', 'emulated'],
  ...['--flat', flatOption(folder, name)],
];

describe('vitrine run', () => {
  it('the calculator calculates, and switches itself off', async () => {
    const session = start('run', '--guest', 'calc');
    await session.waitFor('> ');
    session.type('(2+3)*7\r');
    await session.waitFor('\r\n35\r\n');
    session.type('quit\r');
    expect(await session.ended).toBe(0);
  });

  it('a triple fault: status 3, RIP and the last exits', () => {
    const { status, out, err } = finish(...flat('tripleFault'));
    expect([status, out]).toEqual([3, 'T']);
    expect(err).toMatch(/the guest crashed: triple fault on vCPU 0, RIP 0x7c0b/);
    expect(err).toContain('IO out port 0x3f8, 1 byte at 0x7c05 = 0x54 (uart0)');
  });

  it('nothing answers with all ones', () =>
    expect(finish(...flat('nothing'))).toMatchObject({ status: 0, out: 'Y' }));

  it('an unknown instruction is the guest’s #UD', () => {
    expect(finish(...flat('undefined'))).toMatchObject({ status: 0, out: 'U' });
  });

  it('a guest that spins with interrupts off is ended at the timeout', () => {
    const { status, err } = finish(...flat('spin'), '--timeout', '1');
    expect(status).toBe(124);
    expect(err).toContain('the time of 1 seconds is over');
  });

  it('a guest that resets boots again', () => {
    const { status, out } = finish(...flat('reset'), '--timeout', '2');
    expect(status).toBe(124);
    expect(out).toMatch(/^RR+$/);
  });

  it('what is piped in goes to the guest, byte for byte, and its end does not end the machine', async () => {
    const session = start(...flat('echo'), '--timeout', '30');
    const text = `${Array.from({ length: 300 }, (_, i) => `line ${i} \x01x\x00\xff`).join('\n')}END`;
    session.type(text);
    await session.waitFor('END');
    expect(session.output.replaceAll('\r', '')).toBe(text);
    session.kill();
  });

  it('what is piped in before the guest is ready is not lost', () => {
    const { status, stdout } = spawnSync(process.execPath, [...program, 'run', '--guest', 'calc'], {
      cwd: root,
      encoding: 'latin1',
      input: '(2+3)*7\rquit\r',
      timeout: 60_000,
    });
    expect(status).toBe(0);
    expect(stdout).toContain('> (2+3)*7\r\n35\r\n');
  });

  it('--json: an event on each line', () => {
    const { status, out } = finish(...flat('nothing'), '--json', '--stats');
    expect(status).toBe(0);
    const events = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const states = events.filter(({ event }) => event === 'state').map(({ state }) => state);
    expect([...new Set(states)]).toEqual(['starting', 'running', 'stopping', 'off']);
    expect(events).toContainEqual({ event: 'serial', port: 0, offset: 0, bytes: 1, text: 'Y' });
    expect(events.at(-1)).toMatchObject({ event: 'exit', status: 0, state: 'off' });
    expect((events.at(-1)!.stats as Record<string, number>)['exits.IO']).toBeGreaterThan(1);
  });

  writeFileSync(join(folder, 'text'), 'hello');
  writeFileSync(join(folder, 'odd.img'), Buffer.alloc(1000));
  const calc = ['run', '--guest', 'calc'];
  for (const { name, args, status, wanted } of [
    {
      name: 'no such kernel',
      args: ['run', '--kernel', '/no/k'],
      status: 1,
      wanted: '/no/k: there is no such file',
    },
    { name: 'no kernel', args: ['run', '--kernel', join(folder, 'text')], status: 1, wanted: 'truncated' },
    { name: 'no ELF', args: ['run', '--guest', join(folder, 'text')], status: 1, wanted: 'ELF' },
    { name: 'no such disk', args: [...calc, '--disk', '/no/d'], status: 1, wanted: 'no such disk image' },
    {
      name: 'an odd disk',
      args: [...calc, '--disk', join(folder, 'odd.img')],
      status: 1,
      wanted: 'Add 24 bytes',
    },
    {
      name: 'a backend that is not here',
      args: [...calc, '--backend', 'nvmm'],
      status: 1,
      wanted: 'NVMM is part of',
    },
    { name: 'no such option', args: [...calc, '--colour'], status: 2, wanted: '--colour' },
    { name: 'nothing to boot', args: ['run'], status: 2, wanted: 'nothing to boot' },
    { name: 'no such command', args: ['walk'], status: 2, wanted: 'no such command' },
    { name: 'no command', args: [], status: 2, wanted: 'Usage' },
  ]) {
    it(`status ${status}: ${name}`, () => {
      const end = finish(...args);
      expect([end.status, end.out]).toEqual([status, '']);
      expect(end.err).toContain(wanted);
      expect(end.err).not.toContain('    at ');
    });
  }

  it('--help, --version and doctor', () => {
    expect(finish('--help')).toMatchObject({ status: 0, err: '' });
    expect(finish('run', '--help').out).toContain('Exit status');
    expect(finish('--version').out).toMatch(/^vitrine \d+\.\d+\.\d+\n$/);
    expect(finish('doctor').out).toMatch(/yes {2}emulated/);
    expect(JSON.parse(finish('doctor', '--json').out)).toMatchObject({ ok: true });
  });
});

/** util-linux's script gives a command a terminal of its own. */
const hasScript = spawnSync('script', ['--version']).status === 0;

describe.runIf(hasScript)('on a terminal', () => {
  const command = `stty -g; node ${program.join(' ')} run --guest calc; echo status $?; stty -g`;
  const terminal = (): Session => new Session(spawn('script', ['-qec', command, '/dev/null'], { cwd: root }));

  it('Ctrl-A h helps, Ctrl-A x quits, and the terminal is as it was', async () => {
    const session = terminal();
    await session.waitFor('> ');
    session.type('\x01h');
    await session.waitFor('Ctrl-A x');
    session.type('\x01x');
    await session.waitFor('status 0');
    await session.ended;
    const modes = session.output.match(/^[0-9a-f]+(:[0-9a-f]+){10,}\r?$/gm)!;
    expect(modes.length).toBe(2);
    expect(modes[1]).toBe(modes[0]);
  });

  it('Ctrl-C goes to the guest; pause, go on and reset by keys', async () => {
    const session = terminal();
    await session.waitFor('> ');
    session.type('1\x03\x01p');
    await session.waitFor('[paused');
    session.type('\x01p');
    await session.waitFor('[running]');
    session.type('\x01r');
    await session.waitFor('Vitrine calculator');
    session.type('\x01b');
    await session.waitFor('status 0');
    await session.ended;
  });

  it('a signal ends it, and the terminal is as it was', async () => {
    const session = terminal();
    await session.waitFor('> ');
    const found = spawnSync('pgrep', ['-f', `^node --import tsx ${root}/main/cli.ts run --guest calc`], {
      encoding: 'utf8',
    });
    for (const pid of found.stdout.trim().split('\n')) process.kill(Number(pid), 'SIGTERM');
    await session.waitFor('status 143');
    await session.ended;
    const modes = session.output.match(/^[0-9a-f]+(:[0-9a-f]+){10,}\r?$/gm)!;
    expect(modes[1]).toBe(modes[0]);
  });
});

describe('the machine’s process', () => {
  const config = (name: keyof typeof flatGuests): MachineConfig => ({
    name,
    guest: { kind: 'flat', file: flatOption(folder, name).replace(/@.*/, ''), address: 0x7c00 },
    ...{ memory: 8 * 2 ** 20, vcpus: 1, backend: 'emulated', disks: [] },
  });

  it.each([
    { when: 'at once', ms: 0 },
    { when: 'before it listens', ms: 150 },
    { when: 'while it runs', ms: 1000 },
  ])('is gone when its parent is killed $when', async ({ ms }) => {
    const session = start(...flat('spin'));
    const children = (): string[] => {
      const { stdout } = spawnSync('pgrep', ['-P', String(session.pid)], { encoding: 'utf8' });
      return stdout
        .trim()
        .split('\n')
        .filter((pid) => pid !== '');
    };
    while (children().length === 0) await delay(10);
    await delay(ms);
    const pids = children();
    session.kill();
    await session.ended;
    const alive = (pid: string): boolean => {
      try {
        return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z');
      } catch {
        return false;
      }
    };
    while (pids.some(alive)) await delay(50);
  });

  it('is reported as failed when it is killed, and can be started again', async () => {
    const machine = new MachineProcess();
    await machine.start(config('spin'));
    process.kill(machine.pid!, 'SIGKILL');
    expect(await machine.ended).toMatchObject({
      state: 'failed',
      message: expect.stringContaining('SIGKILL'),
    });
    await machine.start(config('spin'));
    expect(machine.status.state).toBe('running');
    await machine.powerOff();
    expect(machine.status.state).toBe('off');
  });

  it('pauses a guest that spins with interrupts off, again and again, also right after going on', async () => {
    const machine = new MachineProcess();
    await machine.start(config('spin'));
    for (let i = 0; i < 50; i++) {
      await machine.pause();
      expect(machine.status.state).toBe('paused');
      await machine.resume();
    }
    await expect(machine.start(config('spin'))).rejects.toMatchObject({ kind: 'wrong-state' });
    await machine.powerOff();
  });

  it('holds a flood back for a reader that stands still, and prints nothing while paused', async () => {
    const machine = new MachineProcess();
    let got = 0;
    const reader = machine.serial[0].attach({
      from: 'start',
      lossless: true,
      onData: (data) => (got += data.length),
    });
    await machine.start(config('flood'));
    while (got < OUTPUT_WINDOW) await delay(20);
    await delay(200);
    expect([got, machine.serial[0].end]).toEqual([OUTPUT_WINDOW, OUTPUT_WINDOW]);
    reader.ack(got);
    while (got < 2 * OUTPUT_WINDOW) await delay(20);
    await machine.pause();
    reader.ack(got);
    await delay(100);
    const paused = got;
    await delay(200);
    // What was in the ring when it stopped may still come; nothing new is printed.
    expect(machine.serial[0].end - paused).toBe(0);
    await machine.powerOff();
  });

  it('shows a paused machine’s registers and memory, and takes new ones', async () => {
    const machine = new MachineProcess();
    await machine.start(config('spin'));
    await expect(machine.ask('vcpu.read', { vcpu: 0 })).rejects.toMatchObject({ kind: 'wrong-state' });
    await machine.pause();
    const state = new VcpuState((await machine.ask('vcpu.read', { vcpu: 0 })).slice());
    // A pause may come before the first instruction.
    expect([0x7c00, 0x7c01]).toContain(state.gprLow(Gpr.RIP));
    expect([...(await machine.ask('memory.read', { gpa: 0x7c00, length: 3 }))]).toEqual([0xfa, 0xeb, 0xfe]);
    // Prints a B and spins again, from registers and code that it never had.
    const code = new Uint8Array([0xee, 0xeb, 0xfe]);
    await machine.ask('memory.write', { gpa: 0x9000, bytes: code });
    state.setGprHalves(Gpr.RIP, 0x9000, 0);
    state.setGprHalves(Gpr.RAX, 0x42, 0);
    state.setGprHalves(Gpr.RDX, 0x3f8, 0);
    await machine.ask('vcpu.write', { vcpu: 0, flags: State.GPRS, state: state.bytes });
    await expect(machine.ask('vcpu.read', { vcpu: 1 })).rejects.toMatchObject({ kind: 'wrong-state' });
    await machine.resume();
    while (machine.serial[0].end < 1) await delay(20);
    await machine.pause();
    expect(new VcpuState((await machine.ask('vcpu.read', { vcpu: 0 })).slice()).gprLow(Gpr.RIP)).toBe(0x9001);
    await machine.powerOff();
  });

  it('keeps a crashed guest for a look; reset boots it again', async () => {
    const machine = new MachineProcess();
    await machine.start(config('tripleFault'));
    const { state, crash } = await machine.ended;
    expect([state, crash!.rip]).toEqual(['crashed', '0x7c0b']);
    await expect(machine.pause()).rejects.toMatchObject({ kind: 'wrong-state' });
    await machine.reset();
    while (machine.serial[0].end < 2) await delay(20);
    await machine.powerOff();
    expect(machine.status.state).toBe('off');
  });
});
