/**
 * The x86-64 instruction decoder. Intel SDM Vol. 2 chapter 2 (formats) and appendix A (maps); opcodes.ts holds
 * the maps.
 *
 * Where Intel and AMD processors differ, this is an Intel one: near branches ignore 66 in 64-bit mode, far
 * pointers in memory obey REX.W, UD0 has a ModRM byte, the register forms of 0F 0D are NOP, and LOCK MOV CR0 is
 * undefined.
 *
 * What the fields of an Instruction mean beyond their names:
 * - String instructions and XLAT have no operands. `segment` is that of the source (DS or the override); the
 *   destination is ES:rDI. MASKMOVQ, MASKMOVDQU and MONITOR use `segment` likewise.
 * - An IMM operand's `index` tells which immediate it is: 0 immLow/immHigh, 1 imm2 (ENTER's level).
 * - Ib is zero-extended, sIb and Iz are sign-extended, Iv is zero-extended below 64 bits.
 * - `rep` is set for string instructions only.
 * - The registers of R/M operands keep the size of the register form; XMM operands have the bits that take part.
 */
import { DecodeStatus, type Instruction, NO_REGISTER, OperandKind, RIP_BASE } from '../instruction.ts';
import {
  buildLookup,
  type Lookup,
  MEMORY_CELLS,
  rowConditions,
  rowFlags,
  rowOpcodes,
  rowOperandCounts,
  rowOperands,
} from './lookup.ts';
import { Flag, Method, sizeTable } from './notation.ts';

/** No instruction is longer. SDM Vol. 2, 2.3.11. */
const MAX_LENGTH = 15;

const RSP = 4;
const RBP = 5;
const CS = 1;
const SS = 2;
const DS = 3;
const GS = 5;

/** CR0, CR2, CR3, CR4 and CR8 exist. */
const controlRegisters = 0b1_0001_1101;

/** Legacy prefixes by byte: 0 none, 1-6 ES CS SS DS FS GS, then those below. */
const prefixKinds = new Uint8Array(256);
const OPERAND_SIZE = 7;
const ADDRESS_SIZE = 8;
const LOCK = 9;
const REPEAT = 10;
[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2].forEach((byte, i) => {
  prefixKinds[byte] = i + 1;
});
prefixKinds[0xf3] = REPEAT;

/** Base and index registers of the 16-bit addressing forms by ModRM.rm: BX BP SI DI are 3 5 6 7. */
const bases16 = Int8Array.of(3, 3, 5, 5, 6, 7, 5, 3);
const indexes16 = Int8Array.of(6, 7, 6, 7, NO_REGISTER, NO_REGISTER, NO_REGISTER, NO_REGISTER);

export class Decoder {
  private readonly lookup64: Lookup;
  private readonly lookupLegacy: Lookup;

  // The instruction at hand.
  private bytes: Uint8Array = new Uint8Array(0);
  private cursor = 0;
  private limit = 0;
  private rex = 0;
  /** Index of the operand size: 0, 1, 2 for 16, 32, 64 bits. */
  private size = 0;
  /** 3 in 64-bit mode: the column of `sizeTable`. */
  private sizeColumn = 0;
  private valid = true;

  /** A decoder for a processor with these features (names as in notation.ts). */
  constructor(features: ReadonlySet<string>) {
    this.lookup64 = buildLookup(features, true);
    this.lookupLegacy = buildLookup(features, false);
  }

