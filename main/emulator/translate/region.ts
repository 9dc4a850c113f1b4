import type { Block, Blocks } from '../blocks.ts';
import type { Cpu } from '../cpu.ts';
import { FixedHandler, type Assigned, type Handlers } from '../generate/handlers.ts';
import { JOIN } from '../generate/integer/control.ts';
import { OperandKind } from '../instruction.ts';
import { Record } from '../state.ts';

/** V8's optimising compiler takes longer than linear time: beyond this a region gains little. */
const REGION_BLOCKS = 64;
/** Also bounds what runs between two looks at the budget, as those are on the way back in loops. */
export const REGION_INSTRUCTIONS = 400;

/** Places that an indirect jump or a return is compared with: four or five comparisons in a row. */
const GUESSES = 20;

const PAGE = 4096;

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
 * Blocks that become one function: the first is the way in; edges are direct jumps within the page, and guesses
 * where indirect ones go. WebAssembly has loops and ways out of blocks, but no jump into the middle of a loop:
 * members where one would be needed are dispatched, by a number and a table.
 */
export class Region {
  /** In an order in which most jumps go forwards (reverse postorder). */
  readonly members: Member[];
  /** For each member that heads a loop: the last member of it. */
  readonly loopEnds: (number | undefined)[];
  /** Members that are jumped back to through the table. They are in no loop. */
  readonly dispatched = new Set<number>();
  private readonly indexes = new Map<number, number>();

