/** Exception vectors (SDM vol. 3, table 6-1). */
export const Vector = {
  DE: 0,
  DB: 1,
  NMI: 2,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  MC: 18,
  XM: 19,
} as const;

/** Vectors that push an error code. */
const WITH_ERROR =
  (1 << 8) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 17) | (1 << 21) | (1 << 30);

export function hasErrorCode(vector: number): boolean {
  return vector < 32 && ((WITH_ERROR >>> vector) & 1) !== 0;
}

/** An exception of the guest, raised while a helper runs. Not an Error: it is the guest's business, with no stack. */
export class GuestFault {
  readonly vector: number;
  readonly error: number;
  constructor(vector: number, error = 0) {
    this.vector = vector;
    this.error = error;
  }
}

/** A helper cannot go on inside the processor: an NVMM exit is recorded, and the instruction starts again later. */
export class GuestExit {}
export const GUEST_EXIT = new GuestExit();

/** #GP, #SS, #NP, #TS with a selector as error code (its RPL bits cleared). */
export function selectorFault(vector: number, selector: number): GuestFault {
  return new GuestFault(vector, selector & 0xfffc);
}

export function generalProtection(error = 0): GuestFault {
  return new GuestFault(Vector.GP, error);
}
