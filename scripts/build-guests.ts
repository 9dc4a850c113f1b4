/** Assembles our own guests: assets/guests/NAME/NAME.asm to out/guests/NAME.elf. Needs nothing but Node. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assemble } from '../assets/guests/assembler/assembler.ts';

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..');
const guests = ['calc'];

mkdirSync(join(root, 'out/guests'), { recursive: true });
for (const name of guests) {
  const source = readFileSync(join(root, 'assets/guests', name, `${name}.asm`), 'utf8');
  const target = join(root, 'out/guests', `${name}.elf`);
  const { bytes } = assemble(source);
  writeFileSync(target, bytes);
  console.log(`${target}: ${bytes.length} bytes`);
}
