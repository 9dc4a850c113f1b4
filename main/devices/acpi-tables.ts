/**
 * ACPI Specification 6.5, chapter 5.2: RSDP, RSDT, XSDT, FADT, FACS, MADT and DSDT; MCFG of the PCI Firmware
 * Specification 3.3, 4.1.2. What they say of the hardware comes from the devices' own constants.
 */
import { dsdtBody, type DsdtOptions } from './acpi-dsdt.ts';
import { Pm } from './acpi-pm.ts';
import type { AddressRange } from './pci/bus.ts';
import { IOAPIC_BASE } from './ioapic.ts';
import { RESET_PORT, RESET_VALUE } from './reset-port.ts';

export interface AcpiOptions extends DsdtOptions {
  /** Where the tables go, the RSDP first: a multiple of 64 in E0000h-FFFFFh, when guests are to find it. */
  area: AddressRange;
}

export interface AcpiTables {
  /** Address of the RSDP. */
  rsdp: number;
  parts: AcpiPart[];
}

/** Bytes to be placed in guest memory. */
export interface AcpiPart {
  name: string;
  address: number;
  bytes: Uint8Array;
}

const OEM = 'VITRIN';
const OEM_TABLE = 'VITRINE ';
const CREATOR = 'VTRN';
const HEADER = 36;
const LAPIC_BASE = 0xfee00000;

/** FADT flags: 0 WBINVD works, 2 C1 on all processors, 5 no fixed sleep button, 6 no fixed RTC wake, 8 32-bit timer, 10 reset register. */
const FADT_FLAGS = (1 << 0) | (1 << 2) | (1 << 5) | (1 << 6) | (1 << 8) | (1 << 10);
/** IA-PC boot flags: 0 legacy devices, 1 8042, 2 no VGA. */
const BOOT_FLAGS = 0x07;
/** C2 and C3 don't exist: their latencies are above the limits. */
const NO_C_STATE = 0x0fff;
/** MADT interrupt flags: active high, level-triggered. */
const HIGH_LEVEL = 0x0d;

/** Fields of a table, written one after the other or at their offsets. */
class Table {
  readonly bytes: Uint8Array;
  private readonly view: DataView;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.view = new DataView(this.bytes.buffer);
  }

  u8(at: number, value: number): void {
    this.view.setUint8(at, value);
  }

  u16(at: number, value: number): void {
    this.view.setUint16(at, value, true);
  }

  u32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }

  u64(at: number, value: number): void {
    this.view.setBigUint64(at, BigInt(value), true);
  }

  text(at: number, value: string): void {
    for (let i = 0; i < value.length; i++) this.u8(at + i, value.charCodeAt(i));
  }

  /** A generic address: 5.2.3.2, here always I/O ports. `access`: 1 byte, 2 word, 3 dword. */
  port(at: number, address: number, bits: number, access: number): void {
    this.u8(at, 1);
    this.u8(at + 1, bits);
    this.u8(at + 3, access);
    this.u64(at + 4, address);
  }

  /** Makes the sum of [0, length) zero by the byte at `at`. */
  seal(at: number, length: number): void {
    this.u8(at, 0);
    const sum = this.bytes.subarray(0, length).reduce((total, byte) => total + byte, 0);
    this.u8(at, -sum & 0xff);
  }
}

/** A system description table: 5.2.6. */
function describe(
  signature: string,
  revision: number,
  length: number,
  fill: (table: Table) => void,
): Uint8Array {
  const table = new Table(length);
  table.text(0, signature);
  table.u32(4, length);
  table.u8(8, revision);
  table.text(10, OEM);
  table.text(16, OEM_TABLE);
  table.u32(24, 1);
  table.text(28, CREATOR);
  table.u32(32, 1);
  fill(table);
  table.seal(9, length);
  return table.bytes;
}

function dsdt(options: AcpiOptions): Uint8Array {
  const body = dsdtBody(options);
  return describe('DSDT', 2, HEADER + body.length, (table) => table.bytes.set(body, HEADER));
}

/** 5.2.10: nothing in it but its own size, since there is no wake-up from sleep. */
function facs(): Uint8Array {
  const table = new Table(64);
  table.text(0, 'FACS');
  table.u32(4, 64);
  table.u8(32, 2);
  return table.bytes;
}

