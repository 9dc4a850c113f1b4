import {
  Code,
  CodeExt,
  CpuidFeature,
  Decoder,
  DecoderOptions,
  EncodingKind,
  Instruction,
  MandatoryPrefix,
  Mnemonic,
  OpCodeOperandKind,
  OpCodeTableKind,
} from 'iced-x86';
import { hostHasFsgsbase } from './vendor.ts';

/** What random instructions are made from: one template for each form that a program in ring 3 may run. */
export interface Template {
  code: Code;
  mnemonic: string;
  group: Group;
  /** 0, 0x66, 0xf2 or 0xf3: part of the opcode. */
  mandatory: number;
  /** Operand size prefix. */
  operand16: boolean;
  /** Address size prefix: JECXZ and the like. */
  address32: boolean;
  rexW: boolean;
  /** With its escape bytes. */
  opcode: number[];
  /** The last opcode byte's low three bits are a register. */
  opcodeRegister: boolean;
  modrm: boolean;
  /** The reg field, where it belongs to the opcode; else -1. */
  reg: number;
  /** What rm may be. */
  rm: 'any' | 'memory' | 'register';
  /** Bytes of immediates. */
  immediate: number;
  /** Bytes of the displacement of a relative branch. */
  branch: number;
  lockable: boolean;
  /** REP and REPNE mean something. */
  repeatable: boolean;
}

export const groups = ['integer', 'branch', 'string', 'system', 'x87', 'mmx', 'sse', 'fxsave'] as const;
export type Group = (typeof groups)[number];

/** The features of the CPU model `portable` (x86-64-v2), as iced names them, that the host has as well. */
const FEATURES = new Set(
  (
    (hostHasFsgsbase ? 'FSGSBASE ' : '') +
    'INTEL8086 INTEL186 INTEL286 INTEL386 INTEL486 X64 PAUSE FPU FPU287 FPU387 CMOV MULTIBYTENOP CX8 CMPXCHG16B ' +
    'MMX FXSR SSE SSE2 SSE3 SSSE3 SSE4_1 SSE4_2 POPCNT CLFSH CLFLUSHOPT PREFETCHW CET_IBT'
  ).split(' '),
);

/**
 * What is left out, and why:
 * - answers that are the host's own: descriptor tables and selectors, time, CPU identification;
 * - ways into the host's kernel, or between privilege levels and code segments;
 * - LODS with TF and such are in; INT n other than 3 would test our IDT, not the CPU.
 */
const EXCLUDED = new Set(
  (
    'syscall sysenter sysexit sysret sysretq int into iret iretd iretq retf cpuid rdtsc rdtscp rdpmc ' +
    'sgdt sidt sldt str smsw lmsw lar lsl verr verw lfs lgs lss lds les ' +
    'swapgs monitor mwait rsm fnsetpm fsetpm ' +
    // FDISI and FENI are no operations, but iced gives them to the 8087 alone.
    'fndisi fdisi fneni feni loadall'
  ).split(' '),
);

/** Transcendental and estimating instructions: the manuals give bounds of their error, not their bits. */
export const APPROXIMATE = new Set(
  'f2xm1 fyl2x fyl2xp1 fptan fpatan fsin fcos fsincos rcpps rcpss rsqrtps rsqrtss'.split(' '),
);

const MANDATORY = new Map<MandatoryPrefix, number>([
  [MandatoryPrefix.P66, 0x66],
  [MandatoryPrefix.PF2, 0xf2],
  [MandatoryPrefix.PF3, 0xf3],
]);
const ESCAPES = new Map<OpCodeTableKind, number[]>([
  [OpCodeTableKind.Normal, []],
  [OpCodeTableKind.T0F, [0x0f]],
  [OpCodeTableKind.T0F38, [0x0f, 0x38]],
  [OpCodeTableKind.T0F3A, [0x0f, 0x3a]],
]);
const IMMEDIATE: Record<string, number> = {
  imm8: 1,
  imm8sex16: 1,
  imm8sex32: 1,
  imm8sex64: 1,
  imm16: 2,
  imm32: 4,
  imm32sex64: 4,
  imm64: 8,
  mem_offs: 8,
};
const BRANCH: Record<string, number> = { br64_1: 1, br64_4: 4 };
const STRING = /^(movs|cmps|scas|lods|stos|ins|outs)[bwdq]$/;

function groupOf(mnemonic: string, features: string[], kinds: string[], privileged: boolean): Group {
  if (privileged || /^(in|out|ins|outs)[bwd]?$/.test(mnemonic)) return 'system';
  if (/^fx(save|rstor)/.test(mnemonic)) return 'fxsave';
  if (features.some((feature) => feature.startsWith('FPU'))) return 'x87';
  if (kinds.some((kind) => kind.startsWith('br') || kind.startsWith('farbr'))) return 'branch';
  if (['call', 'ret', 'jmp', 'int3', 'int1', 'ud0', 'ud1', 'ud2'].includes(mnemonic)) return 'branch';
  // MOVSD and CMPSD are also SSE2 instructions.
  if (kinds.some((kind) => /^(es_rDI|seg_rSI|seg_rDI)$/.test(kind))) return 'string';
  if (kinds.some((kind) => kind.startsWith('xmm')) || /^(ldmxcsr|stmxcsr|[lms]fence)$/.test(mnemonic)) {
    return 'sse';
  }
  if (kinds.some((kind) => kind.startsWith('mm_')) || mnemonic === 'emms') return 'mmx';
  return 'integer';
}

