import type { E820Entry, GuestRam } from '../memory.ts';
import { MEGABYTE } from '../memory.ts';
import { Gpr } from '../../nvmm/constants.ts';
import { longMode, protectedMode } from './cpu-state.ts';
import type { BootTarget, Image } from './image.ts';
import { commandLine, hex } from './image.ts';

/**
 * The Linux boot protocol (Documentation/arch/x86/boot.rst): a bzImage, or anything else with its header such
 * as memtest86+, is entered at its 64-bit entry point, or at the 32-bit one when it has no other.
 */

/** Where the loader puts its parts: below what any kernel of this protocol loads at. */
const ZERO_PAGE = 0x7000;
const COMMAND_LINE = 0x20000;
const STACK = 0x8ff0;

// Offsets of the setup header, in the file and in the zero page.
const SETUP_SECTS = 0x1f1;
const SYSSIZE = 0x1f4;
const BOOT_FLAG = 0x1fe;
const MAGIC = 0x202;
const VERSION = 0x206;
const TYPE_OF_LOADER = 0x210;
const LOADFLAGS = 0x211;
const CODE32_START = 0x214;
const RAMDISK_IMAGE = 0x218;
const RAMDISK_SIZE = 0x21c;
const CMD_LINE_PTR = 0x228;
const INITRD_ADDR_MAX = 0x22c;
const XLOADFLAGS = 0x236;
const CMDLINE_SIZE = 0x238;
const PREF_ADDRESS = 0x258;
const INIT_SIZE = 0x260;
/** End of the fields that are read here. */
const HEADER_END = 0x268;

// Offsets that exist in the zero page only (zero-page.rst).
const ACPI_RSDP_ADDR = 0x070;
const ALT_MEM_K = 0x1e0;
const E820_ENTRIES = 0x1e8;
const E820_TABLE = 0x2d0;

const HDRS = 0x5372_6448;
const LOADED_HIGH = 1;
const XLF_KERNEL_64 = 1;
/** The file may lack the padding to 16 bytes that the header counts. */
const PARAGRAPH = 16;
/** "Loader without an id". */
const UNDEFINED_LOADER = 0xff;
const PAGE = 4096;

/** What the header says, checked. */
export interface SetupHeader {
  /** Major in the high byte. */
  version: number;
  /** Bytes of boot sector and real-mode setup code before the kernel proper. */
  setupSize: number;
  /** Bytes of the kernel proper in the file. */
  payloadSize: number;
  loadAddress: number;
  /** Bytes that the kernel needs from its load address on while it unpacks itself. */
  initSize: number;
  /** Highest address that a byte of the initrd may have. */
  initrdMax: number;
  /** Most bytes of the command line, without its zero. */
  commandLineSize: number;
  has64BitEntry: boolean;
}

/** True when the file has the header's two magic numbers. */
export function isBzImage(image: Image): boolean {
  return (
    image.length >= MAGIC + 4 &&
    image.u16(BOOT_FLAG, 'boot flag') === 0xaa55 &&
    image.u32(MAGIC, 'magic') === HDRS
  );
}

/** Reads and checks the setup header. */
export function readSetupHeader(image: Image): SetupHeader {
  image.check(0, MAGIC + 6, 'the setup header');
  if (!isBzImage(image)) throw image.fail('not a Linux kernel image: the magic "HdrS" is not at 0x202');
  const version = image.u16(VERSION, 'protocol version');
  const words = `${version >> 8}.${String(version & 0xff).padStart(2, '0')}`;
  if (version < 0x202) throw image.fail(`boot protocol ${words} is too old: 2.02 or newer is needed`);
  image.check(0, HEADER_END, 'the setup header');
  if ((image.u8(LOADFLAGS, 'load flags') & LOADED_HIGH) === 0) {
    throw image.fail('a zImage, which loads low: only bzImage kernels are supported');
  }
  const setupSize = ((image.u8(SETUP_SECTS, 'setup sectors') || 4) + 1) * 512;
  if (setupSize >= image.length) {
    throw image.fail(`truncated: its setup code has ${setupSize} bytes, and the file ${image.length}`);
  }
  const payloadSize = image.length - setupSize;
  const declared = version >= 0x204 ? image.u32(SYSSIZE, 'size') * PARAGRAPH : payloadSize;
  if (declared > payloadSize + PARAGRAPH - 1) {
    throw image.fail(
      `truncated: the header says ${setupSize + declared} bytes, and the file has ${image.length}`,
    );
  }
  const loadAddress = preferredAddress(image, version);
  return {
    version,
    setupSize,
    payloadSize,
    loadAddress,
    initSize: Math.max(payloadSize, version >= 0x20a ? image.u32(INIT_SIZE, 'init size') : 2 * payloadSize),
    initrdMax: version >= 0x203 ? image.u32(INITRD_ADDR_MAX, 'initrd limit') : 0x37ff_ffff,
    commandLineSize: version >= 0x206 ? image.u32(CMDLINE_SIZE, 'command line size') : 255,
    has64BitEntry: version >= 0x20c && (image.u16(XLOADFLAGS, 'flags') & XLF_KERNEL_64) !== 0,
  };
}

