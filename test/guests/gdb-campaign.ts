import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { debugged, gdb, printed } from './gdb-rig.ts';
import { fetchGuests } from './scenarios.ts';
import { parseSymbols, symbolsElf } from './symbols-elf.ts';

/**
 * `npm run campaign:gdb [BACKEND]`: the system's gdb on Debian's cloud kernel. Its package has no symbols, so a first
 * boot tells them, from /proc/kallsyms; the second one is debugged from its first instruction, and boots to its shell.
 */

const backend = process.argv[2] === 'kvm' ? 'kvm' : 'emulated';
const missing = fetchGuests(['cloud', 'initrd']);
if (missing !== null) throw new Error(missing);
const guests = join(import.meta.dirname ?? '.', '../../.cache/guests');
const guest = {
  kind: 'linux' as const,
  kernel: join(guests, 'vmlinuz-cloud'),
  initrd: join(guests, 'initrd-amd64.gz'),
  append: 'console=ttyS0 panic=-1 nokaslr',
};
const memory = 256 * 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'vitrine-gdb-'));

const wanted = [
  '_text',
  'start_kernel',
  'rest_init',
  'kernel_clone',
  'linux_banner',
  'jiffies_64',
  '__x64_sys_newuname',
];

console.log(`backend ${backend}: asking the kernel for its symbols`);
const first = await debugged({ guest, memory, backend }, { runs: true });
await printed(first.machine, 'guest# ');
first.machine.serial[0]!.write(
  Buffer.from(`grep -E ' (${wanted.join('|')})$' /proc/kallsyms; echo SY''MBOLS\n`),
);
const symbols = parseSymbols((await printed(first.machine, 'SYMBOLS\r\n')).replaceAll('\r', ''));
await first.server.close();
await first.machine.powerOff();
console.log(symbols.map(({ name, address }) => `  ${address.toString(16)} ${name}`).join('\n'));
const file = join(folder, 'symbols.elf');
writeFileSync(file, symbolsElf(symbols));

console.log('debugging it from its first instruction');
const { machine, server, address } = await debugged({ guest, memory, backend });
// At its shell the kernel is asked its name: that is the last breakpoint.
const asked = printed(machine, 'guest# ').then(() => machine.serial[0]!.write(Buffer.from('uname\n')));
const said = await gdb(
  address,
  [
    ...[
      'printf "FIRST %#lx\\n", $pc',
      'hbreak start_kernel',
      'continue',
      'bt 1',
      'x/3i $pc',
      'info registers cr3 efer',
    ],
    ...[
      'x/s (char *) &linux_banner',
      'monitor registers cr0 cr4',
      'delete',
      'break kernel_clone',
      'continue',
      'bt 1',
    ],
    ...['printf "STEPS %#lx", $pc', 'stepi 20', 'printf " to %#lx\\n", $pc', 'delete'],
    ...[
      'watch *(long *) &jiffies_64',
      'continue',
      'info watchpoints',
      'delete',
      'hbreak __x64_sys_newuname',
      'continue',
    ],
    ...['p $fs_base != 0', 'p $cs', 'info threads', 'delete', 'monitor exits 5', 'monitor memory', 'detach'],
  ],
  { file, seconds: 3600 },
);
console.log(said);
for (const pattern of [
  /FIRST 0x[0-9a-f]+/,
  /Breakpoint 1, 0xffffffff[0-9a-f]+ in start_kernel \(\)/,
  /Linux version 6\.1/,
  /Breakpoint 2, 0xffffffff[0-9a-f]+ in kernel_clone \(\)/,
  /STEPS 0xffffffff[0-9a-f]+.*\n to 0xffffffff[0-9a-f]+/,
  /Hardware watchpoint 3: .*\n\nOld value = \d+\nNew value = \d+/,
  /Breakpoint 4, 0xffffffff[0-9a-f]+ in __x64_sys_newuname \(\)/,
  /\[Inferior 1 .* detached\]/,
]) {
  if (!pattern.test(said)) throw new Error(`gdb did not say ${pattern}`);
}
await asked;
await printed(machine, '\nLinux\r\n');
await server.close();
await machine.powerOff();
rmSync(folder, { recursive: true });
console.log('the kernel went on, and told its name');
