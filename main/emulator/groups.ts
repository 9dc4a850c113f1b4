import { sseGroups } from './generate/sse/index.ts';
import { x87Groups } from './generate/x87/index.ts';
import { translationGroup } from './translate/ways-out.ts';

/** All that a processor's instructions mean, beside the integer groups, which every Handlers has. */
export const PROCESSOR_GROUPS = [...sseGroups, ...x87Groups, translationGroup];
