import type { Block, Blocks } from '../blocks.ts';
import type { Cpu } from '../cpu.ts';
import { FixedHandler, type Assigned, type Handlers } from '../generate/handlers.ts';
import { JOIN } from '../generate/integer/control.ts';
import { OperandKind } from '../instruction.ts';
import { Record } from '../state.ts';
import { Region, type Member } from './region.ts';

/** V8's optimising compiler takes longer than linear time: beyond this a region gains little. */
const REGION_BLOCKS = 64;
/** Also bounds what runs between two looks at the budget, as those are on the way back in loops. */
export const REGION_INSTRUCTIONS = 400;

/** Places that an indirect jump or a return is compared with: four or five comparisons in a row. */
const GUESSES = 20;

/**
 * A region that was translated is taken into a new one only if that brings at least half as much that is new: so an
 * instruction is translated again a few times at most while a page warms up, not with each block.
 */
const GROWTH = 2;

const PAGE = 4096;

/** What is known of regions already: where a block belongs. */
export interface Owner {
  readonly region: Region;
}

/** A region for a hot block, and those that it takes the place of. */
export interface Found<O extends Owner> {
  region: Region;
  absorbed: O[];
}

/** Finds the blocks that belong to the region of a hot one. A block is in one region at most. */
export class RegionFinder<O extends Owner> {
  private readonly cpu: Cpu;
  private readonly blocks: Blocks;
  private readonly handlers: Handlers;
  private readonly ownerOf: (record: number) => O | undefined;
  /** A block whose counter is above this has hardly been run, and stays out. */
  private readonly coldCount: number;

  constructor(
    cpu: Cpu,
    blocks: Blocks,
    handlers: Handlers,
    hotRuns: number,
    ownerOf: (record: number) => O | undefined,
  ) {
    this.cpu = cpu;
    this.blocks = blocks;
    this.handlers = handlers;
    this.ownerOf = ownerOf;
    this.coldCount = hotRuns - Math.floor(hotRuns / 8);
  }

  /**
   * The region of a block that is hot: with what is warm and in no region yet, and with small regions that this leads
   * to. A block that is in a region already becomes one more of its ways in.
   */
  find(head: Block): Found<O> {
    const own = this.ownerOf(head.record);
    const roots = [head, ...(own === undefined ? [] : own.region.members.map(({ block }) => block))];
    const { fresh, touched } = this.explore(roots, own);
    const absorbed = own === undefined ? [] : [own];
    const inside = new Map(fresh);
    const add = ({ region }: Owner): void => {
      for (const { position, block } of region.members) inside.set(position, block);
    };
    const news = sumOf([...fresh.values()], instructionsOf);
    let instructions = news + (own?.region.instructions ?? 0);
    if (own !== undefined) add(own);
    for (const other of [...touched].sort((a, b) => a.region.instructions - b.region.instructions)) {
      const { region } = other;
      if (region.instructions > GROWTH * news) break;
      if (instructions + region.instructions > REGION_INSTRUCTIONS) break;
      if (inside.size + region.members.length > REGION_BLOCKS) break;
      instructions += region.instructions;
      absorbed.push(other);
      add(other);
    }
    const entries = new Set([head.host % PAGE, ...absorbed.flatMap(({ region }) => [...region.entries])]);
    const members = this.order(inside, entries);
    for (const position of this.returnsFromOutside(members, inside)) entries.add(position);
    return { region: new Region(members, entries), absorbed };
  }

  /** What is warm and in no region, from the roots on, and the regions that it leads to. */
  private explore(roots: Block[], own: O | undefined): { fresh: Map<number, Block>; touched: Set<O> } {
    const { context, host } = roots[0];
    const page = host - (host % PAGE);
    const fresh = new Map<number, Block>();
    const touched = new Set<O>();
    let blocks = own?.region.members.length ?? 0;
    let instructions = own?.region.instructions ?? 0;
    const queue: Block[] = [];
    const reach = (block: Block): void => {
      const owner = this.ownerOf(block.record);
      if (owner !== undefined) {
        if (owner !== own) touched.add(owner);
      } else if (
        !fresh.has(block.host % PAGE) &&
        blocks < REGION_BLOCKS &&
        instructions < REGION_INSTRUCTIONS
      ) {
        fresh.set(block.host % PAGE, block);
        blocks++;
        instructions += instructionsOf(block);
        queue.push(block);
      }
    };
    for (const root of roots) {
      if (this.ownerOf(root.record) === undefined) reach(root);
      else queue.push(root);
    }
    for (let block = queue.shift(); block !== undefined; block = queue.shift()) {
      const records = recordsOf(block);
      const next = this.targets(records);
      const returnPoint = this.returnPoint(records);
      if (returnPoint !== undefined) next.push(returnPoint);
      next.push(...this.guesses(records, page, context));
      for (const target of next) {
        const found = this.warmBlock(page + target, context);
        if (found !== undefined) reach(found);
      }
    }
    return { fresh, touched };
  }

