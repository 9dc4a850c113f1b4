import { useShallow } from 'zustand/react/shallow';
import { RESTING, machineActions } from '../actions.ts';
import { selectedVm } from '../store.ts';
import { ActionButton } from './ActionButton.tsx';
import { useAppState } from './context.ts';

/** The lifecycle of the machine in view: each verb one click away. */
export function Toolbar() {
  const shown = useAppState(useShallow(machineActions));
  const state = useAppState((all) => selectedVm(all)?.state);
  const resting = state !== undefined && RESTING.includes(state);
  return (
    <div className="toolbar" role="toolbar" aria-label="Machine">
      {shown.map((action) => (
        <ActionButton
          key={action.id}
          action={action}
          iconOnly={action.id === 'edit' || action.id === 'delete'}
          primary={(action.id === 'start' && resting) || action.id === 'resume'}
        />
      ))}
    </div>
  );
}
