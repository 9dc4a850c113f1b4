import type { Backend, Nvmm } from '../nvmm/nvmm.ts';
import type { Vcpu } from '../nvmm/nvmm.ts';
import { boot } from '../machine/boot/boot.ts';
import { resetState } from '../machine/boot/cpu-state.ts';
import { Command, createControl, DeviceLock, MachineClock, Mailbox } from '../machine/control.ts';
import { backendMemory, createMemory, GuestRam } from '../machine/memory.ts';
import { Pc, sharePc } from '../machine/pc.ts';
import type { GuestSource } from '../machine/protocol.ts';
import { RunLoop } from '../machine/run-loop.ts';
import { Timeline } from '../machine/timeline.ts';
import type { TimedInput, OutputQueue } from '../machine/timeline-input.ts';
import { InputQueue, SeededRandom } from '../machine/timeline-input.ts';
import { RecordingNvmm } from './lockstep-journal.ts';

export interface LeaderOptions {
  guest: GuestSource;
  /** Bytes of RAM. */
  memory: number;
  seed: number;
  unixSeconds: number;
  inputs: TimedInput[];
  /** Both backends count instructions: the guest runs in pieces. Otherwise it is stepped. */
  counts: boolean;
}

/**
 * The machine that leads: a whole PC with one vCPU on this one thread, whose backend writes down what is done with it.
 */
export class Leader {
  readonly nvmm: RecordingNvmm;
  readonly ram: GuestRam;
  readonly vcpu: Vcpu;
  readonly start: number;
  /** Words of randomness that the guest was given. */
  readonly words: number[] = [];
  /** What the guest printed on COM1. */
  printed = '';
  /** Why it doesn't go on; null while it does. */
  ended: string | null = null;
  steps = 0;
  private readonly loop: RunLoop;
  private readonly mailbox: Mailbox;
  private readonly timeline: Timeline | null;
  private readonly pc: Pc;
  private readonly machine;
  private work: () => void = () => undefined;

  constructor(backend: Backend, wrap: (nvmm: Nvmm) => Nvmm, options: LeaderOptions) {
    const memory = createMemory(options.memory, backend.privateSize(1, options.memory));
    this.start = memory.privateSize;
    this.nvmm = new RecordingNvmm(wrap(backend.open(backendMemory(memory))), memory.memory, !options.counts);
    const { nvmm } = this;
    this.machine = nvmm.machineCreate();
    const { machine } = this;
    this.ram = new GuestRam(memory);
    this.ram.map(nvmm, machine);
    this.ram.attach(nvmm);
    this.vcpu = nvmm.vcpuCreate(machine, 0);
    const { vcpu, ram } = this;
    const control = createControl(1);
    const clock = new MachineClock(control);
    clock.freeze(0);
    clock.byHand = options.counts;
    const lock = new DeviceLock(control);
    this.mailbox = new Mailbox(control, 0);
    const { mailbox } = this;
    const shared = sharePc(1, [], options.unixSeconds);
    const random = new SeededRandom(options.seed);
    const next = (): number => {
      const word = random.next();
      this.words.push(word);
      return word;
    };
    const time = options.counts ? nvmm.countInstructions!(machine, vcpu, next) : null;
    nvmm.time = time;
    nvmm.position = () => time?.count ?? this.steps;
    const inputs = shared.inputs.map(() => new InputQueue());
    const { output } = this.printer();
    this.pc = new Pc(shared, {
      ...{ ram, clock },
      power: { reset: (cause) => loop.power('reset', cause), powerOff: (cause) => loop.power('off', cause) },
      signal: { notify: () => mailbox.attend() },
      tsc: { nsAt: (_, low, high) => mailbox.nsAtTsc(low, high) },
      outputReady: () => undefined,
      queueReady: () => this.timeline?.ring() ?? this.serveQueues(lock),
      serial: {
        inputs,
        outputs: shared.outputs.map((_, port) => ({
          output: port === 0 ? output : () => true,
          free: () => 2 ** 16,
        })),
      },
      disks: [],
      entropy: random,
      report: () => undefined,
    });
    const { pc } = this;
    pc.reset();
    this.timeline =
      time === null
        ? null
        : new Timeline(
            { seed: options.seed, unixSeconds: options.unixSeconds, paced: false, replay: options.inputs },
            {
              ...{ nvmm, machine, vcpu, ram, pc, lock, clock, mailbox, time, random, inputs },
              outputs: [] as OutputQueue[],
              serve: () => undefined,
              hashed: () => undefined,
              recorded: () => undefined,
              reached: () => mailbox.command(Command.PAUSE),
              reset: () => this.end('the reset that was recorded'),
              idle: () => this.end('the guest waits for input'),
            },
          );
    const loop = new RunLoop({
      ...{ nvmm, machine, vcpu, pc, lock, clock, mailbox, trace: null, timeline: this.timeline },
      understudy: null,
      report: (report) => {
        if (report.kind === 'crash') {
          this.end(`the guest crashed: ${report.crash.reason} at ${report.crash.rip}`);
        }
        if (report.kind === 'power') {
          this.end(report.action === 'off' ? 'the guest switched itself off' : 'the guest reset the machine');
        }
      },
      serve: () => {
        if (mailbox.wanted === Command.PAUSE) this.work();
      },
    });
    this.loop = loop;
    const rsdp = pc.writeTables();
    resetState(mailbox.state);
    boot({ ram, state: mailbox.state, rsdp }, options.guest);
    mailbox.requestReload();
    if (time === null) {
      for (const { input } of options.inputs) {
        if (input.kind === 'serial') inputs[input.port].push(input.data);
      }
      clock.unfreeze();
    }
  }

