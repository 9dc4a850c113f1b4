import { closeSync, openSync, readSync } from 'node:fs';
import type { GdbAddress } from '../inspect/gdb/address.ts';
import type { Architecture } from '../inspect/gdb/registers.ts';
import { GdbServer } from '../inspect/gdb/server.ts';
import type { GdbMachine } from '../inspect/gdb/stub.ts';
import { DebugTarget, type DebugPort } from '../inspect/target.ts';
import type { GuestSource, MachineConfig } from '../machine/protocol.ts';

/** What gdb is to be told of a machine, when it connects. */
export interface GdbView {
  config: Pick<MachineConfig, 'guest' | 'memory' | 'vcpus' | 'deterministic'>;
  architecture?: Architecture | null;
}

/** Listens for gdb on behalf of a machine, whatever state that is in. Fails with a MachineError. */
export function openGdb(
  address: GdbAddress,
  machine: DebugPort & GdbMachine,
  view: () => GdbView,
): Promise<GdbServer> {
  return GdbServer.open(address, () => {
    const { config, architecture = null } = view();
    const options = { architecture, guestIs64: isImage64(config.guest), memory: config.memory };
    return {
      target: new DebugTarget(machine, config.vcpus, (config.deterministic?.history ?? 0) > 0),
      machine,
      options,
    };
  });
}

/** What to type to connect to it. */
export function connectCommand({ address }: GdbServer): string {
  return `gdb -ex 'target remote ${address}'`;
}

/** Offsets in an ELF file and in a bzImage (Linux, Documentation/arch/x86/boot.rst). */
const ELF_CLASS = 4;
const ELF_CLASS_64 = 2;
const BZIMAGE_MAGIC = 0x202;
const XLOADFLAGS = 0x236;
const XLF_KERNEL_64 = 1;

/** Whether a guest's kernel is a 64-bit one, and so the file that its debugger has loaded. */
export function isImage64(guest: GuestSource): boolean {
  if (guest.kind === 'calc') return true;
  if (guest.kind === 'flat') return false;
  const head = Buffer.alloc(XLOADFLAGS + 2);
  try {
    const file = openSync(guest.kind === 'linux' ? guest.kernel : guest.file, 'r');
    try {
      readSync(file, head, 0, head.length, 0);
    } finally {
      closeSync(file);
    }
  } catch {
    // Whoever starts the machine says what is wrong with the file.
    return false;
  }
  if (head.toString('latin1', 0, 4) === '\x7fELF') return head[ELF_CLASS] === ELF_CLASS_64;
  const isBzImage = head.toString('latin1', BZIMAGE_MAGIC, BZIMAGE_MAGIC + 4) === 'HdrS';
  return isBzImage && (head.readUInt16LE(XLOADFLAGS) & XLF_KERNEL_64) !== 0;
}
