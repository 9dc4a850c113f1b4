import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import type { ExitInfo } from '../../main/machine/exit-info.ts';
import { forkLauncher } from '../../main/machine/launcher.ts';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { MachineConfig } from '../../main/machine/protocol.ts';
import { runCommand } from '../../main/service/run.ts';
import { LocalSocket } from '../../main/service/local-socket.ts';
import { localSocketPath } from '../../main/service/paths.ts';
import { Service } from '../../main/service/service.ts';
import { traceCommand } from '../../main/service/trace-command.ts';
import { backends } from '../../main/machine/backends.ts';
import { checkTraceEvents } from '../trace-events.ts';

// The exits of small guests, from the real run loop in its own process, by every way out: questions, files, commands.

const folder = mkdtempSync(join(tmpdir(), 'vitrine-exits-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** 32-bit code at 1 MiB: one exit of each kind, and nothing that is left to chance. */
const guest = Uint8Array.of(
  ...[0xb0, 0x41], //                                      00 mov al, 'A'
  ...[0xba, 0xff, 0x03, 0x00, 0x00], //                    02 mov edx, 0x3ff
  ...[0xee], //                                            07 out dx, al
  ...[0xec], //                                            08 in al, dx
  ...[0x66, 0xe7, 0x80], //                                09 out 0x80, ax
  ...[0xba, 0x99, 0x99, 0x00, 0x00], //                    0c mov edx, 0x9999
  ...[0xed], //                                            11 in eax, dx
  ...[0xc7, 0x05, 0x80, 0, 0xe0, 0xfe, 0x20, 0, 0, 0], //  12 mov dword [0xfee00080], 0x20
  ...[0xa1, 0x80, 0x00, 0xe0, 0xfe], //                    1c mov eax, [0xfee00080]
  ...[0x83, 0x0d, 0x80, 0, 0xe0, 0xfe, 0x01], //           21 or dword [0xfee00080], 1
  ...[0xb9, 0x1b, 0x00, 0x00, 0x00], //                    28 mov ecx, 0x1b
  ...[0x0f, 0x32], //                                      2d rdmsr
  ...[0xbe, 0x00, 0x00, 0x10, 0x00], //                    2f mov esi, 0x100000
  ...[0xb9, 0x0a, 0x00, 0x00, 0x00], //                    34 mov ecx, 10
  ...[0xba, 0xff, 0x03, 0x00, 0x00], //                    39 mov edx, 0x3ff
  ...[0xf3, 0x6e], //                                      3e rep outsb
  ...[0xfa, 0xf4], //                                      40 cli; hlt
);
const file = join(folder, 'exits.bin');
writeFileSync(file, guest);

const config = (backend: MachineConfig['backend']): MachineConfig => ({
  ...{ name: 'exits', guest: { kind: 'flat', file, address: 0x100000 }, memory: 8 * 2 ** 20, vcpus: 1 },
  ...{ backend, disks: [] },
});

const uart = { port: 0x3ff, size: 1, device: 'uart0' };
const tpr = { reason: 'MEMORY', gpa: 0xfee00080, size: 4, device: 'lapic' };
const wanted: Partial<ExitInfo>[] = [
  { reason: 'IO', rip: '0x100007', ...uart, direction: 'write', value: '0x41' },
  { reason: 'IO', rip: '0x100008', ...uart, direction: 'read', value: '0x41' },
  { reason: 'IO', rip: '0x100009', port: 0x80, size: 2, direction: 'write', device: 'dma pages' },
  { rip: '0x100011', port: 0x9999, size: 4, direction: 'read', value: '0xffffffff', device: 'nobody' },
  { rip: '0x100012', ...tpr, direction: 'write', value: '0x20' },
  { rip: '0x10001c', ...tpr, direction: 'read', value: '0x20' },
  { rip: '0x100021', ...tpr, direction: 'read', value: '0x20' },
  { rip: '0x100021', ...tpr, direction: 'write', value: '0x21', continued: true },
  { reason: 'RDMSR', rip: '0x10002d', msr: 0x1b, size: 8, value: '0xfee00900', device: 'lapic' },
  { rip: '0x10003e', ...uart, direction: 'write', accesses: 10, value: '' },
  { reason: 'HALTED' },
];
// The bytes that REP OUTSB sends first are the guest's own first eight.
wanted[9].value = `0x${Buffer.from(guest.subarray(0, 8)).readBigUInt64LE().toString(16)}`;

/** What the guest did, without the exits that the machine itself makes (kicks, time). */
const own = (records: ExitInfo[]): ExitInfo[] =>
  records.filter(({ reason }) => ['IO', 'MEMORY', 'RDMSR', 'WRMSR', 'HALTED'].includes(reason));

/** Hardware leaves REP OUTS for each element, the emulator for up to 32 bytes: the same, said once. */
function joined(records: ExitInfo[]): Partial<ExitInfo>[] {
  const found: Partial<ExitInfo>[] = [];
  for (const record of records) {
    const before = found.at(-1);
    if (before?.rip !== record.rip || record.port === undefined) {
      found.push(record);
      continue;
    }
    const done = before.accesses ?? 1;
    const value = BigInt(before.value!) | (done < 8 ? BigInt(record.value!) << BigInt(8 * done) : 0n);
    found[found.length - 1] = { ...before, accesses: done + 1, value: `0x${value.toString(16)}` };
  }
  return found;
}

/** A stream that somebody hears. */
function sink(hear: (text: string) => void): Writable {
  return new Writable({
    write: (data, _, done) => {
      hear(String(data));
      done();
    },
  });
}

/** `vitrine run` on the emulated backend, with nothing typed. */
async function run(...args: string[]): Promise<{ status: number; errors: string }> {
  let errors = '';
  const status = await runCommand(['--backend', 'emulated', ...args], {
    input: Object.assign(Readable.from([]), { isTTY: false }) as never,
    output: sink(() => undefined),
    errors: sink((text) => (errors += text)),
  });
  return { status, errors };
}

async function halted(machine: MachineProcess): Promise<ExitInfo[]> {
  for (;;) {
    const { records } = await machine.ask('trace.query', { vcpu: 0, towards: 'newer', limit: 1000 });
    if (records.some(({ reason }) => reason === 'HALTED')) return own(records);
    await delay(20);
  }
}

describe.each(backends.map(({ name, unavailable }) => ({ name, why: unavailable() })))(
  'exits on $name',
  ({ name, why }) => {
    it.skipIf(why !== null)(
      `are in the trace with their values${why === null ? '' : ` (skipped: ${why})`}`,
      async () => {
        const machine = new MachineProcess();
        try {
          await machine.start(config(name));
          const records = await halted(machine);
          expect(joined(records)).toMatchObject(wanted);
          const times = records.map(({ time }) => time);
          expect(times).toEqual(times.toSorted((a, b) => a - b));
          const counts = records.map(({ instructions }) => instructions);
          // mov, mov before the first; then the OUT before the second, and so on.
          if (name === 'emulated') expect(counts.slice(0, 4)).toEqual([2, 3, 4, 6]);
          else expect(counts.every((count) => count === undefined)).toBe(true);

          const stats = await machine.ask('trace.stats', null);
          expect(stats.ports).toContainEqual(
            expect.objectContaining({ port: 0x3ff, device: 'uart0', reads: 1, writes: 11 }),
          );
          expect(stats.devices).toContainEqual(
            expect.objectContaining({ name: 'lapic', reads: 3, writes: 2 }),
          );
          expect(stats.reasons).toContainEqual(expect.objectContaining({ name: 'RDMSR', count: 1 }));

          // A reset begins another run, and keeps what was before.
          await machine.reset();
          for (;;) {
            const { records: all } = await machine.ask('trace.query', {
              vcpu: 0,
              towards: 'newer',
              limit: 1000,
            });
            const second = joined(own(all).filter(({ run }) => run === 1));
            if (second.at(-1)?.reason === 'HALTED') {
              expect(second).toMatchObject(wanted);
              expect(joined(own(all).filter(({ run }) => run === 0))).toMatchObject(wanted);
              break;
            }
            await delay(20);
          }
        } finally {
          await machine.powerOff();
        }
      },
    );
  },
);

describe('files', () => {
  it('are written while the machine runs, in both formats', async () => {
    const machine = new MachineProcess({ launch: forkLauncher });
    try {
      await machine.start(config('emulated'));
      const records = await halted(machine);
      const lines = join(folder, 'running.jsonl');
      await machine.ask('trace.export', { path: lines, format: 'jsonl', overwrite: false });
      const read = readFileSync(lines, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as ExitInfo);
      expect(own(read)).toMatchObject(wanted);
      expect(own(read).slice(0, 5)).toEqual(records.slice(0, 5));
      const events = join(folder, 'running.json');
      await machine.ask('trace.export', { path: events, format: 'perfetto', overwrite: false });
      const names = checkTraceEvents(readFileSync(events, 'utf8')).map(({ name }) => name);
      expect(names).toContain('out 0x3ff uart0');
      expect(names).toContain('write 0xfee00080 lapic');
    } finally {
      await machine.powerOff();
    }
  });

  const ends = [
    { name: 'a timeout', code: guest, args: ['--timeout', '1'], status: 124, exits: 'HALTED' },
    // lidt of zeros, int3
    {
      name: 'a crash',
      code: Uint8Array.of(0x0f, 0x01, 0x1d, 0x10, 0, 0x10, 0, 0xcc, ...Array<number>(24).fill(0)),
      args: [],
      status: 3,
      exits: 'SHUTDOWN',
    },
    // mov dx, 0x604; mov ax, 0x3400; out dx, ax
    {
      name: 'switching off',
      code: Uint8Array.of(0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef, 0xeb, 0xfe),
      args: [],
      status: 0,
      exits: 'IO',
    },
  ];
  it.each(ends)(
    'vitrine run --trace writes them at the end: $name',
    async ({ code, args, status, exits }) => {
      const flat = join(folder, 'end.bin');
      writeFileSync(flat, code);
      const out = join(folder, `${exits}.jsonl`);
      expect(await run(...['--flat', `${flat}@0x100000`, '--trace', out, ...args])).toEqual({
        status,
        errors: expect.not.stringContaining('exits could'),
      });
      const last = JSON.parse(readFileSync(out, 'utf8').trim().split('\n').at(-1)!) as ExitInfo;
      expect([exits, 'STOPPED']).toContain(last.reason);
    },
  );

  it('vitrine run --trace says when the file can’t be written', async () => {
    const flat = join(folder, 'off.bin');
    writeFileSync(flat, ends[2].code);
    const out = join(folder, 'no/such/file.json');
    expect(await run('--flat', `${flat}@0x100000`, '--trace', out)).toEqual({
      status: 1,
      errors: expect.stringMatching(/^vitrine: The exits could not be written to .*no.such.file\.json: /),
    });
  });
});

describe('vitrine trace', () => {
  it('asks a running service, by name', async () => {
    const library = join(folder, 'library');
    const service = await Service.open({ folder: library });
    const local = await LocalSocket.open(localSocketPath(library), service);
    const trace = async (...args: string[]): Promise<{ status: number; out: string; err: string }> => {
      let [out, err] = ['', ''];
      const streams = { output: sink((text) => (out += text)), errors: sink((text) => (err += text)) };
      const status = await traceCommand(args, { ...streams, library });
      return { status, out, err };
    };
    const parsed = (text: string): ExitInfo[] =>
      text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as ExitInfo);
    try {
      const { id } = await service.call('vm.create', config('emulated'));
      expect(await trace('exits')).toMatchObject({
        status: 1,
        err: 'vitrine trace: "exits" is off. Only a VM that is on can be looked into.\n',
      });
      await service.call('vm.start', { id });
      const halts = async (): Promise<number> => {
        const { records } = await service.call('trace.query', { id, filter: { reasons: ['HALTED'] } });
        return records.length;
      };
      while ((await halts()) === 0) await delay(20);

      expect(own(parsed((await trace('exits', '--json')).out))).toMatchObject(wanted);
      expect((await trace(id, '--last', '1', '--port', '0x3f8-0x3ff', '--direction', 'in')).out).toMatch(
        /^ +NUMBER .*\n.* in 0x3ff 1 +0x41 +uart0 +0x100008 .*\n$/,
      );
      const search = await trace(id, '--from', '0', '--device', 'lapic', '--last', '2', '--json');
      expect(parsed(search.out)).toMatchObject(wanted.slice(4, 6));
      expect((await trace('exits', '--stats')).out).toMatch(/uart0 +1 +11 /);
      const file = join(folder, 'cli.json');
      expect(await trace('exits', '--export', file, '--device', 'uart')).toMatchObject({
        status: 0,
        out: expect.stringMatching(/^3 exits, \d+ bytes, are in /),
      });
      expect(checkTraceEvents(readFileSync(file, 'utf8'))).toHaveLength(5);
      expect(await trace('nobody')).toMatchObject({
        status: 1,
        err: expect.stringContaining('no VM "nobody"'),
      });
      expect(await trace('exits', '--tea')).toMatchObject({ status: 2, out: '' });

      // A tail shows what comes, until the VM is switched off.
      const tail = trace('exits', '--follow', '--json', '--last', '1');
      await delay(50);
      await service.call('vm.reset', { id });
      while ((await halts()) < 2) await delay(20);
      await delay(300);
      await service.call('vm.powerOff', { id });
      const followed = await tail;
      expect(followed.status).toBe(0);
      expect(own(parsed(followed.out)).filter(({ run: which }) => which === 1)).toMatchObject(wanted);
    } finally {
      await service.close();
      await local.close();
    }
  });
});
