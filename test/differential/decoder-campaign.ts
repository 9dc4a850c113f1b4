/**
 * npm run campaign:decoder [strings] [seed]: compares the decoder with iced-x86 over 10,000,000 random strings
 * (or as many as asked for), and fails on the first hundred differences.
 */
import { opcodes } from '../../main/emulator/decoder/opcodes.ts';
import { compareStrings } from './decoder-iced.ts';

const count = Number(process.argv[2] ?? 10_000_000);
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000_000);
console.log(`decoder against iced-x86: ${count} strings, seed ${seed}`);
let next = 0;
const tally = compareStrings(seed, count, ({ strings, differences }) => {
  if (strings < next) return;
  next += 1_000_000;
  console.log(`${strings} strings, ${differences.length} different`);
});
const refused = [...tally.unsupported].sort((a, b) => b[1] - a[1]);
const refusals = refused.reduce((sum, [, times]) => sum + times, 0);
console.log(`strings ${tally.strings}: alike ${tally.alike}, invalid to both ${tally.neither},`);
console.log(
  `of features that we don't have ${refusals} (${refused.length} mnemonics), different ${tally.differences.length}`,
);
const missed = opcodes.filter(({ id }) => !tally.seen.has(id)).map(({ mnemonic }) => mnemonic);
console.log(
  `opcodes met ${tally.seen.size} of ${opcodes.length}${missed.length > 0 ? `; not ${missed.join(' ')}` : ''}`,
);
for (const difference of tally.differences) console.log(difference);
process.exitCode = tally.differences.length === 0 ? 0 : 1;
