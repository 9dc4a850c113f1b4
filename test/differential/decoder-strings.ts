/** Random byte strings that exercise an instruction decoder. */

/** Bytes from one string to the next: one more than the longest instruction. */
export const SLOT = 16;

/** A source of 32-bit unsigned random numbers (xorshift) that its seed determines. */
export function randomSource(seed: number): () => number {
  let state = Math.imul(seed | 0, 0x9e3779b1) ^ 0x5bd1e995 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Opcodes after 0F that each ModRM byte makes another instruction of. */
const crowded = [0x00, 0x01, 0x0d, 0x18, 0x1e, 0x71, 0x72, 0x73, 0xae, 0xba, 0xc7];

const prefixes = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];

/** Fills `bytes` with strings: one of four is noise, the others are shaped like instructions. */
export function fillStrings(bytes: Uint8Array, mode: number, random: () => number): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] = random() >>> 11;
  for (let at = 0; at + SLOT <= bytes.length; at += SLOT) {
    const choice = random();
    if ((choice & 3) === 0) continue;
    let cursor = at;
    // Few prefixes mostly, and now and then enough to reach the length limit.
    const many = (choice & 0x1fc) === 0 ? 16 : 4;
    let count = (choice >>> 9) % many;
    if ((choice & 0x600) === 0) count = 0;
    for (; count > 0 && cursor < at + SLOT; count--) bytes[cursor++] = prefixes[random() % prefixes.length]!;
    if (mode === 64 && (random() & 1) !== 0) bytes[cursor++] = 0x40 | (random() & 15);
    const map = (random() >>> 8) % 8;
    if (map >= 3) bytes[cursor++] = 0x0f;
    if (map === 6) bytes[cursor++] = 0x38;
    if (map === 7) bytes[cursor++] = 0x3a;
    // The opcode is random already. ModRM: often the special cases of memory addressing.
    const special = random();
    if ((special & 3) === 0) bytes[cursor + 1] = ((special >>> 8) & 0xf8) | 4 | ((special >>> 16) & 1);
    if ((special & 0x70) === 0) {
      // One of eight is crowded: x87 or one of those above, its ModRM byte random.
      if (map < 3) bytes[cursor] = 0xd8 | (special >>> 29);
      else if (map < 6) bytes[cursor] = crowded[(special >>> 8) % crowded.length]!;
    }
    if ((special & 12) === 0) bytes[cursor + 2] = ((special >>> 18) & 0xf8) | 4 | ((special >>> 17) & 1);
  }
}
