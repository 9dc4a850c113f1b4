import { useEffect } from 'react';
import { actionForKey, perform } from '../actions.ts';
import { shortcut } from '../keyboard.ts';
import type { Focus } from '../keyboard.ts';
import { useApp } from './context.ts';

function focusOf(target: EventTarget | null): Focus {
  if (!(target instanceof HTMLElement)) return 'window';
  if (target.closest('.terminal-host')) return 'console';
  return target.closest('input:not([type=radio], [type=checkbox]), textarea, select') ? 'text' : 'window';
}

/** Listens to the window's keys. A dialog or menu in front has them all to itself. */
export function useShortcuts(): void {
  const store = useApp();
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const state = store.get();
      if (event.defaultPrevented || event.repeat || state.dialog !== undefined) return;
      const focus = focusOf(event.target);
      const key = shortcut(event, focus, state.preferences.letterKeys);
      if (key === undefined) return;
      const chosen = actionForKey(key, focus === 'console', state);
      // Pasting is the browser's: it needs no permission when the user's own key asks for it.
      if (chosen === undefined || chosen.id === 'paste') return;
      event.preventDefault();
      perform(store, chosen);
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, [store]);
}
