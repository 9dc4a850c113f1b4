import { talk } from './gdb-lines.ts';

/** `npm run campaign:gdb-lines [LINES [SEED]]`: many hostile lines for the gdb stub, with a new seed each time. */

const lines = Number(process.argv[2] ?? 20_000);
const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 2 ** 31));
console.log(`${lines} lines, seed ${seed}`);
console.log(JSON.stringify(await talk(lines, seed)));
