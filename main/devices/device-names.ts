/**
 * Numbers for the names of what answers on the buses, so that a record of an access holds a number. Every thread builds
 * the same PC in the same order, and so all have the same numbers.
 */

/** Numbers there are; a PC with eight disks uses some sixty. All names beyond share the last one. */
export const DEVICE_NUMBERS = 256;

/** The number of nobody. */
export const NOBODY = 0;

const OTHERS = DEVICE_NUMBERS - 1;

export class DeviceNames {
  private readonly names: string[] = [''];
  private readonly numbers = new Map<string, number>();

  /** The number of a name, a new one if it is new. */
  number(name: string): number {
    const known = this.numbers.get(name);
    if (known !== undefined) return known;
    const number = Math.min(this.names.length, OTHERS);
    this.numbers.set(name, number);
    if (number === OTHERS) this.names[OTHERS] = 'others';
    else this.names.push(name);
    return number;
  }

  /** The name of a number; empty for nobody. */
  name(number: number): string {
    return this.names[number] ?? '';
  }
}
