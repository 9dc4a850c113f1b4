import { helperNumber } from '../../helpers.ts';
import { Field } from '../../state.ts';
import { i32, i64, select, type I32, type I64 } from '../../wasm/expression.ts';
import { cut, type Emitter, type SegmentChoice } from '../emitter.ts';
import { tlbHit } from '../tlb.ts';
import { condition, flagsSubtract } from '../flags.ts';
import { Addressing } from '../form.ts';
import type { Semantics, SemanticsGroup } from '../semantics.ts';

const ES = 0;
const CONDITION_EQUAL = 4;

/**
 * Rounds of one repeated instruction before the run loop gets a look at the clock. At a few nanoseconds an
 * element this is some 0.2 ms, well below the millisecond in which a kick must be seen.
 */
const ROUNDS_PER_VISIT = 50_000;

/** Runs of fewer elements than this are not worth the set-up of a bulk operation. */
const BULK_MINIMUM = 8;

/** RSI or RDI as an offset. */
function pointer(c: Emitter, index: number): I64 {
  return c.gpr(index, c.form.addressSize);
}

/** Moves RSI or RDI by elements (1 unless given), up or down by RFLAGS.DF. */
function advance(c: Emitter, index: number, elements: I64 = i64.const(1)): void {
  const bytes = c.form.operandSize / 8;
  const step = i64.mul(i64.mul(elements, c.field64(Field.DIRECTION)), bytes);
  c.setGpr(index, c.form.addressSize, i64.add(pointer(c, index), step));
}

/**
 * Does `element` as often as the REP prefix says. `bulk` may do many at once: it returns how many it did (0:
 * none). `goOn` is the condition of REPE and REPNE after an element.
 */
function repeat(
  c: Emitter,
  element: () => void,
  options: { bulk?: (count: I64) => I64; goOn?: () => I32 } = {},
): void {
  const { f, form } = c;
  if (form.rep === 0) {
    element();
    return;
  }
  const rounds = f.local('i32');
  f.set(rounds, i32.const(ROUNDS_PER_VISIT));
  f.block((done) => {
    f.loop((again) => {
      const count = c.gpr(1, form.addressSize);
      // With a count of 0 nothing happens at all: not even ECX is zero-extended by other than its own value.
      f.breakIf(done, i64.eqz(count));
      const did = f.local('i64');
      f.set(did, i64.const(0));
      if (options.bulk) {
        const { bulk } = options;
        const worth = i32.and(i64.ge_u(count, BULK_MINIMUM), i32.ge_s(c.field32(Field.PENDING), 0));
        f.if(worth, () => f.set(did, bulk(count)));
      }
      f.if(i64.eqz(did), () => {
        element();
        f.set(did, i64.const(1));
      });
      const left = f.let(i64.sub(count, did));
      c.setGpr(1, form.addressSize, left);
      if (options.goOn) f.breakIf(done, i32.eqz(options.goOn()));
      f.breakIf(done, i64.eqz(left));
      f.set(rounds, i32.sub(rounds, 1));
      f.breakIf(again, i32.and(i32.ne(rounds, 0), i32.ge_s(c.field32(Field.PENDING), 0)));
      c.leaveUnretired();
    });
  });
}

interface Run {
  /** Elements that lie in the page, from this one upwards. */
  elements: I64;
  host: I32;
  hit: I32;
}

/** The part of a forward run that lies in one page, if the translation table has it. */
function pageRun(c: Emitter, offset: I64, segment: SegmentChoice, writing: boolean): Run {
  const f = c.f;
  const bytes = c.form.operandSize / 8;
  const linear = f.let(c.linear(offset, 1, segment, writing));
  const entry = c.tlbEntry(linear, writing ? Field.TLB_WRITE : Field.TLB_READ);
  const inPage = i64.sub(i64.const(4096), i64.and(linear, 4095));
  return {
    elements: f.let(i64.shr_u(inPage, Math.log2(bytes))),
    host: f.let(c.tlb.host(entry, linear)),
    hit: tlbHit(c.tlb, entry, linear, 1),
  };
}

const smaller = (a: I64, b: I64): I64 => select(i64.lt_u(a, b), a, b);
const upwards = (c: Emitter): I32 => i64.gt_s(c.field64(Field.DIRECTION), 0);

