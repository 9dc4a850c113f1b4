import { useEffect } from 'react';
import { states } from '../format.ts';
import { selectedVm } from '../store.ts';
import { Alerts } from './Alerts.tsx';
import { ConfirmDialog } from './ConfirmDialog.tsx';
import { ConnectionBanner } from './ConnectionBanner.tsx';
import { useApp, useAppState } from './context.ts';
import { EmptyState } from './EmptyState.tsx';
import { HelpDialog } from './HelpDialog.tsx';
import { Library } from './Library.tsx';
import { MachineDialog } from './MachineDialog.tsx';
import { MachineView } from './MachineView.tsx';
import { Splitter } from './Splitter.tsx';
import { useShortcuts } from './useShortcuts.ts';
import { useThemeAttribute } from './useTheme.ts';

/** The window: the library at the left, the machine in view beside it, and what lies in front of both. */
export function App() {
  useThemeAttribute();
  useShortcuts();
  const vm = useAppState(selectedVm);
  useEffect(() => {
    document.title = vm ? `${vm.config.name} (${states[vm.state].label}) – Vitrine` : 'Vitrine';
  }, [vm]);
  return (
    <div className="app">
      <ConnectionBanner />
      <div className="panes">
        <Library />
        <Splitter />
        {vm ? <MachineView vm={vm} /> : <EmptyState />}
      </div>
      <Alerts />
      <Dialogs />
    </div>
  );
}

function Dialogs() {
  const store = useApp();
  const dialog = useAppState((state) => state.dialog);
  const close = (): void => store.set({ dialog: undefined });
  switch (dialog?.kind) {
    case undefined:
      return null;
    case 'create':
      return <MachineDialog onClose={close} />;
    case 'edit':
      return <MachineDialog vm={dialog.vm} onClose={close} />;
    case 'confirm':
      return <ConfirmDialog question={dialog.question} onClose={close} />;
    case 'help':
      return <HelpDialog onClose={close} />;
  }
}