  constructor(members: Member[]) {
    this.members = members;
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

  /** Dispatches what is jumped to in the middle of a loop from outside, with the loops around it. */
  private dissolve(edges: { from: number; to: number }[]): boolean {
    const before = this.dispatched.size;
    for (const { from, to } of edges) {
      if (to > from && from < this.loopAround(to)) this.dispatched.add(to);
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

/** Finds the blocks that belong to the region of a hot one. */
export class RegionFinder {
  private readonly cpu: Cpu;
  private readonly blocks: Blocks;
  private readonly handlers: Handlers;
  /** A block whose counter is above this has hardly been run, and stays out. */
  private readonly coldCount: number;

  constructor(cpu: Cpu, blocks: Blocks, handlers: Handlers, hotRuns: number) {
    this.cpu = cpu;
    this.blocks = blocks;
    this.handlers = handlers;
    this.coldCount = hotRuns - Math.floor(hotRuns / 8);
  }

  find(head: Block): Region {
    const { context, host } = head;
    const page = host - (host % PAGE);
    const postorder: Member[] = [];
    const seen = new Set<number>();
    const returnPoints: number[] = [];
    let instructions = 0;
    const visit = (block: Block): void => {
      const records = recordsOf(block);
      const member: Member = { block, position: block.host % PAGE, records, direct: [], guesses: [] };
      seen.add(member.position);
      instructions += records.length - 1;
      const ending = this.ending(records);
      member.direct = this.targets(records);
      // The callee after the return point, so that in the end it comes before that.
      const returnPoint = ending?.form.mnemonic === 'call' ? this.joinPosition(records) : undefined;
      if (returnPoint !== undefined) returnPoints.push(returnPoint);
      if (isIndirectJump(ending)) member.guesses = this.busiest(page, context, seen);
      const next = [...member.guesses, ...(returnPoint === undefined ? [] : [returnPoint]), ...member.direct];
      for (const target of next) {
        if (seen.has(target) || seen.size >= REGION_BLOCKS || instructions >= REGION_INSTRUCTIONS) continue;
        const found = this.warmBlock(page + target, context);
        if (found !== undefined) visit(found);
      }
      postorder.push(member);
    };
    visit(head);
    const points = returnPoints.filter((position) => seen.has(position)).slice(0, GUESSES);
    for (const member of postorder) {
      if (this.ending(member.records)?.form.mnemonic === 'ret') member.guesses = points;
      else member.guesses = member.guesses.filter((position) => seen.has(position));
    }
    return new Region(postorder.reverse());
  }

  /** The instruction that ends a block; undefined for one that doesn't exist. */
  private ending(records: number[]): Assigned | undefined {
    const assigned = this.handlers.meaningOf(this.cpu.words[records[records.length - 2] >>> 2]);
    return assigned === undefined || assigned.slot < FixedHandler.COUNT ? undefined : assigned;
  }

  /** Where the code after a block is, if that is in the page. */
  private joinPosition(records: number[]): number | undefined {
    const position = this.cpu.words[(records[records.length - 1] + Record.POSITION) >>> 2] & 0xffff;
    return position < PAGE ? position : undefined;
  }

  /** Blocks of the page that have run most and are in no region's way yet: where a jump table may lead. */
  private busiest(page: number, context: number, seen: Set<number>): number[] {
    const { words } = this.cpu;
    return this.blocks
      .inPage(page)
      .filter((block) => block.context === context && !seen.has(block.host % PAGE))
      .filter((block) => this.warmBlock(block.host, context) !== undefined)
      .map(({ host, record }) => ({
        position: host % PAGE,
        left: this.handlers.isCounting(words[record >>> 2]) ? words[(record + Record.IMMEDIATE) >>> 2] : 0,
      }))
      .sort((a, b) => a.left - b.left)
      .slice(0, GUESSES)
      .map(({ position }) => position);
  }

  private warmBlock(host: number, context: number): Block | undefined {
    const record = this.blocks.decodedAt(host, context);
    if (record === undefined) return undefined;
    const { words } = this.cpu;
    const cold =
      this.handlers.isCounting(words[record >>> 2]) &&
      words[(record + Record.IMMEDIATE) >>> 2] > this.coldCount;
    return cold ? undefined : this.blocks.blockAt(record);
  }

  /** Positions in the page that a block's end jumps or falls to: the jump's target first. */
  private targets(records: number[]): number[] {
    const positions: number[] = [];
    const ending = this.ending(records);
    // An undefined opcode goes nowhere.
    if (ending === undefined) return positions;
    const jump = jumpTarget(this.cpu.words, records[records.length - 2], ending);
    if (jump !== undefined) positions.push(jump);
    const join = fallsThrough(ending) ? this.joinPosition(records) : undefined;
    if (join !== undefined) positions.push(join);
    return positions;
  }
}

function isIndirectJump(ending: Assigned | undefined): boolean {
  return ending?.form.mnemonic === 'jmp' && ending.form.operands[0].kind !== OperandKind.REL;
}

function recordsOf({ record, count }: Block): number[] {
  return Array.from({ length: count - 1 }, (_, i) => record + (i + 1) * Record.SIZE);
}

const CONDITIONAL = new Set(['jcc', 'jcxz', 'loop', 'loope', 'loopne']);

/** Whether the next record may be run after this one. */
export function fallsThrough({ slot, form, meaning }: Assigned): boolean {
  return !meaning.ending || CONDITIONAL.has(form.mnemonic) || slot === FixedHandler.SET_TEMPORARY;
}

/** Where a direct jump goes, as a position in its own page; undefined for all other instructions, and other pages. */
export function jumpTarget(words: Int32Array, record: number, { form }: Assigned): number | undefined {
  const direct = form.mnemonic === JOIN || form.operands[0]?.kind === OperandKind.REL;
  // A target that is cut to 16 bits may wrap.
  if (!direct || form.operandSize < 32 || form.codeSize < 32) return undefined;
  const place = words[(record + Record.POSITION) >>> 2];
  const low = words[(record + Record.IMMEDIATE) >>> 2];
  if (words[(record + Record.IMMEDIATE + 4) >>> 2] !== low >> 31 && form.codeSize === 64) return undefined;
  const target = (place & 0xffff) + ((place >>> 16) & 0xff) + low;
  return target >= 0 && target < PAGE ? target : undefined;
}
