import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { requests, spanText } from '../../../main/service/contract.ts';
import { parseTraceArgs } from '../../../main/service/trace-command.ts';
import { traceFile } from '../../../main/service/trace-file.ts';
import { exitHeading, exitText, statsText } from '../../../main/service/trace-text.ts';

describe('the words of vitrine trace', () => {
  const plain = { vm: 'linux', mode: 'last', vcpu: 0, from: 0, last: undefined, file: '', json: false };
  const cases: { name: string; args: string[]; wanted: object }[] = [
    { name: 'a VM', args: ['linux'], wanted: { ...plain, filter: undefined } },
    { name: 'stats', args: ['linux', '--stats', '--json'], wanted: { ...plain, mode: 'stats', json: true } },
    { name: 'follow', args: ['-f', 'linux', '--last', '5'], wanted: { ...plain, mode: 'follow', last: 5 } },
    { name: 'from', args: ['linux', '--from', '77'], wanted: { ...plain, mode: 'from', from: 77 } },
    {
      name: 'export',
      args: ['linux', '--export', 'a.json'],
      wanted: { ...plain, mode: 'export', file: 'a.json' },
    },
    {
      name: 'every filter',
      args: [
        ...['linux', '--vcpu', '1', '--reason', 'io,memory', '--port', '0x3f8-0x3ff', '--gpa', '0xfee00000'],
        ...[
          '--msr',
          '27',
          '--device',
          'uart',
          '--direction',
          'out',
          '--rip',
          '0xFFFFFFFF81000000-0xffffffff82000000',
        ],
        ...['--value', '65', '--time', '1.5-2', '--faults'],
      ],
      wanted: {
        ...plain,
        vcpu: 1,
        filter: {
          reasons: ['IO', 'MEMORY'],
          ports: { from: 0x3f8, to: 0x3ff },
          gpas: { from: 0xfee00000, to: 0xfee00000 },
          msrs: { from: 27, to: 27 },
          ...{ device: 'uart', direction: 'write', value: '0x41', faults: true },
          rips: { from: '0xffffffff81000000', to: '0xffffffff82000000' },
          times: { from: 1.5e9, to: 2e9 },
        },
      },
    },
  ];
  test.each(cases)('$name', ({ args, wanted }) => expect(parseTraceArgs(args)).toMatchObject(wanted));

  const wrong: { name: string; args: string[]; wanted: string }[] = [
    { name: 'no VM', args: ['--stats'], wanted: 'which VM?' },
    { name: 'two VMs', args: ['a', 'b'], wanted: 'b: one VM at a time' },
    {
      name: 'two modes',
      args: ['a', '--stats', '--follow'],
      wanted: '--stats and --follow exclude each other',
    },
    {
      name: 'a reason that there is not',
      args: ['a', '--reason', 'TEA'],
      wanted: '--reason: Invalid option',
    },
    { name: 'a port beyond the last', args: ['a', '--port', '0x10000'], wanted: '--port: ' },
    { name: 'ports backwards', args: ['a', '--port', '9-8'], wanted: '--port: a range ends where it begins' },
    { name: 'no number', args: ['a', '--port', 'com1'], wanted: '--port com1: wanted is a number' },
    {
      name: 'a number that is too long',
      args: ['a', '--last', '99999999999999999999'],
      wanted: 'more than there can be',
    },
    { name: 'three ends', args: ['a', '--rip', '1-2-3'], wanted: 'two with - between' },
    { name: 'a value of 65 bits', args: ['a', '--value', '18446744073709551616'], wanted: '--value: ' },
    { name: 'a direction', args: ['a', '--direction', 'up'], wanted: '--direction: ' },
    { name: 'a time', args: ['a', '--time', 'now'], wanted: '--time: ' },
    { name: 'an option', args: ['a', '--colour'], wanted: '--colour' },
  ];
  test.each(wrong)('$name', ({ args, wanted }) => expect(() => parseTraceArgs(args)).toThrow(wanted));

  test('a file’s name says how it is written', () => {
    expect(traceFile('a.jsonl')).toEqual({ path: resolve('a.jsonl'), format: 'jsonl' });
    expect(traceFile('/b/a.json')).toEqual({ path: '/b/a.json', format: 'perfetto' });
    expect(() => traceFile('a.txt')).toThrow('a.txt: a name that ends in .jsonl');
  });
});

