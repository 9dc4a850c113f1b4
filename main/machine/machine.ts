import { randomFillSync } from 'node:crypto';
import type { Worker } from 'node:worker_threads';
import type { SavedRegisters } from '../devices/registers.ts';
import { Msr, StateOffset } from '../nvmm/constants.ts';
import { VcpuState } from '../nvmm/layout.ts';
import type { MachineBackend, MachineVerbs, Machine as NvmmMachine, VcpuHandle } from '../nvmm/nvmm.ts';
import { BackendUnavailableError, chooseBackend } from '../nvmm/registry.ts';
import type { Answers, MachineAccess } from './answers.ts';
import { lookingAnswers, timelineAnswers } from './answers.ts';
import { machineBackends } from './machine-backends.ts';
import { boot } from './boot/boot.ts';
import { resetState } from './boot/cpu-state.ts';
import type { MachineCapture, VcpuCapture } from './capture.ts';
import { loadDevices, saveDevices } from './capture.ts';
import { Command, createControl, DeviceLock, MachineClock, Mailbox } from './control.ts';
import type { Stop } from './debug.ts';
import type { DebuggedMachine } from './debugging.ts';
import { Debugging } from './debugging.ts';
import { startVcpuThread } from './entry.ts';
import { MachineError, messageOf } from './errors.ts';
import { namedCounters } from './exit-names.ts';
import { LayeredDisk } from './layered-disk.ts';
import type { SharedMemory } from './memory.ts';
import { backendMemory, createMemory, GuestRam } from './memory.ts';
import { Pc, sharePc, VIRTIO_CONSOLE } from './pc.ts';
import type {
  Answer,
  CrashReport,
  FromMachine,
  MachineConfig,
  MachineState,
  MachineStats,
  MachineStatus,
  Question,
  QuestionParams,
} from './protocol.ts';
import type { MachineInput } from './timeline-input.ts';
import { SerialPump } from './serial-pump.ts';
import { MachineSnapshots } from './snapshot/machine-snapshots.ts';
import { Tracing } from './tracing.ts';
import type { VcpuRequestName, VcpuRequests } from './vcpu-requests.ts';
import type { FromVcpu, ToVcpu, VcpuStart } from './vcpu.ts';

const TSC_OFFSET = StateOffset.MSRS + 8 * Msr.TSC;

/** A vCPU as the I/O thread sees it. */
interface VcpuThread {
  worker: Worker;
  mailbox: Mailbox;
  handle: VcpuHandle | null;
  paused: boolean;
  stopped: boolean;
  /** The thread is no more. */
  gone: boolean;
}

/** The machine on its I/O thread: makes everything, runs the verbs one after the other, serves what blocks. */
export class Machine implements MachineAccess, DebuggedMachine {
  private readonly config: MachineConfig;
  private readonly send: (message: FromMachine) => void;
  /** The guest switched itself off, or nothing can go on: the process may end. */
  private readonly ended: () => void;
  /** These three change together, when the backend is switched. */
  private nvmm: MachineVerbs;
  private backendName: MachineBackend['name'];
  private machine: NvmmMachine;
  readonly ram: GuestRam;
  private readonly control: SharedArrayBuffer;
  private readonly lock: DeviceLock;
  private readonly clock: MachineClock;
  /** What the guest died of last. */
  private death: Pick<Required<MachineStatus>, 'message' | 'crash' | 'stop'> | null = null;
  private readonly disks: LayeredDisk[];
  private readonly pc: Pc;
  private readonly pumps: SerialPump[];
  private readonly startVcpu: Pick<VcpuStart, 'memory' | 'control' | 'pc' | 'tier' | 'deterministic'>;
  private readonly tracing: Tracing;
  private readonly snapshots: MachineSnapshots;
  private vcpus: VcpuThread[] = [];
  private readonly debugging = new Debugging(this);
  /** vCPUs that met a breakpoint while the machine was stopping for another: told one after the other. */
  private readonly stops: Stop[] = [];
  /** vCPUs that are paused by themselves while the machine runs. */
  private readonly held = new Set<number>();
  private state: MachineState = 'starting';
  /** Verbs run one after the other. */
  private queue: Promise<unknown> = Promise.resolve();
  /** Called at each message of a vCPU: whoever waits for one looks again. */
  private waiting: (() => void)[] = [];
  private failure: string | null = null;
  /** The vCPUs are between two machineBackends. */
  private switching = false;
  private nextRequest = 1;
  /** What vCPUs have answered to requests, until it is taken. */
  private readonly answered = new Map<number, Extract<FromVcpu, { kind: 'answer' | 'refusal' }>>();
  private readonly answers: Answers;

