import type { SemanticsGroup } from '../semantics.ts';
import { integers } from './integer.ts';
import { moves } from './moves.ts';
import { shuffles } from './shuffles.ts';

/** SSE to SSE4.2, AES, PCLMULQDQ and MMX. */
export const sseGroups: readonly SemanticsGroup[] = [moves, integers, shuffles];
