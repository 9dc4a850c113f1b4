import { Decoder } from '../../main/emulator/decoder/decoder.ts';
import { EmulatorNvmm } from '../../main/emulator/driver.ts';
import { Context } from '../../main/emulator/generate/form.ts';
import { DecodeStatus, Instruction } from '../../main/emulator/instruction.ts';
import { DECODED_FEATURES } from '../../main/emulator/system/cpuid.ts';
import { Cr, Exit, Gpr, Msr, Prot, Seg, State } from '../../main/nvmm/constants.ts';
import type { Backend, Machine, Nvmm, Vcpu } from '../../main/nvmm/nvmm.ts';
import { CODE, CODE_SIZE, PATTERN, ResultBuilder, WINDOW, WINDOW_SIZE, WINDOW_WRITABLE } from './case.ts';
import type { Case, CaseRunner, Result } from './case.ts';

/**
 * Runs cases on an NVMM backend: a machine in long mode with Linux's selectors, in ring 3, whose exception
 * handlers each halt, so that an exception ends the case and its frame can be read from the handler's stack.
 */

/** Guest-physical layout. */
const PML4 = 0x1000;
const LOW = { pdpt: 0x2000, pd: 0x3000, window: 0x4000, code: 0x5000 };
const HIGH = { pdpt: 0x6000, pd: 0x7000, pt: 0x8000 };
const SYSTEM = 0x10000;
const GDT = 0x10000;
const IDT = 0x11000;
const TSS = 0x12000;
const STUBS = 0x13000;
const STACK_TOP = 0x15000;
const SYSTEM_PAGES = 5;
const WINDOW_AT = 0x20000;
/** A case's code; further places for it, in batches, are behind it. */
const CODE_AT = 0x30000;
/** Where the system's pages are seen: in the half of the address space that no case has anything in. */
const KERNEL = 0xffffffff80000000n;

const PRESENT = 0x21n; // and accessed
const WRITABLE = 0x42n; // and dirty
const USER = 4n;
const NO_EXECUTE = 1n << 63n;

const STUB_SIZE = 16;
const VECTORS = 256;
/** Vectors that push an error code. */
const WITH_ERROR = new Set([8, 10, 11, 12, 13, 14, 17, 21]);
/** Gates that ring 3 may use by INT3, INTO and INT 0x80, as Linux has them. */
const OPEN_GATES = new Set([3, 4, 0x80]);
/**
 * Runs of about a millisecond that a case may take, and microseconds of CPU time: on a busy computer a run may end before it
 * has done much.
 */
const MAX_RUNS = 40;
const MAX_CPU = 40_000;

/** jmp $, and runs of it in which a translator takes on what waits for it. */
const SPIN = [0xeb, 0xfe];
const SPINS = 2;

const INITIAL = { ds: 0, cs: 0x33, ss: 0x2b, tr: 0x40 };

export class EmulatedRunner implements CaseRunner {
  readonly name: string;
  private readonly nvmm: Nvmm;
  private readonly machine: Machine;
  private readonly vcpu: Vcpu;
  private readonly ram: Uint8Array;
  private readonly view: DataView;
  /** Host address of guest-physical 0. */
  private readonly hva: number;
  private readonly batch: number;

  /**
   * `batch`: so many cases run once each, each with a place of its own for its code, before all of them run again and
   * count. So what translates the code that has run translates it together. 0: cases run once.
   */
  constructor(backend: Backend, batch = 0) {
    this.name = backend.name;
    this.batch = batch;
    const size = Math.ceil((CODE_AT + (batch + 1) * CODE_SIZE) / 65536) * 65536;
    const privateSize = backend.privateSize(1, size);
    this.hva = Math.ceil(privateSize / 65536) * 65536;
    const pages = (this.hva + size) / 65536;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.nvmm = backend.open({ memory, privateOffset: 0, privateSize });
    this.ram = new Uint8Array(memory.buffer, this.hva, size);
    this.view = new DataView(memory.buffer, this.hva, size);
    this.machine = this.nvmm.machineCreate();
    this.nvmm.hvaMap(this.machine, this.hva, size);
    this.nvmm.gpaMap(this.machine, this.hva, 0, size, Prot.READ | Prot.WRITE | Prot.EXEC);
    this.vcpu = this.nvmm.vcpuCreate(this.machine, 0);
    this.buildTables();
    this.nvmm.hvaWritten(this.hva, size);
    this.nvmm.getState(this.machine, this.vcpu, State.ALL);
    this.setSystemState();
  }

  private set64(at: number, value: bigint): void {
    this.view.setBigUint64(at, value, true);
  }