function makeTemplate(code: Code): Template | undefined {
  const info = CodeExt.opCode(code);
  const instruction = new Instruction();
  instruction.code = code;
  const features = [...instruction.cpuidFeatures()].map((feature) => CpuidFeature[feature]);
  instruction.free();
  const mnemonic = Mnemonic[info.mnemonic].toLowerCase();
  const kinds = Array.from({ length: info.opCount }, (_, i) => OpCodeOperandKind[info.opKind(i)]);
  const usable =
    info.encoding === EncodingKind.Legacy &&
    info.isInstruction &&
    info.mode64 &&
    !info.fwait &&
    features.every((feature) => FEATURES.has(feature)) &&
    !EXCLUDED.has(mnemonic) &&
    !kinds.some((kind) => kind.startsWith('farbr') || kind.startsWith('br16') || kind.startsWith('brdisp')) &&
    // 0F 0D is PREFETCH on AMD's processors, which have it with memory alone, and NOP on Intel's.
    !Code[code].endsWith('_0F0D') &&
    // MOVSXD to 16 bits reads four bytes on AMD's processors, and two on Intel's.
    code !== Code.Movsxd_r16_rm16 &&
    !Code[code].startsWith('Jmp_m16') &&
    !Code[code].startsWith('Call_m16') &&
    // A 16-bit near branch is cut to 16 bits by AMD's processors and not by Intel's.
    !(['call', 'ret', 'jmp'].includes(mnemonic) && info.operandSize === 16) &&
    // Loading a segment register tests the host's descriptor table.
    !(kinds[0] === 'seg_reg' || (mnemonic === 'pop' && /^[defgs]s$/.test(kinds[0])));
  if (!usable) return undefined;

  const opcode = [...ESCAPES.get(info.table)!];
  if (info.opCodeLength === 2) opcode.push(info.opCode >> 8);
  opcode.push(info.opCode & 0xff);
  const hasRm = kinds.some((kind) => /_or_mem$|_rm$|^mem$|^mem_mib$|_reg_mem$/.test(kind));
  const inReg = kinds.some((kind) => /_reg$/.test(kind));
  const modrm = hasRm || inReg || info.groupIndex >= 0;
  const rm = kinds.some((kind) => /^mem$|^mem_mib$|_reg_mem$/.test(kind))
    ? 'memory'
    : kinds.some((kind) => /_or_mem$/.test(kind))
      ? 'any'
      : 'register';
  const template: Template = {
    code,
    mnemonic,
    group: groupOf(mnemonic, features, kinds, info.isPrivileged || info.mustBeCpl0),
    mandatory: MANDATORY.get(info.mandatoryPrefix) ?? 0,
    operand16: info.operandSize === 16,
    address32: info.addressSize === 32,
    rexW: info.operandSize === 64 && !info.defaultOpSize64,
    opcode,
    opcodeRegister: kinds.some((kind) => kind.endsWith('_opcode') && kind !== 'sti_opcode'),
    modrm,
    reg: info.groupIndex,
    rm,
    immediate: kinds.reduce((bytes, kind) => bytes + (IMMEDIATE[kind] ?? 0), 0),
    branch: kinds.reduce((bytes, kind) => bytes + (BRANCH[kind] ?? 0), 0),
    lockable: info.canUseLockPrefix,
    repeatable: STRING.test(mnemonic) && kinds.some((kind) => /^(es_rDI|seg_rSI|seg_rDI)$/.test(kind)),
  };
  if (kinds.includes('sti_opcode')) {
    // Two opcode bytes, the second with a register in it: it varies with the template's ModRM byte.
    template.opcode = opcode.slice(0, -1);
    template.modrm = true;
    template.reg = (info.opCode >> 3) & 7;
    template.rm = 'register';
  }
  info.free();
  return template;
}

/** A plain encoding of a template: registers 0, or memory at [rsi]. */
export function plainEncoding(template: Template): Uint8Array {
  const bytes: number[] = [];
  if (template.address32) bytes.push(0x67);
  if (template.operand16) bytes.push(0x66);
  if (template.mandatory !== 0) bytes.push(template.mandatory);
  if (template.rexW) bytes.push(0x48);
  bytes.push(...template.opcode);
  // Register 1: with register 0, XCHG would be NOP.
  if (template.opcodeRegister) bytes[bytes.length - 1] += 1;
  if (template.modrm) {
    bytes.push((template.reg < 0 ? 0 : template.reg << 3) | (template.rm === 'memory' ? 6 : 0xc0));
  }
  return Uint8Array.from([...bytes, ...new Array<number>(template.immediate + template.branch).fill(0)]);
}

let cached: Template[] | undefined;

/** All templates. Each decodes to its own code: those that don't (a NOP with two names) are left out. */
export function allTemplates(): Template[] {
  if (cached) return cached;
  cached = [];
  for (const code of Object.values(Code)) {
    if (typeof code !== 'number') continue;
    const template = makeTemplate(code);
    if (template === undefined) continue;
    const decoder = new Decoder(64, plainEncoding(template), DecoderOptions.None);
    const decoded = decoder.decode();
    if (decoded.code === code) cached.push(template);
    decoded.free();
    decoder.free();
  }
  return cached;
}
