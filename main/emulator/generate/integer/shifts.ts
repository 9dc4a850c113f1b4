import { i32, i64, type I64 } from '../../wasm/expression.ts';
import { cut, extend, type Emitter } from '../emitter.ts';
import { carryFlag, flagsResult, setCarryOverflow } from '../flags.ts';
import type { Semantics, SemanticsGroup } from '../semantics.ts';

/** What a shift or rotation of `value` (zero-extended) by `count` (1 to 31 or 63) gives. */
interface Shifted {
  result: I64;
  carry: I64;
  overflow: I64;
}
type Shift = (c: Emitter, bits: number, value: I64, count: I64) => Shifted;

const bit = (value: I64, n: number | I64): I64 => i64.and(i64.shr_u(value, n), 1);
const top = (bits: number, value: I64): I64 => bit(value, bits - 1);

/** The count in operand n, as the processor masks it: 6 bits for 64-bit operands, else 5. */
function maskedCount(c: Emitter, n: number, bits: number): I64 {
  return c.f.let(i64.and(c.read(n), bits === 64 ? 63 : 31));
}

/**
 * The frame of all shifts: a count of 0 changes no flag; otherwise `flags` stores them. OF is what it is for a
 * count of 1, which is one of the values that the manuals leave undefined for the others.
 */
function shifting(compute: Shift, flags: (c: Emitter, bits: number, shifted: Shifted) => void): Semantics {
  return (c) => {
    const bits = c.form.operands[0].size;
    const count = maskedCount(c, 1, bits);
    c.update(0, (value) => {
      const f = c.f;
      const result = f.local('i64');
      f.if(
        i64.eqz(count),
        () => f.set(result, value),
        () => {
          const shifted = compute(c, bits, value, count);
          f.set(result, shifted.result);
          flags(c, bits, { ...shifted, result });
        },
      );
      return result;
    });
  };
}

const resultFlags = (c: Emitter, bits: number, { result, carry, overflow }: Shifted): void =>
  flagsResult(c, bits, result, c.f.let(carry), c.f.let(overflow));
const rotateFlags =
  (left: boolean) =>
  (c: Emitter, bits: number, { result }: Shifted): void =>
    c.flags.setRotation(left, bits, result);

const shl: Shift = (c, bits, value, count) => {
  const wide = c.f.let(i64.shl(value, count));
  const carry = c.f.let(bits === 64 ? bit(value, i64.sub(i64.const(64), count)) : bit(wide, bits));
  return { result: cut(bits, wide), carry, overflow: i64.xor(top(bits, wide), carry) };
};

const shr: Shift = (_c, bits, value, count) => ({
  result: i64.shr_u(value, count),
  carry: bit(value, i64.sub(count, 1)),
  overflow: top(bits, value),
});

const sar: Shift = (c, bits, value, count) => {
  const signed = c.f.let(extend(bits, value));
  return {
    result: cut(bits, i64.shr_s(signed, count)),
    carry: i64.and(i64.shr_s(signed, i64.sub(count, 1)), 1),
    overflow: i64.const(0),
  };
};

/** Rotations have their flags from the result alone. */
const rotation = (result: I64): Shifted => ({ result, carry: i64.const(0), overflow: i64.const(0) });

const rol: Shift = (c, bits, value, count) => {
  if (bits === 64) return rotation(i64.rotl(value, count));
  if (bits === 32) return rotation(i64.extend_u(i32.rotl(i32.wrap(value), i32.wrap(count))));
  const n = c.f.let(i64.and(count, bits - 1));
  return rotation(cut(bits, i64.or(i64.shl(value, n), i64.shr_u(value, i64.sub(i64.const(bits), n)))));
};

