import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type Koffi from 'koffi';
import { Command, createControl, DeviceLock, MachineClock, Mailbox } from '../../main/machine/control.ts';
import { createExitTrace, ExitTraceWriter } from '../../main/machine/exit-trace.ts';
import { backendMemory, createMemory, GuestRam } from '../../main/machine/memory.ts';
import { Pc, sharePc } from '../../main/machine/pc.ts';
import { RunLoop } from '../../main/machine/run-loop.ts';
import { advance } from '../../main/nvmm/assist.ts';
import { Exit, Gpr, Prot, State, VcpuConf } from '../../main/nvmm/constants.ts';
import type { Backend, Machine, Nvmm, Vcpu } from '../../main/nvmm/nvmm.ts';
import { openLibrary } from '../../native/libnvmm/library.ts';
import { Host } from '../conformance/rig.ts';
import { root } from './bench.ts';
import { MARK_GPA, GUEST_BASE, GUEST_SIZE, layOut, startState } from './exit-guests.ts';

/** What runs the guests of bench:exit: loops in C, and ours. */

export interface Side {
  readonly name: string;
  /** Nanoseconds that the guest took. */
  run(code: Uint8Array, user: boolean): number;
}

/** Nanoseconds on the clock of the measurements. */
export type Time = () => number;

export const wallTime: Time = () => performance.now() * 1e6;

/** The loops in C, as a library in this process, so that both sides have the same thread and the same caches. */
export class Loops {
  private readonly raw: (memory: Uint8Array, state: Uint8Array) => number;
  private readonly nvmm: (memory: Uint8Array, state: Uint8Array) => number;
  private readonly natively: (code: Uint8Array, size: number) => number;
  /** CPU time of this thread. */
  readonly time: Time;
  private readonly memory = new Uint8Array(
    new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer,
  ).subarray(0, GUEST_SIZE);

  /** Compiles them. The library of libnvmm is loaded already, by the backend. */
  constructor() {
    openLibrary();
    const source = join(root, 'native/libnvmm-linux');
    const target = join(root, '.cache/bench');
    mkdirSync(target, { recursive: true });
    const file = join(target, `exit-${process.pid}.so`);
    const options = ['-std=c11', '-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-pthread'];
    const inputs = [`-I${source}`, join(root, 'test/bench/exit.c'), '-o', file];
    const library = [`-L${join(root, 'out/native')}`, '-lnvmm'];
    execFileSync(process.env.CC ?? 'cc', [...options, ...inputs, ...library], { stdio: 'inherit' });
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    const loaded = koffi.load(file);
    this.raw = loaded.func('bench_raw', 'double', ['void *', 'void *']) as typeof this.raw;
    this.nvmm = loaded.func('bench_nvmm', 'double', ['void *', 'void *']) as typeof this.nvmm;
    this.time = loaded.func('bench_time', 'double', []) as Time;
    this.natively = loaded.func('bench_native', 'double', ['void *', 'size_t']) as typeof this.natively;
  }

  /** Ring-3 code without a guest. */
  native(code: Uint8Array): number {
    return this.natively(code, code.length);
  }

  sides(): Side[] {
    const run = (loop: (memory: Uint8Array, state: Uint8Array) => number) => {
      return (code: Uint8Array, user: boolean): number => {
        layOut(this.memory, code);
        const ns = loop(this.memory, startState(user).bytes);
        if (ns < 0) throw new Error('the loop in C failed');
        return ns;
      };
    };
    return [
      { name: 'C, raw KVM', run: run((memory, state) => this.raw(memory, state)) },
      { name: 'C, libnvmm', run: run((memory, state) => this.nvmm(memory, state)) },
    ];
  }
}

/** The same loop in TypeScript: a device that is one register, behind the assists. */
export class Bare implements Side {
  readonly name: string;
  private readonly host: Host;
  private readonly nvmm: Nvmm;
  private readonly time: Time;
  private device = 0;
  private readonly marks: number[] = [];

  constructor(backend: Backend, time: Time) {
    this.time = time;
    this.name = `${backend.name}, device`;
    this.host = new Host(backend);
    this.nvmm = this.host.nvmm;
  }

