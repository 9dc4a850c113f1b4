import { Cr, Gpr, Seg } from '../nvmm/constants.ts';
import type { VcpuState } from '../nvmm/layout.ts';
import type { Symbols } from './symbols.ts';

/** What somebody wrote for an address is none: the message says which part, and what can be written. */
export class PlaceError extends Error {
  constructor(
    text: string,
    part: string,
    why = `is neither a number nor a register, and no symbol has that name`,
  ) {
    const within = part === text ? `"${text}"` : `"${part}" in "${text}"`;
    super(
      part === ''
        ? `"${text}" is no address: write a number, a register, a symbol, or a sum of those.`
        : `${within} ${why}.`,
    );
    this.name = 'PlaceError';
  }
}

const RUNS = 'is no symbol; should it be a register, it has no value while the machine runs: pause it first';

/** The value of a register by the names that people use: rip, eax, cr3, fs.base. */
function registerValue(state: VcpuState, name: string): bigint | undefined {
  const upper = name.toUpperCase();
  if (Object.hasOwn(Gpr, upper)) return state.gpr(Gpr[upper as keyof typeof Gpr]);
  if (Object.hasOwn(Cr, upper)) return state.cr(Cr[upper as keyof typeof Cr]);
  const segment = /^([C-G]S|ES|SS|GDT|IDT|LDT|TR)R?\.BASE$/.exec(upper);
  if (segment !== null) return state.base(Seg[segment[1] as keyof typeof Seg]);
  const wide = `R${upper.slice(1)}`;
  if (upper.length !== 3 || !upper.startsWith('E') || !Object.hasOwn(Gpr, wide)) return undefined;
  return BigInt.asUintN(32, state.gpr(Gpr[wide as keyof typeof Gpr]));
}

/** Works out an address: terms with + and - between them, modulo 2^64. Throws PlaceError. */
export function evaluatePlace(text: string, state: VcpuState | null, symbols: Symbols | null): bigint {
  // A whole symbol first: its name may have any character in it.
  const whole = symbols?.addressOf(text);
  if (whole !== undefined) return whole;
  const terms = text.replaceAll(' ', '').match(/[+-]?[^+-]+/g);
  if (terms === null || terms.join('') !== text.replaceAll(' ', '')) throw new PlaceError(text, '');
  let sum = 0n;
  for (const term of terms) {
    const word = term.replace(/^[+-]/, '');
    const value = /^(0x[0-9a-f]+|\d+)$/i.test(word)
      ? BigInt(word)
      : ((state === null ? undefined : registerValue(state, word)) ?? symbols?.addressOf(word));
    if (value === undefined) {
      throw state === null && /^[a-z]/i.test(word)
        ? new PlaceError(text, word, RUNS)
        : new PlaceError(text, word);
    }
    sum += term.startsWith('-') ? -value : value;
  }
  return BigInt.asUintN(64, sum);
}