  /** Throws MachineError or BackendUnavailableError when the host can't give what the configuration asks for. */
  constructor(config: MachineConfig, send: (message: FromMachine) => void, ended: () => void) {
    this.config = config;
    this.send = send;
    this.ended = ended;
    const { deterministic } = config;
    if (deterministic !== undefined) checkDeterministic(config);
    const backend = chooseBackend(machineBackends, deterministic === undefined ? config.backend : 'emulated');
    this.backendName = backend.name;
    this.disks = config.disks.map((disk) => new LayeredDisk(disk));
    // Room for whichever backend the machine may be switched to; what is not used takes no memory of the host.
    const needs = machineBackends.map((one) => one.privateSize(config.vcpus, config.memory));
    const memory = createMemory(config.memory, Math.max(...needs));
    this.ram = new GuestRam(memory);
    [this.nvmm, this.machine] = this.open(backend, memory);
    this.control = createControl(config.vcpus);
    this.lock = new DeviceLock(this.control);
    this.clock = new MachineClock(this.control);
    this.clock.freeze(0);
    this.clock.byHand = deterministic !== undefined;

    const shapes = this.disks.map(({ size, readOnly }) => ({ size, readOnly }));
    const shared = sharePc(config.vcpus, shapes, deterministic?.unixSeconds ?? Math.floor(Date.now() / 1000));
    const mailboxes = Array.from({ length: config.vcpus }, (_, id) => new Mailbox(this.control, id));
    this.pc = new Pc(shared, {
      ram: this.ram,
      clock: this.clock,
      power: {
        reset: (cause) => this.power('reset', cause),
        powerOff: (cause) => this.power('off', cause),
      },
      signal: {
        notify: (id) => {
          mailboxes[id].attend();
          this.kick(id);
        },
      },
      tsc: { nsAt: (id, low, high) => mailboxes[id].nsAtTsc(low, high) },
      outputReady: (port) => this.pumps[port].look(),
      queueReady: () => this.serveQueues(),
      disks: this.disks,
      entropy: { fill: (into) => void randomFillSync(into) },
      report: (message) => console.error(message),
    });
    this.pumps = this.pc.outputs.map(
      (output, port) =>
        new SerialPump(port, output, this.pc.inputs[port], { send, poll: (at) => this.pollSerial(at) }),
    );
    this.tracing = new Tracing(config, { pc: this.pc, clock: this.clock, lock: this.lock, mailboxes });
    this.answers = {
      stats: () => this.stats(),
      ...lookingAnswers(this),
      ...timelineAnswers(this),
      ...this.tracing.answers(),
      'disk.layers': () => this.disks.map(({ layerPaths }) => layerPaths),
      'snapshot.take': (order) => this.snapshots.take(order),
      'snapshot.restore': async (plan) => {
        await this.snapshots.restore(plan);
        await this.sayWhere();
        return null;
      },
      'machine.pause': async ({ time }) => {
        await this.pause(time);
        return null;
      },
      'vcpu.pause': ({ vcpu }) => this.pauseVcpu(vcpu),
      'vcpu.resume': ({ vcpu }) => this.resumeVcpu(vcpu),
      'backend.switch': async ({ backend }) => {
        await this.switchBackend(backend);
        return null;
      },
      ...this.debugging.answers(),
    };
    this.snapshots = new MachineSnapshots({
      config,
      ram: this.ram,
      memory: memory.memory,
      disks: this.disks,
      backendName: () => this.backendName,
      whileStill: (verb, work) => this.whileStill(work, verb, ['running', 'paused']),
      capture: () => this.capture(),
      revive: (capture, restoreRam) => this.revive(capture, restoreRam),
      sealElsewhere: (layers) => this.disksElsewhere('disks.seal', { layers }),
      replaceElsewhere: (layers) => this.disksElsewhere('disks.replace', { layers }),
      distrust: (why) => this.distrust(why),
    });
    this.startVcpu = {
      memory,
      control: this.control,
      pc: { ...shared, registers: this.pc.arena.buffer },
      tier: config.tier,
      deterministic: deterministic === undefined ? null : { config: deterministic, disks: config.disks },
    };
  }

