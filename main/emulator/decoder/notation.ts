/**
 * How the opcode maps are written, and the parser that turns their lines into rows.
 *
 * A line has five columns: key, prefix, mnemonic, operands, attributes.
 *
 * key         `BA`       opcode byte, with or without ModRM as the operands need
 *             `50+r`     eight opcodes, the register in the low three bits
 *             `70+c`     sixteen opcodes, the condition in the low four bits
 *             `BA/4`     ModRM.reg selects; `AE/0m` memory forms only, `71/2r` register forms only,
 *                        `01/7r0` one ModRM byte; `12m`, `12r` the form without the extension
 * prefix      `*`        no prefix selects: 66 is an operand size, F2 and F3 are REP or nothing
 *             `np` `66` `F3` `F2`, joined by `|`: the mandatory prefix. F2 and F3 (the last of them) win over
 *                        66. A row that 66 alone selects has no operand size prefix any more.
 *             `.W1`      with REX.W only
 * operands    SDM Vol. 2 A.2.1 and A.2.2: the letter is the addressing method (table below), the rest the size.
 *             `Rv/Mw` names two sizes, for the register and the memory form. `Z` is the register in the opcode
 *             byte, `sIb` a byte sign-extended to the operand size. M alone admits memory forms only; R, N and U
 *             alone register forms only.
 * attributes  lock       LOCK may stand before the memory form
 *             i64 o64    invalid in 64-bit mode; only in 64-bit mode
 *             d64        operand size 64 by default in 64-bit mode (66 makes it 16, there is no 32)
 *             f64        operand size always 64 in 64-bit mode
 *             noW        32 bits is the largest operand: REX.W means 32 (also with 66)
 *             anymod     ModRM.mod is ignored: always the register form
 *             cc=n       the condition, where the opcode doesn't spell it
 *             @feature   the CPUID feature, under its name in Linux' /proc/cpuinfo (SSE3 is `pni` there)
 *
 * Where several lines cover the same encoding, the narrowest of those whose feature is on holds: thus
 * `BD F3 lzcnt` cuts out of `BD * bsr`, and gives it back when the processor has no LZCNT.
 */
import type { Opcode } from '../instruction.ts';

/** How an operand is found. A packed operand is method | size code << 8 | (register size code or index) << 16. */
export const Method = {
  NONE: 0,
  /** ModRM.rm: a general register or memory (E, R, M). */
  RM_GPR: 1,
  /** ModRM.rm: an MMX register or memory (Q, N). */
  RM_MMX: 2,
  /** ModRM.rm: an XMM register or memory (W, U). */
  RM_XMM: 3,
  /** ModRM.rm: ST(i). */
  RM_ST: 4,
  REG_GPR: 5,
  REG_MMX: 6,
  REG_XMM: 7,
  REG_SEG: 8,
  REG_CR: 9,
  REG_DR: 10,
  /** A register in the opcode's low three bits. */
  OPCODE_GPR: 11,
  FIXED_GPR: 12,
  FIXED_SEG: 13,
  FIXED_ST: 14,
  /** The constant 1 of the shifts D0 and D1. */
  ONE: 15,
  /** A byte, zero-extended. */
  IMM8: 16,
  /** A byte, sign-extended. */
  IMM8_SIGNED: 17,
  /** A word, zero-extended. */
  IMM16: 18,
  /** A word or doubleword, sign-extended. */
  IMM_Z: 19,
  /** As wide as the operand. */
  IMM_V: 20,
  /** A byte after another immediate. */
  IMM8_SECOND: 21,
  REL8: 22,
  REL_Z: 23,
  FAR: 24,
  /** An address in the instruction, as wide as the address size. */
  OFFSET: 25,
} as const;

/** Sizes in bits for operand sizes 16, 32, 64 outside 64-bit mode, then the same in 64-bit mode. */
const sizes: Readonly<Record<string, readonly number[]>> = {
  '': [0, 0, 0, 0, 0, 0],
  b: [8, 8, 8, 8, 8, 8],
  w: [16, 16, 16, 16, 16, 16],
  d: [32, 32, 32, 32, 32, 32],
  ss: [32, 32, 32, 32, 32, 32],
  q: [64, 64, 64, 64, 64, 64],
  sd: [64, 64, 64, 64, 64, 64],
  t: [80, 80, 80, 80, 80, 80],
  dq: [128, 128, 128, 128, 128, 128],
  ps: [128, 128, 128, 128, 128, 128],
  pd: [128, 128, 128, 128, 128, 128],
  v: [16, 32, 64, 16, 32, 64],
  z: [16, 32, 32, 16, 32, 32],
  y: [32, 32, 64, 32, 32, 64],
  // A pair of bounds, a far pointer, a descriptor table's limit and base.
  a: [32, 64, 0, 32, 64, 0],
  p: [32, 48, 80, 32, 48, 80],
  s: [48, 48, 48, 80, 80, 80],
};
const sizeNames = Object.keys(sizes);

