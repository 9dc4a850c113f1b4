/** A value of an expression. `known` is false in the passes before all of its symbols have been seen. */
export interface Value {
  value: bigint;
  known: boolean;
}

/** What a name stands for, or undefined when no such name is defined anywhere. */
export type Lookup = (name: string) => Value | undefined;

export class AssemblyError extends Error {
  constructor(line: number, message: string) {
    super(`line ${line}: ${message}`);
    this.name = 'AssemblyError';
  }
}

const TOKEN = /\s*(0x[0-9a-f]+|\d+|'[^']*'|[a-z_.$][\w.$]*|<<|>>|[-+*/%&|^~()])/iy;

/** Binary operators, from the loosest to the tightest. */
const LEVELS: Record<string, (a: bigint, b: bigint) => bigint>[] = [
  { '|': (a, b) => a | b },
  { '^': (a, b) => a ^ b },
  { '&': (a, b) => a & b },
  { '<<': (a, b) => a << b, '>>': (a, b) => a >> b },
  { '+': (a, b) => a + b, '-': (a, b) => a - b },
  { '*': (a, b) => a * b, '/': (a, b) => a / b, '%': (a, b) => a % b },
];

export function tokenize(text: string): string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null) throw new Error(`${text.slice(at).trim()} is not understood`);
    tokens.push(match[1]);
  }
  return tokens;
}

/** Characters as a little-endian number: 'AB' is 0x4241. */
function characters(text: string): bigint {
  return [...text].reduceRight((value, c) => (value << 8n) | BigInt(c.charCodeAt(0)), 0n);
}

/** Evaluates an expression of numbers, characters, symbols and C's operators. */
export function evaluate(text: string, lookup: Lookup): Value {
  const tokens = tokenize(text);
  let at = 0;
  let known = true;

  function primary(): bigint {
    const token = tokens[at++];
    if (token === undefined) throw new Error(`a value is missing in "${text}"`);
    if (token === '(') {
      const value = binary(0);
      if (tokens[at++] !== ')') throw new Error(`a parenthesis is not closed in "${text}"`);
      return value;
    }
    if (token === '-') return -primary();
    if (token === '+') return primary();
    if (token === '~') return ~primary();
    if (token.startsWith("'")) return characters(token.slice(1, -1));
    if (/^\d/.test(token)) return BigInt(token);
    const found = lookup(token);
    if (found === undefined) throw new Error(`${token} is not defined`);
    known &&= found.known;
    return found.value;
  }

  function binary(level: number): bigint {
    if (level === LEVELS.length) return primary();
    let value = binary(level + 1);
    for (;;) {
      const operator = LEVELS[level][tokens[at]];
      if (operator === undefined) return value;
      at++;
      value = operator(value, binary(level + 1));
    }
  }

  const value = binary(0);
  if (at < tokens.length) throw new Error(`${tokens[at]} is out of place in "${text}"`);
  return { value, known };
}
