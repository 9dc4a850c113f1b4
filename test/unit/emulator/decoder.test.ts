import { describe, expect, it } from 'vitest';
import { Decoder } from '../../../main/emulator/decoder/decoder.ts';
import { buildLookup } from '../../../main/emulator/decoder/lookup.ts';
import { allFeatures, baselineFeatures, opcodes, rows } from '../../../main/emulator/decoder/opcodes.ts';
import { DecodeStatus, Instruction, OperandKind, RIP_BASE } from '../../../main/emulator/instruction.ts';

type Mode = 16 | 32 | 64;

const everything = new Decoder(allFeatures);

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text.split(' '), (byte) => parseInt(byte, 16));
}

function decode(mode: Mode, text: string, decoder = everything): { status: number; out: Instruction } {
  const bytes = bytesOf(text);
  const out = new Instruction();
  return { status: decoder.decode(bytes, 0, bytes.length, mode, out), out };
}

const segments = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'];
const kinds = ['', 'r', 'mem', 'imm', 'rel', 'seg', 'cr', 'dr', 'st', 'mm', 'xmm', 'far'];

function hex(low: number, high: number): string {
  const value = (BigInt(high) << 32n) | BigInt(low >>> 0);
  return value < 0n ? `-${(-value).toString(16)}` : value.toString(16);
}

/**
 * An instruction as text: mnemonic/operand size, then the operands. `r3:64` is RBX, `h3:8` BH,
 * `m32 ss:[r4+r1*2+10]a64` memory of 32 bits with 64-bit addressing; numbers are hexadecimal.
 */
function show(out: Instruction): string {
  const operands = out.operands.slice(0, out.operandCount).map((operand) => {
    const { kind, size, index, high } = operand;
    if (kind === OperandKind.MEM) {
      const base = out.base === RIP_BASE ? 'rip' : out.base < 0 ? '' : `r${out.base}`;
      const scaled = out.indexRegister < 0 ? '' : `+r${out.indexRegister}*${1 << out.scale}`;
      const where = `${base}${scaled}+${hex(out.dispLow, out.dispHigh)}`;
      return `m${size} ${segments[out.segment]}:[${where}]a${out.addressSize}`;
    }
    if (kind === OperandKind.IMM && index === 1) return `imm ${out.imm2.toString(16)}`;
    if (kind === OperandKind.IMM || kind === OperandKind.REL) {
      return `${kinds[kind]}${size} ${hex(out.immLow, out.immHigh)}`;
    }
    if (kind === OperandKind.FAR) {
      return `far${size} ${out.imm2.toString(16)}:${hex(out.immLow, out.immHigh)}`;
    }
    if (kind === OperandKind.SEG) return segments[index];
    return kind === OperandKind.GPR ? `${high ? 'h' : 'r'}${index}:${size}` : `${kinds[kind]}${index}`;
  });
  const condition = /cc$/.test(out.opcode?.mnemonic ?? '') ? `.${out.condition}` : '';
  const prefixes = `${out.lock ? 'lock ' : ''}${out.rep ? `${out.rep.toString(16)} ` : ''}`;
  const name = `${prefixes}${out.opcode?.mnemonic}${condition}/${out.operandSize}`;
  return operands.length === 0 ? name : `${name} ${operands.join(', ')}`;
}

