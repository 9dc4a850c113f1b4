import { expect, it } from 'vitest';
import { AddressTable } from '../../../main/emulator/address-table.ts';
import { Random } from '../../differential/random.ts';

it('finds what a Map does, also after it has grown and was emptied', () => {
  const seed = 20261130;
  const random = new Random(seed);
  const table = new AddressTable();
  for (let round = 0; round < 3; round++) {
    const wanted = new Map<number, number>();
    for (let number = 0; number < 5000; number++) {
      // Neighbours, the upper half of 4 GiB, address 0, and some of them again.
      const address = random.below(3) === 0 ? random.below(64) : 2 ** 32 - 1 - 16 * random.below(20_000);
      wanted.set(address, number);
      table.set(address, number);
    }
    for (const [address, number] of wanted) expect(table.get(address), `seed ${seed}`).toBe(number);
    expect(table.get(64), `seed ${seed}`).toBe(-1);
    table.clear();
    for (const address of wanted.keys()) expect(table.get(address)).toBe(-1);
  }
});
