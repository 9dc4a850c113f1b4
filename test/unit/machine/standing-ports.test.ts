import { describe, expect, it } from 'vitest';
import { assemble } from '../../../assets/guests/assembler/assembler.ts';
import { EmulatorNvmm } from '../../../main/emulator/driver.ts';
import { privateBytes } from '../../../main/emulator/tables.ts';
import { protectedMode } from '../../../main/machine/boot/cpu-state.ts';
import { Command, createControl, DeviceLock, MachineClock, Mailbox } from '../../../main/machine/control.ts';
import { createExitTrace, ExitRecord, ExitTrace, ExitTraceWriter } from '../../../main/machine/exit-trace.ts';
import { counterOf } from '../../../main/machine/exit-names.ts';
import { exitInfo } from '../../../main/machine/exit-info.ts';
import { backendMemory, createMemory, GuestRam } from '../../../main/machine/memory.ts';
import { Pc, sharePc } from '../../../main/machine/pc.ts';
import { RunLoop } from '../../../main/machine/run-loop.ts';
import { Exit, Gpr } from '../../../main/nvmm/constants.ts';
import type { Machine, Vcpu } from '../../../main/nvmm/nvmm.ts';
import type { SetBreakpoint } from '../../../main/machine/debug.ts';

const CODE = 0x10000;
const LSR = 0x3fd;
const THR = 0x3f8;

/** Calls something each time that the guest has left. */
class WatchedNvmm extends EmulatorNvmm {
  after: () => void = () => undefined;
  runs = 0;
  override run(machine: Machine, vcpu: Vcpu): void {
    super.run(machine, vcpu);
    this.runs++;
    this.after();
  }
}

/** Lets something happen just when the lock is free. */
class WatchedLock extends DeviceLock {
  freed: () => void = () => undefined;
  override release(): void {
    super.release();
    this.freed();
  }
}

interface Options {
  /** Whenever the vCPU's thread gives the device lock back. */
  freed?: (pc: Pc, printed: string) => void;
  vcpus?: number;
  breakpoints?: SetBreakpoint[];
  /** After each run, with what COM1 has printed so far. */
  after?: (pc: Pc, printed: string, runs: number) => void;
  /** Nobody takes what is printed but `after`. */
  keeps?: boolean;
}

/** A PC of our own thread that runs a program of 32 bits until it resets the machine. */
function play(program: string, { vcpus = 1, breakpoints = [], after, keeps = false, freed }: Options = {}) {
  const memory = createMemory(4 * 2 ** 20, privateBytes(1));
  const nvmm = new WatchedNvmm(backendMemory(memory), { translating: { runs: 1, batch: 1 } });
  const machine = nvmm.machineCreate();
  const ram = new GuestRam(memory);
  ram.map(nvmm, machine);
  ram.attach(nvmm);
  const vcpu = nvmm.vcpuCreate(machine, 0);
  const control = createControl(vcpus);
  const mailbox = new Mailbox(control, 0);
  const clock = new MachineClock(control);
  clock.freeze(0);
  clock.unfreeze();
  const buffer = createExitTrace();
  const pc: Pc = new Pc(sharePc(vcpus, [], 0), {
    ...{ ram, clock, disks: [] },
    power: { reset: (cause) => loop.power('reset', cause), powerOff: (cause) => loop.power('off', cause) },
    signal: { notify: () => mailbox.attend() },
    tsc: { nsAt: (_, low, high) => mailbox.nsAtTsc(low, high) },
    outputReady: () => undefined,
    queueReady: () => undefined,
    entropy: { fill: () => undefined },
    report: (message) => expect.fail(message),
  });
  pc.reset();
  let printed = '';
  const drain = (): void => {
    const bytes = new Uint8Array(pc.outputs[0].available());
    pc.outputs[0].read(bytes);
    printed += Buffer.from(bytes).toString('latin1');
  };
  const stops: string[] = [];
  const lock = new WatchedLock(control);
  const loop: RunLoop = new RunLoop({
    ...{ nvmm, machine, vcpu, pc, lock, clock, mailbox },
    trace: new ExitTraceWriter(buffer),
    timeline: null,
    understudy: null,
    report: (report) => {
      if (report.kind === 'paused') mailbox.command(Command.RUN);
      if (report.kind === 'crash') expect.fail(report.crash.reason);
      if (report.kind === 'power') mailbox.command(Command.STOP);
      if (report.kind !== 'debug') return;
      stops.push(report.stop.reason);
      mailbox.command(Command.PAUSE);
    },
    serve: () => undefined,
  });
  loop.debug.configure(breakpoints);
  const end = `mov edx, 0xcf9\n mov al, 6\n out dx, al\n stay: jmp stay`;
  ram.write(CODE, assemble(`bits 32\n org ${CODE}\n${program}\n${end}\n`).bytes);
  protectedMode(mailbox.state, ram, CODE);
  mailbox.state.setGpr(Gpr.RSP, 0x30000n);
  mailbox.state.setGpr(Gpr.RFLAGS, 2n);
  mailbox.requestReload();
  mailbox.command(Command.PAUSE);
  nvmm.after = () => {
    if (!keeps) drain();
    after?.(pc, printed, nvmm.runs);
  };
  lock.freed = () => freed?.(pc, printed);
  loop.run();
  drain();
  const trace = new ExitTrace(buffer);
  const record = new ExitRecord();
  const records = Array.from({ length: trace.count }, (_, n) => {
    expect(trace.read(n, record)).toBe(true);
    return exitInfo(n, 0, record, pc.names);
  });
  nvmm.close();
  const ports = records.filter(({ reason }) => reason === 'IO');
  const inPlace = ports.filter((one) => one.inPlace === true);
  return { pc, printed, stops, records, ports, inPlace, exits: mailbox.counters, nvmm };
}