function canRunInBulk(c: Emitter): boolean {
  // Checked segments are done element by element, each with its checks.
  return !c.form.checked && c.form.addressSize >= 32 && c.form.addressing !== Addressing.CHECKED;
}

function movs(c: Emitter): void {
  const { f, form } = c;
  const size = form.operandSize;
  const element = (): void => {
    const value = c.load(pointer(c, 6), size, 'operand');
    c.store(pointer(c, 7), size, value, ES);
    advance(c, 6);
    advance(c, 7);
  };
  const bulk = (count: I64): I64 => {
    const did = f.local('i64');
    f.set(did, i64.const(0));
    const from = pageRun(c, pointer(c, 6), 'operand', false);
    const to = pageRun(c, pointer(c, 7), ES, true);
    const elements = f.let(smaller(count, f.let(smaller(from.elements, to.elements))));
    const bytes = f.let(i32.mul(i32.wrap(elements), size / 8));
    // A destination that begins inside the source repeats what was just copied: memory.copy would not.
    const apart = i32.ge_u(i32.sub(to.host, from.host), bytes);
    f.if(i32.and(i32.and(from.hit, to.hit), i32.and(apart, upwards(c))), () => {
      f.copy(to.host, from.host, bytes);
      advance(c, 6, elements);
      advance(c, 7, elements);
      f.set(did, elements);
    });
    return did;
  };
  repeat(c, element, canRunInBulk(c) ? { bulk } : {});
}

function stos(c: Emitter): void {
  const { f, form } = c;
  const size = form.operandSize;
  const value = c.gpr(0, size);
  const element = (): void => {
    c.store(pointer(c, 7), size, value, ES);
    advance(c, 7);
  };
  const bulk = (count: I64): I64 => {
    const did = f.local('i64');
    f.set(did, i64.const(0));
    const to = pageRun(c, pointer(c, 7), ES, true);
    const elements = f.let(smaller(count, to.elements));
    // memory.fill repeats one byte.
    const uniform = i64.eq(value, cut(size, i64.mul(i64.and(value, 0xff), 0x0101010101010101n)));
    f.if(i32.and(i32.and(to.hit, uniform), upwards(c)), () => {
      f.fill(to.host, i32.wrap(value), i32.mul(i32.wrap(elements), size / 8));
      advance(c, 7, elements);
      f.set(did, elements);
    });
    return did;
  };
  repeat(c, element, canRunInBulk(c) ? { bulk } : {});
}

function lods(c: Emitter): void {
  const size = c.form.operandSize;
  repeat(c, () => {
    c.setGpr(0, size, c.load(pointer(c, 6), size, 'operand'));
    advance(c, 6);
  });
}

/** What REPE (F3) and REPNE (F2) want ZF to be. */
function whileEqual(c: Emitter): () => I32 {
  return () => condition(c, c.form.rep === 0xf3 ? CONDITION_EQUAL : CONDITION_EQUAL + 1);
}

function compareElements(c: Emitter, a: I64, b: I64): void {
  flagsSubtract(c, c.form.operandSize, a, b, c.f.let(i64.sub(a, b)));
}

function cmps(c: Emitter): void {
  const size = c.form.operandSize;
  const element = (): void => {
    const a = c.load(pointer(c, 6), size, 'operand');
    const b = c.load(pointer(c, 7), size, ES);
    advance(c, 6);
    advance(c, 7);
    compareElements(c, a, b);
  };
  repeat(c, element, { goOn: whileEqual(c) });
}

function scas(c: Emitter): void {
  const size = c.form.operandSize;
  const element = (): void => {
    const a = c.gpr(0, size);
    const b = c.load(pointer(c, 7), size, ES);
    advance(c, 7);
    compareElements(c, a, b);
  };
  repeat(c, element, { goOn: whileEqual(c) });
}

/** INS and OUTS leave the processor: the exit says which; NVMM's I/O assist does the rest. */
function stringIo(name: 'ins' | 'outs'): Semantics {
  return (c) => {
    const { operandSize, addressSize, rep } = c.form;
    const shape = (operandSize / 8) | ((addressSize / 8) << 4) | (rep === 0 ? 0 : 0x100);
    c.helper(helperNumber(name, shape));
  };
}

export const strings: SemanticsGroup = {
  name: 'strings',
  plain: { movs, stos, lods, cmps, scas, ins: stringIo('ins'), outs: stringIo('outs') },
};
