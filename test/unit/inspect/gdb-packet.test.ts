import { describe, expect, it } from 'vitest';
import { parseAddress, addressText, isLocal } from '../../../main/inspect/gdb/address.ts';
import { encodePacket, expandRuns, PACKET_SIZE, PacketReader } from '../../../main/inspect/gdb/packet.ts';
import { parseVCont } from '../../../main/inspect/gdb/resume.ts';
import { Random } from '../../differential/random.ts';

const feed = (...pieces: string[]) => {
  const reader = new PacketReader();
  return pieces.flatMap((piece) => reader.feed(Buffer.from(piece, 'latin1')));
};
const packet = (body: string) => ({ kind: 'packet', body });

describe('packets that arrive', () => {
  for (const { name, input, wanted } of [
    { name: 'one', input: ['$g#67'], wanted: [packet('g')] },
    { name: 'in pieces', input: ['$', 'm0,4#f', 'd'], wanted: [packet('m0,4')] },
    { name: 'checksum in capitals', input: ['$m0,4#FD'], wanted: [packet('m0,4')] },
    { name: 'empty', input: ['$#00'], wanted: [packet('')] },
    {
      name: 'two, with what is between',
      input: ['+$g#67+$k#6b-'],
      wanted: [{ kind: 'ack' }, packet('g'), { kind: 'ack' }, packet('k'), { kind: 'nack' }],
    },
    { name: 'escaped', input: ['$X}\x03}]#b2'], wanted: [packet('X#}')] },
    { name: 'a wrong checksum', input: ['$g#66'], wanted: [{ kind: 'broken', why: 'checksum' }] },
    { name: 'a checksum that is none', input: ['$g#x7'], wanted: [{ kind: 'broken', why: 'checksum' }] },
    { name: 'one that begins in another', input: ['$m0,$g#67'], wanted: [packet('g')] },
    { name: 'an interrupt', input: ['\x03'], wanted: [{ kind: 'interrupt' }] },
    { name: 'an interrupt byte in a packet is data', input: ['$X\x03#5b'], wanted: [packet('X\x03')] },
    { name: 'noise', input: ['hello\xff\0#11'], wanted: [] },
  ]) {
    it(name, () => expect(feed(...input)).toEqual(wanted));
  }

  it('one longer than PacketSize is said to be', () => {
    expect(feed(`$${'a'.repeat(PACKET_SIZE + 1)}#00`, '$g#67')).toEqual([
      { kind: 'broken', why: 'length' },
      packet('g'),
    ]);
    expect(feed(`$${'a'.repeat(PACKET_SIZE)}#00`)).toEqual([packet('a'.repeat(PACKET_SIZE))]);
  });
});

describe('packets that leave', () => {
  const unescape = (text: string) =>
    text.replace(/\}(.)/gs, (_, char: string) => String.fromCharCode(char.charCodeAt(0) ^ 0x20));

  for (const { name, body, wanted } of [
    { name: 'plain', body: 'OK', wanted: '$OK#9a' },
    { name: 'four of one', body: '0000', wanted: '$0* #7a' },
    { name: 'three of one stay', body: '000', wanted: '$000#90' },
    { name: 'a count that would be #', body: '0'.repeat(7), wanted: '$0*"0#ac' },
  ]) {
    it(name, () => expect(encodePacket(body).toString('latin1')).toBe(wanted));
  }

  it('whatever it is arrives as it was', () => {
    const random = new Random(11);
    for (let round = 0; round < 500; round++) {
      let body = '';
      while (body.length < random.below(400)) {
        const char = String.fromCharCode(random.below(3) === 0 ? random.below(256) : 0x30);
        body += char.repeat(random.below(4) === 0 ? random.below(250) + 1 : 1);
      }
      const framed = encodePacket(body).toString('latin1');
      const inside = framed.slice(1, -3);
      expect(inside).not.toMatch(/[#$]/);
      // Counts that gdb might take for an acknowledgement.
      expect(inside).not.toMatch(/[^}]\*[+-]/);
      expect(unescape(expandRuns(inside))).toBe(body);
    }
  });
});

describe('vCont', () => {
  for (const { name, text, vcpus, wanted } of [
    { name: 'all go on', text: 'c', vcpus: 2, wanted: ['continue', 'continue'] },
    {
      name: 'one steps, the others go on',
      text: 's:2;c',
      vcpus: 3,
      wanted: ['continue', 'step', 'continue'],
    },
    { name: 'one steps alone', text: 'S05:1', vcpus: 2, wanted: ['step', 'stop'] },
    { name: 'a range', text: 'r1000,1010:1;c:-1', vcpus: 2, wanted: ['range', 'continue'] },
    { name: 'the first that fits counts', text: 'c:1;s:1', vcpus: 1, wanted: ['continue'] },
  ]) {
    it(name, () => expect(parseVCont(text, vcpus).map(({ kind }) => kind)).toEqual(wanted));
  }

  for (const text of ['', 'x', 'c:3', 'cc', 'r1', 'r1,', 's:g', 'C', 'Cxyz', 'c:11111111111111111']) {
    it(`"${text}" is an error`, () => expect(() => parseVCont(text, 2)).toThrow());
  }
});

describe('addresses', () => {
  for (const { text, wanted, local } of [
    { text: '1234', wanted: '127.0.0.1:1234', local: true },
    { text: ':1234', wanted: '127.0.0.1:1234', local: true },
    { text: 'localhost:0', wanted: 'localhost:0', local: true },
    { text: '0.0.0.0:1234', wanted: '0.0.0.0:1234', local: false },
    { text: '[::1]:1234', wanted: '[::1]:1234', local: true },
    { text: '[::]:1234', wanted: '[::]:1234', local: false },
    { text: 'unix:/run/gdb', wanted: '/run/gdb', local: true },
  ]) {
    it(text, () => {
      const address = parseAddress(text);
      expect([addressText(address), isLocal(address)]).toEqual([wanted, local]);
    });
  }

  for (const text of ['', 'x', '65536', '1:2:3', '::1:5', 'unix:', `unix:${'x'.repeat(104)}`, '-1', 'a:']) {
    it(`"${text.slice(0, 20)}" is an error`, () => expect(() => parseAddress(text)).toThrow());
  }
});
