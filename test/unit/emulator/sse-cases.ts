import { Case, CODE, Fxsave, PATTERN, WINDOW } from '../../differential/case.ts';
import { Random } from '../../differential/random.ts';
import { allTemplates, APPROXIMATE, type Template } from '../../differential/templates.ts';

/**
 * Cases for SSE and MMX instructions: straight code whose operands are always there and aligned, with values
 * that reals round, overflow, vanish and cancel at, under every MXCSR.
 */

const RSP = 4;
const RSI = 6;
const SINGLE = { bits: 32n, fraction: 23n, special: 0xff, bias: 0x7f };
const DOUBLE = { bits: 64n, fraction: 52n, special: 0x7ff, bias: 0x3ff };
type Format = typeof SINGLE;

/** Exponents where something happens: the ends, 1, the integers' limits, half of the range (for products). */
function exponent(random: Random, { special, bias }: Format): number {
  const base = random.pick([0, 1, special - 1, special, bias, bias, bias, bias >> 1, bias + (bias >> 1)]);
  const limit = random.pick([
    base,
    bias + 31,
    bias + 63,
    bias + 15,
    bias + 23,
    bias + 52,
    random.below(special),
  ]);
  return Math.min(special, Math.max(0, limit + random.below(5) - 2));
}

function fraction(random: Random, { fraction: size }: Format): bigint {
  const all = (1n << size) - 1n;
  const place = BigInt(random.below(Number(size)));
  switch (random.below(8)) {
    case 0:
      return 0n;
    case 1:
      return all;
    case 2:
      return 1n << place;
    case 3:
      return (all >> place) << place;
    case 4:
      return all >> place;
    case 5:
      return (1n << (size - 1n)) | 1n;
    default:
      return random.u64() & all;
  }
}

function real(random: Random, format: Format): bigint {
  const sign = random.once(2) ? 1n << (format.bits - 1n) : 0n;
  if (random.once(10)) return sign;
  return sign | (BigInt(exponent(random, format)) << format.fraction) | fraction(random, format);
}

const BOUNDARIES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];
function integers(random: Random): bigint {
  const size = random.pick([8, 16, 32]);
  let value = 0n;
  for (let at = 0; at < 64; at += size) {
    const lane = random.once(2) ? random.pick(BOUNDARIES) : random.u32();
    value |= BigInt.asUintN(size, BigInt(lane)) << BigInt(at);
  }
  return value;
}

/** Text that string comparisons find parts of. */
function text(random: Random): bigint {
  const letters = random.pick(['ab', 'abc\0', 'az09', 'aab\0\x7f\x80']);
  let value = 0n;
  for (let i = 0; i < 8; i++) {
    value = (value << 8n) | BigInt(letters.charCodeAt(random.below(letters.length)));
  }
  return value;
}

export type Kind = 'single' | 'double' | 'integer' | 'text';

function quadword(random: Random, kind: Kind): bigint {
  switch (kind) {
    case 'single':
      return real(random, SINGLE) | (real(random, SINGLE) << 32n);
    case 'double':
      return real(random, DOUBLE);
    case 'integer':
      return integers(random);
    case 'text':
      return text(random);
  }
}

function mxcsr(random: Random): number {
  // What most programs run with, once they have rounded something.
  if (random.once(3)) return 0x1fa0;
  const masks = random.once(3) ? (random.u32() & 0x3f) << 7 : 0x1f80;
  const flags = random.once(2) ? random.u32() & 0x3f : 0;
  return masks | flags | (random.once(2) ? random.u32() & 0xe040 : 0);
}

/** All templates of SSE and MMX instructions, and CRC32. */
export function templatesOf(mnemonic: RegExp): Template[] {
  return allTemplates().filter(
    (template) =>
      (template.group === 'sse' || template.group === 'mmx' || template.mnemonic === 'crc32') &&
      mnemonic.test(template.mnemonic),
  );
}

