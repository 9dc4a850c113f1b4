import type { VcpuCapture } from './capture.ts';
import { messageOf } from './errors.ts';
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
    loop.load(capture);
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
    return { kind: 'refusal', vcpu, call, message: messageOf(error) };
  }
}
