import { useEffect, useSyncExternalStore } from 'react';
import { useAppState } from './context.ts';

const query = '(prefers-color-scheme: dark)';

function subscribe(changed: () => void): () => void {
  const media = matchMedia(query);
  media.addEventListener('change', changed);
  return () => media.removeEventListener('change', changed);
}

/** The theme in effect: the user's choice, or the system's. */
export function useTheme(): 'light' | 'dark' {
  const choice = useAppState((state) => state.preferences.theme);
  const system = useSyncExternalStore(subscribe, () => (matchMedia(query).matches ? 'dark' : 'light'));
  return choice === 'system' ? system : choice;
}

/** Tells the style sheets. */
export function useThemeAttribute(): void {
  const theme = useTheme();
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);
}
