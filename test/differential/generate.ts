import { Code } from 'iced-x86';
import { Case, CODE, CODE_SIZE, MAX_CODE } from './case.ts';
import { Random } from './random.ts';
import { Allowed, inspect, inspectAll } from './inspect.ts';
import type { Found } from './inspect.ts';
import { allTemplates } from './templates.ts';
import type { Group, Template } from './templates.ts';
import { address, fillFxsave, fillPattern, integer, single } from './values.ts';

/** Makes random cases: sequences of one to eight instructions of every form, with a state that suits them. */

export interface Filter {
  groups?: readonly Group[];
  /** Matched against the whole mnemonic. */
  mnemonic?: RegExp;
}

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RSP = 4;
const MAX_INSTRUCTIONS = 8;
/** How often an instruction is tried again when what came out may not be run. */
const TRIES = 20;

/** What a case is made of: weights of the groups. Sequences of one kind find more than a mixture does. */
const FLAVOURS: readonly Partial<Record<Group, number>>[] = [
  { integer: 20, branch: 2, string: 1 },
  { integer: 20, branch: 2, string: 1 },
  { integer: 8, branch: 4, string: 4, system: 1 },
  { sse: 20, integer: 2 },
  { sse: 20, integer: 1, fxsave: 0.3 },
  { x87: 20, integer: 1, fxsave: 0.3 },
  { mmx: 16, x87: 2, sse: 1 },
  { integer: 6, sse: 6, x87: 3, mmx: 3, string: 1, branch: 1, fxsave: 0.2 },
];

/** They store the mask of MXCSR, and the selectors of the last x87 instruction. */
const LAST = new Set(['fxsave', 'fxsave64', 'fnstenv', 'fnsave']);
const PREFIX = new Set([0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65]);

export class Generator {
  private readonly byGroup = new Map<Group, Template[]>();
  private readonly allowed: Allowed;
  private readonly seed: number;

  constructor(seed: number, filter: Filter = {}) {
    this.seed = seed;
    for (const template of allTemplates()) {
      if (filter.groups && !filter.groups.includes(template.group)) continue;
      if (filter.mnemonic && !filter.mnemonic.test(template.mnemonic)) continue;
      const group = this.byGroup.get(template.group);
      if (group) group.push(template);
      else this.byGroup.set(template.group, [template]);
    }
    if (this.byGroup.size === 0) throw new Error('no instruction fits the filter');
    this.allowed = new Allowed([...this.byGroup.values()].flat());
  }

  /** Case number `index` of this seed. */
  make(index: number): Case {
    return new CaseMaker(new Random(this.seed, index), this.byGroup, this.allowed).make();
  }
}

class CaseMaker {
  private readonly random: Random;
  private readonly byGroup: ReadonlyMap<Group, Template[]>;
  private readonly allowed: Allowed;
  private readonly made = new Case();
  private readonly code = new Uint8Array(MAX_CODE + 32);
  private size = 0;
  /** Registers that hold addresses in the window, and such that hold small numbers. */
  private pointers: number[] = [];
  private indices: number[] = [];
  private weights: [Group, number][] = [];

  constructor(random: Random, byGroup: ReadonlyMap<Group, Template[]>, allowed: Allowed) {
    this.random = random;
    this.byGroup = byGroup;
    this.allowed = allowed;
  }

  make(): Case {
    const { random, made } = this;
    const flavour = random.pick(FLAVOURS);
    this.weights = [...this.byGroup.keys()].flatMap((group): [Group, number][] =>
      flavour[group] === undefined ? [] : [[group, flavour[group]]],
    );
    if (this.weights.length === 0) this.weights = [...this.byGroup.keys()].map((group) => [group, 1]);

    this.fillRegisters();
    const x87 = flavour.x87 !== undefined || flavour.mmx !== undefined;
    fillPattern(made.pattern, random, x87, made.gpr(RAX), made.gpr(RDX));
    fillFxsave(made.fxsave, random, x87);
    // Carry, parity, adjust, zero, sign, direction, overflow; IF is always set. AC once in a while.
    const flags = (random.u32() & 0x8d5) | (random.once(8) ? 0x400 : 0) | (random.once(64) ? 0x40000 : 0);
    made.rflags = BigInt(flags | 0x202);
    made.fsbase = BigInt(address(random));
    // Up to what a kernel lets a program ask for.
    made.gsbase = random.once(8) ? integer(random) & 0x3fffffffffffn : BigInt(address(random));
    made.rip = CODE + 0x800 + random.below(64);
    this.emitSequence();
    this.place();
    return made;
  }

