import { describe, expect, it } from 'vitest';
import { Command, createControl, DeviceLock, Mailbox, MachineClock } from '../../../main/machine/control.ts';
import { createMemory, GuestRam } from '../../../main/machine/memory.ts';
import { Pc, sharePc } from '../../../main/machine/pc.ts';
import type { VcpuReport } from '../../../main/machine/run-loop.ts';
import { RunLoop } from '../../../main/machine/run-loop.ts';
import { EventType, Exit, Gpr, Intr } from '../../../main/nvmm/constants.ts';
import { NvmmError } from '../../../main/nvmm/errors.ts';
import { exitInfo } from '../../../main/machine/exit-info.ts';
import { createExitTrace, ExitRecord, ExitTrace, ExitTraceWriter } from '../../../main/machine/exit-trace.ts';
import type { Step } from './fake-nvmm.ts';
import { FakeNvmm } from './fake-nvmm.ts';

const MIB = 2 ** 20;

/** A PC with one vCPU whose guest plays `steps`; then the loop is stopped. */
function play(steps: Step[], prepare: (pc: Pc) => void = () => undefined) {
  const nvmm = new FakeNvmm();
  const control = createControl(1);
  const mailbox = new Mailbox(control, 0);
  const clock = new MachineClock(control);
  clock.freeze(0);
  clock.unfreeze();
  const reports: VcpuReport[] = [];
  const trace = createExitTrace();
  const pc: Pc = new Pc(sharePc(1, [], 0), {
    ram: new GuestRam(createMemory(4 * MIB, 0)),
    clock,
    power: { reset: (cause) => loop.power('reset', cause), powerOff: (cause) => loop.power('off', cause) },
    signal: { notify: () => mailbox.attend() },
    tsc: { nsAt: (_, low, high) => mailbox.nsAtTsc(low, high) },
    outputReady: () => undefined,
    queueReady: () => undefined,
    disks: [],
    entropy: { fill: () => undefined },
    report: () => undefined,
  });
  pc.reset();
  const loop: RunLoop = new RunLoop({
    ...{ nvmm, machine: nvmm.machine, vcpu: nvmm.vcpu, pc, lock: new DeviceLock(control), clock, mailbox },
    trace: new ExitTraceWriter(trace),
    timeline: null,
    understudy: null,
    report: (report) => {
      reports.push(report);
      if (report.kind === 'paused') mailbox.command(Command.RUN);
      // Nobody else is there to decide what comes after a crash or a power event.
      if (report.kind === 'crash' || report.kind === 'power') mailbox.command(Command.STOP);
    },
    serve: () => undefined,
  });
  mailbox.requestReload();
  prepare(pc);
  nvmm.script.push(...steps);
  nvmm.after = () => mailbox.command(Command.STOP);
  loop.run();
  return { nvmm, pc, reports, state: nvmm.vcpu.state, mailbox, trace: new ExitTrace(trace) };
}

/** A step that only looks at what came before it. */
const look = (check: Step): Step => check;