  /** Boots, starts the vCPUs' threads and lets them run, unless the configuration has them wait. */
  async start(): Promise<void> {
    this.say('starting');
    const { restore } = this.config;
    this.load(restore === undefined);
    await this.startThreads();
    for (const pump of this.pumps) pump.start();
    if (restore !== undefined) await this.snapshots.startFrom(restore);
    if (this.config.startPaused === true) await this.stopFor(await this.request(0, 'where', null));
    else this.go();
  }

  /** `time`: whether it stands still for the guest meanwhile, or goes on as on a computer that was busy elsewhere. */
  pause(time: 'stops' | 'runs' = 'stops'): Promise<void> {
    return this.verb(async () => {
      if (this.state === 'paused') return;
      this.require('pause', 'running');
      if (time === 'runs' && this.config.deterministic !== undefined) {
        throw new MachineError(
          'host',
          'The time of a deterministic machine is its instructions: it stands still.',
        );
      }
      await this.halt(time);
      const stop = await this.request(0, 'where', null);
      await this.stopFor(this.stops.shift() ?? stop);
    });
  }

  resume(): Promise<void> {
    return this.verb(async () => {
      if (this.state === 'running') return;
      this.require('resume', 'paused');
      const next = this.stops.shift();
      if (next === undefined) this.go();
      else await this.stopFor(next);
    });
  }

  /** The machine stands still for a reason. */
  private async stopFor(stop: Stop): Promise<void> {
    await this.debugging.met(stop);
    this.say('paused', { stop, message: stop.message });
  }

  /** What a paused machine has said of where it stands is no longer so. */
  private sayWhere(): Promise<void> {
    return this.verb(async () => {
      if (this.state === 'paused') await this.stopFor(await this.request(0, 'where', null));
    });
  }

  /** A vCPU has met a breakpoint. */
  private stopped(stop: Stop): void {
    this.stops.push(stop);
    void this.verb(async () => {
      // The machine may have stopped for another reason meanwhile; then this one is told at the next resume.
      if (this.state !== 'running') return;
      await this.halt();
      for (const pump of this.pumps) pump.look();
      await this.stopFor(this.stops.shift() ?? stop);
    }).catch((error: unknown) => this.fail(messageOf(error)));
  }

  saveDevices(): Record<string, SavedRegisters> {
    return this.lock.run(() => saveDevices(this.pc));
  }

  get vcpuCount(): number {
    return this.vcpus.length;
  }

  step(vcpu: number, count: number, quiet: boolean): Promise<Stop> {
    return this.verb(async () => {
      const alone = this.state === 'running' && this.held.has(vcpu);
      if (!alone) this.require('step', 'paused');
      const frozen = this.clock.isFrozen;
      if (frozen) this.clock.unfreeze();
      let stop: Stop;
      try {
        stop = await this.request(vcpu, 'step', { count });
      } finally {
        if (frozen) this.clock.freeze();
      }
      // What the instruction asked of a virtqueue is done now, as if the machine ran.
      if (this.config.deterministic === undefined) {
        while (this.pc.doorbells.run((work) => this.lock.run(work)));
      }
      if (this.state === 'paused') {
        await this.debugging.met(stop);
        if (!quiet) this.say('paused', { stop, message: stop.message });
      }
      return stop;
    });
  }

