import { expect } from 'vitest';
import type { Session } from './session.ts';

/** What the calculator must answer, wherever it runs. `wanted` is the lines between the echo and the next prompt. */
export interface CalcCase {
  name: string;
  /** Typed, before Enter. */
  input: string;
  /** What the line looks like at the end, where that isn't what was typed. */
  line?: string;
  wanted: string[];
}

export const calcCases: CalcCase[] = [
  { name: 'sum and product', input: '(2+3)*7', wanted: ['35'] },
  { name: 'precedence', input: '2+3*7', wanted: ['23'] },
  { name: 'left to right', input: '10-4-3', wanted: ['3'] },
  { name: 'division goes towards zero', input: '-7/2', wanted: ['-3'] },
  { name: 'remainder has the sign of the left side', input: '-7%2', wanted: ['-1'] },
  { name: 'spaces', input: '  1 +  2 ', wanted: ['3'] },
  { name: 'signs', input: '--5 + +-+3', wanted: ['2'] },
  { name: 'hexadecimal', input: '0xFf + 0X1', wanted: ['256'] },
  { name: 'nested', input: '((((1))))*(2*(3+(4)))', wanted: ['14'] },
  { name: 'largest', input: '9223372036854775807', wanted: ['9223372036854775807'] },
  { name: 'lowest', input: '-9223372036854775808', wanted: ['-9223372036854775808'] },
  { name: 'lowest, with a space', input: '- 9223372036854775808', wanted: ['-9223372036854775808'] },
  { name: 'lowest % -1', input: '-9223372036854775808 % -1', wanted: ['0'] },
  { name: 'empty line', input: '', wanted: [] },
  { name: 'spaces alone', input: '   ', wanted: [] },
  { name: 'too large', input: '1+9223372036854775808', wanted: ['error: number too large at column 3'] },
  { name: 'far too large', input: '99999999999999999999', wanted: ['error: number too large at column 1'] },
  { name: 'overflow in +', input: '9223372036854775807+1', wanted: ['error: overflow at column 20'] },
  { name: 'overflow in -', input: '-9223372036854775808-1', wanted: ['error: overflow at column 21'] },
  { name: 'overflow in *', input: '4294967296*4294967296', wanted: ['error: overflow at column 11'] },
  { name: 'overflow in /', input: '-9223372036854775808/-1', wanted: ['error: overflow at column 21'] },
  { name: 'overflow in sign', input: '-(-9223372036854775808)', wanted: ['error: overflow at column 1'] },
  { name: 'by zero', input: '7/0', wanted: ['error: division by zero at column 2'] },
  { name: 'remainder by zero', input: '7 % (1-1)', wanted: ['error: division by zero at column 3'] },
  { name: 'number missing', input: '1+', wanted: ['error: a number is missing at column 3'] },
  { name: 'not a number', input: 'frob', wanted: ['error: a number is missing at column 1'] },
  { name: 'operator missing', input: '2 3', wanted: ['error: an operator is missing at column 3'] },
  { name: 'unclosed', input: '2*(1+3', wanted: ['error: unclosed parenthesis at column 3'] },
  { name: 'unmatched', input: '1)', wanted: ['error: unmatched parenthesis at column 2'] },
  { name: 'no digit', input: '0x+1', wanted: ['error: a hexadecimal digit is missing at column 3'] },
  { name: 'longest line', input: `${'('.repeat(127)}1${')'.repeat(127)}`, wanted: ['1'] },
  { name: 'backspace', input: '12\x7f\x083*2', line: '3*2', wanted: ['6'] },
  { name: 'kill', input: '1+1+1\x155', line: '5', wanted: ['5'] },
  { name: 'arrow keys are ignored', input: '1\x1b[D+\x1bOA2', line: '1+2', wanted: ['3'] },
];

/** What a terminal shows of a line: each backspace takes the character before it away. */
function shown(text: string): string {
  let line = '';
  for (const c of text) line = c === '\b' ? line.slice(0, -1) : line + c;
  return line;
}

/** Plays all cases on a calculator that has just been started, and turns it off. */
export async function answerAll(session: Session): Promise<void> {
  await session.waitFor('Vitrine calculator');
  await session.waitFor('> ');
  for (const { name, input, line = input, wanted } of calcCases) {
    session.type(`${input}\r`);
    const [echo, ...answer] = (await session.waitFor('\r\n> ')).split('\r\n');
    expect({ name, line: shown(echo), answer }).toEqual({ name, line, answer: wanted });
  }
  session.type('1+\x03');
  expect(await session.waitFor('\r\n> ')).toBe('1+^C');
  session.type('help\r\n');
  expect(await session.waitFor('\r\n> ')).toContain('quit');
  session.type('quit\r');
}
