import { useState } from 'react';
import type { KeyboardEvent, MouseEvent } from 'react';
import { action } from '../actions.ts';
import { ActionButton } from './ActionButton.tsx';
import { useApp, useAppState } from './context.ts';
import { LibraryItem } from './LibraryItem.tsx';
import { Menu } from './Menu.tsx';

/** The machines, oldest first. Up and down move through them; the context menu holds what each can do. */
export function Library() {
  const store = useApp();
  const vms = useAppState((state) => state.vms);
  const loaded = useAppState((state) => state.loaded);
  const selected = useAppState((state) => state.selected);
  const [menu, setMenu] = useState<{ x: number; y: number }>();

  const move = (event: KeyboardEvent): void => {
    const place = vms.findIndex((vm) => vm.id === selected);
    const steps: Record<string, number> = {
      ArrowUp: place - 1,
      ArrowDown: place + 1,
      Home: 0,
      End: vms.length - 1,
    };
    const next = vms[steps[event.key] ?? -1];
    if (next === undefined) return;
    event.preventDefault();
    store.select(next.id);
    document.getElementById(`vm-${next.id}`)?.focus();
  };

  const openMenu = (event: MouseEvent, id: string): void => {
    event.preventDefault();
    store.select(id);
    const box = event.currentTarget.getBoundingClientRect();
    // The keyboard's menu key gives no position of its own.
    const byMouse = event.clientX > 0 || event.clientY > 0;
    setMenu(byMouse ? { x: event.clientX, y: event.clientY } : { x: box.left + 24, y: box.bottom - 8 });
  };

  return (
    <nav className="library" aria-label="Virtual machines">
      <header className="library-head">
        <img src="./icon.svg" alt="" width="24" height="24" />
        <span className="library-title">Vitrine</span>
        <ActionButton action={action('new')} />
      </header>
      {loaded && vms.length === 0 && <p className="library-empty">Nothing here yet.</p>}
      <ul className="library-list" onKeyDown={move}>
        {vms.map((vm) => (
          <LibraryItem
            key={vm.id}
            vm={vm}
            selected={vm.id === selected}
            onSelect={() => store.select(vm.id)}
            onMenu={(event) => openMenu(event, vm.id)}
          />
        ))}
      </ul>
      <LibraryFoot />
      {menu !== undefined && <Menu at={menu} onClose={() => setMenu(undefined)} />}
    </nav>
  );
}

function LibraryFoot() {
  const host = useAppState((state) => state.host);
  const theme = useAppState((state) => state.preferences.theme);
  return (
    <footer className="library-foot">
      <span className="library-host" title={host && `Library: ${host.library}`}>
        {host && `Vitrine ${host.version} on ${host.platform}`}
      </span>
      <ActionButton
        action={action('theme')}
        iconOnly
        label={`Theme: ${theme === 'system' ? 'as the system' : theme}`}
      />
      <ActionButton action={action('help')} iconOnly />
    </footer>
  );
}
