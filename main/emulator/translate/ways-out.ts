import { headAt, isLinkable, setCodeBase } from '../generate/jump-cache.ts';
import { HANDLER } from '../generate/runtime.ts';
import type { LibraryRoutine, SemanticsGroup } from '../generate/semantics.ts';
import { Field, Leave, Record, Slot } from '../state.ts';
import { i32, i64, type I32, type I64, type Local } from '../wasm/expression.ts';
import { call, type FunctionBuilder, type Signature } from '../wasm/module.ts';

/**
 * How translations end: functions that they call last, with what they have in variables, once the registers are back in
 * the vCPU's block. There is one of each in a process, where one in each region would push its code out of the caches.
 */
export const WayOut = {
  /**
   * (s, target, budget, head): goes on with the record `target`, of a block whose window missed if it has a head; leaves for
   * the run loop with the code `target` if that is CODE.
   */
  LEAVE: 'leave',
  /**
   * (s, rip, budget, from): goes on wherever `rip` leads, unless the run loop has to look around; `from`: the direct jump
   * within a page that goes there, or 0.
   */
  SEEK: 'seek',
  SEEK_64: 'seek64',
} as const;

/** In place of a head. */
export const CODE = -1;

const LEAVE: Signature = { parameters: ['i32', 'i32', 'i32', 'i32'], result: 'i32' };
const SEEK: Signature = { parameters: ['i32', 'i64', 'i32', 'i32'], result: 'i32' };

/** Writes down what the region ran. */
function account(f: FunctionBuilder, s: Local<'i32'>, budget: I32): void {
  const ran = i64.extend_s(i32.sub(i32.load(s, Field.BUDGET), budget));
  f.store64(s, i64.add(i64.load(s, Field.TRANSLATED), ran), Field.TRANSLATED);
  f.store32(s, budget, Field.BUDGET);
}

/** Goes on with a record's handler. */
function enter(f: FunctionBuilder, s: Local<'i32'>, record: I32): void {
  f.returnCallIndirect(HANDLER, i32.load(record, Record.HANDLER), s, record);
}

/** Misses of windows between two that TypeScript is told of. */
const MISSES = 256;

const leave: LibraryRoutine = {
  signature: LEAVE,
  build: (f, callees) => {
    const s = f.parameter('i32', 0);
    const target = f.parameter('i32', 1);
    const head = f.parameter('i32', 3);
    account(f, s, f.parameter('i32', 2));
    f.if(head, () => {
      f.if(i32.eq(head, CODE), () => f.return(target));
      const count = f.let(i32.add(i32.load(s, Field.WINDOW_MISSES), 1));
      f.store32(s, count, Field.WINDOW_MISSES);
      f.if(i32.eqz(i32.and(count, MISSES - 1)), () => f.call(callees('missed'), s, target, head));
    });
    enter(f, s, target);
    f.unreachable();
  },
};

function seek(is64: boolean): LibraryRoutine {
  return {
    signature: SEEK,
    build: (f, callees) => {
      const s = f.parameter('i32', 0);
      const rip: I64 = f.parameter('i64', 1);
      const from = f.parameter('i32', 3);
      const budget = f.parameter('i32', 2);
      account(f, s, budget);
      const tired = i32.lt_s(i32.or(budget, i32.load(s, Field.PENDING)), 0);
      f.if(tired, () => {
        f.store64(s, rip, Field.RIP);
        f.store32(s, i32.const(0), Field.LINK_FROM);
        f.return(i32.const(Leave.BUDGET));
      });
      f.if(from, () => {
        const link = f.let(i32.load(from, Record.LINK));
        f.if(link, () => enter(f, s, link));
      });
      const base = i64.load(s, Field.SLOTS + 8 * (Slot.SEGMENT_BASE + 1));
      const linear = f.let(is64 ? rip : i64.and(i64.add(rip, base), 0xffffffff));
      const head = headAt(f, s, callees, linear, () => {
        f.store64(s, rip, Field.RIP);
        f.store32(s, from, Field.LINK_FROM);
        const found = f.let(call(callees('find'), 'i32', s));
        f.if(i32.eqz(found), () => f.return(i32.const(Leave.LOOKUP)));
        enter(f, s, found);
      });
      setCodeBase(f, s, rip, linear);
      f.if(from, () => f.if(isLinkable(head), () => f.store32(from, head, Record.LINK)));
      enter(f, s, head);
      f.unreachable();
    },
  };
}

/** What translations call beside the routines of their instructions. */
export const translationGroup: SemanticsGroup = {
  name: 'translation',
  plain: {},
  continuations: {
    [WayOut.SEEK]: seek(false),
    [WayOut.SEEK_64]: seek(true),
    [WayOut.LEAVE]: leave,
  },
};
