/** Slots at first: most contexts have code of a few pages, or none. */
const FIRST_SLOTS = 256;
/** An odd number near 2^32 over the golden ratio: neighbours are spread (Knuth, The Art of Computer Programming, vol. 3, 6.4). */
const SPREAD = 0x9e3779b1 | 0;

/**
 * Numbers by host address, in place of a Map: a boot decodes some 70,000 blocks, and growing a Map to them, with what the
 * garbage collector moves for it, took longer than decoding a third of them. Open addressing, half full at most; nothing
 * is taken out but all at once.
 */
export class AddressTable {
  /** Pairs: the address as an integer of 32 bits, and the number plus 1, or 0. */
  private pairs = new Int32Array(2 * FIRST_SLOTS);
  private shift = Math.clz32(FIRST_SLOTS) + 1;
  private count = 0;

  /** The number at an address; -1: none. */
  get(address: number): number {
    return this.pairs[this.slotOf(address) + 1] - 1;
  }

  set(address: number, number: number): void {
    const slot = this.slotOf(address);
    const isNew = this.pairs[slot + 1] === 0;
    this.pairs[slot] = address | 0;
    this.pairs[slot + 1] = number + 1;
    if (isNew && 4 * ++this.count > this.pairs.length) this.grow();
  }

  clear(): void {
    if (this.count === 0) return;
    this.pairs = new Int32Array(2 * FIRST_SLOTS);
    this.shift = Math.clz32(FIRST_SLOTS) + 1;
    this.count = 0;
  }

  /** Where the address is, or would be. */
  private slotOf(address: number): number {
    const { pairs } = this;
    const end = pairs.length - 1;
    let slot = (Math.imul(address, SPREAD) >>> this.shift) << 1;
    while (pairs[slot + 1] !== 0 && pairs[slot] !== (address | 0)) slot = (slot + 2) & end;
    return slot;
  }

  private grow(): void {
    const old = this.pairs;
    this.pairs = new Int32Array(2 * old.length);
    this.shift--;
    for (let i = 0; i < old.length; i += 2) {
      if (old[i + 1] === 0) continue;
      const slot = this.slotOf(old[i]);
      this.pairs[slot] = old[i];
      this.pairs[slot + 1] = old[i + 1];
    }
  }
}
