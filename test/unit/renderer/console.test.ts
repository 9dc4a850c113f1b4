import { describe, expect, it } from 'vitest';
import { ConsoleSession, decodeBase64, encodeBase64 } from '../../../renderer/console.ts';
import { FakeService, settle } from './fake-service.ts';

/** A terminal that draws when the test says so. */
function makeSession(service = new FakeService().open()) {
  const shown: string[] = [];
  const failures: string[] = [];
  let draw: (() => void)[] = [];
  const sink = {
    write: (bytes: Uint8Array, done: () => void) => {
      shown.push(Buffer.from(bytes).toString());
      draw.push(done);
    },
    reset: () => void shown.push('<reset>'),
    note: (text: string) => void shown.push(`<${text}>`),
  };
  const session = new ConsoleSession(service.client, { id: 'a', port: 0 }, sink, (text) =>
    failures.push(text),
  );
  const drawAll = (): void => {
    const waiting = draw;
    draw = [];
    for (const done of waiting) done();
  };
  const data = (offset: number, text: string, stream = 1): void =>
    service.event('console.data', { stream, offset, data: encodeBase64(Buffer.from(text)) });
  const attached = (history = 0, stream = 1) => service.reply('console.attach', { stream, history });
  return { service, session, shown, failures, drawAll, data, attached };
}

describe('a console', () => {
  it('carries any bytes in base64', () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, value) => value);
    expect(decodeBase64(encodeBase64(bytes))).toEqual(bytes);
  });

  it('shows what came before the reply to its attach, and nothing of other streams', async () => {
    const { shown, data, attached } = makeSession();
    data(0, 'early');
    data(0, 'other', 2);
    await attached();
    data(5, ' late');
    data(0, 'other', 2);
    expect(shown).toEqual(['early', ' late']);
  });

  it('says when bytes are missing and when the machine was started again', async () => {
    const { shown, data, attached } = makeSession();
    await attached();
    data(1000, 'abc');
    data(1003, 'def');
    data(2000, 'g');
    data(0, 'again');
    expect(shown).toEqual([
      '<1,000 earlier bytes are not kept>',
      'abc',
      'def',
      '<994 earlier bytes are not kept>',
      'g',
      '<the machine was started again>',
      'again',
    ]);
  });

  it('acknowledges what was drawn, not what arrived', async () => {
    const { service, data, attached, drawAll } = makeSession();
    await attached();
    data(0, 'x'.repeat(10_000));
    data(10_000, 'x'.repeat(10_000));
    expect(service.count('console.ack')).toBe(0);
    drawAll();
    expect(service.last('console.ack').params).toEqual({ stream: 1, bytes: 20_000 });
    data(20_000, 'x');
    drawAll();
    expect(service.count('console.ack')).toBe(1);
  });

  it('is replaying until the history is drawn', async () => {
    const { session, data, attached, drawAll } = makeSession();
    expect(session.replaying).toBe(true);
    await attached(4);
    expect(session.replaying).toBe(true);
    data(0, 'ab');
    data(2, 'cd');
    expect(session.replaying).toBe(true);
    drawAll();
    expect(session.replaying).toBe(false);
  });

  it('a machine started again has no history', async () => {
    const { session, data, attached } = makeSession();
    await attached(400);
    data(300, 'ab');
    data(0, 'new');
    expect(session.replaying).toBe(false);
  });

  it('sends what is typed in order and in pieces, each after the reply to the one before', async () => {
    const { service, session, attached } = makeSession();
    await attached();
    const pasted = 'é'.repeat(20_000);
    session.input(pasted);
    session.input('z');
    const pieces: Uint8Array[] = [];
    for (let count = 1; count <= 4; count += 1) {
      await settle();
      expect(service.count('console.input')).toBe(count);
      pieces.push(decodeBase64((service.last('console.input').params as { data: string }).data));
      await service.reply('console.input', {});
    }
    expect(Buffer.concat(pieces).toString()).toBe(`${pasted}z`);
    expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThanOrEqual(48 * 1024);
  });

  it('attaches again after the connection was lost, from a clean terminal', async () => {
    const { service, shown, data, attached, drawAll } = makeSession();
    await attached();
    data(0, 'one');
    service.listener.closed();
    service.open();
    await attached(6, 9);
    data(0, 'onetwo', 9);
    expect(shown).toEqual(['one', '<reset>', 'onetwo']);
    drawAll();
    expect(service.count('console.attach')).toBe(2);
  });

  it('attaches again when the service has forgotten the stream', async () => {
    const { service, session, failures, attached } = makeSession();
    await attached();
    session.input('x');
    await settle();
    await service.refuse('console.input', 'not-found', 'No stream 1.');
    expect(service.count('console.attach')).toBe(2);
    expect(failures).toEqual([]);
  });

  it('shows the sentence when it cannot attach', async () => {
    const { service, failures } = makeSession();
    await service.refuse('console.attach', 'not-found', 'There is no VM a.');
    expect(failures).toEqual(['There is no VM a.']);
  });

  it('detaches when it is closed, also when the attach was still on its way', async () => {
    const early = makeSession();
    early.session.close();
    await early.attached(0, 5);
    expect(early.service.last('console.detach').params).toEqual({ stream: 5 });
    const late = makeSession();
    await late.attached(0, 6);
    late.session.close();
    expect(late.service.last('console.detach').params).toEqual({ stream: 6 });
    late.data(0, 'x', 6);
    expect(late.shown).toEqual([]);
  });
});
