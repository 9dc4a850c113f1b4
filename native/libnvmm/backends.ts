import { accessSync, constants, existsSync } from 'node:fs';
import type { Backend } from '../../main/nvmm/nvmm.ts';
import { LAYOUTS } from './layouts.ts';
import { LibraryError, openLibrary } from './library.ts';
import { LibNvmm } from './nvmm.ts';

/** What keeps us from opening the hypervisor's device, and the way out; null when nothing does. */
export function refused(device: string): string | null {
  const kvm = device === '/dev/kvm';
  if (!existsSync(device)) {
    const way = kvm
      ? 'switch virtualization on in the firmware and load kvm_intel or kvm_amd'
      : 'load the nvmm module';
    return `${device} does not exist: ${way}.`;
  }
  try {
    accessSync(device, kvm ? constants.R_OK | constants.W_OK : constants.R_OK);
    return null;
  } catch {
    return `${device}: permission denied. Add yourself to the group ${kvm ? 'kvm' : 'nvmm'}, and log in again.`;
  }
}

/** The device, then the library over it. */
function unusable(device: string): string | null {
  const reason = refused(device);
  if (reason !== null) return reason;
  try {
    openLibrary();
    return null;
  } catch (error) {
    if (error instanceof LibraryError) return error.message;
    throw error;
  }
}

/** The system's own NVMM. */
export const nvmmBackend: Backend = {
  name: 'nvmm',
  unavailable() {
    const layout = process.platform === 'linux' ? undefined : LAYOUTS[process.platform];
    if (layout === undefined) {
      return `NVMM is part of NetBSD, DragonFly BSD and Haiku, and this is ${process.platform}.`;
    }
    return unusable(layout.device);
  },
  privateSize: () => 0,
  open: (memory) => new LibNvmm('nvmm', openLibrary(), memory),
};

/** Our libnvmm over KVM. */
export const kvmBackend: Backend = {
  name: 'kvm',
  unavailable() {
    if (process.platform !== 'linux') return `KVM is part of Linux, and this is ${process.platform}.`;
    if (process.arch !== 'x64') return `KVM runs x86-64 guests on x86-64 only, and this is ${process.arch}.`;
    return unusable(LAYOUTS.linux.device);
  },
  privateSize: () => 0,
  open: (memory) => new LibNvmm('kvm', openLibrary(), memory),
};
