/**
 * Where a device keeps its registers: named fields of one block in shared memory.
 *
 * Every thread of a VM's process (each vCPU, the I/O thread) constructs the same devices over the same blocks,
 * so whichever thread takes an exit can serve it, under the machine's device lock. A device keeps nothing that
 * the guest can see outside its fields. The same table gives the register view and the snapshot.
 */

export type FieldType = 'u8' | 'u16' | 'u32' | 'i32' | 'f64';

/** One register, or an array of them. `reset` is the value after power-on (0 unless given), or one for each element. */
export interface Field {
  type: FieldType;
  /** Elements; one when absent. */
  count?: number;
  reset?: number | readonly number[];
  /** What it is, for the register view. */
  about: string;
}

export type Layout = Record<string, Field>;

const SIZE: Record<FieldType, number> = { u8: 1, u16: 2, u32: 4, i32: 4, f64: 8 };

const ARRAY = {
  u8: Uint8Array,
  u16: Uint16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f64: Float64Array,
} as const;

type ArrayOf<T extends FieldType> = InstanceType<(typeof ARRAY)[T]>;

/** The live registers: a property for each scalar field, a typed array for each array field. */
export type Registers<L extends Layout> = {
  -readonly [K in keyof L]: L[K] extends { count: number } ? ArrayOf<L[K]['type']> : number;
} & RegisterBlock;

/** A register block's state by field name: what a snapshot holds. */
export type SavedRegisters = Record<string, number | number[]>;

const symbols = new WeakMap<Layout, symbol>();

function symbolOf(layout: Layout): symbol {
  let symbol = symbols.get(layout);
  if (symbol === undefined) symbols.set(layout, (symbol = Symbol('layout')));
  return symbol;
}

/** What a register is, from the table that its device is built from; empty for one that stands in none. */
export function aboutRegister(saved: SavedRegisters, name: string): string {
  for (const symbol of Object.getOwnPropertySymbols(saved)) {
    const layout = (saved as unknown as Record<symbol, Layout>)[symbol];
    if (Object.hasOwn(layout, name)) return layout[name].about;
  }
  return '';
}

export interface RegisterBlock {
  /** Puts every field to its reset value. */
  resetAll(): void;
  saveAll(): SavedRegisters;
  /** Throws RangeError, naming the field, when something is missing or does not fit. */
  loadAll(saved: SavedRegisters): void;
}

/** Hands out register blocks from one SharedArrayBuffer, in the order of construction (the same on every thread). */
export class RegisterArena {
  readonly buffer: SharedArrayBuffer;
  /** Where each block is, in bytes. */
  readonly blocks: { start: number; end: number }[] = [];
  private next = 0;
  /** True on the thread that made the buffer: blocks then start with their reset values. */
  private readonly fresh: boolean;

  constructor(buffer?: SharedArrayBuffer, size = 1 << 20) {
    this.fresh = buffer === undefined;
    this.buffer = buffer ?? new SharedArrayBuffer(size);
  }

  allocate<const L extends Layout>(layout: L): Registers<L> {
    const start = (this.next + 7) & ~7;
    const { block, end } = build(layout, this.buffer, start);
    this.next = end;
    this.blocks.push({ start, end });
    if (this.fresh) block.resetAll();
    return block;
  }
}

function build<const L extends Layout>(
  layout: L,
  buffer: SharedArrayBuffer,
  start: number,
): { block: Registers<L>; end: number } {
  // Fields are laid out from wide to narrow, so that each is aligned without padding.
  const names = Object.keys(layout).sort((a, b) => SIZE[layout[b].type] - SIZE[layout[a].type]);
  const views = new Map<string, ArrayOf<FieldType>>();
  let at = start;
  for (const name of names) {
    const field = layout[name];
    const count = field.count ?? 1;
    const bytes = SIZE[field.type] * count;
    if (at + bytes > buffer.byteLength) {
      throw new RangeError(`device registers need more than ${buffer.byteLength} bytes (at field ${name})`);
    }
    const View = ARRAY[field.type] as new (
      buffer: SharedArrayBuffer,
      at: number,
      count: number,
    ) => ArrayOf<FieldType>;
    views.set(name, new View(buffer, at, count));
    at += bytes;
  }

  const block = {
    resetAll(): void {
      for (const [name, view] of views) {
        const { reset = 0 } = layout[name];
        if (typeof reset === 'number') view.fill(reset);
        else view.set(reset);
      }
    },
    saveAll(): SavedRegisters {
      const saved: SavedRegisters = {};
      for (const name of Object.keys(layout)) {
        const view = views.get(name)!;
        saved[name] = layout[name].count === undefined ? view[0] : Array.from(view);
      }
      // Known by a symbol, so that it survives being merged with others, and is not part of a snapshot.
      Object.defineProperty(saved, symbolOf(layout), { value: layout });
      return saved;
    },
    loadAll(saved: SavedRegisters): void {
      for (const name of Object.keys(layout)) {
        const view = views.get(name)!;
        const value = saved[name];
        const values = Array.isArray(value) ? value : [value];
        if (values.length !== view.length || values.some((v) => typeof v !== 'number')) {
          throw new RangeError(`register ${name}: the saved state has no ${view.length} numbers for it`);
        }
        view.set(values);
      }
    },
  };
  for (const [name, view] of views) {
    const scalar = layout[name].count === undefined;
    Object.defineProperty(block, name, {
      enumerable: true,
      get: scalar ? () => view[0] : () => view,
      set: scalar ? (value: number) => (view[0] = value) : undefined,
    });
  }
  return { block: block as unknown as Registers<L>, end: at };
}
