import { z } from 'zod';

/** What the window remembers from one visit to the next. A damaged or older record falls back field by field. */
const preferences = z.object({
  theme: z.enum(['system', 'light', 'dark']).catch('system'),
  /** Width of the library in CSS pixels. */
  sidebar: z.number().catch(264),
  /** xterm keeps a copy of the screen that screen readers can walk through. */
  screenReader: z.boolean().catch(false),
  /** Single letters act as shortcuts when the console and text fields don't have the focus. */
  letterKeys: z.boolean().catch(true),
  /** The exits are shown below the console. */
  exits: z.boolean().catch(false),
  /** Registers, code and memory are shown below the console. */
  glass: z.boolean().catch(false),
  /** The snapshots are shown below the console. */
  snapshots: z.boolean().catch(false),
  /** The machine that was shown last. */
  selected: z.string().optional().catch(undefined),
});
export type Preferences = z.infer<typeof preferences>;
export type Theme = Preferences['theme'];

export const SIDEBAR = { least: 200, most: 440 };

const KEY = 'vitrine.preferences';

export function clampSidebar(width: number): number {
  return Math.round(Math.min(SIDEBAR.most, Math.max(SIDEBAR.least, width)));
}

export function loadPreferences(storage: Pick<Storage, 'getItem'>): Preferences {
  let stored: unknown;
  try {
    stored = JSON.parse(storage.getItem(KEY) ?? '{}');
  } catch {
    stored = undefined;
  }
  const checked = preferences.safeParse(stored);
  const found = checked.success ? checked.data : preferences.parse({});
  return { ...found, sidebar: clampSidebar(found.sidebar) };
}

export function savePreferences(storage: Pick<Storage, 'setItem'>, value: Preferences): void {
  try {
    storage.setItem(KEY, JSON.stringify(value));
  } catch {
    // A browser may forbid storage (private windows): the preferences then last as long as the page.
  }
}
