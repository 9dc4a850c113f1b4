import { describe, expect, test } from 'vitest';
import { i32, i64, select, type I32, type I64 } from '../../../main/emulator/wasm/expression.ts';
import { ModuleBuilder, type FunctionBuilder } from '../../../main/emulator/wasm/module.ts';
import { Random } from '../../differential/random.ts';

/** An i64 of a function of two i64 and a memory of 64 bytes, and what it is worth. */
interface Sample {
  expression: I64;
  value: (a: bigint, b: bigint, memory: DataView) => bigint;
}
type Bits = [
  keyof typeof i64 & ('add' | 'sub' | 'mul' | 'and' | 'or' | 'xor'),
  (a: bigint, b: bigint) => bigint,
];
type Test = [
  keyof typeof i64 & ('eq' | 'ne' | 'lt_u' | 'gt_u' | 'le_u' | 'ge_u'),
  (a: bigint, b: bigint) => boolean,
];

const BINARIES: Bits[] = [
  ['add', (a, b) => a + b],
  ['sub', (a, b) => a - b],
  ['mul', (a, b) => a * b],
  ['and', (a, b) => a & b],
  ['or', (a, b) => a | b],
  ['xor', (a, b) => a ^ b],
];
const TESTS: Test[] = [
  ['eq', (a, b) => a === b],
  ['ne', (a, b) => a !== b],
  ['lt_u', (a, b) => a < b],
  ['gt_u', (a, b) => a > b],
  ['le_u', (a, b) => a <= b],
  ['ge_u', (a, b) => a >= b],
];
const CONSTANTS = [
  0n,
  1n,
  0xffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  0x100000000n,
  -1n,
  -4096n,
  1n << 63n,
];
const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);
const s32 = (value: bigint): bigint => u64(BigInt.asIntN(32, value));

/** Random expressions, with what makes halves of them often. */
class Samples {
  private readonly f: FunctionBuilder;
  private readonly random: Random;
  private readonly a: I64;
  private readonly b: I64;
  constructor(f: FunctionBuilder, random: Random) {
    this.f = f;
    this.random = random;
    this.a = f.parameter('i64', 0);
    this.b = f.parameter('i64', 1);
  }

  make(depth: number): Sample {
    const { f, random } = this;
    if (depth === 0 || random.below(8) === 0) return this.leaf();
    const one = this.make(depth - 1);
    switch (random.below(9)) {
      case 0:
      case 1: {
        const [name, value] = random.pick(BINARIES);
        const other = this.make(depth - 1);
        const expression = i64[name](one.expression, other.expression);
        return { expression, value: (...x) => u64(value(one.value(...x), other.value(...x))) };
      }
      case 2: {
        const [name, value] = random.pick(TESTS);
        const other = this.make(depth - 1);
        const expression = i64.extend_u(i64[name](one.expression, other.expression));
        return { expression, value: (...x) => (value(one.value(...x), other.value(...x)) ? 1n : 0n) };
      }
      case 3: {
        const count = random.below(64);
        const shift = BigInt(count);
        if (random.below(2) === 0) {
          return {
            expression: i64.shl(one.expression, count),
            value: (...x) => u64(one.value(...x) << shift),
          };
        }
        return { expression: i64.shr_u(one.expression, count), value: (...x) => one.value(...x) >> shift };
      }
      case 4:
        return { expression: i64.and(one.expression, 0xffffffff), value: (...x) => u32(one.value(...x)) };
      case 5:
        return { expression: i64.extend_u(i32.wrap(one.expression)), value: (...x) => u32(one.value(...x)) };
      case 6:
        return { expression: i64.extend32_s(one.expression), value: (...x) => s32(one.value(...x)) };
      case 7:
        return { expression: f.let(one.expression), value: one.value };
      default: {
        const other = this.make(depth - 1);
        const condition: I32 = i64.eqz(i64.and(other.expression, 1));
        return {
          expression: select(condition, one.expression, f.let(other.expression)),
          value: (...x) => ((other.value(...x) & 1n) === 0n ? one.value(...x) : other.value(...x)),
        };
      }
    }
  }

  private leaf(): Sample {
    const { random } = this;
    const at = random.below(56);
    const address = i32.const(0);
    switch (random.below(7)) {
      case 0:
        return { expression: this.a, value: (a) => a };
      case 1:
        return { expression: this.b, value: (_a, b) => b };
      case 2:
        return { expression: i64.load8_u(address, at), value: (_a, _b, m) => BigInt(m.getUint8(at)) };
      case 3:
        return { expression: i64.load16_u(address, at), value: (_a, _b, m) => BigInt(m.getUint16(at, true)) };
      case 4:
        return { expression: i64.load32_u(address, at), value: (_a, _b, m) => BigInt(m.getUint32(at, true)) };
      case 5:
        return { expression: i64.load(address, at), value: (_a, _b, m) => m.getBigUint64(at, true) };
      default: {
        const constant = random.pick(CONSTANTS);
        return { expression: i64.const(constant), value: () => u64(constant) };
      }
    }
  }
}

const INPUTS: [bigint, bigint][] = [
  [0n, 0n],
  [0xffffffffn, 1n],
  [0x80000000n, 0x7fffffffn],
  [0xffffffffffffffffn, 0x100000000n],
  [0x123456789abcdef0n, 0xfedcba9876543210n],
];

describe('expressions are the same in 32 bits where they are computed in those', () => {
  const seed = 20261130;
  test(`300 functions of random ones, seed ${seed}`, async () => {
    const random = new Random(seed);
    const builder = new ModuleBuilder();
    const samples: Sample[] = [];
    for (let n = 0; n < 300; n++) {
      const f = builder.function({ parameters: ['i64', 'i64'], result: 'i64' }, `f${n}`);
      const sample = new Samples(f, random).make(5);
      samples.push(sample);
      // Stored, for stores have a narrow form too, and given back.
      f.storeBits(random.pick([8, 16, 32, 64]), i32.const(64), sample.expression);
      f.return(sample.expression);
    }
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
    const view = new DataView(memory.buffer);
    for (let i = 0; i < 64; i++) view.setUint8(i, random.below(256));
    const { instance } = await WebAssembly.instantiate(builder.toBytes(), { env: { memory } });
    for (const [n, { value }] of samples.entries()) {
      const run = instance.exports[`f${n}`] as (a: bigint, b: bigint) => bigint;
      for (const [a, b] of INPUTS) {
        const wanted = value(a, b, view);
        expect([n, a, b, u64(run(a, b))]).toEqual([n, a, b, wanted]);
        expect(view.getUint8(64)).toBe(Number(wanted & 0xffn));
      }
    }
  });
});
