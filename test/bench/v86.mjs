/**
 * Runs v86 with the guest's serial port on stdin and stdout, for peers.ts: a process of its own, as each peer is, and plain
 * JavaScript, so that its start costs nothing that isn't v86's.
 *
 *   node test/bench/v86.mjs KERNEL INITRD|- APPEND MEMORY [BIOS VGA-BIOS]
 *
 * With a BIOS the kernel is a bzImage, without one it is multiboot. MEMORY is in MiB.
 */
import { readFileSync } from 'node:fs';
import { V86 } from 'v86';

const [kernel, initrd, append, memory, bios, vgaBios] = process.argv.slice(2);
const image = (file) => ({ buffer: new Uint8Array(readFileSync(file)).buffer });

const emulator = new V86({
  ...(bios === undefined
    ? { multiboot: image(kernel) }
    : { bzimage: image(kernel), bios: image(bios), vga_bios: image(vgaBios) }),
  ...(initrd === '-' ? {} : { initrd: image(initrd) }),
  cmdline: append,
  wasm_path: new URL('v86.wasm', import.meta.resolve('v86')).pathname,
  memory_size: Number(memory) * 2 ** 20,
  vga_memory_size: 2 * 2 ** 20,
  autostart: true,
  disable_speaker: true,
});

// Whole lines: a write for each byte would be measured too.
let line = '';
emulator.add_listener('serial0-output-byte', (byte) => {
  line += String.fromCharCode(byte);
  if (byte !== 10) return;
  process.stdout.write(line, 'latin1');
  line = '';
});
process.stdin.on('data', (bytes) => emulator.serial0_send(bytes.toString('latin1')));