  private fillRegisters(): void {
    const { random, made } = this;
    for (let i = 0; i < 16; i++) made.setGpr(i, integer(random));
    this.pointers = [RSP, 6, 7, random.pick([3, 5]), 8 + random.below(8), 8 + random.below(8)];
    this.indices = [random.pick([0, 1, 2]), 8 + random.below(8)];
    for (const index of this.indices) {
      made.setGpr(index, BigInt(random.below(64) & random.pick([0xff, 0xf0])));
    }
    for (const pointer of this.pointers) {
      const near = BigInt(address(random));
      // Above 4 GiB in part, for what an address size prefix cuts off.
      made.setGpr(pointer, random.once(64) ? near | (integer(random) & 0xffff00000000n) : near);
    }
    // REP takes RCX: mostly something that ends soon.
    if (random.once(2)) made.setGpr(RCX, BigInt(random.below(random.pick([4, 40, 400]))));
    // Dividends whose quotient fits.
    if (random.once(3)) made.setGpr(RDX, made.gpr(RAX) >> 63n === 0n ? 0n : 2n ** 64n - 1n);
    if (random.once(40)) made.setGpr(RSP, integer(random));
  }

  private emitSequence(): void {
    const { random } = this;
    const length = 1 + random.below(MAX_INSTRUCTIONS);
    const starts: number[] = [];
    const branches: { at: number; bytes: number; from: number }[] = [];
    let undefinedFlags = 0;
    // Of all instructions together.
    let flagsRead = 0;
    let flagsUndefined = 0;
    let branchy = false;
    for (let i = 0; i < length; i++) {
      const start = this.size;
      const made = this.emitAllowed(undefinedFlags, i === length - 1);
      if (made === undefined) break;
      const { found, template } = made;
      branchy ||= found.branch;
      // A branch may pass over what defines a flag again.
      if (!branchy) undefinedFlags &= ~found.flagsWritten;
      undefinedFlags |= found.flagsUndefined;
      flagsUndefined |= found.flagsUndefined;
      flagsRead |= found.flagsRead;
      starts.push(start);
      if (template && template.branch > 0) {
        branches.push({ at: this.size - template.branch, bytes: template.branch, from: this.size });
      }
    }
    // Branches go to the start of an instruction or to the end; rarely backwards, unless flags that are undefined
    // at the end of a round are looked at in the next.
    starts.push(this.size);
    const anywhere = (flagsRead & flagsUndefined) === 0;
    for (const { at, bytes, from } of branches) {
      const target = random.pick(
        anywhere && random.once(40) ? starts : starts.filter((start) => start >= from),
      );
      for (let i = 0; i < bytes; i++) this.code[at + i] = (target - from) >> (8 * i);
    }
    this.made.code = this.code.subarray(0, this.size);
  }

  /** Emits an instruction that may be run here, or nothing when none was found. */
  private emitAllowed(
    undefinedFlags: number,
    last: boolean,
  ): { found: Found; template: Template | undefined } | undefined {
    const { random } = this;
    const start = this.size;
    for (let tries = 0; tries < TRIES; tries++) {
      this.size = start;
      const template = random.once(6) ? this.emitRaw() : this.emit(this.choose());
      const found = inspect(this.code.subarray(start, this.size));
      if (template === undefined) this.size = start + found.length;
      const fits =
        this.size <= MAX_CODE &&
        found.length === this.size - start &&
        (this.allowed.has(found.code) || this.mayBeInvalid(found, start)) &&
        // What is undefined must not be looked at, and what is only estimated must not be built upon; nor
        // what images hold that is the processor's own.
        (found.flagsRead & undefinedFlags) === 0 &&
        (last || !(found.approximate || LAST.has(found.mnemonic))) &&
        !this.shiftsTooFar(found, start) &&
        !this.prefixedBranch(found, start) &&
        // A branch made of random bytes would go anywhere.
        (template !== undefined || !found.branch);
      if (fits) return { found, template };
    }
    this.size = start;
    return undefined;
  }

