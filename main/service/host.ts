import { backends } from '../machine/backends.ts';
import { reportBackends } from '../nvmm/registry.ts';
import manifest from '../../package.json' with { type: 'json' };
import type { BackendReport, Result } from './contract.ts';

export const version: string = manifest.version;

/** Which backends work on this machine, best first, and why the others don't. */
export function backendReports(): BackendReport[] {
  return reportBackends(backends);
}

export function hostInfo(library: string): Result<'host.info'> {
  return { version, platform: `${process.platform} ${process.arch}`, library };
}
