import { parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { randomFillSync } from 'node:crypto';
import { chooseBackend } from '../nvmm/registry.ts';
import { SerialRing } from '../devices/serial-ring.ts';
import { Limit } from '../nvmm/constants.ts';
import type { Backend, Machine, MachineHandle, Nvmm, Tier, Vcpu, VcpuHandle } from '../nvmm/nvmm.ts';
import { backends } from './backends.ts';
import { Backwards } from './backwards.ts';
import { DeviceLock, MachineClock, Mailbox } from './control.ts';
import { absentDisk } from './disk.ts';
import { LayeredDisk } from './layered-disk.ts';
import type { MachineErrorKind } from './errors.ts';
import { messageOf } from './errors.ts';
import { ExitTraceWriter } from './exit-trace.ts';
import type { SharedMemory } from './memory.ts';
import { backendMemory, GuestRam } from './memory.ts';
import type { PcShared } from './pc.ts';
import { Pc } from './pc.ts';
import type { DiskConfig } from './protocol.ts';
import type { VcpuReport } from './run-loop.ts';
import { RunLoop } from './run-loop.ts';
import { loadPrebuilt } from './prebuilt-handlers.ts';
import { Timeline } from './timeline.ts';
import { Understudy } from './understudy.ts';
import type { DeterministicConfig, MachineInput, TimelineEvent } from './timeline-input.ts';
import { InputQueue, OutputQueue, SeededRandom } from './timeline-input.ts';
import type { VcpuRequestName } from './vcpu-requests.ts';
import { answerVcpuRequest } from './vcpu-requests.ts';

/**
 * The thread of one vCPU: a blocking loop that never comes back to the event loop before it is stopped. What
 * it says goes out by postMessage; what it is told comes in through its mailbox and receiveMessageOnPort.
 */

/** What the I/O thread gives a vCPU's thread at its start. */
export interface VcpuStart {
  vcpu: number;
  backend: Backend['name'];
  memory: SharedMemory;
  machine: MachineHandle;
  control: SharedArrayBuffer;
  /** This vCPU's exit trace; null: exits are not traced. */
  trace: SharedArrayBuffer | null;
  pc: PcShared;
  /** Null: the host's clock. Else the vCPU's thread does everything itself, the disks included. */
  /** How `emulated` runs code. */
  tier: Tier | undefined;
  deterministic: { config: DeterministicConfig; disks: DiskConfig[] } | null;
}

/** To the I/O thread. */
export type FromVcpu =
  | VcpuReport
  | { kind: 'ready'; vcpu: number; handle: VcpuHandle }
  | { kind: 'failed'; vcpu: number; message: string }
  | { kind: 'output'; port: number }
  | { kind: 'queue' }
  | { kind: 'log'; message: string }
  | { kind: 'timeline'; event: TimelineEvent }
  /** The goal is reached: this vCPU stands still until it is paused. */
  | { kind: 'reached'; instructions: number }
  | { kind: 'answer'; vcpu: number; call: number; result: unknown }
  | { kind: 'refusal'; vcpu: number; call: number; error: MachineErrorKind; message: string };

/** From the I/O thread: how to kick each vCPU; and, while the vCPU is paused, requests to it (vcpu-requests.ts). */
export type ToVcpu =
  | { kind: 'handles'; handles: VcpuHandle[] }
  | { kind: 'input'; input: MachineInput }
  | { kind: 'request'; call: number; name: VcpuRequestName; params: unknown };

function start(port: NonNullable<typeof parentPort>, data: VcpuStart): void {
  const say = (message: FromVcpu): void => port.postMessage(message);
  const nvmm = chooseBackend(backends, data.backend).open(backendMemory(data.memory), { tier: data.tier });
  const machine = nvmm.machineAttach(data.machine);
  const vcpu = nvmm.vcpuCreate(machine, data.vcpu);
  const ram = new GuestRam(data.memory);
  ram.attach(nvmm);
  const clock = new MachineClock(data.control);
  const mailboxes = Array.from({ length: data.pc.vcpus }, (_, id) => new Mailbox(data.control, id));
  let handles: VcpuHandle[] = [];
  const exact =
    data.deterministic === null ? null : exactParts(data, data.deterministic, nvmm, machine, vcpu);

  const pc: Pc = new Pc(data.pc, {
    ram,
    clock,
    power: {
      reset: (cause) => loop.power('reset', cause),
      powerOff: (cause) => loop.power('off', cause),
    },
    signal: {
      notify: (id) => {
        mailboxes[id].attend();
        if (id === data.vcpu) return;
        mailboxes[id].wake();
        if (handles[id] !== undefined) nvmm.vcpuStop(handles[id]);
      },
    },
    tsc: { nsAt: (id, low, high) => mailboxes[id].nsAtTsc(low, high) },
    outputReady: (serial) => say({ kind: 'output', port: serial }),
    queueReady: () => (timeline === null ? say({ kind: 'queue' }) : timeline.ring()),
    disks: exact?.disks ?? data.pc.disks.map(({ size, readOnly }) => absentDisk(size, readOnly)),
    entropy: exact?.random ?? { fill: (into) => void randomFillSync(into) },
    ...(exact === null ? {} : { serial: exact }),
    report: (message) => say({ kind: 'log', message }),
  });
  const serve = (): void => {
    for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
      const message = next.message as ToVcpu;
      if (message.kind === 'handles') handles = message.handles;
      else if (message.kind === 'input') timeline?.give(message.input);
      else say(answerVcpuRequest(loop, data.vcpu, message));
    }
  };
  const lock = new DeviceLock(data.control);
  const mailbox = mailboxes[data.vcpu];
  const timeline: Timeline | null =
    exact === null
      ? null
      : new Timeline(exact.config, {
          ...{ nvmm, machine, vcpu, ram, pc, lock, clock, mailbox, serve },
          ...exact,
          hashed: (instructions, hash) =>
            say({ kind: 'timeline', event: { kind: 'hash', instructions, hash } }),
          recorded: (input) => say({ kind: 'timeline', event: { kind: 'input', input } }),
          reached: (instructions) => say({ kind: 'reached', instructions }),
          reset: () => loop.power('reset', 'from outside'),
        });
  const emulator = backends.find(({ name }) => name === 'emulated' && name !== data.backend);
  const understudy =
    emulator?.unavailable() === null ? new Understudy(emulator, data.memory, data.vcpu) : null;
  const loop: RunLoop = new RunLoop({
    nvmm,
    machine,
    vcpu,
    pc,
    lock,
    clock,
    mailbox,
    timeline,
    trace: data.trace === null ? null : new ExitTraceWriter(data.trace),
    understudy,
    report: say,
    serve,
  });
  loop.disks = exact?.disks ?? [];
  const history = exact?.config.history ?? 0;
  if (timeline !== null && history > 0) {
    const first = ram.start / Limit.PAGE;
    const dirty = nvmm.dirtyPages?.subarray(first, first + ram.size / Limit.PAGE);
    if (dirty === undefined) throw new Error(`${nvmm.backend} does not tell what a guest writes`);
    const rewritten = (at: number, size: number): void => ram.rewritten(at, size);
    loop.backwards = new Backwards({
      ...{ timeline, loop, pc, limit: history },
      ram: { bytes: ram.bytes, dirty, rewritten },
    });
  }
  say({ kind: 'ready', vcpu: data.vcpu, handle: nvmm.vcpuShare(vcpu) });
  loop.run();
  understudy?.close();
  nvmm.vcpuDestroy(machine, vcpu);
  nvmm.close();
  exact?.disks.forEach((disk) => {
    if (!disk.readOnly) disk.flush();
    disk.close();
  });
}

/** What a deterministic machine has in place of the host's time, randomness, rings and I/O thread. */
function exactParts(
  data: VcpuStart,
  { config, disks }: NonNullable<VcpuStart['deterministic']>,
  nvmm: Nvmm,
  machine: Machine,
  vcpu: Vcpu,
) {
  const random = new SeededRandom(config.seed);
  if (nvmm.countInstructions === undefined) throw new Error(`${nvmm.backend} counts no instructions`);
  return {
    config,
    random,
    time: nvmm.countInstructions(machine, vcpu, () => random.next()),
    disks: disks.map((disk) => new LayeredDisk(disk)),
    inputs: data.pc.inputs.map(() => new InputQueue()),
    outputs: data.pc.outputs.map(
      (ring, port) =>
        new OutputQueue(new SerialRing(ring, () => parentPort!.postMessage({ kind: 'output', port }))),
    ),
  };
}

loadPrebuilt();
parentPort?.once('message', (data: VcpuStart) => {
  try {
    start(parentPort!, data);
  } catch (error) {
    const message: FromVcpu = { kind: 'failed', vcpu: data.vcpu, message: messageOf(error) };
    parentPort!.postMessage(message);
  }
});
