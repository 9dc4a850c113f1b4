/**
 * Linux at its shell goes from the emulator to hardware and back, in place and through a snapshot:
 *
 *   npm run campaign:switch -- [backend, default kvm]
 */
import type { BackendChoice } from '../../main/machine/protocol.ts';
import { fetchGuests } from './scenarios.ts';
import { LinuxSwitch } from './switch.ts';

const other = (process.argv[2] ?? 'kvm') as BackendChoice;
const started = performance.now();
const guest = new LinuxSwitch((text) => {
  console.log(`${((performance.now() - started) / 1000).toFixed(1).padStart(7)} s  ${text}`);
});

const missing = fetchGuests(['cloud', 'initrd']);
try {
  if (missing !== null) console.log(`skipped: ${missing}`);
  else await guest.campaign(other);
} catch (error) {
  console.log(`FAILED: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  await guest.end();
}
process.exit();
