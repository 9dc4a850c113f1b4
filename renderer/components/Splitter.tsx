import { useEffect, useRef } from 'react';
import type { KeyboardEvent, PointerEvent } from 'react';
import { SIDEBAR, clampSidebar } from '../preferences.ts';
import { useApp, useAppState } from './context.ts';

/** Pixels for one press of an arrow key. */
const STEP = 16;

/** The edge between the library and the console: dragged, or moved with the arrow keys. */
export function Splitter() {
  const store = useApp();
  const width = useAppState((state) => state.preferences.sidebar);
  const bar = useRef<HTMLDivElement>(null);
  const resize = (to: number): void => store.prefer({ sidebar: clampSidebar(to) });

  useEffect(() => {
    document.documentElement.style.setProperty('--sidebar', `${width}px`);
  }, [width]);

  const drag = (event: PointerEvent<HTMLDivElement>): void => {
    if (event.currentTarget.hasPointerCapture(event.pointerId)) resize(event.clientX);
  };
  const press = (event: KeyboardEvent): void => {
    const next: Record<string, number> = {
      ArrowLeft: width - STEP,
      ArrowRight: width + STEP,
      Home: SIDEBAR.least,
      End: SIDEBAR.most,
    };
    const to = next[event.key];
    if (to === undefined) return;
    event.preventDefault();
    resize(to);
  };

  return (
    <div
      ref={bar}
      className="splitter"
      role="separator"
      aria-label="Width of the library"
      aria-orientation="vertical"
      aria-valuenow={width}
      aria-valuemin={SIDEBAR.least}
      aria-valuemax={SIDEBAR.most}
      tabIndex={0}
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={drag}
      onKeyDown={press}
    />
  );
}
