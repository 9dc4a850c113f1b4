import {
  Code,
  CodeExt,
  Decoder,
  DecoderOptions,
  FlowControl,
  Instruction,
  Mnemonic,
  OpKind,
  Register,
  RflagsBits,
} from 'iced-x86';
import { APPROXIMATE } from './templates.ts';
import type { Template } from './templates.ts';

/** What iced-x86 says of one instruction's bytes. */
export interface Found {
  code: Code;
  /** Bytes; those of the first instruction where there are more. */
  length: number;
  mnemonic: string;
  /** RflagsBits of iced. */
  flagsRead: number;
  flagsWritten: number;
  flagsUndefined: number;
  approximate: boolean;
  branch: boolean;
  /** One of its operands is in memory. */
  memory: boolean;
  /** It has a REPE or REPNE prefix. */
  repeated: boolean;
  /** A string instruction whose addresses and counter have 32 bits. */
  address32: boolean;
  /** Numbers of the XMM registers among its operands, in their order; -1 where an operand is something else. */
  xmm: number[];
  /** FS or GS is the segment of its memory operand. */
  baseAdded: boolean;
}

const COUNTED = new Set('rol ror rcl rcr shl sal shr sar shld shrd'.split(' '));

/** Operands of string instructions. */
const ADDRESSES_32 = new Set([OpKind.MemorySegESI, OpKind.MemorySegEDI, OpKind.MemoryESEDI]);

const BY_ONE = /_1$/;

const instruction = new Instruction();
const names = new Map<Code, string>();

function mnemonicOf(code: Code): string {
  let name = names.get(code);
  if (name === undefined) {
    const info = CodeExt.opCode(code);
    name = Mnemonic[info.mnemonic].toLowerCase();
    info.free();
    names.set(code, name);
  }
  return name;
}

/** Decodes the first instruction of `bytes`. */
export function inspect(bytes: Uint8Array): Found {
  const decoder = new Decoder(64, bytes, DecoderOptions.None);
  decoder.decodeOut(instruction);
  decoder.free();
  const { code, length } = instruction;
  if (code === Code.INVALID) {
    const none = {
      flagsRead: 0,
      flagsWritten: 0,
      flagsUndefined: 0,
      approximate: false,
      branch: false,
      memory: false,
      repeated: false,
      address32: false,
      xmm: [],
      baseAdded: false,
    };
    return { code, length: length || bytes.length, mnemonic: 'invalid', ...none };
  }
  const mnemonic = mnemonicOf(code);
  // A count of zero changes no flag: these may leave the flags of the instruction before.
  const repeated = instruction.hasRepPrefix || instruction.hasRepnePrefix;
  const maybe = COUNTED.has(mnemonic) || repeated;
  // iced takes OF for unchanged when a rotation through carry comes around to where it was.
  const around = (mnemonic === 'rcl' || mnemonic === 'rcr') && !BY_ONE.test(Code[code]) ? RflagsBits.OF : 0;
  const operands = [...Array(instruction.opCount).keys()];
  return {
    code,
    length,
    mnemonic,
    flagsRead: instruction.rflagsRead,
    flagsWritten: maybe ? 0 : instruction.rflagsModified & ~instruction.rflagsUndefined,
    flagsUndefined: instruction.rflagsUndefined | around,
    approximate: APPROXIMATE.has(mnemonic),
    branch: instruction.flowControl !== FlowControl.Next,
    memory: operands.some((i) => instruction.opKind(i) === OpKind.Memory),
    repeated,
    address32: operands.some((i) => ADDRESSES_32.has(instruction.opKind(i))),
    xmm: operands.map((i) => {
      const register = instruction.opKind(i) === OpKind.Register ? instruction.opRegister(i) : Register.None;
      return register >= Register.XMM0 && register <= Register.XMM15 ? register - Register.XMM0 : -1;
    }),
    baseAdded: instruction.segmentPrefix === Register.FS || instruction.segmentPrefix === Register.GS,
  };
}

/** Decodes the instructions of a sequence, one after the other. */
export function inspectAll(code: Uint8Array): (Found & { at: number })[] {
  const all: (Found & { at: number })[] = [];
  for (let at = 0; at < code.length;) {
    const found = inspect(code.subarray(at));
    all.push({ ...found, at });
    at += found.length;
  }
  return all;
}

/** The set of instructions that may be run. */
export class Allowed {
  private readonly codes: ReadonlySet<Code>;

  constructor(templates: readonly Template[]) {
    this.codes = new Set(templates.map((template) => template.code));
  }

  has(code: Code): boolean {
    return this.codes.has(code);
  }
}
