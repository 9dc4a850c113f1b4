import type { GuestRam } from '../memory.ts';
import { MEGABYTE } from '../memory.ts';
import { commandLine, hex } from './image.ts';
import type { Image } from './image.ts';

/**
 * What PVH and multiboot guests are handed beside their own segments: structures, a command line and an
 * initrd. All of it goes to the top of the 640 KiB, and the initrd to the top of low memory: places where no
 * segment may be.
 */

/** 64 KiB below the extended BIOS data area. */
export const HANDOVER = 0x8_f000;
const HANDOVER_END = 0x9_f000;
const PAGE = 4096;

/** Hands out pieces of the handover area. */
export class Handover {
  private readonly ram: GuestRam;
  private readonly image: Image;
  private next = HANDOVER;

  constructor(ram: GuestRam, image: Image) {
    this.ram = ram;
    this.image = image;
    ram.zero(HANDOVER, HANDOVER_END - HANDOVER);
  }

  /** Writes bytes on an 8-byte boundary and says where. */
  put(bytes: Uint8Array, what: string): number {
    const at = (this.next + 7) & ~7;
    if (bytes.length > HANDOVER_END - at) {
      throw this.image.fail(`${what} does not fit in the ${HANDOVER_END - HANDOVER} bytes there are for it`);
    }
    this.ram.write(at, bytes);
    this.next = at + bytes.length;
    return at;
  }

  putCommandLine(append: string): number {
    return this.put(commandLine(this.image, append, PAGE), 'the command line');
  }

  putWords(words: readonly number[], what: string): number {
    return this.put(new Uint8Array(Uint32Array.from(words).buffer), what);
  }
}

/** Puts the initrd at the top of the RAM below the PCI hole, above the kernel. */
export function placeModule(ram: GuestRam, initrd: Image, kernelEnd: number): number {
  const at = Math.floor((ram.lowEnd - initrd.length) / PAGE) * PAGE;
  if (at < Math.max(kernelEnd, MEGABYTE)) {
    throw initrd.fail(
      `its ${initrd.length} bytes do not fit above the kernel's end ${hex(kernelEnd)}: give the machine more memory`,
    );
  }
  ram.write(at, initrd.bytes);
  return at;
}
