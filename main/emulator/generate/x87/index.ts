import type { SemanticsGroup } from '../semantics.ts';
import { arithmetic } from './arithmetic.ts';
import { calculations } from './calculate.ts';
import { comparison } from './compare.ts';
import { control, controlRoutines } from './control.ts';
import { conversions } from './convert.ts';
import { x87NaN } from './format.ts';
import { logarithms } from './logarithm.ts';
import { moves } from './moves.ts';
import { remainders } from './remainder.ts';
import { rounding } from './round.ts';
import { stackRoutines } from './stack.ts';
import { trigonometry } from './trigonometry.ts';
import { wideRoutines } from './wide.ts';

/** The x87 floating-point unit, on numbers of its own 80-bit format (SDM vol. 1, chapter 8). */
export const x87Groups: readonly SemanticsGroup[] = [
  {
    name: 'x87',
    plain: { ...moves, ...calculations, ...control },
    library: {
      x87NaN,
      ...rounding,
      ...arithmetic,
      ...conversions,
      ...remainders,
      ...wideRoutines,
      ...trigonometry,
      ...logarithms,
      ...comparison,
      ...stackRoutines,
      ...controlRoutines,
    },
  },
];
