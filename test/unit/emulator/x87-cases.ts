import { Case, Fxsave, WINDOW } from '../../differential/case.ts';
import { Random } from '../../differential/random.ts';

/** Random cases of single x87 instructions: what is in the registers, the control word and memory. */

/** Encodings of an instruction: ModRM bytes after D8-DF; memory forms address [RDI]. */
export interface Encoding {
  readonly bytes: readonly number[];
  /** What is at [RDI]. */
  readonly memory?:
    | 'single'
    | 'double'
    | 'extended'
    | 'word'
    | 'doubleword'
    | 'quadword'
    | 'decimal'
    | 'environment'
    | 'control';
}

const BIAS = 0x3fff;
const INTEGER = 1n << 63n;
const ONES = INTEGER - 1n;

/** Where [RDI] points: in the middle of the pattern. */
export const OPERAND = WINDOW + 64;
const CODE_AT = 0x20000100;

export class CaseMaker {
  readonly random: Random;

  constructor(seed: number, stream: number) {
    this.random = new Random(seed, stream);
  }

  /** 63 bits of fraction with something interesting in them. */
  private fraction(): bigint {
    const { random } = this;
    const wide = random.u64() & ONES;
    switch (random.below(12)) {
      case 0:
        return 0n;
      case 1:
        return ONES;
      case 2:
        return 1n << BigInt(random.below(63));
      case 3:
        return ONES ^ (1n << BigInt(random.below(63)));
      case 4: // The end of a binary64 or a binary32, and halfway between two.
        return (wide & ~0x7ffn) | random.pick([0n, 0x400n, 0x3ffn, 0x401n]);
      case 5:
        return (wide & ~0xffffffffffn) | random.pick([0n, 0x8000000000n, 0x7fffffffffn, 0x8000000001n]);
      case 6:
        return (ONES << BigInt(random.below(63))) & ONES;
      case 7:
        return BigInt(random.below(16)) << BigInt(random.below(60));
      default:
        return wide;
    }
  }

  private exponent(): number {
    const { random } = this;
    switch (random.below(14)) {
      case 0:
        return 1 + random.below(70);
      case 1:
        return 0x7ffe - random.below(70);
      case 2:
        return BIAS + 1023 - random.below(4);
      case 3:
        return BIAS - 1022 - random.below(56) + 2;
      case 4:
        return BIAS + 127 - random.below(4);
      case 5:
        return BIAS - 126 - random.below(26) + 2;
      case 6:
        return 1 + random.below(0x7ffe);
      case 7:
        return BIAS + 63 - random.below(4);
      case 8:
      case 9:
        return BIAS + random.below(66);
      default:
        return BIAS + random.below(20) - 10;
    }
  }

  /** An extended real as two numbers. */
  extended(): { significand: bigint; high: number } {
    const { random } = this;
    const sign = random.once(2) ? 0x8000 : 0;
    const fraction = this.fraction();
    switch (random.below(40)) {
      case 0:
      case 1:
        return { significand: 0n, high: sign };
      case 2:
        return { significand: fraction >> BigInt(random.below(63)), high: sign };
      case 3: // Pseudo-denormal
        return { significand: INTEGER | fraction, high: sign };
      case 4:
        return { significand: INTEGER, high: sign | 0x7fff };
      case 5: // Quiet NaN
        return { significand: (3n << 62n) | fraction, high: sign | 0x7fff };
      case 6: // Signalling NaN
        return {
          significand: INTEGER | (fraction & (ONES >> 1n)) | BigInt(random.below(2)),
          high: sign | 0x7fff,
        };
      case 7: // Unnormal
        return { significand: fraction, high: sign | this.exponent() };
      case 8: // Pseudo-infinity or pseudo-NaN
        return { significand: random.once(2) ? 0n : fraction, high: sign | 0x7fff };
      case 9: // Small integer
        return this.integer(BigInt(random.below(100) - 50));
      case 10:
        return this.integer(BigInt.asIntN(random.pick([16, 17, 32, 33, 60, 64]), random.u64()));
      default:
        return { significand: INTEGER | fraction, high: sign | this.exponent() };
    }
  }

  private integer(value: bigint): { significand: bigint; high: number } {
    if (value === 0n) return { significand: 0n, high: 0 };
    let magnitude = value < 0n ? -value : value;
    let exponent = BIAS + 63;
    for (; magnitude < INTEGER; exponent--) magnitude <<= 1n;
    return { significand: magnitude, high: exponent | (value < 0n ? 0x8000 : 0) };
  }

  controlWord(): number {
    const { random } = this;
    const masks = random.once(4) ? random.below(64) : random.once(4) ? 0x3f ^ (1 << random.below(6)) : 0x3f;
    return 0x40 | masks | (random.pick([0, 1, 2, 2, 3, 3, 3]) << 8) | (random.below(4) << 10);
  }

