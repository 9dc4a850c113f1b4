import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Guests of a few instructions for 0x7C00, real mode; written by hand, as bytes with what they mean. */

/** mov dx, 0x3f8; mov al, c; out dx, al */
const print = (c: string): number[] => [0xba, 0xf8, 0x03, 0xb0, c.charCodeAt(0), 0xee];
/** mov dx, 0x604; mov ax, 0x3400; out dx, ax: ACPI S5 */
const off = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x34, 0xef];
const hang = [0xfa, 0xeb, 0xfe];

/** A handler for interrupt `vector` at 0x7C80: mov word [4v], 0x7c80; mov word [4v+2], 0 */
const handle = (vector: number): number[] => [
  ...[0xc7, 0x06, 4 * vector, 0, 0x80, 0x7c],
  ...[0xc7, 0x06, 4 * vector + 2, 0, 0, 0],
];

/** Code at 0x7C00, and more of it at 0x7C80. */
function program(code: number[], handler: number[] = []): Uint8Array {
  const bytes = new Uint8Array(256);
  bytes.set(code);
  bytes.set(handler, 0x80);
  return bytes;
}

export const flatGuests = {
  /** lidt [0x7cf0] (all zero there); int3: nothing can be delivered. */
  tripleFault: program([...print('T'), 0x0f, 0x01, 0x1e, 0xf0, 0x7c, 0xcc]),
  /** cli; jmp $ */
  spin: program(hang),
  /** Prints for ever. */
  flood: program([0xba, 0xf8, 0x03, 0xb0, 0x2e, 0xee, 0xeb, 0xfd]),
  /** Prints, then resets through the i8042: boots for ever. */
  reset: program([...print('R'), 0xb0, 0xfe, 0xe6, 0x64, ...hang]),
  /** in eax, dx from port 0x9999; prints Y when it is all ones; switches itself off. */
  nothing: program([0xba, 0x99, 0x99, 0x66, 0xed, 0x66, 0x40, 0x75, 0x06, ...print('Y'), ...off, ...hang]),
  /** ud2 with a handler that prints U and switches the machine off. */
  undefined: program([...handle(6), 0x0f, 0x0b], [...print('U'), ...off, ...hang]),
  /** Echoes what it receives: waits for LSR.DR, in, out. */
  echo: program([0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xb2, 0xf8, 0xec, 0xee, 0xeb, 0xf2]),
} as const;

/** Writes one into a folder and gives the words for `--flat`. */
export function flatOption(folder: string, name: keyof typeof flatGuests): string {
  const path = join(folder, `${name}.bin`);
  writeFileSync(path, flatGuests[name]);
  return `${path}@0x7c00`;
}
