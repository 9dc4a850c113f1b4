/**
 * An ELF file that holds nothing but names of addresses: what gdb's `file` wants of a kernel whose distribution ships
 * no symbols, made of what the kernel says of itself in /proc/kallsyms.
 */

export interface Symbol {
  name: string;
  address: bigint;
}

/** Lines of /proc/kallsyms or System.map: `ffffffff81000000 T _text`. Others are skipped. */
export function parseSymbols(text: string): Symbol[] {
  return [...text.matchAll(/^([0-9a-f]{8,16}) [A-Za-z] (\S+)/gm)].map(([, digits, name]) => ({
    name,
    address: BigInt(`0x${digits}`),
  }));
}

const HEADER = 64;
const SECTION = 64;
const SYMBOL = 24;
const SHT = { PROGBITS: 1, SYMTAB: 2, STRTAB: 3, NOBITS: 8 };
const ALLOC_EXEC = 6n;
const GLOBAL_FUNCTION = 0x12;

/** A table of strings and where each begins. */
function stringTable(strings: readonly string[]): { bytes: Buffer; offsets: number[] } {
  const offsets: number[] = [];
  let length = 1;
  for (const text of strings) {
    offsets.push(length);
    length += Buffer.byteLength(text) + 1;
  }
  return { bytes: Buffer.from(`\0${strings.map((text) => `${text}\0`).join('')}`), offsets };
}

/** ELF64, x86-64, executable, with one section of code that spans the symbols and has no contents. */
export function symbolsElf(symbols: readonly Symbol[]): Buffer {
  const names = stringTable(symbols.map(({ name }) => name));
  const sections = stringTable(['.text', '.symtab', '.strtab', '.shstrtab']);
  const addresses = symbols.map(({ address }) => address);
  const lowest = addresses.reduce((a, b) => (a < b ? a : b));
  const highest = addresses.reduce((a, b) => (a > b ? a : b));

  const table = Buffer.alloc(SYMBOL * (symbols.length + 1));
  symbols.forEach(({ address }, n) => {
    const at = SYMBOL * (n + 1);
    table.writeUInt32LE(names.offsets[n], at);
    table.writeUInt8(GLOBAL_FUNCTION, at + 4);
    table.writeUInt16LE(1, at + 6);
    table.writeBigUInt64LE(address, at + 8);
  });

  const tableAt = HEADER;
  const namesAt = tableAt + table.length;
  const sectionNamesAt = namesAt + names.bytes.length;
  const headersAt = sectionNamesAt + sections.bytes.length;
  const headers = Buffer.alloc(5 * SECTION);
  const header = (
    n: number,
    type: number,
    flags: bigint,
    address: bigint,
    offset: number,
    size: bigint,
    link = 0,
  ): void => {
    const at = n * SECTION;
    headers.writeUInt32LE(sections.offsets[n - 1], at);
    headers.writeUInt32LE(type, at + 4);
    headers.writeBigUInt64LE(flags, at + 8);
    headers.writeBigUInt64LE(address, at + 16);
    headers.writeBigUInt64LE(BigInt(offset), at + 24);
    headers.writeBigUInt64LE(size, at + 32);
    headers.writeUInt32LE(link, at + 40);
    headers.writeUInt32LE(type === SHT.SYMTAB ? 1 : 0, at + 44);
    headers.writeBigUInt64LE(1n, at + 48);
    headers.writeBigUInt64LE(type === SHT.SYMTAB ? BigInt(SYMBOL) : 0n, at + 56);
  };
  header(1, SHT.NOBITS, ALLOC_EXEC, lowest, HEADER, highest - lowest + 0x1000n);
  header(2, SHT.SYMTAB, 0n, 0n, tableAt, BigInt(table.length), 3);
  header(3, SHT.STRTAB, 0n, 0n, namesAt, BigInt(names.bytes.length));
  header(4, SHT.STRTAB, 0n, 0n, sectionNamesAt, BigInt(sections.bytes.length));

  const elf = Buffer.alloc(HEADER);
  elf.write('\x7fELF\x02\x01\x01', 'latin1');
  elf.writeUInt16LE(2, 16);
  elf.writeUInt16LE(62, 18);
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(lowest, 24);
  elf.writeBigUInt64LE(BigInt(headersAt), 40);
  elf.writeUInt16LE(HEADER, 52);
  elf.writeUInt16LE(SECTION, 58);
  elf.writeUInt16LE(5, 60);
  elf.writeUInt16LE(4, 62);
  return Buffer.concat([elf, table, names.bytes, sections.bytes, headers]);
}
