import { createContext, useContext } from 'react';
import { useStore } from 'zustand';
import type { AppState, Store } from '../store.ts';

export const StoreContext = createContext<Store | undefined>(undefined);

/** The store of this window. */
export function useApp(): Store {
  const store = useContext(StoreContext);
  if (store === undefined) throw new Error('A component was drawn outside of the app.');
  return store;
}

/** A part of the state; the component is drawn again when it changes. */
export function useAppState<T>(select: (state: AppState) => T): T {
  return useStore(useApp().state, select);
}