// Encodings worked out by hand from the SDM's tables.
const encodings: readonly [mode: Mode, bytes: string, wanted: string][] = [
  // Operand sizes and REX.
  [64, '01 d8', 'add/32 r0:32, r3:32'],
  [64, '66 01 d8', 'add/16 r0:16, r3:16'],
  [64, '48 01 d8', 'add/64 r0:64, r3:64'],
  [64, '66 48 01 d8', 'add/64 r0:64, r3:64'],
  [64, '48 66 01 d8', 'add/16 r0:16, r3:16'],
  [64, '4d 01 d8', 'add/64 r8:64, r11:64'],
  [32, '01 d8', 'add/32 r0:32, r3:32'],
  [16, '01 d8', 'add/16 r0:16, r3:16'],
  [16, '66 01 d8', 'add/32 r0:32, r3:32'],
  [32, '48', 'dec/32 r0:32'],
  [64, '00 e7', 'add/8 h3:8, h0:8'],
  [64, '40 00 e7', 'add/8 r7:8, r4:8'],
  [64, '45 88 c7', 'mov/8 r15:8, r8:8'],
  // Memory operands.
  [64, '48 89 5c 24 10', 'mov/64 m64 ss:[r4+10]a64, r3:64'],
  [64, '8b 45 fc', 'mov/32 r0:32, m32 ss:[r5+-4]a64'],
  [64, '41 8b 45 fc', 'mov/32 r0:32, m32 ds:[r13+-4]a64'],
  [64, '41 8b 04 24', 'mov/32 r0:32, m32 ds:[r12+0]a64'],
  [64, '8b 05 78 56 34 12', 'mov/32 r0:32, m32 ds:[rip+12345678]a64'],
  [64, '41 8b 05 78 56 34 82', 'mov/32 r0:32, m32 ds:[rip+-7dcba988]a64'],
  [64, '67 8b 05 00 00 00 00', 'mov/32 r0:32, m32 ds:[rip+0]a32'],
  [64, '8b 04 25 00 00 00 80', 'mov/32 r0:32, m32 ds:[+-80000000]a64'],
  [64, '8b 04 8d 01 00 00 00', 'mov/32 r0:32, m32 ds:[+r1*4+1]a64'],
  [64, '42 8b 44 e5 08', 'mov/32 r0:32, m32 ss:[r5+r12*8+8]a64'],
  [64, '8b 44 e5 08', 'mov/32 r0:32, m32 ss:[r5+8]a64'],
  [64, '65 8b 04 25 28 00 00 00', 'mov/32 r0:32, m32 gs:[+28]a64'],
  [64, '64 2e 8b 00', 'mov/32 r0:32, m32 fs:[r0+0]a64'],
  [64, '3e 8b 45 00', 'mov/32 r0:32, m32 ss:[r5+0]a64'],
  [32, '3e 8b 45 00', 'mov/32 r0:32, m32 ds:[r5+0]a32'],
  [32, '8b 05 78 56 34 12', 'mov/32 r0:32, m32 ds:[+12345678]a32'],
  [16, '8b 00', 'mov/16 r0:16, m16 ds:[r3+r6*1+0]a16'],
  [16, '8b 42 ff', 'mov/16 r0:16, m16 ss:[r5+r6*1+-1]a16'],
  [16, '8b 06 34 12', 'mov/16 r0:16, m16 ds:[+1234]a16'],
  [16, '8b 87 34 92', 'mov/16 r0:16, m16 ds:[r3+-6dcc]a16'],
  [16, '8b 46 02', 'mov/16 r0:16, m16 ss:[r5+2]a16'],
  [32, '67 8b 44 10', 'mov/32 r0:32, m32 ds:[r6+10]a16'],
  [16, '67 8b 04 24', 'mov/16 r0:16, m16 ss:[r4+0]a32'],
  [64, 'a1 88 77 66 55 44 33 22 91', 'mov/32 r0:32, m32 ds:[+-6eddccbbaa998878]a64'],
  [64, '67 a0 44 33 22 11', 'mov/8 r0:8, m8 ds:[+11223344]a32'],
  [64, '48 a3 01 00 00 00 00 00 00 00', 'mov/64 m64 ds:[+1]a64, r0:64'],
  [16, '64 a2 00 80', 'mov/8 m8 fs:[+8000]a16, r0:8'],
  [64, '8d 04 89', 'lea/32 r0:32, m0 ds:[r1+r1*4+0]a64'],
  // Immediates and their extension.
  [64, '83 c0 ff', 'add/32 r0:32, imm32 -1'],
  [64, '48 05 00 00 00 80', 'add/64 r0:64, imm64 -80000000'],
  [64, '04 ff', 'add/8 r0:8, imm8 ff'],
  [64, '48 b8 08 07 06 05 04 03 02 01', 'mov/64 r0:64, imm64 102030405060708'],
  [64, '41 b9 01 00 00 00', 'mov/32 r9:32, imm32 1'],
  [64, '66 b9 ff ff', 'mov/16 r1:16, imm16 ffff'],
  [64, 'b5 7f', 'mov/8 h1:8, imm8 7f'],
  [64, '40 b5 7f', 'mov/8 r5:8, imm8 7f'],
  [64, 'c7 05 00 00 00 00 01 00 00 00', 'mov/32 m32 ds:[rip+0]a64, imm32 1'],
  [64, 'c8 34 12 ff', 'enter/64 imm16 1234, imm ff'],
  [64, 'c2 00 80', 'ret/64 imm16 8000'],
  [64, '6a 80', 'push/64 imm64 -80'],
  [64, '66 68 00 80', 'push/16 imm16 -8000'],
  [64, 'd1 e0', 'shl/32 r0:32, imm8 1'],
  [64, 'd3 f8', 'sar/32 r0:32, r1:8'],
  [64, 'c0 f0 07', 'shl/8 r0:8, imm8 7'],
  [64, '69 c1 00 01 00 00', 'imul/32 r0:32, r1:32, imm32 100'],
  [64, 'f6 c8 01', 'test/8 r0:8, imm8 1'],
  // Stack, branches, far pointers.
  [64, '50', 'push/64 r0:64'],
  [64, '66 41 50', 'push/16 r8:16'],
  [32, '66 06', 'push/16 es'],
  [64, '0f a9', 'pop/64 gs'],
  [64, 'ff 30', 'push/64 m64 ds:[r0+0]a64'],
  [64, '9c', 'pushf/64'],
  [64, '70 fe', 'jcc.0/64 rel64 -2'],
  [64, '66 0f 8f 00 00 00 80', 'jcc.15/64 rel64 -80000000'],
  [32, '66 0f 8f 00 80', 'jcc.15/16 rel16 -8000'],
  [64, '66 e8 01 00 00 00', 'call/64 rel64 1'],
  [64, 'ff d0', 'call/64 r0:64'],
  [64, 'ff 18', 'callf/32 m48 ds:[r0+0]a64'],
  [64, '48 ff 28', 'jmpf/64 m80 ds:[r0+0]a64'],
  [32, 'ea 44 33 22 11 08 00', 'jmpf/32 far48 8:11223344'],
  [16, '9a 00 80 34 12', 'callf/16 far32 1234:8000'],
  [32, 'c4 00', 'les/32 r0:32, m48 ds:[r0+0]a32'],
  [32, 'c5 00', 'lds/32 r0:32, m48 ds:[r0+0]a32'],
  [32, '62 00', 'bound/32 r0:32, m64 ds:[r0+0]a32'],
  [64, '67 e3 00', 'jcxz/64 rel64 0'],
  [64, 'cf', 'iret/32'],
  [64, '48 cf', 'iret/64'],
  [64, 'c3', 'ret/64'],
  [64, 'cb', 'retf/32'],
  // Strings, ports and others without operands.
  [64, 'f3 48 a5', 'f3 movs/64'],
  [64, 'f2 ae', 'f2 scas/8'],
  [64, '66 af', 'scas/16'],
  [64, '48 6d', 'ins/32'],
  [64, 'f3 c3', 'ret/64'],
  [64, 'e4 80', 'in/8 r0:8, imm8 80'],
  [64, '66 ef', 'out/16 r2:16, r0:16'],
  [64, '48 98', 'cbw/64'],
  [64, '66 99', 'cwd/16'],
  [64, '90', 'nop/32'],
  [64, '41 90', 'xchg/32 r8:32, r0:32'],
  [64, 'f3 41 90', 'xchg/32 r8:32, r0:32'],
  [64, '48 91', 'xchg/64 r1:64, r0:64'],
  [64, 'f3 0f 1e fa', 'nop/32 r2:32'],
  [64, '66 0f 1f 44 00 00', 'nop/16 m16 ds:[r0+r0*1+0]a64'],
  // Groups, conditions, LOCK.
  [64, 'f0 48 0f b1 0a', 'lock cmpxchg/64 m64 ds:[r2+0]a64, r1:64'],
  [64, 'f0 0f c7 0f', 'lock cmpxchg8b/32 m64 ds:[r7+0]a64'],
  [64, 'f0 48 0f c7 0f', 'lock cmpxchg16b/64 m128 ds:[r7+0]a64'],
  [64, '0f 94 c4', 'setcc.4/8 h0:8'],
  [64, '48 0f 4d c1', 'cmovcc.13/64 r0:64, r1:64'],
  [64, '0f ba e0 1f', 'bt/32 r0:32, imm8 1f'],
  [64, '0f b6 c4', 'movzx/32 r0:32, h0:8'],
  [64, '48 63 c8', 'movsxd/64 r1:64, r0:32'],
  [32, '63 c8', 'arpl/32 r0:16, r1:16'],
  [64, '0f 22 d8', 'mov/64 cr3, r0:64'],
  [32, '0f 20 18', 'mov/32 r0:32, cr3'],
  [64, '44 0f 20 c0', 'mov/64 r0:64, cr8'],
  [64, '0f 23 f8', 'mov/64 dr7, r0:64'],
  [64, '8e d8', 'mov/32 ds, r0:16'],
  [64, '48 8c d8', 'mov/64 r0:64, ds'],
  [64, '8c 18', 'mov/32 m16 ds:[r0+0]a64, ds'],
  [64, '0f 01 18', 'lidt/64 m80 ds:[r0+0]a64'],
  [16, '0f 01 16 00 10', 'lgdt/16 m48 ds:[+1000]a16'],
  [64, '0f 01 f8', 'swapgs/32'],
  [64, '0f 01 f9', 'rdtscp/32'],
  [64, '0f 01 c8', 'monitor/32'],
  [64, '0f 01 38', 'invlpg/32 m0 ds:[r0+0]a64'],
  [64, 'f3 48 0f ae d0', 'wrfsbase/64 r0:64'],
  [64, '0f ae e8', 'lfence/32'],
  [64, '0f ae 28', 'xrstor/32 m0 ds:[r0+0]a64'],
  [64, '48 0f ae 00', 'fxsave64/64 m0 ds:[r0+0]a64'],
  [64, '0f c9', 'bswap/32 r1:32'],
  [64, 'f3 48 0f b8 c1', 'popcnt/64 r0:64, r1:64'],
  [64, 'f2 66 0f 38 f1 c1', 'crc32/16 r0:32, r1:16'],
  [64, 'f2 48 0f 38 f0 c1', 'crc32/64 r0:64, r1:8'],
  [64, '66 0f 38 f0 00', 'movbe/16 r0:16, m16 ds:[r0+0]a64'],
  // x87.
  [64, 'd8 00', 'fadd/32 m32 ds:[r0+0]a64'],
  [64, 'dc c1', 'fadd/32 st1, st0'],
  [64, 'dc e1', 'fsubr/32 st1, st0'],
  [64, 'd8 e1', 'fsub/32 st0, st1'],
  [64, 'de e9', 'fsubp/32 st1, st0'],
  [64, 'db 28', 'fld/32 m80 ds:[r0+0]a64'],
  [64, 'df 28', 'fild/32 m64 ds:[r0+0]a64'],
  [64, 'df e0', 'fnstsw/32 r0:16'],
  [64, 'da d9', 'fcmovcc.10/32 st0, st1'],
  [64, 'd9 fe', 'fsin/32'],
  [64, '66 d9 30', 'fnstenv/16 m0 ds:[r0+0]a64'],
  // MMX and SSE: a 66 that selects is no operand size; one beside F2 or F3 is (it matters to POPCNT and CRC32).
  [64, '0f fc c1', 'paddb/32 mm0, mm1'],
  [64, '66 44 0f fc c1', 'paddb/32 xmm8, xmm1'],
  [64, '45 0f fc c1', 'paddb/32 mm0, mm1'],
  [64, '0f 10 00', 'movups/32 xmm0, m128 ds:[r0+0]a64'],
  [64, 'f3 0f 10 00', 'movss/32 xmm0, m32 ds:[r0+0]a64'],
  [64, '66 f2 0f 10 00', 'movsd/16 xmm0, m64 ds:[r0+0]a64'],
  [64, 'f3 f2 0f 10 00', 'movsd/32 xmm0, m64 ds:[r0+0]a64'],
  [64, '66 48 0f 6e c0', 'movq/64 xmm0, r0:64'],
  [64, '0f 12 c1', 'movhlps/32 xmm0, xmm1'],
  [64, 'f2 48 0f 2a c0', 'cvtsi2sd/64 xmm0, r0:64'],
  [64, '66 0f c2 c1 07', 'cmppd/32 xmm0, xmm1, imm8 7'],
  [64, '66 0f 73 d8 04', 'psrldq/32 xmm0, imm8 4'],
  [64, '66 0f 3a 14 00 03', 'pextrb/32 m8 ds:[r0+0]a64, xmm0, imm8 3'],
  [64, '66 48 0f 3a 16 c0 01', 'pextrq/64 r0:64, xmm0, imm8 1'],
];

