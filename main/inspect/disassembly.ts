import { createRequire } from 'node:module';
import type * as Iced from 'iced-x86';
import { Gpr, Seg } from '../nvmm/constants.ts';
import type { VcpuState } from '../nvmm/layout.ts';

/** Loaded at the first instruction: most machines start and end without anybody looking. */
let library: typeof Iced | undefined;
const load = (): typeof Iced => (library ??= createRequire(import.meta.url)('iced-x86') as typeof Iced);

/** The longest instruction, in bytes (SDM volume 2, 2.3.11). */
export const LONGEST_INSTRUCTION = 15;

export type CodeSize = 16 | 32 | 64;

/** What an instruction does to the flow of control, as far as stepping over and out of functions cares. */
export type Flow = 'next' | 'call' | 'return' | 'repeat' | 'jump' | 'other';

export interface Disassembled {
  /** Offset in the code segment: what RIP is there. */
  address: bigint;
  length: number;
  bytes: Uint8Array;
  text: string;
  flow: Flow;
  /** Where a direct jump or call goes. */
  target?: bigint;
}

const CS_LONG = 1 << 9;
const CS_DEFAULT_32 = 1 << 10;

/** The size of the code that a vCPU runs: by CS.L and CS.D. */
export function codeSizeOf(state: VcpuState): CodeSize {
  const attributes = state.attrib(Seg.CS);
  // Of a state that is not in long mode CS.L means nothing, and nobody sets it.
  if ((attributes & CS_LONG) !== 0) return 64;
  return (attributes & CS_DEFAULT_32) !== 0 ? 32 : 16;
}

/** The linear address of an offset in the code segment. */
export function codeLinear(state: VcpuState, offset: bigint): bigint {
  if (codeSizeOf(state) === 64) return offset;
  return BigInt.asUintN(32, state.base(Seg.CS) + offset);
}

/** RIP's linear address. */
export const ripLinear = (state: VcpuState): bigint => codeLinear(state, state.gpr(Gpr.RIP));

function flowOf(iced: typeof Iced, instruction: Iced.Instruction): Flow {
  if (instruction.hasRepPrefix || instruction.hasRepePrefix || instruction.hasRepnePrefix) {
    if (instruction.isStringInstruction) return 'repeat';
  }
  switch (instruction.flowControl) {
    case iced.FlowControl.Next:
      return 'next';
    case iced.FlowControl.Call:
    case iced.FlowControl.IndirectCall:
    case iced.FlowControl.Interrupt:
      return 'call';
    case iced.FlowControl.Return:
      return 'return';
    case iced.FlowControl.UnconditionalBranch:
    case iced.FlowControl.ConditionalBranch:
    case iced.FlowControl.IndirectBranch:
      return 'jump';
    default:
      return 'other';
  }
}

function targetOf(iced: typeof Iced, instruction: Iced.Instruction): { target?: bigint } {
  const direct: number[] = [iced.OpKind.NearBranch16, iced.OpKind.NearBranch32, iced.OpKind.NearBranch64];
  return instruction.opCount > 0 && direct.includes(instruction.opKind(0))
    ? { target: instruction.nearBranchTarget }
    : {};
}

/** Gives the name of an address where there is a symbol: `start+0x10`. */
export type NameOf = (address: bigint) => string | null;

/**
 * Disassembles bytes that begin at an offset of the code segment, at most `count` instructions. What is cut off at the
 * end of the bytes is left out; what is no instruction is one byte, `(bad)`.
 */
export function disassemble(
  bytes: Uint8Array,
  size: CodeSize,
  address: bigint,
  count: number,
  nameOf: NameOf = () => null,
): Disassembled[] {
  const iced = load();
  const decoder = new iced.Decoder(size, bytes, iced.DecoderOptions.None);
  const formatter = new iced.Formatter(iced.FormatterSyntax.Intel);
  formatter.hexPrefix = '0x';
  formatter.hexSuffix = '';
  formatter.uppercaseHex = false;
  formatter.branchLeadingZeros = false;
  formatter.leadingZeros = false;
  formatter.firstOperandCharIndex = 8;
  formatter.spaceAfterOperandSeparator = true;
  const instruction = new iced.Instruction();
  const lines: Disassembled[] = [];
  try {
    decoder.ip = address;
    while (lines.length < count && decoder.canDecode) {
      const at = decoder.position;
      decoder.decodeOut(instruction);
      if (instruction.isInvalid) {
        const cutOff = decoder.lastError === iced.DecoderError.NoMoreBytes;
        if (cutOff && at + LONGEST_INSTRUCTION > bytes.length) break;
        decoder.position = at + 1;
        const next = BigInt.asUintN(64, address + BigInt(at));
        decoder.ip = next + 1n;
        lines.push({
          address: next,
          length: 1,
          bytes: bytes.slice(at, at + 1),
          text: '(bad)',
          flow: 'other',
        });
        continue;
      }
      const { length } = instruction;
      const jump = targetOf(iced, instruction);
      const name = jump.target === undefined ? null : nameOf(jump.target);
      lines.push({
        address: instruction.ip,
        length,
        bytes: bytes.slice(at, at + length),
        text: formatter.format(instruction) + (name === null ? '' : ` <${name}>`),
        flow: flowOf(iced, instruction),
        ...jump,
      });
    }
  } finally {
    instruction.free();
    formatter.free();
    decoder.free();
  }
  return lines;
}
