import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { createControl, DeviceLock, MachineClock, Mailbox } from '../../../main/machine/control.ts';
import { startThread } from '../../../main/machine/entry.ts';

describe('the device lock', () => {
  it('keeps threads apart, and is reentrant on one', async () => {
    const control = createControl(1);
    const shared = new SharedArrayBuffer(8);
    const threads = 3;
    const rounds = 20_000;
    const path = fileURLToPath(new URL('./lock-thread.ts', import.meta.url));
    await Promise.all(
      Array.from({ length: threads }, () => {
        const worker = startThread(path, { control, shared, rounds });
        return new Promise<void>((resolve, reject) => worker.on('exit', () => resolve()).on('error', reject));
      }),
    );
    expect(new Float64Array(shared)[0]).toBe(threads * rounds);
    const lock = new DeviceLock(control);
    expect(lock.run(() => lock.run(() => 1))).toBe(1);
    lock.acquire();
    lock.release();
  });
});

describe('the clock', () => {
  it('stands still while frozen and goes on from there', () => {
    const control = createControl(1);
    const [clock, other] = [new MachineClock(control), new MachineClock(control)];
    clock.freeze(1000);
    expect([clock.now(), other.now()]).toEqual([1000, 1000]);
    clock.unfreeze();
    const now = other.now();
    expect(now).toBeGreaterThanOrEqual(1000);
    clock.freeze();
    const frozen = clock.now();
    expect(frozen).toBeGreaterThanOrEqual(now);
    expect(other.now()).toBe(frozen);
  });
});

describe('a mailbox', () => {
  const control = createControl(3);
  const [first, last] = [new Mailbox(control, 0), new Mailbox(control, 2)];

  it('is one for each vCPU', () => {
    last.command(1);
    last.state.setGpr(0, 7n);
    expect([first.wanted, new Mailbox(control, 2).wanted]).toEqual([0, 1]);
    expect(new Mailbox(control, 2).state.gpr(0)).toBe(7n);
    expect(first.state.gpr(0)).toBe(0n);
  });

  it('does not sleep when it was woken since the ticket was drawn', () => {
    const { ticket } = first;
    first.wake();
    first.sleep(ticket, Infinity);
    expect(first.ticket).not.toBe(ticket);
  });

  it('gives attention and reload once', () => {
    first.attend();
    first.requestReload();
    expect([first.takeAttention(), first.takeAttention()]).toEqual([true, false]);
    expect([first.takeReload(), first.takeReload()]).toEqual([true, false]);
  });

  for (const { name, at, value, wanted } of [
    { name: 'ahead', at: [100, 5], value: [1100, 5], wanted: 50 + 500 },
    { name: 'over the halves', at: [0xffff_ffff, 5], value: [999, 6], wanted: 50 + 500 },
    { name: 'past', at: [1100, 5], value: [100, 5], wanted: 50 - 500 },
  ]) {
    it(`knows when its TSC reaches a value: ${name}`, () => {
      first.relateTsc(at[0], at[1], 50, 2);
      expect(first.nsAtTsc(value[0], value[1])).toBe(wanted);
    });
  }
  it('does not know before the rate is measured', () => expect(last.nsAtTsc(1, 1)).toBe(Infinity));
});