/** 5.2.9. */
function fadt(facsAt: number, dsdtAt: number): Uint8Array {
  return describe('FACP', 6, 276, (table) => {
    table.u32(36, facsAt);
    table.u32(40, dsdtAt);
    table.u8(45, 1); // a desktop
    table.u16(46, Pm.SCI);
    table.u32(48, Pm.SMI_COMMAND);
    table.u8(52, Pm.ENABLE);
    table.u8(53, Pm.DISABLE);
    table.u32(56, Pm.EVENT);
    table.u32(64, Pm.CONTROL);
    table.u32(76, Pm.TIMER);
    table.u32(80, Pm.GPE0);
    table.u8(88, 4);
    table.u8(89, 2);
    table.u8(91, 4);
    table.u8(92, Pm.GPE0_LENGTH);
    table.u16(96, NO_C_STATE);
    table.u16(98, NO_C_STATE);
    table.u8(108, 0x32); // the century in CMOS
    table.u16(109, BOOT_FLAGS);
    table.u32(112, FADT_FLAGS);
    table.port(116, RESET_PORT, 8, 1);
    table.u8(128, RESET_VALUE);
    table.u8(131, 5); // minor version: 6.5
    // X_FIRMWARE_CTRL stays zero: only one of the two may be given.
    table.u64(140, dsdtAt);
    table.port(148, Pm.EVENT, 32, 2);
    table.port(172, Pm.CONTROL, 16, 2);
    table.port(208, Pm.TIMER, 32, 3);
    table.port(220, Pm.GPE0, 8 * Pm.GPE0_LENGTH, 1);
  });
}

/** 5.2.12. */
function madt(vcpus: number): Uint8Array {
  const length = HEADER + 8 + 8 * vcpus + 12 + 10 + 10 + 6;
  return describe('APIC', 5, length, (table) => {
    table.u32(36, LAPIC_BASE);
    table.u32(40, 1); // there are 8259s too
    let at = 44;
    const entry = (type: number, bytes: number): number => {
      table.u8(at, type);
      table.u8(at + 1, bytes);
      at += bytes;
      return at - bytes;
    };
    for (let id = 0; id < vcpus; id++) {
      const lapic = entry(0, 8);
      table.u8(lapic + 2, id);
      table.u8(lapic + 3, id);
      table.u32(lapic + 4, 1);
    }
    const ioapic = entry(1, 12);
    table.u32(ioapic + 4, IOAPIC_BASE);
    // IRQ 0 is at input 2; the SCI is level-triggered.
    const timer = entry(2, 10);
    table.u32(timer + 4, 2);
    const sci = entry(2, 10);
    table.u8(sci + 3, Pm.SCI);
    table.u32(sci + 4, Pm.SCI);
    table.u16(sci + 8, HIGH_LEVEL);
    // NMI is at LINT1 of every processor.
    const nmi = entry(4, 6);
    table.u8(nmi + 2, 0xff);
    table.u8(nmi + 5, 1);
  });
}

function mcfg({ ecam }: AcpiOptions): Uint8Array {
  return describe('MCFG', 1, HEADER + 24, (table) => {
    table.u64(44, ecam);
  });
}

function rsdt(tables: readonly number[]): Uint8Array {
  return describe('RSDT', 1, HEADER + 4 * tables.length, (table) =>
    tables.forEach((address, index) => table.u32(HEADER + 4 * index, address)),
  );
}

function xsdt(tables: readonly number[]): Uint8Array {
  return describe('XSDT', 1, HEADER + 8 * tables.length, (table) =>
    tables.forEach((address, index) => table.u64(HEADER + 8 * index, address)),
  );
}

/** 5.2.5.3. */
function rsdp(rsdtAt: number, xsdtAt: number): Uint8Array {
  const table = new Table(36);
  table.text(0, 'RSD PTR ');
  table.text(9, OEM);
  table.u8(15, 2);
  table.u32(16, rsdtAt);
  table.u32(20, 36);
  table.u64(24, xsdtAt);
  table.seal(8, 20);
  table.seal(32, 36);
  return table.bytes;
}

/** Builds all tables. Throws RangeError when the area is too small. */
export function buildAcpiTables(options: AcpiOptions): AcpiTables {
  const { base, length } = options.area;
  const parts: AcpiPart[] = [];
  // The RSDP, 36 bytes, is made last.
  let next = base + 64;
  const place = (name: string, bytes: Uint8Array): number => {
    const address = next;
    parts.push({ name, address, bytes });
    // The FACS must lie on a multiple of 64; so does everything.
    next = (address + bytes.length + 63) & ~63;
    return address;
  };
  const facsAt = place('FACS', facs());
  const dsdtAt = place('DSDT', dsdt(options));
  const tables = [
    place('FACP', fadt(facsAt, dsdtAt)),
    place('APIC', madt(options.vcpus)),
    place('MCFG', mcfg(options)),
  ];
  const root = rsdp(place('RSDT', rsdt(tables)), place('XSDT', xsdt(tables)));
  if (next > base + length) {
    throw new RangeError(`the ACPI tables need ${next - base} bytes; there are ${length}`);
  }
  return { rsdp: base, parts: [{ name: 'RSDP', address: base, bytes: root }, ...parts] };
}
