import { ByteWriter } from './bytes.ts';
import type { LocalHole, NumberHole } from './expression.ts';
import {
  callExpression,
  i32,
  i64,
  isConstant,
  Local,
  TYPE_BYTE,
  writeStatement,
  type Expression,
  type I32,
  type I64,
  type Type,
  type V128,
} from './expression.ts';

/** Parameters and result of a function. */
export interface Signature {
  readonly parameters: readonly Type[];
  readonly result?: Type;
}

/** A place that `break` can leave or, for a loop, go back to. */
export interface Label {
  readonly depth: number;
}

/** A place among the statements of a function. */
export interface Mark {
  readonly at: number;
  readonly depth: number;
}

const BLOCK_VOID = 0x40;
const MISC = 0xfc;
const SIMD = 0xfd;
const ATOMIC = 0xfe;

/** The body of one function: statements are written as they are called. */
export class FunctionBuilder {
  readonly module: ModuleBuilder;
  private readonly position: number;
  private code = new ByteWriter(256);
  private readonly front = new ByteWriter(64);
  private readonly locals: Type[] = [];
  private readonly parameterCount: number;
  private readonly parameters: readonly Type[];
  private depth = 0;
  private opened = 0;

  /** `position`: among the functions that the module defines. */
  constructor(module: ModuleBuilder, position: number, signature: Signature) {
    this.module = module;
    this.position = position;
    this.parameters = signature.parameters;
    this.parameterCount = signature.parameters.length;
  }

  /** Its number in the module, for calls: after all imports, of which there can be no more then. */
  get index(): number {
    return this.module.numberOf(this.position);
  }

  parameter<T extends Type>(type: T, index: number): Local<T> {
    if (this.parameters[index] !== type) {
      throw new TypeError(`parameter ${index} is ${this.parameters[index]}, not ${type}`);
    }
    return new Local(type, index);
  }

  local<T extends Type>(type: T): Local<T> {
    const free = this.freeLocals.get(type)?.pop();
    if (free !== undefined) {
      this.taken.push({ type, index: free });
      return new Local(type, free);
    }
    this.locals.push(type);
    const index = this.parameterCount + this.locals.length - 1;
    this.taken.push({ type, index });
    return new Local(type, index);
  }

  /** Local variables that may be given out again, by type. */
  private readonly freeLocals = new Map<Type, number[]>();
  private taken: { type: Type; index: number }[] = [];

  /** The local variables so far stay what they are. */
  keepLocals(): void {
    this.taken = [];
  }

  /**
   * Lets the local variables made since the last call be used for others: their values are not needed any more.
   * V8's first compiler clears every local variable at each call, so few are better.
   */
  recycleLocals(): void {
    for (const { type, index } of this.taken) {
      const list = this.freeLocals.get(type);
      if (list) list.push(index);
      else this.freeLocals.set(type, [index]);
    }
    this.taken = [];
  }

  /** Computes a value now and names it. Locals and constants are returned as they are when `always` is false. */
  let<T extends Type>(value: Expression<T>): Expression<T> {
    if (isConstant(value)) return value;
    const { low } = value;
    if (low !== undefined) return i64.extend_u(this.let(low)) as Expression<Type> as Expression<T>;
    const local = this.local(value.type);
    this.set(local, value);
    return local;
  }

  set<T extends Type>(local: Local<T>, value: Expression<T>): void {
    value.write(this.code);
    this.code.byte(0x21);
    this.code.unsigned(local.index);
  }

  /** Computes a value and drops it. */
  do(value: Expression<Type>): void {
    value.write(this.code);
    this.code.byte(0x1a);
  }

  private statement(
    prefix: number,
    opcode: number,
    operands: Expression<Type>[],
    immediates: number[] = [],
  ): void {
    writeStatement(this.code, prefix, opcode, operands, immediates);
  }

