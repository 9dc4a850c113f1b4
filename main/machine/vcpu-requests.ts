import { NvmmError } from '../nvmm/errors.ts';
import type { VcpuCapture } from './capture.ts';
import type { SetBreakpoint, Stop } from './debug.ts';
import { MachineError, messageOf } from './errors.ts';
import { replaceLayers } from './layered-disk.ts';
import type { RunLoop } from './run-loop.ts';
import type { FromVcpu, ToVcpu } from './vcpu.ts';

/**
 * What the I/O thread may ask of a vCPU's thread while that is paused: a vCPU belongs to its thread, and libnvmm
 * answers there alone. Everything is structured-cloneable.
 */
export interface VcpuRequests {
  'state.read': { params: null; result: Uint8Array };
  'state.write': { params: { flags: number; state: Uint8Array }; result: null };
  /** For a snapshot, see RunLoop. */
  'capture.save': { params: null; result: VcpuCapture };
  'capture.discard': { params: null; result: null };
  'capture.load': { params: VcpuCapture; result: null };
  /** Time goes on while it is paused: its time stamp counter is not to be set back. */
  'time.runs': { params: null; result: null };
  /** Where the vCPU stands, as the stop of a pause. */
  where: { params: null; result: Stop };
  /** Steps so often, or until something else than a step is the reason to stop. */
  step: { params: { count: number }; result: Stop };
  'debug.configure': { params: readonly SetBreakpoint[]; result: null };
  /** A linear address, in two unsigned halves. */
  translate: {
    params: { low: number; high: number };
    result: { gpa: number; prot: number } | { fault: string };
  };
  /** Backwards by an instruction, or to the last stop. */
  back: { params: { to: 'step' | 'stop' }; result: Stop };
  'timeline.hash': { params: null; result: { instructions: number; hash: string } };
  'timeline.goal': { params: { until: number }; result: null };
  /**
   * The disks of a deterministic machine are this thread's. A new layer for each (null: for a disk that is not written),
   * what was written before is forced to the disk; or other layers.
   */
  'disks.seal': { params: { layers: readonly (string | null)[] }; result: null };
  'disks.replace': { params: { layers: readonly (readonly string[])[] }; result: null };
}

export type VcpuRequestName = keyof VcpuRequests;

type Handlers = {
  [N in VcpuRequestName]: (loop: RunLoop, params: VcpuRequests[N]['params']) => VcpuRequests[N]['result'];
};

const handlers: Handlers = {
  'state.read': (loop) => loop.readState(),
  'state.write': (loop, { flags, state }) => {
    loop.writeState(flags, state);
    return null;
  },
  'capture.save': (loop) => loop.save(),
  'capture.discard': (loop) => {
    loop.discard();
    return null;
  },
  'capture.load': (loop, capture) => {
    loop.restore(capture);
    return null;
  },
  'time.runs': (loop) => {
    loop.letTimeRun();
    return null;
  },
  where: (loop) => loop.debug.stop('pause', 'Paused.'),
  step: (loop, { count }) => {
    let stop = loop.step();
    for (let done = 1; done < count && stop.reason === 'step'; done++) stop = loop.step();
    return stop;
  },
  'debug.configure': (loop, breakpoints) => {
    loop.debug.configure(breakpoints);
    return null;
  },
  translate: (loop, { low, high }) => loop.translate(low, high),
  back: (loop, { to }) => loop.back(to),
  'timeline.hash': (loop) => {
    const timeline = loop.exactTimeline();
    return { instructions: timeline.instructions, hash: timeline.hash() };
  },
  'timeline.goal': (loop, { until }) => {
    loop.exactTimeline().setGoal(until);
    return null;
  },
  'disks.seal': (loop, { layers }) => {
    loop.disks.forEach((disk, i) => {
      const layer = layers[i] ?? null;
      if (layer === null) return;
      disk.addLayer(layer);
      disk.settle();
    });
    return null;
  },
  'disks.replace': (loop, { layers }) => {
    replaceLayers(loop.disks, layers);
    return null;
  },
};

/** Does what is asked. What fails is the answer, too: the thread goes on waiting. */
export function answerVcpuRequest(
  loop: RunLoop,
  vcpu: number,
  { call, name, params }: Extract<ToVcpu, { kind: 'request' }>,
): FromVcpu {
  try {
    const handler = handlers[name] as (loop: RunLoop, params: unknown) => unknown;
    return { kind: 'answer', vcpu, call, result: handler(loop, params) };
  } catch (error) {
    const kind =
      error instanceof MachineError ? error.kind : error instanceof NvmmError ? 'host' : 'internal';
    return { kind: 'refusal', vcpu, call, error: kind, message: messageOf(error) };
  }
}
