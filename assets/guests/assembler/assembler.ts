import { Register } from 'iced-x86';
import { AssemblyError, evaluate } from './expression.ts';
import type { Value } from './expression.ts';
import { encode, registers } from './instruction.ts';
import type { Bits, Operand } from './instruction.ts';

/**
 * A small assembler for our guests: the part of NASM's syntax that they use, to a flat binary. Instructions;
 * labels and .local labels; equ; db dw dd dq; resb resw resd resq; align, alignb; times; bits, org, absolute.
 */

export interface Assembly {
  bytes: Uint8Array;
  /** Labels and constants. */
  symbols: ReadonlyMap<string, bigint>;
}

interface Line {
  number: number;
  label: string;
  /** First word, in lower case, and the rest. */
  word: string;
  rest: string;
}

const PREFIXES = ['rep', 'repe', 'repz', 'repne', 'repnz', 'lock'];
const SIZES: Record<string, number> = { byte: 1, word: 2, dword: 4, qword: 8, oword: 16 };
const DATA: Record<string, number> = { db: 1, dw: 2, dd: 4, dq: 8 };
const RESERVE: Record<string, number> = { resb: 1, resw: 2, resd: 4, resq: 8 };
/** Passes until every branch has its length: each pass can only make some longer, so few are needed. */
const MAX_PASSES = 30;

function parseLine(text: string, number: number): Line {
  const code = text.replace(/('[^']*')|;.*/g, (_, quoted) => quoted ?? '').trim();
  const constant = /^([\w.]+)\s+equ\s+(.+)$/i.exec(code);
  if (constant) return { number, label: constant[1], word: 'equ', rest: constant[2] };
  const [, label = '', statement] = /^(?:([\w.$]+):)?\s*(.*)$/.exec(code)!;
  const [, word = '', rest = ''] = /^(\S+)\s*(.*)$/.exec(statement) ?? [];
  return { number, label, word: word.toLowerCase(), rest };
}

/** Splits at the commas that are not inside quotes, brackets or parentheses. */
function splitOperands(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let quoted = false;
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (c === "'") quoted = !quoted;
    else if (quoted) continue;
    else if (c === '[' || c === '(') depth++;
    else if (c === ']' || c === ')') depth--;
    else if (c === ',' && depth === 0) {
      parts.push(text.slice(from, at));
      from = at + 1;
    }
  }
  parts.push(text.slice(from));
  return parts.map((part) => part.trim()).filter((part) => part !== '');
}

class Assembler {
  private readonly lines: Line[];
  /** Symbols of the last pass, and those that this pass has come to. */
  private symbols = new Map<string, bigint>();
  private current = new Map<string, bigint>();
  /** Length of each instruction so far, by the order in which they come. */
  private readonly lengths: number[] = [];

  private output: number[] = [];
  private bits: Bits = 16;
  private address = 0n;
  private absolute = false;
  private scope = '';
  private instructions = 0;
  private pass = 0;
  private grown = false;

  constructor(source: string) {
    this.lines = source.split('\n').map((text, at) => parseLine(text, at + 1));
  }

  run(): Assembly {
    for (this.pass = 0; this.pass < MAX_PASSES; this.pass++) {
      const before = this.symbols;
      this.output = [];
      this.bits = 16;
      this.address = 0n;
      this.absolute = false;
      this.instructions = 0;
      this.grown = false;
      this.current = new Map();
      for (const line of this.lines) {
        try {
          this.assemble(line);
        } catch (error) {
          throw new AssemblyError(line.number, (error as Error).message);
        }
      }
      this.symbols = this.current;
      const moved = [...this.symbols].some(([name, value]) => before.get(name) !== value);
      if (!moved && !this.grown) return { bytes: Uint8Array.from(this.output), symbols: this.symbols };
    }
    throw new Error(`the lengths of the branches did not settle in ${MAX_PASSES} passes`);
  }

  private qualified(name: string): string {
    return name.startsWith('.') ? this.scope + name : name;
  }

  private value(text: string): Value {
    return evaluate(text, (name) => {
      if (name === '$') return { value: this.address, known: true };
      const full = this.qualified(name);
      const value = this.current.get(full) ?? this.symbols.get(full);
      if (value !== undefined) return { value, known: true };
      // In the first pass, a name may still come: until then it stands for a near place.
      return this.pass === 0 ? { value: this.address, known: false } : undefined;
    });
  }

  private define(label: string, value: bigint): void {
    const name = this.qualified(label);
    if (this.current.has(name)) throw new Error(`${name} is defined twice`);
    this.current.set(name, value);
  }