describe('exits as text', () => {
  const exit = { number: 7, vcpu: 0, run: 0, time: 1_500_000_250, reason: 'IO', rip: '0x7c05' };
  const cases: { name: string; info: Parameters<typeof exitText>[0]; wanted: RegExp }[] = [
    {
      name: 'OUT that did not leave',
      info: {
        ...exit,
        port: 0x3f8,
        size: 1,
        direction: 'write',
        device: 'uart0',
        duration: 0,
        inPlace: true,
      },
      wanted: /IO .* out 0x3f8 1 .* uart0 .* 0x7c05 .* in place$/,
    },
    {
      name: 'OUT',
      info: {
        ...{
          ...exit,
          port: 0x3f8,
          size: 1,
          direction: 'write',
          value: '0x41',
          device: 'uart0',
          duration: 1500,
        },
      },
      wanted: /^ +7 +1\.500000250 +IO +out 0x3f8 1 +0x41 +uart0 +0x7c05 +1\.50 µs$/,
    },
    {
      name: 'REP INSW',
      info: { ...exit, port: 0x1f0, size: 2, direction: 'read', accesses: 16 },
      wanted: / in 0x1f0 2 × 16 /,
    },
    {
      name: 'the second access',
      info: { ...exit, reason: 'MEMORY', gpa: 0xfee00080, size: 4, direction: 'write', continued: true },
      wanted: /MEMORY +\+ write 0xfee00080 4 /,
    },
    {
      name: 'a refused RDMSR',
      info: { ...exit, reason: 'RDMSR', msr: 0x123, size: 8, direction: 'read', fault: true },
      wanted: /RDMSR +read 0x123 +0x7c05 +refused$/,
    },
    {
      name: 'HLT after an interrupt',
      info: { ...exit, reason: 'HALTED', event: { type: 'interrupt', vector: 48 }, duration: 4e6 },
      wanted: /HALTED +0x7c05 +4\.00 ms, after interrupt 0x30$/,
    },
  ];
  test.each(cases)('$name', ({ info, wanted }) => expect(exitText(info)).toMatch(wanted));

  test('columns stand under their headings', () => {
    const line = exitText({ ...exit, port: 1, value: '0x1', device: 'dma 0-3' });
    for (const [heading, text] of [
      ['VALUE', '0x1 '],
      ['DEVICE', 'dma'],
      ['RIP', '0x7c05'],
    ] as const) {
      expect(line.indexOf(text, exitHeading.indexOf(heading))).toBe(exitHeading.indexOf(heading));
    }
  });

  test.each([
    [0, '0 ns'],
    [999, '999 ns'],
    [1234, '1.23 µs'],
    [123_456, '123 µs'],
    [2.5e9, '2.50 s'],
  ])('%d ns', (ns, wanted) => expect(spanText(ns)).toBe(wanted));

  test('counters and rates', () => {
    const counts = { reads: 3, writes: 4, rate: 7 };
    const text = statsText({
      ...{ time: 2e9, span: 1e9, exits: { name: 'all', count: 9, rate: 8.6 } },
      ...{ vcpus: [{ vcpu: 0, first: 0, end: 9 }], reasons: [{ name: 'IO', count: 9, rate: 9 }] },
      ...{ ports: [{ port: 0x3f8, device: 'uart0', ...counts }], devices: [{ name: 'uart0', ...counts }] },
    });
    expect(text).toMatch(/At 2\.000 s\. vCPU 0: records 0 to 8\n/);
    expect(text).toMatch(/ {2}all +9 +9\/s\n {2}IO +9 +9\/s/);
    expect(text).toMatch(/ {2}0x3f8 uart0 +3 +4 +7\/s/);
  });
});

describe('the contract of the trace', () => {
  const query = requests['trace.query'].params;
  test('fills in what is usual', () => {
    expect(query.parse({ id: 'a' })).toEqual({ id: 'a', vcpu: 0, towards: 'older', limit: 100 });
  });
  const wrong: { name: string; params: object }[] = [
    { name: 'too many', params: { limit: 1001 } },
    { name: 'none', params: { limit: 0 } },
    { name: 'a direction', params: { towards: 'up' } },
    { name: 'a negative number', params: { from: -1 } },
    { name: 'a reason', params: { filter: { reasons: ['TEA'] } } },
    { name: 'no reason at all', params: { filter: { reasons: [] } } },
    { name: 'an address beyond 52 bits', params: { filter: { gpas: { from: 0, to: 2 ** 52 } } } },
    { name: 'a RIP in decimal', params: { filter: { rips: { from: '1', to: '2' } } } },
    { name: 'RIPs backwards', params: { filter: { rips: { from: '0x2', to: '0x1' } } } },
    { name: 'a long value', params: { filter: { value: '0x11111111111111111' } } },
    { name: 'a long name', params: { filter: { device: 'x'.repeat(81) } } },
    { name: 'times that are not', params: { filter: { times: { from: NaN, to: Infinity } } } },
  ];
  test.each(wrong)('refuses $name', ({ params }) => {
    expect(query.safeParse({ id: 'a', ...params }).success).toBe(false);
  });
});
