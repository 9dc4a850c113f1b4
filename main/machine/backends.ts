import { kvmBackend, nvmmBackend } from '../../native/libnvmm/backends.ts';
import { emulatedBackend } from '../emulator/backend.ts';
import type { Backend } from '../nvmm/nvmm.ts';

/** Every backend, best first: what `auto` goes through. */
export const backends: readonly Backend[] = [nvmmBackend, kvmBackend, emulatedBackend];
