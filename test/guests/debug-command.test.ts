import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { type DebugVerb, debugCommand } from '../../main/service/debug-command.ts';
import { LocalSocket } from '../../main/service/local-socket.ts';
import { localSocketPath } from '../../main/service/paths.ts';
import { Service } from '../../main/service/service.ts';
import { snapshotCommand } from '../../main/service/snapshot-command.ts';
import { symbolsElf } from './symbols-elf.ts';

// The commands that stop a machine and look into it, as somebody types them: each in words and as JSON.

const folder = mkdtempSync(join(tmpdir(), 'vitrine-debug-command-'));
const service = await Service.open({ folder });
const socket = await LocalSocket.open(localSocketPath(folder), service);
afterAll(async () => {
  await socket.close();
  await service.close();
  rmSync(folder, { recursive: true });
});

const ORIGIN = 0x10_0000;
const SOURCE = `bits 32
 org ${ORIGIN}
 mov esp, 0x200000
 xor ebp, ebp
again: call work
 jmp again
work: push ebp
 mov ebp, esp
 mov [0x180000], eax
 out 0x80, al
 mov ecx, 0x1b
 rdmsr
 pop ebp
 ret
`;
const { bytes } = assemble(SOURCE);
const file = join(folder, 'work.bin');
writeFileSync(file, bytes);
const again = ORIGIN + 7;
const work = again + 7;
/** What follows in \`work\`: offsets of the store, of OUT, RDMSR and RET. */
const [store, out, rdmsr] = [work + 3, work + 9, work + 16];
const hex = (value: number): string => `0x${value.toString(16)}`;
const symbols = [
  { name: 'again', address: BigInt(again) },
  { name: 'work', address: BigInt(work) },
];
const map = join(folder, 'System.map');
writeFileSync(
  map,
  symbols.map(({ name, address }) => `${address.toString(16).padStart(16, '0')} T ${name}\n`).join(''),
);
const elf = join(folder, 'symbols.elf');
writeFileSync(elf, symbolsElf(symbols));

interface Done {
  status: number;
  said: string;
  errors: string;
}

async function run(verb: DebugVerb, ...args: string[]): Promise<Done> {
  const [output, errors] = [new PassThrough(), new PassThrough()];
  const status = await debugCommand(verb, args, { output, errors, library: folder });
  return { status, said: String(output.read() ?? ''), errors: String(errors.read() ?? '') };
}

/** What a command that has to succeed says: in words, or as JSON. */
async function words(verb: DebugVerb, ...args: string[]): Promise<string> {
  const { status, said, errors } = await run(verb, 'Work', ...args);
  expect({ status, errors }).toEqual({ status: 0, errors: '' });
  return said;
}
const json = async (verb: DebugVerb, ...args: string[]): Promise<unknown> =>
  JSON.parse(await words(verb, ...args, '--json'));

beforeAll(async () => {
  const config = {
    name: 'Work',
    guest: { kind: 'flat' as const, file, address: ORIGIN },
    memory: 8 * 2 ** 20,
  };
  const { id } = await service.call('vm.create', { ...config, backend: 'emulated' });
  await service.call('vm.start', { id });
});