  private buildTables(): void {
    const table = PRESENT | WRITABLE | USER;
    this.set64(PML4, BigInt(LOW.pdpt) | table);
    this.set64(LOW.pdpt, BigInt(LOW.pd) | table);
    this.set64(LOW.pd + 8 * (WINDOW >>> 21), BigInt(LOW.window) | table);
    this.set64(LOW.pd + 8 * (CODE >>> 21), BigInt(LOW.code) | table);
    for (let at = 0; at < WINDOW_SIZE; at += 4096) {
      const write = at < WINDOW_WRITABLE ? WRITABLE : 0n;
      this.set64(LOW.window + at / 512, BigInt(WINDOW_AT + at) | PRESENT | USER | write | NO_EXECUTE);
    }
    this.mapCode(0);
    this.set64(PML4 + 8 * 511, BigInt(HIGH.pdpt) | PRESENT | WRITABLE);
    this.set64(HIGH.pdpt + 8 * 510, BigInt(HIGH.pd) | PRESENT | WRITABLE);
    this.set64(HIGH.pd, BigInt(HIGH.pt) | PRESENT | WRITABLE);
    for (let page = 0; page < SYSTEM_PAGES; page++) {
      this.set64(HIGH.pt + 8 * page, BigInt(SYSTEM + 4096 * page) | PRESENT | WRITABLE);
    }

    this.set64(GDT + 0x10, 0x00af9b000000ffffn); // ring 0 code
    this.set64(GDT + 0x18, 0x00cf93000000ffffn); // ring 0 data
    this.set64(GDT + 0x20, 0x00cffb000000ffffn); // ring 3 code, 32-bit
    this.set64(GDT + 0x28, 0x00cff3000000ffffn); // ring 3 data
    this.set64(GDT + 0x30, 0x00affb000000ffffn); // ring 3 code, 64-bit
    const tss = this.kernel(TSS);
    this.set64(
      GDT + 0x40,
      0x00008b0000000067n | ((tss & 0xffffffn) << 16n) | (((tss >> 24n) & 0xffn) << 56n),
    );
    this.set64(GDT + 0x48, tss >> 32n);
    this.set64(TSS + 4, this.kernel(STACK_TOP)); // RSP0
    this.view.setUint16(TSS + 0x66, 0x68, true); // no I/O permission map: every port is forbidden
    for (let vector = 0; vector < VECTORS; vector++) {
      const stub = this.kernel(STUBS + vector * STUB_SIZE);
      const type = OPEN_GATES.has(vector) ? 0xee00n : 0x8e00n;
      const low = (stub & 0xffffn) | (0x10n << 16n) | (type << 32n) | (((stub >> 16n) & 0xffffn) << 48n);
      this.set64(IDT + 16 * vector, low);
      this.set64(IDT + 16 * vector + 8, stub >> 32n);
      this.ram.fill(0xf4, STUBS + vector * STUB_SIZE, STUBS + (vector + 1) * STUB_SIZE); // HLT
    }
    this.ram.fill(0xcc, CODE_AT);
  }

  /** Shows the code of one place; the next state that is set has the processor forget the one before. */
  private mapCode(place: number): void {
    for (let at = 0; at < CODE_SIZE; at += 4096) {
      this.set64(LOW.code + at / 512, BigInt(CODE_AT + place * CODE_SIZE + at) | PRESENT | USER);
    }
  }

  private kernel(physical: number): bigint {
    return KERNEL + BigInt(physical - SYSTEM);
  }

  /** What is the same in each case. Attributes: type, S, DPL, P, L, D, G as in a VMCB. */
  private setSystemState(): void {
    const { state } = this.vcpu;
    state.setSegment(Seg.CS, INITIAL.cs, 0xafb, 0xffffffff, 0n);
    state.setSegment(Seg.SS, INITIAL.ss, 0xcf3, 0xffffffff, 0n);
    for (const seg of [Seg.DS, Seg.ES]) state.setSegment(seg, INITIAL.ds, 0, 0, 0n);
    state.setSegment(Seg.GDT, 0, 0, 0x7f, this.kernel(GDT));
    state.setSegment(Seg.IDT, 0, 0, 16 * VECTORS - 1, this.kernel(IDT));
    state.setSegment(Seg.LDT, 0, 0x82, 0, 0n);
    state.setSegment(Seg.TR, INITIAL.tr, 0x8b, 0x67, this.kernel(TSS));
    state.setCr(Cr.CR0, 0x80050033n); // PG AM WP NE ET MP PE
    state.setCr(Cr.CR3, BigInt(PML4));
    state.setCr(Cr.CR4, 0x10620n); // FSGSBASE PAE OSFXSR OSXMMEXCPT
    state.setMsr(Msr.EFER, 0xd01n); // NXE LMA LME SCE
  }

  run(cases: readonly Case[]): Promise<(Result | undefined)[]> {
    if (this.batch === 0) return Promise.resolve(cases.map((made) => this.runOne(made)));
    const results: Result[] = [];
    for (let from = 0; from < cases.length; from += this.batch) {
      results.push(...this.runTwice(cases.slice(from, from + this.batch)));
    }
    return Promise.resolve(results);
  }

  /** Makes the handlers of what these cases' code is, all at once. */
  prepare(cases: readonly Case[]): void {
    if (!(this.nvmm instanceof EmulatorNvmm)) return;
    const { handlers } = this.nvmm['vcpus'].get(this.vcpu)!.processor;
    const decoder = new Decoder(DECODED_FEATURES);
    const instruction = new Instruction();
    for (const { code } of cases) {
      for (let at = 0; at < code.length; at += instruction.length) {
        if (decoder.decode(code, at, code.length, 64, instruction) !== DecodeStatus.OK) break;
        handlers.slotFor(instruction, Context.CODE_64 | Context.STACK_32);
      }
    }
    handlers.compile();
  }