/** Bits of an operand at [size code * 6 + (64-bit mode ? 3 : 0) + (operand size 16, 32, 64 ? 0, 1, 2)]. */
export const sizeTable = Int16Array.from(sizeNames.flatMap((name) => sizes[name] ?? []));

/** Flags of a row. */
export const Flag = {
  MODRM: 1,
  LOCKABLE: 2,
  DEFAULT_64: 4,
  FORCE_64: 8,
  NO_W: 16,
  ANY_MOD: 32,
  /** 66 selected the row, so it isn't an operand size. */
  PREFIX_66: 64,
  /** Works on bytes: the operand size is 8. */
  BYTE: 128,
  /** REP and REPNE mean something. */
  STRING: 256,
} as const;

export interface Row {
  /** 0 one-byte, 1 0F, 2 0F 38, 3 0F 3A. */
  readonly map: number;
  readonly byte: number;
  /** Which prefixes select it: bits 0-3 none, 66, F3, F2 without REX.W, bits 4-7 the same with it. */
  readonly slots: number;
  /** ModRM.reg, or -1. */
  readonly extension: number;
  /** Whether memory forms and register forms belong to it. */
  readonly memoryForm: boolean;
  readonly registerForm: boolean;
  /** ModRM.rm, or -1. */
  readonly rm: number;
  readonly in64: boolean;
  readonly inLegacy: boolean;
  readonly flags: number;
  readonly condition: number;
  readonly operands: readonly number[];
  /** The operands as the map writes them. */
  readonly notation: string;
  readonly opcode: Opcode;
}

const prefixSlots: Readonly<Record<string, number>> = {
  '*': 0b1111,
  np: 0b0001,
  '66': 0b0010,
  F3: 0b0100,
  F2: 0b1000,
};

const fixedRegisters: Readonly<Record<string, readonly [method: number, size: string, index: number]>> = {
  AL: [Method.FIXED_GPR, 'b', 0],
  CL: [Method.FIXED_GPR, 'b', 1],
  AX: [Method.FIXED_GPR, 'w', 0],
  DX: [Method.FIXED_GPR, 'w', 2],
  eAX: [Method.FIXED_GPR, 'z', 0],
  rAX: [Method.FIXED_GPR, 'v', 0],
  ES: [Method.FIXED_SEG, 'w', 0],
  CS: [Method.FIXED_SEG, 'w', 1],
  SS: [Method.FIXED_SEG, 'w', 2],
  DS: [Method.FIXED_SEG, 'w', 3],
  FS: [Method.FIXED_SEG, 'w', 4],
  GS: [Method.FIXED_SEG, 'w', 5],
  ST0: [Method.FIXED_ST, 't', 0],
};

const immediates: Readonly<Record<string, readonly [method: number, size: string]>> = {
  '1': [Method.ONE, 'b'],
  Ib: [Method.IMM8, 'b'],
  sIb: [Method.IMM8_SIGNED, 'v'],
  Iw: [Method.IMM16, 'w'],
  Iz: [Method.IMM_Z, 'v'],
  Iv: [Method.IMM_V, 'v'],
  Jb: [Method.REL8, 'v'],
  Jz: [Method.REL_Z, 'v'],
  Ap: [Method.FAR, 'p'],
};

const letters: Readonly<Record<string, number>> = {
  E: Method.RM_GPR,
  R: Method.RM_GPR,
  M: Method.RM_GPR,
  Q: Method.RM_MMX,
  N: Method.RM_MMX,
  W: Method.RM_XMM,
  U: Method.RM_XMM,
  G: Method.REG_GPR,
  P: Method.REG_MMX,
  V: Method.REG_XMM,
  S: Method.REG_SEG,
  C: Method.REG_CR,
  D: Method.REG_DR,
  Z: Method.OPCODE_GPR,
  O: Method.OFFSET,
};

function pack(method: number, size: string, registerSizeOrIndex: number): number {
  return method | (sizeCode(size) << 8) | (registerSizeOrIndex << 16);
}

function sizeCode(name: string): number {
  const code = sizeNames.indexOf(name);
  if (code < 0) throw new Error(`opcode map: unknown operand size '${name}'`);
  return code;
}

function parseOperand(text: string): number {
  const fixed = fixedRegisters[text];
  if (fixed) return pack(fixed[0], fixed[1], fixed[2]);
  const immediate = immediates[text];
  if (immediate) return pack(immediate[0], immediate[1], 0);
  if (text === 'STi') return pack(Method.RM_ST, 't', 0);
  const [first = '', second] = text.split('/');
  const method = letters[first[0] ?? ''];
  if (method === undefined) throw new Error(`opcode map: unknown operand '${text}'`);
  const memorySize = (second ?? first).slice(1);
  return pack(method, memorySize, sizeCode(first.slice(1)));
}

