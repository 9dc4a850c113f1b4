import { accessSync, constants, existsSync } from 'node:fs';
import { emulatedBackend } from '../emulator/backend.ts';
import type { Backend, Nvmm } from '../nvmm/nvmm.ts';

/** Systems whose libnvmm the `nvmm` backend uses, and where the device is. */
const NVMM_DEVICES: Record<string, string> = {
  netbsd: '/dev/nvmm',
  dragonfly: '/dev/nvmm',
  haiku: '/dev/misc/nvmm',
};

const KVM_DEVICE = '/dev/kvm';

function unusable(backend: Backend): Nvmm {
  throw new Error(`backend ${backend.name}: ${backend.unavailable() ?? 'it has no library'}`);
}

/** The system's own NVMM. */
const nvmmBackend: Backend = {
  name: 'nvmm',
  unavailable() {
    const device = NVMM_DEVICES[process.platform];
    if (device === undefined) {
      return `NVMM is part of NetBSD, DragonFly BSD and Haiku, and this is ${process.platform}.`;
    }
    return permission(device) ?? 'this build has no binding for libnvmm: use backend emulated.';
  },
  privateSize: () => 0,
  open: () => unusable(nvmmBackend),
};

/** Our libnvmm over KVM. */
const kvmBackend: Backend = {
  name: 'kvm',
  unavailable() {
    if (process.platform !== 'linux') return `KVM is part of Linux, and this is ${process.platform}.`;
    return permission(KVM_DEVICE) ?? 'this build has no libnvmm for Linux: use backend emulated.';
  },
  privateSize: () => 0,
  open: () => unusable(kvmBackend),
};

/** What keeps us from opening a hypervisor's device, and the way out. */
function permission(device: string): string | null {
  if (!existsSync(device)) {
    const way =
      device === KVM_DEVICE
        ? 'switch virtualization on in the firmware and load kvm_intel or kvm_amd'
        : 'load the nvmm module';
    return `${device} does not exist: ${way}.`;
  }
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    return null;
  } catch {
    const group = device === KVM_DEVICE ? 'kvm' : 'nvmm';
    return `${device}: permission denied. Add yourself to the group ${group}, and log in again.`;
  }
}

/** Every backend, best first: what `auto` goes through. */
export const backends: readonly Backend[] = [nvmmBackend, kvmBackend, emulatedBackend];