  /**
   * Decodes the instruction at `bytes[at]` into `out`; bytes from `end` on are not looked at. `mode` is the code
   * segment's: 16, 32, or 64. Unless the result is OK, `out` holds nothing of use.
   */
  decode(bytes: Uint8Array, at: number, end: number, mode: 16 | 32 | 64, out: Instruction): DecodeStatus {
    const limit = end < at + MAX_LENGTH ? end : at + MAX_LENGTH;
    const short = limit === end && end < at + MAX_LENGTH ? DecodeStatus.NEED_MORE : DecodeStatus.TOO_LONG;
    const long = mode === 64;
    let cursor = at;
    let rex = 0;
    let override = -1;
    let operandPrefix = false;
    let addressPrefix = false;
    let lock = false;
    let repeat = 0;
    let byte: number;
    for (;;) {
      if (cursor >= limit) return short;
      byte = bytes[cursor++]!;
      if (long && (byte & 0xf0) === 0x40) {
        rex = byte;
        continue;
      }
      const kind = prefixKinds[byte]!;
      if (kind === 0) break;
      // REX counts only directly before the opcode.
      rex = 0;
      if (kind <= 6) {
        // ES, CS, SS and DS overrides are ignored in 64-bit mode: they don't even undo FS or GS.
        if (!long || kind > 4) override = kind - 1;
      } else if (kind === OPERAND_SIZE) operandPrefix = true;
      else if (kind === ADDRESS_SIZE) addressPrefix = true;
      else if (kind === LOCK) lock = true;
      else repeat = byte;
    }

    let map = 0;
    let entry = byte;
    if (byte === 0x0f) {
      if (cursor >= limit) return short;
      byte = entry = bytes[cursor++]!;
      map = 1;
      if (byte === 0x38 || byte === 0x3a) {
        map = byte === 0x38 ? 2 : 3;
        if (cursor >= limit) return short;
        byte = entry = bytes[cursor++]!;
      }
    } else if (byte === 0x90 && (rex & 1) !== 0) {
      // 90 with REX.B is no NOP, nor with F3 a PAUSE, but XCHG R8, rAX: the row of 91 (tried on an AMD processor).
      entry = 0x91;
    }

    const lookup = long ? this.lookup64 : this.lookupLegacy;
    const prefix = repeat !== 0 ? (repeat === 0xf3 ? 2 : 3) : operandPrefix ? 1 : 0;
    let row = lookup.top[(map << 11) | ((rex & 8) << 7) | (prefix << 8) | entry]!;
    if (row === 0) return DecodeStatus.INVALID;
    let modrm = -1;
    if (row < 0) {
      if (cursor >= limit) return short;
      modrm = bytes[cursor++]!;
      row = lookup.groups[-row + (modrm < 0xc0 ? (modrm >> 3) & 7 : modrm - 0xc0 + MEMORY_CELLS)]!;
      if (row === 0) return DecodeStatus.INVALID;
    }
    row--;
    const flags = rowFlags[row]!;
    if ((flags & Flag.MODRM) !== 0) {
      if (modrm < 0) {
        if (cursor >= limit) return short;
        modrm = bytes[cursor++]!;
      }
      if ((flags & Flag.ANY_MOD) !== 0) modrm |= 0xc0;
    }

    const word = (mode === 16) !== (operandPrefix && (flags & Flag.PREFIX_66) === 0);
    if (!long) this.size = word ? 0 : 1;
    else if ((flags & Flag.FORCE_64) !== 0) this.size = 2;
    else if ((rex & 8) !== 0) this.size = (flags & Flag.NO_W) !== 0 ? 1 : 2;
    else this.size = word ? 0 : (flags & Flag.DEFAULT_64) !== 0 ? 2 : 1;
    this.sizeColumn = long ? 3 : 0;
    this.bytes = bytes;
    this.cursor = cursor;
    this.limit = limit;
    this.rex = rex;
    this.valid = true;

    out.opcode = rowOpcodes[row];
    out.operandSize = (flags & Flag.BYTE) !== 0 ? 8 : 16 << this.size;
    out.addressSize = long ? (addressPrefix ? 32 : 64) : (mode === 16) !== addressPrefix ? 16 : 32;
    out.condition = rowConditions[row]!;
    out.lock = lock;
    out.rep = (flags & Flag.STRING) !== 0 ? repeat : 0;
    out.rex = rex !== 0;
    out.rexW = (rex & 8) !== 0;
    out.modrm = modrm;
    out.segment = DS;
    out.segmentOverride = override >= 0;
    out.base = NO_REGISTER;
    out.indexRegister = NO_REGISTER;
    out.scale = 0;
    out.dispLow = 0;
    out.dispHigh = 0;
    // What an x87 instruction leaves in FOP: it has no immediate of its own.
    out.immLow = map === 0 && (byte & 0xf8) === 0xd8 ? ((byte & 7) << 8) | modrm : 0;
    out.immHigh = 0;
    out.imm2 = 0;

    if (modrm >= 0 && modrm < 0xc0) {
      const complete = out.addressSize === 16 ? this.address16(modrm, out) : this.address(modrm, out);
      if (!complete) return short;
    }
    if (override >= 0) out.segment = override;

    const count = rowOperandCounts[row]!;
    out.operandCount = count;
    for (let i = 0; i < 4; i++) {
      if (i >= count) out.operands[i]!.kind = OperandKind.NONE;
      else if (!this.operand(rowOperands[row * 4 + i]!, i, byte, out)) return short;
    }
    if (!this.valid || (lock && ((flags & Flag.LOCKABLE) === 0 || modrm >= 0xc0))) {
      return DecodeStatus.INVALID;
    }
    out.length = this.cursor - at;
    return DecodeStatus.OK;
  }

