import { Gpr } from '../../nvmm/constants.ts';
import { MEGABYTE } from '../memory.ts';
import { protectedMode } from './cpu-state.ts';
import type { BootTarget, Image } from './image.ts';
import { hex } from './image.ts';
import { Handover, placeModule } from './modules.ts';

/**
 * The Multiboot Specification, version 0.6.96: the header in the first 8 KiB, entry in flat 32-bit mode with
 * EAX = 0x2BADB002 and EBX = the information structure. Also files that are no ELF, with the address fields.
 */

const HEADER_MAGIC = 0x1bad_b002;
const LOADER_MAGIC = 0x2bad_b002;
const SEARCHED = 8192;
/** Flag bits that say "refuse me if you don't know this": page alignment, memory map and video are known. */
const REQUIRED = 0xffff;
const KNOWN = 0x7;
const ADDRESS_FIELDS = 1 << 16;

/** Bits of the information structure's flags. */
const INFO = { MEMORY: 1, COMMAND_LINE: 4, MODULES: 8, MAP: 0x40, LOADER: 0x200 } as const;

/** Where in the file the header is, and its flags. */
export interface MultibootHeader {
  at: number;
  flags: number;
}

export function findMultiboot(image: Image): MultibootHeader | null {
  const last = Math.min(image.length, SEARCHED) - 12;
  for (let at = 0; at <= last; at += 4) {
    if (image.u32(at, 'header') !== HEADER_MAGIC) continue;
    const flags = image.u32(at + 4, 'flags');
    if ((HEADER_MAGIC + flags + image.u32(at + 8, 'checksum')) >>> 0 === 0) return { at, flags };
  }
  return null;
}

/** `loaded` is where the ELF loader put the kernel; null: load it by the header's address fields. */
export function enterMultiboot(
  target: BootTarget,
  image: Image,
  header: MultibootHeader,
  loaded: { entry: number; end: number } | null,
  initrd: Image | null,
  append: string,
): void {
  const { ram, state } = target;
  const unknown = header.flags & REQUIRED & ~KNOWN;
  if (unknown !== 0) {
    throw image.fail(`its multiboot header requires features ${hex(unknown)} that are unknown`);
  }
  const { entry, end } = loaded ?? loadByAddresses(target, image, header);
  if (!ram.isRam(entry, 1)) throw image.fail(`its multiboot entry ${hex(entry)} is not in memory`);

  const handover = new Handover(ram, image);
  const commandLine = handover.putCommandLine(append === '' ? 'kernel' : `kernel ${append}`);
  const loader = handover.put(new TextEncoder().encode('Vitrine\0'), 'the loader name');
  // Each map entry: its size without this word, base u64, length u64, type.
  const words = ram.e820().flatMap(({ start, size, type }) => [20, ...halves(start), ...halves(size), type]);
  const map = handover.putWords(words, 'the memory map');
  let modules = 0;
  if (initrd !== null) {
    const at = placeModule(ram, initrd, end);
    const name = handover.put(new TextEncoder().encode('initrd\0'), 'the module name');
    modules = handover.putWords([at, at + initrd.length, name, 0], 'the module list');
  }
  const info = new Array<number>(29).fill(0);
  info[0] = INFO.MEMORY | INFO.COMMAND_LINE | INFO.MAP | INFO.LOADER | (initrd === null ? 0 : INFO.MODULES);
  info[1] = 639;
  info[2] = (ram.lowEnd - MEGABYTE) / 1024;
  info[4] = commandLine;
  info[5] = initrd === null ? 0 : 1;
  info[6] = modules;
  info[11] = 4 * words.length;
  info[12] = map;
  info[16] = loader;
  const at = handover.putWords(info, 'the multiboot information');
  protectedMode(state, ram, entry);
  state.setGpr(Gpr.RAX, BigInt(LOADER_MAGIC));
  state.setGpr(Gpr.RBX, BigInt(at));
}

/** header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr follow the checksum. */
function loadByAddresses(
  { ram }: BootTarget,
  image: Image,
  header: MultibootHeader,
): { entry: number; end: number } {
  if ((header.flags & ADDRESS_FIELDS) === 0) {
    throw image.fail('it is no ELF file, and its multiboot header has no addresses to load it by');
  }
  const field = (n: number): number => image.u32(header.at + 12 + 4 * n, 'the multiboot addresses');
  const [headerAddress, load, loadEnd, bssEnd, entry] = [0, 1, 2, 3, 4].map(field);
  const offset = header.at - (headerAddress - load);
  if (load < MEGABYTE) throw image.fail(`it loads at ${hex(load)}: below 1 MiB is not free`);
  const size = loadEnd === 0 ? image.length - offset : loadEnd - load;
  image.load(ram, load, offset, size, 'the kernel');
  const end = Math.max(load + size, bssEnd);
  image.fits(ram, load, end - load, 'the kernel with its bss');
  ram.zero(load + size, end - load - size);
  return { entry, end };
}

function halves(value: number): [number, number] {
  return [value % 2 ** 32, Math.floor(value / 2 ** 32)];
}
