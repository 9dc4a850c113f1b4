/** `npm run campaign:virtio [-- CHAINS [SEED]]`: a million random chains for each virtio device, and random accesses. */
import { attack, KINDS, storm } from './virtio-chains.ts';

const chains = Number(process.argv[2] ?? 1_000_000);
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
console.log(`${chains} chains for each device, seed ${seed}`);
for (const kind of KINDS) {
  const outcome = attack(kind, chains, seed);
  const { completed, resets, reports, slowestMs } = outcome;
  const heap = Math.round(process.memoryUsage().heapUsed / 2 ** 20);
  console.log(
    `${kind}: ${completed} requests served, ${reports} drivers stopped, ${resets} resets, ` +
      `slowest chain ${slowestMs.toFixed(1)} ms, heap ${heap} MiB`,
  );
}
const { reports } = storm(chains, seed);
console.log(`registers: ${chains} random accesses, ${reports} drivers stopped`);