  private runTwice(cases: readonly Case[]): Result[] {
    const { nvmm, machine, vcpu } = this;
    cases.forEach((made, place) => this.putCode(made.rip, made.code, place));
    cases.forEach((made, place) => {
      this.start(made, place);
      this.toEnd(made);
    });
    const [{ rip }] = cases;
    this.putCode(rip, Uint8Array.from(SPIN), this.batch);
    this.start(cases[0], this.batch);
    for (let i = 0; i < SPINS; i++) nvmm.run(machine, vcpu);
    this.clearCode(rip, SPIN.length, this.batch);
    const results = cases.map((made, place) => {
      this.start(made, place);
      return this.toEnd(made);
    });
    cases.forEach((made, place) => this.clearCode(made.rip, made.code.length, place));
    return results;
  }

  runOne(made: Case): Result {
    this.putCode(made.rip, made.code, 0);
    this.start(made, 0);
    const result = this.toEnd(made);
    this.clearCode(made.rip, made.code.length, 0);
    return result;
  }

  private putCode(rip: number, code: Uint8Array, place: number): void {
    const at = CODE_AT + place * CODE_SIZE + rip - CODE;
    this.ram.set(code, at);
    this.nvmm.hvaWritten(this.hva + at, code.length);
  }

  private clearCode(rip: number, length: number, place: number): void {
    this.putCode(rip, new Uint8Array(length).fill(0xcc), place);
  }

  /** Makes the processor and the window what the case starts with. */
  private start(made: Case, place: number): void {
    const { nvmm, machine, vcpu, ram } = this;
    const { state } = vcpu;
    for (let at = 0; at < WINDOW_SIZE; at += PATTERN) ram.set(made.pattern, WINDOW_AT + at);
    nvmm.hvaWritten(this.hva + WINDOW_AT, WINDOW_SIZE);
    this.mapCode(place);
    this.setSystemState();
    for (let i = 0; i < 16; i++) state.setGpr(i, made.gpr(i));
    state.rip = BigInt(made.rip);
    state.rflags = made.rflags;
    state.setSegment(Seg.FS, 0, 0, 0, made.fsbase);
    state.setSegment(Seg.GS, 0, 0, 0, made.gsbase);
    state.setCr(Cr.CR2, 0n);
    state.intr = 0;
    state.fpu.set(made.fxsave);
    nvmm.setState(machine, vcpu, State.ALL);
  }

  private toEnd(made: Case): Result {
    const { nvmm, machine, vcpu } = this;
    const { state, exit } = vcpu;
    const builder = new ResultBuilder();
    const before = process.cpuUsage();
    const isLate = (): boolean => process.cpuUsage(before).user > MAX_CPU;
    let runs = 0;
    do nvmm.run(machine, vcpu);
    while (exit.reason === Exit.NONE && (++runs < MAX_RUNS || !isLate()));
    if (exit.reason === Exit.NONE) builder.setTimedOut();
    nvmm.getState(machine, vcpu, State.ALL);
    for (let i = 0; i < 16; i++) builder.setGpr(i, state.gpr(i));
    const stub = Number(state.rip - this.kernel(STUBS));
    if (exit.reason === Exit.HALTED && stub > 0 && stub <= VECTORS * STUB_SIZE) {
      const vector = Math.floor((stub - 1) / STUB_SIZE);
      let frame = Number(state.gpr(Gpr.RSP) - KERNEL) + SYSTEM;
      const error = WITH_ERROR.has(vector) ? this.view.getUint32(frame, true) : 0;
      if (WITH_ERROR.has(vector)) frame += 8;
      const rip = this.view.getBigUint64(frame, true);
      const rflags = this.view.getBigUint64(frame + 16, true);
      const cr2 = vector === 14 ? state.cr(Cr.CR2) : 0n;
      builder.setEnd({ rip, rflags, vector, error, cr2 });
      builder.setGpr(Gpr.RSP, this.view.getBigUint64(frame + 24, true));
    } else {
      // Not an exception: a finding, told apart by a vector that doesn't exist.
      const vector = 0x10000 | (exit.reason & 0xffff);
      builder.setEnd({ rip: state.rip, rflags: state.rflags, vector, error: 0, cr2: 0n });
    }
    builder.setSegments(
      state.base(Seg.FS),
      state.base(Seg.GS),
      [Seg.DS, Seg.ES, Seg.FS, Seg.GS].map((seg) => state.selector(seg)),
    );
    builder.setFxsave(state.fpu);
    builder.setWindow(this.ram.subarray(WINDOW_AT, WINDOW_AT + WINDOW_WRITABLE), made.pattern);
    return builder.build();
  }

  close(): void {
    this.nvmm.machineDestroy(this.machine);
    this.nvmm.close();
  }
}
