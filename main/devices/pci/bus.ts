// PCI Local Bus Specification 3.0, section 3.2.2.3 (configuration mechanism #1), and PCI Express Base 3.0, section 7.2.2 (ECAM).
import type { MmioBus, PortBus } from '../bus.ts';
import type { BusDevice, Device, IrqLine } from '../device.ts';
import type { RegisterArena, Registers, SavedRegisters } from '../registers.ts';
import { COMMAND, HEADER, PciFunction, type Bar } from './function.ts';

const LAYOUT = {
  configAddress: {
    type: 'u32',
    about: 'port 0xCF8: 31 enable, 23:16 bus, 15:11 device, 10:8 function, 7:2 register',
  },
  intx: { type: 'u8', about: 'levels of PIRQ A-D, bits 0-3' },
} as const;

const ADDRESS = { ENABLE: 0x80000000, WRITABLE: 0x80fffffc } as const;
const SLOTS = 32;

/** Bytes of the enhanced configuration window of one bus: 256 functions of 4 KiB. */
export const ECAM_BYTES = 2 ** 20;

export interface AddressRange {
  base: number;
  length: number;
}

export interface PciBusOptions {
  arena: RegisterArena;
  ports: PortBus;
  mmio: MmioBus;
  /** PIRQ A-D. */
  irqs: readonly IrqLine[];
  /** Guest-physical address of the enhanced configuration window. */
  ecam: number;
  /** Where BARs are put at reset. */
  memory: AddressRange;
  io: AddressRange;
}

/** The host bridge: something to be found at 00:00.0, so that software believes in the bus. */
class HostBridge extends PciFunction {
  constructor(arena: RegisterArena) {
    super('pci-host', arena, {
      vendor: 0x1b36,
      device: 0x0008,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
      classCode: 0x060000,
      revision: 0,
      interruptPin: 0,
    });
  }
}

/**
 * Bus 0 and its host bridge: 32 slots of one function each, reached through ports 0xCF8-0xCFF and the ECAM
 * window. Other buses do not exist: their configuration reads all ones.
 */
export class PciBus implements Device {
  readonly name = 'pci';
  readonly functions: PciFunction[] = [];
  private readonly r: Registers<typeof LAYOUT>;
  private readonly options: PciBusOptions;
  private readonly slots: (PciFunction | undefined)[] = new Array<undefined>(SLOTS).fill(undefined);

  constructor(options: PciBusOptions) {
    this.options = options;
    this.r = options.arena.allocate(LAYOUT);
    options.ports.register(0xcf8, 8, this.configPorts(), 'pci configuration');
    options.mmio.register(options.ecam, ECAM_BYTES, this.configWindow(), 'pci ecam');
    this.add(new HostBridge(options.arena));
  }

  /** Puts a function into a slot, the first free one unless given, and returns the slot's number. */
  add(fn: PciFunction, slot = this.slots.indexOf(undefined)): number {
    if (slot < 0 || slot >= SLOTS || this.slots[slot] !== undefined) {
      throw new RangeError(`${fn.name}: PCI slot ${slot} is not free (bus 0 has slots 0 to ${SLOTS - 1})`);
    }
    this.slots[slot] = fn;
    this.functions.push(fn);
    const { ports, mmio } = this.options;
    fn.attach({
      decodingChanged: (kind) => (kind === 'io' ? ports : mmio).changed(),
      intxChanged: () => this.updateIntx(),
    });
    for (const bar of fn.bars) {
      const bus = bar.kind === 'io' ? ports : mmio;
      bus.window({
        name: `${fn.name} bar${bar.index}`,
        length: bar.size,
        device: bar.device,
        base: () => fn.barBase(bar),
      });
    }
    return slot;
  }

  /** Resets the functions, then gives every BAR a place and switches decoding on, as a PC's firmware does. */
  reset(): void {
    this.r.resetAll();
    for (const line of this.options.irqs) line.set(false);
    for (const fn of this.functions) fn.reset();
    this.assignBars('io', this.options.io);
    this.assignBars('memory', this.options.memory);
    this.slots.forEach((fn, slot) => {
      if (fn === undefined) return;
      if (fn.interruptPin !== 0) fn.writeConfig(HEADER.INTERRUPT_LINE, 1, this.pirq(fn, slot) & 1 ? 11 : 10);
      if (fn.bars.length !== 0) fn.writeConfig(HEADER.COMMAND, 2, COMMAND.IO | COMMAND.MEMORY);
    });
  }

