import { describe, expect, it } from 'vitest';
import { INPUT_WINDOW, OUTPUT_WINDOW } from '../../../main/machine/protocol.ts';
import { SerialLog } from '../../../main/machine/serial-log.ts';

const KEPT = 2 ** 20;

/** A log with a port that counts. */
function opened() {
  const log = new SerialLog();
  const port = { acknowledged: 0, input: [] as Uint8Array[] };
  log.open({
    input: (data) => void port.input.push(data),
    ack: (position) => (port.acknowledged = position),
  });
  return { log, port };
}

function reader(log: SerialLog, from: 'start' | 'end' | number, lossless: boolean) {
  const got: { offset: number; text: string }[] = [];
  const handle = log.attach({
    from,
    lossless,
    onData: (data, offset) => got.push({ offset, text: new TextDecoder().decode(data) }),
  });
  return { got, handle, bytes: () => got.reduce((sum, { text }) => sum + text.length, 0) };
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

describe('SerialLog', () => {
  it('shows a late reader what was printed before', () => {
    const { log } = opened();
    log.append(text('hello '));
    const late = reader(log, 'start', false);
    const last = reader(log, 'end', false);
    log.append(text('world'));
    expect(late.got.map((one) => one.text).join('')).toBe('hello world');
    expect(last.got).toEqual([{ offset: 6, text: 'world' }]);
  });

  it('keeps the last 1 MiB, and acknowledges at once when nobody must see everything', () => {
    const { log, port } = opened();
    for (let i = 0; i < 40; i++) log.append(new Uint8Array(64 * 1024).fill(65 + (i % 26)));
    expect([log.start, log.end, port.acknowledged]).toEqual([40 * 65536 - KEPT, 40 * 65536, 40 * 65536]);
    const late = reader(log, 'start', false);
    expect(late.bytes()).toBe(OUTPUT_WINDOW);
    expect(late.got[0].offset).toBe(log.start);
  });

  it('makes the port wait for a lossless reader, and loses nothing', () => {
    const { log, port } = opened();
    const slow = reader(log, 'start', true);
    let printed = 0;
    let consumed = 0;
    while (printed < 4 * KEPT) {
      // The port keeps to its window, as the machine's process does.
      while (printed - port.acknowledged < OUTPUT_WINDOW && printed < 4 * KEPT) {
        log.append(new Uint8Array(8192).fill(66));
        printed += 8192;
      }
      expect(printed - consumed).toBeLessThanOrEqual(OUTPUT_WINDOW);
      consumed = slow.bytes();
      slow.handle.ack(consumed);
    }
    expect(slow.bytes()).toBe(printed);
    slow.got.reduce((offset, one) => {
      expect(one.offset).toBe(offset);
      return offset + one.text.length;
    }, 0);
  });

  it('lets the port go on when a lossless reader leaves', () => {
    const { log, port } = opened();
    const slow = reader(log, 'start', true);
    log.append(new Uint8Array(1000));
    expect(port.acknowledged).toBe(0);
    slow.handle.detach();
    expect(port.acknowledged).toBe(1000);
  });

  it('starts anew at 0 for readers that stay', () => {
    const { log } = opened();
    const stays = reader(log, 'start', false);
    log.append(text('one'));
    log.close();
    log.open({ input: () => undefined, ack: () => undefined });
    log.append(text('two'));
    expect(stays.got).toEqual([
      { offset: 0, text: 'one' },
      { offset: 0, text: 'two' },
    ]);
  });

  it('asks the typist to wait while the guest does not read', () => {
    const { log, port } = opened();
    let drained = 0;
    log.onDrain(() => drained++);
    expect(log.write(new Uint8Array(INPUT_WINDOW))).toBe(true);
    expect(log.write(new Uint8Array(1))).toBe(false);
    log.took(100);
    expect([drained, port.input.length]).toEqual([1, 2]);
    expect(log.write(new Uint8Array(INPUT_WINDOW))).toBe(false);
    log.close();
    expect(drained).toBe(2);
    expect(log.write(new Uint8Array(INPUT_WINDOW))).toBe(true);
  });
});
