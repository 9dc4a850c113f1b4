import { OperandKind, type Instruction } from '../instruction.ts';

/** How a memory operand's address is made: each kind has its own generated code. */
export const Addressing = {
  NONE: 0,
  /** 64-bit: base + displacement. */
  BASE: 1,
  /** 64-bit: base + index << scale + displacement + segment base. */
  FULL: 2,
  /** Address-size prefix in 64-bit code: the sum is cut to 32 bits, then the segment base is added. */
  FULL32: 3,
  /** 32-bit code, a flat segment (base anything, no limit): everything is cut to 32 bits. */
  FLAT32: 4,
  /** Limits and alignment are checked; 16-, 32- or 64-bit addresses. */
  CHECKED: 5,
} as const;
export type Addressing = (typeof Addressing)[keyof typeof Addressing];

export interface FormOperand {
  readonly kind: OperandKind;
  /** Bits. */
  readonly size: number;
}

/**
 * What distinguishes the code of one instruction from that of another with the same meaning: everything but
 * register numbers, displacements and immediates. One handler is generated for each form that occurs.
 */
export interface Form {
  readonly mnemonic: string;
  readonly operands: readonly FormOperand[];
  /** Bits: 8, 16, 32, 64. */
  readonly operandSize: number;
  /** Bits: 16, 32, 64. */
  readonly addressSize: number;
  /** Bits: 16, 32, 64. */
  readonly codeSize: number;
  /** Bits of the stack pointer: 16, 32, 64. */
  readonly stackSize: number;
  readonly addressing: Addressing;
  /** Implicit accesses through ES, CS, SS, DS need checks too (segments that are not flat, or alignment checking). */
  readonly checked: boolean;
  readonly condition: number;
  readonly rep: number;
  readonly lock: boolean;
}

/** The form of what has no operands, for code of a size. */
export const plainForm = (mnemonic: string, size: number): Form => ({
  mnemonic,
  operands: [],
  operandSize: size,
  addressSize: size,
  codeSize: size,
  stackSize: size,
  addressing: Addressing.NONE,
  checked: false,
  condition: 0,
  rep: 0,
  lock: false,
});

/** Bits of the mode that decoded blocks depend on: the context word. */
export const Context = {
  CODE_16: 0,
  CODE_32: 1,
  CODE_64: 2,
  CODE_MASK: 3,
  /** ES, CS, SS and DS have base 0 and no limit. */
  FLAT: 4,
  FLAT_FS: 8,
  FLAT_GS: 16,
  /** Stack addresses have 32 bits (SS.B); with CODE_64 always 64. */
  STACK_32: 32,
  /** Alignment checking is on (CR0.AM, EFLAGS.AC, CPL 3). */
  ALIGNMENT: 64,
  COUNT: 128,
} as const;

const CODE_SIZE = [16, 32, 64, 64];

/** Bits of code addresses and default operands in a context. */
export function codeSizeOf(context: number): number {
  return CODE_SIZE[context & Context.CODE_MASK];
}

/** Bits of the stack pointer in a context. */
export function stackSizeOf(context: number): number {
  if ((context & Context.CODE_MASK) === Context.CODE_64) return 64;
  return context & Context.STACK_32 ? 32 : 16;
}

/** Instructions that address memory through a segment that a prefix can override, without a memory operand. */
const IMPLICIT_MEMORY = new Set(['movs', 'cmps', 'lods', 'outs', 'xlat', 'maskmovq', 'maskmovdqu']);

/** Chooses how the memory operand of an instruction is addressed in a context. */
export function addressingOf(instruction: Instruction, context: number): Addressing {
  let memory = IMPLICIT_MEMORY.has(instruction.opcode!.mnemonic);
  for (let i = 0; i < instruction.operandCount; i++) {
    if (instruction.operands[i].kind === OperandKind.MEM) memory = true;
  }
  if (!memory) return Addressing.NONE;
  if (context & Context.ALIGNMENT) return Addressing.CHECKED;
  if ((context & Context.CODE_MASK) === Context.CODE_64) {
    if (instruction.addressSize === 32) return Addressing.FULL32;
    const plain = instruction.indexRegister < 0 && instruction.segment < 4;
    return plain ? Addressing.BASE : Addressing.FULL;
  }
  const flat =
    instruction.segment === 4 ? Context.FLAT_FS : instruction.segment === 5 ? Context.FLAT_GS : Context.FLAT;
  return context & flat && instruction.addressSize === 32 ? Addressing.FLAT32 : Addressing.CHECKED;
}

/** Whether implicit stack and string accesses are checked in a context. */
export function isChecked(context: number): boolean {
  if (context & Context.ALIGNMENT) return true;
  return (context & Context.CODE_MASK) !== Context.CODE_64 && !(context & Context.FLAT);
}

export function formOf(instruction: Instruction, context: number): Form {
  const operands: FormOperand[] = [];
  for (let i = 0; i < instruction.operandCount; i++) {
    operands.push({ kind: instruction.operands[i].kind, size: instruction.operands[i].size });
  }
  return {
    mnemonic: instruction.opcode!.mnemonic,
    operands,
    operandSize: instruction.operandSize,
    addressSize: instruction.addressSize,
    codeSize: codeSizeOf(context),
    stackSize: stackSizeOf(context),
    addressing: addressingOf(instruction, context),
    checked: isChecked(context),
    condition: instruction.condition,
    rep: instruction.rep,
    lock: instruction.lock,
  };
}

const SIZE_CODE: Record<number, number> = { 0: 0, 8: 1, 16: 2, 32: 3, 48: 3, 64: 4, 80: 5, 128: 6 };

/** A number that is the same for two instructions of one opcode exactly when their forms are equal. */
export function formKey(instruction: Instruction, context: number): number {
  let key = codeSizeOf(context) >> 5;
  key = key * 4 + (stackSizeOf(context) >> 5);
  key = key * 8 + addressingOf(instruction, context);
  key = key * 4 + (instruction.operandSize >> 4 === 4 ? 3 : instruction.operandSize >> 4);
  key = key * 4 + (instruction.addressSize >> 5);
  key = key * 2 + (isChecked(context) ? 1 : 0);
  key = key * 16 + instruction.condition;
  key = key * 4 + (instruction.rep === 0 ? 0 : instruction.rep === 0xf3 ? 1 : 2);
  key = key * 2 + (instruction.lock ? 1 : 0);
  for (let i = 0; i < instruction.operandCount; i++) {
    key = key * 16 + instruction.operands[i].kind;
    key = key * 8 + (SIZE_CODE[instruction.operands[i].size] ?? 7);
  }
  return key * 4 + Math.min(instruction.operandCount, 3);
}