const ror: Shift = (c, bits, value, count) => {
  if (bits === 64) return rotation(i64.rotr(value, count));
  if (bits === 32) return rotation(i64.extend_u(i32.rotr(i32.wrap(value), i32.wrap(count))));
  const n = c.f.let(i64.and(count, bits - 1));
  return rotation(cut(bits, i64.or(i64.shr_u(value, n), i64.shl(value, i64.sub(i64.const(bits), n)))));
};

/** RCL and RCR rotate bits + 1 bits: the operand with CF on top. */
function throughCarry(left: boolean): Semantics {
  return (c) => {
    const bits = c.form.operands[0].size;
    const masked = maskedCount(c, 1, bits);
    const count = bits < 32 ? c.f.let(i64.rem_u(masked, bits + 1)) : masked;
    const carryIn = c.f.let(carryFlag(c));
    c.update(0, (value) => {
      const f = c.f;
      const result = f.local('i64');
      f.if(
        i64.eqz(count),
        () => f.set(result, value),
        () => {
          const back = f.let(i64.sub(i64.const(bits), count));
          const carry = f.let(bit(value, left ? back : i64.sub(count, 1)));
          // The bit next to the carry has passed it; shifting by bits + 1 - count is done in two steps, as
          // WebAssembly takes counts modulo 64.
          const rotated = left
            ? i64.or(
                i64.or(i64.shl(value, count), i64.shl(carryIn, i64.sub(count, 1))),
                i64.shr_u(i64.shr_u(value, 1), back),
              )
            : i64.or(
                i64.or(i64.shr_u(value, count), i64.shl(carryIn, back)),
                i64.shl(i64.shl(value, 1), back),
              );
          f.set(result, cut(bits, rotated));
          const overflow = left
            ? i64.xor(top(bits, result), carry)
            : i64.xor(top(bits, result), bit(result, bits - 2));
          setCarryOverflow(c, carry, f.let(overflow));
        },
      );
      return result;
    });
  };
}

/** SHLD and SHRD: the count is operand 2. With 16-bit operands and a count above 16 the result is undefined. */
function double(left: boolean): Semantics {
  return (c) => {
    const f = c.f;
    const bits = c.form.operands[0].size;
    const count = maskedCount(c, 2, bits);
    const filler = c.read(1);
    c.update(0, (value) => {
      const result = f.local('i64');
      f.if(
        i64.eqz(count),
        () => f.set(result, value),
        () => {
          const back = f.let(i64.sub(i64.const(bits), count));
          let shifted: I64;
          let carry: I64;
          if (bits === 16) {
            // Processors shift a 48-bit value: operand, filler, operand again.
            const wide = left
              ? i64.or(i64.or(i64.shl(value, 32), i64.shl(filler, 16)), value)
              : i64.or(i64.or(i64.shl(value, 32), i64.shl(filler, 16)), value);
            const bound = f.let(wide);
            shifted = left ? i64.shr_u(i64.shl(bound, count), 32) : i64.shr_u(bound, count);
            carry = left ? bit(bound, i64.sub(i64.const(48), count)) : bit(bound, i64.sub(count, 1));
          } else {
            shifted = left
              ? i64.or(i64.shl(value, count), i64.shr_u(filler, back))
              : i64.or(i64.shr_u(value, count), i64.shl(filler, back));
            carry = bit(value, left ? back : i64.sub(count, 1));
          }
          f.set(result, cut(bits, shifted));
          const overflow = i64.xor(top(bits, result), top(bits, value));
          flagsResult(c, bits, result, f.let(carry), f.let(overflow));
        },
      );
      return result;
    });
  };
}

export const shifts: SemanticsGroup = {
  name: 'shifts',
  plain: {
    rol: shifting(rol, rotateFlags(true)),
    ror: shifting(ror, rotateFlags(false)),
    rcl: throughCarry(true),
    rcr: throughCarry(false),
    shl: shifting(shl, resultFlags),
    shr: shifting(shr, resultFlags),
    sar: shifting(sar, resultFlags),
    shld: double(true),
    shrd: double(false),
  },
};
