// PCI Local Bus Specification 3.0, section 6.8.2: the MSI-X capability, its vector table and pending bits.
import type { BusDevice, MsiSink } from '../device.ts';
import type { RegisterArena, Registers, SavedRegisters } from '../registers.ts';
import { put, type Capability } from './function.ts';

/** Behind the capability's header: message control (10:0 last vector, 14 function mask, 15 enable), table, PBA. */
export const MSIX_CAPABILITY = 0x11;
const CONTROL = { MASK: 0x4000, ENABLE: 0x8000 } as const;

/** In the BAR: the table first, the pending bits in its second half. 128 vectors of 16 bytes fit before them. */
export const MSIX_BAR_BYTES = 4096;
const PBA_AT = 2048;
const MAX_VECTORS = PBA_AT / 16;

/** Table entry: 0 address, 4 upper address, 8 data, 12 vector control (bit 0 masks). In 32-bit words here. */
const ENTRY = { ADDRESS: 0, UPPER: 1, DATA: 2, CONTROL: 3, WORDS: 4 } as const;
const MASKED = 1;

const layout = (vectors: number) =>
  ({
    msixTable: { type: 'u32', count: ENTRY.WORDS * vectors, about: 'address, upper address, data, control' },
    msixPending: { type: 'u32', count: (vectors + 31) >> 5, about: 'messages that wait for their mask' },
  }) as const;

/** What the table must know of its function. */
export interface MsixOwner {
  /** The message control word of the capability. */
  msixControl(): number;
  /** May it send messages at all? */
  isMaster(): boolean;
}

export class Msix implements BusDevice {
  readonly vectors: number;
  private readonly r: Registers<ReturnType<typeof layout>>;
  private readonly owner: MsixOwner;
  private readonly sink: MsiSink;

  constructor(arena: RegisterArena, vectors: number, owner: MsixOwner, sink: MsiSink) {
    if (vectors < 1 || vectors > MAX_VECTORS) throw new RangeError(`MSI-X has no ${vectors} vectors here`);
    this.vectors = vectors;
    this.r = arena.allocate(layout(vectors));
    this.owner = owner;
    this.sink = sink;
  }

  /** The capability for a table in BAR number `bar`. */
  capability(bar: number): Capability {
    const body = new Uint8Array(10);
    const writable = new Uint8Array(10);
    put(body, 0, 2, this.vectors - 1);
    put(writable, 0, 2, CONTROL.ENABLE | CONTROL.MASK);
    put(body, 2, 4, bar);
    put(body, 6, 4, PBA_AT | bar);
    return { id: MSIX_CAPABILITY, body, writable };
  }

  reset(): void {
    this.r.resetAll();
    for (let vector = 0; vector < this.vectors; vector++) {
      this.r.msixTable[wordOf(vector, ENTRY.CONTROL)] = MASKED;
    }
  }

  save(): SavedRegisters {
    return this.r.saveAll();
  }

  load(saved: SavedRegisters): void {
    this.r.loadAll(saved);
  }

  get enabled(): boolean {
    return (this.owner.msixControl() & CONTROL.ENABLE) !== 0;
  }

  /** Sends a vector's message, or notes it as pending while it is masked. Only while `enabled`. */
  notify(vector: number): void {
    if (vector >= this.vectors) return;
    if (this.functionMasked() || this.masked(vector)) this.r.msixPending[vector >> 5] |= 1 << (vector & 31);
    else this.send(vector);
  }

  /** Sends what was pending and is no longer masked: after a write to message control or the command register. */
  unmasked(): void {
    if (!this.enabled || this.functionMasked()) return;
    for (let vector = 0; vector < this.vectors; vector++) this.release(vector);
  }

  /** The table takes aligned accesses of four and eight bytes (6.8.2); of others, reads are answered. */
  read(offset: number, size: number): number {
    const word = this.word(offset);
    const value = word >>> (8 * (offset & 3));
    return size === 4 ? value : (value & ((1 << (8 * size)) - 1)) >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    const word = offset >> 2;
    if (size !== 4 || (offset & 3) !== 0 || word >= ENTRY.WORDS * this.vectors) return;
    const field = word % ENTRY.WORDS;
    if (field === ENTRY.CONTROL) value &= MASKED;
    else if (field === ENTRY.ADDRESS) value &= ~3;
    this.r.msixTable[word] = value;
    if (field === ENTRY.CONTROL && this.enabled && !this.functionMasked()) this.release(word >> 2);
  }

  private word(offset: number): number {
    const word = offset >> 2;
    if (word < ENTRY.WORDS * this.vectors) return this.r.msixTable[word];
    return this.r.msixPending[word - PBA_AT / 4] ?? 0;
  }

  private functionMasked(): boolean {
    return (this.owner.msixControl() & CONTROL.MASK) !== 0 || !this.owner.isMaster();
  }

  private masked(vector: number): boolean {
    return (this.r.msixTable[wordOf(vector, ENTRY.CONTROL)] & MASKED) !== 0;
  }

  private release(vector: number): void {
    const { msixPending } = this.r;
    const bit = 1 << (vector & 31);
    if ((msixPending[vector >> 5] & bit) === 0 || this.masked(vector)) return;
    msixPending[vector >> 5] &= ~bit;
    this.send(vector);
  }

  private send(vector: number): void {
    const { msixTable } = this.r;
    // A message that does not go to the local APICs would be a write to memory: no sane driver asks for it.
    if (msixTable[wordOf(vector, ENTRY.UPPER)] !== 0) return;
    const address = msixTable[wordOf(vector, ENTRY.ADDRESS)];
    if (address >>> 20 === 0xfee) this.sink.send(address, msixTable[wordOf(vector, ENTRY.DATA)]);
  }
}

function wordOf(vector: number, field: number): number {
  return ENTRY.WORDS * vector + field;
}
