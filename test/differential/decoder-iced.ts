/**
 * Compares our instruction decoder with iced-x86 over random byte strings: length, mnemonic, registers, memory
 * operand, immediates, LOCK and REP. The test runs a short form, decoder-campaign.ts a long one.
 */
import * as iced from 'iced-x86';
import { Decoder } from '../../main/emulator/decoder/decoder.ts';
import { allFeatures } from '../../main/emulator/decoder/opcodes.ts';
import { DecodeStatus, Instruction, OperandKind, RIP_BASE } from '../../main/emulator/instruction.ts';
import {
  aliases,
  conditionNames,
  isUnsupported,
  operandsDiffer,
  sizedNames,
  sizesInCode,
  stringNames,
  wordOperands,
} from './decoder-names.ts';
import { fillStrings, randomSource, SLOT } from './decoder-strings.ts';

export type Mode = 16 | 32 | 64;

export interface Tally {
  strings: number;
  /** Both decoded it, and alike. */
  alike: number;
  /** Neither decoded it. */
  neither: number;
  /** Opcode ids that both decoded. */
  seen: Set<number>;
  /** We refuse it because its feature isn't one of ours; by mnemonic. */
  unsupported: Map<string, number>;
  differences: string[];
}

/** One operand's register as kind, size, high and index in one number. */
function registerCode(kind: number, size: number, index: number, high: boolean): number {
  return (kind << 16) | (size << 8) | (high ? 0x80 : 0) | index;
}

const R = iced.Register;
const registerCodes = new Map<number, number>();
function addRegisters(
  first: number,
  count: number,
  kind: number,
  size: number,
  index = 0,
  high = false,
): void {
  for (let i = 0; i < count; i++) registerCodes.set(first + i, registerCode(kind, size, index + i, high));
}
addRegisters(R.AL, 4, OperandKind.GPR, 8);
addRegisters(R.AH, 4, OperandKind.GPR, 8, 0, true);
addRegisters(R.SPL, 12, OperandKind.GPR, 8, 4);
addRegisters(R.AX, 16, OperandKind.GPR, 16);
addRegisters(R.EAX, 16, OperandKind.GPR, 32);
addRegisters(R.RAX, 16, OperandKind.GPR, 64);
addRegisters(R.ES, 6, OperandKind.SEG, 0);
addRegisters(R.XMM0, 16, OperandKind.XMM, 0);
addRegisters(R.MM0, 8, OperandKind.MMX, 0);
addRegisters(R.ST0, 8, OperandKind.ST, 0);
addRegisters(R.CR0, 16, OperandKind.CR, 0);
addRegisters(R.DR0, 16, OperandKind.DR, 0);

const memorySizes = new Map<number, number>();
function memorySizeOf(size: number): number {
  let bits = memorySizes.get(size);
  if (bits === undefined) memorySizes.set(size, (bits = iced.MemorySizeExt.size(size) * 8));
  return bits;
}

const mnemonicNames = new Map<number, string>();
function nameOf(mnemonic: number): string {
  let name = mnemonicNames.get(mnemonic);
  if (name === undefined) mnemonicNames.set(mnemonic, (name = iced.Mnemonic[mnemonic]!.toLowerCase()));
  return name;
}

/** The same name as ours, with `operandSize` and `condition` where iced's name tells them. */
interface Named {
  name: string;
  condition: number;
  size: number;
}
const named = new Map<string, Named>();
function translate(theirs: string, isString: boolean, isFar: boolean): Named {
  const key = isString ? `${theirs} string` : isFar ? `${theirs} far` : theirs;
  const existing = named.get(key);
  if (existing) return existing;
  const condition = conditionNames.get(theirs);
  const string = isString ? stringNames.get(theirs) : undefined;
  const sized = sizedNames.get(theirs);
  let result: Named;
  if (condition) result = { name: condition[0], condition: condition[1], size: 0 };
  else if (string) result = { name: string[0], condition: 0, size: string[1] };
  else if (sized) result = { name: sized[0], condition: 0, size: sized[1] };
  else if (isFar) result = { name: `${theirs}f`, condition: 0, size: 0 };
  else result = { name: aliases.get(theirs) ?? theirs, condition: 0, size: 0 };
  named.set(key, result);
  return result;
}

