import { existsSync, readFileSync } from 'node:fs';

/** Who made the host's processor, where that is one of those that the tolerances know. */
export type Vendor = 'amd' | 'intel';

/** Hygon's are AMD's Zen. */
const VENDORS: Record<string, Vendor> = {
  AuthenticAMD: 'amd',
  HygonGenuine: 'amd',
  GenuineIntel: 'intel',
};

const file = '/proc/cpuinfo';
const cpuinfo = existsSync(file) ? readFileSync(file, 'latin1') : '';

export const hostVendor: Vendor | undefined = VENDORS[/^vendor_id\s*: (\w+)/m.exec(cpuinfo)?.[1] ?? ''];

/** Whether the host's kernel lets programs use RDFSBASE and the like: some virtual machines' kernels don't. */
export const hostHasFsgsbase = /^flags\s*:.* fsgsbase\b/m.test(cpuinfo);

/**
 * Whether an exception may be another one the first time: of those virtual machines, which run the kernel without its
 * privilege, one kind makes #UD of the first INT3 at an address when RSP is not canonical.
 */
export const hostIsUnsteady = !hostHasFsgsbase;