  private memory(kind: NonNullable<Encoding['memory']>, view: DataView): void {
    const { random } = this;
    const real = this.extended();
    view.setBigUint64(0, random.u64(), true);
    view.setBigUint64(8, random.u64(), true);
    switch (kind) {
      case 'extended':
        view.setBigUint64(0, real.significand, true);
        view.setUint16(8, real.high, true);
        break;
      case 'single':
      case 'double': {
        const [fraction, exponentBits] = kind === 'single' ? [23, 8] : [52, 11];
        const special = 2 ** exponentBits - 1;
        const exponent = random.pick([
          0,
          0,
          1,
          special,
          special,
          special - 1,
          ...Array.from({ length: 8 }, () => random.below(special)),
          ...Array.from({ length: 8 }, () => (special >> 1) + random.below(40) - 20),
        ]);
        const sign = BigInt(random.below(2));
        const bits = this.fraction() >> BigInt(63 - fraction);
        const value = (((sign << BigInt(exponentBits)) | BigInt(exponent)) << BigInt(fraction)) | bits;
        if (kind === 'single') view.setUint32(0, Number(value), true);
        else view.setBigUint64(0, value, true);
        break;
      }
      case 'decimal':
        for (let i = 0; i < 9; i++) view.setUint8(i, random.below(10) | (random.below(10) << 4));
        if (random.once(6)) view.setBigUint64(0, 0n, true);
        view.setUint8(9, random.u32());
        break;
      case 'control':
        view.setUint16(0, random.once(4) ? random.below(65536) : this.controlWord(), true);
        break;
      default: // Integers
        if (random.once(3)) view.setBigInt64(0, BigInt(random.below(20) - 10), true);
        if (random.once(10)) view.setBigUint64(0, INTEGER | 0x8000000080008000n, true);
    }
  }

  /** A case that runs the instruction once. `fullStack`: how often every register is in use, one in n is not. */
  make(encoding: Encoding): Case {
    const { random } = this;
    const made = new Case();
    made.rflags = 0x202n | (BigInt(random.u32()) & 0x8d5n);
    made.rip = CODE_AT;
    for (let i = 0; i < 16; i++) made.setGpr(i, random.u64());
    made.setGpr(7, BigInt(OPERAND));
    made.setGpr(4, BigInt(WINDOW + 0x1000));
    for (let i = 0; i < 256; i += 8) {
      new DataView(made.pattern.buffer, made.pattern.byteOffset + i).setBigUint64(0, random.u64());
    }
    if (encoding.memory) {
      this.memory(encoding.memory, new DataView(made.pattern.buffer, made.pattern.byteOffset + 64, 112));
    }
    made.code = Uint8Array.from(encoding.bytes);

    const view = new DataView(made.fxsave.buffer, made.fxsave.byteOffset, 512);
    const control = this.controlWord();
    view.setUint16(Fxsave.FCW, control, true);
    const raised = random.once(2) ? random.below(128) : 0;
    // Mostly nothing is pending.
    const exceptions = random.once(40) ? raised : raised & (control | 0x40);
    view.setUint16(Fxsave.FSW, exceptions | (random.u32() & 0x7f00), true);
    made.fxsave[Fxsave.FTW] = random.once(4)
      ? random.below(256)
      : random.once(2)
        ? 0xff
        : 0x7f ^ (random.once(2) ? 0xff : 0);
    view.setUint32(Fxsave.MXCSR, 0x1f80, true);
    const top = (view.getUint16(Fxsave.FSW, true) >> 11) & 7;
    // Loads need a free register, the others ST(0) and ST(1).
    if (!random.once(8)) {
      const tags = random.once(2) ? 0xff & ~(1 << ((top + 7) & 7)) : 0x7f;
      made.fxsave[Fxsave.FTW] = tags | (1 << top) | (1 << ((top + 1) & 7));
    }
    for (let i = 0; i < 8; i++) {
      const { significand, high } = this.extended();
      view.setBigUint64(Fxsave.ST + 16 * i, significand, true);
      view.setUint16(Fxsave.ST + 16 * i + 8, high, true);
    }
    if (random.once(6)) this.relate(view);
    return made;
  }

  /** Makes ST(1) much like ST(0): cancellation, ties and equal operands. */
  private relate(view: DataView): void {
    const { random } = this;
    const at = Fxsave.ST;
    const significand = view.getBigUint64(at, true);
    const change = random.pick([0n, 1n, -1n, 1n << 11n, 1n << 40n, random.u64() >> BigInt(random.below(64))]);
    const exponent = view.getUint16(at + 8, true) + random.pick([0, 0, 1, -1, 63, 64, -64, 65]);
    view.setBigUint64(at + 16, BigInt.asUintN(64, significand + change), true);
    view.setUint16(at + 24, (exponent ^ (random.once(2) ? 0x8000 : 0)) & 0xffff, true);
  }
}
