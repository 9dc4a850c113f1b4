import type { VmInfo } from '../../main/service/contract.ts';
import { useApp, useAppState } from './context.ts';

/** Moves a paused machine to another backend, where it goes on. */
export function BackendSwitch({ vm }: { vm: VmInfo }) {
  const store = useApp();
  const backends = useAppState((state) => state.backends);
  const usable = backends.filter(({ available }) => available);
  const paused = vm.state === 'paused';
  if (vm.backend === undefined || usable.length < 2) return null;
  return (
    <label className="snapshots-switch">
      Runs on
      <select
        aria-label="Backend that the machine runs on"
        value={vm.backend}
        disabled={!paused}
        title={paused ? 'The machine goes on there' : 'Pause the machine first'}
        onChange={(event) => {
          const { value } = event.target;
          const wanted = usable.find(({ name }) => name === value);
          if (wanted === undefined) return;
          void store.run(vm.id, `Switching to ${value}…`, () =>
            store.client.request('vm.switch', { id: vm.id, backend: wanted.name }),
          );
        }}
      >
        {usable.map(({ name }) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </label>
  );
}