describe('the commands that look into a machine', () => {
  it('pause, take symbols, and say where it stands', async () => {
    expect((await run('inspect', 'Work')).errors).toContain('Pause it first');
    expect((await run('break', 'Work', '--watch', 'rsp')).errors).toContain('pause it first');
    expect(await words('pause')).toMatch(/^vCPU 0 at 0x1000[0-9a-f]+: Paused\.\n=> {3}0x1000/);
    expect((await run('pause', 'Work')).errors).toContain('Only a running VM can be paused');
    for (const names of [map, elf]) {
      // It may have been paused at one of the two, which then has the arrow.
      expect(await words('inspect', 'code', 'work', '--symbols', names, '--count', '2')).toMatch(
        /^work:\n(=>| {2}) +0x10000e +55 +push +ebp\n(=>| {2}) +0x10000f/,
      );
    }
    expect(await words('continue', '--to', 'work')).toContain(`vCPU 0 at ${hex(work)} <work>: `);
    expect(await json('inspect', 'code', '--count', '1')).toMatchObject({
      size: 32,
      lines: [{ address: hex(work), bytes: '55', symbol: 'work', current: true }],
    });
    expect(await words('inspect', 'backtrace')).toMatch(/^#0 +0x10000e/);
  });

  it('step into, over, out, and by count', async () => {
    await words('continue', '--to', 'again');
    expect(await json('step')).toMatchObject({
      ...{ vcpu: 0, reason: 'step', rip: hex(work) },
      code: { symbol: 'work', text: expect.stringContaining('push') as string },
    });
    expect(await json('step', '--out')).toMatchObject({ reason: 'step', rip: hex(again + 5) });
    await words('step');
    expect(await words('step', '--over')).toContain(
      `vCPU 0 at ${hex(again + 5)} <again+0x5>: Stepped: now at ${hex(again + 5)}.`,
    );
    expect(await json('step', '--count', '4')).toMatchObject({ rip: hex(store) });
    expect((await run('step', 'Work', '--over', '--out')).status).toBe(2);
    expect((await run('step', 'Work', '--back')).errors).toContain('keeps no history');
    expect((await run('step', 'Work', '--vcpu', '1')).errors).toContain('There is no vCPU 1');
  });

  it.each([
    { what: ['work'], stop: { reason: 'breakpoint', rip: hex(work) } },
    { what: ['--watch', '0x180000', '--length', '4', '--access', 'write'], stop: { reason: 'watchpoint' } },
    { what: ['--port', '0x80', '--direction', 'out'], stop: { reason: 'port', rip: hex(out) } },
    { what: ['--msr', '0x1b', '--access', 'read'], stop: { reason: 'msr', rip: hex(rdmsr) } },
    { what: ['--exit', 'rdmsr'], stop: { reason: 'exit', rip: hex(rdmsr) } },
  ])('break: $what', async ({ what, stop }) => {
    const { number } = (await json('break', ...what)) as { number: number };
    expect(await json('break')).toMatchObject([{ number, once: false, hits: 0 }]);
    expect(await json('continue')).toMatchObject({ state: 'paused', stop: { ...stop, breakpoint: number } });
    expect(await words('break', '--list')).toMatch(/, 1 hits\n$/);
    expect(await words('break', '--remove', String(number))).toBe(`Breakpoint ${number} is gone.\n`);
    expect((await run('break', 'Work', '--remove', String(number))).errors).toContain(
      `There is no breakpoint ${number}`,
    );
  });

  it('say what can not be broken at', async () => {
    expect((await run('break', 'Work', '--watch', '0', '--length', '0x100000001')).errors).toContain('4 GiB');
    expect((await run('break', 'Work', '--port', '1', '--msr', '2')).status).toBe(2);
    expect((await run('break', 'Work', 'nowhere')).errors).toContain('"nowhere" is neither a number');
  });

  it('show and change registers and memory', async () => {
    await words('continue', '--to', 'work');
    const text = await words('inspect');
    expect(text).toMatch(/CR0 {4}0000000000000011 {2}\[PE ET\]/);
    expect(text).toMatch(/CS\.attributes [0-9a-f]{4} {2}\[execute, read.* S P D\/B G\]/);
    expect(text).not.toContain('[]');
    expect(await words('inspect', 'set', 'rbx=0x1234', 'xmm3=5', 'rflags=0x3202')).toContain(
      'rbx is 0x1234 now',
    );
    expect(await words('inspect')).toMatch(/RFLAGS 0{12}3202 {2}\[IF IOPL=3\]/);
    const [general] = (await json('inspect')) as { registers: { name: string; value: string }[] }[];
    expect(general!.registers).toContainEqual({ name: 'RBX', value: '0x1234', bits: 64 });
    expect((await run('inspect', 'Work', 'set', 'nope=1')).errors).toContain('no register NOPE');
    expect((await run('inspect', 'Work', '--vcpu', '1')).errors).toBe(
      'vitrine inspect: There is no vCPU 1: this machine has only vCPU 0.\n',
    );
    expect(await words('inspect', 'write', 'rsp-64', '41 42', '43')).toBe('3 of 3 bytes written.\n');
    expect(await words('inspect', 'memory', 'rsp-64', '--length', '3')).toMatch(/ 41 42 43 +ABC\n$/);
    expect(await json('inspect', 'memory', '0x180000', '--physical', '--length', '4')).toMatchObject({
      address: '0x180000',
    });
  });

  it('walk page tables, and say why a walk faults', async () => {
    // A directory at 0x3000 whose first entry is a table at 0x4000, of which one page is there.
    await words('inspect', 'write', '0x3000', '03400000', '--physical');
    await words('inspect', 'write', '0x4400', '03001000', '--physical');
    await words('inspect', 'set', 'cr3=0x3000', 'cr0=0x80000011');
    expect(await words('inspect', 'walk', 'work')).toMatch(/PTE .* P R\/W\n {2}= 0x10000e guest-physical/s);
    expect(await words('inspect', 'walk', '0x101000')).toMatch(
      /PTE .*not present\n {2}page fault: .*not present/,
    );
    expect(await json('inspect', 'walk', '0x400000')).toMatchObject({
      fault: expect.stringContaining('not present') as string,
    });
    // A breakpoint there is taken, with a note.
    const { number, note } = (await json('break', '0x400000')) as { number: number; note: string };
    expect(note).toContain('Nothing is mapped at 0x400000 now');
    await words('break', '--remove', String(number));
    await words('inspect', 'set', 'cr0=0x11');
    expect(await words('inspect', 'walk', 'work')).toContain('none paging');
  });

  it('show tables and devices', async () => {
    for (const table of ['idt', 'gdt', 'ldt', 'tss']) {
      expect(await words('inspect', table)).toMatch(new RegExp(`^${table.toUpperCase()} at 0x`));
      expect(await json('inspect', table)).toMatchObject({ table });
    }
    await words('inspect', 'set', 'ldtr.attributes=0');
    expect(await words('inspect', 'ldt')).toContain('LDTR is not present: there is none.');
    expect(await words('inspect', 'devices', 'ioapic')).toMatch(/^ioapic:\n/);
    expect(await json('inspect', 'devices', 'lapic')).toMatchObject([{ device: 'lapic0' }]);
    expect((await run('inspect', 'Work', 'devices', 'nonsense')).errors).toContain('There are: ');
  });

  it('pause and resume one vCPU', async () => {
    await words('resume');
    expect(await words('pause', '--vcpu', '0')).toBe('Work is running, but for vCPU 0, which is paused.\n');
    expect(await json('step', '--vcpu', '0')).toMatchObject({ vcpu: 0, reason: 'step' });
    expect(await words('resume', '--vcpu', '0')).toBe('Work is running.\n');
    for (const verb of ['pause', 'resume'] as const) {
      expect((await run(verb, 'Work', '--vcpu', '7')).errors).toBe(
        `vitrine ${verb}: There is no vCPU 7: this machine has only vCPU 0.\n`,
      );
    }
    expect(await json('pause', '--time-runs')).toMatchObject({ state: 'paused' });
  });

  it("save a vCPU's registers, edit them and put them back; a restore may wait", async () => {
    const snapshot = async (...args: string[]): Promise<Done> => {
      const [output, errors] = [new PassThrough(), new PassThrough()];
      const [verb, ...rest] = args as [string, ...string[]];
      const status = await snapshotCommand(verb, rest, { output, errors, library: folder });
      return { status, said: String(output.read() ?? ''), errors: String(errors.read() ?? '') };
    };
    const saved = join(folder, 'vcpu.json');
    expect(await snapshot('snapshot', 'take', 'Work', 'before')).toMatchObject({ status: 0 });
    expect(await snapshot('vcpu', 'save', 'Work', saved)).toMatchObject({ status: 0 });
    const edited = join(folder, 'edited.json');
    writeFileSync(edited, readFileSync(saved, 'utf8').replace(/("RDI": *)"0x\w+"/, '$1"0x00000000deadbeef"'));
    expect((await snapshot('vcpu', 'diff', saved, edited)).said).toMatch(/general\.RDI: .* -> 0x0+deadbeef/);
    expect(await snapshot('vcpu', 'load', 'Work', edited)).toMatchObject({ status: 0 });
    expect(await words('inspect')).toMatch(/RDI +00000000deadbeef/);
    expect((await snapshot('vcpu', 'load', 'Work', saved, '--vcpu', '2')).errors).toContain('no vCPU 2');
    writeFileSync(edited, '{"general":{"RAX":"zz"}}');
    expect((await snapshot('vcpu', 'load', 'Work', edited)).errors).toContain('general.RAX');

    await words('resume');
    expect(await snapshot('restore', 'Work', 'before', '--paused')).toMatchObject({ status: 0 });
    const vm = (await service.call('vm.list', {})).find(({ config }) => config.name === 'Work');
    expect(vm).toMatchObject({ state: 'paused' });
    // Where it stands is where the snapshot was, not where it was paused for this.
    interface Registers {
      general: Record<string, string>;
    }
    const { general } = JSON.parse((await snapshot('vcpu', 'save', 'Work', '--json')).said) as Registers;
    expect(BigInt(general.RIP!)).toBe(BigInt(vm!.stop!.rip));
    expect(general).toEqual((JSON.parse(readFileSync(saved, 'utf8')) as Registers).general);
  });

  it('leave a machine as it died', async () => {
    await words('break', '--triple-fault');
    await words('inspect', 'set', 'rip=0x180001', 'idtr.limit=0');
    await words('inspect', 'write', '0x180001', '0f0b');
    expect(await json('continue')).toMatchObject({ state: 'crashed', stop: { reason: 'triple-fault' } });
    expect(await words('inspect', 'code', '--count', '1')).toContain('ud2');
    expect((await run('step', 'Work')).errors).toContain("can't step now");
  });

  it('know wrong usage', async () => {
    expect(await run('step')).toMatchObject({ status: 2 });
    expect(await run('step', 'Nobody')).toMatchObject({ status: 1 });
    expect(await run('step', 'Work', '--once')).toMatchObject({ status: 2 });
    expect((await run('inspect', 'Work', 'everything')).errors).toContain('there are registers, code');
    expect((await run('inspect', '--help')).said).toContain('Usage: vitrine inspect');
  });
});