  store32(address: I32, value: I32, offset = 0): void {
    this.statement(0, 0x36, [address, value], [0, offset]);
  }
  store64(address: I32, value: I64, offset = 0): void {
    this.statement(0, 0x37, [address, value], [0, offset]);
  }
  /** Stores the low `bits` (8, 16, 32, 64) of a 64-bit value. */
  storeBits(bits: number, address: I32, value: I64, offset = 0): void {
    const { low } = value;
    if (low !== undefined && bits < 64) {
      this.statement(0, bits === 8 ? 0x3a : bits === 16 ? 0x3b : 0x36, [address, low], [0, offset]);
      return;
    }
    const opcode = bits === 8 ? 0x3c : bits === 16 ? 0x3d : bits === 32 ? 0x3e : 0x37;
    this.statement(0, opcode, [address, value], [0, offset]);
  }
  storeF32(address: I32, value: Expression<'f32'>, offset = 0): void {
    this.statement(0, 0x38, [address, value], [0, offset]);
  }
  storeF64(address: I32, value: Expression<'f64'>, offset = 0): void {
    this.statement(0, 0x39, [address, value], [0, offset]);
  }
  storeV128(address: I32, value: V128, offset = 0): void {
    this.statement(SIMD, 11, [address, value], [0, offset]);
  }
  atomicStore32(address: I32, value: I32, offset = 0): void {
    this.statement(ATOMIC, 0x17, [address, value], [2, offset]);
  }
  fence(): void {
    this.statement(ATOMIC, 3, [], [0]);
  }
  /** memory.copy: ranges may overlap. */
  copy(to: I32, from: I32, length: I32): void {
    this.statement(MISC, 10, [to, from, length], [0, 0]);
  }
  /** memory.fill with the low byte of `value`. */
  fill(to: I32, value: I32, length: I32): void {
    this.statement(MISC, 11, [to, value, length], [0]);
  }

  if(condition: I32, then: () => void, otherwise?: () => void): void {
    if (isConstant(condition)) {
      if (condition.small !== 0) then();
      else otherwise?.();
      return;
    }
    condition.write(this.code);
    this.code.byte(0x04);
    this.code.byte(BLOCK_VOID);
    this.depth++;
    this.opened++;
    then();
    if (otherwise) {
      this.code.byte(0x05);
      this.opened++;
      otherwise();
    }
    this.depth--;
    this.opened++;
    this.code.byte(0x0b);
  }

  /** A block: break(label) leaves it. */
  block(body: (label: Label) => void): void {
    this.open(0x02, body);
  }

  /** A loop: break(label) starts its next round; running off its end leaves it. */
  loop(body: (label: Label) => void): void {
    this.open(0x03, body);
  }

  private open(opcode: number, body: (label: Label) => void): void {
    this.code.byte(opcode);
    this.code.byte(BLOCK_VOID);
    const label = { depth: ++this.depth };
    this.opened++;
    body(label);
    this.opened++;
    this.depth--;
    this.code.byte(0x0b);
  }

  /** How many ifs, blocks and loops are open. */
  get nesting(): number {
    return this.depth;
  }

  /** Changes whenever one is opened or closed: two statements with the same number are run one after the other. */
  get scopes(): number {
    return this.opened;
  }

  break(label: Label): void {
    this.code.byte(0x0c);
    this.code.unsigned(this.depth - label.depth);
  }

  breakIf(label: Label, condition: I32): void {
    condition.write(this.code);
    this.code.byte(0x0d);
    this.code.unsigned(this.depth - label.depth);
  }

  /** Goes to targets[value], or to the last one when value is beyond: br_table. */
  switch(value: I32, targets: readonly Label[]): void {
    value.write(this.code);
    this.code.byte(0x0e);
    this.code.unsigned(targets.length - 1);
    for (const target of targets) this.code.unsigned(this.depth - target.depth);
  }

  return(value?: Expression<Type>): void {
    value?.write(this.code);
    this.code.byte(0x0f);
  }

