import type { Block } from '../blocks.ts';

/** A block in a region. */
export interface Member {
  block: Block;
  /** Offset of its first byte in the page. */
  position: number;
  /** Addresses of its instructions' records, with the joining one at the end. */
  records: number[];
  /** Positions that its end jumps or falls to directly. */
  direct: number[];
  /** Positions where its indirect jump or return may lead: those are compared with the target. */
  guesses: number[];
}

/**
 * Blocks that become one function. Edges are direct jumps within the page, and guesses where indirect ones go.
 * WebAssembly has loops and ways out of blocks, but no jump into the middle of a loop: where one would be needed,
 * because others jump there or because there is an entry, the loop is none, and its head is dispatched, by a number
 * and a table. The same table is the way in: whatever is in no loop can be entered for nothing.
 */
export class Region {
  /** In an order in which most jumps go forwards (reverse postorder). */
  readonly members: Member[];
  /** Positions of the members that must be ways in. */
  readonly entries: ReadonlySet<number>;
  /** For each member that heads a loop: the last member of it. */
  readonly loopEnds: (number | undefined)[];
  /** Members that are jumped back to through the table. They are in no loop. */
  readonly dispatched = new Set<number>();
  /** Members that can be entered, by their numbers in the table: all that are in no loop. */
  readonly ways: number[];
  readonly instructions: number;
  private readonly indexes = new Map<number, number>();

  constructor(members: Member[], entries: ReadonlySet<number>) {
    this.members = members;
    this.entries = entries;
    this.instructions = members.reduce((sum, { records }) => sum + Math.max(0, records.length - 1), 0);
    members.forEach(({ position }, i) => this.indexes.set(position, i));
    this.loopEnds = members.map(() => undefined);
    const edges = members.flatMap(({ direct, guesses }, from) =>
      [...direct, ...guesses].flatMap((position) => {
        const to = this.indexes.get(position);
        return to === undefined ? [] : [{ from, to }];
      }),
    );
    do this.findLoops(edges);
    while (this.dissolve(edges));
    this.ways = members.flatMap((_, i) => (this.loopAround(i) < 0 ? [i] : []));
  }

  private findLoops(edges: { from: number; to: number }[]): void {
    const { loopEnds, dispatched } = this;
    loopEnds.fill(undefined);
    for (const { from, to } of edges) {
      if (to <= from && !dispatched.has(to)) loopEnds[to] = Math.max(loopEnds[to] ?? to, from);
    }
    // Loops are nested or apart: one that overlaps the end of another around it makes that longer.
    for (let h = loopEnds.length - 1; h >= 0; h--) {
      for (let inner = h + 1; inner <= (loopEnds[h] ?? -1); inner++) {
        loopEnds[h] = Math.max(loopEnds[h]!, loopEnds[inner] ?? 0);
      }
    }
  }

  /** Dispatches the heads of loops that are jumped to or entered in their middle, and of the loops around those. */
  private dissolve(edges: { from: number; to: number }[]): boolean {
    const before = this.dispatched.size;
    for (const { from, to } of edges) {
      if (to > from && from < this.loopAround(to)) this.dispatched.add(this.loopAround(to));
    }
    for (const position of this.entries) {
      const around = this.loopAround(this.indexes.get(position)!);
      if (around >= 0) this.dispatched.add(around);
    }
    for (const to of this.dispatched) {
      for (let h = this.loopAround(to); h >= 0; h = this.loopAround(h)) this.dispatched.add(h);
    }
    return this.dispatched.size > before;
  }

  /** The member at a position in the page. */
  indexAt(position: number): number | undefined {
    return this.indexes.get(position);
  }

  /** The head of the innermost loop around a member, other than one that it heads itself; -1: none. */
  loopAround(index: number): number {
    for (let h = index - 1; h >= 0; h--) if ((this.loopEnds[h] ?? -1) >= index) return h;
    return -1;
  }
}