  private assemble(line: Line): void {
    const { label, word, rest } = line;
    if (word === 'equ') return this.define(label, this.value(rest).value);
    if (label !== '') {
      if (!label.startsWith('.')) this.scope = label;
      this.define(label, this.address);
    }
    if (word !== '') this.statement(word, rest);
  }

  private statement(word: string, rest: string): void {
    if (word === 'bits') {
      this.bits = Number(rest) as Bits;
    } else if (word === 'org' || word === 'absolute') {
      this.address = this.value(rest).value;
      this.absolute = word === 'absolute';
    } else if (word === 'align' || word === 'alignb') {
      const to = this.value(rest).value;
      this.fill(Number((to - (this.address % to)) % to));
    } else if (word === 'times') {
      const [, count, inner, innerRest] = /^(\S+)\s+(\S+)\s*(.*)$/.exec(rest) ?? [];
      if (inner === undefined) throw new Error(`times needs a count and a statement, not "${rest}"`);
      const times = Number(this.value(count).value);
      for (let i = 0; i < times; i++) this.statement(inner.toLowerCase(), innerRest);
    } else if (word in RESERVE) {
      this.fill(RESERVE[word] * Number(this.value(rest).value));
    } else if (word in DATA) {
      for (const item of splitOperands(rest)) this.data(item, DATA[word]);
    } else {
      this.instruction(word, rest);
    }
  }

  private emit(bytes: ArrayLike<number>): void {
    if (this.absolute) throw new Error('memory after `absolute` is not in the file: only res* goes there');
    for (let i = 0; i < bytes.length; i++) this.output.push(bytes[i]);
    this.address += BigInt(bytes.length);
  }

  private fill(count: number): void {
    if (this.absolute) this.address += BigInt(count);
    else this.emit(new Uint8Array(count));
  }

  private data(item: string, size: number): void {
    const text = /^'([^']*)'$/.exec(item);
    if (text && size === 1) return this.emit(Buffer.from(text[1], 'latin1'));
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigInt64(0, BigInt.asIntN(64, this.value(item).value), true);
    this.emit(bytes.subarray(0, size));
  }

  private instruction(word: string, rest: string): void {
    let prefix = '';
    if (PREFIXES.includes(word)) {
      prefix = word.replace(/z$/, 'e');
      [, word = '', rest = ''] = /^(\S+)\s*(.*)$/.exec(rest) ?? [];
    }
    const operands = splitOperands(rest).map((text) => this.operand(text));
    const at = this.instructions++;
    const least = this.lengths[at] ?? 0;
    const statement = { bits: this.bits, mnemonic: word.toLowerCase(), prefix, operands };
    const bytes = encode(statement, this.address, least);
    if (bytes.length !== least) this.grown = true;
    this.lengths[at] = bytes.length;
    this.emit(bytes);
  }

  private operand(text: string): Operand {
    const register = registers.get(text.toLowerCase());
    if (register !== undefined) return { kind: 'register', register };
    const memory = /^(?:(byte|word|dword|qword|oword)\s*)?\[(?:([c-gs]s):)?(.*)\]$/i.exec(text);
    if (memory === null) return { kind: 'immediate', value: this.value(text) };
    const size = memory[1] === undefined ? 0 : SIZES[memory[1].toLowerCase()];
    const segment = registers.get(memory[2]?.toLowerCase() ?? '') ?? Register.None;
    return { kind: 'memory', size, segment, ...this.effectiveAddress(memory[3]) };
  }

  /** `base + index * scale + displacement`, any of which may be missing. */
  private effectiveAddress(text: string): {
    base: Register;
    index: Register;
    scale: number;
    displacement: Value;
  } {
    let base: Register = Register.None;
    let index: Register = Register.None;
    let scale = 1;
    const rest: string[] = [];
    for (const [, sign, term] of text.matchAll(/([-+]?)\s*([^-+]+)/g)) {
      const scaled = /^(\w+)\s*\*\s*([1248])$/.exec(term.trim());
      const register = registers.get((scaled?.[1] ?? term.trim()).toLowerCase());
      if (register === undefined) {
        rest.push(`${sign || '+'} ${term}`);
      } else if (scaled || base !== Register.None) {
        index = register;
        scale = Number(scaled?.[2] ?? 1);
      } else {
        base = register;
      }
    }
    return { base, index, scale, displacement: this.value(`0 ${rest.join(' ')}`) };
  }
}

/** Assembles a source text. Throws AssemblyError with the line's number. */
export function assemble(source: string): Assembly {
  return new Assembler(source).run();
}
