import { MEGABYTE } from '../memory.ts';
import { GDT, protectedMode, realMode } from './cpu-state.ts';
import type { BootTarget, Image } from './image.ts';
import { hex } from './image.ts';

/**
 * A flat binary at an address, entered at its first byte: below 1 MiB in real mode (0:7C00 is a boot sector),
 * from 1 MiB on in flat 32-bit protected mode.
 */
export function loadFlat({ ram, state }: BootTarget, image: Image, address: number): void {
  if (image.length === 0) throw image.fail('the file is empty');
  image.fits(ram, address, image.length, 'the program');
  if (address >= MEGABYTE) {
    image.load(ram, address, 0, image.length, 'the program');
    protectedMode(state, ram, address);
    return;
  }
  if (address >= 0x10000 && address % 16 !== 0) {
    throw image.fail(
      `a real-mode program beyond 64 KiB starts on a multiple of 16, and ${hex(address)} is none`,
    );
  }
  if (address < GDT || address + image.length > 0x9_fc00) {
    throw image.fail(`a real-mode program has room from ${hex(GDT)} to 0x9fc00, and not at ${hex(address)}`);
  }
  image.load(ram, address, 0, image.length, 'the program');
  const [selector, offset] = address < 0x10000 ? [0, address] : [address >>> 4, 0];
  realMode(state, selector, offset);
}
