import { useEffect, useLayoutEffect, useRef } from 'react';
import type { KeyboardEvent } from 'react';
import { useShallow } from 'zustand/react/shallow';
import { menuActions, perform } from '../actions.ts';
import type { Action } from '../actions.ts';
import { spell } from '../keyboard.ts';
import { useApp, useAppState } from './context.ts';
import { Icon } from './Icon.tsx';

interface Props {
  /** Where its corner goes, in CSS pixels of the window. */
  at: { x: number; y: number };
  onClose(): void;
}

/** The context menu of the selected machine. */
export function Menu({ at, onClose }: Props) {
  const store = useApp();
  const shown = useAppState(useShallow(menuActions));
  const box = useRef<HTMLDivElement>(null);

  useLayoutEffect(() => {
    const menu = box.current;
    if (menu === null) return;
    const before = document.activeElement;
    // Kept inside the window: a menu opened near an edge moves away from it.
    menu.style.left = `${Math.max(4, Math.min(at.x, innerWidth - menu.offsetWidth - 4))}px`;
    menu.style.top = `${Math.max(4, Math.min(at.y, innerHeight - menu.offsetHeight - 4))}px`;
    menu.querySelector<HTMLElement>('[role=menuitem]')?.focus();
    return () => {
      if (before instanceof HTMLElement && document.activeElement === document.body) before.focus();
    };
  }, [at]);

  useEffect(() => {
    const outside = (event: Event): void => {
      if (!box.current?.contains(event.target as Node)) onClose();
    };
    addEventListener('pointerdown', outside);
    addEventListener('blur', onClose);
    return () => {
      removeEventListener('pointerdown', outside);
      removeEventListener('blur', onClose);
    };
  }, [onClose]);

  const move = (event: KeyboardEvent): void => {
    event.stopPropagation();
    if (event.key === 'Escape' || event.key === 'Tab') {
      event.preventDefault();
      onClose();
      return;
    }
    const items = [...(box.current?.querySelectorAll<HTMLElement>('[role=menuitem]') ?? [])];
    const place = items.indexOf(document.activeElement as HTMLElement);
    const steps: Record<string, number> = {
      ArrowDown: (place + 1) % items.length,
      ArrowUp: (place + items.length - 1) % items.length,
      Home: 0,
      End: items.length - 1,
    };
    const next = items[steps[event.key] ?? -1];
    if (next === undefined) return;
    event.preventDefault();
    next.focus();
  };

  const choose = (chosen: Action): void => {
    if (chosen.when(store.get()) !== true) return;
    onClose();
    perform(store, chosen);
  };

  return (
    <div className="menu" role="menu" aria-label="Machine" ref={box} onKeyDown={move}>
      {shown.map((each) => (
        <MenuItem key={each.id} action={each} onChoose={() => choose(each)} />
      ))}
    </div>
  );
}

function MenuItem({ action, onChoose }: { action: Action; onChoose(): void }) {
  const verdict = useAppState(action.when);
  return (
    <button
      type="button"
      role="menuitem"
      tabIndex={-1}
      className={`menu-item ${action.danger ? 'menu-item-danger' : ''}`}
      aria-disabled={verdict !== true}
      title={verdict === true ? undefined : verdict}
      onClick={onChoose}
    >
      <Icon name={action.icon} />
      <span>{action.label}</span>
      <kbd>{spell(action.key, false)}</kbd>
    </button>
  );
}
