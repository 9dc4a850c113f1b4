import type { SavedRegisters } from '../devices/registers.ts';
import type { Pc } from './pc.ts';
import type { TimelineCapture } from './timeline-input.ts';

/**
 * The state of a machine that stands still, without its RAM: what a snapshot holds under the manuals' names, and what
 * a switch of backend carries over. Everything is structured-cloneable.
 */

/** An event that was injected, and that the vCPU has not run with yet. */
export interface QueuedEvent {
  /** EventType. */
  type: number;
  vector: number;
  error: number;
}

export interface VcpuCapture {
  /** A struct nvmm_x64_state. */
  state: Uint8Array;
  /** After HLT: it sleeps until an interrupt. */
  halted: boolean;
  /** After a crash or a power event: it does nothing until a reset. */
  parked: boolean;
  event: QueuedEvent | null;
  /** The time of a deterministic machine. */
  timeline?: TimelineCapture;
}

export interface MachineCapture {
  /** Nanoseconds since power-on. */
  clock: number;
  /** Each device's registers, by its name. */
  devices: Record<string, SavedRegisters>;
  /** Bytes typed that the guest has not read, for each serial port. */
  inputs: Uint8Array[];
  /** Bytes printed that nobody has taken, for each serial port. */
  outputs: Uint8Array[];
  vcpus: VcpuCapture[];
}

/** Every device's registers. Under the device lock. */
export function saveDevices(pc: Pc): Record<string, SavedRegisters> {
  return Object.fromEntries(pc.devices.map((device) => [device.name, device.save()]));
}

/** Puts registers back, of the same devices. Under the device lock. Throws RangeError when something is missing. */
export function loadDevices(pc: Pc, saved: Record<string, SavedRegisters>): void {
  for (const device of pc.devices) {
    const registers = saved[device.name];
    if (registers === undefined) {
      throw new RangeError(`device ${device.name}: there is no saved state for it`);
    }
    try {
      device.load(registers);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new RangeError(`device ${device.name}: ${error.message}`, { cause: error });
    }
  }
  pc.moved();
}
