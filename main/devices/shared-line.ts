// Several interrupt sources on one controller input: a wired OR, as COM1 and COM3 share IRQ 4 on a PC.
import type { Device, IrqLine } from './device.ts';
import type { RegisterArena, Registers, SavedRegisters } from './registers.ts';

const LAYOUT = {
  levels: { type: 'u32', about: 'one bit for each source that holds the line active' },
} as const;

/** Up to 32 sources; the target is active while one of them is. */
export class SharedLine implements Device {
  readonly name: string;
  private readonly r: Registers<typeof LAYOUT>;
  private readonly target: IrqLine;

  constructor(name: string, arena: RegisterArena, target: IrqLine) {
    this.name = name;
    this.r = arena.allocate(LAYOUT);
    this.target = target;
  }

  /** The line of source `n` (0-31). */
  input(n: number): IrqLine {
    const bit = (1 << n) >>> 0;
    return {
      set: (level) => {
        const before = this.r.levels;
        const after = (level ? before | bit : before & ~bit) >>> 0;
        this.r.levels = after;
        if ((before === 0) !== (after === 0)) this.target.set(after !== 0);
      },
    };
  }

  reset(): void {
    this.r.resetAll();
    this.target.set(false);
  }

  save(): SavedRegisters {
    return this.r.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.r.loadAll(saved);
  }
}