  /** Takes a paused deterministic machine back by an instruction, or to its last stop. */
  back(to: 'step' | 'stop', quiet: boolean): Promise<Stop> {
    return this.verb(async () => {
      this.require('go back', 'paused', 'crashed');
      const stop = await this.request(0, 'back', { to });
      // One that had crashed has not, where it is now.
      this.state = 'paused';
      if (!quiet) this.say('paused', { stop, message: stop.message });
      return stop;
    });
  }

  whileStill<T>(
    work: () => Promise<T>,
    verb = 'take breakpoints',
    states: MachineState[] = ['running', 'paused', 'crashed'],
  ): Promise<T> {
    return this.verb(async () => {
      this.require(verb, ...states);
      const runs = this.state === 'running';
      if (runs) await this.halt();
      try {
        return await work();
      } finally {
        if (runs && this.state === 'running') {
          this.run();
          this.serveQueues();
        }
      }
    });
  }

  reset(): Promise<void> {
    return this.verb(async () => {
      this.require('reset', 'running', 'paused', 'crashed');
      if (this.config.deterministic !== undefined && this.state === 'running') this.give({ kind: 'reset' });
      else await this.bootAgain();
    });
  }

  private async bootAgain(): Promise<void> {
    await this.halt();
    await this.askVcpus('capture.discard', null);
    this.load();
    this.go();
  }

  /**
   * Runs the machine on another backend from now on: its state moves through getState and setState, memory and
   * devices stay where they are. Only while it is paused. When the new one fails, the old one goes on.
   */
  switchBackend(choice: MachineConfig['backend']): Promise<void> {
    return this.verb(async () => {
      this.require('switch its backend', 'paused');
      const to = chooseBackend(machineBackends, choice);
      if (this.config.deterministic !== undefined) {
        throw new MachineError('host', 'A deterministic machine stays on the backend `emulated`.');
      }
      const from = chooseBackend(machineBackends, this.backendName);
      if (to === from) return;
      const states = await this.askVcpus('capture.save', null);
      this.switching = true;
      await this.stopThreads();
      try {
        await this.moveTo(to, states);
      } catch (error) {
        for (const thread of this.vcpus) thread.stopped = true;
        await Promise.all(this.vcpus.map(({ worker }) => worker.terminate()));
        this.failure = null;
        this.switching = false;
        await this.moveTo(from, states);
        throw new MachineError('host', `${to.name} can't take the machine: ${messageOf(error)}`);
      } finally {
        this.switching = false;
        this.say('paused');
      }
    });
  }

  /** The state of the machine, without its RAM. Only while it is paused, and from within a verb. */
  async capture(): Promise<MachineCapture> {
    for (const pump of this.pumps) pump.look();
    const vcpus = await this.askVcpus('capture.save', null);
    return this.lock.run(() => ({
      clock: this.clock.now(),
      devices: saveDevices(this.pc),
      inputs: this.pc.inputs.map((ring) => ring.contents()),
      outputs: this.pc.outputs.map((ring) => ring.contents()),
      vcpus,
    }));
  }

  /** Puts a state back that `capture` gave; `restoreRam` puts the memory back that belongs to it. As `capture`. */
  async revive(capture: MachineCapture, restoreRam: () => void | Promise<void>): Promise<void> {
    await this.askVcpus('capture.discard', null);
    await restoreRam();
    this.lock.run(() => {
      this.ram.rewritten();
      this.clock.freeze(capture.clock);
      loadDevices(this.pc, capture.devices);
      capture.inputs.forEach((bytes, port) => this.pc.inputs[port].replace(bytes));
      capture.outputs.forEach((bytes, port) => this.pc.outputs[port].replace(bytes));
      capture.vcpus.forEach(({ state }, id) => {
        const { view } = new VcpuState(state);
        const low = view.getUint32(TSC_OFFSET, true);
        this.vcpus[id].mailbox.restartTsc(low, view.getUint32(TSC_OFFSET + 4, true), capture.clock);
      });
    });
    await Promise.all(capture.vcpus.map((vcpu, id) => this.request(id, 'capture.load', vcpu)));
    for (const pump of this.pumps) pump.look();
  }

