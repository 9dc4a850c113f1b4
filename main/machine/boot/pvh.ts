import { Gpr } from '../../nvmm/constants.ts';
import { protectedMode } from './cpu-state.ts';
import type { BootTarget, Image } from './image.ts';
import { hex } from './image.ts';
import { Handover, placeModule } from './modules.ts';

/**
 * PVH: the direct boot of the Xen and KVM worlds (xen/include/public/arch-x86/hvm/start_info.h). The kernel is
 * entered at the address of its ELF note in flat 32-bit mode, EBX = start info.
 */

/** XEN_ELFNOTE_PHYS32_ENTRY. */
export const PVH_NOTE = 18;
const MAGIC = 0x336e_c578;
/** The first version that has the memory map. */
const VERSION = 1;

export function enterPvh(
  { ram, state, rsdp }: BootTarget,
  image: Image,
  entry: number,
  end: number,
  initrd: Image | null,
  append: string,
): void {
  if (!ram.isRam(entry, 1)) throw image.fail(`its PVH entry ${hex(entry)} is not in memory`);
  const handover = new Handover(ram, image);
  const commandLine = handover.putCommandLine(append);
  // hvm_memmap_table_entry: addr u64, size u64, type u32, reserved u32.
  const map = ram.e820();
  const mapAt = handover.putWords(
    map.flatMap(({ start, size, type }) => [...halves(start), ...halves(size), type, 0]),
    'the memory map',
  );
  // hvm_modlist_entry: paddr, size, cmdline_paddr, reserved: all u64.
  const modules =
    initrd === null
      ? 0
      : handover.putWords(
          [...halves(placeModule(ram, initrd, end)), ...halves(initrd.length), 0, 0, 0, 0],
          'the module list',
        );
  const info = handover.putWords(
    [
      ...[MAGIC, VERSION, 0, initrd === null ? 0 : 1],
      ...halves(modules),
      ...halves(commandLine),
      ...halves(rsdp),
      ...halves(mapAt),
      ...[map.length, 0],
    ],
    'the start info',
  );
  protectedMode(state, ram, entry);
  state.setGpr(Gpr.RBX, BigInt(info));
}

function halves(value: number): [number, number] {
  return [value % 2 ** 32, Math.floor(value / 2 ** 32)];
}