const refused: readonly { name: string; mode: Mode; bytes: string; wanted: DecodeStatus }[] = [
  { name: 'LOCK on a register', mode: 64, bytes: 'f0 01 c0', wanted: DecodeStatus.INVALID },
  { name: 'LOCK on a load', mode: 64, bytes: 'f0 03 00', wanted: DecodeStatus.INVALID },
  { name: 'LOCK CMP', mode: 64, bytes: 'f0 83 38 00', wanted: DecodeStatus.INVALID },
  { name: 'LOCK MOV CR0', mode: 32, bytes: 'f0 0f 20 c0', wanted: DecodeStatus.INVALID },
  { name: 'MOV CR1', mode: 64, bytes: '0f 20 c8', wanted: DecodeStatus.INVALID },
  { name: 'MOV DR8', mode: 64, bytes: '44 0f 21 c0', wanted: DecodeStatus.INVALID },
  { name: 'MOV CS', mode: 64, bytes: '8e c8', wanted: DecodeStatus.INVALID },
  { name: 'a seventh segment register', mode: 64, bytes: '8c f0', wanted: DecodeStatus.INVALID },
  { name: 'LEA of a register', mode: 64, bytes: '8d c0', wanted: DecodeStatus.INVALID },
  { name: 'PUSH ES in 64-bit mode', mode: 64, bytes: '06', wanted: DecodeStatus.INVALID },
  { name: 'group 82 in 64-bit mode', mode: 64, bytes: '82 c0 00', wanted: DecodeStatus.INVALID },
  { name: 'far CALL of an immediate in 64-bit mode', mode: 64, bytes: '9a', wanted: DecodeStatus.INVALID },
  { name: 'SWAPGS outside 64-bit mode', mode: 32, bytes: '0f 01 f8', wanted: DecodeStatus.INVALID },
  { name: 'VEX', mode: 64, bytes: 'c5 f8 77', wanted: DecodeStatus.INVALID },
  { name: 'VEX outside 64-bit mode', mode: 32, bytes: 'c5 f8 77', wanted: DecodeStatus.INVALID },
  { name: 'EVEX', mode: 64, bytes: '62 f1 7c 48 58 c0', wanted: DecodeStatus.INVALID },
  { name: 'XOP', mode: 64, bytes: '8f e8 78 c0 c0 01', wanted: DecodeStatus.INVALID },
  { name: 'F3 before an MMX instruction', mode: 64, bytes: 'f3 0f fc c0', wanted: DecodeStatus.INVALID },
  { name: 'D9 D1', mode: 64, bytes: 'd9 d1', wanted: DecodeStatus.INVALID },
  { name: 'no bytes', mode: 64, bytes: '66', wanted: DecodeStatus.NEED_MORE },
  { name: 'no ModRM', mode: 64, bytes: '01', wanted: DecodeStatus.NEED_MORE },
  { name: 'no SIB', mode: 64, bytes: '01 04', wanted: DecodeStatus.NEED_MORE },
  { name: 'half a displacement', mode: 64, bytes: '01 05 00 00', wanted: DecodeStatus.NEED_MORE },
  { name: 'half an immediate', mode: 64, bytes: '81 c0 00 00 00', wanted: DecodeStatus.NEED_MORE },
  {
    name: 'half an immediate, and a LOCK that is wrong too',
    mode: 64,
    bytes: 'f0 81 c0 00',
    wanted: DecodeStatus.NEED_MORE,
  },
  {
    name: '14 prefixes and an opcode',
    mode: 64,
    bytes: '66 66 66 66 66 66 66 66 66 66 66 66 66 66 90',
    wanted: DecodeStatus.OK,
  },
  {
    name: '15 prefixes',
    mode: 64,
    bytes: '66 66 66 66 66 66 66 66 66 66 66 66 66 66 66',
    wanted: DecodeStatus.TOO_LONG,
  },
  {
    name: 'a ModRM byte in sixteenth place',
    mode: 64,
    bytes: '66 66 66 66 66 66 66 66 66 66 66 66 66 66 01 c0',
    wanted: DecodeStatus.TOO_LONG,
  },
  {
    name: 'an immediate that runs over',
    mode: 64,
    bytes: '66 66 66 66 66 66 66 66 66 66 66 66 05 00 00',
    wanted: DecodeStatus.OK,
  },
  {
    name: 'an immediate that runs over, by a byte',
    mode: 64,
    bytes: '66 66 66 66 66 66 66 66 66 66 66 66 66 05 00 00',
    wanted: DecodeStatus.TOO_LONG,
  },
  {
    name: 'an undefined opcode in fifteenth place',
    mode: 64,
    bytes: '66 66 66 66 66 66 66 66 66 66 66 66 66 66 06 00',
    wanted: DecodeStatus.INVALID,
  },
];