  /** ModRM with 16-bit addresses. False when the bytes run out. */
  private address16(modrm: number, out: Instruction): boolean {
    const mod = modrm >> 6;
    const rm = modrm & 7;
    if (mod === 0 && rm === 6) return this.displacement(2, out);
    out.base = bases16[rm]!;
    out.indexRegister = indexes16[rm]!;
    if (out.base === RBP) out.segment = SS;
    return this.displacement(mod, out);
  }

  /** ModRM and SIB with 32-bit and 64-bit addresses. False when the bytes run out. */
  private address(modrm: number, out: Instruction): boolean {
    const mod = modrm >> 6;
    const rm = modrm & 7;
    const rex = this.rex;
    if (rm !== RSP) {
      if (mod === 0 && rm === RBP) {
        if (this.sizeColumn !== 0) out.base = RIP_BASE;
        return this.displacement(4, out);
      }
      out.base = rm | ((rex & 1) << 3);
    } else {
      if (this.cursor >= this.limit) return false;
      const sib = this.bytes[this.cursor++]!;
      const index = ((sib >> 3) & 7) | ((rex & 2) << 2);
      // RSP is no index, and then there is nothing to scale; R12 is one.
      if (index !== RSP) {
        out.indexRegister = index;
        out.scale = sib >> 6;
      }
      if (mod === 0 && (sib & 7) === RBP) return this.displacement(4, out);
      out.base = (sib & 7) | ((rex & 1) << 3);
    }
    if (out.base === RSP || out.base === RBP) out.segment = SS;
    return this.displacement(mod === 2 ? 4 : mod, out);
  }

  private displacement(size: number, out: Instruction): boolean {
    if (this.cursor + size > this.limit) return false;
    if (size !== 0) {
      out.dispLow = size === 1 ? this.signedByte() : size === 2 ? this.signedWord() : this.doubleword();
      out.dispHigh = out.dispLow >> 31;
    }
    return true;
  }

  /** Fills operand `i` from its packed description. False when the bytes run out. */
  private operand(packed: number, i: number, byte: number, out: Instruction): boolean {
    const target = out.operands[i]!;
    const rex = this.rex;
    const column = this.sizeColumn + this.size;
    const modrm = out.modrm;
    const rm = (modrm & 7) | ((rex & 1) << 3);
    const reg = ((modrm >> 3) & 7) | ((rex & 4) << 1);
    target.high = false;
    target.size = sizeTable[((packed >> 8) & 0xff) * 6 + column]!;
    const method = packed & 0xff;
    if (method <= Method.RM_ST && modrm < 0xc0) {
      target.kind = OperandKind.MEM;
      target.index = 0;
      return true;
    }
    switch (method) {
      case Method.RM_GPR:
        target.size = sizeTable[(packed >> 16) * 6 + column]!;
        return this.general(i, rm, out);
      case Method.REG_GPR:
        return this.general(i, reg, out);
      case Method.OPCODE_GPR:
        return this.general(i, (byte & 7) | ((rex & 1) << 3), out);
      case Method.FIXED_GPR:
        return this.register(i, OperandKind.GPR, packed >> 16, out);
      case Method.RM_MMX:
        return this.register(i, OperandKind.MMX, modrm & 7, out);
      case Method.REG_MMX:
        return this.register(i, OperandKind.MMX, (modrm >> 3) & 7, out);
      case Method.RM_XMM:
        return this.register(i, OperandKind.XMM, rm, out);
      case Method.REG_XMM:
        return this.register(i, OperandKind.XMM, reg, out);
      case Method.RM_ST:
        return this.register(i, OperandKind.ST, modrm & 7, out);
      case Method.FIXED_ST:
        return this.register(i, OperandKind.ST, 0, out);
      case Method.REG_SEG: {
        const segment = (modrm >> 3) & 7;
        // There are six, and CS isn't loaded by MOV.
        if (segment > GS || (segment === CS && i === 0)) this.valid = false;
        return this.register(i, OperandKind.SEG, segment, out);
      }
      case Method.FIXED_SEG:
        return this.register(i, OperandKind.SEG, packed >> 16, out);
      case Method.REG_CR:
        if (((controlRegisters >> reg) & 1) === 0) this.valid = false;
        return this.register(i, OperandKind.CR, reg, out);
      case Method.REG_DR:
        if (reg > 7) this.valid = false;
        return this.register(i, OperandKind.DR, reg, out);
      case Method.OFFSET:
        target.kind = OperandKind.MEM;
        target.index = 0;
        return this.offset(out);
      case Method.FAR:
        target.kind = OperandKind.FAR;
        target.index = 0;
        return this.farPointer(out);
      default:
        target.kind = method === Method.REL8 || method === Method.REL_Z ? OperandKind.REL : OperandKind.IMM;
        target.index = method === Method.IMM8_SECOND ? 1 : 0;
        return this.immediate(method, out);
    }
  }

