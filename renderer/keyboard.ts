/** Shortcuts: one key anywhere in the window; the same with Ctrl+Shift where letters mean text (the console). */

export interface KeyPress {
  key: string;
  code: string;
  ctrlKey: boolean;
  shiftKey: boolean;
  altKey: boolean;
  metaKey: boolean;
}

/** Where the focus is: in the console, in a text field, or elsewhere. */
export type Focus = 'console' | 'text' | 'window';

/**
 * The name of the pressed key as actions write it: 'S', '?', 'Delete', '1'. Letters and digits come from the
 * key's place where the layout gives something else (Cyrillic, or a digit's shifted sign).
 */
export function keyName(press: KeyPress): string {
  if (/^[a-z]$/i.test(press.key)) return press.key.toUpperCase();
  const place = /^(?:Key|Digit)([A-Z0-9])$/.exec(press.code)?.[1];
  const shiftedSign = press.ctrlKey && press.shiftKey;
  if (place !== undefined && (shiftedSign || press.key.charCodeAt(0) > 0x7f)) return place;
  return press.key;
}

/** Which shortcut a press means, given the focus: the action's key, or nothing. */
export function shortcut(press: KeyPress, focus: Focus, letterKeys: boolean): string | undefined {
  if (press.altKey || press.metaKey) return undefined;
  if (press.ctrlKey) {
    if (press.shiftKey) return keyName(press);
    return keyName(press) === 'F' ? 'F' : undefined;
  }
  if (focus !== 'window' || !letterKeys) return undefined;
  return keyName(press);
}

/** How a key is written for people. */
export function spell(key: string, withControl: boolean): string {
  return withControl ? `Ctrl+Shift+${key}` : key;
}