  /** Of the bus itself; the functions are devices of their own. */
  save(): SavedRegisters {
    return this.r.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.r.loadAll(saved);
  }

  /** Reads configuration space of 00:device.function; all ones when nobody is there. */
  readConfig(device: number, fn: number, offset: number, size: number): number {
    const target = fn === 0 ? this.slots[device] : undefined;
    return target === undefined ? ones(size) : target.readConfig(offset, size);
  }

  writeConfig(device: number, fn: number, offset: number, size: number, value: number): void {
    if (fn === 0) this.slots[device]?.writeConfig(offset, size, value);
  }

  /** Section 2.2.6: each device's INTA goes to another input, so that they share as little as possible. */
  private pirq(fn: PciFunction, slot: number): number {
    return (slot + fn.interruptPin - 1) & 3;
  }

  private updateIntx(): void {
    let levels = 0;
    for (let slot = 0; slot < SLOTS; slot++) {
      const fn = this.slots[slot];
      if (fn !== undefined && fn.interruptPin !== 0 && fn.intxActive) levels |= 1 << this.pirq(fn, slot);
    }
    const changed = levels ^ this.r.intx;
    this.r.intx = levels;
    for (let line = 0; line < 4; line++) {
      if ((changed & (1 << line)) !== 0) this.options.irqs[line].set((levels & (1 << line)) !== 0);
    }
  }

  private assignBars(space: 'io' | 'memory', { base, length }: AddressRange): void {
    const wanted: { fn: PciFunction; bar: Bar }[] = [];
    for (const fn of this.functions) {
      for (const bar of fn.bars) if ((bar.kind === 'io') === (space === 'io')) wanted.push({ fn, bar });
    }
    // The largest first: each is then aligned to its size without a gap.
    wanted.sort((a, b) => b.bar.size - a.bar.size);
    let next = base;
    for (const { fn, bar } of wanted) {
      const at = Math.ceil(next / bar.size) * bar.size;
      next = at + bar.size;
      if (next > base + length) {
        throw new RangeError(
          `${fn.name}: the PCI ${space} window of ${length} bytes is full; use fewer devices`,
        );
      }
      fn.setBar(bar, at);
    }
  }

  /** 0xCF8 takes 32-bit accesses only; 0xCFC-0xCFF are the bytes of the register that it names. */
  private configPorts(): BusDevice {
    return {
      read: (offset, size) => {
        const { configAddress } = this.r;
        if (offset < 4) return offset === 0 && size === 4 ? configAddress : ones(size);
        if ((configAddress & ADDRESS.ENABLE) === 0 || ((configAddress >>> 16) & 0xff) !== 0) {
          return ones(size);
        }
        const [device, fn, register] = decode(configAddress);
        return this.readConfig(device, fn, register + (offset & 3), size);
      },
      write: (offset, size, value) => {
        const { configAddress } = this.r;
        if (offset < 4) {
          if (offset === 0 && size === 4) this.r.configAddress = (value & ADDRESS.WRITABLE) >>> 0;
          return;
        }
        if ((configAddress & ADDRESS.ENABLE) === 0 || ((configAddress >>> 16) & 0xff) !== 0) return;
        const [device, fn, register] = decode(configAddress);
        this.writeConfig(device, fn, register + (offset & 3), size, value);
      },
    };
  }

  /** ECAM: 19:15 device, 14:12 function, 11:0 register. */
  private configWindow(): BusDevice {
    return {
      read: (offset, size) => this.readConfig(offset >> 15, (offset >> 12) & 7, offset & 0xfff, size),
      write: (offset, size, value) =>
        this.writeConfig(offset >> 15, (offset >> 12) & 7, offset & 0xfff, size, value),
    };
  }
}

/** Device, function and register of a configuration address. */
function decode(address: number): [number, number, number] {
  return [(address >>> 11) & 31, (address >>> 8) & 7, address & 0xfc];
}

function ones(size: number): number {
  return size === 1 ? 0xff : size === 2 ? 0xffff : 0xffffffff;
}