describe('the run loop', () => {
  it('serves IN and OUT of every size without the assist', () => {
    const { nvmm, state } = play([
      (vcpu) => {
        vcpu.state.setGprHalves(Gpr.RAX, 0x5a, 0xdead);
        vcpu.leaveIo(0x3ff, 1, false, 0x1001);
      },
      (vcpu) => vcpu.leaveIo(0x3ff, 1, true, 0x1002),
      look((vcpu) => {
        expect(vcpu.state.gprLow(Gpr.RAX)).toBe(0x5a);
        expect(vcpu.state.gprHigh(Gpr.RAX)).toBe(0xdead);
        vcpu.leaveIo(0x9999, 4, true, 0x1003);
      }),
    ]);
    expect(state.gpr(Gpr.RAX)).toBe(0xffff_ffffn);
    expect(state.rip).toBe(0x1003n);
    expect(nvmm.injected).toEqual([]);
  });

  it('serves MMIO, and all ones where nothing is', () => {
    const seen: number[] = [];
    const access = (prot: number, gpa: number, value: number): Step => {
      return (vcpu) => {
        vcpu.leave(Exit.MEMORY);
        vcpu.exit.setMemory(prot, gpa);
        vcpu.operand.setUint32(0, value, true);
        vcpu.operandDone = (data) => seen.push(data.getUint32(0, true));
      };
    };
    const { nvmm, pc } = play([
      access(2, 0xfee0_0080, 0x20),
      access(1, 0xfee0_0080, 0),
      access(1, 0xd000_0000, 0),
      access(2, 0xd000_0000, 7),
    ]);
    expect(seen).toEqual([0x20, 0x20, 0xffff_ffff, 7]);
    expect(pc.mmio.unmapped()).toMatchObject({ reads: 1, writes: 1 });
    expect(nvmm.injected).toEqual([]);
  });

  it('gives #UD for an instruction that the assist refuses', () => {
    const { nvmm } = play([
      (vcpu) => {
        vcpu.leave(Exit.MEMORY);
        vcpu.exit.setMemory(1, 0xd000_0000);
        vcpu.operandDone = () => {
          throw new NvmmError('nvmm_assist_mem', 'ENODEV', 'an instruction');
        };
      },
    ]);
    expect(nvmm.injected).toEqual([{ type: EventType.EXCP, vector: 6, error: 0 }]);
  });

  it('answers MSRs: known, local APIC, unknown', () => {
    const { nvmm, state } = play([
      (vcpu) => vcpu.leaveMsr(0x1b, null, 0x10),
      look((vcpu) => {
        expect(vcpu.state.gprLow(Gpr.RAX)).toBe(0xfee0_0900);
        expect(vcpu.state.rip).toBe(0x10n);
        vcpu.leaveMsr(0x2ff, 0xc00n, 0x20);
      }),
      (vcpu) => vcpu.leaveMsr(0x2ff, null, 0x30),
      look((vcpu) => {
        expect(vcpu.state.gprLow(Gpr.RAX)).toBe(0xc00);
        vcpu.leaveMsr(0xffff_ffff, null, 0x40);
      }),
    ]);
    expect(nvmm.injected).toEqual([{ type: EventType.EXCP, vector: 13, error: 0 }]);
    expect(state.rip).toBe(0x30n);
  });

  it('gives #UD for MONITOR and MWAIT', () => {
    const { nvmm } = play([(vcpu) => vcpu.leave(Exit.MONITOR), (vcpu) => vcpu.leave(Exit.MWAIT)]);
    expect(nvmm.injected.map(({ vector }) => vector)).toEqual([6, 6]);
  });

  it('waits for the window before it injects an interrupt', () => {
    let seen = 0;
    const { nvmm } = play(
      [
        // Interrupts are off: the window is armed before the first entry.
        look((vcpu) => {
          expect(vcpu.exit.intr).toBe(Intr.INT_WINDOW_EXITING);
          vcpu.leave(Exit.INT_READY);
          vcpu.intr = 0;
          vcpu.interruptsEnabled = true;
        }),
        look((vcpu) => {
          seen = vcpu.event.vector;
        }),
      ],
      (pc) => {
        remapPic(pc);
        pc.interrupts.isa(4).set(true);
      },
    );
    expect(seen).toBe(0x34);
    expect(nvmm.injected).toEqual([{ type: EventType.INTR, vector: 0x34, error: 0 }]);
  });

  it('does not inject over an event that waits for its delivery', () => {
    const { nvmm } = play(
      [
        (vcpu) => {
          vcpu.leave(Exit.INT_READY);
          vcpu.interruptsEnabled = true;
          vcpu.intr = Intr.EVT_PENDING;
        },
        look((vcpu) => {
          expect(vcpu.event.vector).toBe(0);
          vcpu.leave(Exit.NONE);
          vcpu.intr = 0;
        }),
      ],
      (pc) => {
        remapPic(pc);
        pc.interrupts.isa(4).set(true);
      },
    );
    expect(nvmm.injected.length).toBe(1);
  });

  it('sleeps after HLT until a timer, and takes its interrupt', () => {
    const { nvmm } = play(
      [
        (vcpu) => {
          vcpu.leave(Exit.HALTED);
          vcpu.interruptsEnabled = true;
          vcpu.intr = 0;
        },
      ],
      (pc) => {
        remapPic(pc);
        // Counter 0 in mode 2, a millisecond.
        pc.ports.write(0x43, 1, 0x34, 0);
        pc.ports.write(0x40, 1, 1193 & 0xff, 0);
        pc.ports.write(0x40, 1, 1193 >> 8, 0);
      },
    );
    expect(nvmm.injected[0]).toEqual({ type: EventType.INTR, vector: 0x30, error: 0 });
  });

  it('reports a triple fault with RIP and the last exits', () => {
    const { reports } = play([
      (vcpu) => {
        vcpu.state.rip = 0x1234n;
        vcpu.leaveIo(0x80, 1, false, 0xffff_8000);
      },
      (vcpu) => {
        vcpu.state.rip = 0xffff_ffff_8100_0000n;
        vcpu.leave(Exit.SHUTDOWN);
      },
    ]);
    const crash = reports.find((report) => report.kind === 'crash')!.crash;
    expect(crash).toMatchObject({ vcpu: 0, reason: 'triple fault', rip: '0xffffffff81000000' });
    expect(crash.exits).toEqual([
      'IO out port 0x80, 1 byte at 0x1234 = 0x0 (dma pages)',
      'SHUTDOWN at 0xffffffff81000000',
    ]);
  });

  it('stands still after the guest asked for a reset', () => {
    const { reports, nvmm } = play([
      (vcpu) => {
        vcpu.state.setGpr(Gpr.RAX, 0xfen);
        vcpu.leaveIo(0x64, 1, false);
      },
      () => expect.unreachable('the guest ran on'),
    ]);
    expect(reports.filter(({ kind }) => kind === 'power')).toMatchObject([{ action: 'reset' }]);
    expect(nvmm.script.length).toBe(1);
  });

  it('takes CR8 to the local APIC and back', () => {
    const { pc, state } = play([
      (vcpu) => {
        vcpu.leave(Exit.TPR_CHANGED);
        vcpu.cr8 = 9;
      },
      look((vcpu) => {
        vcpu.leaveMsr(0x1b, null);
        vcpu.cr8 = 9;
      }),
    ]);
    expect(pc.interrupts.apics.get(0).cr8).toBe(9);
    expect(state.cr8).toBe(0);
  });

  it('traces every exit with its values and who answered', () => {
    const { pc, trace } = play([
      (vcpu) => {
        vcpu.state.rip = 0x1000n;
        vcpu.state.setGprHalves(Gpr.RAX, 0xdead_5a, 0);
        vcpu.leaveIo(0x3ff, 1, false, 0x1001);
      },
      (vcpu) => vcpu.leaveIo(0x3ff, 1, true, 0x1002),
      (vcpu) => vcpu.leaveIo(0x9999, 2, true, 0x1004),
      (vcpu) => {
        vcpu.leave(Exit.MEMORY);
        vcpu.exit.setMemory(2, 0xfee0_0080);
        vcpu.operand.setUint32(0, 0x20, true);
      },
      (vcpu) => vcpu.leaveMsr(0x1b, null, 0x1010),
      (vcpu) => vcpu.leaveMsr(0x2ff, 0xc00n, 0x1020),
      (vcpu) => vcpu.leaveMsr(0xffff_ffff, null, 0x1030),
      (vcpu) => vcpu.leave(Exit.STOPPED),
    ]);
    const record = new ExitRecord();
    const infos = Array.from({ length: trace.count }, (_, number) => {
      expect(trace.read(number, record)).toBe(true);
      return exitInfo(number, 0, record, pc.names);
    });
    expect(infos).toMatchObject([
      { reason: 'IO', rip: '0x1000', port: 0x3ff, direction: 'write', value: '0x5a', device: 'uart0' },
      { reason: 'IO', rip: '0x1001', port: 0x3ff, direction: 'read', value: '0x5a', device: 'uart0' },
      { reason: 'IO', rip: '0x1002', port: 0x9999, size: 2, value: '0xffff', device: 'nobody' },
      { reason: 'MEMORY', gpa: 0xfee0_0080, direction: 'write', value: '0x20', device: 'lapic' },
      { reason: 'RDMSR', msr: 0x1b, value: '0xfee00900', device: 'lapic' },
      { reason: 'WRMSR', msr: 0x2ff, value: '0xc00', device: 'msrs' },
      { reason: 'RDMSR', msr: 0xffff_ffff, fault: true },
      { reason: 'STOPPED', event: { type: 'exception', vector: 13 } },
    ]);
    expect(infos.every(({ run, duration }) => run === 0 && duration !== undefined)).toBe(true);
  });

  it('counts exits by reason', () => {
    const { mailbox } = play([
      (vcpu) => vcpu.leaveIo(0x80, 1, false),
      (vcpu) => vcpu.leaveIo(0x80, 1, false),
    ]);
    expect(mailbox.counters[3]).toBe(2);
  });
});

/** ICW1-4: vectors 30h and 38h, everything unmasked. */
function remapPic(pc: Pc): void {
  for (const [port, value] of [
    [0x20, 0x11],
    [0xa0, 0x11],
    [0x21, 0x30],
    [0xa1, 0x38],
    [0x21, 4],
    [0xa1, 2],
    [0x21, 1],
    [0xa1, 1],
    [0x21, 0],
    [0xa1, 0],
  ]) {
    pc.ports.write(port, 1, value, 0);
  }
}
