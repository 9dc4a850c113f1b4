import { i32, i64, type I32 } from '../wasm/expression.ts';
import type { FunctionBuilder, Label } from '../wasm/module.ts';
import { Emitter } from './emitter.ts';
import { FlagKind, storeFlags } from './flags.ts';
import { plainForm } from './form.ts';
import type { LibraryRoutine, SemanticsGroup } from './semantics.ts';
import { OPERATION_MASK, ROTATION_SHIFT, SETTLE, SIZES, Unsettled } from './unsettled.ts';

/** Does the case of a number; nothing when it is beyond them. */
function inCases(f: FunctionBuilder, number: I32, count: number, work: (n: number) => void): void {
  f.block((done) => {
    // Blocks in blocks: leaving the nth comes to the nth case.
    const labels: Label[] = [];
    const nest = (n: number): void => {
      f.block((label) => {
        labels[n] = label;
        if (n > 0) nest(n - 1);
        else f.switch(number, [...labels, done]);
      });
      work(n);
      f.break(done);
    };
    nest(count - 1);
  });
}

/** Fills the fields FLAG_* by what is in Field.UNSETTLED. */
const settleFlags: LibraryRoutine = {
  signature: { parameters: ['i32'] },
  build: (f, callees) => {
    const c = new Emitter(f, plainForm(SETTLE, 64), callees, i32.const(0));
    const which = f.let(i32.load(c.s, Unsettled.WHICH));
    const [a, b, result, rotated] = [Unsettled.A, Unsettled.B, Unsettled.RESULT, Unsettled.ROTATED].map(
      (field) => f.let(i64.load(c.s, field)),
    );
    f.if(i32.eqz(which), () => f.return());
    c.setField32(Unsettled.WHICH, i32.const(0));
    const cases = Object.values(FlagKind).flatMap((kind) => SIZES.map((bits) => ({ kind, bits })));
    inCases(f, i32.sub(i32.and(which, OPERATION_MASK), 4), cases.length, (n) =>
      storeFlags(c, cases[n].kind, cases[n].bits, a, b, result),
    );
    const rotations = [true, false].flatMap((left) => SIZES.map((bits) => ({ left, bits })));
    inCases(f, i32.sub(i32.shr_u(which, ROTATION_SHIFT), 1), rotations.length, (n) =>
      c.flags.setRotation(rotations[n].left, rotations[n].bits, rotated),
    );
  },
};

export const settling: SemanticsGroup = {
  name: 'settling',
  plain: {},
  library: { [SETTLE]: settleFlags },
};
