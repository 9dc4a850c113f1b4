/**
 * The DSDT: what a guest is told of devices that it can't find by itself (ACPI Specification 6.5, chapter 6;
 * PCI Firmware Specification 3.3, chapter 4). Generated, since everything in it depends on the machine.
 */
import { Pm } from './acpi-pm.ts';
import type { Aml } from './aml.ts';
import {
  Arg,
  busNumbers,
  device,
  dma,
  eisaId,
  giveBack,
  io,
  ioWindow,
  irq,
  list,
  memoryFixed,
  memoryWindow,
  method,
  name,
  path,
  resources,
  scope,
  store,
  text,
  when,
} from './aml.ts';
import { PCI_GSI, PCI_PIC_IRQS } from './interrupts.ts';
import { ECAM_BYTES, type AddressRange } from './pci/bus.ts';
import { RESET_PORT } from './reset-port.ts';

export interface DsdtOptions {
  vcpus: number;
  /** The 16550A UARTs that are there, COM1 first; the four of a PC unless given. */
  uarts?: readonly { port: number; irq: number }[];
  /** Address of PCI configuration space in memory: 1 MiB for bus 0, the only one. */
  ecam: number;
  /** Where BARs may be; the ECAM is not part of it. */
  pciMemory: AddressRange;
  pciPorts: AddressRange;
}

const UARTS = [
  { port: 0x3f8, irq: 4 },
  { port: 0x2f8, irq: 3 },
  { port: 0x3e8, irq: 4 },
  { port: 0x2e8, irq: 3 },
];
/** Slots of the PCI bus. */
const SLOTS = 32;
/** PCI interrupts in use: slot s, pin p (0: INTA) is at input 16 + (s + p) % 4. */
const PIRQS = 4;

/** The body of the DSDT: everything after the header. */
export function dsdtBody(options: DsdtOptions): Aml {
  return [
    ...name('\\PICM', 0),
    // The guest says whether it uses the 8259s (0) or the I/O APIC (1).
    ...method('\\_PIC', 1, store(Arg(0), path('\\PICM'))),
    ...name('\\_S5', list(Pm.S5, Pm.S5, 0, 0)),
    ...scope(
      '\\_SB',
      processors(options.vcpus),
      pciRoot(options),
      legacyDevices(),
      uarts(options.uarts ?? UARTS),
    ),
  ];
}

function processors(vcpus: number): Aml {
  return Array.from({ length: vcpus }, (_, id) => {
    const digits = id.toString(16).toUpperCase().padStart(3, '0');
    return device(`C${digits}`, name('_HID', text('ACPI0007')), name('_UID', id));
  }).flat();
}

function pciRoot({ ecam, pciMemory, pciPorts }: DsdtOptions): Aml {
  return device(
    'PCI0',
    name('_HID', eisaId('PNP0A08')),
    name('_CID', eisaId('PNP0A03')),
    name('_UID', 0),
    name('_SEG', 0),
    name('_BBN', 0),
    name(
      '_CRS',
      resources(
        busNumbers(0, 1),
        io(0xcf8, 8),
        ioWindow(pciPorts.base, pciPorts.length),
        memoryWindow(pciMemory.base, pciMemory.length),
      ),
    ),
    name(
      'PRTP',
      routing((line) => PCI_PIC_IRQS[line & 1]),
    ),
    name(
      'PRTA',
      routing((line) => PCI_GSI + line),
    ),
    method('_PRT', 0, when(path('\\PICM'), giveBack(path('PRTA'))), giveBack(path('PRTP'))),
    // ECAM is not the root bridge's own resource: it is claimed by a device below it.
    device('ECAM', name('_HID', eisaId('PNP0C02')), name('_UID', 0), crs(memoryFixed(ecam, ECAM_BYTES))),
  );
}

/** Interrupts of every slot's four pins: { slot and any function, pin, fixed, input }. */
function routing(inputOf: (line: number) => number): Aml {
  const entries: Aml[] = [];
  for (let slot = 0; slot < SLOTS; slot++) {
    for (let pin = 0; pin < 4; pin++) {
      entries.push(list(slot * 0x10000 + 0xffff, pin, 0, inputOf((slot + pin) % PIRQS)));
    }
  }
  return list(...entries);
}

function crs(...descriptors: Aml[]): Aml {
  return name('_CRS', resources(...descriptors));
}

function plain(of: string, id: string, ...descriptors: Aml[]): Aml {
  return device(of, name('_HID', eisaId(id)), crs(...descriptors));
}

function legacyDevices(): Aml {
  return [
    ...plain('PIC', 'PNP0000', io(0x20, 2), io(0xa0, 2), io(0x4d0, 2), irq(2)),
    ...plain('TIMR', 'PNP0100', io(0x40, 4), irq(0)),
    ...plain('DMAC', 'PNP0200', io(0x00, 16), io(0x81, 15), io(0xc0, 32), dma(4)),
    ...plain('RTC', 'PNP0B00', io(0x70, 4), irq(8)),
    ...plain('SPKR', 'PNP0800', io(0x61, 1)),
    ...plain('KBD', 'PNP0303', io(0x60, 1), io(0x64, 1), irq(1)),
    ...plain('MOUS', 'PNP0F13', irq(12)),
    ...device(
      'SYSR',
      name('_HID', eisaId('PNP0C02')),
      name('_UID', 1),
      crs(
        io(0x80, 1),
        io(0x92, 1),
        io(Pm.SMI_COMMAND, 2),
        io(Pm.EVENT, 12),
        io(Pm.GPE0, Pm.GPE0_LENGTH),
        io(RESET_PORT, 1),
      ),
    ),
  ];
}

/** COM1 and COM3 share an interrupt, as do COM2 and COM4. */
function uarts(ports: NonNullable<DsdtOptions['uarts']>): Aml {
  return ports.flatMap(({ port, irq: number }, index) => {
    const shared = ports.filter((other) => other.irq === number).length > 1;
    return device(
      `COM${index + 1}`,
      name('_HID', eisaId('PNP0501')),
      name('_UID', index + 1),
      crs(io(port, 8), irq(number, shared)),
    );
  });
}
