import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { library } from './address.ts';

/** Small real-mode programs for COM1, each a flat binary loaded at 0x7c00. */
const ORIGIN = 0x7c00;

function save(name: string, code: Uint8Array): string {
  const folder = join(library, 'guests');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}.bin`);
  writeFileSync(file, code);
  return file;
}

/** Prints a text once and halts. */
export function printing(text: string): string {
  const code = [
    ...[0xbe, 0x00, 0x00], //           mov si, text
    ...[0xac], //                 next: lodsb
    ...[0x84, 0xc0], //                 test al, al
    ...[0x74, 0x06], //                 jz end
    ...[0xba, 0xf8, 0x03], //           mov dx, 0x3f8
    ...[0xee], //                       out dx, al
    ...[0xeb, 0xf5], //                 jmp next
    ...[0xf4], //                  end: hlt
    ...[0xeb, 0xfd], //                 jmp end
  ];
  const start = ORIGIN + code.length;
  code[1] = start & 0xff;
  code[2] = start >> 8;
  return save('printing', Uint8Array.of(...code, ...Buffer.from(text), 0));
}

/** Prints one character for ever, and between two of them does nothing for so many instructions. */
export function flooding(idle = 1): string {
  const code = [
    ...[0xba, 0xf8, 0x03], //           mov dx, 0x3f8
    ...[0xb0, 0x78], //                 mov al, 'x'
    ...[0xee], //                 next: out dx, al
    ...[0xb9, idle & 0xff, idle >> 8], // mov cx, idle
    ...[0xe2, 0xfe], //           wait: loop wait
    ...[0xeb, 0xf8], //                 jmp next
  ];
  return save(`flooding-${idle}`, Uint8Array.from(code));
}

/** Asks the terminal where its cursor is, then prints what comes in, an escape as ^. */
export function asking(): string {
  const print = (character: string): number[] => [0xb0, character.charCodeAt(0), 0xee];
  const code = [
    ...[0xba, 0xf8, 0x03], //           mov dx, 0x3f8
    ...['\x1b', '[', '6', 'n'].flatMap(print), // mov al, character; out dx, al
    ...[0xba, 0xfd, 0x03], //     next: mov dx, 0x3fd
    ...[0xec], //                       in al, dx
    ...[0xa8, 0x01], //                 test al, 1
    ...[0x74, 0xf8], //                 jz next
    ...[0xba, 0xf8, 0x03], //           mov dx, 0x3f8
    ...[0xec], //                       in al, dx
    ...[0x3c, 0x1b], //                 cmp al, 0x1b
    ...[0x75, 0x02], //                 jne show
    ...[0xb0, 0x5e], //                 mov al, '^'
    ...[0xee], //                 show: out dx, al
    ...[0xeb, 0xeb], //                 jmp next
  ];
  return save('asking', Uint8Array.from(code));
}

/** Takes away its own interrupt table and interrupts: a triple fault. */
export function crashing(): string {
  const code = [
    ...[0x0f, 0x01, 0x1e, 0x10, 0x7c], // lidt [0x7c10]: a limit and base of 0
    ...[0xcc], //                         int3
    ...Array<number>(18).fill(0),
  ];
  return save('crashing', Uint8Array.from(code));
}
