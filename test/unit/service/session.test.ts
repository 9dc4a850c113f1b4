import { describe, expect, test } from 'vitest';
import { Service } from '../../../main/service/service.ts';
import { Session } from '../../../main/service/session.ts';
import { FakeFrontEnd, FakeMachine, temporaryFolder } from './fakes.ts';

const KIB = 1024;

/** A service with one running VM, and a front end connected to it. */
async function connected() {
  const machine = new FakeMachine();
  const service = await Service.open({ folder: temporaryFolder(), makeMachine: () => machine });
  const front = new FakeFrontEnd();
  new Session(service, front);
  await front.ask('vm.start', { id: 'calculator' });
  return { machine, service, front, log: machine.serial[0]! };
}

async function attach(front: FakeFrontEnd, port = 0) {
  return (await front.ask('console.attach', { id: 'calculator', port })).result as {
    stream: number;
    history: number;
  };
}

/** Waits until what is collected has been sent: a few times the collecting time. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 30));

/** Bytes whose value says where they belong, so that a lost or doubled one shows. */
function bytes(from: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => ((from + index) * 7 + ((from + index) >> 8)) & 0xff);
}

const total = (front: FakeFrontEnd) => front.output().reduce((sum, { data }) => sum + data.length, 0);

describe('requests', () => {
  test('are answered with their number, in any order', async () => {
    const { service, front } = await connected();
    const replies = await Promise.all([front.ask('vm.list'), front.ask('host.info'), front.ask('vm.none')]);
    expect(replies.map((reply) => Object.keys(reply).sort())).toEqual([
      ['call', 'result'],
      ['call', 'result'],
      ['call', 'error'],
    ]);
    await service.close();
  });

  test.each([
    { name: 'nothing', message: undefined },
    { name: 'text', message: 'hello' },
    { name: 'no number', message: { method: 'vm.list', params: {} } },
    { name: 'number that is none', message: { call: 'x', method: 'vm.list' } },
    { name: 'a list', message: [1, 2] },
  ])('a message that is none ends the connection: $name', async ({ message }) => {
    const { service, front } = await connected();
    front.say(message);
    expect(front.closed).toBe(true);
    await service.close();
  });

  test('a list never arrives after news that is younger than it', async () => {
    const { service, front } = await connected();
    front.sent.length = 0;
    await Promise.all([front.ask('vm.list'), front.ask('vm.pause', { id: 'calculator' })]);
    expect(front.sent).toMatchObject([
      { result: [{ state: 'running' }] },
      { event: 'vm.changed', data: { state: 'paused' } },
      { result: {} },
    ]);
    await service.close();
  });

  test('every front end hears what another one does', async () => {
    const { service, front } = await connected();
    const other = new FakeFrontEnd();
    new Session(service, other);
    await front.ask('vm.pause', { id: 'calculator' });
    expect(other.sent).toMatchObject([{ event: 'vm.changed', data: { id: 'calculator', state: 'paused' } }]);
    other.close();
    await front.ask('vm.resume', { id: 'calculator' });
    expect(other.sent.length).toBe(1);
    await service.close();
  });
});

