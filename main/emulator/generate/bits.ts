import { i64, type I32, type I64 } from '../wasm/expression.ts';

/** Loads 8, 16, 32 or 64 bits, zero-extended. */
export function loadBits(bits: number, address: I32, offset: number): I64 {
  switch (bits) {
    case 8:
      return i64.load8_u(address, offset);
    case 16:
      return i64.load16_u(address, offset);
    case 32:
      return i64.load32_u(address, offset);
    case 64:
      return i64.load(address, offset);
    default:
      throw new RangeError(`no integer of ${bits} bits`);
  }
}

/** The low `bits` of a value, zero-extended. */
export function cut(bits: number, value: I64): I64 {
  return bits === 64 ? value : i64.and(value, bits === 32 ? 0xffffffff : (1 << bits) - 1);
}

/** The low `bits` of a value, sign-extended. */
export function extend(bits: number, value: I64): I64 {
  switch (bits) {
    case 8:
      return i64.extend8_s(value);
    case 16:
      return i64.extend16_s(value);
    case 32:
      return i64.extend32_s(value);
    default:
      return value;
  }
}
