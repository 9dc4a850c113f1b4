import type { BootTarget, Image } from './image.ts';
import { hex } from './image.ts';
import { longMode, protectedMode, TABLES_END } from './cpu-state.ts';
import { MEGABYTE } from '../memory.ts';
import { HANDOVER } from './modules.ts';
import { enterMultiboot, findMultiboot } from './multiboot.ts';
import { enterPvh, PVH_NOTE } from './pvh.ts';

/**
 * ELF guests (System V ABI, generic and x86 supplements): 32- and 64-bit, little-endian, x86. Segments go to
 * their physical addresses. The entry is, in this order, that of PVH, of multiboot, or the plain e_entry: in
 * flat 32-bit protected mode for ELF32, in 64-bit mode with the first 4 GiB identity-mapped for ELF64.
 */

const ELF_MAGIC = 0x464c_457f;
const CLASS_32 = 1;
const CLASS_64 = 2;
const EM_386 = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
/** More are no program; a table of 65535 would only cost time. */
const MOST_SEGMENTS = 64;

export interface Segment {
  type: number;
  offset: number;
  virtual: number;
  physical: number;
  fileSize: number;
  memorySize: number;
}

export interface Elf {
  is64: boolean;
  entry: number;
  segments: Segment[];
}

export function isElf(image: Image): boolean {
  return image.length >= 4 && image.u32(0, 'magic') === ELF_MAGIC;
}

/** Reads and checks the header and the program headers. */
export function readElf(image: Image): Elf {
  image.check(0, 52, 'the ELF header');
  if (!isElf(image)) throw image.fail('not an ELF file');
  const kind = image.u8(4, 'class');
  if (kind !== CLASS_32 && kind !== CLASS_64) throw image.fail(`ELF class ${kind} is neither 32- nor 64-bit`);
  if (image.u8(5, 'byte order') !== 1) throw image.fail('a big-endian ELF file is no x86 program');
  const machine = image.u16(18, 'machine');
  if (machine !== EM_386 && machine !== EM_X86_64) throw image.fail(`ELF machine ${machine} is not x86`);
  const is64 = kind === CLASS_64;
  if (is64) image.check(0, 64, 'the ELF header');
  const entry = is64 ? virtualAddress(image, 24) : image.u32(24, 'entry');
  const table = is64 ? image.u64(32, 'program header offset') : image.u32(28, 'program header offset');
  const entrySize = image.u16(is64 ? 54 : 42, 'program header size');
  const count = image.u16(is64 ? 56 : 44, 'program header count');
  const smallest = is64 ? 56 : 32;
  if (count === 0) {
    throw image.fail('it has no program headers, so there is nothing to load: link it as a program');
  }
  if (count > MOST_SEGMENTS) {
    throw image.fail(`${count} program headers are too many: at most ${MOST_SEGMENTS}`);
  }
  if (entrySize < smallest) {
    throw image.fail(`program headers of ${entrySize} bytes are shorter than ${smallest}`);
  }
  image.check(table, count * entrySize, 'the program headers');
  const segments: Segment[] = [];
  for (let i = 0; i < count; i++) segments.push(readSegment(image, table + i * entrySize, is64));
  return { is64, entry, segments };
}

function readSegment(image: Image, at: number, is64: boolean): Segment {
  const what = 'a program header';
  const segment = is64
    ? {
        type: image.u32(at, what),
        offset: image.u64(at + 8, 'a segment offset'),
        virtual: virtualAddress(image, at + 16),
        physical: image.u64(at + 24, 'a physical address'),
        fileSize: image.u64(at + 32, 'a segment size'),
        memorySize: image.u64(at + 40, 'a segment size'),
      }
    : {
        type: image.u32(at, what),
        offset: image.u32(at + 4, what),
        virtual: image.u32(at + 8, what),
        physical: image.u32(at + 12, what),
        fileSize: image.u32(at + 16, what),
        memorySize: image.u32(at + 20, what),
      };
  if (segment.type === PT_LOAD || segment.type === PT_NOTE) {
    image.check(segment.offset, segment.fileSize, 'a segment');
    if (segment.type === PT_LOAD && segment.fileSize > segment.memorySize) {
      throw image.fail(
        `a segment has ${segment.fileSize} bytes in the file and ${segment.memorySize} in memory`,
      );
    }
  }
  return segment;
}