function usesModRM(operand: number): boolean {
  const method = operand & 0xff;
  return method >= Method.RM_GPR && method <= Method.REG_DR;
}

function isImmediate(operand: number): boolean {
  const method = operand & 0xff;
  return method >= Method.IMM8 && method <= Method.IMM_V;
}

/** The operands a program can name; those of string instructions (X, Y and the accumulator) are understood. */
function parseOperands(texts: readonly string[], isString: boolean): number[] {
  if (isString) return [];
  const operands = texts.map(parseOperand);
  return operands.map((operand, i) =>
    (operand & 0xff) === Method.IMM8 && operands.slice(0, i).some(isImmediate)
      ? pack(Method.IMM8_SECOND, 'b', 0)
      : operand,
  );
}

/** Byte forms: the first operand that is neither an immediate nor the port in DX is a byte of integer data. */
function isByteForm(texts: readonly string[]): boolean {
  const main = texts.find((text) => text !== 'Ib' && text !== 'DX') ?? '';
  return ['Eb', 'Gb', 'Zb', 'Ob', 'Xb', 'Yb', 'AL'].includes(main);
}

const keyPattern = /^([0-9A-F]{2})(\+r|\+c)?(?:\/([0-7]))?([mr])?([0-7])?$/;

/** Parses a map. `opcodeOf` gives the one Opcode object for a mnemonic, feature and lockability. */
export function parseMap(
  map: number,
  text: string,
  opcodeOf: (mnemonic: string, feature: string, lockable: boolean) => Opcode,
): Row[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .flatMap((line) => parseLine(map, line, opcodeOf));
}

function parseLine(map: number, line: string, opcodeOf: Parameters<typeof parseMap>[2]): Row[] {
  const [keyText = '', prefix = '', mnemonic = '', notation = '', ...attributes] = line.trim().split(/\s+/);
  const key = keyPattern.exec(keyText);
  if (!key) throw new Error(`opcode map: unknown key in '${line}'`);
  const [, byteText = '', series, extension, form, rm] = key;
  const texts = notation === '-' ? [] : notation.split(',');
  const isString = texts.some((operand) => /^[XY]/.test(operand));
  const operands = parseOperands(texts, isString);
  const anyMod = attributes.includes('anymod');
  const memoryOnly = form === 'm' || texts.some((operand) => /^M/.test(operand));
  const registerOnly =
    form === 'r' ||
    (!anyMod && texts.some((operand) => /^[RNU][a-z]*$/.test(operand))) ||
    texts.includes('STi');
  const lockable = attributes.includes('lock');
  const feature = attributes.find((attribute) => attribute.startsWith('@'))?.slice(1) ?? '';
  const selectsByModRM = extension !== undefined || form !== undefined;
  const [selector = '', wide] = prefix.split('.');
  const slots = parseSlots(selector, wide, line);

  let flags = 0;
  if (selectsByModRM || operands.some(usesModRM)) flags |= Flag.MODRM;
  if (lockable) flags |= Flag.LOCKABLE;
  if (attributes.includes('d64')) flags |= Flag.DEFAULT_64;
  if (attributes.includes('f64')) flags |= Flag.FORCE_64;
  if (attributes.includes('noW')) flags |= Flag.NO_W;
  if (anyMod) flags |= Flag.ANY_MOD;
  if (selector === '66') flags |= Flag.PREFIX_66;
  if (isByteForm(texts)) flags |= Flag.BYTE;
  if (isString) flags |= Flag.STRING;

  const first = parseInt(byteText, 16);
  // A register series runs to the next multiple of eight, so that 91+r leaves 90 to NOP.
  const count = series === '+c' ? 16 : series === '+r' ? 8 - (first & 7) : 1;
  const fixedCondition = Number(attributes.find((name) => name.startsWith('cc='))?.slice(3) ?? 0);
  return Array.from({ length: count }, (_, i) => ({
    map,
    byte: first + i,
    slots,
    extension: extension === undefined ? -1 : Number(extension),
    memoryForm: !registerOnly,
    registerForm: !memoryOnly,
    rm: rm === undefined ? -1 : Number(rm),
    in64: !attributes.includes('i64'),
    inLegacy: !attributes.includes('o64'),
    flags,
    condition: series === '+c' ? i : fixedCondition,
    operands,
    notation,
    opcode: opcodeOf(mnemonic, feature, lockable),
  }));
}

function parseSlots(selector: string, wide: string | undefined, line: string): number {
  const narrow = selector.split('|').reduce((bits, name) => {
    const slot = prefixSlots[name];
    if (slot === undefined) throw new Error(`opcode map: unknown prefix in '${line}'`);
    return bits | slot;
  }, 0);
  return wide === 'W1' ? narrow << 4 : narrow | (narrow << 4);
}
