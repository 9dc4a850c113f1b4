/** All local APICs of a machine and the messages between them (Intel SDM vol. 3, 11.6 to 11.8). */
import { DeliveryMode, type ApicBus } from './apic-bus.ts';
import type { MmioBus } from './bus.ts';
import type { AccessInfo, BusDevice, Clock, Device } from './device.ts';
import { Lapic, type ApicNetwork, type TscTime, type VcpuSignal } from './lapic.ts';
import type { Layout, RegisterArena, Registers, SavedRegisters } from './registers.ts';

const APICS = {
  turn: { type: 'u32', about: 'the local APIC that wins the next tie for a lowest-priority interrupt' },
} as const satisfies Layout;

/** Bits 18-19 of the ICR. */
const SHORTHAND = { NONE: 0, SELF: 1, ALL: 2, OTHERS: 3 } as const;

export class ApicSet implements ApicBus, ApicNetwork, BusDevice, Device {
  readonly name = 'apic-bus';
  private readonly regs: Registers<typeof APICS>;
  private readonly lapics: readonly Lapic[];
  private readonly onEoi: (vector: number) => void;
  private mmio: MmioBus | null = null;

  /** @param onEoi a level-triggered interrupt ended (to the I/O APIC). */
  constructor(
    arena: RegisterArena,
    vcpus: number,
    clock: Clock,
    tsc: TscTime,
    signal: VcpuSignal,
    onEoi: (vector: number) => void,
  ) {
    this.regs = arena.allocate(APICS);
    this.onEoi = onEoi;
    this.lapics = Array.from({ length: vcpus }, (_, id) => new Lapic(arena, id, clock, tsc, signal, this));
  }

  get all(): readonly Lapic[] {
    return this.lapics;
  }

  get(vcpu: number): Lapic {
    return this.lapics[vcpu];
  }

  /** Puts the register page on the bus, where the first vCPU that has one has it: guests move all of them alike. */
  attach(mmio: MmioBus): void {
    this.mmio = mmio;
    mmio.window({ name: 'lapic', length: 0x1000, device: this, base: () => this.pageBase() });
  }

  read(offset: number, _size: number, info: AccessInfo): number {
    const lapic = this.lapics[Math.max(0, info.vcpu)];
    return lapic.page < 0 ? 0xffffffff : lapic.readPage(offset);
  }

  write(offset: number, size: number, value: number, info: AccessInfo): void {
    const lapic = this.lapics[Math.max(0, info.vcpu)];
    if (lapic.page >= 0) lapic.writePage(offset, size, value);
  }

  /** Of what is between the local APICs; each of them is a device of its own. */
  reset(): void {
    this.regs.resetAll();
  }

  save(): SavedRegisters {
    return this.regs.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.regs.loadAll(saved);
  }

  deliver(destination: number, logical: boolean, mode: number, vector: number, level: boolean): boolean {
    return this.route(-1, destination, false, logical, mode, vector, level);
  }

  ipi(
    from: number,
    shorthand: number,
    destination: number,
    wide: boolean,
    logical: boolean,
    mode: number,
    vector: number,
  ): void {
    switch (shorthand) {
      case SHORTHAND.NONE:
        this.route(-1, destination, wide, logical, mode, vector, false);
        break;
      case SHORTHAND.SELF:
        this.lapics[from].receive(mode, vector, false);
        break;
      case SHORTHAND.ALL:
        this.route(-1, 0xff, false, false, mode, vector, false);
        break;
      case SHORTHAND.OTHERS:
        this.route(from, 0xff, false, false, mode, vector, false);
        break;
    }
  }

  eoi(vector: number): void {
    this.onEoi(vector);
  }

  moved(): void {
    this.mmio?.changed();
  }

  /** Drives a pin of every local APIC: LINT0 is the 8259s' INT, LINT1 is NMI. */
  setLint(pin: 0 | 1, level: boolean): void {
    for (const lapic of this.lapics) lapic.setLint(pin, level);
  }

  /** In x2APIC mode and when disabled there is no page; the other vCPUs may still be on their way there. */
  private pageBase(): number {
    return this.lapics.find((lapic) => lapic.page >= 0)?.page ?? -1;
  }

  /** Sends to all that match, but `except`; a lowest-priority interrupt to one of them. */
  private route(
    except: number,
    destination: number,
    wide: boolean,
    logical: boolean,
    mode: number,
    vector: number,
    level: boolean,
  ): boolean {
    if (mode === DeliveryMode.LOWEST) {
      const chosen = this.leastBusy(except, destination, wide, logical);
      return chosen !== null && chosen.receive(mode, vector, level);
    }
    let taken = false;
    for (const lapic of this.lapics) {
      if (lapic.id === except || !lapic.matches(destination, wide, logical)) continue;
      if (lapic.receive(mode, vector, level)) taken = true;
    }
    return taken;
  }

  /** Of the addressed local APICs the one with the lowest priority; equals take turns. */
  private leastBusy(except: number, destination: number, wide: boolean, logical: boolean): Lapic | null {
    const { lapics, regs } = this;
    let best: Lapic | null = null;
    for (let step = 0; step < lapics.length; step++) {
      const lapic = lapics[(regs.turn + step) % lapics.length];
      if (lapic.id === except || !lapic.accepting || !lapic.matches(destination, wide, logical)) continue;
      if (best === null || lapic.ppr < best.ppr) best = lapic;
    }
    if (best !== null) regs.turn = (best.id + 1) % lapics.length;
    return best;
  }
}
