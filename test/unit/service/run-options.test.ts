import { describe, expect, it } from 'vitest';
import { parseMemory, parseRunOptions, UsageError } from '../../../main/service/run-options.ts';
import { EscapeFilter } from '../../../main/service/terminal.ts';

const MIB = 2 ** 20;

describe('the command line of vitrine run', () => {
  for (const { name, args, wanted } of [
    {
      name: 'a kernel',
      args: '--kernel k --initrd i --append a=b --memory 1G --backend emulated --disk d --disk e,ro --timeout 5 --json',
      wanted: {
        config: {
          guest: { kind: 'linux', kernel: 'k', initrd: 'i', append: 'a=b' },
          memory: 1024 * MIB,
          backend: 'emulated',
          disks: [
            { path: 'd', readonly: false },
            { path: 'e', readonly: true },
          ],
        },
        timeout: 5,
        json: true,
        stats: false,
      },
    },
    {
      name: 'defaults',
      args: '--kernel k',
      wanted: {
        config: {
          guest: { kind: 'linux', kernel: 'k', append: 'console=ttyS0' },
          memory: 256 * MIB,
          vcpus: 1,
        },
        timeout: null,
      },
    },
    { name: 'the calculator', args: '--guest calc', wanted: { config: { guest: { kind: 'calc' } } } },
    {
      name: 'an ELF file with an initrd',
      args: '--guest k.elf --initrd i',
      wanted: { config: { guest: { kind: 'elf', file: 'k.elf', append: '', initrd: 'i' } } },
    },
    {
      name: 'a flat file',
      args: '--flat a@b@0x7c00',
      wanted: { config: { guest: { kind: 'flat', file: 'a@b', address: 0x7c00 } } },
    },
  ]) {
    it(name, () => expect(parseRunOptions(args.split(' '))).toMatchObject(wanted));
  }

  it('help', () => expect(parseRunOptions(['--help'])).toBe('help'));

  for (const { args, wanted } of [
    { args: '', wanted: /nothing to boot/ },
    { args: '--kernel k --guest calc', wanted: /--kernel and --guest exclude each other/ },
    { args: '--kernel', wanted: /kernel/ },
    { args: '--kernel k --colour', wanted: /colour/ },
    { args: '--kernel k extra', wanted: /extra/ },
    { args: '--kernel k --memory lots', wanted: /--memory lots: wanted is a size/ },
    { args: '--kernel k --memory 2M', wanted: /4M to 3584M/ },
    { args: '--kernel k --memory 9G', wanted: /4M to 3584M/ },
    { args: '--kernel k --backend xen', wanted: /auto, emulated, kvm, nvmm/ },
    { args: '--kernel k --timeout soon', wanted: /--timeout soon/ },
    { args: '--kernel k --timeout -1', wanted: /timeout/ },
    { args: '--guest calc --gdb host', wanted: /--gdb host: wanted is PORT, HOST:PORT/ },
    { args: '--guest calc --gdb-wait', wanted: /--gdb-wait: for whom/ },
    { args: '--guest calc --gdb-arch i386', wanted: /--gdb-arch: for whom/ },
    { args: '--guest calc --gdb 1 --gdb-arch arm', wanted: /auto, i8086, i386, x86-64/ },
    { args: '--kernel k --disk ,ro', wanted: /the path is empty/ },
    { args: '--flat boot.bin', wanted: /FILE@ADDRESS/ },
    { args: '--flat boot.bin@0x1ffffffff', wanted: /--flat/ },
    { args: '--flat f@0 --append x', wanted: /takes no --append/ },
    { args: '--guest calc --initrd x', wanted: /takes no --append/ },
  ]) {
    it(`refuses: ${args}`, () => {
      const parse = () => parseRunOptions(args === '' ? [] : args.split(' '));
      expect(parse).toThrow(UsageError);
      expect(parse).toThrow(wanted);
    });
  }

  it('refuses a command line that is too long', () => {
    expect(() => parseRunOptions(['--kernel', 'k', '--append', 'x'.repeat(3000)])).toThrow(UsageError);
  });

  for (const [text, wanted] of [
    ['64M', 64],
    ['64MiB', 64],
    ['1G', 1024],
    ['1.5g', 1536],
    ['8192K', 8],
    ['96', 96],
  ] as const) {
    it(`memory ${text}`, () => expect(parseMemory(text)).toBe(wanted * MIB));
  }
});

describe('the escape key', () => {
  for (const { name, typed, wanted, commands } of [
    { name: 'plain text', typed: ['abc'], wanted: 'abc', commands: '' },
    { name: 'quit', typed: ['a\x01xb'], wanted: 'ab', commands: 'x' },
    { name: 'in two reads', typed: ['\x01', 'x'], wanted: '', commands: 'x' },
    { name: 'help both ways', typed: ['\x01h\x01?'], wanted: '', commands: 'hh' },
    { name: 'itself', typed: ['\x01\x01x'], wanted: '\x01x', commands: '' },
    { name: 'an unknown key is dropped', typed: ['\x01zq'], wanted: 'q', commands: '' },
    { name: 'a capital letter', typed: ['\x01X'], wanted: '', commands: 'x' },
  ]) {
    it(name, () => {
      let seen = '';
      const filter = new EscapeFilter((key) => (seen += key));
      const out = typed.map((piece) =>
        Buffer.from(filter.filter(Buffer.from(piece, 'latin1'))).toString('latin1'),
      );
      expect([out.join(''), seen]).toEqual([wanted, commands]);
    });
  }
});
