import { compareTiers } from './tiers.ts';

/** `npm run campaign:tiers -- [programs] [seed]`: random programs by the interpreter and the translator. */

const programs = Number(process.argv[2] ?? 2000);
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
const { failures, ends, evictions } = compareTiers(seed, programs, (done) =>
  console.log(`${done} of ${programs}`),
);
for (const { program, bits, translating, wanted, got } of failures) {
  console.log(
    `program ${program}, ${bits}-bit, translated by ${JSON.stringify(translating)}:\n  wanted ${wanted}\n  got    ${got}`,
  );
}
console.log([...ends].map(([end, count]) => `${end}: ${count}`).join(', '));
console.log(`${programs} programs, ${failures.length} differing, ${evictions} evictions, seed ${seed}`);
process.exitCode = failures.length === 0 ? 0 : 1;
