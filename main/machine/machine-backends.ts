import { kvmBackend, nvmmBackend } from '../../native/libnvmm/backends.ts';
import { emulatedMachines } from '../emulator/machine-backend.ts';
import type { MachineBackend } from '../nvmm/nvmm.ts';

/**
 * Every backend, best first, for who asks what there is and for threads that have machines and no vCPU: they don't load
 * the emulator's processor, which takes a tenth of a second. Those that run vCPUs have backends.ts.
 */
export const machineBackends: readonly MachineBackend[] = [nvmmBackend, kvmBackend, emulatedMachines];
