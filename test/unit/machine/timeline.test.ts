import { describe, expect, it } from 'vitest';
import { InputQueue, OutputQueue, SeededRandom } from '../../../main/machine/timeline-input.ts';
import { SerialRing } from '../../../main/devices/serial-ring.ts';
import { inputLine, parseDeterministic, parseInputs } from '../../../main/service/deterministic-options.ts';
import { UsageError } from '../../../main/service/usage-error.ts';

describe('what comes to a deterministic machine', () => {
  it('random words follow from seed and position', () => {
    const words = (seed: number, position: number): number[] => {
      const random = new SeededRandom(seed);
      random.position = position;
      return Array.from({ length: 1000 }, () => random.next());
    };
    expect(words(1, 0)).toEqual(words(1, 0));
    expect(words(1, 0)).not.toEqual(words(2, 0));
    expect(words(1, 500).slice(0, 500)).toEqual(words(1, 0).slice(500));
    expect(new Set(words(1, 2 ** 32)).size).toBe(1000);
    const ones = words(3, 0).reduce((sum, word) => sum + word.toString(2).replaceAll('0', '').length, 0);
    expect(Math.abs(ones / 32000 - 0.5)).toBeLessThan(0.02);
  });

  it('the guest always finds room for output, and the ring gets it in order', () => {
    const ring = new SerialRing(SerialRing.allocate(16));
    const queue = new OutputQueue(ring);
    for (let i = 0; i < 100; i++) expect(queue.output(i)).toBe(true);
    const seen: number[] = [];
    const piece = new Uint8Array(7);
    for (let done = false; !done;) {
      done = queue.flush();
      for (let count; (count = ring.read(piece)) > 0;) seen.push(...piece.subarray(0, count));
    }
    expect(seen).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it('input waits in order, and can be put back', () => {
    const queue = new InputQueue();
    queue.push(Uint8Array.of(1, 2, 3));
    expect(queue.pull()).toBe(1);
    const saved = queue.save();
    expect([queue.pull(), queue.pull(), queue.pull()]).toEqual([2, 3, -1]);
    queue.load(saved);
    expect(queue.available()).toBe(2);
  });
});

describe('the file of inputs', () => {
  const line = inputLine({
    at: 10,
    instructions: 9,
    input: { kind: 'serial', port: 0, data: Uint8Array.of(0, 255) },
  });

  it('comes back as it was written', () => {
    const button = inputLine({ at: 10, instructions: 9, input: { kind: 'power-button' } });
    expect(parseInputs('f', `${line}\n${button}`)).toEqual([
      { at: 10, instructions: 9, input: { kind: 'serial', port: 0, data: Uint8Array.of(0, 255) } },
      { at: 10, instructions: 9, input: { kind: 'power-button' } },
    ]);
  });

  const bad = [
    { name: 'no JSON', text: '{', wanted: 'f, line 1: is no JSON' },
    { name: 'an unknown kind', text: line.replace('serial', 'parallel'), wanted: 'line 1: input.kind' },
    { name: 'a port that does not exist', text: line.replace('"port":0', '"port":9'), wanted: 'input.port' },
    {
      name: 'a time before the last',
      text: line + line.replace('"at":10', '"at":9'),
      wanted: 'line 2: comes before',
    },
    { name: 'a time that is none', text: line.replace('"at":10', '"at":-1'), wanted: 'line 1: at' },
  ];
  it.each(bad)('$name', ({ text, wanted }) => {
    expect(() => parseInputs('f', text)).toThrow(UsageError);
    expect(() => parseInputs('f', text)).toThrow(wanted);
  });

  it('options without --deterministic are wrong usage', () => {
    const values = { deterministic: false, seed: '1' };
    expect(() => parseDeterministic(values)).toThrow('--seed goes with --deterministic');
    expect(() => parseDeterministic({ deterministic: true, seed: '4294967296' })).toThrow('32 bits');
    expect(() => parseDeterministic({ deterministic: true, 'hash-at': '1,x' })).toThrow('--hash-at x');
  });
});
