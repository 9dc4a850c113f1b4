import type { Device } from '../devices/device.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from '../devices/registers.ts';

/**
 * Model-specific registers that NVMM leaves to the VMM (Intel SDM volume 4; the answers are QEMU's): the MTRRs,
 * machine check without banks, and a few that operating systems look at. The local APIC's are in its device.
 */

const MTRR_CAP = 0xfe;
const MTRR_PHYS_FIRST = 0x200;
const MTRR_PHYS_LAST = 0x20f;
/** The fixed-range registers, in the order of the `fixed` array. */
const MTRR_FIXED = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
const MTRR_DEFAULT = 0x2ff;
const MCG_CAP = 0x179;
const MCG_STATUS = 0x17a;
const MCG_CTL = 0x17b;
const MISC_ENABLE = 0x1a0;
const HWCR = 0xc001_0015;
/** The offset that software gave the time stamp counter; the run loop moves the counter itself. */
export const TSC_ADJUST = 0x3b;

/** Eight variable ranges, fixed ranges, write-combining. */
const MTRR_CAP_VALUE = 0x508;
/** Fast strings; performance monitoring absent (BTS and PEBS unavailable). */
const MISC_ENABLE_VALUE = 0x1801;
const WRITE_BACK = 0x0606_0606;
/** AMD HWCR: TscFreqSel, the TSC counts at the P0 frequency. */
const HWCR_VALUE = 1 << 24;

const LAYOUT = {
  mtrrDefault: {
    type: 'u32',
    reset: 0xc06,
    about: 'IA32_MTRR_DEF_TYPE: 7:0 type, 10 fixed enable, 11 enable',
  },
  mtrrPhysLow: { type: 'u32', count: 16, about: 'IA32_MTRR_PHYSBASE and PHYSMASK of ranges 0-7, low halves' },
  mtrrPhysHigh: { type: 'u32', count: 16, about: 'the same, high halves' },
  mtrrFixed: { type: 'u32', count: 22, reset: WRITE_BACK, about: 'the 11 fixed-range MTRRs, low half first' },
  mcgStatus: { type: 'u32', about: 'IA32_MCG_STATUS' },
  tscAdjustLow: { type: 'u32', about: 'IA32_TSC_ADJUST, bits 0-31' },
  tscAdjustHigh: { type: 'u32', about: 'IA32_TSC_ADJUST, bits 32-63' },
  miscEnable: { type: 'u32', reset: MISC_ENABLE_VALUE, about: 'IA32_MISC_ENABLE' },
  unknownReads: { type: 'f64', about: 'reads of registers that do not exist, answered with #GP' },
  unknownWrites: { type: 'f64', about: 'writes of registers that do not exist, answered with #GP' },
  lastUnknown: { type: 'u32', about: 'the last register of those' },
} as const satisfies Layout;

/** Read as zero, written without effect: microcode, platform, power and performance registers that probes touch. */
const IGNORED = new Set([
  0x17, 0x8b, 0x79, 0x2a, 0xcd, 0xce, 0x140, 0x186, 0x187, 0x198, 0x199, 0x19a, 0x19b, 0x19c, 0x1b0, 0x1c9,
  0x1d9, 0x1fc, 0x38d, 0x38f, 0x390, 0x606, 0x611, 0x619, 0x639, 0x641, 0xc000_0104, 0xc001_0010, 0xc001_001b,
  0xc001_001f, 0xc001_0055, 0xc001_0112, 0xc001_0140, 0xc001_0141, 0xc001_1020, 0xc001_1021, 0xc001_1022,
  0xc001_1023, 0xc001_1029, 0xc001_102a,
]);

/** The low and high half of a value read. Reused: copy at once. */
export interface MsrValue {
  low: number;
  high: number;
}

/** One vCPU's registers. */
export class Msrs implements Device {
  readonly name: string;
  readonly regs: Registers<typeof LAYOUT>;
  private readonly value: MsrValue = { low: 0, high: 0 };

  constructor(arena: RegisterArena, vcpu: number) {
    this.name = `msrs${vcpu}`;
    this.regs = arena.allocate(LAYOUT);
  }

  reset(): void {
    this.regs.resetAll();
  }

  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
  }

  /** Null: no such register, the guest gets #GP. */
  read(index: number): MsrValue | null {
    const { regs } = this;
    const fixed = MTRR_FIXED.indexOf(index);
    if (fixed >= 0) return this.give(regs.mtrrFixed[2 * fixed], regs.mtrrFixed[2 * fixed + 1]);
    if (index >= MTRR_PHYS_FIRST && index <= MTRR_PHYS_LAST) {
      const at = index - MTRR_PHYS_FIRST;
      return this.give(regs.mtrrPhysLow[at], regs.mtrrPhysHigh[at]);
    }
    switch (index) {
      case MTRR_CAP:
        return this.give(MTRR_CAP_VALUE, 0);
      case MTRR_DEFAULT:
        return this.give(regs.mtrrDefault, 0);
      case MCG_STATUS:
        return this.give(regs.mcgStatus, 0);
      case MISC_ENABLE:
        return this.give(regs.miscEnable, 0);
      case MCG_CAP:
      case MCG_CTL:
        return this.give(0, 0);
      case HWCR:
        return this.give(HWCR_VALUE, 0);
      case TSC_ADJUST:
        return this.give(regs.tscAdjustLow, regs.tscAdjustHigh);
    }
    if (IGNORED.has(index)) return this.give(0, 0);
    regs.unknownReads++;
    regs.lastUnknown = index;
    return null;
  }

  /** False: no such register, or a value that it does not take: the guest gets #GP. */
  write(index: number, low: number, high: number): boolean {
    const { regs } = this;
    const fixed = MTRR_FIXED.indexOf(index);
    if (fixed >= 0) {
      regs.mtrrFixed[2 * fixed] = low;
      regs.mtrrFixed[2 * fixed + 1] = high;
      return true;
    }
    if (index >= MTRR_PHYS_FIRST && index <= MTRR_PHYS_LAST) {
      regs.mtrrPhysLow[index - MTRR_PHYS_FIRST] = low;
      regs.mtrrPhysHigh[index - MTRR_PHYS_FIRST] = high;
      return true;
    }
    switch (index) {
      case MTRR_DEFAULT:
        regs.mtrrDefault = low & 0xcff;
        return true;
      case MCG_STATUS:
        regs.mcgStatus = low;
        return true;
      case MISC_ENABLE:
        regs.miscEnable = low;
        return true;
      case TSC_ADJUST:
        regs.tscAdjustLow = low;
        regs.tscAdjustHigh = high;
        return true;
      case MCG_CTL:
      case HWCR:
        return true;
    }
    if (IGNORED.has(index)) return true;
    regs.unknownWrites++;
    regs.lastUnknown = index;
    return false;
  }

  private give(low: number, high: number): MsrValue {
    this.value.low = low;
    this.value.high = high;
    return this.value;
  }
}
