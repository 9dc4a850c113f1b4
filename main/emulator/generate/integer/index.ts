import type { SemanticsGroup } from '../semantics.ts';
import { arithmetic } from './arithmetic.ts';
import { bits } from './bits.ts';
import { control } from './control.ts';
import { decimal } from './decimal.ts';
import { exceptions } from './exceptions.ts';
import { moves } from './moves.ts';
import { multiplication } from './multiply.ts';
import { jumping } from '../jump-cache.ts';
import { settling } from '../settle.ts';
import { shifts } from './shifts.ts';
import { strings } from './strings.ts';

export const integerGroups: readonly SemanticsGroup[] = [
  moves,
  arithmetic,
  shifts,
  bits,
  multiplication,
  strings,
  control,
  decimal,
  exceptions,
  jumping,
  settling,
];