  /** The members in reverse postorder, with their edges among one another. */
  private order(inside: ReadonlyMap<number, Block>, roots: Iterable<number>): Member[] {
    const postorder: Member[] = [];
    const seen = new Set<number>();
    const returnPoints: number[] = [];
    const visit = (position: number): void => {
      const block = inside.get(position);
      if (block === undefined || seen.has(position)) return;
      seen.add(position);
      const records = recordsOf(block);
      const member: Member = { block, position, records, direct: this.targets(records), guesses: [] };
      const returnPoint = this.returnPoint(records);
      if (returnPoint !== undefined && inside.has(returnPoint)) returnPoints.push(returnPoint);
      const page = block.host - (block.host % PAGE);
      member.guesses = this.guesses(records, page, block.context).filter((target) => inside.has(target));
      // The callee after the return point, so that in the end it comes before that.
      for (const target of member.guesses) visit(target);
      if (returnPoint !== undefined) visit(returnPoint);
      for (const target of member.direct) visit(target);
      postorder.push(member);
    };
    for (const root of roots) visit(root);
    for (const position of inside.keys()) visit(position);
    const points = returnPoints.slice(0, GUESSES);
    for (const member of postorder) {
      if (this.ending(member.records)?.form.mnemonic === 'ret') member.guesses = points;
    }
    return postorder.reverse();
  }

  /** Where calls of what is not inside come back to. */
  private returnsFromOutside(members: Member[], inside: ReadonlyMap<number, Block>): number[] {
    return members.flatMap(({ records, direct }) => {
      const returnPoint = this.returnPoint(records);
      if (returnPoint === undefined || !inside.has(returnPoint)) return [];
      return direct.some((target) => inside.has(target)) ? [] : [returnPoint];
    });
  }

  /** The instruction that ends a block; undefined for one that doesn't exist. */
  private ending(records: number[]): Assigned | undefined {
    const assigned = this.handlers.meaningOf(this.cpu.words[records[records.length - 2] >>> 2]);
    return assigned === undefined || assigned.slot < FixedHandler.COUNT ? undefined : assigned;
  }

  /** Where a call that ends a block comes back to. */
  private returnPoint(records: number[]): number | undefined {
    return this.ending(records)?.form.mnemonic === 'call' ? this.joinPosition(records) : undefined;
  }

  /** Where the code after a block is, if that is in the page. */
  private joinPosition(records: number[]): number | undefined {
    const position = this.cpu.words[(records[records.length - 1] + Record.POSITION) >>> 2] & 0xffff;
    return position < PAGE ? position : undefined;
  }

  /** Positions where a block's end may lead that says so only when it runs, but for returns. */
  private guesses(records: number[], page: number, context: number): number[] {
    const ending = this.ending(records);
    if (ending === undefined || ending.form.operands[0]?.kind === OperandKind.REL) return [];
    if (ending.form.mnemonic === 'jmp') return this.busiest(page, context);
    if (ending.form.mnemonic !== 'call') return [];
    const position = this.cpu.words[(records[records.length - 2] + Record.LINK) >>> 2] - 1;
    return position >= 0 && position < PAGE ? [position] : [];
  }

  /** Blocks of the page that have run most: where a jump table may lead. */
  private busiest(page: number, context: number): number[] {
    const { words } = this.cpu;
    return this.blocks
      .inPage(page)
      .filter((block) => block.context === context && this.warmBlock(block.host, context) !== undefined)
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
      this.ownerOf(record) === undefined &&
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

function sumOf<T>(values: T[], of: (value: T) => number): number {
  return values.reduce((sum, value) => sum + of(value), 0);
}

/** Without the counting record and the joining one. */
function instructionsOf({ count }: Block): number {
  return count - 2;
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
export function jumpTarget(
  words: Int32Array,
  record: number,
  { form }: Pick<Assigned, 'form'>,
): number | undefined {
  const direct = form.mnemonic === JOIN || form.operands[0]?.kind === OperandKind.REL;
  // A target that is cut to 16 bits may wrap.
  if (!direct || form.operandSize < 32 || form.codeSize < 32) return undefined;
  const place = words[(record + Record.POSITION) >>> 2];
  const low = words[(record + Record.IMMEDIATE) >>> 2];
  if (words[(record + Record.IMMEDIATE + 4) >>> 2] !== low >> 31 && form.codeSize === 64) return undefined;
  const target = (place & 0xffff) + ((place >>> 16) & 0xff) + low;
  return target >= 0 && target < PAGE ? target : undefined;
}
