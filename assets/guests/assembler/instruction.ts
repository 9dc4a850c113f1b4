import {
  Code,
  CodeExt,
  Encoder,
  EncodingKind,
  Instruction,
  MemorySizeExt,
  Mnemonic,
  OpCodeOperandKind,
  OpKind,
  Register,
  RegisterExt,
} from 'iced-x86';
import type { Value } from './expression.ts';

/**
 * Encodes one instruction from its mnemonic and operands. iced-x86 knows every form of every instruction; of
 * those that fit the operands, the shortest is taken.
 */

export type Bits = 16 | 32 | 64;

export type Operand =
  | { kind: 'register'; register: Register }
  | { kind: 'immediate'; value: Value }
  | {
      kind: 'memory';
      /** Bytes; 0 when the source does not say. */
      size: number;
      segment: Register;
      base: Register;
      index: Register;
      scale: number;
      displacement: Value;
    };

export interface Statement {
  bits: Bits;
  mnemonic: string;
  /** Prefix written before the mnemonic: rep, repe, repne, lock or ''. */
  prefix: string;
  operands: Operand[];
}

interface Form {
  code: Code;
  kinds: string[];
  /** Bytes of the memory operand, 0 where it has no size of its own. */
  memorySize: number;
  bits: Set<Bits>;
}

/** Names of registers as the source writes them. */
export const registers = new Map<string, Register>();
for (const [name, value] of Object.entries(Register)) {
  if (typeof value === 'number' && value !== Register.None) registers.set(name.toLowerCase(), value);
}

const CONDITIONS: Record<string, string> = {
  z: 'e',
  nz: 'ne',
  c: 'b',
  nc: 'ae',
  nae: 'b',
  nb: 'ae',
  nbe: 'a',
  na: 'be',
  pe: 'p',
  po: 'np',
  nge: 'l',
  nl: 'ge',
  nle: 'g',
  ng: 'le',
};

const forms = new Map<string, Form[]>();

/** All legacy encodings, by mnemonic: read out of iced's tables once. */
function allForms(): Map<string, Form[]> {
  if (forms.size > 0) return forms;
  for (const code of Object.values(Code)) {
    if (typeof code !== 'number') continue;
    const info = CodeExt.opCode(code);
    if (info.isInstruction && info.encoding === EncodingKind.Legacy) {
      const name = Mnemonic[info.mnemonic].toLowerCase();
      const kinds = Array.from({ length: info.opCount }, (_, i) => OpCodeOperandKind[info.opKind(i)]);
      const bits = new Set(([16, 32, 64] as const).filter((mode) => info.isAvailableInMode(mode)));
      const form = { code, kinds, memorySize: MemorySizeExt.size(info.memorySize), bits };
      forms.set(name, [...(forms.get(name) ?? []), form]);
    }
    info.free();
  }
  return forms;
}

/** The name that iced has for a mnemonic: `jz` is `je` there. */
function canonical(mnemonic: string): string {
  const match = /^(j|set|cmov)(.+)$/.exec(mnemonic);
  const condition = match && CONDITIONS[match[2]];
  return condition ? match[1] + condition : mnemonic;
}

const WIDTH: Record<string, number> = { r8: 1, r16: 2, r32: 4, r64: 8, mm: 8, xmm: 16 };

function registerFits(kind: string, register: Register): boolean {
  const [type] = kind.split('_');
  switch (type) {
    case 'r8':
    case 'r16':
    case 'r32':
    case 'r64':
      return RegisterExt.isGPR(register) && RegisterExt.size(register) === WIDTH[type];
    case 'mm':
      return RegisterExt.isMM(register);
    case 'xmm':
      return RegisterExt.isXMM(register);
    case 'sti':
      return RegisterExt.isST(register);
    case 'seg':
      return kind === 'seg_reg' && RegisterExt.isSegmentRegister(register);
    case 'cr':
      return RegisterExt.isCR(register);
    case 'dr':
      return RegisterExt.isDR(register);
    default:
      return registers.get(kind) === register;
  }
}

/** Immediate kinds: what the operand becomes, and the range of values that it holds. */
const IMMEDIATES: Record<string, [OpKind, bigint, bigint]> = {
  imm8: [OpKind.Immediate8, -128n, 255n],
  imm8_const_1: [OpKind.Immediate8, 1n, 1n],
  imm8sex16: [OpKind.Immediate8to16, -128n, 127n],
  imm8sex32: [OpKind.Immediate8to32, -128n, 127n],
  imm8sex64: [OpKind.Immediate8to64, -128n, 127n],
  imm16: [OpKind.Immediate16, -(2n ** 15n), 2n ** 16n - 1n],
  imm32: [OpKind.Immediate32, -(2n ** 31n), 2n ** 32n - 1n],
  imm32sex64: [OpKind.Immediate32to64, -(2n ** 31n), 2n ** 31n - 1n],
  imm64: [OpKind.Immediate64, -(2n ** 63n), 2n ** 64n - 1n],
};

/** Kinds that a small immediate must not take while its value is not known yet: it could outgrow them. */
const SMALL = /^imm8/;