  /** The disks of a deterministic machine are open on its vCPU's thread, too. */
  private async disksElsewhere<N extends 'disks.seal' | 'disks.replace'>(
    name: N,
    params: VcpuRequests[N]['params'],
  ): Promise<void> {
    if (this.config.deterministic !== undefined) await this.request(0, name, params);
  }

  powerButton(): Promise<void> {
    return this.verb(async () => {
      this.require('press the power button', 'running');
      if (this.config.deterministic === undefined) this.lock.run(() => this.pc.acpi.pressPowerButton());
      else this.give({ kind: 'power-button' });
    });
  }

  /** Ends the machine. Afterwards the process has nothing left to do. */
  powerOff(message?: string): Promise<void> {
    return this.verb(() => this.end({ state: 'off', message }));
  }

  /** Answers a question, in whatever state the machine is. */
  async answer(question: Question, params: QuestionParams<Question>): Promise<Answer<Question>> {
    const answer = this.answers[question] as (
      params: unknown,
    ) => Answer<Question> | Promise<Answer<Question>>;
    return answer(params);
  }

  async askVcpu<N extends VcpuRequestName>(
    vcpu: number,
    name: N,
    params: VcpuRequests[N]['params'],
  ): Promise<VcpuRequests[N]['result']> {
    if (!this.held.has(vcpu)) this.require('look into a vCPU', 'paused', 'crashed');
    return this.request(vcpu, name, params);
  }

  private askVcpus<N extends VcpuRequestName>(
    name: N,
    params: VcpuRequests[N]['params'],
  ): Promise<VcpuRequests[N]['result'][]> {
    return Promise.all(this.vcpus.map((_, id) => this.request(id, name, params)));
  }

  async request<N extends VcpuRequestName>(
    vcpu: number,
    name: N,
    params: VcpuRequests[N]['params'],
  ): Promise<VcpuRequests[N]['result']> {
    const thread = this.thread(vcpu);
    const call = this.nextRequest++;
    thread.worker.postMessage({ kind: 'request', call, name, params } satisfies ToVcpu);
    thread.mailbox.wake();
    await this.until(() => this.answered.has(call));
    const answer = this.answered.get(call)!;
    this.answered.delete(call);
    if (answer.kind === 'refusal') {
      const { error, message } = answer;
      throw new MachineError(error, error === 'internal' ? `vCPU ${vcpu}, ${name}: ${message}` : message);
    }
    return answer.result as VcpuRequests[N]['result'];
  }

  private stats(): MachineStats {
    const stats: MachineStats = { 'time.ns': this.clock.now() };
    for (const { mailbox } of this.vcpus) {
      for (const [name, count] of Object.entries(namedCounters(mailbox.counters))) {
        stats[name] = (stats[name] ?? 0) + count;
      }
    }
    const buses = { ports: this.pc.ports.unmapped(), mmio: this.pc.mmio.unmapped() };
    for (const [name, { reads, writes }] of Object.entries(buses)) {
      stats[`unmapped.${name}.reads`] = reads;
      stats[`unmapped.${name}.writes`] = writes;
    }
    return { ...stats, ...this.nvmm.counters?.(this.machine) };
  }

  type(port: number, data: Uint8Array): void {
    this.pumps[port]?.type(data);
  }

  ack(port: number, position: number): void {
    this.pumps[port]?.ack(position);
  }

  /** Puts everything in its state after power-on, and loads the image. Only while no vCPU runs. */
  private load(image = true): void {
    this.lock.run(() => {
      this.clock.freeze(0);
      this.pc.reset();
      if (!image) return;
      const rsdp = this.pc.writeTables();
      const mailboxes = Array.from({ length: this.config.vcpus }, (_, id) => new Mailbox(this.control, id));
      for (const { state } of mailboxes) resetState(state);
      boot({ ram: this.ram, state: mailboxes[0].state, rsdp }, this.config.guest);
      // Only now: a paused vCPU's thread may wake at any time, and takes the state when it is told that there is one.
      for (const mailbox of mailboxes) mailbox.requestReload();
    });
  }

