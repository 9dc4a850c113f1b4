import { afterEach, beforeEach, describe, expect, it, test, vi } from 'vitest';
import type { ExitInfo, ExitPage } from '../../../main/service/contract.ts';
import { ExitTail, NO_FILTER, parseFilter, ROWS } from '../../../renderer/exits.ts';
import { FakeService } from './fake-service.ts';

function exit(number: number): ExitInfo {
  return { number, vcpu: 0, run: 0, time: number * 1000, reason: 'IO', rip: '0x7c05' };
}

/** What the service answers to a walk towards older ones that begins before `end`. */
function page(end: number, until: number, limit = 200): ExitPage {
  const records: ExitInfo[] = [];
  for (let number = end - 1; number >= until && records.length < limit; number--) records.push(exit(number));
  return { records, next: end - records.length, first: 0, end };
}

const stats = {
  time: 1,
  span: 1,
  exits: { name: 'all', count: 1, rate: 1 },
  vcpus: [],
  reasons: [],
  ports: [],
  devices: [],
};

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Lets promises settle although timers are ours. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

async function tailed() {
  const service = new FakeService();
  service.open();
  const tail = new ExitTail(service.client, 'a', () => undefined);
  const answer = async (method: string, result: unknown): Promise<void> => {
    service.listener.message({ call: service.last(method).call, result });
    await settle();
  };
  const tick = async (ms: number): Promise<void> => {
    vi.advanceTimersByTime(ms);
    await settle();
  };
  const numbers = (): (number | string)[] =>
    tail.view.rows.map((row) => (row.kind === 'gap' ? `gap ${row.before}` : row.exit.number));
  return { service, tail, answer, tick, numbers };
}

describe('the tail of exits', () => {
  it('asks only when the machine is on, then for what it has not seen', async () => {
    const { service, tail, answer, tick, numbers } = await tailed();
    await tick(3000);
    expect(service.count('trace.query')).toBe(0);
    tail.attend(true);
    expect(service.last('trace.query').params).toEqual({ id: 'a', towards: 'older', limit: 500 });
    await answer('trace.query', page(3, 0));
    await answer('trace.stats', stats);
    expect([numbers(), tail.view.stats?.exits.count, tail.view.more]).toEqual([[0, 1, 2], 1, false]);
    await tick(500);
    expect(service.last('trace.query').params).toMatchObject({ until: 3, limit: 200 });
    await answer('trace.query', page(5, 3));
    expect(numbers()).toEqual([0, 1, 2, 3, 4]);
    tail.close();
    await tick(5000);
    expect(service.count('trace.query')).toBe(2);
  });

  it('says where exits were too many, and keeps a bounded number', async () => {
    const { tail, answer, tick, numbers } = await tailed();
    tail.attend(true);
    await answer('trace.query', page(2, 0));
    for (let turn = 1; turn < 100; turn++) {
      await tick(500);
      await answer('trace.query', page(turn * 100_000, 0));
    }
    expect(tail.view.rows.length).toBe(ROWS);
    expect(numbers().filter((one) => typeof one === 'string').length).toBeGreaterThan(20);
    expect(tail.view.more).toBe(true);
  });

  it('does not ask again before it was answered', async () => {
    const { service, tail, tick } = await tailed();
    tail.attend(true);
    await tick(5000);
    expect(service.count('trace.query')).toBe(1);
    tail.close();
  });

  it('held, it asks for nothing; the filter still works', async () => {
    const { service, tail, answer, tick, numbers } = await tailed();
    tail.attend(true);
    await answer('trace.query', page(2, 0));
    tail.hold(true);
    await tick(5000);
    expect(service.count('trace.query')).toBe(1);
    tail.choose({ reasons: ['HALTED'] });
    expect(numbers()).toEqual([]);
    expect(service.last('trace.query').params).toMatchObject({ filter: { reasons: ['HALTED'] }, limit: 500 });
    await answer('trace.query', page(1, 0));
    expect(numbers()).toEqual([0]);
    tail.hold(false);
    expect(service.count('trace.query')).toBe(3);
    tail.close();
  });

  it('an answer to a filter that was left is dropped', async () => {
    const { service, tail, answer, numbers } = await tailed();
    tail.attend(true);
    const { call } = service.last('trace.query');
    tail.choose({ device: 'uart' });
    service.listener.message({ call, result: page(9, 0) });
    await settle();
    expect(numbers()).toEqual([]);
    await answer('trace.query', page(1, 0));
    expect(numbers()).toEqual([0]);
    tail.close();
  });

  it('fetches older ones until there are none', async () => {
    const { service, tail, answer, numbers } = await tailed();
    tail.attend(true);
    await answer('trace.query', page(600, 0, 500));
    expect([numbers()[0], tail.view.more]).toEqual([100, true]);
    void tail.older();
    void tail.older();
    expect(service.count('trace.query')).toBe(2);
    expect(service.last('trace.query').params).toMatchObject({ from: 100 });
    await answer('trace.query', page(100, 0, 500));
    expect([numbers()[0], numbers().length, tail.view.more]).toEqual([0, 600, false]);
    tail.close();
  });

  it('begins anew with a machine that was started again', async () => {
    const { service, tail, answer, tick, numbers } = await tailed();
    tail.attend(true);
    await answer('trace.query', page(500, 0, 500));
    await tick(500);
    await answer('trace.query', { records: [], next: 2, first: 0, end: 2 });
    expect(service.last('trace.query').params).toEqual({ id: 'a', towards: 'older', limit: 500 });
    await answer('trace.query', page(2, 0));
    expect(numbers()).toEqual([0, 1]);
    tail.close();
  });

  it('shows why nothing comes', async () => {
    const { service, tail } = await tailed();
    tail.attend(true);
    const { call } = service.last('trace.query');
    service.listener.message({ call, error: { kind: 'wrong-state', message: 'It is off.' } });
    await settle();
    expect(tail.view.problem).toBe('It is off.');
    tail.close();
  });
});

describe('the fields of the filter', () => {
  const cases = [
    { name: 'nothing', text: NO_FILTER, wanted: {} },
    { name: 'a reason', text: { ...NO_FILTER, reason: 'IO' }, wanted: { filter: { reasons: ['IO'] } } },
    {
      name: 'a port',
      text: { ...NO_FILTER, port: ' 3F8 ' },
      wanted: { filter: { ports: { from: 0x3f8, to: 0x3f8 } } },
    },
    {
      name: 'ports and a device',
      text: { ...NO_FILTER, port: '0x20-21', device: ' pic ' },
      wanted: { filter: { ports: { from: 0x20, to: 0x21 }, device: 'pic' } },
    },
    { name: 'no port', text: { ...NO_FILTER, port: 'com1' }, wanted: /A port such as/ },
    { name: 'ports backwards', text: { ...NO_FILTER, port: '21-20' }, wanted: /A port such as/ },
    { name: 'a port beyond the last', text: { ...NO_FILTER, port: '12345' }, wanted: /A port such as/ },
    { name: 'three ports', text: { ...NO_FILTER, port: '1-2-3' }, wanted: /A port such as/ },
  ];
  test.each(cases)('$name', ({ text, wanted }) => {
    if (wanted instanceof RegExp) expect(parseFilter(text)).toMatch(wanted);
    else expect(parseFilter(text)).toEqual(wanted);
  });
});
