import type { Instruction, Opcode } from '../instruction.ts';
import { Field, Leave, Record, Slot } from '../state.ts';
import { i32 } from '../wasm/expression.ts';
import {
  ModuleBuilder,
  type FunctionBuilder,
  type FunctionReference,
  type Signature,
} from '../wasm/module.ts';
import { Emitter, type Callees } from './emitter.ts';
import { formKey, formOf, plainForm, type Form } from './form.ts';
import { integerGroups } from './integer/index.ts';
import { JOIN, systemMove } from './integer/control.ts';
import { HANDLER, SERVICES } from './runtime.ts';
import type { Meaning, Semantics, SemanticsGroup } from './semantics.ts';

/** Handlers that exist from the start, by their slot in the function table. */
export const FixedHandler = {
  /** The block was invalidated: the run loop finds the instruction anew. */
  STALE: 0,
  UNDEFINED: 1,
  /** Longer than 15 bytes. */
  TOO_LONG: 2,
  /** Ends a run of one instruction. */
  STOP: 3,
  /** Joins a block to the next, by code size: 16, 32, 64. */
  JOIN_16: 4,
  JOIN_32: 5,
  JOIN_64: 6,
  /** Puts the record's immediate into Slot.TEMPORARY, for a displacement of 64 bits. */
  SET_TEMPORARY: 7,
  /** The first record of a block: counts its runs in the immediate, down to the call for a translation. */
  COUNTING: 8,
  /** A block that was dropped and decoded anew elsewhere: goes on at the record in the link. */
  FORWARD: 9,
  /** The first record of a block that doesn't count its runs. */
  BEGIN: 10,
  COUNT: 11,
} as const;

/** A handler's slot with what its code is made of. */
export interface Assigned {
  slot: number;
  form: Form;
  meaning: Meaning;
}

/** Writes the body of a function. */
export type FunctionSource = (f: FunctionBuilder, callees: Callees) => void;

/** (s, record): goes on with a record's handler, for who comes from TypeScript. */
const ENTER = 'enter';

const TABLE_START = 4096;

/** Modules that all who have the same groups share, by what they are. */
const SHARED = new Map<string, WebAssembly.Module>();
/** Their code, as it was generated, here or in the build (prebuilt.ts). */
export const PREBUILT = new Map<string, Uint8Array<ArrayBuffer>>();

/** Handlers that are made together, up to (not with) a slot. */
interface HandlerSet {
  readonly end: number;
  readonly handlers: readonly Assigned[];
  wanted: boolean;
}

export type Services = Record<keyof typeof SERVICES, (...numbers: number[]) => number | void>;

/**
 * The interpreter's handlers: one WebAssembly function for each form of instruction, generated when the first
 * instruction of that form is decoded, a block's worth to a module. They call one another through the table.
 */