/** Bits of the x87 environment and state in their 16-bit formats. */
const FPU_ENVIRONMENT_16 = 14 * 8;
const FPU_STATE_16 = 94 * 8;

/** How many bits of an immediate its user sees. */
const immediateBits: ReadonlyMap<number, number> = new Map([
  [iced.OpKind.Immediate8, 8],
  [iced.OpKind.Immediate8_2nd, 8],
  [iced.OpKind.Immediate16, 16],
  [iced.OpKind.Immediate32, 32],
  [iced.OpKind.Immediate8to16, 16],
  [iced.OpKind.Immediate8to32, 32],
]);

const codeSizes = new Map<number, ReturnType<typeof sizesInCode>>();
function sizesOf(code: number): ReturnType<typeof sizesInCode> {
  let sizes = codeSizes.get(code);
  if (sizes === undefined) codeSizes.set(code, (sizes = sizesInCode(iced.Code[code]!)));
  return sizes;
}

const stringAddressSizes: ReadonlyMap<number, number> = new Map([
  [iced.OpKind.MemorySegSI, 16],
  [iced.OpKind.MemorySegESI, 32],
  [iced.OpKind.MemorySegRSI, 64],
  [iced.OpKind.MemoryESDI, 16],
  [iced.OpKind.MemoryESEDI, 32],
  [iced.OpKind.MemoryESRDI, 64],
]);

const ours = new Instruction();
const theirs = new iced.Instruction();

function baseNumber(register: number): number {
  if (register === R.None) return -1;
  if (register === R.RIP || register === R.EIP) return RIP_BASE;
  return (registerCodes.get(register) ?? 0xff) & 0x0f;
}

/** What the memory operand differs in, or ''. */
function compareMemory(mode: Mode): string {
  const base = theirs.memoryBase;
  if (baseNumber(base) !== ours.base) return `base ${ours.base}, iced ${R[base]}`;
  const index = theirs.memoryIndex;
  if (baseNumber(index) !== ours.indexRegister) return `index ${ours.indexRegister}, iced ${R[index]}`;
  if (index !== R.None && 1 << ours.scale !== theirs.memoryIndexScale) return `scale ${ours.scale}`;
  const named = base === R.None ? index : base;
  if (named !== R.None && named !== R.RIP && named !== R.EIP) {
    const size = ((registerCodes.get(named) ?? 0) >> 8) & 0xff;
    if (size !== ours.addressSize) return `address size ${ours.addressSize}, iced ${size}`;
  }
  const problem = compareSegment(mode);
  if (problem !== '') return problem;
  let displacement = (BigInt(ours.dispHigh) << 32n) | BigInt(ours.dispLow >>> 0);
  if (ours.base === RIP_BASE) displacement += BigInt(ours.length);
  const difference = BigInt.asUintN(ours.addressSize, displacement - theirs.memoryDisplacement);
  if (difference !== 0n) return `displacement ${displacement}, iced ${theirs.memoryDisplacement}`;
  return '';
}

function compareSegment(mode: Mode): string {
  // iced notes the overrides that 64-bit mode ignores.
  const override = theirs.segmentPrefix;
  if (mode === 64 && override >= R.ES && override <= R.DS) theirs.segmentPrefix = R.None;
  const segment = theirs.memorySegment - R.ES;
  return segment === ours.segment ? '' : `segment ${ours.segment}, iced ${segment}`;
}