  /** Memory turned out not to be what it should: nothing more is to happen with it. */
  private distrust(why: string): void {
    void this.verb(async () => {
      const message = `the snapshot's memory is damaged. ${why}`;
      if (this.state === 'crashed' && this.death !== null) {
        this.say('crashed', { ...this.death, message: `${this.death.message} No wonder: ${message}` });
        return;
      }
      if (this.state !== 'running' && this.state !== 'paused') return;
      await this.halt();
      this.say('paused', { message: `Do not go on: ${message}` });
    });
  }

  /** An input for a deterministic machine: it is taken at a time that its vCPU decides and tells. */
  private give(input: MachineInput): void {
    const [{ worker, mailbox }] = this.vcpus;
    worker.postMessage({ kind: 'input', input } satisfies ToVcpu);
    mailbox.wake();
  }

  go(): void {
    this.run();
    this.say('running');
    this.serveQueues();
  }

  /** Lets time and every vCPU go on. */
  private run(): void {
    this.clock.unfreeze();
    this.vcpus.forEach((vcpu, id) => {
      if (this.held.has(id)) return;
      vcpu.paused = false;
      vcpu.mailbox.command(Command.RUN);
    });
  }

  /** Takes every vCPU out of the guest and stops the clock. */
  private async halt(time: 'stops' | 'runs' = 'stops'): Promise<void> {
    this.vcpus.forEach((vcpu, id) => {
      vcpu.paused = false;
      vcpu.mailbox.command(Command.PAUSE);
      this.kick(id);
    });
    await this.until(() => this.vcpus.every(({ paused }) => paused));
    if (time === 'stops') this.clock.freeze();
    else await this.askVcpus('time.runs', null);
  }

  /** Takes one vCPU out of the guest; the others and time run on. */
  private pauseVcpu(vcpu: number): Promise<null> {
    return this.verb(async () => {
      this.require('pause a vCPU', 'running');
      const thread = this.thread(vcpu);
      if (this.held.has(vcpu)) return null;
      this.held.add(vcpu);
      thread.paused = false;
      thread.mailbox.command(Command.PAUSE);
      this.kick(vcpu);
      await this.until(() => thread.paused);
      await this.request(vcpu, 'time.runs', null);
      this.say('running');
      return null;
    });
  }

  private resumeVcpu(vcpu: number): Promise<null> {
    return this.verb(async () => {
      const thread = this.thread(vcpu);
      if (!this.held.delete(vcpu)) {
        throw new MachineError('wrong-state', `vCPU ${vcpu} is not paused by itself.`);
      }
      // With the whole machine paused, it goes on with the others.
      if (this.state !== 'running') return null;
      thread.paused = false;
      thread.mailbox.command(Command.RUN);
      this.say('running');
      return null;
    });
  }

  private thread(vcpu: number): VcpuThread {
    const found = this.vcpus[vcpu];
    if (found !== undefined) return found;
    const { length } = this.vcpus;
    const there = length === 1 ? 'only vCPU 0' : `vCPUs 0 to ${length - 1}`;
    throw new MachineError('wrong-state', `There is no vCPU ${vcpu}: this machine has ${there}.`);
  }

  /** Makes a vCPU look at its mailbox, whatever it does. */
  private kick(id: number): void {
    const vcpu = this.vcpus[id];
    if (vcpu === undefined) return;
    vcpu.mailbox.wake();
    if (vcpu.handle !== null) this.nvmm.vcpuStop(vcpu.handle);
  }

  /** Opens a backend over the machine's memory, and maps that into it. */
  private open(backend: MachineBackend, memory: SharedMemory): [MachineVerbs, NvmmMachine] {
    const nvmm = backend.open(backendMemory(memory), { tier: this.config.tier });
    const machine = nvmm.machineCreate();
    this.ram.map(nvmm, machine);
    this.ram.attach(nvmm);
    return [nvmm, machine];
  }

  /** Goes on with vCPUs on another backend; the threads of the old one have ended. */
  private async moveTo(backend: MachineBackend, states: VcpuCapture[]): Promise<void> {
    this.nvmm.close();
    this.backendName = backend.name;
    [this.nvmm, this.machine] = this.open(backend, this.startVcpu.memory);
    await this.startThreads();
    await this.debugging.distribute();
    await Promise.all(states.map((state, id) => this.request(id, 'capture.load', state)));
  }

