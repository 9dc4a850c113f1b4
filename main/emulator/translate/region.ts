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

const PAGE = 4096;

/** A block in a region. */
export interface Member {
  block: Block;
  /** Offset of its first byte in the page. */
  position: number;
  /** Addresses of its instructions' records, with the joining one at the end. */
  records: number[];
}

/** Blocks that become one function: the first is the way in; edges are direct jumps within the page. */
export class Region {
  /** In an order in which most jumps go forwards (reverse postorder). */
  readonly members: Member[];
  /** For each member that a jump leads back to: the last member of its loop. */
  readonly loopEnds: (number | undefined)[];
  private readonly indexes = new Map<number, number>();

  constructor(members: Member[], successors: (member: Member) => number[]) {
    this.members = members;
    members.forEach(({ position }, i) => this.indexes.set(position, i));
    this.loopEnds = members.map(() => undefined);
    members.forEach((member, from) => {
      for (const position of successors(member)) {
        const to = this.indexes.get(position);
        if (to !== undefined && to <= from) this.loopEnds[to] = Math.max(this.loopEnds[to] ?? to, from);
      }
    });
    // Loops are nested or apart: one that overlaps the end of another around it makes that longer.
    for (let h = members.length - 1; h >= 0; h--) {
      for (let inner = h + 1; inner <= (this.loopEnds[h] ?? -1); inner++) {
        this.loopEnds[h] = Math.max(this.loopEnds[h]!, this.loopEnds[inner] ?? 0);
      }
    }
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

  /** Whether a jump forwards can be a jump in WebAssembly: not into the middle of a loop. */
  canJump(from: number, to: number): boolean {
    return to <= from || from >= this.loopAround(to);
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
    let instructions = 0;
    const successors = (member: Member): number[] =>
      this.targets(member.records).filter((position) => seen.has(position));
    const visit = (block: Block): void => {
      const position = block.host % PAGE;
      seen.add(position);
      const member = { block, position, records: recordsOf(block) };
      instructions += member.records.length - 1;
      for (const target of this.targets(member.records)) {
        if (seen.has(target) || seen.size >= REGION_BLOCKS || instructions >= REGION_INSTRUCTIONS) continue;
        const next = this.warmBlock(page + target, context);
        if (next !== undefined) visit(next);
      }
      postorder.push(member);
    };
    visit(head);
    return new Region(postorder.reverse(), successors);
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
    const last = records[records.length - 2];
    const ending = this.handlers.meaningOf(this.cpu.words[last >>> 2]);
    // An undefined opcode goes nowhere.
    if (ending === undefined || ending.slot < FixedHandler.COUNT) return positions;
    const jump = jumpTarget(this.cpu.words, last, ending);
    if (jump !== undefined) positions.push(jump);
    if (fallsThrough(ending)) {
      const join = this.cpu.words[(records[records.length - 1] + Record.POSITION) >>> 2] & 0xffff;
      if (join < PAGE) positions.push(join);
    }
    return positions;
  }
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