/** What operand `i` differs in, or ''. */
function compareOperand(i: number, mode: Mode): string {
  const operand = ours.operands[i]!;
  const kind = theirs.opKind(i);
  switch (kind) {
    case iced.OpKind.Register: {
      const register = theirs.opRegister(i);
      let code = registerCodes.get(register) ?? -1;
      let size = operand.kind === OperandKind.GPR ? operand.size : 0;
      const toSegment = i === 1 && ours.operands[0].kind === OperandKind.SEG;
      if (size === 16 && (toSegment || wordOperands.has(ours.opcode?.mnemonic ?? ''))) {
        size = 0;
        code &= ~0xff00;
      }
      if (code !== registerCode(operand.kind, size, operand.index, operand.high)) {
        return `operand ${i} ${JSON.stringify(operand)}, iced ${R[register]}`;
      }
      return '';
    }
    case iced.OpKind.Memory: {
      if (operand.kind !== OperandKind.MEM) return `operand ${i} is no memory`;
      const size = memorySizeOf(theirs.memorySize);
      const short = size === FPU_ENVIRONMENT_16 || size === FPU_STATE_16;
      if (
        /^(fldenv|fnstenv|frstor|fnsave)$/.test(ours.opcode?.mnemonic ?? '') &&
        short !== (ours.operandSize === 16)
      ) {
        return `operand size ${ours.operandSize}, iced image ${size}`;
      }
      if (operand.size !== 0 && operand.size !== size) return `memory size ${operand.size}, iced ${size}`;
      return compareMemory(mode);
    }
    case iced.OpKind.NearBranch16:
    case iced.OpKind.NearBranch32:
    case iced.OpKind.NearBranch64: {
      const bits = kind === iced.OpKind.NearBranch16 ? 16 : kind === iced.OpKind.NearBranch32 ? 32 : 64;
      const target = BigInt.asUintN(bits, immediate() + BigInt(ours.length));
      if (operand.kind !== OperandKind.REL) return `operand ${i} is no displacement`;
      if (ours.operandSize !== bits) return `branch of ${ours.operandSize} bits, iced ${bits}`;
      return target === theirs.nearBranchTarget ? '' : `target ${target}, iced ${theirs.nearBranchTarget}`;
    }
    case iced.OpKind.FarBranch16:
    case iced.OpKind.FarBranch32: {
      const offset = kind === iced.OpKind.FarBranch16 ? theirs.farBranch16 : theirs.farBranch32;
      if (operand.kind !== OperandKind.FAR) return `operand ${i} is no far pointer`;
      if (ours.immLow >>> 0 !== offset || ours.imm2 !== theirs.farBranchSelector) return 'far pointer';
      return operand.size === (kind === iced.OpKind.FarBranch16 ? 32 : 48) ? '' : `far size ${operand.size}`;
    }
    default: {
      if (operand.kind !== OperandKind.IMM) return `operand ${i} is no immediate, iced ${iced.OpKind[kind]}`;
      const value = operand.index === 1 ? BigInt(ours.imm2) : immediate();
      const wanted = theirs.immediate(i);
      const bits = immediateBits.get(kind) ?? 64;
      const same = BigInt.asUintN(bits, value) === BigInt.asUintN(bits, wanted);
      return same ? '' : `immediate ${value}, iced ${wanted}`;
    }
  }
}

function immediate(): bigint {
  return (BigInt(ours.immHigh) << 32n) | BigInt(ours.immLow >>> 0);
}

/** What the two decoded instructions differ in, or ''. */
function compareDecoded(mode: Mode): string {
  if (ours.length !== theirs.length) return `length ${ours.length}, iced ${theirs.length}`;
  const isString = theirs.isStringInstruction;
  const isFar = theirs.isCallFar || theirs.isCallFarIndirect || theirs.isJmpFar || theirs.isJmpFarIndirect;
  const name = nameOf(theirs.mnemonic);
  const wanted = translate(name, isString, isFar);
  const mnemonic = ours.opcode?.mnemonic ?? '';
  // F3 with REX.B before 90: iced decodes PAUSE, the processors that we tried execute XCHG R8, rAX.
  if (wanted.name === 'pause' && mnemonic === 'xchg') return '';
  if (mnemonic !== wanted.name) return `mnemonic ${mnemonic}, iced ${wanted.name}`;
  if (ours.condition !== wanted.condition) return `condition ${ours.condition}, iced ${name}`;
  if (wanted.size !== 0 && wanted.size !== ours.operandSize) return `size ${ours.operandSize}, iced ${name}`;
  if (ours.lock !== theirs.hasLockPrefix) return 'LOCK';
  const sizes = sizesOf(theirs.code);
  if (sizes.operand !== 0 && sizes.operand !== ours.operandSize) return `operand size ${ours.operandSize}`;
  if (sizes.address !== 0 && sizes.address !== ours.addressSize) return `address size ${ours.addressSize}`;
  if (isString) {
    const rep = theirs.hasRepPrefix ? 0xf3 : theirs.hasRepnePrefix ? 0xf2 : 0;
    if (ours.rep !== rep) return `REP ${ours.rep}, iced ${rep}`;
    const address = stringAddressSizes.get(theirs.op0Kind) ?? stringAddressSizes.get(theirs.op1Kind);
    if (address !== ours.addressSize) return `address size ${ours.addressSize}, iced ${address}`;
    return /^(movs|cmps|lods|outs)$/.test(mnemonic) ? compareSegment(mode) : '';
  }
  if (ours.rep !== 0) return `REP ${ours.rep}`;
  if (/^(xlat|maskmov)/.test(mnemonic)) return compareSegment(mode);
  if (/^(push|pop|pushf|popf)$/.test(mnemonic)) {
    const pushed = Math.abs(theirs.stackPointerIncrement) * 8;
    if (pushed !== ours.operandSize) return `stack slot ${ours.operandSize}, iced ${pushed}`;
  }
  if (operandsDiffer.has(mnemonic)) return '';
  const count = theirs.opCount;
  if (count !== ours.operandCount) return `${ours.operandCount} operands, iced ${count}`;
  for (let i = 0; i < count; i++) {
    const problem = compareOperand(i, mode);
    if (problem !== '') return problem;
  }
  return '';
}

