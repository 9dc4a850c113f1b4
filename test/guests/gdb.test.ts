import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import type { BackendChoice, GuestSource } from '../../main/machine/protocol.ts';
import { gdbCommand } from '../../main/service/gdb-command.ts';
import { LocalSocket } from '../../main/service/local-socket.ts';
import { localSocketPath } from '../../main/service/paths.ts';
import { Service } from '../../main/service/service.ts';
import { backends } from '../../main/machine/backends.ts';
import { FakeGdb, framed } from '../unit/inspect/gdb-fakes.ts';
import { debugged, gdb, printed, type Debugged } from './gdb-rig.ts';

// The system's gdb, on machines in processes of their own: what is typed in docs/gdb.md, and what came of it.

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'vitrine-gdb-'));
const open: Debugged[] = [];
afterEach(async () => {
  for (const { machine, server } of open.splice(0)) {
    await server.close();
    await machine.powerOff();
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

const noGdb = spawnSync('gdb', ['--version']).error === undefined ? null : 'there is no gdb here';

async function waiting(guest: GuestSource, backend: BackendChoice = 'emulated'): Promise<Debugged> {
  const one = await debugged({ guest, backend });
  open.push(one);
  return one;
}

const symbols = assemble(readFileSync(join(root, 'assets/guests/calc/calc.asm'), 'utf8')).symbols;
const at = (label: string): string => `*0x${symbols.get(label)!.toString(16)}`;
const where = (label: string): string => `0x${symbols.get(label)!.toString(16)}`;

describe('gdb', () => {
  if (noGdb !== null) {
    it('is not here', ({ skip }) => skip(noGdb));
    return;
  }

  it.for(backends)('breaks, steps, and lets the calculator go: $name', async (backend, { skip }) => {
    const reason = backend.unavailable();
    if (reason !== null) skip(reason);
    const { machine, address } = await waiting({ kind: 'calc' }, backend.name);
    const said = await gdb(address, [
      ...['printf "at %#lx\\n", $pc', 'stepi', 'stepi', 'stepi', 'printf "then %#lx\\n", $pc'],
      ...[
        `break ${at('main')}`,
        'continue',
        'x/2i $pc',
        'printf "efer %#lx cs %#x\\n", $efer, $cs',
        'p $cr0',
      ],
    ]);
    expect(said).toContain('at 0x100094');
    expect(said).toContain('then 0x10009f');
    expect(said).toContain(`Breakpoint 1, ${where('main').replace('0x', '0x0000000000')}`);
    expect(said).toMatch(/=> 0x[0-9a-f]+:\tmovabs \$0x|=> 0x[0-9a-f]+:\tmov /);
    expect(said).toMatch(/efer 0x(500|d00|d01) cs 0x/);
    expect(said).toMatch(/= \[ PE .*PG \]/);
    // gdb left at the end of its script: it detached, and the machine goes on.
    expect(machine.status.state).toBe('running');

    await machine.pause();
    machine.serial[0]!.write(Buffer.from('(2+3)*7\r'));
    const more = await gdb(address, [
      ...[`hbreak ${at('put_decimal')}`, 'continue', 'printf "rax %d\\n", $rax', `x/s ${where('line')}`],
      ...['bt 1', `watch *(long *) ${where('evaluate_stack')}`, 'delete 1', 'info watchpoints', 'detach'],
    ]);
    expect(more).toContain('rax 35');
    expect(more).toContain('"(2+3)*7"');
    expect(more).toContain('hw watchpoint');
    expect(more).toContain('detached');
    await printed(machine, '\r\n35\r\n');
  });

  it('writes registers and memory, linear and physical', async () => {
    const { machine, address } = await waiting({ kind: 'calc' });
    machine.serial[0]!.write(Buffer.from('6*7\r'));
    const said = await gdb(address, [
      ...[
        `break ${at('put_decimal')}`,
        'continue',
        'set $rax = 1234',
        'set $xmm3.uint128 = 5',
        'set $st0 = 2.5',
      ],
      ...['p $rax', 'p $xmm3.v4_int32', 'p $st0', `set var *(char *) ${where('line')} = 'x'`],
      ...[`x/s ${where('line')}`, 'maintenance packet Qqemu.PhyMemMode:1', `x/s ${where('line')}`],
      ...[
        'x 0xfee00000',
        'maintenance packet Qqemu.PhyMemMode:0',
        'x/x 0xffff800000000000',
        'delete',
        'detach',
      ],
    ]);
    expect(said).toMatch(/\$1 = 1234\n\$2 = \{5, 0, 0, 0\}\n\$3 = 2\.5/);
    expect(said.match(/"x\*7"/g)).toHaveLength(2);
    expect(said).toContain('Cannot access memory at address 0xfee00000');
    expect(said).toContain('Cannot access memory at address 0xffff800000000000');
    await printed(machine, '\r\n1234\r\n');
  });

  it('watches', async () => {
    const { machine, address } = await waiting({ kind: 'calc' });
    machine.serial[0]!.write(Buffer.from('1+1\r'));
    const said = await gdb(address, [
      ...[`break ${at('evaluate')}`, 'continue', 'delete', `watch *(long *) ${where('evaluate_stack')}`],
      ...[
        'continue',
        'delete',
        `rwatch *(char *) (${where('line')}+1)`,
        'continue',
        'printf "rbx %#lx\\n", $rbx',
      ],
      ...['delete', 'detach'],
    ]);
    expect(said).toMatch(/Hardware watchpoint 2: .*\n\nOld value = 0\nNew value = \d+/);
    expect(said).toMatch(/Hardware read watchpoint 3: .*\n\nValue = 43 '\+'/);
    expect(said).toContain(
      `rbx ${where('line').replace(/.$/, (digit) => (parseInt(digit, 16) + 1).toString(16))}`,
    );
  });

  it('takes part in real mode, where CS has a base', async () => {
    const file = join(folder, 'real.bin');
    const text =
      'bits 16\n org 0x7c00\n mov ax, 0x7c0\n push ax\n mov ax, next-0x7c00\n push ax\n retf\nnext: mov ax, 0x1234\n mov bx, ax\nspin: jmp spin';
    const { bytes, symbols: labels } = assemble(text);
    writeFileSync(file, bytes);
    const { address } = await waiting({ kind: 'flat', file, address: 0x7c00 });
    const next = Number(labels.get('next'));
    const said = await gdb(address, [
      ...[`break *${next}`, 'continue', 'x/2i $pc', 'stepi', 'p/x $ax', 'p/x $pc', 'p/x $ip', 'p/x $cs_base'],
      'kill',
    ]);
    expect(said).toContain(`Breakpoint 1, 0x0000${next.toString(16)}`);
    expect(said).toMatch(/=> 0x7c09:\tmov +\$0x1234,%ax\n +0x7c0c:\tmov +%ax,%bx/);
    expect(said).toContain('$1 = 0x1234\n$2 = 0x7c0c\n$3 = 0xc\n$4 = 0x7c00');
  });

  it('goes backwards: by an instruction, to a breakpoint, and to where a word was written', async () => {
    const guest: GuestSource = { kind: 'calc' };
    const deterministic = { seed: 1, unixSeconds: 1704067200, history: 64 * 2 ** 20 };
    const one = await debugged({ guest, deterministic });
    open.push(one);
    one.machine.serial[0]!.write(Buffer.from('6*7\r2*4\r'));
    const pc = (name: string): string => `printf "${name} %#lx\\n", $pc`;
    const said = await gdb(one.address, [
      ...['stepi', 'stepi', pc('two'), 'stepi', 'reverse-stepi', pc('two again')],
      ...['reverse-stepi', 'reverse-stepi', pc('none'), 'reverse-stepi'],
      ...[`break ${at('put_decimal')}`, 'continue', 'printf "rax %d\\n", $rax'],
      ...['continue', 'printf "rax %d\\n", $rax', 'reverse-continue', 'printf "rax again %d\\n", $rax'],
      ...['delete', `watch *(long *) ${where('evaluate_stack')}`, 'reverse-continue'],
      ...[`p *(long *) ${where('evaluate_stack')}`, 'delete', 'reverse-continue', pc('begin')],
      ...[`break ${at('put_decimal')}`, 'continue', 'printf "rax forward %d\\n", $rax', 'delete', 'detach'],
    ]);
    expect(said).toMatch(/two (0x[0-9a-f]+)\n(.*\n)*two again \1\n/);
    expect(said).toContain('none 0x100094');
    expect(said).toMatch(/No more reverse-execution history[^]*rax 42\n[^]*rax 8\n[^]*rax again 42\n/);
    expect(said).toMatch(/rax again 42[^]*watchpoint 2/i);
    expect(said).toMatch(/No more reverse-execution history[^]*begin 0x100094\n[^]*rax forward 42/);
    await printed(one.machine, '\r\n8\r\n');
  });

  it('looks at a guest that has died', async () => {
    const file = join(folder, 'dies.bin');
    writeFileSync(file, assemble('bits 16\n org 0x7c00\n lidt [0x7c80]\n mov cx, 77\n ud2').bytes);
    const { machine, address } = await waiting({ kind: 'flat', file, address: 0x7c00 });
    const said = await gdb(address, ['continue', 'p $cx', 'p/x $pc', 'continue', 'stepi', 'p $cx', 'detach']);
    expect(said).toContain('received signal SIGSEGV');
    expect(said).toContain('$1 = 77\n$2 = 0x7c08');
    expect(said).toMatch(/it can't do resume now/);
    expect(said).toMatch(/it can't step now/);
    expect(said).toContain('$3 = 77');
    expect(machine.status.state).toBe('crashed');
  });

  it('stops at ports, exceptions and exits that monitor names', async () => {
    const { machine, address } = await waiting({ kind: 'calc' });
    machine.serial[0]!.write(Buffer.from('crash\r'));
    const said = await gdb(address, [
      ...[
        'monitor stop port 0x3f8-0x3ff out',
        'continue',
        'monitor stops',
        'monitor exits 3 IO',
        'monitor delete 1',
      ],
      ...['monitor stop exception 6', 'continue', 'x/i $pc', 'monitor delete 2', 'monitor delete 2', 'kill'],
    ]);
    expect(said).toMatch(/Stop 1: OUT to port 0x3f[0-9a-f] at/);
    expect(said).toMatch(/stop 1 +port 0x3f8-0x3ff out, 1 hits/);
    expect(said).toMatch(/#UD at 0x[0-9a-f]+/);
    expect(said).toContain('ud2');
    expect(said).toContain('delete: there is no stop 2.');
  });

  it('has vCPUs as threads, and steps one alone', async () => {
    const one = await debugged({ guest: { kind: 'calc' }, vcpus: 2 });
    open.push(one);
    const said = await gdb(one.address, [
      ...[
        'info threads',
        'thread 2',
        'p/x $pc',
        'p/x $cs_base',
        'stepi',
        'thread 1',
        'stepi',
        'p/x $pc',
        'kill',
      ],
    ]);
    expect(said).toMatch(/1 +Thread 1 "vCPU 0" \(protected-32 mode, CPL 0, RIP 0x100094\)/);
    expect(said).toMatch(/2 +Thread 2 "vCPU 1" \(real mode, CPL 0, RIP 0xfff0\)/);
    expect(said).toContain('$1 = 0xfffffff0\n$2 = 0xffff0000');
    expect(said).toContain('The vCPU waits for its start-up message (SIPI).');
    expect(said).toContain('$3 = 0x100097');
  });

  it('goes in the middle of a step, and comes again', async () => {
    const { machine, address } = await waiting({ kind: 'calc' });
    const port = Number(address.split(':')[1]);
    const first = await FakeGdb.connect(port);
    await first.ask(`Z0,${symbols.get('main')!.toString(16)},1`);
    first.say(framed('vCont;s:1'));
    first.close();
    await gone();
    const rude = await FakeGdb.connect(port);
    await rude.ask('qC');
    rude.say('$m0,');
    rude.close();
    await gone();
    expect(machine.status.state).toBe('paused');
    expect(await machine.ask('debug.list', null)).toEqual([]);
    const said = await gdb(address, ['printf "still at %#lx\\n", $pc', 'detach']);
    expect(said).toMatch(/still at 0x10009[47]/);
    await printed(machine, '> ');
  });

  it('steps through a range, is interrupted, and reads memory with few questions', async () => {
    const { machine, address } = await waiting({ kind: 'calc' });
    const asked: string[] = [];
    const { ask } = machine;
    machine.ask = (question, params) => {
      asked.push(question);
      return ask.call(machine, question, params) as never;
    };
    const line = await FakeGdb.connect(Number(address.split(':')[1]));
    await line.ask('?');
    const from = symbols.get('start_pvh')!;
    const ranged = await line.ask(`vCont;r${from.toString(16)},${(from + 9n).toString(16)}:1`);
    expect(ranged).toMatch(/^T05thread:1;.*10:9f00100000000000;/);
    await line.ask(`Z0,${symbols.get('main')!.toString(16)},1`);
    expect(await line.ask('vCont;c')).toMatch(/^T05/);
    asked.length = 0;
    expect((await line.ask('m100000,e00')).length).toBe(0xe00 * 2);
    // Four levels of tables and the memory itself; then the tables are known.
    expect(asked.length).toBeLessThanOrEqual(5);
    asked.length = 0;
    await line.ask('m100200,400');
    await line.ask('g');
    expect(asked).toEqual(['memory.read']);
    await line.ask(`z0,${symbols.get('main')!.toString(16)},1`);
    const stopped = line.ask('vCont;c');
    await expect.poll(() => machine.status.state).toBe('running');
    line.say('\x03');
    expect(await stopped).toMatch(/^T02/);
    line.close();
  });
});

/** Waits until the stub is free again. */
const gone = (): Promise<unknown> => expect.poll(() => open[0]!.server.connected).toBe(false);

describe('docs/gdb.md', () => {
  if (noGdb !== null) {
    it('is not run', ({ skip }) => skip(noGdb));
    return;
  }

  it('every command of it works', async () => {
    const text = readFileSync(join(root, 'docs/gdb.md'), 'utf8');
    const commands = [...text.matchAll(/```gdb\n(.*?)```/gs)].flatMap(([, block]) =>
      block!.trim().split('\n'),
    );
    expect(commands.length).toBeGreaterThan(40);
    const { address } = await waiting({ kind: 'calc' });
    const said = await gdb(address, [
      ...commands.flatMap((line) => [`echo >>> ${line}\\n`, line]),
      'echo done\\n',
      'kill',
    ]);
    const complaints = said
      .split('\n')
      .filter((line) =>
        /cannot|\binvalid\b|undefined|not supported|no symbol|failure|there is no|^error|error:/i.test(line),
      )
      .filter((line) => !line.startsWith('>>> '));
    expect(complaints).toEqual([]);
    expect(said).toContain('\ndone\n');
    expect(said).toMatch(/>>> monitor stops\nstop 1 +port 0x3f8-0x3ff out, 0 hits\n/);
    expect(said).toMatch(/Stop 1: OUT to port 0x3f/);
    expect(said).toMatch(/>>> info registers eip\neip +0x/);
  });
});

describe('the commands', () => {
  const program = ['--import', 'tsx', join(root, 'main/cli.ts')];

  it('vitrine run --gdb says where, and waits', async () => {
    const child = spawn(process.execPath, [
      ...[...program, 'run', '--guest', 'calc', '--backend', 'emulated', '--json'],
      ...['--gdb', '0', '--gdb-wait'],
    ]);
    let out = '';
    child.stdout.on('data', (data: Buffer) => (out += data.toString()));
    const ended = new Promise((resolve) => child.on('close', resolve));
    await expect.poll(() => out, { timeout: 30_000 }).toContain('"event":"gdb"');
    const events = out.split('\n').filter((line) => line.includes('"event":"gdb"'));
    const { address, command } = JSON.parse(events[0]!) as { address: string; command: string };
    expect(command).toBe(`gdb -ex 'target remote ${address}'`);
    const line = await FakeGdb.connect(Number(address.split(':')[1]));
    expect(await line.ask('?')).toMatch(/^T05thread:1;.*10:9400100000000000;$/);
    line.say(framed('k'));
    expect(await ended).toBe(0);
  });

  it('vitrine gdb makes a VM of a service listen', async () => {
    const library = mkdtempSync(join(folder, 'library-'));
    const service = await Service.open({ folder: library });
    const local = await LocalSocket.open(localSocketPath(library), service);
    const say = async (...args: string[]): Promise<[number, string]> => {
      let text = '';
      const sink = new Writable({
        write(chunk, _encoding, done) {
          text += String(chunk);
          done();
        },
      });
      return [await gdbCommand(args, { output: sink, errors: sink, library }), text];
    };
    const [status, said] = await say('Calculator');
    expect([status, said]).toEqual([
      0,
      expect.stringMatching(/^gdb -ex 'target remote 127\.0\.0\.1:\d+'\n$/),
    ]);
    const line = await FakeGdb.connect(Number(/:(\d+)'/.exec(said)![1]));
    expect(await line.ask('?')).toBe('W00');
    await service.call('vm.start', { id: 'calculator', paused: true });
    expect(await line.ask('?')).toMatch(/^T05/);
    expect(await say('Calculator', '--stop')).toEqual([0, '']);
    await line.end();
    expect((await service.call('vm.list', {}))[0]).toMatchObject({ state: 'paused' });
    expect(await say('Nobody')).toEqual([1, expect.stringContaining('There is no VM "Nobody"')]);
    expect(await say('Calculator', '--address', 'x')).toEqual([1, expect.stringContaining('HOST:PORT')]);
    expect((await say())[0]).toBe(2);
    await local.close();
    await service.close();
  });
});