  run(code: Uint8Array, user: boolean): number {
    const { nvmm, host } = this;
    const machine = nvmm.machineCreate();
    const vcpu = nvmm.vcpuCreate(machine, 0);
    layOut(host.bytes.subarray(host.ram, host.ram + GUEST_SIZE), code);
    nvmm.hvaWritten(host.ram, GUEST_SIZE);
    nvmm.hvaMap(machine, host.ram, GUEST_SIZE);
    nvmm.gpaMap(machine, host.ram, GUEST_BASE, GUEST_SIZE, Prot.READ | Prot.WRITE | Prot.EXEC);
    nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CALLBACKS, {
      io: ({ in: input, data }) => {
        if (input) data.setUint32(0, this.device, true);
        else this.device = data.getUint32(0, true);
      },
      mem: ({ gpa, write, data }) => {
        if (gpa === MARK_GPA) this.marks.push(this.time());
        else if (write) this.device = data.getUint32(0, true);
        else data.setUint32(0, this.device, true);
      },
    });
    vcpu.state.bytes.set(startState(user).bytes);
    nvmm.setState(machine, vcpu, State.ALL);
    this.marks.length = 0;
    while (this.marks.length < 2) {
      nvmm.run(machine, vcpu);
      this.serve(machine, vcpu);
    }
    nvmm.machineDestroy(machine);
    return this.marks[1] - this.marks[0];
  }

  private serve(machine: Machine, vcpu: Vcpu): void {
    const { nvmm } = this;
    switch (vcpu.exit.reason) {
      case Exit.NONE:
        return;
      case Exit.IO:
        return nvmm.assistIo(machine, vcpu);
      case Exit.MEMORY:
        return nvmm.assistMem(machine, vcpu);
      case Exit.RDMSR:
        nvmm.getState(machine, vcpu, State.GPRS);
        vcpu.state.setGprHalves(Gpr.RAX, this.device, 0);
        vcpu.state.setGprHalves(Gpr.RDX, 0, 0);
        break;
      case Exit.WRMSR:
        nvmm.getState(machine, vcpu, State.GPRS);
        this.device = vcpu.exit.msrValueLow;
        break;
      default:
        throw new Error(`the guest ended with exit ${vcpu.exit.reason}`);
    }
    advance(vcpu);
    nvmm.setState(machine, vcpu, State.GPRS);
  }
}

/** The run loop of a machine's vCPU, with a whole PC behind it. */
export class Whole implements Side {
  readonly name: string;
  private readonly nvmm: Nvmm;
  private readonly machine: Machine;
  private readonly ram: GuestRam;
  private readonly mailbox: Mailbox;
  private readonly loop: RunLoop;
  private readonly marks: number[] = [];

  constructor(backend: Backend, time: Time) {
    this.name = `${backend.name}, PC`;
    const size = 4 * 2 ** 20;
    const memory = createMemory(size, backend.privateSize(1, size));
    this.nvmm = backend.open(backendMemory(memory));
    this.machine = this.nvmm.machineCreate();
    this.ram = new GuestRam(memory);
    this.ram.map(this.nvmm, this.machine);
    this.ram.attach(this.nvmm);
    const control = createControl(1);
    this.mailbox = new Mailbox(control, 0);
    const clock = new MachineClock(control);
    clock.freeze(0);
    clock.unfreeze();
    const { mailbox } = this;
    const pc = new Pc(sharePc(1, [], 0), {
      ram: this.ram,
      clock,
      power: { reset: () => undefined, powerOff: () => undefined },
      signal: { notify: () => mailbox.attend() },
      tsc: { nsAt: (_, low, high) => mailbox.nsAtTsc(low, high) },
      outputReady: () => undefined,
      queueReady: () => undefined,
      disks: [],
      entropy: { fill: () => undefined },
      report: () => undefined,
    });
    pc.reset();
    const mark = (): void => {
      if (this.marks.push(time()) === 2) this.loop.power('off', 'the second mark');
    };
    pc.mmio.register(MARK_GPA, 4096, { read: () => 0, write: mark }, 'marks');
    const vcpu = this.nvmm.vcpuCreate(this.machine, 0);
    this.loop = new RunLoop({
      ...{
        nvmm: this.nvmm,
        machine: this.machine,
        vcpu,
        pc,
        lock: new DeviceLock(control),
        clock,
        mailbox,
      },
      report: (report) => {
        if (report.kind === 'crash') throw new Error(`${this.name}: ${report.crash.reason}`);
        if (report.kind === 'paused') mailbox.command(Command.RUN);
        if (report.kind === 'power') mailbox.command(Command.STOP);
      },
      serve: () => undefined,
      trace: new ExitTraceWriter(createExitTrace()),
      timeline: null,
      understudy: null,
    });
  }

  run(code: Uint8Array, user: boolean): number {
    const memory = new Uint8Array(GUEST_SIZE);
    layOut(memory, code);
    this.ram.write(GUEST_BASE, memory);
    this.mailbox.state.bytes.set(startState(user).bytes);
    this.mailbox.requestReload();
    this.mailbox.command(Command.PAUSE);
    this.marks.length = 0;
    this.loop.run();
    return this.marks[1] - this.marks[0];
  }
}
