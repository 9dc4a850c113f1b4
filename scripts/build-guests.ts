/** Assembles our own guests: assets/guests/NAME/NAME.asm to out/guests. Needs nothing but Node. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assemble } from '../assets/guests/assembler/assembler.ts';

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..');
/** The calculator, and the guest of docs/tutorial.md. */
const guests = { calc: 'calc.elf', story: 'story.bin' };

mkdirSync(join(root, 'out/guests'), { recursive: true });
for (const [name, file] of Object.entries(guests)) {
  const source = readFileSync(join(root, 'assets/guests', name, `${name}.asm`), 'utf8');
  const target = join(root, 'out/guests', file);
  const { bytes } = assemble(source);
  writeFileSync(target, bytes);
  console.log(`${target}: ${bytes.length} bytes`);
}