/** Prints `count` bytes, from 32 up and round at 127, each when LSR says that there is room. */
const print = (count: number): string => `mov esi, ${count}\n mov ebx, 32
  again: mov edx, ${LSR}\n wait: in al, dx\n test al, 0x20\n jz wait
  mov eax, ebx\n mov edx, ${THR}\n out dx, al\n inc ebx\n cmp ebx, 127\n jne next\n mov ebx, 32\n next:
  dec esi\n jnz again`;
const wanted = (count: number): string =>
  Array.from({ length: count }, (_, i) => String.fromCharCode(32 + (i % 95))).join('');

describe('ports that are answered in place', () => {
  it('print what exits would, and are all in the trace', () => {
    const { printed, ports, inPlace, records, exits } = play(print(1000));
    expect(printed).toBe(wanted(1000));
    // The reset's write is the last one.
    expect(ports.length).toBe(2001);
    expect(inPlace.length).toBeGreaterThan(1900);
    ports.slice(0, -1).forEach((one, i) => {
      const [port, direction, value] =
        i % 2 === 0 ? [LSR, 'read', 0x60] : [THR, 'write', 32 + ((i >> 1) % 95)];
      expect(one).toMatchObject({ port, direction, size: 1, value: `0x${value.toString(16)}` });
      expect(one).toMatchObject({ device: 'uart0', rip: i % 2 === 0 ? '0x1000f' : '0x1001b' });
    });
    for (let i = 1; i < records.length; i++) {
      expect(records[i].time).toBeGreaterThanOrEqual(records[i - 1].time);
      expect(records[i].instructions).toBeGreaterThan(records[i - 1].instructions!);
    }
    expect(exits[counterOf(Exit.IO)]).toBe(ports.length);
    // No time was spent outside for those that did not leave.
    expect(inPlace.every(({ duration }) => duration === 0)).toBe(true);
  });

  const take = (ring: Pc['outputs'][number], most: number): string => {
    const bytes = new Uint8Array(most);
    return Buffer.from(bytes.subarray(0, ring.read(bytes))).toString('latin1');
  };

  it('find room again in a ring that was full', () => {
    const count = 80_000;
    let full = 0;
    let got = '';
    const { printed } = play(print(count), {
      keeps: true,
      after: ({ outputs, uarts }) => {
        if (outputs[0].free() > 0) return;
        full++;
        // What the I/O thread does: some of it is taken, and the port looks for room.
        got += take(outputs[0], 1000);
        uarts[0].poll();
      },
    });
    expect(full).toBeGreaterThan(5);
    expect(got + printed).toBe(wanted(count));
  });
  it('see what is typed while LSR is polled', () => {
    const program = `mov edi, 3\n more: mov edx, ${LSR}\n wait: in al, dx\n test al, 1\n jz wait
      mov edx, ${THR}\n in al, dx\n out dx, al\n dec edi\n jnz more`;
    const { printed, inPlace } = play(program, {
      after: ({ inputs }, text, runs) => {
        if (runs % 50 === 0 && text.length < 3) inputs[0].write(Uint8Array.of(0x61 + text.length));
      },
    });
    expect(printed).toBe('abc');
    const polls = inPlace.filter(({ port }) => port === LSR);
    expect(polls.length).toBeGreaterThan(1000);
    expect(polls.every(({ value }) => value === '0x60')).toBe(true);
  });

  const moments = Array.from({ length: 8 }, (_, moment) => ({ moment }));
  it.each(moments)('have the news of an interrupt that was raised a moment ago: $moment', ({ moment }) => {
    // The handler looks at LSR before anything else. Vectors 0x20 on; IRQ 4 is open alone.
    const out = (port: number, value: number): string => `mov edx, ${port}\n mov al, ${value}\n out dx, al\n`;
    const pic = out(0x20, 0x11) + out(0x21, 0x20) + out(0x21, 4) + out(0x21, 1) + out(0x21, 0xef);
    const program = `mov eax, handler\n mov [idt + 0x24 * 8], ax\n shr eax, 16\n mov [idt + 0x24 * 8 + 6], ax
      mov word [idt + 0x24 * 8 + 2], 0x10\n mov word [idt + 0x24 * 8 + 4], 0x8e00\n lidt [pointer]
      ${pic}${out(0x3f9, 1)}${out(0x3fc, 0xb)}
      ${print(100)}\n sti\n again2: mov edx, ${LSR}\n in al, dx\n jmp again2
      pointer: dw 0x1ff\n dd idt\n align 8\n idt: resb 0x200
      handler: mov edx, ${LSR}\n in al, dx\n mov edx, ${THR}\n out dx, al`;
    let before = moment;
    const { printed, inPlace } = play(program, {
      freed: ({ inputs, uarts }, text) => {
        if (text.length < 100 || before-- !== 0) return;
        inputs[0].write(Uint8Array.of(0x41));
        uarts[0].poll();
      },
    });
    expect(inPlace.length).toBeGreaterThan(100);
    expect(printed.slice(0, 100)).toBe(wanted(100));
    expect(printed.charCodeAt(100)).toBe(0x61);
  });

  const exceptions = [
    { name: 'a transmitter that interrupts', prepare: 'mov edx, 0x3f9\n mov al, 2\n out dx, al', most: 0 },
    { name: 'the loop', prepare: 'mov edx, 0x3fc\n mov al, 0x10\n out dx, al', most: 0 },
    { name: 'the divisor latch', prepare: 'mov edx, 0x3fb\n mov al, 0x80\n out dx, al', most: 0 },
    { name: 'none of these', prepare: '', most: 100 },
  ];
  it.each(exceptions)('are not those of $name', ({ prepare, most }) => {
    const program = `${prepare}\n mov ecx, 100\n mov edx, ${THR}\n again: mov al, 0x2e\n out dx, al\n loop again`;
    const { inPlace, ports } = play(program);
    expect(ports.filter(({ port }) => port === THR).length).toBe(100);
    expect(inPlace.length > 0).toBe(most > 0);
  });

  it('follow a change of the port', () => {
    // The divisor is written between two bytes, through the same port.
    const program = `mov ecx, 20\n again: mov edx, ${THR}\n mov al, 0x61\n out dx, al\n mov al, 0x62\n out dx, al
      mov edx, 0x3fb\n mov al, 0x80\n out dx, al\n mov edx, ${THR}\n mov al, 0x63\n out dx, al
      mov edx, 0x3fb\n mov al, 3\n out dx, al\n loop again`;
    expect(play(program).printed).toBe('ab'.repeat(20));
  });

  it('are none where several vCPUs may touch the device', () => {
    const { printed, inPlace } = play(print(100), { vcpus: 2 });
    expect([printed, inPlace.length]).toEqual([wanted(100), 0]);
  });

  it('are none where accesses stop', () => {
    const breakpoint = { kind: 'port', first: LSR, last: LSR, direction: 'in' } as const;
    const { printed, inPlace, stops } = play(print(10), {
      breakpoints: [{ id: 1, breakpoint, once: false, hits: 0 }],
    });
    expect([printed, inPlace.length]).toEqual([wanted(10), 0]);
    expect(stops).toEqual(Array.from({ length: 10 }, () => 'port'));
  });

  it('are POST codes, too', () => {
    const { inPlace, pc } = play(`mov ecx, 50\n again: mov al, cl\n out 0x80, al\n loop again`);
    expect(inPlace.length).toBeGreaterThan(40);
    expect(pc.ports.read(0x80, 1, -1)).toBe(1);
  });
});