const byFeature: readonly { bytes: string; feature: string; on: string; off: string | undefined }[] = [
  { bytes: 'f3 0f bc c1', feature: 'bmi1', on: 'tzcnt', off: 'bsf' },
  { bytes: 'f3 0f bd c1', feature: 'lzcnt', on: 'lzcnt', off: 'bsr' },
  { bytes: 'f3 0f b8 c1', feature: 'popcnt', on: 'popcnt', off: undefined },
  { bytes: '0f 0d 08', feature: '3dnowprefetch', on: 'prefetchw', off: 'nop' },
  { bytes: '0f 38 f0 00', feature: 'movbe', on: 'movbe', off: undefined },
  { bytes: 'f3 0f ae c0', feature: 'fsgsbase', on: 'rdfsbase', off: undefined },
  { bytes: '0f 01 c8', feature: 'monitor', on: 'monitor', off: undefined },
  { bytes: '9f', feature: 'lahf_lm', on: 'lahf', off: undefined },
  { bytes: '0f 10 c0', feature: 'sse', on: 'movups', off: undefined },
  { bytes: 'd9 e8', feature: 'fpu', on: 'fld1', off: undefined },
];

describe('the decoder', () => {
  it.each(encodings)('in %i-bit mode decodes %s as %s', (mode, bytes, wanted) => {
    const { status, out } = decode(mode, bytes);
    expect(status).toBe(DecodeStatus.OK);
    expect(show(out)).toBe(wanted);
    expect(out.length).toBe(bytesOf(bytes).length);
  });

  it.each(encodings)('in %i-bit mode wants all of %s (%s)', (mode, text) => {
    const bytes = bytesOf(text);
    const out = new Instruction();
    for (let end = 0; end < bytes.length; end++) {
      expect(everything.decode(bytes, 0, end, mode, out)).toBe(DecodeStatus.NEED_MORE);
    }
  });

  it.each(refused)('$name ($bytes)', ({ mode, bytes, wanted }) => {
    expect(decode(mode, bytes).status).toBe(wanted);
  });

  it.each(byFeature)('$bytes is $on with $feature, and else $off', ({ bytes, feature, on, off }) => {
    expect(decode(64, bytes).out.opcode?.mnemonic).toBe(on);
    const without = new Decoder(new Set([...allFeatures].filter((name) => name !== feature)));
    const { status, out } = decode(64, bytes, without);
    expect(status === DecodeStatus.OK ? out.opcode?.mnemonic : undefined).toBe(off);
  });

  it('keeps the segment of string sources, and REP only where it means something', () => {
    expect(decode(64, 'f3 65 a4').out).toMatchObject({ segment: 5, segmentOverride: true, rep: 0xf3 });
    expect(decode(32, '36 a4').out).toMatchObject({ segment: 2, segmentOverride: true, rep: 0 });
    expect(decode(64, '36 a4').out).toMatchObject({ segment: 3, segmentOverride: false });
    expect(decode(64, 'f3 0f 10 00').out.rep).toBe(0);
  });

  it('leaves nothing of the instruction before', () => {
    const used = new Instruction();
    const later = bytesOf('90');
    for (const [mode, text] of encodings) {
      const bytes = bytesOf(text);
      everything.decode(bytes, 0, bytes.length, mode, used);
      everything.decode(later, 0, 1, 64, used);
      const { out: fresh } = decode(64, '90');
      const meaning = ({ operands: _operands, ...fields }: Instruction): object => fields;
      expect(meaning(used)).toEqual(meaning(fresh));
    }
  });
});

describe('the opcode table', () => {
  it('has one opcode object for a name, the same for every decoder', () => {
    const other = new Decoder(baselineFeatures);
    expect(decode(64, '01 00').out.opcode).toBe(decode(32, '83 00 00', other).out.opcode);
    opcodes.forEach((opcode, i) => expect(opcode.id).toBe(i));
    for (const row of rows) expect(row.opcode.mnemonic).toMatch(/^[a-z][a-z0-9]*$/);
  });

  it('has no encoding that two rows claim, whatever features are off', () => {
    for (const feature of allFeatures) {
      const without = new Set([...allFeatures].filter((name) => name !== feature));
      buildLookup(without, true);
      buildLookup(without, false);
    }
    buildLookup(new Set(), true);
    buildLookup(new Set(), false);
  });
});
