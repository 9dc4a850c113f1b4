import { Reach, type Blocks } from './blocks.ts';
import type { Cpu } from './cpu.ts';
import { Vector } from './fault.ts';
import type { Inspector } from './inspector.ts';
import { Access, Failure, type Mmu } from './mmu.ts';
import { Field, Leave, Record, SegmentIndex, Slot } from './state.ts';

const TWO_32 = 2 ** 32;

/** Finds the decoded code of the instruction at RIP, and makes it known to generated code. */
export class Locator {
  private readonly cpu: Cpu;
  private readonly mmu: Mmu;
  private readonly blocks: Blocks;
  private readonly inspector: Inspector;
  /** Records the exit for a fetch from where no memory is. */
  private readonly memoryExit: (gpa: number, prot: number) => void;
  private nextPageRip = 0;

  constructor(
    cpu: Cpu,
    mmu: Mmu,
    blocks: Blocks,
    inspector: Inspector,
    memoryExit: (gpa: number, prot: number) => void,
  ) {
    this.cpu = cpu;
    this.mmu = mmu;
    this.blocks = blocks;
    this.inspector = inspector;
    this.memoryExit = memoryExit;
  }

  /** The record of the code at RIP, or the Leave code of what happened instead. */
  locate(single: boolean): number {
    const { cpu, mmu } = this;
    const context = cpu.get(Field.CONTEXT);
    const low = cpu.get(Field.RIP);
    const high = cpu.high(Field.RIP);
    const user = cpu.cpl === 3;
    let linear: number;
    let limit = 16;
    if (cpu.code64) {
      if (!cpu.isCanonical(Field.RIP)) return this.locateFault(Vector.GP, 0);
      linear = high * TWO_32 + (low >>> 0);
    } else {
      const last = cpu.limit(SegmentIndex.CS);
      if (low >>> 0 > last) return this.locateFault(Vector.GP, 0);
      limit = last - (low >>> 0) + 1;
      linear = ((low >>> 0) + cpu.base(SegmentIndex.CS)) % TWO_32;
    }
    if (cpu.code64) limit = TWO_32;
    const host = mmu.translate(linear, Access.FETCH, user, cpu.tlbSet);
    if (host < 0) return this.locateFailed();

    const linearLow = linear | 0;
    const pageOffset = linearLow & 0xfff;
    const baseLow = (low >>> 0) - pageOffset;
    cpu.set64(
      Field.SLOTS + 8 * Slot.CODE_BASE,
      baseLow | 0,
      cpu.code64 ? (high - (baseLow < 0 ? 1 : 0)) | 0 : 0,
    );
    this.nextPageRip = linear - pageOffset + 4096;
    const record = single
      ? this.blocks.single(host, context, limit, this.nextPage)
      : this.blocks.find(host, context, limit, this.nextPage);
    if (record < 0) return this.locateFailed();
    if (!single) this.connect(record, linearLow, Math.floor(linear / TWO_32) | 0);
    return record;
  }

  /** The record for RIP, for generated code that goes on there; 0 when the run loop has to see to it. */
  find(): number {
    if (this.cpu.get(Field.LINK_FROM) !== 0) this.noteLinkPage();
    // What is wrong with it the run loop finds again.
    return Math.max(0, this.locate(false));
  }

  private readonly nextPage = (): number => {
    const { cpu } = this;
    const at = cpu.longMode ? this.nextPageRip : this.nextPageRip % TWO_32;
    if (at >= 2 ** 47 && cpu.longMode) {
      cpu.set(Field.FAULT_VECTOR, Vector.GP);
      cpu.set(Field.FAULT_ERROR, 0);
      this.mmu.failure = Failure.FAULT;
      return -1;
    }
    return this.mmu.translate(at, Access.FETCH, cpu.cpl === 3, cpu.tlbSet);
  };

  private locateFault(vector: number, error: number): number {
    this.cpu.set(Field.FAULT_VECTOR, vector);
    this.cpu.set(Field.FAULT_ERROR, error);
    return -Leave.FAULT;
  }

  private locateFailed(): number {
    if (this.mmu.failure === Failure.FAULT) return -Leave.FAULT;
    this.memoryExit(this.mmu.exitGpa, this.mmu.exitProt);
    return -Leave.EXIT;
  }

  /** Lets later jumps find the block without us: the jump cache, and a link from the jump that led here. */
  private connect(record: number, linearLow: number, linearHigh: number): void {
    const { cpu, blocks } = this;
    if (blocks.reach === Reach.ONCE) return;
    if (this.inspector.isCodePage(linearHigh * TWO_32 + (linearLow >>> 0))) return;
    this.mmu.rememberJump(linearLow, linearHigh, record, blocks.reach === Reach.CACHE);
    if (blocks.reach === Reach.CACHE) return;
    const from = cpu.get(Field.LINK_FROM);
    if (from === 0 || !this.blocks.isLinkable(from)) return;
    // Only within a linear page: a link must hold whatever the other page is mapped to later.
    if (this.linkPage === linearLow >>> 12 && this.linkHigh === linearHigh) {
      cpu.words[(from + Record.LINK) >>> 2] = record;
    }
  }
  private linkPage = 0;
  private linkHigh = 0;

  /** Notes in which linear page the jump stands that asks for a link: before locate() moves CODE_BASE. */
  noteLinkPage(): void {
    const { cpu } = this;
    const base = Field.SLOTS + 8 * Slot.CODE_BASE;
    if (cpu.code64) {
      this.linkPage = cpu.get(base) >>> 12;
      this.linkHigh = cpu.high(base);
    } else {
      this.linkPage = ((cpu.get(base) + cpu.get(cpu.baseField(SegmentIndex.CS))) | 0) >>> 12;
      this.linkHigh = 0;
    }
  }
}