  private printer() {
    const decoder = new TextDecoder('latin1');
    const output = (byte: number): boolean => {
      this.printed += decoder.decode(Uint8Array.of(byte));
      return true;
    };
    return { output };
  }

  private serveQueues(lock: DeviceLock): void {
    while (this.pc.doorbells.run((work) => lock.run(work)));
  }

  private end(why: string): void {
    this.ended ??= why;
    this.mailbox.command(Command.PAUSE);
  }

  /** Runs `work` each time that the vCPU stands still, until it calls `stop`. The first time is before anything ran. */
  drive(work: () => void): void {
    this.work = work;
    this.mailbox.command(Command.PAUSE);
    this.loop.run();
  }

  /** Within `drive`: lets the guest go on to this count of instructions, after `work`. */
  go(until: number): void {
    this.timeline!.setGoal(until);
    this.mailbox.command(Command.RUN);
  }

  /** Within `drive`: one instruction. */
  step(): void {
    const { reason } = this.loop.step();
    if (reason === 'halted' && this.ended === null) this.ended = 'the guest waits for input';
  }

  stop(): void {
    this.mailbox.command(Command.STOP);
  }

  state(): Uint8Array {
    return this.loop.readState();
  }

  /** Bytes at a linear address, as the page tables of now map it; fewer where nothing is mapped. */
  readCode(linear: bigint, length: number): Uint8Array {
    const bytes: number[] = [];
    for (let i = 0; i < length; i++) {
      const at = BigInt.asUintN(64, linear + BigInt(i));
      const found = this.loop.translate(Number(at & 0xffffffffn), Number(at >> 32n));
      if ('fault' in found || !this.ram.isRam(found.gpa, 1)) break;
      const one = new Uint8Array(1);
      this.ram.read(found.gpa, one);
      bytes.push(one[0]);
    }
    return Uint8Array.from(bytes);
  }

  get time() {
    return this.nvmm.time;
  }

  get position(): number {
    return this.nvmm.position();
  }

  close(): void {
    this.nvmm.vcpuDestroy(this.machine, this.vcpu);
    this.nvmm.close();
  }
}
