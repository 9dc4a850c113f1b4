import type { SavedRegisters } from '../devices/registers.ts';
import { aboutRegister } from '../devices/registers.ts';
import { StateOffset } from '../nvmm/constants.ts';
import { MachineError } from './errors.ts';
import type { GuestRam } from './memory.ts';
import type { Answer, Question, QuestionParams } from './protocol.ts';
import { MEMORY_PIECE } from './protocol.ts';
import type { VcpuRequestName, VcpuRequests } from './vcpu-requests.ts';

/** What answers may need of a machine: its I/O thread's side. */
export interface MachineAccess {
  readonly ram: GuestRam;
  /** Every device's registers, taken under the device lock. */
  saveDevices(): Record<string, SavedRegisters>;
  /** Lets a machine that is paused run. */
  go(): void;
  /** Asks a vCPU that is paused. Fails with `wrong-state` when it is not, or when there is no such vCPU. */
  askVcpu<N extends VcpuRequestName>(
    vcpu: number,
    name: N,
    params: VcpuRequests[N]['params'],
  ): Promise<VcpuRequests[N]['result']>;
}

/** One function for each question. Parameters come from our own parent, and were checked where they came in. */
export type Answers<Q extends Question = Question> = {
  [N in Q]: (params: QuestionParams<N>) => Answer<N> | Promise<Answer<N>>;
};

/** What a deterministic machine can do beside. */
export function timelineAnswers(machine: MachineAccess): Answers<'timeline.hash' | 'timeline.run'> {
  return {
    'timeline.hash': () => machine.askVcpu(0, 'timeline.hash', null),
    'timeline.run': async ({ until }) => {
      await machine.askVcpu(0, 'timeline.goal', { until });
      machine.go();
      return null;
    },
  };
}

/** What a machine shows of its registers and memory, and takes for them. */
export function lookingAnswers(
  machine: MachineAccess,
): Answers<'vcpu.read' | 'vcpu.write' | 'memory.read' | 'memory.write' | 'devices.read'> {
  const { ram } = machine;
  return {
    'vcpu.read': ({ vcpu }) => machine.askVcpu(vcpu, 'state.read', null),
    'vcpu.write': ({ vcpu, flags, state }) => {
      if (state.length !== StateOffset.SIZE) {
        throw new MachineError('host', `A vCPU's state has ${StateOffset.SIZE} bytes, not ${state.length}.`);
      }
      return machine.askVcpu(vcpu, 'state.write', { flags, state });
    },
    'devices.read': () =>
      Object.entries(machine.saveDevices()).map(([device, saved]) => ({
        device,
        registers: Object.entries(saved).map(([name, value]) => {
          return { name, value, about: aboutRegister(saved, name) };
        }),
      })),
    'memory.read': ({ gpa, length }) => {
      const bytes = new Uint8Array(ram.extent(gpa, checkedPiece(length)));
      if (bytes.length > 0) ram.read(gpa, bytes);
      return bytes;
    },
    'memory.write': ({ gpa, bytes }) => {
      if (ram.extent(gpa, checkedPiece(bytes.length)) !== bytes.length) {
        throw new MachineError('host', `There is no RAM for ${bytes.length} bytes at 0x${gpa.toString(16)}.`);
      }
      ram.write(gpa, bytes);
      return null;
    },
  };
}

function checkedPiece(length: number): number {
  if (Number.isSafeInteger(length) && length >= 0 && length <= MEMORY_PIECE) return length;
  throw new MachineError(
    'host',
    `${length} bytes of memory are not 0 to ${MEMORY_PIECE}: take smaller pieces.`,
  );
}
