/**
 * bench:exit: what an exit costs: the same guest in a loop in C on raw KVM and on libnvmm, in the same loop in
 * TypeScript, and under a whole PC; on each backend present. Rounds are interleaved, the medians compared.
 *
 *   npm run bench:exit -- [--rounds 15] [--exits 2000]
 */
import { emulatedBackend } from '../../main/emulator/backend.ts';
import { kvmBackend } from '../../native/libnvmm/backends.ts';
import { median, numberOption } from './bench.ts';
import { cases, codeOf, computing } from './exit-guests.ts';
import type { Side } from './exit-sides.ts';
import { Bare, Loops, wallTime, Whole } from './exit-sides.ts';

const rounds = numberOption('rounds', 15);
const exits = numberOption('exits', 2000);

const missing = kvmBackend.unavailable();
if (missing !== null) console.log(`kvm is not measured: ${missing}`);
const loops = missing === null ? new Loops() : null;
const time = loops?.time ?? wallTime;
const backends = missing === null ? [kvmBackend, emulatedBackend] : [emulatedBackend];
const sides: Side[] = [
  ...(loops?.sides() ?? []),
  ...backends.flatMap((backend) => [new Bare(backend, time), new Whole(backend, time)]),
];

for (const one of cases) {
  const code = codeOf(one, exits);
  const times = sides.map((): number[] => []);
  for (let round = -2; round < rounds; round++) {
    sides.forEach((side, i) => {
      const ns = side.run(code, false) / exits;
      if (round >= 0) times[i].push(ns);
    });
  }
  const medians = times.map(median);
  console.log(one.name);
  sides.forEach(({ name }, i) => {
    console.log(
      `  ${name.padEnd(20)} ${(medians[i] / 1000).toFixed(2)} µs  ${(medians[i] / medians[0]).toFixed(2)}`,
    );
  });
}
if (loops !== null) {
  const count = 20_000_000;
  const { guest, native } = computing(count);
  const kvm = sides.filter(({ name }) => !name.startsWith('emulated'));
  const times: number[][] = [[], ...kvm.map(() => [])];
  for (let round = -1; round < rounds; round++) {
    const all = [loops.native(native), ...kvm.map((side) => side.run(guest, true))];
    if (round >= 0) all.forEach((ns, i) => times[i].push(ns));
  }
  const medians = times.map(median);
  console.log('ring 3');
  ['native', ...kvm.map(({ name }) => name)].forEach((name, i) => {
    console.log(
      `  ${name.padEnd(20)} ${(medians[i] / 1e6).toFixed(2)} ms  ${(medians[i] / medians[0]).toFixed(4)}`,
    );
  });
}