/** What operands suit a mnemonic. */
export function kindOf(mnemonic: string): Kind {
  if (/^pcmp[ei]str/.test(mnemonic)) return 'text';
  if (/(ps|ss|pi2p.|ps2..|ss2..)$/.test(mnemonic)) return 'single';
  return /(pd|sd|pd2..|sd2..|si)$/.test(mnemonic) && !/^p/.test(mnemonic) ? 'double' : 'integer';
}

export class SseCases {
  private readonly templates: readonly Template[];
  private readonly kind: Kind;
  private readonly seed: number;

  /** Cases of the forms of one mnemonic. */
  constructor(seed: number, templates: readonly Template[]) {
    this.seed = seed;
    this.templates = templates;
    this.kind = kindOf(templates[0].mnemonic);
  }

  make(index: number): Case {
    const random = new Random(this.seed, index);
    const made = new Case();
    const kind = (): Kind => (random.once(6) ? random.pick(['single', 'double', 'integer']) : this.kind);
    for (let i = 0; i < 16; i++) made.setGpr(i, integers(random));
    for (const length of [0, 2]) if (random.once(2)) made.setGpr(length, BigInt(random.below(20)));
    // No instruction uses RSP, and some virtual machines get exceptions wrong when it is not canonical.
    made.setGpr(RSP, BigInt(WINDOW + 0x1000));
    made.setGpr(RSI, BigInt(WINDOW + 0x400));
    made.setGpr(7, BigInt(WINDOW + 0x800 + random.below(64)));
    const pattern = new DataView(made.pattern.buffer, made.pattern.byteOffset, PATTERN);
    for (let at = 0; at < PATTERN; at += 8) pattern.setBigUint64(at, quadword(random, kind()), true);
    const image = new DataView(made.fxsave.buffer, made.fxsave.byteOffset, 512);
    image.setUint16(Fxsave.FCW, 0x37f, true);
    image.setUint16(Fxsave.FSW, random.below(8) << 11, true);
    made.fxsave[Fxsave.FTW] = random.pick([0, 0xff]);
    image.setUint32(Fxsave.MXCSR, mxcsr(random), true);
    image.setUint32(Fxsave.MASK, 0xffff, true);
    for (let i = 0; i < 8; i++) {
      image.setBigUint64(Fxsave.ST + 16 * i, quadword(random, kind()), true);
      image.setUint16(Fxsave.ST + 16 * i + 8, 0xffff, true);
    }
    for (let i = 0; i < 32; i++) image.setBigUint64(Fxsave.XMM + 8 * i, quadword(random, kind()), true);
    made.rflags = BigInt((random.u32() & 0x8d5) | 0x202);
    made.rip = CODE + 0x100;
    const code: number[] = [];
    // An estimate of an estimate would differ by more than either may.
    const length = APPROXIMATE.has(this.templates[0].mnemonic) ? 1 : 4;
    for (let i = 0; i < length; i++) emit(random, random.pick(this.templates), code);
    made.code = Uint8Array.from(code);
    return made;
  }
}

function emit(random: Random, template: Template, code: number[]): void {
  const memory = template.rm === 'memory' || (template.rm === 'any' && random.once(5));
  const reg = template.reg >= 0 ? template.reg : random.below(16);
  const rm = memory ? RSI : random.below(16);
  if (template.operand16) code.push(0x66);
  if (template.mandatory !== 0) code.push(template.mandatory);
  const rex = (template.rexW ? 8 : 0) | (reg > 7 ? 4 : 0) | (rm > 7 ? 1 : 0);
  // RSI and RDI hold addresses: a result must not go there.
  const spared = reg === RSI || reg === 7 || (!memory && (rm === RSI || rm === 7));
  const forced = spared && template.reg < 0 ? 5 : 0;
  if ((rex | forced) !== 0) code.push(0x40 | rex | (memory ? forced & 4 : forced));
  code.push(...template.opcode);
  if (template.modrm) {
    if (memory) {
      const offset = 16 * random.below(16);
      code.push(0x80 | ((reg & 7) << 3) | RSI, offset, 0, 0, 0);
    } else code.push(0xc0 | ((reg & 7) << 3) | (rm & 7));
  }
  for (let i = 0; i < template.immediate; i++) code.push(random.u32() & 0xff);
}