  /** Branches with 66 are cut to 16 bits on AMD's processors, and F2 or F3 changes LOOPE and LOOPNE there. */
  private prefixedBranch(found: Found, start: number): boolean {
    if (!found.branch || /^(ud|int)/.test(found.mnemonic)) return false;
    const prefixes = this.code.subarray(start, this.size);
    const end = prefixes.findIndex((byte) => !PREFIX.has(byte));
    return [0x66, 0xf2, 0xf3].some((prefix) => prefixes.subarray(0, end).includes(prefix));
  }

  /**
   * An undefined opcode, now and then; but not LOCK MOV CR0, which is MOV CR8 on AMD's processors, nor LOCK VERW,
   * which looks at its operand there; nor the register forms of 0F 01 with a prefix that they don't have: processors
   * ignore it before VMCALL and its like, and what becomes of these is the hypervisor's affair.
   */
  private mayBeInvalid(found: Found, start: number): boolean {
    if (found.code !== Code.INVALID || !this.random.once(40)) return false;
    const bytes = this.code.subarray(start, this.size);
    const escape = bytes.indexOf(0x0f);
    const locked = bytes[escape + 1] === 0 || (bytes[escape + 1] & 0xfc) === 0x20;
    const virtual = escape >= 0 && bytes[escape + 1] === 0x01 && bytes[escape + 2] >= 0xc0;
    return !virtual && !(bytes.includes(0xf0) && locked);
  }

  /** SHLD and SHRD of 16 bits by more than 16: the result is undefined, and differs between processors. */
  private shiftsTooFar(found: Found, start: number): boolean {
    switch (found.code) {
      case Code.Shld_rm16_r16_imm8:
      case Code.Shrd_rm16_r16_imm8:
        return (this.code[start + found.length - 1] & 31) > 16;
      case Code.Shld_rm16_r16_CL:
      case Code.Shrd_rm16_r16_CL:
        // What CL holds is known at the start only.
        return start > 0 || Number(this.made.gpr(RCX) & 31n) > 16;
      default:
        return false;
    }
  }

  /** Puts the code at, or across, an edge now and then. RIP-relative operands shift with it; they may miss. */
  private place(): void {
    const { random, made } = this;
    // How many bytes an undefined opcode takes is not known, nor whether the next page is looked at.
    if (inspectAll(made.code).some((one) => /^(invalid|ud[01])$/.test(one.mnemonic))) return;
    if (random.once(30)) made.rip = CODE + 0x1000 - 1 - random.below(Math.max(1, this.size));
    if (random.once(60)) {
      made.rip = CODE + CODE_SIZE - this.size;
      if (random.once(2)) {
        const cut = random.below(this.size);
        made.code = made.code.slice(0, this.size - cut);
        made.rip += cut;
      }
    }
  }

