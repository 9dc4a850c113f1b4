import { existsSync, readFileSync } from 'node:fs';

/** Who made the host's processor, where that is one of those that the tolerances know. */
export type Vendor = 'amd' | 'intel';

/** Hygon's are AMD's Zen. */
const VENDORS: Record<string, Vendor> = {
  AuthenticAMD: 'amd',
  HygonGenuine: 'amd',
  GenuineIntel: 'intel',
};

function find(): Vendor | undefined {
  const file = '/proc/cpuinfo';
  if (!existsSync(file)) return undefined;
  return VENDORS[/^vendor_id\s*: (\w+)/m.exec(readFileSync(file, 'latin1'))?.[1] ?? ''];
}

export const hostVendor = find();
