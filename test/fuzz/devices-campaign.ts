/** `npm run campaign:devices [-- ACCESSES [SEED]]`: ten million random accesses to the chipset, in rounds. */
import { storm } from './chipset-storm.ts';

const accesses = Number(process.argv[2] ?? 10_000_000);
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
const ROUND = 1_000_000;
console.log(`${accesses} accesses, seed ${seed}`);
for (let done = 0; done < accesses; done += ROUND) {
  const { interrupts, powerRequests, unmapped } = storm(
    Math.min(ROUND, accesses - done),
    seed + done / ROUND,
  );
  const heap = Math.round(process.memoryUsage().heapUsed / 2 ** 20);
  console.log(
    `${done + ROUND}: ${interrupts} interrupts, ${powerRequests} power requests, ${unmapped} to nothing, heap ${heap} MiB`,
  );
}
