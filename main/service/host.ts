import { machineBackends } from '../machine/machine-backends.ts';
import { reportBackends } from '../nvmm/registry.ts';
import { version } from './version.ts';
import type { BackendReport, Result } from './contract.ts';

/** Which backends work on this machine, best first, and why the others don't. */
export function backendReports(): BackendReport[] {
  return reportBackends(machineBackends);
}

export function hostInfo(library: string): Result<'host.info'> {
  return { version, platform: `${process.platform} ${process.arch}`, library };
}