export class Handlers {
  readonly table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_START });
  private readonly meanings = new Map<string, Meaning>();
  /** What modules may import, and the functions among that by name. */
  private readonly environment: WebAssembly.ModuleImports;
  private readonly signatures = new Map<string, Signature>(Object.entries(SERVICES));
  private readonly slots = new Map<Opcode, Map<number, number>>();
  private readonly endings = new Set<number>();
  private next: number = FixedHandler.COUNT;
  private waiting: Assigned[] = [];
  private readonly assigned = new Map<number, Assigned>();
  private readonly free: number[] = [];
  private readonly groups: readonly SemanticsGroup[];
  /** Modules compiled so far, and the time that making handlers took. */
  modules = 0;
  nanoseconds = 0;

  constructor(memory: WebAssembly.Memory, services: Services, moreGroups: readonly SemanticsGroup[] = []) {
    this.environment = { memory, table: this.table, ...services } as WebAssembly.ModuleImports;
    this.groups = [...integerGroups, ...moreGroups];
    for (const group of this.groups) {
      for (const [ending, table] of [
        [false, group.plain],
        [true, group.ending ?? {}],
      ] as const) {
        for (const [mnemonic, semantics] of Object.entries(table)) {
          this.meanings.set(mnemonic, { semantics, ending });
        }
      }
    }
    this.buildLibrary();
    this.buildFixed();
  }

  private instantiate(compiled: WebAssembly.Module): WebAssembly.Exports {
    this.modules++;
    return new WebAssembly.Instance(compiled, { env: this.environment }).exports;
  }

  /** A module that is the same for all who have these groups: it is made once in a process. */
  private shared(name: string, build: (module: ModuleBuilder) => void): WebAssembly.Exports {
    const key = `${name}: ${this.groups.map((group) => group.name).join()}`;
    let compiled = SHARED.get(key);
    if (compiled === undefined) {
      let bytes = PREBUILT.get(key);
      if (bytes === undefined) {
        const module = new ModuleBuilder();
        build(module);
        bytes = module.toBytes();
        PREBUILT.set(key, bytes);
      }
      compiled = new WebAssembly.Module(bytes);
      SHARED.set(key, compiled);
    }
    return this.instantiate(compiled);
  }

  /** What a module's functions may call. It imports what they do call: each import costs time. */
  private callees(module: ModuleBuilder): Callees {
    const references = new Map<string, FunctionReference>();
    return (name) => {
      let reference = references.get(name);
      if (reference === undefined) {
        const signature = this.signatures.get(name);
        if (signature === undefined) throw new Error(`generated code calls '${name}', which nobody provides`);
        reference = module.import(name, signature);
        references.set(name, reference);
      }
      return reference;
    };
  }

  /** A library routine, for TypeScript. */
  routine(name: string): (...numbers: number[]) => number {
    return this.environment[name] as CallableFunction as (...numbers: number[]) => number;
  }

  /** Lets later modules call a function. */
  private provide(name: string, signature: Signature, body: WebAssembly.ExportValue): void {
    this.environment[name] = body as CallableFunction as WebAssembly.ImportValue;
    this.signatures.set(name, signature);
  }

  /** Routines of all groups in one module; later modules import what they use. */
  private buildLibrary(): void {
    const routines = this.groups.flatMap((group) => Object.entries(group.library ?? {}));
    const exports = this.shared('library', (module) => {
      const callees = this.callees(module);
      // The routines call one another, so all imports come first.
      const references = new Map<string, FunctionReference>();
      for (const name of Object.keys(SERVICES)) references.set(name, callees(name));
      const builders = routines.map(([name, routine]) => {
        const builder = module.function(routine.signature, name);
        references.set(name, builder);
        return builder;
      });
      routines.forEach(([, routine], i) =>
        routine.build(builders[i], (name) => references.get(name) ?? callees(name)),
      );
    });
    for (const [name, { signature }] of routines) this.provide(name, signature, exports[name]);
  }

  private buildFixed(): void {
    const leave = (code: number) => (c: Emitter) => {
      c.setField32(Field.CURRENT, c.d);
      c.f.return(i32.const(code));
    };
    const bodies: [number, number, Semantics][] = [
      [FixedHandler.STALE, 64, leave(Leave.STALE)],
      [FixedHandler.UNDEFINED, 64, (c) => c.raise(i32.const(6))],
      [FixedHandler.TOO_LONG, 64, (c) => c.raise(i32.const(13))],
      [FixedHandler.STOP, 64, leave(Leave.STALE)],
      [FixedHandler.JOIN_16, 16, (c) => c.jumpRelative(0)],
      [FixedHandler.JOIN_32, 32, (c) => c.jumpRelative(0)],
      [FixedHandler.JOIN_64, 64, (c) => c.jumpRelative(0)],
      [FixedHandler.SET_TEMPORARY, 64, setTemporary],
      [FixedHandler.COUNTING, 64, countRun],
      [FixedHandler.FORWARD, 64, forward],
      [FixedHandler.BEGIN, 64, (c) => c.next()],
    ];
    for (const [slot, codeSize, semantics] of bodies) {
      this.fixedMeanings.set(slot, {
        slot,
        form: plainForm(JOIN, codeSize),
        meaning: { semantics, ending: true },
      });
    }
    const continuations = this.groups.flatMap((group) => Object.entries(group.continuations ?? {}));
    const exports = this.shared('fixed', (module) => {
      this.buildHandlers(module, [...this.fixedMeanings.values()]);
      const callees = this.callees(module);
      for (const [name, routine] of continuations) {
        routine.build(module.function(routine.signature, name), callees);
      }
      const f = module.function(HANDLER, ENTER);
      const s = f.parameter('i32', 0);
      const d = f.parameter('i32', 1);
      f.returnCallIndirect(HANDLER, i32.load(d, 0), s, d);
    });
    for (const [name, { signature }] of continuations) this.provide(name, signature, exports[name]);
    this.enter = exports[ENTER] as (s: number, d: number) => number;
  }

  /** Runs from a record until something leaves. */
  enter!: (s: number, d: number) => number;

  /** The slot of an instruction's handler, which exists after compile(). */
  slotFor(instruction: Instruction, context: number): number {
    const opcode = instruction.opcode!;
    let forms = this.slots.get(opcode);
    if (!forms) this.slots.set(opcode, (forms = new Map()));
    const key = formKey(instruction, context);
    const known = forms.get(key);
    if (known !== undefined) {
      if (known < this.setsEnd && known >= FixedHandler.COUNT) this.need(known);
      return known;
    }
    const slot = this.assign(formOf(instruction, context));
    forms.set(key, slot);
    return slot;
  }

  /**
   * Takes what has been asked for since the start as a set whose handlers are made together, when one of them is asked
   * for again. All who have these groups must have the same sets, in the same order.
   */
  makeSet(): void {
    const set = { end: this.next, handlers: this.waiting, wanted: false };
    this.waiting = [];
    this.sets.push(set);
    this.setsEnd = set.end;
  }

  private need(slot: number): void {
    const set = this.sets.find(({ end }) => slot < end)!;
    if (!set.wanted) this.wantedSets.push(set);
    set.wanted = true;
  }

  /** Makes them as if all had been asked for. */
  makeAllSets(): void {
    for (const { end } of this.sets) this.need(end - 1);
    this.makeSets();
  }

  private makeSets(): void {
    for (const set of this.wantedSets) {
      this.shared(`set to ${set.end}`, (module) => this.buildHandlers(module, set.handlers));
    }
    this.wantedSets = [];
  }
  private readonly sets: HandlerSet[] = [];
  private wantedSets: HandlerSet[] = [];
  /** Slots below are those of sets, or fixed. */
  private setsEnd = 0;

  private assign(form: Form): number {
    const meaning = systemMove(form) ?? this.meanings.get(form.mnemonic);
    if (meaning === undefined) return FixedHandler.UNDEFINED;
    const slot = this.nextSlot();
    if (meaning.ending) this.endings.add(slot);
    const assigned = { slot, form, meaning };
    this.assigned.set(slot, assigned);
    this.waiting.push(assigned);
    return slot;
  }

  /** What a slot's code means; undefined for handlers that are no instruction's. */
  meaningOf(slot: number): Assigned | undefined {
    return this.assigned.get(slot) ?? this.fixedMeanings.get(slot);
  }
  private readonly fixedMeanings = new Map<number, Assigned>();

  isCounting(slot: number): boolean {
    return slot === FixedHandler.COUNTING;
  }

  /** Generates functions with the signature of handlers, in one module; their slots, and the module's size. */
  compileFunctions(sources: readonly FunctionSource[]): { slots: number[]; bytes: number } {
    const module = new ModuleBuilder();
    const callees = this.callees(module);
    sources.forEach((build, i) => build(module.function(HANDLER, String(i)), callees));
    const bytes = module.toBytes();
    const exports = this.instantiate(new WebAssembly.Module(bytes));
    // Put into the table from here: the modules, which are many, don't import it. In V8 before 12 each module that
    // does has a copy of it, all the copies are written whenever one entry changes, and none is ever collected.
    const slots = sources.map((_, i) => {
      const slot = this.free.pop() ?? this.nextSlot();
      this.table.set(slot, exports[i] as CallableFunction);
      return slot;
    });
    return { slots, bytes: bytes.length };
  }

  /** Gives a slot back: the function is collected when nothing runs it any more. */
  release(slot: number): void {
    this.table.set(slot, null);
    this.free.push(slot);
  }

  private nextSlot(): number {
    const slot = this.next++;
    if (slot >= this.table.length) this.table.grow(this.table.length);
    return slot;
  }

  /** Whether a block ends with this handler. */
  ends(slot: number): boolean {
    return slot < FixedHandler.COUNT || this.endings.has(slot);
  }

  /** Generates the handlers that were asked for since the last time. */
  compile(): void {
    if (this.waiting.length === 0 && this.wantedSets.length === 0) return;
    const start = performance.now();
    this.makeSets();
    if (this.waiting.length > 0) {
      const module = new ModuleBuilder();
      this.buildHandlers(module, this.waiting);
      this.waiting = [];
      this.instantiate(new WebAssembly.Module(module.toBytes()));
    }
    this.nanoseconds += (performance.now() - start) * 1e6;
  }

  private buildHandlers(module: ModuleBuilder, handlers: readonly Assigned[]): void {
    const callees = this.callees(module);
    for (const { slot, form, meaning } of handlers) {
      const f = module.function(HANDLER);
      const emitter = new Emitter(f, form, callees);
      meaning.semantics(emitter);
      if (!meaning.ending) emitter.next();
      f.unreachable();
      module.element(slot, f);
    }
  }
}

const RUNS = Record.IMMEDIATE;

function countRun(c: Emitter): void {
  const left = c.f.let(i32.sub(i32.load(c.d, RUNS), 1));
  c.f.store32(c.d, left, RUNS);
  c.f.if(i32.eqz(left), () => {
    c.setField32(Field.CURRENT, c.d);
    c.f.return(i32.const(Leave.HOT));
  });
  c.next();
}

function forward(c: Emitter): void {
  const link = c.f.let(i32.load(c.d, Record.LINK));
  c.f.returnCallIndirect(HANDLER, i32.load(link, Record.HANDLER), c.s, link);
}

function setTemporary(c: Emitter): void {
  c.setField64(Field.SLOTS + 8 * Slot.TEMPORARY, c.immediate());
  c.next();
}
