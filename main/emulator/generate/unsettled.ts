import { Field } from '../state.ts';

/**
 * Flags that nobody has asked for yet, as translations leave them: what set them, and its operands. As long as there are
 * any (WHICH is not 0), the fields FLAG_* don't count; whoever reads the flags has the routine SETTLE fill those first.
 */
export const Unsettled = {
  /** The operation that set all six, and a rotation after it that changed CF and OF (32 bits). */
  WHICH: Field.UNSETTLED,
  /** Operands and result of the operation, and the result of the rotation: 64 bits each. */
  A: Field.UNSETTLED + 8,
  B: Field.UNSETTLED + 16,
  RESULT: Field.UNSETTLED + 24,
  ROTATED: Field.UNSETTLED + 32,
} as const;

/** (s): fills the fields FLAG_*, if that is to be done. */
export const SETTLE = 'settleFlags';

export interface Rotation {
  readonly left: boolean;
  readonly bits: number;
}

export const SIZES = [8, 16, 32, 64];
const OPERATION_BITS = 8;
export const OPERATION_MASK = 2 ** OPERATION_BITS - 1;

/** An operation (FlagKind) and its size as one number, not 0. */
export function numberOf(kind: number, bits: number): number {
  return kind * 4 + SIZES.indexOf(bits);
}

/** A rotation as a number, in the bits above an operation's. */
export function numberOfRotation({ left, bits }: Rotation): number {
  return ((left ? 1 : 5) + SIZES.indexOf(bits)) << OPERATION_BITS;
}
export const ROTATION_SHIFT = OPERATION_BITS;
