import { CODE, Fxsave, PATTERN, WINDOW, WINDOW_SIZE, WINDOW_WRITABLE } from './case.ts';
import type { Random } from './random.ts';

/** Values that find faults: boundaries, special numbers, addresses, and some that are just random. */

const SPECIAL64: readonly bigint[] = [
  ...[
    0n,
    1n,
    2n,
    3n,
    7n,
    8n,
    15n,
    16n,
    31n,
    32n,
    33n,
    63n,
    64n,
    65n,
    0x7fn,
    0x80n,
    0xffn,
    0x100n,
    0x7fffn,
    0x8000n,
  ],
  ...[
    0xffffn,
    0x10000n,
    0x7fffffffn,
    0x80000000n,
    0xffffffffn,
    0x100000000n,
    0x7fffffffffffn,
    0x800000000000n,
  ],
  ...[
    0x7fffffffffffffffn,
    0x8000000000000000n,
    0x8000000000000001n,
    0xfffffffffffffffen,
    0xffffffffffffffffn,
  ],
  ...[
    0xffffffff80000000n,
    0xffffffffffffff80n,
    0xffffffffffff8000n,
    0xffff800000000000n,
    0x5555555555555555n,
  ],
  ...[
    0xaaaaaaaaaaaaaaaan,
    0x0102030405060708n,
    0x8080808080808080n,
    0x7f7f7f7f7f7f7f7fn,
    0x3030303030303030n,
  ],
];

/** Bits of doubles: zeros, ones, limits, denormals, infinities, quiet and signalling NaNs, edges of integers. */
const DOUBLES: readonly bigint[] = [
  ...[
    0n,
    0x8000000000000000n,
    0x3ff0000000000000n,
    0xbff0000000000000n,
    0x3fe0000000000000n,
    0x4000000000000000n,
  ],
  ...[
    0x3ff8000000000000n,
    0x4004000000000000n,
    0x7fefffffffffffffn,
    0xffefffffffffffffn,
    0x0010000000000000n,
  ],
  ...[
    0x8010000000000000n,
    0x0000000000000001n,
    0x800fffffffffffffn,
    0x000fffffffffffffn,
    0x7ff0000000000000n,
  ],
  ...[
    0xfff0000000000000n,
    0x7ff8000000000000n,
    0xfff8000000000000n,
    0x7ff0000000000001n,
    0xfff4000000000000n,
  ],
  ...[
    0x7ff8000000012345n,
    0x41dfffffffc00000n,
    0x41e0000000000000n,
    0xc1e0000000200000n,
    0x43e0000000000000n,
  ],
  ...[
    0xc3e0000000000000n,
    0x43dfffffffffffffn,
    0x43f0000000000000n,
    0x3ff0000000000001n,
    0x3fefffffffffffffn,
  ],
  ...[
    0x36a0000000000000n,
    0x380fffffe0000000n,
    0x47efffffe0000000n,
    0x47effffff0000000n,
    0x3690000000000000n,
  ],
];
const SINGLES: readonly number[] = [
  ...[
    0, 0x80000000, 0x3f800000, 0xbf800000, 0x3f000000, 0x40000000, 0x3fc00000, 0x40200000, 0x7f7fffff,
    0xff7fffff,
  ],
  ...[
    0x00800000, 0x80800000, 0x00000001, 0x807fffff, 0x007fffff, 0x7f800000, 0xff800000, 0x7fc00000,
    0xffc00000,
  ],
  ...[
    0x7f800001, 0xffa00000, 0x7fc12345, 0x4effffff, 0x4f000000, 0xcf000000, 0xcf000001, 0x5effffff,
    0x5f000000,
  ],
  ...[0x3f800001, 0x3f7fffff, 0x4b000001, 0x4b7fffff, 0x33800000, 0x0c000000],
];
/** Sign and exponent words of extended reals, and their significands: every class, with the ones that don't exist. */
const EXPONENTS = [
  0, 0, 1, 0x3ffe, 0x3fff, 0x3fff, 0x4000, 0x400e, 0x401e, 0x403e, 0x403f, 0x43fe, 0x7ffe, 0x7fff,
];
const SIGNIFICANDS: readonly bigint[] = [
  ...[
    0x8000000000000000n,
    0x8000000000000000n,
    0xc000000000000000n,
    0xffffffffffffffffn,
    0xa000000000000000n,
  ],
  ...[0n, 1n, 0x7fffffffffffffffn, 0x4000000000000000n, 0x8000000000000001n, 0xbfffffffffffffffn],
  ...[
    0x8000000000000400n,
    0x8000000000000800n,
    0x80000000000003ffn,
    0x8000008000000000n,
    0xfffffffffffffc00n,
  ],
];

export function integer(random: Random): bigint {
  switch (random.below(8)) {
    case 0:
    case 1:
    case 2:
      return random.pick(SPECIAL64);
    case 3:
      return BigInt(random.below(256));
    case 4:
      return BigInt.asUintN(64, -BigInt(random.below(256)));
    case 5:
      return BigInt(random.u32());
    case 6:
      return 1n << BigInt(random.below(64));
    default:
      return random.u64();
  }
}

export function double(random: Random): bigint {
  if (random.once(2)) return random.pick(DOUBLES);
  if (random.once(4)) return random.u64();
  // Near 1: where results round.
  return (random.u64() & 0x800fffffffffffffn) | (BigInt(0x3ff - 40 + random.below(80)) << 52n);
}

export function single(random: Random): number {
  if (random.once(2)) return random.pick(SINGLES);
  if (random.once(4)) return random.u32();
  return ((random.u32() & 0x807fffff) | ((0x7f - 20 + random.below(40)) << 23)) >>> 0;
}

