/**
 * Puts text on the clipboard. Where the page has no right to (plain HTTP from another host, a strict browser), the
 * browser's own copy command takes what `selected` has selected and focused.
 */
export async function copyText(text: string, selected: () => void): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    selected();
    return document.execCommand('copy');
  }
}

/** The clipboard's text, or nothing where the page may not read it. */
export async function pasteText(): Promise<string | undefined> {
  try {
    return await navigator.clipboard.readText();
  } catch {
    return undefined;
  }
}