  /** A call whose result, if any, is dropped. */
  call(callee: FunctionReference, ...operands: Expression<Type>[]): void {
    this.statement(0, 0x10, operands, [callee.index]);
    if (callee.signature.result) this.code.byte(0x1a);
  }

  /** Ends this function with a call that takes its place on the stack. */
  returnCall(callee: FunctionReference, ...operands: Expression<Type>[]): void {
    this.statement(0, 0x12, operands, [callee.index]);
  }

  /** The same through the imported table. */
  returnCallIndirect(signature: Signature, slot: I32, ...operands: Expression<Type>[]): void {
    this.module.usesTable = true;
    this.statement(0, 0x13, [...operands, slot], [this.module.typeIndex(signature), 0]);
  }

  unreachable(): void {
    this.code.byte(0x00);
  }

  /** This place, for insert(). */
  mark(): Mark {
    return { at: this.code.length, depth: this.depth };
  }

  /** Writes statements at a mark: for what is known only later. Marks behind it don't hold any more. */
  insert(mark: Mark, body: () => void): void {
    const { code, depth } = this;
    this.code = new ByteWriter(64);
    this.depth = mark.depth;
    body();
    const inserted = this.code;
    this.code = code;
    this.depth = depth;
    code.insert(mark.at, inserted.view());
  }

  /** Fills a hole, as long as nothing was inserted before it. */
  fillHole<T extends 'i32' | 'i64'>(hole: NumberHole<T> | LocalHole<T>, value: number | Local<T>): void {
    if (typeof value !== 'number') {
      if (value.index > 127) throw new RangeError(`local ${value.index} does not fit into a hole`);
      this.code.replace(hole.at, [value.index]);
      return;
    }
    if (value < -8192 || value > 8191) throw new RangeError(`${value} does not fit into a hole`);
    this.code.replace(hole.at, [(value & 0x7f) | 0x80, (value >> 7) & 0x7f]);
  }

  /** Writes statements that come before all others: for what is known only when those are there. */
  prologue(body: () => void): void {
    const { code } = this;
    this.code = this.front;
    body();
    this.code = code;
  }

  /** The code entry of this function (core specification 5.5.13). */
  writeEntry(out: ByteWriter): void {
    const header = new ByteWriter(64);
    const runs: { type: Type; count: number }[] = [];
    for (const type of this.locals) {
      const last = runs[runs.length - 1];
      if (last && last.type === type) last.count++;
      else runs.push({ type, count: 1 });
    }
    header.unsigned(runs.length);
    for (const run of runs) {
      header.unsigned(run.count);
      header.byte(TYPE_BYTE[run.type]);
    }
    out.unsigned(header.length + this.front.length + this.code.length + 1);
    out.raw(header.view());
    out.raw(this.front.view());
    out.raw(this.code.view());
    out.byte(0x0b);
  }
}

/** A function of this module or an import, for calls. */
export interface FunctionReference {
  readonly index: number;
  readonly signature: Signature;
}

/** A typed call of something with a result. */
export function call<T extends Type>(
  callee: FunctionReference,
  type: T,
  ...operands: Expression<Type>[]
): Expression<T> {
  if (callee.signature.result !== type) {
    throw new TypeError(`the function gives ${callee.signature.result}, not ${type}`);
  }
  return callExpression(type, callee.index, operands);
}

/** Of 64 KiB: any memory fits. Its size makes no difference to the code, for V8 has pages that guard its end. */
const MOST_PAGES = 65536;

/** Builds one module that imports the shared memory `env.memory` and, when asked, the table `env.table`. */
export class ModuleBuilder {
  private readonly types: string[] = [];
  private readonly typeBytes: Uint8Array[] = [];
  private readonly imports: { name: string; reference: FunctionReference }[] = [];
  private readonly functions: { builder: FunctionBuilder; signature: Signature; exportName?: string }[] = [];
  private readonly elements: { slot: number; reference: FunctionReference }[] = [];
  private isNumbered = false;
  /** Set by what needs the table: a module without is much cheaper to instantiate in older versions of V8. */
  usesTable = false;

