import {
  Area,
  EVERY_GENERATION,
  Field,
  JUMP_CACHE_ENTRIES,
  JUMP_CACHE_ENTRY,
  JUMP_CACHE_WAYS,
  NO_PAGE,
  Record,
  Slot,
  TLB_BYTES,
  TlbKind,
} from '../state.ts';
import { i32, i64, type I32, type I64 } from '../wasm/expression.ts';
import { call, type FunctionBuilder } from '../wasm/module.ts';
import type { Callees } from './emitter.ts';
import type { LibraryRoutine, SemanticsGroup } from './semantics.ts';
import { tlbHit, wideTlb } from './tlb.ts';

/** What a jump calls whose head is not that of its address. */
export const OTHER_HEAD = 'otherHead';

/**
 * (s, linear, entry): the head of an address that is in another of its places than the first, or was found before the last load of
 * CR3 and has its page where it was; 0: neither. The next jump finds it at once.
 */
const otherHead: LibraryRoutine = {
  signature: { parameters: ['i32', 'i64', 'i32'], result: 'i32' },
  build: (f) => {
    const s = f.parameter('i32', 0);
    const linear = f.parameter('i64', 1);
    const entry = f.parameter('i32', 2);
    const head = f.local('i32');
    const way = (n: number): I32 => (n === 0 ? entry : i32.xor(entry, JUMP_CACHE_ENTRY * n));
    const takeFrom = (n: number): void => {
      if (n === JUMP_CACHE_WAYS) {
        f.return(i32.const(0));
        return;
      }
      f.set(head, i32.load(way(n), Area.JUMP_CACHE));
      f.if(
        isOther(s, linear, head),
        () => takeFrom(n + 1),
        () => {
          if (n === 0) return;
          for (let to = n; to > 0; to--) {
            f.store32(way(to), i32.load(way(to - 1), Area.JUMP_CACHE), Area.JUMP_CACHE);
          }
          f.store32(entry, head, Area.JUMP_CACHE);
        },
      );
    };
    takeFrom(0);
    f.if(isOld(f, s, head), () => {
      const fetch = i32.add(i32.load(s, Field.TLB_READ), TLB_BYTES * (TlbKind.FETCH - TlbKind.READ));
      const translation = wideTlb.entryIn(f, linear, fetch);
      f.if(i32.eqz(tlbHit(wideTlb, translation, linear, 1)), () => f.return(i32.const(0)));
      const page = i32.and(wideTlb.host(translation, linear), -4096);
      f.if(i32.ne(page, i32.load(head, Record.HOST)), () => f.return(i32.const(0)));
      f.store32(head, i32.load(s, Field.JUMP_GENERATION), Record.GENERATION);
    });
    f.return(head);
    f.unreachable();
  },
};

export const jumping: SemanticsGroup = { name: 'jumping', plain: {}, library: { [OTHER_HEAD]: otherHead } };

function isOther(s: I32, linear: I64, head: I32): I32 {
  return i64.ne(i64.load(head, Record.KEY), i64.add(linear, i64.load(s, Field.JUMP_SALT)));
}

/** Whether a head was not looked at since the last load of CR3, and has to be. */
function isOld(f: FunctionBuilder, s: I32, head: I32): I32 {
  const generation = f.let(i32.load(head, Record.GENERATION));
  return i32.and(
    i32.ne(generation, i32.load(s, Field.JUMP_GENERATION)),
    i32.ne(generation, EVERY_GENERATION),
  );
}

/**
 * Looks an address up in the jump cache, which JumpCache.remember fills: the head of a block, or what `otherwise` ends with
 * if there is none. `linear` is bound.
 */
export function headAt(
  f: FunctionBuilder,
  s: I32,
  callees: Callees,
  linear: I64,
  otherwise: () => void,
): I32 {
  const low = f.let(i32.wrap(linear));
  const hash = i32.and(i32.xor(low, i32.shr_u(low, 12)), JUMP_CACHE_ENTRIES - 1);
  const entry = f.let(i32.add(s, i32.shl(hash, 2)));
  const head = f.local('i32');
  f.set(head, i32.load(entry, Area.JUMP_CACHE));
  f.if(i32.or(isOther(s, linear, head), isOld(f, s, head)), () => {
    f.set(head, call(callees(OTHER_HEAD), 'i32', s, linear, entry));
    f.if(i32.eqz(head), otherwise);
  });
  return head;
}

/** Whether jumps within the page may be linked to a head: its block lies in one page. */
export function isLinkable(head: I32): I32 {
  return i32.ne(i32.load(head, Record.HOST), NO_PAGE);
}

/** RIP of the start of the page that code is run from: the address `linear` is at `rip`. */
export function setCodeBase(f: FunctionBuilder, s: I32, rip: I64, linear: I64): void {
  f.store64(s, i64.sub(rip, i64.and(linear, 4095)), Field.SLOTS + 8 * Slot.CODE_BASE);
}