describe('console', () => {
  test('a late attach shows what was printed before, and then what follows', async () => {
    const { service, front, log } = await connected();
    log.append(Buffer.from('before '));
    const { history } = await attach(front);
    expect(history).toBe(7);
    await settled();
    log.append(Buffer.from('after'));
    await settled();
    expect(front.output().map(({ offset, data }) => [offset, data.toString()])).toEqual([
      [0, 'before '],
      [7, 'after'],
    ]);
    await service.close();
  });

  test('single bytes travel together, and a lot travels in pieces', async () => {
    const { service, front, log } = await connected();
    await attach(front);
    for (let index = 0; index < 1000; index++) log.append(bytes(index, 1));
    await settled();
    expect(front.output().length).toBeLessThan(10);
    log.append(bytes(1000, 200 * KIB));
    await settled();
    const output = front.output();
    expect(Math.max(...output.map(({ data }) => data.length))).toBeLessThanOrEqual(64 * KIB);
    expect(Buffer.concat(output.map(({ data }) => data)).equals(bytes(0, 1000 + 200 * KIB))).toBe(true);
    await service.close();
  });

  test('a front end that does not acknowledge is sent 256 KiB and no more', async () => {
    const { service, front, log } = await connected();
    await attach(front);
    for (let index = 0; index < 100; index++) {
      log.append(bytes(index * 50 * KIB, 50 * KIB));
      await Promise.resolve();
    }
    await settled();
    expect(total(front)).toBe(256 * KIB);
    await service.close();
  });

  test('a front end that acknowledges gets all of a flood, in order', async () => {
    const { service, front, log } = await connected();
    const { stream } = await attach(front);
    const size = 3 * 2 ** 20;
    for (let sent = 0; sent < size; sent += 32 * KIB) {
      log.append(bytes(sent, 32 * KIB));
      if (sent % (128 * KIB) === 0) {
        await settled();
        await front.ask('console.ack', { stream, bytes: total(front) });
      }
    }
    while (total(front) < size) {
      await settled();
      await front.ask('console.ack', { stream, bytes: total(front) });
    }
    expect(Buffer.concat(front.output().map(({ data }) => data)).equals(bytes(0, size))).toBe(true);
    await service.close();
  });

  test('a slow front end skips what the log has lost, and sees the gap', async () => {
    const { service, front, log } = await connected();
    const { stream } = await attach(front);
    const size = 4 * 2 ** 20;
    for (let sent = 0; sent < size; sent += 32 * KIB) log.append(bytes(sent, 32 * KIB));
    await settled();
    const first = total(front);
    await front.ask('console.ack', { stream, bytes: first });
    await settled();
    const later = front.output().find(({ offset }) => offset >= first)!;
    expect(later.offset).toBe(size - 2 ** 20);
    expect(later.data.equals(bytes(later.offset, later.data.length))).toBe(true);
    await service.close();
  });

  test('a stream stays over a restart, and counts from 0 again', async () => {
    const { service, front, log } = await connected();
    const { stream } = await attach(front);
    log.append(bytes(0, 300 * KIB));
    await settled();
    await front.ask('vm.powerOff', { id: 'calculator' });
    await front.ask('vm.start', { id: 'calculator' });
    log.append(bytes(0, 300 * KIB));
    await settled();
    const restart = front.output().findIndex(({ offset }, index) => index > 0 && offset === 0);
    expect(restart).toBeGreaterThan(0);
    // What was sent of the first run is no credit for the second.
    await front.ask('console.ack', { stream, bytes: 256 * KIB });
    await settled();
    expect(total(front)).toBe(512 * KIB);
    await front.ask('console.ack', { stream, bytes: total(front) });
    await settled();
    const second = Buffer.concat(
      front
        .output()
        .slice(restart)
        .map(({ data }) => data),
    );
    expect(second.equals(bytes(0, 300 * KIB))).toBe(true);
    await service.close();
  });

  test.each([
    { name: 'more than was sent', counts: [11], kind: 'invalid' },
    { name: 'less than before', counts: [10, 9], kind: 'invalid' },
    { name: 'a negative count', counts: [-1], kind: 'invalid' },
    { name: 'half a byte', counts: [0.5], kind: 'invalid' },
  ])('acknowledging $name is refused', async ({ counts, kind }) => {
    const { service, front, log } = await connected();
    const { stream } = await attach(front);
    log.append(bytes(0, 10));
    await settled();
    let last;
    for (const count of counts) last = await front.ask('console.ack', { stream, bytes: count });
    expect(last!.error?.kind).toBe(kind);
    await service.close();
  });

  test('what is typed arrives; a guest that does not read holds the reply back, then the next input is refused', async () => {
    const { service, front, machine, log } = await connected();
    const { stream } = await attach(front);
    const input = (data: Uint8Array) =>
      front.ask('console.input', { stream, data: Buffer.from(data).toString('base64') });
    await input(Buffer.from('(2+3)*7\r'));
    expect(Buffer.concat(machine.typed).toString()).toBe('(2+3)*7\r');
    machine.reads = false;
    await input(bytes(0, 60 * KIB));
    let answered = false;
    const waiting = input(bytes(0, 60 * KIB)).then((reply) => {
      answered = true;
      return reply;
    });
    await settled();
    expect(answered).toBe(false);
    expect((await input(bytes(0, 1))).error?.kind).toBe('wrong-state');
    log.took(8 + 120 * KIB);
    expect((await waiting).result).toEqual({});
    expect((await input(bytes(0, 64 * KIB + 1))).error?.kind).toBe('invalid');
    await service.close();
  });

  test('a stream ends with its front end, with its VM, and on request', async () => {
    const { service, front, log } = await connected();
    const { stream } = await attach(front);
    expect((await front.ask('console.detach', { stream })).result).toEqual({});
    log.append(bytes(0, 10));
    await settled();
    expect(front.output()).toEqual([]);
    expect((await front.ask('console.ack', { stream, bytes: 0 })).error?.kind).toBe('not-found');
    const next = await attach(front);
    await front.ask('vm.powerOff', { id: 'calculator' });
    await front.ask('vm.delete', { id: 'calculator' });
    expect((await front.ask('console.detach', next)).error?.kind).toBe('not-found');
    expect((await front.ask('console.attach', { id: 'calculator', port: 0 })).error?.kind).toBe('not-found');
    await service.close();
  });

  test('streams are limited in number', async () => {
    const { service, front } = await connected();
    const replies = await Promise.all(
      Array.from({ length: 129 }, () => front.ask('console.attach', { id: 'calculator', port: 3 })),
    );
    expect(replies.filter(({ error }) => error).length).toBe(1);
    await service.close();
  });
});
