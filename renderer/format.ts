import type { VmConfig, VmInfo, VmState } from '../main/service/contract.ts';
import type { IconName } from './components/Icon.tsx';

/** States as people read them: never by colour alone. */
export const states: Record<VmState, { label: string; icon: IconName }> = {
  off: { label: 'Off', icon: 'off' },
  starting: { label: 'Starting', icon: 'spinner' },
  running: { label: 'Running', icon: 'running' },
  paused: { label: 'Paused', icon: 'paused' },
  stopping: { label: 'Shutting down', icon: 'spinner' },
  crashed: { label: 'Crashed', icon: 'crashed' },
  failed: { label: 'Failed', icon: 'failed' },
};

/** Bytes of guest memory: "512 MiB", "3 GiB", "3.5 GiB". */
export function formatMemory(bytes: number): string {
  const mebibytes = bytes / 2 ** 20;
  return mebibytes >= 1024 && mebibytes % 512 === 0 ? `${mebibytes / 1024} GiB` : `${mebibytes} MiB`;
}

/** Bytes of a file: "12 KiB", "3.4 MiB". */
export function formatBytes(bytes: number): string {
  return bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** A moment, as this person's system writes it. */
export function formatTime(milliseconds: number): string {
  return new Date(milliseconds).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

export function formatGuest({ guest }: VmConfig): string {
  switch (guest.kind) {
    case 'calc':
      return 'Calculator';
    case 'linux':
      return 'Linux kernel';
    case 'elf':
      return 'ELF';
    case 'flat':
      return 'Flat binary';
  }
}

/** The backend in use, or the one that is asked for. */
export function formatBackend(vm: VmInfo): string {
  if (vm.backend !== undefined) return vm.backend;
  return vm.config.backend === 'auto' ? 'automatic' : vm.config.backend;
}

/** A file name from a machine's: letters and digits of any script, the rest made dashes. */
export function fileName(name: string): string {
  return name.replace(/[^\p{L}\p{N}._-]+/gu, '-').replace(/^[-.]+|-+$/g, '') || 'machine';
}

/** Gives the user a file to save. */
export function download(name: string, text: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