/** A virtual address with its sign, as canonical addresses have one: those of kernels are small negative numbers. */
function virtualAddress(image: Image, at: number): number {
  return image.u32(at, 'an address') + (image.u32(at + 4, 'an address') | 0) * 2 ** 32;
}

/** Loads the file and sets the state to enter it. */
export function loadElf(target: BootTarget, image: Image, initrd: Image | null, append: string): void {
  const { ram, state } = target;
  const multiboot = findMultiboot(image);
  if (!isElf(image) && multiboot !== null) {
    enterMultiboot(target, image, multiboot, null, initrd, append);
    return;
  }
  const elf = readElf(image);
  const pvh = findNote(image, elf, PVH_NOTE);
  const loads = elf.segments.filter(({ type, memorySize }) => type === PT_LOAD && memorySize > 0);
  if (loads.length === 0) throw image.fail('no segment of it is to be loaded');
  for (const segment of loads) loadSegment(target, image, segment);
  const end = Math.max(...loads.map(({ physical, memorySize }) => physical + memorySize));

  if (pvh !== null) {
    enterPvh(target, image, pvh, end, initrd, append);
  } else if (multiboot !== null) {
    enterMultiboot(target, image, multiboot, { entry: physicalEntry(image, elf), end }, initrd, append);
  } else {
    if (initrd !== null) {
      throw image.fail('a plain ELF program takes no initrd: PVH and multiboot kernels do');
    }
    const entry = physicalEntry(image, elf);
    if (elf.is64) longMode(state, ram, entry);
    else protectedMode(state, ram, entry);
  }
}

function loadSegment({ ram }: BootTarget, image: Image, segment: Segment): void {
  const { physical, offset, fileSize, memorySize } = segment;
  if (physical < TABLES_END) {
    throw image.fail(
      `a segment at ${hex(physical)} lies where the loader's tables are: below ${hex(TABLES_END)}`,
    );
  }
  if (physical < MEGABYTE && physical + memorySize > HANDOVER) {
    throw image.fail(
      `a segment at ${hex(physical)} reaches over ${hex(HANDOVER)}, where the loader and the tables are`,
    );
  }
  image.fits(ram, physical, memorySize, 'a segment');
  image.load(ram, physical, offset, fileSize, 'a segment');
  ram.zero(physical + fileSize, memorySize - fileSize);
}

/** e_entry is virtual: the physical address is that far into the segment that holds it. */
function physicalEntry(image: Image, elf: Elf): number {
  for (const { type, virtual, physical, memorySize } of elf.segments) {
    const inside = elf.entry - virtual;
    if (type === PT_LOAD && inside >= 0 && inside < memorySize) return physical + inside;
  }
  throw image.fail(`its entry ${hex(elf.entry)} is in no segment that is loaded`);
}

/** The first word (4 or 8 bytes) of the note of that type whose name is "Xen". */
function findNote(image: Image, elf: Elf, wanted: number): number | null {
  for (const { type, offset, fileSize } of elf.segments) {
    if (type !== PT_NOTE) continue;
    const end = offset + fileSize;
    for (let at = offset; at + 12 <= end;) {
      const nameSize = image.u32(at, 'a note');
      const descSize = image.u32(at + 4, 'a note');
      const desc = at + 12 + align4(nameSize);
      const next = desc + align4(descSize);
      if (next > end) break;
      const isXen = nameSize === 4 && image.u32(at + 12, 'a note') === 0x006e_6558;
      if (isXen && image.u32(at + 8, 'a note') === wanted && (descSize === 4 || descSize === 8)) {
        return descSize === 4 ? image.u32(desc, 'a note') : image.u64(desc, 'the PVH entry');
      }
      at = next;
    }
  }
  return null;
}

function align4(size: number): number {
  return Math.ceil(size / 4) * 4;
}