const cut = new Instruction();

/** Whether the instruction without its last byte, or without more of them, is found incomplete. */
function asksForMore(decoder: Decoder, bytes: Uint8Array, at: number, mode: Mode, choice: number): boolean {
  const left = choice % ours.length;
  return decoder.decode(bytes, at, at + left, mode, cut) === DecodeStatus.NEED_MORE;
}

const CHUNK = 4096;

/** Compares `count` random strings in each of the three modes in turn; all follows from `seed`. */
export function compareStrings(seed: number, count: number, progress?: (tally: Tally) => void): Tally {
  const tally: Tally = {
    strings: 0,
    alike: 0,
    neither: 0,
    seen: new Set(),
    unsupported: new Map(),
    differences: [],
  };
  const random = randomSource(seed);
  const decoder = new Decoder(allFeatures);
  const modes: readonly Mode[] = [64, 32, 16];
  const bytes = new Uint8Array((CHUNK + 1) * SLOT);
  for (let chunk = 0; tally.strings < count; chunk++) {
    const mode = modes[chunk % 3]!;
    fillStrings(bytes, mode, random);
    const other = new iced.Decoder(mode, bytes, iced.DecoderOptions.None);
    for (let i = 0; i < CHUNK && tally.strings < count; i++) {
      compareOne(i * SLOT, mode, bytes, decoder, other, tally);
    }
    other.free();
    progress?.(tally);
  }
  return tally;
}

function compareOne(
  at: number,
  mode: Mode,
  bytes: Uint8Array,
  decoder: Decoder,
  other: iced.Decoder,
  tally: Tally,
): void {
  tally.strings++;
  other.position = at;
  other.ip = 0n;
  other.decodeOut(theirs);
  const status = decoder.decode(bytes, at, bytes.length, mode, ours);
  const report = (what: string): void => {
    const text = Array.from(bytes.subarray(at, at + 15), (byte) => byte.toString(16).padStart(2, '0')).join(
      ' ',
    );
    if (tally.differences.length < 100) tally.differences.push(`${mode}-bit ${text}: ${what}`);
  };
  if (theirs.code === iced.Code.INVALID) {
    if (status === DecodeStatus.OK) report(`we have ${ours.opcode?.mnemonic}, iced has nothing`);
    else tally.neither++;
  } else if (status === DecodeStatus.OK) {
    const problem = compareDecoded(mode);
    if (problem !== '') report(problem);
    else if (!asksForMore(decoder, bytes, at, mode, tally.strings)) report('cut short, it is not NEED_MORE');
    else {
      tally.alike++;
      tally.seen.add(ours.opcode?.id ?? -1);
    }
  } else {
    const name = nameOf(theirs.mnemonic);
    if (theirs.encoding !== iced.EncodingKind.Legacy || isUnsupported(name)) {
      tally.unsupported.set(name, (tally.unsupported.get(name) ?? 0) + 1);
    } else report(`we have nothing, iced has ${name}`);
  }
}
