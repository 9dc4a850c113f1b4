/**
 * Names of addresses, from an ELF file's symbol table (System V ABI, chapter 4) or from a System.map (nm's format). Files
 * come from anywhere: every offset in them is checked.
 */

/** Symbols of one file at most: Linux has some 200,000. */
const SYMBOLS_MAXIMUM = 2_000_000;
/** How far behind a symbol without a size an address may lie and still be named after it: a long function. */
const REACH = 0x10_0000n;
/** Longest name that is kept; C++ makes long ones. */
const NAME_MAXIMUM = 1024;

export interface Symbol {
  name: string;
  address: bigint;
  /** Bytes; 0: unknown. */
  size: bigint;
}

/** A file that is neither, or that is broken: the message names what. */
export class SymbolError extends Error {
  constructor(file: string, why: string) {
    super(`${file}: ${why}`);
    this.name = 'SymbolError';
  }
}

/** The symbols of a kernel, by address and by name. */
export class Symbols {
  readonly count: number;
  private readonly sorted: Symbol[];
  private readonly names = new Map<string, bigint>();

  constructor(symbols: Symbol[]) {
    this.sorted = symbols.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
    this.count = symbols.length;
    for (const { name, address } of this.sorted) if (!this.names.has(name)) this.names.set(name, address);
  }

  addressOf(name: string): bigint | undefined {
    return this.names.get(name);
  }

  /** `name`, or `name+0x10` for an address inside; null where nothing is near. */
  nameOf(address: bigint): string | null {
    let low = 0;
    let high = this.sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.sorted[middle]!.address <= address) low = middle + 1;
      else high = middle;
    }
    const symbol = this.sorted[low - 1];
    if (symbol === undefined) return null;
    const offset = address - symbol.address;
    if (offset >= (symbol.size > 0n ? symbol.size : REACH)) return null;
    return offset === 0n ? symbol.name : `${symbol.name}+0x${offset.toString(16)}`;
  }
}

/** Reads the symbols of a file: ELF of 32 or 64 bits, or a System.map. Throws SymbolError. */
export function parseSymbols(file: string, bytes: Uint8Array): Symbols {
  const isElf =
    bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
  const symbols = isElf ? elfSymbols(file, bytes) : mapSymbols(file, bytes);
  if (symbols.length === 0) throw new SymbolError(file, 'it has no symbols (it may have been stripped)');
  return new Symbols(symbols);
}

const SHT_SYMTAB = 2;
const SHT_DYNSYM = 11;
/** STT_FILE and STT_SECTION name no address. */
const NAMELESS = [3, 4];

function elfSymbols(file: string, bytes: Uint8Array): Symbol[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = bytes[4] === 2;
  if (bytes.length < 64 || (bytes[4] !== 1 && !wide) || bytes[5] !== 1) {
    throw new SymbolError(file, 'it is no little-endian ELF file of 32 or 64 bits');
  }
  const word = (at: number): number => {
    const value = wide ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true);
    if (value > bytes.length) {
      throw new SymbolError(file, `it is cut off: 0x${value.toString(16)} lies beyond its end`);
    }
    return value;
  };
  const inside = (what: string, at: number, size: number): void => {
    if (at + size > bytes.length) throw new SymbolError(file, `it is cut off in ${what}`);
  };
  const table = word(wide ? 0x28 : 0x20);
  const entrySize = view.getUint16(wide ? 0x3a : 0x2e, true);
  const count = view.getUint16(wide ? 0x3c : 0x30, true);
  if (table === 0 || count === 0) return [];
  if (entrySize < (wide ? 64 : 40)) {
    throw new SymbolError(file, `its section headers have ${entrySize} bytes`);
  }
  inside('its section headers', table, entrySize * count);
  const section = (n: number) => {
    const at = table + n * entrySize;
    return {
      type: view.getUint32(at + 4, true),
      offset: word(at + (wide ? 0x18 : 0x10)),
      size: word(at + (wide ? 0x20 : 0x14)),
      link: view.getUint32(at + (wide ? 0x28 : 0x18), true),
    };
  };
  const sections = Array.from({ length: count }, (_, n) => view.getUint32(table + n * entrySize + 4, true));
  const index = sections.includes(SHT_SYMTAB) ? sections.indexOf(SHT_SYMTAB) : sections.indexOf(SHT_DYNSYM);
  if (index < 0) return [];
  const symbols = section(index);
  if (symbols.link >= count) {
    throw new SymbolError(file, `its symbols' names are in section ${symbols.link}, of ${count}`);
  }
  const names = section(symbols.link);
  inside('its symbols', symbols.offset, symbols.size);
  inside("its symbols' names", names.offset, names.size);
  const size = wide ? 24 : 16;
  const total = Math.floor(symbols.size / size);
  if (total > SYMBOLS_MAXIMUM) {
    throw new SymbolError(file, `${total} symbols are more than ${SYMBOLS_MAXIMUM}`);
  }
  const found: Symbol[] = [];
  for (let n = 1; n < total; n++) {
    const at = symbols.offset + n * size;
    const info = bytes[at + (wide ? 4 : 12)]!;
    const defined = view.getUint16(at + (wide ? 6 : 14), true) !== 0;
    const name = nameAt(bytes, names.offset, names.size, view.getUint32(at, true));
    if (name === '' || !defined || NAMELESS.includes(info & 15)) continue;
    const address = wide ? view.getBigUint64(at + 8, true) : BigInt(view.getUint32(at + 4, true));
    const length = wide ? view.getBigUint64(at + 16, true) : BigInt(view.getUint32(at + 8, true));
    found.push({ name, address, size: length });
  }
  return found;
}

function nameAt(bytes: Uint8Array, table: number, size: number, offset: number): string {
  if (offset >= size) return '';
  const start = table + offset;
  const zero = bytes.subarray(start, table + size).indexOf(0);
  const end = zero < 0 ? table + size : start + zero;
  return Buffer.from(bytes.subarray(start, Math.min(end, start + NAME_MAXIMUM))).toString('utf8');
}

/** Lines of `ffffffff81000000 T _text`; a module's name may follow in brackets. */
function mapSymbols(file: string, bytes: Uint8Array): Symbol[] {
  const found: Symbol[] = [];
  const lines = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1').split('\n');
  lines.forEach((line, n) => {
    if (line.trim() === '') return;
    const match = /^([0-9a-fA-F]{1,16}) ([a-zA-Z?-]) (\S+)/.exec(line);
    if (match === null) {
      const shown = JSON.stringify(line.slice(0, 40));
      throw new SymbolError(file, `line ${n + 1} is neither ELF nor "address type name": ${shown}`);
    }
    if (found.length === SYMBOLS_MAXIMUM) throw new SymbolError(file, `more than ${SYMBOLS_MAXIMUM} symbols`);
    found.push({ name: match[3]!.slice(0, NAME_MAXIMUM), address: BigInt(`0x${match[1]!}`), size: 0n });
  });
  return found;
}
