import type { SemanticsGroup } from '../semantics.ts';
import { arithmetic } from './arithmetic.ts';
import { conversions } from './convert.ts';
import { crypto } from './crypto.ts';
import { estimates } from './estimates.ts';
import { integers } from './integer.ts';
import { moves } from './moves.ts';
import { shuffles } from './shuffles.ts';
import { strings } from './strings.ts';

/** Everything that uses the floating-point routines. */
const reals: SemanticsGroup = {
  name: 'sse reals',
  plain: { ...arithmetic.plain, ...conversions.plain, ...estimates.plain },
  library: { ...arithmetic.library, ...conversions.library, ...estimates.library },
};

/** SSE to SSE4.2, AES, PCLMULQDQ and MMX. */
export const sseGroups: readonly SemanticsGroup[] = [moves, integers, shuffles, reals, strings, crypto];
