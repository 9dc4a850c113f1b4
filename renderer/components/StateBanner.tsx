import type { VmInfo } from '../../main/service/contract.ts';
import { action } from '../actions.ts';
import { states } from '../format.ts';
import { ActionButton } from './ActionButton.tsx';
import { useAppState } from './context.ts';
import { StateLabel } from './StateLabel.tsx';

/** The sentence for a state; the service's own, where it has one, says more. */
function explain(vm: VmInfo): string {
  switch (vm.state) {
    case 'off':
      return vm.message ?? 'Nothing runs. Start it to use its console.';
    case 'starting':
      return 'The machine is being set up.';
    case 'running':
      return 'What you type goes to the guest.';
    case 'paused':
      return vm.stop === undefined || vm.stop.reason === 'pause'
        ? 'The guest stands still. What you type reaches it when it goes on.'
        : vm.stop.message;
    case 'stopping':
      return 'The machine is about to end.';
    case 'crashed':
      return vm.message ?? 'The guest ran into a fault that it could not handle.';
    case 'failed':
      return vm.message ?? 'The machine could not be kept running.';
  }
}

const LOST = 'Not connected: this is how it was last seen, and what you type is not sent.';

/** Below the console, always there so that nothing jumps: the machine's state, why, and the way on. */
export function StateBanner({ vm }: { vm: VmInfo }) {
  const connected = useAppState((state) => state.status === 'connected');
  const busy = useAppState((state) => state.busy[vm.id]);
  return (
    <div
      className={`banner banner-${vm.state}`}
      role="status"
      aria-label={`State: ${states[vm.state].label}`}
    >
      <StateLabel state={vm.state} />
      <p>{connected ? explain(vm) : LOST}</p>
      {vm.gdb !== undefined && (
        <p className="banner-gdb">
          gdb: <code>{vm.gdb.command}</code>
        </p>
      )}
      {busy !== undefined && (
        <span className="banner-busy">
          <span className="late-spinner" aria-hidden="true" />
          {busy}
        </span>
      )}
      {vm.state === 'paused' && <ActionButton action={action('resume')} />}
      {vm.state === 'crashed' && <ActionButton action={action('reset')} />}
      {!vm.damaged && (vm.state === 'off' || vm.state === 'failed') && (
        <ActionButton action={action('start')} />
      )}
    </div>
  );
}
