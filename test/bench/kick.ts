/**
 * bench:kick: how long a pause takes while the guest spins with interrupts off (`cli; jmp $`), as the service
 * sees it: from the request to the machine's process until its answer that the vCPU stands.
 *
 *   npm run bench:kick -- [--tries 1000]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import { numberOption, quantile } from './bench.ts';

const tries = numberOption('tries', 1000);
const folder = mkdtempSync(join(tmpdir(), 'vitrine-kick-'));
const file = join(folder, 'spin.bin');
writeFileSync(file, Uint8Array.of(0xfa, 0xeb, 0xfe));

const machine = new MachineProcess();
const guest = { kind: 'flat', file, address: 0x10000 } as const;
const config = {
  name: 'kick',
  guest,
  memory: 16 * 2 ** 20,
  vcpus: 1,
  backend: 'emulated',
  disks: [],
} as const;
try {
  await machine.start({ ...config, disks: [] });
  const times: number[] = [];
  for (let i = 0; i < tries; i++) {
    const from = performance.now();
    await machine.pause();
    times.push(performance.now() - from);
    await machine.resume();
    // Long enough to be in the middle of generated code again, at no fixed distance.
    await new Promise((resolve) => setTimeout(resolve, 1 + (i % 5)));
  }
  const show = (q: number): string => quantile(times, q).toFixed(2);
  console.log(
    `pause of a spinning guest, ${tries} tries: p50 ${show(0.5)} ms, p99 ${show(0.99)} ms, max ${show(1)} ms`,
  );
  const late = times.filter((time) => time > 50).length;
  console.log(`${late} took longer than 50 ms`);
} finally {
  await machine.powerOff();
  machine.dispose();
  rmSync(folder, { recursive: true });
}
