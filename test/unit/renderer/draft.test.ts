import { describe, expect, it } from 'vitest';
import { checkDraft, draftOf, newDraft, withKind } from '../../../renderer/draft.ts';
import type { Draft } from '../../../renderer/draft.ts';
import { fileName, formatMemory } from '../../../renderer/format.ts';
import { isTerminalAnswer, safeLink } from '../../../renderer/terminal.ts';

const MIB = 2 ** 20;
const linux = { ...newDraft([], 'linux'), kernel: '/boot/vmlinuz' };

describe('a draft that is right', () => {
  const cases: { name: string; draft: Draft; wanted: object }[] = [
    {
      name: 'calculator',
      draft: newDraft([]),
      wanted: { name: 'Calculator', guest: { kind: 'calc' }, memory: 16 * MIB },
    },
    {
      name: 'Linux without an initrd',
      draft: linux,
      wanted: {
        guest: { kind: 'linux', kernel: '/boot/vmlinuz', append: 'console=ttyS0' },
        memory: 512 * MIB,
      },
    },
    {
      name: 'paths and names are trimmed',
      draft: { ...linux, name: ' L ', kernel: ' /k ', initrd: ' /i ', memory: ' 96 ' },
      wanted: { name: 'L', guest: { kind: 'linux', kernel: '/k', initrd: '/i' }, memory: 96 * MIB },
    },
    {
      name: 'flat with a hexadecimal address',
      draft: { ...newDraft([], 'flat'), file: '/f', address: '0x7C00' },
      wanted: { guest: { kind: 'flat', file: '/f', address: 0x7c00 } },
    },
    {
      name: 'disks',
      draft: { ...linux, disks: [{ path: '/d', readonly: true }] },
      wanted: { disks: [{ path: '/d', readonly: true }] },
    },
  ];
  it.each(cases)('$name', ({ draft, wanted }) => {
    const checked = checkDraft(draft);
    expect(checked).toMatchObject({ config: wanted });
    // Editing shows what was typed, and saving it unchanged changes nothing.
    if ('config' in checked) expect(checkDraft(draftOf(checked.config))).toEqual(checked);
  });
});

describe('a draft that is wrong says where', () => {
  const disk = { path: '/d', readonly: false };
  const cases: { name: string; draft: Draft; fields: string[] }[] = [
    { name: 'no name', draft: { ...newDraft([]), name: '  ' }, fields: ['name'] },
    { name: 'a long name', draft: { ...newDraft([]), name: 'x'.repeat(81) }, fields: ['name'] },
    { name: 'no kernel', draft: newDraft([], 'linux'), fields: ['kernel'] },
    { name: 'a long command line', draft: { ...linux, append: 'x'.repeat(2049) }, fields: ['append'] },
    { name: 'memory: not a number', draft: { ...linux, memory: 'much' }, fields: ['memory'] },
    { name: 'memory: empty', draft: { ...linux, memory: '' }, fields: ['memory'] },
    { name: 'memory: a fraction', draft: { ...linux, memory: '4.5' }, fields: ['memory'] },
    { name: 'memory: too little', draft: { ...linux, memory: '3' }, fields: ['memory'] },
    { name: 'memory: too much', draft: { ...linux, memory: '3585' }, fields: ['memory'] },
    { name: 'no ELF', draft: newDraft([], 'elf'), fields: ['file'] },
    {
      name: 'flat: bad address',
      draft: { ...newDraft([], 'flat'), file: '/f', address: 'here' },
      fields: ['address'],
    },
    {
      name: 'flat: far address',
      draft: { ...newDraft([], 'flat'), file: '/f', address: '0x100000000' },
      fields: ['address'],
    },
    {
      name: 'second disk empty',
      draft: { ...linux, disks: [disk, { ...disk, path: '' }] },
      fields: ['disks.1'],
    },
    { name: 'nine disks', draft: { ...linux, disks: Array<typeof disk>(9).fill(disk) }, fields: ['disks'] },
    {
      name: 'several',
      draft: { ...newDraft([], 'linux'), name: '', memory: '0' },
      fields: ['kernel', 'memory', 'name'],
    },
  ];
  it.each(cases)('$name', ({ draft, fields }) => {
    const checked = checkDraft(draft);
    if ('config' in checked) throw new Error('it was accepted');
    expect(Object.keys(checked.messages).sort()).toEqual(fields);
    for (const message of Object.values(checked.messages)) expect(message).toMatch(/^[A-Z].*\.$/);
  });
});

describe('defaults', () => {
  it('a name that is free', () => {
    expect(newDraft(['Calculator', 'Calculator 3']).name).toBe('Calculator 2');
  });

  it('another kind brings its defaults, and leaves alone what was typed', () => {
    const typed = { ...newDraft([]), name: 'Mine' };
    expect(withKind(typed, 'linux', [])).toMatchObject({
      name: 'Mine',
      memory: '512',
      append: 'console=ttyS0',
    });
    expect(withKind({ ...typed, memory: '99' }, 'linux', [])).toMatchObject({ memory: '99' });
  });
});

describe('words', () => {
  it('memory', () => {
    expect([16, 512, 1024, 1536, 1000, 3584].map((count) => formatMemory(count * MIB))).toEqual([
      '16 MiB',
      '512 MiB',
      '1 GiB',
      '1.5 GiB',
      '1000 MiB',
      '3.5 GiB',
    ]);
  });

  it('file names', () => {
    const names = ['Calculator 2', '../../etc/passwd', 'Ядро', '???'];
    expect(names.map(fileName)).toEqual(['Calculator-2', 'etc-passwd', 'Ядро', 'machine']);
  });
});

describe('what guests print', () => {
  const answers = [
    { name: 'cursor position', input: '\x1b[12;40R', wanted: true },
    { name: 'device attributes', input: '\x1b[?1;2c', wanted: true },
    { name: 'status', input: '\x1b[0n', wanted: true },
    { name: 'mode', input: '\x1b[?25;1$y', wanted: true },
    { name: 'colour', input: '\x1b]11;rgb:0000/0000/0000\x1b\\', wanted: true },
    { name: 'setting', input: '\x1bP1$r0m\x1b\\', wanted: true },
    { name: 'a letter', input: 'c', wanted: false },
    { name: 'an arrow', input: '\x1b[A', wanted: false },
    { name: 'escape', input: '\x1b', wanted: false },
    { name: 'a pasted report among text', input: 'x\x1b[0n', wanted: false },
  ];
  it.each(answers)('terminal answers: $name', ({ input, wanted }) => {
    expect(isTerminalAnswer(input)).toBe(wanted);
  });

  it('only web links can be opened', () => {
    const links = [
      'https://a.example/x',
      'http://a',
      'javascript:alert(1)',
      'file:///etc/passwd',
      'vnc://h',
      'nothing',
    ];
    expect(links.map((link) => safeLink(link) !== undefined)).toEqual([
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
  });
});