  private register(i: number, kind: OperandKind, index: number, out: Instruction): boolean {
    const target = out.operands[i]!;
    target.kind = kind;
    target.index = index;
    return true;
  }

  /** A general register; without REX the byte registers 4-7 are AH, CH, DH, BH. */
  private general(i: number, index: number, out: Instruction): boolean {
    const target = out.operands[i]!;
    target.kind = OperandKind.GPR;
    target.high = target.size === 8 && this.rex === 0 && index >= 4;
    target.index = target.high ? index - 4 : index;
    return true;
  }

  private immediate(method: number, out: Instruction): boolean {
    const left = this.limit - this.cursor;
    switch (method) {
      case Method.ONE:
        out.immLow = 1;
        return true;
      case Method.IMM8:
        if (left < 1) return false;
        out.immLow = this.bytes[this.cursor++]!;
        return true;
      case Method.IMM8_SECOND:
        if (left < 1) return false;
        out.imm2 = this.bytes[this.cursor++]!;
        return true;
      case Method.IMM8_SIGNED:
      case Method.REL8:
        if (left < 1) return false;
        out.immLow = this.signedByte();
        break;
      case Method.IMM16:
        if (left < 2) return false;
        out.immLow = this.signedWord() & 0xffff;
        return true;
      case Method.IMM_Z:
      case Method.REL_Z:
        if (left < (this.size === 0 ? 2 : 4)) return false;
        out.immLow = this.size === 0 ? this.signedWord() : this.doubleword();
        break;
      case Method.IMM_V:
        if (left < 2 << this.size) return false;
        out.immLow = this.size === 0 ? this.signedWord() & 0xffff : this.doubleword();
        if (this.size === 2) out.immHigh = this.doubleword();
        return true;
    }
    out.immHigh = out.immLow >> 31;
    return true;
  }

  private farPointer(out: Instruction): boolean {
    if (this.limit - this.cursor < (this.size === 0 ? 4 : 6)) return false;
    out.immLow = this.size === 0 ? this.signedWord() & 0xffff : this.doubleword();
    out.imm2 = this.signedWord() & 0xffff;
    return true;
  }

  /** The address in MOV's forms A0 to A3, zero-extended. */
  private offset(out: Instruction): boolean {
    if (this.limit - this.cursor < out.addressSize >> 3) return false;
    out.dispLow = out.addressSize === 16 ? this.signedWord() & 0xffff : this.doubleword();
    out.dispHigh = out.addressSize === 64 ? this.doubleword() : 0;
    return true;
  }

  private signedByte(): number {
    return (this.bytes[this.cursor++]! << 24) >> 24;
  }

  private signedWord(): number {
    const at = this.cursor;
    this.cursor = at + 2;
    return ((this.bytes[at]! << 16) | (this.bytes[at + 1]! << 24)) >> 16;
  }

  private doubleword(): number {
    const { bytes, cursor } = this;
    this.cursor = cursor + 4;
    return (
      bytes[cursor]! | (bytes[cursor + 1]! << 8) | (bytes[cursor + 2]! << 16) | (bytes[cursor + 3]! << 24)
    );
  }
}