  private choose(): Template {
    const { random } = this;
    let at = (random.u32() / 2 ** 32) * this.weights.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [group, weight] of this.weights) {
      at -= weight;
      if (at < 0) return random.pick(this.byGroup.get(group)!);
    }
    return random.pick(this.byGroup.get(this.weights[0][0])!);
  }

  private byte(value: number): void {
    this.code[this.size++] = value;
  }

  private emit(template: Template): Template {
    const { random } = this;
    const memory = template.modrm && (template.rm === 'memory' || (template.rm === 'any' && random.once(2)));
    const prefixes: number[] = [];
    if (template.address32 || (memory && random.once(20))) prefixes.push(0x67);
    if (template.operand16) prefixes.push(0x66);
    if (template.mandatory !== 0) prefixes.push(template.mandatory);
    if ((memory || template.repeatable) && random.once(12)) prefixes.push(random.pick([0x64, 0x65]));
    if (template.lockable && memory && random.once(6)) prefixes.push(0xf0);
    if (template.repeatable && random.once(2)) prefixes.push(random.pick([0xf3, 0xf3, 0xf2]));
    if (random.once(25)) prefixes.push(random.pick([0x2e, 0x36, 0x3e, 0x26, 0x66, 0x67, 0xf2, 0xf3, 0xf0]));
    while (prefixes.length > 0) this.byte(prefixes.splice(random.below(prefixes.length), 1)[0]);

    // Registers are chosen first: REX has their top bits.
    const reg = template.reg >= 0 ? template.reg : random.below(template.opcodeRegister ? 8 : 16);
    const base = memory ? this.chooseBase() : random.below(16);
    const index = memory && random.once(3) ? this.chooseIndex() : -1;
    let rex = template.rexW ? 8 : 0;
    if (reg > 7 && template.reg < 0) rex |= 4;
    if (index > 7) rex |= 2;
    if (base > 7) rex |= 1;
    if (rex !== 0 || random.once(5)) this.byte(0x40 | rex);
    for (const byte of template.opcode) this.byte(byte);
    if (template.opcodeRegister) this.code[this.size - 1] |= base & 7;
    if (template.modrm) {
      if (memory) this.emitMemory(reg & 7, base, index, template.immediate);
      else this.byte(0xc0 | ((reg & 7) << 3) | (base & 7));
    }
    this.emitImmediate(template);
    return template;
  }

  private chooseBase(): number {
    const { random } = this;
    if (random.once(8)) return -1;
    return random.once(20) ? random.below(16) : random.pick(this.pointers);
  }

  private chooseIndex(): number {
    const index = this.random.once(10) ? this.random.below(16) : this.random.pick(this.indices);
    return index === RSP ? -1 : index;
  }

  /** ModRM, SIB and displacement. Without a base: RIP-relative, or an absolute address. */
  private emitMemory(reg: number, base: number, index: number, immediate: number): void {
    const { random } = this;
    if (base < 0) {
      const target = address(random);
      if (random.once(2)) {
        this.byte((reg << 3) | 5);
        const next = this.made.rip + this.size + 4 + immediate;
        return this.dword(target - next);
      }
      this.byte((reg << 3) | 4);
      this.byte((random.below(4) << 6) | ((index < 0 ? 4 : index & 7) << 3) | 5);
      return this.dword(index < 0 ? target : target - 64);
    }
    const sib = index >= 0 || (base & 7) === 4 || random.once(10);
    let mode = random.below(3);
    if (mode === 0 && (base & 7) === 5) mode = 1;
    this.byte((mode << 6) | (reg << 3) | (sib ? 4 : base & 7));
    if (sib) this.byte((random.below(4) << 6) | ((index < 0 ? 4 : index & 7) << 3) | (base & 7));
    const aligned = random.once(5) ? random.u32() : (random.u32() & ~15) >>> 0;
    if (mode === 1) this.byte(aligned & 0xff);
    if (mode === 2) this.dword((aligned & 0x3ff) - 0x200);
  }

  private dword(value: number): void {
    for (let i = 0; i < 4; i++) this.byte((value >> (8 * i)) & 0xff);
  }

  private emitImmediate(template: Template): void {
    const { random } = this;
    const bytes = template.immediate + template.branch;
    if (bytes === 8 && template.opcode.length === 1 && (template.opcode[0] & 0xfc) === 0xa0) {
      // MOV between the accumulator and an absolute address.
      this.dword(address(random));
      return this.dword(0);
    }
    let value = random.once(4) ? BigInt(single(random)) : integer(random);
    for (let i = 0; i < bytes; i++, value >>= 8n) this.byte(Number(value & 0xffn));
  }

  /** Random prefixes, opcode and operands: what nobody would think of. Cut to length by the decoder. */
  private emitRaw(): undefined {
    const { random } = this;
    for (let i = random.below(3); i > 0; i--) {
      this.byte(random.pick([0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x66, 0xf3]));
    }
    if (random.once(2)) this.byte(0x40 | random.below(16));
    const map = random.below(5);
    if (map > 0) this.byte(0x0f);
    if (map === 3) this.byte(0x38);
    if (map === 4) this.byte(0x3a);
    this.byte(random.below(256));
    if (random.once(2)) this.byte(0xc0 | random.below(64));
    else this.emitMemory(random.below(8), this.random.pick([3, 6, 7]), -1, 0);
    let value = integer(random);
    for (let i = 0; i < 8; i++, value >>= 8n) this.byte(Number(value & 0xffn));
    return undefined;
  }
}