export function extended(random: Random): { significand: bigint; exponent: number } {
  if (random.once(4)) return { significand: random.u64(), exponent: random.u32() & 0xffff };
  if (random.once(3)) {
    const exponent = (0x3fff - 70 + random.below(140)) | (random.once(2) ? 0x8000 : 0);
    return { significand: random.u64() | (1n << 63n), exponent };
  }
  const exponent = random.pick(EXPONENTS) | (random.once(2) ? 0x8000 : 0);
  return { significand: random.pick(SIGNIFICANDS), exponent };
}

/** An address in the window, in most cases with room after it; sometimes at an edge, or across one. */
export function address(random: Random): number {
  if (random.once(24)) {
    const edge = random.pick([0, 0x1000, WINDOW_WRITABLE, WINDOW_SIZE]);
    return WINDOW + edge + random.below(48) - 32;
  }
  const align = random.pick([1, 4, 8, 16, 16, 16, 16, 64]);
  return WINDOW + 0x400 + Math.floor(random.below(0x1800) / align) * align;
}

/** Fills 8 bytes with something worth loading. */
function word(view: DataView, at: number, random: Random): void {
  switch (random.below(10)) {
    case 0:
      return view.setBigUint64(at, BigInt(address(random)), true);
    case 1:
      return view.setBigUint64(at, BigInt(CODE + 0x100 + random.below(0x400)), true);
    case 2:
    case 3:
      return view.setBigUint64(at, double(random), true);
    case 4:
      view.setUint32(at, single(random), true);
      return view.setUint32(at + 4, single(random), true);
    case 5: {
      // Text, for the string comparisons, and packed decimals.
      const alphabet = random.once(2) ? [0, 0x61, 0x61, 0x62, 0x7a, 0x41, 0x80] : [0, 0x12, 0x34, 0x99, 0x09];
      for (let i = 0; i < 8; i++) view.setUint8(at + i, random.pick(alphabet));
      return;
    }
    default:
      return view.setBigUint64(at, integer(random), true);
  }
}

/** What the window is filled with. `rax` and `rdx` are put there for CMPXCHG to find, now and then. */
export function fillPattern(
  pattern: Uint8Array,
  random: Random,
  x87: boolean,
  rax: bigint,
  rdx: bigint,
): void {
  const view = new DataView(pattern.buffer, pattern.byteOffset, PATTERN);
  if (random.once(12)) {
    // All the same: REP CMPS and SCAS go on.
    pattern.fill(random.pick([0, Number(rax & 0xffn), 0xff, 0x61]));
    return;
  }
  for (let at = 0; at < PATTERN; at += 8) word(view, at, random);
  if (x87) {
    for (let at = 0; at < PATTERN; at += 16) {
      if (random.once(2)) continue;
      const { significand, exponent } = extended(random);
      view.setBigUint64(at, significand, true);
      view.setUint16(at + 8, exponent, true);
    }
  }
  if (random.once(6)) {
    for (let at = 0; at < PATTERN; at += 32) {
      view.setBigUint64(at, rax, true);
      view.setBigUint64(at + 8, rdx, true);
    }
  }
  if (random.once(8)) {
    // A valid MXCSR, wherever FXRSTOR or LDMXCSR take it from.
    for (let at = 8; at < PATTERN; at += 16) view.setUint32(at, mxcsr(random), true);
  }
  clearMisalignedMode(pattern);
}

/** Takes bit 17 out of whatever FXRSTOR may find as MXCSR: it exists on AMD's processors alone. */
function clearMisalignedMode(pattern: Uint8Array): void {
  for (let at = 10; at < PATTERN; at += 16) pattern[at] &= 0xfd;
}

function mxcsr(random: Random): number {
  // Rounding, flush to zero, denormals are zeros; masks; flags.
  const modes = random.once(2) ? 0 : random.u32() & 0xe040;
  const masks = random.once(6) ? (random.u32() & 0x3f) << 7 : 0x1f80;
  return modes | masks | (random.once(4) ? random.u32() & 0x3f : 0);
}

/** An image for FXRSTOR. */
export function fillFxsave(image: Uint8Array, random: Random, x87: boolean): void {
  const view = new DataView(image.buffer, image.byteOffset, 512);
  const rounding = random.once(2) ? 0 : random.below(4);
  const precision = random.once(2) ? 3 : random.pick([0, 2, 3]);
  const masks = random.once(5) ? random.u32() & 0x3f : 0x3f;
  view.setUint16(Fxsave.FCW, 0x40 | masks | (precision << 8) | (rounding << 10), true);
  // Status: condition codes and a top; exceptions that are flagged but masked, now and then.
  const flagged = random.once(4) ? random.u32() & masks : 0;
  view.setUint16(Fxsave.FSW, (random.u32() & 0x4700) | (random.below(8) << 11) | flagged, true);
  image[Fxsave.FTW] = x87 && !random.once(4) ? 0xff & (random.u32() | random.u32()) : random.pick([0, 0xff]);
  view.setUint32(Fxsave.MXCSR, mxcsr(random), true);
  view.setUint32(Fxsave.MASK, 0xffff, true);
  for (let i = 0; i < 8; i++) {
    const { significand, exponent } = extended(random);
    view.setBigUint64(Fxsave.ST + 16 * i, significand, true);
    view.setUint16(Fxsave.ST + 16 * i + 8, exponent, true);
  }
  for (let i = 0; i < 32; i++) word(view, Fxsave.XMM + 8 * i, random);
}
