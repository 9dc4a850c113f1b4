import { x87Map } from '../../../main/emulator/decoder/x87.ts';
import type { Encoding } from './x87-cases.ts';

/** Encodings of x87 instructions by mnemonic, from the decoder's table. Memory forms address [RDI]. */
export const encodings: Record<string, Encoding[]> = {};

const MEMORY_OF: Record<string, Encoding['memory']> = {
  Md: 'single',
  Mq: 'double',
  Mt: 'extended',
};
const INTEGER_OF: Record<string, Encoding['memory']> = { Mw: 'word', Md: 'doubleword', Mq: 'quadword' };
const CONTROL = new Set(['fldcw', 'fnstcw', 'fnstsw']);
const IMAGES = new Set(['fldenv', 'fnstenv', 'frstor', 'fnsave']);

function memoryOf(mnemonic: string, operand: string): Encoding['memory'] {
  if (CONTROL.has(mnemonic)) return 'control';
  if (IMAGES.has(mnemonic)) return 'environment';
  if (mnemonic === 'fbld' || mnemonic === 'fbstp') return 'decimal';
  return mnemonic.startsWith('fi') ? INTEGER_OF[operand] : MEMORY_OF[operand];
}

for (const line of x87Map.trim().split('\n')) {
  const [where, , mnemonic, operand] = line.split(/\s+/);
  const [, opcode, reg, kind, rm] = /^(D.)\/(\d)([mr])(\d?)$/.exec(where)!;
  const list = (encodings[mnemonic] ??= []);
  const first = parseInt(opcode, 16);
  if (kind === 'm') {
    list.push({ bytes: [first, (Number(reg) << 3) | 7], memory: memoryOf(mnemonic, operand) });
    continue;
  }
  const registers = rm === '' ? [0, 1, 2, 3, 4, 5, 6, 7] : [Number(rm)];
  for (const i of registers) list.push({ bytes: [first, 0xc0 | (Number(reg) << 3) | i] });
}
encodings.fwait = [{ bytes: [0x9b] }];