  /** Starts the vCPUs' threads; they are paused then. */
  private async startThreads(): Promise<void> {
    this.vcpus = Array.from({ length: this.config.vcpus }, (_, id) => {
      new Mailbox(this.control, id).command(Command.PAUSE);
      return this.startThread(id);
    });
    await this.until(() => this.vcpus.every(({ handle, paused }) => handle !== null && paused));
    const handles = this.vcpus.map(({ handle }) => handle!);
    for (const { worker } of this.vcpus) worker.postMessage({ kind: 'handles', handles } satisfies ToVcpu);
  }

  /** Ends the vCPUs' threads: afterwards nobody uses the backend but this one. */
  private async stopThreads(): Promise<void> {
    for (const { mailbox } of this.vcpus) mailbox.command(Command.STOP);
    this.vcpus.forEach((_, id) => this.kick(id));
    await this.until(() => this.vcpus.every(({ gone }) => gone));
  }

  private startThread(id: number): VcpuThread {
    const orders: VcpuStart = {
      ...this.startVcpu,
      backend: this.backendName,
      machine: this.nvmm.machineShare(this.machine),
      vcpu: id,
      trace: this.tracing.buffers[id] ?? null,
    };
    const worker = startVcpuThread(orders);
    const mailbox = new Mailbox(this.control, id);
    const thread: VcpuThread = { worker, mailbox, handle: null, paused: false, stopped: false, gone: false };
    worker.on('message', (message: FromVcpu) => this.hear(thread, message));
    worker.on('error', (error) => this.fail(`vCPU ${id} ended: ${messageOf(error)}`));
    worker.on('exit', (code) => {
      thread.gone = true;
      if (!thread.stopped) this.fail(`vCPU ${id}'s thread ended unexpectedly (exit code ${code}).`);
      this.wakeWaiting();
    });
    return thread;
  }

  private hear(thread: VcpuThread, message: FromVcpu): void {
    switch (message.kind) {
      case 'ready':
        thread.handle = message.handle;
        break;
      case 'paused':
        thread.paused = message.order === thread.mailbox.order;
        break;
      case 'stopped':
        thread.stopped = true;
        break;
      case 'failed':
        this.fail(`vCPU ${message.vcpu}: ${message.message}`);
        break;
      case 'debug':
        this.stopped(message.stop);
        break;
      case 'crash':
        this.crash(message.crash);
        break;
      case 'power':
        this.power(message.action, message.cause);
        break;
      case 'output':
        this.pumps[message.port].look();
        break;
      case 'queue':
        this.serveQueues();
        break;
      case 'timeline':
        this.send(message);
        break;
      case 'reached':
        this.reached(message.instructions);
        break;
      case 'log':
        console.error(message.message);
        break;
      case 'answer':
      case 'refusal':
        this.answered.set(message.call, message);
        break;
    }
    this.wakeWaiting();
  }

  private wakeWaiting(): void {
    for (const look of this.waiting.splice(0)) look();
  }

