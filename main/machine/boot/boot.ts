import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { rootFolder } from '../entry.ts';
import { MachineError, messageOf } from '../errors.ts';
import type { GuestSource } from '../protocol.ts';
import { isBzImage, loadBzImage } from './bzimage.ts';
import { loadElf } from './elf.ts';
import { loadFlat } from './flat.ts';
import type { BootTarget } from './image.ts';
import { blameFile, Image } from './image.ts';

/** Where `npm run build:guests` puts the calculator. */
const CALCULATOR = ['out', 'guests', 'calc.elf'];

/** Loads what the configuration says into memory, and sets the state that the first vCPU starts with. */
export function boot(target: BootTarget, guest: GuestSource): void {
  switch (guest.kind) {
    case 'calc': {
      const image = readCalculator(target.ram.size);
      return blameFile(image.name, () => loadElf(target, image, null, ''));
    }
    case 'linux': {
      const kernel = readImage(guest.kernel, 'kernel', target.ram.size);
      const initrd = optional(guest.initrd, target.ram.size);
      return blameFile(kernel.name, () => {
        // A vmlinux is an ELF file with a PVH note; everything else must have the bzImage header.
        if (isElfKernel(kernel)) loadElf(target, kernel, initrd, guest.append);
        else loadBzImage(target, kernel, initrd, guest.append);
      });
    }
    case 'elf': {
      const image = readImage(guest.file, 'program', target.ram.size);
      const initrd = optional(guest.initrd, target.ram.size);
      return blameFile(image.name, () => loadElf(target, image, initrd, guest.append));
    }
    case 'flat': {
      const image = readImage(guest.file, 'program', target.ram.size);
      return blameFile(image.name, () => loadFlat(target, image, guest.address));
    }
  }
}

function isElfKernel(image: Image): boolean {
  return !isBzImage(image) && image.length >= 4 && image.u32(0, 'magic') === 0x464c_457f;
}

function optional(path: string | undefined, most: number): Image | null {
  return path === undefined || path === '' ? null : readImage(path, 'initrd', most);
}

function readCalculator(most: number): Image {
  const path = join(rootFolder(), ...CALCULATOR);
  try {
    return readImage(path, 'calculator', most);
  } catch (error) {
    throw new MachineError('host', `${messageOf(error)} It is made by "npm run build:guests".`);
  }
}

/** Reads a file that is to go into guest memory, so larger than that it can't be. */
function readImage(path: string, what: string, most: number): Image {
  try {
    const stat = statSync(path);
    if (!stat.isFile()) throw new MachineError('host', `${path}: the ${what} is no plain file.`);
    if (stat.size > most) {
      throw new MachineError(
        'host',
        `${path}: the ${what} has ${stat.size} bytes, and the machine only ${most}.`,
      );
    }
    return new Image(path, readFileSync(path));
  } catch (error) {
    if (error instanceof MachineError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new MachineError('host', `${path}: there is no such file (the ${what}).`);
    throw new MachineError('host', `${path}: the ${what} can't be read (${messageOf(error)}).`);
  }
}