  typeIndex(signature: Signature): number {
    const key = `${signature.parameters.join()}>${signature.result ?? ''}`;
    const known = this.types.indexOf(key);
    if (known >= 0) return known;
    const out = new ByteWriter(16);
    out.byte(0x60);
    out.unsigned(signature.parameters.length);
    for (const type of signature.parameters) out.byte(TYPE_BYTE[type]);
    out.unsigned(signature.result ? 1 : 0);
    if (signature.result) out.byte(TYPE_BYTE[signature.result]);
    this.typeBytes.push(out.toBytes());
    return this.types.push(key) - 1;
  }

  /** Imports env[name]. Imports come before functions: once one of those has a number there can be no more. */
  import(name: string, signature: Signature): FunctionReference {
    if (this.isNumbered) throw new Error(`import ${name}: the functions have their numbers already`);
    const reference = { index: this.imports.length, signature };
    this.imports.push({ name, reference });
    return reference;
  }

  function(signature: Signature, exportName?: string): FunctionBuilder & FunctionReference {
    const builder = new FunctionBuilder(this, this.functions.length, signature);
    this.functions.push({ builder, signature, exportName });
    return Object.assign(builder, { signature });
  }

  /** The number of the function at a position among those that are defined here. */
  numberOf(position: number): number {
    this.isNumbered = true;
    return this.imports.length + position;
  }

  /** Puts a function into the imported table when the module is instantiated. */
  element(slot: number, reference: FunctionReference): void {
    this.usesTable = true;
    this.elements.push({ slot, reference });
  }

  toBytes(): Uint8Array<ArrayBuffer> {
    const out = new ByteWriter(4096);
    out.raw([0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const importTypes = this.imports.map(({ reference }) => this.typeIndex(reference.signature));
    const functionTypes = this.functions.map(({ signature }) => this.typeIndex(signature));
    section(out, 1, (body) => {
      body.unsigned(this.typeBytes.length);
      for (const bytes of this.typeBytes) body.raw(bytes);
    });
    section(out, 2, (body) => {
      body.unsigned(this.imports.length + (this.usesTable ? 2 : 1));
      this.imports.forEach(({ name }, i) => {
        body.text('env');
        body.text(name);
        body.byte(0);
        body.unsigned(importTypes[i]);
      });
      body.text('env');
      body.text('memory');
      body.raw([2, 3]);
      body.unsigned(0);
      body.unsigned(MOST_PAGES);
      if (this.usesTable) {
        body.text('env');
        body.text('table');
        body.raw([1, 0x70, 0, 0]);
      }
    });
    section(out, 3, (body) => {
      body.unsigned(functionTypes.length);
      for (const type of functionTypes) body.unsigned(type);
    });
    const exported = this.functions.filter(({ exportName }) => exportName !== undefined);
    section(out, 7, (body) => {
      body.unsigned(exported.length);
      for (const { builder, exportName } of exported) {
        body.text(exportName!);
        body.byte(0);
        body.unsigned(builder.index);
      }
    });
    if (this.usesTable) {
      section(out, 9, (body) => {
        body.unsigned(this.elements.length);
        for (const { slot, reference } of this.elements) {
          body.byte(0);
          i32.const(slot).write(body);
          body.byte(0x0b);
          body.unsigned(1);
          body.unsigned(reference.index);
        }
      });
    }
    section(out, 10, (body) => {
      body.unsigned(this.functions.length);
      for (const { builder } of this.functions) builder.writeEntry(body);
    });
    return out.toBytes();
  }
}

function section(out: ByteWriter, id: number, write: (body: ByteWriter) => void): void {
  const body = new ByteWriter(1024);
  write(body);
  out.byte(id);
  out.unsigned(body.length);
  out.raw(body.view());
}