  private async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.failure !== null) throw new MachineError('host', this.failure);
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }

  private fail(message: string): void {
    if (this.failure !== null || this.state === 'stopping') return;
    this.failure = message;
    this.wakeWaiting();
    // A start or a switch that failed is answered as such; a running machine ends here.
    if (this.state === 'starting' || this.switching) return;
    for (const pump of this.pumps) pump.flush();
    void this.sayTrace().then(() => {
      this.send({ kind: 'status', status: { state: 'failed', backend: this.backendName, message } });
      this.ended();
    });
  }

  /** A deterministic machine is where it was to go: at its end, or at a place to be looked at. */
  private reached(instructions: number): void {
    const done =
      instructions >= (this.config.deterministic?.until ?? Infinity)
        ? this.powerOff(`The machine has run ${instructions} instructions.`)
        : this.pause();
    done.catch((error: unknown) => this.fail(messageOf(error)));
  }

  /** The guest asked for it. */
  private power(action: 'reset' | 'off', cause: string): void {
    const done =
      action === 'reset'
        ? this.verb(() => this.bootAgain())
        : this.powerOff(`The guest switched itself off (${cause}).`);
    done.catch((error: unknown) => this.fail(messageOf(error)));
  }

  private crash(crash: CrashReport): void {
    void this.verb(async () => {
      await this.halt();
      for (const pump of this.pumps) pump.look();
      const message = `The guest crashed: ${crash.reason} at ${crash.rip}.`;
      const { vcpu, rip } = crash;
      const stop: Stop = { vcpu, reason: 'triple-fault', rip: BigInt(rip), message };
      this.death = { message, crash, stop };
      this.say('crashed', this.death);
    });
  }

  private async end(status: { state: 'off'; message?: string | undefined }): Promise<void> {
    this.say('stopping');
    await this.stopThreads();
    for (const pump of this.pumps) pump.flush();
    for (const disk of this.disks) {
      if (!disk.readOnly) disk.flush();
      disk.close();
    }
    this.send({ kind: 'stats', stats: this.stats() });
    await this.sayTrace();
    this.nvmm.close();
    const { message } = status;
    this.send({ kind: 'status', status: { state: 'off', ...(message === undefined ? {} : { message }) } });
    this.ended();
  }

  /** Writes the exit trace where the configuration wants it at the end. */
  private async sayTrace(): Promise<void> {
    const trace = await this.tracing.end();
    if (trace !== null) this.send({ kind: 'trace', trace });
  }

  private serveQueues(): void {
    // Paused: what is in the queues stays there, so that the machine's memory stands still.
    if (this.state !== 'running' || this.config.deterministic !== undefined) return;
    if (this.pc.doorbells.run((work) => this.lock.run(work))) setImmediate(() => this.serveQueues());
  }

  /** Bytes came or room was made: the device looks, and the vCPU sees its new deadline. */
  private pollSerial(port: number): void {
    if (this.config.deterministic !== undefined) {
      this.vcpus[0]?.mailbox.wake();
      return;
    }
    this.lock.run(() => {
      if (port === VIRTIO_CONSOLE) this.pc.console.poll();
      else this.pc.uarts[port].poll();
    });
    this.vcpus[0]?.mailbox.attend();
    this.kick(0);
  }

  private verb<T>(work: () => Promise<T>): Promise<T> {
    const done = this.queue.then(work);
    this.queue = done.catch(() => undefined);
    return done;
  }

  private require(verb: string, ...states: MachineState[]): void {
    if (states.includes(this.state)) return;
    const way = this.state === 'running' && states.includes('paused') ? ' Pause it first.' : '';
    throw new MachineError('wrong-state', `The machine is ${this.state}: it can't ${verb} now.${way}`);
  }

  private say(state: MachineState, more: Partial<MachineStatus> = {}): void {
    this.state = state;
    const held = this.held.size === 0 ? {} : { held: [...this.held] };
    this.send({ kind: 'status', status: { state, backend: this.backendName, ...held, ...more } });
  }
}

function checkDeterministic({ backend, vcpus, deterministic, disks }: MachineConfig): void {
  const fail = (message: string): never => {
    throw new MachineError('host', message);
  };
  if (backend !== 'auto' && backend !== 'emulated') {
    fail(
      `The backend ${backend} can't count instructions exactly: a deterministic machine needs \`emulated\`.`,
    );
  }
  if ((deterministic?.history ?? 0) > 0 && disks.some(({ readonly }) => !readonly)) {
    fail("A machine that keeps a history can't take back what it wrote to a disk: attach disks read-only.");
  }
  if (vcpus !== 1) fail(`A deterministic machine has one vCPU, not ${vcpus}: several race with each other.`);
}

/** A MachineError for whatever a constructor or a verb threw. */
export function asMachineError(error: unknown): MachineError {
  if (error instanceof MachineError) return error;
  return new MachineError(error instanceof BackendUnavailableError ? 'host' : 'internal', messageOf(error));
}
