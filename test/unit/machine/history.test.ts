import { describe, expect, it } from 'vitest';
import type { VcpuCapture } from '../../../main/machine/capture.ts';
import { History } from '../../../main/machine/history.ts';

const PAGE = 4096;
const PAGES = 64;
const DEVICES = new Uint8Array(100);
const vcpu = {} as VcpuCapture;

/** A small generator with a seed (Park and Miller), for runs that can be had again. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => (state = (state * 48271) % 0x7fffffff) % below;
}

/** RAM that is written as a guest would: what is written is marked. */
function machine(limit: number) {
  const bytes = new Uint8Array(PAGES * PAGE);
  const dirty = new Uint8Array(PAGES);
  const rewritten: number[] = [];
  const ram = { bytes, dirty, rewritten: (at: number) => (dirty[at / PAGE] = rewritten.push(at) && 1) };
  const history = new History(ram, limit);
  const write = (page: number, value: number): void => {
    bytes[page * PAGE + (value % PAGE)] = value;
    dirty[page] = 1;
  };
  const take = (count: number): void => history.take({ count, inputs: 0, vcpu, devices: DEVICES });
  return { bytes, dirty, rewritten, history, write, take };
}

describe('a history of checkpoints', () => {
  it.each([1, 2, 3, 4])('gives RAM back as it was, whichever are left (seed %i)', (seed) => {
    const random = generator(seed);
    const { bytes, history, write, take } = machine(40 * PAGE);
    const then = new Map<number, Uint8Array>();
    let count = 0;
    for (let round = 0; round < 300; round++) {
      for (let i = random(12); i > 0; i--) write(random(PAGES), random(256));
      count += 1 + random(100);
      take(count);
      then.set(count, bytes.slice());
      if (random(10) !== 0) continue;
      for (let i = random(5); i > 0; i--) write(random(PAGES), random(256));
      const at = history.before(count - random(200));
      if (at < 0) continue;
      count = history.restore(at).count;
      expect(Buffer.compare(bytes, then.get(count)!)).toBe(0);
    }
    for (let at = history.before(count); at >= 0; at--) {
      expect(Buffer.compare(bytes, then.get(history.restore(at).count)!)).toBe(0);
    }
  });

  it('leaves pages alone that are as they were', () => {
    const { history, write, take, rewritten, dirty } = machine(2 ** 20);
    write(3, 7);
    take(1);
    write(3, 7);
    write(5, 9);
    history.restore(0);
    expect(rewritten).toEqual([5 * PAGE]);
    expect(dirty.indexOf(1)).toBe(-1);
  });

  it('has a way back from its newest checkpoint, whatever that takes', () => {
    const { history, write, take } = machine(PAGE);
    for (let count = 1; count <= 3; count++) {
      for (let page = 0; page < PAGES; page++) write(page, count);
      take(count);
    }
    expect(history.count(history.before(2))).toBe(2);
    expect(history.before(1)).toBe(-1);
  });

  it('has more checkpoints of late than of long ago, and still some of long ago', () => {
    const { history, write, take } = machine(400 * PAGE);
    for (let count = 1; count <= 1000; count++) {
      write(count % 4, count % 256);
      take(count);
    }
    const kept: number[] = [];
    for (let at = history.before(1000); at >= 0; at--) kept.push(history.count(at));
    expect(kept.slice(0, 3)).toEqual([1000, 999, 998]);
    expect(kept.at(-1)).toBe(1);
    for (const [i, count] of kept.entries()) {
      // The way from any moment back to the checkpoint before it is at most a quarter of the way from now.
      if (i > 0) expect(kept[i - 1] - count).toBeLessThanOrEqual(1 + (1000 - count) / 4);
    }
  });
});
