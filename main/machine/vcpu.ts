import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { randomFillSync } from 'node:crypto';
import { chooseBackend } from '../nvmm/registry.ts';
import type { Backend, MachineHandle, VcpuHandle } from '../nvmm/nvmm.ts';
import { backends } from './backends.ts';
import { DeviceLock, MachineClock, Mailbox } from './control.ts';
import { absentDisk } from './disk.ts';
import type { MachineErrorKind } from './errors.ts';
import { messageOf } from './errors.ts';
import { ExitTraceWriter } from './exit-trace.ts';
import type { SharedMemory } from './memory.ts';
import { backendMemory, GuestRam } from './memory.ts';
import type { PcShared } from './pc.ts';
import { Pc } from './pc.ts';
import type { VcpuReport } from './run-loop.ts';
import { RunLoop } from './run-loop.ts';
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
}

/** To the I/O thread. */
export type FromVcpu =
  | VcpuReport
  | { kind: 'ready'; vcpu: number; handle: VcpuHandle }
  | { kind: 'failed'; vcpu: number; message: string }
  | { kind: 'output'; port: number }
  | { kind: 'queue' }
  | { kind: 'log'; message: string }
  | { kind: 'answer'; vcpu: number; call: number; result: unknown }
  | { kind: 'refusal'; vcpu: number; call: number; error: MachineErrorKind; message: string };

/** From the I/O thread: how to kick each vCPU; and, while the vCPU is paused, requests to it (vcpu-requests.ts). */
export type ToVcpu =
  | { kind: 'handles'; handles: VcpuHandle[] }
  | { kind: 'request'; call: number; name: VcpuRequestName; params: unknown };

function start(port: NonNullable<typeof parentPort>, data: VcpuStart): void {
  const say = (message: FromVcpu): void => port.postMessage(message);
  const nvmm = chooseBackend(backends, data.backend).open(backendMemory(data.memory));
  const machine = nvmm.machineAttach(data.machine);
  const vcpu = nvmm.vcpuCreate(machine, data.vcpu);
  const ram = new GuestRam(data.memory);
  ram.attach(nvmm);
  const clock = new MachineClock(data.control);
  const mailboxes = Array.from({ length: data.pc.vcpus }, (_, id) => new Mailbox(data.control, id));
  let handles: VcpuHandle[] = [];

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
    queueReady: () => say({ kind: 'queue' }),
    disks: data.pc.disks.map(({ size, readOnly }) => absentDisk(size, readOnly)),
    entropy: { fill: (into) => void randomFillSync(into) },
    report: (message) => say({ kind: 'log', message }),
  });
  const loop: RunLoop = new RunLoop({
    nvmm,
    machine,
    vcpu,
    pc,
    lock: new DeviceLock(data.control),
    clock,
    mailbox: mailboxes[data.vcpu],
    trace: data.trace === null ? null : new ExitTraceWriter(data.trace),
    report: say,
    serve: () => {
      for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
        const message = next.message as ToVcpu;
        if (message.kind === 'handles') handles = message.handles;
        else say(answerVcpuRequest(loop, data.vcpu, message));
      }
    },
  });
  say({ kind: 'ready', vcpu: data.vcpu, handle: nvmm.vcpuShare(vcpu) });
  loop.run();
  nvmm.vcpuDestroy(machine, vcpu);
  nvmm.close();
}

if (parentPort !== null) {
  const data = workerData as VcpuStart;
  try {
    start(parentPort, data);
  } catch (error) {
    const message: FromVcpu = { kind: 'failed', vcpu: data.vcpu, message: messageOf(error) };
    parentPort.postMessage(message);
  }
}
