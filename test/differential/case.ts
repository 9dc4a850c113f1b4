/** One case of the differential test, and what came of it: the layouts of harness/harness.c. */

export const WINDOW = 0x10000000;
/** The window's first pages can be written, the next can be read, and after it there is nothing. */
export const WINDOW_WRITABLE = 0x2000;
export const WINDOW_SIZE = 0x3000;
export const CODE = 0x20000000;
export const CODE_SIZE = 0x2000;
export const MAX_CODE = 120;
export const LINE = 64;
export const PATTERN = 256;

const offsets = { rflags: 128, rip: 136, fsbase: 144, gsbase: 152, fxsave: 160, pattern: 672, code: 928 };
export const CASE_SIZE = 1056;
const results = { vector: 144, error: 148, cr2: 152, fxsave: 160, signal: 672, lines: 676, fsbase: 680 };
export const RESULT_SIZE = 704;

/** Where a register is inside the image of FXSAVE. */
export const Fxsave = {
  FCW: 0,
  FSW: 2,
  FTW: 4,
  FOP: 6,
  FIP: 8,
  FDP: 16,
  MXCSR: 24,
  MASK: 28,
  ST: 32,
  XMM: 160,
};

/** A case: the registers, memory and code that it starts with. A view of its 1056 bytes. */
export class Case {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes = new Uint8Array(CASE_SIZE)) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, CASE_SIZE);
  }

  gpr(index: number): bigint {
    return this.view.getBigUint64(8 * index, true);
  }
  setGpr(index: number, value: bigint): void {
    this.view.setBigUint64(8 * index, value, true);
  }
  get rflags(): bigint {
    return this.view.getBigUint64(offsets.rflags, true);
  }
  set rflags(value: bigint) {
    this.view.setBigUint64(offsets.rflags, value, true);
  }
  /** Where the code is, inside [CODE, CODE + CODE_SIZE). */
  get rip(): number {
    return this.view.getUint32(offsets.rip, true);
  }
  set rip(value: number) {
    this.view.setUint32(offsets.rip, value, true);
  }
  get fsbase(): bigint {
    return this.view.getBigUint64(offsets.fsbase, true);
  }
  set fsbase(value: bigint) {
    this.view.setBigUint64(offsets.fsbase, value, true);
  }
  get gsbase(): bigint {
    return this.view.getBigUint64(offsets.gsbase, true);
  }
  set gsbase(value: bigint) {
    this.view.setBigUint64(offsets.gsbase, value, true);
  }
  get fxsave(): Uint8Array {
    return this.bytes.subarray(offsets.fxsave, offsets.fxsave + 512);
  }
  /** What the window is filled with, over and over. */
  get pattern(): Uint8Array {
    return this.bytes.subarray(offsets.pattern, offsets.pattern + PATTERN);
  }
  get code(): Uint8Array {
    const size = this.view.getUint32(offsets.code, true);
    return this.bytes.subarray(offsets.code + 8, offsets.code + 8 + size);
  }
  set code(code: Uint8Array) {
    if (code.length > MAX_CODE) throw new RangeError(`a case has at most ${MAX_CODE} bytes of code`);
    this.view.setUint32(offsets.code, code.length, true);
    this.bytes.fill(0, offsets.code + 8);
    this.bytes.set(code, offsets.code + 8);
  }

  clone(): Case {
    return new Case(this.bytes.slice());
  }
}

/** How a case ended. */
export class Result {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Lines of 64 bytes of the window that changed, by offset. */
  readonly lines: ReadonlyMap<number, Uint8Array>;

  constructor(bytes: Uint8Array, lines: ReadonlyMap<number, Uint8Array>) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, RESULT_SIZE);
    this.lines = lines;
  }

  gpr(index: number): bigint {
    return this.view.getBigUint64(8 * index, true);
  }
  get rflags(): bigint {
    return this.view.getBigUint64(offsets.rflags, true);
  }
  get rip(): bigint {
    return this.view.getBigUint64(offsets.rip, true);
  }
  /** Exception vector. */
  get vector(): number {
    return this.view.getUint32(results.vector, true);
  }
  get error(): number {
    return this.view.getUint32(results.error, true);
  }
  get cr2(): bigint {
    return this.view.getBigUint64(results.cr2, true);
  }
  /** True when the case was still running when its time was over: then nothing else counts. */
  get timedOut(): boolean {
    return this.view.getUint32(results.signal, true) === SIGALRM;
  }
  get fxsave(): Uint8Array {
    return this.bytes.subarray(results.fxsave, results.fxsave + 512);
  }
  get fsbase(): bigint {
    return this.view.getBigUint64(results.fsbase, true);
  }
  get gsbase(): bigint {
    return this.view.getBigUint64(results.fsbase + 8, true);
  }
  /** A line of the window at the end: what it was at the start when it didn't change. */
  lineAt(offset: number, made: Case): Uint8Array {
    const from = offset % PATTERN;
    return this.lines.get(offset) ?? made.pattern.subarray(from, from + LINE);
  }
  /** DS, ES, FS, GS as 0-3. */
  selector(index: number): number {
    return this.view.getUint16(results.fsbase + 16 + 2 * index, true);
  }
}

const SIGALRM = 14;

/** Fills in a result: for runners that aren't the harness. */
export class ResultBuilder {
  readonly bytes = new Uint8Array(RESULT_SIZE);
  private readonly view = new DataView(this.bytes.buffer);
  private readonly lines = new Map<number, Uint8Array>();

  setGpr(index: number, value: bigint): void {
    this.view.setBigUint64(8 * index, value, true);
  }
  setEnd(end: { rip: bigint; rflags: bigint; vector: number; error: number; cr2: bigint }): void {
    this.view.setBigUint64(offsets.rip, end.rip, true);
    this.view.setBigUint64(offsets.rflags, end.rflags, true);
    this.view.setUint32(results.vector, end.vector, true);
    this.view.setUint32(results.error, end.error, true);
    this.view.setBigUint64(results.cr2, end.cr2, true);
  }
  setTimedOut(): void {
    this.view.setUint32(results.signal, SIGALRM, true);
  }
  setSegments(fsbase: bigint, gsbase: bigint, selectors: readonly number[]): void {
    this.view.setBigUint64(results.fsbase, fsbase, true);
    this.view.setBigUint64(results.fsbase + 8, gsbase, true);
    selectors.forEach((selector, i) => this.view.setUint16(results.fsbase + 16 + 2 * i, selector, true));
  }
  setFxsave(image: Uint8Array): void {
    this.bytes.set(image, results.fxsave);
  }
  /** Compares the window's writable part with what it started as. */
  setWindow(window: Uint8Array, pattern: Uint8Array): void {
    for (let offset = 0; offset < WINDOW_WRITABLE; offset += LINE) {
      const from = offset % PATTERN;
      for (let i = 0; i < LINE; i++) {
        if (window[offset + i] === pattern[from + i]) continue;
        this.lines.set(offset, window.slice(offset, offset + LINE));
        break;
      }
    }
    this.view.setUint32(results.lines, this.lines.size, true);
  }
  build(): Result {
    return new Result(this.bytes, this.lines);
  }
}

/** Something that runs cases. `undefined`: the runner broke on this case, which is a finding. */
export interface CaseRunner {
  readonly name: string;
  run(cases: readonly Case[]): Promise<(Result | undefined)[]>;
  close(): void;
}