/** Operands of string instructions, which are not written. */
const STRING_OPERANDS: Record<string, Record<Bits, OpKind>> = {
  es_rDI: { 16: OpKind.MemoryESDI, 32: OpKind.MemoryESEDI, 64: OpKind.MemoryESRDI },
  seg_rSI: { 16: OpKind.MemorySegSI, 32: OpKind.MemorySegESI, 64: OpKind.MemorySegRSI },
};

/** Sets operand `at` of `instruction` when it fits the form's kind. */
function setOperand(
  instruction: Instruction,
  at: number,
  kind: string,
  form: Form,
  operand: Operand,
  statement: Statement,
): boolean {
  if (operand.kind === 'register') {
    if (!registerFits(kind, operand.register)) return false;
    instruction.setOpKind(at, OpKind.Register);
    instruction.setOpRegister(at, operand.register);
    return true;
  }
  if (operand.kind === 'immediate') {
    const { value, known } = operand.value;
    const branch = /^br(16|32|64)_/.exec(kind);
    if (branch) {
      if (Number(branch[1]) !== statement.bits) return false;
      if (statement.bits === 64) {
        instruction.setOpKind(at, OpKind.NearBranch64);
        instruction.nearBranch64 = value;
      } else {
        instruction.setOpKind(at, statement.bits === 32 ? OpKind.NearBranch32 : OpKind.NearBranch16);
        if (statement.bits === 32) instruction.nearBranch32 = Number(value);
        else instruction.nearBranch16 = Number(value);
      }
      return true;
    }
    const immediate = IMMEDIATES[kind];
    if (immediate === undefined) return false;
    const [opKind, low, high] = immediate;
    if (value < low || value > high || (!known && SMALL.test(kind))) return false;
    instruction.setOpKind(at, opKind);
    instruction.setImmediateI64(at, BigInt.asIntN(64, value));
    return true;
  }
  if (kind !== 'mem' && !kind.endsWith('_or_mem')) return false;
  // A shift's count in CL says nothing about the size of what is shifted.
  const sizedByRegister = statement.operands.some((o, i) => o.kind === 'register' && form.kinds[i] !== 'cl');
  if (operand.size !== 0 && operand.size !== form.memorySize) return false;
  if (operand.size === 0 && !sizedByRegister && [1, 2, 4, 8].includes(form.memorySize)) return false;
  instruction.setOpKind(at, OpKind.Memory);
  instruction.segmentPrefix = operand.segment;
  instruction.memoryBase = operand.base;
  instruction.memoryIndex = operand.index;
  instruction.memoryIndexScale = operand.scale;
  const { value, known } = operand.displacement;
  const based = operand.base !== Register.None || operand.index !== Register.None;
  const wide = statement.bits === 64 ? 8 : statement.bits / 8;
  instruction.memoryDisplacement = BigInt.asIntN(64, value);
  instruction.memoryDisplSize = !based || !known ? wide : value === 0n ? 0 : wide;
  if (based && known && value >= -128n && value < 128n && value !== 0n) instruction.memoryDisplSize = 1;
  return true;
}

function build(statement: Statement, form: Form): Instruction | undefined {
  const written = form.kinds.filter((kind) => !(kind in STRING_OPERANDS));
  const string = written.length < form.kinds.length;
  if (string ? statement.operands.length > 0 : written.length !== statement.operands.length) return undefined;
  const instruction = new Instruction();
  instruction.code = form.code;
  const fits = form.kinds.every((kind, at) => {
    if (!string) return setOperand(instruction, at, kind, form, statement.operands[at], statement);
    const opKind = STRING_OPERANDS[kind]?.[statement.bits];
    instruction.setOpKind(at, opKind ?? OpKind.Register);
    if (opKind === undefined) instruction.setOpRegister(at, registers.get(kind) ?? Register.None);
    return true;
  });
  if (!fits) {
    instruction.free();
    return undefined;
  }
  instruction.hasLockPrefix = statement.prefix === 'lock';
  instruction.hasRepePrefix = statement.prefix === 'rep' || statement.prefix === 'repe';
  instruction.hasRepnePrefix = statement.prefix === 'repne';
  return instruction;
}

/**
 * The bytes of an instruction at `address`. `atLeast`: the length it had in the last pass, which it must not
 * go below, so that the passes end. Throws when no form fits.
 */
export function encode(statement: Statement, address: bigint, atLeast: number): Uint8Array {
  let best: Uint8Array | undefined;
  let why = 'no form of it takes these operands';
  const candidates = allForms().get(canonical(statement.mnemonic));
  if (candidates === undefined) throw new Error(`${statement.mnemonic} is not an instruction`);
  for (const form of candidates) {
    if (!form.bits.has(statement.bits)) continue;
    const instruction = build(statement, form);
    if (instruction === undefined) continue;
    const encoder = new Encoder(statement.bits);
    try {
      encoder.encode(instruction, address);
      const bytes = encoder.takeBuffer();
      if (bytes.length >= atLeast && (best === undefined || bytes.length < best.length)) best = bytes;
    } catch (error) {
      why = String(error);
    }
    encoder.free();
    instruction.free();
  }
  if (best === undefined) throw new Error(`${statement.mnemonic}: ${why}`);
  return best;
}
