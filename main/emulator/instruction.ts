/**
 * One decoded instruction: what the decoder fills and what the generators read. Reused from call to call,
 * so that decoding allocates nothing.
 */

export const OperandKind = {
  NONE: 0,
  /** General register; `index` 0-15. With size 8, `high` tells AH, CH, DH, BH (then index is 0-3). */
  GPR: 1,
  /** Memory at segment:[base + index * scale + displacement]. */
  MEM: 2,
  /** Immediate: immLow/immHigh, already extended to 64 bits as the instruction defines. */
  IMM: 3,
  /** Branch displacement: immLow/immHigh, sign-extended. */
  REL: 4,
  /** ES, CS, SS, DS, FS, GS as 0-5. */
  SEG: 5,
  CR: 6,
  DR: 7,
  /** x87 stack register ST(index). */
  ST: 8,
  MMX: 9,
  XMM: 10,
  /** A far pointer in the instruction: offset in immLow, selector in imm2. */
  FAR: 11,
} as const;
export type OperandKind = (typeof OperandKind)[keyof typeof OperandKind];

export interface Operand {
  kind: OperandKind;
  /** Bits: 8 to 128; 80 for extended reals; for far pointers in memory offset + 16; 0 for LEA-like and state images. */
  size: number;
  index: number;
  high: boolean;
}

/** A row of the opcode table. */
export interface Opcode {
  /** A small number of its own, dense from 0: a key for tables. */
  readonly id: number;
  /** Lower-case Intel mnemonic; `jcc`, `setcc`, `cmovcc` and `fcmovcc` carry the condition in Instruction.condition. */
  readonly mnemonic: string;
  /** CPUID feature that the row needs, or '' for the base set. */
  readonly feature: string;
  /** LOCK may stand before its memory form. */
  readonly lockable: boolean;
}

export const NO_REGISTER = -1;
/** As a base: the address of the next instruction. */
export const RIP_BASE = -2;

export class Instruction {
  opcode: Opcode | undefined = undefined;
  /** Bytes, 1 to 15. */
  length = 0;
  /** Bits: 8 (byte forms), 16, 32 or 64. */
  operandSize = 0;
  /** Bits: 16, 32 or 64. */
  addressSize = 0;
  /** Condition code 0-15 of jcc, setcc, cmovcc; the fcmov condition. */
  condition = 0;
  lock = false;
  /** A REP prefix that acts as such (not one that selects the opcode): 0, 0xf3 or 0xf2. */
  rep = 0;
  operandCount = 0;
  readonly operands: readonly [Operand, Operand, Operand, Operand] = [
    operand(),
    operand(),
    operand(),
    operand(),
  ];
  /** Segment of the memory operand with the default and any override applied, 0-5. */
  segment = 3;
  /** True when a segment prefix stood there (and counts in this mode). */
  segmentOverride = false;
  /** GPR number, NO_REGISTER or RIP_BASE. */
  base = NO_REGISTER;
  indexRegister = NO_REGISTER;
  /** Shift: 0-3. */
  scale = 0;
  /** Displacement, sign-extended to 64 bits as two 32-bit halves (both signed numbers). */
  dispLow = 0;
  dispHigh = 0;
  /**
   * First immediate, extended to 64 bits as two 32-bit halves (both signed numbers). Of x87 instructions the
   * eleven bits of the opcode that FOP holds.
   */
  immLow = 0;
  immHigh = 0;
  /** Second immediate: ENTER's level, the selector of a far pointer. */
  imm2 = 0;
  /** Whether a REX prefix was in force (SPL..DIL instead of AH..BH), and its W bit. */
  rex = false;
  rexW = false;
  /** ModRM byte, or -1. */
  modrm = -1;
}

function operand(): Operand {
  return { kind: OperandKind.NONE, size: 0, index: 0, high: false };
}

export const DecodeStatus = {
  OK: 0,
  /** Undefined opcode or form: #UD. */
  INVALID: 1,
  /** More than 15 bytes: #GP(0). */
  TOO_LONG: 2,
  /** The bytes ended before the instruction did: fetch more (it may fault). */
  NEED_MORE: 3,
} as const;
export type DecodeStatus = (typeof DecodeStatus)[keyof typeof DecodeStatus];