/** Where the kernel wants to be loaded; there it need not move itself. */
function preferredAddress(image: Image, version: number): number {
  const preferred = version >= 0x20a ? image.u64(PREF_ADDRESS, 'preferred address') : MEGABYTE;
  if (preferred === 0) return MEGABYTE;
  if (preferred < MEGABYTE || preferred % PAGE !== 0) {
    throw image.fail(`its preferred address ${hex(preferred)} is not a page above 1 MiB`);
  }
  return preferred;
}

/** Loads kernel, initrd and command line, and sets the state to enter them. */
export function loadBzImage(
  target: BootTarget,
  kernel: Image,
  initrd: Image | null,
  append: string,
): SetupHeader {
  const { ram, state } = target;
  const header = readSetupHeader(kernel);
  const { loadAddress } = header;
  kernel.fits(ram, loadAddress, header.initSize, 'the kernel');
  kernel.load(ram, loadAddress, header.setupSize, header.payloadSize, 'the kernel');

  ram.zero(ZERO_PAGE, PAGE);
  const headerEnd = Math.min(MAGIC + kernel.u8(0x201, 'header length'), 0x290);
  ram.write(ZERO_PAGE + SETUP_SECTS, kernel.slice(SETUP_SECTS, headerEnd - SETUP_SECTS, 'the setup header'));
  ram.write(ZERO_PAGE + TYPE_OF_LOADER, Uint8Array.of(UNDEFINED_LOADER));
  ram.writeU32(ZERO_PAGE + CODE32_START, loadAddress);

  // The area for the command line ends where that of the BIOS begins; no kernel takes more than 4 KiB of it.
  ram.write(COMMAND_LINE, commandLine(kernel, append, Math.min(header.commandLineSize, 0xffff) + 1));
  ram.writeU32(ZERO_PAGE + CMD_LINE_PTR, COMMAND_LINE);

  const at = initrd === null ? 0 : placeInitrd(ram, initrd, header);
  ram.writeU32(ZERO_PAGE + RAMDISK_IMAGE, at);
  ram.writeU32(ZERO_PAGE + RAMDISK_SIZE, initrd?.length ?? 0);

  ram.writeU32(ZERO_PAGE + ACPI_RSDP_ADDR, target.rsdp);
  ram.writeU32(ZERO_PAGE + ALT_MEM_K, (ram.lowEnd - MEGABYTE) / 1024);
  writeE820(ram, ram.e820());

  if (header.has64BitEntry) {
    longMode(state, ram, loadAddress + 0x200);
    state.setGpr(Gpr.RSP, BigInt(STACK));
  } else {
    protectedMode(state, ram, loadAddress);
  }
  state.setGpr(Gpr.RSI, BigInt(ZERO_PAGE));
  return header;
}

/** As high as the kernel allows, so that unpacking never reaches it. */
function placeInitrd(ram: GuestRam, initrd: Image, header: SetupHeader): number {
  const top = Math.min(ram.lowEnd, header.initrdMax + 1);
  const at = Math.floor((top - initrd.length) / PAGE) * PAGE;
  const kernelEnd = header.loadAddress + header.initSize;
  if (at < kernelEnd) {
    throw initrd.fail(
      `the initrd's ${initrd.length} bytes do not fit between the kernel's end ${hex(kernelEnd)} and ${hex(top)}: ` +
        'give the machine more memory',
    );
  }
  ram.write(at, initrd.bytes);
  return at;
}

/** The memory map: 20 bytes an entry (start, size, type), unaligned. */
function writeE820(ram: GuestRam, entries: E820Entry[]): void {
  const table = new DataView(new ArrayBuffer(20 * entries.length));
  entries.forEach(({ start, size, type }, i) => {
    table.setBigUint64(20 * i, BigInt(start), true);
    table.setBigUint64(20 * i + 8, BigInt(size), true);
    table.setUint32(20 * i + 16, type, true);
  });
  ram.write(ZERO_PAGE + E820_ENTRIES, Uint8Array.of(entries.length));
  ram.write(ZERO_PAGE + E820_TABLE, new Uint8Array(table.buffer));
}
