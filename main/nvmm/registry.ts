import type { Backend, MachineBackend } from './nvmm.ts';

/** What is known of one backend on this host. */
export interface BackendReport {
  name: Backend['name'];
  available: boolean;
  /** One sentence: why not, and what to do. Absent when available. */
  reason?: string;
}

/** No backend, or not the one that was asked for: the message says why and what to do. */
export class BackendUnavailableError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'BackendUnavailableError';
  }
}

/** Asks each backend of the list (best first) whether it works here. */
export function reportBackends(backends: readonly MachineBackend[]): BackendReport[] {
  return backends.map((backend) => {
    const reason = backend.unavailable();
    return reason === null
      ? { name: backend.name, available: true }
      : { name: backend.name, available: false, reason };
  });
}

/** The backend of that name, or for `auto` the first of the list that works here. */
export function chooseBackend<B extends MachineBackend>(
  backends: readonly B[],
  choice: Backend['name'] | 'auto',
): B {
  if (choice !== 'auto') {
    const backend = backends.find((one) => one.name === choice);
    if (backend === undefined) {
      const known = backends.map((one) => one.name).join(', ');
      throw new BackendUnavailableError(`Backend ${choice} is unknown: choose auto or one of ${known}.`);
    }
    const reason = backend.unavailable();
    if (reason !== null) throw new BackendUnavailableError(`Backend ${choice} is not available: ${reason}`);
    return backend;
  }
  const reasons: string[] = [];
  for (const backend of backends) {
    const reason = backend.unavailable();
    if (reason === null) return backend;
    reasons.push(`${backend.name}: ${reason}`);
  }
  throw new BackendUnavailableError(`No backend is available. ${reasons.join(' ')}`);
}

/** For whoever asked for `auto` and got the emulator: what hardware lacks here. Null when there is none to tell of. */
export function whyEmulated(backends: readonly MachineBackend[], platform: NodeJS.Platform): string | null {
  const hardware = platform === 'linux' ? 'kvm' : 'nvmm';
  const reason = backends.find(({ name }) => name === hardware)?.unavailable() ?? null;
  return reason === null ? null : `${hardware}: ${reason}`;
}
